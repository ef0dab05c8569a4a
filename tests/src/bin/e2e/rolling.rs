//! A rolling update of all agents under load, while Slack is down; and an agent that is killed. Held to account: what the clients
//! sent, less what passed while an agent said it did not capture, is what the scripts saw; and each alert that was queued
//! arrives once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::cluster::kubelet::Profile;
use testkit::slack::{Fault, Injection};

use crate::client::{self, Client, Sent};
use crate::world::{SERVICE_PORT, World};
use crate::{interrupt, say};

/// Milliseconds between two requests of a client.
const INTERVAL: u64 = 10;
/// One request in so many fails.
const FAIL_EVERY: u64 = 50;
/// How long alerts that waited may take once Slack is back.
const DELIVERY: Duration = Duration::from_secs(120);

/// A time without capture, as an agent told it: milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: u64,
    until: u64,
}

/// A client under way, and the nodes whose agents see what it sends.
struct Load {
    child: Child,
    /// What it tells.
    told: PathBuf,
    nodes: BTreeSet<String>,
    shop: usize,
}

/// In brief: with shorter times in between.
pub(crate) fn run(world: &mut World, brief: bool) -> Result<()> {
    let moment = Duration::from_millis(if brief { 700 } else { 2000 });
    say::section("A rolling update under load");
    world.install(&json!({"config": {"outbox": {"drainTimeout": "2s"}}}))?;
    world.forget_seen();
    world.start_agents()?;
    let before = world.slack.messages().len();
    let mut loads = start(world)?;
    pause(moment)?;
    // What fails from now on waits, over the end of the agent that saw it.
    world.slack.fail(Injection::new(
        "chat.postMessage",
        u32::MAX,
        Fault::Status { code: 503, retry_after: None, body: String::new() },
    ));
    pause(moment)?;
    let mut gaps: BTreeMap<String, Vec<Gap>> = BTreeMap::new();
    world.install(
        &json!({"config": {"outbox": {"drainTimeout": "2s"}}, "podAnnotations": {"rolled": "yes"}}),
    )?;
    for number in 0..world.cluster.nodes.len() {
        let (node, gap) = replace(world, number, Signal::SIGTERM)?;
        gaps.entry(node).or_default().push(gap);
    }
    pause(moment)?;
    let (node, gap) = replace(world, 0, Signal::SIGKILL)?;
    gaps.entry(node).or_default().push(gap);
    pause(moment)?;
    world.slack.clear_faults();
    let mut account: BTreeMap<String, BTreeMap<String, Sent>> = BTreeMap::new();
    for load in &mut loads {
        let sent = end(load)?;
        for node in &load.nodes {
            let of = account.entry(node.clone()).or_default();
            of.extend(sent.iter().map(|sent| (path(load.shop, sent), *sent)));
        }
    }
    let queued = judge(world, &account, &gaps)?;
    let alerts = world.alerts(before + queued.len(), DELIVERY)?;
    let arrived: Vec<_> = alerts.iter().map(|a| (a.field("Node").to_owned(), a.text.clone())).collect();
    let arrived = &arrived[before.min(arrived.len())..];
    let once: BTreeSet<_> = arrived.iter().cloned().collect();
    let lost: Vec<_> = queued.difference(&once).collect();
    ensure!(lost.is_empty(), "{} queued alerts were lost: {lost:?}", lost.len());
    let twice = arrived.len() - once.len();
    say::fact(
        "alerts",
        &format!("{} were queued, {} arrived, {twice} of them twice", queued.len(), arrived.len()),
    );
    world.stop_agents()
}

fn start(world: &World) -> Result<Vec<Load>> {
    let mut loads = Vec::new();
    for (number, shop) in world.shops.iter().enumerate() {
        let client = Client {
            target: format!("/r/{number}-{{id}}"),
            count: u64::MAX,
            interval: INTERVAL,
            fail_every: FAIL_EVERY,
            ..Client::one(SocketAddr::new(shop.ip, SERVICE_PORT), "")
        };
        let told = world.cluster.files().join(format!("sent-{number}"));
        let child = client.command(&world.client)?.stdout(File::create(&told)?).spawn()?;
        let nodes = [&world.client.pod.node, &shop.pod.pod.node].map(Clone::clone).into();
        loads.push(Load { child, told, nodes, shop: number });
    }
    Ok(loads)
}

fn path(shop: usize, sent: &Sent) -> String {
    let way = if sent.id.is_multiple_of(FAIL_EVERY) { "fail" } else { "r" };
    format!("/{way}/{shop}-{}", sent.id)
}

/// Ends a client, and gives what it sent.
fn end(load: &mut Load) -> Result<Vec<Sent>> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(load.child.id())?);
    nix::sys::signal::kill(pid, Signal::SIGTERM)?;
    load.child.wait()?;
    let told = std::fs::read_to_string(&load.told)?;
    // It may have been ended in the middle of a line.
    client::read(told.rsplit_once('\n').map_or("", |(whole, _)| whole))
}

/// Ends a node's agent by that signal, starts the DaemonSet's current pod in its place, and gives the time without capture.
fn replace(world: &mut World, number: usize, signal: Signal) -> Result<(String, Gap)> {
    let node = world.cluster.nodes[number].name.clone();
    let mut old = world.agents.remove(&node).context("no agent to replace")?;
    let began = Instant::now();
    if signal == Signal::SIGKILL {
        old.container.signal(signal)?;
        old.container.wait(Duration::from_secs(10))?;
    } else {
        let (code, killed) = old.container.stop()?;
        // Deliveries are left, which it says by its exit code.
        ensure!(code <= 1 && !killed, "{node}: the agent ended with {code}: {}", old.container.log());
    }
    let ended = began.elapsed();
    world.cluster.delete(&old.container.pod)?;
    let daemon_set = world.daemon_set()?;
    let mut new = world.start(number, &daemon_set, Profile::Current)?;
    new.container.wait_until_ready(&world.cluster.nodes[number], &interrupt::check)?;
    world.cluster.publish(&new, &daemon_set, true)?;
    let whole = began.elapsed();
    let log = new.container.log();
    let gap = gap(&log).with_context(|| format!("{node}: no gap was told: {log}"))?;
    let told = Duration::from_millis(gap.until - gap.from);
    // Of a killed one the last two seconds are not known to have been handed on.
    let most = if signal == Signal::SIGKILL { whole + Duration::from_secs(3) } else { whole };
    ensure!(told <= most, "{node}: {told:?} without capture were told, and the restart took {whole:?}");
    say::fact(
        &node,
        &format!(
            "{signal}: ended after {:.1} s, ready after {:.1} s; it says: no capture for {:.1} s",
            ended.as_secs_f64(),
            whole.as_secs_f64(),
            told.as_secs_f64()
        ),
    );
    world.agents.insert(node.clone(), new);
    Ok((node, gap))
}

/// `no capture for 1.234 s since the last run: what passed from 2026-…Z to 2026-…Z was not seen`
fn gap(log: &str) -> Option<Gap> {
    let line = log.lines().find(|line| line.contains("no capture for "))?;
    let (_, times) = line.split_once("what passed from ")?;
    let (from, rest) = times.split_once(" to ")?;
    let (until, _) = rest.split_once(" was not seen")?;
    // The last millisecond is told cut.
    Some(Gap { from: milliseconds(from)?, until: milliseconds(until)? + 1 })
}

/// Of an RFC 3339 time of that very form.
fn milliseconds(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, milli) = (number(11..13)?, number(14..16)?, number(17..19)?, number(20..23)?);
    // Days by the calendar that begins in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    u64::try_from((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + milli).ok()
}

/// Holds what scripts saw against what was sent. Gives the alerts that were queued: node and text.
fn judge(
    world: &World,
    account: &BTreeMap<String, BTreeMap<String, Sent>>,
    gaps: &BTreeMap<String, Vec<Gap>>,
) -> Result<BTreeSet<(String, String)>> {
    let mut queued = BTreeSet::new();
    for node in &world.cluster.nodes {
        let sent = account.get(&node.name).cloned().unwrap_or_default();
        let gaps = gaps.get(&node.name).cloned().unwrap_or_default();
        let mut seen = BTreeSet::new();
        let excused = |sent: &Sent| gaps.iter().any(|gap| sent.from <= gap.until && sent.until >= gap.from);
        let (mut missing, mut twice) = (Vec::new(), 0);
        interrupt::wait("what scripts saw", Duration::from_secs(30), || {
            let lines = world.seen(&node.name);
            seen = BTreeSet::new();
            let mut again: Vec<&String> = lines.iter().map(|seen| &seen.path).collect();
            again.retain(|path| !seen.insert((*path).clone()));
            let all = again.len();
            // Within a node both ends are seen of a connection that is older than the capture, and of one whose port
            // was translated on the way: an earlier connection, to the pod itself, had it.
            let translated = |path: &String, sent: &Sent| {
                lines.iter().any(|line| line.path == *path && line.client != sent.client.to_string())
            };
            again.retain(|path| !sent.get(*path).is_some_and(|sent| excused(sent) || translated(path, sent)));
            let whole: Vec<_> = lines.iter().filter(|line| again.contains(&&line.path)).collect();
            let when: Vec<_> = again.iter().filter_map(|path| sent.get(*path)).collect();
            ensure!(
                again.is_empty(),
                "{} of {} were seen twice: {whole:?}, sent: {when:?}, without capture: {gaps:?}",
                again.len(),
                lines.len()
            );
            twice = all;
            let unseen = sent.iter().filter(|(path, _)| !seen.contains(*path));
            missing = unseen.map(|(path, sent)| (path.clone(), *sent)).collect();
            let unexcused: Vec<_> = missing.iter().filter(|(_, sent)| !excused(sent)).collect();
            ensure!(
                unexcused.is_empty(),
                "{}: {} requests were not seen and are not within {gaps:?}: {:?}",
                node.name,
                unexcused.len(),
                &unexcused[..unexcused.len().min(5)]
            );
            Ok(())
        })?;
        let text = format!(
            "{} requests, {} not seen, all while it told that it did not capture; {twice} seen at both ends",
            sent.len(),
            missing.len()
        );
        ensure!(
            !sent.is_empty() && seen.len() > sent.len() / 4,
            "{}: hardly anything was seen: {text}",
            node.name
        );
        say::fact(&node.name, &text);
        let failed = seen.iter().filter(|path| path.starts_with("/fail/"));
        queued.extend(failed.map(|path| (node.name.clone(), format!("GET {path}"))));
    }
    Ok(queued)
}

fn pause(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
