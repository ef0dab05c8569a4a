//! The captures: nginx and wrk in a network namespace, recorded by tcpdump, with nginx's access log beside each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::super::web::site::{self, Shape};
use super::{judge, remora};
use crate::sys::netns::Netns;
use crate::sys::run::Running;
use crate::sys::{interrupt, project, run, term};

/// Where nginx listens, inside. Its port is one that all tools take for HTTP.
const SERVER: &str = "127.0.0.1:8080";

/// Shapes that a capture is made of.
pub(super) const SHAPES: [Shape; 8] = [
    Shape::Small,
    Shape::Medium,
    Shape::Large,
    Shape::Close,
    Shape::Connections,
    Shape::Chunked,
    Shape::Gzip,
    Shape::Loss,
];

/// After a second without more the kernel gives tcpdump the block that it is filling; what is in it when tcpdump ends is lost.
const LAST_BLOCK: Duration = Duration::from_millis(1500);

/// A bound on the rate: what loopback does in a second, tcpdump cannot write.
fn rate(shape: Shape) -> Option<&'static str> {
    match shape {
        Shape::Medium => Some("2gbit"),
        Shape::Large => Some("1gbit"),
        _ => None,
    }
}

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
            term::section(&format!("Load: {}", shape.name()));
            match shape {
                Shape::Loss => lose(&Self::have(dir, Shape::Small, seconds)?, dir)?,
                _ => record(dir, shape, seconds)?,
            }
        }
        let (pcap, log) = (path(dir, shape, "pcap"), path(dir, shape, "access.log"));
        let served = fs::read_to_string(&log)?.lines().count() as u64;
        ensure!(served > 0, "{} is empty", log.display());
        Ok(Self { shape, packets: packets(&pcap)?, pcap, log, served })
    }

    /// Holds the items against the access log. With packets missing, they cannot be the same: `cargo xtask loss` judges that.
    pub(super) fn verify(&self) -> Result<()> {
        if self.shape == Shape::Loss {
            return Ok(());
        }
        let mut served = judge("served");
        served.arg("--remora").arg(remora()).arg(&self.pcap).arg(&self.log);
        run::output(&mut served).map(drop).context("the items are not what nginx served")
    }
}

fn path(dir: &Path, shape: Shape, ending: &str) -> PathBuf {
    dir.join(format!("{}.{ending}", shape.name()))
}

/// Packets in a classic capture file, by its records' lengths.
fn packets(pcap: &Path) -> Result<u64> {
    use std::io::{BufRead, BufReader, Read};
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

/// The small capture with one packet in a hundred missing; the access log is the same.
fn lose(small: &Capture, dir: &Path) -> Result<()> {
    let mut mangle = judge("mangle");
    mangle.arg(&small.pcap).arg(path(dir, Shape::Loss, "pcap")).args(["--drop", "0.01", "--seed", "1"]);
    run::output(&mut mangle)?;
    fs::copy(&small.log, path(dir, Shape::Loss, "access.log"))?;
    Ok(())
}

/// Records a load; again, and more slowly, where tcpdump could not keep up.
fn record(dir: &Path, shape: Shape, seconds: u32) -> Result<()> {
    let mut connections = shape.connections();
    for _ in 0..4 {
        interrupt::check()?;
        let said = record_once(dir, shape, seconds, connections)?;
        if said.contains("\n0 packets dropped by kernel") {
            return Ok(());
        }
        term::say(&format!("  tcpdump lost packets with {connections} connections: again with fewer"));
        connections = connections.div_ceil(2);
    }
    for ending in ["pcap", "access.log"] {
        fs::remove_file(path(dir, shape, ending))?;
    }
    bail!("{}: tcpdump loses packets on this machine, however slow the load is", shape.name())
}

fn record_once(dir: &Path, shape: Shape, seconds: u32, connections: u32) -> Result<String> {
    let netns = Netns::create("bench")?;
    if let Some(rate) = rate(shape) {
        let tc = project::program("tc").context("there is no tc: `cargo xtask setup` installs iproute2")?;
        let mut limit = netns.enter(tc);
        limit.args(["qdisc", "add", "dev", "lo", "root", "tbf", "rate", rate]);
        run::output(limit.args(["burst", "1mb", "latency", "100ms"]))?;
    }
    let folder = tempfile::tempdir()?;
    let log = path(dir, shape, "access.log");
    let mut nginx = site::nginx(&netns, |program| netns.enter(program), folder.path(), &log, SERVER)?;
    let said = folder.path().join("tcpdump.txt");
    let mut tcpdump = tcpdump(&netns, &path(dir, shape, "pcap"), &said)?;
    let wrk = project::program("wrk").context("wrk is not installed; `cargo xtask setup` does that")?;
    let mut load = netns.enter(wrk);
    load.arg("-t2");
    shape.ask(&mut load, SERVER, seconds, connections);
    run::output(&mut load)?;
    // The last packets of closing connections.
    std::thread::sleep(Duration::from_millis(500));
    // Its log is flushed when it ends.
    nginx.interrupt(Duration::from_secs(10))?;
    std::thread::sleep(LAST_BLOCK);
    tcpdump.interrupt(Duration::from_secs(10))?;
    Ok(fs::read_to_string(said)?)
}

fn tcpdump(netns: &Netns, pcap: &Path, said: &Path) -> Result<Running> {
    let program =
        project::program("tcpdump").context("tcpdump is not installed; `cargo xtask setup` does that")?;
    let mut command = netns.enter(program);
    command.args(["-i", "lo", "-s", "0", "-B", "524288", "-n", "-Z", "root", "-w"]).arg(pcap);
    command.args(["tcp", "port", "8080"]);
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
