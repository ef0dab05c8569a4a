//! A client and a server talk, packets are removed from the capture at random, and no request may be paired with another's
//! response. Every request and response carries its number.

use super::*;

/// xorshift64*: the same run for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// When the client sends its next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Habit {
    /// After the response to the last.
    LockStep,
    /// So many at once, then it waits for all responses.
    Batch(u64),
    /// As long as fewer than so many are unanswered.
    Window(u64),
    /// After the response to the last, but so many times in a thousand 2 to 4 at once.
    Moody(u64),
}

#[derive(Clone, Debug)]
struct Packet {
    side: Side,
    offset: u64,
    data: Vec<u8>,
    ack: u64,
}

/// One end of the connection.
#[derive(Default)]
struct Peer {
    /// Bytes given to TCP, not yet sent.
    queue: Vec<u8>,
    sent: u64,
    received: u64,
    inflight: VecDeque<Packet>,
}

struct World {
    random: Random,
    habit: Habit,
    peers: [Peer; 2],
    /// Ends of requests in the client's stream, and whether they were HEAD; ends of responses in the server's.
    requests: Vec<(u64, bool)>,
    responses: Vec<u64>,
    written: [u64; 2],
    answered: usize,
    total: u64,
    mss: usize,
    /// Where the capture is made.
    at: Side,
    capture: Vec<Packet>,
}

fn request(random: &mut Random, id: u64) -> (Vec<u8>, bool) {
    let head = random.chance(50);
    let pad = "p".repeat(random.below(120) as usize);
    let text = if head {
        format!("HEAD /{id} HTTP/1.1\r\nPad: {pad}\r\n\r\n")
    } else if random.chance(800) {
        format!("GET /{id} HTTP/1.1\r\nPad: {pad}\r\n\r\n")
    } else if random.chance(500) {
        let n = random.below(3000) as usize;
        format!("POST /{id} HTTP/1.1\r\nContent-Length: {n}\r\n\r\n{}", "b".repeat(n))
    } else {
        let n = 1 + random.below(2000) as usize;
        format!(
            "POST /{id} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{n:x}\r\n{}\r\n3\r\nxyz\r\n0\r\n\r\n",
            "c".repeat(n)
        )
    };
    (text.into_bytes(), head)
}

fn response(random: &mut Random, id: u64, head: bool) -> Vec<u8> {
    let n = if random.chance(100) { random.below(9000) } else { random.below(200) } as usize;
    let interim = if random.chance(50) { "HTTP/1.1 102 Processing\r\n\r\n" } else { "" };
    let body = if head { String::new() } else { "d".repeat(n) };
    let text = if random.chance(50) {
        format!("{interim}HTTP/1.1 304 Not Modified\r\nId: {id}\r\nContent-Length: {n}\r\n\r\n")
    } else if random.chance(700) || head || n == 0 {
        format!("{interim}HTTP/1.1 200 OK\r\nId: {id}\r\nContent-Length: {n}\r\n\r\n{body}")
    } else {
        format!(
            "{interim}HTTP/1.1 200 OK\r\nId: {id}\r\nTransfer-Encoding: chunked\r\n\r\n{n:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    text.into_bytes()
}

impl World {
    fn new(seed: u64, habit: Habit, total: u64) -> Self {
        let mut random = Random(seed | 1);
        for _ in 0..5 {
            random.next();
        }
        let mss = [100, 536, 1460, 16_000][random.below(4) as usize];
        let at = if random.chance(500) { Client } else { Server };
        Self {
            random,
            habit,
            peers: [Peer::default(), Peer::default()],
            requests: Vec::new(),
            responses: Vec::new(),
            written: [0; 2],
            answered: 0,
            total,
            mss,
            at,
            capture: Vec::new(),
        }
    }

    /// Runs until all is said.
    fn run(&mut self) {
        let slow = self.random.chance(300);
        loop {
            let wants = self.client_wants();
            let due = self.requests.get(self.answered).is_some_and(|&(end, _)| self.peers[1].received >= end);
            let busy = self.peers.iter().any(|p| !p.queue.is_empty() || !p.inflight.is_empty());
            if !wants && !due && !busy {
                return;
            }
            match self.random.below(if slow { 12 } else { 6 }) {
                0 if wants => self.client_writes(),
                1 if due => self.server_answers(),
                2 => self.send(Client),
                3 => self.send(Server),
                4 | 6 | 8 | 10 => self.deliver(Client),
                _ => self.deliver(Server),
            }
        }
    }

    fn outstanding(&self) -> u64 {
        let seen = self.peers[0].received;
        (self.requests.len() - self.responses.iter().take_while(|&&end| end <= seen).count()) as u64
    }

    fn client_wants(&self) -> bool {
        let sent = self.requests.len() as u64;
        sent < self.total
            && match self.habit {
                Habit::LockStep | Habit::Batch(_) | Habit::Moody(_) => self.outstanding() == 0,
                Habit::Window(n) => self.outstanding() < n,
            }
    }

    fn client_writes(&mut self) {
        let n = match self.habit {
            Habit::Batch(n) => n,
            Habit::Moody(p) if self.random.chance(p) => 2 + self.random.below(3),
            _ => 1,
        };
        let apart = self.random.chance(500);
        for _ in 0..n {
            let id = self.requests.len() as u64;
            if id == self.total {
                break;
            }
            let (bytes, head) = request(&mut self.random, id);
            self.written[0] += bytes.len() as u64;
            self.requests.push((self.written[0], head));
            self.peers[0].queue.extend(bytes);
            if apart {
                self.flush(Client);
            }
        }
    }

    /// Sends all that was written: what is written next begins a segment.
    fn flush(&mut self, side: Side) {
        while !self.peers[side as usize].queue.is_empty() {
            self.send(side);
        }
    }

    fn server_answers(&mut self) {
        let (_, head) = self.requests[self.answered];
        let bytes = response(&mut self.random, self.answered as u64, head);
        self.answered += 1;
        self.written[1] += bytes.len() as u64;
        self.responses.push(self.written[1]);
        self.peers[1].queue.extend(bytes);
        if self.random.chance(300) {
            self.flush(Server);
        }
    }

    fn send(&mut self, side: Side) {
        let peer = &mut self.peers[side as usize];
        if peer.queue.is_empty() {
            return;
        }
        let n = peer.queue.len().min(self.mss);
        let data: Vec<u8> = peer.queue.drain(..n).collect();
        let packet = Packet { side, offset: peer.sent, data, ack: peer.received };
        peer.sent += n as u64;
        peer.inflight.push_back(packet.clone());
        if self.at == side {
            self.capture.push(packet);
        }
    }

    /// Brings a packet of `side` to its peer, which may acknowledge it at once.
    fn deliver(&mut self, side: Side) {
        let Some(packet) = self.peers[side as usize].inflight.pop_front() else { return };
        let to = side.peer();
        self.peers[to as usize].received += packet.data.len() as u64;
        if self.at != side {
            self.capture.push(packet);
        }
        if self.random.chance(400) {
            let (offset, ack) = (self.peers[to as usize].sent, self.peers[to as usize].received);
            self.capture.push(Packet { side: to, offset, data: Vec::new(), ack });
        }
    }
}

/// How reassembly tells of a hole.
#[derive(Clone, Copy, Debug)]
enum Holes {
    /// As soon as the peer acknowledged the missing bytes.
    Eager,
    /// Only when bytes behind it came as well.
    Lazy,
}

/// What reassembly does: order, holes, gaps.
struct Assembly {
    next: [u64; 2],
    waiting: [Vec<Packet>; 2],
    holes: Holes,
}

impl Assembly {
    fn packet(&mut self, talk: &mut Talk, packet: &Packet) {
        let peer = packet.side.peer();
        let upto = match self.holes {
            Holes::Eager => packet.ack,
            Holes::Lazy => self.waiting[peer as usize].first().map_or(0, |p| packet.ack.min(p.offset)),
        };
        self.give_up(talk, peer, upto);
        if !packet.data.is_empty() {
            self.waiting[packet.side as usize].push(packet.clone());
            self.drain(talk, packet.side);
        }
    }

    fn drain(&mut self, talk: &mut Talk, side: Side) {
        while self.waiting[side as usize].first().is_some_and(|p| p.offset == self.next[side as usize]) {
            let packet = self.waiting[side as usize].remove(0);
            talk.chunk(side, Chunk::Data(&packet.data), Some(packet.ack));
            self.next[side as usize] += packet.data.len() as u64;
        }
    }

    fn give_up(&mut self, talk: &mut Talk, side: Side, upto: u64) {
        loop {
            self.drain(talk, side);
            let next = self.next[side as usize];
            let hole_end = self.waiting[side as usize].first().map_or(upto, |p| p.offset.min(upto));
            if hole_end <= next {
                return;
            }
            talk.gap(side, hole_end - next);
            self.next[side as usize] = hole_end;
        }
    }

    fn finish(&mut self, talk: &mut Talk) {
        for side in [Client, Server] {
            let last = self.waiting[side as usize].last().map_or(0, |p| p.offset);
            self.give_up(talk, side, last);
        }
    }
}

#[derive(Default, Debug)]
struct Score {
    /// Transactions of which no packet is missing.
    intact: u64,
    /// Those that came out as pairs, without error.
    right: u64,
    total: u64,
}

fn id_of(draft: &Draft) -> (Option<u64>, Option<u64>) {
    let text = |b: &[u8]| std::str::from_utf8(b).ok().and_then(|s| s.parse().ok());
    let x = exchange(draft);
    let asked = x.request.as_ref().and_then(|r| text(r.target().get(1..)?));
    let said = x.response.as_ref().and_then(|r| text(r.message.head.get("id")?));
    (asked, said)
}

/// Drops packets of one connection and checks what is made of the rest.
fn trial(seed: u64, habit: Habit, total: u64, per_mille: u64, joined: bool, score: &mut Score) {
    let mut world = World::new(seed, habit, total);
    world.run();
    let packets = &world.capture;
    let mut random = Random(seed.wrapping_mul(77) | 1);
    let holes = if random.chance(500) { Holes::Eager } else { Holes::Lazy };
    let mut talk = if joined { Talk::joined() } else { Talk::new() };
    let mut assembly = Assembly { next: [0; 2], waiting: [Vec::new(), Vec::new()], holes };
    let mut burst = 0;
    let skip = if joined { random.below(packets.len() as u64 / 2) as usize } else { 0 };
    let mut lost: [Vec<(u64, u64)>; 2] = [Vec::new(), Vec::new()];
    let mut base = [None; 2];
    for (at, packet) in packets.iter().enumerate() {
        let end = packet.offset + packet.data.len() as u64;
        if burst == 0 && random.chance(per_mille) {
            burst = 1 + if random.chance(200) { random.below(8) } else { 0 };
        }
        if at < skip || burst > 0 {
            burst = if at < skip { 0 } else { burst - 1 };
            if at >= skip {
                lost[packet.side as usize].push((packet.offset, end));
            }
            continue;
        }
        if joined {
            // The first packet seen says where both directions begin.
            if base[0].is_none() {
                base[packet.side as usize] = Some(packet.offset);
                base[packet.side.peer() as usize] = Some(packet.ack);
                for side in [Client, Server] {
                    assembly.next[side as usize] = base[side as usize].unwrap();
                    talk.sent[side as usize] = base[side as usize].unwrap();
                }
            }
            if packet.offset < assembly.next[packet.side as usize] {
                continue;
            }
        }
        assembly.packet(&mut talk, packet);
    }
    assembly.finish(&mut talk);
    let drafts = talk.fin();
    let mut last = None;
    let context = || format!("seed {seed} {habit:?} {per_mille}/1000 {holes:?} joined {joined}");
    for draft in &drafts {
        let (asked, said) = id_of(draft);
        if let (Some(asked), Some(said)) = (asked, said) {
            assert_eq!(asked, said, "a wrong pair: {}\n{}", context(), briefs(&drafts).join("; "));
            score.right += u64::from(draft.error.is_none());
        }
        if let Some(asked) = asked {
            assert!(last < Some(asked), "order: {}\n{}", context(), briefs(&drafts).join("; "));
            last = Some(asked);
        }
    }
    score.total += total;
    if per_mille == 0 && !joined {
        assert_eq!(drafts.len() as u64, total, "{}", context());
    }
    score.intact += intact(&world, &lost, skip);
}

/// Counts the transactions that the capture holds in full.
fn intact(world: &World, lost: &[Vec<(u64, u64)>; 2], skip: usize) -> u64 {
    let mut first = [u64::MAX; 2];
    for packet in &world.capture[skip..] {
        first[packet.side as usize] = first[packet.side as usize].min(packet.offset);
    }
    let ends = [world.requests.iter().map(|r| r.0).collect(), world.responses.clone()];
    let whole = |side: usize, at: usize| {
        let ends: &Vec<u64> = &ends[side];
        let (from, to) = (if at == 0 { 0 } else { ends[at - 1] }, ends[at]);
        from >= first[side] && !lost[side].iter().any(|&(a, b)| a < to && from < b)
    };
    (0..world.requests.len()).filter(|&at| whole(0, at) && whole(1, at)).count() as u64
}

fn trials(seeds: std::ops::Range<u64>, habit: Habit, total: u64, per_mille: u64, joined: bool) -> Score {
    let mut score = Score::default();
    for seed in seeds {
        trial(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), habit, total, per_mille, joined, &mut score);
    }
    score
}

#[test]
fn without_loss_everything_is_paired() {
    for habit in [Habit::LockStep, Habit::Batch(16), Habit::Window(4)] {
        let score = trials(0..40, habit, 60, 0, false);
        assert_eq!(score.right, score.total, "{habit:?}");
    }
}

/// Recovered, in per cent of the transactions that the capture holds in full.
fn share(score: &Score) -> u64 {
    score.right * 100 / score.intact.max(1)
}

#[test]
fn a_client_that_waits() {
    for (per_mille, least) in [(10, 99), (50, 98), (100, 95)] {
        let score = trials(0..200, Habit::LockStep, 60, per_mille, false);
        assert!(share(&score) >= least, "{per_mille}/1000: {score:?}");
    }
}

/// What such a client asked after a loss is not paired; before it, everything is.
#[test]
fn a_client_that_pipelines() {
    for habit in [Habit::Batch(16), Habit::Batch(3), Habit::Window(16), Habit::Window(2)] {
        for (per_mille, least) in [(10, 50), (50, 14), (100, 5)] {
            let score = trials(0..200, habit, 60, per_mille, false);
            assert!(share(&score) >= least, "{habit:?} {per_mille}/1000: {score:?}");
        }
    }
}

#[test]
fn streams_joined_in_the_middle() {
    for (habit, per_mille, least) in [
        (Habit::LockStep, 0, 99),
        (Habit::LockStep, 50, 95),
        (Habit::Batch(16), 0, 20),
        (Habit::Batch(16), 50, 0),
    ] {
        let score = trials(0..200, habit, 60, per_mille, true);
        assert!(share(&score) >= least, "{habit:?} {per_mille}/1000: {score:?}");
    }
}

/// Whoever waited long enough to be believed may send several at once in the very moment of a loss.
#[test]
fn a_client_that_waits_but_not_always() {
    for (bursts, per_mille, joined, least) in [
        (5, 30, false, 80),
        (5, 100, false, 75),
        (20, 30, true, 55),
        (20, 100, false, 40),
        (50, 30, false, 25),
        (50, 100, true, 20),
    ] {
        let score = trials(0..400, Habit::Moody(bursts), 100, per_mille, joined);
        assert!(share(&score) >= least, "{bursts}/1000 {per_mille}/1000: {score:?}");
    }
}
