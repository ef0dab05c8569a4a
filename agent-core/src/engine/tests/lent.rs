//! Readers that keep their working memory while they rest.

use super::*;
use crate::engine::feed::App;
use crate::engine::usual::LENT;

impl Bench {
    /// The next request and response of a stream, whose `round` before it were the same.
    fn again(&mut self, port: u16, round: u32) {
        let c = 101 + round * REQUEST.len() as u32;
        let s = 501 + round * RESPONSE.len() as u32;
        self.send(&Seg::c2s(c, s, ACK, REQUEST).port(port));
        self.send(&Seg::s2c(s, c + REQUEST.len() as u32, ACK, RESPONSE).port(port));
    }

    /// Streams whose reader has what it was lent.
    fn lent(&self) -> usize {
        let table = &self.engine.table;
        let streams = table.places().filter_map(|at| table.get(at));
        streams.filter(|stream| matches!(&stream.app, App::Reading(parser) if parser.has_lent())).count()
    }
}

#[test]
fn few_streams_keep_their_readers_and_all_are_read_the_same() {
    let mut b = Bench::new();
    let ports = 1..=3 * LENT as u16;
    ports.clone().for_each(|port| b.open(port));
    for port in ports.clone() {
        b.again(port, 0);
        assert_eq!(b.lent(), LENT.min(port.into()), "{port}");
    }
    assert_eq!(b.stats().dissect, 3 * LENT as u64 * size_of::<crate::dissect::http1::Http1>() as u64);
    // Some go, and others take their places in the table.
    let gone = 2 * LENT as u16..=*ports.end();
    for port in gone.clone() {
        b.close(port);
    }
    b.pass(Duration::from_secs(6));
    assert_eq!(b.closed.len(), LENT + 1);
    gone.clone().for_each(|port| b.open(port));
    for round in 0..4 {
        for port in ports.clone() {
            b.again(port, round + u32::from(!gone.contains(&port)));
            assert!(b.lent() <= LENT);
        }
    }
    // A few that have the word keep what they have.
    for round in 5..9 {
        for port in 1..=LENT as u16 {
            b.again(port, round);
        }
        assert_eq!(b.lent(), LENT);
    }
    b.finish();
    assert_eq!(b.items.len(), 15 * LENT + 4 * LENT);
    assert!(b.items.iter().all(|item| item.error.is_none() && target(item).is_some()));
    assert_eq!((b.lent(), b.stats().dissect), (0, 0));
}

#[test]
fn what_is_lent_is_given_back_when_a_message_ends_that_was_under_way() {
    let mut b = Bench::new();
    let ports = 1..=2 * LENT as u16;
    ports.clone().for_each(|port| b.open(port));
    let (c, half) = (101 + REQUEST.len() as u32, RESPONSE.len() - 1);
    for port in ports.clone() {
        b.send(&Seg::c2s(101, 501, ACK, REQUEST).port(port));
        b.send(&Seg::s2c(501, c, ACK, &RESPONSE[..half]).port(port));
    }
    assert_eq!(b.lent(), 2 * LENT, "all have messages under way");
    for port in ports {
        b.send(&Seg::s2c(501 + half as u32, c, ACK, &RESPONSE[half..]).port(port));
    }
    assert_eq!((b.lent(), b.items.len()), (LENT, 2 * LENT));
}
