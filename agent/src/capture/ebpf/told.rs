//! Folders of cgroups in which others come and go: the kernel says when to look again.
//!
//! Events are hints and nothing else: whoever is told looks at what there is. A folder is watched before it is known what
//! lies in it, or it is looked into once more; so nothing that is made in between is missed.
//!
//! Bounds: [`MOST`] folders. Where more are asked for, or the kernel gives no watch, [`Folders::sees_all`] says no, and who
//! asks looks by the clock as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Folders that are watched at once.
const MOST: usize = 16_384;

/// Watched folders.
#[derive(Debug)]
pub(super) struct Folders {
    inotify: Inotify,
    /// By the folder's number: another one of the same name has another.
    watched: BTreeMap<u64, WatchDescriptor>,
    most: usize,
    /// Some folder is not watched.
    blind: bool,
}

impl Folders {
    /// None yet. `None`: there is no inotify to be had, as the log says.
    pub(super) fn new() -> Option<Self> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        match Inotify::init(flags) {
            Ok(inotify) => Some(Self { inotify, watched: BTreeMap::new(), most: MOST, blind: false }),
            Err(error) => {
                tracing::warn!(
                    "cgroups are looked at by the clock: inotify: {error} (raise fs.inotify.max_user_instances)"
                );
                None
            }
        }
    }

    /// Watches these and no others. Whether some are watched only from now on: what was read of them may be old.
    pub(super) fn follow(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        // What is gone meanwhile is told of by the folder around it.
        let wanted: BTreeMap<u64, &Path> =
            folders.iter().filter_map(|folder| Some((fs::metadata(folder).ok()?.ino(), &**folder))).collect();
        self.watched.retain(|number, descriptor| {
            let keep = wanted.contains_key(number);
            if !keep {
                // Where the folder is gone, the kernel may have removed it.
                let _ = self.inotify.rm_watch(*descriptor);
            }
            keep
        });
        let (mut fresh, mut refused) = (false, None);
        for (number, folder) in wanted {
            if self.watched.contains_key(&number) {
                continue;
            }
            match self.watch(folder) {
                Ok(descriptor) => {
                    self.watched.insert(number, descriptor);
                    fresh = true;
                }
                Err(Errno::ENOENT) => {}
                Err(error) => {
                    refused.get_or_insert((folder, error));
                }
            }
        }
        if let (Some((folder, error)), false) = (refused, self.blind) {
            tracing::warn!(
                "cgroups in {} are looked at by the clock: inotify: {error} (raise fs.inotify.max_user_watches)",
                folder.display()
            );
        }
        self.blind = refused.is_some();
        fresh
    }

    fn watch(&self, folder: &Path) -> Result<WatchDescriptor, Errno> {
        if self.watched.len() >= self.most {
            return Err(Errno::ENOSPC);
        }
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        self.inotify.add_watch(folder, flags)
    }

    /// Whether nothing comes or goes unheard.
    pub(super) fn sees_all(&self) -> bool {
        !self.blind
    }

    /// Forgets what was told. Whether anything was.
    pub(super) fn drain(&self) -> bool {
        let mut told = false;
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {
            told = true;
        }
        told
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::process::Command;

    use super::*;

    fn set(folders: &[&Path]) -> BTreeSet<PathBuf> {
        folders.iter().map(|folder| (*folder).to_owned()).collect()
    }

    /// Watches that the kernel holds for it.
    fn held(folders: &Folders) -> usize {
        let info = format!("/proc/self/fdinfo/{}", folders.inotify.as_fd().as_raw_fd());
        fs::read_to_string(info).unwrap().matches("inotify wd:").count()
    }

    #[test]
    fn what_comes_and_goes_is_told_and_what_is_no_longer_asked_for_is_let_go() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        let mut folders = Folders::new().unwrap();
        assert!(folders.follow(&set(&[root.path(), &a])), "new, but for what is not there");
        assert!(!folders.follow(&set(&[root.path(), &a])) && !folders.drain());
        fs::create_dir(&a).unwrap();
        assert!(folders.drain() && !folders.drain());
        assert!(folders.follow(&set(&[root.path(), &a])));
        fs::create_dir(a.join("within")).unwrap();
        assert!(folders.drain());
        fs::remove_dir(a.join("within")).unwrap();
        assert!(folders.drain(), "what goes is told, too");
        assert_eq!(held(&folders), 2);
        // Another folder of the same name.
        fs::remove_dir_all(&a).unwrap();
        fs::create_dir(&b).unwrap();
        fs::create_dir(&a).unwrap();
        assert!(folders.drain() && folders.follow(&set(&[root.path(), &a])));
        folders.drain();
        fs::create_dir(a.join("within")).unwrap();
        assert!(folders.drain());
        assert!(!folders.follow(&set(&[root.path()])) && folders.sees_all());
        assert_eq!(held(&folders), 1);
        folders.drain();
        fs::create_dir(a.join("another")).unwrap();
        assert!(!folders.drain(), "nobody asks any more");
    }

    #[test]
    fn all_that_was_told_is_forgotten_at_once_and_nothing_goes_to_programs_it_starts() {
        let root = tempfile::tempdir().unwrap();
        let mut folders = Folders::new().unwrap();
        assert!(folders.follow(&set(&[root.path()])));
        // More than one read brings.
        (0..1_000).for_each(|n| fs::create_dir(root.path().join(n.to_string())).unwrap());
        assert!(folders.drain() && !folders.drain());
        let flags = nix::fcntl::fcntl(&folders, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
        // What has become a file is no folder to watch.
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(!folders.follow(&set(&[root.path(), &file])) && !folders.sees_all());
        assert_eq!(held(&folders), 1);
    }

    #[test]
    fn without_room_for_all_it_does_not_see_all_until_there_is() {
        let root = tempfile::tempdir().unwrap();
        let all: Vec<PathBuf> = (0..3).map(|n| root.path().join(n.to_string())).collect();
        all.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let all: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
        let mut folders = Folders { most: 2, ..Folders::new().unwrap() };
        assert!(folders.follow(&set(&all)) && !folders.sees_all());
        assert!(!folders.follow(&set(&all)) && !folders.sees_all(), "the others are watched");
        assert_eq!(held(&folders), 2);
        assert!(folders.follow(&set(&all[1..])) && folders.sees_all());
    }

    const ALONE: &str = "REMORA_TEST_FEW_WATCHES";

    /// In a user namespace of its own, which may have a limit of its own.
    #[test]
    fn a_kernel_that_gives_no_more_watches_is_no_trouble() {
        if std::env::var_os(ALONE).is_none() {
            let name = "capture::ebpf::told::tests::a_kernel_that_gives_no_more_watches_is_no_trouble";
            let script = "echo 1 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
            let output = Command::new("unshare")
                .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", name, "--test-threads=1", "--nocapture"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| root.path().join(name));
        [&a, &b].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let mut folders = Folders::new().unwrap();
        assert!(folders.follow(&set(&[&a])) && folders.sees_all());
        assert!(!folders.follow(&set(&[&a, &b])) && !folders.sees_all());
        assert!(folders.follow(&set(&[&b])) && folders.sees_all(), "there is room again");
    }
}
