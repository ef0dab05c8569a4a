//! The Slack fake as a process, and what it received.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sys::netns::Netns;
use crate::sys::run::Running;
use crate::sys::{project, run};

pub(super) const TOKEN: &str = "xoxb-demo-0000";
pub(super) const CHANNEL: &str = "C00000ALERTS";

/// The fake, listening on loopback: of a namespace, or of this machine.
pub(super) struct Fake<'n> {
    address: String,
    netns: Option<&'n Netns>,
    _running: Running,
    /// Kept open: the fake says more than the line that is read.
    _said: BufReader<ChildStdout>,
}

impl<'n> Fake<'n> {
    pub(super) fn start(netns: Option<&'n Netns>) -> Result<Self> {
        let program = project::built("slack-fake");
        let mut command = netns.map_or_else(|| run::command(&program), |n| n.enter(&program));
        command.args(["--listen", "127.0.0.1:0", "--token", TOKEN, "--channel", CHANNEL]);
        let mut running = Running::start("slack-fake", &command, Stdio::piped(), Stdio::inherit())?;
        let mut said = BufReader::new(running.stdout().context("no pipe")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address =
            address.with_context(|| format!("slack-fake did not say where it listens: {line:?}"))?.to_owned();
        Ok(Self { address, netns, _running: running, _said: said })
    }

    /// What `--slack-api-url` takes.
    pub(super) fn api(&self) -> String {
        format!("http://{}/api/", self.address)
    }

    /// Messages that a bot sent, oldest first.
    pub(super) fn messages(&self) -> Result<Vec<Value>> {
        let messages: Vec<Value> = serde_json::from_slice(&self.get("/_fake/messages")?)?;
        Ok(messages.into_iter().filter(|m| m["via"] == "bot").collect())
    }

    /// What is at a path of the fake.
    pub(super) fn get(&self, path: &str) -> Result<Vec<u8>> {
        let path = path.split_once(&self.address).map_or(path, |(_, p)| p);
        let ask = || get(&self.address, path);
        match self.netns {
            Some(netns) => netns.inside(ask)?,
            None => ask(),
        }
    }
}

/// One GET by HTTP/1.0: the answer ends with the connection.
fn get(address: &str, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("no HTTP answer")?;
    let status = String::from_utf8_lossy(&answer[..end]);
    let status = status.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("GET {path}: {status}");
    }
    Ok(answer.split_off(end + 4))
}
