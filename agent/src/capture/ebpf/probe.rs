//! What `remora doctor` finds out about eBPF, by trying.

use std::path::Path;

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, SyscallError, is_helper_supported, is_map_supported};

use super::error::LiveError;
use super::interface::Framing;
use super::{LiveConfig, cgroup, loader, memory, permission};
use crate::doctor::Check;

/// The lines about eBPF.
pub(crate) fn checks() -> Vec<Check> {
    memory::lift_memlock_limit();
    let mut checks = vec![capabilities()];
    let effective = permission::effective();
    checks.extend(permission::FEATURES.iter().map(|feature| of_feature(feature, effective)));
    checks.extend([
        memlock(),
        ring_buffers(),
        dynptr(),
        programs(),
        tcx(),
        cgroup2(),
        tracepoint(Path::new("/sys/kernel/tracing")),
        super::identity::check(),
        left_behind(),
    ]);
    checks
}

/// What a feature needs, whether it is there or not.
fn of_feature(feature: &permission::Feature, effective: u64) -> Check {
    let names = |needs: &mut dyn Iterator<Item = &permission::Need>| {
        needs.map(permission::Need::name).collect::<Vec<_>>().join(" and ")
    };
    let missing = names(&mut feature.needs.iter().filter(|need| !need.is_met(effective)));
    let all = names(&mut feature.needs.iter());
    if missing.is_empty() {
        return Check::ok(feature.what, format!("needs {all}: there"));
    }
    Check::limited(feature.what, format!("needs {all}"), format!("give the process {missing}"))
}

/// Records of a size that is known at run time only. The programs take size classes and do without.
fn dynptr() -> Check {
    const WHAT: &str = "dynptr";
    match is_helper_supported(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_ringbuf_reserve_dynptr) {
        Ok(true) => Check::ok(WHAT, "the kernel has it; packet capture does without"),
        Ok(false) => {
            Check::limited(WHAT, "not in this kernel; packet capture does without", "Linux 5.19 or later")
        }
        Err(error) => Check::limited(WHAT, format!("cannot be tried: {error}"), permission::refused_mend()),
    }
}

/// The tracepoint that tells which process a socket belongs to.
fn tracepoint(tracing: &Path) -> Check {
    const WHAT: &str = "sockets' tracepoint";
    let id = tracing.join("events/sock/inet_sock_set_state/id");
    match std::fs::read_to_string(&id) {
        Ok(_) => Check::ok(WHAT, "sock:inet_sock_set_state is there"),
        Err(error) => Check::limited(
            WHAT,
            format!("{}: {error}; packet capture does without", id.display()),
            "mount tracefs there, as root; Linux 4.16 or later",
        ),
    }
}

/// Filters on clsact whose owner is gone.
fn left_behind() -> Check {
    const WHAT: &str = "left behind";
    match super::leftovers(false) {
        Ok(found) if found.is_empty() => Check::ok(WHAT, "nothing in this network namespace"),
        Ok(found) => {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            let mend = "remora doctor --clean, or the next remora tap";
            Check::limited(WHAT, found.join("; "), mend)
        }
        Err(error) => Check::limited(WHAT, format!("rtnetlink: {error}"), "tc filter show dev IF ingress"),
    }
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
    // It came with Linux 5.11, as did the charging of maps to the memory cgroup.
    let later = is_helper_supported(ProgramType::SocketFilter, BpfHelper::BPF_FUNC_ktime_get_coarse_ns);
    if later.is_ok_and(|there| there) {
        return Check::ok(WHAT, "limited, but this kernel charges maps to the memory cgroup (Linux 5.11)");
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
    let (interfaces, cgroups) = (vec![String::from("*")], vec!["*".into()]);
    let config = LiveConfig { ring_bytes: Some(1), interfaces, cgroups, ..LiveConfig::default() };
    match loader::load(&config, &[Framing::Ethernet, Framing::Raw]) {
        Ok(_) => Check::ok(WHAT, "the kernel's verifier takes them all"),
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
        Some(path) if cgroup::has_version_1() => {
            Check::ok(WHAT, format!("mounted at {}, beside version 1 (hybrid)", path.display()))
        }
        Some(path) => Check::ok(WHAT, format!("mounted at {}, alone (unified)", path.display())),
        None => Check::limited(
            WHAT,
            "not mounted here: no --cgroup, only --interface",
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
    }
}
