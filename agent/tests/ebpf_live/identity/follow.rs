//! Watched cgroups that come and go while capture runs: their processes are named, and nothing is left of those that went.

use std::path::PathBuf;
use std::process::Command;

use agent::capture::ebpf::{Change, Hook, IdentityConfig, IdentityStats, Live, LiveConfig};
use agent_common::identity::MAX_WATCHED;
use aya::maps::{HashMap, Map, MapData, MapType, loaded_maps};
use aya::programs::loaded_links;
use testkit::netns::{Cgroup, NetNs, VethPair};

use super::super::lifecycle::{cgroup_links, wait_until};
use super::super::rig::skipped;
use super::degraded::with_tracefs;
use super::{Actor, Watch, assert_named, echo, now, own_name, pid, without};

/// Takes in the cgroups of this process and this tag.
fn pattern(tag: &str) -> PathBuf {
    PathBuf::from(format!("remora-test-{}-*-{tag}", std::process::id()))
}

fn by_pattern(tag: &str) -> LiveConfig {
    LiveConfig { cgroups: vec![pattern(tag)], ring_bytes: Some(1 << 20), ..LiveConfig::default() }
}

fn stats(live: &Live) -> IdentityStats {
    live.identity().unwrap().stats().unwrap()
}

fn captured(live: &Live, count: usize) {
    wait_until(&format!("{count} attached to"), || live.attachments().len() == count);
}

#[test]
fn processes_of_cgroups_that_come_later_are_named_at_both_ends() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let watch = Watch::start(&pair.client, &by_pattern("later"));
    assert_eq!((watch.live.attachments().len(), stats(&watch.live).cgroups), (0, 0));
    for round in 1..=2 {
        let (client, server) = (Cgroup::new("later").unwrap(), Cgroup::new("later").unwrap());
        captured(&watch.live, 2);
        // Before the packets.
        let seen = stats(&watch.live);
        assert_eq!((seen.cgroups, seen.cgroups_came, seen.cgroups_went), (2, 2 * round, 2 * round - 2));
        for cgroup in [&client, &server] {
            assert_eq!(cgroup_links(cgroup.id().unwrap()).len(), 2 + 9, "packets, and sockets");
        }
        let listening = Actor::start(&pair.server, &server, "listen", "10.77.0.2:8080");
        let address = listening.said.parse().unwrap();
        let calling = Actor::connect(&pair.client, &client, address, "10.77.0.1:0");
        let at = now();
        let ends = watch.ends(calling.address(), address, at);
        assert_named(&ends.client, calling.pid(), &own_name(), &client);
        assert_named(&ends.server, listening.pid(), &own_name(), &server);
        let from = calling.address();
        drop((calling, listening));
        let (client_id, server_id) = (client.id().unwrap(), server.id().unwrap());
        drop((client, server));
        captured(&watch.live, 0);
        // An item of the last moment.
        let ends = watch.ends(from, address, at);
        assert_eq!(ends.client.map(|process| process.cgroup_id), Some(client_id));
        assert_eq!(watch.ends(from, address, now()).client, None, "it has ended");
        assert!(cgroup_links(client_id).is_empty() && cgroup_links(server_id).is_empty());
    }
    let seen = stats(&watch.live);
    assert_eq!((seen.cgroups, seen.cgroups_came, seen.cgroups_went, seen.cgroups_refused), (0, 4, 4, 0));
}

/// Its process left before, and took the connection along: no program sees it end.
#[test]
fn a_connection_that_outlives_its_cgroup_is_not_named_for_ever() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let watch = Watch::start(&pair.client, &by_pattern("left"));
    let (cgroup, elsewhere) = (Cgroup::new("left").unwrap(), Cgroup::new("elsewhere").unwrap());
    captured(&watch.live, 1);
    let server = echo(&pair.server, "10.77.0.2:0");
    let mut client = Actor::connect(&pair.client, &cgroup, server, "10.77.0.1:48001");
    let (address, in_time) = (client.address(), now());
    assert_eq!(pid(&watch.ends(address, server, in_time).client), Some(client.pid()));
    std::fs::write(elsewhere.path().join("cgroup.procs"), client.pid().to_string()).unwrap();
    drop(cgroup);
    captured(&watch.live, 0);
    client.end();
    let another = Actor::connect(&pair.client, &elsewhere, server, "10.77.0.1:48001");
    wait_until("it is nobody's", || watch.ends(address, server, now()).client.is_none());
    assert_eq!(pid(&watch.ends(address, server, in_time).client), Some(client.pid()), "but its own time's");
    drop(another);
}

/// The limit keeps a cgroup out until another one goes: its connection is older than the programs then.
#[test]
fn what_there_is_no_room_for_is_counted_and_followed_once_there_is() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let first = Cgroup::new("room").unwrap();
    let config = LiveConfig { max_attachments: 1, ..by_pattern("room") };
    let watch = Watch::start(&pair.client, &config);
    captured(&watch.live, 1);
    let second = Cgroup::new("room").unwrap();
    let server = echo(&pair.server, "10.77.0.2:0");
    let mut old = Actor::connect(&pair.client, &second, server, "10.77.0.1:0");
    wait_until("it is refused", || stats(&watch.live).cgroups_refused == 1);
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(stats(&watch.live).cgroups_refused, 1, "once, not with every look");
    assert!(watch.live.changes().iter().any(|change| matches!(change, Change::Refused(..))));
    assert_eq!(watch.ends(old.address(), server, now()).client, None);
    drop(first);
    wait_until("there is room", || stats(&watch.live).cgroups_came == 1);
    assert_named(&watch.ends(old.address(), server, now()).client, old.pid(), &own_name(), &second);
    assert!(stats(&watch.live).older >= 1);
    let at = now();
    let address = old.address();
    old.end();
    assert_eq!(watch.ends(address, server, at).client, None, "its socket is no more");
    drop(second);
    wait_until("it is gone", || stats(&watch.live).cgroups_went == 2);
    assert_eq!((stats(&watch.live).older, stats(&watch.live).cgroups), (0, 0));
}

#[test]
fn from_an_interface_too_cgroups_by_pattern_come_later() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let config = LiveConfig {
        interfaces: vec![VethPair::CLIENT.to_owned()],
        identity: IdentityConfig { cgroups: vec![pattern("beside")], ..IdentityConfig::default() },
        ..LiveConfig::default()
    };
    let watch = Watch::start(&pair.client, &config);
    let server = echo(&pair.server, "10.77.0.2:0");
    let cgroup = Cgroup::new("beside").unwrap();
    wait_until("it is watched", || stats(&watch.live).cgroups == 1);
    let client = Actor::connect(&pair.client, &cgroup, server, "10.77.0.1:0");
    assert_named(&watch.ends(client.address(), server, now()).client, client.pid(), &own_name(), &cgroup);
}

/// How many of the machine's maps of watched cgroups have this one.
fn watching(id: u64) -> usize {
    let maps = loaded_maps().filter_map(Result::ok).filter(|map| map.name() == b"WATCHED");
    let maps = maps.filter(|map| map.map_type().is_ok_and(|kind| kind == MapType::Hash));
    let all = maps.filter_map(|map| MapData::from_id(map.id()).ok());
    all.filter(|map| map.info().is_ok_and(|info| info.max_entries() == MAX_WATCHED))
        .filter_map(|map| HashMap::<_, u64, u32>::try_from(Map::HashMap(map)).ok())
        .filter(|map| map.get(&id, 0).is_ok())
        .count()
}

#[test]
fn the_tracepoint_follows_as_well() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let config = LiveConfig { identity: without(&[Hook::Connections]), ..by_pattern("traced") };
    let namespace = std::fs::File::open(pair.client.path()).unwrap();
    let (live, _sources) = with_tracefs(|| {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        Live::start(&config).unwrap()
    });
    let watch = Watch { live, _sources };
    assert!(watch.hooks().contains(&Hook::States), "{:?}", watch.live.identity().unwrap().left_out());
    let server = echo(&pair.server, "10.77.0.2:0");
    // Of another depth than anything that was there.
    let cgroup = Cgroup::new("traced").unwrap();
    captured(&watch.live, 1);
    let id = cgroup.id().unwrap();
    assert_eq!(watching(id), 1);
    let client = Actor::connect(&pair.client, &cgroup, server, "10.77.0.1:0");
    assert_eq!(pid(&watch.ends(client.address(), server, now()).client), Some(client.pid()));
    drop((client, cgroup));
    captured(&watch.live, 0);
    assert_eq!(watching(id), 0);
}

/// What this process holds of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    descriptors: usize,
    links: usize,
    maps: usize,
    programs: usize,
    inotify: usize,
}

fn held() -> Held {
    let texts: Vec<String> = std::fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .collect();
    let count =
        |field: &str| texts.iter().flat_map(|text| text.lines()).filter(|l| l.starts_with(field)).count();
    Held {
        descriptors: texts.len(),
        links: count("link_id:"),
        maps: count("map_id:"),
        programs: count("prog_tag:") - count("link_id:"),
        inotify: count("inotify wd:"),
    }
}

const ALONE: &str = "REMORA_TEST_ALONE";

/// In a process of its own: the descriptors of other tests come and go.
#[test]
fn hundreds_that_come_and_go_leave_nothing() {
    if skipped() {
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        let name = "identity::follow::hundreds_that_come_and_go_leave_nothing";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--test-threads=1", "--nocapture"]).env(ALONE, "1");
        assert!(command.status().unwrap().success());
        return;
    }
    const BATCH: usize = 40;
    const BATCHES: u64 = 6;
    let namespace = NetNs::new().unwrap();
    let watch = Watch::start(&namespace, &by_pattern("many"));
    let mut links = Vec::new();
    let mut before = None;
    for batch in 0..BATCHES {
        let cgroups: Vec<Cgroup> = (0..BATCH).map(|_| Cgroup::new("many").unwrap()).collect();
        let within: Vec<Cgroup> = cgroups.iter().map(|cgroup| cgroup.child("within").unwrap()).collect();
        captured(&watch.live, BATCH);
        let of = |cgroup: &Cgroup| cgroup_links(cgroup.id().unwrap()).into_iter().map(|(link, _)| link);
        let made: Vec<u32> = cgroups.iter().flat_map(of).collect();
        assert_eq!(made.len(), BATCH * (2 + 9));
        links.extend(made);
        drop(within);
        drop(cgroups);
        captured(&watch.live, 0);
        // The first batch shows what is there once.
        if batch == 0 {
            wait_until("only the folder is watched in which they come", || held().inotify == 1);
            before = Some(held());
        }
        wait_until("as before", || Some(held()) == before);
    }
    eprintln!("{before:?} after each of {BATCHES} batches of {BATCH}");
    wait_until("the kernel has none of the links", || {
        let left: Vec<u32> = loaded_links().filter_map(|link| link.ok().map(|link| link.id())).collect();
        links.iter().all(|id| !left.contains(id))
    });
    let seen = stats(&watch.live);
    let all = BATCH as u64 * BATCHES;
    assert_eq!((seen.cgroups, seen.cgroups_came, seen.cgroups_went, seen.cgroups_refused), (0, all, all, 0));
}
