//! `cargo xtask record NAME`: fixtures recorded from real servers and clients in namespaces of their own.
//!
//! A recording is a folder `tests/fixtures/NAME` with `input.pcap` (by tcpdump), `account.jsonl` (what the client or the server
//! itself says happened, a line for each request), `expected.jsonl` (the items, less times; to be reviewed before it is
//! committed) and `README.md` (how it came about). Mangled variants of it are made with it.

mod apache;
mod nginx;
mod scripted;
mod site;
mod variants;
mod wrk;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::setup::{self, Setup};
use crate::suite::steps;
use crate::sys::run::Running;
use crate::sys::{NotPermitted, is_root, netns, project, run, term};
use crate::world::World;

/// What to record.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  cargo xtask record nginx\n  cargo xtask record --update     (only the expected items of all, for review)"
)]
pub(crate) struct Record {
    /// Which recording.
    #[arg(value_enum, required_unless_present = "update")]
    name: Option<Name>,
    /// Write what `remora replay` finds now as what is expected of all recordings, and record nothing. Review the change.
    #[arg(long, conflicts_with = "name")]
    update: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// The demo's traffic: 40 requests to the shop, a few of them answered by 500.
    Shop,
    /// curl to nginx over kept-alive connections: static files, gzip, ranges, HEAD, 304, 404, 500, POST.
    Nginx,
    /// curl to Apache: static files, CGI and server-side includes in chunks, gzip, ranges, HEAD, 304, 404, 500, TRACE, OPTIONS.
    Apache,
    /// Python's client to its server: until-close bodies, chunks both ways, HTTP/1.0.
    Python,
    /// Node's client to its server: early hints, trailers, Upgrade.
    Node,
    /// wrk to nginx, pipelining.
    Wrk,
}

/// What a recording says about itself.
struct Story {
    /// A line for each request, in the order of the requests on each connection.
    account: String,
    /// For the README: what is in it.
    what: &'static str,
    /// For the README: programs and versions.
    versions: Vec<String>,
}

/// The command.
pub(crate) fn run(options: &Record) -> Result<()> {
    let Some(name) = options.name else { return update() };
    if !is_root() {
        return Err(NotPermitted("recording makes network namespaces, which needs root".to_owned()).into());
    }
    let ready = setup::prepare(&Setup::default())?;
    steps::build(&ready)?;
    netns::sweep();
    let record = name;
    let name = record.to_possible_value().context("no name")?.get_name().to_owned();
    let fixtures = project::root().join("tests/fixtures");
    let folder = fixtures.join(&name);
    fs::create_dir_all(&folder)?;
    let capture = folder.join("input.pcap");
    let world = World::create("record")?;
    let story = match record {
        Name::Shop => shop(&world, &capture)?,
        Name::Nginx => nginx::record(&world, &capture)?,
        Name::Apache => apache::record(&world, &capture)?,
        Name::Python => scripted::record(&world, &folder, &capture, &scripted::PYTHON)?,
        Name::Node => scripted::record(&world, &folder, &capture, &scripted::NODE)?,
        Name::Wrk => wrk::record(&world, &capture)?,
    };
    fs::write(folder.join("account.jsonl"), &story.account)?;
    fs::write(folder.join("README.md"), readme(&name, &story)?)?;
    let size = fs::metadata(&capture)?.len();
    term::say(&format!("{}: {size} bytes, {} requests", folder.display(), story.account.lines().count()));
    variants::make(&fixtures, &name)?;
    update()
}

/// The test of the recordings writes what it finds, instead of comparing.
fn update() -> Result<()> {
    let ready = setup::prepare(&Setup::default())?;
    let mut test = steps::agent_test(&ready, "fixtures");
    test.args(["--", "items_are_as_they_were_reviewed"]);
    run::output(test.env("REMORA_UPDATE_FIXTURES", "1"))?;
    term::say(
        "expected.jsonl: written; review the change with `git diff tests/fixtures` before it is committed",
    );
    Ok(())
}

/// Records while `client` runs, which returns what happened.
fn recorded<T>(world: &World, capture: &Path, client: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut tcpdump = world.tcpdump(capture)?;
    let result = client()?;
    // The last packets of a closing connection.
    std::thread::sleep(Duration::from_millis(300));
    let status = tcpdump.interrupt(Duration::from_secs(5))?;
    if !status.success() {
        bail!("tcpdump ended with {status}");
    }
    Ok(result)
}

fn shop(world: &World, capture: &Path) -> Result<Story> {
    let _shop: Running = world.shop()?;
    let account = recorded(world, capture, || {
        let mut customer = world.customer(40, Duration::from_millis(5));
        run::output(customer.stderr(Stdio::inherit()))
    })?;
    Ok(Story {
        account,
        what: "40 requests of the test crate's shop customer (`shop client --seed 1`) to its server (`shop serve`): \
               visits of five requests, each on a kept-alive connection of its own; JSON, gzip and chunked bodies; every third \
               checkout answers 500. `account.jsonl` is what the customer saw: its address, request line and status.",
        versions: vec![version("tcpdump", &["--version"])],
    })
}

/// The first line that a program says about its version.
fn version(program: &str, arguments: &[&str]) -> String {
    let Some(path) = project::program(program) else { return program.to_owned() };
    let output = run::command(path).args(arguments).output();
    let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or(program).to_owned()
}

fn readme(name: &str, story: &Story) -> Result<String> {
    let system = run::output(run::command("uname").args(["-srm"]))?;
    let versions = story.versions.iter().map(|v| format!("- {v}\n")).collect::<String>();
    Ok(format!(
        "# {name}\n\n{}\n\n`expected.jsonl` are the items, less times and numbers.\n\nRecorded by `cargo xtask record {name}`, which makes it anew: two network namespaces with a veth \
         pair, the server at 10.99.0.1:8080, tcpdump on the server's end (whole packets, nanoseconds). Made by this project; \
         same licence. Nobody's traffic is in it.\n\n{versions}- {}\n",
        story.what,
        system.trim()
    ))
}
