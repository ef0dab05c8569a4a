//! The same bytes, carried otherwise by TCP: what is found must not change. By the `morph.py` of the captures' folder.

use std::path::Path;

use anyhow::{Context, Result, ensure};
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
    let down = |r: &Record| Record { grade: r.grade.replace('A', "B"), roles_known: false, ..r.clone() };
    expected.iter().map(down).collect()
}
