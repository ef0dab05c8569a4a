//! `remora tap` by AF_PACKET: where eBPF is not permitted, or `--mode` asks for it.

use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::args::Tap;
use super::daemon::{Daemon, Wanted};
use super::run::Run;
use super::settings::{Settings, UsageError};
use super::vitals::{self, Books, Phase, Ring, Vitals};
use super::{NotPermitted, tap, watch};
use crate::capture::afpacket::{AfPacket, AfPacketConfig, AfPacketError, Balance, Tally};
use crate::captured::Source;

/// Captures until a signal. `why` says why not by eBPF.
///
/// # Errors
/// When a target is none of AF_PACKET's, it is not permitted, or capture or a worker fails.
pub(super) fn run(
    args: &Tap,
    settings: &Settings,
    daemon: &mut Daemon,
    why: &str,
) -> anyhow::Result<ExitCode> {
    let config = config(args, daemon)?;
    let (mut capture, sources) = AfPacket::start(&config).map_err(|error| refusal(error, why))?;
    let began = SystemTime::now();
    tracing::info!("mode: AF_PACKET, because {why}");
    let mut run = Run::start(settings, Source::AfPacket, config.workers)?;
    run.serve(std::mem::take(&mut daemon.bound), settings)?;
    let workers = sources
        .into_iter()
        .map(|source| {
            let worker = run.worker(Box::new(source));
            let thread = std::thread::Builder::new().name(format!("worker-{}", worker.id));
            thread.spawn(move || worker.run())
        })
        .collect::<Result<Vec<_>, _>>()?;
    run.vitals().tell(books(&capture)?);
    run.vitals().enter(Phase::Capturing);
    tracing::info!("capturing on {}; Ctrl-C ends it", capture.attachments().join(", "));
    daemon.begin(began, run.registry());
    let watched = watch::watch(&mut capture, &run, &workers, settings.words, daemon);
    daemon.end();
    run.vitals().enter(Phase::Ending);
    // Whatever fails from here on, scripts and deliveries get their end.
    let stopped = capture.stop();
    let reports = watch::reports(workers);
    let balance = capture.balance();
    // Closed before scripts and deliveries are waited for: nobody pays for our end.
    drop(capture);
    let code = run.finish(reports, balance.as_ref().ok().map(balance_json))?;
    stopped?;
    balance?;
    watched.map(|()| code)
}

fn config(args: &Tap, daemon: &Daemon) -> Result<AfPacketConfig, UsageError> {
    Ok(AfPacketConfig {
        interfaces: args.interface.clone(),
        ports: args.port.clone(),
        nets: daemon.nets(tap::nets(args)?),
        exclude: args.exclude.clone(),
        direction: args.direction.into(),
        workers: tap::workers(args),
        ring_bytes: args.ring_mib.map(|mib| mib as usize * (1 << 20)),
        promiscuous: args.promiscuous,
        ..AfPacketConfig::default()
    })
}

fn refusal(error: AfPacketError, why: &str) -> anyhow::Error {
    if error.is_not_permitted() {
        return NotPermitted(format!("{error} ({why}); `remora doctor` tells more")).into();
    }
    error.into()
}

impl watch::Capture for AfPacket {
    fn set_filter(&mut self, wanted: Wanted) -> anyhow::Result<()> {
        if wanted.direction_changed {
            tracing::warn!(
                "capture.direction needs a restart where capture is by AF_PACKET: what was stays in force"
            );
        }
        Ok(Self::set_filter(self, &wanted.ports, &wanted.nets, &wanted.exclude)?)
    }

    fn look(&mut self, vitals: &Vitals) -> anyhow::Result<()> {
        let changes = Self::look(self)?;
        for name in changes.gone {
            tracing::warn!("interface {name} is gone: nothing more is captured there");
        }
        for name in changes.come {
            tracing::info!("interface {name} has come: captured from now on");
        }
        vitals.tell(books(self)?);
        anyhow::ensure!(!self.is_bereft(), "nothing is left to capture: all that was watched is gone");
        Ok(())
    }

    fn lost(&mut self) -> anyhow::Result<u64> {
        Ok(self.balance()?.total().ring_full)
    }
}

/// The books, for whoever asks for metrics.
fn books(capture: &AfPacket) -> anyhow::Result<Books> {
    let tally = |tally: Tally| vitals::Tally { packets: tally.packets, bytes: Some(tally.bytes) };
    let balance = capture.balance()?;
    let rings = balance.rings.iter().map(|ring| Ring {
        captured: tally(ring.captured),
        truncated: tally(ring.truncated),
        headers_only: vitals::Tally::default(),
        // How many bytes were dropped, a packet socket does not know.
        dropped: vec![("ring_full", vitals::Tally { packets: ring.ring_full, bytes: None })],
    });
    Ok(Books {
        mode: "af_packet",
        rings: rings.collect(),
        filtered: vec![("user_space", tally(balance.total().filtered))],
        attached: capture.attachments().len() as u64,
        ..Books::default()
    })
}

/// The books in the words of eBPF's; null is what a packet socket cannot know.
fn balance_json(balance: &Balance) -> Value {
    let total = balance.total();
    let tally = |tally: Tally| json!({ "packets": tally.packets, "bytes": tally.bytes });
    json!({
        "mode": "af_packet",
        "offered": null,
        "filtered": {
            "disabled": null,
            "other_protocol": null,
            "malformed": null,
            "excluded": null,
            "port": null,
            "net": null,
            "user_space": tally(total.filtered),
        },
        "captured": tally(total.captured),
        "truncated": tally(total.truncated),
        "dropped": { "ring_full": { "packets": total.ring_full, "bytes": null } },
        "freezes": total.freezes,
    })
}
