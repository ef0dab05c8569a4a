//! Numbers, times, addresses and hexadecimal in decimal digits and letters: written into room that is large enough, without the
//! standard library's formatting. Each says how many bytes it wrote.

use std::io::Write as _;
use std::net::IpAddr;

use agent_core::Timestamp;

use crate::utc::civil;

/// Room for the longest of them: two numbers of 20 digits, an address.
pub(super) type Room = [u8; 64];

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// `0.` to `255.`, with their lengths.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut n = 0;
    while n < 256 {
        let [_, hundreds] = PAIRS[n / 100];
        let [tens, ones] = PAIRS[n % 100];
        octets[n] = match n {
            0..10 => ([ones, b'.', b'.', b'.'], 2),
            10..100 => ([tens, ones, b'.', b'.'], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        n += 1;
    }
    octets
};

/// `0000` to `9999`; a number below ten thousand.
#[inline(always)]
fn four(number: u64) -> [u8; 4] {
    let number = number as u32 % 10_000;
    let ([a, b], [c, d]) = (PAIRS[(number / 100) as usize], PAIRS[(number % 100) as usize]);
    [a, b, c, d]
}

/// Eight digits; a number below a hundred million.
#[inline(always)]
fn eight(number: u64) -> [u8; 8] {
    let number = number as u32;
    let ([a, b, c, d], [e, f, g, h]) = (four((number / 10_000).into()), four((number % 10_000).into()));
    [a, b, c, d, e, f, g, h]
}

#[inline(always)]
fn store<const N: usize>(into: &mut [u8], at: usize, text: [u8; N]) {
    if let Some(into) = into.get_mut(at..).and_then(|into| into.first_chunk_mut::<N>()) {
        *into = text;
    }
}

/// Decimal digits.
#[inline]
pub(super) fn digits(into: &mut Room, value: u64) -> usize {
    match value {
        0..10 => {
            into[0] = b'0' + value as u8;
            1
        }
        10..100 => {
            store(into, 0, PAIRS[value as usize]);
            2
        }
        100..10_000 => {
            let text = u32::from_le_bytes(four(value));
            let short = usize::from(value < 1000);
            store(into, 0, (text >> (8 * short)).to_le_bytes());
            4 - short
        }
        _ => many(into, value),
    }
}

/// As [`digits`], of ten thousand or more.
fn many(into: &mut Room, value: u64) -> usize {
    let (high, low) = (value / 100_000_000, value % 100_000_000);
    if high == 0 {
        let text = u64::from_le_bytes(eight(low));
        // Five digits at least: what is before them are zeros.
        let zeros = ((text ^ u64::from_le_bytes([b'0'; 8])).trailing_zeros() / 8) as usize;
        store(into, 0, (text >> (8 * zeros)).to_le_bytes());
        return 8 - zeros;
    }
    let at = digits(into, high);
    store(into, at, eight(low));
    at + 8
}

/// A stream's number: twelve decimal digits, or as many as it has.
#[inline]
pub(super) fn stream(into: &mut Room, number: u64) -> usize {
    if number >= 1_000_000_000_000 {
        return many(into, number);
    }
    store(into, 0, four(number / 100_000_000));
    store(into, 4, eight(number % 100_000_000));
    12
}

/// Nanoseconds as milliseconds with the fraction that they have: `12.345`.
#[inline]
pub(super) fn milliseconds(into: &mut Room, nanos: u64) -> usize {
    let (whole, fraction) = (nanos / 1_000_000, nanos % 1_000_000);
    let at = digits(into, whole);
    if fraction == 0 {
        return at;
    }
    let text = u64::from_le_bytes(eight(fraction));
    store(into, at, [b'.']);
    // Behind two zeros that are not shown.
    store(into, at + 1, (text >> 16).to_le_bytes());
    let zeros = (text ^ u64::from_le_bytes([b'0'; 8])).leading_zeros() / 8;
    at + 7 - zeros as usize
}

/// An address.
pub(super) fn ip(into: &mut Room, ip: IpAddr) -> usize {
    match ip {
        IpAddr::V4(ip) => {
            let mut at = 0;
            for octet in ip.octets() {
                let (text, length) = OCTETS[usize::from(octet)];
                store(into, at, text);
                at += usize::from(length);
            }
            at - 1
        }
        IpAddr::V6(ip) => {
            let mut rest = &mut into[..];
            // There is room for the longest.
            let _ = write!(rest, "{ip}");
            let left = rest.len();
            into.len() - left
        }
    }
}

/// Two digits of hexadecimal.
pub(super) const fn hex_of(byte: u8) -> [u8; 2] {
    [HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]
}

/// Length of a time without its nanoseconds.
pub(super) const SECOND: usize = "2026-11-21T09:55:00.".len();

/// `2026-11-21T09:55:00.`: of seconds since the epoch.
pub(super) fn second(seconds: u64) -> [u8; SECOND] {
    let pair = |n: u64| PAIRS[(n % 100) as usize];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // A time stamp of 64 bits ends in the year 2554.
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.";
    for (at, two) in [
        (0, year / 100),
        (2, year),
        (5, month),
        (8, day),
        (11, second / 3600),
        (14, second / 60 % 60),
        (17, second % 60),
    ] {
        text[at..at + 2].copy_from_slice(&pair(two));
    }
    text
}

/// `2026-11-21T09:55:00.123456789Z`, of which `second` is the beginning.
#[inline]
pub(super) fn with_nanos(into: &mut Room, second: [u8; SECOND], nanos: u64) -> usize {
    store(into, 0, second);
    let nanos = nanos as u32;
    store(into, SECOND, [b'0' + (nanos / 100_000_000 % 10) as u8]);
    store(into, SECOND + 1, eight((nanos % 100_000_000).into()));
    store(into, SECOND + 9, [b'Z']);
    SECOND + 10
}

/// `2026-11-21T09:55:00.123456789Z`.
pub(super) fn rfc3339(into: &mut Room, time: Timestamp) -> usize {
    with_nanos(into, second(time.0 / 1_000_000_000), time.0 % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Room) -> usize) -> String {
        let mut room = [b'#'; 64];
        let length = write(&mut room);
        String::from_utf8(room[..length].to_vec()).unwrap()
    }

    #[test]
    fn times_and_fractions() {
        let time = |seconds, nanos| text(|room| rfc3339(room, Timestamp::new(seconds, nanos)));
        assert_eq!(time(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(time(951_826_154, 42), "2000-02-29T12:09:14.000000042Z");
        assert_eq!(time(4_107_542_399, 123_456_789), "2100-02-28T23:59:59.123456789Z");
        assert_eq!(time(4_107_542_400, 999_999_999), "2100-03-01T00:00:00.999999999Z");
        for (nanos, want) in [
            (12_345_600, "12.3456"),
            (100, "0.0001"),
            (1, "0.000001"),
            (30_000_000, "30"),
            (0, "0"),
            (999_999, "0.999999"),
            (100_000, "0.1"),
            (98_765_432_100_000, "98765432.1"),
            (u64::MAX, "18446744073709.551615"),
        ] {
            assert_eq!(text(|room| milliseconds(room, nanos)), want);
        }
    }

    #[test]
    fn numbers_and_addresses() {
        let powers = (0..20).flat_map(|n| [10u64.pow(n) - 1, 10u64.pow(n), 10u64.pow(n) + 1]);
        for value in powers.chain(0..20_000).chain([u64::MAX, 12_345_678, 123_456_789_012_345]) {
            assert_eq!(text(|room| digits(room, value)), value.to_string());
            assert_eq!(text(|room| stream(room, value)), format!("{value:012}"));
        }
        for n in 0..=255 {
            let address = IpAddr::from([n, 255 - n, n, n / 10]);
            assert_eq!(text(|room| ip(room, address)), address.to_string());
        }
        for address in ["0.0.0.0", "::1", "2001:db8::ffff:1.2.3.4", "1111:2222:3333:4444:5555:6666:7777:8888"]
        {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(text(|room| ip(room, address)), address.to_string());
        }
    }
}
