//! Parse, run, error to exit code. Nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    runner::cli::main()
}
