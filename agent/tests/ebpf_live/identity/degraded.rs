//! Each hook away in its turn: fewer are named, and nobody wrongly. And what is left behind: nothing.

use std::net::SocketAddr;
use std::path::Path;

use agent::capture::ebpf::{Hook, IdentityConfig, Live, LiveConfig};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use testkit::netns::Cgroup;

use super::super::lifecycle::{CAP_BPF, CAP_NET_ADMIN, cgroup_links, keep_only, wait_until};
use super::super::rig::skipped;
use super::{Actor, Stage, Watch, holder, now, pid, without, workers};

/// What is still told without a hook.
struct Told {
    client: bool,
    server: bool,
}

fn told_without(hook: Hook) -> Told {
    match hook {
        // Where sock_ops is missing, and no tracefs is here for the tracepoint, connections that are asked for are not
        // told; who accepted one is, by getpeername.
        Hook::Connections => Told { client: Path::new("/sys/kernel/tracing/events").exists(), server: true },
        // The listening socket's owner, then.
        _ => Told { client: true, server: true },
    }
}

#[test]
fn without_any_one_hook_nobody_is_named_wrongly() {
    if skipped() {
        return;
    }
    for hook in Hook::ALL {
        let stage = Stage::new();
        let watch = stage.watch(without(&[hook]));
        assert!(!watch.hooks().contains(&hook), "{hook:?}");
        // Younger than the programs, so that /proc tells nothing of it.
        let nginx = stage.nginx("10.77.0.2:80");
        let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
        let mut client = Actor::connect(&stage.pair.client, &stage.client, server, "10.77.0.1:46001");
        let ends = watch.ends(client.address(), server, now());
        let told = told_without(hook);
        assert_eq!(pid(&ends.client), told.client.then_some(client.pid()), "without {hook:?}");
        let worker = match hook {
            Hook::Accept => Some(nginx.pid()),
            _ => holder(&workers(&nginx), server, client.address()),
        };
        assert_eq!(pid(&ends.server), worker.filter(|_| told.server), "without {hook:?}");
        client.end();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let after = watch.ends(client.address(), server, now());
        assert_eq!((after.client, after.server), (None, None), "without {hook:?}, after the end");
    }
}

/// Nothing that sees connections end: nothing is remembered.
#[test]
fn what_is_not_seen_to_end_is_not_named() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let watch = stage.watch(without(&[Hook::Connections, Hook::States, Hook::Release]));
    let _nginx = stage.nginx("10.77.0.2:80");
    let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
    let client = Actor::connect(&stage.pair.client, &stage.client, server, "10.77.0.1:0");
    assert_eq!(watch.ends(client.address(), server, now()), agent::process::Ends::default());
    assert_eq!(watch.live.identity().unwrap().stats().unwrap().opened, 0);
}

/// In a mount namespace of its own, where tracefs is.
pub(super) fn with_tracefs<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            match mount(Some("tracefs"), "/sys/kernel/tracing", Some("tracefs"), MsFlags::empty(), none) {
                // There it is already, as on most machines.
                Ok(()) | Err(nix::Error::EBUSY) => {}
                Err(error) => panic!("mounting tracefs: {error}"),
            }
            f()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn the_tracepoint_stands_in_for_sock_ops_and_takes_nothing_of_others() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let config = LiveConfig {
        cgroups: stage.paths(),
        identity: without(&[Hook::Connections]),
        ..LiveConfig::default()
    };
    // Without Watch::start, whose thread would be in another mount namespace.
    let namespace = std::fs::File::open(stage.pair.client.path()).unwrap();
    let (live, _sources) = with_tracefs(|| {
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        Live::start(&config).unwrap()
    });
    let watch = Watch { live, _sources };
    assert!(watch.hooks().contains(&Hook::States), "{:?}", watch.live.identity().unwrap().left_out());
    let nginx = stage.nginx("10.77.0.2:80");
    let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
    // nginx was asked whether it is there.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = watch.live.identity().unwrap().stats().unwrap().opened;
    let elsewhere = Cgroup::new("elsewhere").unwrap();
    let stranger = Actor::connect(&stage.pair.client, &elsewhere, server, "10.77.0.1:0");
    assert_eq!(watch.ends(stranger.address(), server, now()).client, None);
    // The server's end, by getpeername, and nothing of the stranger's.
    assert_eq!(watch.live.identity().unwrap().stats().unwrap().opened, before + 1);
    let mut client = Actor::connect(&stage.pair.client, &stage.client, server, "10.77.0.1:47001");
    let in_time = now();
    let ends = watch.ends(client.address(), server, in_time);
    assert_eq!(pid(&ends.client), Some(client.pid()));
    assert_eq!(pid(&ends.server), holder(&workers(&nginx), server, client.address()));
    client.end();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(pid(&watch.ends(client.address(), server, in_time).client), Some(client.pid()));
    assert_eq!(watch.ends(client.address(), server, now()).client, None);
}

#[test]
fn the_tracepoint_without_tracefs_is_left_out_with_a_reason() {
    if skipped() || std::fs::read_dir("/sys/kernel/tracing").is_ok_and(|mut all| all.next().is_some()) {
        return;
    }
    let stage = Stage::new();
    let watch = stage.watch(without(&[Hook::Connections]));
    let left_out = watch.live.identity().unwrap().left_out().to_vec();
    let (_, why) = left_out.iter().find(|(hook, _)| *hook == Hook::States).unwrap();
    assert!(why.contains("mount -t tracefs"), "{why}");
}

/// `CAP_BPF` and `CAP_NET_ADMIN` are enough for every hook but the tracepoint.
#[test]
fn two_capabilities_are_enough() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let config = LiveConfig { cgroups: stage.paths(), ..LiveConfig::default() };
    stage.pair.client.run(|| {
        keep_only(&[CAP_BPF, CAP_NET_ADMIN]);
        let (live, _sources) = Live::start(&config).unwrap();
        let identity = live.identity().unwrap();
        assert_eq!(identity.left_out(), []);
        assert_eq!(identity.hooks().len(), Hook::ALL.len() - 1);
    });
}

/// The kernel does not tell processes' names then; /proc does, for those that are there.
#[test]
fn without_cap_perfmon_who_is_there_is_named_and_who_is_gone_has_an_id() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let config = LiveConfig { cgroups: stage.paths(), ..LiveConfig::default() };
    let (live, _sources) = stage.pair.client.run(|| {
        keep_only(&[CAP_BPF, CAP_NET_ADMIN]);
        Live::start(&config).unwrap()
    });
    let watch = Watch { live, _sources };
    let nginx = stage.nginx("10.77.0.2:80");
    let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
    let mut client = Actor::connect(&stage.pair.client, &stage.client, server, "10.77.0.1:0");
    let at = now();
    client.end();
    let ends = watch.ends(client.address(), server, at);
    let gone = ends.client.unwrap();
    assert_eq!((gone.pid, &gone.name, gone.cgroup_id), (client.pid(), &None, stage.client.id().unwrap()));
    assert!(workers(&nginx).contains(&pid(&ends.server).unwrap()));
    assert_eq!(ends.server.unwrap().name.as_deref(), Some("nginx"));
}

#[test]
fn nothing_stays_attached() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    let id = stage.server.id().unwrap();
    for _ in 0..10 {
        let watch = stage.watch(IdentityConfig::default());
        assert_eq!(cgroup_links(id).len(), 2 + 9, "two for packets, nine for sockets");
        drop(watch);
        wait_until("the cgroup's links are gone", || cgroup_links(id).is_empty());
    }
}

/// An unknown cgroup, or a size out of range, is said; packets are captured all the same.
#[test]
fn what_cannot_be_named_is_captured_all_the_same() {
    if skipped() {
        return;
    }
    let stage = Stage::new();
    for identity in [
        IdentityConfig { cgroups: vec!["/no/such/cgroup".into()], ..IdentityConfig::default() },
        IdentityConfig { connections: 0, ..IdentityConfig::default() },
        IdentityConfig { enabled: false, ..IdentityConfig::default() },
    ] {
        let watch = stage.watch(identity);
        assert!(watch.live.identity().is_none());
        assert_eq!(watch.live.attachments().len(), 2);
    }
}
