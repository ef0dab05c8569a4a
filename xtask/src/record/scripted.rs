//! A server and a client that are scripts in the recording's own folder; the client says what it saw.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::{Story, recorded, version};
use crate::sys::run::Running;
use crate::sys::{project, run};
use crate::world::{SERVER, World};

/// Which scripts, by what program.
pub(super) struct Scripts {
    pub(super) program: &'static str,
    pub(super) server: &'static str,
    pub(super) client: &'static str,
    pub(super) what: &'static str,
}

pub(super) const PYTHON: Scripts = Scripts {
    program: "python3",
    server: "server.py",
    client: "client.py",
    what: "Python's `http.client` (`client.py`) to its `http.server` (`server.py`): chunked responses with extensions and trailers, \
           chunked requests, HEAD, 204, forms and multipart, a binary body, `Expect: 100-continue`, bodies until close, an \
           HTTP/1.0 client and server. `account.jsonl` is what the client saw.",
};

pub(super) const NODE: Scripts = Scripts {
    program: "node",
    server: "server.js",
    client: "client.js",
    what: "Node's `http` client (`client.js`) to its server (`server.js`) over one kept-alive connection: 103 Early Hints and 102 \
           Processing, chunks, trailers both ways, cookies, UTF-8, a 500, OPTIONS, then an Upgrade after which the bytes are no \
           HTTP any more, though they look like it. `account.jsonl` is what the client saw.",
};

pub(super) fn record(world: &World, folder: &Path, capture: &Path, scripts: &Scripts) -> Result<Story> {
    let program =
        project::program(scripts.program).with_context(|| format!("{} is not installed", scripts.program))?;
    let (address, port) = SERVER.split_once(':').context("no port")?;
    let mut command = world.server.enter(&program);
    command.arg(folder.join(scripts.server)).args([address, port]);
    let _server = Running::start(scripts.program, &command, Stdio::null(), Stdio::inherit())?;
    world.wait_for_server()?;
    let account = recorded(world, capture, || {
        let mut client = world.client.enter(&program);
        client.arg(folder.join(scripts.client)).args([address, port]);
        run::output(client.stderr(Stdio::inherit()))
    })?;
    let versions = vec![version(scripts.program, &["--version"]), version("tcpdump", &["--version"])];
    Ok(Story { account, what: scripts.what, versions })
}
