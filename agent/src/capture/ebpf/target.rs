//! What is watched, and whether it is still there: an interface can be removed, a cgroup end, while the programs that
//! hung there go with it in silence.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// An interface or a cgroup that programs were attached to.
#[derive(Debug)]
pub(super) struct Target {
    name: String,
    place: Place,
    gone: bool,
}

/// What does not change while it is there.
#[derive(Debug)]
enum Place {
    /// Number of the interface.
    Interface(u32),
    /// The folder and its number, which is the cgroup's id.
    Cgroup(PathBuf, u64),
}

impl Target {
    pub(super) fn interface(name: &str, index: u32) -> Self {
        Self { name: format!("interface {name}"), place: Place::Interface(index), gone: false }
    }

    pub(super) fn cgroup(folder: PathBuf, id: u64) -> Self {
        Self { name: format!("cgroup {}", folder.display()), place: Place::Cgroup(folder, id), gone: false }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Looks whether it is there; its name if it has gone since the last look.
    pub(super) fn look(&mut self) -> Option<&str> {
        if self.gone {
            return None;
        }
        self.gone = match &self.place {
            // Not by if_indextoname, which in nix 0.30 finds every number.
            Place::Interface(index) => nix::net::if_::if_nameindex()
                .is_ok_and(|all| all.iter().all(|interface| interface.index() != *index)),
            Place::Cgroup(folder, id) => !fs::metadata(folder).is_ok_and(|found| found.ino() == *id),
        };
        self.gone.then_some(self.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_told_once() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        let mut lo = Target::interface("lo", index);
        assert_eq!(lo.look(), None);
        assert!(!lo.is_gone());
        let mut none = Target::interface("none", u32::MAX >> 1);
        assert_eq!(none.look(), Some("interface none"));
        assert_eq!(none.look(), None);
        assert!(none.is_gone());

        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("c");
        fs::create_dir(&folder).unwrap();
        let mut cgroup = Target::cgroup(folder.clone(), fs::metadata(&folder).unwrap().ino());
        assert_eq!(cgroup.look(), None);
        fs::remove_dir(&folder).unwrap();
        assert!(cgroup.look().is_some_and(|name| name.ends_with("/c")));
    }
}
