//! What is served and asked for: shapes of load, nginx with the pages for them, wrk's arguments. Wherever they run.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::sys::netns::Netns;
use crate::sys::run::Running;
use crate::sys::{interrupt, project};

/// What is asked for, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(in super::super) enum Shape {
    /// Small responses on connections that are kept alive.
    Small,
    /// Responses of 20 KiB.
    Medium,
    /// Responses of 1 MiB.
    Large,
    /// Responses of 8 MiB: eight times what is kept of a body.
    Huge,
    /// The same; live, the kernel hands over headers only of what is not kept.
    Trimmed,
    /// One request a connection.
    Close,
    /// Small responses on 10,000 connections.
    Connections,
    /// Small responses in chunks.
    Chunked,
    /// Responses of 20 KiB of JSON, compressed.
    Gzip,
    /// As small, and one packet in a hundred is lost.
    Loss,
}

impl Shape {
    /// The name on the command line.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
            Self::Huge => "huge",
            Self::Trimmed => "trimmed",
            Self::Close => "close",
            Self::Connections => "connections",
            Self::Chunked => "chunked",
            Self::Gzip => "gzip",
            Self::Loss => "loss",
        }
    }

    /// As it stands in tables.
    pub(in super::super) fn title(self) -> &'static str {
        match self {
            Self::Small => "small keep-alive requests",
            Self::Medium => "20 KiB responses",
            Self::Large => "1 MiB responses",
            Self::Huge => "8 MiB responses",
            Self::Trimmed => "8 MiB responses, --trim",
            Self::Close => "one request a connection",
            Self::Connections => "10,000 connections",
            Self::Chunked => "chunked responses",
            Self::Gzip => "gzip'd responses",
            Self::Loss => "1 % of packets lost",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Small | Self::Connections | Self::Loss => "/small",
            Self::Medium => "/medium",
            Self::Large => "/large",
            Self::Huge | Self::Trimmed => "/huge",
            Self::Close => "/close",
            Self::Chunked => "/chunked",
            Self::Gzip => "/gzip.json",
        }
    }

    /// Connections at once.
    pub(in super::super) fn connections(self) -> u32 {
        match self {
            Self::Connections => 10_000,
            Self::Medium | Self::Gzip => 16,
            Self::Large | Self::Huge | Self::Trimmed => 8,
            Self::Small | Self::Close | Self::Chunked | Self::Loss => 32,
        }
    }

    /// Has wrk make the load.
    pub(in super::super) fn ask(self, wrk: &mut Command, server: &str, seconds: u32, connections: u32) {
        wrk.args([&format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "10s"]);
        if self == Self::Gzip {
            wrk.args(["-H", "Accept-Encoding: gzip"]);
        }
        wrk.arg(format!("http://{server}{}", self.path()));
    }
}

/// nginx with the pages of all shapes, started by `wrapped` (a namespace, CPUs) and answering on `server` inside.
///
/// `log` becomes the access log, which is flushed when it ends or reopens it.
pub(in super::super) fn nginx(
    netns: &Netns,
    wrapped: impl FnOnce(&Path) -> Command,
    folder: &Path,
    log: &Path,
    server: &str,
) -> Result<Running> {
    pages(folder)?;
    let config = folder.join("nginx.conf");
    fs::write(&config, configuration(folder, log, server))?;
    let program =
        project::program("nginx").context("nginx is not installed; `cargo xtask setup` does that")?;
    let errors = folder.join("error.log");
    let mut command = wrapped(&program);
    command.arg("-c").arg(&config).arg("-e").arg(&errors);
    let running = Running::start_family("nginx", &command, Stdio::null(), Stdio::null())?;
    let address: SocketAddr = server.parse()?;
    let open = || Ok(std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
    if !netns.inside(|| interrupt::wait_for(Duration::from_secs(10), open))?? {
        let said = fs::read_to_string(errors).unwrap_or_default();
        bail!("nginx does not listen after 10 s: {}", said.trim());
    }
    Ok(running)
}

fn pages(folder: &Path) -> Result<()> {
    let www = folder.join("www");
    fs::create_dir(&www)?;
    let rows =
        |n: usize| (0..n).map(|i| format!("{{\"id\":{i},\"name\":\"item {i}\",\"tags\":[\"a\",\"b\"]}}"));
    let list = format!("[{}]\n", rows(460).collect::<Vec<_>>().join(","));
    fs::write(www.join("medium"), &list.as_bytes()[..list.len().min(20 << 10)])?;
    fs::write(www.join("gzip.json"), &list)?;
    fs::write(www.join("large"), "x".repeat(1 << 20))?;
    fs::write(www.join("huge"), "x".repeat(8 << 20))?;
    Ok(())
}

fn configuration(folder: &Path, log: &Path, server: &str) -> String {
    let small = format!("{{\"ok\":true,\"pad\":\"{}\"}}", "a".repeat(94));
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|of| format!("  {of}_temp_path {folder}/tmp;\n"))
        .collect();
    format!(
        "daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;
events {{ worker_connections 20000; }}
worker_rlimit_nofile 40000;
http {{
  log_format t '$msec $remote_addr:$remote_port $connection $connection_requests \"$request\" $status $request_length $body_bytes_sent';
  access_log {log} t buffer=1m;
  types {{ application/json json; }} default_type text/plain;
{temporary}  sendfile on; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 60s;
  server {{
    listen {server} backlog=16384; root {folder}/www;
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
