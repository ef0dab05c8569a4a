//! Does a direction begin like HTTP/1.x? A request line (RFC 9112 section 3) or a status line (section 4).
//!
//! The answer depends on at most [`MAX_PROBE`] bytes, however they arrive.

use crate::dissect::{Probe, Side};

/// With so many bytes the probe says yes or no.
pub const MAX_PROBE: usize = 2048;

/// Longest method that is believed.
pub(super) const MAX_METHOD: usize = 40;

/// Methods whose request line is believed before it is complete (IANA's registry, mostly).
pub(super) const KNOWN: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"QUERY",
    b"PURGE",
];

/// Looks at the first bytes of a direction. Empty lines before the first message are skipped (RFC 9112 section 2.2).
#[must_use]
pub fn probe(data: &[u8]) -> Probe {
    let capped = &data[..data.len().min(MAX_PROBE)];
    let blank = capped.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let line = &capped[blank..];
    let full = capped.len() == MAX_PROBE;
    let answer = match line.first() {
        None => Probe::NeedMore,
        Some(b'H') => match status_line(line) {
            Probe::No => request_line(line, full),
            other => other,
        },
        Some(_) => request_line(line, full),
    };
    // An empty line alone says nothing, and past the window "perhaps" is no.
    match answer {
        Probe::NeedMore if full => Probe::No,
        other => other,
    }
}

fn status_line(line: &[u8]) -> Probe {
    const SHAPE: &[u8] = b"HTTP/1.v ddd";
    for (&want, &have) in SHAPE.iter().zip(line) {
        let fits = match want {
            b'd' => have.is_ascii_digit(),
            b'v' => matches!(have, b'0' | b'1'),
            _ => have == want,
        };
        if !fits {
            return Probe::No;
        }
    }
    match line.get(SHAPE.len()) {
        None => Probe::NeedMore,
        Some(b' ' | b'\r' | b'\n') => Probe::Yes(Side::Server),
        Some(_) => Probe::No,
    }
}

fn request_line(line: &[u8], full: bool) -> Probe {
    let method = line.iter().take(MAX_METHOD + 1).take_while(|&&b| is_token(b)).count();
    if method == 0 || method > MAX_METHOD {
        return Probe::No;
    }
    let Some(rest) = line.get(method..).filter(|rest| !rest.is_empty()) else { return Probe::NeedMore };
    if rest[0] != b' ' {
        return Probe::No;
    }
    if let Some(end) = rest.iter().position(|&b| b == b'\n') {
        return if ends_in_version(&rest[1..end]) { Probe::Yes(Side::Client) } else { Probe::No };
    }
    if full && KNOWN.contains(&&line[..method]) && rest.get(1).is_some_and(u8::is_ascii_graphic) {
        // A request line of kilobytes: the method is all there is to go by.
        return Probe::Yes(Side::Client);
    }
    // Text can hold any printable byte; a control byte ends the matter early.
    if rest.iter().any(|&b| b < b' ' && b != b'\r') { Probe::No } else { Probe::NeedMore }
}

/// Whether what follows the method is a target and `HTTP/1.0` or `HTTP/1.1`.
fn ends_in_version(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_end();
    let Some((target, version)) = rest.len().checked_sub(8).map(|at| rest.split_at(at)) else { return false };
    matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
        && target.ends_with(b" ")
        && !target.trim_ascii().is_empty()
        && !target.iter().any(|&b| b < b' ' && b != b'\t')
}

/// tchar of RFC 9110 section 5.6.2.
pub(super) const fn is_token(b: u8) -> bool {
    TOKEN[b as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128 {
        let c = b as u8;
        table[b] = c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        b += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_beginnings() {
        for (bytes, side) in [
            (&b"GET / HTTP/1.1\r\n"[..], Side::Client),
            (b"get /x HTTP/1.0\n", Side::Client),
            (b"\r\n\r\nQUERY /x HTTP/1.1\r\nHost: a", Side::Client),
            (b"M-SEARCH * HTTP/1.1\r\n", Side::Client),
            (b"H /x HTTP/1.1\r\n", Side::Client),
            (b"GET /a b c HTTP/1.1\r\n", Side::Client),
            (b"HTTP/1.1 200 OK\r\n", Side::Server),
            (b"HTTP/1.0 404\r\n", Side::Server),
        ] {
            assert_eq!(probe(bytes), Probe::Yes(side), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn other_protocols() {
        for bytes in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            b"*3\r\n$3\r\nSET\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"GET key\r\n",
            b"OPTIONS rtsp://a/b RTSP/1.0\r\n",
            b"INVITE sip:a@b SIP/2.0\r\n",
            b"HTTP/2 200\r\n",
            b"HTTP/1.1 2000 OK\r\n",
            b"GET\t/ HTTP/1.1\r\n",
            b"AMQP\x00\x00\x09\x01",
        ] {
            assert_eq!(probe(bytes), Probe::No, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn every_prefix_asks_for_more_and_the_window_ends_it() {
        for whole in [&b"\r\nPROPFIND /a HTTP/1.1\r\n"[..], b"HTTP/1.1 200 "] {
            for end in 0..whole.len() {
                assert_eq!(probe(&whole[..end]), Probe::NeedMore, "{}", whole[..end].escape_ascii());
            }
            assert!(matches!(probe(whole), Probe::Yes(_)));
        }
        let long = [&b"GET /"[..], &[b'a'; 9000]].concat();
        assert_eq!(probe(&long[..MAX_PROBE - 1]), Probe::NeedMore);
        assert_eq!(probe(&long), Probe::Yes(Side::Client));
        let other = [&b"hello "[..], &[b'a'; 9000]].concat();
        assert_eq!(probe(&other[..100]), Probe::NeedMore);
        assert_eq!(probe(&other), Probe::No);
        assert_eq!(probe(&[b'\n'; MAX_PROBE]), Probe::No);
    }
}
