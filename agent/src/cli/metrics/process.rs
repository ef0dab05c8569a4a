//! The process: the names that Prometheus' client libraries use, out of /proc, and which build it is.

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use crate::cli::logging;
use crate::exposition::Exposition;

pub(super) fn all(to: &mut Exposition) {
    let ebpf = if cfg!(feature = "ebpf") { "true" } else { "false" };
    to.gauge("remora_build_info", "Which build this is; always 1.").with(
        &[("version", env!("CARGO_PKG_VERSION")), ("arch", std::env::consts::ARCH), ("ebpf", ebpf)],
        1_u64,
    );
    to.counter("remora_log_lines_dropped_total", "Lines of the log that nobody read in time.")
        .value(logging::dropped());
    let stat = std::fs::read_to_string("/proc/self/stat").ok();
    let stat = stat.as_deref().and_then(Stat::parse).unwrap_or_default();
    to.counter("process_cpu_seconds_total", "CPU time used, user and system.").value(stat.cpu);
    to.gauge("process_start_time_seconds", "When it began, since 1970.").value(stat.started);
    to.gauge("process_resident_memory_bytes", "Memory in use.").value(stat.resident);
    to.gauge("process_virtual_memory_bytes", "Address space in use.").value(stat.virtual_memory);
    to.gauge("process_threads", "Threads.").value(stat.threads);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    to.gauge("process_open_fds", "Open file descriptors.").value(open);
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    to.gauge("process_max_fds", "File descriptors that may be open.").value(most);
}

/// What proc_pid_stat(5) tells, in seconds and bytes.
#[derive(PartialEq, Debug, Default)]
struct Stat {
    cpu: f64,
    started: f64,
    resident: u64,
    virtual_memory: u64,
    threads: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        let config = |variable| sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
        let (ticks, page) = (config(SysconfVar::CLK_TCK)? as f64, config(SysconfVar::PAGE_SIZE)?);
        // The name, field 2, may hold anything, parentheses too.
        let fields: Vec<u64> = (text.rsplit_once(')')?.1.split_whitespace())
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            cpu: (field(14)? + field(15)?) as f64 / ticks,
            started: boot_time().unwrap_or_default() as f64 + field(22)? as f64 / ticks,
            resident: field(24)? * page,
            virtual_memory: field(23)?,
            threads: field(20)?,
        })
    }
}

/// When the machine was started, in seconds since 1970.
fn boot_time() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_as_it_says() {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let stat = Stat::parse(&text).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3600.0..=now + 2.0).contains(&stat.started), "{stat:?}");
        assert!(
            stat.resident > 1 << 20 && stat.virtual_memory > stat.resident && stat.threads >= 1,
            "{stat:?}"
        );
        let odd = text.replacen('(', "(a) S 1 (", 1);
        assert_eq!(Stat::parse(&odd), Some(stat));
    }
}
