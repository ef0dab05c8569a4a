//! Heads at and past their limit, whole and in pieces.

use super::*;

fn with_head_limit(head: usize) -> Talk {
    Talk::with(Limits { head, ..Limits::default() })
}

#[test]
fn a_head_may_be_as_large_as_the_limit() {
    let head = get("/1");
    for (limit, brief) in [
        (head.len() + 1, "/1 - connection"),
        (head.len(), "/1 - connection"),
        (head.len() - 1, "/1 - dissection http-head-too-large"),
    ] {
        for piece in [1, 20, head.len()] {
            let mut talk = with_head_limit(limit);
            for part in head.as_bytes().chunks(piece) {
                talk.say(Client, part);
            }
            assert_eq!(briefs(&talk.fin()), [brief], "{limit} {piece}");
        }
    }
}

#[test]
fn of_a_head_past_the_limit_all_is_kept_that_fits() {
    let fits = "GET /1 HTTP/1.1\r\nHost: shop\r\nA: b\r\n";
    let rest = "C: d\r\n\r\n";
    for pieces in [&[&format!("{fits}{rest}")[..]][..], &[fits, rest], &[&fits[..20], &fits[20..], rest]] {
        for part in 0..rest.len() {
            let mut talk = with_head_limit(fits.len() + part);
            for piece in pieces {
                talk.say(Client, piece);
            }
            let drafts = talk.fin();
            let message = &exchange(&drafts[0]).request.as_ref().unwrap().message;
            assert_eq!(message.head_size as usize, fits.len() + part);
            let c = (part >= "C: d\r\n".len()).then_some(&b"d"[..]);
            assert_eq!((message.head.get("a"), message.head.get("c")), (Some(&b"b"[..]), c), "{part}");
            assert_eq!((message.complete, message.body.truncated, drafts[0].truncated), (false, true, false));
        }
    }
}

#[test]
fn what_is_too_much_of_a_line_begins_no_message() {
    let fits = "GET /1 HTTP/1.1\r\nHost: shop\r\nX: ";
    for pieces in [
        &[&format!("{fits}{}", get("/in"))[..]][..],
        &[fits, &get("/in")],
        // Nor does the segment behind it.
        &[&format!("{fits}y"), &get("/in")],
    ] {
        let mut talk = with_head_limit(fits.len());
        for piece in pieces {
            talk.say(Client, piece);
        }
        talk.say(Client, get("/2"));
        assert_eq!(
            briefs(&talk.finish(End::Fin)),
            ["/1 - dissection http-head-too-large", "/2 - connection"]
        );
    }
}

#[test]
fn a_start_line_past_the_limit_is_told_as_what_it_is() {
    let long = "x".repeat(100);
    let (large, invalid) = ("http-head-too-large", "http-invalid-message");
    for (side, line, odd) in [
        (Client, format!("GET /{long}"), large),
        (Client, format!("brew /{long}"), large),
        (Client, long.clone(), invalid),
        (Client, format!("GET /\x18{long}"), invalid),
        (Server, format!("HTTP/1.1 200 {long}"), large),
        (Server, format!("HTTP/2 200 {long}"), invalid),
        (Server, format!("HTTP/1.1 200 \x18{long}"), invalid),
    ] {
        for piece in [7, 200] {
            let mut talk = with_head_limit(60);
            talk.say(Client, get("/1"));
            for part in line.as_bytes().chunks(piece) {
                talk.say(side, part);
            }
            let error = if side == Client { "connection" } else { "gap" };
            assert_eq!(briefs(&talk.fin()), [format!("/1 - {error} {odd}")], "{line:?} {piece}");
        }
    }
}

#[test]
fn a_request_whose_start_line_is_past_the_limit_is_answered_nevertheless() {
    let mut talk = believed();
    talk.limits.head = 60;
    let start = talk.sent[1];
    // It is sent with the next, of which it cannot be told.
    talk.chunk(Client, Chunk::Data(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100)).as_bytes()), None);
    talk.chunk(Client, Chunk::Data(get("/c").as_bytes()), Some(start));
    talk.say(Server, ok("b")).gap(Server, 1);
    assert_no_wrong_pair(&talk.fin());
}

#[test]
fn what_is_looked_for_is_none_if_it_is_past_the_limit() {
    let large = format!("GET /x HTTP/1.1\r\n{}\r\n", "Name: value\r\n".repeat(10));
    for piece in [7, 1000] {
        let mut talk = with_head_limit(60);
        talk.say(Client, get("/1")).say(Server, ok("one")).gap(Client, 10);
        for part in large.as_bytes().chunks(piece) {
            talk.say(Client, part);
        }
        talk.say(Client, get("/2"));
        assert_eq!(briefs(&talk.fin()), ["/1 200", "/2 - gap"], "{piece}");
    }
}
