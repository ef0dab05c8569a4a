//! cargo without its hundreds of lines: progress in one line on a terminal, nothing of it elsewhere.
//!
//! Warnings and errors always pass. The nested cargo that compiles the eBPF programs reports its progress as warnings of
//! agent's build script; those are progress too.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{interrupt, run};

/// The verbs of cargo's progress lines.
const PROGRESS: [&str; 12] = [
    "Adding",
    "Blocking",
    "Building",
    "Checking",
    "Compiling",
    "Downloaded",
    "Downloading",
    "Finished",
    "Fresh",
    "Locking",
    "Running",
    "Updating",
];

/// Runs cargo to the end.
pub(crate) fn cargo(command: &mut Command) -> Result<()> {
    interrupt::check()?;
    let terminal = std::io::stderr().is_terminal();
    if terminal && std::env::var_os("NO_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", run::shown(command)))?;
    let stderr = child.stderr.take().context("no pipe")?;
    let mut on_one_line = false;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        let progress = progress(&line);
        if terminal && (on_one_line || progress.is_some()) {
            eprint!("\r\x1b[2K");
            on_one_line = false;
        }
        match progress {
            Some(what) if terminal => {
                eprint!("  {}", what.chars().take(76).collect::<String>());
                let _ = std::io::stderr().flush();
                on_one_line = true;
            }
            Some(_) => {}
            None => eprintln!("{line}"),
        }
    }
    if on_one_line {
        eprint!("\r\x1b[2K");
    }
    let status = child.wait()?;
    interrupt::check()?;
    if !status.success() {
        bail!("{} ended with {status}", run::shown(command));
    }
    Ok(())
}

/// What a line says, plainly, if it is only progress.
fn progress(line: &str) -> Option<String> {
    let plain = without_colours(line);
    let mut text = plain.trim_start();
    if let Some(rest) = text.strip_prefix("warning: ") {
        // `warning: agent@0.1.0:    Compiling core v0.0.0`
        let (package, said) = rest.split_once(": ")?;
        if !package.contains('@') {
            return None;
        }
        text = said.trim_start();
    }
    let verb = text.split(' ').next()?;
    PROGRESS.contains(&verb).then(|| text.to_owned())
}

fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_from_what_must_be_read() {
        let said = |line: &str| progress(line);
        assert_eq!(said("   Compiling serde v1.0.229").as_deref(), Some("Compiling serde v1.0.229"));
        assert_eq!(
            said("\x1b[1m\x1b[32m    Finished\x1b[0m `dev` profile").as_deref(),
            Some("Finished `dev` profile")
        );
        assert_eq!(
            said("warning: agent@0.1.0:    Compiling core v0.0.0").as_deref(),
            Some("Compiling core v0.0.0")
        );
        assert_eq!(said("warning: agent@0.1.0: warning: unused variable"), None);
        assert_eq!(said("warning: unused import: `Running`"), None);
        assert_eq!(said("error: could not compile `agent`"), None);
        assert_eq!(said(""), None);
    }
}
