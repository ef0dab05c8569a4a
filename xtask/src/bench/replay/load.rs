//! The captures: nginx and wrk in a network namespace, recorded by tcpdump, with nginx's access log beside each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use super::{judge, remora};
use crate::sys::netns::Netns;
use crate::sys::run::Running;
use crate::sys::{interrupt, project, run, term};

/// Where nginx listens, inside. Its port is one that all tools take for HTTP.
const SERVER: &str = "127.0.0.1:8080";

/// A shape of load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Shape {
    /// Keep-alive requests, answers of 114 bytes.
    Small,
    /// Answers of 20 KiB.
    Medium,
    /// Answers of 1 MiB.
    Large,
    /// One request a connection.
    Close,
    /// Answers in chunks.
    Chunked,
    /// Answers of 20 KiB, gzip'd.
    Gzip,
    /// The first one, of which one packet in a hundred is missing.
    Loss,
}

impl Shape {
    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
            Self::Close => "close",
            Self::Chunked => "chunked",
            Self::Gzip => "gzip",
            Self::Loss => "loss",
        }
    }

    /// What is asked for, the connections at once, and a bound on the rate: what loopback does in a second, tcpdump cannot write.
    fn asks(self) -> (&'static str, u32, Option<&'static str>) {
        match self {
            Self::Small | Self::Loss => ("/small", 32, None),
            Self::Medium => ("/medium", 16, Some("2gbit")),
            Self::Large => ("/large", 8, Some("1gbit")),
            Self::Close => ("/close", 32, None),
            Self::Chunked => ("/chunked", 32, None),
            Self::Gzip => ("/gzip.json", 16, None),
        }
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
    let mut connections = shape.asks().1;
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
    let (target, _, rate) = shape.asks();
    if let Some(rate) = rate {
        let tc = project::program("tc").context("there is no tc: `cargo xtask setup` installs iproute2")?;
        let mut limit = netns.enter(tc);
        limit.args(["qdisc", "add", "dev", "lo", "root", "tbf", "rate", rate]);
        run::output(limit.args(["burst", "1mb", "latency", "100ms"]))?;
    }
    let folder = tempfile::tempdir()?;
    let log = path(dir, shape, "access.log");
    let mut nginx = nginx(&netns, folder.path(), &log)?;
    let said = folder.path().join("tcpdump.txt");
    let mut tcpdump = tcpdump(&netns, &path(dir, shape, "pcap"), &said)?;
    let wrk = project::program("wrk").context("wrk is not installed; `cargo xtask setup` does that")?;
    let mut load = netns.enter(wrk);
    load.args(["-t2", &format!("-c{connections}"), &format!("-d{seconds}s")]);
    if shape == Shape::Gzip {
        load.args(["-H", "Accept-Encoding: gzip"]);
    }
    run::output(load.arg(format!("http://{SERVER}{target}")))?;
    // The last packets of closing connections.
    std::thread::sleep(Duration::from_millis(500));
    // Its log is flushed when it ends.
    nginx.interrupt(Duration::from_secs(10))?;
    std::thread::sleep(Duration::from_millis(300));
    tcpdump.interrupt(Duration::from_secs(10))?;
    Ok(fs::read_to_string(said)?)
}

fn nginx(netns: &Netns, folder: &Path, log: &Path) -> Result<Running> {
    let www = folder.join("www");
    fs::create_dir(&www)?;
    let rows =
        |n: usize| (0..n).map(|i| format!("{{\"id\":{i},\"name\":\"item {i}\",\"tags\":[\"a\",\"b\"]}}"));
    let list = format!("[{}]\n", rows(460).collect::<Vec<_>>().join(","));
    fs::write(www.join("medium"), &list.as_bytes()[..list.len().min(20 << 10)])?;
    fs::write(www.join("gzip.json"), &list)?;
    fs::write(www.join("large"), "x".repeat(1 << 20))?;
    let config = folder.join("nginx.conf");
    fs::write(&config, configuration(folder, log))?;
    let program =
        project::program("nginx").context("nginx is not installed; `cargo xtask setup` does that")?;
    let mut command = netns.enter(program);
    command.arg("-c").arg(&config).arg("-e").arg(folder.join("error.log"));
    let running = Running::start("nginx", &command, Stdio::null(), Stdio::null())?;
    let open = || Ok(std::net::TcpStream::connect_timeout(&SERVER.parse()?, Duration::from_secs(1)).is_ok());
    if !netns.inside(|| interrupt::wait_for(Duration::from_secs(10), open))?? {
        let said = fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        bail!("nginx does not listen after 10 s: {}", said.trim());
    }
    Ok(running)
}

fn configuration(folder: &Path, log: &Path) -> String {
    let small = format!("{{\"ok\":true,\"pad\":\"{}\"}}", "a".repeat(94));
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;
events {{ worker_connections 8192; }}
http {{
  log_format t '$msec $remote_addr:$remote_port $connection $connection_requests \"$request\" $status $request_length $body_bytes_sent';
  access_log {log} t buffer=1m;
  types {{ application/json json; }} default_type text/plain;
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
  uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  sendfile on; tcp_nopush on; keepalive_requests 10000000; keepalive_timeout 60s;
  server {{
    listen {SERVER} backlog=4096; root {folder}/www;
    location = /small {{ default_type application/json; return 200 '{small}'; }}
    location = /close {{ keepalive_timeout 0; default_type application/json; return 200 '{small}'; }}
    location = /chunked {{ sub_filter_types *; sub_filter aaaa aaaa; default_type application/json; return 200 '{small}'; }}
    location = /gzip.json {{ gzip on; gzip_types application/json; gzip_min_length 1; }}
  }}
}}
",
        log = log.display(),
    )
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
