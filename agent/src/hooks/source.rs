//! A script's file: where it lies, what it is called, its text, and why it could not be used.

use std::collections::HashSet;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::limits::size_text;
use super::stamp::Loaded;

/// Why a script does not run. Displayed as `PATH:LINE:COLUMN: message`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptFailure {
    /// The file as it was named, or the module of it that is at fault.
    pub path: PathBuf,
    /// Line from 1, where known.
    pub line: Option<u32>,
    /// Column from 1, where known.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ScriptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ScriptFailure {}

/// A script's text and names.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file as it was named.
    pub(crate) path: PathBuf,
    /// Folder of its modules.
    pub(crate) folder: PathBuf,
    /// File name: what positions in errors say.
    pub(crate) file: String,
    /// Unique name among the scripts that run: what logs and statistics say.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
    /// Modules that it loaded so far.
    pub(crate) modules: Loaded,
}

impl Source {
    /// Reads a script.
    ///
    /// # Errors
    /// When it cannot be read, is too large or not UTF-8.
    pub(crate) fn read(path: &Path, largest: u64) -> Result<Self, ScriptFailure> {
        let text = read_text(path, largest).map_err(|message| failure(path, message))?;
        let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self { path: path.to_owned(), folder, name: file.clone(), file, text, modules: Loaded::default() })
    }

    /// The first comment line of the text, if there is one before any code.
    pub(crate) fn title(&self) -> Option<String> {
        title(&self.text)
    }

    /// A failure of this script.
    pub(crate) fn failure(&self, message: impl Into<String>) -> ScriptFailure {
        failure(&self.path, message)
    }

    /// A failure at a position; `file` as in positions, which may name a module of the script.
    pub(crate) fn failure_at(&self, place: Option<&Place>, message: impl Into<String>) -> ScriptFailure {
        let mut failure = self.failure(message);
        if let Some(place) = place {
            if place.file != self.file {
                failure.path = self.folder.join(&place.file);
            }
            failure.line = Some(place.line);
            failure.column = Some(place.column);
        }
        failure
    }
}

fn failure(path: &Path, message: impl Into<String>) -> ScriptFailure {
    ScriptFailure { path: path.to_owned(), line: None, column: None, message: message.into() }
}

/// Reads a source file of at most `largest` bytes.
pub(crate) fn read_text(path: &Path, largest: u64) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > largest {
        return Err(format!("is larger than {}", size_text(largest)));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 text (byte {} is wrong)", error.utf8_error().valid_up_to()))?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// Gives each script a name of its own: its file name, with the folder's where two are alike.
pub(crate) fn name_apart(source: &mut Source, taken: &mut HashSet<String>) {
    let folder = source.folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let with_folder = folder.map(|folder| format!("{folder}/{}", source.file));
    let numbered = (2u32..).map(|n| format!("{} ({n})", source.file));
    let candidates = std::iter::once(source.file.clone()).chain(with_folder).chain(numbered);
    for candidate in candidates {
        // What the data folder will be called must differ too.
        if taken.insert(folder_name(&candidate)) {
            source.name = candidate;
            return;
        }
    }
}

/// The name of a script's data folder.
pub(crate) fn folder_name(name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
        .collect();
    if safe.trim_start_matches('.').is_empty() { format!("_{safe}") } else { safe }
}

fn title(text: &str) -> Option<String> {
    let mut in_block = false;
    for line in text.lines().map(str::trim) {
        let line = if in_block || line.is_empty() || line.starts_with("#!") {
            line
        } else if let Some(rest) = line.strip_prefix("//") {
            rest
        } else if let Some(rest) = line.strip_prefix("/*") {
            in_block = true;
            rest
        } else {
            return None;
        };
        if line.starts_with("#!") {
            continue;
        }
        let (words, ends) = line.split_once("*/").map_or((line, false), |(words, _)| (words, true));
        let words = words.trim_matches(|c: char| c.is_whitespace() || c == '*' || c == '/');
        if !words.is_empty() {
            return Some(words.to_owned());
        }
        in_block &= !ends;
    }
    None
}

/// A position in a script or one of its modules.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    /// The first position in a QuickJS stack that is in JavaScript: `    at f (a.js:1:24)` or `    at a.js:3:1`.
    pub(crate) fn first_in(stack: &str) -> Option<Self> {
        stack.lines().find_map(Self::of_frame)
    }

    fn of_frame(frame: &str) -> Option<Self> {
        let frame = frame.trim().trim_start_matches("at ").trim_end_matches(')');
        let position = frame.rsplit_once('(').map_or(frame, |(_, position)| position);
        let mut parts = position.rsplitn(3, ':');
        let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { file: file.to_owned(), line: line.parse().ok()?, column: column.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_is_the_first_comment_line() {
        assert_eq!(title("// Alert on errors\ncode()").as_deref(), Some("Alert on errors"));
        assert_eq!(title("#!/usr/bin/env remora\n\n//\n//  Two \n").as_deref(), Some("Two"));
        assert_eq!(title("/**\n * Block title\n * more\n */").as_deref(), Some("Block title"));
        assert_eq!(title("/* one */ var x;").as_deref(), Some("one"));
        assert_eq!(title("var x; // not this"), None);
        assert_eq!(title(""), None);
    }

    #[test]
    fn positions_are_read_from_stacks() {
        let stack = "    at exec (native)\n    at f (my file.js:12:5)\n    at <eval> (b.js:1:1)\n";
        assert_eq!(
            Place::first_in(stack),
            Some(Place { file: "my file.js".to_owned(), line: 12, column: 5 })
        );
        assert_eq!(
            Place::first_in("    at a.js:3:1\n").map(|place| place.to_string()).as_deref(),
            Some("a.js:3")
        );
        assert_eq!(Place::first_in("    at f (native)\n"), None);
    }

    #[test]
    fn names_and_folders_are_told_apart() {
        let source = |path: &str| Source {
            path: path.into(),
            folder: Path::new(path).parent().unwrap().to_owned(),
            file: "a.js".to_owned(),
            name: String::new(),
            text: String::new(),
            modules: Loaded::default(),
        };
        let mut taken = HashSet::new();
        let names: Vec<String> = ["x/a.js", "y/a.js", "z/y/a.js", "z/y/a.js"]
            .map(|path| {
                let mut source = source(path);
                name_apart(&mut source, &mut taken);
                source.name
            })
            .into();
        assert_eq!(names, ["a.js", "y/a.js", "a.js (2)", "a.js (3)"]);
        assert_eq!(folder_name("y/a.js"), "y_a.js");
        assert_eq!(folder_name(".."), "_..");
    }
}
