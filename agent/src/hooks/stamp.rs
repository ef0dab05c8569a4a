//! Whether a file is still the one that was read: by its inode, size and times, through all symbolic links.
//!
//! A ConfigMap volume swaps the link `..data` under its files: the inodes behind them change, and that is seen.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What a file looked like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stamp {
    /// A regular file: device, inode, size, time of change and of modification in nanoseconds.
    File([i128; 5]),
    /// There is none, or something else is there.
    Absent,
    /// It cannot be told: the folder may not be read just now.
    Unknown,
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> Self {
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        match std::fs::metadata(path) {
            Ok(file) if file.is_file() => Self::File([
                file.dev().into(),
                file.ino().into(),
                file.size().into(),
                nanos(file.ctime(), file.ctime_nsec()),
                nanos(file.mtime(), file.mtime_nsec()),
            ]),
            Err(error)
                if !matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Self::Unknown
            }
            Ok(_) | Err(_) => Self::Absent,
        }
    }
}

/// Most modules of one script that are watched.
const MOST: usize = 1000;

/// The modules of one script and what they looked like when they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded(Arc<Mutex<BTreeMap<PathBuf, Stamp>>>);

impl Loaded {
    pub(crate) fn note(&self, path: PathBuf, stamp: Stamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST || known.contains_key(&path) {
            known.insert(path, stamp);
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<PathBuf, Stamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_of_links_an_edit_and_a_removal_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["1", "2"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("a.js"), "same").unwrap();
        }
        std::os::unix::fs::symlink("1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.js", at("a.js")).unwrap();
        let first = Stamp::of(&at("a.js"));
        assert_eq!(first, Stamp::of(&at("a.js")));
        std::os::unix::fs::symlink("2", at("..new")).unwrap();
        std::fs::rename(at("..new"), at("..data")).unwrap();
        let second = Stamp::of(&at("a.js"));
        assert_ne!(first, second);
        std::fs::write(at("2/a.js"), "other").unwrap();
        assert_ne!(second, Stamp::of(&at("a.js")));
        std::fs::remove_file(at("2/a.js")).unwrap();
        assert_eq!(Stamp::of(&at("a.js")), Stamp::Absent);
        assert_eq!(Stamp::of(dir.path()), Stamp::Absent, "a folder is no file");
    }
}
