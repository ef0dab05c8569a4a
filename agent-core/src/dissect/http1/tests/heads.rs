//! Message heads in a stream, keep-alive, pipelining, ends.

use super::*;

#[test]
fn keep_alive_and_times() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("one")).say(Client, get("/2"));
    assert_eq!(
        briefs(&talk.out.drain(..).collect::<Vec<_>>()),
        ["/1 200"],
        "emitted when complete, not later"
    );
    talk.say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nt").say(Server, "wo");
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/2 200"]);
    let x = exchange(&drafts[0]);
    let (request, response) = (x.request.as_ref().unwrap(), x.response.as_ref().unwrap());
    assert_eq!((drafts[0].started, drafts[0].finished), (Timestamp(3), Timestamp(5)));
    assert_eq!((request.message.first, request.message.last), (Timestamp(3), Timestamp(3)));
    assert_eq!((response.message.first, response.message.last), (Timestamp(4), Timestamp(5)));
    assert_eq!((response.message.head_size, &*response.message.body.bytes), (38, &b"two"[..]));
    assert!(request.message.complete && response.message.complete);
    assert_eq!(request.message.head.get("host"), Some(&b"shop"[..]));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut talk = Talk::new();
    let requests: String = (0..20).map(|n| get(&format!("/{n}"))).collect();
    talk.say(Client, requests);
    for n in 0..20 {
        talk.say(Server, format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n", 200 + n));
    }
    let want: Vec<_> = (0..20).map(|n| format!("/{n} {}", 200 + n)).collect();
    assert_eq!(briefs(&talk.fin()), want);
}

#[test]
fn forms_of_the_target_and_methods() {
    let mut talk = Talk::new();
    let lines = [
        "OPTIONS * HTTP/1.1",
        "GET http://a.example/x?y HTTP/1.1",
        "QUERY /q HTTP/1.1",
        "PROPFIND /p HTTP/1.0",
        "get /lower HTTP/1.1",
        "X-My~Method! /m HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\u{fc} HTTP/1.1",
    ];
    for line in lines {
        talk.say(Client, format!("{line}\r\n\r\n")).say(Server, ok(""));
    }
    let drafts = talk.fin();
    assert_eq!(drafts.len(), lines.len());
    for (draft, line) in drafts.iter().zip(lines) {
        let request = exchange(draft).request.as_ref().unwrap();
        let version = format!("HTTP/1.{}", request.message.minor_version);
        let parts = [request.method(), b" ", request.target(), b" ", version.as_bytes()].concat();
        assert_eq!(String::from_utf8(parts).unwrap(), line);
        assert_eq!(brief(draft).split(' ').next_back(), Some("200"));
    }
}

#[test]
fn empty_lines_bare_lf_and_folds() {
    let mut talk = Talk::new();
    talk.say(Client, "\r\n\r\nPOST /1 HTTP/1.1\nContent-Length: 2\n\nhi\r\n\n");
    talk.say(Server, ok(""))
        .say(Client, "GET /2 HTTP/1.1\r\nA: b\r\n c\r\nD : e\r\n\r\n")
        .say(Server, ok(""))
        .say(Client, get("/3"));
    talk.say(Server, ok(""));
    let drafts = talk.fin();
    assert_eq!(
        briefs(&drafts),
        ["/1 200 http-bare-lf", "/2 200 http-obs-fold http-space-before-colon", "/3 200"]
    );
    let fields = &exchange(&drafts[1]).request.as_ref().unwrap().message.head;
    assert_eq!((fields.get("a"), fields.get("d")), (Some(&b"b c"[..]), Some(&b"e"[..])));
}

#[test]
fn interim_responses() {
    let mut talk = Talk::new();
    talk.say(Client, "POST /1 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    talk.say(Server, "HTTP/1.1 100 Continue\r\n\r\n").say(Client, "body");
    talk.say(
        Server,
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    );
    talk.say(Client, get("/2")).say(Server, ok(""));
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/1 201", "/2 200"]);
    let statuses: Vec<_> = exchange(&drafts[0]).interim.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [100, 103]);
    assert_eq!(request_body(&drafts[0]), b"body");
}

#[test]
fn an_interim_response_of_which_nothing_else_is_known_is_shown() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok(""));
    talk.gap(Client, 50).say(Server, "HTTP/1.1 100 Continue\r\n\r\n").gap(Server, 40);
    assert_eq!(briefs(&talk.fin()), ["/1 200", "- 100 pair-not-found"]);
}

#[test]
fn interim_responses_are_bounded() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1"));
    for _ in 0..40 {
        talk.say(Server, "HTTP/1.1 102 Processing\r\n\r\n");
    }
    talk.say(Server, ok(""));
    assert_eq!(talk.http.take_refused(), 24);
    let drafts = talk.fin();
    assert_eq!((briefs(&drafts), exchange(&drafts[0]).interim.len()), (vec!["/1 200".to_owned()], 16));
}

#[test]
fn connect_and_upgrade_hand_the_stream_over() {
    let mut talk = Talk::new();
    talk.say(Client, "CONNECT a:443 HTTP/1.1\r\n\r\n");
    assert_eq!(talk.next, Next::Continue);
    talk.say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x16\x03\x01");
    assert_eq!(talk.next, Next::Opaque);
    talk.say(Client, "\x16\x03\x01");
    assert_eq!(talk.next, Next::Opaque);
    assert_eq!(briefs(&talk.fin()), ["a:443 200"]);

    let mut talk = Talk::new();
    talk.say(Client, get("/0"))
        .say(Server, ok(""))
        .say(Client, "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    // The client's first frames may be read before the response.
    talk.chunk(Client, Chunk::Data(b"\x81\x05hello\n"), None);
    talk.say(Server, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x01x");
    assert_eq!(talk.next, Next::Opaque);
    assert_eq!(briefs(&talk.fin()), ["/0 200", "/ws 101"]);
}

#[test]
fn a_refused_connect_goes_on() {
    let mut talk = Talk::new();
    talk.say(Client, "CONNECT a:443 HTTP/1.1\r\n\r\n")
        .say(Server, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
    talk.say(Client, get("/2")).say(Server, ok(""));
    assert_eq!(briefs(&talk.fin()), ["a:443 403", "/2 200"]);
}

#[test]
#[expect(clippy::disallowed_types, reason = "the time that it takes is what is tested")]
fn a_head_byte_by_byte_is_read_once() {
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "Name: value value value\r\n".repeat(8000));
    let long = format!("GET /{} HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(100_000), "y".repeat(100_000));
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let trailer = format!("{chunked}A: {}\r\n\r\n", "z".repeat(200_000));
    for (head, odd) in [(many, " http-head-too-large"), (long, ""), (trailer, "")] {
        let mut talk = Talk::new();
        let before = std::time::Instant::now();
        for byte in head.as_bytes() {
            talk.say(Client, [*byte]);
        }
        assert!(before.elapsed().as_secs() < 2, "quadratic: {:?}", before.elapsed());
        talk.say(Server, ok(""));
        let drafts = talk.fin();
        assert!(brief(&drafts[0]).ends_with(&format!(" 200{odd}")));
    }
}

#[test]
fn a_head_past_its_limit_is_cut_and_the_stream_goes_on() {
    let limits = Limits { head: 1000, ..Limits::default() };
    for piece in [1, 7, 10_000] {
        let mut talk = Talk::with(limits.clone());
        let head = format!("GET /big HTTP/1.1\r\nHost: shop\r\n{}\r\n", "Name: value\r\n".repeat(200));
        for part in head.as_bytes().chunks(piece) {
            talk.say(Client, part);
            assert!(talk.http.memory() < 10_000);
        }
        talk.say(Server, ok(""))
            .say(Client, get("/2"))
            .say(Server, ok(""))
            .say(Client, get("/3"))
            .say(Server, ok(""));
        let drafts = talk.fin();
        assert_eq!(
            briefs(&drafts),
            ["/big 200 dissection http-head-too-large", "/2 200", "/3 200"],
            "{piece}"
        );
        assert_eq!(
            exchange(&drafts[0]).request.as_ref().unwrap().message.head.get("host"),
            Some(&b"shop"[..])
        );
    }
}

#[test]
fn more_fields_than_the_limit_are_left_out_but_frame_the_message() {
    let limits = Limits { headers: 100, ..Limits::default() };
    let mut talk = Talk::with(limits);
    let head = format!("POST /1 HTTP/1.1\r\nContent-Length: 3\r\n{}\r\nabc", "N: v\r\n".repeat(200));
    talk.say(Client, head).say(Server, ok("")).say(Client, get("/2")).say(Server, ok(""));
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/1 200 http-head-too-large", "/2 200"]);
    assert_eq!(request_body(&drafts[0]), b"abc");
    assert_eq!(exchange(&drafts[0]).request.as_ref().unwrap().message.head.len(), 100);
}

#[test]
fn what_an_end_in_the_middle_leaves() {
    for (end, kind) in [
        (End::Fin, ErrorKind::Connection),
        (End::Reset, ErrorKind::Connection),
        (End::Reused, ErrorKind::Connection),
        (End::Timeout, ErrorKind::Timeout),
        (End::CaptureEnd, ErrorKind::Timeout),
    ] {
        let mut talk = Talk::new();
        talk.say(Client, get("/1")).say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        talk.say(Client, get("/2")).say(Client, "POST /3 HTTP/1.1\r\nContent-Length: 9\r\n\r\nhal");
        let drafts = talk.finish(end);
        let kind = kind.as_str();
        assert_eq!(
            briefs(&drafts),
            [format!("/1 200 {kind}"), format!("/2 - {kind}"), format!("/3 - {kind}")]
        );
        assert_eq!((response_body(&drafts[0]), request_body(&drafts[2])), (&b"half"[..], &b"hal"[..]));
    }
}

#[test]
fn a_head_cut_by_the_end_is_an_item_of_its_lines() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /1 HTTP/1.1\r\nHost: a\r\nAcce");
    let drafts = talk.finish(End::Reset);
    assert_eq!(briefs(&drafts), ["/1 - connection"]);
    assert!(Talk::new().say(Client, "GET /1 HT").finish(End::Reset).is_empty());
}

#[test]
fn a_response_that_is_read_before_its_request() {
    let mut talk = Talk::new();
    talk.chunk(Server, Chunk::Data(ok("one").as_bytes()), Some(36));
    assert!(talk.out.is_empty());
    talk.chunk(Client, Chunk::Data(get("/1").as_bytes()), Some(0));
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["/1 200"]);
    talk.say(Server, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(briefs(&talk.fin()), ["- 408 pair-not-found"]);
}

#[test]
fn requests_beyond_the_limit_are_emitted_and_never_mispair() {
    let limits = Limits { pipelined: 4, ..Limits::default() };
    let mut talk = Talk::with(limits);
    for n in 0..10 {
        talk.say(Client, get(&format!("/{n}")));
    }
    assert_eq!(talk.http.take_refused(), 6);
    assert_eq!(talk.out.len(), 6);
    talk.out.clear();
    for n in 0..10 {
        talk.say(Server, format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n", 200 + n));
    }
    talk.say(Client, get("/10")).say(Server, "HTTP/1.1 210 X\r\nContent-Length: 0\r\n\r\n");
    let drafts = talk.fin();
    let mut want: Vec<_> = (0..4).map(|n| format!("/{n} {}", 200 + n)).collect();
    want.extend((4..10).map(|n| format!("- {} pair-not-found", 200 + n)));
    want.push("/10 210".to_owned());
    assert_eq!(briefs(&drafts), want);
}

#[test]
fn responses_without_request_are_bounded() {
    let limits = Limits { pipelined: 8, ..Limits::default() };
    let mut talk = Talk::with(limits);
    for _ in 0..100_000 {
        talk.say(Server, ok("x"));
        assert!(talk.http.memory() < 50_000);
    }
    assert!(talk.http.take_refused() > 0);
    assert_eq!(talk.fin().len(), 100_000);
}

#[test]
fn an_idle_reader_is_small() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("x"));
    assert_eq!(talk.http.memory(), 0);
    assert!(size_of::<Http1>() <= 700, "{}", size_of::<Http1>());
}
