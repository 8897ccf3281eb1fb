//! `lathe-run`: runs compiled models.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
