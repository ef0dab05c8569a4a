//! The outbox's own copies of attachments: one file each, named by the delivery and a number.
//!
//! Files are copied, never hard-linked: a script may write to the same path again, which truncates the
//! inode that a link would share. On file systems with reflinks the kernel makes the copy cheap by itself.
//!
//! Invariants: copies are 0600 in a 0700 folder; a copy is on the disk before the delivery that names it is; it goes after
//! that, and what a crash left in between is collected at the next start. A bad source is the script's error; a
//! file that is too big, or that there is no room for, becomes a reason that the message tells.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::OutboxError;
use super::delivery::{Attachment, Body, DeliveryId};

/// Longest file name shown, in bytes: what file systems take.
const MAX_FILE_NAME: usize = 255;

/// A folder of copies.
#[derive(Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
    /// Whether a copy is on the disk for good before it is named.
    sync: bool,
    /// Bytes of the disk that attachments leave free, so that texts still find room.
    reserve: u64,
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
        Attachment { name: self.name, size: self.size, body: Body::Missing(reason) }
    }
}

/// What attachments leave free of the disk of this folder, at most `most` bytes: a small disk's share is small, so that the
/// rest is of use. The store leaves five times as much, so what it would not take is there for attachments.
pub(super) fn reserve(folder: &Path, most: u64) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(folder)?;
    Ok(most.min(disk.blocks().saturating_mul(disk.fragment_size()) / 100))
}

impl Blobs {
    pub(super) fn open(folder: PathBuf, sync: bool, reserve: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, sync, reserve })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Copies what the source holds now. A source that shrinks meanwhile gives a shorter copy. [`Blobs::settle`] must follow
    /// before the copy is named anywhere.
    pub(super) fn copy(&self, mut source: Source, of: DeliveryId, number: usize) -> Attachment {
        let name = format!("{}-{number}", of.0);
        let path = self.path(&name);
        match self.copy_bytes(&mut source, &path) {
            Ok(size) => Attachment { name: source.name, size, body: Body::Copy(name) },
            Err(error) => {
                // A part of it is of no use, and its bytes may be the last that are free.
                let _ = std::fs::remove_file(&path);
                tracing::warn!("outbox: {} could not be copied: {error}", source.path.display());
                source.without_content(format!("it could not be copied: {error}"))
            }
        }
    }

    /// Makes the names of new copies last.
    pub(super) fn settle(&self) -> io::Result<()> {
        if self.sync { File::open(&self.folder)?.sync_all() } else { Ok(()) }
    }

    /// Whether this file may be copied without touching the reserve.
    fn room(&self, size: u64) -> io::Result<()> {
        let disk = nix::sys::statvfs::statvfs(&self.folder)?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        if free < size.saturating_add(self.reserve) {
            let message = format!("only {} MiB are free on the disk", free >> 20);
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        Ok(())
    }

    fn copy_bytes(&self, source: &mut Source, target: &Path) -> io::Result<u64> {
        let size = source.size;
        self.room(size)?;
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
        // `io::copy` between files is copy_file_range where the kernel has it.
        let copied = io::copy(&mut source.file.by_ref().take(size), &mut target)?;
        if self.sync {
            target.sync_all()?;
        }
        Ok(copied)
    }

    /// Removes copies that nobody needs any more.
    pub(super) fn remove<'a>(&self, files: impl IntoIterator<Item = &'a Attachment>) {
        for file in files {
            if let Body::Copy(name) = &file.body
                && let Err(error) = std::fs::remove_file(self.path(name))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("outbox: copy {name} cannot be removed: {error}");
            }
        }
    }

    /// Removes copies that no delivery names; how many.
    pub(super) fn collect(&self, named: &HashSet<String>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let known = entry.file_name().to_str().is_some_and(|name| named.contains(name));
            if !known && std::fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }
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
    fn copies_are_private_and_are_collected() {
        let parent = tempfile::tempdir().unwrap();
        let source = parent.path().join("a.txt");
        std::fs::write(&source, "hello").unwrap();
        let folder = parent.path().join("blobs");
        let blobs = Blobs::open(folder.clone(), true, 0).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        let copy = |number| blobs.copy(Source::open("a.txt", &source).unwrap(), DeliveryId(7), number);
        let (first, second) = (copy(0), copy(1));
        let path = blobs.path("7-0");
        assert_eq!(mode(&path), 0o600);
        std::fs::write(&source, "other").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello", "a later write must not reach the copy");
        assert_eq!(blobs.collect(&HashSet::from(["7-0".to_owned()])).unwrap(), 1);
        assert!(path.exists() && !blobs.path("7-1").exists());
        blobs.remove([&first, &second]);
        assert!(!path.exists());
    }

    #[test]
    fn without_room_the_file_becomes_a_reason() {
        let parent = tempfile::tempdir().unwrap();
        let source = parent.path().join("a.pcap");
        std::fs::write(&source, "hello").unwrap();
        let blobs = Blobs::open(parent.path().join("blobs"), false, u64::MAX / 2).unwrap();
        let copied = blobs.copy(Source::open("a.pcap", &source).unwrap(), DeliveryId(1), 0);
        let Body::Missing(reason) = &copied.body else { panic!("{copied:?}") };
        assert!(reason.contains("MiB are free"), "{reason}");
        assert_eq!((copied.size, copied.name.as_str()), (5, "a.pcap"));
        assert_eq!(std::fs::read_dir(parent.path().join("blobs")).unwrap().count(), 0);
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
