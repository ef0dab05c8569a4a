//! The captures: the loads of `web`, recorded by tcpdump on the server's end, with nginx's access log beside each.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use super::super::web::{Shape, Web, on_cpus};
use crate::sys::run::Running;
use crate::sys::{interrupt, project, run};
use crate::world::INTERFACE;

/// A capture, and what nginx said that it served.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) shape: Shape,
    pub(super) pcap: PathBuf,
    log: PathBuf,
    pub(super) packets: u64,
    pub(super) served: u64,
}

impl Capture {
    /// Whether a capture of that shape lies in a folder.
    pub(super) fn is_there(dir: &Path, shape: Shape) -> bool {
        [path(dir, shape, "pcap"), path(dir, shape, "access.log")].iter().all(|path| path.is_file())
    }

    /// The capture in that folder, made if need be.
    pub(super) fn have(dir: &Path, shape: Shape, seconds: u32) -> Result<Self> {
        if !Self::is_there(dir, shape) {
            record(dir, shape, seconds)?;
        }
        let (pcap, log) = (path(dir, shape, "pcap"), path(dir, shape, "access.log"));
        let served = fs::read_to_string(&log)?.lines().count() as u64;
        ensure!(served > 0, "{} is empty", log.display());
        Ok(Self { shape, packets: packets(&pcap)?, pcap, log, served })
    }

    /// Holds the items against the access log, request for request.
    pub(super) fn verify(&self) -> Result<()> {
        let mut served = run::command(project::built("served"));
        served.arg("--remora").arg(super::remora()).arg(&self.pcap).arg(&self.log);
        run::output(&mut served).map(drop).context("the items are not what nginx served")
    }
}

fn path(dir: &Path, shape: Shape, ending: &str) -> PathBuf {
    let name = shape.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    dir.join(format!("{name}.{ending}"))
}

/// Packets in a classic capture file, by its records' lengths.
fn packets(pcap: &Path) -> Result<u64> {
    let mut file = BufReader::with_capacity(1 << 20, fs::File::open(pcap)?);
    let mut header = [0; 24];
    file.read_exact(&mut header).context("no file header")?;
    let mut count = 0;
    while !file.fill_buf()?.is_empty() {
        let mut record = [0; 16];
        file.read_exact(&mut record).context("a record is cut short")?;
        let [.., a, b, c, d, _, _, _, _] = record;
        file.seek_relative(u32::from_le_bytes([a, b, c, d]).into())?;
        count += 1;
    }
    Ok(count)
}

/// Records a load; again, and more slowly, where tcpdump could not keep up.
fn record(dir: &Path, shape: Shape, seconds: u32) -> Result<()> {
    let mut part = 1;
    while part <= 16 {
        interrupt::check()?;
        let said = record_once(dir, shape, seconds, part)?;
        if said.contains("\n0 packets dropped by kernel") {
            return Ok(());
        }
        let dropped =
            said.lines().find(|line| line.ends_with("dropped by kernel")).unwrap_or("it ended early");
        eprintln!("{}: tcpdump could not keep up ({dropped}): again with fewer connections", shape.title());
        part *= 4;
    }
    for ending in ["pcap", "access.log"] {
        fs::remove_file(path(dir, shape, ending))?;
    }
    bail!("{}: tcpdump loses packets on this machine, however slow the load is", shape.title())
}

/// With a part of the connections.
fn record_once(dir: &Path, shape: Shape, seconds: u32, part: u32) -> Result<String> {
    let mut web = Web::open(shape)?;
    web.served()?;
    let said = tempfile::NamedTempFile::new()?;
    let mut tcpdump = tcpdump(&web, &path(dir, shape, "pcap"), said.path())?;
    let connections = (web.connections() / part).max(1);
    run::output(&mut web.wrk(seconds, connections)?)?;
    // The last packets of closing connections, and what nginx writes to those that are gone.
    std::thread::sleep(Duration::from_millis(800));
    let log = web.log()?;
    fs::write(path(dir, shape, "access.log"), log)?;
    drop(web);
    tcpdump.interrupt(Duration::from_secs(10))?;
    Ok(fs::read_to_string(said.path())?)
}

fn tcpdump(web: &Web, pcap: &Path, said: &Path) -> Result<Running> {
    let program =
        project::program("tcpdump").context("tcpdump is not installed; `cargo xtask setup` does that")?;
    let mut command = on_cpus(&web.world.server, None, program);
    command.args(["-i", INTERFACE, "-s", "0", "-B", "262144", "-n", "-Z", "root", "-w"]).arg(pcap).arg("tcp");
    let mut tcpdump =
        Running::start("tcpdump", &command, Stdio::null(), Stdio::from(fs::File::create(said)?))?;
    let listening = interrupt::wait_for(Duration::from_secs(10), || {
        if let Some(status) = tcpdump.ended()? {
            bail!("tcpdump ended with {status}: {}", fs::read_to_string(said)?.trim());
        }
        Ok(fs::read_to_string(said)?.contains("listening on"))
    })?;
    ensure!(listening, "tcpdump does not listen after 10 s");
    Ok(tcpdump)
}
