//! The test runner's summary lines, added up over all test programs.

use std::fmt;

/// How many tests ended how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Of the passed, those that did so only when they ran again, alone.
    again: u64,
    /// Test programs that ended with a summary.
    programs: u64,
}

impl Counts {
    /// Adds what a line says, if it is a summary: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(super) fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let Some((_, counts)) = rest.split_once(". ") else { return };
        self.programs += 1;
        for part in counts.split("; ") {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else { continue };
            let number = number.parse().unwrap_or(0);
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Counts the failed ones as passed, as they did when they ran again.
    pub(super) fn pass_again(&mut self) {
        self.passed += self.failed;
        self.again += std::mem::take(&mut self.failed);
    }

    /// Tests that passed.
    pub(super) fn passed(self) -> u64 {
        self.passed
    }

    /// Tests that failed.
    pub(super) fn failed(self) -> u64 {
        self.failed
    }

    /// Test programs that ended with a summary.
    pub(super) fn programs(self) -> u64 {
        self.programs
    }

    /// Whether any test ran at all.
    pub(super) fn is_empty(self) -> bool {
        self.passed + self.failed == 0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)?;
        match self.again {
            0 => Ok(()),
            again => write!(f, " ({again} passed only when run again)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up() {
        let mut counts = Counts::default();
        assert!(counts.is_empty());
        counts.add("running 3 tests");
        counts.add(
            "test result: ok. 10 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.46s",
        );
        counts.add("test result: FAILED. 1 passed; 4 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.00s");
        counts.add("all doctests ran in 0.28s; merged doctests compilation took 0.27s");
        assert_eq!(counts, Counts { passed: 11, failed: 4, skipped: 2, again: 0, programs: 2 });
        assert_eq!(counts.to_string(), "11 passed, 4 failed, 2 skipped");
        counts.pass_again();
        assert_eq!(counts.to_string(), "15 passed, 0 failed, 2 skipped (4 passed only when run again)");
    }
}
