//! `cargo xtask demo`: the whole of Remora in a quarter of a minute, without an account or a cluster.
//!
//! ```text
//! namespace "client"            namespace "server"
//! customer ──── veth pair ────► shop ◄─ eBPF ─ remora tap ─► script ─► Slack fake (loopback)
//! ```
//! It ends by itself and leaves nothing but the files that it names. Without root or eBPF the same runs from a capture file.

mod alert;
mod fake;
mod packets;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::setup::{self, Ready, Setup};
use crate::suite::steps;
use crate::sys::run::Running;
use crate::sys::{interrupt, is_root, netns, project, run, term};
use crate::world::{self, INTERFACE, World};
use fake::Fake;

const SCRIPT: &str = "scripts/alert-on-error.js";
const FIXTURE: &str = "tests/fixtures/shop/input.pcap";
const REQUESTS: u32 = 40;
const INTERVAL: Duration = Duration::from_millis(80);
/// Slack takes a message a second; there are a few, each with two files.
const DELIVERY: Duration = Duration::from_secs(30);
/// remora's exit code where it may not capture.
const NOT_PERMITTED: i32 = 3;

/// How to run the demo.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --replay     (as without root: from a capture file)"
)]
pub(crate) struct Demo {
    /// Do not capture: read the recorded capture file, as is done without root.
    #[arg(long)]
    replay: bool,
}

/// The command.
pub(crate) fn run(options: &Demo) -> Result<()> {
    let ready = setup::prepare(&Setup::default())?;
    term::section("Build");
    steps::build(&ready)?;
    for name in netns::sweep() {
        term::say(&format!("  removed the network namespace {name}, left by a run that was killed"));
    }
    // What an earlier run kept.
    let kept = project::target().join("demo");
    if kept.exists() {
        fs::remove_dir_all(&kept).with_context(|| kept.display().to_string())?;
    }
    let why = match obstacle(options, &ready) {
        Some(why) => why,
        None => match live()? {
            Live::Shown => return Ok(()),
            Live::NotPermitted(why) => why,
        },
    };
    term::section("From a capture file");
    term::say(&format!("  Not live: {}.", why.trim_end_matches('.')));
    term::say(&format!("  So the same traffic comes from {FIXTURE}, recorded by tcpdump."));
    replay()
}

/// How the live demo went.
enum Live {
    Shown,
    /// The agent may not capture here, and says why.
    NotPermitted(String),
}

/// Why there can be no live capture here.
fn obstacle(options: &Demo, ready: &Ready) -> Option<String> {
    if options.replay {
        return Some("--replay was given".to_owned());
    }
    if !is_root() {
        return Some(
            "capturing and making network namespaces need root (try `sudo -E cargo xtask demo`)".to_owned(),
        );
    }
    if !ready.can_build_ebpf {
        return Some("the eBPF programs cannot be built here (see Set-up above)".to_owned());
    }
    netns::possible().err().map(|error| format!("{error:#}"))
}

fn live() -> Result<Live> {
    let world = World::create("demo")?;
    let fake = Fake::start(Some(&world.server))?;
    let _shop = world.shop()?;
    term::section("Capture");
    term::fact("shop", &format!("{} in a network namespace of its own", world::SERVER));
    term::fact("Slack", "a strict local fake of it");
    let mut tap = world.server.enter(project::built("remora"));
    tap.args(["tap", "--interface", INTERFACE]);
    let mut remora = Remora::start(&mut tap, &fake)?;
    if let Some(why) = remora.wait_until_capturing()? {
        return Ok(Live::NotPermitted(why));
    }
    let failed = shopping(&mut remora, &world)?;
    remora.check()?;
    wait_for_alerts(&mut remora, &fake, failed)?;
    remora.finish()?;
    drop(remora);
    show(&fake)?;
    next_steps();
    Ok(Live::Shown)
}

fn replay() -> Result<()> {
    let fake = Fake::start(None)?;
    let mut replay = run::command(project::built("remora"));
    replay.args(["replay", FIXTURE]);
    let mut remora = Remora::start(&mut replay, &fake)?;
    remora.finish_by_itself()?;
    drop(remora);
    show(&fake)?;
    next_steps();
    Ok(())
}

/// The customer's visit. Returns how many requests got a 500.
fn shopping(remora: &mut Remora, world: &World) -> Result<usize> {
    let command = world.customer(REQUESTS, INTERVAL);
    let mut customer = Running::start("the customer", &command, Stdio::piped(), Stdio::inherit())?;
    let mut answers = 0;
    let mut failed = 0;
    for line in BufReader::new(customer.stdout().context("no pipe")?).lines() {
        interrupt::check()?;
        let answer: Value = serde_json::from_str(&line?)?;
        answers += 1;
        if answer["status"] == 500 {
            failed += 1;
            let request = answer["request"].as_str().unwrap_or_default();
            term::fact("customer", &format!("request {answers}: {request} → {}", term::red("500")));
        }
    }
    if !customer.wait(Duration::from_secs(5))?.success() {
        bail!("the customer failed; {}", remora.said());
    }
    term::fact("customer", &format!("{answers} requests, {failed} of them failed"));
    Ok(failed)
}

fn wait_for_alerts(remora: &mut Remora, fake: &Fake, count: usize) -> Result<()> {
    let complete = |message: &Value| message["files"].as_array().is_some_and(|files| files.len() >= 2);
    let mut got = 0;
    let all = interrupt::wait_for(DELIVERY, || {
        remora.check()?;
        got = fake.messages()?.iter().filter(|m| complete(m)).count();
        Ok(got >= count)
    })?;
    if !all {
        bail!(
            "{got} of {count} alerts arrived with their files within {} s; {}",
            DELIVERY.as_secs(),
            remora.said()
        );
    }
    Ok(())
}

fn show(fake: &Fake) -> Result<()> {
    let messages = fake.messages()?;
    let folder = project::target().join("demo");
    for (number, message) in (1..).zip(&messages) {
        term::section(&format!("Alert {number} of {}, as Slack got it", messages.len()));
        alert::print(message);
        let files = alert::save(message, fake, &folder)?;
        if number == 1 {
            files
                .iter()
                .filter(|f| f.extension().is_some_and(|e| e == "pcap"))
                .try_for_each(|f| packets::print(f))?;
        }
    }
    if messages.is_empty() {
        bail!("no alert reached Slack");
    }
    Ok(())
}

fn next_steps() {
    term::section("Next");
    term::say("  On your own interface:");
    term::say(&format!("    sudo target/debug/remora tap --interface eth0 --port 80 --script {SCRIPT} \\"));
    term::say("      --env SLACK_AUTH_TOKEN=xoxb-… --env SLACK_CHANNEL_ID=C…");
    term::say("  On your own capture file:");
    term::say("    target/debug/remora replay FILE.pcap --json");
    term::say("  With your own Slack:");
    term::say("    SLACK_AUTH_TOKEN is an app's bot token with the scopes chat:write and files:write,");
    term::say(
        "    SLACK_CHANNEL_ID the id of a channel that the app is a member of (at the end of the channel's details).",
    );
    term::say("\n  Everything that the demo started has ended; only the files named above are left.");
}

/// The agent, with what it said.
struct Remora {
    running: Running,
    log: PathBuf,
}

impl Remora {
    fn start(command: &mut Command, fake: &Fake) -> Result<Self> {
        let script = project::root().join(SCRIPT);
        if !script.is_file() {
            bail!("{SCRIPT} is missing");
        }
        let log = project::target().join("demo/remora.log");
        let out = world::create_file(&log)?;
        command.args(["--script", SCRIPT, "--slack-api-url", &fake.api()]);
        command.args(["--env", &format!("SLACK_AUTH_TOKEN={}", fake::TOKEN)]);
        command.args(["--env", &format!("SLACK_CHANNEL_ID={}", fake::CHANNEL)]);
        term::fact("agent", &term::dim(&shown(command)));
        let running = Running::start("remora", command, Stdio::from(out.try_clone()?), Stdio::from(out))?;
        Ok(Self { running, log })
    }

    /// `remora tap` logs that it captures once its programs are attached. If it may not, that is returned.
    fn wait_until_capturing(&mut self) -> Result<Option<String>> {
        let log = self.log.clone();
        let mut refused = None;
        let capturing = interrupt::wait_for(Duration::from_secs(10), || {
            if self.running.ended()?.is_some_and(|status| status.code() == Some(NOT_PERMITTED)) {
                let text = fs::read_to_string(&log)?;
                refused = Some(text.lines().last().unwrap_or("remora is not permitted to").to_owned());
                return Ok(true);
            }
            self.check()?;
            Ok(fs::read_to_string(&log)?.contains("capturing"))
        })?;
        if !capturing {
            bail!("remora does not say that it captures; {}", self.said());
        }
        Ok(refused)
    }

    /// Errs if it has ended.
    fn check(&mut self) -> Result<()> {
        match self.running.ended()? {
            Some(status) => bail!("remora ended with {status}; {}", self.said()),
            None => Ok(()),
        }
    }

    /// Ends it as Ctrl-C would.
    fn finish(&mut self) -> Result<()> {
        let status = self.running.interrupt(Duration::from_secs(15))?;
        if !status.success() {
            bail!("remora ended with {status}; {}", self.said());
        }
        Ok(())
    }

    fn finish_by_itself(&mut self) -> Result<()> {
        let status = self.running.wait(Duration::from_secs(90))?;
        if !status.success() {
            bail!("remora ended with {status}; {}", self.said());
        }
        Ok(())
    }

    fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n  ");
        format!("the end of {}:\n  {tail}", self.log.display())
    }
}

/// The command as one would type it, without the way into the namespace.
fn shown(command: &Command) -> String {
    let text = run::shown(command);
    let text = text.split_once(" -- ").map_or(text.as_str(), |(_, inner)| inner);
    text.replace(&format!("{}/", project::target().join("debug").display()), "")
}
