//! Conversations as segments in frames: cut, sent in another order, sent again, forged, dressed in other headers.

use super::hidden;

pub(crate) const CLIENT: usize = 0;
/// Where a frame's TCP header begins.
pub(crate) const TCP: usize = 34;

/// A TCP segment in an Ethernet frame.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) from: usize,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let total = 40 + self.payload.len() as u16;
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        let ends = [([10, 0, 0, 1], 40_000u16), ([10, 0, 0, 2], 80)];
        let (src, dst) = (ends[self.from], ends[1 - self.from]);
        frame.extend(src.0);
        frame.extend(dst.0);
        frame.extend(src.1.to_be_bytes());
        frame.extend(dst.1.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(&self.payload);
        let sum = checksum(&frame);
        frame[TCP + 16..TCP + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

/// Of the TCP segment of a frame, over the checksum that it has: 0 where that is right.
pub(crate) fn checksum(frame: &[u8]) -> u16 {
    let tcp = &frame[TCP..];
    let mut sum = 6 + tcp.len() as u32;
    for pair in frame[26..TCP].chunks(2).chain(tcp.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A connection whose ends say these; each end's bytes are cut at `cuts`, packets are swapped and sent again as `swaps` and
/// `again` say.
pub(crate) fn conversation(
    says: [&[u8]; 2],
    cuts: &[usize],
    swaps: &[usize],
    again: &[(usize, usize)],
) -> Vec<Segment> {
    let mut out = vec![
        Segment { from: 0, seq: 999, ack: 0, flags: 2, payload: Vec::new() },
        Segment { from: 1, seq: 4_294_967_200, ack: 1000, flags: 0x12, payload: Vec::new() },
    ];
    let first = [1000u32, 4_294_967_201];
    let segment = |from: usize, at: usize, to: usize| Segment {
        from,
        seq: first[from].wrapping_add(at as u32),
        ack: first[1 - from],
        flags: 0x18,
        payload: says[from][at..to].to_vec(),
    };
    let mut data = Vec::new();
    for from in [0, 1] {
        let mut at = 0;
        for cut in cuts.iter().cycle() {
            let to = (at + cut).min(says[from].len());
            data.push(segment(from, at, to));
            at = to;
            if at == says[from].len() {
                break;
            }
        }
    }
    for &(which, back) in again {
        // With other bounds than the first time.
        let one = &data[which % data.len()];
        let at = one.seq.wrapping_sub(first[one.from]) as usize;
        let to = (at + one.payload.len() + back % 7).min(says[one.from].len());
        let repeated = segment(one.from, at.saturating_sub(back), to);
        data.insert((which * 7 + back) % (data.len() + 1), repeated);
    }
    for &swap in swaps {
        let at = swap % data.len();
        let other = (at + 1 + swap % 3).min(data.len() - 1);
        data.swap(at, other);
    }
    out.extend(data);
    for from in [0, 1] {
        let seq = first[from].wrapping_add(says[from].len() as u32);
        let ack = first[1 - from].wrapping_add(says[1 - from].len() as u32);
        out.push(Segment { from, seq, ack, flags: 0x11, payload: Vec::new() });
    }
    out
}

/// What a second copy may hold: other bytes than those that were read, a secret among them.
pub(crate) fn forged(of: &Segment, back: usize, flags: u8) -> Segment {
    let mut payload = b"Z\r\nFree: ".to_vec();
    payload.extend(hidden(1).into_bytes());
    payload.extend(b"\r\n\r\n");
    Segment { seq: of.seq.wrapping_sub(back as u32), flags, payload, ..of.clone() }
}

/// The same in a VLAN, or as IPv6, and with bytes behind the datagram.
pub(crate) fn dressed(frame: &[u8], dress: u8) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    if dress & 1 != 0 {
        out.extend([0x81, 0, 0, 7]);
    }
    if dress & 2 != 0 {
        out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        out.extend((frame.len() as u16 - TCP as u16).to_be_bytes());
        out.extend([6, 64]);
        for end in [26, 30] {
            out.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]);
            out.extend(&frame[end..end + 4]);
        }
    } else {
        out.extend(&frame[12..TCP]);
    }
    out.extend(&frame[TCP..]);
    if dress & 4 != 0 {
        out.extend(hidden(1).into_bytes());
    }
    out
}
