//! Content codings: never more than the cap, a start is a start, and what was coded comes back.

use std::io::Write;

use agent_core::dissect::content::{Codings, Decoded, decode};
use arbitrary::Unstructured;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

const NAMES: [&str; 7] = ["gzip", "deflate", "br", "zstd", "identity", "x-gzip", "compress"];

/// Flags, codings (two bits and more for each), the cap, then the body: coded bytes, or bytes to be coded.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let flags: u8 = u.arbitrary().unwrap_or(0);
    let stack: [u8; 2] = u.arbitrary().unwrap_or_default();
    let cap = usize::from(u.arbitrary::<u16>().unwrap_or(0));
    let body = u.take_rest();
    let names: Vec<usize> = (0..usize::from(flags & 7))
        .map(|i| usize::from(stack[i / 4 % 2] >> (2 * (i % 4)) & 3) + usize::from(flags >> 6))
        .map(|n| n % NAMES.len())
        .collect();
    if flags & 8 != 0 {
        comes_back(&names, body, cap);
    } else {
        any_bytes(&codings(&names), body, cap, flags & 16 != 0);
    }
}

fn codings(names: &[usize]) -> Codings {
    let mut codings = Codings::default();
    let list: Vec<&str> = names.iter().map(|&n| NAMES[n]).collect();
    codings.add(list.join(", ").as_bytes());
    codings
}

fn any_bytes(codings: &Codings, body: &[u8], cap: usize, cut: bool) {
    let all = decode(codings, body, cut, 1 << 16);
    let some = decode(codings, body, cut, cap);
    if !codings.identity() && codings.decodable() {
        for (answer, cap) in [(&all, 1 << 16), (&some, cap)] {
            if let Decoded::Whole(out) | Decoded::Start(out) = answer {
                assert!(out.len() <= cap, "{} bytes, the cap is {cap}", out.len());
            }
        }
    }
    if let Decoded::Whole(_) = all {
        assert!(!cut, "the start of a body is not the whole");
    }
    let single = !matches!((&all, &some), (Decoded::Failed, _) | (_, Decoded::Failed));
    if single && cap <= 1 << 16 {
        assert!(text(&all).starts_with(text(&some)), "a smaller cap gives other bytes");
    }
}

fn text(decoded: &Decoded) -> &[u8] {
    match decoded {
        Decoded::Whole(out) | Decoded::Start(out) => out,
        Decoded::Failed => &[],
    }
}

fn comes_back(names: &[usize], body: &[u8], cap: usize) {
    // What nobody codes here (brotli, compress) is passed over.
    let names: Vec<usize> = names.iter().copied().filter(|&n| !matches!(n, 2 | 6)).take(4).collect();
    let mut coded = body.to_vec();
    for &name in &names {
        coded = code(name, &coded, cap);
    }
    let codings = codings(&names);
    // Codings that shrink nothing make a body a little longer with each step.
    let room = body.len() * 2 + 4_096;
    assert!(
        decode(&codings, &coded, false, room) == Decoded::Whole(body.to_vec()),
        "{names:?}: not what was coded"
    );
    // Its start is the start of it.
    let part = coded.get(..cap % (coded.len() + 1)).unwrap_or_default();
    match decode(&codings, part, true, room) {
        Decoded::Start(out) => assert!(body.starts_with(&out), "{names:?}: the start of something else"),
        other => panic!("{names:?}: the start of a body is {other:?}"),
    }
    if codings.decodable() {
        match decode(&codings, &coded, false, cap) {
            Decoded::Whole(out) => assert!(out == body && body.len() <= cap),
            Decoded::Start(out) => assert!(out.len() <= cap && body.starts_with(&out)),
            // An inner step may need more than the cap of an outer one.
            Decoded::Failed => panic!("{names:?}: a cap of {cap} makes it fail"),
        }
    }
}

fn code(name: usize, body: &[u8], level: usize) -> Vec<u8> {
    let level = Compression::new(level as u32 % 10);
    let result = match NAMES[name] {
        "gzip" | "x-gzip" => write(GzEncoder::new(Vec::new(), level), body, GzEncoder::finish),
        "deflate" if body.len().is_multiple_of(2) => {
            write(ZlibEncoder::new(Vec::new(), level), body, ZlibEncoder::finish)
        }
        "deflate" => write(DeflateEncoder::new(Vec::new(), level), body, DeflateEncoder::finish),
        "zstd" => Ok(compress_to_vec(body, CompressionLevel::Fastest)),
        _ => Ok(body.to_vec()),
    };
    result.unwrap_or_default()
}

fn write<W: Write>(
    mut encoder: W,
    body: &[u8],
    finish: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
) -> std::io::Result<Vec<u8>> {
    encoder.write_all(body)?;
    finish(encoder)
}
