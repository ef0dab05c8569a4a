//! Capture without one or the other feature of the kernel: switched off by [`Without`], or forbidden to a child process by
//! a seccomp filter, which answers a bpf(2) command as a kernel does that does not know it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use agent::capture::ebpf::{Live, LiveConfig, LiveError, TcHook, Without};
use testkit::netns::{Cgroup, VethPair};

use super::exchange::{echo, exchange};
use super::rig::{Rig, on_client, skipped};
use super::tcp::directions;

// Of `enum bpf_cmd`.
const PROG_QUERY: u32 = 16;
const LINK_CREATE: u32 = 28;
/// Not one, but all.
const ALL: u32 = u32::MAX;

/// A kernel that lacks something.
struct Variant {
    name: &'static str,
    without: Without,
    hook: TcHook,
    ring_bytes: Option<usize>,
    /// A command of bpf(2) that it does not know, and how it says so.
    unknown: Option<(u32, i32)>,
    /// A folder that is empty.
    hidden: Option<&'static str>,
    interface: Expected,
    cgroup: Expected,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Tcx,
    Clsact,
    Cgroup,
    Fails,
    NotPermitted,
}

const WHOLE: Variant = Variant {
    name: "all there",
    without: Without { tcx: false, notifications: false },
    hook: TcHook::Auto,
    ring_bytes: None,
    unknown: None,
    hidden: None,
    interface: Expected::Tcx,
    cgroup: Expected::Cgroup,
};

const VARIANTS: [Variant; 9] = [
    WHOLE,
    Variant {
        name: "no tcx: before Linux 6.6",
        without: Without { tcx: true, notifications: false },
        interface: Expected::Clsact,
        ..WHOLE
    },
    Variant { name: "clsact as told", hook: TcHook::Clsact, interface: Expected::Clsact, ..WHOLE },
    Variant { name: "no notifications", without: Without { tcx: false, notifications: true }, ..WHOLE },
    Variant { name: "rings of one size: before Linux 5.10", ring_bytes: Some(1 << 20), ..WHOLE },
    Variant { name: "no BTF of the kernel's own", hidden: Some("/sys/kernel/btf"), ..WHOLE },
    Variant { name: "no queries of attached programs", unknown: Some((PROG_QUERY, libc::EINVAL)), ..WHOLE },
    Variant {
        name: "no links: before Linux 5.7",
        unknown: Some((LINK_CREATE, libc::EINVAL)),
        interface: Expected::Clsact,
        cgroup: Expected::Fails,
        ..WHOLE
    },
    Variant {
        name: "no bpf(2) for us",
        unknown: Some((ALL, libc::EPERM)),
        interface: Expected::NotPermitted,
        cgroup: Expected::NotPermitted,
        ..WHOLE
    },
];

/// Tells the child which of them it is.
const NUMBER: &str = "REMORA_TEST_VARIANT";

/// In a process of its own each: what the loader finds out about the kernel it finds out once.
#[test]
fn every_feature_can_be_missing() {
    if skipped() {
        return;
    }
    for (number, variant) in VARIANTS.iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "variants::child_without_a_feature", "--test-threads=1", "--nocapture"]);
        let output = child.env(NUMBER, number.to_string()).output().unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(output.status.success(), "{}: {}", variant.name, String::from_utf8_lossy(&said));
    }
}

/// Not a test: what the child process of the test above does.
#[test]
fn child_without_a_feature() {
    let Ok(number) = std::env::var(NUMBER) else {
        return;
    };
    let variant = &VARIANTS[number.parse::<usize>().unwrap()];
    let (pair, cgroup) = (VethPair::new().unwrap(), Cgroup::new("variant").unwrap());
    // Threads that are started from here on are bound by both, too.
    if let Some(folder) = variant.hidden {
        hide(folder);
    }
    if let Some((command, errno)) = variant.unknown {
        forget(command, errno);
    }
    let config = LiveConfig {
        without: variant.without,
        tc_hook: variant.hook,
        ring_bytes: variant.ring_bytes,
        ..on_client()
    };
    check_interface(&pair, &config, variant.interface);
    let cgroups = vec![cgroup.path().to_owned()];
    check_cgroup(&pair, &LiveConfig { interfaces: Vec::new(), cgroups, ..config }, variant.cgroup, &cgroup);
}

fn start(pair: &VethPair, config: &LiveConfig, expected: Expected) -> Option<Rig> {
    match (pair.client.run(|| Live::start(config)), expected) {
        (Err(error), Expected::NotPermitted) => assert!(error.is_not_permitted(), "{error}"),
        (Err(error), Expected::Fails) => assert!(matches!(error, LiveError::Kernel { .. }), "{error}"),
        (Ok((live, sources)), Expected::Tcx | Expected::Clsact | Expected::Cgroup) => {
            return Some(Rig::read(live, sources));
        }
        (result, expected) => panic!("{expected:?}, but {:?}", result.map(drop)),
    }
    None
}

fn check_interface(pair: &VethPair, config: &LiveConfig, expected: Expected) {
    let patient = LiveConfig { interfaces: vec![String::from("veth*")], ..config.clone() };
    let Some(rig) = start(pair, &patient, expected) else {
        return;
    };
    let word = if expected == Expected::Clsact { "clsact" } else { "tcx" };
    assert_eq!(rig.live.attachments(), [format!("veth0 ({word}, Ethernet)")]);
    assert!(rig.live.mode().contains(&format!("eBPF: {word} on interfaces")), "{}", rig.live.mode());
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
    let (local, sent) = exchange(&pair.client, address, 0, 20);
    server.join().unwrap();
    // One that comes later is found, told of or not.
    pair.client.ip("link add vethx type veth peer name other").unwrap();
    let since = Instant::now();
    while rig.live.attachments().len() < 2 {
        assert!(since.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    let outcome = rig.finish();
    outcome.assert_lossless();
    let all = directions(&outcome.seen);
    assert_eq!(all[&(local, address)].bytes(), (sent.clone(), 0));
    assert_eq!(all[&(address, local)].bytes(), (sent, 0));
    let filters = pair.client.command("tc", &["filter", "show", "dev", "veth0", "ingress"]).unwrap();
    assert_eq!(filters, "");
}

fn check_cgroup(pair: &VethPair, config: &LiveConfig, expected: Expected, cgroup: &Cgroup) {
    let Some(rig) = start(pair, config, expected) else {
        return;
    };
    let names: Vec<PathBuf> =
        rig.live.attachments().iter().map(|name| PathBuf::from(name.trim_start_matches("cgroup "))).collect();
    assert_eq!(names, [cgroup.path()]);
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
    super::cgroup::run_child(pair, cgroup, &address.to_string());
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    assert_eq!(directions(&outcome.seen).len(), 2, "one connection, both ways");
}

/// Empties a folder for the calling thread and those that it starts.
fn hide(folder: &str) {
    use nix::mount::{MsFlags, mount};
    testkit::disk::own_mounts().unwrap();
    if std::path::Path::new(folder).exists() {
        mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    }
}

/// From now on bpf(2) with this command fails for the calling thread and those that it starts.
fn forget(command: u32, errno: i32) {
    // linux/filter.h, linux/seccomp.h.
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // struct seccomp_data: number of the system call, architecture, instruction pointer, arguments. The lower half of
    // the first argument comes first, or last.
    let argument = if cfg!(target_endian = "little") { 16 } else { 20 };
    let is_command = if command == ALL { step(LOAD, 0, 0, 0) } else { step(JUMP_IF_EQUAL, 0, 1, command) };
    let program = [
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 3, libc::SYS_bpf as u32),
        step(LOAD, 0, 0, argument),
        is_command,
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the calls, which only read it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        let result = libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter);
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
    // SAFETY: a command without attributes, which does nothing but fail.
    let result = unsafe { libc::syscall(libc::SYS_bpf, if command == ALL { 0 } else { command }, 0, 0) };
    let error = std::io::Error::last_os_error();
    assert_eq!((result, error.raw_os_error()), (-1, Some(errno)));
}
