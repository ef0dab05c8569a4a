//! The short way of payload in order: what it must leave to the long one, and both held against each other.

use proptest::prelude::*;

use super::*;
use crate::limits::Limits;

/// An engine that takes the short way where it may, and one that never does: it tells of text, which nobody else sees.
struct Both {
    short: Bench,
    long: Bench,
    at_ms: u64,
}

impl Both {
    fn new(limits: impl FnOnce(&mut Limits), trim: bool) -> Self {
        let mut config = EngineConfig { trim, ..EngineConfig::default() };
        limits(&mut config.limits);
        let long = EngineConfig { text: true, ..config.clone() };
        Self { short: Bench::with(config), long: Bench::with(long), at_ms: 0 }
    }

    /// A packet of which `kept` bytes of payload were captured.
    fn send(&mut self, seg: &Seg, kept: usize, seen: Option<(Direction, u64)>) {
        self.at_ms += 1;
        let data = seg.ipv4();
        let kept = data.len() - seg.payload.len().saturating_sub(kept);
        let mut packet = packet(LinkType::RAW, &data[..kept], self.at_ms);
        packet.original_len = data.len() as u32;
        let packet = seen.map_or(packet, |(direction, cgroup)| seen_at(packet, direction, cgroup));
        assert_eq!(self.short.raw(&packet), self.long.raw(&packet), "{seg:?}");
        self.check();
    }

    fn pass(&mut self, time: Duration) {
        for bench in [&mut self.short, &mut self.long] {
            bench.at_ms = self.at_ms;
            bench.pass(time);
        }
        self.at_ms = self.short.at_ms;
        self.check();
    }

    /// Both know the same, and will look again at the same time.
    fn check(&self) {
        let (short, long) = (&self.short.engine, &self.long.engine);
        assert_eq!(short.stats(), long.stats());
        assert_eq!(short.poll_timeout(), long.poll_timeout());
        assert_eq!((short.memory(), short.watching), (long.memory(), long.watching));
        assert_eq!((self.short.items.len(), &self.short.trims), (self.long.items.len(), &self.long.trims));
    }

    fn finish(&mut self) {
        self.short.finish();
        self.long.finish();
        self.check();
        assert_eq!(format!("{:?}", self.short.items), format!("{:?}", self.long.items));
        assert_eq!(format!("{:?}", self.short.closed), format!("{:?}", self.long.closed));
    }
}

/// One end: what it sends, and how far it is.
struct End {
    client: bool,
    bytes: Vec<u8>,
    first: u32,
    sent: u32,
    over: bool,
}

impl End {
    fn next(&self) -> u32 {
        self.first.wrapping_add(self.sent)
    }

    fn seg(&self, back: u32, ack: u32, flags: u8, payload: &[u8]) -> Seg {
        let seq = self.next().wrapping_sub(back);
        if self.client { Seg::c2s(seq, ack, flags, payload) } else { Seg::s2c(seq, ack, flags, payload) }
    }

    /// The next bytes, and that they are sent.
    fn take(&mut self, many: u32) -> Vec<u8> {
        let from = self.sent as usize;
        self.sent += many;
        (from..self.sent as usize).map(|at| self.bytes[at % self.bytes.len()]).collect()
    }
}

/// What an end does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Send,
    Lose,
    /// Sends what comes only after the next packet.
    Delay,
    /// Sends what is not captured to its end.
    Cut,
    Again,
    /// Sends, without having seen what the other end sent last.
    Behind,
    /// Sends, and has seen what was not captured.
    Ahead,
    Acknowledge,
    Probe,
    Without,
    /// Sends with flags that do not go with bytes in the middle.
    Odd,
    Syn,
    Fin,
    Reset,
    Rest,
}

fn acts() -> impl Strategy<Value = Vec<(bool, Act, u32)>> {
    use Act::*;
    let act = prop::sample::select(vec![
        Send,
        Send,
        Send,
        Send,
        Send,
        Send,
        Send,
        Send,
        Send,
        Send,
        Send,
        Send,
        Acknowledge,
        Acknowledge,
        Lose,
        Delay,
        Cut,
        Again,
        Behind,
        Ahead,
        Probe,
        Without,
        Odd,
        Syn,
        Fin,
        Reset,
        Rest,
    ]);
    prop::collection::vec((any::<bool>(), act, 1..70u32), 1..60)
}

/// Which packets of a handshake were captured, and where packets were seen.
#[derive(Clone, Debug)]
struct Case {
    handshake: [bool; 3],
    seen: Option<Vec<bool>>,
    trim: bool,
    /// Whether readers' memory is short.
    short: bool,
    acts: Vec<(bool, Act, u32)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let seen = prop::option::of(prop::collection::vec(any::<bool>(), 1..20));
    (any::<[bool; 3]>(), seen, any::<[bool; 2]>(), acts())
        .prop_map(|(handshake, seen, [trim, short], acts)| Case { handshake, seen, trim, short, acts })
}

fn run(case: &Case) {
    let limits = |limits: &mut Limits| {
        limits.reassembly_per_direction = 200;
        limits.dissect_total = if case.short { 600 } else { limits.dissect_total };
    };
    let mut both = Both::new(limits, case.trim);
    let end = |client: bool, bytes: &[u8], first: u32| End {
        client,
        bytes: bytes.to_vec(),
        first,
        sent: 0,
        over: false,
    };
    let mut ends = [end(true, REQUEST, 101), end(false, RESPONSE, 501)];
    let mut packets = 0;
    let mut send = |both: &mut Both, seg: &Seg, kept: usize| {
        let Some(seen) = &case.seen else { return both.send(seg, kept, None) };
        let (out, into) = if seg.from_client { (11, 22) } else { (22, 11) };
        packets += 1;
        let out_first = seen[packets % seen.len()];
        let mut places = [(Direction::Egress, out), (Direction::Ingress, into)];
        if !out_first {
            places.reverse();
        }
        // Now and then only one of both sees it.
        let both_see = packets % 5 != 0;
        for place in &places[..1 + usize::from(both_see)] {
            both.send(seg, kept, Some(*place));
        }
    };
    let handshake =
        [Seg::c2s(100, 0, SYN, b""), Seg::s2c(500, 101, SYN | ACK, b""), Seg::c2s(101, 501, ACK, b"")];
    for (seg, _) in handshake.iter().zip(case.handshake).filter(|(_, seen)| *seen) {
        send(&mut both, seg, 0);
    }
    let mut delayed: Vec<Seg> = Vec::new();
    for &(client, act, many) in &case.acts {
        let late = std::mem::take(&mut delayed);
        let [a, b] = &mut ends;
        let (own, peer) = if client { (a, b) } else { (b, a) };
        let ack = peer.next();
        let of = |own: &mut End, ack: u32, flags: u8| {
            let bytes = if own.over { Vec::new() } else { own.take(many) };
            own.seg(bytes.len() as u32, ack, flags, &bytes)
        };
        match act {
            Act::Send => send(&mut both, &of(own, ack, ACK), usize::MAX),
            Act::Lose => drop(of(own, ack, ACK)),
            Act::Delay => delayed.push(of(own, ack, ACK)),
            Act::Cut => send(&mut both, &of(own, ack, ACK), many as usize / 2),
            Act::Again => {
                let many = many.min(own.sent);
                own.sent -= many;
                let bytes = own.take(many);
                send(&mut both, &own.seg(many, ack, ACK, &bytes), usize::MAX);
            }
            Act::Behind => send(&mut both, &of(own, ack.wrapping_sub(many / 2), ACK), usize::MAX),
            Act::Ahead => send(&mut both, &of(own, ack.wrapping_add(many), ACK), usize::MAX),
            Act::Acknowledge => send(&mut both, &own.seg(0, ack, ACK, b""), 0),
            Act::Probe => send(&mut both, &own.seg(1, ack, ACK, b"\0"), 1),
            Act::Without => send(&mut both, &of(own, ack, 0), usize::MAX),
            Act::Odd => {
                let flags = if many % 2 == 0 { SYN } else { RST };
                send(&mut both, &of(own, ack, ACK | flags), usize::MAX);
            }
            Act::Syn => send(&mut both, &handshake[usize::from(!client)], 0),
            Act::Fin => {
                let seg = of(own, ack, ACK | FIN);
                own.sent += u32::from(!own.over);
                own.over = true;
                send(&mut both, &seg, usize::MAX);
            }
            Act::Reset => send(&mut both, &own.seg(0, ack, ACK | RST, b""), 0),
            Act::Rest => both.pass(Duration::from_millis(u64::from(many) * 4)),
        }
        for seg in late {
            send(&mut both, &seg, usize::MAX);
        }
    }
    both.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_short_way_comes_to_what_the_long_one_does(case in cases()) {
        run(&case);
    }
}

/// Of a response the snap length leaves but the start of its body, and all after it is there.
#[test]
fn a_response_that_was_cut_by_the_snap_length_is_truncated_and_the_next_is_whole() {
    let mut both = Both::new(|_| (), false);
    for seg in [Seg::c2s(100, 0, SYN, b""), Seg::s2c(500, 101, SYN | ACK, b""), Seg::c2s(101, 501, ACK, b"")]
    {
        both.send(&seg, 0, None);
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    let large = [&head[..], &[b'x'; 1_000]].concat();
    let (mut client, mut server) = (101, 501);
    for (response, kept) in [(&large[..], head.len() + 100), (RESPONSE, usize::MAX)] {
        both.send(&Seg::c2s(client, server, ACK, REQUEST), usize::MAX, None);
        client += REQUEST.len() as u32;
        both.send(&Seg::s2c(server, client, ACK, response), kept, None);
        server += response.len() as u32;
    }
    both.finish();
    for bench in [&both.short, &both.long] {
        let [first, second] = &bench.items[..] else { panic!("{:?}", bench.items) };
        let body = |item: &Item| {
            let Record::Http(http) = &item.record;
            let body = &http.response.as_ref().unwrap().message.body;
            (body.size, body.bytes.len(), body.truncated)
        };
        assert_eq!(body(first), (1_000, 100, true));
        assert_eq!((first.gaps, first.truncated), (1, true));
        assert_eq!(body(second), (2, 2, false));
        assert_eq!((second.gaps, second.truncated, &second.error), (0, false, &None));
        assert_eq!(bench.closed[0].s2c.gaps, [((head.len() + 100) as u64, 900)]);
    }
}

/// Nobody's SYN was seen, and of the response the second half came first: where it begins is told by the acknowledgement.
#[test]
fn a_segment_that_tells_where_the_other_direction_begins_has_it_read() {
    let mut both = Both::new(|_| (), false);
    let (one, two) = RESPONSE.split_at(20);
    for (seg, payload) in [
        (Seg::s2c(521, 101, ACK, two), 0),
        (Seg::s2c(501, 101, ACK, one), 0),
        (Seg::c2s(101, 501, ACK, REQUEST), REQUEST.len()),
        (Seg::c2s(101 + REQUEST.len() as u32, 521, ACK, REQUEST), 2 * REQUEST.len() + RESPONSE.len()),
    ] {
        both.send(&seg, usize::MAX, None);
        assert_eq!(both.short.stats().payload, payload as u64, "{seg:?}");
    }
    both.finish();
}

/// A packet without payload told of bytes ahead, and then the SYN came: they are waited for.
#[test]
fn bytes_that_are_known_to_be_missing_ahead_stay_known() {
    let mut both = Both::new(|_| (), false);
    let response = 501 + RESPONSE.len() as u32;
    for seg in [
        Seg::c2s(101, 501, ACK, b""),
        Seg::c2s(141, 501, ACK, b""),
        Seg::s2c(501, 101, ACK, RESPONSE),
        Seg::c2s(100, 0, SYN, b""),
        Seg::c2s(101, response, ACK, REQUEST),
    ] {
        both.send(&seg, usize::MAX, None);
    }
    let due = both.short.engine.poll_timeout().unwrap();
    assert!(due.since(both.short.engine.now) <= Duration::from_secs(10), "the hole is waited for");
    both.finish();
}

/// Sixteen in a row from outside the window are taken for the present; fewer, with others between, are not.
#[test]
fn a_segment_in_order_ends_a_row_of_wild_ones() {
    let mut both = Both::new(|_| (), false);
    for seg in [Seg::c2s(100, 0, SYN, b""), Seg::s2c(500, 101, SYN | ACK, b""), Seg::c2s(101, 501, ACK, b"")]
    {
        both.send(&seg, 0, None);
    }
    let wild = Seg::c2s(101 + (3 << 29), 501, ACK, b"wild");
    for n in 0..15 {
        both.send(&Seg { seq: wild.seq + 4 * n, ..wild.clone() }, usize::MAX, None);
    }
    both.send(&Seg::c2s(101, 501, ACK, REQUEST), usize::MAX, None);
    for n in 15..30 {
        both.send(&Seg { seq: wild.seq + 4 * n, ..wild.clone() }, usize::MAX, None);
    }
    assert_eq!((both.short.stats().out_of_window, both.short.stats().gaps), (30, 0));
    both.finish();
}

/// Who asks for text is told which bytes of each packet were taken.
#[test]
fn what_was_taken_is_told_of_payload_in_order_as_well() {
    let mut b = Bench::with(EngineConfig { text: true, ..EngineConfig::default() });
    b.open(1);
    for n in 0..3 {
        b.send(&Seg::c2s(101 + n * REQUEST.len() as u32, 501, ACK, REQUEST).port(1));
        assert_eq!(b.engine.taken(), [(0, REQUEST.len())]);
    }
    b.send(&Seg::c2s(101, 501, ACK, REQUEST).port(1));
    assert_eq!(b.engine.taken(), []);
}

/// The snap length cuts the second segment of a head.
#[test]
fn a_head_of_which_a_later_piece_was_cut_is_truncated() {
    let mut both = Both::new(|_| (), false);
    for seg in [Seg::c2s(100, 0, SYN, b""), Seg::s2c(500, 101, SYN | ACK, b""), Seg::c2s(101, 501, ACK, b"")]
    {
        both.send(&seg, 0, None);
    }
    let client = 101 + REQUEST.len() as u32;
    both.send(&Seg::c2s(101, 501, ACK, REQUEST), usize::MAX, None);
    let (one, two) = RESPONSE.split_at(20);
    both.send(&Seg::s2c(501, client, ACK, one), usize::MAX, None);
    both.send(&Seg::s2c(521, client, ACK, two), 8, None);
    both.finish();
    let [item] = &both.short.items[..] else { panic!("{:?}", both.short.items) };
    assert!(item.truncated && item.gaps == 1, "{item:?}");
}
