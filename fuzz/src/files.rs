//! Capture files of any bytes: read in one go and in small pieces, they hold the same packets.

use std::io::{self, Read};
use std::time::Duration;

use crate::capture::file::FileSource;
use crate::capture::{PacketSource, Progress};

/// More than a reader needs for any file of the size that is tried here, in bytes.
const MOST: usize = 24 << 20;

/// The bytes are the file.
pub fn run(data: &[u8]) {
    let whole = read(data, usize::MAX);
    let pieces = 1 + data.get(20).map_or(0, |&b| usize::from(b));
    let again = read(data, pieces);
    if data.starts_with(&[0x1f, 0x8b]) && whole.2.is_some() && again.2.is_some() {
        // How much is inflated before damage is found depends on how much is read at once.
        let both = whole.0.len().min(again.0.len());
        return assert!(whole.0[..both] == again.0[..both]);
    }
    assert!(whole == again, "read in pieces of {pieces}: {again:?}\nat once: {whole:?}");
}

/// Packets (time, link, original length, bytes), whether it was cut short, and the error.
type Outcome = (Vec<(u64, u16, u32, u32, Vec<u8>)>, bool, Option<String>);

fn read(data: &[u8], piece: usize) -> Outcome {
    let mut packets = Vec::new();
    let reader = Pieces { data: data.to_vec(), at: 0, piece };
    let mut source = match FileSource::from_reader("input", reader) {
        Ok(source) => source,
        Err(error) => return (packets, false, Some(error.to_string())),
    };
    let max = if piece == usize::MAX { 64 } else { 3 };
    let mut bytes = 0;
    let error = loop {
        let mut count = 0;
        let progress = source.poll(max, Duration::ZERO, &mut |packet| {
            count += 1;
            bytes += packet.data.len();
            assert!(bytes < MOST || packet.data.len() < MOST);
            if packets.len() < 1_000 {
                let start = packet.data.get(..64).unwrap_or(packet.data).to_vec();
                let (time, link) = (packet.time.0, packet.link.0);
                packets.push((time, link, packet.original_len, packet.origin.interface, start));
            }
        });
        match progress {
            Ok(Progress::Packets(n)) => assert_eq!((n, n <= max), (count, true)),
            Ok(Progress::End) => {
                assert_eq!(count, 0);
                let again = source.poll(max, Duration::ZERO, &mut |_| panic!("a packet after the end"));
                assert!(matches!(again, Ok(Progress::End)), "after the end: {again:?}");
                break None;
            }
            Ok(Progress::Idle) => panic!("a file is never idle"),
            Err(error) => break Some(error.to_string()),
        }
    };
    (packets, source.truncated(), error)
}

/// Gives so many bytes at a time.
struct Pieces {
    data: Vec<u8>,
    at: usize,
    piece: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let n = rest.len().min(self.piece).min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}
