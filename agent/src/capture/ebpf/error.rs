//! Why live capture cannot start or go on, in words that say what to do.

use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::programs::tc::TcError;

/// Why live capture cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// Neither an interface nor a cgroup was given.
    #[error("nothing to capture: name an interface or a cgroup")]
    NoTarget,
    /// A setting out of its range.
    #[error("{what}: {value} is not within {allowed}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// There is no such interface.
    #[error("there is no interface {name:?} here; there are: {}", existing.join(", "))]
    NoInterface {
        /// The name given.
        name: String,
        /// The names there are.
        existing: Vec<String>,
    },
    /// An interface that carries neither Ethernet nor IP.
    #[error(
        "interface {name:?} is of a kind that cannot be captured (ARPHRD {arphrd}): neither Ethernet nor raw IP"
    )]
    LinkType {
        /// Its name.
        name: String,
        /// Its kind, as `linux/if_arp.h` numbers them.
        arphrd: u16,
    },
    /// cgroup v2 is not mounted where this process can see it.
    #[error(
        "no cgroup2 file system is mounted here; mount one: mkdir -p /sys/fs/cgroup/unified && \
         mount -t cgroup2 none /sys/fs/cgroup/unified (a container needs the host's /sys/fs/cgroup)"
    )]
    NoCgroup2,
    /// The path is no cgroup v2 folder.
    #[error("{path} is not a cgroup v2 folder ({cause}); cgroup2 is mounted at {mount}")]
    NoCgroup {
        /// The path given.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
        /// Where cgroup2 is mounted.
        mount: PathBuf,
    },
    /// A capability or setting is missing.
    #[error("not permitted: {what}; {mend}")]
    NotPermitted {
        /// What was refused.
        what: String,
        /// What is missing, and how to give it.
        mend: String,
    },
    /// The kernel does not do it.
    #[error("{what} failed: {cause}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said, the verifier's words included.
        cause: String,
    },
}

impl LiveError {
    /// Whether a capability or setting is missing: exit code 3.
    #[must_use]
    pub const fn is_not_permitted(&self) -> bool {
        matches!(self, Self::NotPermitted { .. })
    }

    /// A failed bpf(2) call or the like; a refusal is told apart by its errno.
    pub(super) fn kernel(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let what = what.into();
        if refused(error) {
            return Self::NotPermitted { what, mend: super::permission::refused_mend() };
        }
        Self::Kernel { what, cause: chain(error) }
    }

    pub(super) fn map(name: &str, error: &MapError) -> Self {
        Self::kernel(format!("map {name}"), error)
    }
}

/// Whether EPERM or EACCES is at the bottom. EACCES is also what the verifier says to a bad program, and then it has
/// words of its own.
fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return io.raw_os_error() == Some(libc::EPERM);
        }
        if let Some(TcError::NetlinkError(netlink)) = e.downcast_ref() {
            return netlink.raw_os_error() == Some(libc::EPERM);
        }
        next = e.source();
    }
    false
}

/// How much of the verifier's words is shown: the end says what it did not like.
const VERIFIER_LINES: usize = 12;

/// All the causes in a line, without the ones that only repeat.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref() {
        let log = verifier_log.to_string();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.len().saturating_sub(VERIFIER_LINES);
        return format!("{io_error}; the verifier's last words:\n{}", lines[tail..].join("\n"));
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        let cause = e.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = e.source();
    }
    text
}
