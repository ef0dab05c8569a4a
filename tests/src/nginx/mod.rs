//! A real nginx for tests: its own configuration, folder and address; ended when dropped.
//!
//! `/r/N` answers with the request's own target, in a header and in the body, so that a response can be told from any
//! other; `/c/N` the same in chunks; `/b/N` the same around 4 KiB; `/fail/N` the same with status 500; `/big` 256 KiB.
//! The access log is an account of what was served, independent of any capture.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    dir: TempDir,
}

const BIG: usize = 256 << 10;
/// `/huge`: zeros.
const HUGE: u64 = 24 << 20;

impl Nginx {
    /// Starts nginx on `addr`; `inside` makes the command run where it should (a namespace, a cgroup). Call it from a
    /// thread that can reach `addr`: it waits until connections are taken.
    ///
    /// # Errors
    /// When nginx is not installed, refuses its configuration, or does not listen within 10 s.
    pub fn start(addr: SocketAddr, inside: impl FnOnce(Command) -> Command) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("remora-nginx-").tempdir()?;
        let www = dir.path().join("www");
        fs::create_dir(&www)?;
        fs::write(www.join("big"), vec![b'x'; BIG])?;
        fs::File::create(www.join("huge"))?.set_len(HUGE)?;
        let config = dir.path().join("nginx.conf");
        fs::write(&config, configuration(&dir, addr))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).arg("-e").arg(dir.path().join("error.log"));
        let mut command = inside(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().context("starting nginx (`cargo xtask setup` installs it)")?;
        let mut nginx = Self { child, dir };
        nginx.wait_until_listening(addr)?;
        Ok(nginx)
    }

    fn wait_until_listening(&mut self, addr: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default();
                bail!("nginx ended with {status}: {log}");
            }
            // The connection is closed without a request: nginx logs nothing for it.
            if TcpStream::connect_timeout(&addr, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("nginx does not listen on {addr}")
    }

    /// Ends nginx, and returns its access log: `client-ip:port request-target status` a line.
    ///
    /// # Errors
    /// When it cannot be ended or the log cannot be read.
    pub fn stop(mut self) -> anyhow::Result<Vec<String>> {
        self.end();
        let log =
            fs::read_to_string(self.dir.path().join("access.log")).context("reading nginx's access log")?;
        Ok(log.lines().map(str::to_owned).collect())
    }

    /// Process id of the master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn end(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            if let Ok(pid) = i32::try_from(self.child.id()) {
                // TERM lets the master end its workers and flush its log; wait() below bounds nothing more.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let _ = self.child.wait();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.end();
    }
}

fn configuration(dir: &TempDir, addr: SocketAddr) -> String {
    let at = |name: &str| -> String { PathBuf::from(dir.path()).join(name).display().to_string() };
    format!(
        "daemon off; worker_processes 2; pid {pid}; error_log {error}; user root;
events {{ worker_connections 4096; }}
http {{
  log_format t '$remote_addr:$remote_port $request_uri $status';
  access_log {access} t;
  default_type text/plain; keepalive_requests 1000000; keepalive_timeout 60s; sendfile on;
  client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp}; uwsgi_temp_path {tmp}; scgi_temp_path {tmp};
  server {{
    listen {addr} backlog=4096; root {www};
    add_header X-Target $request_uri always;
    location /r/ {{ return 200 'you asked for $request_uri\\n'; }}
    location /c/ {{ sub_filter_types *; sub_filter asked asked; return 200 'you asked for $request_uri\\n'; }}
    location /b/ {{ return 200 'you asked for $request_uri\\n{filler}\\nthat was $request_uri\\n'; }}
    location /fail/ {{ return 500 'you asked for $request_uri\\n'; }}
  }}
}}
",
        pid = at("nginx.pid"),
        error = at("error.log"),
        access = at("access.log"),
        tmp = at("tmp"),
        www = at("www"),
        filler = "x".repeat(4000),
    )
}
