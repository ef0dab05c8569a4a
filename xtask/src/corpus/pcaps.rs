//! `cargo xtask corpus DIR --pcaps`: every stream's capture file out of the store against what tshark extracts.
//!
//! `remora replay` stores a capture, `remora streams pcap` takes each stream out; `tshark -Y tcp.stream==N -w` does the same
//! with the capture. Packet for packet, bytes, times and both lengths must be equal. So must be what a script gets from
//! `pcap.path` while the store is open: it asks for each item, so that files grow bit by bit, and at each stream's end. Where tshark's idea of a stream
//! differs, a line in `tests/corpus/pcap-differences` says why: `FILE ours:ID|tshark:N reason…`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Corpus;
use crate::sys::{project, run, term};

const DIFFERENCES: &str = "tests/corpus/pcap-differences";
const ASKS: &str = "function onItemCaptured(data) { pcap.path(data.stream); }
function onStreamClosed(info) { pcap.path(info.stream); }
";

/// Time in nanoseconds, original length, bytes.
type Packet = (u64, u32, Vec<u8>);

/// The streams of one capture: what each side calls them, and their packets.
type Streams = BTreeMap<String, Vec<Packet>>;

/// What came of one capture.
struct Outcome {
    /// Packets of each stream that is equal.
    equal: Vec<usize>,
    /// Name of each other, and what it is.
    different: Vec<(String, String)>,
}

/// The command.
pub(super) fn run(options: &Corpus) -> Result<()> {
    let files = super::files(&options.dir, &options.only)?;
    let path = project::root().join(DIFFERENCES);
    let list = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut known = known(&list)?;
    let (mut streams, mut packets, mut explained, mut wrong) = (0, 0, 0, Vec::new());
    for (file, result) in
        files.iter().zip(super::in_parallel(&files, |file| compare(&options.dir.join(file))))
    {
        let Outcome { equal, different } = result.with_context(|| file.clone())?;
        streams += equal.len();
        packets += equal.iter().sum::<usize>();
        for (name, what) in different {
            match known.get_mut(&(file.clone(), name.clone())) {
                Some(used) => {
                    *used = true;
                    explained += 1;
                }
                None => wrong.push(format!("{file}: {name}: {what}")),
            }
        }
    }
    wrong.iter().for_each(|line| term::say(line));
    for ((file, name), _) in known.iter().filter(|((file, _), used)| !**used && files.contains(file)) {
        term::say(&format!("pcap-differences: explains nothing: {file} {name}"));
    }
    term::say(&format!(
        "{} captures: {streams} streams of {packets} packets equal, {explained} different and explained, {} different",
        files.len(),
        wrong.len()
    ));
    ensure!(wrong.is_empty(), "extracted captures differ from tshark's");
    Ok(())
}

/// What the list explains, and whether that was met.
fn known(list: &str) -> Result<BTreeMap<(String, String), bool>> {
    let mut known = BTreeMap::new();
    for line in list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(file), Some(name), Some(_reason)) = (words.next(), words.next(), words.next()) else {
            bail!("{DIFFERENCES}: needs a file, a stream and a reason: {line}");
        };
        known.insert((file.to_owned(), name.to_owned()), false);
    }
    Ok(known)
}

fn compare(capture: &Path) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let ((ours, mut different), theirs) = (ours(capture, folder.path())?, theirs(capture, folder.path())?);
    let (mut equal, mut left) = (Vec::new(), theirs);
    for (name, packets) in ours {
        match left.iter().find(|(_, theirs)| **theirs == packets).map(|(name, _)| name.clone()) {
            Some(same) => {
                left.remove(&same);
                equal.push(packets.len());
            }
            None => different.push((name, shown(&packets))),
        }
    }
    different.extend(left.into_iter().map(|(name, packets)| (name, shown(&packets))));
    Ok(Outcome { equal, different })
}

fn shown(packets: &[Packet]) -> String {
    let first = packets.first().map_or(0, |first| first.0);
    format!("{} packets from {}.{:09}", packets.len(), first / 1_000_000_000, first % 1_000_000_000)
}

/// The streams as they are taken out of the store's folder, and those that were others while it was open.
fn ours(capture: &Path, folder: &Path) -> Result<(Streams, Vec<(String, String)>)> {
    let (store, script) = (folder.join("store"), folder.join("asks.js"));
    fs::write(&script, ASKS)?;
    let remora = || run::command(project::built("remora"));
    run::output(
        remora()
            .arg("replay")
            .arg(std::path::absolute(capture)?)
            .arg("--quiet")
            .arg("--script")
            .arg(&script)
            .arg("--pcap-dir")
            .arg(&store),
    )?;
    let list = run::output(remora().args(["streams", "list", "--json", "--pcap-dir"]).arg(&store))?;
    let (mut streams, mut different) = (Streams::new(), Vec::new());
    for line in list.lines() {
        let line: Value = serde_json::from_str(line)?;
        let id = line["stream"].as_str().context("a line without a stream")?.to_owned();
        let file = folder.join("ours.pcap");
        run::output(remora().args(["streams", "pcap", &id, "--pcap-dir"]).arg(&store).arg("-o").arg(&file))?;
        let (number, packets) = (id.trim_start_matches('0'), read(&file)?);
        let live = read(&store.join("streams").join(format!("{id}.pcap")))?;
        if live != packets {
            different.push((format!("live:{number}"), shown(&live)));
        }
        streams.insert(format!("ours:{number}"), packets);
    }
    Ok((streams, different))
}

fn theirs(capture: &Path, folder: &Path) -> Result<Streams> {
    let tshark = || {
        let mut tshark = run::command("tshark");
        tshark.arg("-n").arg("-r").arg(capture);
        tshark
    };
    let said = run::output(tshark().args(["-T", "fields", "-e", "tcp.stream"]))?;
    let mut numbers: Vec<u32> = said.split([',', '\n']).filter_map(|n| n.trim().parse().ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut streams = Streams::new();
    for number in numbers {
        let file = folder.join("theirs.pcap");
        let filter = format!("tcp.stream == {number}");
        run::output(tshark().args(["-Y", &filter, "-F", "nsecpcap", "-w"]).arg(&file))?;
        streams.insert(format!("tshark:{number}"), read(&file)?);
    }
    Ok(streams)
}

/// Packets of a classic little-endian file with nanosecond times, which is what both sides write.
fn read(file: &Path) -> Result<Vec<Packet>> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let word =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(*bytes.get(at..at + 4)?.first_chunk()?)) };
    ensure!(word(0) == Some(0xa1b2_3c4d), "{} is no nanosecond pcap", file.display());
    let (mut packets, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let packet = || -> Option<(Packet, usize)> {
            let captured = word(at + 8)? as usize;
            let data = bytes.get(at + 16..at + 16 + captured)?.to_vec();
            let time = u64::from(word(at)?) * 1_000_000_000 + u64::from(word(at + 4)?);
            Some(((time, word(at + 12)?, data), at + 16 + captured))
        };
        let (read, next) = packet().with_context(|| format!("{} is cut short", file.display()))?;
        packets.push(read);
        at = next;
    }
    Ok(packets)
}
