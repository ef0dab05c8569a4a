//! `remora tap`: live, by eBPF, until a signal.

#[cfg(not(feature = "ebpf"))]
pub(super) fn run(_args: &super::args::Tap) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("this remora was built without eBPF (feature `ebpf`): it replays capture files only")
}

#[cfg(feature = "ebpf")]
pub(super) use live::run;

#[cfg(feature = "ebpf")]
mod live {
    use std::process::ExitCode;
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use agent_common::counters::Tally;
    use serde_json::{Value, json};

    use crate::capture::ebpf::{Balance, IdentityConfig, IdentityStats, Live, LiveConfig, LiveError};
    use crate::captured::Source;
    use crate::cli::NotPermitted;
    use crate::cli::args::Tap;
    use crate::cli::run::Run;
    use crate::cli::settings::{Settings, UsageError};
    use crate::pipeline::WorkerReport;

    /// How often losses are looked at, to warn while there is time to act.
    const WATCH: Duration = Duration::from_secs(10);
    /// How often is looked whether what is watched is still there.
    const LOOK: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_millis(100);

    pub(in crate::cli) fn run(args: &Tap) -> anyhow::Result<ExitCode> {
        let settings = Settings::new(&args.common)?;
        let config = config(args)?;
        let (mut live, sources) = Live::start(&config).map_err(refusal)?;
        let mut run = Run::start(&settings, Source::Ebpf, config.workers)?;
        if let Some(identity) = live.identity() {
            run.name_processes(identity.processes());
        }
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
        let mut balance = balance_json(&live.balance()?);
        if let Some(identity) = live.identity() {
            balance["identity"] = identity_json(&identity.stats()?);
        }
        // Detached before scripts and deliveries are waited for: the application pays nothing for our end.
        drop(live);
        let code = run.finish(reports, Some(balance))?;
        watched.map(|()| code)
    }

    fn config(args: &Tap) -> anyhow::Result<LiveConfig> {
        let mut nets = Vec::new();
        for net in &args.net {
            nets.push(net.parse().map_err(|error| UsageError(format!("--net {net}: {error}")))?);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(LiveConfig {
            interfaces: args.interface.clone(),
            cgroups: args.cgroup.clone(),
            ports: args.port.clone(),
            nets,
            workers: args.workers.unwrap_or_else(|| u16::try_from(cores).unwrap_or(u16::MAX).min(64)),
            identity: IdentityConfig { cgroups: args.identity_cgroup.clone(), ..IdentityConfig::default() },
            ring_bytes: args.ring_mib.map(|mib| mib as usize * (1 << 20)),
            ..LiveConfig::default()
        })
    }

    fn refusal(error: LiveError) -> anyhow::Error {
        if error.is_not_permitted() {
            return NotPermitted(format!("{error}; `remora doctor` tells more")).into();
        }
        error.into()
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

    /// What became known of connections' processes.
    fn identity_json(stats: &IdentityStats) -> Value {
        json!({
            "opened": stats.opened,
            "accepted": stats.accepted,
            "closed": stats.closed,
            "refused": stats.refused,
            "displaced": stats.displaced,
            "no_storage": stats.no_storage,
            "older": stats.older,
            "cgroups_refused": stats.cgroups_refused,
        })
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
