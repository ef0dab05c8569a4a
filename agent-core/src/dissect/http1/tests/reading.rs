//! One direction's reader: limits and what is cut on the short ways, which text is told, ends.

use super::*;

#[test]
fn what_was_cut_is_told_of_the_message_that_it_hit() {
    for (response, body) in [
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
        ("HTTP/1.1 204 No\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "one"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\none\r\n0\r\n\r\n"),
    ] {
        // Which of the pieces was cut: none, the first of the head, the last with the body.
        for cut in [None, Some(0), Some(1)] {
            let mut talk = Talk::new();
            talk.say(Client, get("/1"));
            for (n, piece) in [&response[..10], &format!("{}{body}", &response[10..])].iter().enumerate() {
                talk.truncated = cut == Some(n);
                talk.say(Server, piece);
            }
            assert_eq!(talk.fin()[0].truncated, cut.is_some(), "{response:?} {cut:?}");
        }
        if !body.is_empty() {
            for (head, rest) in [(true, false), (false, true), (false, false)] {
                let mut talk = Talk::new();
                talk.say(Client, get("/1"));
                talk.truncated = head;
                talk.say(Server, response);
                talk.truncated = rest;
                talk.say(Server, body);
                assert_eq!(talk.fin()[0].truncated, head || rest, "{response:?}");
            }
        }
    }
}

#[test]
fn limits_of_the_fields_and_the_body_hold_on_the_short_way() {
    for end in ["\r\n", "\n"] {
        let limits = Limits { headers: 10, body: 3, ..Limits::default() };
        for (fields, kept) in [(9, 10), (10, 10)] {
            let mut talk = Talk::with(limits.clone());
            let lines = format!("N: v{end}").repeat(fields);
            talk.say(Client, format!("GET /1 HTTP/1.1{end}A: b{end}{lines}{end}")).say(Server, ok("one"));
            let drafts = talk.fin();
            assert_eq!(exchange(&drafts[0]).request.as_ref().unwrap().message.head.len(), kept);
            assert_eq!(brief(&drafts[0]).contains("too-large"), fields == 10, "{end:?} {fields}");
            assert_eq!(response_body(&drafts[0]), b"one");
        }
        let mut talk = Talk::with(limits);
        talk.say(Client, get("/1")).say(Server, ok("four"));
        let drafts = talk.fin();
        let body = &exchange(&drafts[0]).response.as_ref().unwrap().message.body;
        assert_eq!((&*body.content().bytes, body.size, body.truncated), (&b"fou"[..], 4, true));
    }
}

#[test]
fn a_coded_body_in_one_piece_with_its_head_can_be_decoded() {
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c\x4a\x06\0\xc2\x41\x24\x35\x03\0\0\0";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", gzip.len());
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, [head.as_bytes(), gzip].concat());
    let drafts = talk.fin();
    let body = &exchange(&drafts[0]).response.as_ref().unwrap().message.body;
    assert_eq!((&*body.content().bytes, body.size), (&b"abc"[..], gzip.len() as u64));
}

#[test]
fn nothing_is_read_behind_the_end_of_a_direction() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).end_side(Client, End::Fin).say(Client, get("/2")).say(Server, ok("one"));
    assert_eq!(briefs(&talk.fin()), ["/1 200"]);
}

#[test]
fn a_head_cut_by_the_end_lasts_up_to_it() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /1 HTTP/1.1\r\nHost: ");
    talk.clock = 7;
    let drafts = talk.finish(End::Reset);
    let message = &exchange(&drafts[0]).request.as_ref().unwrap().message;
    assert_eq!((message.first, message.last), (Timestamp(1), Timestamp(7)));
    // Packets' times may go backwards, a message's do not.
    let mut talk = Talk::new();
    talk.say(Client, "GET /1 HTTP/1.1\r\nHost: ");
    talk.clock = 0;
    let drafts = talk.finish(End::Reset);
    assert_eq!(exchange(&drafts[0]).request.as_ref().unwrap().message.last, Timestamp(1));
}

#[test]
fn nothing_is_under_way_while_a_message_is_looked_for() {
    let mut talk = Talk::joined();
    talk.say(Client, "rest of a body\r\n");
    assert!(talk.http.rests());
    talk.say(Client, "GET /");
    assert!(!talk.http.rests());
}

/// All text that is told of the client's direction, and whether it is in order and each byte in one piece.
fn told(bytes: &str, piece: usize) -> Vec<(u64, u8)> {
    let mut talk = Talk::new();
    talk.spare.text = Some(Vec::new());
    for part in bytes.as_bytes().chunks(piece) {
        talk.say(Client, part);
    }
    let text = talk.spare.text.take().unwrap_or_default();
    text.iter().flat_map(|t| (t.offset..).zip(t.bytes.iter().copied())).collect()
}

#[test]
fn all_but_bodies_is_told_as_text() {
    let post = "POST /1 HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
    let chunked = "POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let parts = [
        (post, true),
        ("body", false),
        (chunked, true),
        ("3;x=y\r\n", true),
        ("abc", false),
        ("\r\n0\r\nT: v\r\n\r\n", true),
        ("\r\n", true),
        ("junk\x01more\r\nmore\r\n", true),
        ("GET /3 HTTP/1.1\r\nA: b\r\n\r\n", true),
    ];
    let all: String = parts.iter().map(|(text, _)| *text).collect();
    let is_text = parts.iter().flat_map(|&(text, told)| text.bytes().map(move |b| (b, told)));
    let want: Vec<_> =
        (0u64..).zip(is_text).filter(|&(_, (_, told))| told).map(|(at, (b, _))| (at, b)).collect();
    for piece in [1, 5, 20, 64, all.len()] {
        assert_eq!(told(&all, piece), want, "{piece}");
    }
}

#[test]
fn behind_the_end_of_a_direction_all_is_text() {
    let mut talk = Talk::new();
    talk.spare.text = Some(Vec::new());
    talk.end_side(Client, End::Fin).say(Client, "more");
    let text = talk.spare.text.take().unwrap();
    assert_eq!((text.len(), &text[0].bytes[..]), (1, &b"more"[..]));
}
