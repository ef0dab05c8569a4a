//! The daemon's configuration file: YAML, checked once, as a whole.
//!
//! ```text
//! agent.yaml ─► File (typed, every value within what is allowed) ─► cli: the same wishes and Settings as flags
//! ```
//! Invariants: a key that is not known is an error, never passed over; an error names file, line and key, what was found and
//! what is allowed; values of variables are in no error.

mod env;
mod file;
#[cfg(test)]
mod tests;
mod token;
mod values;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_norway::Value;

pub(crate) use self::env::Variables;
pub(crate) use self::file::{Api, File, Outbox, Redaction};
pub(crate) use self::token::Token;
pub(crate) use self::values::ListenOn;

/// A configuration is no larger, in bytes.
const MOST: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It is longer than a configuration may be.
    #[error("{}: larger than {MOST} bytes, which no configuration is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Something in it is wrong.
    #[error("{}{place}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// `, line 7`, where that is known.
        place: String,
        /// The key, what was found and what is allowed.
        message: String,
    },
}

/// A configuration as it was read.
pub(crate) struct Read {
    /// Checked.
    pub(crate) file: File,
    /// The same as YAML, to tell what is new in a later one.
    pub(crate) yaml: Value,
}

/// Reads and checks a file.
///
/// # Errors
/// See [`ConfigError`].
pub(crate) fn read(path: &Path) -> Result<Read, ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if text.len() as u64 > MOST {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Read, ConfigError> {
    let yaml: Value = serde_norway::from_str(text).map_err(|error| invalid(path, "", &error))?;
    // Nothing at all, or comments only: all defaults.
    let file = if yaml.is_null() {
        File::default()
    } else {
        serde_path_to_error::deserialize(serde_norway::Deserializer::from_str(text))
            .map_err(|error| invalid(path, &error.path().to_string(), error.inner()))?
    };
    Ok(Read { file, yaml })
}

fn invalid(path: &Path, key: &str, error: &serde_norway::Error) -> ConfigError {
    let said = error.to_string();
    let (place, tail) = error.location().map_or_else(Default::default, |at| {
        let (line, column) = (at.line(), at.column());
        (format!(", line {line}"), format!(" at line {line} column {column}"))
    });
    let said = said.strip_suffix(&tail).unwrap_or(&said);
    // It knows most of the path, too.
    let said = match said.split_once(": ") {
        Some((front, rest)) if key.starts_with(front) => rest,
        _ => said,
    };
    let message = if key.is_empty() || key == "." { said.to_owned() } else { format!("{key}: {said}") };
    ConfigError::Invalid { path: path.to_owned(), place, message }
}

/// Paths of the keys whose values differ, such as `capture.ports`. What is not there is as null; lists are compared whole.
pub(crate) fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let (Value::Mapping(_) | Value::Null, Value::Mapping(_) | Value::Null) = (old, new) else {
        if old != new {
            found.push(at.to_owned());
        }
        return;
    };
    let keys = |value: &Value| {
        let keys = value.as_mapping().into_iter().flat_map(|map| map.keys());
        keys.filter_map(|key| key.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let all: std::collections::BTreeSet<String> = keys(old).into_iter().chain(keys(new)).collect();
    for key in all {
        let below = |value: &Value| value.get(key.as_str()).cloned().unwrap_or_default();
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        compare(&path, &below(old), &below(new), found);
    }
}
