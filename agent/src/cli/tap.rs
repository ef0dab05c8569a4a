//! `remora tap`: live, until a signal; by eBPF, which is here, or by AF_PACKET ([`super::af_packet`]).

use std::process::ExitCode;

use super::args::{Mode, Tap};
use super::settings::{Settings, UsageError};
use super::{NotPermitted, af_packet};
use crate::capture::net::Net;

/// Captures in the mode that was asked for, or in the first that can be had.
pub(super) fn run(args: &Tap) -> anyhow::Result<ExitCode> {
    let settings = Settings::new(&args.common)?;
    if args.mode == Mode::AfPacket {
        return af_packet::run(args, &settings, "--mode says so");
    }
    #[cfg(feature = "ebpf")]
    return live::run(args, &settings);
    #[cfg(not(feature = "ebpf"))]
    without_ebpf(args, &settings, "this remora was built without it", false)
}

/// What is done without eBPF, and why there is none: AF_PACKET, where the mode leaves that open and it will do.
fn without_ebpf(args: &Tap, settings: &Settings, why: &str, refused: bool) -> anyhow::Result<ExitCode> {
    if args.mode == Mode::Auto && args.cgroup.is_empty() {
        return af_packet::run(args, settings, &format!("there is no eBPF here: {why}"));
    }
    let text = match args.mode {
        Mode::Auto => format!("{why} (--cgroup needs eBPF; for --interface AF_PACKET would do)"),
        _ => why.to_owned(),
    };
    if refused {
        return Err(NotPermitted(format!("{text}; `remora doctor` tells more")).into());
    }
    anyhow::bail!("no eBPF: {text}")
}

/// The networks of `--net`.
pub(super) fn nets(args: &Tap) -> Result<Vec<Net>, UsageError> {
    let parse = |net: &String| net.parse().map_err(|error| UsageError(format!("--net {net}: {error}")));
    args.net.iter().map(parse).collect()
}

/// Workers: as many as were asked for, or one a core.
pub(super) fn workers(args: &Tap) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    args.workers.unwrap_or_else(|| u16::try_from(cores).unwrap_or(u16::MAX).min(64))
}

#[cfg(feature = "ebpf")]
mod live {
    use std::process::ExitCode;
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use agent_common::counters::Tally;
    use serde_json::{Value, json};

    use crate::capture::ebpf::{Balance, Live, LiveConfig, LiveError};
    use crate::captured::Source;
    use crate::cli::args::Tap;
    use crate::cli::run::Run;
    use crate::cli::settings::Settings;
    use crate::pipeline::WorkerReport;

    /// How often losses are looked at, to warn while there is time to act.
    const WATCH: Duration = Duration::from_secs(10);
    /// How often is looked whether what is watched is still there.
    const LOOK: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_millis(100);

    pub(super) fn run(args: &Tap, settings: &Settings) -> anyhow::Result<ExitCode> {
        let config = config(args)?;
        let (mut live, sources) = match Live::start(&config) {
            Ok(started) => started,
            Err(error @ (LiveError::NotPermitted { .. } | LiveError::Kernel { .. })) => {
                return super::without_ebpf(args, settings, &error.to_string(), error.is_not_permitted());
            }
            Err(error) => return Err(error.into()),
        };
        tracing::info!("mode: eBPF");
        let mut run = Run::start(settings, Source::Ebpf, config.workers)?;
        let workers = sources
            .into_iter()
            .map(|source| {
                let worker = run.worker(Box::new(source));
                let thread = std::thread::Builder::new().name(format!("worker-{}", worker.id));
                thread.spawn(move || worker.run())
            })
            .collect::<Result<Vec<_>, _>>()?;
        tracing::info!("capturing on {}; Ctrl-C ends it", live.attachments().join(", "));
        let watched = watch(&mut live, &run, &workers);
        live.stop()?;
        let reports = workers.into_iter().map(joined).collect::<anyhow::Result<Vec<_>>>()?;
        let balance = balance_json(&live.balance()?);
        // Detached before scripts and deliveries are waited for: the application pays nothing for our end.
        drop(live);
        let code = run.finish(reports, Some(balance))?;
        watched.map(|()| code)
    }

    fn config(args: &Tap) -> anyhow::Result<LiveConfig> {
        Ok(LiveConfig {
            interfaces: args.interface.clone(),
            cgroups: args.cgroup.clone(),
            ports: args.port.clone(),
            nets: super::nets(args)?,
            workers: super::workers(args),
            ring_bytes: args.ring_mib.map(|mib| mib as usize * (1 << 20)),
            ..LiveConfig::default()
        })
    }

    /// Until the end is asked for, or every worker has ended by itself.
    ///
    /// # Errors
    /// When nothing is left to capture, a worker fails, or the kernel's counters cannot be read.
    fn watch(live: &mut Live, run: &Run, workers: &[JoinHandle<WorkerReport>]) -> anyhow::Result<()> {
        let (mut looked, mut balanced, mut known) = (Instant::now(), Instant::now(), 0);
        while !run.stop().is_set() {
            // A live source ends only when it is told to: who has ended before has failed, and its report says why.
            if workers.iter().any(JoinHandle::is_finished) {
                return Ok(());
            }
            std::thread::sleep(TICK);
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                for name in live.vanished() {
                    tracing::warn!("{name} is gone: nothing more is captured there");
                }
                anyhow::ensure!(
                    !live.is_bereft(),
                    "nothing is left to capture: all that was watched is gone"
                );
            }
            if balanced.elapsed() >= WATCH {
                balanced = Instant::now();
                let lost = live.balance()?.total().dropped().packets;
                warn_of_loss(lost.saturating_sub(known));
                known = lost;
            }
        }
        Ok(())
    }

    fn warn_of_loss(lost: u64) {
        if lost > 0 {
            tracing::warn!(
                "{lost} packets lost in the last {} s, their rings were full: raise --ring-mib or --workers, or filter with --port and --net",
                WATCH.as_secs()
            );
        }
    }

    fn joined(worker: JoinHandle<WorkerReport>) -> anyhow::Result<WorkerReport> {
        worker
            .join()
            .map_err(|_| anyhow::anyhow!("a worker panicked: this is a defect of remora, please report it"))
    }

    /// The kernel's books: offered = filtered + captured + dropped, by reason.
    fn balance_json(balance: &Balance) -> Value {
        let (filtered, rings) = (&balance.filtered, balance.total());
        let tally = |tally: Tally| json!({ "packets": tally.packets, "bytes": tally.bytes });
        json!({
            "offered": tally(balance.offered),
            "filtered": {
                "disabled": tally(filtered.disabled),
                "other_protocol": tally(filtered.other_protocol),
                "malformed": tally(filtered.malformed),
                "excluded": tally(filtered.excluded),
                "port": tally(filtered.port),
                "net": tally(filtered.net),
            },
            "captured": tally(rings.captured),
            "truncated": tally(rings.truncated),
            "dropped": {
                "ring_full": tally(rings.ring_full),
                "no_ring": tally(rings.no_ring),
                "load_failed": tally(rings.load_failed),
            },
        })
    }
}
