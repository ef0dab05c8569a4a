//! The `remora` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: agent::alloc::Allocator = agent::alloc::Allocator;

fn main() -> ExitCode {
    agent::cli::main()
}
