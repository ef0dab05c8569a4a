//! What shows that a client does not wait, or does not show it: its first request behind a loss tells which it was.

use super::*;

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// Whether the client is still taken for one that waits: an exchange is lost, and the next is a pair.
fn waits(talk: &mut Talk) -> bool {
    talk.gap(Client, 36).gap(Server, 41).say(Client, get("/z")).say(Server, ok("z"));
    let drafts = talk.fin();
    assert_no_wrong_pair(&drafts.iter().filter(|d| response_body(d) == b"z").cloned().collect::<Vec<_>>());
    briefs(&drafts).contains(&"/z 200".to_owned())
}

#[test]
fn a_request_that_acknowledged_the_middle_of_a_response_does() {
    for (read, middle) in [(39, true), (20, true), (39, false), (20, false)] {
        // Of the response to a lost request, which comes before the next one is read or is still under way.
        let mut talk = believed();
        let (start, answer) = (talk.sent[1], ok("a"));
        talk.gap(Client, 31).say(Server, &answer[..read]);
        let acked = if middle { start + 20 } else { start + 39 };
        talk.chunk(Client, Chunk::Data(get("/b").as_bytes()), Some(acked));
        if read < 39 {
            talk.say(Server, &answer[read..]);
        }
        talk.say(Server, ok("b"));
        assert_eq!(waits(&mut talk), !middle, "{read}");
    }
}

#[test]
fn a_request_behind_an_interim_response_does() {
    let mut talk = believed();
    talk.say(Client, get("/a")).say(Server, CONTINUE).say(Client, get("/b"));
    talk.say(Server, ok("a")).say(Server, ok("b"));
    assert!(!waits(&mut talk));
    // One behind the response does not.
    let mut talk = believed();
    talk.say(Client, get("/a")).say(Server, CONTINUE).say(Server, ok("a"));
    assert!(waits(&mut talk));
}

#[test]
fn requests_of_which_it_is_not_known_what_they_acknowledged_do_where_nothing_had_come() {
    for (first, waits_) in [("", false), (CONTINUE, false), (&ok("a")[..38], true)] {
        let mut talk = believed();
        talk.chunk(Client, Chunk::Data(get("/a").as_bytes()), None);
        if !first.is_empty() {
            talk.say(Server, first);
        }
        talk.chunk(Client, Chunk::Data(get("/b").as_bytes()), None);
        let rest = if waits_ { ok("a")[38..].to_owned() } else { ok("a") };
        talk.chunk(Server, Chunk::Data(rest.as_bytes()), None).say(Server, ok("b"));
        assert_eq!(waits(&mut talk), waits_, "{first:?}");
    }
}

#[test]
fn a_response_sent_before_all_of_the_head_was_there_is_not_its_answer() {
    // Read after and before the request; what was held parts.
    for late in [false, true] {
        let mut talk = Talk::new();
        talk.gap(Client, 31).gap(Server, 39).say(Client, get("/b")).say(Server, ok("b"));
        let (start, c) = (talk.sent[1], get("/c"));
        let (half, whole) = (talk.sent[0] + 20, talk.sent[0] + 31);
        for early in [!late, late] {
            if early {
                talk.chunk(Client, Chunk::Data(c.as_bytes()), Some(start));
            } else {
                talk.chunk(Server, Chunk::Data(ok("c").as_bytes()), Some(half));
            }
        }
        assert_eq!(talk.sent[0], whole);
        let told = briefs(&talk.fin());
        assert!(!told.iter().any(|t| t.ends_with("200") && !t.starts_with('-')), "{late} {told:?}");
    }
}

#[test]
fn bytes_of_the_server_that_are_passed_over_tell_nothing_of_the_client() {
    let mut talk = believed();
    // More of the client than of the server.
    talk.say(Client, format!("POST /a HTTP/1.1\r\nContent-Length: 2000\r\n\r\n{}", "x".repeat(2000)));
    talk.say(Server, ok("a")).gap(Client, 36).gap(Server, 31).say(Server, "\r\nrest\r\n");
    assert!(waits(&mut talk));
}

#[test]
fn of_a_stream_joined_within_a_message_not_even_the_end_tells() {
    for (rest, paired) in [("", true), ("rest of a body\r\n", false)] {
        let mut talk = Talk::joined();
        if !rest.is_empty() {
            talk.say(Server, rest);
        }
        talk.say(Client, get("/a") + &get("/b")).say(Server, ok("a")).say(Server, ok("b"));
        assert_eq!(briefs(&talk.fin()).contains(&"/a 200".to_owned()), paired, "{rest:?}");
    }
}

#[test]
fn the_start_of_another_request_parts_nothing() {
    let mut talk = Talk::joined();
    talk.say(Client, get("/1")).say(Server, ok("one")).say(Client, "GET /2 HT");
    assert_eq!(briefs(&talk.fin()), ["/1 200"]);
}
