//! Which capabilities this thread has, and what to say when one is missing.

use super::error::LiveError;

/// Bits of `CapEff`, as `linux/capability.h` numbers them.
pub(crate) const CAP_NET_ADMIN: u32 = 12;
pub(crate) const CAP_NET_RAW: u32 = 13;
pub(crate) const CAP_SYS_ADMIN: u32 = 21;
pub(crate) const CAP_PERFMON: u32 = 38;
pub(crate) const CAP_BPF: u32 = 39;

/// The effective capabilities of the calling thread, a bit each; none if /proc does not tell.
pub(crate) fn effective() -> u64 {
    std::fs::read_to_string("/proc/thread-self/status").ok().and_then(|s| parse(&s)).unwrap_or(0)
}

fn parse(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// The capabilities that are missing to load the programs and, for interfaces, to attach them.
pub(crate) fn missing(effective: u64) -> Vec<&'static str> {
    let has = |cap: u32| effective >> cap & 1 != 0;
    // CAP_SYS_ADMIN stands for CAP_BPF (it was the only one before Linux 5.8), not for CAP_NET_ADMIN.
    let bpf = has(CAP_BPF) || has(CAP_SYS_ADMIN);
    let wanted = [(bpf, "CAP_BPF (CAP_SYS_ADMIN before Linux 5.8)"), (has(CAP_NET_ADMIN), "CAP_NET_ADMIN")];
    wanted.into_iter().filter_map(|(has, name)| (!has).then_some(name)).collect()
}

/// What a feature needs, and no more.
pub(crate) struct Feature {
    pub(crate) what: &'static str,
    pub(crate) needs: &'static [Need],
}

/// A capability, or an older one that stands for it.
pub(crate) struct Need {
    name: &'static str,
    any_of: &'static [u32],
}

impl Need {
    pub(crate) fn is_met(&self, effective: u64) -> bool {
        self.any_of.iter().any(|cap| effective >> cap & 1 != 0)
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }
}

// CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, which it was before Linux 5.8; not for CAP_NET_ADMIN.
const BPF: Need = Need { name: "CAP_BPF", any_of: &[CAP_BPF, CAP_SYS_ADMIN] };
const PERFMON: Need = Need { name: "CAP_PERFMON", any_of: &[CAP_PERFMON, CAP_SYS_ADMIN] };
const NET_ADMIN: Need = Need { name: "CAP_NET_ADMIN", any_of: &[CAP_NET_ADMIN] };
const NET_RAW: Need = Need { name: "CAP_NET_RAW", any_of: &[CAP_NET_RAW] };

/// Every feature that asks for capabilities.
pub(crate) const FEATURES: [Feature; 4] = [
    Feature { what: "capabilities: cgroup capture", needs: &[BPF, NET_ADMIN] },
    Feature { what: "capabilities: interface capture", needs: &[BPF, NET_ADMIN] },
    Feature { what: "capabilities: sockets' tracepoint", needs: &[BPF, PERFMON] },
    Feature { what: "capabilities: AF_PACKET capture", needs: &[NET_RAW] },
];

/// Fails, naming them, if capabilities are missing.
pub(super) fn check() -> Result<(), LiveError> {
    let missing = missing(effective());
    if missing.is_empty() {
        return Ok(());
    }
    Err(LiveError::NotPermitted {
        what: String::from("loading and attaching eBPF programs"),
        mend: format!(
            "missing: {}; run as root, or give the capabilities to the process",
            missing.join(", ")
        ),
    })
}

/// What to say when the capabilities are there and the kernel still refuses.
pub(super) fn refused_mend() -> String {
    let missing = missing(effective());
    if missing.is_empty() {
        return String::from(
            "the capabilities are there, so something else forbids bpf(2): a seccomp profile, a user namespace, \
             an LSM, or kernel lockdown (see /sys/kernel/security/lockdown)",
        );
    }
    format!("missing: {}", missing.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert!(missing(1 << CAP_BPF | 1 << CAP_NET_ADMIN).is_empty());
        assert!(missing(1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN).is_empty());
        assert_eq!(missing(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(0).len(), 2);
    }

    #[test]
    fn a_feature_needs_its_own_and_no_more() {
        let met = |what: &str, effective: u64| {
            let feature = FEATURES.iter().find(|f| f.what.contains(what)).unwrap();
            feature.needs.iter().all(|need| need.is_met(effective))
        };
        assert!(met("interface", 1 << CAP_BPF | 1 << CAP_NET_ADMIN));
        assert!(!met("interface", 1 << CAP_SYS_ADMIN));
        assert!(met("tracepoint", 1 << CAP_SYS_ADMIN) && !met("tracepoint", 1 << CAP_BPF));
        assert!(met("AF_PACKET", 1 << CAP_NET_RAW) && !met("AF_PACKET", !(1 << CAP_NET_RAW)));
    }

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        assert_eq!(parse("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(parse("Name:\tx\n"), None);
        assert!(effective() > 0 || nix::unistd::geteuid().as_raw() != 0);
    }
}
