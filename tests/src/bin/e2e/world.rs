//! A cluster with a shop in it, a Slack outside, and the chart's agents on its nodes.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::cluster::daemonset::{self, DaemonPod, DaemonPods, Surroundings};
use testkit::cluster::kubelet::{Account, Image, Profile};
use testkit::cluster::objects::{self, labels};
use testkit::cluster::{Cluster, Driver, NodeConfig, Qos, Runtime, Workload};
use testkit::helm::Helm;
use testkit::nginx::Nginx;
use testkit::slack::{Channel, FakeConfig, SlackFake, Token};

use crate::client::Client;
use crate::interrupt;
use crate::say;

pub(crate) const TOKEN: &str = "xoxb-e2e-0000";
pub(crate) const CHANNEL: &str = "C00000E2E";
/// Where shops listen in their pods, and as Services.
pub(crate) const PORT: u16 = 8080;
pub(crate) const SERVICE_PORT: u16 = 80;
/// Where the script keeps its account, on a node.
const SEEN: &str = "/var/lib/remora/scripts/alert.js/seen.txt";
/// The release, and where it is installed.
const RELEASE: &str = "shop";
const NAMESPACE: &str = "observed";
const DAEMON_SET: &str = "shop-remora";

/// A pod with a shop.
pub(crate) struct Shop {
    // Ends before its pod goes.
    _nginx: Nginx,
    pub(crate) pod: Workload,
    /// The Service in front of it, and its address.
    pub(crate) service: &'static str,
    pub(crate) ip: IpAddr,
}

/// All of it.
pub(crate) struct World {
    pub(crate) agents: DaemonPods,
    /// `shop/checkout-…` on the first node, `billing/payments-…` on the second.
    pub(crate) shops: Vec<Shop>,
    /// `shop/frontend-…` on the first node.
    pub(crate) client: Workload,
    pub(crate) slack: SlackFake,
    pub(crate) image: Image,
    pub(crate) cluster: Cluster,
    helm: Helm,
    installed: bool,
}

impl World {
    /// Nodes, pods, and Slack; no agents yet.
    pub(crate) fn new(image: Image) -> Result<Self> {
        let mut nodes =
            vec![NodeConfig::new("node-a", Driver::Systemd), NodeConfig::new("node-b", Driver::Cgroupfs)];
        nodes[1].runtime = Runtime::Crio;
        let mut cluster = Cluster::new(&nodes)?;
        let app = labels(&[("app", "frontend")]);
        let client = cluster.pod(0, "shop", "frontend-6d5f9c7b8-x2x4z", Qos::Burstable, &app)?;
        let shops = vec![
            shop(&mut cluster, 0, ("shop", "checkout", "checkout-7c9d8b6f5-k8q2m"), Qos::BestEffort)?,
            shop(&mut cluster, 1, ("billing", "payments", "payments-5b8f7d9c4-w7r9t"), Qos::Guaranteed)?,
        ];
        cluster.sync()?;
        let config = FakeConfig {
            tokens: vec![Token::new(TOKEN)],
            channels: vec![Channel::new(CHANNEL, "alerts")],
            ..FakeConfig::default()
        };
        let address = SocketAddr::new(cluster.rack.address(2)?, 80);
        let slack = cluster.rack.outside.run(|| SlackFake::start(address, config))?;
        let helm = Helm::find("e2e")?.context("Helm is not there: `cargo xtask setup --only helm`")?;
        Ok(Self { agents: DaemonPods::new(), shops, client, slack, image, cluster, helm, installed: false })
    }

    /// Installs the chart with these values over those that all runs here have, or upgrades what is installed.
    pub(crate) fn install(&mut self, values: &Value) -> Result<()> {
        let mut all = json!({
            "config": {
                "capture": {"workers": 1},
                "slackApiUrl": self.slack.api_url(),
                "outbox": {"slackRate": 1000, "slackBurst": 1000, "floodLimit": 0, "scriptAlerts": 0, "totalAlerts": 0},
            },
            "scripts": {"files": {"alert.js": include_str!("alert.js")}},
            "env": {"values": {"SLACK_AUTH_TOKEN": TOKEN, "SLACK_CHANNEL_ID": CHANNEL}},
            "kubernetesApi": {"enabled": true},
        });
        merge(&mut all, values);
        let (file, kubeconfig) =
            (self.cluster.files().join("values.yaml"), self.cluster.files().join("kubeconfig"));
        // JSON is YAML.
        std::fs::write(&file, all.to_string())?;
        std::fs::write(&kubeconfig, self.cluster.api.kubeconfig(self.cluster.api.admin_token()))?;
        let (file, kubeconfig) = (file.to_string_lossy(), kubeconfig.to_string_lossy());
        let chart = Helm::chart();
        let chart = chart.to_string_lossy();
        let verb = if self.installed { "upgrade" } else { "install" };
        let mut args = vec![verb, RELEASE, &chart, "--namespace", NAMESPACE, "--values", &file];
        args.extend(["--kubeconfig", &kubeconfig]);
        if !self.installed {
            args.push("--create-namespace");
        }
        // Where the API server can be reached.
        let output = self.cluster.rack.outside.run(|| self.helm.run(&args))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {verb}: {}", errors.trim());
        self.installed = true;
        Ok(())
    }

    /// The DaemonSet that is installed.
    pub(crate) fn daemon_set(&self) -> Result<Value> {
        let found = self.cluster.api.get("apps/v1", "DaemonSet", NAMESPACE, DAEMON_SET);
        found.with_context(|| format!("Helm installed no DaemonSet {DAEMON_SET}"))
    }

    /// Starts a DaemonSet's pod on a node, and leaves it to itself.
    pub(crate) fn start(&mut self, node: usize, daemon_set: &Value, profile: Profile) -> Result<DaemonPod> {
        let api = &self.cluster.api;
        let account = |namespace: &str, name: &str| {
            Some(Account { token: api.token(namespace, name), ca: api.authority().to_owned() })
        };
        let with = Surroundings {
            objects: api,
            image: &self.image,
            profile,
            account: &account,
            api: Some(self.cluster.api_service()),
        };
        let pod = daemonset::start(&mut self.cluster.nodes[node], daemon_set, &with)?;
        self.cluster.publish(&pod, daemon_set, false)?;
        Ok(pod)
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
            self.cluster.publish(agent, &daemon_set, true)?;
            say::fact(&node.name, &format!("{} is ready", agent.container.pod.name));
        }
        Ok(())
    }

    /// Ends all agents as pods that are deleted; each has to end by itself, and well.
    pub(crate) fn stop_agents(&mut self) -> Result<()> {
        for (node, mut agent) in std::mem::take(&mut self.agents) {
            let (code, killed) = agent.container.stop()?;
            ensure!(code == 0 && !killed, "{node}: the agent ended with {code}: {}", agent.container.log());
            self.cluster.delete(&agent.container.pod)?;
        }
        Ok(())
    }

    /// What the script on a node has put down, since [`World::forget_seen`].
    pub(crate) fn seen(&self, node: &str) -> Vec<Seen> {
        let node = self.cluster.nodes.iter().find(|known| known.name == node);
        let text = node.map(|node| std::fs::read_to_string(node.path(SEEN)).unwrap_or_default());
        text.unwrap_or_default().lines().filter_map(Seen::read).collect()
    }

    /// Begins the account anew. No agent may run.
    pub(crate) fn forget_seen(&self) {
        for node in &self.cluster.nodes {
            let _ = std::fs::remove_file(node.path(SEEN));
        }
    }

    /// Sends requests that succeed until the agent on `node` calls their client by that name: it has then learnt it.
    pub(crate) fn until_named(&self, node: &str, to: SocketAddr, name: &str, limit: Duration) -> Result<()> {
        let client = &self.client;
        interrupt::wait(&format!("{node} calls {} {name}", client.pod.ip), limit, || {
            let known = self.seen(node).len();
            Client::one(to, "/r/name").in_pod(client)?;
            interrupt::wait("an item", Duration::from_secs(10), || {
                ensure!(self.seen(node).len() > known, "nothing new was seen on {node}");
                Ok(())
            })?;
            let last = self.seen(node).pop().context("nothing was seen")?;
            ensure!(last.name == name, "it is {}", last.name);
            Ok(())
        })
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

fn shop(
    cluster: &mut Cluster,
    node: usize,
    (namespace, service, name): (&'static str, &'static str, &str),
    qos: Qos,
) -> Result<Shop> {
    let app = labels(&[("app", service)]);
    let pod = cluster.pod(node, namespace, name, qos, &app)?;
    let address = SocketAddr::new(pod.pod.ip, PORT);
    let inside = |command: Command| pod.inside(&command);
    let nginx = pod.net.run(|| Nginx::start(address, inside))?;
    let last = u8::try_from(node)? + 10;
    let ip = IpAddr::from([10, 96, 0, last]);
    cluster.api.apply(&objects::service(namespace, service, ip, (SERVICE_PORT, PORT), &app))?;
    Ok(Shop { _nginx: nginx, pod, service, ip })
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

/// A line of the script's account.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    /// The client's address, as it was seen.
    pub(crate) client: String,
    /// Of the client: namespace, pod, service, name.
    pub(crate) name: String,
}

impl Seen {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.splitn(4, ' ');
        let path = fields.next()?.to_owned();
        let client = fields.nth(1)?.to_owned();
        Some(Self { path, client, name: fields.next()?.to_owned() })
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
