//! Names for addresses: right to the event.

use agent::process::PodUid;
use agent_core::Timestamp;
use serde_json::json;

use super::rig::{Rig, becomes, called, known, now, pod, service, slice, uid};

#[test]
fn pods_services_and_endpoints_have_names() {
    let rig = Rig::new();
    rig.put(&pod("shop-1", "10.1.0.1", 1));
    rig.put(&service("shop", "10.96.0.1"));
    rig.put(&service("shop-headless", "None"));
    let far = [("shop-1", "10.1.0.1", 1, "node-1"), ("shop-2", "10.1.1.2", 2, "node-2")];
    rig.put(&slice("shop-a", "shop", &far));
    rig.put(&slice("shop-headless-a", "shop-headless", &far));
    let kube = rig.kube();
    assert_eq!(called(&kube, "10.1.0.1").as_deref(), Some("shop-1 shop prod"));
    assert_eq!(called(&kube, "10.1.1.2").as_deref(), Some("shop-2 shop prod"), "not the headless one");
    assert_eq!(called(&kube, "10.96.0.1").as_deref(), Some("- shop prod"));
    assert_eq!(known(&kube, "10.96.0.1").unwrap().name(), Some("shop"));
    assert_eq!(called(&kube, "10.1.0.9"), None);
    assert!(known(&kube, "10.1.0.1").unwrap().watched && !known(&kube, "10.1.1.2").unwrap().watched);

    // A service goes: the pod is still behind the other one.
    rig.remove(&slice("shop-a", "shop", &[]));
    rig.remove(&service("shop", ""));
    becomes(&kube, "10.96.0.1", None);
    becomes(&kube, "10.1.1.2", Some("shop-2 shop-headless prod"));
    assert_eq!(called(&kube, "10.1.0.1").as_deref(), Some("shop-1 shop-headless prod"));
}

#[test]
fn an_address_that_is_used_again_gets_its_new_name_from_the_event_on() {
    let rig = Rig::new();
    rig.put(&pod("old", "10.1.0.1", 1));
    let kube = rig.kube();
    let before = now();
    rig.remove(&pod("old", "", 1));
    becomes(&kube, "10.1.0.1", None);
    let at = |at: Timestamp| {
        let known = kube.names().of_address("10.1.0.1".parse().unwrap(), 1, at);
        known.and_then(|known| known.name().map(str::to_owned))
    };
    assert_eq!(at(before).as_deref(), Some("old"), "what was said before is of the old one");
    rig.put(&pod("new", "10.1.0.1", 2));
    becomes(&kube, "10.1.0.1", Some("new - prod"));
    assert_eq!((at(before).as_deref(), at(now()).as_deref()), (Some("old"), Some("new")));

    // The new one is told of before the old one is gone, and the old one changes once more while it ends.
    rig.put(&pod("next", "10.1.0.1", 3));
    becomes(&kube, "10.1.0.1", Some("next - prod"));
    let mut ending = pod("new", "10.1.0.1", 2);
    ending["metadata"]["annotations"] = json!({ "still": "here" });
    ending["status"]["podIPs"] = json!([{ "ip": "10.1.0.1" }, { "ip": "fd00::1" }]);
    rig.put(&ending);
    rig.put(&pod("mark", "10.1.0.7", 7));
    becomes(&kube, "10.1.0.7", Some("mark - prod"));
    assert_eq!(called(&kube, "10.1.0.1").as_deref(), Some("next - prod"));
    rig.remove(&pod("new", "", 2));
    rig.remove(&pod("mark", "", 7));
    becomes(&kube, "10.1.0.7", None);
    assert_eq!(called(&kube, "10.1.0.1").as_deref(), Some("next - prod"));
}

#[test]
fn a_pod_that_is_over_has_no_address() {
    let rig = Rig::new();
    rig.put(&pod("job", "10.1.0.1", 1));
    let kube = rig.kube();
    let mut over = pod("job", "10.1.0.1", 1);
    over["status"]["phase"] = json!("Succeeded");
    rig.put(&over);
    becomes(&kube, "10.1.0.1", None);
    rig.put(&pod("job-2", "10.1.0.1", 2));
    becomes(&kube, "10.1.0.1", Some("job-2 - prod"));
}

#[test]
fn pods_are_known_by_what_cgroups_call_them() {
    let rig = Rig::new();
    let mut fixed = pod("etcd-node-1", "192.0.2.1", 1);
    fixed["metadata"]["annotations"] =
        json!({ "kubernetes.io/config.hash": "a3c1d5e79b8f6042a3c1d5e79b8f6042" });
    fixed["spec"]["hostNetwork"] = json!(true);
    rig.put(&fixed);
    let mut waiting = pod("waiting", "", 2);
    waiting["status"] = json!({ "phase": "Pending" });
    rig.put(&waiting);
    let kube = rig.kube();
    let by = |uid: &str| {
        let known = kube.names().of_pod(&PodUid::parse(uid).unwrap());
        known.and_then(|known| known.name().map(str::to_owned))
    };
    assert_eq!(by("a3c1d5e79b8f6042a3c1d5e79b8f6042").as_deref(), Some("etcd-node-1"));
    assert_eq!(by(&uid(1)), None, "which no cgroup has");
    assert_eq!(by(&uid(2)).as_deref(), Some("waiting"), "before it has an address");
    assert_eq!(called(&kube, "192.0.2.1"), None, "the node's own address is no pod's");
}

#[test]
fn pods_in_nodes_networks_are_known_by_their_ports() {
    let rig = Rig::new();
    // A DaemonSet in the nodes' networks; nothing in a slice says so, but its pod on this node does.
    let mut own = pod("exporter-a", "192.0.2.1", 1);
    own["spec"]["hostNetwork"] = json!(true);
    rig.put(&own);
    rig.put(&slice(
        "exporter-x",
        "exporter",
        &[("exporter-a", "192.0.2.1", 1, "node-1"), ("exporter-b", "192.0.2.2", 2, "node-2")],
    ));
    rig.put(&slice("scheduler-x", "scheduler", &[("kube-scheduler-node-3", "192.0.2.3", 3, "node-3")]));
    // Two at one address, whoever they are.
    rig.put(&slice("a-x", "a", &[("a-1", "192.0.2.4", 4, "node-4")]));
    rig.put(&slice("b-x", "b", &[("b-1", "192.0.2.4", 5, "node-4")]));
    let mut balanced = service("front", "10.96.0.9");
    balanced["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.2" }] } });
    rig.put(&balanced);
    let kube = rig.kube();
    let at = |ip: &str, port: u16| {
        let known = kube.names().of_address(ip.parse().unwrap(), port, now());
        known.and_then(|known| known.name().map(str::to_owned))
    };
    for (ip, pod) in
        [("192.0.2.1", "exporter-a"), ("192.0.2.2", "exporter-b"), ("192.0.2.3", "kube-scheduler-node-3")]
    {
        assert_eq!((at(ip, 8080).as_deref(), at(ip, 40_000)), (Some(pod), None), "{ip}");
    }
    assert_eq!((at("192.0.2.4", 8080).as_deref(), at("192.0.2.4", 1)), (Some("a-1"), None));
    assert_eq!(at("192.0.2.2", 80).as_deref(), Some("front"), "by its port, for the address is a node's");
}

#[test]
fn what_only_traffic_shows_is_looked_up_and_within_bounds() {
    let rig = Rig::new();
    rig.put(&pod("shop-1", "10.1.0.1", 1));
    for (name, ip, number) in [("client", "10.1.7.7", 7), ("over", "10.1.7.8", 8)] {
        let mut far = pod(name, ip, number);
        far["spec"]["nodeName"] = json!("node-2");
        if name == "over" {
            far["status"]["phase"] = json!("Failed");
        }
        rig.put(&far);
    }
    let mut host = pod("host", "10.1.7.9", 9);
    host["spec"]["nodeName"] = json!("node-2");
    host["spec"]["hostNetwork"] = json!(true);
    rig.put(&host);
    let kube = rig.kube_with(agent::kube::KubeConfig { lookups_per_minute: 5, ..rig.config() });
    super::rig::wait("where pods are is known", || {
        let _ = called(&kube, "10.1.7.7");
        kube.stats().lookups > 0
    });
    becomes(&kube, "10.1.7.7", Some("client - prod"));
    for ip in ["10.1.7.8", "10.1.7.9"] {
        super::rig::wait("asked", || {
            assert_eq!(called(&kube, ip), None, "{ip}");
            kube.stats().lookups + kube.stats().lookups_refused > 1
        });
    }
    let asked = |kube: &agent::kube::Kube| kube.stats().lookups;
    super::rig::wait("all three asked", || {
        ["10.1.7.8", "10.1.7.9"].iter().for_each(|ip| drop(called(&kube, ip)));
        asked(&kube) == 3
    });
    super::rig::wait("all three answered", || kube.stats().lookups_nobody == 2);
    assert_eq!(
        ["10.1.7.8", "10.1.7.9"].map(|ip| called(&kube, ip)),
        [None, None],
        "over, and in its node's network"
    );
    // Far from any pod: not asked at all. Near, and too many: refused, and counted.
    for last in 0..200 {
        assert_eq!(called(&kube, &format!("203.0.113.{last}")), None);
        assert_eq!(called(&kube, &format!("10.1.9.{last}")), None);
    }
    super::rig::wait("refused", || kube.stats().lookups_refused >= 195);
    assert!(asked(&kube) <= 6, "{:?}", kube.stats());
    let requests = rig.api.requests();
    let lookups: Vec<_> = requests.iter().filter(|request| request.query.contains("status.podIP")).collect();
    assert_eq!(lookups.len() as u64, asked(&kube));
    assert!(
        lookups.iter().all(|request| request.status == 200 && request.query.contains("resourceVersion=0"))
    );
    assert!(lookups.iter().all(|request| !request.query.contains("203.0.113")));
}
