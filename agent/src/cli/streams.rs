//! `remora streams` and `remora export`: packets out of a store's folder, also one that a live agent is writing.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_core::Timestamp;
use agent_core::item::StreamId;
use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::{Export, StreamsCommand};
use super::matching;
use super::settings::UsageError;
use crate::pcap::{ExportFormat, Exported, Select, StoreError, StoreFolder, StreamEntry};
use crate::utc;

const BUFFER: usize = 1 << 20;

/// `remora streams …`.
pub(super) fn run(command: &StreamsCommand) -> anyhow::Result<ExitCode> {
    match command {
        StreamsCommand::List { dir, json } => list(dir, *json),
        StreamsCommand::Pcap { stream, output, dir } => {
            let store = StoreFolder::open(dir)?;
            let stream = number(stream)?;
            let select = Select { stream: Some(stream), ..Select::default() };
            let exported = write(&store, &select, output)?;
            if exported.packets == 0 {
                return Err(StoreError::Unknown(stream)).context(format!("the store in {}", dir.display()));
            }
            tell(&exported, output);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `remora export`.
pub(super) fn export(args: &Export) -> anyhow::Result<ExitCode> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(UsageError("--from must be before --to".into()).into());
    }
    let store = StoreFolder::open(&args.dir)?;
    let mut select = Select { from: args.from, to: args.to, ..Select::default() };
    let found = match &args.filter {
        Some(filter) => {
            let bar = bar(store.bytes())?;
            let found = matching::streams(&store, &select, filter, &mut |bytes| bar.set_position(bytes))?;
            bar.finish_and_clear();
            Some(found)
        }
        None => None,
    };
    let wanted = |stream: Option<StreamId>| {
        found.as_ref().is_none_or(|found| stream.is_some_and(|stream| found.contains(&stream)))
    };
    if found.is_some() {
        select.filter = Some(&wanted);
    }
    let exported = write(&store, &select, &args.output)?;
    tell(&exported, &args.output);
    Ok(ExitCode::SUCCESS)
}

/// A stream's number: digits, however many zeros before them.
fn number(text: &str) -> Result<StreamId, UsageError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(StreamId).ok_or_else(|| {
        UsageError(format!("{text:?} is not a stream's number: `remora streams list` shows them"))
    })
}

fn tell(exported: &Exported, output: &Path) {
    let Exported { packets, streams, vanished } = *exported;
    tracing::info!("{packets} packets of {streams} streams written to {}", output.display());
    if vanished > 0 {
        tracing::warn!(
            "{vanished} segments were removed by the store's retention while they were being read"
        );
    }
}

fn bar(bytes: u64) -> anyhow::Result<ProgressBar> {
    // Hidden by itself where standard error is no terminal.
    Ok(ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
        "{elapsed_precise} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta}",
    )?))
}

/// Writes what is selected; the file gets its name when it is whole.
fn write(store: &StoreFolder, select: &Select<'_>, output: &Path) -> anyhow::Result<Exported> {
    let bar = bar(store.bytes())?;
    let mut progress = |bytes| bar.set_position(bytes);
    let to = || format!("writing {}", output.display());
    let exported = if output == Path::new("-") {
        ensure!(!io::stdout().is_terminal(), "a capture file is nothing for a terminal: give -o FILE");
        let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
        let exported = store.export(select, ExportFormat::Ng, &mut out, &mut progress)?;
        out.flush().with_context(to)?;
        exported
    } else {
        let temporary = Unfinished::create(output)?;
        let mut out = BufWriter::with_capacity(BUFFER, &temporary.file);
        let exported = store.export(select, format_of(output), &mut out, &mut progress)?;
        out.flush().with_context(to)?;
        drop(out);
        if exported.packets > 0 || select.stream.is_none() {
            temporary.finish(output).with_context(to)?;
        }
        exported
    };
    bar.finish_and_clear();
    Ok(exported)
}

/// `.pcap` is classic; all else pcapng.
fn format_of(output: &Path) -> ExportFormat {
    match output.extension().and_then(|e| e.to_str()) {
        Some("pcap" | "cap") => ExportFormat::Classic,
        _ => ExportFormat::Ng,
    }
}

/// A file beside the one that is asked for; it goes unless it is finished.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn create(output: &Path) -> anyhow::Result<Self> {
        let mut name = output.as_os_str().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let path = PathBuf::from(name);
        // Raw traffic: for its owner only.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, file })
    }

    fn finish(&self, output: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, output)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Err: it has its name already.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn list(dir: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let store = StoreFolder::open(dir)?;
    let bar = bar(store.link_bytes())?;
    let streams = store.streams(&mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = print(&streams, as_json, &mut out).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed.context("writing to standard output")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(streams: &[StreamEntry], as_json: bool, out: &mut impl Write) -> io::Result<()> {
    if as_json {
        for s in streams {
            let (client, server) = s.ends.map(|(c, s)| (c.to_string(), s.to_string())).unzip();
            let line = json!({
                "stream": s.stream.to_string(),
                "client": client,
                "server": server,
                "packets": s.packets,
                "bytes": s.bytes,
                "firstTime": time(s.first),
                "lastTime": time(s.last),
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    writeln!(
        out,
        "{:<12}  {:<20}  {:<20}  {:>9}  {:>12}  ENDS",
        "STREAM", "FIRST", "LAST", "PACKETS", "BYTES"
    )?;
    for s in streams {
        let ends = s.ends.map_or("?".to_owned(), |(client, server)| format!("{client} > {server}"));
        let (first, last) = (time(s.first), time(s.last));
        writeln!(
            out,
            "{:<12}  {first:<20}  {last:<20}  {:>9}  {:>12}  {ends}",
            s.stream, s.packets, s.bytes
        )?;
    }
    Ok(())
}

fn time(time: Timestamp) -> String {
    utc::text(time.0 / 1_000_000_000)
}
