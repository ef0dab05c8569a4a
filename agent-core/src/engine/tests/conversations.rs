//! Properties: however TCP carries them, the same bytes give the same items; lost packets never give a wrong pair.

use proptest::prelude::*;

use super::*;

/// A keep-alive conversation: every request has a number, which its response repeats.
fn conversation(isn: (u32, u32), bodies: &[usize], mss: usize) -> Vec<Seg> {
    let (mut c, mut s) = (isn.0.wrapping_add(1), isn.1.wrapping_add(1));
    let mut all =
        vec![Seg::c2s(isn.0, 0, SYN, b""), Seg::s2c(isn.1, c, SYN | ACK, b""), Seg::c2s(c, s, ACK, b"")];
    for (i, body) in bodies.iter().enumerate() {
        let request = format!("GET /{i} HTTP/1.1\r\nHost: shop\r\n\r\n");
        for piece in request.as_bytes().chunks(mss) {
            all.push(Seg::c2s(c, s, ACK, piece));
            c = c.wrapping_add(piece.len() as u32);
        }
        let response = format!(
            "HTTP/1.1 200 OK\r\nX-Number: /{i}\r\nContent-Length: {body}\r\n\r\n{}",
            "b".repeat(*body)
        );
        for piece in response.as_bytes().chunks(mss) {
            all.push(Seg::s2c(s, c, ACK, piece));
            s = s.wrapping_add(piece.len() as u32);
        }
        all.push(Seg::c2s(c, s, ACK, b""));
    }
    all.push(Seg::c2s(c, s, FIN | ACK, b""));
    all.push(Seg::s2c(s, c.wrapping_add(1), FIN | ACK, b""));
    all.push(Seg::c2s(c.wrapping_add(1), s.wrapping_add(1), ACK, b""));
    all
}

/// Request's and response's number, body length, whether it has no error.
type Told = (Option<String>, Option<String>, Option<u64>, bool);

fn told(segs: &[Seg]) -> (Vec<Told>, EngineStats) {
    let mut b = Bench::new();
    for seg in segs {
        b.send(seg);
    }
    b.finish();
    let all = b.items.iter().map(|item| {
        let Record::Http(http) = &item.record;
        let response = http.response.as_ref();
        let number = response.and_then(|r| r.message.head.get("x-number"));
        let number = number.map(|n| String::from_utf8_lossy(n).into_owned());
        (target(item), number, response.map(|r| r.message.body.size), item.error.is_none())
    });
    (all.collect(), b.engine.stats().clone())
}

fn want(bodies: &[usize]) -> Vec<Told> {
    let number = |i: usize| Some(format!("/{i}"));
    bodies.iter().enumerate().map(|(i, &n)| (number(i), number(i), Some(n as u64), true)).collect()
}

fn bodies() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..300usize, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Cut anyhow, doubled, and out of order by one place within a direction.
    #[test]
    fn the_same_items_however_they_are_carried(
        isn: (u32, u32),
        bodies in bodies(),
        mss in prop::sample::select(vec![1usize, 3, 17, 100, 1_460]),
        twice in prop::collection::vec(any::<bool>(), 64),
        swap in prop::collection::vec(any::<bool>(), 61),
    ) {
        let mut segs = Vec::new();
        for (i, seg) in conversation(isn, &bodies, mss).into_iter().enumerate() {
            if twice[i % twice.len()] {
                segs.push(seg.clone());
            }
            segs.push(seg);
        }
        for i in 1..segs.len() {
            let (a, b) = (&segs[i - 1], &segs[i]);
            let data = !a.payload.is_empty() && !b.payload.is_empty();
            if swap[i % swap.len()] && data && a.from_client == b.from_client {
                segs.swap(i - 1, i);
            }
        }
        let (items, stats) = told(&segs);
        prop_assert_eq!(items, want(&bodies));
        prop_assert_eq!((stats.gaps, stats.held, stats.dissect), (0, 0, 0));
    }

    /// One direction late in the capture by a few packets: nothing is lost, and all pairs are right.
    #[test]
    fn a_direction_that_lags_loses_nothing(isn: (u32, u32), bodies in bodies(), lag in 1..6usize, client: bool) {
        let all = conversation(isn, &bodies, 100);
        let mut keyed: Vec<(usize, Seg)> = all
            .into_iter()
            .enumerate()
            .map(|(i, seg)| (if i > 2 && seg.from_client == client { i + lag } else { i }, seg))
            .collect();
        keyed.sort_by_key(|(i, _)| *i);
        let segs: Vec<Seg> = keyed.into_iter().map(|(_, seg)| seg).collect();
        let (items, stats) = told(&segs);
        prop_assert_eq!(stats.gaps, 0);
        prop_assert!(items.iter().all(|(q, r, _, _)| q.is_none() || r.is_none() || q == r), "{:?}", items);
        prop_assert!(items.len() >= bodies.len());
    }

    /// Any packets lost, from anywhere: what is paired is paired rightly.
    #[test]
    fn lost_packets_never_make_a_wrong_pair(
        isn: (u32, u32),
        bodies in bodies(),
        mss in prop::sample::select(vec![30usize, 100, 1_460]),
        lost in prop::collection::vec(prop::bool::weighted(0.1), 97),
    ) {
        let segs: Vec<Seg> = conversation(isn, &bodies, mss)
            .into_iter()
            .enumerate()
            .filter(|(i, _)| !lost[i % lost.len()])
            .map(|(_, seg)| seg)
            .collect();
        let (items, stats) = told(&segs);
        for (request, response, _, _) in &items {
            prop_assert!(request.is_none() || response.is_none() || request == response, "{:?}", items);
        }
        prop_assert_eq!((stats.held, stats.dissect), (0, 0));
    }
}

/// With one response lost, all others are paired, and the request says why it is not.
#[test]
fn a_lost_response_costs_one_exchange() {
    let bodies = [10; 20];
    let all = conversation((7, 9), &bodies, 1_460);
    for lost in
        all.iter().enumerate().filter(|(_, s)| !s.from_client && !s.payload.is_empty()).map(|(i, _)| i)
    {
        let segs: Vec<Seg> =
            all.iter().enumerate().filter(|(i, _)| *i != lost).map(|(_, s)| s.clone()).collect();
        let (items, stats) = told(&segs);
        let whole = items.iter().filter(|(q, r, _, fine)| q.is_some() && q == r && *fine).count();
        assert_eq!((whole, stats.gaps), (19, 1), "{items:?}");
    }
}

/// The same for one request: its response stands alone.
#[test]
fn a_lost_request_costs_one_exchange() {
    let bodies = [10; 20];
    let all = conversation((7, 9), &bodies, 1_460);
    for lost in all.iter().enumerate().filter(|(_, s)| s.from_client && !s.payload.is_empty()).map(|(i, _)| i)
    {
        let segs: Vec<Seg> =
            all.iter().enumerate().filter(|(i, _)| *i != lost).map(|(_, s)| s.clone()).collect();
        let (items, stats) = told(&segs);
        let whole = items.iter().filter(|(q, r, _, fine)| q.is_some() && q == r && *fine).count();
        assert_eq!((whole, stats.gaps), (19, 1), "{items:?}");
    }
}

/// What may happen to a packet on its way into the engine.
#[derive(Clone, Debug)]
enum Fate {
    Pass,
    Lost,
    Twice,
    Later(usize),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Pause(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Pass),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Twice),
        1 => (1..40usize).prop_map(Fate::Later),
        3 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, b)| Fate::Flip(i, b)),
        1 => any::<prop::sample::Index>().prop_map(Fate::Cut),
        1 => (0..700_000u64).prop_map(Fate::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to the packets of two conversations: no panic, all budgets kept, nothing left at the end, and
    /// every stream's end told once.
    #[test]
    fn nothing_breaks_the_engine(
        isn: (u32, u32),
        bodies in bodies(),
        mss in prop::sample::select(vec![5usize, 40, 1_460]),
        fates in prop::collection::vec(fate(), 1..200),
    ) {
        let limits = Limits {
            streams: 3,
            reassembly_per_direction: 2_000,
            reassembly_total: 3_000,
            holes: 4,
            dissect_total: 6_000,
            fragment_memory: 3_000,
            ..Limits::default()
        };
        let mut b = Bench::with(EngineConfig { limits, hash: true, ..EngineConfig::default() });
        let first = conversation(isn, &bodies, mss);
        let second = conversation((isn.1, isn.0), &bodies, mss).into_iter().map(|s| s.port(9));
        let mut queue: Vec<(usize, Fate, Vec<u8>)> = first
            .into_iter()
            .zip(second)
            .flat_map(|(a, b)| [a, b])
            .enumerate()
            .map(|(i, seg)| (i, fates[i % fates.len()].clone(), seg.ethernet()))
            .collect();
        for (place, fate, _) in &mut queue {
            if let Fate::Later(by) = fate {
                *place += *by;
            }
        }
        queue.sort_by_key(|(place, _, _)| *place);
        for (_, fate, mut data) in queue {
            b.at_ms += 1;
            let original = data.len() as u32;
            let mut times = 1;
            match fate {
                Fate::Lost => times = 0,
                Fate::Twice => times = 2,
                Fate::Flip(at, byte) => {
                    let at = at.index(data.len());
                    data[at] = byte;
                }
                Fate::Cut(at) => data.truncate(at.index(data.len() + 1)),
                Fate::Pause(ms) => b.pass(Duration::from_millis(ms)),
                Fate::Pass | Fate::Later(_) => {}
            }
            for _ in 0..times {
                let mut p = packet(LinkType::ETHERNET, &data, b.at_ms);
                p.original_len = original;
                b.raw(&p);
                let stats = b.stats();
                prop_assert!(stats.active_streams <= 3 && stats.held <= 3_000, "{:?}", stats);
                prop_assert!(stats.dissect <= 6_000, "{:?}", stats);
            }
        }
        b.finish();
        let stats = b.stats();
        prop_assert_eq!((stats.active_streams, stats.held, stats.dissect), (0, 0, 0));
        prop_assert_eq!(stats.streams, b.closed.len() as u64);
        prop_assert_eq!(stats.items, b.items.len() as u64);
        prop_assert_eq!(b.closed.iter().map(|s| s.items).sum::<u64>(), stats.items);
    }
}

/// The client's direction lags in the capture, and of the server's the start is missing: the SYN tells that there was one.
#[test]
fn a_server_first_seen_in_the_middle_is_not_taken_for_one_at_its_start() {
    let second = b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let (asked, answered) = (REQUEST.len() as u32, RESPONSE.len() as u32);
    let end = 101 + asked + second.len() as u32;
    let mut b = Bench::new();
    b.send(&Seg::c2s(100, 0, SYN, b""));
    b.send(&Seg::s2c(501 + answered, end, ACK, RESPONSE));
    b.send(&Seg::c2s(end, 501 + 2 * answered, ACK, b""));
    b.send(&Seg::c2s(101, 501, ACK, REQUEST));
    b.send(&Seg::c2s(101 + asked, 501 + answered, ACK, second));
    b.finish();
    assert!(!b.items.is_empty());
    for item in &b.items {
        let Record::Http(http) = &item.record;
        assert!(target(item).as_deref() != Some("/a") || http.response.is_none(), "{item:?}");
    }
}

/// The same where the start of the client's direction comes after the rest was given up.
#[test]
fn a_client_whose_start_came_too_late_is_not_taken_for_one_at_its_start() {
    let (asked, answered) = (REQUEST.len() as u32, RESPONSE.len() as u32);
    let end = 101 + 2 * asked;
    let mut b = Bench::new();
    // An acknowledgement of the first request, and the end, are all that is seen of the client at first.
    b.send(&Seg::s2c(501, 101 + asked, ACK, b""));
    b.send(&Seg::c2s(end, 501 + 2 * answered, FIN | ACK, b""));
    b.send(&Seg::c2s(100, 0, SYN, b""));
    b.send(&Seg::s2c(500, 101, SYN | ACK, b""));
    b.send(&Seg::s2c(501, 101 + asked, ACK, RESPONSE));
    b.send(&Seg::c2s(101 + asked, 501 + answered, ACK, b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"));
    b.finish();
    assert!(b.items.iter().any(|i| target(i).is_some()) && b.items.len() > 1);
    for item in &b.items {
        let Record::Http(http) = &item.record;
        assert!(http.request.is_none() || http.response.is_none(), "{item:?}");
    }
}

/// The same where an acknowledgement that was captured early tells where the server's direction goes on.
#[test]
fn a_server_that_began_before_what_was_acknowledged_is_not_taken_for_one_at_its_start() {
    let (asked, answered) = (REQUEST.len() as u32, RESPONSE.len() as u32);
    let end = 101 + 2 * asked;
    let mut b = Bench::new();
    b.send(&Seg::c2s(100, 0, SYN, b""));
    b.send(&Seg::c2s(101 + asked, 501 + answered, ACK, b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"));
    b.send(&Seg::s2c(501 + 2 * answered, end, FIN | ACK, b""));
    b.send(&Seg::c2s(101, 501, ACK, REQUEST));
    b.send(&Seg::s2c(501 + answered, end, ACK, RESPONSE));
    b.finish();
    assert!(b.items.iter().any(|i| target(i).as_deref() == Some("/a")));
    for item in &b.items {
        let Record::Http(http) = &item.record;
        assert!(target(item).as_deref() != Some("/a") || http.response.is_none(), "{item:?}");
    }
}

/// The same where the client's early data is late in the capture, and the server is known from a later acknowledgement.
#[test]
fn an_acknowledgement_with_later_data_does_not_tell_where_the_server_began() {
    let (asked, answered) = (REQUEST.len() as u32, RESPONSE.len() as u32);
    let end = 101 + 2 * asked;
    let mut b = Bench::new();
    b.send(&Seg::c2s(100, 0, SYN, b""));
    b.send(&Seg::c2s(101 + asked, 501 + answered, ACK, b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"));
    b.send(&Seg::s2c(501 + answered, end, ACK, RESPONSE));
    b.send(&Seg::c2s(101, 501, ACK, REQUEST));
    b.send(&Seg::c2s(end, 501 + 2 * answered, ACK, b""));
    b.finish();
    assert!(b.items.iter().any(|i| target(i).as_deref() == Some("/a")));
    for item in &b.items {
        let Record::Http(http) = &item.record;
        assert!(target(item).as_deref() != Some("/a") || http.response.is_none(), "{item:?}");
    }
}

#[test]
fn a_late_syn_ack_tells_that_the_first_request_is_missing() {
    let all = conversation((100, 500), &[5, 6], 1_000);
    // SYN, ACK and the first request are lost; an acknowledgement of the server overtakes its SYN-ACK.
    let (first, response) = (&all[3], &all[4]);
    let overtaking = Seg::s2c(response.seq, first.seq.wrapping_add(first.payload.len() as u32), ACK, b"");
    let mut captured = vec![overtaking];
    captured.push(all[1].clone());
    captured.extend_from_slice(&all[4..]);
    let (items, _) = told(&captured);
    for (asked, answered, ..) in items {
        assert!(asked.is_none() || answered.is_none() || asked == answered, "{asked:?} {answered:?}");
    }
}
