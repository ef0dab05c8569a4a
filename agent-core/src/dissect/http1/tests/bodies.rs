//! Bodies: how they end, what is kept of them, smuggling shapes.

use super::*;

fn one(request: &str, response: &str) -> Draft {
    let mut talk = Talk::new();
    talk.say(Client, request).say(Server, response);
    let mut drafts = talk.fin();
    assert_eq!(drafts.len(), 1, "{:?}", briefs(&drafts));
    drafts.remove(0)
}

#[test]
fn messages_without_body_whatever_they_say() {
    let mut talk = Talk::new();
    talk.say(Client, "HEAD /1 HTTP/1.1\r\n\r\n").say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n");
    talk.say(Client, get("/2")).say(Server, "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n");
    talk.say(Client, get("/3")).say(Server, "HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n");
    talk.say(Client, get("/4")).say(Server, ok("x"));
    assert_eq!(briefs(&talk.fin()), ["/1 200", "/2 204", "/3 304", "/4 200"]);
}

#[test]
fn chunked_with_extensions_and_trailers_both_ways() {
    let body = "4;a=b\r\nwiki\r\n5\r\npedia\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n";
    let draft = one(
        &format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
    );
    assert_eq!(brief(&draft), "/ 200");
    assert_eq!((request_body(&draft), response_body(&draft)), (&b"wikipedia"[..], &b"wikipedia"[..]));
    let trailers = exchange(&draft).response.as_ref().unwrap().message.trailers.as_ref().unwrap();
    assert_eq!((trailers.len(), trailers.get("x-sum")), (2, Some(&b"1"[..])));
}

#[test]
fn until_close() {
    let draft = one(&get("/"), "HTTP/1.0 200 OK\r\n\r\nall of it");
    assert_eq!((brief(&draft), response_body(&draft)), ("/ 200".to_owned(), &b"all of it"[..]));
    assert!(exchange(&draft).response.as_ref().unwrap().message.complete);
    let mut talk = Talk::new();
    talk.say(Client, get("/")).say(Server, "HTTP/1.1 200 OK\r\n\r\nsome");
    let drafts = talk.finish(End::Reset);
    assert_eq!(briefs(&drafts), ["/ 200 connection"]);
}

#[test]
fn http_1_0_keep_alive() {
    let mut talk = Talk::new();
    for n in 0..3 {
        talk.say(Client, format!("GET /{n} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        talk.say(Server, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx");
    }
    assert_eq!(briefs(&talk.fin()), ["/0 200", "/1 200", "/2 200"]);
}

#[test]
fn an_early_response_waits_for_its_request() {
    let mut talk = Talk::new();
    talk.say(Client, "POST /1 HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc");
    talk.say(Server, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert!(talk.out.is_empty());
    talk.say(Client, "def").say(Client, get("/2")).say(Server, ok(""));
    let drafts = talk.fin();
    assert_eq!(
        (briefs(&drafts), request_body(&drafts[0])),
        (vec!["/1 413".into(), "/2 200".into()], &b"abcdef"[..])
    );
}

#[test]
fn gigabytes_in_constant_memory() {
    let mut talk = Talk::new();
    talk.say(Client, get("/"))
        .say(Server, format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 10u64 << 30));
    let block = vec![b'x'; 1 << 20];
    for _ in 0..10 << 10 {
        talk.say(Server, &block);
        assert!(talk.http.memory() < 3 << 20);
    }
    let drafts = talk.fin();
    let body = &exchange(&drafts[0]).response.as_ref().unwrap().message.body;
    assert_eq!(
        (body.size, body.content().size, body.bytes.len(), body.truncated),
        (10 << 30, 10 << 30, 1 << 20, true)
    );
    assert_eq!(briefs(&drafts), ["/ 200"]);
}

#[test]
fn content_codings_are_undone_and_hashed_as_sent() {
    use sha2::{Digest, Sha256};
    use std::io::Write;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(b"hello hello hello").unwrap();
    let coded = gz.finish().unwrap();
    let mut talk = Talk::new();
    talk.hash = true;
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", coded.len());
    talk.say(Client, get("/1")).say(Server, [head.as_bytes(), &coded].concat());
    talk.say(Client, get("/2"))
        .say(Server, "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\nnope");
    let drafts = talk.fin();
    let body = &exchange(&drafts[0]).response.as_ref().unwrap().message.body;
    assert!(body.times_decoded() == 0 && *body.bytes == *coded, "nobody has asked yet");
    assert_eq!(briefs(&drafts), ["/1 200", "/2 200 http-bad-content-encoding"]);
    let content = body.content();
    assert_eq!(
        (&*content.bytes, content.size, content.truncated, content.decoded, body.size),
        (&b"hello hello hello"[..], 17, false, true, coded.len() as u64)
    );
    assert_eq!(body.sha256, Some(Box::new(Sha256::digest(&coded).into())));
    assert_eq!(response_body(&drafts[1]), b"nope");
}

#[test]
fn smuggling_shapes_are_named() {
    let chunked = "3\r\nabc\r\n0\r\n\r\n";
    for (fields, body, odd, content) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", chunked, "http-both-lengths", "abc"),
        ("Content-Length: 3\r\nContent-Length: 5", "abc", "http-conflicting-lengths", "abc"),
        ("Content-Length: nine", "", "http-bad-length", ""),
        ("Transfer-Encoding: chunked, cow", "", "http-bad-transfer-encoding", ""),
    ] {
        let draft = one(&format!("POST /x HTTP/1.1\r\n{fields}\r\n\r\n{body}"), &ok(""));
        assert_eq!(brief(&draft), format!("/x 200 {odd}"));
        assert_eq!(request_body(&draft), content.as_bytes());
    }
}

#[test]
fn a_bad_chunk_ends_the_message_and_the_next_is_found() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).say(Server, ok("")).say(Client, get("/2"));
    talk.say(Server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nZZ\r\njunk\r\n");
    talk.say(Client, get("/3")).say(Server, ok("three"));
    let drafts = talk.fin();
    assert_eq!(briefs(&drafts), ["/1 200", "/2 200 dissection http-bad-chunk", "/3 200"]);
    assert_eq!(response_body(&drafts[1]), b"abc");
}

#[test]
fn a_length_of_2_to_the_64_swallows_all_and_breaks_nothing() {
    let draft = one(
        "POST /x HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\nGET /inner HTTP/1.1\r\n\r\n",
        "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(brief(&draft), "/x 400 connection http-bad-length");
}

#[test]
fn a_body_that_is_not_there_when_the_capture_ends_is_not_said_to_be_empty() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    for (end, complete) in
        [(End::Fin, true), (End::Timeout, false), (End::CaptureEnd, false), (End::Reset, false)]
    {
        let mut talk = Talk::joined();
        let drafts = talk.say(Server, head).finish(end);
        let message = &exchange(&drafts[0]).response.as_ref().unwrap().message;
        assert_eq!((message.complete, message.body.truncated), (complete, !complete), "{end:?}");
    }
}
