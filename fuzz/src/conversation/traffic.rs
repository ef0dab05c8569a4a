//! How it is sent: segments as two well-behaved hosts send them, and what happens to the packets on the way into the
//! capture. Acknowledgements are always true: packets are lost to the capture, not to the hosts.

use agent_core::LinkType;
use arbitrary::Unstructured;

use super::script::{Close, Script};
use crate::wire::{ACK, FIN, Layers, RST, SYN, Segment};

/// A captured packet.
pub(super) struct Frame {
    pub(super) link: LinkType,
    pub(super) data: Vec<u8>,
    /// Milliseconds since the one before.
    pub(super) after: u64,
}

/// All packets in the order of capture.
pub(super) fn frames(u: &mut Unstructured<'_>, scripts: &[Script], flags: u8, wild: bool) -> Vec<Frame> {
    let layers = Layers { v6: flags & 8 != 0, ethernet: flags & 16 != 0 };
    // Few packets are small, for many cost time.
    let size = match u.arbitrary::<u8>().unwrap_or(0) {
        0 => 1_460,
        tens => 20 + usize::from(tens) * 8,
    };
    let mut sent: Vec<Vec<Segment>> = scripts.iter().map(|script| Host::send(script, size, flags)).collect();
    for segments in &mut sent {
        *segments = meddled(u, std::mem::take(segments), wild);
    }
    let mut frames = Vec::new();
    for (i, segment) in interleaved(sent).into_iter().enumerate() {
        let what: u8 = u.arbitrary().unwrap_or(0);
        let pieces = if what & 7 == 7 {
            layers.fragments(&segment, usize::from(what >> 3) * 16, i as u16)
        } else {
            vec![layers.packet(&segment)]
        };
        let pause = if wild && what & 7 == 6 { u64::from(what >> 3).pow(3) } else { 0 };
        frames.extend(pieces.into_iter().map(|data| Frame { link: layers.link(), data, after: 0 }));
        if let Some(last) = frames.last_mut() {
            last.after = 1 + pause;
        }
    }
    frames
}

/// The two ends of a connection.
struct Host {
    connection: u8,
    next: [u32; 2],
    segments: Vec<Segment>,
}

impl Host {
    fn send(script: &Script, size: usize, flags: u8) -> Vec<Segment> {
        let mut host = Self { connection: script.connection, next: script.isn, segments: Vec::new() };
        host.segment(0, SYN, &[]);
        host.segment(1, SYN | ACK, &[]);
        host.segment(0, ACK, &[]);
        for (side, bytes) in script.turns() {
            for piece in bytes.chunks(size) {
                host.segment(side, ACK, piece);
            }
            // Often the answer is the acknowledgement.
            if flags & 0x20 != 0 {
                host.segment(1 - side, ACK, &[]);
            }
        }
        let first = usize::from(script.close == Close::Server);
        match script.close {
            Close::Open => {}
            Close::Reset => host.segment(0, RST | ACK, &[]),
            Close::Client | Close::Server => {
                host.segment(first, FIN | ACK, &[]);
                host.segment(1 - first, FIN | ACK, &[]);
                host.segment(first, ACK, &[]);
            }
        }
        host.segments
    }

    fn segment(&mut self, side: usize, flags: u8, payload: &[u8]) {
        let ack = if flags & ACK != 0 { self.next[1 - side] } else { 0 };
        self.segments.push(Segment {
            connection: self.connection,
            from_client: side == 0,
            seq: self.next[side],
            ack,
            flags,
            payload: payload.to_vec(),
        });
        let phantom = u32::from(flags & (SYN | FIN) != 0);
        self.next[side] = self.next[side].wrapping_add(payload.len() as u32 + phantom);
    }
}

/// What happens to the packets of one connection: split, doubled, exchanged with the next one; and, if wild, dropped,
/// moved by up to eight packets, or doubled far away.
fn meddled(u: &mut Unstructured<'_>, segments: Vec<Segment>, wild: bool) -> Vec<Segment> {
    let mut out: Vec<Segment> = Vec::new();
    // Those that come later, with the number of packets until then.
    let mut later: Vec<(usize, Segment)> = Vec::new();
    let mut swapped = false;
    for segment in segments {
        let what: u8 = u.arbitrary().unwrap_or(0);
        let rest = usize::from(what >> 4);
        // Nothing is believed after a RST, so it stays where it is.
        let last = segment.flags & RST != 0 && !wild;
        let was_swapped = std::mem::replace(&mut swapped, false);
        match what & 15 {
            _ if last => out.push(segment),
            8 => out.extend([segment.clone(), segment]),
            9 => out.extend(split(segment, rest)),
            10 if !was_swapped && !out.is_empty() => {
                out.insert(out.len() - 1, segment);
                swapped = true;
            }
            11 | 12 if wild => {}
            // No further than captures are known to do it, several round trips of these small exchanges.
            13 if wild => later.push((1 + rest / 2, segment)),
            14 if wild => {
                later.push((1 + rest * 4, segment.clone()));
                out.push(segment);
            }
            _ => out.push(segment),
        }
        for i in (0..later.len()).rev() {
            later[i].0 -= 1;
            if later[i].0 == 0 {
                out.push(later.swap_remove(i).1);
            }
        }
    }
    out.extend(later.into_iter().map(|(_, segment)| segment));
    out
}

/// Two segments that overlap by a few bytes.
fn split(segment: Segment, rest: usize) -> Vec<Segment> {
    let length = segment.payload.len();
    if length < 2 || segment.flags & (SYN | FIN | RST) != 0 {
        return vec![segment];
    }
    let at = 1 + rest * (length - 1) / 16;
    let begins = at.saturating_sub(rest % 3);
    let first = Segment { payload: segment.payload[..at].to_vec(), ..segment.clone() };
    let second = Segment {
        seq: segment.seq.wrapping_add(begins as u32),
        payload: segment.payload[begins..].to_vec(),
        ..segment
    };
    vec![first, second]
}

/// Packets of the connections in turn.
fn interleaved(mut all: Vec<Vec<Segment>>) -> Vec<Segment> {
    let mut out = Vec::new();
    for segments in &mut all {
        segments.reverse();
    }
    while all.iter().any(|s| !s.is_empty()) {
        out.extend(all.iter_mut().filter_map(Vec::pop));
    }
    out
}
