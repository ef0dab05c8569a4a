//! A response that turns the stream into a tunnel, where it is not certain whose it is.

use super::*;

const CONNECT: &str = "CONNECT a:443 HTTP/1.1\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\n\r\n";
const NO: &str = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_response_that_may_answer_a_connect_that_waits_opens_its_tunnel() {
    let mut talk = Talk::new();
    talk.gap(Client, 31).chunk(Client, Chunk::Data(CONNECT.as_bytes()), Some(39));
    talk.say(Server, DONE);
    assert_eq!(talk.next, Next::Opaque);
}

#[test]
fn one_that_is_known_to_answer_another_does_not() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1") + CONNECT).say(Server, ok("one"));
    assert_eq!(talk.next, Next::Continue);
    talk.say(Server, DONE);
    assert_eq!(talk.next, Next::Opaque);
}

#[test]
fn nor_one_behind_the_answer() {
    let mut talk = Talk::joined();
    talk.say(Client, CONNECT).say(Server, NO).say(Server, ok("x"));
    assert_eq!(talk.next, Next::Continue);
    // What follows a tunnel that was refused is not the tunnel's.
    let mut talk = Talk::joined();
    talk.say(Client, CONNECT).say(Server, NO).say(Client, "]\r\n");
    assert_eq!(briefs(&talk.fin()), ["a:443 - gap http-invalid-message", "- 403 pair-not-found"]);
}
