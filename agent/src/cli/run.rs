//! What replay and tap have in common: the sinks that they start, and how a run ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_core::EngineConfig;
use anyhow::Context as _;
use tokio::runtime::Runtime;

use super::args::PcapMode;
use super::kubernetes::Kubernetes;
use super::say;
use super::settings::{Settings, Words};
use super::signals::Signals;
use super::stage::Stage;
use super::stats::{self, Totals};
use super::stored::{note_names, open_store};
use super::vitals::Vitals;
use super::{metrics, serving};
use crate::api::{Bound, Feed, Registry, ServeLimits, Server};
use crate::capture::PacketSource;
use crate::capture::file::BlockSource;
use crate::captured::Source;
use crate::hooks::{Backpressure, HostServices, Rehearsal, ScriptLog, Scripts, TracingLog};
use crate::outbox::{self, DurableOutbox, OutboxConfig, Recorded, RecordingOutbox};
use crate::pcap::{PcapAppender, PcapStore, SegmentStore};
use crate::pipeline::{
    ByFlow, Format, ItemSinks, Output, OutputConfig, Pace, Part, SinkConfig, Sinks, Stop, Worker,
    WorkerReport,
};
use crate::resolve::Resolver;
use crate::scratch::Scratch;
use crate::view::ItemView;

/// Patience with scripts at the end of a run, counted anew whenever one gets on.
const SCRIPTS_PATIENCE: Duration = Duration::from_secs(30);

/// How long the end of a script's thread is waited for.
const SCRIPTS_END: Duration = Duration::from_secs(5);

/// A started run: everything behind the engine.
pub(super) struct Run {
    sinks: Sinks,
    /// How a file's workers show items, where they write them themselves.
    lines: Option<Arc<ItemView>>,
    pace: Pace,
    hash: bool,
    store: Option<Arc<SegmentStore>>,
    appenders: Vec<Box<dyn PcapAppender>>,
    next_worker: u16,
    outbox: Option<Arc<DurableOutbox>>,
    runtime: Runtime,
    drain: Duration,
    /// Whether what is undelivered survives this run.
    keeps: bool,
    words: Words,
    stats: bool,
    kubernetes: Option<Arc<Kubernetes>>,
    /// How the run is, for whoever asks.
    vitals: Arc<Vitals>,
    /// What else is told by HTTP.
    registry: Arc<Registry>,
    server: Option<Server>,
    // Last: nothing uses the folders any more when they vanish.
    folders: Folders,
}

/// Folders of a run; the temporary one vanishes with it.
struct Folders {
    data: PathBuf,
    pcap: PathBuf,
    temporary: Scratch,
}

impl Folders {
    fn new(settings: &Settings) -> anyhow::Result<Self> {
        let temporary =
            Scratch::create(&std::env::temp_dir(), "remora-run-").context("making a temporary folder")?;
        let at = |given: Option<&PathBuf>, name: &str| match given {
            Some(path) => std::path::absolute(path).with_context(|| path.display().to_string()),
            None => Ok(temporary.path().join(name)),
        };
        let data = at(settings.data_dir.as_ref(), "data")?;
        let pcap = at(settings.pcap_dir.as_ref(), "pcap")?;
        Ok(Self { data, pcap, temporary })
    }
}

impl Run {
    /// Starts scripts, outbox, store and output for `workers` workers.
    ///
    /// # Errors
    /// When a folder cannot be made or no script can run. A script that does not compile is reported, and the others
    /// run on.
    pub(super) fn start(settings: &Settings, source: Source, workers: u16) -> anyhow::Result<Self> {
        Self::begin(settings, source, workers, None)
    }

    /// Starts a replay whose scripts play on that stage, before nobody.
    ///
    /// # Errors
    /// As [`Run::start`], and when any script does not run.
    pub(super) fn rehearse(settings: &Settings, stage: &Arc<Stage>) -> anyhow::Result<Self> {
        Self::begin(settings, Source::Pcap, 1, Some(stage))
    }

    fn begin(
        settings: &Settings,
        source: Source,
        workers: u16,
        stage: Option<&Arc<Stage>>,
    ) -> anyhow::Result<Self> {
        let pace = if source == Source::Pcap { Pace::Replay } else { Pace::Live };
        let (stop, mut resolver) = (Stop::default(), Resolver::of_this_node());
        if let Some(kubernetes) = &settings.kubernetes {
            resolver = resolver.with_names(kubernetes.names());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("delivery")
            .enable_all()
            .build()
            .context("starting the delivery runtime")?;
        let signals = Signals::catch(&runtime, settings.hang_up.clone());
        let folders = Folders::new(settings)?;
        runtime.spawn(signals.set(stop.clone(), folders.temporary.path().to_owned(), settings.end_within));
        let wanted = pace == Pace::Live || !settings.scripts.is_empty() || settings.pcap_dir.is_some();
        let storing = wanted && settings.pcap.mode != PcapMode::Off;
        let (store, appenders) = if storing {
            open_store(&folders.pcap, settings.pcap, workers, source)?
        } else {
            (None, Vec::new())
        };
        let wanted = !settings.scripts.is_empty() || settings.sinks.iter().any(SinkConfig::needs_outbox);
        let outbox = match stage {
            None if wanted => Some(start_outbox(settings, &folders.data, &runtime)?),
            _ => None,
        };
        let scripts = if settings.scripts.is_empty() {
            None
        } else {
            let services = HostServices {
                store: store.clone().map(|store| store as Arc<dyn PcapStore>),
                outbox: match (&outbox, stage) {
                    (Some(outbox), _) => Arc::clone(outbox) as Arc<dyn outbox::Outbox>,
                    (None, stage) => Arc::new(RecordingOutbox::new(notes(stage))),
                },
                env: Arc::new(settings.env.0.clone()),
                data_dir: folders.data.join("scripts"),
                runtime: runtime.handle().clone(),
                trust: settings.outbox.trust.clone(),
                s3_endpoint: settings.s3_endpoint.clone(),
                node_name: resolver.node().name.clone(),
                names: {
                    let history = Arc::clone(resolver.history());
                    Arc::new(move || history.by_second())
                },
                view: Arc::clone(&settings.view),
                log: stage.map_or_else(
                    || Arc::new(TracingLog) as Arc<dyn ScriptLog>,
                    |stage| Arc::clone(stage) as _,
                ),
                rehearsal: stage.map(|stage| Arc::clone(stage) as Arc<dyn Rehearsal>),
            };
            Some(Arc::new(load_scripts(settings, services, pace, stage.is_some())?))
        };
        if let (Some(kubernetes), Some(scripts)) = (&settings.kubernetes, &scripts) {
            kubernetes.tell(scripts);
        }
        let told = match (&settings.kubernetes, &store) {
            (Some(_), Some(store)) => Some(note_names(Arc::clone(store))?),
            _ => None,
        };
        let items = start_sinks(settings, outbox.as_ref(), pace)?;
        // The workers of a file write lines themselves where nobody else has to see items.
        let seen = scripts.is_some() || items.is_some() || settings.http.api.is_some();
        let by_number = settings.filter.as_ref().is_some_and(|filter| filter.asks_for_numbers());
        let by_workers = pace == Pace::Replay && workers > 1 && settings.format == Format::Json;
        let lines = (by_workers && !seen && !by_number).then(|| Arc::clone(&settings.view));
        let format = if lines.is_some() { Format::None } else { settings.format };
        let output = start_output(settings, format, &stop)?;
        let api = settings.http.api.as_ref().map(|_| Feed::start(settings.http.feed.clone()));
        let api = api.transpose().context("starting the API")?.map(Arc::new);
        let filter = settings.filter.clone().map(|filter| (filter, Arc::clone(&settings.view)));
        Ok(Self {
            sinks: Sinks {
                resolver,
                processes: None,
                told,
                source,
                filter,
                scripts,
                items,
                api,
                output,
                stop,
            },
            lines,
            pace,
            hash: settings.hash,
            store,
            appenders,
            next_worker: 0,
            outbox,
            runtime,
            drain: settings.drain,
            keeps: settings.data_dir.is_some(),
            words: settings.words,
            stats: settings.stats,
            kubernetes: settings.kubernetes.clone(),
            vitals: Arc::default(),
            registry: Arc::default(),
            server: None,
            folders,
        })
    }

    /// Has the workers to come name the processes at the ends of streams.
    #[cfg(feature = "ebpf")]
    pub(super) fn name_processes(&mut self, known: Arc<dyn crate::process::Processes>) {
        self.sinks.processes = Some(known);
    }

    /// The next worker, over this source.
    pub(super) fn worker(&mut self, source: Box<dyn PacketSource>) -> Worker {
        let Part { id, store, engine, pulse } = self.part();
        Worker { id, source, store, engine, pace: self.pace, sinks: self.sinks.clone(), pulse }
    }

    /// So many workers that share the flows of a file.
    pub(super) fn by_flow(&mut self, workers: u16, source: Box<dyn BlockSource>) -> ByFlow {
        let parts = (0..workers).map(|_| self.part()).collect();
        ByFlow { source, parts, sinks: self.sinks.clone(), lines: self.lines.clone() }
    }

    fn part(&mut self) -> Part {
        let id = self.next_worker;
        self.next_worker += 1;
        let ids = self.store.as_ref().and_then(|store| store.stream_ids(id.into()));
        let (first_stream, stream_step) = ids.map_or((1, 1), |(first, step)| (first.0, step));
        let engine = EngineConfig {
            hash: self.hash,
            first_stream,
            stream_step,
            hash_seed: random_seed(),
            ..EngineConfig::default()
        };
        let store = (!self.appenders.is_empty()).then(|| self.appenders.remove(0));
        let pulse = self.vitals.worker();
        Part { id, store, engine, pulse }
    }

    /// How the run is.
    pub(super) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Where more can be told by HTTP: metrics, and reasons not to be ready.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Serves at these addresses until the run is over.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub(super) fn serve(&mut self, bound: Vec<Bound>, settings: &Settings) -> anyhow::Result<()> {
        if bound.is_empty() {
            return Ok(());
        }
        self.vitals.checked_by(&self.registry);
        let parts = serving::Parts {
            settings,
            data: &self.folders.data,
            pcap: &self.folders.pcap,
            node: self.sinks.resolver.node(),
            scripts: self.sinks.scripts.as_ref(),
            store: self.store.as_ref(),
            outbox: self.outbox.as_ref(),
        };
        parts.checked_by(&self.registry);
        let sources = metrics::Sources {
            vitals: Arc::clone(&self.vitals),
            store: self.store.clone(),
            outbox: self.outbox.clone(),
            scripts: self.sinks.scripts.as_ref().map(Arc::downgrade),
            sinks: self.sinks.items.clone(),
            kubernetes: self.kubernetes.clone(),
        };
        if let Some(kubernetes) = &self.kubernetes {
            let kubernetes = Arc::clone(kubernetes);
            self.registry.add_ready("kubernetes", move || kubernetes.wanting());
        }
        metrics::add(&self.registry, sources);
        let (feed, services) = (self.sinks.api.as_ref(), parts.services());
        let server = Server::start(bound, &self.registry, feed, services, ServeLimits::default());
        self.server = Some(server.context("starting the API")?);
        Ok(())
    }

    /// Has the scripts' jobs run once, when all else is done; what they publish then.
    pub(super) fn run_jobs(&self) -> String {
        let Some(scripts) = &self.sinks.scripts else { return String::new() };
        scripts.run_jobs();
        // Whatever is left after that is told at the end.
        let _ = scripts.drain(SCRIPTS_PATIENCE);
        scripts.published()
    }

    /// The common end.
    pub(super) fn stop(&self) -> &Stop {
        &self.sinks.stop
    }

    /// Lets scripts and deliveries finish, says what did not work, prints the counters.
    ///
    /// # Errors
    /// When a source failed or output could not be written.
    pub(super) fn finish(
        mut self,
        reports: Vec<WorkerReport>,
        kernel: Option<serde_json::Value>,
    ) -> anyhow::Result<ExitCode> {
        let mut failed = false;
        let mut scripts = Vec::new();
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.silence();
        }
        if let Some(running) = self.sinks.scripts.take() {
            if !running.drain(SCRIPTS_PATIENCE) {
                tracing::warn!(
                    "scripts had items left after {} s without progress",
                    SCRIPTS_PATIENCE.as_secs()
                );
                failed = true;
            }
            scripts = running.shutdown(SCRIPTS_END);
        }
        if let Some(items) = &self.sinks.items {
            items.close();
        }
        if let Some(outbox) = &self.outbox {
            let drained = self.runtime.block_on(outbox.shutdown(self.drain));
            if !drained.undelivered.is_empty() {
                let kept = if self.keeps { "; they are kept, and sent at the next start" } else { "" };
                let (idle, option) = (self.drain.as_secs(), self.words.name("--drain-timeout"));
                tracing::error!("{drained}; nothing moved for {idle} s ({option}){kept}");
            }
            failed |= !drained.undelivered.is_empty() || outbox.stats().failed > 0;
        }
        let written = self.sinks.output.as_ref().map_or(Ok(()), |output| output.close());
        let totals = Totals {
            reports: &reports,
            output: self.sinks.output.as_ref().map(|output| output.stats()).unwrap_or_default(),
            scripts,
            sinks: self.sinks.items.as_ref().map(|items| items.stats()).unwrap_or_default(),
            deliveries: self.outbox.as_ref().map(|outbox| outbox.stats()).unwrap_or_default(),
            store: self.store.as_ref().map(|store| store.stats()),
            kernel,
            kubernetes: self.kubernetes.as_ref().map(|kubernetes| kubernetes.stats()),
            words: self.words,
        };
        totals.warn();
        if self.stats {
            say::err(format_args!("{}", stats::json(&totals)));
        } else {
            tracing::info!("{}", stats::summary(&totals));
        }
        if let Some(error) = reports.into_iter().find_map(|report| report.error) {
            return Err(error);
        }
        written?;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Where a rehearsal's deliveries are noted.
fn notes(stage: Option<&Arc<Stage>>) -> impl Fn(Recorded) + Send + Sync + 'static {
    let stage = stage.map(Arc::clone);
    move |note| {
        if let Some(stage) = &stage {
            stage.deliver(&note);
        }
    }
}

fn start_outbox(settings: &Settings, data: &Path, runtime: &Runtime) -> anyhow::Result<Arc<DurableOutbox>> {
    let config = OutboxConfig {
        folder: data.join(outbox::FOLDER),
        // What vanishes with the process need not survive it.
        durable: settings.data_dir.is_some(),
        ..settings.outbox.clone()
    };
    DurableOutbox::open(config, runtime.handle()).context("starting the outbox")
}

fn start_sinks(
    settings: &Settings,
    outbox: Option<&Arc<DurableOutbox>>,
    pace: Pace,
) -> anyhow::Result<Option<Arc<ItemSinks>>> {
    if settings.sinks.is_empty() {
        return Ok(None);
    }
    let outbox = outbox.map(|outbox| Arc::clone(outbox) as Arc<dyn outbox::Outbox>);
    let sinks =
        ItemSinks::start(&settings.sinks, &settings.view, outbox.as_ref(), pace).context("--sinks")?;
    Ok(Some(Arc::new(sinks)))
}

/// `all`: whether each of them has to run.
fn load_scripts(
    settings: &Settings,
    services: HostServices,
    pace: Pace,
    all: bool,
) -> anyhow::Result<Scripts> {
    let paths = &settings.scripts;
    let mode = match pace {
        Pace::Live => Backpressure::DropNewest,
        Pace::Replay => Backpressure::Wait,
    };
    let (scripts, failures) = Scripts::load(paths, &settings.script_limits, mode, services);
    for failure in &failures {
        tracing::error!("{failure}");
    }
    anyhow::ensure!(!all || failures.is_empty(), "a script does not run: see above");
    // A folder may be filled later, while the files are followed.
    let may_come = pace == Pace::Live && paths.iter().any(|path| path.is_dir());
    if scripts.is_empty() && !may_come {
        let named = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        anyhow::ensure!(!failures.is_empty(), "no script to run: no *.js in {named}");
        anyhow::bail!("no script can run: see above");
    }
    if pace == Pace::Live {
        if scripts.is_empty() {
            tracing::warn!("no script runs yet: waiting for one in the folders of --script");
        }
        scripts.watch().context("following the scripts' files")?;
    }
    Ok(scripts)
}

fn start_output(settings: &Settings, format: Format, stop: &Stop) -> anyhow::Result<Option<Arc<Output>>> {
    if format == Format::None && settings.streams.is_none() {
        return Ok(None);
    }
    let config = OutputConfig { format, streams: settings.streams.clone(), view: Arc::clone(&settings.view) };
    Ok(Some(Arc::new(Output::start(config, stop.clone())?)))
}

/// A seed that traffic cannot guess, so that nobody can aim at one bucket of the flow table.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
