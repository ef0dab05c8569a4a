//! The loads that benches make: nginx and wrk in network namespaces of their own, in several shapes.
//!
//! On four CPUs or more nginx has the first for itself and wrk the second, and what captures has the rest: then what a
//! capture costs the application is what it does in the kernel and to caches, not a place in the run queue.

pub(super) mod site;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit};
use tempfile::TempDir;

pub(super) use self::site::Shape;

use crate::sys::netns::Netns;
use crate::sys::run::Running;
use crate::sys::{interrupt, project, run};
use crate::world::{SERVER, World};

/// CPUs from which on each has its own.
const PINNED_FROM: usize = 4;

/// Files that wrk opens beside its connections, at most.
const OTHER_FILES: u64 = 64;

/// What wrk says of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Responses that it read.
    pub(super) requests: u64,
    pub(super) per_second: f64,
}

/// nginx in its namespace, and a client's beside it.
pub(super) struct Web {
    // Ended before the namespaces go.
    nginx: Running,
    pub(super) world: World,
    shape: Shape,
    folder: TempDir,
}

impl Web {
    /// Opens it.
    pub(super) fn open(shape: Shape) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("remora-web-").tempdir()?;
        let world = World::create("bench")?;
        if shape == Shape::Loss {
            for netns in [&world.server, &world.client] {
                lose(netns)?;
            }
        }
        forget_ports(&world.client)?;
        let log = folder.path().join("access.log");
        let wrapped = |program: &Path| on_cpus(&world.server, Some(0), program);
        let nginx = site::nginx(&world.server, wrapped, folder.path(), &log, SERVER)?;
        Ok(Self { nginx, world, shape, folder })
    }

    /// A load of so many seconds. All its connections are closed when it is over.
    pub(super) fn load(&mut self, seconds: u32) -> Result<Load> {
        let output = run::output(&mut self.wrk(seconds, self.connections())?)?;
        ensure!(self.nginx.ended()?.is_none(), "nginx has ended: {}", self.errors());
        let load = parse(&output).with_context(|| format!("wrk said: {output}"))?;
        ensure!(load.requests > 0, "wrk was not answered: {output}");
        Ok(load)
    }

    /// What is asked for.
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Connections at once.
    pub(super) fn connections(&self) -> u32 {
        self.shape.connections()
    }

    /// The command that makes the load, for who wants to run it beside something else.
    pub(super) fn wrk(&self, seconds: u32, connections: u32) -> Result<Command> {
        let wrk = project::program("wrk").context("wrk is not installed; `cargo xtask setup` does that")?;
        // Few connections need no more than everybody may have anyway.
        let mut command = if connections > 500 {
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
            ensure!(
                most > u64::from(connections) + OTHER_FILES,
                "{connections} connections need more than the {most} files that a process may open here (`ulimit -Hn`)"
            );
            let mut command = on_cpus(&self.world.client, Some(1), "prlimit");
            command.arg(format!("--nofile={most}:{most}")).arg("--").arg(wrk);
            command
        } else {
            on_cpus(&self.world.client, Some(1), wrk)
        };
        command.arg("-t1");
        self.shape.ask(&mut command, SERVER, seconds, connections);
        Ok(command)
    }

    /// Requests that nginx has answered since it was asked last, whoever was there to read the answers.
    pub(super) fn served(&mut self) -> Result<u64> {
        let path = self.folder.path().join("access.log");
        // The log is buffered: a reopened one is whole.
        let pid = fs::read_to_string(self.folder.path().join("nginx.pid"))?;
        let moved = self.folder.path().join("access.log.old");
        fs::rename(&path, &moved)?;
        run::output(run::command("kill").args(["-USR1", pid.trim()]))?;
        let there = || Ok(path.exists());
        ensure!(interrupt::wait_for(Duration::from_secs(10), there)?, "nginx does not reopen its log");
        // The worker does after the master.
        std::thread::sleep(Duration::from_millis(300));
        let log = fs::read(&moved)?;
        Ok(log.iter().filter(|byte| **byte == b'\n').count() as u64)
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

/// `program` inside, on a CPU that is its own where there are enough. `None`: on those that are nobody's own.
pub(super) fn on_cpus(netns: &Netns, own: Option<usize>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if all < PINNED_FROM {
        return netns.enter(program);
    }
    let mut command = netns.enter("taskset");
    command.args(["-c", &own.map_or_else(|| format!("2-{}", all - 1), |cpu| cpu.to_string())]).arg(program);
    command
}

/// Whether nginx, wrk and what captures have CPUs of their own.
pub(super) fn pinned() -> bool {
    std::thread::available_parallelism().is_ok_and(|all| all.get() >= PINNED_FROM)
}

/// Has the namespace use a port again as soon as its connection is closed: after three loads of 10,000 connections within a
/// minute, none would be left to connect from.
fn forget_ports(netns: &Netns) -> Result<()> {
    // Of the namespace of who opens it.
    let path = "/proc/sys/net/ipv4/tcp_max_tw_buckets";
    netns.inside(|| fs::write(path, "0"))?.with_context(|| format!("setting {path}"))
}

/// Has the namespace lose one in a hundred of the packets that come in, behind the place where they are captured.
fn lose(netns: &Netns) -> Result<()> {
    let rules = "add table inet lossy; \
                 add chain inet lossy in { type filter hook prerouting priority -300; }; \
                 add rule inet lossy in meta l4proto tcp numgen random mod 100 == 0 drop";
    let nft = project::program("nft").context("nft is not installed; `cargo xtask setup` does that")?;
    run::output(netns.enter(nft).arg(rules)).map(drop)
}

/// Out of wrk's summary.
fn parse(said: &str) -> Result<Load> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let requests =
        said.lines().find_map(|line| line.split_once(" requests in ")).and_then(|(n, _)| number(n));
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).and_then(number);
    match (requests, rate) {
        (Some(requests), Some(per_second)) => Ok(Load { requests: requests as u64, per_second }),
        _ => bail!("no summary"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_wrk_is_read() {
        let said = "Running 5s test @ http://10.99.0.1:8080/small\n  1 threads and 64 connections\n  \
                    Thread Stats   Avg      Stdev     Max   +/- Stdev\n  356189 requests in 5.10s, 90.00MB read\n\
                    Requests/sec:  69842.11\nTransfer/sec:     17.65MB\n";
        let load = parse(said).unwrap();
        assert_eq!((load.requests, load.per_second), (356_189, 69_842.11));
        assert!(parse("unable to connect").is_err());
    }
}
