//! cgroup v2 folders.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::LiveError;

/// A cgroup v2 folder, opened.
#[derive(Debug)]
pub(super) struct Cgroup {
    pub(super) path: PathBuf,
    pub(super) folder: File,
}

impl Cgroup {
    /// Opens them all; those inside another one of the list are left out, or their packets would be seen twice.
    pub(super) fn find_all(paths: &[PathBuf]) -> Result<Vec<Self>, LiveError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let mount = mount_point().ok_or(LiveError::NoCgroup2)?;
        let mut resolved = paths.iter().map(|path| resolve(path, &mount)).collect::<Result<Vec<_>, _>>()?;
        resolved.sort();
        resolved.dedup();
        let outer = resolved.iter().filter(|path| {
            let inside = resolved.iter().any(|other| other != *path && path.starts_with(other));
            if inside {
                tracing::info!(cgroup = %path.display(), "inside another watched cgroup, which covers it");
            }
            !inside
        });
        outer.map(|path| open(path, &mount)).collect()
    }
}

impl Cgroup {
    /// The number by which the kernel calls it, and its depth below the root.
    pub(super) fn id_and_level(&self, mount: Option<&Path>) -> Result<(u64, u8), LiveError> {
        let fail = |cause: String| LiveError::NoCgroup {
            path: self.path.clone(),
            cause,
            mount: mount.unwrap_or(Path::new("")).to_owned(),
        };
        let id = self.folder.metadata().map_err(|e| fail(e.to_string()))?.ino();
        let below = mount.and_then(|mount| self.path.strip_prefix(mount).ok());
        let level = below.and_then(|below| u8::try_from(below.components().count()).ok());
        Ok((id, level.ok_or_else(|| fail(String::from("its depth is not known")))?))
    }
}

/// The real path: as given, or below the mount.
fn resolve(path: &Path, mount: &Path) -> Result<PathBuf, LiveError> {
    let below = mount.join(path.strip_prefix("/").unwrap_or(path));
    let given = path.is_absolute().then(|| path.canonicalize().ok()).flatten();
    let found = given.filter(|p| is_cgroup2(p)).or_else(|| below.canonicalize().ok());
    found.ok_or_else(|| LiveError::NoCgroup {
        path: path.to_owned(),
        cause: format!("neither it nor {} exists", below.display()),
        mount: mount.to_owned(),
    })
}

fn open(path: &Path, mount: &Path) -> Result<Cgroup, LiveError> {
    let fail = |cause: String| LiveError::NoCgroup { path: path.to_owned(), cause, mount: mount.to_owned() };
    let folder = File::open(path).map_err(|e| fail(e.to_string()))?;
    if !folder.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(fail(String::from("not a folder")));
    }
    if !on_cgroup2(&folder) {
        return Err(fail(String::from("on another file system")));
    }
    Ok(Cgroup { path: path.to_owned(), folder })
}

fn is_cgroup2(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| on_cgroup2(&file))
}

fn on_cgroup2(file: &File) -> bool {
    // SAFETY: all zeros is a valid statfs.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor, and a struct to write to that outlives the call.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut stat) };
    result == 0 && i128::from(stat.f_type) == i128::from(libc::CGROUP2_SUPER_MAGIC)
}

/// The id of this process' own cgroup, if it lies within one of these and holds this process alone: what its sockets
/// send and get is then the agent's own traffic, and nothing else.
#[must_use]
pub fn own_cgroup(watched: &[PathBuf]) -> Option<u64> {
    let mount = mount_point()?;
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = mount.join(own).canonicalize().ok()?;
    let inside =
        watched.iter().filter_map(|path| resolve(path, &mount).ok()).any(|path| own.starts_with(path));
    let processes = fs::read_to_string(own.join("cgroup.procs")).ok()?;
    let alone = processes.split_whitespace().eq([std::process::id().to_string()]);
    if inside && !alone {
        tracing::info!(
            cgroup = %own.display(),
            "this process shares its watched cgroup with others: its own traffic is captured too"
        );
    }
    (inside && alone).then(|| fs::metadata(&own).ok().map(|m| m.ino()))?
}

/// Where cgroup v2 is mounted in this mount namespace: at `/sys/fs/cgroup`, or at `/sys/fs/cgroup/unified` beside
/// version 1.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    parse_mount_point(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// proc(5): fields, then optional fields up to ` - `, then file system type.
fn parse_mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (fields, tail) = line.split_once(" - ")?;
        (tail.split(' ').next()? == "cgroup2").then(|| fields.split(' ').nth(4))?.map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_among_others() {
        let text = "24 1 0:22 / /proc rw - proc proc rw\n\
                    40 39 0:35 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
                    41 39 0:36 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(parse_mount_point(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(parse_mount_point("24 1 0:22 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn what_is_no_cgroup_is_refused_by_name() {
        let Some(mount) = mount_point() else {
            return; // Nothing to hold it against: covered by the parser's test.
        };
        for path in ["/proc", "no/such/cgroup-here", "/no/such/cgroup-here"] {
            let error = Cgroup::find_all(&[PathBuf::from(path)]).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(&mount.display().to_string()), "{error}");
        }
    }
}
