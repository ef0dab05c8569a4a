//! Thousands of pods that come and go at the API server, behind a Service: names stay right, memory flat, requests few.
//!
//! They come in batches. The first of each has the address of a pod that is there: what that one sends to the other node has to be
//! alerted there under the batch's name, however often the address has changed hands.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::cluster::kubelet::Pod;
use testkit::cluster::objects::{self, Labels, Running, labels};
use testkit::cluster::{Qos, Runtime, hex_id, uid};

use crate::client::Client;
use crate::world::{SERVICE_PORT, World};
use crate::{interrupt, say};

/// Pods at once.
const BATCH: u32 = 100;
/// How long a change may take to be known.
const NAMES: Duration = Duration::from_secs(20);
const DELIVERY: Duration = Duration::from_secs(30);
/// What an agent's memory may grow by once the first tenth has come and gone, in KiB.
const GROWTH: u64 = 16 << 10;
/// Requests that all agents together may make of the API server for each batch: looking up an address now and then.
const REQUESTS: u64 = 4;

pub(crate) fn run(world: &mut World, pods: u32) -> Result<()> {
    say::section(&format!("{pods} pods come and go"));
    world.install(&json!({}))?;
    world.forget_seen();
    // Its address is to be theirs.
    world.cluster.delete(&world.client.pod)?;
    world.start_agents()?;
    let batches = pods.div_ceil(BATCH);
    let service = objects::service("churn", "churn", IpAddr::from([10, 96, 0, 99]), (80, 80), &app());
    world.cluster.api.apply(&service)?;
    let (before, began) = (requests(world), Instant::now());
    let mut memory: Vec<BTreeMap<String, u64>> = Vec::new();
    for number in 0..batches {
        let all = batch(world, number);
        one_round(world, &service, number, &all).with_context(|| format!("batch {number}"))?;
        memory.push(resident(world)?);
        if (number + 1) % 10 == 0 || number + 1 == batches {
            let kib = memory.last().cloned().unwrap_or_default();
            let kib: Vec<_> = kib.iter().map(|(node, kib)| format!("{node} {} MiB", kib >> 10)).collect();
            say::fact(&format!("{} pods", (number + 1) * BATCH), &kib.join(", "));
        }
    }
    let early = &memory[memory.len() / 10];
    for (node, last) in &memory[memory.len() - 1] {
        let first = early.get(node).copied().unwrap_or_default();
        ensure!(*last <= first + GROWTH, "{node}: memory has grown from {first} to {last} KiB");
    }
    let after = requests(world);
    let made: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
    let seconds = began.elapsed().as_secs_f64();
    let what: Vec<_> = after
        .iter()
        .map(|(call, count)| (call, count - before.get(call).copied().unwrap_or_default()))
        .filter(|(_, count)| *count > 0)
        .map(|(call, count)| format!("{call} {count}"))
        .collect();
    say::fact("API server", &format!("{made} requests in {seconds:.0} s: {}", what.join(", ")));
    ensure!(made <= u64::from(batches) * REQUESTS, "the API server was asked {made} times");
    let client = Running {
        labels: &labels(&[("app", "frontend")]),
        qos: world.client.qos,
        runtime: world.cluster.nodes[0].runtime,
        container: &world.client.container,
        ready: true,
    };
    world.cluster.api.apply(&objects::pod(&world.client.pod, &client))?;
    world.stop_agents()
}

fn app() -> Labels {
    labels(&[("app", "churn")])
}

/// Pods of the first node; the first has the client's address.
fn batch(world: &World, number: u32) -> Vec<(Pod, Value)> {
    let node = &world.cluster.nodes[0];
    let make = |n: u32| {
        let ip = if n == 0 { world.client.pod.ip } else { Ipv4Addr::from(0x0af4_0180 + n).into() };
        let pod = Pod {
            namespace: "churn".to_owned(),
            name: format!("churn-{number}-{n}"),
            uid: uid(),
            node: node.name.clone(),
            host_ip: node.net.ip,
            ip,
        };
        let (labels, container) = (app(), hex_id());
        let running = Running {
            labels: &labels,
            qos: Qos::BestEffort,
            runtime: Runtime::Containerd,
            container: &container,
            ready: true,
        };
        let object = objects::pod(&pod, &running);
        (pod, object)
    };
    (0..BATCH).map(make).collect()
}

fn one_round(world: &World, service: &Value, number: u32, pods: &[(Pod, Value)]) -> Result<()> {
    interrupt::check()?;
    let api = &world.cluster.api;
    let objects: Vec<_> = pods.iter().map(|(_, object)| object.clone()).collect();
    for object in &objects {
        api.apply(object)?;
    }
    let slice = |pods: &[Value]| objects::endpoints(service, pods).map(|(slice, _)| slice);
    api.apply(&slice(&objects).context("no slice")?)?;
    // By its Service: what went there by that before may stay in the nodes' connection tables for minutes, and a connection to
    // the pod itself from the same port would be in its way.
    let (far, to) = (&world.shops[1].pod.pod, SocketAddr::new(world.shops[1].ip, SERVICE_PORT));
    let name = &pods[0].0.name;
    let called = format!("churn|{name}|churn|{name}");
    world.until_named(&far.node, to, &called, NAMES)?;
    // Both nodes see it.
    let (target, known) = (format!("/fail/churn-{number}"), world.slack.messages().len());
    Client::one(to, &target).in_pod(&world.client)?;
    let alerts = world.alerts(known + 2, DELIVERY)?;
    let text = format!("GET {target}");
    let alert = alerts.iter().find(|alert| alert.text == text && alert.field("Node") == far.node);
    let said = alert.with_context(|| format!("no alert of {target} from {}", far.node))?.field("SrcName");
    ensure!(said == called, "the client is called {said}, not {called}");
    for (pod, _) in pods {
        world.cluster.delete(pod)?;
    }
    api.apply(&slice(&[]).context("no slice")?).map(drop)
}

/// Memory of each agent, in KiB.
fn resident(world: &World) -> Result<BTreeMap<String, u64>> {
    let of = |pid: u32| -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default())
    };
    world.agents.iter().map(|(node, agent)| Ok((node.clone(), of(agent.container.pid())?))).collect()
}

/// What was asked of the API server so far, by verb and resource.
fn requests(world: &World) -> BTreeMap<String, u64> {
    let counts = world.cluster.api.counts();
    counts.iter().map(|((verb, resource), count)| (format!("{verb} {resource}"), count.requests)).collect()
}
