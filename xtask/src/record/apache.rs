//! curl to Apache; the expected side is Apache's own access log.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::site::{self, Visit};
use super::{Story, recorded, version};
use crate::sys::run::Running;
use crate::sys::{interrupt, project, run};
use crate::world::World;

/// Where Debian's package puts the modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// `%B` is what went out as body after compression, without the framing of chunks.
const CONFIG: &str = r#"
ServerRoot FOLDER
ServerName shop.test
PidFile FOLDER/pid
ErrorLog FOLDER/error.log
DefaultRuntimeDir FOLDER
Mutex file:FOLDER
Listen 10.99.0.1:8080
LoadModule mpm_prefork_module MODULES/mod_mpm_prefork.so
LoadModule authz_core_module MODULES/mod_authz_core.so
LoadModule mime_module MODULES/mod_mime.so
LoadModule dir_module MODULES/mod_dir.so
LoadModule alias_module MODULES/mod_alias.so
LoadModule filter_module MODULES/mod_filter.so
LoadModule deflate_module MODULES/mod_deflate.so
LoadModule include_module MODULES/mod_include.so
LoadModule cgi_module MODULES/mod_cgi.so
StartServers 1
MinSpareServers 1
MaxRequestWorkers 8
KeepAlive On
KeepAliveTimeout 20
TraceEnable on
TypesConfig /dev/null
AddType text/html .html .shtml
AddType application/json .json
AddType application/octet-stream .bin
AddOutputFilter INCLUDES .shtml
AddOutputFilterByType DEFLATE application/json
LogFormat "{\"client\":\"%a:%{remote}p\",\"request\":\"%m %U%q\",\"status\":%>s,\"body\":%B,\"kept\":%k}" json
CustomLog FOLDER/access.log json
DocumentRoot FOLDER/www
ScriptAlias /cgi/ FOLDER/cgi/
Redirect 301 /moved /page.html
<Directory FOLDER>
  Options +Includes +ExecCGI
  Require all granted
</Directory>
<Location /forbidden>
  Require all denied
</Location>
"#;

/// Programs behind `/cgi/`: chunks as they come, what was posted, and one that dies without a header.
const PROGRAMS: [(&str, &str); 4] = [
    (
        "slow",
        "printf 'Content-Type: text/plain\\r\\n\\r\\n'; for n in 1 2 3; do echo part $n; sleep 0.05; done",
    ),
    ("echo", "printf 'Content-Type: application/octet-stream\\r\\n\\r\\n'; cat"),
    ("nothing", "printf 'Status: 204 No Content\\r\\n\\r\\n'"),
    ("broken", "exit 1"),
];

const VISITS: [Visit; 13] = [
    &["/page.html", "/list.json", "/nowhere", "/cgi/broken", "/moved", "/blob.bin", "/forbidden"],
    &["/cgi/slow", "/parts.shtml", "/cgi/nothing", "/cgi/slow?again"],
    &["-I", "/page.html", "/list.json", "/parts.shtml", "/blob.bin"],
    &["--compressed", "/list.json", "/list.json?again=1", "/page.html"],
    &["-r", "100-299", "/blob.bin", "/blob.bin?2"],
    &["-r", "0-9,100-109", "/blob.bin?two-parts"],
    &["-r", "90000-", "/blob.bin?beyond"],
    &["-H", "If-None-Match: *", "/page.html", "/list.json?unchanged"],
    &["--http1.0", "/list.json?old"],
    &["--http1.0", "-H", "Connection: keep-alive", "/page.html?old", "/page.html?old-again"],
    &["-d", "a=1&b=2", "/cgi/echo", "/cgi/echo?again"],
    &["-H", "Transfer-Encoding: chunked", "-d", "@tests/fixtures/README.md", "/cgi/echo?chunked"],
    &["-X", "TRACE", "-H", "X-Seen: by all", "/page.html?trace"],
];

pub(super) fn record(world: &World, capture: &Path) -> Result<Story> {
    let apache = Apache::start(world)?;
    recorded(world, capture, || {
        site::visit(world, &VISITS)?;
        others(world)
    })?;
    Ok(Story {
        account: apache.stop(site::requests(&VISITS) + 4)?,
        what: "curl to Apache over kept-alive connections: static files with Content-Length, CGI and server-side includes in chunks, \
               gzip, HEAD (of chunked ones too), one range, two (multipart/byteranges) and one beyond the end (416), 204, 301, \
               304, 403, 404, 500, HTTP/1.0 with and without keep-alive, forms, a chunked request, `Expect: 100-continue` that is \
               granted and one that is refused without the body, TRACE, `OPTIONS *`. `account.jsonl` is Apache's own access log: the client's address, \
               request line, status, bytes of body sent (without the framing of chunks), and how many requests its connection had before.",
        versions: vec![
            version("apache2", &["-v"]),
            version("curl", &["--version"]),
            version("tcpdump", &["--version"]),
        ],
    })
}

/// Requests that are no plain path: `*`, and bodies that wait for a 100.
fn others(world: &World) -> Result<()> {
    let mut options = world.client.enter("curl");
    options.args(["-s", "-o", "/dev/null", "-X", "OPTIONS", "--request-target", "*", &site::url("/")]);
    options.args(["--next", "-s", "-o", "/dev/null", &site::url("/page.html?after")]);
    run::output(&mut options)?;
    for path in ["/cgi/echo?granted", "/forbidden?refused"] {
        let mut waits = world.client.enter("curl");
        waits.args(["-s", "-o", "/dev/null", "-H", "Expect: 100-continue", "-d", &"x".repeat(5000)]);
        run::output(waits.arg(site::url(path)))?;
    }
    Ok(())
}

/// A running Apache with a folder of its own.
struct Apache {
    running: Running,
    folder: tempfile::TempDir,
}

impl Apache {
    fn start(world: &World) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // Apache's children are not root and read the files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        write_site(folder.path())?;
        let program = project::program("apache2")
            .context("apache2 is not installed; `cargo xtask setup` does that (apache2-bin)")?;
        let mut command = world.server.enter(program);
        // One process in the foreground: nothing is left of it when that ends, and it signals no process group, which is ours.
        command.arg("-X").arg("-f").arg(folder.path().join("apache.conf"));
        let running = Running::start_family("apache2", &command, Stdio::null(), Stdio::null())?;
        let waited = world.wait_for_server();
        let log = fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
        waited.with_context(|| format!("apache2 says: {log}"))?;
        fs::write(folder.path().join("access.log"), "")?;
        Ok(Self { running, folder })
    }

    /// Its access log, once that has as many lines as `requests`.
    fn stop(mut self, requests: usize) -> Result<String> {
        let log = self.folder.path().join("access.log");
        let complete = || Ok(fs::read_to_string(&log)?.lines().count() >= requests);
        if !interrupt::wait_for(Duration::from_secs(5), complete)? {
            bail!("Apache logged {} of {requests} requests", fs::read_to_string(&log)?.lines().count());
        }
        self.running.interrupt(Duration::from_secs(5))?;
        Ok(fs::read_to_string(&log)?)
    }
}

fn write_site(folder: &Path) -> Result<()> {
    let www = folder.join("www");
    site::write(&www)?;
    fs::write(
        www.join("parts.shtml"),
        "<p>before</p>\n<!--#include virtual=\"/page.html\" -->\n<p>between</p>\n<!--#include virtual=\"/cgi/slow\" -->\n",
    )?;
    let programs = folder.join("cgi");
    fs::create_dir(&programs)?;
    for (name, does) in PROGRAMS {
        let path = programs.join(name);
        fs::write(&path, format!("#!/bin/sh\n{does}\n"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let config = CONFIG.replace("FOLDER", &folder.display().to_string()).replace("MODULES", MODULES);
    fs::write(folder.join("apache.conf"), config)?;
    Ok(())
}
