//! More requests or responses wait than are kept.

use super::play::{check, play};
use super::*;

fn keeping(pipelined: usize, talk: Talk) -> Talk {
    Talk { limits: Limits { pipelined, ..Limits::default() }, ..talk }
}

#[test]
fn the_answer_to_a_request_that_was_not_kept_is_passed_over() {
    check(
        || keeping(1, Talk::new()),
        &[
            (">ab@0 <a@2 >c@1 <b@3 <c@3 >d@3 <d@4 !", "b- aa -b cc dd"),
            (">ab@0 <a@2 >c@1 <bc@3 !", "b- aa -b cc"),
            // It comes while nobody waits.
            (">ab@0 <a@2 <b@2 >c@2 <c@3 !", "b- aa -b cc"),
            (">abc@0 <a@3 <b@3 >d@2 <c@4 <d@4 .", "b- c- aa -b -c dd"),
        ],
    );
    // It was read before.
    check(|| keeping(1, believed()), &[(">a@0 <a@1 >- >c@2 <b@2 >d@3 <- <- .", "aa d- c- -b")]);
}

#[test]
fn an_interim_response_is_none_that_is_passed_over() {
    for waiting in [false, true] {
        let mut talk = keeping(1, Talk::new());
        let two = get("/a") + &get("/b");
        talk.say(Client, two).say(Server, ok("a"));
        if waiting {
            talk.say(Client, get("/c"));
        }
        talk.say(Server, "HTTP/1.1 100 Continue\r\n\r\n").say(Server, ok("b"));
        if !waiting {
            talk.say(Client, get("/c"));
        }
        talk.say(Server, ok("c"));
        let drafts = talk.fin();
        assert_eq!((&*brief(&drafts[0]), &*brief(&drafts[drafts.len() - 1])), ("/b - dissection", "/c 200"));
        assert_no_wrong_pair(&drafts);
    }
}

#[test]
fn a_request_that_is_not_kept_leaves_the_loss_before_it_to_the_next() {
    check(|| keeping(1, Talk::new()), &[(">a@0 >- >c@0 <a@1 <b@3 >d@1 <c@3 <d@4 !", "c- aa -b d- -c -d")]);
    check(
        || keeping(2, Talk::new()),
        &[(">ab@0 >- >d@0 <ab@3 <c@4 <d@4 >e@2 <e@5 .", "d- aa bb -c -d e- -e")],
    );
}

#[test]
fn whose_request_was_not_kept_did_not_wait() {
    check(
        || keeping(1, Talk::joined()),
        &[
            (">a@0 >b@0 <a@2 >c@1 <b@2 >d@2 >e@2 <c@5 <d@5 <e@5 .", "b- c- -b d- e- -c -d -e aa"),
            (">c@0 <c@1 >d@1 <- <e@3 >e@1 .", "d- c- -c -e e-"),
        ],
    );
    check(|| keeping(2, Talk::joined()), &[(">b@0 >c@1 <b@1 >d@2 <c@2 <d@3 !", "d- -d b- c- -b -c")]);
}

#[test]
fn of_too_many_responses_without_request_the_oldest_leaves_and_order_with_it() {
    check(
        || keeping(1, believed()),
        &[
            ("<a@1 >a@0 <b@2 >b@1 .", "aa bb"),
            ("<a@2 <b@? >ab@? .", "-a -b b- a-"),
            ("<a@1 <b@2 >a@0 <c@3 >- >c@2 <d@4 >- .", "-a a- -b cc -d"),
        ],
    );
    let mut talk = keeping(1, Talk::new());
    assert_eq!(play(keeping(2, Talk::new()), "<a@2 <b@2 | >ab@0 .").as_str(), "| aa bb");
    talk.say(Server, ok("a")).say(Server, ok("b"));
    assert_eq!((briefs(&talk.fin()).len(), talk.http.take_refused()), (2, 1));
}

#[test]
fn a_response_that_is_not_kept_parts_what_is_held() {
    check(|| keeping(3, Talk::joined()), &[(">e@0 <a@1 <b@1 <c@1 <d@1 <e@1 .", "e- -b -c -d -a -e")]);
    // What comes then is not for the end to tell.
    check(|| keeping(1, Talk::joined()), &[(">d@0 <b@1 <c@1 <d@1 >e@3 <e@2 .", "d- -c -b -d e- -e")]);
}

#[test]
fn a_request_that_is_not_kept_is_told_whole() {
    let mut talk = keeping(1, Talk::new());
    talk.say(Client, get("/a"))
        .say(Client, "POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nab")
        .say(Client, "c");
    let drafts = talk.fin();
    assert_eq!((&*brief(&drafts[0]), request_body(&drafts[0])), ("/b - dissection", &b"abc"[..]));
}

#[test]
fn a_request_that_is_not_kept_and_not_answered_parts_what_is_held() {
    check(
        || keeping(2, Talk::joined()),
        &[
            (">a@0 <a@1 >b@1 <b@2 .", "aa bb"),
            (">ab@0 <a@2 <b@2 >c@2 .", "c- a- b- -a -b"),
            (">ab@0 <a@2 <b@2 >c@2 <c@3 .", "c- -c aa bb"),
        ],
    );
}

#[test]
fn oddities_are_kept_up_to_their_limit() {
    for (anomalies, odd) in [(1, " http-bare-lf"), (2, " http-bare-lf http-obs-fold")] {
        let mut talk = Talk::with(Limits { anomalies, ..Limits::default() });
        talk.say(Client, "GET /1 HTTP/1.1\nHost: a\r\n b\r\n\r\n");
        assert_eq!(briefs(&talk.fin()), [format!("/1 - connection{odd}")]);
    }
}

#[test]
fn an_interim_response_that_is_not_kept_changes_no_other() {
    let mut talk = Talk::with(Limits { interim: 1, ..Limits::default() });
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    talk.say(Client, get("/1")).say(Server, interim).say(Server, interim).say(Server, ok("1"));
    let drafts = talk.fin();
    let message = &exchange(&drafts[0]).interim[0].message;
    assert_eq!((briefs(&drafts), message.first), (vec!["/1 200".to_owned()], message.last));
}
