//! A script's data folder: every path stays inside it, every byte within the quota.
//!
//! Paths are opened through `cap_std`, component by component, so that neither `..` nor a symbolic link leads out,
//! whatever changes meanwhile. The folder of the PCAP store may be read in the same way. Quota counts whole 4 KiB
//! blocks, one at least for each file and folder, as a disk does.

use std::cell::OnceCell;
use std::io::{self, Read as _, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};

use crate::hooks::limits::size_text;

const BLOCK: u64 = 4096;
/// Folders inside each other.
const DEEPEST: usize = 32;

/// Why a file operation failed. Words only: the caller names helper and argument.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("{0:?} leaves the script's data folder")]
    Outside(String),
    #[error("{0:?} is in the PCAP folder, which may only be read")]
    ReadOnly(String),
    #[error("{0:?} is the data folder itself")]
    Root(String),
    #[error("{0:?} is not a file")]
    NotAFile(String),
    #[error("{0:?} lies more than {DEEPEST} folders deep")]
    TooDeep(String),
    #[error("{path:?} is {size} bytes long, more than the {} that can be read", size_text(*longest))]
    TooLarge { path: String, size: u64, longest: u64 },
    #[error("{0:?} is not UTF-8 text")]
    NotText(String),
    #[error("the script's quota of {} is used up ({used} bytes are in use, {needed} more are needed)", size_text(*quota))]
    Quota { quota: u64, used: u64, needed: u64 },
    #[error("{path:?}: {source}")]
    Io { path: String, source: io::Error },
    #[error("the script's data folder cannot be made: {0}")]
    NoFolder(String),
}

type Result<T> = std::result::Result<T, FolderError>;

/// Where a path leads.
enum Spot {
    /// Relative to the data folder; `.` is the folder itself.
    Own(PathBuf),
    /// A PCAP folder, and the path relative to it.
    Pcap(PathBuf, PathBuf),
}

struct Root {
    dir: Dir,
    path: PathBuf,
}

pub(super) struct Folder {
    wanted: PathBuf,
    root: OnceCell<Root>,
    pcap: Vec<PathBuf>,
    quota: u64,
    /// Shared by the versions of one script: two may run for a moment while it is replaced.
    used: Arc<AtomicU64>,
}

fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).max(1) * BLOCK
}

impl Folder {
    /// A folder at `wanted`, made when it is first needed. `pcap`: folders that may be read.
    pub(super) fn new(wanted: PathBuf, pcap: Vec<PathBuf>, quota: u64, used: Arc<AtomicU64>) -> Self {
        Self { wanted, root: OnceCell::new(), pcap, quota, used }
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn set_used(&self, bytes: u64) {
        self.used.store(bytes, Ordering::Relaxed);
    }

    /// `now` bytes take the place of `old` ones.
    fn change(&self, old: u64, now: u64) {
        let change = |used: u64| Some(used.saturating_sub(old).saturating_add(now));
        // Err: never, the closure always has an answer.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    fn root(&self) -> Result<&Root> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let open = || -> io::Result<Root> {
            std::fs::create_dir_all(&self.wanted)?;
            let path = self.wanted.canonicalize()?;
            Ok(Root { dir: Dir::open_ambient_dir(&path, ambient_authority())?, path })
        };
        let root = open().map_err(|error| FolderError::NoFolder(error.to_string()))?;
        // What an earlier run left counts too.
        self.set_used(tree_size(&root.dir, Path::new(".")).map_err(|error| io_error("", error))?);
        Ok(self.root.get_or_init(|| root))
    }

    /// Where a script's path leads, by its words alone.
    fn spot(&self, path: &str) -> Result<Spot> {
        let given = Path::new(path);
        if path.contains('\0') || given.components().any(|part| part == Component::ParentDir) {
            return Err(FolderError::Outside(path.to_owned()));
        }
        if given.is_relative() {
            return normal(given, path).map(Spot::Own);
        }
        let root = self.root()?;
        if let Ok(inside) = given.strip_prefix(&root.path) {
            return normal(inside, path).map(Spot::Own);
        }
        for folder in &self.pcap {
            for known in [Some(folder.clone()), folder.canonicalize().ok()].into_iter().flatten() {
                if let Ok(inside) = given.strip_prefix(known) {
                    return normal(inside, path).map(|inside| Spot::Pcap(folder.clone(), inside));
                }
            }
        }
        Err(FolderError::Outside(path.to_owned()))
    }

    /// A path in the data folder that may be changed, and not the folder itself.
    fn own(&self, path: &str) -> Result<(&Dir, PathBuf)> {
        let (dir, inside) = self.own_or_root(path)?;
        if inside == Path::new(".") { Err(FolderError::Root(path.to_owned())) } else { Ok((dir, inside)) }
    }

    fn own_or_root(&self, path: &str) -> Result<(&Dir, PathBuf)> {
        match self.spot(path)? {
            Spot::Own(inside) => Ok((&self.root()?.dir, inside)),
            Spot::Pcap(..) => Err(FolderError::ReadOnly(path.to_owned())),
        }
    }

    /// Opens a regular file for reading, in the data or the PCAP folder.
    fn open(&self, path: &str) -> Result<(File, u64)> {
        let opened = match self.spot(path)? {
            Spot::Own(inside) => open_regular(&self.root()?.dir, &inside),
            Spot::Pcap(folder, inside) => {
                Dir::open_ambient_dir(folder, ambient_authority()).and_then(|dir| open_regular(&dir, &inside))
            }
        };
        opened.map_err(|error| io_error(path, error))?.ok_or_else(|| FolderError::NotAFile(path.to_owned()))
    }

    /// The absolute path of a regular file that the script may read, for those who open it on its behalf.
    pub(super) fn readable_path(&self, path: &str) -> Result<PathBuf> {
        self.open(path)?;
        match self.spot(path)? {
            Spot::Own(inside) => Ok(self.root()?.path.join(inside)),
            Spot::Pcap(..) => Ok(PathBuf::from(path)),
        }
    }

    pub(super) fn read(&self, path: &str, longest: u64) -> Result<String> {
        let (mut file, size) = self.open(path)?;
        if size > longest {
            return Err(FolderError::TooLarge { path: path.to_owned(), size, longest });
        }
        let mut bytes = Vec::new();
        (&mut file).take(longest).read_to_end(&mut bytes).map_err(|error| io_error(path, error))?;
        String::from_utf8(bytes).map_err(|_| FolderError::NotText(path.to_owned()))
    }

    /// Creates or truncates (`append` false), or appends.
    pub(super) fn write(&self, path: &str, text: &str, append: bool) -> Result<()> {
        let (dir, inside) = self.own(path)?;
        let old = existing_size(dir, &inside);
        let kept = if append { old.unwrap_or(0) } else { 0 };
        self.reserve(old.map_or(0, blocks), blocks(kept + text.len() as u64))?;
        let mut options = OpenOptions::new();
        options.create(true).append(append).write(true).truncate(!append);
        let written = dir.open_with(&inside, &options).and_then(|mut file| file.write_all(text.as_bytes()));
        self.settle(old.map_or(0, blocks), dir, &inside);
        written.map_err(|error| io_error(path, error))
    }

    /// Renames inside the data folder; an existing file there is replaced.
    pub(super) fn rename(&self, old: &str, new: &str) -> Result<()> {
        let (dir, from) = self.own(old)?;
        let (_, to) = self.own(new)?;
        let height = tree_height(dir, &from).map_err(|error| io_error(old, error))?;
        if to.components().count() + height > DEEPEST {
            return Err(FolderError::TooDeep(new.to_owned()));
        }
        let replaced = if from == to { 0 } else { existing_size(dir, &to).map_or(0, blocks) };
        dir.rename(&from, dir, &to).map_err(|error| io_error(old, error))?;
        self.change(replaced, 0);
        Ok(())
    }

    /// Copies a file of the data or the PCAP folder into the data folder.
    pub(super) fn copy(&self, src: &str, dst: &str) -> Result<()> {
        let (mut source, size) = self.open(src)?;
        let (dir, to) = self.own(dst)?;
        if matches!(self.spot(src)?, Spot::Own(from) if from == to) {
            return Ok(());
        }
        let old = existing_size(dir, &to).map_or(0, blocks);
        self.reserve(old, blocks(size))?;
        // A capture file may be growing: no more than was reserved.
        let copied = dir.create(&to).and_then(|mut file| io::copy(&mut (&mut source).take(size), &mut file));
        self.settle(old, dir, &to);
        copied.map(drop).map_err(|error| io_error(dst, error))
    }

    /// Removes a file, or a folder with all in it. What is not there is no error.
    pub(super) fn delete(&self, path: &str) -> Result<()> {
        let (dir, inside) = self.own(path)?;
        let metadata = match dir.symlink_metadata(&inside) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error(path, error)),
        };
        let removed = if metadata.is_dir() { dir.remove_dir_all(&inside) } else { dir.remove_file(&inside) };
        // Counted anew: a removal may have stopped half-way.
        self.set_used(tree_size(dir, Path::new(".")).map_err(|error| io_error(path, error))?);
        removed.map_err(|error| io_error(path, error))
    }

    /// Makes a folder, its parents too.
    pub(super) fn make_dir(&self, path: &str) -> Result<()> {
        let (dir, inside) = self.own_or_root(path)?;
        let missing =
            inside.ancestors().filter(|part| !part.as_os_str().is_empty() && !dir.exists(part)).count();
        let needed = missing as u64 * BLOCK;
        self.reserve(0, needed)?;
        dir.create_dir_all(&inside).map_err(|error| io_error(path, error))?;
        self.change(0, needed);
        Ok(())
    }

    /// A new empty file `NAME-RANDOM.EXTENSION` in `dir`; its absolute path.
    pub(super) fn temp(&self, name: &str, dir: &str, extension: &str) -> Result<PathBuf> {
        self.reserve(0, BLOCK)?;
        self.fresh(name, dir, &format!(".{extension}"), |root, path| {
            root.open_with(path, OpenOptions::new().write(true).create_new(true)).map(drop)
        })
    }

    /// A new folder `NAME-RANDOM` in `dir`; its absolute path.
    pub(super) fn temp_dir(&self, name: &str, dir: &str) -> Result<PathBuf> {
        self.reserve(0, BLOCK)?;
        self.fresh(name, dir, "", |root, path| root.create_dir(path))
    }

    fn fresh(
        &self,
        name: &str,
        dir: &str,
        ending: &str,
        create: impl Fn(&Dir, &Path) -> io::Result<()>,
    ) -> Result<PathBuf> {
        if name.contains('/') || ending.contains('/') {
            return Err(FolderError::Outside(format!("{name}{ending}")));
        }
        let (root, parent) = self.own_or_root(dir)?;
        let random = std::hash::RandomState::new();
        for attempt in 0u32..100 {
            let number = std::hash::BuildHasher::hash_one(&random, attempt);
            let path = normal(&parent.join(format!("{name}-{number:016x}{ending}")), dir)?;
            match create(root, &path) {
                Ok(()) => {
                    self.change(0, BLOCK);
                    return Ok(self.root()?.path.join(path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error(dir, error)),
            }
        }
        Err(io_error(dir, io::ErrorKind::AlreadyExists.into()))
    }

    /// Packs a folder of the data folder into a new `.tar.gz` beside it; its absolute path.
    pub(super) fn pack(&self, dir: &str, out_of_time: &dyn Fn() -> bool) -> Result<PathBuf> {
        let (root, inside) = self.own_or_root(dir)?;
        if !root.is_dir(&inside) {
            return Err(io_error(dir, io::ErrorKind::NotADirectory.into()));
        }
        let name = inside.file_name().map_or("data", |name| name.to_str().unwrap_or("data"));
        let parent = inside.parent().and_then(Path::to_str).unwrap_or_default();
        let archive = self.temp(name, parent, "tar.gz")?;
        let at = archive.strip_prefix(&self.root()?.path).unwrap_or(&archive).to_owned();
        let room = self.quota.saturating_sub(self.used()) + BLOCK;
        let packed = root
            .create(&at)
            .and_then(|file| super::tarball::write(root, &inside, &at, Bounded { file, room, out_of_time }));
        self.settle(BLOCK, root, &at);
        match packed {
            Ok(()) => Ok(archive),
            Err(error) => {
                let quota = self.quota;
                let used = self.used();
                self.delete(&archive.to_string_lossy())?;
                if error.kind() == io::ErrorKind::QuotaExceeded {
                    return Err(FolderError::Quota { quota, used, needed: BLOCK });
                }
                Err(io_error(dir, error))
            }
        }
    }

    /// Whether `new` blocks may take the place of `old` ones.
    fn reserve(&self, old: u64, new: u64) -> Result<()> {
        self.root()?;
        let used = self.used();
        if used.saturating_sub(old).saturating_add(new) > self.quota {
            return Err(FolderError::Quota { quota: self.quota, used, needed: new.saturating_sub(old) });
        }
        Ok(())
    }

    /// Counts what became of a file that held `old` blocks.
    fn settle(&self, old: u64, dir: &Dir, inside: &Path) {
        let now = existing_size(dir, inside).map_or(0, blocks);
        self.change(old, now);
    }
}

/// Stops an archive at the quota and at the end of the call's time.
struct Bounded<'a> {
    file: File,
    room: u64,
    out_of_time: &'a dyn Fn() -> bool,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if (self.out_of_time)() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the call's time is over"));
        }
        let written = self.file.write(bytes)?;
        self.room -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn normal(path: &Path, shown: &str) -> Result<PathBuf> {
    let parts: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if parts.components().count() > DEEPEST {
        return Err(FolderError::TooDeep(shown.to_owned()));
    }
    Ok(if parts.as_os_str().is_empty() { PathBuf::from(".") } else { parts })
}

fn open_regular(dir: &Dir, path: &Path) -> io::Result<Option<(File, u64)>> {
    if !dir.metadata(path)?.is_file() {
        return Ok(None);
    }
    let file = dir.open(path)?;
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata.len())))
}

fn existing_size(dir: &Dir, path: &Path) -> Option<u64> {
    dir.symlink_metadata(path).ok().map(|metadata| if metadata.is_file() { metadata.len() } else { 0 })
}

/// All entries below `start`, parents first, without following links.
pub(super) fn walk(dir: &Dir, start: &Path) -> io::Result<Vec<(PathBuf, cap_std::fs::Metadata)>> {
    let mut found = Vec::new();
    let mut open = vec![start.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in dir.read_dir(&folder)? {
            let entry = entry?;
            let path = if folder == Path::new(".") {
                entry.file_name().into()
            } else {
                folder.join(entry.file_name())
            };
            let metadata = dir.symlink_metadata(&path)?;
            if metadata.is_dir() {
                open.push(path.clone());
            }
            found.push((path, metadata));
        }
    }
    Ok(found)
}

fn tree_size(dir: &Dir, start: &Path) -> io::Result<u64> {
    let of =
        |metadata: &cap_std::fs::Metadata| if metadata.is_file() { blocks(metadata.len()) } else { BLOCK };
    Ok(walk(dir, start)?.iter().map(|(_, metadata)| of(metadata)).sum())
}

/// How many folders deep the tree below a path goes; 0 for a file.
fn tree_height(dir: &Dir, path: &Path) -> io::Result<usize> {
    if !dir.symlink_metadata(path)?.is_dir() {
        return Ok(0);
    }
    let base = path.components().count();
    Ok(walk(dir, path)?.iter().map(|(below, _)| below.components().count() - base).max().unwrap_or(0))
}

fn io_error(path: &str, error: io::Error) -> FolderError {
    // cap_std's word for a way out, by a symbolic link for instance.
    if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
        return FolderError::Outside(path.to_owned());
    }
    if error.raw_os_error() == Some(libc::EXDEV) {
        return FolderError::Outside(path.to_owned());
    }
    FolderError::Io { path: path.to_owned(), source: error }
}
