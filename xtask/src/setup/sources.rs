//! The machine's own apt sources, in both formats, and the line for the security suite derived from them.
//!
//! LLVM 22 is not in bookworm itself but in its security suite. No host is ever written here: it is always one that the
//! machine already trusts, with the keys that it uses for it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// One repository that the machine uses for binary packages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// What the machine is and uses.
#[derive(Debug)]
pub(super) struct Machine {
    codename: String,
    sources: Vec<Source>,
}

impl Machine {
    /// Reads the release's name and all sources.
    pub(super) fn read() -> Result<Self> {
        let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
        let codename = release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
        let mut sources = Vec::new();
        let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(entries.flatten().map(|e| e.path()));
        }
        for file in files {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            match file.extension().and_then(|e| e.to_str()) {
                Some("sources") => sources.extend(deb822(&text)),
                Some("list") => sources.extend(one_line(&text)),
                _ => {}
            }
        }
        Ok(Self { codename: codename.trim_matches('"').to_owned(), sources })
    }

    /// The security suite's name.
    pub(super) fn security_suite(&self) -> String {
        format!("{}-security", self.codename)
    }

    /// A line for the security suite. `Err`: why there is none.
    pub(super) fn security_line(&self) -> Result<String, String> {
        let suite = self.security_suite();
        if self.codename.is_empty() {
            return Err("this system's release has no name in /etc/os-release".to_owned());
        }
        if self.sources.iter().any(|s| s.suites.contains(&suite)) {
            return Err(format!("the suite {suite} is among this machine's sources, but does not have it"));
        }
        let source = self.base(&suite)?;
        let uri = source.uri.trim_end_matches('/');
        let stem = uri.strip_suffix("/debian").ok_or_else(|| {
            format!("the suite {suite} is missing, and {uri} does not end in /debian, so its neighbour cannot be told")
        })?;
        Ok(format!("deb {}{stem}/debian-security {suite} main", source.options()))
    }

    /// A line for the backports, and the suite's name. `Err`: why there is none.
    pub(super) fn backports_line(&self) -> Result<(String, String), String> {
        let suite = format!("{}-backports", self.codename);
        let source = self.base(&suite)?;
        Ok((format!("deb {}{} {suite} main", source.options(), source.uri), suite))
    }

    /// The source of the release itself, to derive that of a suite from.
    fn base(&self, suite: &str) -> Result<&Source, String> {
        let base =
            |s: &&Source| s.suites.contains(&self.codename) && s.components.iter().any(|c| c == "main");
        self.sources.iter().find(base).ok_or_else(|| {
            format!(
                "the suite {suite} is missing, and no source of {} was found to derive it from",
                self.codename
            )
        })
    }
}

impl Source {
    /// What stands between `deb` and the address.
    fn options(&self) -> String {
        self.signed_by.as_ref().map(|key| format!("[signed-by={key}] ")).unwrap_or_default()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Stanzas of `Key: value`, apart by empty lines; a line that begins with a space goes on with the one before.
fn deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for stanza in text.replace("\r\n", "\n").split("\n\n") {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza.lines().filter(|l| !l.starts_with('#')) {
            if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), fields.last_mut()) {
                value.push('\n');
                value.push_str(line.trim());
            } else if let Some((key, value)) = line.split_once(':') {
                fields.push((key.trim().to_lowercase(), value.trim().to_owned()));
            }
        }
        let field =
            |key: &str| fields.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).unwrap_or_default();
        if !words(field("types")).contains(&"deb".to_owned()) || field("enabled") == "no" {
            continue;
        }
        // A key that stands in the file itself, instead of a path, cannot be named in a line.
        let signed_by = Some(field("signed-by").to_owned()).filter(|s| s.starts_with('/'));
        sources.extend(words(field("uris")).into_iter().map(|uri| Source {
            uri,
            suites: words(field("suites")),
            components: words(field("components")),
            signed_by: signed_by.clone(),
        }));
    }
    sources
}

/// Lines of `deb [options] uri suite component…`.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(source_line).collect()
}

fn source_line(line: &str) -> Option<Source> {
    let mut rest =
        line.split('#').next()?.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut signed_by = None;
    if let Some(options) = rest.strip_prefix('[') {
        let (options, after) = options.split_once(']')?;
        signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(str::to_owned);
        rest = after;
    }
    let mut parts = rest.split_whitespace();
    let uri = parts.next()?.to_owned();
    let suites = vec![parts.next()?.to_owned()];
    Some(Source { uri, suites, components: parts.map(str::to_owned).collect(), signed_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(sources: Vec<Source>) -> Machine {
        Machine { codename: "bookworm".to_owned(), sources }
    }

    #[test]
    fn the_line_is_derived_from_deb822() {
        let text = "# a mirror\nTypes: deb deb-src\nURIs: http://mirror.test/pub/debian/\nSuites: bookworm\n bookworm-updates\n\
            Components: main\nSigned-By: /usr/share/keyrings/a.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://off.test/debian\n\
            Suites: bookworm-security\nComponents: main\n";
        let line = machine(deb822(text)).security_line().unwrap();
        let expected = "deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/pub/debian-security bookworm-security main";
        assert_eq!(line, expected);
    }

    #[test]
    fn the_line_is_derived_from_one_line_sources() {
        let text = "# deb http://no.test/debian bookworm main\ndeb-src http://src.test/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://m.test/debian bookworm main contrib # ours\n";
        let line = machine(one_line(text)).security_line().unwrap();
        assert_eq!(line, "deb [signed-by=/k.gpg] http://m.test/debian-security bookworm-security main");
        let (line, suite) = machine(one_line(text)).backports_line().unwrap();
        assert_eq!(line, "deb [signed-by=/k.gpg] http://m.test/debian bookworm-backports main");
        assert_eq!(suite, "bookworm-backports");
    }

    #[test]
    fn what_cannot_be_derived_is_said() {
        let there = one_line("deb http://m.test/debian-security bookworm-security main");
        assert!(machine(there).security_line().unwrap_err().contains("among this machine's sources"));
        assert!(machine(Vec::new()).security_line().unwrap_err().contains("no source of bookworm"));
        let odd = one_line("deb http://m.test/everything bookworm main");
        assert!(machine(odd).security_line().unwrap_err().contains("does not end in /debian"));
        let none = Machine { codename: String::new(), sources: Vec::new() };
        assert!(none.security_line().unwrap_err().contains("no name"));
    }
}
