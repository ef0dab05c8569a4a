//! Start and end: clear errors, least privilege, nothing left behind.

use std::path::PathBuf;
use std::time::Duration;

use agent::capture::ebpf::{Live, LiveConfig, LiveError, TcHook};
use agent::capture::{PacketSource as _, Progress};
use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use testkit::netns::{Cgroup, NetNs, VethPair};

use super::exchange::{echo, exchange};
use super::rig::{Rig, on_client, skipped};
use super::tcp::directions;

/// Ids of the programs on an interface by tcx.
pub(crate) fn tcx(namespace: &NetNs, interface: &str) -> Vec<u32> {
    namespace.run(|| {
        let ways = [TcAttachType::Ingress, TcAttachType::Egress];
        ways.into_iter()
            .flat_map(|way| SchedClassifier::query_tcx(interface, way).unwrap().1)
            .map(|program| program.id())
            .collect()
    })
}

/// Waits until it is so: the kernel frees programs a little later, and a process that another test is just starting
/// holds copies of our descriptors until its exec.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not within four seconds: {what}");
}

fn assert_gone(ids: &[u32]) {
    wait_until(&format!("programs {ids:?} are unloaded"), || {
        let loaded: Vec<u32> = loaded_programs().filter_map(|p| p.ok().map(|p| p.id())).collect();
        ids.iter().all(|id| !loaded.contains(id))
    });
}

/// Link id and program id of this process' links to a cgroup.
pub(crate) fn cgroup_links(id: u64) -> Vec<(u32, u32)> {
    let mut links = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        // The descriptors of other tests come and go.
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok());
        if field("cgroup_id:") == Some(id) {
            links.push((field("link_id:").unwrap() as u32, field("prog_id:").unwrap() as u32));
        }
    }
    links
}

#[test]
fn dropping_it_detaches_everything() {
    if skipped() {
        return;
    }
    let (pair, cgroup) = (VethPair::new().unwrap(), Cgroup::new("drop").unwrap());
    let config = LiveConfig { cgroups: vec![cgroup.path().to_owned()], ..on_client() };
    let (live, mut sources) = pair.client.run(|| Live::start(&config)).unwrap();
    assert_eq!(live.attachments().len(), 2);
    let on_interface = tcx(&pair.client, VethPair::CLIENT);
    assert_eq!(on_interface.len(), 2);
    let (links, on_cgroup): (Vec<_>, Vec<_>) = cgroup_links(cgroup.id().unwrap()).into_iter().unzip();
    assert_eq!(links.len(), 2 + 9, "two for packets, nine for sockets");
    // From another thread and namespace than the one it was started in.
    drop(live);
    wait_until("tcx is empty", || tcx(&pair.client, VethPair::CLIENT).is_empty());
    assert_gone(&on_interface);
    assert_gone(&on_cgroup);
    wait_until("the cgroup's links are gone", || {
        let remaining: Vec<_> =
            aya::programs::loaded_links().filter_map(|l| l.ok().map(|l| l.id())).collect();
        links.iter().all(|id| !remaining.contains(id))
    });
    for source in &mut sources {
        assert_eq!(source.poll(1, Duration::from_secs(5), &mut |_| {}).unwrap(), Progress::End);
    }
}

#[test]
fn clsact_works_like_tcx_and_leaves_no_filter() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &LiveConfig { tc_hook: TcHook::Clsact, ..on_client() });
    assert_eq!(rig.live.attachments(), ["veth0 (clsact, Ethernet)"]);
    assert!(tcx(&pair.client, VethPair::CLIENT).is_empty());
    let filters = || {
        ["ingress", "egress"]
            .map(|way| pair.client.command("tc", &["filter", "show", "dev", VethPair::CLIENT, way]).unwrap())
            .concat()
    };
    assert!(filters().contains("ether_ingress") && filters().contains("ether_egress"), "{}", filters());
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
    let (local, sent) = exchange(&pair.client, address, 0, 20);
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let all = directions(&outcome.seen);
    assert_eq!(all[&(local, address)].bytes().0, sent);
    assert_eq!(all[&(address, local)].bytes().0, sent);
    assert_eq!(filters(), "");
}

#[test]
fn what_does_not_exist_is_named() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let start = |config: LiveConfig| pair.client.run(|| Live::start(&config).map(drop)).unwrap_err();
    let interface = |name: &str| LiveConfig { interfaces: vec![name.to_owned()], ..LiveConfig::default() };
    // The other end's interface is in another namespace.
    let error = start(interface(VethPair::SERVER));
    assert!(matches!(error, LiveError::NoInterface { .. }));
    assert_eq!(error.to_string(), "there is no interface \"veth1\" here; there are: lo, veth0");
    let cgroup = |path: &str| LiveConfig { cgroups: vec![PathBuf::from(path)], ..LiveConfig::default() };
    for path in ["no-such-cgroup-anywhere", "/etc"] {
        let error = start(cgroup(path));
        assert!(matches!(error, LiveError::NoCgroup { .. }) && error.to_string().contains(path), "{error}");
    }
    assert!(matches!(start(LiveConfig::default()), LiveError::NoTarget));
    let error = start(LiveConfig { workers: 257, ..on_client() });
    assert_eq!(error.to_string(), "workers: 257 is not within 1 to 256");
    assert!(!error.is_not_permitted());
}

/// All targets are looked up before the first is attached to.
#[test]
fn a_missing_target_leaves_the_others_untouched() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let cgroup = Cgroup::new("gone").unwrap();
    let path = cgroup.path().to_owned();
    drop(cgroup);
    let config = LiveConfig { cgroups: vec![path], ..on_client() };
    assert!(pair.client.run(|| Live::start(&config)).is_err());
    wait_until("tcx is empty", || tcx(&pair.client, VethPair::CLIENT).is_empty());
}

pub(crate) const CAP_NET_ADMIN: u32 = 12;
pub(crate) const CAP_BPF: u32 = 39;

/// Leaves the calling thread nothing but these capabilities.
pub(crate) fn keep_only(capabilities: &[u32]) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let bits = capabilities.iter().fold(0_u64, |bits, cap| bits | 1 << cap);
    let data =
        [bits as u32, (bits >> 32) as u32].map(|b| Data { effective: b, permitted: b, inheritable: 0 });
    let header = Header { version: 0x2008_0522, pid: 0 };
    // SAFETY: capset(2), version 3: a header and two data blocks, which outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn without_capabilities_it_says_which_are_missing() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let start = |capabilities: &[u32]| {
        pair.client.run(|| {
            keep_only(capabilities);
            Live::start(&on_client()).map(drop)
        })
    };
    let error = start(&[]).unwrap_err();
    assert!(error.is_not_permitted());
    let text = error.to_string();
    assert!(text.contains("CAP_BPF") && text.contains("CAP_NET_ADMIN"), "{text}");
    let text = start(&[CAP_BPF]).unwrap_err().to_string();
    assert!(!text.contains("CAP_BPF") && text.contains("CAP_NET_ADMIN"), "{text}");
}

#[test]
fn two_capabilities_are_enough() {
    if skipped() {
        return;
    }
    let (pair, cgroup) = (VethPair::new().unwrap(), Cgroup::new("caps").unwrap());
    let config = LiveConfig { cgroups: vec![cgroup.path().to_owned()], ..on_client() };
    pair.client.run(|| {
        keep_only(&[CAP_BPF, CAP_NET_ADMIN]);
        let (live, _sources) = Live::start(&config).unwrap();
        assert_eq!(live.attachments().len(), 2);
    });
}

#[test]
fn the_doctor_finds_this_kernel_able_and_names_what_a_thread_may_not() {
    if skipped() {
        return;
    }
    use agent::doctor::{State, doctor};
    let state = |what: &str| {
        let checks = doctor();
        checks.iter().find(|c| c.what == what).unwrap_or_else(|| panic!("no {what}: {checks:?}")).state
    };
    for what in
        ["kernel", "capabilities", "ring buffers", "eBPF programs", "tcx", "cgroup v2", "process names"]
    {
        assert_eq!(state(what), State::Ok, "{what}: {:#?}", doctor());
    }
    std::thread::spawn(move || {
        keep_only(&[]);
        for what in ["capabilities", "eBPF programs"] {
            assert_eq!(state(what), State::Missing, "{what}: {:#?}", doctor());
        }
    })
    .join()
    .unwrap();
}
