//! Content codings: decoded whole, cut, damaged, stacked, and bombs.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

const CAP: usize = 1 << 20;

/// `remora\n` 40 times and "end", by the reference encoders: brotli quality 9, `zstd -19 --no-check`.
const TEXT_BR: &[u8] = include_bytes!("testdata/text.br");
const TEXT_ZST: &[u8] = include_bytes!("testdata/text.zst");
/// 64 MiB of zeros, by the same tools.
const BOMB_BR: &[u8] = include_bytes!("testdata/zeros.br");
const BOMB_ZST: &[u8] = include_bytes!("testdata/zeros.zst");
/// 400 words, by `zstd -19 --no-check`: literals by Huffman code, sequences by tables of the frame's own.
const WORDS_ZST: &[u8] = include_bytes!("testdata/words.zst");

fn text() -> Vec<u8> {
    [b"remora\n".repeat(40), b"end".to_vec()].concat()
}

fn codings(value: &str) -> Codings {
    let mut codings = Codings::default();
    codings.add(value.as_bytes());
    codings
}

fn gz(data: &[u8]) -> Vec<u8> {
    let mut w = GzEncoder::new(Vec::new(), Compression::default());
    w.write_all(data).unwrap();
    w.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut w = ZlibEncoder::new(Vec::new(), Compression::default());
    w.write_all(data).unwrap();
    w.finish().unwrap()
}

fn raw(data: &[u8]) -> Vec<u8> {
    let mut w = DeflateEncoder::new(Vec::new(), Compression::default());
    w.write_all(data).unwrap();
    w.finish().unwrap()
}

#[test]
fn every_coding_and_stacks_of_them() {
    let text = text();
    for (value, coded) in [
        ("gzip", gz(&text)),
        ("X-GZIP", gz(&text)),
        ("gzip", [gz(&text[..10]), gz(&text[10..])].concat()),
        ("gzip", [gz(&text), b"garbage".to_vec()].concat()),
        ("deflate", zlib(&text)),
        ("deflate", raw(&text)),
        ("br", TEXT_BR.to_vec()),
        ("zstd", TEXT_ZST.to_vec()),
        ("zstd", [b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc", TEXT_ZST].concat()),
        ("identity, deflate , gzip", gz(&zlib(&text))),
        ("zstd, gzip", gz(TEXT_ZST)),
    ] {
        assert!(codings(value).decodable());
        assert_eq!(decode(&codings(value), &coded, false, CAP), Decoded::Whole(text.clone()), "{value}");
    }
}

#[test]
fn what_is_not_known_is_not_decodable() {
    assert!(codings("").identity() && codings("identity").identity());
    for value in ["compress", "gzip, compress", "aws-chunked", "gzip,gzip,gzip,gzip,gzip"] {
        assert!(!codings(value).decodable() && !codings(value).identity(), "{value}");
    }
}

#[test]
fn cut_input_gives_the_start_and_uncut_fails() {
    let big: Vec<u8> =
        (0..40_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
    for (value, coded) in [("gzip", gz(&big)), ("deflate", zlib(&big)), ("deflate", raw(&big))] {
        let half = &coded[..coded.len() / 2];
        let Decoded::Start(out) = decode(&codings(value), half, true, CAP) else { panic!("{value}") };
        assert!(out.len() > 1000 && big.starts_with(&out), "{value} {}", out.len());
        assert_eq!(decode(&codings(value), half, false, CAP), Decoded::Failed, "{value}");
    }
    for (value, coded) in [("br", TEXT_BR), ("zstd", TEXT_ZST)] {
        let part = &coded[..coded.len() - 3];
        let Decoded::Start(out) = decode(&codings(value), part, true, CAP) else { panic!("{value}") };
        assert!(text().starts_with(&out), "{value}");
        assert_eq!(decode(&codings(value), part, false, CAP), Decoded::Failed, "{value}");
    }
}

#[test]
fn bombs_cost_no_more_than_the_cap() {
    let zeros = vec![0; 64 << 20];
    for (value, coded) in [
        ("gzip", gz(&zeros)),
        ("deflate", zlib(&zeros)),
        ("br", BOMB_BR.to_vec()),
        ("zstd", BOMB_ZST.to_vec()),
        ("gzip, gzip", gz(&gz(&zeros))),
    ] {
        let Decoded::Start(out) = decode(&codings(value), &coded, false, 100_000) else { panic!("{value}") };
        assert_eq!(out, vec![0; 100_000], "{value}");
    }
}

#[test]
fn exactly_the_cap_is_whole() {
    for (value, coded) in [("gzip", gz(&text())), ("br", TEXT_BR.to_vec()), ("zstd", TEXT_ZST.to_vec())] {
        let all = text().len();
        assert_eq!(decode(&codings(value), &coded, false, all), Decoded::Whole(text()), "{value}");
        assert_eq!(
            decode(&codings(value), &coded, false, all - 1),
            Decoded::Start(text()[..all - 1].to_vec()),
            "{value}"
        );
        assert_eq!(decode(&codings(value), &coded, false, 0), Decoded::Start(Vec::new()), "{value}");
    }
}

#[test]
fn garbage_fails_and_never_panics() {
    let mut seed = 1u64;
    for value in ["gzip", "deflate", "br", "zstd"] {
        assert_eq!(
            decode(&codings(value), b"\xff\xff\xffno such thing", false, CAP),
            Decoded::Failed,
            "{value}"
        );
        assert_eq!(decode(&codings(value), b"", false, CAP), Decoded::Whole(Vec::new()));
        let valid = match value {
            "gzip" => gz(&text()),
            "deflate" => zlib(&text()),
            "br" => TEXT_BR.to_vec(),
            _ => TEXT_ZST.to_vec(),
        };
        for _ in 0..2000 {
            let mut bytes = valid.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] ^= (seed >> 25) as u8;
            }
            let _ = decode(&codings(value), &bytes, seed & 1 == 0, 10_000);
        }
    }
}

/// A window beyond 8 MiB is refused before any memory is taken for it (RFC 9659).
#[test]
fn large_zstd_windows_are_refused() {
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x80];
    assert_eq!(decode(&codings("zstd"), &[&header[..], &[1, 0, 0]].concat(), false, CAP), Decoded::Failed);
    let small = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68];
    let empty = [&small[..], &[1, 0, 0]].concat();
    assert_eq!(decode(&codings("zstd"), &empty, false, CAP), Decoded::Whole(Vec::new()));
}

/// Without the net that catches panics: damage near the headers of frame, blocks and tables, bits and bytes, cut and moved.
#[test]
fn no_damaged_zstandard_frame_makes_the_decoder_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut readable = 0;
    for round in 0..20_000 {
        let mut frame = if round % 3 == 0 { TEXT_ZST.to_vec() } else { WORDS_ZST.to_vec() };
        for _ in 0..=random(3) {
            let near = if random(3) == 0 { frame.len() } else { frame.len().min(120) };
            let at = random(near);
            match random(5) {
                0 => frame[at] ^= 1 << random(8),
                1 => frame[at] = random(256) as u8,
                2 => frame.truncate(at.max(6)),
                3 => frame.insert(at, random(256) as u8),
                _ => _ = frame.remove(at),
            }
        }
        let (out, ending, _) = zstd_frame(&frame, CAP);
        assert!(out.len() <= CAP);
        readable += usize::from(ending == Ending::Done);
    }
    assert!((100..19_000).contains(&readable), "damage that is no damage, or all of it: {readable}");
}
