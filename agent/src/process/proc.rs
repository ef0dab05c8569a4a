//! What /proc says of a process. Every answer is of one moment: the process may be gone the next, and its number
//! another's, so who asks compares [`Stat::started`].

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

/// Longest file of /proc/PID that is read here, in bytes.
const MOST: u64 = 16_384;

/// Inode of the machine's own pid namespace, `PROC_PID_INIT_INO` of `linux/proc_ns.h`.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Of `/proc/PID/stat`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Name of its first thread.
    pub name: String,
    /// Parent's process id.
    pub parent: u32,
    /// When it was started: nanoseconds since boot, rounded down to a tick.
    pub started: u64,
}

/// Whether this /proc counts processes as the kernel does: it is of the machine's own pid namespace, and so is the
/// caller.
#[must_use]
pub fn is_of_the_machine() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == INITIAL_PID_NAMESPACE)
}

/// Of a process, if it is there.
#[must_use]
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&read(pid, "stat")?)
}

/// The lines of its `cgroup` file, if it is there.
#[must_use]
pub fn cgroup(pid: u32) -> Option<String> {
    read(pid, "cgroup")
}

fn read(pid: u32, file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/{file}")).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    // A process may call itself what it likes.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `pid (name) state ppid …`: proc(5). The name may have spaces and parentheses of its own.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(") ")?;
    let (_, name) = before.split_once(" (")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks: u64 = fields.get(19)?.parse().ok()?;
    Some(Stat {
        name: name.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        started: ticks.checked_mul(1_000_000_000 / ticks_per_second())?,
    })
}

/// Nanoseconds of a tick: how exact [`Stat::started`] is.
#[must_use]
pub fn tick() -> u64 {
    1_000_000_000 / ticks_per_second()
}

fn ticks_per_second() -> u64 {
    // SAFETY: no memory is involved.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_anything_in_them() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 1234 0 0";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("a) b (c", 7));
        assert_eq!(stat.started, 1234 * tick());
        for broken in ["", "42", "42 (a", "42 (a) S 7", "42 (a) S x 42"] {
            assert_eq!(parse_stat(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn this_process_is_there() {
        let own = stat(std::process::id()).unwrap();
        assert_eq!(own.parent, nix::unistd::getppid().as_raw() as u32);
        assert!(own.started > 0);
        assert!(cgroup(std::process::id()).unwrap().contains(':'));
        assert_eq!(stat(u32::MAX), None);
    }
}
