//! Known faults of the oracle: differences that are explained, each with its reason, in `tests/corpus/oracle-faults`.
//!
//! A line is `FILE KIND CLIENT SERVER NUMBER FACT reason…`; FACT is a fact's name, `missing` or `extra`, and `*` stands
//! for any. One that explains nothing any more is reported, so that the list does not rot.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::compare::Difference;
use crate::sys::project;

const FILE: &str = "tests/corpus/oracle-faults";

/// One line of the list.
#[derive(Debug)]
struct Fault {
    file: String,
    kind: String,
    place: String,
    fact: String,
    used: bool,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn read() -> Result<Self> {
        let path = project::root().join(FILE);
        Self::parse(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut faults = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.is_empty() || line.starts_with('#') {
                continue;
            }
            ensure!(
                words.len() > 6,
                "{FILE}:{number}: needs file, kind, client, server, number, fact and a reason"
            );
            faults.push(Fault {
                file: words[0].to_owned(),
                kind: words[1].to_owned(),
                place: format!("{} > {} #{}", words[2], words[3], words[4]),
                fact: words[5].to_owned(),
                used: false,
            });
        }
        Ok(Self(faults))
    }

    /// Whether every part of the difference is explained.
    pub(super) fn explain(&mut self, file: &str, difference: &Difference) -> bool {
        difference.what.split("; ").all(|part| {
            let fact = part.split(':').next().unwrap_or_default();
            let fault = self.0.iter_mut().find(|f| {
                f.file == file
                    && f.kind == difference.kind
                    && (f.place == difference.place || f.place == "* > * #*")
                    && (f.fact == fact || f.fact == "*")
            });
            fault.map(|f| f.used = true).is_some()
        })
    }

    /// Lines that explained nothing, of the files that were looked at.
    pub(super) fn stale(&self, files: &[String]) -> Vec<String> {
        let unused = self.0.iter().filter(|f| !f.used && files.contains(&f.file));
        unused.map(|f| format!("{} {} {} {}", f.file, f.kind, f.place, f.fact)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_explained() {
        let mut faults =
            Faults::parse("# why\nx.pcap http1 a:1 b:2 3 resp_headers the oracle counts a folded line\n")
                .unwrap();
        let difference = |what: &str, place: &str| Difference {
            kind: "http1",
            grade: "A".to_owned(),
            place: place.to_owned(),
            what: what.to_owned(),
            about: String::new(),
        };
        let headers = "resp_headers: expected 1, found 2";
        assert_eq!(faults.stale(&["x.pcap".to_owned()]).len(), 1);
        assert!(!faults.explain("y.pcap", &difference(headers, "a:1 > b:2 #3")));
        assert!(!faults.explain("x.pcap", &difference(headers, "a:1 > b:2 #4")));
        assert!(!faults.explain(
            "x.pcap",
            &difference("resp_headers: expected 1, found 2; status: expected 1, found 2", "a:1 > b:2 #3")
        ));
        assert!(faults.explain("x.pcap", &difference(headers, "a:1 > b:2 #3")));
        assert_eq!(faults.stale(&["x.pcap".to_owned()]), [""; 0]);
        assert!(Faults::parse("x.pcap http1 a:1 b:2 3 resp_headers\n").is_err());
    }
}
