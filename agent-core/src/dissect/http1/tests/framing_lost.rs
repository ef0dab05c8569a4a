//! Gaps and junk: framing, resynchronisation, and pairs that must not be made.

use super::*;

#[test]
fn a_gap_inside_a_body_of_known_length_keeps_framing() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    talk.gap(Server, 4).say(Server, "xyz").say(Client, get("/2")).say(Server, ok("two"));
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/1 200 gap", "/2 200"]);
    let body = &exchange(&drafts[0]).response.as_ref().unwrap().message.body;
    assert_eq!(
        (body.size, body.missing, &*body.bytes, body.truncated, drafts[0].gaps),
        (10, 4, &b"abc"[..], true, 1)
    );

    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nabc");
    talk.gap(Server, 7).say(Server, "\r\n0\r\n\r\n").say(Client, get("/2")).say(Server, ok("two"));
    assert_eq!(briefs(&talk.fin()), ["/1 200 gap", "/2 200"]);

    let mut talk = Talk::new();
    talk.say(Client, "POST /1 HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        .gap(Client, 7)
        .say(Server, ok("one"));
    talk.say(Client, get("/2")).say(Server, ok("two"));
    assert_eq!(briefs(&talk.fin()), ["/1 200 gap", "/2 200"]);
}

#[test]
fn a_lost_response_is_not_replaced_by_the_next() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("one")).say(Client, get("/2"));
    talk.gap(Server, 40);
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["/1 200", "/2 - gap"], "known at once");
    talk.say(Client, get("/3")).say(Server, ok("three")).say(Client, get("/4")).say(Server, ok("four"));
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/3 200", "/4 200"]);
    assert_eq!(response_body(&drafts[0]), b"three");
}

#[test]
fn a_lost_request_leaves_its_response_alone() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("one")).say(Client, get("/2")).say(Server, ok("two"));
    // The third request is lost; its response is read before anyone can know.
    talk.sent[0] += 36;
    talk.say(Server, ok("three"));
    talk.sent[0] -= 36;
    talk.gap(Client, 36)
        .say(Client, get("/4"))
        .say(Server, ok("four"))
        .say(Client, get("/5"))
        .say(Server, ok("five"));
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/1 200", "/2 200", "- 200 pair-not-found", "/4 200", "/5 200"]);
    assert_eq!(response_body(&drafts[2]), b"three");
    assert_eq!(response_body(&drafts[3]), b"four");
}

#[test]
fn a_request_that_may_share_a_batch_with_a_lost_one_is_not_paired() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("one")).say(Client, get("/2")).say(Server, ok("two"));
    // Two requests at once, the first of them lost: both acknowledge the same.
    talk.gap(Client, 36).say(Client, get("/4")).say(Server, ok("three")).say(Server, ok("four"));
    let drafts = talk.fin();
    assert_eq!(
        briefs(&drafts),
        ["/1 200", "/2 200", "/4 - gap", "- 200 pair-not-found", "- 200 pair-not-found"]
    );
}

#[test]
fn after_a_loss_a_pipelining_client_is_not_paired() {
    let mut talk = Talk::new();
    talk.say(Client, [get("/1"), get("/2")].concat()).say(Server, ok("one")).say(Server, ok("two"));
    talk.say(Client, [get("/3"), get("/4")].concat()).gap(Server, 41).say(Server, ok("four"));
    talk.say(Client, get("/5")).say(Server, ok("five"));
    let drafts = talk.fin();
    let pairs = drafts.iter().filter(|d| exchange(d).request.is_some() && exchange(d).response.is_some());
    assert_eq!(briefs(&pairs.cloned().collect::<Vec<_>>()), ["/1 200", "/2 200"]);
    assert_eq!(drafts.len(), 2 + 3 + 2);
}

#[test]
fn a_loss_at_the_very_start_holds_pairs_until_they_are_certain() {
    let mut talk = Talk::new();
    talk.gap(Client, 36).gap(Server, 41).say(Client, get("/2")).say(Server, ok("two"));
    assert!(talk.out.is_empty());
    talk.say(Client, get("/3")).say(Server, ok("three"));
    assert!(talk.out.is_empty());
    talk.say(Client, get("/4"));
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["/2 200", "/3 200"]);
    talk.say(Server, ok("four"));
    assert_eq!(briefs(&talk.fin()), ["/4 200"]);
}

#[test]
fn joined_streams() {
    // Clean from the first byte, though the handshake was not seen; even pipelined.
    let mut talk = Talk::joined();
    talk.say(Client, [get("/1"), get("/2")].concat()).say(Server, ok("one")).say(Server, ok("two"));
    talk.say(Client, get("/3")).say(Server, ok("three"));
    assert_eq!(briefs(&talk.fin()), ["/1 200", "/2 200", "/3 200"]);

    // In the middle of a response whose request was before the capture.
    let mut talk = Talk::joined();
    talk.say(Server, "rest of a body</html>").say(Client, get("/1")).say(Server, ok("one"));
    talk.say(Client, get("/2")).say(Server, ok("two"));
    assert_eq!(briefs(&talk.fin()), ["/1 200", "/2 200"]);

    // A response that answers what was sent before.
    let mut talk = Talk::joined();
    talk.say(Server, ok("zero"))
        .say(Client, get("/1"))
        .say(Server, ok("one"))
        .say(Client, get("/2"))
        .say(Server, ok("two"));
    assert_eq!(briefs(&talk.fin()), ["- 200 pair-not-found", "/1 200", "/2 200"]);

    // The middle of a batch: two of three requests were before the capture.
    let mut talk = Talk::joined();
    talk.say(Client, get("/3")).say(Server, ok("one")).say(Server, ok("two")).say(Server, ok("three"));
    talk.say(Client, get("/4")).say(Server, ok("four")).say(Client, get("/5")).say(Server, ok("five"));
    let drafts = talk.fin();
    for draft in &drafts {
        let x = exchange(draft);
        if let (Some(request), Some(_)) = (&x.request, &x.response) {
            let want = match request.target() {
                b"/3" => "three",
                b"/4" => "four",
                _ => "five",
            };
            assert_eq!(response_body(draft), want.as_bytes());
        }
    }
}

#[test]
fn held_pairs_are_given_up_where_more_responses_may_come() {
    // The first of two requests in one batch was sent before the capture began: the response is that one's.
    let batch = |end: End, more: &str| {
        let mut talk = Talk::joined();
        talk.say(Client, format!("\n\r\n{}", get("/2"))).say(Server, ok("one") + more);
        briefs(&talk.finish(end))
    };
    let apart = ["/2 - gap", "- 200 pair-not-found"];
    for end in [End::Evicted, End::CaptureEnd, End::Timeout, End::Reset, End::Reused] {
        assert_eq!(batch(end, ""), apart, "{end:?}");
    }
    assert_eq!(batch(End::Fin, "HTTP/1.1 "), apart, "another response has begun");

    let single = |end: End| {
        let mut talk = Talk::joined();
        talk.say(Client, get("/1")).say(Server, ok("one"));
        briefs(&talk.finish(end))
    };
    assert_eq!(single(End::CaptureEnd), ["/1 200"]);
    assert_eq!(single(End::Evicted), ["/1 - gap", "- 200 pair-not-found"], "given up before it was certain");
}

#[test]
fn a_head_cut_by_a_gap_keeps_its_lines_and_its_pair() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, "HTTP/1.1 500 Oops\r\nContent-Length: 3\r\nX-").gap(Server, 10);
    talk.say(Server, "rest").say(Client, get("/2")).say(Server, ok("two"));
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/1 500 gap", "/2 200"]);
}

#[test]
fn a_gap_beyond_the_body_loses_what_it_held() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("one")).say(Client, get("/2"));
    talk.say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").gap(Server, 50);
    talk.say(Client, get("/4")).say(Server, ok("four"));
    assert_eq!(briefs(&talk.fin()), ["/1 200", "/2 200 gap", "/4 200"]);
}

#[test]
fn junk_is_an_anomaly_and_its_answer_is_nobodys() {
    let mut talk = Talk::new();
    talk.say(Client, "POST /1 HTTP/1.1\r\nHost: a\r\n\r\n").say(Client, "login=foo&password=bar\r\n");
    talk.say(Server, ok("one")).say(Server, "HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad");
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/1 200 http-invalid-message", "- 400 pair-not-found"]);
}

#[test]
fn bytes_of_a_body_that_look_like_a_message_are_not_taken() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("one")).say(Client, get("/2"));
    talk.say(Server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").gap(Server, 9);
    talk.say(
        Server,
        "HTTP/1.1 is a protocol\r\nHTTP/1.1 200 OK\r\nno header at all\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    );
    talk.say(Client, get("/3")).say(Server, ok("three"));
    assert_eq!(briefs(&talk.fin()), ["/1 200", "/2 200 gap", "/3 200"]);
}

#[test]
fn a_request_beyond_the_limit_takes_its_response_with_it_that_was_captured_first() {
    let mut talk =
        Talk { http: Http1::new(true), ..Talk::with(Limits { pipelined: 2, ..Limits::default() }) };
    talk.say(Client, get("/0")).say(Server, ok("zero")).say(Client, get("/1")).say(Server, ok("one"));
    // The third, captured after its response, finds the first two still held.
    let (size, before) = (get("/2").len() as u64, talk.sent[1]);
    talk.sent[0] += size;
    talk.say(Server, ok("two"));
    talk.sent[0] -= size;
    talk.chunk(Client, Chunk::Data(get("/2").as_bytes()), Some(before));
    talk.say(Client, [get("/3"), get("/4")].concat()).say(Server, [ok("three"), ok("four")].concat());
    let drafts = talk.fin();
    for draft in &drafts {
        let Some(request) = exchange(draft).request.as_ref().filter(|_| exchange(draft).response.is_some())
        else {
            continue;
        };
        let said = [("/0", "zero"), ("/1", "one"), ("/3", "three"), ("/4", "four")];
        let (_, body) = said.iter().find(|(path, _)| path.as_bytes() == request.target()).unwrap();
        assert_eq!(response_body(draft), body.as_bytes());
    }
    assert!(briefs(&drafts).contains(&"/3 200".to_owned()), "{:?}", briefs(&drafts));
}

#[test]
fn the_end_of_a_method_is_no_method() {
    let mut talk = Talk::joined();
    talk.say(Client, "EAD /1 HTTP/1.1\r\nHost: shop\r\n\r\n")
        .say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    talk.say(Client, get("/2")).say(Server, ok("two"));
    assert_eq!(briefs(&talk.fin()), ["- 200 pair-not-found", "/2 200"]);
    let mut talk = Talk::joined();
    talk.say(Client, "BREW /1 HTTP/1.1\r\nHost: shop\r\n\r\n").say(Server, ok("one"));
    assert_eq!(briefs(&talk.fin()), ["/1 200"], "one of its own is");
}

#[test]
fn a_head_whose_answer_was_captured_first_is_whole() {
    let mut talk = Talk::new();
    talk.sent[0] += 37;
    talk.say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 640\r\n\r\n");
    talk.sent[0] -= 37;
    talk.chunk(Client, Chunk::Data(b"HEAD /1 HTTP/1.1\r\nHost: shop7890\r\n\r\n"), Some(0));
    let drafts = talk.finish(End::CaptureEnd);
    assert_eq!(briefs(&drafts), ["/1 200"]);
    assert!(!exchange(&drafts[0]).response.as_ref().unwrap().message.body.truncated);
}

#[test]
fn order_counts_up_to_the_next_loss_even_if_that_was_read_before_the_requests() {
    let mut talk = Talk::joined();
    let (size, one, two) = (get("/1").len() as u64, ok("one"), ok("two"));
    talk.sent[0] += 36 + size;
    talk.say(Server, &one);
    talk.sent[0] += 2 * size;
    talk.gap(Server, two.len() as u64).say(Server, ok("three"));
    talk.sent[0] -= 36 + 3 * size;
    let (first, second) = (one.len() as u64, (one.len() + two.len()) as u64);
    talk.gap(Client, 36);
    for (path, acked) in [("/1", 0), ("/2", first), ("/3", second)] {
        talk.chunk(Client, Chunk::Data(get(path).as_bytes()), Some(acked));
    }
    let drafts = talk.fin();
    for draft in &drafts {
        let Some(request) = exchange(draft).request.as_ref().filter(|_| exchange(draft).response.is_some())
        else {
            continue;
        };
        let said = [("/1", "one"), ("/2", "two"), ("/3", "three")];
        let (_, body) = said.iter().find(|(path, _)| path.as_bytes() == request.target()).unwrap();
        assert_eq!(response_body(draft), body.as_bytes());
    }
}

#[test]
fn bytes_behind_a_gap_are_no_body_of_what_may_answer_a_head() {
    let heads = get("/1").replace("GET", "HEAD") + &get("/2");
    let (one, two) = ("HTTP/1.1 200 OK\r\nContent-Length: 640\r\n\r\n", ok("two"));
    for seen in [0, 3] {
        let mut talk = Talk::new();
        talk.sent[0] += heads.len() as u64;
        talk.say(Server, format!("{one}{}", &two[..seen])).gap(Server, 20).say(Server, &two[20 + seen..]);
        talk.sent[0] -= heads.len() as u64;
        talk.chunk(Client, Chunk::Data(heads.as_bytes()), Some(0));
        for draft in talk.finish(End::CaptureEnd) {
            let exchange = exchange(&draft);
            let target = exchange.request.as_ref().map(|r| r.target().to_vec());
            assert!(exchange.response.is_none() || target.as_deref() != Some(b"/2"), "its answer is lost");
            assert!(exchange.response.iter().all(|r| r.message.body.bytes.is_empty()), "{draft:?}");
        }
    }
}

#[test]
fn a_head_answer_is_framed_even_without_its_request() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("one")).gap(Client, 40);
    talk.say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        .say(Client, get("/3"))
        .say(Server, ok("three"));
    talk.say(Client, get("/4")).say(Server, ok("four"));
    assert_eq!(briefs(&talk.fin()), ["/1 200", "- 200 pair-not-found", "/3 200", "/4 200"]);
}

#[test]
fn a_gap_behind_a_request_may_hold_one_that_was_sent_with_the_next() {
    let fixed = ("Content-Length: 10", "abcdefghij");
    for ((field, body), seen) in
        [(fixed, 3), (fixed, 0), (("Transfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n"), 4)]
    {
        let mut talk = believed();
        talk.say(Client, format!("POST /a HTTP/1.1\r\n{field}\r\n\r\n{}", &body[..seen]));
        let rest = (body.len() - seen) as u64;
        talk.sent[0] += rest;
        talk.say(Server, ok("a"));
        talk.sent[0] -= rest;
        // After the answer two at once, /b and /c, the first of them lost.
        talk.gap(Client, rest + 36).say(Client, get("/c")).say(Server, ok("b")).say(Server, ok("c"));
        let drafts = talk.fin();
        assert_eq!(briefs(&drafts)[..2], ["/a 200 gap", "/c - gap"]);
        assert_no_wrong_pair(&drafts);
    }
}

#[test]
fn an_answer_that_was_lost_may_have_been_followed_by_two_requests_at_once() {
    let mut talk = believed();
    talk.say(Client, get("/a")).gap(Server, ok("a").len() as u64).gap(Client, 36).say(Client, get("/c"));
    talk.say(Server, ok("b")).say(Server, ok("c")).say(Client, get("/d")).say(Server, ok("d"));
    assert_no_wrong_pair(&talk.fin());
}

#[test]
fn who_is_believed_to_wait_needs_one_more_request_and_no_more() {
    let mut talk = believed();
    talk.gap(Client, 36).gap(Server, 41).say(Client, get("/b")).say(Server, ok("b"));
    assert!(talk.out.is_empty());
    talk.say(Client, get("/c"));
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["/b 200"]);
    // Another loss contradicts nothing, nor does the end of the stream.
    talk.gap(Server, 41).gap(Client, 36).say(Client, get("/e")).say(Server, ok("e")).gap(Client, 36);
    assert_eq!(briefs(&talk.out.drain(..).collect::<Vec<_>>()), ["/c - gap", "/e 200"]);
    for end in [End::CaptureEnd, End::Evicted, End::Timeout, End::Reset, End::Reused] {
        let mut talk = believed();
        talk.gap(Client, 36).gap(Server, 41).say(Client, get("/b")).say(Server, ok("b"));
        assert_eq!(briefs(&talk.finish(end)), ["/b 200"], "{end:?}");
    }
}

#[test]
fn nobody_answers_what_he_has_not_read() {
    // An exchange and /b are lost, and /c comes in pieces: the answer was sent before the second of them was there.
    let mut talk = believed();
    talk.gap(Client, 36 + 36).gap(Server, 41);
    let (c, start) = (get("/c"), talk.sent[1]);
    talk.chunk(Client, Chunk::Data(&c.as_bytes()[..20]), Some(start));
    talk.say(Server, ok("b"));
    talk.chunk(Client, Chunk::Data(&c.as_bytes()[20..]), Some(start));
    assert_no_wrong_pair(&talk.gap(Server, 1).fin());
}

#[test]
fn a_request_that_acknowledges_no_more_than_lost_ones_before_it_was_not_waited_with() {
    // Left: the end of a body, a start line whose rest is lost.
    for rest in ["bbbbbbbbbbbbbbbbbbbb", "GET /b HTTP/1.1\r\nHost: "] {
        let mut talk = believed();
        talk.gap(Client, 36).gap(Server, 41).gap(Client, 36);
        let start = talk.sent[1];
        talk.say(Client, rest).gap(Client, 4);
        talk.chunk(Client, Chunk::Data(get("/c").as_bytes()), Some(start));
        talk.say(Server, ok("b")).gap(Server, 1);
        assert_no_wrong_pair(&talk.fin());
    }
}

#[test]
fn the_length_of_an_answer_is_as_uncertain_as_the_pair() {
    // The answer to a HEAD that was lost, and in the same segment that to the request which was sent with it.
    let mut talk = believed();
    talk.gap(Client, 36 + 36).gap(Server, 41).say(Client, get("/c"));
    talk.say(Server, format!("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{}", ok("c")));
    assert_no_wrong_pair(&talk.gap(Server, 1).fin());
}
