//! Requests that fail, on one node and across: each is alerted by those who see it, with the right names and packets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::client::Client;
use crate::say;
use crate::world::{Alert, PORT, World};

/// How long alerts may take.
const DELIVERY: Duration = Duration::from_secs(30);

pub(crate) fn run(world: &mut World) -> Result<()> {
    say::section("The DaemonSet's pods");
    world.render(&json!({}))?;
    world.start_agents()?;
    say::section("Traffic");
    let mut wanted = BTreeSet::new();
    let client = world.client.pod.clone();
    for number in 0..world.shops.len() {
        let (ip, server) = world.shop(number);
        let target = format!("/fail/{number}");
        let request =
            Client { to: SocketAddr::new(ip, PORT), target: target.clone(), count: 1, interval: 0, per_connection: 1 };
        let sent = request.in_pod(&world.client)?;
        ensure!(sent[0].status == 500, "the shop answered {}", sent[0].status);
        say::fact(&client.name, &format!("GET {target} at {} on {}: 500", request.to, server.pod.node));
        // Both ends on one node: once, at the client's.
        for node in BTreeSet::from([&client.node, &server.pod.node]) {
            wanted.insert((node.clone(), format!("GET {target}"), sent[0].client.to_string()));
        }
    }
    let alerts = world.alerts(wanted.len(), DELIVERY)?;
    let got = |alert: &Alert| {
        (alert.field("Node").to_owned(), alert.text.clone(), alert.field("Src").to_owned())
    };
    let got: BTreeSet<_> = alerts.iter().map(got).collect();
    ensure!(got == wanted, "alerts: {got:#?}, wanted: {wanted:#?}");
    ensure!(alerts.len() == wanted.len(), "some were alerted twice: {alerts:#?}");
    for alert in &alerts {
        let (id, name) = alert.files.first().context("an alert without files")?;
        let bytes = world.slack.file(id).context("a file without bytes")?;
        say::fact(alert.field("Node"), &format!("{} {} → {}, {name} {} bytes", alert.text, alert.field("SrcName"), alert.field("DstName"), bytes.len()));
    }
    world.stop_agents()
}
