//! What is held until it is certain, and what parts it: a contradiction, another loss, the end of the stream.

use super::play::check;
use super::*;

#[test]
fn a_response_too_many_parts_what_is_held() {
    check(Talk::joined, &[(">c@0 <a@1 <b@1 <c@1 .", "c- -b -c -a"), (">a@? <a@1 <b@2 !", "a- -b -a")]);
}

#[test]
fn a_request_without_response_parts_what_is_held() {
    check(
        Talk::joined,
        &[
            ("<a@0 <b@1 <c@? >b@1 <d@3 >c@2 >d@3 .", "-a -c b- c- d- -b -d"),
            (">b@0 <a@1 >c@1 >d@1 <b@2 >e@3 <c@2 <d@4 <e@4 ~", "b- c- d- e- -e -a -b -c -d"),
        ],
    );
}

#[test]
fn a_request_that_acknowledges_more_than_the_response_before_it_parts_what_is_held() {
    check(believed, &[(">a@0 <- >- >c@1 <b@3 >d@3 <- <- .", "a- c- -b d-")]);
    // So does one that acknowledges less, and the end of the response may tell it as well as the request.
    check(believed, &[(">a@0 <- >- >c@2 >d@2 <c@3 <d@4 .", "a- c- d- -c -d")]);
}

#[test]
fn a_loss_parts_what_is_held() {
    check(
        Talk::joined,
        &[
            (">b@0 <a@1 <- .", "b- -a"),
            (">b@0 <a@1 >- .", "b- -a"),
            // Before the response as well.
            (">b@0 >- <ab@1 <c@2 .", "b- -a -b -c"),
            (">c@0 >- >e@2 <c@1 <d@? <- .", "c- e- -d -c"),
            // One of which it is known by now that it has no answer does not.
            (">a@0 >- <a@1 <b@2 >c@? <c@3 .", "-b -c aa c-"),
            (">c@0 <a@? <b@0 <c@1 <d@2 >d@3 .", "c- -b -c -a dd"),
        ],
    );
}

#[test]
fn a_loss_behind_a_response_parts_it_whether_its_request_was_read_by_then() {
    check(
        Talk::new,
        &[
            (">a@0 <a@1 >- >c@1 <b@3 <- !", "aa c- -b"),
            (">a@0 <a@1 <b@3 <- >- >c@1 !", "aa c- -b"),
            (">a@0 <a@1 >- >c@2 <- <c@3 <- !", "aa c- -c"),
            (">a@0 <a@1 <- <c@3 <- >- >c@2 !", "aa c- -c"),
        ],
    );
    check(Talk::joined, &[(">c@0 <- <c@1 <d@2 <- >d@2 >e@3 .", "c- -c d- -d e-")]);
    // Who is believed to wait needs nothing that comes later.
    check(believed, &[("<- <b@2 <- >- >b@1 .", "bb"), ("<- >- >b@1 <b@2 <- .", "bb")]);
}

#[test]
fn what_is_found_behind_another_loss_does_not_confirm_what_is_held() {
    check(
        Talk::joined,
        &[
            (">b@0 >- <a@? <b@1 <c@2 <d@3 >d@3 ~", "-b -c b- -a d- -d"),
            (">b@0 >- <a@? >d@3 <b@1 <c@2 <d@3 ~", "b- -b -c -a d- -d"),
        ],
    );
}
