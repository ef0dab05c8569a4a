//! Transactions by their targets, and which packets carry them.

use std::collections::HashMap;

use anyhow::{Result, ensure};

use crate::mangle::Capture;
use crate::mangle::segment::{Flow, Segment};

/// Targets that a transaction can have, `/r/12` or `/r/x12`: these prefixes, at most one letter, digits.
const PREFIXES: [&[u8]; 3] = [b"/r/", b"/b/", b"/c/"];
/// What a message begins with.
const BEGINNINGS: [&[u8]; 4] = [b"HTTP/1.1 ", b"HTTP/1.0 ", b"GET /", b"POST /"];

/// All transactions of a capture, numbered.
#[derive(Debug)]
pub struct Ids {
    numbers: HashMap<Vec<u8>, u32>,
    /// Client's port of each.
    ports: Vec<u16>,
}

impl Ids {
    /// Of nginx's access log as [`crate::nginx`] writes it: `client-ip:port request-target status` a line.
    ///
    /// # Errors
    /// When a line is something else, or a target comes twice.
    pub fn from_access_log<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut ids = Self { numbers: HashMap::new(), ports: Vec::new() };
        for line in lines {
            let mut words = line.split(' ');
            let port = words.next().and_then(|w| w.rsplit_once(':')).and_then(|(_, port)| port.parse().ok());
            let target = words.next().filter(|t| tokens(t.as_bytes()).next() == Some((0, t.as_bytes())));
            let (Some(port), Some(target)) = (port, target) else {
                anyhow::bail!("not a line of the access log: {line:?}")
            };
            let number = u32::try_from(ids.ports.len())?;
            ensure!(
                ids.numbers.insert(target.into(), number).is_none(),
                "{target} was asked for twice: it names no one transaction"
            );
            ids.ports.push(port);
        }
        Ok(ids)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The number of a target.
    #[must_use]
    pub fn number(&self, target: &[u8]) -> Option<u32> {
        self.numbers.get(target).copied()
    }

    /// The target with a number; for what is said, not for use in quantity.
    pub(super) fn target(&self, number: u32) -> String {
        let target = self.numbers.iter().find(|(_, n)| **n == number);
        target.map(|(target, _)| String::from_utf8_lossy(target).into_owned()).unwrap_or_default()
    }

    pub(super) fn port(&self, number: u32) -> u16 {
        self.ports[number as usize]
    }

    /// The numbers of all targets in a text; `None` for one that nobody asked for.
    pub(super) fn named_in<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Option<u32>> + 'a {
        tokens(text).map(|(_, target)| self.number(target))
    }
}

/// Targets in a text, each with its offset.
fn tokens(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += text[at..].iter().position(|&b| b == b'/')?;
            let rest = &text[at..];
            at += 1;
            if !PREFIXES.iter().any(|prefix| rest.starts_with(prefix)) {
                continue;
            }
            let letter = usize::from(rest.get(3).is_some_and(u8::is_ascii_lowercase));
            let digits = rest[3 + letter..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits > 0 {
                return Some((at - 1, &rest[..3 + letter + digits]));
            }
        }
    })
}

/// Which transactions each packet of a capture carries bytes of.
///
/// By what stands in the payloads, for a capture without loss or reordering: it does not depend on anyone's reassembly.
#[derive(Debug)]
pub struct Places {
    /// Packet and transaction, ordered by packet.
    carried: Vec<(u32, u32)>,
}

impl Places {
    /// Looks at all packets.
    #[must_use]
    pub fn find(capture: &Capture<'_>, ids: &Ids) -> Self {
        let mut carried = Vec::new();
        // Of each direction: the transaction whose message goes on, and packets of one that has not been named yet.
        let mut open: HashMap<Flow, (Option<u32>, Vec<u32>)> = HashMap::new();
        for (packet, at) in capture.packets.iter().zip(0_u32..) {
            let Some(segment) = Segment::find(capture.link, &packet.data) else { continue };
            let payload = segment.payload(&packet.data);
            // One byte may be a keep-alive probe, which carries nothing.
            if payload.len() < 2 {
                continue;
            }
            let (current, unnamed) = open.entry(segment.flow).or_default();
            let begins = BEGINNINGS.iter().any(|b| payload.starts_with(b));
            if begins {
                *current = None;
            }
            carried.extend(current.iter().map(|&id| (at, id)));
            let mut last = 0;
            for (offset, id) in tokens(payload).filter_map(|(o, t)| Some((o, ids.number(t)?))) {
                carried.extend(unnamed.drain(..).map(|packet| (packet, id)));
                carried.push((at, id));
                (*current, last) = (Some(id), offset);
            }
            let nameless = |from: usize| {
                BEGINNINGS.iter().any(|b| payload[from..].windows(b.len()).any(|window| window == *b))
            };
            if (begins && current.is_none()) || !unnamed.is_empty() || nameless(last) {
                unnamed.push(at);
            }
        }
        carried.sort_unstable();
        carried.dedup();
        Self { carried }
    }

    /// The transactions of which `left`, made from `whole` by leaving packets out, misses bytes: a flag for each.
    #[must_use]
    pub fn touched(&self, whole: &Capture<'_>, left: &Capture<'_>, ids: &Ids) -> Vec<bool> {
        let mut touched = vec![false; ids.len()];
        let mut left = left.packets.iter().map(|p| p.data.as_ptr()).peekable();
        let mut carried = self.carried.iter().peekable();
        for (packet, at) in whole.packets.iter().zip(0_u32..) {
            // What is left borrows from what was.
            let there = left.next_if_eq(&packet.data.as_ptr()).is_some();
            while let Some((_, id)) = carried.next_if(|(packet, _)| *packet == at) {
                touched[*id as usize] |= !there;
            }
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mangle::Mangle;
    use crate::synth;

    #[test]
    fn targets_are_told_from_what_looks_like_them() {
        let found: Vec<_> =
            tokens(b"GET /r/12 HTTP/1.1 /b/ //c/x7, /r/x/r/y3z/c/ab1").map(|(_, t)| t).collect();
        assert_eq!(found, [&b"/r/12"[..], b"/c/x7", b"/r/y3"]);
        let log = ["10.0.0.1:4000 /r/1 200", "10.0.0.1:4001 /c/x2 200"];
        let ids = Ids::from_access_log(log).unwrap();
        assert_eq!((ids.len(), ids.number(b"/c/x2"), ids.port(1)), (2, Some(1), 4001));
        for bad in ["", "x /r/1 200", "1.1.1.1:1 /r/ 200", "1.1.1.1:1 /r/1?a 200"] {
            assert!(Ids::from_access_log([bad]).is_err(), "{bad}");
        }
        assert!(Ids::from_access_log([log[0], log[0]]).is_err());
    }

    #[test]
    fn a_packet_carries_the_messages_whose_bytes_it_has() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut capture = synth::Capture::create(file.path()).unwrap();
        let mut connection = capture.open(4000).unwrap();
        let long = "x".repeat(3000);
        // Frames 3 and 4; then 5 to 7 with the response to the first, the end of the third with the whole second one.
        capture
            .send(&mut connection, synth::CLIENT, b"GET /r/0 HTTP/1.1\r\n\r\nGET /r/1 HTTP/1.1\r\n\r\n")
            .unwrap();
        let responses = format!("HTTP/1.1 200 OK\r\n\r\n/r/0{long}HTTP/1.1 200 OK\r\n\r\n/r/1");
        capture.send(&mut connection, synth::SERVER, responses.as_bytes()).unwrap();
        // A head whose name comes with the next packet only: frames 9 and 10.
        let pad = "y".repeat(1460 - 17);
        capture
            .send(&mut connection, synth::SERVER, format!("HTTP/1.1 200 OK\r\n{pad}/r/2").as_bytes())
            .unwrap();
        drop(capture);
        let capture = Capture::read(file.path()).unwrap();
        let ids = Ids::from_access_log(["a:1 /r/0 200", "a:1 /r/1 200", "a:1 /r/2 200"]).unwrap();
        let places = Places::find(&capture, &ids);
        let expected = [(3, 0), (3, 1), (5, 0), (6, 0), (7, 0), (7, 1), (9, 2), (10, 2)];
        assert_eq!(places.carried, expected);
        let mut left = Mangle::default().apply(&capture);
        assert_eq!(places.touched(&capture, &left, &ids), [false; 3]);
        left.packets.remove(10);
        left.packets.remove(6);
        left.packets.remove(0);
        assert_eq!(places.touched(&capture, &left, &ids), [true, false, true]);
    }
}
