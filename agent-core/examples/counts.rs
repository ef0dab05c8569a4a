//! What `cargo xtask counts` counts: exchanges through the engine, packets made in memory, the same ones each time.
//!
//! `counts SHAPE EXCHANGES` prints how many packets and items there were; with a file's name they are written there as pcap
//! instead. Counted twice with different numbers of exchanges, the difference is what they cost, without the start of the
//! program.
#![expect(clippy::disallowed_macros, reason = "a program, not the core: its figures are its output")]
#![expect(clippy::disallowed_types, reason = "a program, not the core: it writes a file")]

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use agent_core::{Engine, EngineConfig, Event, LinkType, Origin, Packet, Timestamp};

/// Connections that take turns.
const CONNECTIONS: u64 = 16;
/// Most payload in a packet.
const SEGMENT: usize = 1448;

struct Wire {
    engine: Engine,
    frame: Vec<u8>,
    now: u64,
    packets: u64,
    items: u64,
    file: Option<BufWriter<File>>,
}

/// A connection's next numbers: the client's and the server's.
struct Connection {
    port: u16,
    next: [u32; 2],
}

impl Wire {
    fn packet(&mut self, connection: &mut Connection, from: usize, flags: u8, payload: &[u8]) {
        let server = [10, 0, 0, 2, 0x1f, 0x90];
        let client = [10, 0, 0, 1, (connection.port >> 8) as u8, connection.port as u8];
        let (source, target) = if from == 0 { (client, server) } else { (server, client) };
        let frame = &mut self.frame;
        frame.clear();
        frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0]);
        frame.extend(((52 + payload.len()) as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(&source[..4]);
        frame.extend(&target[..4]);
        frame.extend(&source[4..]);
        frame.extend(&target[4..]);
        frame.extend(connection.next[from].to_be_bytes());
        frame.extend(connection.next[1 - from].to_be_bytes());
        // With a time stamp option, as every Linux sends it.
        frame.extend([0x80, flags, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        frame.extend(payload);
        let length = payload.len() as u32 + u32::from(flags & 3 != 0);
        connection.next[from] = connection.next[from].wrapping_add(length);
        self.now += 20_000;
        self.packets += 1;
        if let Some(file) = &mut self.file {
            let length = self.frame.len() as u32;
            let record =
                [(self.now / 1_000_000_000) as u32, (self.now % 1_000_000_000) as u32, length, length];
            record.iter().for_each(|word| put(file, &word.to_le_bytes()));
            return put(file, &self.frame);
        }
        self.engine.handle_packet(&Packet {
            time: Timestamp(self.now),
            link: LinkType::ETHERNET,
            data: &self.frame,
            original_len: self.frame.len() as u32,
            origin: Origin::default(),
        });
        while let Some(event) = self.engine.poll_event() {
            self.items += u64::from(matches!(event, Event::Item(_)));
            black_box(event);
        }
    }

    fn open(&mut self, port: u16) -> Connection {
        let mut connection = Connection { port, next: [1000, 5000] };
        self.packet(&mut connection, 0, 2, b"");
        self.packet(&mut connection, 1, 0x12, b"");
        self.packet(&mut connection, 0, 0x10, b"");
        connection
    }

    fn exchange(&mut self, connection: &mut Connection, request: &[u8], response: &[u8]) {
        self.packet(connection, 0, 0x18, request);
        for segment in response.chunks(SEGMENT) {
            self.packet(connection, 1, 0x18, segment);
        }
    }

    fn close(&mut self, mut connection: Connection) {
        self.packet(&mut connection, 0, 0x11, b"");
        self.packet(&mut connection, 1, 0x11, b"");
        self.packet(&mut connection, 0, 0x10, b"");
    }
}

fn put(file: &mut BufWriter<File>, bytes: &[u8]) {
    if let Err(error) = file.write_all(bytes) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// A file of pcap with nanoseconds, for Ethernet.
fn capture(path: &str) -> BufWriter<File> {
    let file = File::create(path).unwrap_or_else(|error| {
        eprintln!("{path}: {error}");
        std::process::exit(1);
    });
    let mut file = BufWriter::new(file);
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 1 << 18, 1] {
        put(&mut file, &word.to_le_bytes());
    }
    file
}

/// A header that [`number`] makes another one.
const NUMBERED: &str = "X-Request-Id: 00000000\r\n";

/// Gives a message its number, where it has one.
fn number(message: &mut [u8], at: Option<usize>, n: u64) {
    let digits = |at: usize| at + NUMBERED.len() - 10..at + NUMBERED.len() - 2;
    let place = at.and_then(|at| message.get_mut(digits(at)));
    for (shift, digit) in place.into_iter().flatten().enumerate() {
        *digit = b'a' + (n >> (4 * shift) & 15) as u8;
    }
}

fn response(body: &[u8], more: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 19:33:55 GMT\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{more}Connection: keep-alive\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Some 20 KiB of rows, by gzip.
fn coded() -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::default());
    for n in 0..300u32 {
        // Memory takes all that is written.
        let _ = writeln!(
            to,
            "{{\"id\":{n},\"name\":\"item {n}\",\"price\":{},\"tags\":[\"a\",\"b\"]}}",
            n * 37 % 1000
        );
    }
    to.finish().unwrap_or_default()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(shape), Some(exchanges)) =
        (arguments.next(), arguments.next().and_then(|n| n.parse::<u64>().ok()))
    else {
        eprintln!("counts small|fresh|body20k|gzip|close EXCHANGES [FILE]");
        std::process::exit(2);
    };
    let config = EngineConfig { hash_seed: 1, ..EngineConfig::default() };
    let file = arguments.next().map(|path| capture(&path));
    let (engine, now) = (Engine::new(config), 1_700_000_000_000_000_000);
    let mut wire = Wire { engine, frame: Vec::new(), now, packets: 0, items: 0, file };
    // Of `fresh` no two messages have the same header fields.
    let more = match &*shape {
        "fresh" => NUMBERED,
        "gzip" => "Content-Encoding: gzip\r\n",
        _ => "",
    };
    let body = match &*shape {
        "body20k" => vec![b'a'; 20 << 10],
        "gzip" => coded(),
        _ => vec![b'a'; 114],
    };
    let numbered = if shape == "fresh" { NUMBERED } else { "" };
    let mut request = format!(
        "GET /orders/17?full=1 HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent: curl/8.5.0\r\n{numbered}Accept: */*\r\n\r\n"
    )
    .into_bytes();
    let mut response = response(&body, more);
    let place = |message: &[u8]| {
        message.windows(NUMBERED.len()).position(|part| shape == "fresh" && part == NUMBERED.as_bytes())
    };
    let places = [place(&request), place(&response)];
    if shape == "close" {
        for n in 0..exchanges {
            let mut connection = wire.open(1024 + (n % 60_000) as u16);
            wire.exchange(&mut connection, &request, &response);
            wire.close(connection);
        }
    } else {
        let mut connections: Vec<_> = (0..CONNECTIONS).map(|n| wire.open(40_000 + n as u16)).collect();
        for n in 0..exchanges {
            number(&mut request, places[0], n);
            number(&mut response, places[1], n);
            wire.exchange(&mut connections[(n % CONNECTIONS) as usize], &request, &response);
        }
    }
    println!("{} {}", wire.packets, wire.items);
}
