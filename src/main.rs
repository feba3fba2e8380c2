//! The `scaleshot` program. Everything is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    scaleshot::cli::main()
}
