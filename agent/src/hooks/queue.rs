//! The bounded queue before one script: a number of events, and the memory that they hold.
//!
//! Live, a full queue refuses the newest event and the producer goes on: nothing after the engine may slow it. In a
//! replay the producer waits for room instead, for as long as the script gets on.
//!
//! The queue outlives the thread that serves it: when a script is edited, the thread of the new version takes over
//! ([`Queue::take_over`]) what waits. Only the thread whose turn it is gets events.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What happens when a script is slower than its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backpressure {
    /// The newest event is dropped and counted: live capture.
    DropNewest,
    /// The producer waits for room: replay of files.
    Wait,
}

/// What [`Queue::pop`] came to.
#[derive(Debug)]
pub(crate) enum Popped<T> {
    Event(T),
    /// Nothing came within the time given.
    Nothing,
    Closed,
}

#[derive(Debug)]
struct State<T> {
    /// Each with the memory that it holds, in bytes.
    events: VecDeque<(T, usize)>,
    /// Memory of `events`.
    bytes: usize,
    closed: bool,
    /// Whose turn it is to serve, counted from 0.
    turn: u64,
    /// The consumer works on an event.
    busy: bool,
    consumer_waits: bool,
    producers_wait: usize,
}

/// Many producers, one consumer.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    room: Condvar,
    limit: usize,
    limit_bytes: usize,
    mode: Backpressure,
    /// Longest wait of a producer while the consumer finishes nothing.
    stall: Duration,
    finished: AtomicU64,
}

impl<T> Queue<T> {
    /// A queue of at most `limit` events, which hold at most `limit_bytes` together. One event alone may hold more.
    pub(crate) fn new(limit: usize, limit_bytes: usize, mode: Backpressure, stall: Duration) -> Self {
        let state = State {
            events: VecDeque::new(),
            bytes: 0,
            closed: false,
            turn: 0,
            busy: false,
            consumer_waits: false,
            producers_wait: 0,
        };
        Self {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            room: Condvar::new(),
            limit: limit.max(1),
            limit_bytes,
            mode,
            stall,
            finished: AtomicU64::new(0),
        }
    }

    /// Queues an event that holds `bytes` of memory; `false` when it was refused.
    pub(crate) fn push(&self, event: T, bytes: usize) -> bool {
        let mut state = self.lock();
        if self.is_full(&state, bytes) && self.mode == Backpressure::Wait {
            state = self.wait_for_room(state, bytes);
        }
        if state.closed || self.is_full(&state, bytes) {
            return false;
        }
        state.events.push_back((event, bytes));
        state.bytes += bytes;
        let wake = std::mem::take(&mut state.consumer_waits);
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        true
    }

    fn is_full(&self, state: &State<T>, bytes: usize) -> bool {
        state.events.len() >= self.limit
            || (!state.events.is_empty() && state.bytes.saturating_add(bytes) > self.limit_bytes)
    }

    fn wait_for_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        bytes: usize,
    ) -> MutexGuard<'a, State<T>> {
        state.producers_wait += 1;
        let mut seen = self.finished();
        let mut since = Instant::now();
        while self.is_full(&state, bytes) && !state.closed && since.elapsed() < self.stall {
            let wait = Duration::from_millis(100).min(self.stall);
            state = self.room.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
            if self.finished() != seen {
                seen = self.finished();
                since = Instant::now();
            }
        }
        state.producers_wait -= 1;
        state
    }

    /// Takes the queue away from the thread that serves it now; what the new one is to say in [`Queue::pop`].
    pub(crate) fn take_over(&self) -> u64 {
        let mut state = self.lock();
        state.turn += 1;
        state.closed = false;
        let turn = state.turn;
        drop(state);
        self.arrived.notify_all();
        turn
    }

    /// The next event; says at the same time that the one before is finished. Waits at most `wait`. For a thread whose
    /// turn is over, the queue is closed.
    pub(crate) fn pop(&self, turn: u64, wait: Duration) -> Popped<T> {
        let mut until = None;
        let mut state = self.lock();
        if state.turn != turn {
            return Popped::Closed;
        }
        if std::mem::take(&mut state.busy) {
            self.finished.fetch_add(1, Ordering::Relaxed);
        }
        loop {
            if state.closed || state.turn != turn {
                return Popped::Closed;
            }
            if let Some((event, bytes)) = state.events.pop_front() {
                state.bytes -= bytes;
                state.busy = true;
                // Not for each place that becomes free: a producer would sleep and be woken again for every event.
                let has_room = state.events.len() <= self.limit / 2 && state.bytes <= self.limit_bytes / 2;
                let wake = state.producers_wait > 0 && has_room;
                drop(state);
                if wake {
                    self.room.notify_one();
                }
                return Popped::Event(event);
            }
            let now = Instant::now();
            let left = until.get_or_insert(now + wait).saturating_duration_since(now);
            if left.is_zero() {
                return Popped::Nothing;
            }
            state.consumer_waits = true;
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.consumer_waits = false;
        }
    }

    /// As [`Queue::close`], unless another thread has taken over.
    pub(crate) fn close_at(&self, turn: u64) -> usize {
        if self.lock().turn == turn { self.close() } else { 0 }
    }

    /// Refuses further events, wakes everyone, returns how many were left.
    pub(crate) fn close(&self) -> usize {
        let mut state = self.lock();
        state.closed = true;
        let left = state.events.len();
        state.events.clear();
        state.bytes = 0;
        drop(state);
        self.arrived.notify_all();
        self.room.notify_all();
        left
    }

    /// Whether nothing waits and nothing is being worked on.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.closed || (state.events.is_empty() && !state.busy)
    }

    /// Events finished since the start.
    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Events that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().events.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn live_drops_the_newest() {
        let queue = Queue::new(2, 100, Backpressure::DropNewest, SHORT);
        assert!(queue.push(1, 1) && queue.push(2, 1));
        assert!(!queue.push(3, 1), "the third is refused at once");
        assert!(matches!(queue.pop(0, SHORT), Popped::Event(1)));
        assert!(queue.push(4, 1));
        assert!(matches!(queue.pop(0, SHORT), Popped::Event(2)));
        assert!(matches!(queue.pop(0, SHORT), Popped::Event(4)));
        assert!(!queue.is_idle(), "4 is being worked on");
        assert!(matches!(queue.pop(0, SHORT), Popped::Nothing));
        assert!(queue.is_idle());
        assert_eq!(queue.finished(), 3);
    }

    #[test]
    fn memory_is_bounded_as_well_but_for_one_event() {
        let queue = Queue::new(10, 100, Backpressure::DropNewest, SHORT);
        assert!(queue.push(1, 1000), "alone it may be larger");
        assert!(!queue.push(2, 1));
        assert!(matches!(queue.pop(0, SHORT), Popped::Event(1)));
        assert!(queue.push(3, 60) && queue.push(4, 40));
        assert!(!queue.push(5, 1));
        assert_eq!(queue.close(), 2);
    }

    #[test]
    fn replay_waits_for_room_and_loses_nothing() {
        let queue = Arc::new(Queue::new(2, 100, Backpressure::Wait, Duration::from_secs(10)));
        let producer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || (0..1000).all(|n| queue.push(n, 1)))
        };
        for expected in 0..1000 {
            match queue.pop(0, Duration::from_secs(10)) {
                Popped::Event(n) => assert_eq!(n, expected),
                other => panic!("{other:?}"),
            }
        }
        assert!(producer.join().unwrap());
    }

    #[test]
    fn replay_does_not_wait_for_a_script_that_never_gets_on() {
        let queue = Queue::new(1, 100, Backpressure::Wait, SHORT);
        assert!(queue.push(1, 1));
        let began = Instant::now();
        assert!(!queue.push(2, 1));
        assert!(began.elapsed() >= SHORT);
    }

    #[test]
    fn closing_frees_those_who_wait() {
        let queue = Arc::new(Queue::new(1, 100, Backpressure::Wait, Duration::from_secs(60)));
        assert!(queue.push(1, 1));
        let producer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.push(2, 1))
        };
        std::thread::sleep(SHORT);
        assert_eq!(queue.close(), 1);
        assert!(!producer.join().unwrap());
        assert!(matches!(queue.pop(0, SHORT), Popped::Closed));
    }

    #[test]
    fn whoever_takes_over_gets_what_waits_and_the_other_nothing_more() {
        let queue = Queue::new(10, 100, Backpressure::DropNewest, SHORT);
        assert!(queue.push(1, 1) && queue.push(2, 1));
        assert!(matches!(queue.pop(0, SHORT), Popped::Event(1)));
        let turn = queue.take_over();
        assert!(matches!(queue.pop(0, SHORT), Popped::Closed));
        assert_eq!(queue.close_at(0), 0, "nor does its end close the queue");
        assert!(!queue.is_idle() && queue.push(3, 1));
        for expected in [2, 3] {
            assert!(matches!(queue.pop(turn, SHORT), Popped::Event(n) if n == expected));
        }
        assert!(matches!(queue.pop(turn, SHORT), Popped::Nothing));
        assert!(queue.is_idle());
    }
}
