//! A cluster with a shop in it, a Slack outside, and the chart's agents on its nodes.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::cluster::daemonset::{self, DaemonPod, DaemonPods, Surroundings};
use testkit::cluster::kubelet::{Image, Profile};
use testkit::cluster::{Cluster, Driver, NodeConfig, Qos, Workload};
use testkit::helm::{Helm, object};
use testkit::nginx::Nginx;
use testkit::slack::{Channel, FakeConfig, SlackFake, Token};

use crate::interrupt;
use crate::say;

pub(crate) const TOKEN: &str = "xoxb-e2e-0000";
pub(crate) const CHANNEL: &str = "C00000E2E";
/// Where shops listen in their pods.
pub(crate) const PORT: u16 = 8080;

/// A pod with a shop.
pub(crate) struct Shop {
    // Ends before its pod goes.
    _nginx: Nginx,
    pub(crate) pod: Workload,
}

/// All of it.
pub(crate) struct World {
    pub(crate) agents: DaemonPods,
    /// `shop/checkout-…` on the first node, `billing/payments-…` on the second.
    pub(crate) shops: Vec<Shop>,
    /// `shop/frontend-…` on the first node.
    pub(crate) client: Workload,
    pub(crate) slack: SlackFake,
    pub(crate) objects: Vec<Value>,
    pub(crate) image: Image,
    pub(crate) cluster: Cluster,
    helm: Helm,
}

impl World {
    /// Nodes, pods, and Slack; no agents yet.
    pub(crate) fn new(image: Image) -> Result<Self> {
        let mut nodes =
            vec![NodeConfig::new("node-a", Driver::Systemd), NodeConfig::new("node-b", Driver::Cgroupfs)];
        nodes[1].runtime = testkit::cluster::Runtime::Crio;
        let mut cluster = Cluster::new(&nodes)?;
        let client = Workload::new(&mut cluster.nodes[0], "shop", "frontend-6d5f9c7b8-x2x4z", Qos::Burstable)?;
        let shops = vec![
            shop(&mut cluster, 0, "shop", "checkout-7c9d8b6f5-k8q2m", Qos::BestEffort)?,
            shop(&mut cluster, 1, "billing", "payments-5b8f7d9c4-w7r9t", Qos::Guaranteed)?,
        ];
        let mut config = FakeConfig::default();
        config.tokens = vec![Token::new(TOKEN)];
        config.channels = vec![Channel::new(CHANNEL, "alerts")];
        let address = SocketAddr::new(cluster.rack.address(2)?, 80);
        let slack = cluster.rack.outside.run(|| SlackFake::start(address, config))?;
        let helm = Helm::find("e2e")?.context("Helm is not there: `cargo xtask setup --only helm`")?;
        Ok(Self {
            agents: DaemonPods::new(),
            shops,
            client,
            slack,
            objects: Vec::new(),
            image,
            cluster,
            helm,
        })
    }

    /// Renders the chart with these values over those that all runs here have.
    pub(crate) fn render(&mut self, values: &Value) -> Result<()> {
        let mut all = json!({
            "config": {
                "capture": {"workers": 1},
                "slackApiUrl": self.slack.api_url(),
                "outbox": {"slackRate": 1000, "slackBurst": 1000, "floodLimit": 0, "scriptAlerts": 0, "totalAlerts": 0},
            },
            "scripts": {"files": {"alert.js": include_str!("alert.js")}},
            "env": {"values": {"SLACK_AUTH_TOKEN": TOKEN, "SLACK_CHANNEL_ID": CHANNEL}},
        });
        merge(&mut all, values);
        // JSON is YAML.
        let objects = self.helm.template(&all.to_string(), &[])?;
        self.objects = objects.map_err(|refused| anyhow::anyhow!("Helm refuses the values: {refused}"))?;
        Ok(())
    }

    /// The DaemonSet that was rendered.
    pub(crate) fn daemon_set(&self) -> Result<Value> {
        Ok(object(&self.objects, "DaemonSet", "")?.clone())
    }

    /// Starts a DaemonSet's pod on a node, and leaves it to itself.
    pub(crate) fn start(&mut self, node: usize, daemon_set: &Value, profile: Profile) -> Result<DaemonPod> {
        let with = Surroundings {
            objects: &self.objects,
            image: &self.image,
            profile,
            account: &|_, _| None,
            api: None,
        };
        daemonset::start(&mut self.cluster.nodes[node], daemon_set, &with)
    }

    /// Starts the DaemonSet on every node, and waits until all are ready.
    pub(crate) fn start_agents(&mut self) -> Result<()> {
        let daemon_set = self.daemon_set()?;
        for node in 0..self.cluster.nodes.len() {
            let pod = self.start(node, &daemon_set, Profile::Current)?;
            self.agents.insert(self.cluster.nodes[node].name.clone(), pod);
        }
        for node in &self.cluster.nodes {
            let Some(agent) = self.agents.get_mut(&node.name) else { continue };
            agent.container.wait_until_ready(node, &interrupt::check)?;
            say::fact(&node.name, &format!("{} is ready", agent.container.pod.name));
        }
        Ok(())
    }

    /// Ends all agents as pods that are deleted; each has to end by itself, and well.
    pub(crate) fn stop_agents(&mut self) -> Result<()> {
        for (node, mut agent) in std::mem::take(&mut self.agents) {
            let (code, killed) = agent.container.stop()?;
            ensure!(code == 0 && !killed, "{node}: the agent ended with {code}: {}", agent.container.log());
        }
        Ok(())
    }

    /// What the agent of a node has said.
    pub(crate) fn log(&self, node: &str) -> String {
        self.agents.get(node).map(|agent| agent.container.log()).unwrap_or_default()
    }

    /// The shop on a node, by its pod's address.
    pub(crate) fn shop(&self, number: usize) -> (IpAddr, &Workload) {
        let pod = &self.shops[number].pod;
        (pod.pod.ip, pod)
    }

    /// Waits for that many messages in Slack's channel with all their files.
    pub(crate) fn alerts(&self, count: usize, limit: Duration) -> Result<Vec<Alert>> {
        let mut alerts = Vec::new();
        interrupt::wait("alerts", limit, || {
            alerts = self.slack.messages().iter().map(Alert::read).collect();
            let complete = alerts.iter().filter(|alert: &&Alert| !alert.files.is_empty()).count();
            ensure!(complete >= count, "{complete} of {count} are there with their files");
            Ok(())
        })?;
        Ok(alerts)
    }
}

fn shop(cluster: &mut Cluster, node: usize, namespace: &str, name: &str, qos: Qos) -> Result<Shop> {
    let pod = Workload::new(&mut cluster.nodes[node], namespace, name, qos)?;
    let address = SocketAddr::new(pod.pod.ip, PORT);
    let inside = |command: Command| pod.inside(&command);
    let nginx = pod.net.run(|| Nginx::start(address, inside))?;
    Ok(Shop { _nginx: nginx, pod })
}

/// Members of `with` over those of `base`, at all depths.
pub(crate) fn merge(base: &mut Value, with: &Value) {
    match (base, with) {
        (Value::Object(base), Value::Object(with)) => {
            for (key, value) in with {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, with) => *base = with.clone(),
    }
}

/// An alert as Slack got it.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    /// Method and path.
    pub(crate) text: String,
    fields: Vec<(String, String)>,
    /// Ids and names.
    pub(crate) files: Vec<(String, String)>,
}

impl Alert {
    fn read(message: &testkit::slack::Message) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let attachment = message.attachments.first().cloned().unwrap_or_default();
        let fields = attachment["fields"].as_array().cloned().unwrap_or_default();
        Self {
            text: text(&attachment["text"]),
            fields: fields.iter().map(|field| (text(&field["title"]), text(&field["value"]))).collect(),
            files: message.files.iter().map(|file| (file.id.clone(), file.name.clone())).collect(),
        }
    }

    /// A field's value; nothing, where the script gave nothing.
    pub(crate) fn field(&self, title: &str) -> &str {
        let value = self.fields.iter().find(|(known, _)| known == title).map_or("", |(_, value)| value);
        if value == "-" { "" } else { value }
    }
}
