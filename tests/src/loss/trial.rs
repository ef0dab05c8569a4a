//! One run: packets removed, `remora replay` on the rest, the account.

use std::io::{BufRead as _, BufReader, BufWriter};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::ids::{Ids, Places};
use super::verdict::{Judge, Looks, Streams, Verdict};
use crate::mangle::{Capture, Mangle};

/// A capture, what is in it, and how it looks when nothing is missing.
#[derive(Debug)]
pub struct Baseline {
    capture: Capture<'static>,
    ids: Ids,
    places: Places,
    looks: Looks,
}

/// Which packets to remove.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Percent of the packets.
    pub percent: f64,
    /// Same seed, same packets.
    pub seed: u64,
}

impl Baseline {
    /// Replays the whole capture with the program `remora`: every transaction must be there, whole.
    ///
    /// # Errors
    /// When the capture cannot be read, or does not hold what the access log says.
    pub fn new<'a>(
        remora: &Path,
        capture: &Path,
        access_log: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let ids = Ids::from_access_log(access_log)?;
        let capture = Capture::read(capture)?;
        let places = Places::find(&capture, &ids);
        let mut judge = Judge::new(&ids, None);
        let streams = replay(remora, &capture, &mut judge)?;
        let (verdict, looks) = judge.finish(&vec![false; ids.len()], &streams);
        ensure!(
            verdict.is_true() && verdict.recovered == verdict.transactions && verdict.errors.is_empty(),
            "the capture as it is: {} of {} transactions: {verdict:?}",
            verdict.recovered,
            verdict.transactions
        );
        Ok(Self { capture, ids, places, looks })
    }

    /// Packets of the whole capture.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.capture.packets.len()
    }

    /// Transactions in it.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.ids.len()
    }

    /// Runs one trial.
    ///
    /// # Errors
    /// When the program cannot be run, fails, or prints something else than items.
    pub fn run(&self, remora: &Path, trial: Trial) -> Result<Verdict> {
        let left = self.lossy(trial);
        let touched = self.places.touched(&self.capture, &left, &self.ids);
        let mut judge = Judge::new(&self.ids, Some(&self.looks));
        let streams = replay(remora, &left, &mut judge)?;
        let (mut verdict, _) = judge.finish(&touched, &streams);
        verdict.removed = (self.capture.packets.len() - left.packets.len()) as u64;
        Ok(verdict)
    }

    /// What the trial leaves of the capture.
    #[must_use]
    pub fn lossy(&self, trial: Trial) -> Capture<'_> {
        Mangle { seed: trial.seed, drop: trial.percent / 100.0, ..Mangle::default() }.apply(&self.capture)
    }
}

/// Feeds the capture to `remora replay` and its items to the judge.
fn replay(remora: &Path, capture: &Capture<'_>, judge: &mut Judge<'_>) -> Result<Streams> {
    let streams = tempfile::NamedTempFile::new()?;
    let mut child = Command::new(remora)
        .args(["replay", "-", "--json", "--streams"])
        .arg(streams.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", remora.display()))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("no pipes to {}", remora.display())
    };
    let judged = std::thread::scope(|scope| {
        let writer = scope.spawn(|| capture.write(BufWriter::with_capacity(1 << 18, input)));
        let mut lines = BufReader::with_capacity(1 << 18, output);
        let mut line = Vec::new();
        let mut read = || -> Result<()> {
            while lines.read_until(b'\n', &mut line)? > 0 {
                judge.item(&line)?;
                line.clear();
            }
            Ok(())
        };
        let read = read();
        // Closed, so that neither the program nor the writer waits for this reader.
        drop(lines);
        read.and(writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let status = child.wait()?;
    ensure!(status.success(), "remora replay ended with {status}");
    judged?;
    Streams::read(&std::fs::read_to_string(streams.path())?)
}
