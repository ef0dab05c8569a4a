//! `remora doctor`: a line for each thing that live capture needs, with the mend where it is missing.

use std::process::ExitCode;

use super::say;
use crate::doctor::{State, doctor};

/// Prints what [`doctor`] found; exit code 1 if live capture does not work here.
pub(super) fn run() -> ExitCode {
    let mut missing = false;
    for check in doctor() {
        let state = match check.state {
            State::Ok => "ok",
            State::Limited => "limited",
            State::Missing => "missing",
        };
        missing |= check.state == State::Missing;
        say::out(format_args!("{state:8} {}: {}", check.what, check.detail));
        if !check.mend.is_empty() {
            say::out(format_args!("         mend: {}", check.mend));
        }
    }
    say::out(format_args!("{:8} replay: capture files need no privilege", "ok"));
    if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
