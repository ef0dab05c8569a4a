//! Known faults of the oracle: differences that are explained, each with its reason, in `tests/corpus/oracle-faults`.
//!
//! A line is `FILE KIND CLIENT SERVER NUMBER FACT reason…`; FACT is a fact's name, `missing` or `extra`, and `*` stands
//! for any. `FILE@MORPH` is about the capture changed in that way only (with `_` for a blank), a plain FILE about it in any. One that explains nothing any more is reported, so that the list does not rot.

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
    pub(super) fn explain(&mut self, file: &str, morph: &str, difference: &Difference) -> bool {
        let changed = format!("{file}@{}", morph.replace(' ', "_"));
        difference.what.split("; ").all(|part| {
            let fact = part.split(':').next().unwrap_or_default();
            let fault = self.0.iter_mut().find(|f| {
                (f.file == file || f.file == changed)
                    && f.kind == difference.kind
                    && (f.place == difference.place || f.place == "* > * #*")
                    && (f.fact == fact || f.fact == "*")
            });
            fault.map(|f| f.used = true).is_some()
        })
    }

    /// Lines that explained nothing, of the files that were looked at, changed ones too where `morphed`.
    pub(super) fn stale(&self, files: &[String], morphed: bool) -> Vec<String> {
        let looked_at = |f: &Fault| match f.file.split_once('@') {
            Some((file, _)) => morphed && files.iter().any(|name| name == file),
            None => files.contains(&f.file),
        };
        let unused = self.0.iter().filter(|f| !f.used && looked_at(f));
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
        assert_eq!(faults.stale(&["x.pcap".to_owned()], false).len(), 1);
        assert!(!faults.explain("y.pcap", "", &difference(headers, "a:1 > b:2 #3")));
        assert!(!faults.explain("x.pcap", "", &difference(headers, "a:1 > b:2 #4")));
        assert!(!faults.explain(
            "x.pcap",
            "",
            &difference("resp_headers: expected 1, found 2; status: expected 1, found 2", "a:1 > b:2 #3")
        ));
        assert!(faults.explain("x.pcap", "", &difference(headers, "a:1 > b:2 #3")));
        assert_eq!(faults.stale(&["x.pcap".to_owned()], false), [""; 0]);
        assert!(Faults::parse("x.pcap http1 a:1 b:2 3 resp_headers\n").is_err());
        let mut faults = Faults::parse("x.pcap@split_1 http1 a:1 b:2 3 * why\n").unwrap();
        assert!(!faults.explain("x.pcap", "", &difference(headers, "a:1 > b:2 #3")));
        assert!(faults.stale(&["x.pcap".to_owned()], false).is_empty());
        assert_eq!(faults.stale(&["x.pcap".to_owned()], true).len(), 1);
        assert!(faults.explain("x.pcap", "split 1", &difference(headers, "a:1 > b:2 #3")));
    }
}
