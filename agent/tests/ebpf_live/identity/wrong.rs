//! Who must not be named.

use std::net::{SocketAddr, TcpListener, TcpStream};

use agent::capture::ebpf::{Hook, IdentityConfig, LiveConfig};
use agent::process::Question;
use testkit::netns::{Cgroup, NetNs, VethPair};

use super::super::rig::skipped;
use super::{Actor, Stage, Watch, assert_named, echo, now, own_name, pid, without};

/// The same two ends, three times: by a process, by another, by one that is not watched.
#[test]
fn a_port_that_is_used_again_is_not_named_after_an_earlier_holder() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let watch = stage.watch(IdentityConfig::default());
    let server = echo(&stage.pair.server, "10.77.0.2:0");
    let local = "10.77.0.1:44001";
    let connect = || Actor::connect(&stage.pair.client, &stage.client, server, local);
    let client: SocketAddr = local.parse().unwrap();

    let mut first = connect();
    let in_first = now();
    assert_eq!(pid(&watch.ends(client, server, in_first).client), Some(first.pid()));
    first.end();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(pid(&watch.ends(client, server, in_first).client), Some(first.pid()), "still, after its end");
    assert_eq!(watch.ends(client, server, now()).client, None, "but not for what comes later");

    let mut second = connect();
    assert_eq!(pid(&watch.ends(client, server, now()).client), Some(second.pid()));
    assert_eq!(watch.ends(client, server, in_first).client, None, "displaced, and not the second's");
    second.end();
    std::thread::sleep(std::time::Duration::from_millis(50));

    // From outside of the watched cgroups.
    let elsewhere = Cgroup::new("elsewhere").unwrap();
    let third = Actor::connect(&stage.pair.client, &elsewhere, server, local);
    assert_eq!(watch.ends(client, server, now()).client, None);
    drop(third);
}

/// Two namespaces have the same addresses and ports at the same time.
#[test]
fn the_same_ends_in_two_namespaces_are_told_apart_by_cgroup_or_not_at_all() {
    if skipped() {
        return;
    }
    let (here, there) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let cgroups = [Cgroup::new("here").unwrap(), Cgroup::new("there").unwrap()];
    let config = LiveConfig {
        cgroups: cgroups.iter().map(|cgroup| cgroup.path().to_owned()).collect(),
        ..LiveConfig::default()
    };
    let watch = Watch::start(&here, &config);
    let server: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    for namespace in [&here, &there] {
        echo(namespace, "127.0.0.1:8080");
    }
    let client: SocketAddr = "127.0.0.1:45001".parse().unwrap();
    let first = Actor::connect(&here, &cgroups[0], server, "127.0.0.1:45001");
    assert_eq!(pid(&watch.ends(client, server, now()).client), Some(first.pid()));
    let second = Actor::connect(&there, &cgroups[1], server, "127.0.0.1:45001");
    let of = |cgroup: &Cgroup| {
        let client_cgroup = cgroup.id().unwrap();
        pid(&watch.ask(Question { client, client_cgroup, server, server_cgroup: 0, at: now() }).client)
    };
    assert_eq!(of(&cgroups[1]), Some(second.pid()));
    assert_eq!(of(&cgroups[0]), None, "displaced, and not the other's");
    assert_eq!(watch.ends(client, server, now()).client, None, "it cannot be told which");
}

/// Nobody's child, which must not outlive the test.
struct KillOnDrop(nix::unistd::Pid);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, nix::sys::signal::Signal::SIGKILL);
    }
}

/// The process that listened has gone, and its child accepts, unseen.
#[test]
fn a_listener_that_has_left_is_not_named() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let watch = stage.watch(IdentityConfig::default());
    let mut left = Actor::start(&stage.pair.server, &stage.server, "leave", "10.77.0.2:8080");
    let child: i32 = left.said.parse().unwrap();
    left.gone();
    let _child = KillOnDrop(nix::unistd::Pid::from_raw(child));
    let server: SocketAddr = "10.77.0.2:8080".parse().unwrap();
    let client = Actor::connect(&stage.pair.client, &stage.client, server, "10.77.0.1:0");
    let ends = watch.ends(client.address(), server, now());
    assert_eq!(pid(&ends.client), Some(client.pid()));
    assert_eq!(ends.server, None, "{} is gone, and its child was not seen to accept", left.pid());
}

#[test]
fn a_full_map_forgets_the_oldest_counts_them_and_names_nobody_wrongly() {
    if skipped() {
        return;
    }
    const MANY: u64 = 2000;
    let stage = Stage::new();
    let config = IdentityConfig { connections: 256, ..IdentityConfig::default() };
    let watch = stage.watch(config);
    let listener = stage.pair.server.run(|| TcpListener::bind("10.77.0.2:0")).unwrap();
    let server = listener.local_addr().unwrap();
    let accepting = std::thread::spawn(move || -> Vec<TcpStream> {
        (0..MANY).map(|_| listener.accept().unwrap().0).collect()
    });
    let mut actor = Actor::start(&stage.pair.client, &stage.client, "many", &format!("{server} {MANY}"));
    let accepted = accepting.join().unwrap();
    let mut named = 0;
    for client in actor.said.split(' ') {
        let ends = watch.ends(client.parse().unwrap(), server, now());
        assert!(pid(&ends.client).is_none_or(|pid| pid == actor.pid()));
        assert_eq!(ends.server, None, "outside of the watched cgroups");
        named += u64::from(ends.client.is_some());
    }
    assert!(named > 0 && named <= 256, "{named}");
    actor.end();
    drop(accepted);
    let stats = watch.live.identity().unwrap().stats().unwrap();
    assert_eq!((stats.opened, stats.refused), (MANY, 0), "{stats:?}");
    assert_eq!(stats.closed + stats.displaced, MANY, "{stats:?}");
    assert_eq!(stats.closed, named, "{stats:?}");
}

#[test]
fn who_is_not_watched_is_not_named() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let (watched, other) = (Cgroup::new("watched").unwrap(), Cgroup::new("other").unwrap());
    // From an interface, with a cgroup to name.
    let identity = IdentityConfig { cgroups: vec![watched.path().to_owned()], ..without(&[Hook::Release]) };
    let config =
        LiveConfig { interfaces: vec![VethPair::CLIENT.to_owned()], identity, ..LiveConfig::default() };
    let watch = Watch::start(&pair.client, &config);
    let server = echo(&pair.server, "10.77.0.2:0");
    let client = Actor::connect(&pair.client, &watched, server, "10.77.0.1:0");
    assert_named(&watch.ends(client.address(), server, now()).client, client.pid(), &own_name(), &watched);
    let stranger = Actor::connect(&pair.client, &other, server, "10.77.0.1:0");
    assert_eq!(watch.ends(stranger.address(), server, now()), agent::process::Ends::default());
    drop(watch);

    // Without a cgroup nothing is attached at all.
    let config = LiveConfig { interfaces: vec![VethPair::CLIENT.to_owned()], ..LiveConfig::default() };
    assert!(Watch::start(&pair.client, &config).live.identity().is_none());
}
