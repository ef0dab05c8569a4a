//! Words for a person, on standard output and standard error. A reader that went away (`remora doctor | head -1`, a
//! closed terminal) is no error, and never a panic, which `println!` and `eprintln!` would make of it.

use std::fmt::Arguments;
use std::io::{self, Write};

/// A line on standard output.
pub(super) fn out(line: Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on standard error.
pub(super) fn err(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Standard error as the log's writer: what cannot be written is lost rather than complained about on the same
/// standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
