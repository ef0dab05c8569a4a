//! The reader against an independent writer (the `pcap-file` crate), cut and arbitrary bytes, and hand-made oddities.

use std::borrow::Cow;
use std::io::{Cursor, Write};
use std::time::Duration;

use agent_core::{LinkType, Packet, Timestamp};
use pcap_file::pcap::{PcapHeader, PcapWriter, RawPcapPacket};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::simple_packet::SimplePacketBlock;
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use proptest::prelude::*;

use super::{CaptureFileError, FileSource};
use crate::capture::{PacketSource, Progress};

mod ahead;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    time: u64,
    link: u16,
    data: Vec<u8>,
    original_len: u32,
    interface: u32,
}

impl From<&Packet<'_>> for Seen {
    fn from(p: &Packet<'_>) -> Self {
        Self {
            time: p.time.0,
            link: p.link.0,
            data: p.data.to_vec(),
            original_len: p.original_len,
            interface: p.origin.interface,
        }
    }
}

/// All packets up to the end or the error, and how it ended: `Ok(truncated)`.
fn drain(source: &mut FileSource) -> (Vec<Seen>, Result<bool, String>) {
    let mut seen = Vec::new();
    loop {
        let before = seen.len();
        match source.poll(7, Duration::ZERO, &mut |p| seen.push(Seen::from(p))) {
            Ok(Progress::Packets(n)) => assert!(n == seen.len() - before && (1..=7).contains(&n)),
            Ok(Progress::End) => return (seen, Ok(source.truncated())),
            Ok(Progress::Idle) => panic!("a file is never idle"),
            Err(e) => return (seen, Err(e.to_string())),
        }
    }
}

fn read(bytes: &[u8]) -> (Vec<Seen>, Result<bool, String>) {
    match FileSource::from_reader("test", Cursor::new(bytes.to_vec())) {
        Ok(mut source) => drain(&mut source),
        Err(e) => (Vec::new(), Err(e.to_string())),
    }
}

fn packets() -> impl Strategy<Value = Vec<Seen>> {
    let packet = (
        0_u64..4_000_000_000_000_000_000,
        prop::collection::vec(any::<u8>(), 0..200),
        0_u32..70_000,
        0_u32..3,
    )
        .prop_map(|(time, data, more, interface)| Seen {
            time,
            link: 1,
            original_len: data.len() as u32 + more,
            data,
            interface,
        });
    prop::collection::vec(packet, 0..40)
}

/// Writes classic pcap by the judge; times lose what the resolution cannot hold, interfaces are not kept.
fn classic(packets: &mut [Seen], endianness: Endianness, ts_resolution: TsResolution) -> Vec<u8> {
    let header = PcapHeader { endianness, ts_resolution, snaplen: 65535, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for p in packets {
        let unit = if ts_resolution == TsResolution::NanoSecond { 1 } else { 1000 };
        p.time -= p.time % unit;
        p.interface = 0;
        let raw = RawPcapPacket {
            ts_sec: (p.time / 1_000_000_000) as u32,
            ts_frac: (p.time % 1_000_000_000 / unit) as u32,
            incl_len: p.data.len() as u32,
            orig_len: p.original_len,
            data: Cow::Borrowed(&p.data),
        };
        writer.write_raw_packet(&raw).unwrap();
    }
    writer.into_writer()
}

fn interface(link: DataLink, resolution: u8) -> InterfaceDescriptionBlock<'static> {
    let options = vec![InterfaceDescriptionOption::IfTsResol(resolution)];
    InterfaceDescriptionBlock { linktype: link, snaplen: 0, options }
}

/// Writes pcapng by the judge: three interfaces of different link types, in `sections` sections.
fn ng(packets: &mut [Seen], endianness: Endianness, sections: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let each = packets.len().div_ceil(sections).max(1);
    for part in packets.chunks_mut(each) {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
        for link in [DataLink::ETHERNET, DataLink::RAW, DataLink::LINUX_SLL] {
            writer.write_pcapng_block(interface(link, 9)).unwrap();
        }
        for p in part {
            p.link = [1, 101, 113][p.interface as usize];
            let block = EnhancedPacketBlock {
                interface_id: p.interface,
                timestamp: Duration::from_nanos(p.time),
                original_len: p.original_len,
                data: Cow::Borrowed(&p.data),
                options: vec![],
            };
            writer.write_pcapng_block(block).unwrap();
        }
        all.extend(writer.into_inner());
    }
    all
}

const ENDS: [Endianness; 2] = [Endianness::Little, Endianness::Big];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn classic_files_read_back(mut packets in packets(), big in any::<bool>(), nanos in any::<bool>()) {
        let resolution = if nanos { TsResolution::NanoSecond } else { TsResolution::MicroSecond };
        let bytes = classic(&mut packets, ENDS[usize::from(big)], resolution);
        prop_assert_eq!(read(&bytes), (packets, Ok(false)));
    }

    #[test]
    fn pcapng_files_read_back(mut packets in packets(), big in any::<bool>(), sections in 1_usize..4) {
        prop_assume!(!packets.is_empty());
        let bytes = ng(&mut packets, ENDS[usize::from(big)], sections);
        prop_assert_eq!(read(&bytes), (packets, Ok(false)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        start in prop::sample::select(vec![vec![], vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0], vec![0x0a, 0x0d, 0x0d, 0x0a]]),
        rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        drop(read(&[start, rest].concat()));
    }

    /// Flipped bytes in valid files reach further into the parsers than random ones do.
    #[test]
    fn damaged_files_never_panic(
        mut packets in packets(),
        ng_format in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        prop_assume!(!packets.is_empty());
        let mut bytes = if ng_format {
            ng(&mut packets, Endianness::Little, 2)
        } else {
            classic(&mut packets, Endianness::Little, TsResolution::MicroSecond)
        };
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        drop(read(&bytes));
    }
}

fn some_packets() -> Vec<Seen> {
    (0..5_u32)
        .map(|i| Seen {
            time: 1_700_000_000_123_456_000 + u64::from(i) * 1_000_000,
            link: 1,
            data: vec![i as u8; 13 * i as usize],
            original_len: 100 * i,
            interface: i % 3,
        })
        .collect()
}

#[test]
fn a_file_cut_at_any_byte_gives_a_prefix() {
    let mut packets = some_packets();
    let as_classic = classic(&mut packets, Endianness::Little, TsResolution::MicroSecond);
    let mut ng_packets = some_packets();
    let as_ng = ng(&mut ng_packets, Endianness::Big, 2);
    for (bytes, packets) in [(as_classic, packets), (as_ng, ng_packets)] {
        let mut counts = Vec::new();
        for cut in 0..bytes.len() {
            let (seen, end) = read(&bytes[..cut]);
            assert!(packets.starts_with(&seen), "cut at {cut}: {seen:?}");
            if let Err(e) = &end {
                assert!(cut < 24, "cut at {cut}: {e}");
            }
            counts.push(seen.len());
        }
        assert!(counts.is_sorted());
        assert_eq!(counts.last(), Some(&(packets.len() - 1)));
        assert_eq!(read(&bytes[..bytes.len() - 1]).1, Ok(true), "the cut is told");
    }
}

#[test]
fn what_is_no_capture_is_named() {
    let open = |bytes: &'static [u8]| FileSource::from_reader("x.pcap", bytes).err().map(|e| e.to_string());
    assert_eq!(open(b"").unwrap(), "x.pcap: not a capture file: it is empty; expected pcap or pcapng");
    let garbage = open(b"GET / HTTP/1.1").unwrap();
    assert_eq!(
        garbage,
        "x.pcap: not a capture file: starts with 47 45 54 20 2f 20 48 54; expected pcap or pcapng"
    );
    assert!(open(b"\x0a").unwrap().contains("starts with 0a;"));
    let short = open(b"\xd4\xc3\xb2\xa1\x02\x00").unwrap();
    assert_eq!(short, "x.pcap: damaged at byte 0: the file ends within its header (6 of 24 bytes)");
    let version = open(b"\xd4\xc3\xb2\xa1\x03\x00\x01\x00aaaabbbbccccdddd").unwrap();
    assert!(version.contains("pcap version 3.1"), "{version}");
}

#[test]
fn a_missing_file_and_a_folder_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = FileSource::open(folder.path().join("no.pcap")).err().unwrap();
    assert!(matches!(missing, CaptureFileError::Open { .. }));
    assert!(missing.to_string().contains("no.pcap: No such file"), "{missing}");
    let is_folder = FileSource::open(folder.path()).err().unwrap().to_string();
    assert!(is_folder.contains("directory"), "{is_folder}");
}

/// A classic record header and its data, little-endian.
fn record(words: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.extend(data);
    bytes
}

#[test]
fn an_impossible_length_ends_with_the_place_after_the_packets_before() {
    let mut packets = some_packets();
    let mut bytes = classic(&mut packets, Endianness::Little, TsResolution::MicroSecond);
    let offset = bytes.len();
    bytes.extend(record(&[0, 0, 300_000, 300_000], b"rest"));
    let (seen, end) = read(&bytes);
    assert_eq!(seen, packets);
    let message = end.unwrap_err();
    assert_eq!(
        message,
        format!(
            "test: damaged at byte {offset}: a packet record of 300000 bytes; the largest that can be is 262144"
        )
    );
}

#[test]
fn a_record_larger_than_the_window_is_read_whole() {
    let mut bytes = record(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 4 << 20, 0x5400_0001], b"");
    let big = vec![0x5a; 3 << 20];
    bytes.extend(record(&[1, 2, 3, 60], b"abc"));
    bytes.extend(record(&[3, 4, big.len() as u32, big.len() as u32], &big));
    bytes.extend(record(&[5, 6, 1, 0], b"z"));
    let (seen, end) = read(&bytes);
    assert_eq!(end, Ok(false));
    assert_eq!(seen.len(), 3);
    assert_eq!(
        seen[0],
        Seen { time: 1_000_002_000, link: 1, data: b"abc".to_vec(), original_len: 60, interface: 0 }
    );
    assert_eq!(seen[1].data, big);
    assert_eq!(
        (seen[2].data.as_slice(), seen[2].original_len),
        (&b"z"[..], 0),
        "captured more than there was"
    );
}

#[test]
fn kuznetzov_and_ixia_variants() {
    let mut modified = record(&[0xa1b2_cd34, 0x0004_0002, 0, 0, 65535, 1], b"");
    for i in 0..2_u8 {
        modified.extend(record(&[7, 8, 2, 2, 42, 0], &[i, i]));
    }
    let (seen, end) = read(&modified);
    assert_eq!((seen.len(), end), (2, Ok(false)));
    assert_eq!(
        seen[1],
        Seen { time: 7_000_008_000, link: 1, data: vec![1, 1], original_len: 2, interface: 42 }
    );

    let mut ixia = record(&[0x1c00_01ab, 0x0004_0002, 0, 0, 65535, 101, 18], b"");
    ixia.extend(record(&[7, 8, 2, 2], b"hi"));
    let (seen, end) = read(&ixia);
    assert_eq!(end, Ok(false));
    assert_eq!(
        seen,
        [Seen { time: 7_000_008_000, link: 101, data: b"hi".to_vec(), original_len: 2, interface: 0 }]
    );
}

/// A pcapng block, little-endian.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len().next_multiple_of(4)) as u32;
    let mut bytes = [kind.to_le_bytes(), length.to_le_bytes()].concat();
    bytes.extend(body);
    bytes.resize(length as usize - 4, 0);
    bytes.extend(length.to_le_bytes());
    bytes
}

fn section() -> Vec<u8> {
    block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat())
}

/// An interface description with those options, as (code, value).
fn described(link: u8, snaplen: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![link, 0, 0, 0];
    body.extend(snaplen.to_le_bytes());
    for (code, value) in options {
        body.extend([code.to_le_bytes(), (value.len() as u16).to_le_bytes()].concat());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    block(1, &body)
}

fn enhanced(interface: u32, time: u64, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    block(6, &record(&[interface, (time >> 32) as u32, time as u32, len, len], data))
}

#[test]
fn resolutions_and_offsets() {
    type Options<'a> = &'a [(u16, &'a [u8])];
    let cases: &[(Options<'_>, u64, u64)] = &[
        (&[], 1_500_000, 1_500_000_000),
        (&[(9, &[3])], 1_500, 1_500_000_000),
        (&[(9, &[0])], 3, 3_000_000_000),
        (&[(9, &[12])], 1_500_000_000_999, 1_500_000_000),
        (&[(9, &[0x7f])], u64::MAX, 0),
        (&[(9, &[0x80 | 10])], 1536, 1_500_000_000),
        (&[(9, &[0x80 | 32])], (1 << 32) + (1 << 31), 1_500_000_000),
        (&[(9, &[0xff])], u64::MAX, 0),
        (&[(2, b"eth0\0"), (9, &[9]), (14, &2_i64.to_le_bytes())], 5, 2_000_000_005),
        (&[(14, &(-2_i64).to_le_bytes())], 3_000_000, 1_000_000_000),
        (&[(14, &i64::MIN.to_le_bytes())], 3_000_000, 0),
        (&[(14, &i64::MAX.to_le_bytes())], 3_000_000, u64::MAX),
        (&[(9, &[0])], u64::MAX, u64::MAX),
    ];
    for &(options, count, expected) in cases {
        let bytes = [section(), described(1, 0, options), enhanced(0, count, b"x")].concat();
        let (seen, end) = read(&bytes);
        assert_eq!(end, Ok(false));
        assert_eq!(seen[0].time, expected, "{options:?} {count}");
    }
}

#[test]
fn options_that_make_no_sense_end_the_list() {
    let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0];
    body.extend([9, 0, 1, 0, 9, 0, 0, 0]); // if_tsresol = 9
    body.extend([2, 0, 0xff, 0xff, 1, 2, 3, 4]); // if_name longer than the block
    let bytes = [section(), block(1, &body), enhanced(0, 77, b"x")].concat();
    assert_eq!(read(&bytes).0[0].time, 77);
}

#[test]
fn simple_obsolete_and_unknown_blocks() {
    // By hand: the judge swaps the halves of an obsolete block's time.
    let obsolete = block(2, &record(&[9 << 16 | 1, 0, 4_000_000, 3, 90], b"old"));
    let simple = SimplePacketBlock { original_len: 2000, data: Cow::Borrowed(b"simple") };
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), Endianness::Little).unwrap();
    let mut first = interface(DataLink::ETHERNET, 6);
    first.snaplen = 6;
    writer.write_pcapng_block(first).unwrap();
    writer.write_pcapng_block(interface(DataLink::RAW, 6)).unwrap();
    let mut bytes = writer.into_inner();
    bytes.extend(obsolete);
    bytes.extend(block(0x0bad, &[7; 3 << 20]));
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), Endianness::Little).unwrap();
    writer.write_block(&simple.into_block()).unwrap();
    bytes.extend(&writer.into_inner()[28..]);
    let (seen, end) = read(&bytes);
    assert_eq!(end, Ok(false));
    assert_eq!(
        seen,
        [
            Seen { time: 4_000_000_000, link: 101, data: b"old".to_vec(), original_len: 90, interface: 1 },
            Seen { time: 4_000_000_000, link: 1, data: b"simple".to_vec(), original_len: 2000, interface: 0 },
        ]
    );
}

#[test]
fn what_cannot_be_in_pcapng_is_named() {
    let good = [section(), described(1, 0, &[]), enhanced(0, 1, b"x")].concat();
    let mut disagreeing = enhanced(0, 1, b"x");
    let last = disagreeing.len() - 4;
    disagreeing[last] ^= 4;
    let cases = [
        (enhanced(3, 1, b"x"), "a packet of interface 3; the section describes 1 so far"),
        (disagreeing, "a block (type 0x6) of 36 bytes that says 32 at its end"),
        (record(&[6, 8, 8], b""), "a block (type 0x6) of 8 bytes; the least is 12"),
        (record(&[6, 1 << 30, 8], b""), "of 1073741824 bytes; the largest read is"),
        (block(6, &record(&[0, 0, 1, 9, 9], b"x")), "a packet of 9 bytes in a block with room for 4"),
        (block(6, &[0; 8]), "an enhanced packet block that is too short"),
        (record(&[0x0a0d_0d0a, 28, 7], b""), "a section header whose byte-order magic is [07, 00, 00, 00]"),
    ];
    for (bad, expected) in cases {
        let (seen, end) = read(&[&good[..], &bad, &good].concat());
        assert_eq!(seen.len(), 1);
        let message = end.unwrap_err();
        assert!(
            message.contains(expected) && message.contains(&format!("at byte {}", good.len())),
            "{message}"
        );
    }
}

#[test]
fn compressed_files_are_read_and_their_progress_told() {
    let mut packets: Vec<Seen> = std::iter::repeat_with(some_packets).take(20_000).flatten().collect();
    let bytes = classic(&mut packets, Endianness::Little, TsResolution::NanoSecond);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pcap.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap();

    let mut source = FileSource::open(&path).unwrap();
    let len = source.len_bytes().unwrap();
    assert!(len < bytes.len() as u64);
    let (seen, end) = drain(&mut source);
    assert!(seen == packets);
    assert_eq!((end, source.position_bytes()), (Ok(false), len));

    let short = std::fs::read(&path).unwrap();
    let (seen, end) = read(&short[..short.len() / 2]);
    assert!(packets.starts_with(&seen) && !seen.is_empty());
    assert_eq!(end, Ok(true));
}

#[test]
fn plain_files_tell_progress() {
    let mut packets = some_packets();
    let bytes = classic(&mut packets, Endianness::Little, TsResolution::NanoSecond);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let mut source = FileSource::open(file.path()).unwrap();
    assert_eq!((source.position_bytes(), source.len_bytes()), (24, Some(bytes.len() as u64)));
    let progress = source.poll(2, Duration::ZERO, &mut |p| assert_eq!(p.link, LinkType::ETHERNET)).unwrap();
    assert_eq!(progress, Progress::Packets(2));
    assert_eq!(source.position_bytes(), 24 + 2 * 16 + 13);
    let mut times = Vec::new();
    while source.poll(100, Duration::ZERO, &mut |p| times.push(p.time)).unwrap() != Progress::End {}
    assert_eq!(times.last(), Some(&Timestamp(packets[4].time)));
    assert_eq!(source.position_bytes(), bytes.len() as u64);
}
