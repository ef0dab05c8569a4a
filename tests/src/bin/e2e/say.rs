//! What a person reads.

use std::io::Write as _;

/// A line, at once. A reader that has gone away is no reason to fail.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Begins a part.
pub(crate) fn section(title: &str) {
    line(&format!("\n{title}"));
}

/// A name padded to a column, and what there is to say about it.
pub(crate) fn fact(name: &str, text: &str) {
    line(&format!("  {name:<22} {text}"));
}
