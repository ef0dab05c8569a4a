//! `remora scripts …`: what can be said of a script without traffic.

use std::path::PathBuf;
use std::process::ExitCode;

use super::say;

/// Compiles each script; one line each, and exit code 1 if any fails.
pub(super) fn check(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut failed = false;
    for file in files {
        match crate::hooks::check(file) {
            Ok(outline) => say::out(format_args!("{}: ok: {outline}", file.display())),
            Err(failure) => {
                failed = true;
                say::out(format_args!("{failure}"));
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
