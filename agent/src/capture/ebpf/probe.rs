//! What `remora doctor` finds out about eBPF, by trying.

use aya::maps::MapType;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::sys::{SyscallError, is_map_supported};

use super::error::LiveError;
use super::{LiveConfig, cgroup, loader, memory, permission};
use crate::doctor::Check;

/// The lines about eBPF.
pub(crate) fn checks() -> Vec<Check> {
    memory::lift_memlock_limit();
    vec![capabilities(), memlock(), ring_buffers(), programs(), tcx(), cgroup2(), super::identity::check()]
}

fn capabilities() -> Check {
    const WHAT: &str = "capabilities";
    let missing = permission::missing(permission::effective());
    if missing.is_empty() {
        return Check::ok(WHAT, "CAP_BPF and CAP_NET_ADMIN, or what stands for them");
    }
    let mend = "run as root, or give the process these capabilities";
    Check::missing(WHAT, format!("missing: {}", missing.join(", ")), mend)
}

fn memlock() -> Check {
    const WHAT: &str = "memlock";
    if memory::memlock_is_lifted() {
        return Check::ok(WHAT, "no limit");
    }
    Check::limited(
        WHAT,
        "RLIMIT_MEMLOCK limits eBPF maps before Linux 5.11, and cannot be lifted",
        "CAP_SYS_RESOURCE, or ulimit -l unlimited",
    )
}

fn ring_buffers() -> Check {
    const WHAT: &str = "ring buffers";
    match is_map_supported(MapType::RingBuf) {
        Ok(true) => Check::ok(WHAT, "the kernel makes them"),
        Ok(false) => Check::missing(WHAT, "the kernel does not know them", "Linux 5.8 or later"),
        Err(SyscallError { io_error, .. }) => {
            Check::missing(WHAT, format!("bpf(2): {io_error}"), permission::refused_mend())
        }
    }
}

/// Loads the real programs, rings and all, and throws them away.
fn programs() -> Check {
    const WHAT: &str = "eBPF programs";
    let config = LiveConfig { ring_bytes: Some(1), ..LiveConfig::default() };
    let loaded = loader::load(&config).and_then(|mut loaded| super::attach::load_all(&mut loaded.ebpf));
    match loaded {
        Ok(()) => Check::ok(WHAT, "the kernel's verifier takes them all"),
        Err(LiveError::NotPermitted { what, mend }) => {
            Check::missing(WHAT, format!("{what}: not permitted"), mend)
        }
        Err(error) => Check::missing(WHAT, error.to_string(), "report this, with the kernel's version"),
    }
}

/// Whether the kernel knows tcx: asked for the programs on loopback, which there may be none of.
fn tcx() -> Check {
    const WHAT: &str = "tcx";
    match try_tcx() {
        Ok(true) => Check::ok(WHAT, "interfaces are watched by tcx links"),
        Ok(false) => Check::limited(
            WHAT,
            "not in this kernel: interfaces are watched by clsact filters, which outlive a process that is killed",
            "Linux 6.6 or later",
        ),
        Err(LiveError::NotPermitted { what, mend }) => {
            Check::limited(WHAT, format!("{what}: not permitted"), mend)
        }
        Err(error) => Check::limited(WHAT, error.to_string(), "Linux 6.6 or later"),
    }
}

fn try_tcx() -> Result<bool, LiveError> {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Ok(true),
        Err(ProgramError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(LiveError::kernel("asking for tcx programs", &error)),
    }
}

fn cgroup2() -> Check {
    const WHAT: &str = "cgroup v2";
    match cgroup::mount_point() {
        Some(path) => Check::ok(WHAT, format!("mounted at {}", path.display())),
        None => Check::limited(
            WHAT,
            "not mounted here: no --cgroup, only --interface",
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
    }
}
