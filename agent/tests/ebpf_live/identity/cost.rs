//! What naming processes costs: memory for a connection, and time for one.

use agent::capture::ebpf::{IdentityConfig, LiveConfig};
use testkit::netns::{Cgroup, NetNs};

use super::super::rig::skipped;
use super::{Actor, Watch};

/// Bytes of the kernel's memory for the two maps of connections, which are recognised by their size.
fn memory(connections: u32) -> u64 {
    let texts = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = texts.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let mut all: Vec<(u64, u64, u64)> = texts
        .filter_map(|text| {
            let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
            let ours = field("max_entries:")? == u64::from(connections);
            ours.then_some((field("map_id:")?, field("value_size:")?, field("memlock:")?))
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    let mut sizes: Vec<u64> = all.iter().map(|(_, size, _)| *size).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [40, 88], "peers and connections: {all:?}");
    all.iter().map(|(_, _, bytes)| bytes).sum()
}

/// As `IdentityConfig::connections` says.
#[test]
fn a_connection_takes_the_memory_that_is_said() {
    if skipped() {
        return;
    }
    // A number that no other test has.
    const MANY: u32 = 50_021;
    let cgroup = Cgroup::new("memory").unwrap();
    let identity = IdentityConfig { connections: MANY, ..IdentityConfig::default() };
    let config = LiveConfig { cgroups: vec![cgroup.path().to_owned()], identity, ..LiveConfig::default() };
    let _watch = Watch::start(&NetNs::new().unwrap(), &config);
    let each = memory(MANY) / u64::from(MANY);
    println!("{each} bytes a connection");
    assert!((320..=352).contains(&each), "{each}");
}

#[test]
#[ignore = "measures"]
fn cost_of_a_connection() {
    if skipped() {
        return;
    }
    const MILLIS: u32 = 700;
    let (namespace, cgroup) = (NetNs::new().unwrap(), Cgroup::new("churn").unwrap());
    namespace.ip("link set lo up").unwrap();
    let watched = |enabled: bool| {
        let identity = IdentityConfig { enabled, ..IdentityConfig::default() };
        // No packet of these is captured.
        let config = LiveConfig {
            cgroups: vec![cgroup.path().to_owned()],
            ports: vec![1],
            identity,
            ..LiveConfig::default()
        };
        Watch::start(&namespace, &config)
    };
    let mut best = [0_u64; 3];
    for _ in 0..7 {
        for (case, best) in best.iter_mut().enumerate() {
            let _watch = (case > 0).then(|| watched(case == 2));
            let actor = Actor::start(&namespace, &cgroup, "churn", &format!("127.0.0.1:9000 {MILLIS}"));
            *best = (*best).max(actor.said.parse().unwrap());
        }
    }
    let [alone, packets, named] = best.map(|made| f64::from(MILLIS) * 1e6 / made as f64);
    println!(
        "BENCH {{\"what\":\"a connection over loopback, both ends watched\",\"ns_alone\":{alone:.0},\"ns_packets\":{packets:.0},\"ns_named\":{named:.0},\"ns_identity\":{:.0}}}",
        named - packets
    );
    assert!(named < 3.0 * alone, "{named} of {alone}");
}
