//! Ties expected records to found ones and names what differs.
//!
//! Records belong together by kind, client, server and their order in the connection. The order is kept, but one that
//! is missing must not make all that follow differ: the two lists are aligned at least cost.

use std::collections::BTreeMap;

use super::record::{self, Record};

/// Something that is not as the oracle says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Difference {
    pub(super) kind: &'static str,
    pub(super) grade: String,
    /// `client > server #n`, counted from 1 in the connection.
    pub(super) place: String,
    /// `missing`, `extra`, or the names of the facts that differ with both values.
    pub(super) what: String,
    /// What the record is about, for a person.
    pub(super) about: String,
}

/// How many of one kind and grade.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) expected: u64,
    /// Found and tied to an expected one, equal or not.
    pub(super) found: u64,
    pub(super) matched: u64,
    pub(super) missing: u64,
    /// Found, whole, and not expected. Those which Remora itself marks as not whole do not count here.
    pub(super) extra: u64,
}

/// Of one capture, or of all.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub(super) tallies: BTreeMap<(&'static str, String), Tally>,
    pub(super) differences: Vec<Difference>,
}

impl Verdict {
    pub(super) fn tally(&mut self, kind: &'static str, grade: &str) -> &mut Tally {
        self.tallies.entry((kind, grade.to_owned())).or_default()
    }
}

/// Cost of leaving a record without a counterpart, in facts that differ.
const ALONE: u32 = 5;
/// Above this product of lengths records are tied by order alone.
const MAX_CELLS: usize = 16_000_000;

type Connection = (&'static str, String, String);

/// Compares all records of one capture. Both lists are in the order of the capture.
pub(super) fn compare(expected: &[Record], found: &[Record]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut groups: BTreeMap<Connection, (Vec<&Record>, Vec<Record>)> = BTreeMap::new();
    for record in expected {
        groups.entry(connection(record)).or_default().0.push(record);
    }
    for record in found {
        let mut key = connection(record);
        let mut record = record.clone();
        let turned = (key.0, key.2.clone(), key.1.clone());
        let turnable =
            |g: &(Vec<&Record>, Vec<Record>)| g.0.iter().any(|r| r.kind == "tcp" && !r.roles_known);
        if !groups.contains_key(&key) && groups.get(&turned).is_some_and(turnable) {
            (key, record) = (turned, record::swapped(&record));
        }
        groups.entry(key).or_default().1.push(record);
    }
    for (key, (expected, found)) in &groups {
        let found: Vec<&Record> = found.iter().collect();
        group(&mut verdict, key, expected, &found);
    }
    verdict
}

fn connection(record: &Record) -> Connection {
    (record.kind, record.client.clone(), record.server.clone())
}

fn group(verdict: &mut Verdict, key: &Connection, expected: &[&Record], found: &[&Record]) {
    let place = |n: usize| format!("{} > {} #{}", key.1, key.2, n + 1);
    for pair in align(expected, found) {
        let difference = match pair {
            (Some(e), Some(f)) => {
                let tally = verdict.tally(key.0, &expected[e].grade);
                tally.expected += 1;
                tally.found += 1;
                let differing = differing(expected[e], found[f]);
                if differing.is_empty() {
                    tally.matched += 1;
                    continue;
                }
                let texts: Vec<_> = differing
                    .iter()
                    .map(|(name, want, got)| format!("{name}: expected {want}, found {got}"))
                    .collect();
                (expected[e].grade.clone(), place(e), texts.join("; "), about(expected[e]))
            }
            (Some(e), None) => {
                let tally = verdict.tally(key.0, &expected[e].grade);
                tally.expected += 1;
                tally.missing += 1;
                (expected[e].grade.clone(), place(e), "missing".to_owned(), about(expected[e]))
            }
            (None, Some(f)) => {
                // A stream without a byte is none of the oracle's, and what is marked as not whole claims nothing.
                if found[f].error.is_some() || carries_nothing(found[f]) {
                    continue;
                }
                // In a connection that is ambiguous anyway (one 4-tuple under several tags), more may be there than the oracle saw.
                let grade = if expected.iter().any(|r| r.grade == "C") { "C" } else { "-" };
                verdict.tally(key.0, grade).extra += 1;
                (grade.to_owned(), place(f), "extra".to_owned(), about(found[f]))
            }
            (None, None) => continue,
        };
        let (grade, place, what, about) = difference;
        verdict.differences.push(Difference { kind: key.0, grade, place, what, about });
    }
}

fn carries_nothing(record: &Record) -> bool {
    record.kind == "tcp"
        && ["c2s.bytes", "s2c.bytes"]
            .iter()
            .all(|name| record.get(name).is_none_or(|v| v.as_u64() == Some(0)))
}

/// Names and both values of the facts that differ.
fn differing(expected: &Record, found: &Record) -> Vec<(&'static str, String, String)> {
    let shown = |value: Option<&serde_json::Value>| value.map_or("nothing".to_owned(), ToString::to_string);
    let facts = expected.facts.iter().filter(|(name, value)| found.get(name) != Some(value));
    facts.map(|(name, value)| (*name, shown(Some(value)), shown(found.get(name)))).collect()
}

fn about(record: &Record) -> String {
    if record.kind == "tcp" {
        return String::new();
    }
    let part = |name: &str| {
        record.get(name).and_then(|v| v.as_str()).unwrap_or("-").chars().take(60).collect::<String>()
    };
    let status = record.get("status").map(ToString::to_string).unwrap_or_default();
    format!("{} {} → {status}", part("method"), part("path"))
}

/// Pairs of indices in order: both, or one alone.
fn align(expected: &[&Record], found: &[&Record]) -> Vec<(Option<usize>, Option<usize>)> {
    let (rows, columns) = (expected.len(), found.len());
    if rows == columns || rows.saturating_mul(columns) > MAX_CELLS {
        let straight = (0..rows.min(columns)).all(|i| cost(expected[i], found[i]) == 0);
        if straight || rows.saturating_mul(columns) > MAX_CELLS {
            let longest = rows.max(columns);
            return (0..longest).map(|i| ((i < rows).then_some(i), (i < columns).then_some(i))).collect();
        }
    }
    // table[r][c]: least cost of what comes from r and c on.
    let width = columns + 1;
    let mut table = vec![0_u32; (rows + 1) * width];
    for r in (0..=rows).rev() {
        for c in (0..=columns).rev() {
            table[r * width + c] = match (r < rows, c < columns) {
                (false, false) => 0,
                (true, false) => table[(r + 1) * width + c] + ALONE,
                (false, true) => table[r * width + c + 1] + ALONE,
                (true, true) => {
                    let alone = ALONE + table[(r + 1) * width + c].min(table[r * width + c + 1]);
                    alone.min(cost(expected[r], found[c]) + table[(r + 1) * width + c + 1])
                }
            };
        }
    }
    let (mut r, mut c, mut pairs) = (0, 0, Vec::new());
    while r < rows || c < columns {
        let here = table[r * width + c];
        if r < rows && c < columns && here == cost(expected[r], found[c]) + table[(r + 1) * width + c + 1] {
            pairs.push((Some(r), Some(c)));
            (r, c) = (r + 1, c + 1);
        } else if r < rows && here == ALONE + table[(r + 1) * width + c] {
            pairs.push((Some(r), None));
            r += 1;
        } else {
            pairs.push((None, Some(c)));
            c += 1;
        }
    }
    pairs
}

/// Facts that differ, capped so that a pair is always cheaper than two alone.
fn cost(expected: &Record, found: &Record) -> u32 {
    let differing = expected.facts.iter().filter(|(name, value)| found.get(name) != Some(value)).count();
    u32::try_from(differing).unwrap_or(u32::MAX).min(2 * ALONE - 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn http(path: &str, status: u16, grade: &str) -> Record {
        Record {
            kind: "http1",
            client: "a:1".to_owned(),
            server: "b:2".to_owned(),
            grade: grade.to_owned(),
            facts: vec![("method", json!("GET")), ("path", json!(path)), ("status", json!(status))],
            ..Record::default()
        }
    }

    #[test]
    fn a_missing_record_does_not_spoil_those_after_it() {
        let wanted: Vec<_> = (0..6).map(|n| http(&format!("/{n}"), 200 + n, "A")).collect();
        let mut got = wanted.clone();
        got.remove(2);
        let verdict = compare(&wanted, &got);
        let tally = Tally { expected: 6, found: 5, matched: 5, missing: 1, extra: 0 };
        assert_eq!(verdict.tallies[&("http1", "A".to_owned())], tally);
        assert_eq!(verdict.differences.len(), 1);
        assert_eq!(
            (verdict.differences[0].place.as_str(), verdict.differences[0].what.as_str()),
            ("a:1 > b:2 #3", "missing")
        );
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let verdict = compare(&[http("/a", 200, "B")], &[http("/a", 404, "")]);
        assert_eq!(verdict.differences[0].what, "status: expected 200, found 404");
        assert_eq!(verdict.tallies[&("http1", "B".to_owned())].matched, 0);
    }

    #[test]
    fn extras_count_unless_they_say_themselves_that_they_are_not_whole() {
        let mut cut = http("/cut", 200, "");
        cut.error = Some("connection".to_owned());
        let verdict = compare(&[http("/a", 200, "A")], &[http("/a", 200, ""), cut, http("/b", 200, "")]);
        assert_eq!(verdict.tallies[&("http1", "-".to_owned())].extra, 1);
        assert_eq!(verdict.differences[0].what, "extra");
        let ambiguous = compare(&[http("/a", 200, "C")], &[http("/a", 200, ""), http("/b", 200, "")]);
        assert_eq!(ambiguous.tallies[&("http1", "C".to_owned())].extra, 1);
    }

    #[test]
    fn a_stream_whose_roles_were_guessed_may_be_the_other_way_round() {
        let stream = |client: &str, server: &str, bytes| Record {
            kind: "tcp",
            client: client.to_owned(),
            server: server.to_owned(),
            facts: vec![("c2s.bytes", json!(bytes)), ("s2c.bytes", json!(7))],
            ..Record::default()
        };
        let mut wanted = stream("a:1", "b:2", 3);
        let mut found = stream("b:2", "a:1", 7);
        found.facts[1].1 = json!(3);
        assert_eq!(compare(&[wanted.clone()], &[found.clone()]).differences, []);
        wanted.roles_known = true;
        assert_eq!(compare(&[wanted], &[found]).differences.len(), 2);
    }
}
