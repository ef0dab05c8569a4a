//! Times and memory, as the kernel tells them.

use std::fs;

use anyhow::{Context as _, Result, ensure};

/// Times of all CPUs together since the machine started, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CpuTimes {
    all: u64,
    /// When the host of a virtual machine ran something else.
    stolen: u64,
}

impl CpuTimes {
    pub(super) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        Self::parse(&text).with_context(|| format!("/proc/stat: {text}"))
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)); guests' times are among users'.
    fn parse(text: &str) -> Option<Self> {
        let times = text.lines().next()?.strip_prefix("cpu ")?;
        let times = times.split_whitespace().take(8).map(|time| time.parse::<u64>().ok());
        let times = times.collect::<Option<Vec<_>>>()?;
        Some(Self { all: times.iter().sum(), stolen: *times.get(7)? })
    }

    /// The share of the time since `before` that was stolen.
    pub(super) fn stolen_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

/// What a process's threads have run on CPUs so far.
pub(super) fn cpu_seconds(id: u32) -> Result<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let path = task?.path().join("schedstat");
        // A thread that has just ended.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let first = text.split(' ').next().and_then(|text| text.parse::<u64>().ok());
        nanoseconds += first.with_context(|| format!("{}: {text}", path.display()))?;
    }
    ensure!(nanoseconds > 0, "the kernel does not tell CPU times of process {id}");
    Ok(nanoseconds as f64 / 1e9)
}

/// The most memory of its own that a process had resident so far, in MiB: without what it maps of files and of the kernel's, as
/// its program and the rings (which lie there twice in a row, and would count twice).
pub(super) fn peak_mib(id: u32) -> Result<f64> {
    own_peak_mib(&fs::read_to_string(format!("/proc/{id}/status"))?)
}

fn own_peak_mib(status: &str) -> Result<f64> {
    let kib = |what: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        kib.with_context(|| format!("no {what} in {status}"))
    };
    Ok((kib("VmHWM")? - kib("RssFile")? - kib("RssShmem")?).max(0.0) / 1024.0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_time_on_cpus_is_read() {
        let id = std::process::id();
        let before = cpu_seconds(id).unwrap();
        let until = Instant::now() + Duration::from_millis(60);
        while Instant::now() < until {}
        assert!(cpu_seconds(id).unwrap() > before);
        let held = std::hint::black_box(vec![1_u8; 16 << 20]);
        // The kernel's count is that of a moment ago.
        assert!((12.0..1e6).contains(&peak_mib(id).unwrap()));
        drop(held);
    }

    #[test]
    fn what_is_mapped_is_not_the_process_s_own() {
        let status = "VmHWM:\t  10240 kB\nRssAnon:\t 5000 kB\nRssFile:\t 4096 kB\nRssShmem:\t 1024 kB\n";
        assert_eq!(own_peak_mib(status).unwrap(), 5.0);
        assert!(own_peak_mib("VmHWM:\t 1 kB\nRssFile:\t 1 kB\n").is_err());
    }

    #[test]
    fn stolen_time_is_a_share_of_all() {
        let before = CpuTimes::parse("cpu  100 0 50 800 10 0 5 35 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n").unwrap();
        assert_eq!(before, CpuTimes { all: 1000, stolen: 35 });
        let after = CpuTimes::parse("cpu  150 0 75 905 10 0 5 55 60 0\n").unwrap();
        assert_eq!(after.stolen_since(before), 0.1);
        assert_eq!(before.stolen_since(before), 0.0);
        assert_eq!(CpuTimes::parse("cpu  1 2 3\n"), None);
        assert_eq!(CpuTimes::parse("cpu  1 2 3 x 5 6 7 8\n"), None);
        CpuTimes::now().unwrap();
    }
}
