//! The outbox's own copies of attachments.
//!
//! Files are copied, never hard-linked: a script may write to the same path again, which truncates the
//! inode that a link would share. On file systems with reflinks the kernel makes the copy cheap by itself.
//!
//! Invariants: copies are 0600 in a 0700 folder; a copy goes with its [`Attachment`]; the folder goes with the
//! [`Spool`], and what a killed process left is removed by the next one. A bad source is the script's error; a
//! file that is too big, or that the spool has no room for, becomes a reason that the message tells.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

use super::OutboxError;
use crate::scratch::Scratch;

const PREFIX: &str = "remora-outbox-";
/// Longest file name shown, in bytes: what file systems take.
const MAX_FILE_NAME: usize = 255;

/// A folder for copies.
#[derive(Debug)]
pub(super) struct Spool {
    folder: Scratch,
    next: AtomicU64,
}

/// A file of a message.
#[derive(Debug)]
pub(super) struct Attachment {
    /// Name shown.
    pub(super) name: String,
    /// Bytes of the source.
    pub(super) size: u64,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// A copy in the spool.
    Copy(SpoolFile),
    /// Not taken over, and why.
    Missing(String),
}

/// A file in the spool, removed when this is dropped.
#[derive(Debug)]
pub(super) struct SpoolFile(PathBuf);

impl SpoolFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // Should it fail, the folder's removal takes the file along.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A source that was opened and found fit.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    path: PathBuf,
    file: File,
    pub(super) size: u64,
}

impl Source {
    /// Opens a script's file.
    pub(super) fn open(name: &str, path: &Path) -> Result<Self, OutboxError> {
        let fail = |cause: String| OutboxError::File {
            name: name.to_owned(),
            path: path.display().to_string(),
            cause,
        };
        // Without O_NONBLOCK a named pipe would hang the script.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|e| fail(e.to_string()))?;
        let metadata = file.metadata().map_err(|e| fail(e.to_string()))?;
        if !metadata.is_file() {
            return Err(fail("is not a regular file".to_owned()));
        }
        Ok(Self { name: shown_name(name), path: path.to_owned(), file, size: metadata.len() })
    }

    /// Gives the file up: the message will say why.
    pub(super) fn without_content(self, reason: String) -> Attachment {
        Attachment { name: self.name, size: self.size, content: Content::Missing(reason) }
    }
}

impl Spool {
    /// Makes a folder of its own in `parent`, and removes those that dead processes left there.
    pub(super) fn create(parent: &Path) -> Result<Self> {
        let within = || format!("outbox spool in {}", parent.display());
        DirBuilder::new().recursive(true).mode(0o700).create(parent).with_context(within)?;
        let folder = Scratch::create(parent, PREFIX).with_context(within)?;
        Ok(Self { folder, next: AtomicU64::new(0) })
    }

    /// Copies what the source holds now. A source that shrinks meanwhile gives a shorter copy.
    pub(super) fn copy(&self, mut source: Source) -> Attachment {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let copy = SpoolFile(self.folder.path().join(number.to_string()));
        match copy_bytes(&mut source, copy.path()) {
            Ok(size) => Attachment { name: source.name, size, content: Content::Copy(copy) },
            Err(error) => {
                tracing::warn!("outbox: {} could not be copied: {error}", source.path.display());
                source.without_content(format!("it could not be copied: {error}"))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn copy_bytes(source: &mut Source, target: &Path) -> std::io::Result<u64> {
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let size = source.size;
    // `io::copy` between files is copy_file_range where the kernel has it.
    std::io::copy(&mut source.file.by_ref().take(size), &mut target)
}

/// A file name that a person can save under: no folders, no control characters, not too long.
fn shown_name(name: &str) -> String {
    let safe = |c: char| if c.is_control() || matches!(c, '/' | '\\') { '_' } else { c };
    let mut shown: String = name.trim().chars().map(safe).collect();
    while shown.len() > MAX_FILE_NAME {
        shown.pop();
    }
    if shown.is_empty() { "file".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn copies_are_private_and_leave_with_their_owner() {
        let parent = tempfile::tempdir().unwrap();
        let source = parent.path().join("a.txt");
        std::fs::write(&source, "hello").unwrap();
        let spool = Spool::create(parent.path()).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(spool.path()), 0o700);
        let copied = spool.copy(Source::open("a.txt", &source).unwrap());
        let Content::Copy(file) = &copied.content else { panic!("not copied") };
        let path = file.path().to_owned();
        assert_eq!(mode(&path), 0o600);
        std::fs::write(&source, "other").unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            b"hello",
            "a later write to the source must not reach the copy"
        );
        drop(copied);
        assert!(!path.exists());
        let folder = spool.path().to_owned();
        drop(spool);
        assert!(!folder.exists());
    }

    #[test]
    fn what_is_not_a_file_is_refused_by_name() {
        let parent = tempfile::tempdir().unwrap();
        for (path, cause) in [("missing", "No such file"), ("", "not a regular file")] {
            let error = Source::open("x.pcap", &parent.path().join(path)).unwrap_err().to_string();
            assert!(error.contains("x.pcap") && error.contains(cause), "{error}");
        }
        let pipe = parent.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(Source::open("pipe", &pipe).is_err());
    }

    #[test]
    fn names_are_safe_to_save_under() {
        assert_eq!(shown_name("../../etc/passwd"), ".._.._etc_passwd");
        assert_eq!(shown_name(" \n"), "file");
        assert_eq!(shown_name(&"é".repeat(300)).len(), 254);
    }
}
