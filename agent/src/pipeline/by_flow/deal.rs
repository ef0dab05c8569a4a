//! Deals a file's packets to the workers, by flow.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use agent_core::shard::{Place, Sharder};
use agent_core::{Packet, Timestamp};

use super::{Dealing, Dealt, Hand};
use crate::capture::file::{Block, BlockSource};
use crate::pipeline::Stop;

/// See the module.
pub(super) struct Dealer {
    source: Box<dyn BlockSource>,
    sharder: Sharder,
    hands: Vec<SyncSender<Hand>>,
    stop: Stop,
    /// The latest time so far.
    now: Timestamp,
    /// Packets so far.
    number: u64,
}

/// What a block comes to.
struct Round {
    /// Packets, and data of those that were held, of each worker.
    hands: Vec<(Vec<Dealt>, Vec<u8>)>,
    times: Vec<Timestamp>,
}

impl Round {
    fn new(workers: usize) -> Self {
        Self { hands: (0..workers).map(|_| Default::default()).collect(), times: Vec::new() }
    }

    /// Gives a packet to a worker, whose data begins there; a held one's is taken.
    #[inline]
    fn give(&mut self, place: Place, packet: &Packet<'_>, start: Option<usize>) {
        let (worker, given_up) = match place {
            Place::To(worker) => (worker, false),
            Place::GivenUp(worker) => (worker, true),
            Place::Held => return,
        };
        let Some((packets, held)) = self.hands.get_mut(usize::from(worker)) else { return };
        let at = start.unwrap_or(held.len());
        if start.is_none() {
            held.extend_from_slice(packet.data);
        }
        // Blocks are far below 4 GiB, and so is what is held.
        packets.push(Dealt {
            time: packet.time,
            start: at as u32,
            len: packet.data.len() as u32,
            original_len: packet.original_len,
            interface: packet.origin.interface,
            index: self.times.len().saturating_sub(1) as u32,
            link: packet.link.0,
            held: start.is_none(),
            given_up,
        });
    }
}

impl Dealer {
    pub(super) fn new(
        source: Box<dyn BlockSource>,
        sharder: Sharder,
        hands: Vec<SyncSender<Hand>>,
        stop: Stop,
    ) -> Self {
        Self { source, sharder, hands, stop, now: Timestamp::default(), number: 0 }
    }

    /// Deals until the file ends, fails, or a stop is asked for.
    pub(super) fn run(mut self) -> Dealing {
        let mut error = None;
        while !self.stop.is_set() {
            let mut round = Round::new(self.hands.len());
            let Self { source, sharder, now, .. } = &mut self;
            let polled = source.poll_block(&mut |start, packet| {
                *now = (*now).max(packet.time);
                round.times.push(*now);
                let place =
                    sharder.place(packet, *now, &mut |place, held| round.give(place, &held.packet(), None));
                round.give(place, packet, Some(start));
            });
            match polled {
                Ok(Some(block)) => {
                    if !self.send(round, &block) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(failed) => {
                    error = Some(failed);
                    break;
                }
            }
        }
        let mut round = Round::new(self.hands.len());
        round.times.push(self.now);
        self.sharder.finish(self.now, &mut |place, held| round.give(place, &held.packet(), None));
        self.send(round, &Arc::default());
        (self.sharder.stats().clone(), error)
    }

    /// Gives everybody a hand, empty or not: all must know the time. `false`: somebody takes none any more. The others have
    /// theirs all the same.
    fn send(&mut self, round: Round, block: &Arc<Block>) -> bool {
        let first = self.number;
        self.number += round.times.len() as u64;
        let times = Arc::new(round.times);
        let mut all = true;
        for ((packets, held), to) in round.hands.into_iter().zip(&self.hands) {
            let hand = Hand { block: Arc::clone(block), held, packets, times: Arc::clone(&times), first };
            all &= to.send(hand).is_ok();
        }
        all
    }
}
