//! `cargo xtask tidy`: the project's own rules, which no compiler checks.
//!
//! A rule is a function from a file (or from cargo's metadata) to findings. What a rule should let pass stands in
//! `xtask/tidy.allow` with its reason; a line there that excuses nothing any more is itself a finding.

mod allow;
mod crates;
mod layers;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::sys::{project, run, term};

/// Something that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Finding {
    rule: &'static str,
    path: String,
    /// From 1; 0: the file as a whole.
    line: usize,
    message: String,
}

impl Finding {
    fn new(rule: &'static str, path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { rule, path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": [{}] {}", self.rule, self.message)
    }
}

/// A file of the project, as text.
struct File {
    path: String,
    text: String,
}

/// The command.
pub(crate) fn run() -> Result<()> {
    let paths = files()?;
    let texts = read(&paths)?;
    let mut findings: Vec<Finding> = texts.iter().flat_map(text::check).collect();
    findings.extend(texts.iter().flat_map(layers::check));
    findings.extend(sizes(&paths));
    findings.extend(presence(&texts));
    findings.extend(crates::check(&crates::metadata()?));
    findings.extend(texts.iter().filter(|f| f.path.ends_with("/Cargo.toml")).filter_map(crates::lints));
    let allowed = fs::read_to_string(project::root().join(allow::FILE)).context(allow::FILE)?;
    let mut findings = allow::excuse(findings, &allowed);
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} of {} files break a rule, {} times", broken(&findings), paths.len(), findings.len());
    }
    term::say(&format!("tidy: {} files, no finding", paths.len()));
    Ok(())
}

fn broken(findings: &[Finding]) -> usize {
    let mut paths: Vec<_> = findings.iter().map(|f| &f.path).collect();
    paths.dedup();
    paths.len()
}

/// Paths that git knows, or would if they were added.
fn files() -> Result<Vec<String>> {
    let listed = run::output(run::command("git").args(["ls-files", "-z", "-co", "--exclude-standard"]))?;
    let mut paths: Vec<_> = listed.split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    // A file that is deleted but still known to git.
    paths.retain(|p| project::root().join(p).is_file());
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// Those of them that are text.
fn read(paths: &[String]) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for path in paths {
        let bytes = fs::read(project::root().join(path)).with_context(|| path.clone())?;
        if let Ok(text) = String::from_utf8(bytes)
            && !text.contains('\0')
        {
            files.push(File { path: path.clone(), text });
        }
    }
    Ok(files)
}

/// A repository is no place for big files.
fn sizes(paths: &[String]) -> Vec<Finding> {
    const LIMIT: u64 = 1024 * 1024;
    let size = |p: &&String| fs::metadata(project::root().join(p)).map_or(0, |m| m.len());
    let message = |n: u64| format!("{n} bytes, more than {LIMIT}");
    paths.iter().filter(|p| size(p) > LIMIT).map(|p| Finding::new("size", p, 0, message(size(&p)))).collect()
}

/// What every release needs.
fn presence(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-GPL2", "README.md", "CHANGELOG.md"] {
        if !files.iter().any(|f| f.path == path && !f.text.trim().is_empty()) {
            findings.push(Finding::new("presence", path, 0, "is missing or empty"));
        }
    }
    let changelog = files.iter().find(|f| f.path == "CHANGELOG.md");
    let unreleased = |f: &File| f.text.lines().any(|l| l.starts_with("## ") && l.contains("Unreleased"));
    if changelog.is_some_and(|f| !unreleased(f)) {
        findings.push(Finding::new("presence", "CHANGELOG.md", 0, "has no section `## Unreleased`"));
    }
    findings
}

/// Whether a path is Rust.
fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == "rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn findings_name_file_line_and_rule() {
        let finding = Finding::new("size", "a.bin", 0, "too big");
        assert_eq!(finding.to_string(), "a.bin: [size] too big");
        assert_eq!(Finding { line: 3, ..finding }.to_string(), "a.bin:3: [size] too big");
    }

    #[test]
    fn licences_and_an_unreleased_section_must_be_there() {
        let paths = ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-GPL2", "README.md"];
        let mut files: Vec<_> = paths.iter().map(|p| file(p, "text")).collect();
        files.push(file("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n"));
        assert_eq!(presence(&files), []);
        files.pop();
        files.push(file("CHANGELOG.md", "# Changelog\n\n## 1.0\n"));
        files[1].text.clear();
        let found: Vec<_> = presence(&files).into_iter().map(|f| f.path).collect();
        assert_eq!(found, ["LICENSE-MIT", "CHANGELOG.md"]);
    }
}
