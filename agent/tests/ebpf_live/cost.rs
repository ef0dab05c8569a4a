//! What a packet costs in the kernel: the programs run over and over by `BPF_PROG_TEST_RUN`, which adds some 20 ns of
//! its own. Measured on demand: `cargo test --release -p agent --test ebpf_live -- --ignored --nocapture cost`.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use agent::capture::PacketSource as _;
use agent::capture::ebpf::{Live, LiveConfig, RingSource};
use aya::programs::{ProgramFd, SchedClassifier, TcAttachType};
use testkit::netns::VethPair;

use super::frames::{WATCHED, ethernet, ipv4, tcp};
use super::rig::{on_client, skipped};

/// Runs of the program in one call: what fits into the smaller ring.
const BATCH: u32 = 1_000;
const BATCHES: u32 = 400;
/// A ring that stays in the CPU's cache, and the default one, which does not.
const RINGS: [usize; 2] = [2 << 20, 32 << 20];

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

fn run(program: &ProgramFd, frame: &[u8], repeat: u32) -> u32 {
    const BPF_PROG_TEST_RUN: i32 = 10;
    let mut attr = TestRun {
        program: program.as_fd().as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    };
    // SAFETY: bpf(2) with an attribute block of the size given; block and frame outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<TestRun>()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    attr.duration
}

fn drain(source: &mut RingSource) -> u64 {
    let mut count = 0;
    while let agent::capture::Progress::Packets(n) =
        source.poll(usize::MAX, Duration::ZERO, &mut |_| {}).unwrap()
    {
        count += n as u64;
    }
    count
}

/// A frame of `len` bytes from `port`.
fn frame(port: u16, len: usize) -> Vec<u8> {
    ethernet(&[], 0x0800, &ipv4(6, 0, 0, &tcp(port, &vec![7; len - 54])))
}

/// Nanoseconds a run, of the least disturbed tenth of batches.
fn measure(program: &ProgramFd, frame: &[u8], source: &mut RingSource, captured: bool) -> u32 {
    let mut times: Vec<u32> = (0..BATCHES)
        .map(|_| {
            let time = run(program, frame, BATCH);
            assert_eq!(drain(source), if captured { u64::from(BATCH) } else { 0 });
            time
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 10]
}

fn start(pair: &VethPair, config: &LiveConfig) -> (Live, Vec<RingSource>, ProgramFd) {
    let (live, sources) = pair.client.run(|| Live::start(config)).unwrap();
    let programs =
        pair.client.run(|| SchedClassifier::query_tcx(VethPair::CLIENT, TcAttachType::Ingress)).unwrap().1;
    eprintln!("verified instructions: {:?}", programs[0].verified_instruction_count());
    (live, sources, programs[0].fd().unwrap())
}

#[test]
#[ignore = "measures"]
fn cost_of_a_packet() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    for ring in RINGS {
        let all = LiveConfig { workers: 1, ring_bytes: Some(ring), ..on_client() };
        let nets = vec!["10.77.0.0/16".parse().unwrap(), "192.168.0.0/16".parse().unwrap()];
        let filtered = LiveConfig { ports: vec![WATCHED], nets, ..all.clone() };
        let elsewhere = LiveConfig { ports: vec![1], ..all.clone() };
        let cases =
            [("no filter", all, true), ("port and net", filtered, true), ("other port", elsewhere, false)];
        for (name, config, captured) in cases {
            let started = Instant::now();
            let (_live, mut sources, program) = start(&pair, &config);
            let started = started.elapsed();
            for len in [64, 1514] {
                let time = measure(&program, &frame(40_000, len), &mut sources[0], captured);
                eprintln!(
                    "ring of {:>2} MiB, {name:>12}, {len:>4} bytes: {time:>3} ns (start {started:?})",
                    ring >> 20
                );
            }
        }
    }
}

/// All CPUs at once, each with a flow whose ring is its own.
#[test]
#[ignore = "measures"]
fn cost_of_a_packet_on_all_cpus() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let workers = u16::try_from(cpus).unwrap();
    let config = LiveConfig { workers, ring_bytes: Some(RINGS[0]), ports: vec![WATCHED], ..on_client() };
    let (_live, mut sources, program) = start(&pair, &config);
    let ports: Vec<u16> = sources
        .iter_mut()
        .map(|source| {
            // What the search for another ring left here.
            drain(source);
            let mut ports = 40_000..u16::MAX;
            ports.find(|port| (run(&program, &frame(*port, 64), 1), drain(source) > 0).1).unwrap()
        })
        .collect();
    sources.iter_mut().for_each(|source| _ = drain(source));
    for len in [64, 1514] {
        let times: Vec<u32> = std::thread::scope(|scope| {
            let threads: Vec<_> = sources
                .iter_mut()
                .zip(&ports)
                .map(|(source, port)| scope.spawn(|| measure(&program, &frame(*port, len), source, true)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        eprintln!("{cpus} CPUs, {len:>5} bytes: {times:?} ns");
    }
}
