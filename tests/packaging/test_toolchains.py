"""The archiver, compiled by the Rust that each Debian brings, with ISA-L and without: the oldest that is promised."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.baseimage import debian_tar
from tests.harness.image import bring_crates
from tests.harness.sources import TOP, copy_sources, sources

pytestmark = pytest.mark.timeout(600)

CARGO_OF = {"bookworm": "cargo-web", "trixie": "cargo"}
_AROUND = ("gcc", "libc6-dev", "libisal-dev", "pkg-config")
_ENTER = 'set -e; root=$1; shift; mount -t proc proc "$root/proc"; exec /usr/sbin/chroot "$root" "$@"'
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",  # that it compiles is the question
}


@pytest.fixture(scope="module", params=CARGO_OF)
def debian(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its root, with the packages that README names, the archiver's sources, and no network."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "unshare"))):
        missing = "needs root, debootstrap and util-linux, to make a Debian"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    root = tmp_path_factory.mktemp(request.param)
    packages = (CARGO_OF[request.param], *_AROUND)
    subprocess.run(["tar", "-C", root, "-xpf", debian_tar(packages, request.param)], check=True)
    copy_sources([path for path in sources() if path.parts[0] == "archiver"], root)
    bring_crates(root / "archiver")
    yield root
    shutil.rmtree(root)


def in_there(root: Path, *command: str) -> str:
    """What it says. The test fails where it does."""
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--",
            "sh",
            "-c",
            _ENTER,
            "sh",
            root,
            *command,
        ],
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_it_compiles(debian: Path) -> None:
    """And says what it compresses with: ISA-L where `libisal-dev` is installed, else zlib-rs."""
    oldest = tomllib.loads((TOP / "archiver/Cargo.toml").read_text())["package"]["rust-version"]
    assert in_there(debian, "cargo", "--version").startswith(f"cargo {oldest}.")
    build = ("env", "--chdir=/archiver", "cargo", "build", "--quiet", "--release", "--locked")
    program = "/archiver/target/release/codehub-archive"
    in_there(debian, *build)
    assert in_there(debian, program, "--version").endswith(" (isa-l)\n")
    in_there(debian, "dpkg", "--purge", "libisal-dev")
    in_there(debian, "touch", "/archiver/build.rs")  # cargo does not hear of packages; `make setup` does
    in_there(debian, *build)
    assert in_there(debian, program, "--version").endswith(" (zlib-rs)\n")
