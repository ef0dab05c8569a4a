//! Writes the inputs that the fuzz targets begin with, into `corpus/TARGET/seed-*`, from the project's own fixtures and
//! from messages written by hand: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::io::Write;
use std::path::Path;
use std::{fs, io};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use remora_fuzz::wire::{ACK, FIN, Layers, SYN, Segment};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

fn main() -> io::Result<()> {
    for fixture in ["nginx", "shop"] {
        let path = format!("{}/../tests/fixtures/{fixture}/input.pcap", env!("CARGO_MANIFEST_DIR"));
        let file = fs::read(path)?;
        let frames = frames(&file);
        let few: Vec<_> = frames.iter().take(14).map(|f| (0, f.to_vec())).collect();
        write("packets", fixture, &packets(&few))?;
        write("pcap", fixture, &file[..file.len().min(3_000)])?;
        write("pcap", &format!("{fixture}-gzip"), &gzip(&file[..file.len().min(3_000)]))?;
    }
    for (name, frame) in headers() {
        write("decode", name, &[&[0, 0, 0], &frame[..]].concat())?;
        write("packets", name, &packets(&[(0, frame)]))?;
    }
    write("pcap", "ng", &pcapng())?;
    conversations()?;
    bodies()?;
    write("assembler", "order", &[4, 1, 0, 0, 0, 8, 0, 0, 9, 8, 20, 0, 9, 8, 10, 0, 9, 0, 30, 0, 5, 30, 0])?;
    write(
        "assembler",
        "loss",
        &[1, 1, 0, 0, 0, 8, 9, 0, 9, 1, 80, 0, 7, 0, 2, 0, 0, 9, 0, 6, 50, 0, 4, 0, 3],
    )?;
    // Eight exchanges, then nothing that happens to the packets; the same with what can happen.
    for flags in [0x00, 0x01, 0x03, 0x20, 0x21, 0x24, 0x39] {
        let script: Vec<u8> = (0..8u8).flat_map(|i| [i.wrapping_mul(37), i, 40, 0, 90, i]).collect();
        let luck: Vec<u8> = (0..120u8).map(|i| i.wrapping_mul(83) >> 1).collect();
        let one = [&[0x1c, 9, 9, 9, 9, 7, 7, 7, 7], &script[..]].concat();
        let two = if flags & 4 != 0 { one.clone() } else { Vec::new() };
        let input = [&[flags], &one[..], &two, &[30], &luck].concat();
        write("engine", &format!("{flags:02x}"), &input)?;
    }
    Ok(())
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed-{name}")), bytes)
}

/// Frames of a classic pcap in this machine's usual byte order.
fn frames(file: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = file.get(24..).unwrap_or_default();
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(frame) = rest.get(16..16 + length) else { break };
        frames.push(frame);
        rest = &rest[16 + length..];
    }
    frames
}

/// As the target `packets` reads them: link type by its place in the list there.
fn packets(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let records = frames
        .iter()
        .map(|(link, frame)| [&[*link, 0][..], &(frame.len() as u16).to_le_bytes(), frame].concat());
    records.flatten().collect()
}

/// One packet for each kind of header.
fn headers() -> Vec<(&'static str, Vec<u8>)> {
    let segment = Segment {
        connection: 0,
        from_client: true,
        seq: 1,
        ack: 1,
        flags: SYN | ACK | FIN,
        payload: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    };
    let tagged = |v6| Layers { v6, ethernet: true }.packet(&segment);
    let (v4, v6) = (tagged(false), tagged(true));
    // Ethernet and the tag are 18 bytes.
    let ip = &v4[18..];
    let frame = |kind: [u8; 2], rest: &[u8]| [&v4[..12], &kind, rest].concat();
    let over = |protocol: u8, rest: &[u8]| {
        let mut header = ip[..20].to_vec();
        header[9] = protocol;
        header[2..4].copy_from_slice(&(20 + rest.len() as u16).to_be_bytes());
        frame([8, 0], &[&header, rest].concat())
    };
    let udp = |port: u16, rest: &[u8]| {
        let length = 8 + rest.len() as u16;
        let header = [&[200, 0], &port.to_be_bytes()[..], &length.to_be_bytes(), &[0, 0]].concat();
        over(17, &[&header, rest].concat())
    };
    let inner = frame([8, 0], ip);
    let extended = {
        let mut packet = v6.clone();
        packet[18 + 6] = 0;
        packet[18 + 5] += 16;
        packet.splice(18 + 40..18 + 40, [60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]);
        packet
    };
    let fragments = Layers { v6: false, ethernet: true }.fragments(&segment, 24, 7);
    vec![
        ("qinq", frame([0x88, 0xa8], &[&[0, 1, 0x81, 0, 0, 2, 8, 0], ip].concat())),
        ("v6-extended", extended),
        ("v6", v6),
        ("fragment", fragments[0].clone()),
        ("fragment-last", fragments[fragments.len() - 1].clone()),
        ("ip-in-ip", over(4, ip)),
        ("vxlan", udp(4_789, &[&[8, 0, 0, 0, 0, 0, 5, 0], &inner[..]].concat())),
        ("geneve", udp(6_081, &[&[0, 0, 0x65, 0x58, 0, 0, 5, 0], &inner[..]].concat())),
        ("gre", over(47, &[&[0x20, 0, 8, 0, 0, 0, 0, 1], ip].concat())),
        (
            "erspan",
            over(47, &[&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0, 1, 0, 0, 0, 0], &inner[..]].concat()),
        ),
        ("pppoe", frame([0x88, 0x64], &[&[0x11, 0, 0, 1, 0, 60, 0, 0x21], ip].concat())),
        ("mpls", frame([0x88, 0x47], &[&[0, 1, 1, 64], ip].concat())),
        ("tagged", v4.clone()),
    ]
}

/// A section, an interface, an enhanced, a simple and an unknown block, big-endian.
fn pcapng() -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len() as u32).to_be_bytes();
        [&kind.to_be_bytes()[..], &length, body, &length].concat()
    };
    let section = [&0x1a2b_3c4d_u32.to_be_bytes()[..], &[0, 1, 0, 0], &[0xff; 8]].concat();
    let interface = [&[0, 1, 0, 0, 0, 0, 1, 0][..], &[0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0]].concat();
    let enhanced = [&[0; 4][..], &[0; 4], &[0, 0, 0, 9], &[0, 0, 0, 4], &[0, 0, 0, 60], b"data"].concat();
    [
        block(0x0a0d_0d0a, &section),
        block(1, &interface),
        block(6, &enhanced),
        block(3, b"\0\0\0\x04data"),
        block(5, &[0; 8]),
    ]
    .concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// Client's and server's bytes in turn, as the target `http1` reads them.
fn conversations() -> io::Result<()> {
    let all: [(&str, &[&str]); 9] = [
        ("plain", &["GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"]),
        (
            "chunked",
            &[
                "POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
                "HTTP/1.1 100 Continue\r\n\r\n",
                "5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
            ],
        ),
        (
            "pipelined",
            &[
                "HEAD /3 HTTP/1.1\nX: y\n z\n\nGET /4 HTTP/1.0\r\n\r\nDELETE /5 HTTP/1.1\r\nBad : 1\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.0 404 \r\nContent-Length: 7\r\n\r\nHTTP/1.",
            ],
        ),
        (
            "connect",
            &["CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "HTTP/1.1 200 \r\n\r\n", "\x16\x03\x01"],
        ),
        (
            "upgrade",
            &[
                "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
                "\x02frame",
            ],
        ),
        (
            "until-close",
            &["GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nto the end\r\nHTTP/1.1 200 OK\r\n\r\n"],
        ),
        (
            "smuggling",
            &[
                "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nzz\r\n",
            ],
        ),
        (
            "junk",
            &[
                "junk that is no request\r\n\r\nGET /6 HTTP/1.1\r\nHost: b\r\n\r\n",
                "\r\nHTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno",
            ],
        ),
        (
            "coded",
            &[
                "GET / HTTP/1.1\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 9\r\n\r\n\x0b\x02\x01hello\x03",
            ],
        ),
    ];
    for (name, turns) in all {
        for (flags, suffix) in [(0, ""), (6, "-tiny"), (1, "-joined")] {
            let mut input = vec![flags];
            for (i, turn) in turns.iter().enumerate() {
                for piece in turn.as_bytes().chunks(200) {
                    input.extend([i as u8 & 1, piece.len() as u8]);
                    input.extend(piece);
                }
                if flags == 1 {
                    input.extend([0xe0 | (i as u8 & 1), 9]);
                }
            }
            input.extend([0xf0, 0, 0xf1, 0]);
            write("http1", &format!("{name}{suffix}"), &input)?;
        }
    }
    Ok(())
}

/// As the target `body` reads them: flags, codings, cap, bytes.
fn bodies() -> io::Result<()> {
    let text = "Remora reads what was said. ".repeat(20).into_bytes();
    let deflated = DeflateEncoder::new(Vec::new(), Compression::best());
    let zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    let raw = finish(deflated, &text, DeflateEncoder::finish)?;
    let zlib = finish(zlib, &text, ZlibEncoder::finish)?;
    let zstd = compress_to_vec(&text[..], CompressionLevel::Fastest);
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2], &zstd[..]].concat();
    let stacked = gzip(&zstd);
    let one: [(&str, u8, &[u8]); 8] = [
        ("gzip", 0, &gzip(&text)),
        ("gzip-twice", 0, &[gzip(&text), gzip(&text)].concat()),
        ("raw", 1, &raw),
        ("zlib", 1, &zlib),
        ("br", 2, b"\x0b\x02\x80hello\x03"),
        ("br-repeated", 2, b"\x1b\x3f\x00\x00\x24\x0a\xb2\x0a\x1a\x20\x05"),
        ("zstd", 3, &zstd),
        ("zstd-skipped", 3, &skipped),
    ];
    for (name, coding, bytes) in one {
        for (flags, suffix) in [(1, ""), (1 | 16, "-cut")] {
            let input = [&[flags, coding, 0, 0, 2], bytes].concat();
            write("body", &format!("{name}{suffix}"), &input)?;
        }
    }
    write("body", "stacked", &[&[2, 3, 0, 0, 9], &stacked[..]].concat())?;
    write("body", "coded-here", &[&[2 | 8, 3, 0, 200, 0], &text[..100]].concat())
}

fn finish<W: Write>(
    mut w: W,
    bytes: &[u8],
    end: impl FnOnce(W) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    w.write_all(bytes)?;
    end(w)
}
