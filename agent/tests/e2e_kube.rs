//! `remora agent` with a Kubernetes API: targets, names in items, exports, and its own traffic left out.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::live::{Background, PATIENCE, is_root};
use common::{REMORA, remora, script};
use serde_json::{Value, json};
use testkit::fakes::kube::{KubeApi, KubeConfig};
use testkit::netns::{Cgroup, VethPair};
use testkit::nginx::Nginx;

const NODE: &str = "node-1";
const SAY: &str = "
// Says what it sees
function onItemCaptured(data) {
  console.log('ITEM', JSON.stringify(data));
  if (data.src.containerId) console.log('OWN', vendor.webhook('GET', 'http://10.77.0.2:8080/own', '').length);
}
function onPodEvent(event, pod) { console.log('POD', event, pod.metadata.namespace + '/' + pod.metadata.name); }
jobs.schedule('names', '* * * * * *', () => console.log('NAMES', JSON.stringify(pcap.nameResolutionHistory())));
";

fn server() -> SocketAddr {
    "10.77.0.2:8080".parse().unwrap()
}

fn uid(number: u32) -> String {
    format!("6f1b5c3e-2d4a-4c8e-9b57-{number:012x}")
}

fn pod(namespace: &str, name: &str, number: u32, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "uid": uid(number) },
        "spec": { "nodeName": NODE, "containers": [{ "name": "c", "image": "i" }] },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": "192.0.2.1" },
    })
}

/// A node's end of a wire, with the API server and a service's pod at the other.
struct Rig {
    dir: tempfile::TempDir,
    pair: VethPair,
    api: KubeApi,
    _server: Nginx,
}

impl Rig {
    fn new() -> Self {
        let pair = VethPair::new().unwrap();
        let address = "10.77.0.2:0".parse().unwrap();
        let api =
            pair.server.run(|| KubeApi::start(KubeConfig { address, ..KubeConfig::default() })).unwrap();
        let _server = pair.server.run(|| Nginx::start(server(), |command| command)).unwrap();
        api.apply(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": "web-x", "namespace": "prod", "labels": { "kubernetes.io/service-name": "web" } },
            "endpoints": [{ "addresses": ["10.77.0.2"], "nodeName": "node-2", "targetRef": {
                "kind": "Pod", "name": "web-1", "namespace": "prod", "uid": uid(99),
            } }],
            "ports": [{ "port": 8080 }],
        }))
        .unwrap();
        Self { dir: tempfile::tempdir().unwrap(), pair, api, _server }
    }

    fn put(&self, object: &Value) {
        self.api.apply(object).unwrap();
    }

    fn config(&self, rest: &str) -> PathBuf {
        let dir = self.dir.path();
        let say = script(dir, "say.js", SAY);
        let kubeconfig = dir.join("kubeconfig");
        // Plain, so that what the agent itself asks could be read if it were captured.
        fs::write(&kubeconfig, self.api.plain_kubeconfig(self.api.admin_token())).unwrap();
        let file = dir.join("agent.yaml");
        let text = format!(
            "scripts: {{paths: [{}]}}\ndataDir: {}\nkubernetes: {{kubeconfig: {}}}\ndrainTimeout: 20s\n{rest}",
            say.display(),
            dir.join("data").display(),
            kubeconfig.display()
        );
        fs::write(dir.join("next"), text).unwrap();
        fs::rename(dir.join("next"), &file).unwrap();
        file
    }

    /// In this cgroup, if there is one, and then in a cgroup namespace of its own, as containers are.
    fn agent(&self, file: &Path, inside: Option<&Cgroup>) -> Background {
        let mut command = Command::new("sh");
        command.arg("-c");
        match inside {
            Some(cgroup) => {
                let procs = cgroup.path().join("cgroup.procs");
                command.arg("echo $$ > \"$0\" && exec unshare --cgroup env \"$@\"").arg(procs);
            }
            None => drop(command.args(["exec env \"$@\"", "sh"])),
        }
        command.arg(format!("REMORA_NODE_NAME={NODE}")).args([REMORA, "agent", "--config"]).arg(file);
        Background::start(&self.pair.client, &command, self.dir.path(), "agent", "capturing on")
    }

    /// One request out of a cgroup.
    fn request(&self, cgroup: &Cgroup, path: &str) {
        let url = format!("http://{}{path}", server());
        let curl = || cgroup.spawn("curl".as_ref(), &["-sS", "--max-time", "20", &url], &[]);
        assert!(self.pair.client.run(curl).unwrap().wait().unwrap().success());
    }
}

/// What was said after a word.
fn told(agent: &Background, word: &str) -> Vec<String> {
    let said = agent.said();
    let begins = format!("{word} ");
    let text = |line: &str| Some(line.split_once(&begins)?.1.split(" script=\"").next()?.to_owned());
    said.lines().filter_map(text).collect()
}

fn items(agent: &Background) -> Vec<Value> {
    told(agent, "ITEM").iter().map(|text| serde_json::from_str(text).expect(text)).collect()
}

#[track_caller]
fn wait(agent: &Background, what: &str, there: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < deadline, "{what}: {}", agent.said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn paths(items: &[Value]) -> Vec<&str> {
    items.iter().filter_map(|item| item["request"]["path"].as_str()).collect()
}

/// Cgroups as the kubelet's systemd driver lays them out.
struct Kubepods {
    containers: Vec<Cgroup>,
    // Dropped in this order: what is inside goes first.
    pods: Vec<Cgroup>,
    quality: Cgroup,
    _root: Cgroup,
    outer: Cgroup,
}

impl Kubepods {
    fn new() -> Self {
        let outer = Cgroup::new("kubepods").unwrap();
        let root = outer.child("kubepods.slice").unwrap();
        let quality = root.child("kubepods-burstable.slice").unwrap();
        Self { containers: Vec::new(), pods: Vec::new(), quality, _root: root, outer }
    }

    /// A pod's container.
    fn add(&mut self, number: u32) -> usize {
        let name = format!("kubepods-burstable-pod{}.slice", uid(number).replace('-', "_"));
        let pod = self.quality.child(&name).unwrap();
        let id = format!("{number:02x}").repeat(32);
        self.containers.push(pod.child(&format!("cri-containerd-{id}.scope")).unwrap());
        self.pods.push(pod);
        self.containers.len() - 1
    }
}

#[test]
fn targets_by_cgroup_are_followed_and_named() {
    if !is_root("targets_by_cgroup") {
        return;
    }
    let rig = Rig::new();
    let mut node = Kubepods::new();
    let [shop, other, own] = [1, 2, 3].map(|number| node.add(number));
    // All of them have the same address here: the cgroup tells who it was.
    rig.put(&pod("prod", "shop-1", 1, "10.77.0.1"));
    rig.put(&pod("other", "other-1", 2, "10.77.0.1"));
    rig.put(&pod("prod", "remora-x", 3, "10.77.0.1"));
    let capture = format!("capture: {{cgroups: ['{}'], workers: 1}}\n", node.outer.path().display());
    let config = rig.config(&format!("{capture}targets: {{namespaces: [prod]}}\n"));
    let agent = rig.agent(&config, Some(&node.containers[own]));
    wait(&agent, "pods are told", || told(&agent, "POD").len() >= 2);
    rig.request(&node.containers[other], "/unwanted");
    rig.request(&node.containers[shop], "/wanted");
    wait(&agent, "an item", || !items(&agent).is_empty());
    let seen = items(&agent);
    assert_eq!(paths(&seen), ["/wanted"], "not another namespace's, and not what the agent itself asks");
    let (src, dst) = (&seen[0]["src"], &seen[0]["dst"]);
    assert_eq!(
        (&src["name"], &src["pod"], &src["namespace"]),
        (&json!("shop-1"), &json!("shop-1"), &json!("prod"))
    );
    assert_eq!((&src["podUid"], &src["containerId"]), (&json!(uid(1)), &json!("01".repeat(32))));
    assert_eq!(
        (&dst["name"], &dst["service"], &dst["namespace"]),
        (&json!("web-1"), &json!("web"), &json!("prod"))
    );
    assert_eq!((&seen[0]["namespace"], &seen[0]["node"]["name"]), (&json!("prod"), &json!(NODE)));

    // One that comes: its cgroup first, as the kubelet does it, then its place in the API.
    let late = node.add(4);
    rig.put(&pod("prod", "late-1", 4, "10.77.0.1"));
    wait(&agent, "it is attached to", || agent.said().contains(&uid(4).replace('-', "_")));
    rig.request(&node.containers[late], "/late");
    wait(&agent, "its item", || items(&agent).len() == 2);
    assert_eq!(items(&agent)[1]["src"]["pod"], "late-1");

    // Others from now on.
    rig.config(&format!("{capture}targets: {{namespaces: [other]}}\n"));
    agent.wait_for_words("targets have changed");
    wait(&agent, "it is attached to", || agent.said().contains(&uid(2).replace('-', "_")));
    wait(&agent, "the others are let go", || agent.said().matches("is gone").count() >= 3);
    rig.request(&node.containers[shop], "/no-more");
    rig.request(&node.containers[other], "/now");
    wait(&agent, "its item", || items(&agent).len() == 3);
    assert_eq!(paths(&items(&agent)), ["/wanted", "/late", "/now"]);
    assert_eq!(items(&agent)[2]["src"]["pod"], "other-1");
    let mut pods = told(&agent, "POD");
    pods.sort();
    assert_eq!(
        pods,
        [
            "ADDED other/other-1",
            "ADDED prod/late-1",
            "ADDED prod/remora-x",
            "ADDED prod/shop-1",
            "DELETED prod/late-1",
            "DELETED prod/remora-x",
            "DELETED prod/shop-1"
        ]
    );
    wait(&agent, "names are told", || told(&agent, "NAMES").iter().any(|names| names.contains("web-1")));
    // The script has asked, too, out of a container that is a target's, and was answered.
    wait(&agent, "it asks itself", || told(&agent, "OWN").len() == 3);
    let ran = agent.end().exits(0);
    let own = ["/api/v1/", "\"path\":\"/own\""];
    assert!(own.iter().all(|own| !ran.stderr.contains(own)), "its own requests: {}", ran.stderr);

    // Exports bear the names.
    let store = rig.dir.path().join("data/pcap");
    let file = rig.dir.path().join("out.pcapng");
    remora(["export".as_ref(), "--pcap-dir".as_ref(), store.as_os_str(), "-o".as_ref(), file.as_os_str()])
        .exits(0);
    let bytes = fs::read(&file).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("web-1.prod"), "no name in the export");
}

fn targets_by_address(mode: &str) {
    let rig = Rig::new();
    rig.pair.client.ip("addr add 10.77.0.3/24 dev veth0").unwrap();
    rig.put(&pod("prod", "shop-1", 1, "10.77.0.1"));
    rig.put(&pod("other", "other-1", 2, "10.77.0.3"));
    let capture = format!("capture: {{mode: {mode}, interfaces: [{}], workers: 1}}\n", VethPair::CLIENT);
    let agent = rig.agent(&rig.config(&format!("{capture}targets: {{namespaces: [other]}}\n")), None);
    let request = |from: &str, path: &str| {
        let url = format!("http://{}{path}", server());
        let curl =
            || Command::new("curl").args(["-sS", "--max-time", "20", "--interface", from, &url]).output();
        assert!(rig.pair.client.run(curl).unwrap().status.success());
    };
    request("10.77.0.1", "/unwanted");
    request("10.77.0.3", "/wanted");
    wait(&agent, "an item", || !items(&agent).is_empty());
    let seen = items(&agent);
    assert_eq!(paths(&seen), ["/wanted"]);
    assert_eq!((&seen[0]["src"]["pod"], &seen[0]["dst"]["service"]), (&json!("other-1"), &json!("web")));
    assert_eq!((&seen[0]["namespace"], &seen[0]["outgoing"]), (&json!("other"), &json!(true)));

    // Its address becomes another pod's, which is not wanted, and then one's that is.
    rig.api.delete(&pod("other", "other-1", 2, "")).unwrap();
    rig.put(&pod("prod", "shop-2", 3, "10.77.0.3"));
    wait(&agent, "the pod is gone", || told(&agent, "POD").len() == 2);
    // The kernel's filter follows within half a second.
    std::thread::sleep(Duration::from_millis(1200));
    request("10.77.0.3", "/not-its");
    rig.put(&pod("other", "other-2", 4, "10.77.0.1"));
    wait(&agent, "the pod is there", || told(&agent, "POD").len() == 3);
    std::thread::sleep(Duration::from_millis(1200));
    request("10.77.0.1", "/again");
    wait(&agent, "an item", || paths(&items(&agent)).contains(&"/again"));
    let seen: Vec<Value> = items(&agent)
        .into_iter()
        .filter(|item| !item["request"]["path"].as_str().unwrap().starts_with("/api"))
        .collect();
    assert_eq!(paths(&seen), ["/wanted", "/again"]);
    assert_eq!(seen[1]["src"]["pod"], "other-2");
    agent.end().exits(0);
}

#[test]
fn targets_by_address_with_ebpf() {
    if is_root("targets_by_address_with_ebpf") {
        targets_by_address("ebpf");
    }
}

#[test]
fn targets_by_address_with_af_packet() {
    if is_root("targets_by_address_with_af_packet") {
        targets_by_address("af-packet");
    }
}

/// Resident memory of a process, in KiB.
fn resident(agent: &Background) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "a measurement of half a minute"]
fn memory_of_fifty_thousand_endpoints() {
    let rig = Rig::new();
    let config =
        rig.config(&format!("capture: {{interfaces: [{}], workers: 1, ringMib: 1}}\n", VethPair::CLIENT));
    let agent = rig.agent(&config, None);
    std::thread::sleep(Duration::from_secs(2));
    let before = resident(&agent);
    for number in 0..500_u32 {
        let endpoint = |n: u32| {
            let number = number * 100 + n;
            let ip = format!("10.{}.{}.{}", 128 + number / 65_536, number / 256 % 256, number % 256);
            json!({
                "addresses": [ip], "nodeName": format!("node-{}", number / 50), "conditions": { "ready": true },
                "targetRef": {
                    "kind": "Pod", "namespace": format!("team-{}", number / 1000),
                    "name": format!("backend-{number:05}-6d5f8b7c9-x{:04x}", n), "uid": uid(number),
                },
            })
        };
        let namespace = format!("team-{}", number / 10);
        rig.put(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": format!("backend-{number}"), "namespace": namespace },
            "spec": { "clusterIP": format!("10.96.{}.{}", number / 250, number % 250 + 1), "ports": [{ "port": 80 }] },
        }));
        rig.put(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": format!("backend-{number}-x"), "namespace": namespace,
                "labels": { "kubernetes.io/service-name": format!("backend-{number}") } },
            "endpoints": (0..100).map(endpoint).collect::<Vec<_>>(), "ports": [{ "port": 8080 }],
        }));
    }
    std::thread::sleep(Duration::from_secs(8));
    let watched = resident(&agent);
    agent.end().exits(0);
    // The same, listed at the start.
    let agent = rig.agent(&config, None);
    std::thread::sleep(Duration::from_secs(8));
    let listed = resident(&agent);
    println!(
        "resident memory: {before} KiB without, {watched} KiB with 50,000 endpoints of 500 services as they came, {listed} KiB listed at once"
    );
    agent.end().exits(0);
}
