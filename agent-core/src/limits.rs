//! Every bound of the engine, by name. A limit that was reached is counted in [`crate::EngineStats`].

use std::time::Duration;

/// Bounds on what one engine keeps. All sizes in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Streams tracked at once; past it the longest idle one is closed.
    pub streams: usize,
    /// Out-of-order payload buffered for one direction of one stream.
    pub reassembly_per_direction: usize,
    /// Out-of-order payload buffered in all streams together.
    pub reassembly_total: usize,
    /// Holes that one direction may have at once.
    pub holes: usize,
    /// Memory of all dissectors together (partial heads, captured bodies, waiting requests).
    pub dissect_total: usize,
    /// Start line and header section of one message.
    pub head: usize,
    /// Header fields of one message.
    pub headers: usize,
    /// Captured body of one message: what is kept of it after transfer decoding, and what content decoding gives at most.
    pub body: usize,
    /// Requests of one stream that wait for their response.
    pub pipelined: usize,
    /// Interim (1xx) responses kept for one response.
    pub interim: usize,
    /// Anomalies kept for one item; those of its bodies' codings are not kept.
    pub anomalies: usize,
    /// Gaps listed for one direction in a stream's summary; further ones are only counted.
    pub listed_gaps: usize,
    /// A stream with handshake seen and no packet for this long is closed (reason `timeout`).
    pub idle_timeout: Duration,
    /// A stream that never got beyond its SYN is closed after this long.
    pub handshake_timeout: Duration,
    /// A stream that one side closed, seen at that side's own socket, with nothing under way and no packet for this long, is
    /// closed (reason `fin`): the other side's FIN is not seen there any more.
    pub half_closed: Duration,
    /// A stream that both sides closed (or a RST) is kept this long for stray retransmissions.
    pub linger: Duration,
    /// A hole is given up (becomes a gap) after this long without the missing bytes.
    pub hole_timeout: Duration,
    /// A hole that the receiver acknowledged is still waited for until so many packets from beyond it were captured, for
    /// packets can be captured in another order than they were sent.
    pub reorder_packets: u64,
    /// The same as time; also how long the start of a stream that was joined in the middle is waited for.
    pub reorder_time: Duration,
    /// IP fragments that wait for the rest of their datagram, with their overhead.
    pub fragment_memory: usize,
    /// A datagram that is still in pieces after this long is dropped.
    pub fragment_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 200_000,
            reassembly_per_direction: 4 << 20,
            reassembly_total: 256 << 20,
            holes: 1024,
            dissect_total: 256 << 20,
            head: 256 << 10,
            headers: 512,
            body: 1 << 20,
            pipelined: 1024,
            interim: 16,
            anomalies: 16,
            listed_gaps: 1024,
            idle_timeout: Duration::from_secs(600),
            handshake_timeout: Duration::from_secs(30),
            // What Linux grants an orphaned socket in FIN-WAIT-2.
            half_closed: Duration::from_secs(60),
            linger: Duration::from_secs(5),
            hole_timeout: Duration::from_secs(10),
            reorder_packets: 8,
            reorder_time: Duration::from_millis(100),
            fragment_memory: 4 << 20,
            fragment_timeout: Duration::from_secs(30),
        }
    }
}
