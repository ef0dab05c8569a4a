//! Who is named.

use std::net::SocketAddr;
use std::time::Duration;

use agent::capture::ebpf::{Hook, IdentityConfig, LiveConfig};
use testkit::netns::{Cgroup, VethPair};

use super::super::rig::skipped;
use super::{Actor, Stage, Watch, assert_named, holder, nginx_in, now, own_name, pid, without, workers};

#[test]
fn a_client_that_is_gone_and_the_worker_that_answered_are_named() {
    if skipped() {
        return;
    }
    for (address, url, local) in [
        ("10.77.0.2:80", "http://10.77.0.2/r/1", "10.77.0.1:41001"),
        ("[fd77::2]:80", "http://[fd77::2]/r/1", "[fd77::1]:41001"),
    ] {
        let stage = Stage::new();
        let nginx = stage.nginx(address);
        let watch = stage.watch(IdentityConfig::default());
        assert!(watch.hooks().contains(&Hook::Connections) && !watch.hooks().contains(&Hook::States));
        // A second request, a second later, on the same connection.
        let arguments = ["-sS", "--local-port", "41001", "--rate", "60/m", "-f", url, url];
        let spawn = || stage.client.spawn("curl".as_ref(), &arguments, &[]);
        let mut curl = stage.pair.client.run(spawn).unwrap();
        let client = curl.id();
        std::thread::sleep(Duration::from_millis(250));
        let at = now();
        assert!(curl.wait().unwrap().success());
        let (local, address): (SocketAddr, SocketAddr) = (local.parse().unwrap(), address.parse().unwrap());
        let ends = watch.ends(local, address, at);
        assert_named(&ends.client, client, "curl", &stage.client);
        let worker = pid(&ends.server).unwrap();
        assert_named(&ends.server, worker, "nginx", &stage.server);
        assert!(workers(&nginx).contains(&worker), "{worker}, master {}", nginx.pid());
        let stats = watch.live.identity().unwrap().stats().unwrap();
        assert!(stats.opened >= 2 && stats.accepted >= 1 && stats.closed >= 1, "{stats:?}");
        assert_eq!((stats.refused, stats.displaced, stats.no_storage), (0, 0, 0));
    }
}

/// The socket itself, in /proc, says which worker has it.
#[test]
fn of_several_workers_the_one_that_accepted_is_named() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let nginx = stage.nginx("10.77.0.2:80");
    let watch = stage.watch(IdentityConfig::default());
    let server = "10.77.0.2:80".parse().unwrap();
    let workers = workers(&nginx);
    assert_eq!(workers.len(), 2);
    for number in 0..12 {
        let local = format!("10.77.0.1:{}", 42_000 + number);
        let mut client = Actor::connect(&stage.pair.client, &stage.client, server, &local);
        let ends = watch.ends(client.address(), server, now());
        assert_named(&ends.client, client.pid(), &own_name(), &stage.client);
        assert_eq!(pid(&ends.server), holder(&workers, server, client.address()));
        assert!(ends.server.is_some());
        client.end();
    }
}

#[test]
fn without_an_accept_to_see_the_listening_sockets_owner_is_named() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let watch = stage.watch(IdentityConfig::default());
    let server = Actor::start(&stage.pair.server, &stage.server, "listen", "10.77.0.2:8080");
    let address = server.said.parse().unwrap();
    let client = Actor::connect(&stage.pair.client, &stage.client, address, "10.77.0.1:0");
    let ends = watch.ends(client.address(), address, now());
    assert_named(&ends.client, client.pid(), &own_name(), &stage.client);
    assert_named(&ends.server, server.pid(), &own_name(), &stage.server);
}

/// A thread made the connection; the process is what is named.
#[test]
fn a_process_is_named_not_its_thread() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let _nginx = stage.nginx("10.77.0.2:80");
    let watch = stage.watch(IdentityConfig::default());
    let arguments = "10.77.0.2:80 10.77.0.1:0";
    let mut client = Actor::start(&stage.pair.client, &stage.client, "connect-in-thread", arguments);
    let (address, at) = (client.address(), now());
    let server = "10.77.0.2:80".parse().unwrap();
    assert_named(&watch.ends(address, server, at).client, client.pid(), &own_name(), &stage.client);
    client.end();
}

#[test]
fn connections_and_listeners_older_than_the_agent_are_named_while_they_live() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let nginx = stage.nginx("10.77.0.2:80");
    let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
    let mut old = Actor::connect(&stage.pair.client, &stage.client, server, "10.77.0.1:0");
    let watch = stage.watch(IdentityConfig::default());
    let older = watch.live.identity().unwrap().stats().unwrap().older;
    assert!(older >= 3, "a connection's two ends and a listener: {older}");
    let (address, at) = (old.address(), now());
    let ends = watch.ends(address, server, at);
    assert_named(&ends.client, old.pid(), &own_name(), &stage.client);
    let worker = holder(&workers(&nginx), server, address);
    assert_named(&ends.server, worker.unwrap(), "nginx", &stage.server);
    old.end();
    assert_eq!(watch.ends(address, server, at).client, None, "its socket is no more");
    drop(watch);

    // A new connection to the old listener, and nobody sees who accepts: the master owns the socket.
    let watch = stage.watch(without(&[Hook::Accept]));
    let new = Actor::connect(&stage.pair.client, &stage.client, server, "10.77.0.1:0");
    let ends = watch.ends(new.address(), server, now());
    assert_named(&ends.client, new.pid(), &own_name(), &stage.client);
    assert_named(&ends.server, nginx.pid(), "nginx", &stage.server);
}

#[test]
fn behind_a_service_address_the_real_server_is_named() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let nginx = stage.nginx("10.77.0.2:80");
    let rules = "table ip t { chain c { type nat hook output priority -100; ip daddr 10.99.0.1 tcp dport 8000 dnat to 10.77.0.2:80; }; }";
    stage.pair.client.ip("route add 10.99.0.0/16 via 10.77.0.2").unwrap();
    stage.pair.client.command("nft", &[rules]).unwrap();
    let watch = stage.watch(IdentityConfig::default());
    let service: SocketAddr = "10.99.0.1:8000".parse().unwrap();
    let client = Actor::connect(&stage.pair.client, &stage.client, service, "10.77.0.1:43001");
    let ends = watch.ends(client.address(), service, now());
    assert_named(&ends.client, client.pid(), &own_name(), &stage.client);
    let worker = holder(&workers(&nginx), "10.77.0.2:80".parse().unwrap(), client.address());
    assert_named(&ends.server, worker.unwrap(), "nginx", &stage.server);
    // Another of the client's streams, elsewhere, from the same port: it is not that server's.
    let elsewhere = "10.99.0.2:8000".parse().unwrap();
    assert_eq!(watch.ends(client.address(), elsewhere, now()).server, None);
}

#[test]
fn containers_are_named_by_their_cgroup() {
    if skipped() {
        return;
    }
    let (pair, outer) = (VethPair::new().unwrap(), Cgroup::new("kubepods").unwrap());
    // The watcher must find one that is there, and one that is made later.
    let ids = ["0a".repeat(32), "1b".repeat(32)];
    let server = outer.child(&format!("cri-containerd-{}.scope", ids[0])).unwrap();
    let _nginx = nginx_in(&pair.server, &server, "10.77.0.2:80".parse().unwrap());
    let config = LiveConfig { cgroups: vec![outer.path().to_owned()], ..LiveConfig::default() };
    let watch = Watch::start(&pair.client, &config);
    let pod = outer.child("pod1").unwrap();
    let client_cgroup = pod.child(&ids[1]).unwrap();
    let address = "10.77.0.2:80".parse().unwrap();
    let client = Actor::connect(&pair.client, &client_cgroup, address, "10.77.0.1:0");
    let ends = watch.ends(client.address(), address, now());
    let container = |process: &Option<std::sync::Arc<agent::process::ProcessInfo>>| {
        process.as_ref().and_then(|process| process.container_id.as_deref().map(str::to_owned))
    };
    assert_eq!(container(&ends.client).as_ref(), Some(&ids[1]));
    assert_eq!(container(&ends.server).as_ref(), Some(&ids[0]));
    drop((client, watch, _nginx));
    drop(client_cgroup);
    drop((pod, server));
}
