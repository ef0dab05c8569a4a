//! The same bytes, carried otherwise by TCP: what is found must not change. By the `morph.py` of the captures' folder.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::record::Record;
use crate::sys::{project, run};

/// Name, arguments, and whether what was grade A is then B.
const WAYS: [(&str, &[&str], bool); 6] = [
    ("split 1", &["--split", "1"], false),
    ("split 7, overlap", &["--split", "7", "--overlap", "0.3"], false),
    ("dup", &["--dup", "0.3"], false),
    ("split 100, swap", &["--split", "100", "--swap", "0.3"], false),
    ("vlan", &["--vlan", "7"], false),
    ("strip-syn", &["--strip-syn"], true),
];

/// A changed capture.
pub(super) struct Morphed {
    pub(super) name: &'static str,
    pub(super) file: NamedTempFile,
    pub(super) graded_down: bool,
}

/// All ways of changing one capture. Those that morph.py does not take (an unknown link type) are left out.
pub(super) fn all(dir: &Path, capture: &Path) -> Result<Vec<Morphed>> {
    let script = dir.join("morph.py");
    ensure!(script.is_file(), "{} has no morph.py", dir.display());
    let classic = NamedTempFile::with_suffix(".pcap")?;
    let editcap = project::program("editcap")
        .context("--morph needs editcap, which comes with tshark (wireshark-common)")?;
    run::output(
        run::command(editcap).args(["-F", "pcap"]).arg(std::path::absolute(capture)?).arg(classic.path()),
    )?;
    let mut morphed = Vec::new();
    for (name, arguments, graded_down) in WAYS {
        let file = NamedTempFile::with_suffix(".pcap")?;
        let mut python = run::command("python3");
        python.arg(std::path::absolute(&script)?).arg(classic.path()).arg(file.path()).args(arguments);
        if run::try_output(&mut python).is_some() {
            morphed.push(Morphed { name, file, graded_down });
        }
    }
    Ok(morphed)
}

/// Without its SYN a stream is joined midway: where it began, and who is client, is a guess.
pub(super) fn graded_down(expected: &[Record]) -> Vec<Record> {
    let down = |r: &Record| {
        let facts = r.facts.iter().map(|(name, value)| from_first_byte(name, value)).collect();
        Record { grade: r.grade.replace('A', "B"), roles_known: false, facts, ..r.clone() }
    };
    expected.iter().map(down).collect()
}

/// What is lost before the first captured byte is not known of, so that offsets count from that byte; a single run of
/// bytes has no gap then, unless that lies behind it.
fn from_first_byte(name: &'static str, value: &Value) -> (&'static str, Value) {
    let (Some(whole), Some(runs)) = (whole_hash(name), value.as_array()) else {
        return (name, value.clone());
    };
    let first = runs.first().and_then(|run| run[0].as_u64()).unwrap_or(0);
    if let [run] = runs.as_slice()
        && first > 0
    {
        return (whole, run[2].clone());
    }
    let moved = |run: &Value| json!([run[0].as_u64().map(|offset| offset - first), run[1], run[2]]);
    (name, runs.iter().map(moved).collect())
}

/// Name of the hash of a direction without gaps, for the name of its runs of bytes.
fn whole_hash(name: &str) -> Option<&'static str> {
    match name {
        "c2s.chunks" => Some("c2s.sha256"),
        "s2c.chunks" => Some("s2c.sha256"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_beginning_a_direction_counts_from_its_first_byte() {
        let record = Record {
            grade: "A".to_owned(),
            roles_known: true,
            facts: vec![
                ("c2s.chunks", json!([[238, 5, "x"]])),
                ("s2c.chunks", json!([[7, 1, "y"], [9, 1, "z"]])),
                ("s2c.bytes", json!(2)),
                ("c2s.chunks", json!([[0, 30, "z"]])),
            ],
            ..Record::default()
        };
        let down = &graded_down(&[record])[0];
        assert_eq!((down.grade.as_str(), down.roles_known), ("B", false));
        let expected = [
            ("c2s.sha256", json!("x")),
            ("s2c.chunks", json!([[0, 1, "y"], [2, 1, "z"]])),
            ("s2c.bytes", json!(2)),
            ("c2s.chunks", json!([[0, 30, "z"]])),
        ];
        assert_eq!(down.facts, expected);
    }
}
