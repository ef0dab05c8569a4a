//! Why AF_PACKET cannot start or go on, in words that say what to do.

use std::io;

/// Why AF_PACKET cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AfPacketError {
    /// No interface was given.
    #[error("nothing to capture: name an interface")]
    NoInterfaces,
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
    /// A capability is missing.
    #[error("not permitted: {what}; AF_PACKET needs CAP_NET_RAW: run as root, or give it to the process")]
    NotPermitted {
        /// What was refused.
        what: String,
    },
    /// There is not enough memory for the rings.
    #[error("{rings} rings of {mib} MiB do not fit into memory: lower --ring-mib or --workers")]
    Memory {
        /// How many.
        rings: u16,
        /// Of which size.
        mib: usize,
    },
    /// The kernel does not do it.
    #[error("{what} failed: {cause}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl AfPacketError {
    /// Whether a capability is missing: exit code 3.
    #[must_use]
    pub const fn is_not_permitted(&self) -> bool {
        matches!(self, Self::NotPermitted { .. })
    }

    pub(super) fn kernel(what: impl Into<String>, cause: io::Error) -> Self {
        let what = what.into();
        match cause.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { what },
            _ => Self::Kernel { what, cause },
        }
    }
}
