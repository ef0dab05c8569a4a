//! curl to nginx over kept-alive connections; the expected side is nginx's own access log.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::site::{self, Visit, url};
use super::{Story, recorded, version};
use crate::sys::run::Running;
use crate::sys::{interrupt, project, run};
use crate::world::World;

const CONFIG: &str = r#"
daemon off; master_process off; worker_processes 1; user root;
pid FOLDER/pid; error_log FOLDER/error.log;
events { worker_connections 64; }
http {
  client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
  types { text/html html; application/json json; application/octet-stream bin; }
  log_format json escape=json '{"client":"$remote_addr:$remote_port","request":"$request_method $request_uri",'
    '"status":$status,"body":$body_bytes_sent,"nth":$connection_requests}';
  access_log FOLDER/access.log json;
  gzip on; gzip_types application/json; gzip_min_length 100; keepalive_timeout 20s; if_modified_since before;
  server {
    listen 10.99.0.1:8080;
    root FOLDER/www;
    location = /error { return 500 "it broke\n"; }
    location = /moved { return 301 /page.html; }
    location = /empty { return 204; }
    location /r/ { return 200 "you asked for $request_uri\n"; }
    location = /post { client_max_body_size 1m; return 200 "thanks\n"; }
  }
}
"#;

const VISITS: [Visit; 8] = [
    &["/page.html", "/list.json", "/nowhere", "/error", "/moved", "/empty", "/blob.bin"],
    &["-I", "/page.html", "/list.json", "/blob.bin"],
    &["--compressed", "/list.json", "/list.json?again=1", "/page.html"],
    &["-r", "100-299", "/blob.bin", "/blob.bin?2"],
    &["-H", "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT", "/page.html", "/list.json?not-since"],
    &["--http1.0", "/list.json?old"],
    &["--http1.0", "-H", "Connection: keep-alive", "/page.html?old", "/page.html?old-again"],
    &["-F", "name=J\u{fc}rgen", "-F", "file=@tests/fixtures/README.md;type=text/markdown", "/post"],
];

pub(super) fn record(world: &World, capture: &Path) -> Result<Story> {
    let nginx = Nginx::start(world)?;
    recorded(world, capture, || visits(world))?;
    let requests = site::requests(&VISITS) + 2;
    Ok(Story {
        account: nginx.stop(Some(requests))?,
        what: "curl to nginx over kept-alive connections: static files with Content-Length, gzip (chunked), HEAD, ranges, 204, 301, \
               304, 404, 500, HTTP/1.0 with and without keep-alive, a multipart form, a POST with a body and one with \
               `Expect: 100-continue`. `account.jsonl` is nginx's own access log: the client's address, request line, \
               status, bytes of body sent (framing of chunks included), number of the request in its connection.",
        versions: vec![
            version("nginx", &["-v"]),
            version("curl", &["--version"]),
            version("tcpdump", &["--version"]),
        ],
    })
}

/// A running nginx with a folder of its own.
pub(super) struct Nginx {
    running: Running,
    folder: tempfile::TempDir,
}

impl Nginx {
    pub(super) fn start(world: &World) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        write_site(folder.path())?;
        let program =
            project::program("nginx").context("nginx is not installed; `cargo xtask setup` does that")?;
        let mut command = world.server.enter(program);
        command.arg("-c").arg(folder.path().join("nginx.conf")).arg("-p").arg(folder.path());
        let running = Running::start_family("nginx", &command, Stdio::null(), Stdio::null())?;
        world.wait_for_server()?;
        fs::write(folder.path().join("access.log"), "")?;
        Ok(Self { running, folder })
    }

    /// Its access log, once that has as many lines as `requests`, if that is known.
    pub(super) fn stop(mut self, requests: Option<usize>) -> Result<String> {
        let log = self.folder.path().join("access.log");
        if let Some(requests) = requests {
            let complete = || Ok(fs::read_to_string(&log)?.lines().count() >= requests);
            if !interrupt::wait_for(Duration::from_secs(5), complete)? {
                bail!("nginx logged {} of {requests} requests", fs::read_to_string(&log)?.lines().count());
            }
        }
        self.running.interrupt(Duration::from_secs(5))?;
        Ok(fs::read_to_string(&log)?)
    }
}

fn write_site(folder: &Path) -> Result<()> {
    site::write(&folder.join("www"))?;
    let config = CONFIG.replace("FOLDER", &folder.display().to_string());
    fs::write(folder.join("nginx.conf"), config)?;
    Ok(())
}

fn visits(world: &World) -> Result<()> {
    site::visit(world, &VISITS)?;
    let mut posts = world.client.enter("curl");
    posts.args(["-s", "-o", "/dev/null", "-d", "a=1&b=2", &url("/post"), "--next", "-s", "-o", "/dev/null"]);
    posts.args(["-H", "Expect: 100-continue", "-d", &"x".repeat(5000), &url("/post")]);
    run::output(&mut posts).map(drop)
}
