//! Judges in Python. `REMORA_JUDGE_PYTHON` names a Python that has them; otherwise `python3` is tried. Where the variable is
//! set, a missing package is a failure; where it is not, the test says that the judge was not heard.

use std::path::Path;
use std::process::Command;

use crate::netns::NetNs;

/// What the judge `tests/judge/SCRIPT` printed; `None`: it was not heard.
///
/// # Panics
/// When the judge does not end well.
#[must_use]
pub fn hear(script: &str, modules: &str, arguments: &[&str]) -> Option<String> {
    hear_in(None, script, modules, arguments)
}

/// As [`hear`], inside a network namespace.
///
/// # Panics
/// As there.
#[must_use]
pub fn hear_in(inside: Option<&NetNs>, script: &str, modules: &str, arguments: &[&str]) -> Option<String> {
    let named = std::env::var_os("REMORA_JUDGE_PYTHON");
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let has_them = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if !has_them.as_ref().is_ok_and(|output| output.status.success()) {
        assert!(named.is_none(), "REMORA_JUDGE_PYTHON={}: no {modules}: {has_them:?}", python.display());
        eprintln!("NOT JUDGED: python3 has no {modules}; set REMORA_JUDGE_PYTHON to one that has");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("judge").join(script);
    let mut judge = match inside {
        None => Command::new(&python),
        Some(inside) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", inside.path().display())).arg(&python);
            command
        }
    };
    judge.arg(script).args(arguments).env_remove("HTTP_PROXY").env_remove("http_proxy");
    let output = judge.output().unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{out}\n{err}");
    Some(out.into_owned())
}
