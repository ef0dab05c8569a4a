//! What a packet costs in the kernel: the programs run over and over by `BPF_PROG_TEST_RUN`, on one CPU and on all at once,
//! less what an empty program costs in the same run. `cargo xtask bench kernel` runs it and makes a table of the lines that it
//! prints.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Barrier;
use std::time::Duration;

use agent::capture::ebpf::{Live, LiveConfig, RingSource};
use agent::capture::{PacketSource as _, Progress};
use agent_core::StreamId;
use agent_core::engine::{Trim, TrimWindow};
use aya::programs::{ProgramFd, SchedClassifier, TcAttachType, loaded_programs};
use nix::sched::{CpuSet, sched_setaffinity};
use testkit::netns::{Cgroup, VethPair};

use super::frames::{WATCHED, ethernet, ipv4, tcp};
use super::rig::{on_client, skipped};

/// Runs of the program in one call: what fits into the smaller ring.
const BATCH: u32 = 1_000;
const BATCHES: usize = 300;
/// A ring that stays in the CPU's cache, and the default one, which does not.
const RINGS: [usize; 2] = [2 << 20, 32 << 20];
const CLIENT: &str = "10.77.0.1";
const SERVER: &str = "10.77.0.9";

/// `union bpf_attr` for `BPF_PROG_TEST_RUN`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    /// Nanoseconds per run.
    duration: u32,
    rest: [u64; 6],
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    rest: [u64; 12],
}

fn bpf<T>(command: i32, attr: &mut T) -> i64 {
    // SAFETY: bpf(2) with an attribute block of the size given; what it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    assert!(result >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    result
}

/// Nanoseconds for each of `repeat` runs.
fn run(program: &impl AsFd, frame: &[u8], repeat: u32) -> u32 {
    const BPF_PROG_TEST_RUN: i32 = 10;
    let mut attr = TestRun {
        program: program.as_fd().as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr);
    attr.duration
}

/// A program that does nothing: `r0 = 0; exit`.
fn empty() -> OwnedFd {
    const BPF_PROG_LOAD: i32 = 5;
    const SCHED_CLS: u32 = 3;
    let code: [u64; 2] = [0xb7, 0x95].map(u64::from_le);
    let mut attr = Load {
        kind: SCHED_CLS,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..Load::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &mut attr);
    // SAFETY: just made, owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

fn drain(source: &mut RingSource) -> u64 {
    let mut count = 0;
    while let Progress::Packets(n) = source.poll(usize::MAX, Duration::ZERO, &mut |_| {}).unwrap() {
        count += n as u64;
    }
    count
}

/// A frame of `len` bytes from `port`.
fn frame(port: u16, len: usize) -> Vec<u8> {
    ethernet(&[], 0x0800, &ipv4(6, 0, 0, &tcp(port, &vec![7; len - 54])))
}

/// Times of all batches in order: nanoseconds a run.
fn measure(program: &impl AsFd, frame: &[u8], mut after: impl FnMut()) -> Vec<u32> {
    let mut times: Vec<u32> = (0..BATCHES)
        .map(|_| {
            let time = run(program, frame, BATCH);
            after();
            time
        })
        .collect();
    times.sort_unstable();
    times
}

/// The least disturbed tenth, and the median.
fn figures(times: &[u32]) -> (u32, u32) {
    (times[times.len() / 10], times[times.len() / 2])
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).unwrap();
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).unwrap();
}

/// A capture, and the program that its packets run.
struct Subject {
    live: Live,
    sources: Vec<RingSource>,
    program: ProgramFd,
    instructions: u32,
    _pair: VethPair,
    _cgroup: Option<Cgroup>,
}

impl Subject {
    fn interface(config: &LiveConfig) -> Self {
        let pair = VethPair::new().unwrap();
        let (live, sources) = pair.client.run(|| Live::start(config)).unwrap();
        let query = || SchedClassifier::query_tcx(VethPair::CLIENT, TcAttachType::Ingress);
        let programs = pair.client.run(query).unwrap().1;
        let instructions = programs[0].verified_instruction_count().unwrap_or(0);
        Self { live, sources, program: programs[0].fd().unwrap(), instructions, _pair: pair, _cgroup: None }
    }

    fn cgroup(config: &LiveConfig) -> Self {
        let (pair, cgroup) = (VethPair::new().unwrap(), Cgroup::new("cost").unwrap());
        let config =
            LiveConfig { interfaces: Vec::new(), cgroups: vec![cgroup.path().to_owned()], ..config.clone() };
        let ids = || loaded_programs().filter_map(Result::ok).map(|p| p.id()).collect::<Vec<_>>();
        let before = ids();
        let (live, sources) = pair.client.run(|| Live::start(&config)).unwrap();
        let program = loaded_programs()
            .filter_map(Result::ok)
            .find(|p| p.name() == b"cgroup_ingress" && !before.contains(&p.id()))
            .unwrap();
        let instructions = program.verified_instruction_count().unwrap_or(0);
        Self {
            live,
            sources,
            program: program.fd().unwrap(),
            instructions,
            _pair: pair,
            _cgroup: Some(cgroup),
        }
    }

    /// A port for each ring, whose flow is that ring's.
    fn ports(&mut self) -> Vec<u16> {
        let program = &self.program;
        let mut ports = Vec::new();
        for index in 0..self.sources.len() {
            let port = (40_000..u16::MAX).find(|port| {
                self.sources.iter_mut().for_each(|source| _ = drain(source));
                run(program, &frame(*port, 64), 1);
                drain(&mut self.sources[index]) > 0
            });
            ports.push(port.unwrap_or(40_000));
        }
        self.sources.iter_mut().for_each(|source| _ = drain(source));
        ports
    }
}

/// One line for each figure. The harness' own cost is taken off.
fn tell(name: &str, ring: usize, len: usize, cpus: usize, of: (u32, u32), harness: u32, instructions: u32) {
    println!(
        "BENCH {{\"what\":\"{name}\",\"ring_mib\":{},\"bytes\":{len},\"cpus\":{cpus},\"ns\":{},\"median_ns\":{},\"harness_ns\":{harness},\"verified_instructions\":{instructions}}}",
        ring >> 20,
        of.0.saturating_sub(harness),
        of.1.saturating_sub(harness),
    );
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Captured,
    Filtered,
    HeadersOnly,
}

/// Runs `program` on a CPU for each of `ports` at once; gives the figures of the slowest, and its harness'.
fn on_cpus(
    subject: &mut Subject,
    empty: &OwnedFd,
    ports: &[u16],
    len: usize,
    then: Then,
) -> ((u32, u32), u32) {
    let barrier = Barrier::new(ports.len());
    let program = &subject.program;
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = subject
            .sources
            .iter_mut()
            .zip(ports)
            .enumerate()
            .map(|(core, (source, port))| {
                let barrier = &barrier;
                scope.spawn(move || {
                    pin(core);
                    let frame = frame(*port, len);
                    barrier.wait();
                    let harness = figures(&measure(empty, &frame, || ())).0;
                    barrier.wait();
                    let expected = if then == Then::Filtered { 0 } else { u64::from(BATCH) };
                    let times = measure(program, &frame, || assert_eq!(drain(source), expected));
                    (figures(&times), harness)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let least = |(figures, harness): &((u32, u32), u32)| figures.0.saturating_sub(*harness);
    let slowest = all.iter().max_by_key(|cpu| least(cpu));
    slowest.copied().unwrap_or_default()
}

/// Has the payload of everything that these ports send left out.
fn cut(subject: &mut Subject, ports: &[u16]) {
    let server = SocketAddr::new(SERVER.parse().unwrap(), WATCHED);
    for (source, port) in subject.sources.iter_mut().zip(ports) {
        let client = SocketAddr::new(CLIENT.parse().unwrap(), *port);
        for (from, to) in [(client, server), (server, client)] {
            let window = Some(TrimWindow { from: 0, len: 1 << 28 });
            source.trim(&Trim { stream: StreamId(1), from, to, window });
        }
    }
}

#[test]
#[ignore = "measures"]
fn cost_of_a_packet() {
    if skipped() {
        return;
    }
    let empty = empty();
    let cores = std::thread::available_parallelism().unwrap().get();
    for cpus in [1, cores] {
        let all =
            LiveConfig { workers: u16::try_from(cpus).unwrap(), ring_bytes: Some(RINGS[0]), ..on_client() };
        let nets = vec!["10.77.0.0/16".parse().unwrap()];
        let usual = LiveConfig { ports: vec![WATCHED], nets, ..all.clone() };
        let elsewhere = LiveConfig { ports: vec![1], ..all.clone() };
        let mut cases =
            vec![("no filter, no policy", LiveConfig { trim: false, ..all.clone() }, Then::Captured)];
        for ring in RINGS {
            let usual = LiveConfig { ring_bytes: Some(ring), ..usual.clone() };
            cases.push(("port, net, policy", usual.clone(), Then::Captured));
        }
        cases.push(("port, net, policy: headers only", usual.clone(), Then::HeadersOnly));
        cases.push(("filtered by port", elsewhere, Then::Filtered));
        cases.push(("cgroup: port, net, policy, other end", usual, Then::Captured));
        for (name, config, then) in cases {
            let mut subject = if name.starts_with("cgroup") {
                Subject::cgroup(&config)
            } else {
                Subject::interface(&config)
            };
            let ports = if then == Then::Filtered { vec![40_000; cpus] } else { subject.ports() };
            if then == Then::HeadersOnly {
                cut(&mut subject, &ports);
            }
            for len in [64, 1514] {
                let (of, harness) = on_cpus(&mut subject, &empty, &ports, len, then);
                let ring = config.ring_bytes.unwrap_or(0);
                tell(name, ring, len, cpus, of, harness, subject.instructions);
            }
            let cut = subject.live.balance().unwrap().total().headers_only.packets;
            assert_eq!(cut > 0, then == Then::HeadersOnly, "{name}");
        }
    }
}
