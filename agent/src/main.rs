//! The `remora` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::cli::main()
}
