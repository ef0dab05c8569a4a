//! Until when the last run on a data folder captured: the next one says for how long nothing was.
//!
//! A file of one line in the data folder, 20 digits of nanoseconds since 1970, written in place each second while capture goes
//! on and once more right before it ends. What is told is thus never shorter than what was missed, and after a kill at most
//! [`PACE`] longer.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::utc;

const FILE: &str = "captured-until";

/// How often the file is written.
const PACE: Duration = Duration::from_secs(1);

/// Digits of a time in the file.
const DIGITS: usize = 20;

/// Keeps the file while capture goes on.
#[derive(Debug)]
pub(super) struct Presence {
    path: PathBuf,
    file: Option<File>,
    written: Option<Instant>,
}

impl Presence {
    /// For this data folder. Nothing is read or written yet.
    pub(super) fn new(data: &Path) -> Self {
        Self { path: data.join(FILE), file: None, written: None }
    }

    /// Capture has begun then: the log says for how long there was none, if there was an earlier run. That is returned.
    pub(super) fn begin(&mut self, at: SystemTime) -> Option<Duration> {
        let until = match self.open() {
            Ok(until) => until,
            Err(error) => {
                tracing::warn!(
                    "{}: {error}: the next run will not know since when nothing was captured",
                    self.path.display()
                );
                return None;
            }
        };
        let now = nanoseconds(at);
        self.write(now);
        // A clock that was set back tells nothing.
        let (until, gap) = until.and_then(|until| Some((until, now.checked_sub(until)?)))?;
        let gap = Duration::from_nanos(gap);
        tracing::warn!(
            "no capture for {:.3} s since the last run: what passed from {} to {} was not seen",
            gap.as_secs_f64(),
            text(until),
            text(now)
        );
        Some(gap)
    }

    /// It goes on.
    pub(super) fn keep(&mut self) {
        if self.written.is_some_and(|written| written.elapsed() >= PACE) {
            self.write(nanoseconds(SystemTime::now()));
        }
    }

    /// It is about to end.
    pub(super) fn end(&mut self) {
        if self.written.is_some() {
            self.write(nanoseconds(SystemTime::now()));
        }
        self.written = None;
    }

    /// What the last run left.
    fn open(&mut self) -> std::io::Result<Option<u64>> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        let mut known = String::new();
        // One that holds something else is no other's business, and is written over.
        let read = file.by_ref().take(DIGITS as u64 + 1).read_to_string(&mut known);
        self.file = Some(file);
        Ok(read.ok().and_then(|_| known.trim_end().parse().ok()))
    }

    fn write(&mut self, now: u64) {
        let Some(file) = &self.file else { return };
        // In one piece and of one length: a kill leaves the old or the new.
        if let Err(error) = file.write_all_at(format!("{now:0DIGITS$}\n").as_bytes(), 0) {
            tracing::warn!(
                "{}: {error}: the next run will be told of a longer time without capture",
                self.path.display()
            );
            self.file = None;
        }
        self.written = Some(Instant::now());
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// With milliseconds.
fn text(nanoseconds: u64) -> String {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    utc::text(seconds).replace('Z', &format!(".{:03}Z", rest / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_knows_since_when_there_was_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Presence::new(dir.path());
        assert_eq!(first.begin(SystemTime::now()), None, "there was no run before");
        std::thread::sleep(Duration::from_millis(20));
        first.end();
        let ended = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        first.keep();
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), ended, "it has ended");
        std::thread::sleep(Duration::from_millis(30));
        let gap = Presence::new(dir.path()).begin(SystemTime::now()).unwrap();
        assert!(gap >= Duration::from_millis(30), "{gap:?}");
        // Killed: what it wrote last is at most a pace old.
        let later = Presence::new(dir.path()).begin(SystemTime::now()).unwrap();
        assert!(later < gap, "{later:?}");
    }

    #[test]
    fn what_is_no_time_or_to_come_tells_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for known in ["", "soon\n", "99999999999999999999\n", "18446744073709551615\n"] {
            std::fs::write(dir.path().join(FILE), known).unwrap();
            assert_eq!(Presence::new(dir.path()).begin(SystemTime::now()), None, "{known:?}");
            assert!(Presence::new(dir.path()).begin(SystemTime::now()).is_some(), "written over");
        }
        assert_eq!(
            Presence::new(&dir.path().join("none")).begin(SystemTime::now()),
            None,
            "and no folder is no error"
        );
    }

    #[test]
    fn a_time_is_told_with_milliseconds() {
        assert_eq!(text(1_767_225_599_042_999_999), "2025-12-31T23:59:59.042Z");
    }
}
