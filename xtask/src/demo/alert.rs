//! An alert as Slack got it: printed, and its files kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::fake::Fake;
use crate::sys::{project, term};

/// Prints text, attachments and their fields roughly as Slack shows them.
pub(super) fn print(message: &Value) {
    let text = |value: &Value| unescaped(value.as_str().unwrap_or_default());
    if !text(&message["text"]).is_empty() {
        term::say(&format!("  {}", text(&message["text"])));
    }
    for attachment in message["attachments"].as_array().into_iter().flatten() {
        let bar = if attachment["color"] == "#ff0000" { term::red("┃") } else { "┃".to_owned() };
        if !text(&attachment["pretext"]).is_empty() {
            term::say(&format!("  {}", term::bold(&text(&attachment["pretext"]))));
        }
        text(&attachment["text"]).lines().for_each(|line| term::say(&format!("  {bar} {line}")));
        for field in attachment["fields"].as_array().into_iter().flatten() {
            term::say(&format!("  {bar} {:<14} {}", text(&field["title"]), text(&field["value"])));
        }
    }
}

/// Keeps the files of a message. Returns where.
pub(super) fn save(message: &Value, fake: &Fake<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.join(folder_name(&message["ts"]));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut kept = Vec::new();
    for file in message["files"].as_array().into_iter().flatten() {
        let bytes = fake.get(file["url"].as_str().context("a file without URL")?)?;
        let name = file["name"].as_str().unwrap_or("file");
        // A file's name came over the network: it names a file here, never a path.
        let name: String =
            name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
        let path = folder.join(name.trim_start_matches('.'));
        fs::write(&path, &bytes).with_context(|| path.display().to_string())?;
        term::fact("file", &format!("{} ({} bytes)", project::shown(&path), bytes.len()));
        kept.push(path);
    }
    Ok(kept)
}

fn folder_name(ts: &Value) -> String {
    let ts = ts.as_str().unwrap_or("alert");
    ts.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect()
}

/// Slack shows these three entities as the characters that they stand for.
fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_shown_once_unescaped() {
        assert_eq!(unescaped("a &lt;b&gt; &amp;lt;"), "a <b> &lt;");
    }
}
