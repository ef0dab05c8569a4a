//! JSON lines in a file, put aside by size and age.
//!
//! ```text
//! items.jsonl ── full, or old ─► items-20261121T140000Z-000.jsonl ─► .jsonl.gz (by a thread of its own) ─► the oldest go
//! ```
//! Invariants: a line is in the file as a whole or not at all, but for a power cut; what the disk does not take is an error with
//! nothing of it left in the file; a file that is put aside is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;

/// When the disk is waited for (fsync). What was not may be lost in a power cut, not when the agent ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sync {
    /// Never.
    Never,
    /// When a file is put aside, and at the end.
    #[default]
    Rotate,
    /// After each batch: once a second, or for 500 items.
    Batch,
}

/// Where to, and when a file is put aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FileConfig {
    pub(super) path: PathBuf,
    pub(super) max_bytes: u64,
    pub(super) max_age: Option<Duration>,
    pub(super) keep: usize,
    pub(super) compress: bool,
    pub(super) sync: Sync,
}

/// The file that is written to.
#[derive(Debug)]
pub(super) struct JsonFile {
    config: FileConfig,
    file: File,
    /// What of it is whole lines.
    len: u64,
    since: SystemTime,
    /// Second and number of the file that was put aside last: names tell the order, also once that file is gone.
    last: (u64, u32),
    packing: Option<JoinHandle<()>>,
}

impl JsonFile {
    /// Opens the file, to go on with it where there is one.
    pub(super) fn open(config: FileConfig) -> io::Result<Self> {
        let (file, len) = open(&config.path)?;
        let since = SystemTime::now();
        Ok(Self { config, file, len, since, last: (0, 0), packing: None })
    }

    /// What a file may hold.
    pub(super) fn max_bytes(&self) -> u64 {
        self.config.max_bytes
    }

    /// Writes whole lines. Where that fails, nothing of them stays.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.len > 0 && (self.len + lines.len() as u64 > self.config.max_bytes || self.is_old()) {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // A disk that is full lets a file be cut.
            self.file.set_len(self.len)?;
            self.file.seek(SeekFrom::Start(self.len))?;
            return Err(error);
        }
        if self.len == 0 {
            self.since = SystemTime::now();
        }
        self.len += lines.len() as u64;
        if self.config.sync == Sync::Batch { self.file.sync_data() } else { Ok(()) }
    }

    /// Puts a file aside that is old, although nothing is written to it.
    pub(super) fn idle(&mut self) -> io::Result<()> {
        if self.len > 0 && self.is_old() { self.rotate() } else { Ok(()) }
    }

    /// The end.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.packed();
        if self.config.sync == Sync::Never { Ok(()) } else { self.file.sync_all() }
    }

    fn is_old(&self) -> bool {
        let age = self.since.elapsed().unwrap_or_default();
        self.config.max_age.is_some_and(|most| age >= most)
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.config.sync != Sync::Never {
            self.file.sync_all()?;
        }
        let aside = self.aside()?;
        fs::rename(&self.config.path, &aside)?;
        (self.file, self.len) = open(&self.config.path)?;
        self.since = SystemTime::now();
        // One at a time: the disk is not to be kept busy by more.
        self.packed();
        let (compress, path, keep) = (self.config.compress, self.config.path.clone(), self.config.keep);
        let pack = move || {
            if compress && let Err(error) = gzip(&aside) {
                tracing::warn!("sink: {}: gzip: {error}; it stays as it is", aside.display());
            }
            if let Err(error) = prune(&path, keep) {
                tracing::warn!("sink: old files of {}: {error}", path.display());
            }
        };
        self.packing = Some(std::thread::Builder::new().name("sink-pack".to_owned()).spawn(pack)?);
        Ok(())
    }

    fn packed(&mut self) {
        if let Some(packing) = self.packing.take() {
            // A panic there was told by its own thread.
            let _ = packing.join();
        }
    }

    /// A name by the present second that none has, or had.
    fn aside(&mut self) -> io::Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let first = if self.last.0 == now { self.last.1 + 1 } else { 0 };
        let time: String = crate::utc::text(now).chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let (stem, extension) = parts(&self.config.path);
        for number in first..1000 {
            let path = self.config.path.with_file_name(format!("{stem}-{time}-{number:03}{extension}"));
            if !path.exists() && !packed_name(&path).exists() {
                self.last = (now, number);
                return Ok(path);
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "a thousand files were put aside within a second"))
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    let mut len = file.seek(SeekFrom::End(0))?;
    if len > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(len - 1))?;
        file.read_exact(&mut last)?;
        // A line that was torn by a power cut must not tear the next one.
        if last != *b"\n" {
            file.write_all(b"\n")?;
            len += 1;
        }
    }
    Ok((file, len))
}

/// Name without and with its last extension's dot: `items`, `.jsonl`.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = text(path.extension());
    (text(path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
}

fn packed_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

fn gzip(path: &Path) -> io::Result<()> {
    let temporary = path.with_extension("gz.tmp");
    let mut from = File::open(path)?;
    let to = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    let mut encoder = GzEncoder::new(to, Compression::fast());
    let packed =
        io::copy(&mut from, &mut encoder).and_then(|_| encoder.finish()).and_then(|file| file.sync_all());
    match packed.and_then(|()| fs::rename(&temporary, packed_name(path))) {
        Ok(()) => fs::remove_file(path),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Removes the oldest files that were put aside past `keep`.
fn prune(path: &Path, keep: usize) -> io::Result<()> {
    let (stem, extension) = parts(path);
    let ours = |name: &str| {
        let name = name.strip_suffix(".gz").unwrap_or(name);
        let time = name
            .strip_prefix(&stem)
            .and_then(|n| n.strip_suffix(&extension))
            .and_then(|n| n.strip_prefix('-'));
        // 20261121T140000Z-000
        time.is_some_and(|time| {
            time.len() == 20 && time.bytes().all(|b| b.is_ascii_digit() || b"TZ-".contains(&b))
        })
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut old = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        if name.to_str().is_some_and(ours) {
            old.push(name);
        }
    }
    old.sort_unstable();
    for name in old.iter().take(old.len().saturating_sub(keep)) {
        fs::remove_file(folder.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: PathBuf) -> FileConfig {
        FileConfig { path, max_bytes: 10, max_age: None, keep: 3, compress: false, sync: Sync::Batch }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("items-of-others.jsonl"), "kept").unwrap();
        let mut file = JsonFile::open(config(dir.path().join("items.jsonl"))).unwrap();
        for n in 0..8 {
            file.write(format!("{n}234567\n").as_bytes()).unwrap();
        }
        file.close().unwrap();
        let names = names(dir.path());
        assert_eq!(names.len(), 5, "{names:?}");
        assert_eq!(fs::read_to_string(dir.path().join("items.jsonl")).unwrap(), "7234567\n");
        assert_eq!(fs::read_to_string(dir.path().join(&names[0])).unwrap(), "4234567\n");
    }

    #[test]
    fn old_files_are_packed_and_a_torn_line_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("items");
        fs::write(&path, "torn").unwrap();
        let mut file = JsonFile::open(FileConfig {
            compress: true,
            max_age: Some(Duration::ZERO),
            max_bytes: 1000,
            ..config(path)
        })
        .unwrap();
        file.write(b"a\n").unwrap();
        file.idle().unwrap();
        file.close().unwrap();
        let names = names(dir.path());
        assert!(names.iter().filter(|n| n.ends_with(".gz")).count() == 2 && names.len() == 3, "{names:?}");
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(dir.path().join(&names[1])).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "torn\n");
    }

    #[test]
    fn what_the_disk_does_not_take_leaves_nothing() {
        // /dev/full takes nothing; it cannot be cut either, which is an error as well.
        let (file, len) = open(Path::new("/dev/full")).unwrap();
        let mut full = JsonFile {
            config: config("/dev/full".into()),
            file,
            len,
            since: SystemTime::now(),
            last: (0, 0),
            packing: None,
        };
        assert!(full.write(b"a\n").is_err());
        assert_eq!(full.len, 0);
    }
}
