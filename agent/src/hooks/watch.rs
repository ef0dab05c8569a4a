//! Which files are scripts: those that were named, and of folders that were named every `*.js`.
//!
//! Other files of a folder are left alone: modules that several scripts of it import are to be called `*.mjs`. Names that
//! begin with a dot are not looked at: editors and ConfigMap volumes keep their own things there.

use std::path::{Path, PathBuf};

/// What a look at one path came to.
#[derive(Debug)]
pub(super) enum Look {
    /// These files are to be run, in this order.
    Scripts(Vec<PathBuf>),
    /// The folder cannot be read just now: what was there may still be.
    Unreadable(String),
}

/// The scripts that a path stands for. A path that is no folder stands for itself, also while nothing is there.
pub(super) fn look(path: &Path) -> Look {
    if !path.is_dir() {
        return Look::Scripts(vec![path.to_owned()]);
    }
    let entries = match std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return Look::Unreadable(error.to_string()),
    };
    let is_script = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension().is_some_and(|extension| extension == "js") && path.is_file()
    };
    let mut scripts: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).filter(is_script).collect();
    scripts.sort();
    Look::Scripts(scripts)
}

/// The scripts that a path stands for; a folder that cannot be read stands for itself.
#[must_use]
pub fn scripts_at(path: &Path) -> Vec<PathBuf> {
    match look(path) {
        Look::Scripts(scripts) => scripts,
        Look::Unreadable(_) => vec![path.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_scripts() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.js", "a.js", "lib.mjs", ".hidden.js", "notes.txt", "a.js~"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("folder.js")).unwrap();
        std::os::unix::fs::symlink("a.js", dir.path().join("link.js")).unwrap();
        let Look::Scripts(found) = look(dir.path()) else { panic!() };
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.js", "b.js", "link.js"]);
        let missing = dir.path().join("missing.js");
        assert!(matches!(look(&missing), Look::Scripts(found) if found == [missing]));
    }
}
