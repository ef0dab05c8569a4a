//! Probes: by a program, by HTTP. A pod is ready when its startup and readiness probes say so.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::run::Container;
use super::spec::{HttpGet, Probe};
use crate::cluster::node::Node;

/// How often it is asked here: when a pod is ready matters, not the kubelet's pace.
const PACE: Duration = Duration::from_millis(100);

impl Container {
    /// Waits until it is ready, for as long as its startup and readiness probes allow. `check` may end the wait.
    ///
    /// # Errors
    /// When it ends first, or its probes fail.
    pub fn wait_until_ready(&mut self, node: &Node, check: &dyn Fn() -> Result<()>) -> Result<()> {
        let container = self.spec.container().clone();
        let probes = [
            ("startup", &container.startup_probe),
            ("readiness", &container.readiness_probe),
            ("liveness", &container.liveness_probe),
        ];
        for (name, probe) in probes {
            let Some(probe) = probe else { continue };
            let patience = probe.initial_delay_seconds + probe.period_seconds * probe.failure_threshold;
            let deadline = Instant::now() + Duration::from_secs(patience.max(10));
            while let Err(error) = self.ask(node, probe) {
                check()?;
                if let Some(code) = self.ended()? {
                    bail!("{} has ended with {code} before it was ready: {}", self.pod.name, self.log());
                }
                ensure!(
                    Instant::now() < deadline,
                    "{}: its {name} probe fails: {error:#}\n{}",
                    self.pod.name,
                    self.log()
                );
                std::thread::sleep(PACE);
            }
        }
        Ok(())
    }

    /// Asks one probe.
    ///
    /// # Errors
    /// When it says no.
    pub fn ask(&self, node: &Node, probe: &Probe) -> Result<()> {
        if let Some(exec) = &probe.exec {
            let output = self.exec(&exec.command)?;
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{}: {}", output.status, said.trim());
            return Ok(());
        }
        let http = probe.http_get.as_ref().context("a probe of no kind that is understood")?;
        let address = SocketAddr::new(self.pod.ip, self.port(http)?);
        let limit = Duration::from_secs(probe.timeout_seconds.max(1));
        let (status, said) = node.net.host.run(|| get(address, &http.path, limit))?;
        ensure!((200..400).contains(&status), "{address}{}: {status}: {}", http.path, said.trim());
        Ok(())
    }

    fn port(&self, http: &HttpGet) -> Result<u16> {
        match &http.port {
            Value::String(name) => {
                let mut ports = self.spec.container().ports.iter();
                let port = ports.find(|port| port.name == *name);
                Ok(port.with_context(|| format!("there is no port {name}"))?.container_port)
            }
            number => u16::try_from(number.as_u64().context("a port")?).context("a port"),
        }
    }
}

/// One GET by HTTP/1.0: status and body.
///
/// # Errors
/// When there is no answer.
pub(crate) fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, limit).with_context(|| address.to_string())?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}
