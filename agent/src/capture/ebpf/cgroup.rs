//! cgroup v2 folders, by path and by pattern.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::LiveError;
use super::pattern::{is_pattern, matches};
use crate::capture::WantedPods;
use crate::process::{container_id, pod_in_folder};

/// A cgroup v2 folder, opened.
#[derive(Debug)]
pub(super) struct Cgroup {
    pub(super) path: PathBuf,
    pub(super) folder: File,
    /// The kernel's number for it, which no later cgroup of the same name has.
    pub(super) id: u64,
}

/// The cgroups that were asked for, by path or by pattern.
#[derive(Debug)]
pub(super) struct Wanted {
    mount: PathBuf,
    /// Real paths of those that were named and there at the start.
    named: Vec<PathBuf>,
    /// Absolute, below the mount.
    patterns: Vec<PathBuf>,
    /// Of what these take in only the cgroups of pods, and of them those that are wanted; `None`: all of it.
    pods: Option<Arc<dyn WantedPods>>,
}

/// Folders that one look goes into at most.
const MAX_LOOKS: usize = 65_536;
/// Pods are that far below what was asked for at most: one level for the quality of service, some for nodes in containers.
const POD_DEPTH: usize = 6;
/// So far below the mount this process' own cgroup is looked for.
const OWN_DEPTH: usize = 16;

impl Wanted {
    /// # Errors
    /// When one that was named, not by a pattern, is not there or is no cgroup v2 folder.
    pub(super) fn new(paths: &[PathBuf]) -> Result<Option<Self>, LiveError> {
        if paths.is_empty() {
            return Ok(None);
        }
        let mount = mount_point().ok_or(LiveError::NoCgroup2)?;
        let (mut named, mut patterns) = (Vec::new(), Vec::new());
        for path in paths {
            if is_pattern(&path.to_string_lossy()) {
                let below = path.strip_prefix(&mount).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
                patterns.push(mount.join(below));
            } else {
                let path = resolve(path, &mount)?;
                open(&path, &mount)?;
                named.push(path);
            }
        }
        Ok(Some(Self { mount, named, patterns, pods: None }))
    }

    /// The same, of pods only, and of those that are wanted at the time of a look.
    pub(super) fn of_pods(self, pods: Option<Arc<dyn WantedPods>>) -> Self {
        Self { pods, ..self }
    }

    /// Whether what was found once is still wanted.
    pub(super) fn wants(&self, path: &Path) -> bool {
        let Some(pods) = &self.pods else { return true };
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        pod_in_folder(&name).is_some_and(|uid| pods.wants(&uid))
    }

    /// The paths of those that are there, sorted; without those inside another one, or their packets would be seen twice.
    pub(super) fn find(&self) -> Vec<PathBuf> {
        self.find_in(&mut BTreeSet::new())
    }

    /// The same. Adds to `folders` those in which something that comes or goes makes a difference.
    pub(super) fn find_in(&self, folders: &mut BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let mut walk = Walk { looks: MAX_LOOKS, found: Vec::new(), folders };
        for path in &self.named {
            walk.folders.extend(path.ancestors().skip(1).find(|outer| outer.is_dir()).map(Path::to_owned));
            if path.is_dir() {
                walk.found.push(path.clone());
            }
        }
        for pattern in &self.patterns {
            walk.expand(self.mount.clone(), pattern.strip_prefix(&self.mount).unwrap_or(pattern));
        }
        if let Some(pods) = &self.pods {
            let roots = std::mem::take(&mut walk.found);
            roots.into_iter().for_each(|root| walk.pods_below(root, &**pods, 0));
        }
        let Walk { looks, mut found, .. } = walk;
        if looks == 0 {
            tracing::warn!(
                "a cgroup pattern takes in too much: {MAX_LOOKS} folders were looked into, not all"
            );
        }
        found.sort();
        found.dedup();
        // Sorted by component, what is inside comes right behind what it is inside of.
        let mut outer: Vec<PathBuf> = Vec::new();
        for path in found {
            if outer.last().is_some_and(|last| path.starts_with(last)) {
                tracing::debug!(cgroup = %path.display(), "inside another watched cgroup, which covers it");
            } else {
                outer.push(path);
            }
        }
        outer
    }

    /// The same, with their ids.
    pub(super) fn there(&self, folders: &mut BTreeSet<PathBuf>) -> BTreeMap<PathBuf, u64> {
        let found = self.find_in(folders).into_iter();
        found.filter_map(|path| fs::metadata(&path).ok().map(|found| (path, found.ino()))).collect()
    }

    /// Whether it was asked for by path.
    pub(super) fn names(&self, path: &Path) -> bool {
        self.pods.is_none() && self.named.iter().any(|named| named == path)
    }

    pub(super) fn open(&self, path: &Path) -> Result<Cgroup, LiveError> {
        open(path, &self.mount)
    }
}

/// What one search came across.
struct Walk<'a> {
    /// Folders that may still be looked into.
    looks: usize,
    found: Vec<PathBuf>,
    /// Those that were looked into.
    folders: &'a mut BTreeSet<PathBuf>,
}

impl Walk<'_> {
    /// Whether `at` may still be looked into.
    fn enter(&mut self, at: &Path) -> bool {
        if self.looks == 0 {
            return false;
        }
        self.looks -= 1;
        if !self.folders.contains(at) {
            self.folders.insert(at.to_owned());
        }
        true
    }

    /// The folders below `at` that `rest` matches, component by component.
    fn expand(&mut self, at: PathBuf, rest: &Path) {
        let mut components = rest.components();
        let Some(first) = components.next() else {
            self.found.push(at);
            return;
        };
        let Component::Normal(first) = first else {
            return;
        };
        let (first, rest) = (first.to_string_lossy(), components.as_path());
        if !self.enter(&at) {
            return;
        }
        if !is_pattern(&first) {
            let next = at.join(&*first);
            if next.is_dir() {
                self.expand(next, rest);
            }
            return;
        }
        let Ok(entries) = fs::read_dir(&at) else {
            return;
        };
        for entry in entries.flatten() {
            // Symbolic links there are none of; the controllers' files are most of what there is.
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && matches(&first, &entry.file_name().to_string_lossy())
            {
                self.expand(entry.path(), rest);
            }
        }
    }

    /// The cgroups of wanted pods at `at` or below. What is in a pod is not looked into.
    fn pods_below(&mut self, at: PathBuf, pods: &dyn WantedPods, depth: usize) {
        let name = at.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(uid) = pod_in_folder(&name) {
            if pods.wants(&uid) {
                self.found.push(at);
            }
            return;
        }
        if depth == POD_DEPTH || container_id(&name).is_some() || !self.enter(&at) {
            return;
        }
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.pods_below(entry.path(), pods, depth + 1);
            }
        }
    }
}

impl Cgroup {
    /// The one at a path, as given or below the mount.
    pub(super) fn find(path: &Path) -> Result<Self, LiveError> {
        let mount = mount_point().ok_or(LiveError::NoCgroup2)?;
        open(&resolve(path, &mount)?, &mount)
    }

    /// The number by which the kernel calls it, and its depth below the root.
    pub(super) fn id_and_level(&self, mount: Option<&Path>) -> Result<(u64, u8), LiveError> {
        let fail = |cause: String| LiveError::NoCgroup {
            path: self.path.clone(),
            cause,
            mount: mount.unwrap_or(Path::new("")).to_owned(),
        };
        let below = mount.and_then(|mount| self.path.strip_prefix(mount).ok());
        let level = below.and_then(|below| u8::try_from(below.components().count()).ok());
        Ok((self.id, level.ok_or_else(|| fail(String::from("its depth is not known")))?))
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
    let metadata = folder.metadata().map_err(|e| fail(e.to_string()))?;
    if !metadata.is_dir() {
        return Err(fail(String::from("not a folder")));
    }
    if !on_cgroup2(&folder) {
        return Err(fail(String::from("on another file system")));
    }
    Ok(Cgroup { path: path.to_owned(), folder, id: metadata.ino() })
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

/// The id of this process' own cgroup, if it holds this process alone, or the processes of its container: what its sockets
/// send and get is then the agent's own traffic, and nothing else. Says so if that lies within what is `watched` and is shared
/// with others.
#[must_use]
pub fn own_cgroup(watched: &[PathBuf]) -> Option<u64> {
    let mount = mount_point()?;
    let own = own_folder(&mount)?;
    let inside =
        Wanted::new(watched).ok().flatten().is_some_and(|w| w.find().iter().any(|p| own.starts_with(p)));
    let processes = fs::read_to_string(own.join("cgroup.procs")).ok()?;
    let alone = processes.split_whitespace().eq([std::process::id().to_string()]);
    // The first process of a container: what else is there was begun by it, or by a probe.
    let alone = alone || (std::process::id() == 1 && container_id(&own.to_string_lossy()).is_some());
    if inside && !alone {
        tracing::info!(
            cgroup = %own.display(),
            "this process shares its watched cgroup with others: its own traffic is captured too"
        );
    }
    // Not only where it is inside now: a pattern may take it in later.
    alone.then(|| fs::metadata(&own).ok().map(|m| m.ino()))?
}

/// The folder of this process' own cgroup below the mount.
///
/// A process in a cgroup namespace of its own, as containers have it, sees itself at the root of what it is told, but the folders
/// below a mount of the node's show their processes by their numbers in the reader's pid namespace: the one that shows this
/// process' number is its own, for processes of other pid namespaces have none here.
fn own_folder(mount: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let told = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let pid = std::process::id().to_string();
    let holds = |folder: &Path| {
        fs::read_to_string(folder.join("cgroup.procs"))
            .is_ok_and(|processes| processes.split_whitespace().any(|process| process == pid))
    };
    let told = mount.join(told).canonicalize().ok().filter(|folder| holds(folder));
    told.or_else(|| {
        let mut waiting = vec![(mount.to_owned(), 0)];
        let mut looks = MAX_LOOKS;
        while let Some((folder, depth)) = waiting.pop() {
            if holds(&folder) {
                return Some(folder);
            }
            if depth == OWN_DEPTH || looks == 0 {
                continue;
            }
            looks -= 1;
            let below = fs::read_dir(&folder).into_iter().flatten().flatten();
            let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(folders.map(|entry| (entry.path(), depth + 1)));
        }
        None
    })
}

/// Where cgroup v2 is mounted in this mount namespace: at `/sys/fs/cgroup`, or at `/sys/fs/cgroup/unified` beside
/// version 1.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    parse_mount_point(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// Whether version 1 is mounted as well.
pub(super) fn has_version_1() -> bool {
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|text| text.contains(" - cgroup "))
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
    use std::sync::Mutex;

    use super::*;
    use crate::process::PodUid;

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
            let error = Wanted::new(&[PathBuf::from(path)]).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(&mount.display().to_string()), "{error}");
        }
    }

    #[test]
    fn patterns_take_in_folders_but_not_what_is_inside_of_them() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["a/pod1/c1", "a/pod1/c2", "a/pod2", "b/pod3", "a-pod"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("a/pod-file"), "").unwrap();
        let find = |named: &[&str], patterns: &[&str]| {
            let below = |paths: &[&str]| paths.iter().map(|p| root.path().join(p)).collect();
            let wanted = Wanted {
                mount: root.path().to_owned(),
                named: below(named),
                patterns: below(patterns),
                pods: None,
            };
            let strip = |path: PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
            wanted.find().into_iter().map(strip).collect::<Vec<_>>()
        };
        assert_eq!(find(&[], &["a/pod*"]), ["a/pod1", "a/pod2"]);
        assert_eq!(find(&[], &["*/pod?"]), ["a/pod1", "a/pod2", "b/pod3"]);
        assert_eq!(find(&["a/pod1"], &["a/pod*/c*"]), ["a/pod1"], "covered");
        assert_eq!(find(&["a", "a-pod"], &["a/*"]), ["a", "a-pod"]);
        assert_eq!(find(&["gone"], &["a/../b/*", "none/*"]), [""; 0]);
        let mut folders = BTreeSet::new();
        let mut walk = Walk { looks: 3, found: Vec::new(), folders: &mut folders };
        walk.expand(root.path().to_owned(), Path::new("*/pod*/c*"));
        assert_eq!(walk.looks, 0);
        assert!(walk.found.len() <= 2, "bounded");
        assert_eq!(folders.len(), 3);
    }

    #[derive(Debug)]
    struct Those(Mutex<Vec<PodUid>>);

    impl WantedPods for Those {
        fn wants(&self, uid: &PodUid) -> bool {
            self.0.lock().unwrap().contains(uid)
        }

        fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
    }

    #[test]
    fn of_pods_those_that_are_wanted() {
        let root = tempfile::tempdir().unwrap();
        let uid = |n: u32| format!("6f1b5c3e-2d4a-4c8e-9b57-{n:012}");
        let slice = |n: u32| format!("kubepods-burstable-pod{}.slice", uid(n).replace('-', "_"));
        let folders = [
            format!("kubepods/burstable/pod{}/{}", uid(1), "0a".repeat(32)),
            format!("kubepods/pod{}", uid(2)),
            format!("kubepods.slice/kubepods-burstable.slice/{}", slice(3)),
            format!(
                "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-{}",
                slice(4)
            ),
            format!("system.slice/pod{}", uid(5)),
        ];
        folders.iter().for_each(|folder| fs::create_dir_all(root.path().join(folder)).unwrap());
        let pods = Arc::new(Those(Mutex::default()));
        let patterns = ["kubepods*", "kubelet*/kubelet-kubepods*"].map(|p| root.path().join(p)).to_vec();
        let wanted = Wanted { mount: root.path().to_owned(), named: Vec::new(), patterns, pods: None };
        assert_eq!(wanted.find().len(), 3, "whole");
        let wanted = wanted.of_pods(Some(Arc::clone(&pods) as Arc<dyn WantedPods>));
        assert_eq!(wanted.find(), Vec::<PathBuf>::new(), "nobody is known yet");
        *pods.0.lock().unwrap() = [1, 2, 3, 4, 5].map(|n| PodUid::parse(&uid(n)).unwrap()).to_vec();
        let mut looked = BTreeSet::new();
        let found = wanted.find_in(&mut looked);
        assert_eq!(found.len(), 4, "{found:?}");
        // The root, both kubepods, kubelet.slice and kubelet-kubepods, and a class in each of three trees.
        assert_eq!(looked.len(), 1 + 2 + 2 + 3, "{looked:?}");
        assert!(
            found.iter().all(|path| wanted.wants(path)) && found.iter().any(|p| p.ends_with(&folders[2]))
        );
        pods.0.lock().unwrap().remove(2);
        assert_eq!(wanted.find().len(), 3);
        assert!(!wanted.wants(&root.path().join(&folders[2])));
    }
}
