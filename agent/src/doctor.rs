//! What this kernel, these permissions and this machine allow, a line each, with the mend.
//!
//! Every answer is tried, not read off a version number, where trying does no harm: maps and programs of a few
//! instructions are made and thrown away; nothing is attached, and nothing removed unless asked for.

use std::fs;
use std::path::Path;

#[cfg(feature = "ebpf")]
use crate::capture::ebpf::probe;

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What it is.
    pub what: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, in words.
    pub detail: String,
    /// What to do about it; empty where nothing needs doing.
    pub mend: String,
}

/// How a [`Check`] came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// As it should be.
    Ok,
    /// Live capture works, but something is not to be had.
    Limited,
    /// Live capture does not work.
    Missing,
}

impl Check {
    pub(crate) fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, state: State::Ok, detail: detail.into(), mend: String::new() }
    }

    pub(crate) fn limited(what: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, state: State::Limited, detail: detail.into(), mend: mend.into() }
    }

    pub(crate) fn missing(what: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, state: State::Missing, detail: detail.into(), mend: mend.into() }
    }
}

/// Looks at everything. Never fails: what cannot be found out is a line that says so.
#[must_use]
pub fn doctor() -> Vec<Check> {
    let mut checks = vec![kernel()];
    #[cfg(feature = "ebpf")]
    checks.extend(probe::checks());
    #[cfg(not(feature = "ebpf"))]
    checks.push(Check::missing(
        "eBPF",
        "this binary was built without it, for AF_PACKET and capture files",
        "build it with the feature `ebpf`",
    ));
    checks.extend([
        kernel_btf(Path::new("/sys/kernel/btf/vmlinux")),
        tracefs(&read("/proc/self/mounts")),
        crate::capture::afpacket::check(),
    ]);
    checks
}

/// Removes what killed runs left in this network namespace, and says what that was.
///
/// # Errors
/// In words, when the kernel does not let it be found or removed.
#[cfg(feature = "ebpf")]
pub fn clean() -> Result<Vec<String>, String> {
    let found = crate::capture::ebpf::leftovers(true).map_err(|error| error.to_string())?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// A binary without live capture leaves nothing, and finds nothing.
///
/// # Errors
/// Always.
#[cfg(not(feature = "ebpf"))]
pub fn clean() -> Result<Vec<String>, String> {
    Err(String::from("this binary was built without live capture (feature `ebpf`)"))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn kernel() -> Check {
    const WHAT: &str = "kernel";
    let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
    match version(&release) {
        Some(v) if v >= (5, 8) => Check::ok(WHAT, format!("Linux {release}")),
        Some(_) => Check::missing(
            WHAT,
            format!("Linux {release} has no ring buffers for eBPF"),
            "Linux 5.8 or later",
        ),
        None => Check::limited(WHAT, format!("release {release:?}, whatever that is"), "Linux 5.8 or later"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel_btf(path: &Path) -> Check {
    const WHAT: &str = "kernel BTF";
    match fs::metadata(path) {
        Ok(_) => Check::ok(WHAT, path.display().to_string()),
        Err(_) => Check::limited(
            WHAT,
            format!("no {}; packet capture does without", path.display()),
            "a kernel with CONFIG_DEBUG_INFO_BTF, for what looks into kernel structures",
        ),
    }
}

fn tracefs(mounts: &str) -> Check {
    const WHAT: &str = "tracefs";
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    match mounts
        .find_map(|mut fields| Some((fields.nth(1)?, fields.next()?)).filter(|(_, kind)| *kind == "tracefs"))
    {
        Some((path, _)) => Check::ok(WHAT, format!("mounted at {path}")),
        None => Check::limited(
            WHAT,
            "not mounted; packet capture does without",
            "mount -t tracefs tracefs /sys/kernel/tracing, for tracepoints (which process owns a socket)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_sorts_have_a_version() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.4.0-150-generic"), Some((5, 4)));
        assert_eq!(version("what"), None);
    }

    #[test]
    fn tracefs_is_found_among_the_mounts() {
        let check = tracefs("proc /proc proc rw 0 0\ntracefs /sys/kernel/tracing tracefs rw 0 0\n");
        assert_eq!((check.state, check.detail.as_str()), (State::Ok, "mounted at /sys/kernel/tracing"));
        let check = tracefs("proc /proc proc rw 0 0\n");
        assert_eq!(check.state, State::Limited);
        assert!(check.mend.contains("mount -t tracefs"));
    }

    #[test]
    fn missing_btf_is_no_reason_to_give_up() {
        assert_eq!(kernel_btf(Path::new("/no/such/file")).state, State::Limited);
    }

    #[test]
    fn whatever_is_not_right_comes_with_a_mend() {
        let checks = doctor();
        assert!(checks.len() >= 4);
        for check in checks {
            assert_eq!(check.mend.is_empty(), check.state == State::Ok, "{check:?}");
            assert!(!check.detail.is_empty());
        }
    }
}
