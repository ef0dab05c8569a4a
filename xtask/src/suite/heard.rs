//! What the test runner printed: how many tests ended how, which failed, and whether they may be asked once more.
//!
//! A test with real programs, namespaces and timers can fail because the machine is busy. Such a failure is worth a second
//! look, alone; it is told whatever comes of it. A failure that a second look could not repeat by its nature (random
//! input, a program that broke off, many at once) gets none.

use super::summary::Counts;

/// More failures than this are no accident.
const MAX_AGAIN: usize = 3;

/// As many failed tests are named at the end.
const MAX_NAMES: usize = 20;

/// What proptest prints with the input that it found.
const RANDOM: &str = "minimal failing input";

/// Of one run of the test runner.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) counts: Counts,
    /// Whether the runner itself says that all is well.
    pub(super) success: bool,
    failed: Vec<String>,
    /// Test programs that began.
    began: u64,
    random: bool,
}

impl Heard {
    /// Takes in a line.
    pub(super) fn line(&mut self, line: &str) {
        self.counts.add(line);
        self.random |= line.contains(RANDOM);
        if line.strip_prefix("running ").is_some_and(|rest| rest.ends_with(" tests") || rest == "1 test") {
            self.began += 1;
        }
        let failed = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        if let Some(name) = failed {
            let name = name.strip_suffix(" - should panic").unwrap_or(name);
            self.failed.push(name.to_owned());
        }
    }

    /// The tests that are worth a second look; none where one would prove nothing.
    pub(super) fn again(&self) -> &[String] {
        let told = self.counts.failed() == self.failed.len() as u64;
        let whole = self.counts.programs() == self.began;
        if told && whole && !self.random && self.failed.len() <= MAX_AGAIN { &self.failed } else { &[] }
    }

    /// `: failed: a, b, …`; nothing, where none is known by its name.
    pub(super) fn names(&self) -> String {
        let shown = &self.failed[..self.failed.len().min(MAX_NAMES)];
        let more = if shown.len() < self.failed.len() { ", …" } else { "" };
        if shown.is_empty() { String::new() } else { format!(": failed: {}{more}", shown.join(", ")) }
    }

    /// Whether each of these ran and passed.
    pub(super) fn passed(&self, names: &[String]) -> bool {
        self.success
            && self.counts.failed() == 0
            && self.counts.programs() == self.began
            && self.counts.passed() >= names.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = "; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";

    fn heard(lines: &[&str]) -> Heard {
        let mut heard = Heard { success: true, ..Heard::default() };
        lines.iter().for_each(|line| heard.line(line));
        heard
    }

    #[test]
    fn what_failed_is_named_at_the_end() {
        assert_eq!(heard(&["running 1 test", "test a ... ok"]).names(), "");
        assert_eq!(heard(&["test a::b ... FAILED", "test c ... FAILED"]).names(), ": failed: a::b, c");
        let lines: Vec<_> = (0..=MAX_NAMES).map(|n| format!("test t{n} ... FAILED")).collect();
        let names = heard(&lines.iter().map(String::as_str).collect::<Vec<_>>()).names();
        assert!(names.starts_with(": failed: t0, t1, ") && names.ends_with(", t19, …"), "{names}");
    }

    #[test]
    fn one_failure_is_looked_at_again() {
        let result = format!("test result: FAILED. 1 passed; 2 failed{RESULT}");
        let heard = heard(&[
            "running 3 tests",
            "test a::b ... FAILED",
            "test c ... ok",
            "test d - should panic ... FAILED",
            &result,
        ]);
        assert_eq!(heard.again(), ["a::b", "d"]);
        assert!(!heard.passed(heard.again()));
    }

    #[test]
    fn what_a_second_look_cannot_clear_gets_none() {
        let one = format!("test result: FAILED. 0 passed; 1 failed{RESULT}");
        let failed = ["running 1 test", "test a ... FAILED", &one];
        assert_eq!(heard(&failed).again(), ["a"]);
        // Broke off: no summary.
        assert!(heard(&[&failed[..], &["running 2 tests"]].concat()).again().is_empty());
        assert!(heard(&[&failed[..], &["minimal failing input: x = 3"]].concat()).again().is_empty());
        let four = format!("test result: FAILED. 0 passed; 4 failed{RESULT}");
        let lines = ["running 4 tests", "test a ... FAILED", "test b ... FAILED", "test c ... FAILED"];
        assert!(heard(&[&lines[..], &["test d ... FAILED", &four]].concat()).again().is_empty());
        // A name that could not be read.
        assert!(heard(&["running 1 test", "test a ... outputFAILED", &one]).again().is_empty());
    }

    #[test]
    fn only_tests_that_ran_have_passed() {
        let names = ["a".to_owned()];
        let none = format!("test result: ok. 0 passed; 0 failed{RESULT}");
        assert!(!heard(&["running 0 tests", &none]).passed(&names));
        let one = format!("test result: ok. 1 passed; 0 failed{RESULT}");
        assert!(heard(&["running 0 tests", &none, "running 1 test", "test a ... ok", &one]).passed(&names));
        assert!(!heard(&["running 1 test", "test a ... ok", &one, "running 1 test"]).passed(&names));
    }
}
