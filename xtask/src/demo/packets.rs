//! A capture file read back: how many packets, and the first lines of what tshark or tcpdump say about them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::sys::{project, run, term};

const LINES: usize = 8;
const WIDTH: usize = 116;

/// Prints it.
pub(super) fn print(file: &Path) -> Result<()> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    term::fact("packets", &format!("{} in {}", count(&bytes)?, project::shown(file)));
    let tools: [(&str, &[&str]); 2] = [("tshark", &["-n", "-r"]), ("tcpdump", &["-nn", "-q", "-r"])];
    let said = tools.iter().find_map(|(name, arguments)| {
        let program = project::program(name)?;
        run::try_output(run::command(program).args(*arguments).arg(file)).map(|text| (*name, text))
    });
    match said {
        Some((name, text)) => {
            term::fact("read back", &format!("by {name}:"));
            for line in excerpt(&text) {
                term::say(&format!("    {}", term::dim(&line.chars().take(WIDTH).collect::<String>())));
            }
        }
        None => term::fact("read back", "neither tshark nor tcpdump is installed"),
    }
    term::fact("open it", &format!("wireshark {}", project::shown(file)));
    Ok(())
}

/// The first lines, and those about a server's error.
fn excerpt(text: &str) -> Vec<&str> {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let (first, rest) = lines.split_at(lines.len().min(LINES));
    let errors: Vec<_> = rest.iter().copied().filter(|l| l.contains("HTTP/1.1 500")).collect();
    let more = (!errors.is_empty()).then_some("  …");
    first.iter().copied().chain(more).chain(errors.into_iter().take(LINES)).collect()
}

/// Packets of a capture file: classic pcap of either byte order and precision, or pcapng.
fn count(bytes: &[u8]) -> Result<usize> {
    let magic: [u8; 4] =
        bytes.get(..4).and_then(|m| m.try_into().ok()).context("no capture file: shorter than 4 bytes")?;
    match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => classic(bytes, u32::from_le_bytes),
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => classic(bytes, u32::from_be_bytes),
        [0x0a, 0x0d, 0x0d, 0x0a] => pcapng(bytes),
        other => bail!("no capture file: it begins with {other:02x?}"),
    }
}

fn word(bytes: &[u8], at: usize, decode: fn([u8; 4]) -> u32) -> Result<usize> {
    let four =
        bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).with_context(|| format!("cut at byte {at}"))?;
    Ok(decode(four) as usize)
}

fn classic(bytes: &[u8], decode: fn([u8; 4]) -> u32) -> Result<usize> {
    let (mut at, mut packets) = (24, 0);
    while at < bytes.len() {
        at += 16 + word(bytes, at + 8, decode)?;
        packets += 1;
    }
    if at != bytes.len() {
        bail!("the last packet is cut");
    }
    Ok(packets)
}

fn pcapng(bytes: &[u8]) -> Result<usize> {
    let decode = if bytes.get(8..12) == Some(&[0x4d, 0x3c, 0x2b, 0x1a]) {
        u32::from_le_bytes
    } else {
        u32::from_be_bytes
    };
    let (mut at, mut packets) = (0, 0);
    while at < bytes.len() {
        // Enhanced and simple packet blocks.
        packets += usize::from(matches!(word(bytes, at, decode)?, 6 | 3));
        let length = word(bytes, at + 4, decode)?;
        if length < 12 {
            bail!("a block of {length} bytes at byte {at}");
        }
        at += length;
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcap(packets: &[&[u8]], big: bool) -> Vec<u8> {
        let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut file = word(0xa1b2_c3d4).to_vec();
        file.extend([0; 20]);
        for packet in packets {
            file.extend([0; 8]);
            file.extend(word(packet.len() as u32));
            file.extend(word(packet.len() as u32));
            file.extend(*packet);
        }
        file
    }

    #[test]
    fn packets_are_counted_in_every_format() {
        for big in [false, true] {
            assert_eq!(count(&pcap(&[], big)).unwrap(), 0);
            assert_eq!(count(&pcap(&[b"abc", b"", b"defgh"], big)).unwrap(), 3);
        }
        let block = |kind: u32, body: &[u8]| {
            let length = (12 + body.len()) as u32;
            [&kind.to_le_bytes(), &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
        };
        let section =
            block(0x0a0d_0d0a, &[&[0x4d, 0x3c, 0x2b, 0x1a][..], &[1, 0, 0, 0], &[0xff; 8]].concat());
        let file =
            [section, block(1, &[0; 8]), block(6, &[0; 24]), block(5, &[0; 12]), block(6, &[0; 28])].concat();
        assert_eq!(count(&file).unwrap(), 2);
    }

    #[test]
    fn the_excerpt_has_the_beginning_and_the_error() {
        let text: String =
            (0..20).map(|n| format!("{n} {}\n", if n == 15 { "HTTP/1.1 500 Oops" } else { "ACK" })).collect();
        let lines = excerpt(&text);
        assert_eq!(lines.len(), LINES + 2);
        assert_eq!((lines[0], lines[LINES + 1]), ("0 ACK", "15 HTTP/1.1 500 Oops"));
        assert_eq!(excerpt("a\nb\n"), ["a", "b"]);
    }

    #[test]
    fn what_is_no_capture_or_cut_is_an_error() {
        assert!(count(b"").is_err());
        assert!(count(b"HTTP/1.1 200 OK").is_err());
        let file = pcap(&[b"abc"], false);
        assert!(count(&file[..file.len() - 1]).is_err());
    }
}
