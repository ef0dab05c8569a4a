//! However the same bytes are cut, the drafts are the same.

use proptest::prelude::*;

use super::*;

/// One step of a conversation: who speaks, and what.
fn script() -> Vec<(Side, Vec<u8>)> {
    let b = |s: &str| s.as_bytes().to_vec();
    vec![
        (Client, b("\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n")),
        (Server, b(&ok("one"))),
        (Client, b("POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")),
        (Server, b("HTTP/1.1 100 Continue\r\n\r\n")),
        (Client, b("5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n")),
        (
            Server,
            b(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
            ),
        ),
        (
            Client,
            b("HEAD /3 HTTP/1.1\nX: y\n z\n\nGET /4 HTTP/1.0\r\n\r\nDELETE /5 HTTP/1.1\r\nBad : 1\r\n\r\n"),
        ),
        (Server, b("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n")),
        (Server, b("HTTP/1.0 404 \r\nContent-Length: 7\r\n\r\nHTTP/1.")),
        (Client, b("junk that is no request\r\nsecond line\r\nGET /6 HTTP/1.1\r\nHost: b\r\n\r\n")),
        (Server, b("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")),
        (Client, b("GET /7 HTTP/1.1\r\n\r\n")),
        (Server, b("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7")),
        (Client, b("GET /8 HTTP/1.1\r\n\r\n")),
        (Server, b("HTTP/1.1 200 OK\r\n\r\nuntil the end\r\nHTTP/1.1 200 OK\r\n\r\n")),
    ]
}

/// Runs the script with every step cut as `cuts` says.
fn run(mut cut: impl FnMut(usize) -> usize) -> Vec<String> {
    let mut talk = Talk::new();
    talk.hash = true;
    for (side, bytes) in script() {
        // What one turn acknowledges is the same for all of its segments.
        let acked = Some(talk.sent[side.peer() as usize]);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let n = cut(rest.len()).clamp(1, rest.len());
            talk.chunk(side, Chunk::Data(&rest[..n]), acked);
            rest = &rest[n..];
        }
    }
    talk.fin().iter().map(untimed).collect()
}

fn untimed(draft: &Draft) -> String {
    let mut draft = draft.clone();
    draft.started = Timestamp(0);
    draft.finished = Timestamp(0);
    let Record::Http(x) = &mut draft.record;
    let messages = x.request.iter_mut().map(|r| &mut r.message);
    let messages = messages.chain(x.interim.iter_mut().chain(&mut x.response).map(|r| &mut r.message));
    for message in messages {
        message.first = Timestamp(0);
        message.last = Timestamp(0);
    }
    format!("{draft:?}")
}

#[test]
fn the_script_reads_as_meant() {
    let mut talk = Talk::new();
    for (side, bytes) in script() {
        talk.say(side, bytes);
    }
    assert_eq!(
        briefs(&talk.fin()),
        [
            "/1 200",
            "/2 200",
            "/3 200 http-bare-lf http-obs-fold",
            "/4 304",
            "/5 404 http-space-before-colon",
            "/6 - gap http-invalid-message",
            "- 400 pair-not-found",
            "/7 - gap",
            "- 200 pair-not-found",
            "/8 - gap",
            "- 200 pair-not-found",
        ]
    );
}

/// The same bytes of one side at once and byte by byte.
fn both_ways(side: Side, bytes: &str) -> [Vec<String>; 2] {
    [bytes.len(), 1].map(|size| {
        let mut talk = Talk::new();
        for piece in bytes.as_bytes().chunks(size) {
            talk.chunk(side, Chunk::Data(piece), Some(0));
        }
        talk.fin().iter().map(untimed).collect()
    })
}

#[test]
fn a_start_line_with_control_characters_is_none_however_it_is_cut() {
    for (side, bytes) in [(Server, "HTTP/1.1 204 \x18\n\n"), (Client, "GET /\x18 HTTP/1.1\n\n")] {
        let [whole, cut] = both_ways(side, bytes);
        assert_eq!(whole, cut);
        assert_eq!(whole, [""; 0]);
    }
}

#[test]
fn a_method_that_is_too_long_is_none_however_it_is_cut() {
    let request = format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(probe::MAX_METHOD + 1));
    let [whole, cut] = both_ways(Client, &request);
    assert_eq!(whole, cut);
    assert_eq!(whole, [""; 0]);
    let [whole, cut] = both_ways(Client, &request[1..]);
    assert_eq!(whole, cut);
    assert_eq!(whole.len(), 1);
}

#[test]
fn a_long_line_of_junk_is_junk_however_it_is_cut() {
    let junk = format!("GET / HTTP/1.1\r\n\r\n{}", "\x18".repeat(Limits::default().head + 10));
    let [whole, cut] = both_ways(Client, &junk);
    assert_eq!(whole, cut);
    assert!(whole[0].contains("HttpInvalidMessage"), "{whole:?}");
}

#[test]
fn byte_by_byte() {
    assert!(run(|_| 1) == run(|n| n));
}

proptest! {
    #[test]
    fn any_segmentation(cuts in proptest::collection::vec(1usize..40, 1..200)) {
        let mut at = 0;
        let drafts = run(|_| { at += 1; cuts[at % cuts.len()] });
        prop_assert!(drafts == run(|n| n));
    }

    /// Whatever comes: no panic, bounded memory, and every message leaves.
    #[test]
    fn any_bytes(pieces in proptest::collection::vec((any::<bool>(), 0u64..4, "(GET|POST|HTTP/1\\.1|\r|\n| |:|200|/|Content-Length|Transfer-Encoding|chunked|[0-9a-f]|\\PC){0,30}"), 0..60)) {
        let limits = Limits { head: 200, body: 50, pipelined: 3, ..Limits::default() };
        let mut talk = Talk::with(limits);
        for (client, gap, text) in pieces {
            let side = if client { Client } else { Server };
            if gap == 3 {
                talk.gap(side, 1 + text.len() as u64);
            } else if !text.is_empty() {
                talk.say(side, text);
            }
            prop_assert!(talk.http.memory() < 100_000);
        }
        talk.fin();
    }
}
