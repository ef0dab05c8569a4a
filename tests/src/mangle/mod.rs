//! A packet mangler: reads a capture and makes another, as a bad network or a bad capture would have had it.
//!
//! What it does is a function of the capture, the [`Mangle`] and its seed. Every kind of damage can be had alone; they
//! are done in the order of the fields. Only loss and cutting take bytes away: what is left by the others holds the
//! same streams.
//!
//! ```
//! use testkit::mangle::{Capture, Mangle};
//! # fn main() -> anyhow::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let (input, output) = (dir.path().join("in.pcap"), dir.path().join("out.pcap"));
//! # testkit::synth::Capture::create(&input)?;
//! let capture = Capture::read(&input)?;
//! let lossy = Mangle { drop: 0.05, seed: 7, ..Mangle::default() }.apply(&capture);
//! lossy.save(&output)?;
//! # Ok(())
//! # }
//! ```

mod capture;
mod random;
pub(crate) mod segment;

use std::borrow::Cow;
use std::time::Duration;

pub use capture::{Capture, Packet};
pub use random::Random;

use segment::{CONTROL, FIN, PSH, SYN, Segment};

/// What to do to a capture; the default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Mangle {
    /// Same seed, same damage.
    pub seed: u64,
    /// TCP payloads are split into segments of at most so many bytes.
    pub split: Option<usize>,
    /// With `split`: probability that a segment carries also up to 8 bytes of the one before it.
    pub overlap: f64,
    /// Probability that a data segment comes twice, the copy up to `window` packets later.
    pub duplicate: f64,
    /// Probability that a packet comes up to `window` packets later. It never passes one of the other direction of its
    /// connection, so that no answer comes before its question.
    pub reorder: f64,
    /// Farthest that a packet or copy is moved, in packets.
    pub window: u32,
    /// Probability that a packet is not there at all.
    pub drop: f64,
    /// Packets are cut to so many bytes; their original length still stands in the file.
    pub snap: Option<usize>,
}

impl Mangle {
    /// The mangled capture. It borrows the packets that are as they were.
    #[must_use]
    pub fn apply<'a>(&self, capture: &'a Capture<'_>) -> Capture<'a> {
        let mut random = Random::new(self.seed);
        let mut packets: Vec<Packet<'a>> = match self.split {
            Some(size) => capture
                .packets
                .iter()
                .flat_map(|p| self.split(p, capture, size.max(1), &mut random))
                .collect(),
            None => capture.packets.iter().map(Packet::borrowed).collect(),
        };
        if self.duplicate > 0.0 {
            packets = self.duplicate(packets, capture, &mut random);
        }
        if self.reorder > 0.0 {
            self.reorder(&mut packets, capture, &mut random);
        }
        packets.retain(|_| !random.chance(self.drop));
        if let Some(length) = self.snap {
            packets.iter_mut().for_each(|packet| cut(packet, length));
        }
        // Time never goes back in a capture: what moved takes the time of its new place.
        let mut last = Duration::ZERO;
        for packet in &mut packets {
            last = last.max(packet.time);
            packet.time = last;
        }
        Capture { link: capture.link, packets }
    }

    fn split<'a>(
        &self,
        packet: &'a Packet<'_>,
        capture: &Capture<'_>,
        size: usize,
        random: &mut Random,
    ) -> Vec<Packet<'a>> {
        let segment = Segment::find(capture.link, &packet.data);
        let Some(segment) = segment.filter(|s| s.len() > size && s.flags & SYN == 0) else {
            return vec![packet.borrowed()];
        };
        let mut parts = Vec::with_capacity(segment.len() / size + 1);
        for start in (0..segment.len()).step_by(size) {
            let end = (start + size).min(segment.len());
            let back = if start > 0 && random.chance(self.overlap) { 1 + random.below(8) } else { 0 };
            // What ends or pushes stands on the last segment only.
            let flags = if end == segment.len() { segment.flags } else { segment.flags & !(FIN | PSH) };
            parts.push(segment.part(packet, start.saturating_sub(back as usize)..end, flags));
        }
        parts
    }

    fn duplicate<'a>(
        &self,
        packets: Vec<Packet<'a>>,
        capture: &Capture<'_>,
        random: &mut Random,
    ) -> Vec<Packet<'a>> {
        let mut out = Vec::with_capacity(packets.len());
        // Copies and the index of the packet behind which they come; few at a time, as the window is small.
        let mut copies: Vec<(usize, Packet<'a>)> = Vec::new();
        for (at, packet) in packets.into_iter().enumerate() {
            let data = Segment::find(capture.link, &packet.data)
                .is_some_and(|s| s.len() > 0 && s.flags & CONTROL == 0);
            if data && random.chance(self.duplicate) {
                copies.push((at + random.below(self.window + 1) as usize, packet.clone()));
            }
            out.push(packet);
            copies.retain(|(due, copy)| {
                if *due <= at {
                    out.push(copy.clone());
                }
                *due > at
            });
        }
        out.extend(copies.into_iter().map(|(_, copy)| copy));
        out
    }

    fn reorder(&self, packets: &mut [Packet<'_>], capture: &Capture<'_>, random: &mut Random) {
        let mut flows: Vec<_> =
            packets.iter().map(|p| Segment::find(capture.link, &p.data).map(|s| s.flow)).collect();
        let mut at = 0;
        while at < packets.len() {
            let (Some(flow), true) = (flows[at], random.chance(self.reorder)) else {
                at += 1;
                continue;
            };
            let wanted = 1 + random.below(self.window.max(1)) as usize;
            let after = flows[at + 1..].iter().take(wanted);
            let steps = after.take_while(|&&other| other != Some(flow.reverse())).count();
            packets[at..=at + steps].rotate_left(1);
            flows[at..=at + steps].rotate_left(1);
            // What was moved is not moved again, so that the window is kept.
            at += steps + 1;
        }
    }
}

fn cut(packet: &mut Packet<'_>, length: usize) {
    if packet.data.len() > length {
        packet.data = match std::mem::take(&mut packet.data) {
            Cow::Borrowed(data) => Cow::Borrowed(&data[..length]),
            Cow::Owned(mut data) => {
                data.truncate(length);
                Cow::Owned(data)
            }
        };
    }
}

#[cfg(test)]
mod tests;
