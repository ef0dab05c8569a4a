//! What an engine costs in memory, as the operating system sees it: many idle streams, streams that come and go, and one body of
//! gigabytes.
//!
//! ```text
//! cargo run --release -p agent-core --example memory -- idle [STREAMS] [EXCHANGES]
//! cargo run --release -p agent-core --example memory -- rate [STREAMS_A_SECOND] [SECONDS]
//! cargo run --release -p agent-core --example memory -- body [GIB] [length|chunked]
//! ```
//!
//! Packets are made as they are needed and in whole (no snap length); what the process itself holds is measured before
//! the first one. The budgets are in ARCHITECTURE.md: 512 bytes a stream, 64 MiB for 100,000, and for a body no more than
//! [`Limits::body`](agent_core::Limits::body) and what is passing. The exit code is 1 where one of them is not kept. The last
//! line has the figures for `cargo xtask bench memory`, in bytes.
#![expect(clippy::disallowed_macros, reason = "a program, not the core: its figures are its output")]
#![expect(clippy::disallowed_types, reason = "a program, not the core: it measures time")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent_core::{Engine, EngineConfig, Event, LinkType, Origin, Packet, Record, Timestamp};

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;
const REQUEST: &[u8] = b"GET /orders/17?full=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: idle/1\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"up\"}";

/// One engine under measurement.
struct Bench {
    engine: Engine,
    now: Timestamp,
    packet: Vec<u8>,
    items: u64,
    errors: u64,
    /// Of the last response with a body.
    body: u64,
}

/// A TCP segment's header: who sends it, of which stream, and its numbers.
struct Segment {
    stream: u32,
    from_client: bool,
    seq: u32,
    ack: u32,
    flags: u8,
}

impl Bench {
    fn new() -> Self {
        let engine = Engine::new(EngineConfig::default());
        let now = Timestamp::new(1_700_000_000, 0);
        Self { engine, now, packet: Vec::with_capacity(70_000), items: 0, errors: 0, body: 0 }
    }

    /// Sends a segment of `payload` in a raw IPv4 packet.
    fn send(&mut self, s: &Segment, payload: &[u8]) {
        let client = [10, 1, (s.stream >> 8) as u8, s.stream as u8];
        let server = [10, 2, 0, 1];
        let (client_port, server_port) = (10_000 + (s.stream >> 16) as u16, 80u16);
        let (src, dst, sport, dport) = if s.from_client {
            (client, server, client_port, server_port)
        } else {
            (server, client, server_port, client_port)
        };
        let p = &mut self.packet;
        p.clear();
        p.extend([0x45, 0]);
        p.extend(((40 + payload.len()) as u16).to_be_bytes());
        p.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        p.extend(src);
        p.extend(dst);
        p.extend(sport.to_be_bytes());
        p.extend(dport.to_be_bytes());
        p.extend(s.seq.to_be_bytes());
        p.extend(s.ack.to_be_bytes());
        p.extend([5 << 4, s.flags, 0xff, 0xff, 0, 0, 0, 0]);
        p.extend(payload);
        self.now = self.now.after(Duration::from_micros(1));
        self.engine.handle_packet(&Packet {
            time: self.now,
            link: LinkType::RAW,
            data: &self.packet,
            original_len: self.packet.len() as u32,
            origin: Origin::default(),
        });
        self.draw();
    }

    fn draw(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            let Event::Item(item) = event else { continue };
            self.items += 1;
            self.errors += u64::from(item.error.is_some());
            if let Record::Http(http) = &item.record
                && let Some(response) = &http.response
            {
                self.body = response.message.body.size;
            }
        }
    }

    fn open(&mut self, stream: u32) {
        self.send(&Segment { stream, from_client: true, seq: 0, ack: 0, flags: SYN }, b"");
        self.send(&Segment { stream, from_client: false, seq: 0, ack: 1, flags: SYN | ACK }, b"");
        self.send(&Segment { stream, from_client: true, seq: 1, ack: 1, flags: ACK }, b"");
    }

    /// Closes after one exchange, from the server.
    fn close(&mut self, stream: u32) {
        let (c, s) = (1 + REQUEST.len() as u32, 1 + RESPONSE.len() as u32);
        self.send(&Segment { stream, from_client: false, seq: s, ack: c, flags: FIN | ACK }, b"");
        self.send(&Segment { stream, from_client: true, seq: c, ack: s + 1, flags: FIN | ACK }, b"");
        self.send(&Segment { stream, from_client: false, seq: s + 1, ack: c + 1, flags: ACK }, b"");
    }

    /// The exchange with number `n`, from 0, and the acknowledgement of its response.
    fn exchange(&mut self, stream: u32, n: u32) {
        let (c, s) = (1 + n * REQUEST.len() as u32, 1 + n * RESPONSE.len() as u32);
        let (c_end, s_end) = (c + REQUEST.len() as u32, s + RESPONSE.len() as u32);
        self.send(&Segment { stream, from_client: true, seq: c, ack: s, flags: ACK }, REQUEST);
        self.send(&Segment { stream, from_client: false, seq: s, ack: c_end, flags: ACK }, RESPONSE);
        self.send(&Segment { stream, from_client: true, seq: c_end, ack: s_end, flags: ACK }, b"");
    }
}

/// Resident memory of this process, in bytes. Linux.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn idle(streams: u32, exchanges: u32) -> Option<bool> {
    let mut b = Bench::new();
    let before = resident()?;
    for stream in 0..streams {
        b.open(stream);
    }
    let start = Instant::now();
    for n in 0..exchanges {
        for stream in 0..streams {
            b.exchange(stream, n);
        }
    }
    let took = start.elapsed();
    let after = resident()?;
    let (table, readers) = (b.engine.memory() as u64, b.engine.stats().dissect);
    let each = (table + readers) / u64::from(streams.max(1));
    println!(
        "{streams} idle streams after {} exchanges each: {} active, {} items, {} with an error",
        exchanges,
        b.engine.stats().active_streams,
        b.items,
        b.errors
    );
    println!("counted: {each} bytes a stream ({:.1} MiB table, {:.1} MiB readers)", mib(table), mib(readers));
    let grown = after.saturating_sub(before);
    println!(
        "resident: {:.1} MiB more than before, {} bytes a stream; {:.0} ns an exchange",
        mib(grown),
        grown / u64::from(streams.max(1)),
        took.as_nanos() as f64 / f64::from(streams) / f64::from(exchanges.max(1)),
    );
    println!("figures: resident={grown} counted={}", table + readers);
    let whole = b.items == u64::from(streams) * u64::from(exchanges) && b.errors == 0;
    Some(whole && each <= 512 && grown <= u64::from(streams) * 671 + (1 << 20))
}

/// Streams with an exchange each, so many a second of the packets' time. What is held of them is due to those that have closed and
/// are kept for stray packets ([`Limits::linger`](agent_core::Limits::linger)): it does not grow with the time.
fn rate(per_second: u32, seconds: u32) -> Option<bool> {
    let mut b = Bench::new();
    let linger = EngineConfig::default().limits.linger;
    let (before, begin, start) = (resident()?, b.now, Instant::now());
    let (mut most, mut counted, mut active) = (0, 0, 0);
    for stream in 0..per_second.saturating_mul(seconds) {
        let since = Duration::from_nanos(1_000_000_000 / u64::from(per_second.max(1)) * u64::from(stream));
        b.now = b.now.max(begin.after(since));
        b.open(stream);
        b.exchange(stream, 0);
        b.close(stream);
        if stream.is_multiple_of(1_000) {
            most = most.max(resident()?);
            counted = counted.max(b.engine.memory() as u64 + b.engine.stats().dissect);
            active = active.max(b.engine.stats().active_streams);
        }
    }
    let (took, grown) = (start.elapsed(), most.saturating_sub(before));
    let streams = u64::from(per_second) * u64::from(seconds);
    println!("{per_second} streams a second for {seconds} s: {active} held at most, {} items", b.items);
    println!(
        "counted: {:.1} MiB at most; resident: {:.1} MiB more than before at most; {:.0} ns a stream",
        mib(counted),
        mib(grown),
        took.as_nanos() as f64 / streams.max(1) as f64
    );
    println!("figures: resident={grown} counted={counted}");
    let held = u64::from(per_second) * (linger.as_secs() + 1);
    Some(b.items == streams && b.errors == 0 && active <= held && grown <= held * 671 + (1 << 20))
}

fn body(gib: u64, chunked: bool) -> Option<bool> {
    const DATA: usize = 64_000;
    let mut b = Bench::new();
    b.open(0);
    let packets = (gib << 30) / DATA as u64;
    let length = packets * DATA as u64;
    let head = if chunked {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut payload = vec![b'x'; DATA];
    if chunked {
        payload.splice(0..0, format!("{DATA:x}\r\n").into_bytes());
        payload.extend(b"\r\n");
    }
    let before = resident()?;
    let start = Instant::now();
    b.send(&Segment { stream: 0, from_client: true, seq: 1, ack: 1, flags: ACK }, REQUEST);
    let mut s = Segment { stream: 0, from_client: false, seq: 1, ack: 1 + REQUEST.len() as u32, flags: ACK };
    b.send(&s, head.as_bytes());
    s.seq += head.len() as u32;
    let mut peak = 0;
    for n in 0..packets {
        b.send(&s, &payload);
        s.seq = s.seq.wrapping_add(payload.len() as u32);
        if n % 1_000 == 0 {
            peak = peak.max(resident()?);
        }
    }
    if chunked {
        b.send(&s, b"0\r\n\r\n");
    }
    let took = start.elapsed();
    let stats = b.engine.stats();
    println!(
        "a body of {length} bytes in {packets} packets: {} item, size {}, {} with an error, {} gaps",
        b.items, b.body, b.errors, stats.gaps
    );
    let grown = peak.saturating_sub(before);
    println!(
        "counted: {:.1} MiB at most; resident: {:.1} MiB more than before at most; {:.2} GiB/s",
        mib(stats.dissect_peak + stats.held_peak),
        mib(grown),
        length as f64 / f64::from(1 << 30) / took.as_secs_f64(),
    );
    println!("figures: resident={grown} counted={}", stats.dissect_peak + stats.held_peak);
    Some(b.items == 1 && b.errors == 0 && b.body == length && stats.gaps == 0 && grown <= 8 << 20)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u32| match args.get(at) {
        Some(text) => text.parse().ok(),
        None => Some(default),
    };
    let chunked = match args.get(2).map(String::as_str) {
        Some("chunked") => Some(true),
        Some("length") | None => Some(false),
        Some(_) => None,
    };
    let kept = match (args.first().map(String::as_str), number(1, 100_000), number(2, 1)) {
        (Some("idle"), Some(streams), Some(exchanges)) => idle(streams, exchanges),
        (Some("rate"), Some(per_second), _) if let Some(seconds) = number(2, 20) => rate(per_second, seconds),
        (Some("body"), _, _) if let (Some(gib), Some(chunked)) = (number(1, 10), chunked) => {
            body(gib.into(), chunked)
        }
        _ => {
            eprintln!(
                "idle [STREAMS] [EXCHANGES] | rate [STREAMS_A_SECOND] [SECONDS] | body [GIB] [length|chunked]"
            );
            return ExitCode::from(2);
        }
    };
    match kept {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("/proc/self/status cannot be read");
            ExitCode::FAILURE
        }
    }
}
