//! Which request a response answers: by order, by what a request acknowledged, and what shows that neither can be trusted.

use super::play::check;
use super::*;

#[test]
fn responses_that_are_read_before_their_requests_wait_for_them_in_order() {
    check(Talk::new, &[("<a@2 <b@2 >ab@0 <c@3 >c@2 ~", "aa bb cc"), ("<a@1 >a@0 <b@2 >b@1 .", "aa bb")]);
    check(
        Talk::joined,
        &[
            // The first found by what its request acknowledged, the next by order.
            ("<b@0 >c@1 >d@2 <c@1 >e@3 <d@2 <e@3 ~", "-b cc dd ee"),
            ("<a@? >c@2 <b@0 <c@1 !", "-a -b cc"),
        ],
    );
}

#[test]
fn a_response_whose_sender_had_not_read_the_request_is_anothers() {
    check(Talk::joined, &[(">d@0 <a@0 <b@1 <c@1 <d@1 .", "d- -a -b -c -d")]);
    // Even if it begins where the request acknowledged: whose it is was lost, and its client did not wait.
    check(Talk::joined, &[(">b@0 >- >d@1 <b@1 <c@2 <d@? !", "b- -b d- -c -d")]);
    check(believed, &[("<a@2 >a@0 >- >c@1 <b@2 >d@2 <c@4 <d@4 .", "aa c- -b d- -c -d")]);
}

#[test]
fn order_ends_with_a_lost_request() {
    check(Talk::new, &[(">a@0 >- <a@1 <b@3 >c@1 !", "aa c- -b"), (">a@? >- <a@1 <b@3 >c@1 ~", "aa c- -b")]);
    check(
        Talk::new,
        &[
            // A response whose request was read as lost, and the request whose response was.
            ("<a@1 >- >b@1 !", "-a b-"),
        ],
    );
    check(believed, &[("<a@1 >- >bc@1 <b@3 >de@3 <- <d@5 !", "-a b- c- -b d- e- -d")]);
    check(Talk::joined, &[("<a@0 >b@1 ~", "-a b-")]);
}

#[test]
fn a_response_found_behind_a_loss_ends_the_wait_of_those_before_it() {
    check(
        believed,
        &[
            ("<a@1 >a@0 >- >c@2 >d@3 <b@2 <c@3 <d@4 >e@4 <e@5 ~", "aa cc -b dd ee"),
            // Those are not for the requests behind it, nor the requests before it for the responses.
            (">a@0 <a@1 >- >c@2 <b@2 >d@3 <c@3 <d@4 .", "aa cc -b dd"),
        ],
    );
}

#[test]
fn two_responses_that_acknowledge_the_same_show_a_client_that_does_not_wait() {
    check(believed, &[(">a@0 <a@1 >- <- >- >d@2 <c@4 <d@4 <- !", "aa d- -c -d")]);
}

#[test]
fn two_requests_that_acknowledge_the_same_show_a_client_that_does_not_wait() {
    check(
        believed,
        &[
            (">a@0 >b@0 >c@0 <- <b@2 >d@2 <c@4 !", "a- b- c- -b d- -c"),
            (">a@0 <a@1 >b@0 <- <- >- >d@2 >e@3 <d@5 .", "aa b- d- e- -d"),
            // Where it is not known of one of them, both had no answer.
            (">a@0 >b@? >c@1 <- <b@3 <- ~", "a- b- c- -b"),
        ],
    );
}

#[test]
fn a_request_behind_a_lost_one_that_acknowledges_no_more_than_what_is_answered_was_sent_with_it() {
    check(
        believed,
        &[
            (">a@0 <a@1 >- >c@1 <b@3 >d@2 <c@4 <d@? >e@3 <e@5 .", "aa c- -b d- -c -d e- -e"),
            // One that acknowledges more was not.
            (">a@0 <a@1 >- <b@2 >c@2 <c@3 >d@3 <d@4 .", "aa -b cc dd"),
        ],
    );
}

#[test]
fn of_a_stream_that_was_joined_all_may_wait_for_what_the_server_says_first() {
    check(
        Talk::joined,
        &[
            // What it acknowledges is not known, for nothing of the server was seen; and of a later one that is not so.
            (">a@? <a@1 >b@1 <b@2 .", "aa bb"),
            (">a@? <a@1 <b@2 !", "a- -b -a"),
            (">c@0 <c@1 >d@? <d@2 >e@2 <- .", "c- d- e- -c -d"),
            ("<b@0 <c@1 >c@? >d@2 <d@2 !", "-b c- -c dd"),
        ],
    );
}
