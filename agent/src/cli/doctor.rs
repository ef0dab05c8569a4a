//! `remora doctor`: a line for each thing that live capture needs, with the mend where it is missing.

use std::process::ExitCode;

use serde_json::json;

use super::args::Doctor;
use super::say;
use crate::doctor::{Check, State, clean, doctor};

/// Prints what [`doctor`] found; exit code 1 if live capture does not work here, or cleaning did not.
pub(super) fn run(args: &Doctor) -> ExitCode {
    let cleaned = args.clean.then(clean);
    let mut checks = doctor();
    checks.push(Check::ok("replay", "capture files need no privilege"));
    let works = checks.iter().all(|check| check.state != State::Missing);
    if args.json {
        let checks: Vec<_> = checks.iter().map(json_of).collect();
        let mut all = json!({ "ok": works, "checks": checks });
        match &cleaned {
            Some(Ok(removed)) => all["removed"] = json!(removed),
            Some(Err(error)) => all["error"] = json!(error),
            None => {}
        }
        say::out(format_args!("{all}"));
    } else {
        match &cleaned {
            Some(Ok(removed)) if removed.is_empty() => {
                say::out(format_args!("clean    nothing was left behind here"));
            }
            Some(Ok(removed)) => removed.iter().for_each(|what| say::out(format_args!("removed  {what}"))),
            Some(Err(error)) => say::out(format_args!("failed   cleaning: {error}")),
            None => {}
        }
        checks.iter().for_each(print);
    }
    if works && !matches!(cleaned, Some(Err(_))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn state(check: &Check) -> &'static str {
    match check.state {
        State::Ok => "ok",
        State::Limited => "limited",
        State::Missing => "missing",
    }
}

fn print(check: &Check) {
    say::out(format_args!("{:8} {}: {}", state(check), check.what, check.detail));
    if !check.mend.is_empty() {
        say::out(format_args!("         mend: {}", check.mend));
    }
}

fn json_of(check: &Check) -> serde_json::Value {
    json!({ "what": check.what, "state": state(check), "detail": check.detail, "mend": check.mend })
}
