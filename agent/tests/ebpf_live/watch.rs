//! Interfaces and cgroups that come and go while capture runs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::capture::WantedPods;
use agent::capture::ebpf::{Change, Live, LiveConfig, LiveError, TcHook, Without};
use agent::process::PodUid;
use testkit::netns::{Cgroup, NetNs, VethPair};

use super::exchange::{echo, exchange};
use super::lifecycle::tcx;
use super::rig::{Rig, skipped};
use super::tcp::directions;

fn interfaces(names: &[&str]) -> LiveConfig {
    let interfaces = names.iter().map(|name| (*name).to_owned()).collect();
    LiveConfig { interfaces, workers: 1, ring_bytes: Some(1 << 20), ..LiveConfig::default() }
}

fn start(namespace: &NetNs, config: &LiveConfig) -> Live {
    namespace.run(|| Live::start(config)).unwrap().0
}

/// Waits until exactly these are attached to.
#[track_caller]
fn attached(live: &Live, expected: &[&str]) {
    let since = Instant::now();
    while live.attachments() != expected {
        assert!(
            since.elapsed() < Duration::from_secs(10),
            "{:?}, not {expected:?}: {:?}",
            live.attachments(),
            live.changes()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("{expected:?} after {:?}", since.elapsed());
}

fn filters(namespace: &NetNs, interface: &str) -> String {
    ["ingress", "egress"]
        .map(|way| namespace.command("tc", &["filter", "show", "dev", interface, way]).unwrap())
        .concat()
}

#[test]
fn a_pattern_takes_in_what_comes_and_lets_go_what_goes() {
    if skipped() {
        return;
    }
    for (hook, word) in [(TcHook::Auto, "tcx"), (TcHook::Clsact, "clsact")] {
        let namespace = NetNs::new().unwrap();
        let live = start(&namespace, &LiveConfig { tc_hook: hook, ..interfaces(&["veth*", "eth?"]) });
        assert_eq!(live.attachments(), [""; 0], "a pattern need not match");
        let words = |name: &str| format!("{name} ({word}, Ethernet)");
        namespace.ip("link add vetha type veth peer name other").unwrap();
        attached(&live, &[&words("vetha")]);
        namespace.ip("link add eth9 type veth peer name peer9").unwrap();
        attached(&live, &[&words("vetha"), &words("eth9")]);
        // By its new name it is not asked for; by another one it is again.
        namespace.ip("link set vetha name gone").unwrap();
        attached(&live, &[&words("eth9")]);
        assert_eq!((tcx(&namespace, "gone").len(), filters(&namespace, "gone").as_str()), (0, ""));
        namespace.ip("link set gone name vethb").unwrap();
        attached(&live, &[&words("vethb"), &words("eth9")]);
        // The same name, another interface.
        namespace.ip("link del eth9").unwrap();
        namespace.ip("link add eth9 type veth peer name peer9").unwrap();
        attached(&live, &[&words("vethb"), &words("eth9")]);
        let on = |name: &str| match hook {
            TcHook::Clsact => filters(&namespace, name).matches("remora:").count(),
            _ => tcx(&namespace, name).len(),
        };
        let since = Instant::now();
        while on("eth9") != 2 {
            assert!(since.elapsed() < Duration::from_secs(10), "the new one of that name is attached to");
            std::thread::sleep(Duration::from_millis(5));
        }
        namespace.ip("link del vethb").unwrap();
        namespace.ip("link del eth9").unwrap();
        attached(&live, &[]);
        let stats = live.attach_stats();
        assert_eq!((stats.now, stats.came, stats.went, stats.refused), (0, 4, 4, 0), "{:?}", live.changes());
        let changes = live.changes();
        assert_eq!(changes[0], Change::Came(words("vetha")));
        assert!(changes.contains(&Change::Went(String::from("interface eth9"))), "{changes:?}");
    }
}

#[test]
fn an_interface_that_comes_back_is_captured_again() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let config = LiveConfig { workers: 2, ..interfaces(&[VethPair::CLIENT]) };
    let rig = Rig::start(&pair.client, &config);
    pair.client.ip("link del veth0").unwrap();
    attached(&rig.live, &[]);
    let path = pair.server.path();
    pair.client.ip(&format!("link add veth0 type veth peer name veth1 netns {}", path.display())).unwrap();
    for (namespace, interface, number) in [(&pair.client, "veth0", 1), (&pair.server, "veth1", 2)] {
        namespace.ip(&format!("addr add 10.77.0.{number}/24 dev {interface}")).unwrap();
        namespace.ip(&format!("link set {interface} up")).unwrap();
    }
    attached(&rig.live, &["veth0 (tcx, Ethernet)"]);
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
    let (local, sent) = exchange(&pair.client, address, 0, 20);
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let all = directions(&outcome.seen);
    assert_eq!(all[&(local, address)].bytes().0, sent);
    assert_eq!(all[&(address, local)].bytes().0, sent);
}

#[test]
fn cgroups_come_and_go_by_pattern_and_by_path() {
    if skipped() {
        return;
    }
    let outer = Cgroup::new("watch").unwrap();
    let named = outer.child("named").unwrap();
    let config = LiveConfig {
        cgroups: vec![outer.path().join("pod*/c*"), named.path().to_owned()],
        ..interfaces(&[])
    };
    let live = start(&NetNs::new().unwrap(), &config);
    let words = |path: &PathBuf| format!("cgroup {}", path.display());
    let (first, named_words) = (outer.path().join("pod1/c1"), words(&named.path().to_owned()));
    attached(&live, &[&named_words]);
    let pod = outer.child("pod1").unwrap();
    let container = pod.child("c1").unwrap();
    attached(&live, &[&named_words, &words(&first)]);
    let id = container.id().unwrap();
    drop(container);
    let container = pod.child("c1").unwrap();
    assert_ne!(id, container.id().unwrap(), "another cgroup of the same name");
    let since = Instant::now();
    while live.attach_stats().came < 3 {
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", live.attach_stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(named);
    attached(&live, &[&words(&first)]);
    let named = outer.child("named").unwrap();
    attached(&live, &[&named_words, &words(&first)]);
    drop((container, pod, named));
    attached(&live, &[]);
    let stats = live.attach_stats();
    assert_eq!((stats.now, stats.came, stats.went), (0, 4, 4), "{:?}", live.changes());
}

#[test]
fn a_cgroup_around_those_that_are_watched_takes_over() {
    if skipped() {
        return;
    }
    let outer = Cgroup::new("around").unwrap();
    let name = outer.path().file_name().unwrap().to_str().unwrap().to_owned();
    // Both the pod and what is in it are asked for.
    let cgroups = vec![PathBuf::from(format!("{name}/*/inner*")), PathBuf::from(format!("{name}/pod*"))];
    let other = outer.child("other").unwrap();
    let inner = other.child("inner1").unwrap();
    let live = start(&NetNs::new().unwrap(), &LiveConfig { cgroups, ..interfaces(&[]) });
    let words = |path: &std::path::Path| format!("cgroup {}", path.display());
    attached(&live, &[&words(inner.path())]);
    let pod = outer.child("pod1").unwrap();
    let within = pod.child("inner2").unwrap();
    attached(&live, &[&words(inner.path()), &words(pod.path())]);
    drop(within);
}

#[test]
fn attachments_have_a_limit_that_says_so() {
    if skipped() {
        return;
    }
    let namespace = NetNs::new().unwrap();
    for number in 0..3 {
        namespace.ip(&format!("link add dum{number} type veth peer name peer{number}")).unwrap();
    }
    let config = LiveConfig { max_attachments: 2, ..interfaces(&["dum*"]) };
    let live = start(&namespace, &config);
    attached(&live, &["dum0 (tcx, Ethernet)", "dum1 (tcx, Ethernet)"]);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(live.attach_stats().refused, 1, "counted once, not with every look");
    let changes = live.changes();
    let [Change::Refused(name, why)] = &changes[..] else { panic!("{changes:?}") };
    assert!(name == "interface dum2" && why.contains("limit"), "{name}: {why}");
    namespace.ip("link del dum0").unwrap();
    attached(&live, &["dum1 (tcx, Ethernet)", "dum2 (tcx, Ethernet)"]);
    // What is named must fit.
    let config = LiveConfig { max_attachments: 1, ..interfaces(&["dum1", "dum2"]) };
    let error = namespace.run(|| Live::start(&config)).map(drop).unwrap_err();
    assert!(matches!(error, LiveError::Setting { .. }), "{error}");
}

#[test]
fn filters_that_somebody_removes_are_put_back() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let config = LiveConfig { tc_hook: TcHook::Clsact, ..interfaces(&[VethPair::CLIENT]) };
    let live = start(&pair.client, &config);
    assert_eq!(filters(&pair.client, "veth0").matches("remora:").count(), 2);
    pair.client.command("tc", &["qdisc", "del", "dev", "veth0", "clsact"]).unwrap();
    let since = Instant::now();
    while filters(&pair.client, "veth0").matches("remora:").count() != 2 {
        assert!(since.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(live.attach_stats().stripped, 1);
    drop(live);
    let qdiscs = pair.client.command("tc", &["qdisc", "show", "dev", "veth0"]).unwrap();
    assert!(!qdiscs.contains("clsact"), "it was ours: {qdiscs}");
}

#[test]
fn others_filters_and_qdiscs_are_left_alone() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let tc = |arguments: &str| {
        pair.client.command("tc", &arguments.split(' ').collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"))
    };
    let qdisc = || tc("qdisc show dev veth0");
    // Somebody else's qdisc stays, used or not.
    tc("qdisc add dev veth0 clsact");
    let config = LiveConfig { tc_hook: TcHook::Clsact, ..interfaces(&[VethPair::CLIENT]) };
    drop(start(&pair.client, &config));
    assert!(qdisc().contains("clsact") && filters(&pair.client, "veth0").is_empty());
    tc("qdisc del dev veth0 clsact");
    // Ours stays while somebody else's filter hangs there.
    let live = start(&pair.client, &config);
    let theirs =
        "filter add dev veth0 egress prio 7 protocol ip bpf bytecode".split(' ').chain(["1,6 0 0 0"]);
    pair.client.command("tc", &theirs.collect::<Vec<_>>()).unwrap();
    let second = start(&pair.client, &config);
    drop(live);
    assert_eq!(filters(&pair.client, "veth0").matches("remora:").count(), 2, "the second one's");
    drop(second);
    let left = filters(&pair.client, "veth0");
    assert!(qdisc().contains("clsact") && left.contains("bytecode") && !left.contains("remora"), "{left}");
    tc("filter del dev veth0 egress");
    // The last one of two takes the qdisc along, though it did not make it.
    tc("qdisc del dev veth0 clsact");
    let (first, second) = (start(&pair.client, &config), start(&pair.client, &config));
    drop(first);
    assert!(qdisc().contains("clsact"));
    drop(second);
    assert!(!qdisc().contains("clsact"), "{}", qdisc());
}

/// Pods that a test wants.
#[derive(Default)]
struct Those {
    uids: Mutex<BTreeSet<u32>>,
    told: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Those {
    fn want(&self, number: u32) {
        self.uids.lock().unwrap().insert(number);
        self.told.lock().unwrap().iter().for_each(|told| told());
    }
}

impl std::fmt::Debug for Those {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Those")
    }
}

impl WantedPods for Those {
    fn wants(&self, uid: &PodUid) -> bool {
        self.uids.lock().unwrap().iter().any(|&number| PodUid::parse(&uid_of(number)).as_ref() == Some(uid))
    }

    fn on_change(&self, call: Box<dyn Fn() + Send + Sync>) {
        *self.told.lock().unwrap() = Some(call);
    }
}

fn uid_of(number: u32) -> String {
    format!("6f1b5c3e-2d4a-4c8e-9b57-{number:012}")
}

/// By what the kernel tells, and by the clock where it tells nothing. Each takes up to two seconds where it is only found
/// by a look that nobody asked for.
#[test]
fn pods_are_attached_to_when_they_come_and_when_they_become_wanted() {
    if skipped() {
        return;
    }
    const MANY: u32 = 8;
    for told in [true, false] {
        let node = Cgroup::new("pods").unwrap();
        let pods = Arc::new(Those::default());
        let config = LiveConfig {
            cgroups: vec![node.path().join("kubepods*")],
            pods: Some(Arc::clone(&pods) as Arc<dyn WantedPods>),
            without: Without { notifications: !told, ..Without::default() },
            ..interfaces(&[])
        };
        let live = start(&NetNs::new().unwrap(), &config);
        attached(&live, &[]);
        let kubepods = node.child("kubepods").unwrap();
        let class = kubepods.child("burstable").unwrap();
        let since = Instant::now();
        let mut there = Vec::new();
        for number in 0..MANY {
            // One after the other, before and after it is known to be wanted.
            let late = number % 2 == 0;
            if !late {
                pods.want(number);
            }
            let pod = class.child(&format!("pod{}", uid_of(number))).unwrap();
            if late {
                assert_eq!(live.attachments().len(), number as usize, "not wanted yet");
                pods.want(number);
            }
            there.push(pod);
            let all: Vec<String> =
                there.iter().map(|pod| format!("cgroup {}", pod.path().display())).collect();
            attached(&live, &all.iter().map(String::as_str).collect::<Vec<_>>());
        }
        assert!(since.elapsed() < Duration::from_secs(u64::from(MANY)), "{:?}", since.elapsed());
        // The whole tree goes, and another one comes.
        drop(there);
        drop((class, kubepods));
        attached(&live, &[]);
        let kubepods = node.child("kubepods").unwrap();
        let pod = kubepods.child(&format!("pod{}", uid_of(0))).unwrap();
        attached(&live, &[&format!("cgroup {}", pod.path().display())]);
    }
}

/// Attaching takes the kernel its time: neither the start nor the end waits for all of them.
#[test]
fn many_that_are_there_from_the_start_are_attached_to_in_slices() {
    if skipped() {
        return;
    }
    const MANY: usize = 80;
    let namespace = NetNs::new().unwrap();
    let script: String =
        (0..MANY / 2).map(|n| format!("link add vetha{n} type veth peer name vethb{n}\n")).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    namespace.ip(&format!("-batch {}", file.path().display())).unwrap();
    let since = Instant::now();
    let live = start(&namespace, &interfaces(&["veth*", "vetha39"]));
    let (at_start, took) = (live.attachments(), since.elapsed());
    assert!(at_start.contains(&String::from("vetha39 (tcx, Ethernet)")), "what is named is there at once");
    while live.attachments().len() < MANY {
        assert!(since.elapsed() < Duration::from_secs(60), "{}", live.attachments().len());
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("{} after {took:?}, all {MANY} after {:?}", at_start.len(), since.elapsed());
    assert_eq!(live.attach_stats().came, MANY as u64, "none twice");
}
