//! `codehub-archive`: one step of the data plane.

fn main() -> std::process::ExitCode {
    codehub_archive::cli::run(std::env::args_os().skip(1))
}
