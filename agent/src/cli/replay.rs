//! `remora replay`: capture files, one after the other, as one capture.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use agent_core::Packet;
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::Replay;
use super::run::Run;
use super::settings::{Settings, Words};
use super::watch;
use crate::capture::file::{Block, BlockSource, FileSource};
use crate::capture::{PacketSource, Progress};
use crate::captured::Source;
use crate::pipeline::{Format, WorkerReport};

/// Files smaller than this are read before a progress bar could be seen.
const WORTH_A_BAR: u64 = 64 << 20;

/// Reads the files through a run.
pub(super) fn run(args: &Replay) -> anyhow::Result<ExitCode> {
    let settings = Settings::new(&args.common, Words::Flags)?;
    let mut source = open(&args.files)?;
    let bytes: u64 = source.left.iter().filter_map(FileSource::len_bytes).sum();
    // A bar and items would fight over one terminal.
    let quiet = settings.format == Format::None || !std::io::stdout().is_terminal();
    let bar = if bytes >= WORTH_A_BAR && quiet && std::io::stderr().is_terminal() {
        ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
            "{elapsed_precise} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta}",
        )?)
    } else {
        ProgressBar::hidden()
    };
    let mut run = Run::start(&settings, Source::Pcap, args.workers)?;
    source.bar = bar.clone();
    let reports = play(&mut run, args.workers, source)?;
    bar.finish_and_clear();
    run.finish(reports, None)
}

/// Runs the workers over it to its end. What a thread that panics has found until then is still to be delivered.
fn play<S: PacketSource + BlockSource + 'static>(
    run: &mut Run,
    workers: u16,
    source: S,
) -> anyhow::Result<Vec<WorkerReport>> {
    if workers > 1 {
        return run.by_flow(workers, Box::new(source)).run();
    }
    let worker = run.worker(Box::new(source));
    let thread = Builder::new().name(format!("worker-{}", worker.id));
    Ok(watch::reports(vec![thread.spawn(move || worker.run()).context("starting the worker")?]))
}

/// Opens all files before the first is read.
///
/// # Errors
/// When one cannot be opened, or is no capture file.
pub(super) fn open(paths: &[PathBuf]) -> anyhow::Result<Files> {
    let mut left = paths.iter().map(FileSource::open).collect::<Result<Vec<_>, _>>()?;
    left.reverse();
    Ok(Files { left, done: 0, bar: ProgressBar::hidden() })
}

/// Several files as one source.
pub(super) struct Files {
    /// The one being read is last.
    left: Vec<FileSource>,
    done: u64,
    bar: ProgressBar,
}

impl PacketSource for Files {
    fn poll(
        &mut self,
        max: usize,
        wait: Duration,
        sink: &mut dyn FnMut(&Packet<'_>),
    ) -> anyhow::Result<Progress> {
        while let Some(file) = self.left.last_mut() {
            match file.poll(max, wait, sink)? {
                Progress::End => {
                    self.done += file.position_bytes();
                    self.left.pop();
                }
                progress => {
                    self.bar.set_position(self.done + file.position_bytes());
                    return Ok(progress);
                }
            }
        }
        Ok(Progress::End)
    }

    fn has_more(&self) -> bool {
        self.left.last().is_some_and(FileSource::has_more)
    }
}

impl BlockSource for Files {
    fn poll_block(&mut self, sink: &mut dyn FnMut(usize, &Packet<'_>)) -> anyhow::Result<Option<Arc<Block>>> {
        while let Some(file) = self.left.last_mut() {
            if let Some(block) = file.poll_block(sink)? {
                self.bar.set_position(self.done + file.position_bytes());
                return Ok(Some(block));
            }
            self.done += file.position_bytes();
            self.left.pop();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use agent_core::StreamId;
    use clap::Parser as _;
    use testkit::fakes::Fake;
    use testkit::fakes::elastic::Elastic;
    use testkit::synth::Capture;

    use super::super::args::{Cli, Command};
    use super::*;
    use crate::pcap::PcapAppender;

    const CONNECTIONS: u16 = 40;
    const EACH: usize = 3;

    fn capture(path: &Path) {
        let mut capture = Capture::create(path).unwrap();
        for port in 0..CONNECTIONS {
            let mut connection = capture.open(40_000 + port).unwrap();
            for _ in 0..EACH {
                let (ask, answer) = (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n");
                capture.exchange(&mut connection, ask, answer).unwrap();
            }
            capture.close(connection).unwrap();
        }
    }

    /// The file, of which the second part cannot be had.
    struct Failing(FileSource, u32);

    impl Failing {
        fn next(&mut self) {
            self.1 += 1;
            assert!(self.1 < 2, "on purpose");
        }
    }

    impl PacketSource for Failing {
        fn poll(
            &mut self,
            max: usize,
            wait: Duration,
            sink: &mut dyn FnMut(&Packet<'_>),
        ) -> anyhow::Result<Progress> {
            self.next();
            self.0.poll(max, wait, sink)
        }
    }

    impl BlockSource for Failing {
        fn poll_block(
            &mut self,
            sink: &mut dyn FnMut(usize, &Packet<'_>),
        ) -> anyhow::Result<Option<Arc<Block>>> {
            self.next();
            self.0.poll_block(sink)
        }
    }

    /// A store that breaks with the first packet.
    struct Broken;

    impl PcapAppender for Broken {
        fn append(&mut self, _: Option<StreamId>, _: &Packet<'_>) {
            panic!("on purpose");
        }

        fn commit(&mut self) {}
    }

    /// What a server got of a replay by so many workers, by the clients' ports, and how the replay ended.
    fn delivered(
        workers: u16,
        play: impl FnOnce(&mut Run, FileSource) -> anyhow::Result<Vec<WorkerReport>>,
    ) -> (BTreeMap<String, usize>, anyhow::Error) {
        let dir = tempfile::tempdir().unwrap();
        let (pcap, sinks) = (dir.path().join("a.pcap"), dir.path().join("sinks.yaml"));
        capture(&pcap);
        let elastic = Fake::start(Elastic::default()).unwrap();
        std::fs::write(&sinks, format!("- {{kind: elasticsearch, url: '{}', index: items}}", elastic.url()))
            .unwrap();
        let words = ["remora", "replay", "a.pcap", "--quiet", "--drain-timeout", "20", "--sinks"];
        let cli = Cli::try_parse_from(words.into_iter().chain([sinks.to_str().unwrap()])).unwrap();
        let Command::Replay(args) = cli.command else { panic!() };
        let settings = Settings::new(&args.common, Words::Flags).unwrap();
        let mut run = Run::start(&settings, Source::Pcap, workers).unwrap();
        let reports = play(&mut run, FileSource::open(&pcap).unwrap()).unwrap();
        let error = run.finish(reports, None).unwrap_err();
        let documents = elastic.with(|fake| fake.documents.remove("items").unwrap_or_default());
        let mut ports = BTreeMap::new();
        for document in documents.values() {
            *ports.entry(document["src"]["port"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        (ports, error)
    }

    #[test]
    fn a_source_that_panics_ends_the_replay_and_what_was_found_is_delivered() {
        for workers in [1, 3] {
            let (ports, error) = delivered(workers, |run, file| play(run, workers, Failing(file, 0)));
            assert!(error.to_string().contains("please report it"), "{error}");
            // By several, the first part is all of it.
            let all = usize::from(CONNECTIONS) * EACH;
            let got: usize = ports.values().sum();
            assert!(if workers > 1 { got == all } else { (1..all).contains(&got) }, "{workers}: {got}");
        }
    }

    #[test]
    fn a_worker_that_panics_takes_nothing_along_of_what_others_found() {
        let (ports, error) = delivered(3, |run, file| {
            let mut by_flow = run.by_flow(3, Box::new(file));
            for part in &mut by_flow.parts {
                (part.engine.first_stream, part.engine.stream_step) = (u64::from(part.id) + 1, 3);
            }
            by_flow.parts[1].store = Some(Box::new(Broken));
            by_flow.run()
        });
        assert!(error.to_string().contains("a worker panicked"), "{error}");
        assert!(ports.values().all(|&items| items == EACH), "{ports:?}");
        assert!((1..usize::from(CONNECTIONS)).contains(&ports.len()), "{ports:?}");
    }
}
