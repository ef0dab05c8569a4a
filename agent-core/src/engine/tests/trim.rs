//! Payload that is not needed: told once, left out without loss of an item, told again when it is needed.

use super::*;
use crate::engine::TrimWindow;

const BODY: u32 = 10 << 20;
const PIECE: u32 = 60_000;
/// What of a segment comes when its payload is left out: as much as fits beside the headers.
const LEFT: usize = 40;

fn bench() -> Bench {
    Bench::with(EngineConfig { trim: true, ..EngineConfig::default() })
}

/// A source that leaves out what it was told to, as the kernel does.
struct Trimming {
    b: Bench,
    /// Segments cut.
    cut: u32,
    /// Whether it is told late: not before the end.
    late: bool,
}

impl Trimming {
    fn window(&self, from_client: bool) -> Option<TrimWindow> {
        let port = if from_client { 40_000 } else { 80 };
        self.b.trims.iter().rev().find(|t| t.from.port() == port).and_then(|t| t.window)
    }

    fn send(&mut self, seg: &Seg) {
        self.b.at_ms += 1;
        let whole = seg.ipv4();
        let mut data = &whole[..];
        let len = seg.payload.len() as u32;
        if let Some(w) = self.window(seg.from_client).filter(|_| !self.late)
            && u64::from(seg.seq.wrapping_sub(w.from)) + u64::from(len) <= u64::from(w.len)
            && whole.len() > 40 + LEFT
        {
            data = &whole[..40 + LEFT];
            self.cut += 1;
        }
        let packet = Packet { original_len: whole.len() as u32, ..packet(LinkType::RAW, data, self.b.at_ms) };
        self.b.raw(&packet);
    }

    /// A response with a large body, then a request and its response in the very next segments.
    fn download(&mut self, isn: u32, framing: &str, body: u32) -> u32 {
        let request = 101 + REQUEST.len() as u32;
        let (base, client) = (isn.wrapping_add(1), Seg::c2s(request, 0, ACK, b""));
        self.send(&Seg::c2s(100, 0, SYN, b""));
        self.send(&Seg::s2c(isn, 101, SYN | ACK, b""));
        self.send(&Seg { seq: 101, ack: base, payload: REQUEST.to_vec(), ..client });
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
        let mut stream = head.into_bytes();
        stream.resize(stream.len() + body as usize, b'x');
        let mut at = 0;
        for piece in stream.chunks(PIECE as usize) {
            self.send(&Seg::s2c(base.wrapping_add(at), request, ACK, piece));
            at += piece.len() as u32;
        }
        at
    }

    fn next_exchange(&mut self, isn: u32, at: u32) {
        let request = 101 + REQUEST.len() as u32;
        let base = isn.wrapping_add(1).wrapping_add(at);
        self.send(&Seg::c2s(request, base, ACK, REQUEST));
        self.send(&Seg::s2c(base, request + REQUEST.len() as u32, ACK, RESPONSE));
    }
}

/// Whether the source cuts what it was told at once or never, wherever the numbers wrap: the same items, whole sizes.
#[test]
fn a_body_beyond_its_cap_is_left_out_and_what_follows_is_whole() {
    for isn in [500, u32::MAX - (4 << 20)] {
        for late in [false, true] {
            let mut t = Trimming { b: bench(), cut: 0, late };
            let at = t.download(isn, &format!("Content-Length: {BODY}"), BODY);
            t.next_exchange(isn, at);
            let [large, small] = &t.b.items[..] else { panic!("{} items", t.b.items.len()) };
            for item in [large, small] {
                assert!(
                    item.error.is_none() && item.gaps == 0 && item.anomalies().next().is_none(),
                    "{item:?}"
                );
            }
            let Record::Http(http) = &large.record;
            let body = &http.response.as_ref().unwrap().message.body;
            assert_eq!((body.size, body.bytes.len(), body.truncated), (u64::from(BODY), 1 << 20, true));
            assert_eq!(body.missing, 0);
            // Told once, and once that it is over.
            let [begin, end] = &t.b.trims[..] else { panic!("{:?}", t.b.trims) };
            let window = begin.window.unwrap();
            assert!(window.len > BODY - (1 << 20) - 2 * PIECE && window.len < BODY, "{window:?}");
            assert_eq!(window.from.wrapping_add(window.len), isn.wrapping_add(1).wrapping_add(at));
            assert_eq!((begin.from.port(), begin.to.port(), end.window), (80, 40_000, None));
            assert_eq!(t.cut > 100, !late, "{}", t.cut);
            t.b.finish();
            let s = &t.b.closed[0];
            assert_eq!((s.s2c.gaps_total, s.s2c.trimmed > 0), (0, !late));
            assert_eq!(s.s2c.bytes + s.s2c.trimmed, u64::from(at) + RESPONSE.len() as u64);
            assert_eq!(t.b.stats().gaps, 0);
            assert_eq!(t.b.trims.len(), 2, "nothing is told of a stream that is over");
        }
    }
}

/// A pipelined request comes in the other direction, which is whole.
#[test]
fn only_the_direction_of_the_body_is_left_out() {
    let mut t = Trimming { b: bench(), cut: 0, late: false };
    t.download(500, "Content-Length: 100000000", BODY);
    assert!(t.window(false).is_some() && t.window(true).is_none());
    assert!(t.b.trims.iter().all(|trim| trim.from.port() == 80));
}

#[test]
fn a_body_up_to_the_end_is_left_out_to_the_end() {
    let mut t = Trimming { b: bench(), cut: 0, late: false };
    let at = t.download(500, "Connection: close", BODY);
    assert_eq!(t.window(false).unwrap().len, 256 << 20);
    let request = 101 + REQUEST.len() as u32;
    t.send(&Seg::s2c(501 + at, request, FIN | ACK, b""));
    t.send(&Seg::c2s(request, 502 + at, FIN | ACK, b""));
    let [item] = &t.b.items[..] else { panic!() };
    let Record::Http(http) = &item.record;
    assert_eq!(http.response.as_ref().unwrap().message.body.size, u64::from(BODY));
    assert!(item.error.is_none(), "{:?}", item.error);
    assert_eq!(t.b.trims.last().unwrap().window, None, "the stream is over");
}

/// What is lost in a body that is left out is lost, and told so.
#[test]
fn a_loss_among_what_is_left_out_is_still_a_gap() {
    let mut t = Trimming { b: bench(), cut: 0, late: false };
    let at = t.download(500, "Content-Length: 20000000", 5 << 20);
    let request = 101 + REQUEST.len() as u32;
    // A hole, then the rest.
    let rest = 20_000_000 - (5 << 20) - PIECE;
    let mut seq = 501 + at + PIECE;
    for piece in vec![b'x'; rest as usize].chunks(PIECE as usize) {
        t.send(&Seg::s2c(seq, request, ACK, piece));
        seq += piece.len() as u32;
    }
    t.send(&Seg::c2s(request, seq, ACK, b""));
    t.b.finish();
    let item = &t.b.items[0];
    let Record::Http(http) = &item.record;
    let body = &http.response.as_ref().unwrap().message.body;
    assert_eq!((body.size, body.missing, item.gaps), (20_000_000, u64::from(PIECE), 1));
    assert!(item.error.is_some());
}

#[test]
fn tls_is_left_out_and_small_things_are_not() {
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 500]].concat();
    let answer = [&[0x16, 3, 3, 0, 80, 2, 0, 0, 76, 3, 3][..], &[8; 500]].concat();
    let mut b = bench();
    b.open(40_000);
    b.send(&Seg::c2s(101, 501, ACK, &hello));
    assert!(b.trims.is_empty());
    b.send(&Seg::s2c(501, 101 + hello.len() as u32, ACK, &answer));
    b.send(&Seg::c2s(101 + hello.len() as u32, 501, ACK, b"x"));
    assert_eq!((b.trims.len(), b.stats().tls), (2, 1));
    assert!(b.trims.iter().all(|t| t.window.unwrap().len == 256 << 20));
    b.finish();
    assert_eq!(b.trims.len(), 4);

    // Only one end speaks TLS: the other one's words are read.
    let mut b = bench();
    b.open(40_000);
    b.send(&Seg::c2s(101, 501, ACK, &hello));
    b.send(&Seg::s2c(501, 101 + hello.len() as u32, ACK, RESPONSE));
    b.finish();
    assert_eq!((b.trims.len(), b.items.len()), (0, 1));

    let mut b = bench();
    b.open(40_000);
    b.exchange(40_000);
    assert!(b.trims.is_empty());
}

#[test]
fn nothing_is_told_where_all_bytes_are_hashed_or_nobody_asked() {
    for config in
        [EngineConfig { trim: true, hash: true, ..EngineConfig::default() }, EngineConfig::default()]
    {
        let mut t = Trimming { b: Bench::with(config), cut: 0, late: false };
        t.download(500, &format!("Content-Length: {BODY}"), BODY);
        assert!(t.b.trims.is_empty());
    }
}
