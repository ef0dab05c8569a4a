//! Captures of many transactions, by a real client and server in namespaces of their own, or synthetic.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::{self, LoadConfig};
use crate::netns::VethPair;
use crate::nginx::Nginx;
use crate::synth;

/// How the client uses its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Shape {
    /// 32 connections, on each one request after the other.
    KeepAlive,
    /// 16 requests at once, then their 16 responses.
    Pipeline,
    /// A connection for each request.
    Close,
    /// All of these at the same time, with chunked and longer responses and requests with bodies.
    Mixed,
}

/// The loads of a shape; together they send `transactions` requests.
fn loads(shape: Shape, addr: SocketAddr, transactions: u64) -> Vec<LoadConfig> {
    let load = |target: &str, share: u64, per_connection, pipeline, body| LoadConfig {
        target: target.to_owned(),
        per_connection,
        pipeline,
        body,
        echo: true,
        timeout: Duration::from_secs(30),
        ..LoadConfig::new(addr, 32, share)
    };
    match shape {
        Shape::KeepAlive => vec![load("/r/{id}", transactions, 0, 1, 0)],
        Shape::Pipeline => vec![load("/r/{id}", transactions, 0, 16, 0)],
        Shape::Close => vec![load("/r/{id}", transactions, 1, 1, 0)],
        Shape::Mixed => {
            let sixth = transactions / 6;
            vec![
                load("/c/k{id}", sixth, 50, 1, 0),
                load("/b/k{id}", sixth, 50, 1, 0),
                load("/r/p{id}", sixth, 0, 16, 0),
                load("/c/q{id}", sixth, 64, 4, 700),
                load("/r/c{id}", sixth, 1, 1, 3000),
                load("/b/b{id}", transactions - 5 * sixth, 20, 1, 3000),
            ]
        }
    }
}

/// Records `transactions` between a client and nginx into `file`; returns nginx's access log. Segments are of a wire's size.
///
/// # Errors
/// When not root, nginx or tcpdump is not installed, a request fails, or the capture is not complete.
pub fn make(shape: Shape, transactions: u64, file: &Path) -> Result<Vec<String>> {
    let pair = VethPair::new()?;
    for (namespace, interface) in [(&pair.client, VethPair::CLIENT), (&pair.server, VethPair::SERVER)] {
        namespace.ip(&format!("link set {interface} gso_max_segs 1"))?;
    }
    // A connection for each request needs more ports than there are: this namespace uses them again after a second.
    let ports = "echo 1024 65000 > /proc/sys/net/ipv4/ip_local_port_range && echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse";
    pair.client.command("sh", &["-c", ports])?;
    let addr: SocketAddr = "10.77.0.2:8080".parse()?;
    let nginx = pair.server.run(|| Nginx::start(addr, |command| command))?;
    let tcpdump = pair.server.run(|| Tcpdump::start(file))?;
    let seen = pair.client.run(|| {
        std::thread::scope(|scope| -> Result<usize> {
            // A thread stays in the namespace of the one that made it.
            let loads = loads(shape, addr, transactions);
            let threads: Vec<_> =
                loads.into_iter().map(|config| scope.spawn(move || load::run(&config))).collect();
            let mut seen = 0;
            for thread in threads {
                seen += thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?.len();
            }
            Ok(seen)
        })
    })?;
    tcpdump.stop()?;
    let log = nginx.stop()?;
    ensure!(log.len() == seen, "the client saw {seen} responses, nginx logged {}", log.len());
    Ok(log)
}

/// tcpdump on the server's end until it is told to stop.
struct Tcpdump {
    child: Child,
    log: File,
}

impl Tcpdump {
    fn start(file: &Path) -> Result<Self> {
        let log = tempfile::tempfile()?;
        let mut command = Command::new("tcpdump");
        command.args(["-i", VethPair::SERVER, "-s", "0", "-B", "262144", "--time-stamp-precision=nano"]);
        command.args(["-Z", "root", "-w"]).arg(file).arg("tcp port 8080");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?)
            .spawn()
            .context("starting tcpdump (`cargo xtask setup` installs it)")?;
        let mut tcpdump = Self { child, log };
        let end = Instant::now() + Duration::from_secs(10);
        while !tcpdump.said()?.contains("listening on") {
            if tcpdump.child.try_wait()?.is_some() || Instant::now() > end {
                bail!("tcpdump does not listen: {}", tcpdump.said()?.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(tcpdump)
    }

    fn said(&mut self) -> Result<String> {
        use std::os::unix::fs::FileExt as _;
        let mut text = vec![0; 4096];
        // At an offset of its own: the position in the file is the child's.
        let length = self.log.read_at(&mut text, 0)?;
        text.truncate(length);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn stop(mut self) -> Result<()> {
        // tcpdump looks at what the kernel has for it once a second, and drops what it has not seen when it ends.
        std::thread::sleep(Duration::from_millis(1500));
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        let status = self.child.wait()?;
        let said = self.said()?;
        ensure!(status.success(), "tcpdump ended with {status}: {}", said.trim());
        ensure!(
            said.contains("\n0 packets dropped by kernel"),
            "the capture is not complete: {}",
            said.trim()
        );
        Ok(())
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same in small without a network: writes a capture, returns the access log that a server would have written.
///
/// # Errors
/// When the file cannot be written.
pub fn synthetic(shape: Shape, transactions: u32, file: &Path) -> Result<Vec<String>> {
    const CONNECTIONS: u16 = 16;
    let mut capture = synth::Capture::create(file)?;
    let mut log = Vec::new();
    let mut open: Vec<Option<(u16, synth::Connection)>> = (0..CONNECTIONS).map(|_| None).collect();
    let mut port = 10_000;
    let mut next = 0;
    while next < transactions {
        let lane = usize::try_from(next / 3)? % open.len();
        let (depth, last) = match (shape, lane % 4) {
            (Shape::KeepAlive, _) | (Shape::Mixed, 0) => (1, false),
            (Shape::Pipeline, _) | (Shape::Mixed, 1) => (16, false),
            (Shape::Mixed, 2) => (2, next % 7 == 0),
            (Shape::Close | Shape::Mixed, _) => (1, true),
        };
        let (port, connection) = match &mut open[lane] {
            Some(there) => there,
            none => {
                port += 1;
                none.insert((port, capture.open(port)?))
            }
        };
        let batch = next..(next + depth).min(transactions);
        next = batch.end;
        let target = |id: u32| format!("/{}/{id}", if id.is_multiple_of(5) { "b" } else { "r" });
        let requests: String =
            batch.clone().map(|id| format!("GET {} HTTP/1.1\r\nHost: shop\r\n\r\n", target(id))).collect();
        capture.send(connection, synth::CLIENT, requests.as_bytes())?;
        let responses: String = batch.clone().map(|id| response(id, &target(id))).collect();
        capture.send(connection, synth::SERVER, responses.as_bytes())?;
        log.extend(batch.map(|id| format!("10.9.0.1:{port} {} 200", target(id))));
        if last && let Some((_, connection)) = open[lane].take() {
            capture.close(connection)?;
        }
    }
    for (_, connection) in open.into_iter().flatten() {
        capture.close(connection)?;
    }
    Ok(log)
}

fn response(id: u32, target: &str) -> String {
    let filler = "x".repeat(if target.starts_with("/b") { 4000 } else { 20 });
    let body = format!("you asked for {target}\n{filler}\n");
    if id.is_multiple_of(3) {
        let (length, head) = (body.len(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n");
        return format!("{head}X-Target: {target}\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
    }
    format!("HTTP/1.1 200 OK\r\nX-Target: {target}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
