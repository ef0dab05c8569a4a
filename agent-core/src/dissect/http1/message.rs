//! One message's body while it is being read: how it is framed, what was lost of it, and its tail when it ends.

use super::body::BodyReader;
use super::chunked::{Chunked, Step};
use super::framing::Length;
use super::head::{note, parse_trailers};
use crate::anomaly::AnomalyKind;
use crate::dissect::content::Codings;
use crate::dissect::{Arrival, Context, End, Side};
use crate::item::ErrorKind;
use crate::pair::{Tail, ended_early, fault};
use crate::time::Timestamp;

/// What follows a response without body.
const NEXT_RESPONSE: &[u8] = b"HTTP/1.";

/// A message whose head was read.
#[derive(Debug)]
pub(super) struct Current {
    frame: Frame,
    body: BodyReader,
    gaps: u32,
    truncated: bool,
    last: Timestamp,
    acked: Option<u64>,
}

#[derive(Debug)]
enum Frame {
    Fixed(u64),
    Chunked(Chunked),
    Close,
    /// A response to a request that is not known, which may have been a HEAD: if a status line follows, of which `seen`
    /// bytes came, then there is no body.
    Perhaps {
        seen: usize,
        length: Length,
    },
}

/// What came of giving a message bytes.
#[derive(Debug)]
pub(super) enum Taken {
    More,
    End(Tail),
    /// It is broken, and where the next message begins is not known.
    Broken(Tail),
    /// There was no body after all; so many bytes of [`NEXT_RESPONSE`] were taken that belong to the next message.
    NoBody(Tail, &'static [u8]),
}

/// What a gap did to a message.
#[derive(Debug)]
pub(super) enum Skipped {
    /// It goes on behind the gap.
    Within,
    /// It ended exactly with the gap.
    End(Tail),
    /// It ended within the gap, or nobody knows where.
    Lost(Tail),
}

impl Current {
    /// `known`: a response's request is known, so that its length is certain.
    pub(super) fn new(length: Length, known: bool, codings: Codings, at: Arrival, cx: &Context<'_>) -> Self {
        let frame = match length {
            Length::Fixed(_) | Length::Chunked if !known => Frame::Perhaps { seen: 0, length },
            Length::Close => Frame::Close,
            other => certain(other),
        };
        let body = BodyReader::new(codings, cx.limits.body, cx.hash);
        Self { frame, body, gaps: 0, truncated: at.truncated, last: at.time, acked: at.acked }
    }

    /// Heap memory held, itself included.
    pub(super) fn memory(&self) -> usize {
        let frame = if let Frame::Chunked(chunked) = &self.frame { chunked.memory() } else { 0 };
        size_of::<Self>() + self.body.memory() + frame
    }

    /// How many of the next bytes only count.
    pub(super) fn unneeded(&self) -> u64 {
        match &self.frame {
            _ if self.body.wants() => 0,
            Frame::Fixed(left) => *left,
            Frame::Chunked(chunked) => chunked.left(),
            Frame::Close => u64::MAX,
            Frame::Perhaps { .. } => 0,
        }
    }

    /// Takes bytes: how many were used.
    pub(super) fn take(
        &mut self,
        side: Side,
        data: &[u8],
        at: Arrival,
        cx: &mut Context<'_>,
    ) -> (usize, Taken) {
        self.last = at.time;
        self.acked = at.acked.or(self.acked);
        self.truncated |= at.truncated;
        match &mut self.frame {
            Frame::Fixed(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                *left -= n as u64;
                self.body.data(&data[..n], *left);
                if *left > 0 {
                    return (n, Taken::More);
                }
                (n, Taken::End(self.tail(true, Some(at.offset + n as u64))))
            }
            Frame::Close => {
                self.body.data(data, data.len() as u64);
                (data.len(), Taken::More)
            }
            Frame::Chunked(_) => self.take_chunked(side, data, at, cx),
            Frame::Perhaps { .. } => self.take_perhaps(data, at),
        }
    }

    fn take_chunked(&mut self, side: Side, data: &[u8], at: Arrival, cx: &mut Context<'_>) -> (usize, Taken) {
        let mut used = 0;
        while let Frame::Chunked(chunked) = &mut self.frame {
            let (n, step) = chunked.step(&data[used..], cx.limits.head);
            let body = if let Step::Data(piece) = &step { piece.len() } else { 0 };
            cx.spare.text(side, at.offset + used as u64, &data[used..used + n - body]);
            used += n;
            match step {
                Step::More => break,
                Step::Data(piece) => self.body.data(piece, chunked.left()),
                Step::End(trailers) => {
                    let mut tail = self.tail(true, Some(at.offset + used as u64));
                    if let Some(bytes) = trailers {
                        let (block, anomalies) = parse_trailers(&bytes, cx.limits.headers);
                        tail.anomalies.extend(anomalies);
                        tail.trailers = Some(Box::new(block));
                    }
                    return (used, Taken::End(tail));
                }
                Step::Bad(why) => {
                    let mut tail = self.tail(false, None);
                    tail.anomalies.push(note(AnomalyKind::HttpBadChunk, why));
                    tail.error = Some(fault(ErrorKind::Dissection, why));
                    return (used, Taken::Broken(tail));
                }
            }
        }
        (used, Taken::More)
    }

    fn take_perhaps(&mut self, data: &[u8], at: Arrival) -> (usize, Taken) {
        let Frame::Perhaps { seen, length } = &mut self.frame else { return (0, Taken::More) };
        let same = NEXT_RESPONSE[*seen..].iter().zip(data).take_while(|(want, have)| want == have).count();
        *seen += same;
        if *seen == NEXT_RESPONSE.len() {
            let end = (at.offset + same as u64).saturating_sub(NEXT_RESPONSE.len() as u64);
            return (same, Taken::NoBody(self.tail(true, Some(end)), NEXT_RESPONSE));
        }
        if same == data.len() {
            return (same, Taken::More);
        }
        let (seen, length) = (*seen, *length);
        let replay = self.commit(seen, length, at);
        (same, replay)
    }

    /// It is a body after all: takes the bytes that were held back.
    fn commit(&mut self, seen: usize, length: Length, at: Arrival) -> Taken {
        self.frame = certain(length);
        let held = &NEXT_RESPONSE[..seen];
        match &mut self.frame {
            Frame::Fixed(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(seen);
                *left -= n as u64;
                self.body.data(&held[..n], *left);
                if *left > 0 {
                    return Taken::More;
                }
                // A body that is shorter than what was held back, and like it: the rest is no message.
                let tail = self.tail(true, Some(at.offset));
                if n == seen { Taken::End(tail) } else { Taken::Broken(tail) }
            }
            // A chunk size never begins like a status line.
            Frame::Chunked(_) if seen > 0 => Taken::Broken(self.tail(false, None)),
            _ => Taken::More,
        }
    }

    /// Bytes of it were lost, or left out.
    pub(super) fn gap(&mut self, n: u64, at: Arrival) -> Skipped {
        // Left out, not lost: see `unneeded`.
        let unneeded = at.truncated && !self.body.wants();
        self.gaps += u32::from(!unneeded);
        self.truncated |= at.truncated;
        self.last = at.time;
        match &mut self.frame {
            Frame::Close => {
                self.body.skip(unneeded, n);
                Skipped::Within
            }
            Frame::Fixed(left) if n <= *left => {
                *left -= n;
                self.body.skip(unneeded, n);
                if *left > 0 {
                    return Skipped::Within;
                }
                Skipped::End(self.tail(true, Some(at.offset.saturating_add(n))))
            }
            Frame::Fixed(left) => {
                let left = *left;
                self.body.skip(unneeded, left);
                Skipped::Lost(self.tail(true, Some(at.offset.saturating_add(left))))
            }
            Frame::Chunked(chunked) => {
                let left = chunked.left();
                if chunked.skip(n) {
                    self.body.skip(unneeded, n);
                    return Skipped::Within;
                }
                if left > 0 {
                    self.body.skip(unneeded, left);
                }
                Skipped::Lost(self.tail(false, None))
            }
            // If its request was a HEAD, this is the next message, and nobody knows how much of it is missing.
            Frame::Perhaps { .. } => Skipped::Lost(self.tail(false, None)),
        }
    }

    /// The side sends nothing more.
    pub(super) fn end(&mut self, end: End, offset: u64) -> Tail {
        let complete = match &self.frame {
            Frame::Close => end == End::Fin,
            // A response to HEAD, it seems, if there was time for a body.
            Frame::Perhaps { seen: 0, .. } => end == End::Fin,
            Frame::Chunked(chunked) => chunked.data_complete(),
            _ => false,
        };
        let bodiless = matches!(self.frame, Frame::Perhaps { seen: 0, .. });
        let mut tail = Tail { bodiless, ..self.tail(complete, Some(offset)) };
        if !complete && tail.error.is_none() {
            tail.error = Some(ended_early(end));
        }
        tail
    }

    /// The tail; `complete`: the end of the body is known.
    fn tail(&mut self, complete: bool, end: Option<u64>) -> Tail {
        let none = BodyReader::new(Codings::default(), 0, false);
        let missing = self.body.missing();
        let body = std::mem::replace(&mut self.body, none).finish(complete && missing == 0);
        let lost = self.gaps > 0;
        let error = lost.then(|| fault(ErrorKind::Gap, "bytes of a body are not in the capture"));
        Tail {
            body,
            trailers: None,
            last: self.last,
            complete: complete && missing == 0,
            gaps: std::mem::take(&mut self.gaps),
            truncated: self.truncated,
            anomalies: Vec::new(),
            error,
            end,
            acked: self.acked,
            bodiless: false,
        }
    }
}

fn certain(length: Length) -> Frame {
    match length {
        Length::Chunked => Frame::Chunked(Chunked::default()),
        Length::Close => Frame::Close,
        Length::Fixed(n) => Frame::Fixed(n),
        Length::None => Frame::Fixed(0),
    }
}
