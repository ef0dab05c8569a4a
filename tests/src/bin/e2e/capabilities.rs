//! The DaemonSet as it is, and with one capability less, for each of them and for each way to capture: the agent ends and names
//! what is missing, or does without and names it. And under a runtime's profile that knows no `CAP_BPF`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::cluster::daemonset::DaemonPod;
use testkit::cluster::kubelet::Profile;

use crate::world::World;
use crate::{interrupt, say};

/// How long an agent may take to say so.
const PATIENCE: Duration = Duration::from_secs(20);
/// Exit code where something is not permitted.
const NOT_PERMITTED: i32 = 3;

/// What comes of a capability that is missing.
enum Without {
    /// The agent ends and names it.
    Ends,
    /// It captures, and the log says this, with the capability's name.
    Says(&'static str),
    /// It is for what is not there to be had: it captures as before.
    Nothing,
}

/// Values of the chart, and what it means to be without each of the capabilities that they ask for.
struct Case {
    what: &'static str,
    values: Value,
    without: &'static [(&'static str, Without)],
}

fn cases() -> Vec<Case> {
    use Without::{Ends, Nothing, Says};
    let interfaces =
        |mode| json!({"config": {"capture": {"mode": mode, "cgroups": [], "interfaces": ["cni0"]}}});
    vec![
        Case {
            what: "pods' cgroups by eBPF",
            values: json!({}),
            without: &[("BPF", Ends), ("NET_ADMIN", Ends)],
        },
        Case {
            what: "all names of processes",
            values: json!({"processes": {"gone": true, "older": true}}),
            without: &[
                ("BPF", Ends),
                ("NET_ADMIN", Ends),
                ("PERFMON", Says("have an id, and no name")),
                ("SYS_PTRACE", Says("stay without a name")),
            ],
        },
        Case {
            what: "interfaces by eBPF",
            values: interfaces("ebpf"),
            without: &[("BPF", Ends), ("NET_ADMIN", Ends)],
        },
        Case {
            what: "interfaces by AF_PACKET",
            values: interfaces("af-packet"),
            without: &[("NET_RAW", Ends)],
        },
        Case {
            what: "interfaces, either way",
            values: interfaces("auto"),
            without: &[
                ("BPF", Says("mode: AF_PACKET, because there is no eBPF here")),
                ("NET_ADMIN", Says("mode: AF_PACKET, because there is no eBPF here")),
                ("NET_RAW", Nothing),
            ],
        },
    ]
}

/// In brief: only the chart's own values.
pub(crate) fn run(world: &mut World, brief: bool) -> Result<()> {
    say::section("Capabilities");
    for case in cases().into_iter().take(if brief { 1 } else { usize::MAX }) {
        world.install(&case.values)?;
        let daemon_set = world.daemon_set()?;
        let asked = asked(&daemon_set)?;
        let known: Vec<_> = case.without.iter().map(|(capability, _)| *capability).collect();
        ensure!(asked == known, "{}: the chart asks for {asked:?}, and not for {known:?}", case.what);
        whole(world, &daemon_set, &case).with_context(|| case.what)?;
        for (capability, without) in case.without {
            one_less(world, &daemon_set, capability, without)
                .with_context(|| format!("{} without CAP_{capability}", case.what))?;
            interrupt::check()?;
        }
    }
    old_profile(world).context("a seccomp profile that knows no CAP_BPF")
}

/// What the container adds to none, in the order of the chart.
fn asked(daemon_set: &Value) -> Result<Vec<String>> {
    let security = &daemon_set["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    let asked = security["capabilities"]["add"].as_array().context("the container adds no capability")?;
    Ok(asked.iter().filter_map(|cap| Some(cap.as_str()?.to_owned())).collect())
}

/// With all of them it is ready, and has no permission that the DaemonSet does not name.
fn whole(world: &mut World, daemon_set: &Value, case: &Case) -> Result<()> {
    let mut pod = world.start(0, daemon_set, Profile::Current)?;
    pod.container.wait_until_ready(&world.cluster.nodes[0], &interrupt::check)?;
    permissions(&pod, &asked(daemon_set)?)?;
    let said = pod.container.log();
    let names: Vec<_> = asked(daemon_set)?.iter().map(|cap| format!("CAP_{cap}")).collect();
    ensure!(!names.iter().any(|name| said.contains(name)), "something is missing: {said}");
    end(world, pod)?;
    say::fact(case.what, &format!("ready with {}", names.join(", ")));
    Ok(())
}

/// Bits of `linux/capability.h`.
fn bit(capability: &str) -> Result<u64> {
    let number = match capability {
        "NET_ADMIN" => 12,
        "NET_RAW" => 13,
        "SYS_PTRACE" => 19,
        "PERFMON" => 38,
        "BPF" => 39,
        other => anyhow::bail!("CAP_{other} is not known here"),
    };
    Ok(1 << number)
}

/// What the kernel says of the process.
fn permissions(pod: &DaemonPod, capabilities: &[String]) -> Result<()> {
    let pid = pod.container.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |key: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let all = capabilities.iter().map(|cap| bit(cap)).sum::<Result<u64>>()?;
    let (mask, none) = (format!("{all:016x}"), format!("{:016x}", 0));
    let expected = [
        ("CapBnd", mask.as_str()),
        ("CapPrm", &mask),
        ("CapEff", &mask),
        ("CapInh", &none),
        ("CapAmb", &none),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Uid", "0 0 0 0"),
    ];
    for (key, value) in expected {
        ensure!(of(key).as_deref() == Some(value), "{key} is {:?}, not {value}", of(key));
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts"))?;
    for mount in mounts.lines() {
        let fields: Vec<_> = mount.split(' ').collect();
        let [_, at, kind, options, ..] = fields[..] else { continue };
        let ours = ["/var/lib/remora", "/tmp", "/run/remora"].contains(&at);
        let kernels = at.starts_with("/dev") || kind == "proc" || at.starts_with("/proc");
        let read_only = options.split(',').any(|option| option == "ro");
        ensure!(read_only || ours || kernels, "{at} can be written to: {mount}");
    }
    Ok(())
}

fn one_less(world: &mut World, daemon_set: &Value, capability: &str, without: &Without) -> Result<()> {
    let mut less = daemon_set.clone();
    let security = &mut less["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    if let Some(add) = security["capabilities"]["add"].as_array_mut() {
        add.retain(|known| known != capability);
    }
    let name = format!("CAP_{capability}");
    match without {
        Without::Ends => {
            let line = refused(world, &less, Profile::Current)?;
            ensure!(line.contains(&name), "the last line does not name it: {line}");
            say::fact(&format!("without {name}"), &line);
        }
        Without::Says(words) => {
            let mut pod = world.start(0, &less, Profile::Current)?;
            pod.container.wait_until_ready(&world.cluster.nodes[0], &interrupt::check)?;
            let said = pod.container.log();
            let line = said.lines().find(|line| line.contains(words) && line.contains(&name));
            let line = line.with_context(|| format!("no line has {words:?} and {name}: {said}"))?;
            say::fact(&format!("without {name}"), &format!("ready; {}", bare(line)));
            end(world, pod)?;
        }
        Without::Nothing => {
            let mut pod = world.start(0, &less, Profile::Current)?;
            pod.container.wait_until_ready(&world.cluster.nodes[0], &interrupt::check)?;
            let said = pod.container.log();
            ensure!(said.contains("mode: eBPF"), "it does not capture by eBPF: {said}");
            say::fact(&format!("without {name}"), "ready by eBPF; it is for where that is refused");
            end(world, pod)?;
        }
    }
    Ok(())
}

fn old_profile(world: &mut World) -> Result<()> {
    world.install(&json!({}))?;
    let daemon_set = world.daemon_set()?;
    let line = refused(world, &daemon_set, Profile::Old)?;
    ensure!(line.contains("seccomp"), "the last line does not name it: {line}");
    say::fact("an old profile", &line);
    Ok(())
}

/// Starts an agent that may not capture, and gives the last line that it says.
fn refused(world: &mut World, daemon_set: &Value, profile: Profile) -> Result<String> {
    let mut pod = world.start(0, daemon_set, profile)?;
    let code = pod.container.wait(PATIENCE)?;
    let said = pod.container.log();
    world.cluster.delete(&pod.container.pod)?;
    ensure!(code == NOT_PERMITTED, "it ended with {code}: {said}");
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(bare(last).to_owned())
}

fn end(world: &World, mut pod: DaemonPod) -> Result<()> {
    let (code, killed) = pod.container.stop()?;
    ensure!(code == 0 && !killed, "it ended with {code}: {}", pod.container.log());
    world.cluster.delete(&pod.container.pod)
}

/// A line without its time and level.
fn bare(line: &str) -> &str {
    ["ERROR ", "WARN ", "INFO "]
        .iter()
        .find_map(|level| line.split_once(level))
        .map_or(line, |(_, rest)| rest)
}
