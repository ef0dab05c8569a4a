//! What each kind of loss leaves certain: whole messages may be missing, or the rest of one.

use super::*;

/// What is emitted once `/c` was read, which may have been sent with a lost request, and the answer at its place.
fn next_is(talk: &mut Talk, answer: &str) -> Vec<String> {
    let start = talk.sent[1];
    talk.chunk(Client, Chunk::Data(get("/c").as_bytes()), Some(start));
    talk.say(Server, ok(answer)).gap(Server, 1);
    let drafts = talk.fin();
    assert_no_wrong_pair(&drafts);
    briefs(&drafts)
}

#[test]
fn where_whole_requests_may_be_lost_the_next_may_have_been_sent_with_one() {
    let fixed = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\na";
    let broken = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n";
    for (bytes, answered) in [
        // Between two, within a start line.
        ("", false),
        ("GET /a HT", false),
        // Behind the end of one.
        (fixed, true),
        // While the next one was looked for.
        (broken, true),
        (&format!("{broken}GET /x HTTP/1.1\r\nA: b\r\n"), true),
    ] {
        let mut talk = believed();
        if !bytes.is_empty() {
            talk.say(Client, bytes);
        }
        if answered {
            talk.say(Server, ok("a"));
        }
        talk.gap(Client, 40);
        assert!(next_is(&mut talk, "b").contains(&"/c - gap".to_owned()), "{bytes:?}");
    }
}

#[test]
fn where_the_rest_of_a_request_is_lost_the_next_was_waited_with() {
    let chunked = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (bytes, gap) in [
        ("GET /a HTTP/1.1\r\nHost: ", 8),
        (chunked, 12),
        ("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n", 0),
    ] {
        let mut talk = believed();
        talk.say(Client, bytes);
        if gap > 0 {
            talk.gap(Client, gap);
        }
        talk.say(Server, ok("a"));
        assert_eq!(next_is(&mut talk, "c").last().unwrap(), "/c 200", "{bytes:?}");
    }
}

#[test]
fn what_follows_a_bad_chunk_is_looked_for_at_the_start_of_a_line() {
    let head = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (pieces, found) in [
        (&[head, "no\r\n"][..], true),
        (&[head, "no", "\r\n"], true),
        (&[head, "no"], false),
        (&[head, "no", " size"], false),
        // The line that is no chunk's size is none of a message either.
        (&[head], false),
    ] {
        let mut talk = Talk::new();
        for piece in pieces {
            talk.say(Client, piece);
        }
        talk.say(Client, get("/b"));
        assert_eq!(talk.fin().len(), 1 + usize::from(found), "{pieces:?}");
    }
}

#[test]
fn a_response_in_pieces_is_waited_for_behind_a_loss() {
    let mut talk = believed();
    talk.gap(Client, 36).gap(Server, 41).say(Client, get("/c"));
    let answer = ok("c");
    talk.say(Server, &answer[..20]).say(Server, &answer[20..]).gap(Server, 1);
    assert_eq!(briefs(&talk.fin()), ["/c 200"]);
}

#[test]
fn a_response_behind_a_loss_is_not_that_of_an_interim_one_before_it() {
    // The client's bytes that it acknowledged come into the capture late, or never.
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("one"));
    talk.sent[0] += 36;
    talk.say(Server, "HTTP/1.1 100 Continue\r\n\r\n").gap(Server, 40).say(Server, ok("two"));
    talk.sent[0] -= 36;
    talk.gap(Client, 36);
    assert_eq!(briefs(&talk.fin()), ["/1 200", "- 100 pair-not-found", "- 200 pair-not-found"]);
}

#[test]
fn two_responses_in_one_segment_show_a_client_that_does_not_wait() {
    for apart in [true, false] {
        let mut talk = believed();
        talk.gap(Client, 80);
        if apart {
            talk.chunk(Server, Chunk::Data(ok("a").as_bytes()), None);
            talk.chunk(Server, Chunk::Data(ok("b").as_bytes()), None);
        } else {
            talk.chunk(Server, Chunk::Data((ok("a") + &ok("b")).as_bytes()), None);
        }
        // More of them were lost.
        talk.gap(Client, 40).gap(Server, 41);
        assert_eq!(next_is(&mut talk, "c").contains(&"/c 200".to_owned()), apart);
    }
}

#[test]
fn who_answers_what_is_beyond_a_request_had_more_of_the_client() {
    // Full, none, and in a segment of its own.
    for (path, body, rest) in [("/a", "1\r\n\r\na", ""), ("/", "0\r\n\r\n", ""), ("/a", "1\r\n\r\n", "a")] {
        for beyond in [36, 0] {
            let mut talk = believed();
            talk.say(Client, get(path));
            // What was acknowledged as well comes into the capture nowhere.
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}");
            if rest.is_empty() {
                talk.sent[0] += beyond;
                talk.say(Server, head);
            } else {
                talk.say(Server, head);
                talk.sent[0] += beyond;
                talk.say(Server, rest);
            }
            talk.sent[0] -= beyond;
            talk.gap(Client, 36).gap(Server, 41);
            let paired = next_is(&mut talk, "c").contains(&"/c 200".to_owned());
            assert_eq!(paired, beyond == 0, "{body:?}");
        }
    }
}

#[test]
fn the_length_of_what_may_answer_a_lost_head_is_none_where_a_response_follows() {
    let next = ok("b");
    for pieces in [&[&next[..]][..], &[&next[..3], &next[3..]]] {
        let mut talk = Talk::new();
        talk.say(Client, get("/1")).say(Server, ok("one")).gap(Client, 40);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", next.len(), pieces[0]);
        talk.say(Server, head);
        for piece in &pieces[1..] {
            talk.say(Server, piece);
        }
        let drafts = talk.fin();
        assert_eq!(briefs(&drafts), ["/1 200", "- 200 pair-not-found", "- 200 pair-not-found"]);
        assert_eq!((response_body(&drafts[1]), response_body(&drafts[2])), (&b""[..], &b"b"[..]));
    }
}

#[test]
fn a_response_behind_one_without_body_was_sent_before_a_request_that_it_did_not_acknowledge() {
    // Two lost requests, the first of them a HEAD; the answer to the second begins at what `/c` acknowledges.
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n";
    for seen in [0, 3] {
        let mut talk = believed();
        talk.gap(Client, 80);
        let (before, answer) = (talk.sent[0], ok("b"));
        let start = talk.sent[1] + head.len() as u64;
        talk.say(Server, format!("{head}{}", &answer[..seen]));
        talk.chunk(Client, Chunk::Data(get("/c").as_bytes()), Some(start));
        talk.chunk(Server, Chunk::Data(&answer.as_bytes()[seen..]), Some(before)).gap(Server, 1);
        assert_no_wrong_pair(&talk.fin());
    }
}

#[test]
fn a_response_that_has_begun_when_the_stream_ends_parts_what_is_held() {
    let apart = ["/1 - gap", "- 200 pair-not-found"];
    let held = || {
        let mut talk = Talk::joined();
        talk.say(Client, get("/1"));
        talk
    };
    assert_eq!(briefs(&held().say(Server, ok("one")).finish(End::Fin)), ["/1 200"]);
    let mut talk = held();
    talk.say(Server, ok("one")).say(Server, "HTTP/1.1 ");
    assert_eq!(briefs(&talk.finish(End::Fin)), apart);
    // One of which the start line is there is that of the request that waits.
    let mut talk = held();
    talk.say(Server, ok("one")).say(Client, get("/2")).say(Server, "HTTP/1.1 200 OK\r\nA");
    assert_eq!(briefs(&talk.finish(End::Fin)), ["/1 200", "/2 200 connection"]);
}

#[test]
fn one_that_may_have_begun_behind_a_gap_parts_it_as_well() {
    for (rest, briefs_) in [("HTTP/1.1 2", &["/c - gap", "- 200 pair-not-found"][..]), ("x", &["/c 200"])] {
        let mut talk = believed();
        let (c, start) = (get("/c"), talk.sent[1]);
        talk.sent[0] += 40 + c.len() as u64;
        talk.gap(Server, 41).say(Server, ok("c")).gap(Server, 10).say(Server, rest);
        talk.sent[0] -= 40 + c.len() as u64;
        talk.gap(Client, 40).chunk(Client, Chunk::Data(c.as_bytes()), Some(start + 41));
        assert_eq!(briefs(&talk.fin()), briefs_, "{rest:?}");
    }
}

#[test]
fn a_body_that_begins_as_the_next_response_would_is_one() {
    for (fields, rest, body) in [
        ("Content-Length: 3", "HTT", &b"HTT"[..]),
        ("Content-Length: 5", "HTTxy", b"HTTxy"),
        ("Content-Length: 5", "hello", b"hello"),
        // More of it than the body is long, and no response.
        ("Content-Length: 2", "HTTx\r\n", b"HT"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", b"abc"),
        // No chunk begins so.
        ("Transfer-Encoding: chunked", "H3\r\nabc\r\n0\r\n\r\n", b""),
    ] {
        let mut talk = Talk::new();
        talk.say(Client, get("/1")).say(Server, ok("one")).gap(Client, 80);
        talk.say(Server, format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{rest}{}", ok("two")));
        let drafts = talk.fin();
        assert_eq!(drafts.len(), 3, "{rest:?} {:?}", briefs(&drafts));
        assert_eq!((response_body(&drafts[1]), response_body(&drafts[2])), (body, &b"two"[..]), "{rest:?}");
        assert!(drafts.iter().all(|d| d.anomalies.is_empty()), "{rest:?} {:?}", briefs(&drafts));
    }
}

#[test]
fn a_gap_up_to_about_the_end_of_a_body() {
    for (gap, rest) in [(6, "z"), (7, ""), (8, "")] {
        let mut talk = believed();
        talk.say(Client, get("/1")).say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        talk.gap(Server, gap);
        if !rest.is_empty() {
            talk.say(Server, rest);
        }
        talk.say(Client, get("/2")).say(Server, ok("two"));
        assert_eq!(briefs(&talk.fin()), ["/1 200 gap", "/2 200"], "{gap}");
    }
}

#[test]
fn a_chunked_body_is_complete_with_its_last_chunk() {
    for (body, brief) in [("1\r\na\r\n0\r\n", "/1 200"), ("1\r\na\r\n", "/1 200 connection")] {
        let mut talk = Talk::new();
        talk.say(Client, get("/1"));
        talk.say(Server, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        assert_eq!(briefs(&talk.fin()), [brief], "{body:?}");
    }
}

#[test]
fn a_request_behind_the_start_of_one_that_acknowledges_as_much_was_not_waited_with() {
    // What was answered before was lost, so that only this tells.
    for (start, gap) in [("GET /b HT", 22), ("]\r\n", 0)] {
        let mut talk = believed();
        talk.say(Client, get("/a")).gap(Server, 39).say(Client, start);
        if gap > 0 {
            talk.gap(Client, gap);
        }
        let told = next_is(&mut talk, "b");
        assert!(told.iter().any(|t| t.starts_with("/c - gap")), "{start:?} {told:?}");
    }
}
