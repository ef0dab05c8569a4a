//! Items' lines from many buffers to standard output, each with its numbers, without being copied.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::ops::Range;

use agent_core::StreamId;
use anyhow::Context as _;

use crate::pipeline::output::{STDOUT, stdout};
use crate::view::head;

/// Lines that are written at once: what `writev` takes.
const MOST: usize = 1024;

/// See the module.
pub(super) struct Lines<W = File> {
    out: W,
    /// Which buffer, and where in it.
    waiting: Vec<(usize, Range<usize>)>,
    head: Vec<u8>,
}

impl Lines {
    /// Lines to standard output.
    pub(super) fn open() -> anyhow::Result<Self> {
        Ok(Self::new(stdout()?))
    }
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, waiting: Vec::with_capacity(MOST), head: Vec::new() }
    }

    /// Takes a line that lies there in buffer `from`: room, an item without numbers, a line end.
    pub(super) fn add(
        &mut self,
        from: usize,
        text: &mut [u8],
        line: Range<usize>,
        (stream, index): (StreamId, u64),
    ) {
        self.head.clear();
        head::head(stream, index, &mut self.head);
        let start = (line.start + head::LONGER + head::BLANK.len()).saturating_sub(self.head.len());
        if let Some(place) = text.get_mut(start..start + self.head.len()) {
            place.copy_from_slice(&self.head);
            self.waiting.push((from, start..line.end));
        }
    }

    #[cfg(test)]
    pub(super) fn into_inner(self) -> W {
        self.out
    }

    /// Whether no more should wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST
    }

    /// Writes what waits in these buffers.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn flush<'a>(&mut self, texts: impl Iterator<Item = &'a [u8]>) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let texts: Vec<&[u8]> = texts.collect();
        let line = |(from, range): (usize, Range<usize>)| {
            texts.get(from).and_then(|text| text.get(range)).unwrap_or_default()
        };
        let mut slices: Vec<IoSlice<'_>> =
            self.waiting.drain(..).map(|waiting| IoSlice::new(line(waiting))).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            match self.out.write_vectored(left) {
                Ok(0) => Err(std::io::Error::from(std::io::ErrorKind::WriteZero)).context(STDOUT)?,
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => Err(error).context(STDOUT)?,
            }
        }
        Ok(())
    }
}
