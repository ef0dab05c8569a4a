//! What a direction keeps for its summary: gaps, and hashes of what lies between them.

use sha2::{Digest, Sha256};

/// SHA-256 of one run of bytes without a gap: offset, length, hash.
pub type HashedRun = (u64, u64, [u8; 32]);

/// Gaps of one direction.
#[derive(Debug, Default)]
pub(crate) struct GapLog {
    /// Offset and length; no more than the limit.
    pub(crate) list: Vec<(u64, u64)>,
    /// All of them.
    pub(crate) total: u64,
    /// Bytes in all of them.
    pub(crate) bytes: u64,
    /// End of the last one.
    last_end: u64,
}

impl GapLog {
    /// Notes a gap; one that touches the last gap makes it longer.
    pub(crate) fn add(&mut self, offset: u64, length: u64, limit: usize) {
        if self.total > 0 && self.last_end == offset {
            if self.total == self.list.len() as u64
                && let Some(last) = self.list.last_mut()
            {
                last.1 += length;
            }
        } else {
            self.total += 1;
            if self.list.len() < limit {
                self.list.push((offset, length));
            }
        }
        self.bytes += length;
        self.last_end = offset + length;
    }

    /// Takes back the last `length` bytes of the last gap, which ends at `end`.
    pub(crate) fn shorten(&mut self, end: u64, length: u64) {
        if self.total == 0 || self.last_end != end || length == 0 {
            return;
        }
        self.bytes = self.bytes.saturating_sub(length);
        if self.total == self.list.len() as u64 {
            if let Some(last) = self.list.last_mut() {
                last.1 = last.1.saturating_sub(length);
            }
            if self.list.last().is_some_and(|l| l.1 == 0) {
                self.list.pop();
                self.total -= 1;
            }
        }
    }
}

/// Hashes of one direction's runs.
#[derive(Debug, Default)]
pub(crate) struct HashLog {
    current: Sha256,
    start: u64,
    length: u64,
    runs: Vec<HashedRun>,
    /// Whether there are as many runs as may be.
    full: bool,
}

impl HashLog {
    pub(crate) fn data(&mut self, offset: u64, data: &[u8]) {
        if self.full {
            return;
        }
        if self.length == 0 {
            self.start = offset;
        }
        self.current.update(data);
        self.length += data.len() as u64;
    }

    /// A gap ends a run; with one run more than `limit` no more is hashed.
    pub(crate) fn gap(&mut self, limit: usize) {
        if self.length > 0 {
            let hash = self.current.finalize_reset().into();
            self.runs.push((self.start, self.length, hash));
            self.length = 0;
            self.full = self.runs.len() > limit;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<HashedRun> {
        self.gap(usize::MAX);
        self.runs
    }
}
