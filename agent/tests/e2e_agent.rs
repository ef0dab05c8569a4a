//! `remora agent`: its configuration, how it follows it, and the chart's own rendering of it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::live::{Background, PATIENCE, is_root};
use common::{REMORA, Ran, remora, script};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::helm::{Helm, object};
use testkit::load::{self, LoadConfig};
use testkit::netns::VethPair;
use testkit::nginx::Nginx;

const SAY: &str = "
// Says what it sees
function onItemCaptured(data) { console.log('saw', data.dst.port, data.request.headers['host']); }
";

fn server(port: u16) -> SocketAddr {
    format!("10.77.0.2:{port}").parse().unwrap()
}

fn check(dir: &Path, text: &str) -> Ran {
    let file = dir.join("agent.yaml");
    fs::write(&file, text).unwrap();
    remora(["agent".as_ref(), "--check".as_ref(), "--config".as_ref(), file.as_os_str()])
}

#[test]
fn a_configuration_is_checked_with_its_scripts_and_variables() {
    let dir = tempfile::tempdir().unwrap();
    let good = script(dir.path(), "good.js", SAY);
    let said = check(
        dir.path(),
        &format!("capture: {{interfaces: [eth0]}}\nscripts: {{paths: [{}]}}\n", good.display()),
    )
    .exits(0);
    assert!(said.stdout.contains("good.js: ok") && said.stdout.contains("agent.yaml: ok"), "{}", said.stdout);

    let bad = script(dir.path(), "bad.js", "function (");
    let said = check(
        dir.path(),
        &format!("capture: {{interfaces: [eth0]}}\nscripts: {{paths: [{}]}}\n", bad.display()),
    )
    .exits(1);
    assert!(said.stdout.contains("bad.js") && !said.stdout.contains("agent.yaml: ok"), "{}", said.stdout);

    for (text, words) in [
        ("", "nothing to capture on: give capture.interfaces or capture.cgroups"),
        (
            "capture: {mode: af-packet, cgroups: [x]}",
            "capture.cgroups needs eBPF: with capture.mode af-packet",
        ),
        ("capture: {interfaces: [x]}\nscripts: {envFiles: [/nonexistent]}", "scripts.envFiles /nonexistent"),
        ("capture:\n  interfaces: [x]\n  port: [80]\n", "line 3: capture.port: unknown field `port`"),
    ] {
        let said = check(dir.path(), text).exits(2);
        assert!(said.stderr.contains(words) && said.stderr.contains("agent.yaml"), "{text}: {}", said.stderr);
    }
    let said = remora(["agent", "--config", "/nonexistent/agent.yaml"]).exits(2);
    assert!(said.stderr.contains("/nonexistent/agent.yaml: No such file"), "{}", said.stderr);
}

/// An agent in a namespace of its own, with a server at its other end.
struct Rig {
    dir: tempfile::TempDir,
    pair: VethPair,
    _servers: Vec<Nginx>,
}

impl Rig {
    fn new() -> Self {
        let pair = VethPair::new().unwrap();
        let serve = |port| pair.server.run(|| Nginx::start(server(port), |command| command)).unwrap();
        let servers = vec![serve(8081), serve(8082)];
        Self { dir: tempfile::tempdir().unwrap(), pair, _servers: servers }
    }

    fn config(&self, rest: &str) {
        let say = script(self.dir.path(), "say.js", SAY);
        self.write(&format!("scripts: {{paths: [{}]}}\ndrainTimeout: 20s\n{rest}", say.display()));
    }

    /// Replaces the file as the kubelet does: a new folder, to which a link is swapped.
    fn write(&self, text: &str) {
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let dir = self.dir.path();
        let folder = format!("..{}", WRITTEN.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(dir.join(&folder)).unwrap();
        let text = format!("dataDir: {}\n{text}", dir.join("data").display());
        fs::write(dir.join(&folder).join("agent.yaml"), text).unwrap();
        symlink(folder, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if !dir.join("agent.yaml").exists() {
            symlink("..data/agent.yaml", dir.join("agent.yaml")).unwrap();
        }
    }

    fn start(&self) -> Background {
        let mut command = Command::new(REMORA);
        command.arg("agent").arg("--config").arg(self.dir.path().join("agent.yaml"));
        Background::start(&self.pair.server, &command, self.dir.path(), "agent", "capturing on")
    }

    /// One request to each port; waits until the one to `seen` was told, and gives what was told since.
    fn requests(&self, agent: &Background, seen: &[u16]) -> String {
        let before = agent.said().len();
        for port in [8081, 8082] {
            let config = LoadConfig::new(server(port), 1, 1);
            self.pair.client.run(|| load::run(&config)).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = agent.said().split_off(before);
            let all = seen.iter().all(|port| said.contains(&format!("saw {port}")));
            if all || Instant::now() > deadline {
                assert!(all, "{seen:?} are not all in {said}");
                return said;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Waits until it has said so that often.
#[track_caller]
fn told(agent: &Background, words: &str, times: usize) {
    let deadline = Instant::now() + PATIENCE;
    while agent.said().matches(words).count() < times {
        assert!(Instant::now() < deadline, "{words:?} was not said {times} times: {}", agent.said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn follows(mode: &str) {
    let rig = Rig::new();
    let capture = format!("mode: {mode}, interfaces: [{}], workers: 1", VethPair::SERVER);
    rig.config(&format!("capture: {{{capture}, ports: [8081]}}\nredaction: {{headers: [host]}}\n"));
    let agent = rig.start();
    let said = rig.requests(&agent, &[8081]);
    assert!(!said.contains("saw 8082") && said.contains("[REDACTED]"), "{said}");

    // By an edit.
    rig.config(&format!("capture: {{{capture}, ports: [8081, 8082]}}\n"));
    agent.wait_for_words("the kernel's filter has changed");
    assert!(agent.said().contains("redaction has changed"), "{}", agent.said());
    let said = rig.requests(&agent, &[8081, 8082]);
    assert!(!said.contains("[REDACTED]"), "{said}");

    // What is wrong changes nothing, and is told; what needs a restart, too.
    rig.config(&format!("capture: {{{capture}, ports: [0]}}\n"));
    agent.wait_for_words("nothing changed");
    assert!(agent.said().contains("capture.ports[0]: found \"0\""), "{}", agent.said());
    rig.config(&format!("capture: {{{capture}, ports: [8082], trim: true}}\n"));
    told(&agent, "the kernel's filter has changed", 2);
    assert!(agent.said().contains("capture.trim needs a restart"), "{}", agent.said());
    let said = rig.requests(&agent, &[8082]);
    assert!(!said.contains("saw 8081"), "{said}");

    // By a signal, though nothing is new but what needs a restart.
    agent.signal(Signal::SIGHUP);
    told(&agent, "capture.trim needs a restart", 2);
    agent.signal(Signal::SIGTERM);
    let ran = agent.ended().exits(0);
    assert_eq!(ran.stdout, "", "a daemon prints no items");
    assert!(rig.dir.path().join("data/pcap").is_dir());
}

#[test]
fn its_configuration_is_followed() {
    if is_root("its_configuration_is_followed") {
        follows("ebpf");
    }
}

#[test]
fn its_configuration_is_followed_by_af_packet() {
    if is_root("its_configuration_is_followed_by_af_packet") {
        follows("af-packet");
    }
}

#[test]
fn limits_and_the_end_are_as_configured() {
    if !is_root("limits_and_the_end_are_as_configured") {
        return;
    }
    let rig = Rig::new();
    let forever = script(rig.dir.path(), "forever.js", "function onItemCaptured() { for (;;); }");
    // Nobody listens there: it is tried again and again.
    let alert = "function onItemCaptured() { vendor.slack('http://127.0.0.1:9/x', '', 'help', ''); console.log('saw 8081'); }";
    let alert = script(rig.dir.path(), "alert.js", alert);
    rig.write(&format!(
        "capture: {{interfaces: [{}], ports: [8081]}}
scripts: {{paths: [{}, {}], limits: {{callTime: 0.05s}}}}
outbox: {{drainTimeout: 10m}}
drainTimeout: 1s\n",
        VethPair::SERVER,
        forever.display(),
        alert.display()
    ));
    let agent = rig.start();
    rig.requests(&agent, &[8081]);
    agent.wait_for_words("50 ms");
    agent.signal(Signal::SIGTERM);
    let ran = agent.ended().exits(1);
    assert!(ran.stderr.contains("the end took longer than drainTimeout, 1 s"), "{}", ran.stderr);
}

#[test]
fn items_go_where_the_configuration_says_without_a_script() {
    if !is_root("items_go_where_the_configuration_says_without_a_script") {
        return;
    }
    let rig = Rig::new();
    let items = rig.dir.path().join("items.jsonl");
    rig.write(&format!(
        "capture: {{interfaces: [{}]}}\nsinks: [{{kind: jsonFile, path: {}, filter: dst.port == 8081}}]\n",
        VethPair::SERVER,
        items.display()
    ));
    let agent = rig.start();
    rig.requests(&agent, &[]);
    let deadline = Instant::now() + PATIENCE;
    while fs::read_to_string(&items).unwrap_or_default().is_empty() {
        assert!(Instant::now() < deadline, "nothing was written: {}", agent.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    agent.signal(Signal::SIGTERM);
    agent.ended().exits(0);
    let text = fs::read_to_string(&items).unwrap();
    let ports: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["dst"]["port"].clone())
        .collect();
    assert_eq!(ports, ["8081"]);
}

/// What `remora agent` is told by the chart is what it takes: the rendered file, scripts and variables, laid out as the
/// kubelet does, under the arguments of the test's pod.
#[test]
fn the_chart_says_what_the_agent_understands() {
    let Some(helm) = Helm::find("the_chart_says_what_the_agent_understands").unwrap() else { return };
    for values in [
        "",
        "config: {capture: {mode: af-packet, cgroups: [], interfaces: ['veth*'], workers: 2, ringMib: 8, pinWorkers: true,
          promiscuous: true, tcHook: clsact, identityCgroups: [a], ports: [80], nets: [10.0.0.0/8, 'fd00::/8'],
          exclude: ['10.0.0.7:1', '[fd00::7]:1'], direction: out, trim: true},
          store: {mode: 'off', maxBytes: 4294967296, maxAge: 6h, reserve: 1.5G},
          scripts: {limits: {memory: 32M, stack: 1M, callTime: 0.5s, queue: 9, queueBytes: 1M, fileQuota: 1G,
            webhookTimeout: 5s, waitTotal: 1m}},
          outbox: {maxWaiting: 9, maxBytes: 10M, maxDeliveryBytes: 1M, maxAge: 2h, giveUpAfter: 90m, slackRate: 0.5,
            slackBurst: 2, floodLimit: 0, scriptAlerts: 60, totalAlerts: 90, drainTimeout: 10},
          filter: 'http && response.status >= 500', s3Endpoint: 'http://127.0.0.1:9000',
          metrics: {listen: '[::]:9898'}, api: {listen: '0.0.0.0:8898', token: '${REMORA_API_TOKEN}', recentItems: 9,
            recentBytes: 1M, maxClients: 2},
          redaction: {enabled: false, headers: [x-a]}, slackApiUrl: 'http://127.0.0.1:1/api', drainTimeout: 40}
scripts: {files: {a.js: 'import { x } from \"./lib.mjs\"; function onItemCaptured(d) { x(TOKEN, env.TOKEN); }'},
  modules: {lib.mjs: 'export function x() {}'}}
env: {values: {TOKEN: \"a\\nb\"}}",
    ] {
        let objects = helm.template(values, &[]).unwrap().unwrap();
        let etc = tempfile::tempdir().unwrap();
        lay_out(&objects, etc.path());
        let pod = object(&objects, "Pod", "-check").unwrap();
        let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
        let moved = |arg: &Value| arg.as_str().unwrap().replace("/etc/remora", &etc.path().to_string_lossy());
        let mut command = Command::new(REMORA);
        command.args(args.iter().map(moved)).env("REMORA_API_TOKEN", "0123456789abcdef").env_remove("REMORA_LOG");
        let ran = Ran::from(command.output().unwrap()).exits(0);
        assert!(ran.stdout.contains("agent.yaml: ok"), "{}", ran.stdout);
        assert_eq!(ran.stdout.contains("a.js: ok"), values.contains("a.js"), "{}", ran.stdout);
    }
}

fn lay_out(objects: &[Value], etc: &Path) {
    for (kind, end, folder) in [
        ("ConfigMap", "remora", "config"),
        ("ConfigMap", "-scripts", "scripts"),
        ("Secret", "-env", "env/chart"),
    ] {
        let Ok(object) = object(objects, kind, end) else { continue };
        let folder = etc.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in object["data"].as_object().unwrap() {
            // What a variable's value is does not matter here, encoded or not.
            let text = text.as_str().unwrap().replace("/etc/remora", &etc.to_string_lossy());
            fs::write(folder.join(name), text).unwrap();
        }
    }
}

/// The agent with the chart's own capabilities, and with one of them less: it captures, or says which is missing.
#[test]
fn the_charts_capabilities_are_enough_and_none_is_too_many() {
    let Some(helm) = Helm::find("the_charts_capabilities").unwrap() else { return };
    if !is_root("the_charts_capabilities") {
        return;
    }
    let rig = Rig::new();
    for mode in ["ebpf", "af-packet"] {
        let interface = VethPair::SERVER;
        let capture = format!("capture: {{mode: {mode}, cgroups: [], interfaces: [{interface}]}}");
        let objects = helm.template(&format!("config: {{{capture}}}"), &[]).unwrap().unwrap();
        let pod = &object(&objects, "DaemonSet", "").unwrap()["spec"]["template"]["spec"];
        let all = &pod["containers"][0]["securityContext"]["capabilities"]["add"];
        let all: Vec<_> =
            all.as_array().unwrap().iter().map(|cap| cap.as_str().unwrap().to_lowercase()).collect();
        rig.config(&format!("{capture}\n").replace("capture: {", "capture: {workers: 1, "));
        let with = |capabilities: &[String]| {
            let mut command = Command::new("setpriv");
            let kept: String = capabilities.iter().map(|cap| format!(",+{cap}")).collect();
            command.arg(format!("--bounding-set=-all{kept}")).arg("--no-new-privs").arg(REMORA);
            command.arg("agent").arg("--config").arg(rig.dir.path().join("agent.yaml"));
            command
        };
        let name = format!("with-{mode}");
        let agent = Background::start(&rig.pair.server, &with(&all), rig.dir.path(), &name, "capturing on");
        rig.requests(&agent, &[8081, 8082]);
        agent.signal(Signal::SIGTERM);
        agent.ended().exits(0);
        for missing in &all {
            let fewer: Vec<_> = all.iter().filter(|cap| *cap != missing).cloned().collect();
            let mut inside = Command::new("nsenter");
            inside.arg(format!("--net={}", rig.pair.server.path().display())).arg("setpriv");
            inside.args(with(&fewer).get_args());
            let ran = Ran::from(inside.output().expect("nsenter runs")).exits(3);
            let said = format!("CAP_{}", missing.to_uppercase());
            assert!(ran.stderr.contains(&said), "{mode} without {missing}: {}", ran.stderr);
        }
    }
}
