//! Finds ISA-L, whose deflate is twice as fast. Without it zlib-rs makes the same format.

use std::env;
use std::path::{Path, PathBuf};

/// Versions whose structures are those declared in `src/sys/isal.rs`.
const KNOWN: std::ops::Range<&str> = "2.30".."2.33";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(isal)");
    println!("cargo::rerun-if-env-changed=CODEHUB_ARCHIVE_NO_ISAL");
    println!("cargo::rerun-if-env-changed=CODEHUB_ARCHIVE_RPATH");
    println!("cargo::rerun-if-changed=build.rs");
    // The layouts are those of 64-bit machines.
    let is_wide = env::var("CARGO_CFG_TARGET_POINTER_WIDTH").is_ok_and(|width| width == "64");
    if !is_wide || env::var("CODEHUB_ARCHIVE_NO_ISAL").is_ok_and(|value| value == "1") {
        return;
    }
    let found = pkg_config::Config::new().range_version(KNOWN).cargo_metadata(false).probe("libisal");
    let Ok(library) = found else { return };
    let named = pkg_config::get_variable("libisal", "libdir").unwrap_or_default();
    let directories = library.link_paths.iter().map(PathBuf::as_path).chain([Path::new(&named)]);
    // Static where there is one: Debian's package has the shared library only.
    let mut kind = "dylib";
    for directory in directories.filter(|path| !path.as_os_str().is_empty()) {
        println!("cargo::rustc-link-search=native={}", directory.display());
        if directory.join("libisal.a").exists() {
            kind = "static";
        }
    }
    // For a program that is moved together with the library.
    if let Ok(directory) = env::var("CODEHUB_ARCHIVE_RPATH") {
        println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{directory}");
    }
    println!("cargo::rustc-link-lib={kind}=isal");
    println!("cargo::rustc-cfg=isal");
}
