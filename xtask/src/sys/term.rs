//! What a person reads: sections, results, colours only on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

/// Whether standard output takes colours.
pub(crate) fn coloured() -> bool {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    *COLOURED.get_or_init(|| std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
}

fn paint(code: &str, text: &str) -> String {
    if coloured() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

pub(crate) fn bold(text: &str) -> String {
    paint("1", text)
}

pub(crate) fn dim(text: &str) -> String {
    paint("2", text)
}

pub(crate) fn red(text: &str) -> String {
    paint("31", text)
}

pub(crate) fn green(text: &str) -> String {
    paint("32", text)
}

pub(crate) fn yellow(text: &str) -> String {
    paint("33", text)
}

/// Begins a part of the output.
pub(crate) fn section(title: &str) {
    say(&format!("\n{}", bold(title)));
}

/// A line, at once, also where standard output is a pipe. A reader that has gone away is no reason to fail.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// A name padded to a column, and what there is to say about it.
pub(crate) fn fact(name: &str, text: &str) {
    say(&format!("  {name:<18} {text}"));
}
