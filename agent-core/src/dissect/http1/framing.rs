//! Where a message's body ends (RFC 9112 section 6), and which codings it has.
//!
//! Shapes on which two readers may differ (request smuggling) are read in one defined way and named as anomalies:
//! chunked wins over `Content-Length`; of several `Content-Length` values the first counts; one that is no number is as
//! if it were not there; a `Transfer-Encoding` that does not end in chunked is as if it were not there.

use super::head::{Head, StartLine, note};
use crate::anomaly::{Anomaly, AnomalyKind};
use crate::dissect::content::Codings;
use crate::item::Common;

/// How the end of a body is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Length {
    /// There is no body.
    None,
    /// So many bytes.
    Fixed(u64),
    /// The chunked coding (RFC 9112 section 7.1).
    Chunked,
    /// Until the connection closes.
    Close,
}

/// What the header section says about the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    /// By the fields alone; for a response the request's method and the status have their say too.
    pub(super) length: Length,
    pub(super) codings: Codings,
}

/// Reads the fields that matter to framing, and adds what is odd about them to the head's anomalies.
pub(super) fn framing(head: &mut Head) -> Framing {
    let mut lengths = Lengths::default();
    let mut transfer = Transfer::default();
    let mut codings = Codings::default();
    let block = &head.block;
    let several = [Common::ContentLength, Common::ContentEncoding].map(|name| block.repeats(name));
    if block.has(Common::TransferEncoding) || several != [false; 2] {
        for (name, value) in block.iter() {
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => lengths.add(value),
                16 if name.eq_ignore_ascii_case(b"content-encoding") => codings.add(value),
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => transfer.add(value),
                _ => {}
            }
        }
    } else {
        block.common(Common::ContentLength).into_iter().for_each(|value| lengths.add(value));
        block.common(Common::ContentEncoding).into_iter().for_each(|value| codings.add(value));
    }
    let response = matches!(head.start, StartLine::Response { .. });
    let length = if transfer.present {
        transfer.judge(&lengths, response, &mut codings, &mut head.anomalies)
    } else {
        lengths.judge(response, &mut head.anomalies)
    };
    Framing { length, codings }
}

/// What the `Content-Length` fields say.
#[derive(Default)]
struct Lengths {
    first: Option<u64>,
    present: bool,
    bad: bool,
    differ: bool,
}

impl Lengths {
    /// Adds one field, which may be a list (RFC 9110 section 8.6).
    fn add(&mut self, value: &[u8]) {
        if !self.present
            && let Some(number) = decimal(value).filter(|&n| n <= i64::MAX as u64)
        {
            (self.first, self.present) = (Some(number), true);
            return;
        }
        for part in value.split(|&b| b == b',') {
            let number = decimal(part.trim_ascii());
            // Beyond 63 bits common readers disagree.
            self.bad |= number.is_none_or(|n| n > i64::MAX as u64);
            match (self.present, number) {
                (false, _) => self.first = number,
                (true, n) => self.differ |= n != self.first,
            }
            self.present = true;
        }
    }

    fn notes(&self, anomalies: &mut Vec<Anomaly>) {
        if self.differ {
            anomalies.push(note(
                AnomalyKind::HttpConflictingLengths,
                "Content-Length values differ; the first was used",
            ));
        }
        if self.bad {
            anomalies.push(note(
                AnomalyKind::HttpBadLength,
                "Content-Length is not a decimal number of at most 63 bits",
            ));
        }
    }

    fn judge(&self, response: bool, anomalies: &mut Vec<Anomaly>) -> Length {
        self.notes(anomalies);
        match self.first {
            Some(n) => Length::Fixed(n),
            None if response => Length::Close,
            None => Length::None,
        }
    }
}

/// Digits only; more than 64 bits become the largest number.
fn decimal(text: &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.saturating_mul(10).saturating_add(u64::from(digit));
    }
    (!text.is_empty()).then_some(number)
}

/// What the `Transfer-Encoding` fields say.
#[derive(Default)]
struct Transfer {
    present: bool,
    chunked_last: bool,
    identity: bool,
    odd: bool,
    /// Codings under the chunked one.
    others: Vec<Vec<u8>>,
}

impl Transfer {
    fn add(&mut self, value: &[u8]) {
        self.odd |= self.present;
        self.present = true;
        for part in value.split(|&b| b == b',') {
            let coding = part.trim_ascii();
            if coding.is_empty() {
                continue;
            }
            self.odd |= self.chunked_last;
            self.chunked_last = coding.eq_ignore_ascii_case(b"chunked");
            self.identity = coding.eq_ignore_ascii_case(b"identity");
            if !self.chunked_last && !self.identity && self.others.len() < 4 {
                self.others.push(coding.to_vec());
            }
        }
    }

    fn judge(
        &self,
        lengths: &Lengths,
        response: bool,
        codings: &mut Codings,
        anomalies: &mut Vec<Anomaly>,
    ) -> Length {
        for coding in &self.others {
            codings.add(coding);
        }
        if !self.chunked_last || self.odd {
            let msg = "Transfer-Encoding is not one list that ends in chunked";
            anomalies.push(note(AnomalyKind::HttpBadTransferEncoding, msg));
        }
        if lengths.present {
            let msg = "both Transfer-Encoding and Content-Length";
            anomalies.push(note(AnomalyKind::HttpBothLengths, msg));
        }
        if self.chunked_last {
            lengths.notes(anomalies);
            return Length::Chunked;
        }
        // A response whose last coding is unknown ends with the connection, but for "identity", which never was one.
        if response && !self.identity { Length::Close } else { lengths.judge(response, anomalies) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::Side;
    use crate::dissect::http1::head::parse_lenient;

    fn judge(side: Side, fields: &str) -> (Length, Vec<AnomalyKind>) {
        let line = if side == Side::Client { "POST / HTTP/1.1" } else { "HTTP/1.1 200 OK" };
        let mut head = parse_lenient(side, format!("{line}\r\n{fields}\r\n").as_bytes(), false, 64).unwrap();
        let length = framing(&mut head).length;
        (length, head.anomalies.iter().map(|a| a.kind).collect())
    }

    #[test]
    fn lengths() {
        use AnomalyKind as K;
        use Length::{Chunked, Close, Fixed, None};
        use Side::{Client, Server};
        let max = "Content-Length: 18446744073709551615\r\n";
        for (side, fields, length, kinds) in [
            (Client, "", None, &[][..]),
            (Server, "", Close, &[]),
            (Client, "content-length: 5\r\n", Fixed(5), &[]),
            (Client, "Content-Length: 5, 5\r\nContent-Length: 5\r\n", Fixed(5), &[]),
            (Client, "Content-Length: 5\r\nContent-Length: 6\r\n", Fixed(5), &[K::HttpConflictingLengths]),
            (Client, "Content-Length: +5\r\n", None, &[K::HttpBadLength]),
            (Server, "Content-Length: 0x5\r\n", Close, &[K::HttpBadLength]),
            (Client, "Content-Length:\r\n", None, &[K::HttpBadLength]),
            (Client, "Content-Length: 5, 6\r\n", Fixed(5), &[K::HttpConflictingLengths]),
            (Client, "Content-Length: 9223372036854775807\r\n", Fixed(i64::MAX as u64), &[]),
            (Client, "Content-Length: 9223372036854775808\r\n", Fixed(1 << 63), &[K::HttpBadLength]),
            (Client, "Content-Length: 1, 9223372036854775807\r\n", Fixed(1), &[K::HttpConflictingLengths]),
            (Client, "Content-Length: 1:\r\n", None, &[K::HttpBadLength]),
            (Client, "Transfer-Encoding: chunked,\r\n", Chunked, &[]),
            (
                Client,
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
                Chunked,
                &[K::HttpBadTransferEncoding],
            ),
            (
                Server,
                "Transfer-Encoding: Identity\r\nContent-Length: 3\r\n",
                Fixed(3),
                &[K::HttpBadTransferEncoding, K::HttpBothLengths],
            ),
            (
                Server,
                "Transfer-Encoding: cow\r\nContent-Length: 3\r\n",
                Close,
                &[K::HttpBadTransferEncoding, K::HttpBothLengths],
            ),
            (
                Client,
                "Transfer-Encoding: chunked\r\nContent-Length: 5, 6\r\n",
                Chunked,
                &[K::HttpBothLengths, K::HttpConflictingLengths],
            ),
            // Other fields whose names are as long.
            (Server, "Transfer-Encoding: chunked\r\nAccept-Charset: 5\r\n", Chunked, &[]),
            (
                Client,
                "Content-Length: 5\r\nContent-Length: 5\r\nIf-Modified-Since: chunked\r\n",
                Fixed(5),
                &[],
            ),
            (Client, max, Fixed(u64::MAX), &[K::HttpBadLength]),
            (Client, "Content-Length: 99999999999999999999999\r\n", Fixed(u64::MAX), &[K::HttpBadLength]),
            (Client, "Transfer-Encoding: Chunked\r\n", Chunked, &[]),
            (Client, "Transfer-Encoding: gzip, chunked\r\n", Chunked, &[]),
            (Server, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", Chunked, &[K::HttpBothLengths]),
            (Client, "Transfer-Encoding: xchunked\r\n", None, &[K::HttpBadTransferEncoding]),
            (Server, "Transfer-Encoding: chunked, gzip\r\n", Close, &[K::HttpBadTransferEncoding]),
            (Server, "Transfer-Encoding: chunked, chunked\r\n", Chunked, &[K::HttpBadTransferEncoding]),
            (
                Client,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\nContent-Length: 4\r\n",
                Fixed(4),
                &[K::HttpBadTransferEncoding, K::HttpBothLengths],
            ),
        ] {
            assert_eq!(judge(side, fields), (length, kinds.to_vec()), "{side:?} {fields}");
        }
    }

    #[test]
    fn codings_are_those_of_the_field_that_names_them() {
        for (fields, decodable) in [
            ("Content-Encoding: gzip\r\n", true),
            ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", true),
            ("Transfer-Encoding: gzip, chunked\r\n", true),
            ("Transfer-Encoding: chunked\r\n", false),
            ("Transfer-Encoding: chunked\r\nX-Content-Coding: gzip\r\n", false),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let mut head = parse_lenient(Side::Server, head.as_bytes(), false, 64).unwrap();
            assert_eq!(framing(&mut head).codings.decodable(), decodable, "{fields}");
        }
    }
}
