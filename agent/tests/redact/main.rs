//! The redacted copy of a stream's PCAP: the same items but for the hidden values, and none of those in any byte of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

// Keeps what is logged, to be searched for secrets.
use testkit as _;

mod segments;

use std::path::Path;

use agent::pcap::{PcapStore as _, SegmentStore};
use agent::view::Redaction;
use agent_core::item::{HeaderBlock, Message};
use agent_core::{Engine, EngineConfig, Event, Item, LinkType, Origin, Packet, Record, Timestamp};
use pcap_file::pcap::PcapReader;
use proptest::prelude::*;

use segments::{CLIENT, Segment, TCP, checksum, conversation, dressed, forged};

fn packet(at: usize, data: &[u8]) -> Packet<'_> {
    let time = Timestamp(1_800_000_000_000_000_000 + at as u64 * 1000);
    Packet {
        time,
        link: LinkType::ETHERNET,
        data,
        original_len: data.len() as u32,
        origin: Origin::default(),
    }
}

/// Stores these frames, and gives the frames of the raw and of the redacted copy of their only stream.
fn copies(frames: &[Vec<u8>], redaction: &Redaction) -> (Vec<Vec<u8>>, Vec<Vec<u8>>, Vec<u8>) {
    let (store, mut appenders) = SegmentStore::temporary(1, |_| ()).unwrap();
    let (first, step) = store.stream_ids(0).unwrap();
    let config = EngineConfig { first_stream: first.0, stream_step: step, ..EngineConfig::default() };
    let mut engine = Engine::new(config);
    for (at, frame) in frames.iter().enumerate() {
        let packet = packet(at, frame);
        let handled = engine.handle_packet(&packet);
        appenders[0].append(handled.stream, &packet);
    }
    appenders[0].commit();
    let raw = store.file(first).unwrap();
    let redacted = store.redacted(first, &|name| redaction.hides(name)).unwrap();
    assert_ne!(raw.path, redacted.path);
    assert_eq!((raw.size, raw.packets), (redacted.size, redacted.packets));
    let again = store.redacted(first, &|name| redaction.hides(name)).unwrap();
    assert_eq!(again, redacted, "made once");
    (read(&raw.path), read(&redacted.path), std::fs::read(&redacted.path).unwrap())
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

fn items(frames: &[Vec<u8>]) -> Vec<Item> {
    let mut engine = Engine::new(EngineConfig::default());
    for (at, frame) in frames.iter().enumerate() {
        engine.handle_packet(&packet(at, frame));
    }
    engine.finish();
    let item = |event| if let Event::Item(item) = event { Some(*item) } else { None };
    std::iter::from_fn(|| engine.poll_event()).filter_map(item).collect()
}

/// All that an item tells, but for hidden values.
fn told(item: &Item, redaction: &Redaction) -> String {
    let Record::Http(exchange) = &item.record else { panic!() };
    let block = |block: &HeaderBlock| {
        let shown = |(name, value): (&[u8], &[u8])| {
            let value = if redaction.hides(name) {
                format!("{} bytes", value.len())
            } else {
                value.escape_ascii().to_string()
            };
            format!("{}={value}", name.escape_ascii())
        };
        block.iter().map(shown).collect::<Vec<_>>()
    };
    let message = |m: &Message| {
        let content = m.body.content();
        let body = (m.body.size, m.body.missing, content.bytes.escape_ascii().to_string(), content.truncated);
        let trailers = m.trailers.as_deref().map(block);
        format!("{:?} {:?} {body:?} {} {}", block(&m.head), trailers, m.head_size, m.complete)
    };
    let request =
        exchange.request.as_ref().map(|r| (r.method().to_vec(), r.target().to_vec(), message(&r.message)));
    let response = exchange.response.as_ref().map(|r| (r.status, r.reason().to_vec(), message(&r.message)));
    let interim: Vec<_> = exchange.interim.iter().map(|r| (r.status, message(&r.message))).collect();
    let anomalies: Vec<_> = item.anomalies().collect();
    format!("{request:?} {response:?} {interim:?} {:?} {anomalies:?} {}", item.error, item.gaps)
}

fn hidden(n: usize) -> String {
    format!("s3cr3t{n}Value{}", n * 31)
}

/// Requests and responses with the secrets in every place where headers can be.
fn says(kinds: &[u8]) -> (Vec<u8>, Vec<u8>, usize) {
    let (mut client, mut server, mut secrets) = (String::new(), String::new(), 0);
    let mut secret = || {
        secrets += 1;
        hidden(secrets)
    };
    for (n, kind) in kinds.iter().enumerate() {
        client += &match kind % 4 {
            0 => format!(
                "GET /{n} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nCookie: a={}; b={}\r\n\r\n",
                secret(),
                secret(),
                secret()
            ),
            1 => format!(
                "POST /{n} HTTP/1.1\r\nHost: h\r\ncOOKIE : {}\r\n\t{}\r\nContent-Length: 17\r\n\r\nCookie: innocent1",
                secret(),
                secret()
            ),
            2 => format!(
                "PUT /{n} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-Api-Key:{}\r\n\r\n9;x=y\r\nCookie: v\r\n0\r\nX-Sum: 1\r\nX-Session: {}\r\n\r\n",
                secret(),
                secret()
            ),
            _ => format!("HEAD /{n} HTTP/1.1\nHost: h\nx-session: {}\n\n", secret()),
        };
        let head = kind % 4 == 3;
        server += &match (kind / 4) % 3 {
            0 => format!("HTTP/1.1 103 Early\r\nSet-Cookie: {}\r\n\r\n", secret()),
            _ => String::new(),
        };
        server += &format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: sid={}; Path=/\r\nSet-Cookie: t={}\r\nContent-Length: 12\r\n\r\n",
            secret(),
            secret()
        );
        if !head {
            server += "Set-Cookie: \n";
            server.truncate(server.len() - 1);
        }
    }
    (client.into_bytes(), server.into_bytes(), secrets)
}

fn redaction() -> Redaction {
    Redaction::with(&["X-Session".to_owned()])
}

#[track_caller]
fn check(frames: &[Vec<u8>], secrets: usize) {
    let (raw, redacted, bytes) = copies(frames, &redaction());
    assert_eq!(raw, frames);
    for n in 1..=secrets {
        let secret = hidden(n);
        let value = secret.as_bytes();
        assert!(!bytes.windows(value.len()).any(|w| w == value), "{secret} is in the copy");
        // Nor any larger part of it.
        for part in [&value[..7], &value[6..13]] {
            assert!(
                !redacted.iter().any(|f| f.windows(7).any(|w| w == part)),
                "{} of {secret}",
                part.escape_ascii()
            );
        }
    }
    for (one, other) in raw.iter().zip(&redacted) {
        assert_eq!(one.len(), other.len());
        assert_eq!(one[..TCP + 16], other[..TCP + 16]);
        assert_eq!(checksum(other), 0, "a checksum that was right stays right");
    }
    let tell =
        |frames: &[Vec<u8>]| items(frames).iter().map(|item| told(item, &redaction())).collect::<Vec<_>>();
    assert_eq!(tell(&raw), tell(&redacted));
}

/// As many as `PROPTEST_CASES` says.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(96)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_copy_gives_the_same_items_and_hides_every_value(
        kinds in prop::collection::vec(0u8..12, 1..6),
        cuts in prop::collection::vec(1usize..200, 1..12),
        swaps in prop::collection::vec(0usize..200, 0..12),
        again in prop::collection::vec((0usize..200, 0usize..40), 0..8),
        lost in prop::option::of(3usize..60),
    ) {
        let (client, server, secrets) = says(&kinds);
        let mut segments = conversation([&client, &server], &cuts, &swaps, &again);
        if let Some(lost) = lost {
            segments.remove(lost % segments.len());
        }
        let frames: Vec<_> = segments.iter().map(Segment::frame).collect();
        check(&frames, secrets);
    }
}

/// Found by the property: a hole in a head whose rest comes, in other segments, once it is given up.
#[test]
fn of_saved_cases_any_segment_may_be_lost() {
    type Case = (&'static [u8], &'static [usize], &'static [usize], &'static [(usize, usize)]);
    const CASES: [Case; 4] = [
        (&[2, 9, 6], &[1], &[], &[]),
        (&[6, 0, 10, 6], &[51], &[3], &[(3, 7), (145, 0)]),
        (&[1], &[29, 1, 1, 77, 65], &[], &[(13, 0), (86, 0), (53, 13), (31, 0), (6, 2), (135, 15)]),
        (&[4, 4, 0, 0, 0], &[14, 166, 3, 185, 54, 90, 119, 136], &[161, 66], &[(92, 0), (17, 27)]),
    ];
    for (kinds, cuts, swaps, again) in CASES {
        let (client, server, secrets) = says(kinds);
        let all = conversation([&client, &server], cuts, swaps, again);
        for lost in 0..all.len() {
            let mut segments = all.clone();
            segments.remove(lost);
            let frames: Vec<_> = segments.iter().map(Segment::frame).collect();
            check(&frames, secrets);
        }
    }
}

/// Nothing of a secret is in the copy.
#[track_caller]
fn check_hidden(frames: &[Vec<u8>], secrets: usize) {
    let (raw, redacted, _) = copies(frames, &redaction());
    for (n, (one, other)) in raw.iter().zip(&redacted).enumerate() {
        assert_eq!(one.len(), other.len());
        for secret in 1..=secrets {
            let value = hidden(secret);
            let value = value.as_bytes();
            for part in [&value[..7], &value[6..13]] {
                let shown = other.windows(7).any(|w| w == part);
                assert!(!shown, "{} in packet {n}: {}", part.escape_ascii(), other.escape_ascii());
            }
        }
    }
}
proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Each of `odd`: which segment, how far back, what (see below), and where it comes. One of `dress` is in each frame.
    #[test]
    fn what_was_not_read_is_hidden(
        kinds in prop::collection::vec(0u8..12, 1..5),
        cuts in prop::collection::vec(1usize..120, 1..9),
        swaps in prop::collection::vec(0usize..200, 0..6),
        again in prop::collection::vec((0usize..200, 0usize..40), 0..5),
        lost in prop::collection::vec(0usize..60, 0..4),
        odd in prop::collection::vec((0usize..200, 0usize..60, 0u8..9, 0usize..200), 0..6),
        dress in 0u8..8,
    ) {
        let (client, server, secrets) = says(&kinds);
        let mut segments = conversation([&client, &server], &cuts, &swaps, &again);
        let ends = [client.len() as u32 + 1000, (server.len() as u32).wrapping_add(4_294_967_201)];
        let before = segments.len();
        for which in lost {
            let at = 2 + which % (segments.len() - 2);
            if segments.len() > 5 {
                segments.remove(at);
            }
        }
        let data = segments.clone();
        let whole = data.len() == before;
        for (which, back, what, to) in odd {
            let one = &data[which % data.len()];
            // In a hole a forgery would be what is read.
            let what = if whole { what } else { 8 };
            let mut extra = match what {
                // Another copy, an urgent one, one of before the beginning, or one out of the window.
                0 => forged(one, back, 0x18),
                1 => forged(one, back, 0x38),
                2 => forged(one, back + (1 << 16), 0x18),
                3 => forged(one, 1 << 31, 0x18),
                // Beyond the FIN, with a RST, with a SYN.
                4 => Segment { seq: ends[one.from].wrapping_add(back as u32 + 1), ..forged(one, 0, 0x18) },
                5 => forged(one, back, 0x14),
                6 => forged(&data[0], 0, 2),
                // A keep-alive probe with a byte of its own; the same packet at another place.
                7 => Segment { seq: one.seq.wrapping_sub(1), payload: vec![b'x'], flags: 0x10, ..one.clone() },
                _ => one.clone(),
            };
            if what < 2 {
                extra.payload.truncate(ends[one.from].wrapping_sub(extra.seq) as usize);
            }
            // What contradicts comes when all was read: before the FINs, or behind them.
            let at = match what {
                8 => 2 + to % (segments.len() - 1),
                4 | 5 => segments.len(),
                _ => segments.len() - if to % 2 == 0 && segments.len() == before { 2 } else { 0 },
            };
            segments.insert(at.min(segments.len()), extra);
        }
        let frames: Vec<_> = segments.iter().map(|s| dressed(&s.frame(), dress)).collect();
        check_hidden(&frames, secrets);
    }
}

#[test]
fn data_in_a_syn_and_urgent_data_are_read_and_hidden() {
    let (client, server, secrets) = says(&[0, 1]);
    for dress in 0..8 {
        let mut segments = conversation([&client, &server], &[400], &[], &[]);
        let first = segments.remove(2);
        segments[0].payload = first.payload;
        for segment in &mut segments[2..] {
            segment.flags |= 0x20;
        }
        let frames: Vec<_> = segments.iter().map(|s| dressed(&s.frame(), dress)).collect();
        check_hidden(&frames, secrets);
    }
}

#[test]
fn a_second_copy_that_differs_is_hidden_while_the_first_waits_and_after() {
    let body = "x".repeat(300);
    let client = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 300\r\n\r\n{body}");
    let segments = conversation([client.as_bytes(), b"HTTP/1.1 204 No\r\n\r\n"], &[60], &[], &[]);
    for (first, at) in [(3, 3), (4, 5), (4, 7)] {
        let mut with = segments.clone();
        let moved = with.remove(first);
        with.insert(first + 1, moved);
        with.insert(at.max(first + 2), forged(&segments[first + 1], 0, 0x18));
        let frames: Vec<_> = with.iter().map(Segment::frame).collect();
        check_hidden(&frames, 1);
        let redacted = copies(&frames, &redaction()).1;
        // A body that was read stays, its own copies, too.
        let x = redacted.concat().iter().filter(|b| **b == b'x').count();
        assert!(x >= 300, "{x}");
    }
}

#[test]
fn every_cut_of_a_short_conversation() {
    let (client, server, secrets) = says(&[0, 1, 2, 3]);
    for cut in 1..120 {
        let segments = conversation([&client, &server], &[cut], &[], &[]);
        let frames: Vec<_> = segments.iter().map(Segment::frame).collect();
        check(&frames, secrets);
    }
}

#[test]
fn what_comes_after_an_upgrade_and_what_is_not_http_stays() {
    let client =
        b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nCookie: s3cr3t1Value31\r\n\r\n";
    let server = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\nCookie: of another protocol\r\n";
    let segments = conversation([client, server], &[20], &[], &[]);
    let frames: Vec<_> = segments.iter().map(Segment::frame).collect();
    let (_, redacted, bytes) = copies(&frames, &redaction());
    assert!(!bytes.windows(6).any(|w| w == b"s3cr3t"));
    let sent: Vec<u8> = redacted.iter().filter(|f| f[29] == 2).flat_map(|f| f[54..].to_vec()).collect();
    assert_eq!(sent, server);

    let segments = conversation([b"\x00\x01binary\xff", b"\x05reply"], &[4], &[], &[]);
    let frames: Vec<_> = segments.iter().map(Segment::frame).collect();
    assert_eq!(copies(&frames, &redaction()).1, frames);
}

#[test]
fn of_a_stream_that_was_joined_late_what_nobody_knows_is_hidden() {
    let (client, server, secrets) = says(&[0, 0, 0]);
    for skip in [2, 3, 5, 9] {
        let mut segments = conversation([&client, &server], &[11], &[], &[]);
        // The handshake, and the first packets of the client's.
        segments.drain(..2 + skip);
        let frames: Vec<_> = segments.iter().map(Segment::frame).collect();
        let (_, redacted, _) = copies(&frames, &redaction());
        for n in 4..=secrets {
            let value = hidden(n);
            let all: Vec<u8> = redacted
                .iter()
                .filter(|f| f[29] != 2 || CLIENT == 1)
                .flat_map(|f| f[54..].to_vec())
                .collect();
            assert!(!all.windows(value.len()).any(|w| w == value.as_bytes()), "{value} with {skip} left out");
        }
    }
}

#[test]
fn a_fragment_of_an_ip_datagram_is_hidden_as_a_whole() {
    let (client, server, secrets) = says(&[0]);
    let mut frames = Vec::new();
    for segment in conversation([&client, &server], &[4000], &[], &[]) {
        let whole = segment.frame();
        if segment.payload.len() < 64 {
            frames.push(whole);
            continue;
        }
        let split = 40;
        for (offset, part, more) in
            [(0, &whole[TCP..TCP + split], true), (split, &whole[TCP + split..], false)]
        {
            let mut frame = whole[..TCP].to_vec();
            frame[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
            frame[18..20].copy_from_slice(&segment.seq.to_be_bytes()[2..]);
            let field = (offset as u16 / 8) | if more { 0x2000 } else { 0 };
            frame[20..22].copy_from_slice(&field.to_be_bytes());
            frame.extend(part);
            frames.push(frame);
        }
    }
    assert!(!items(&frames).is_empty());
    let (_, _, bytes) = copies(&frames, &redaction());
    for n in 1..=secrets {
        assert!(!bytes.windows(8).any(|w| w == &hidden(n).as_bytes()[..8]), "{n}");
    }
}
