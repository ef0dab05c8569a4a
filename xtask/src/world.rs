//! Two network namespaces with a veth pair between them: a server's and a client's. Demo and recordings live in it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::sys::netns::Netns;
use crate::sys::run::Running;
use crate::sys::{interrupt, project, run};

/// The server's end of the veth pair, and where the server listens.
pub(crate) const INTERFACE: &str = "shop0";
pub(crate) const SERVER: &str = "10.99.0.1:8080";
const SERVER_ADDRESS: &str = "10.99.0.1/24";
const CLIENT_ADDRESS: &str = "10.99.0.2/24";

/// The namespaces; gone when this is dropped.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) server: Netns,
    pub(crate) client: Netns,
}

impl World {
    /// Makes both and joins them.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let world = Self {
            server: Netns::create(&format!("{name}-server"))?,
            client: Netns::create(&format!("{name}-client"))?,
        };
        Netns::join((&world.server, INTERFACE, SERVER_ADDRESS), (&world.client, "client0", CLIENT_ADDRESS))?;
        Ok(world)
    }

    /// Opens the shop in the server's namespace.
    pub(crate) fn shop(&self) -> Result<Running> {
        let mut command = self.server.enter(project::built("shop"));
        command.args(["serve", "--listen", SERVER]);
        let shop = Running::start("the shop", &command, Stdio::null(), Stdio::inherit())?;
        self.wait_for_server()?;
        Ok(shop)
    }

    /// Waits until something listens at [`SERVER`].
    pub(crate) fn wait_for_server(&self) -> Result<()> {
        let addr: SocketAddr = SERVER.parse()?;
        let open = || Ok(std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok());
        // Inside the server's own namespace: over loopback, so that nothing of it is on the veth pair.
        let there = self.server.inside(|| interrupt::wait_for(Duration::from_secs(10), open))??;
        if !there {
            bail!("no server at {SERVER} after 10 s");
        }
        Ok(())
    }

    /// A customer who sends so many requests.
    pub(crate) fn customer(&self, requests: u32, interval: Duration) -> Command {
        let mut command = self.client.enter(project::built("shop"));
        command.args(["client", "--addr", SERVER, "--seed", "1", "--requests", &requests.to_string()]);
        command.args(["--interval", &interval.as_millis().to_string()]);
        command
    }

    /// Writes what passes the server's interface into `file` until it is interrupted.
    pub(crate) fn tcpdump(&self, file: &Path) -> Result<Running> {
        let program =
            project::program("tcpdump").context("tcpdump is not installed; `cargo xtask setup` does that")?;
        let mut command = self.server.enter(program);
        command
            .args([
                "-i",
                INTERFACE,
                "-U",
                "--immediate-mode",
                "-s",
                "0",
                "--time-stamp-precision=nano",
                "-Z",
                "root",
                "-w",
            ])
            .arg(file)
            .arg("tcp");
        let log = tempfile::NamedTempFile::new()?;
        let mut tcpdump = Running::start("tcpdump", &command, Stdio::null(), Stdio::from(log.reopen()?))?;
        let listening = interrupt::wait_for(Duration::from_secs(10), || {
            if let Some(status) = tcpdump.ended()? {
                bail!("tcpdump ended with {status}: {}", std::fs::read_to_string(log.path())?.trim());
            }
            Ok(std::fs::read_to_string(log.path())?.contains("listening on"))
        })?;
        if !listening {
            bail!("tcpdump does not listen after 10 s: {}", run::shown(&command));
        }
        Ok(tcpdump)
    }
}

/// A file in a folder that is made if need be.
pub(crate) fn create_file(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    File::create(path).with_context(|| path.display().to_string())
}
