//! What a request and its response bring with them when they meet late or part again, and how much of it waits.

use super::play::play;
use super::*;

/// A stream of which an exchange was lost: what comes next is held until it is certain.
fn behind_a_loss() -> Talk {
    let mut talk = Talk::new();
    talk.gap(Client, 31).gap(Server, 39);
    talk
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn a_response_that_was_read_before_its_request_brings_all_it_has() {
    let mut talk = Talk::new();
    let request = get("/1");
    talk.sent[0] += request.len() as u64;
    talk.say(Server, CONTINUE);
    talk.truncated = true;
    talk.say(Server, "HTTP/1.1 200 OK\nContent-Length: 10\r\n\r\nabc");
    talk.truncated = false;
    talk.gap(Server, 4).say(Server, "xyz");
    talk.sent[0] -= request.len() as u64;
    talk.chunk(Client, Chunk::Data(request.as_bytes()), Some(0));
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/1 200 gap http-bare-lf"]);
    let draft = &drafts[0];
    assert_eq!((exchange(draft).interim.len(), draft.gaps, draft.truncated), (1, 1, true));
}

#[test]
fn an_interim_response_goes_with_the_other() {
    // Behind a loss both are the request's, and both leave it again.
    let mut talk = behind_a_loss();
    talk.say(Client, get("/a")).say(Server, CONTINUE).say(Server, ok("a"));
    let drafts = talk.fin();
    assert_eq!((briefs(&drafts), exchange(&drafts[0]).interim.len()), (vec!["/a 200".to_owned()], 1));
    let mut talk = behind_a_loss();
    talk.say(Client, get("/a")).say(Server, CONTINUE).say(Server, ok("a")).gap(Server, 1);
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/a - gap", "- 200 pair-not-found"]);
    assert_eq!((exchange(&drafts[0]).interim.len(), exchange(&drafts[1]).interim.len()), (0, 1));
    // So it does alone.
    let mut talk = behind_a_loss();
    talk.say(Client, get("/a")).say(Server, CONTINUE).gap(Server, 39);
    assert_eq!(briefs(&talk.fin()), ["/a - gap", "- 100 pair-not-found"]);
}

#[test]
fn a_response_is_read_to_its_end_though_what_is_held_parts() {
    let answer = ok("bb");
    let (one, two) = answer.split_at(39);
    for held in [true, false] {
        let mut talk = behind_a_loss();
        talk.say(Client, get("/a"));
        if !held {
            // The one being read is nobody's.
            talk.say(Server, ok("aa"));
        }
        talk.say(Server, one).gap(Client, 31).say(Server, two);
        let drafts = talk.fin();
        let bodies: Vec<&[u8]> = drafts.iter().map(response_body).collect();
        let all = [&b""[..], b"aa", b"bb"];
        assert_eq!(bodies, if held { vec![all[0], all[2]] } else { all.to_vec() }, "{:?}", briefs(&drafts));
        assert!(drafts.iter().skip(1).all(|d| exchange(d).response.as_ref().unwrap().message.complete));
    }
}

#[test]
fn a_response_that_is_being_read_is_found_though_what_is_held_parts() {
    let (a, d) = (get("/a"), ok("d"));
    let mut talk = Talk::joined();
    talk.chunk(Client, Chunk::Data(a.as_bytes()), Some(0)).gap(Client, 31);
    talk.chunk(Server, Chunk::Data(ok("a").as_bytes()), None).say(Server, ok("b"));
    // Its sender had more of the client than was read by then.
    talk.chunk(Server, Chunk::Data(&d.as_bytes()[..38]), Some(93));
    talk.chunk(Client, Chunk::Data(get("/d").as_bytes()), Some(78));
    talk.chunk(Server, Chunk::Data(&d.as_bytes()[38..]), None);
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["- 200 pair-not-found", "/a - gap", "- 200 pair-not-found", "/d 200"]);
    assert_no_wrong_pair(&drafts);
}

#[test]
fn what_was_given_up_while_it_was_read_is_found_no_more() {
    let mut talk = Talk::new();
    talk.say(Client, get("/a")).gap(Server, 78);
    // It may answer a HEAD, and is not at its end.
    talk.chunk(Server, Chunk::Data(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n"), None);
    talk.gap(Client, 31).chunk(Client, Chunk::Data(b"HEAD /c HTTP/1.1\r\n\r\n"), Some(78));
    let drafts = talk.finish(End::Reset);
    assert_eq!(briefs(&drafts), ["/a - gap", "/c - gap", "- 200 pair-not-found"]);
}

#[test]
fn what_waits_is_counted() {
    let pad = "p".repeat(5000);
    let fields = format!("Pad: {pad}\r\nContent-Length: 5000\r\n\r\n{pad}");
    let (request, response) =
        (format!("POST /a HTTP/1.1\r\n{fields}"), format!("HTTP/1.1 200 OK\r\n{fields}"));
    // A request; one with the answer that came before its end; an answer that came before its request.
    for (said, size) in [
        (&[(Client, &request[..])][..], 10_000),
        (&[(Client, &request[..5100]), (Server, &response)], 15_000),
        (&[(Server, &response)], 10_000),
    ] {
        let mut talk = Talk::new();
        for (side, bytes) in said {
            talk.chunk(*side, Chunk::Data(bytes.as_bytes()), None);
        }
        let memory = talk.http.memory();
        assert!((size..size + 5000).contains(&memory), "{memory} of {size}");
        talk.fin();
    }
}

#[test]
fn pairs_are_held_up_to_a_number() {
    for (pairs, certain) in [(255, true), (256, true), (257, false)] {
        let mut talk = Talk::joined();
        talk.limits.pipelined = 1000;
        // Two at once: only the end tells.
        talk.say(Client, [get("/0"), get("/1")].concat()).say(Server, ok("0")).say(Server, ok("1"));
        for n in 2..pairs {
            talk.say(Client, get(&format!("/{n}"))).say(Server, ok(&n.to_string()));
        }
        assert_eq!(talk.out.is_empty(), certain);
        let drafts = talk.fin();
        assert_no_wrong_pair(&drafts);
        assert_eq!(drafts.len(), if certain { pairs } else { 2 * pairs - 1 });
    }
}

#[test]
fn a_client_is_believed_after_so_many_waits() {
    for (exchanges, believed) in [(8, false), (9, true)] {
        let mut talk = Talk::new();
        for n in 0..exchanges {
            talk.say(Client, get(&format!("/{n}"))).say(Server, ok("x"));
        }
        talk.out.clear();
        talk.gap(Client, 36)
            .gap(Server, 41)
            .say(Client, get("/b"))
            .say(Server, ok("b"))
            .say(Client, get("/c"));
        assert_eq!(talk.out.len(), usize::from(believed), "{exchanges}");
    }
}

#[test]
fn waits_that_confirm_what_is_held_count_as_others() {
    let mut talk = behind_a_loss();
    for n in 0..10 {
        talk.say(Client, get(&format!("/{n}"))).say(Server, ok("x"));
    }
    talk.out.clear();
    talk.gap(Client, 36).gap(Server, 41).say(Client, get("/b")).say(Server, ok("b")).say(Client, get("/c"));
    assert_eq!(talk.out.len(), 1);
}

#[test]
fn what_the_server_has_ended_without_waits_no_longer() {
    let mut talk = Talk::joined();
    talk.say(Client, get("/1")).say(Server, ok("one"));
    assert!(talk.out.is_empty());
    talk.end_side(Server, End::Fin);
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["/1 200"]);
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).end_side(Server, End::Fin);
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["/1 - connection"]);
    talk.say(Client, get("/2"));
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["/2 - connection"]);
    // Of a client that ends its side the answers are still to come.
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).end_side(Client, End::Fin).say(Server, ok("one"));
    assert_eq!(briefs(&talk.fin()), ["/1 200"]);
    // Where responses were lost before, nobody knows whether it had one.
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).gap(Server, 40).say(Client, get("/2")).end_side(Server, End::Fin);
    assert_eq!(briefs(&talk.fin()), ["/1 - gap", "/2 - gap"]);
}

#[test]
fn responses_leave_while_the_next_is_read() {
    let mut talk = Talk::new();
    talk.sent[0] += 62;
    talk.say(Server, ok("a")).say(Server, &ok("b")[..38]);
    talk.sent[0] -= 62;
    talk.gap(Client, 62);
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["- 200 pair-not-found"]);
    talk.say(Server, &ok("b")[38..]);
    assert_eq!(briefs(&talk.fin()), ["- 200 pair-not-found"]);
}

#[test]
fn pairs_that_leave_late_have_no_error_of_others() {
    assert_eq!(play(believed(), "<- >- >b@1 >- >d@3 <b@2 <c@3 <d@4 ."), "bb -c dd");
}
