//! Every bound of the script runtime, by name. What a bound refused is counted in [`super::ScriptStats`].

use std::time::Duration;

/// Bounds for each script. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct ScriptLimits {
    /// JavaScript heap of one script.
    pub memory: usize,
    /// JavaScript stack of one script; its thread's own stack is larger by [`ScriptLimits::NATIVE_STACK`].
    pub stack: usize,
    /// Time for one call of a hook, and for the script's top level, without waits.
    pub call_time: Duration,
    /// Events that wait for one script; past it the newest is dropped (live) or waited for (replay).
    pub queue: usize,
    /// Memory that the waiting events of one script may hold together, in bytes.
    pub queue_bytes: usize,
    /// Size of a script's data folder, counted in whole 4 KiB blocks, a block at least for each file and folder.
    pub file_quota: u64,
    /// Longest wait for one answer of `vendor.webhook` or `vendor.webhookForm`.
    pub webhook_timeout: Duration,
    /// All waits of one call together (webhooks, the PCAP store, the outbox); past it they count as call time.
    pub wait_total: Duration,
    /// Bytes of an answer that `vendor.webhook` returns; the rest is cut, and a warning logged.
    pub webhook_answer: usize,
    /// Longest text that a helper takes or returns as one argument.
    pub argument: usize,
    /// Longest line that `console` logs; the rest is cut.
    pub console_line: usize,
    /// Filters of `kfl.match` that are kept compiled.
    pub filters: usize,
    /// Packets that wait for one script that defines `onPacketCaptured`; they come in batches.
    pub packets: usize,
    /// Jobs of one script.
    pub jobs: usize,
    /// Series that one script may publish by `prometheus.metric`.
    pub series: usize,
    /// Script or module source.
    pub source: u64,
    /// Different errors remembered so that repeats are only counted.
    pub known_errors: usize,
    /// Time or memory limits hit in a row before a script is paused.
    pub strikes: u32,
    /// First pause; each further one is twice as long.
    pub pause_first: Duration,
    /// Longest pause.
    pub pause_longest: Duration,
    /// How often the scripts' files are looked at. A change has to be the same in two looks, so that no half-written file
    /// is run.
    pub look: Duration,
    /// How often repeats of an error are summed up in the log.
    pub repeat_interval: Duration,
}

impl ScriptLimits {
    /// What helpers written in Rust may use of the thread's stack above [`ScriptLimits::stack`].
    pub const NATIVE_STACK: usize = 2 << 20;
}

impl Default for ScriptLimits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            stack: 1 << 20,
            call_time: Duration::from_secs(1),
            queue: 10_000,
            queue_bytes: 64 << 20,
            file_quota: 256 << 20,
            webhook_timeout: Duration::from_secs(10),
            wait_total: Duration::from_secs(60),
            webhook_answer: 1 << 20,
            argument: 16 << 20,
            console_line: 16 << 10,
            filters: 64,
            packets: 16 << 10,
            jobs: 100,
            series: 1000,
            source: 4 << 20,
            known_errors: 256,
            strikes: 3,
            pause_first: Duration::from_secs(1),
            pause_longest: Duration::from_secs(60),
            look: Duration::from_millis(250),
            repeat_interval: Duration::from_secs(60),
        }
    }
}

/// A duration as a person writes it: `1 s`, `250 ms`.
pub(crate) fn duration_text(duration: Duration) -> String {
    if duration.subsec_millis() == 0 && duration.as_secs() > 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

/// A size as a person writes it: `64 MiB`, `512 KiB`, `100 bytes`.
pub(crate) fn size_text(bytes: u64) -> String {
    if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) {
        format!("{} KiB", bytes >> 10)
    } else {
        format!("{bytes} bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_read_as_a_person_writes_them() {
        assert_eq!(duration_text(Duration::from_secs(1)), "1 s");
        assert_eq!(duration_text(Duration::from_millis(1500)), "1500 ms");
        assert_eq!(duration_text(Duration::from_millis(20)), "20 ms");
        assert_eq!(size_text(64 << 20), "64 MiB");
        assert_eq!(size_text(3 << 10), "3 KiB");
        assert_eq!(size_text(1000), "1000 bytes");
    }
}
