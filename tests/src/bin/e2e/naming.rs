//! Requests that fail, on one node and across, by a pod's address and by a Service's: each is alerted by those who see it, with
//! the right names and packets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::client::Client;
use crate::say;
use crate::world::{Alert, PORT, SERVICE_PORT, World};

/// How long it may take until names are known.
const NAMES: Duration = Duration::from_secs(20);
/// How long alerts may take.
const DELIVERY: Duration = Duration::from_secs(30);

/// An alert that is wanted, or that came: each field with its name.
type Fields = Vec<(&'static str, String)>;

pub(crate) fn run(world: &mut World) -> Result<()> {
    say::section("The DaemonSet's pods");
    world.install(&json!({}))?;
    world.start_agents()?;
    say::section("Traffic");
    // It is behind no Service: other nodes ask for its name when they see its address.
    let (own, far) = (&world.client.pod, &world.shops[1].pod.pod);
    let called = format!("{}|{}||{}", own.namespace, own.name, own.name);
    world.until_named(&far.node, SocketAddr::new(far.ip, PORT), &called, NAMES)?;
    let mut wanted = BTreeSet::new();
    for (number, shop) in world.shops.iter().enumerate() {
        let (own, service) = (SocketAddr::new(shop.pod.pod.ip, PORT), SocketAddr::new(shop.ip, SERVICE_PORT));
        for (way, to) in [("pod", own), ("service", service)] {
            let target = format!("/fail/{number}{way}");
            let request = Client::one(to, &target);
            let sent = request.in_pod(&world.client)?;
            ensure!(sent[0].status == 500, "the shop answered {}", sent[0].status);
            let (client, server) = (&world.client.pod, &shop.pod.pod);
            say::fact(
                &client.name,
                &format!("GET {target} at {to}, {} on {}: 500", server.name, server.node),
            );
            // Both ends on one node: once, at the client's, which knows the address that it asked for.
            for node in BTreeSet::from([&client.node, &server.node]) {
                let at_client = *node == client.node;
                let seen = if at_client { to } else { own };
                // Behind a Service's address may be any of its pods, unless the other end is seen, too.
                let hidden = at_client && way == "service" && client.node != server.node;
                let pod = if hidden { "" } else { &server.name };
                let name = if pod.is_empty() { shop.service } else { pod };
                wanted.insert(vec![
                    ("Node", node.clone()),
                    ("Text", format!("GET {target}")),
                    ("Src", sent[0].client.to_string()),
                    ("Dst", seen.to_string()),
                    ("SrcName", format!("{}|{}||{}", client.namespace, client.name, client.name)),
                    ("DstName", format!("{}|{pod}|{}|{name}", server.namespace, shop.service)),
                ]);
            }
        }
    }
    let alerts = world.alerts(wanted.len(), DELIVERY)?;
    let got: BTreeSet<Fields> = alerts.iter().map(fields).collect();
    let (missing, others): (Vec<_>, Vec<_>) =
        (wanted.difference(&got).collect(), got.difference(&wanted).collect());
    ensure!(missing.is_empty() && others.is_empty(), "missing: {missing:#?}, instead: {others:#?}");
    ensure!(alerts.len() == wanted.len(), "some were alerted twice: {alerts:#?}");
    for alert in &alerts {
        let (id, name) = alert.files.first().context("an alert without files")?;
        let bytes = world.slack.file(id).context("a file without bytes")?;
        let ends = format!("{} → {}", alert.field("SrcName"), alert.field("DstName"));
        say::fact(alert.field("Node"), &format!("{} {ends}, {name} {} bytes", alert.text, bytes.len()));
    }
    world.stop_agents()
}

fn fields(alert: &Alert) -> Fields {
    let of = |title| (title, alert.field(title).to_owned());
    vec![of("Node"), ("Text", alert.text.clone()), of("Src"), of("Dst"), of("SrcName"), of("DstName")]
}
