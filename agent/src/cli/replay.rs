//! `remora replay`: capture files, one after the other, as one capture.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Packet;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::Replay;
use super::run::Run;
use super::settings::{Settings, Words};
use crate::capture::file::{Block, BlockSource, FileSource};
use crate::capture::{PacketSource, Progress};
use crate::captured::Source;
use crate::pipeline::Format;

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
    let reports = match args.workers {
        0 | 1 => vec![run.worker(Box::new(source)).run()],
        _ => run.by_flow(args.workers, Box::new(source)).run()?,
    };
    bar.finish_and_clear();
    run.finish(reports, None)
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
