//! Files that are read ahead, in pieces that end anywhere.

use std::io::{Cursor, Read, Write};

use pcap_file::{Endianness, TsResolution};

use super::{Seen, classic, drain};
use crate::capture::file::FileSource;

/// Gives so many bytes at once at most, a changing number.
struct Pieces {
    bytes: Cursor<Vec<u8>>,
    sizes: Vec<usize>,
    reads: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes[self.reads % self.sizes.len()].min(into.len());
        self.reads += 1;
        self.bytes.read(&mut into[..size])
    }
}

#[test]
fn records_are_whole_wherever_what_was_read_ahead_ends() {
    let sizes = [0, 60, 1514, 65_535, 9000, 200_000, 262_144, 1, 262_144, 262_144, 40_000];
    let mut packets: Vec<Seen> = (0..66_u32)
        .map(|n| {
            let data: Vec<u8> =
                (0..sizes[n as usize % sizes.len()]).map(|at| (at as u32 ^ n) as u8).collect();
            Seen { time: u64::from(n) * 1000, link: 1, original_len: data.len() as u32, data, interface: 0 }
        })
        .collect();
    let plain = classic(&mut packets, Endianness::Little, TsResolution::NanoSecond);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    for bytes in [plain, gz.finish().unwrap()] {
        for sizes in [vec![usize::MAX], vec![1 << 20, 1, 300_000], vec![24, 16, 7, 100_003], vec![524_288]] {
            let pieces = Pieces { bytes: Cursor::new(bytes.clone()), sizes, reads: 0 };
            let mut source = FileSource::from_reader("test", pieces).unwrap();
            let (seen, end) = drain(&mut source);
            assert_eq!(end, Ok(false));
            assert!(seen == packets, "{} of {} packets", seen.len(), packets.len());
        }
    }
}
