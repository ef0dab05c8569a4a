//! What an engine counts: plain numbers, each with one meaning. Unless said otherwise they only grow.

/// Counters of one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Packets handed to the engine.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Packets cut by the snap length.
    pub truncated: u64,
    /// Packets of a link type that is not known.
    pub unknown_link: u64,
    /// Packets that are not TCP over IP.
    pub non_tcp: u64,
    /// Packets whose headers were cut by the snap length, so that nothing is known of them.
    pub header_cut: u64,
    /// Packets with a link header or tag that contradicts itself.
    pub malformed_link: u64,
    /// Packets with such an IP header, or extension header.
    pub malformed_ip: u64,
    /// Packets with such a TCP header, or with the same address and port at both ends.
    pub malformed_tcp: u64,
    /// Packets with such a UDP, GRE, VXLAN, GENEVE or ERSPAN header.
    pub malformed_tunnel: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Datagrams put together from fragments.
    pub defragmented: u64,
    /// Fragments that overlapped another one (the first copy was kept).
    pub fragment_overlaps: u64,
    /// Fragments refused: no length, past the end of a datagram, or too many pieces.
    pub fragments_refused: u64,
    /// Datagrams in pieces that were dropped to keep [`crate::Limits::fragment_memory`].
    pub fragments_evicted: u64,
    /// Datagrams that were still in pieces after [`crate::Limits::fragment_timeout`].
    pub fragments_timed_out: u64,

    /// TCP segments.
    pub segments: u64,
    /// Segments that the second hook point on their way showed again.
    pub copies: u64,
    /// Streams opened.
    pub streams: u64,
    /// Streams tracked now, closed ones that linger included.
    pub active_streams: u64,
    /// Streams joined in the middle: no SYN was seen.
    pub joined: u64,
    /// Streams closed by both FINs.
    pub closed_fin: u64,
    /// Streams closed by RST.
    pub closed_reset: u64,
    /// Streams closed after their idle or handshake time-out.
    pub closed_timeout: u64,
    /// Streams closed to keep [`crate::Limits::streams`].
    pub closed_evicted: u64,
    /// Streams closed by the end of the capture.
    pub closed_capture_end: u64,
    /// Streams closed by a new connection on the same addresses and ports.
    pub closed_reused: u64,
    /// RSTs that were not believed: their sequence number is outside the window.
    pub rst_ignored: u64,
    /// Packets of closed streams that linger.
    pub after_close: u64,

    /// Payload bytes handed on in order.
    pub payload: u64,
    /// Gaps handed on.
    pub gaps: u64,
    /// Bytes in them.
    pub gap_bytes: u64,
    /// Payload bytes that were left out because nobody needed them ([`crate::engine::Event::Trim`]).
    pub trimmed: u64,
    /// Payload bytes that had come before.
    pub retransmitted: u64,
    /// Segments that overlapped others with different bytes.
    pub overlaps: u64,
    /// Segments outside the window; not taken.
    pub out_of_window: u64,
    /// Bytes held out of order now, with their overhead.
    pub held: u64,
    /// The most that were ever held.
    pub held_peak: u64,
    /// Holes given up to keep [`crate::Limits::reassembly_per_direction`] or [`crate::Limits::holes`].
    pub evicted_holes: u64,
    /// Holes given up to keep [`crate::Limits::reassembly_total`].
    pub evicted_holes_total: u64,

    /// Items.
    pub items: u64,
    /// Items of HTTP/1.x.
    pub items_http1: u64,
    /// Streams in which HTTP/1.x was recognised.
    pub detected_http1: u64,
    /// Streams whose both ends began with a TLS handshake: nothing in them is read.
    pub tls: u64,
    /// Streams whose reader found the rest not to be its protocol (CONNECT, Upgrade, or nothing readable).
    pub opaque: u64,
    /// Bytes held by dissectors now.
    pub dissect: u64,
    /// The most that they ever held.
    pub dissect_peak: u64,
    /// Readers given up to keep [`crate::Limits::dissect_total`].
    pub evicted_readers: u64,
    /// Messages that were not kept, or not paired, to keep [`crate::Limits::pipelined`] or [`crate::Limits::interim`].
    pub refused_messages: u64,
}
