//! Looking for the next message behind junk or a gap: which line is believed to begin one, and what is still certain of it.

use super::*;

/// Targets of the requests that come out of `pieces`, each a segment.
fn found(mut talk: Talk, pieces: &[&str]) -> Vec<String> {
    talk.out.clear();
    for piece in pieces {
        talk.say(Client, piece);
    }
    let drafts = talk.fin();
    let requests = drafts.iter().filter_map(|d| exchange(d).request.as_ref());
    requests.map(|r| String::from_utf8_lossy(r.target()).into_owned()).collect()
}

#[test]
fn lines_that_are_tried_behind_a_gap() {
    let next = get("/2");
    for (pieces, targets) in [
        (&[&next[..]][..], &["/2"][..]),
        (&["\r\n\r\n", &next], &["/2"]),
        (&["\r", "\n", &next], &["/2"]),
        (&["rest of a body\r\n", &next], &["/2"]),
        // A start line of which the next line shows that it was none: that one may be one.
        (&[&format!("GET /x HTTP/1.1\r\n{next}")], &["/2"]),
        (&[&format!("GET /x HTTP/1.1\r\nA: b\r\nno field\r\n{next}")], &["/2"]),
        (&[&format!("GET /x HTTP/1.1\r\nGET a lot of stuff\r\nA: b\r\n\r\n{next}")], &["/2"]),
        (&["GET /x HTTP/1.1\r\nEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n", &next], &["/2"]),
        (&["EA", "D /1 HTTP/1.1\r\nHost: a\r\n\r\n", &next], &["/2"]),
        (&["GET /x ", "no version\r\n", &next], &["/2"]),
        // Every segment may begin a message, also one behind half a line.
        (&["half a line", &next], &["/2"]),
    ] {
        let mut talk = Talk::new();
        talk.say(Client, get("/1")).say(Server, ok("one")).gap(Client, 10);
        assert_eq!(found(talk, pieces), targets, "{pieces:?}");
    }
}

#[test]
fn behind_junk_only_a_line_may_begin_a_message() {
    let next = get("/2");
    for (pieces, targets) in [
        (&[&format!("]\r\n{next}")[..]][..], &["/2"][..]),
        (&["]\r\n", &next], &["/2"]),
        (&["]", "\r\n", &next], &["/2"]),
        (&["]", "more\r\n", &next], &["/2"]),
        // What follows half a line is the rest of it.
        (&["]", &next], &[]),
        (&["]", "more", &next], &[]),
        (&["]\r\nmore", &next], &[]),
    ] {
        let mut talk = Talk::new();
        talk.say(Client, get("/1")).say(Server, ok("one"));
        assert_eq!(found(talk, pieces), targets, "{pieces:?}");
    }
}

#[test]
fn junk_is_told_before_its_line_ends() {
    let odd = ["/1 - gap http-invalid-message"];
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, "junk");
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), odd);
    // Also where it begins late in a start line.
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, format!("HTTP/1.1 200 {}", "x".repeat(100))).say(Server, "\x01");
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), odd);
    // Behind the request for a tunnel only the client's may be what it is for.
    let mut talk = Talk::new();
    talk.say(Client, "CONNECT a:443 HTTP/1.1\r\n\r\n").say(Client, "\x16\x03").say(Server, "junk");
    assert_eq!(briefs(&talk.fin()), ["a:443 - gap http-invalid-message"]);
    let mut talk = Talk::new();
    talk.say(Client, "CONNECT a:443 HTTP/1.1\r\n\r\n").say(Client, "\x16\x03");
    assert_eq!(briefs(&talk.fin()), ["a:443 - connection"]);
}

/// A believed client of which two requests and the answer to the first were lost; how far the server's bytes go that it has.
fn behind_losses() -> (Talk, u64) {
    let mut talk = believed();
    talk.gap(Client, 36).gap(Server, 41).gap(Client, 36);
    let start = talk.sent[1];
    (talk, start)
}

/// What becomes of `/c`, which `segments` end with; of each, how many bytes less than all it acknowledges.
fn behind(segments: &[(&str, u64)], answer: &str) -> Vec<String> {
    let (mut talk, start) = behind_losses();
    for (bytes, less) in segments {
        talk.chunk(Client, Chunk::Data(bytes.as_bytes()), Some(start - less));
    }
    talk.say(Server, ok(answer)).gap(Server, 1);
    let drafts = talk.fin();
    assert_no_wrong_pair(&drafts);
    briefs(&drafts)
}

#[test]
fn a_request_behind_bytes_that_acknowledge_as_much_was_not_waited_with() {
    let c = get("/c");
    for before in ["\r\n", "rest\r\n", "GET stuff\r\n", "GET /x HTTP/1.1\r\n", "GET /x HTTP/1.1\r\nA: b\r\n"]
    {
        behind(&[(before, 0), (&c, 0)], "b");
    }
    for (one, two) in [("GET /x ", "no version\r\n"), ("GET /x HTTP/1.1\r\n", "no field\r\n")] {
        // The line that was given up began with what was acknowledged first.
        behind(&[(one, 0), (two, 1), (&c, 0)], "b");
    }
}

#[test]
fn a_request_in_one_segment_with_bytes_before_it_was_not_waited_with() {
    let c = get("/c");
    // The start of what is passed over acknowledges less, but its end came with the request.
    for (one, two) in [
        ("GET /x HTTP/1.1\r\n", "A: b\r\n"),
        ("GET /x HTTP/1.1\r\nA: b\r\n", "no field\r\n"),
        ("GET /x ", "no version\r\n"),
        ("rest", " of a body\r\n"),
    ] {
        behind(&[(one, 1), (&format!("{two}{c}"), 0)], "b");
        // A segment of its own tells that the client waited.
        assert_eq!(behind(&[(one, 2), (two, 1), (&c, 0)], "c").last().unwrap(), "/c 200", "{one:?}");
    }
    assert_eq!(behind(&[("GET /x HTTP/1.1\r\n", 1), (&c, 0)], "c").last().unwrap(), "/c 200");
}

#[test]
fn what_a_line_over_two_segments_acknowledged_is_not_known() {
    let (one, two) = ("GET /x HTTP/1.1\r\nGET /", "c HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert!(behind(&[(one, 1), (two, 0)], "b").contains(&"/c - gap".to_owned()));
}

#[test]
fn a_response_in_one_segment_with_bytes_before_it_anchors_nothing() {
    for (before, paired) in [
        ("", true),
        ("tail\r\n", false),
        ("\r\n", false),
        ("HTTP/1.1 x\r\n", false),
        ("HTTP/1.1 200 OK\r\n", false),
        ("HTTP/1.1 200 OK\r\nno field\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n", false),
    ] {
        for known in [true, false] {
            let mut talk = believed();
            talk.gap(Client, 36).gap(Server, 20);
            let start = talk.sent[1] + before.len() as u64;
            talk.chunk(Client, Chunk::Data(get("/d").as_bytes()), Some(start));
            let acked = known.then_some(talk.sent[0]);
            talk.chunk(Server, Chunk::Data(format!("{before}{}", ok("d")).as_bytes()), acked).gap(Server, 1);
            assert_eq!(briefs(&talk.fin()).contains(&"/d 200".to_owned()), paired, "{before:?} {known}");
        }
    }
}

#[test]
fn junk_of_the_server_parts_what_is_held() {
    let mut talk = believed();
    talk.gap(Client, 36).gap(Server, 41).say(Client, get("/b")).say(Server, ok("b")).say(Server, "]\r\n");
    assert_eq!(briefs(&talk.fin()), ["/b - gap http-invalid-message", "- 200 pair-not-found"]);
}

#[test]
fn junk_of_the_client_may_be_a_request_that_is_answered() {
    let mut talk = believed();
    let start = talk.sent[1];
    // A request that cannot be read, and with it the next.
    talk.chunk(Client, Chunk::Data(b"]\r\n"), None);
    talk.chunk(Client, Chunk::Data(get("/c").as_bytes()), Some(start));
    talk.say(Server, ok("b")).gap(Server, 1);
    assert_no_wrong_pair(&talk.fin());
}

#[test]
fn a_head_that_is_looked_for_tells_whether_its_own_packets_were_cut() {
    for (first, second) in [(true, false), (false, true)] {
        for pieces in [
            ["GET /x HTTP/1.1\r\n", &get("/2"), ""],
            ["GET /x HTTP/1.1\r\n", "GET /2 HTTP/1.1\r\n", "\r\n"],
            ["rest\r\n", &get("/2"), ""],
        ] {
            let mut talk = Talk::new();
            talk.say(Client, get("/1")).say(Server, ok("one")).gap(Client, 10);
            for (piece, truncated) in pieces.iter().zip([first, second, false]) {
                talk.truncated = truncated;
                talk.say(Client, piece);
            }
            assert_eq!(talk.fin().last().unwrap().truncated, second, "{pieces:?}");
        }
    }
    // Of a head in pieces each counts.
    for cut in [0, 1, 2] {
        let mut talk = Talk::new();
        for (n, piece) in ["GET /1 HT", "TP/1.1\r\nHost: ", "shop\r\n\r\n"].iter().enumerate() {
            talk.truncated = n + 1 == cut;
            talk.say(Client, piece);
        }
        assert_eq!(talk.fin()[0].truncated, cut > 0, "{cut}");
    }
}
