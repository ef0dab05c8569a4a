//! What came of it: a table by kind and grade, every difference, and whether that is good enough.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::Capture;
use super::compare::Tally;
use crate::sys::term;

/// Share of grade B that must match.
const ENOUGH_OF_B: f64 = 0.995;

type Table = BTreeMap<(&'static str, String), Tally>;

/// Counts an explained difference as matched (or as not there).
pub(super) fn excuse(tally: &mut Tally, what: &str) {
    match what {
        "extra" => tally.extra -= 1,
        "missing" => {
            tally.missing -= 1;
            tally.matched += 1;
        }
        _ => tally.matched += 1,
    }
}

fn table(captures: &[Capture]) -> Table {
    let mut table = Table::new();
    for (key, tally) in captures.iter().flat_map(|c| &c.verdict.tallies) {
        let sum = table.entry(key.clone()).or_default();
        sum.expected += tally.expected;
        sum.found += tally.found;
        sum.matched += tally.matched;
        sum.missing += tally.missing;
        sum.extra += tally.extra;
    }
    table
}

fn name(capture: &Capture) -> String {
    if capture.morph.is_empty() {
        capture.file.clone()
    } else {
        format!("{} ({})", capture.file, capture.morph)
    }
}

/// The table, and each difference before it.
pub(super) fn print(captures: &[Capture], stale: &[String]) {
    for capture in captures {
        if let Some(failure) = &capture.failure {
            term::say(&format!("{}: {}", name(capture), term::red(failure)));
            continue;
        }
        for d in &capture.verdict.differences {
            let about = if d.about.is_empty() { String::new() } else { format!("\n    {}", d.about) };
            term::say(&format!(
                "{}: {} {} {}\n    {}{about}",
                name(capture),
                d.kind,
                d.grade,
                d.place,
                d.what
            ));
        }
    }
    for line in stale {
        term::say(&format!("oracle-faults: explains nothing: {line}"));
    }
    term::say(&format!("\n{} captures", captures.len()));
    let head = ["kind", "grade", "expected", "found", "matched", "missing", "extra"];
    term::say(&format!(
        "{:<8} {:<5} {:>9} {:>9} {:>9} {:>9} {:>9}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6]
    ));
    for ((kind, grade), t) in &table(captures) {
        let Tally { expected, found, matched, missing, extra } = t;
        term::say(&format!(
            "{kind:<8} {grade:<5} {expected:>9} {found:>9} {matched:>9} {missing:>9} {extra:>9}"
        ));
    }
}

/// The same for programs.
pub(super) fn json(captures: &[Capture]) -> Value {
    let tally = |t: &Tally| json!({"expected": t.expected, "found": t.found, "matched": t.matched, "missing": t.missing, "extra": t.extra});
    let rows = |table: &Table| -> Vec<Value> {
        table
            .iter()
            .map(|((kind, grade), t)| json!({"kind": kind, "grade": grade, "counts": tally(t)}))
            .collect()
    };
    let one = |c: &Capture| {
        let differences: Vec<_> = c.verdict.differences.iter().map(|d| {
            json!({"kind": d.kind, "grade": d.grade, "place": d.place, "what": d.what, "about": d.about})
        }).collect();
        json!({"file": c.file, "morph": c.morph, "failure": c.failure, "table": rows(&c.verdict.tallies), "differences": differences})
    };
    json!({"captures": captures.iter().map(one).collect::<Vec<_>>(), "table": rows(&table(captures)),
        "good": judge(captures).is_ok()})
}

/// Errs with what is not good enough.
pub(super) fn judge(captures: &[Capture]) -> Result<()> {
    let mut wrong = Vec::new();
    let failed = captures.iter().filter(|c| c.failure.is_some()).count();
    if failed > 0 {
        wrong.push(format!("{failed} captures were not read to the end"));
    }
    for ((kind, grade), t) in &table(captures) {
        let share = if t.expected == 0 { 1.0 } else { t.matched as f64 / t.expected as f64 };
        match grade.as_str() {
            "A" if t.matched < t.expected => {
                wrong.push(format!(
                    "{kind}: {} of {} records of grade A do not match",
                    t.expected - t.matched,
                    t.expected
                ));
            }
            "B" if share < ENOUGH_OF_B => {
                wrong.push(format!("{kind}: only {:.2} % of grade B match", 100.0 * share));
            }
            _ => {}
        }
        if t.extra > 0 && grade != "C" {
            wrong.push(format!("{kind}: {} records that no capture holds", t.extra));
        }
    }
    if !wrong.is_empty() {
        bail!("corpus: {}", wrong.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::compare::Verdict;
    use super::*;

    fn capture(grade: &str, tally: Tally, failure: Option<&str>) -> Capture {
        let mut verdict = Verdict::default();
        *verdict.tally("http1", grade) = tally;
        Capture { file: "a.pcap".to_owned(), morph: "", verdict, failure: failure.map(str::to_owned) }
    }

    #[test]
    fn every_a_and_nearly_every_b_must_match() {
        let tally = |matched| Tally { expected: 1000, found: 1000, matched, missing: 0, extra: 0 };
        assert!(judge(&[capture("A", tally(1000), None)]).is_ok());
        assert!(judge(&[capture("A", tally(999), None)]).is_err());
        assert!(judge(&[capture("B", tally(995), None)]).is_ok());
        assert!(judge(&[capture("B", tally(994), None)]).is_err());
        assert!(judge(&[capture("C", tally(0), None)]).is_ok());
    }

    #[test]
    fn crashes_and_extras_are_never_good() {
        assert!(judge(&[capture("C", Tally::default(), Some("ended with signal: 6"))]).is_err());
        assert!(judge(&[capture("-", Tally { extra: 1, ..Tally::default() }, None)]).is_err());
        let mut tally = Tally { expected: 1, missing: 1, extra: 1, ..Tally::default() };
        excuse(&mut tally, "missing");
        excuse(&mut tally, "extra");
        assert_eq!(tally, Tally { expected: 1, matched: 1, ..Tally::default() });
    }
}
