//! `remora tap`: live, by eBPF, until a signal.

use std::process::ExitCode;

use super::args::Tap;

#[cfg(feature = "ebpf")]
pub(super) fn run(args: &Tap) -> anyhow::Result<ExitCode> {
    live::run(args)
}

#[cfg(not(feature = "ebpf"))]
pub(super) fn run(_args: &Tap) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this remora was built without eBPF (feature `ebpf`): it replays capture files only")
}

#[cfg(feature = "ebpf")]
mod live {
    use std::process::ExitCode;
    use std::time::{Duration, Instant};

    use crate::capture::ebpf::{Live, LiveConfig, LiveError};
    use crate::captured::Source;
    use crate::cli::NotPermitted;
    use crate::cli::args::Tap;
    use crate::cli::run::Run;
    use crate::cli::settings::{Settings, network};

    /// How often losses are looked at, to warn while there is time to act.
    const WATCH: Duration = Duration::from_secs(10);

    pub(super) fn run(args: &Tap) -> anyhow::Result<ExitCode> {
        let settings = Settings::new(&args.common)?;
        let config = config(args)?;
        let (live, sources) = Live::start(&config).map_err(|error| match error {
            LiveError::NotPermitted { .. } => NotPermitted(error.to_string()).into(),
            other => anyhow::Error::new(other),
        })?;
        let mut run = Run::start(&settings, Source::Ebpf, config.workers)?;
        tracing::info!("capturing {live}; Ctrl-C ends it");
        let mut threads = Vec::new();
        for source in sources {
            let worker = run.worker(Box::new(source));
            let name = format!("worker-{}", worker.id);
            threads.push(std::thread::Builder::new().name(name).spawn(move || worker.run())?);
        }
        watch(&live, &run, &threads);
        let mut reports = Vec::new();
        for thread in threads {
            reports.push(thread.join().map_err(|_| anyhow::anyhow!("a worker panicked: this is a bug in remora"))?);
        }
        let balance = live.balance();
        drop(live);
        run.finish(reports, Some(balance))
    }
}
