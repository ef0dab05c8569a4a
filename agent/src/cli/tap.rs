//! `remora tap`: live, until a signal; by eBPF, which is here, or by AF_PACKET ([`super::af_packet`]).

use std::process::ExitCode;

use super::args::{Mode, Tap};
use super::daemon::Daemon;
use super::settings::{Settings, UsageError, Words};
use super::{NotPermitted, af_packet};
use crate::capture::net::Net;

/// Captures as the command line says.
pub(super) fn run(args: &Tap) -> anyhow::Result<ExitCode> {
    let settings = Settings::new(&args.common, Words::Flags)?;
    check(args, Words::Flags)?;
    capture(args, &settings, &mut Daemon::default())
}

/// Checks what parsing lets pass: options against each other.
///
/// # Errors
/// [`UsageError`] naming them.
pub(super) fn check(args: &Tap, words: Words) -> Result<(), UsageError> {
    let (interfaces, cgroups) = (words.name("--interface"), words.name("--cgroup"));
    if args.interface.is_empty() && args.cgroup.is_empty() {
        return Err(UsageError(format!("nothing to capture on: give {interfaces} or {cgroups}")));
    }
    if args.mode == Mode::AfPacket && !args.cgroup.is_empty() {
        let mode = words.name("--mode");
        return Err(UsageError(format!(
            "{cgroups} needs eBPF: with {mode} af-packet, capture is on {interfaces} only"
        )));
    }
    nets(args).map(drop)
}

/// Captures in the mode that was asked for, or in the first that can be had.
pub(super) fn capture(args: &Tap, settings: &Settings, daemon: &mut Daemon) -> anyhow::Result<ExitCode> {
    if args.mode == Mode::AfPacket {
        let why = format!("{} says so", settings.words.name("--mode"));
        return af_packet::run(args, settings, daemon, &why);
    }
    #[cfg(feature = "ebpf")]
    return live::run(args, settings, daemon);
    #[cfg(not(feature = "ebpf"))]
    without_ebpf(args, settings, daemon, "this remora was built without it", false)
}

/// What is done without eBPF, and why there is none: AF_PACKET, where the mode leaves that open and it will do.
fn without_ebpf(
    args: &Tap,
    settings: &Settings,
    daemon: &mut Daemon,
    why: &str,
    refused: bool,
) -> anyhow::Result<ExitCode> {
    if args.mode == Mode::Auto && args.cgroup.is_empty() {
        return af_packet::run(args, settings, daemon, &format!("there is no eBPF here: {why}"));
    }
    let (interfaces, cgroups) = (settings.words.name("--interface"), settings.words.name("--cgroup"));
    let text = match args.mode {
        Mode::Auto => format!("{why} ({cgroups} needs eBPF; for {interfaces} AF_PACKET would do)"),
        _ => why.to_owned(),
    };
    if refused {
        return Err(NotPermitted(format!("{text}; `remora doctor` tells more")).into());
    }
    anyhow::bail!("no eBPF: {text}")
}

/// What to do about full rings.
pub(super) fn more_room(words: Words) -> String {
    let [ring, workers, port, net] =
        ["--ring-mib", "--workers", "--port", "--net"].map(|flag| words.name(flag));
    format!("raise {ring} or {workers}, or filter with {port} and {net}")
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
    use std::time::SystemTime;

    use agent_common::counters::Tally;
    use serde_json::{Value, json};

    use crate::capture::ebpf::{
        AttachStats, Balance, Change, Filter, Identity, IdentityConfig, IdentityStats, Live, LiveConfig,
        LiveError, RingBalance, TcHook,
    };
    use crate::captured::Source;
    use crate::cli::args::{Tap, TcHookArg};
    use crate::cli::cores;
    use crate::cli::daemon::{Daemon, Wanted};
    use crate::cli::run::Run;
    use crate::cli::settings::Settings;
    use crate::cli::vitals::{self, Books, Phase, Ring, Vitals};
    use crate::cli::watch;

    /// Changes to what is watched that are told one by one in a look, and names in a line.
    const TOLD: usize = 16;

    pub(super) fn run(args: &Tap, settings: &Settings, daemon: &mut Daemon) -> anyhow::Result<ExitCode> {
        let config = config(args, settings, daemon)?;
        let (mut live, sources) = match Live::start(&config) {
            Ok(started) => started,
            Err(error @ (LiveError::NotPermitted { .. } | LiveError::Kernel { .. })) => {
                return super::without_ebpf(
                    args,
                    settings,
                    daemon,
                    &error.to_string(),
                    error.is_not_permitted(),
                );
            }
            Err(error) => return Err(error.into()),
        };
        let began = SystemTime::now();
        let mut run = Run::start(settings, Source::Ebpf, config.workers)?;
        run.serve(std::mem::take(&mut daemon.bound), settings)?;
        let cores = args.pin_workers.then(cores::allowed).filter(|cores| !cores.is_empty());
        if let Some(identity) = live.identity() {
            run.name_processes(identity.processes());
        }
        let workers = sources
            .into_iter()
            .map(|source| {
                let mut worker = run.worker(Box::new(source));
                worker.engine.trim = args.trim;
                let core = cores.as_ref().and_then(|cores| cores.get(usize::from(worker.id) % cores.len()));
                let core = core.copied();
                let thread = std::thread::Builder::new().name(format!("worker-{}", worker.id));
                thread.spawn(move || {
                    if let Some(core) = core {
                        cores::pin(core);
                    }
                    worker.run()
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        tell_books(&mut live, run.vitals())?;
        run.vitals().enter(Phase::Capturing);
        tracing::info!("mode: {}", live.mode());
        tracing::info!("capturing on {}; Ctrl-C ends it", places(&live.attachments()));
        daemon.begin(began, run.registry());
        let watched = watch::watch(&mut live, &run, &workers, settings.words, daemon);
        daemon.end();
        run.vitals().enter(Phase::Ending);
        // Whatever fails from here on, scripts and deliveries get their end.
        let stopped = live.stop();
        let reports = watch::reports(workers);
        let balance = told(&mut live);
        // Detached before scripts and deliveries are waited for: the application pays nothing for our end.
        drop(live);
        let code = run.finish(reports, balance.as_ref().ok().cloned())?;
        stopped?;
        balance?;
        watched.map(|()| code)
    }

    /// The kernel's books, for people and programs.
    fn told(live: &mut Live) -> Result<Value, LiveError> {
        let mut balance = balance_json(&live.balance()?, live.attach_stats());
        if let Some(identity) = live.identity() {
            balance["identity"] = identity_json(&identity.stats()?);
        }
        Ok(balance)
    }

    fn places(names: &[String]) -> String {
        match names {
            [] => String::from("nothing yet: no interface or cgroup is as asked for"),
            _ if names.len() <= TOLD => names.join(", "),
            _ => format!("{} and {} more", names[..TOLD].join(", "), names.len() - TOLD),
        }
    }

    fn config(args: &Tap, settings: &Settings, daemon: &Daemon) -> anyhow::Result<LiveConfig> {
        Ok(LiveConfig {
            interfaces: args.interface.clone(),
            cgroups: args.cgroup.clone(),
            pods: settings.kubernetes.as_ref().and_then(|kubernetes| kubernetes.wanted_pods()),
            ports: args.port.clone(),
            nets: daemon.nets(super::nets(args)?),
            exclude: args.exclude.clone(),
            direction: args.direction.into(),
            tc_hook: match args.tc_hook {
                TcHookArg::Auto => TcHook::Auto,
                TcHookArg::Tcx => TcHook::Tcx,
                TcHookArg::Clsact => TcHook::Clsact,
            },
            workers: super::workers(args),
            trim: args.trim,
            own_cgroup: crate::capture::ebpf::own_cgroup(&args.cgroup),
            identity: IdentityConfig { cgroups: args.identity_cgroup.clone(), ..IdentityConfig::default() },
            ring_bytes: args.ring_mib.map(|mib| mib as usize * (1 << 20)),
            ..LiveConfig::default()
        })
    }

    impl watch::Capture for Live {
        fn set_filter(&mut self, wanted: Wanted) -> anyhow::Result<()> {
            let Wanted { ports, nets, exclude, direction, .. } = wanted;
            Ok(Self::set_filter(self, &Filter { ports, nets, exclude, direction, ..Filter::default() })?)
        }

        fn look(&mut self, vitals: &Vitals) -> anyhow::Result<()> {
            tell(&self.changes(), self.attach_stats());
            tell_books(self, vitals)
        }

        fn lost(&mut self) -> anyhow::Result<u64> {
            Ok(self.balance()?.total().dropped().packets)
        }
    }

    /// Tells the kernel's books to whoever asks for metrics.
    fn tell_books(live: &mut Live, vitals: &Vitals) -> anyhow::Result<()> {
        let (balance, attached) = (live.balance()?, live.attach_stats());
        let identity = live.identity().map(Identity::stats).transpose()?;
        vitals.tell(books(&balance, attached, identity.as_ref()));
        Ok(())
    }

    fn books(balance: &Balance, attached: AttachStats, identity: Option<&IdentityStats>) -> Books {
        let tally = |tally: Tally| vitals::Tally { packets: tally.packets, bytes: Some(tally.bytes) };
        let ring = |ring: &RingBalance| Ring {
            captured: tally(ring.captured),
            truncated: tally(ring.truncated),
            headers_only: tally(ring.headers_only),
            dropped: vec![
                ("ring_full", tally(ring.ring_full)),
                ("no_ring", tally(ring.no_ring)),
                ("load_failed", tally(ring.load_failed)),
            ],
        };
        let connections = identity.map_or_else(Vec::new, |of| {
            vec![
                ("opened", of.opened),
                ("accepted", of.accepted),
                ("closed", of.closed),
                ("refused", of.refused),
                ("displaced", of.displaced),
                ("no_storage", of.no_storage),
                ("older", of.older),
            ]
        });
        Books {
            mode: "ebpf",
            offered: Some(tally(balance.offered)),
            filtered: balance.filtered.reasons().map(|(reason, of)| (reason, tally(of))).to_vec(),
            rings: balance.rings.iter().map(ring).collect(),
            attached: attached.now,
            changes: vec![
                ("came", attached.came),
                ("went", attached.went),
                ("refused", attached.refused),
                ("stripped", attached.stripped),
            ],
            connections,
        }
    }

    /// Says what came and went, the first of many one by one.
    fn tell(changes: &[Change], stats: AttachStats) {
        for change in changes.iter().take(TOLD) {
            match change {
                Change::Came(name) => tracing::info!("{name} is captured from now on"),
                Change::Went(name) => {
                    tracing::warn!("{name} is gone: nothing more is captured there until it is back");
                }
                Change::Refused(name, why) => tracing::warn!("{name} is not captured: {why}"),
            }
        }
        if changes.len() > TOLD {
            tracing::info!("{} more came, went or were refused", changes.len() - TOLD);
        }
        if stats.now == 0 && changes.iter().any(|change| matches!(change, Change::Went(_))) {
            tracing::warn!("nothing is left to capture: waiting for what was asked for to come back");
        }
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
            "cgroups": stats.cgroups,
            "cgroups_came": stats.cgroups_came,
            "cgroups_went": stats.cgroups_went,
            "cgroups_refused": stats.cgroups_refused,
        })
    }

    /// The kernel's books: offered = filtered + captured + dropped, by reason.
    fn balance_json(balance: &Balance, attached: AttachStats) -> Value {
        let tally = |tally: Tally| json!({ "packets": tally.packets, "bytes": tally.bytes });
        let ring = |ring: &RingBalance| {
            json!({
                "captured": tally(ring.captured),
                "truncated": tally(ring.truncated),
                "headers_only": tally(ring.headers_only),
                "dropped": {
                    "ring_full": tally(ring.ring_full),
                    "no_ring": tally(ring.no_ring),
                    "load_failed": tally(ring.load_failed),
                },
            })
        };
        let filtered = balance.filtered.reasons().map(|(name, of)| (name.to_owned(), tally(of)));
        let mut all = ring(&balance.total());
        all["offered"] = tally(balance.offered);
        all["filtered"] = Value::Object(filtered.into_iter().collect());
        all["rings"] = balance.rings.iter().map(ring).collect();
        all["attachments"] = json!({
            "now": attached.now,
            "came": attached.came,
            "went": attached.went,
            "refused": attached.refused,
            "stripped": attached.stripped,
            "untold": attached.untold,
        });
        all
    }
}
