//! Tables of figures: for a terminal, and for `BENCHMARKS.md`, where each part has a section that the next run replaces.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::sys::{project, run, term};

/// The file.
pub(super) const FILE: &str = "BENCHMARKS.md";

/// A table with what belongs to it.
#[derive(Debug)]
pub(super) struct Table {
    /// The part of the bench that measured it, as on the command line.
    pub(super) part: &'static str,
    pub(super) title: String,
    /// What was measured and how, a paragraph each.
    pub(super) notes: Vec<String>,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// On standard output.
    pub(super) fn show(&self) {
        term::section(&self.title);
        let width = |column: usize| {
            let of = |row: &Vec<String>| row.get(column).map_or(0, |cell| cell.chars().count());
            self.rows.iter().map(of).max().unwrap_or(0).max(self.head[column].chars().count())
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            padded.collect::<Vec<_>>().join("  ")
        };
        term::say(&line(&self.head.iter().map(ToString::to_string).collect::<Vec<_>>()));
        for row in &self.rows {
            term::say(&line(row));
        }
        for note in &self.notes {
            term::say(&format!("\n{note}"));
        }
    }

    fn markdown(&self, machine: &str) -> String {
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("## {}\n\n{machine}\n\n", self.title);
        text += &row(self.head.iter().map(ToString::to_string).collect());
        let rule = (0..self.head.len()).map(|column| if column == 0 { "---" } else { "---:" });
        text += &row(rule.map(str::to_owned).collect());
        for cells in &self.rows {
            text += &row(cells.clone());
        }
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        text
    }

    /// Puts it into the file, in its section's place.
    pub(super) fn write(&self) -> Result<()> {
        let path = project::root().join(FILE);
        let old = fs::read_to_string(&path).unwrap_or_else(|_| String::from(PREFACE));
        let new = replaced(&old, self.part, &self.markdown(&machine()))?;
        fs::write(&path, new).with_context(|| path.display().to_string())
    }
}

const PREFACE: &str = "# Benchmarks\n\nWritten by `cargo xtask bench PART --write`: figures of one machine, each section of one run. \
                       Compare ratios, not seconds.\n";

fn replaced(old: &str, part: &str, section: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench {part} -->\n"), format!("<!-- end of {part} -->\n"));
    let whole = format!("{begin}{section}{end}");
    match (old.find(&begin), old.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            Ok(format!("{}{whole}{}", &old[..from], &old[to + end.len()..]))
        }
        (None, None) => Ok(format!("{}\n\n{whole}", old.trim_end())),
        _ => bail!("{FILE}: the marks of section {part} are damaged; delete the section"),
    }
}

/// The machine and the commit.
pub(super) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit = run::try_output(run::command("git").args(["rev-parse", "--short=10", "HEAD"]));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!(
        "{model}, {cpus} CPUs, Linux {}; commit {}; load of the machine at the end {load}.",
        kernel.trim(),
        commit.as_deref().map_or("unknown", str::trim)
    )
}

/// A figure that is held against a bar.
pub(super) fn judged(figure: String, good: bool) -> String {
    if good { figure } else { format!("{figure} (missed)") }
}

/// `program`'s first line about its version.
pub(super) fn version(program: &str) -> String {
    let flags: &[&str] = match program {
        "suricata" | "nginx" => &["-V"][..],
        "wrk" => &["-v"],
        _ => &["--version"],
    };
    let output = run::command(program).args(flags).output();
    let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| line.chars().any(|c| c.is_ascii_digit()));
    line.unwrap_or(program).chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let first = replaced(PREFACE, "live", "## a\n").unwrap();
        let both = replaced(&first, "replay", "## b\n").unwrap();
        let again = replaced(&both, "live", "## c\n").unwrap();
        assert!(again.starts_with(PREFACE.trim_end()));
        assert!(!again.contains("## a") && again.find("## c") < again.find("## b"));
        assert_eq!(replaced(&again, "live", "## c\n").unwrap(), again);
        assert!(replaced("<!-- bench live -->\n", "live", "").is_err());
    }
}
