//! The `remora` binary.

use std::process::ExitCode;

/// Items are made on one thread and may end on another, thousands a millisecond: the C library's allocators (glibc's, and musl's
/// far more) lock for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    agent::cli::main()
}
