//! Lines in the order of the file, each with its numbers; a worker that stalls holds up the reader and nothing grows.

use std::io::{self, IoSlice, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agent_core::{LinkType, Origin, Packet};

use super::*;
use crate::pipeline::Stop;
use crate::view::head;

/// Takes a few bytes at a time, and is interrupted in between.
#[derive(Default)]
struct Slow {
    taken: Vec<u8>,
    calls: usize,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let some = all.len().min(7);
        self.taken.extend_from_slice(&all[..some]);
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line(text: &mut Vec<u8>, rest: &[u8]) -> std::ops::Range<usize> {
    let start = text.len();
    text.resize(start + head::LONGER, b'?');
    text.extend_from_slice(head::BLANK);
    text.extend_from_slice(rest);
    start..text.len()
}

#[test]
fn lines_of_several_buffers_are_written_whole_with_their_numbers() {
    let mut lines = lines::Lines::new(Slow::default());
    let mut texts = [Vec::new(), Vec::new()];
    let (a, b) = (line(&mut texts[0], b",1}\n"), line(&mut texts[1], b",2}\n"));
    let c = line(&mut texts[0], b",3}\n");
    lines.add(0, &mut texts[0], a, (StreamId(5), 0));
    lines.add(1, &mut texts[1], b, (StreamId(123_456_789_012_345), 99));
    lines.add(0, &mut texts[0], c, (StreamId(5), u64::MAX));
    lines.flush(texts.iter().map(|text| &text[..])).unwrap();
    let expected = "{\"id\":\"000000000005-0\",\"index\":0,\"stream\":\"000000000005\",1}\n\
        {\"id\":\"123456789012345-99\",\"index\":99,\"stream\":\"123456789012345\",2}\n\
        {\"id\":\"000000000005-18446744073709551615\",\"index\":18446744073709551615,\"stream\":\"000000000005\",3}\n";
    assert_eq!(String::from_utf8(lines.into_inner().taken).unwrap(), expected);
}

/// Blocks without end, of one packet that is of no flow.
struct Endless(Arc<AtomicUsize>);

impl BlockSource for Endless {
    fn poll_block(&mut self, sink: &mut dyn FnMut(usize, &Packet<'_>)) -> anyhow::Result<Option<Arc<Block>>> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        let time = Timestamp(number as u64);
        let origin = Origin::default();
        sink(0, &Packet { time, link: LinkType::ETHERNET, data: b"", original_len: 60, origin });
        Ok(Some(Arc::default()))
    }
}

#[test]
fn a_worker_that_does_not_get_on_holds_the_reader_and_nobody_runs_ahead() {
    let polled = Arc::new(AtomicUsize::new(0));
    let (stop, sharder) = (Stop::default(), Sharder::new(2, Limits::default(), 1));
    let (a, first) = sync_channel(WAITING);
    let (b, second) = sync_channel(WAITING);
    let dealer = Dealer::new(Box::new(Endless(Arc::clone(&polled))), sharder, vec![a, b], stop.clone());
    let thread = std::thread::spawn(move || dealer.run());
    let reaches = |blocks: usize| {
        let began = Instant::now();
        while polled.load(Ordering::SeqCst) < blocks {
            assert!(began.elapsed() < Duration::from_secs(30), "{polled:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(polled.load(Ordering::SeqCst), blocks);
    };
    reaches(WAITING + 1);
    // The first worker alone does not let it go on for long: the second has to take its blocks as well.
    let hands: Vec<Hand> = first.iter().take(3).collect();
    assert!(hands.windows(2).all(|pair| pair[1].first == pair[0].first + 1));
    reaches(WAITING + 1);
    drop(second.recv());
    reaches(WAITING + 2);
    stop.set();
    drop((first, second));
    let (stats, error) = thread.join().unwrap();
    assert!(error.is_none() && stats == EngineStats::default());
}

#[test]
fn limits_are_shared_out_and_stay_of_use() {
    let all = Limits::default();
    let one = shared_out(&all, 4);
    assert_eq!((one.streams, one.dissect_total), (all.streams / 4, all.dissect_total / 4));
    assert_eq!(
        (one.body, one.idle_timeout),
        (all.body, all.idle_timeout),
        "of one message or stream: as they were"
    );
    let many = shared_out(&all, 64);
    assert!(many.reassembly_total >= all.reassembly_per_direction && many.fragment_memory >= 128 << 10);
    assert_eq!(shared_out(&Limits { streams: 0, ..all }, 2).streams, 0);
}
