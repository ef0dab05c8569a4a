//! What libFuzzer says, in figures.

use std::fmt::Write as _;

use super::Report;

/// Figures of one run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stats {
    executions: u64,
    per_second: u64,
    /// Inputs worth keeping.
    corpus: u64,
    success: bool,
    /// The file that holds the input of a finding.
    pub(super) artifact: Option<String>,
    /// What was found, in its own words.
    pub(super) words: Vec<String>,
}

impl Stats {
    /// Reads a log; `success`: the program ended well.
    pub(super) fn read(log: &str, success: bool) -> Self {
        let mut stats = Self { success, ..Self::default() };
        let mut telling = 0;
        for line in log.lines() {
            if let Some(n) = line.strip_prefix("stat::number_of_executed_units:") {
                stats.executions = n.trim().parse().unwrap_or(0);
            } else if let Some(n) = line.strip_prefix("stat::average_exec_per_sec:") {
                stats.per_second = n.trim().parse().unwrap_or(0);
            } else if let Some((_, rest)) = line.split_once(" corp: ") {
                // `#41 NEW cov: 12 ft: 13 corp: 3/17b lim: 4 …`
                let number = rest.split('/').next().unwrap_or_default();
                stats.corpus = number.parse().unwrap_or(stats.corpus);
            } else if let Some((_, path)) = line.split_once("Test unit written to ") {
                stats.artifact = Some(path.trim().to_owned());
            }
            // A panic's message follows the line that names its place.
            let error = line.starts_with("==") && line.contains("ERROR: ");
            if line.contains(" panicked at ") || error && stats.words.is_empty() {
                telling = 4;
            } else if line.starts_with("stack backtrace:") {
                telling = 0;
            }
            if telling > 0 && stats.words.len() < 8 && !line.trim().is_empty() {
                telling -= 1;
                stats.words.push(line.chars().take(200).collect());
            }
        }
        stats
    }

    /// Whether there was no finding, and anything was tried at all.
    pub(super) fn fine(&self) -> bool {
        self.success && self.artifact.is_none() && self.executions > 0
    }
}

/// A line for each target.
pub(super) fn table(reports: &[Report]) -> String {
    let mut text =
        format!("  {:<12} {:>12} {:>9} {:>8}  findings", "target", "executions", "a second", "corpus");
    for Report { target, stats } in reports {
        let findings = if stats.fine() { "none" } else { "FOUND" };
        let Stats { executions, per_second, corpus, .. } = stats;
        let _ = write!(text, "\n  {target:<12} {executions:>12} {per_second:>9} {corpus:>8}  {findings}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "#2\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                        #64\tDONE   cov: 22 ft: 31 corp: 4/19b lim: 4 exec/s: 32 rss: 41Mb\nDone 64 runs in 2 second(s)\n\
                        stat::number_of_executed_units: 64\nstat::average_exec_per_sec:     32\n";

    #[test]
    fn figures_are_read_from_the_log() {
        let stats = Stats::read(FINE, true);
        assert_eq!((stats.executions, stats.per_second, stats.corpus), (64, 32, 4));
        assert!(stats.fine());
        assert!(!Stats::read(FINE, false).fine());
        assert!(!Stats::read("", true).fine(), "nothing was tried");
        let table = table(&[Report { target: "http1".to_owned(), stats }]);
        assert_eq!(table.lines().nth(1).unwrap().split_whitespace().last(), Some("none"));
    }

    #[test]
    fn a_finding_is_told_with_its_file() {
        let log = "thread '<unnamed>' (7) panicked at src/a.rs:3:5:\nleft is not right\nstack backtrace:\n\
                   ==7== ERROR: libFuzzer: deadly signal\n#1 main\n\
                   artifact_prefix='/a/'; Test unit written to /a/http1-crash-00\n\
                   stat::number_of_executed_units: 5\n";
        let stats = Stats::read(log, false);
        assert_eq!(stats.artifact.as_deref(), Some("/a/http1-crash-00"));
        assert_eq!(stats.words[1..], ["left is not right"]);
        assert!(!stats.fine());
    }
}
