//! Rules about the text of one file.

use super::{File, Finding, is_rust};

/// A file longer than this has to say why, in the list of exceptions.
const MAX_LINES: usize = 500;

/// Parts of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 6] = ["/work/", "/tmp/wt", "/root/", "/home/", "/Users/", "C:\\Users"];

/// Registries and archives: which one is used is each machine's own affair.
const HOSTS: [&str; 9] = [
    "crates.io",
    "static.rust-lang.org",
    "debian.org",
    "pypi.org",
    "pythonhosted.org",
    "npmjs.org",
    "npmjs.com",
    "proxy.golang.org",
    "apt.llvm.org",
];

/// How the work was organised is no business of whoever reads the project.
const WORKPLACE: [&str; 12] = [
    "this session",
    "next session",
    "previous session",
    "earlier session",
    "the coordinator",
    "sub-agent",
    "subagent",
    "helper agent",
    "ai assistant",
    "language model",
    "closing note",
    "worktree",
];

/// Words whose macros are placeholders.
const PLACEHOLDERS: [&str; 3] = ["todo", "unimplemented", "dbg"];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found =
        |rule, line, message: String| findings.push(Finding::new(rule, &file.path, line, message));
    // The rules' own words stand here.
    let ours = file.path == "xtask/src/tidy/text.rs";
    for (line, text) in (1..).zip(file.text.lines()) {
        if text.starts_with("<<<<<<< ") || text.starts_with(">>>>>>> ") {
            found("conflict", line, "left by a merge".to_owned());
        }
        if ours {
            continue;
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|p| holds_path(text, p)) {
            found("machine-path", line, format!("{path} is one machine's own"));
        }
        // A lock file names its registry by itself.
        if !file.path.ends_with("Cargo.lock")
            && let Some(host) = HOSTS.iter().find(|h| holds_url(text, h))
        {
            found(
                "registry-host",
                line,
                format!("a URL of {host}: which registry is used is the machine's affair"),
            );
        }
        let lower = text.to_lowercase();
        if let Some(word) = WORKPLACE.iter().find(|w| lower.contains(*w)) {
            found("workplace", line, format!("\"{word}\" speaks of how the work was done"));
        }
    }
    if is_rust(&file.path) {
        findings.extend(rust(file));
    }
    findings
}

/// Whether `path` begins a path in `text`, and not the middle of one (as in `~/work/` or `${X}/root/`).
fn holds_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "._-}~)*".contains(c)))
    })
}

/// Whether `text` has a URL whose host is `host` or one below it.
fn holds_url(text: &str, host: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let rest = &text[at + 3..];
        let name =
            rest.split(|c: char| !(c.is_alphanumeric() || ".-".contains(c))).next().unwrap_or_default();
        name == host || name.strip_suffix(host).is_some_and(|front| front.ends_with('.'))
    })
}

fn rust(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines: Vec<&str> = file.text.lines().collect();
    let mut found =
        |rule, line, message: String| findings.push(Finding::new(rule, &file.path, line, message));
    if !lines.first().is_some_and(|l| l.starts_with("//!")) {
        found("module-doc", 1, "begins without `//!`: say what the module is for".to_owned());
    }
    if lines.len() > MAX_LINES {
        found("length", 0, format!("{} lines, more than {MAX_LINES}", lines.len()));
    }
    for (index, line) in lines.iter().enumerate() {
        let code = code_of(line);
        if let Some(word) = PLACEHOLDERS.iter().find(|w| has_macro(&code, w)) {
            found("placeholder", index + 1, format!("{word}! is no code"));
        }
        if opens_unsafe(&code) && !argued(&lines, index) {
            found("safety", index + 1, "unsafe without a `// SAFETY:` argument before it".to_owned());
        }
    }
    findings
}

/// The line without its comment, and without what stands in string literals. Literals over several lines are not known.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => break,
            '\'' if chars.clone().nth(1) == Some('\'') => {
                chars.nth(1);
            }
            '"' => {
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                code.push_str("\"\"");
            }
            c => code.push(c),
        }
    }
    code
}

fn has_macro(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        code[at + word.len()..].starts_with('!') && before.is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
    })
}

/// Whether the line opens an unsafe block or implementation. An `unsafe fn` tells its callers in `# Safety`.
fn opens_unsafe(code: &str) -> bool {
    code.contains("unsafe {") || code.trim_start().starts_with("unsafe impl")
}

/// Whether the statement that holds this line, or the comment right before it, has the argument.
fn argued(lines: &[&str], index: usize) -> bool {
    let is_argument = |l: &str| l.contains("SAFETY:");
    if is_argument(lines[index]) {
        return true;
    }
    for line in lines[..index].iter().rev() {
        let line = line.trim();
        if line.starts_with("//") {
            if is_argument(line) {
                return true;
            }
        } else if line.is_empty() || line.ends_with([';', '}']) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        check(&File { path: path.to_owned(), text: text.to_owned() })
            .into_iter()
            .map(|f| (f.rule, f.line))
            .collect()
    }

    #[test]
    fn a_module_says_what_it_is_for() {
        assert_eq!(rules("a.rs", "//! Says.\nfn a() {}\n"), []);
        assert_eq!(rules("a.rs", "fn a() {}\n"), [("module-doc", 1)]);
        assert_eq!(rules("a.rs", ""), [("module-doc", 1)]);
        assert_eq!(rules("a.md", "no module\n"), []);
    }

    #[test]
    fn a_long_file_is_found() {
        let text = |lines: usize| format!("//! Long.\n{}", "//\n".repeat(lines - 1));
        assert_eq!(rules("a.rs", &text(500)), []);
        assert_eq!(rules("a.rs", &text(501)), [("length", 0)]);
    }

    #[test]
    fn placeholders_are_found_in_code_only() {
        assert_eq!(rules("a.rs", "//! A.\nfn a() { todo!() }\n"), [("placeholder", 2)]);
        assert_eq!(
            rules("a.rs", "//! A.\n// todo!() is banned\nlet x = \"dbg!(x)\"; let y = '\"'; my_dbg!(y);\n"),
            []
        );
        assert_eq!(rules("a.rs", "//! A.\nlet x = dbg!(\"a\"); unimplemented!()\n"), [("placeholder", 2)]);
    }

    #[test]
    fn unsafe_needs_an_argument() {
        let bare = "//! A.\nlet a = 1;\nunsafe { f() }\n";
        assert_eq!(rules("a.rs", bare), [("safety", 3)]);
        assert_eq!(rules("a.rs", "//! A.\n// SAFETY: f has no conditions.\nunsafe { f() }\n"), []);
        assert_eq!(rules("a.rs", "//! A.\n// SAFETY: one\n// goes on.\nlet x =\n    unsafe { f() };\n"), []);
        assert_eq!(
            rules("a.rs", "//! A.\n// SAFETY: old.\nlet b = 2;\nunsafe impl Send for A {}\n"),
            [("safety", 4)]
        );
    }

    #[test]
    fn machine_paths_hosts_and_workplace_words_are_found() {
        assert_eq!(rules("a.md", "see /work/main\n"), [("machine-path", 1)]);
        assert_eq!(rules("a.sh", "cd $HOME/work/main; ls target/work/x; rm ~/root/x\n"), []);
        assert_eq!(rules("a.md", "curl https://static.crates.io/x\n"), [("registry-host", 1)]);
        assert_eq!(rules("a.md", "from crates.io; https://notcrates.io/ https://x.test/crates.io\n"), []);
        assert_eq!(rules("Cargo.lock", "source = \"registry+https://index.crates.io/\"\n"), []);
        assert_eq!(rules("a.md", "Done in This Session.\n"), [("workplace", 1)]);
        assert_eq!(rules("a.md", "a TLS session ends\n"), []);
        assert_eq!(rules("a.md", "<<<<<<< HEAD\n"), [("conflict", 1)]);
    }
}
