//! A client in a pod: a process of its own, because a cgroup holds processes.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use testkit::cluster::Workload;
use testkit::load::Connection;

/// What to send.
#[derive(Args, Clone, Debug)]
pub(crate) struct Client {
    /// The server.
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// Request-target; `{id}` stands for the request's number.
    #[arg(long)]
    pub(crate) target: String,
    /// Requests, numbered from 0.
    #[arg(long, default_value_t = 1)]
    pub(crate) count: u64,
    /// Milliseconds between two.
    #[arg(long, default_value_t = 0)]
    pub(crate) interval: u64,
    /// Every so many goes to `/fail/` where the target has `/r/`; 0: none.
    #[arg(long, default_value_t = 0)]
    pub(crate) fail_every: u64,
    /// Requests on one connection.
    #[arg(long, default_value_t = 1)]
    pub(crate) per_connection: u64,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    /// Its number.
    pub(crate) id: u64,
    /// Its answer's status.
    pub(crate) status: u16,
    /// Its end of the connection.
    pub(crate) client: SocketAddr,
    /// Milliseconds since 1970, before the first byte was sent.
    pub(crate) from: u64,
    /// And once the answer was there.
    pub(crate) until: u64,
}

impl Client {
    /// One request.
    pub(crate) fn one(to: SocketAddr, target: &str) -> Self {
        Self { to, target: target.to_owned(), count: 1, interval: 0, fail_every: 0, per_connection: 1 }
    }

    /// Runs in this process; a line for each request.
    pub(crate) fn run(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let mut connection: Option<Connection> = None;
        for id in 0..self.count {
            if id.is_multiple_of(self.per_connection.max(1)) {
                connection = None;
            }
            let from = now();
            let open = match connection.take() {
                Some(open) => connection.insert(open),
                None => connection.insert(Connection::open(self.to, Duration::from_secs(10))?),
            };
            let fails = self.fail_every > 0 && id.is_multiple_of(self.fail_every);
            let target = if fails { self.target.replace("/r/", "/fail/") } else { self.target.clone() };
            let target = target.replace("{id}", &id.to_string());
            open.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.to).as_bytes())?;
            let status = open.receive(false).with_context(|| format!("answer to {target}"))?.status;
            writeln!(out, "{id} {status} {} {from} {}", open.local_addr()?, now())?;
            std::thread::sleep(Duration::from_millis(self.interval));
        }
        Ok(())
    }

    /// The same in a pod; for whoever waits for it.
    pub(crate) fn command(&self, pod: &Workload) -> Result<std::process::Command> {
        let mut command = pod.command(std::env::current_exe()?);
        command.arg("client").args(["--to", &self.to.to_string(), "--target", &self.target]);
        command.args(["--count", &self.count.to_string(), "--interval", &self.interval.to_string()]);
        command.args(["--fail-every", &self.fail_every.to_string()]);
        command.args(["--per-connection", &self.per_connection.to_string()]);
        Ok(command)
    }

    /// The same, waited for.
    pub(crate) fn in_pod(&self, pod: &Workload) -> Result<Vec<Sent>> {
        let output = self.command(pod)?.output().context("starting a client")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "a client in {}: {}", pod.pod.name, errors.trim());
        read(&String::from_utf8_lossy(&output.stdout))
    }
}

/// What a client has told.
pub(crate) fn read(told: &str) -> Result<Vec<Sent>> {
    told.lines()
        .map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let [id, status, client, from, until] = fields[..] else { anyhow::bail!("{line:?}") };
            Ok(Sent {
                id: id.parse()?,
                status: status.parse()?,
                client: client.parse()?,
                from: from.parse()?,
                until: until.parse()?,
            })
        })
        .collect()
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
