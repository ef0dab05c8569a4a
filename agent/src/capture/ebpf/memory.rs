//! How large the rings may be.

use std::fs;

use agent_common::TEMPLATE_RING;
use aya::util::KernelVersion;

/// The most that a default ring takes: at 10 Gbit/s, 25 ms of traffic.
const DEFAULT_RING: usize = 32 << 20;
/// The least that a default ring takes: four of the largest packets.
const SMALLEST_RING: usize = 1 << 20;
/// All default rings together take at most this share of the memory there is.
const SHARE: usize = 16;
/// BPF maps count their size in 32 bits, and a ring's length is a power of two.
const LARGEST_RING: usize = 1 << 30;

/// Bytes of each of `workers` rings: what was asked for, or the default, as a power of two of at least a page.
pub(super) fn ring_bytes(asked: Option<usize>, workers: u16) -> u32 {
    // Of a version that cannot be read nothing is assumed.
    if KernelVersion::current().is_ok_and(has_one_size) {
        tracing::info!("before Linux 5.10 rings have one size: {TEMPLATE_RING} bytes");
        return TEMPLATE_RING;
    }
    asked_bytes(asked, workers)
}

/// Whether the kernel takes no ring into the map of rings that is of another size than the template.
fn has_one_size(version: KernelVersion) -> bool {
    version < KernelVersion::new(5, 10, 0)
}

fn asked_bytes(asked: Option<usize>, workers: u16) -> u32 {
    let bytes = asked.map_or_else(
        || default_ring_bytes(memory_available(), usize::from(workers)),
        |asked| asked.clamp(page_size(), LARGEST_RING).next_power_of_two(),
    );
    u32::try_from(bytes).unwrap_or(LARGEST_RING as u32)
}

fn default_ring_bytes(memory: Option<usize>, workers: usize) -> usize {
    let share = memory.map_or(DEFAULT_RING, |m| m / SHARE / workers.max(1));
    let bytes = share.clamp(SMALLEST_RING, DEFAULT_RING);
    // Down to a power of two.
    1 << bytes.ilog2()
}

/// Memory of the machine, or what the process' cgroup allows if that is less.
fn memory_available() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_total(&text));
    let limit =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    match (machine, limit) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn meminfo_total(text: &str) -> Option<usize> {
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

fn page_size() -> usize {
    // SAFETY: no memory is involved.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Before Linux 5.11 maps are charged against `RLIMIT_MEMLOCK`, whose usual 64 KiB hold nothing. Where it cannot be
/// lifted, making the maps says so.
pub(super) fn lift_memlock_limit() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid struct that is only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) } != 0 {
        tracing::debug!("RLIMIT_MEMLOCK cannot be lifted; only kernels before 5.11 need it");
    }
}

/// A link is a descriptor: those of a thousand interfaces are more than the usual soft limit, which is there for
/// select(2).
pub(super) fn lift_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid struct to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 && limit.rlim_cur < limit.rlim_max
    {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: a valid struct that is only read.
        let _ = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Whether there is no limit on locked memory.
pub(super) fn memlock_is_lifted() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid struct to write to.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    result == 0 && limit.rlim_cur == libc::RLIM_INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_rings_follow_memory_and_workers() {
        assert_eq!(default_ring_bytes(Some(64 << 30), 4), DEFAULT_RING);
        assert_eq!(default_ring_bytes(Some(1 << 30), 4), 16 << 20);
        assert_eq!(default_ring_bytes(Some(3 << 29), 1), 32 << 20);
        assert_eq!(default_ring_bytes(Some(1 << 20), 256), SMALLEST_RING);
        assert_eq!(default_ring_bytes(None, 2), DEFAULT_RING);
    }

    #[test]
    fn asked_sizes_become_powers_of_two_of_at_least_a_page() {
        assert_eq!(asked_bytes(Some(1), 1) as usize, page_size());
        assert_eq!(asked_bytes(Some(70_000), 1), 131_072);
        assert_eq!(asked_bytes(Some(usize::MAX), 1) as usize, LARGEST_RING);
    }

    #[test]
    fn old_kernels_take_one_size() {
        assert!(has_one_size(KernelVersion::new(5, 9, 16)) && !has_one_size(KernelVersion::new(5, 10, 0)));
        assert!(
            TEMPLATE_RING as usize >= SMALLEST_RING && (TEMPLATE_RING as usize).is_multiple_of(page_size())
        );
    }

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(meminfo_total("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16_384));
        assert_eq!(meminfo_total("MemFree: 1 kB\n"), None);
    }
}
