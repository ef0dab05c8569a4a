//! What is learnt from acknowledgements, and from packets without payload.

use super::*;

#[test]
fn a_packet_without_payload_captured_before_the_data_before_it_loses_nothing() {
    let mut b = Bench::with_syn(0);
    let seq = b.seq(4);
    b.receiver.empty(seq, b.now);
    b.settle();
    assert_eq!(b.got(), []);
    assert!(b.receiver.deadline(&b.limits).is_some_and(|due| due > b.now));
    b.data(0, "late");
    assert_eq!(b.got(), [text("late")]);
}

#[test]
fn a_packet_without_payload_at_the_end_of_a_gap_tells_nothing_new() {
    let mut b = Bench::with_syn(0);
    let seq = b.seq(4);
    b.receiver.empty(seq, b.now);
    b.wait(Duration::from_secs(11));
    assert_eq!(b.got(), [Got::Gap(4)]);
    b.receiver.empty(seq, b.now);
    assert!(!b.receiver.waiting());
    assert_eq!(b.receiver.deadline(&b.limits), None);
}

#[test]
fn bytes_only_known_from_empty_packets_are_told_apart() {
    let mut b = Bench::with_syn(0);
    b.data(0, "ab");
    let seq = b.seq(50);
    b.receiver.empty(seq, b.now);
    b.flush();
    assert_eq!(b.got(), [text("ab"), Got::Gap(48)]);
    let figures = b.receiver.figures();
    assert_eq!((figures.gaps_total, figures.gap_bytes, figures.unseen), (0, 0, 48));
    assert_eq!(figures.runs.len(), 1);
}

#[test]
fn an_acknowledged_hole_is_a_gap_once_the_acknowledgement_was_answered() {
    let mut b = Bench::with_syn(0);
    // The other side's packet acknowledges 10 bytes that were not captured; its own payload ends at 50.
    b.ack(10, Some(50));
    assert_eq!(b.got(), []);
    // This side goes on and has received those 50 bytes: what it sent before is not just late.
    b.receiver.answers(50);
    b.data(10, "next");
    assert_eq!(b.got(), [Got::Gap(10), text("next")]);
}

#[test]
fn an_acknowledgement_seen_before_its_data_loses_nothing() {
    let mut b = Bench::with_syn(0);
    // One direction lags in the capture: all of 200 bytes are acknowledged before the first of them is seen.
    b.ack(200, None);
    b.data(2, "cd");
    b.data(0, "ab");
    for at in (4..200).step_by(2) {
        b.data(at, "zz");
    }
    assert!(b.out.iter().all(|(_, piece)| piece.is_ok()), "no gap");
    assert_eq!(b.receiver.bytes, 200);
}

#[test]
fn an_acknowledged_hole_is_a_gap_after_enough_from_beyond_or_a_little_time() {
    let mut b = Bench::with_syn(0);
    b.data(2, "cd");
    b.ack(4, None);
    for i in 0..7 {
        b.data(4 + 2 * i, "..");
    }
    assert_eq!(b.got(), []);
    b.data(18, "!!");
    assert_eq!(b.got()[0], Got::Gap(2));

    let mut b = Bench::with_syn(0);
    b.data(2, "cd");
    b.ack(4, None);
    assert_eq!(b.receiver.deadline(&b.limits), Some(b.now.after(b.limits.reorder_time)));
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [Got::Gap(2), text("cd")]);
}

#[test]
fn only_what_was_acknowledged_is_given_up() {
    let mut b = Bench::with_syn(0);
    b.data(6, "gh");
    b.ack(4, None);
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [Got::Gap(4)]);
    b.data(4, "ef");
    assert_eq!(b.got(), [Got::Gap(4), text("efgh")]);
}

/// A segment that is held, with nothing before it.
fn behind_a_hole() -> Bench {
    let mut b = Bench::with_syn(0);
    b.data(25, "x");
    b
}

#[test]
fn an_answer_makes_ripe_what_was_acknowledged_before_it_and_no_more() {
    // Each answer in turn: the older acknowledgement, then the newer one.
    let mut b = behind_a_hole();
    b.ack(10, Some(50));
    b.ack(20, Some(60));
    b.receiver.answers(49);
    b.settle();
    assert_eq!(b.got(), []);
    b.receiver.answers(50);
    b.settle();
    assert_eq!(b.got(), [Got::Gap(10)]);
    b.receiver.answers(60);
    b.settle();
    assert_eq!(b.got(), [Got::Gap(10), Got::Gap(10)]);
    // The newer one at once.
    let mut b = behind_a_hole();
    b.ack(10, Some(50));
    b.ack(20, Some(60));
    b.receiver.answers(60);
    b.settle();
    assert_eq!(b.got(), [Got::Gap(20)]);
}

#[test]
fn a_packet_without_payload_proves_nothing_when_it_is_answered() {
    let mut b = behind_a_hole();
    b.ack(10, None);
    b.receiver.answers(50);
    b.settle();
    assert_eq!(b.got(), []);
}

#[test]
fn acknowledgements_that_were_answered_make_room_for_the_next_two() {
    let mut b = Bench::with_syn(0);
    b.ack(10, Some(50));
    b.ack(20, Some(60));
    b.receiver.answers(60);
    b.ack(30, Some(70));
    b.ack(40, Some(80));
    b.receiver.answers(70);
    b.data(50, "x");
    assert_eq!(b.got(), [Got::Gap(30)]);
    // So do those of which the bytes came.
    let mut b = Bench::with_syn(0);
    b.ack(10, Some(50));
    b.data(0, "0123456789");
    b.ack(20, Some(60));
    b.ack(30, Some(70));
    b.receiver.answers(60);
    b.data(40, "x");
    assert_eq!(b.got(), [text("0123456789"), Got::Gap(10)]);
}

#[test]
fn a_late_acknowledgement_takes_no_newer_ones_place() {
    let mut b = Bench::with_syn(0);
    b.data(0, "ab");
    b.data(20, "x");
    b.ack(10, Some(50));
    b.ack(20, Some(60));
    b.ack(2, Some(70));
    b.receiver.answers(60);
    b.settle();
    assert_eq!(b.got(), [text("ab"), Got::Gap(18), text("x")]);
}

#[test]
fn more_acknowledgements_do_not_put_off_the_first() {
    let mut b = behind_a_hole();
    let half = b.limits.reorder_time / 2;
    b.ack(10, None);
    b.wait(half);
    b.ack(20, None);
    b.ack(15, None);
    assert_eq!(b.got(), []);
    b.wait(half);
    assert_eq!(b.got(), [Got::Gap(10)]);
    // Then the furthest of those that came meanwhile.
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [Got::Gap(10), Got::Gap(10)]);
}

#[test]
fn an_acknowledgement_whose_bytes_came_does_not_put_off_the_next() {
    let mut b = Bench::with_syn(0);
    b.ack(10, None);
    b.data(0, "0123456789");
    b.ack(20, None);
    b.data(25, "x");
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [text("0123456789"), Got::Gap(10)]);
}

#[test]
fn what_is_ripe_stays_ripe() {
    let mut b = Bench::with_syn(0);
    b.data(2, "cd");
    b.ack(10, Some(50));
    b.ack(20, None);
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [Got::Gap(2), text("cd")]);
    b.data(6, "g");
    b.now = b.now.after(b.limits.reorder_time);
    b.data(12, "m");
    let mut got = vec![Got::Gap(2), text("cd"), Got::Gap(2), text("g"), Got::Gap(5), text("m")];
    assert_eq!(b.got(), got);
    // 20 bytes are ripe by time, and that is no less when ten of them are proved as well.
    b.receiver.answers(50);
    b.data(15, "p");
    got.extend([Got::Gap(2), text("p")]);
    assert_eq!(b.got(), got);

    let mut b = Bench::joined(100);
    b.data(0, "\0");
    b.ack(6, None);
    b.ack(3, None);
    b.data(1, "GE");
    b.data(5, "x");
    assert_eq!(b.got(), [text("GE"), Got::Gap(2), text("x")]);
}

#[test]
fn an_acknowledgement_of_what_was_not_seen_yet_does_not_tell_the_beginning() {
    let mut b = Bench::joined(7_000);
    b.data(4, "efgh");
    b.ack(4, None);
    b.data(0, "abcd");
    assert_eq!(b.got(), []);
    // One that passes the lowest byte does, though the segment that was seen first begins there.
    b.ack(4, None);
    assert_eq!(b.got(), [text("abcdefgh")]);
}

#[test]
fn an_acknowledgement_from_nowhere_is_believed_only_where_nothing_speaks_against_it() {
    let far = 3 << 29;
    let now = Timestamp::new(1_000, 0);
    let of = |b: &mut Bench| {
        let seq = b.seq(far);
        b.receiver.acknowledged(seq, None, now)
    };
    let mut b = Bench::with_syn(0);
    assert_eq!(of(&mut b), Some(0));
    b.data(far, "there");
    assert_eq!(b.got(), [text("there")]);

    let mut b = Bench::with_syn(0);
    b.data(0, "ab");
    assert_eq!(of(&mut b), None);
    b.data(2, "cd");
    assert_eq!(b.got(), [text("abcd")]);
    let mut b = Bench::with_syn(0);
    b.fin(0);
    assert_eq!(of(&mut b), None);
    let mut b = Bench::with_syn(0);
    let seq = b.seq(4);
    b.receiver.empty(seq, b.now);
    assert_eq!(of(&mut b), None);
}

#[test]
fn the_number_behind_a_fin_is_not_a_byte() {
    let mut b = Bench::with_syn(0);
    b.data(0, "ab");
    b.fin(2);
    let seq = b.seq(3);
    assert_eq!(b.receiver.acknowledged(seq, None, b.now), Some(2));
}

#[test]
fn packets_without_payload_tell_how_far_a_joined_direction_is() {
    let empty = |b: &mut Bench, offset| {
        let seq = b.seq(offset);
        b.receiver.empty(seq, b.now);
    };
    let mut b = Bench::joined(7_000);
    b.ack(0, None);
    empty(&mut b, 30);
    b.data(30, "behind");
    assert_eq!(b.got(), [Got::Gap(30), text("behind")]);
    // So far that what lies between is not the loss of one connection.
    let mut b = Bench::joined(7_000);
    for offset in [0, 600 << 20, 1200 << 20] {
        b.ack(offset, None);
    }
    b.data(1200 << 20, "far");
    assert_eq!(b.got(), [text("far")]);
    // Not where bytes are held: they tell more.
    let mut b = Bench::joined(7_000);
    b.data(10, "abcd");
    empty(&mut b, 50);
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [text("abcd")]);
    assert!(!b.receiver.waiting());
}

#[test]
fn packets_without_payload_are_from_beyond_only_where_they_tell_something_new() {
    let mut b = Bench::with_syn(0);
    b.data(2, "cdef");
    b.ack(3, None);
    let many = b.limits.reorder_packets;
    let empty = |b: &mut Bench, offset| {
        let seq = b.seq(offset);
        b.receiver.empty(seq, b.now);
        b.settle();
    };
    (0..many).for_each(|_| empty(&mut b, 5));
    assert_eq!(b.got(), []);
    (0..many).for_each(|n| empty(&mut b, 7 + n));
    assert_eq!(b.got(), [Got::Gap(2), text("cdef")]);
}

#[test]
fn packets_without_payload_do_not_put_off_the_end_of_a_hole_nor_shorten_it() {
    let mut b = Bench::with_syn(0);
    for (offset, seconds) in [(4, 6), (8, 3), (5, 2)] {
        let seq = b.seq(offset);
        b.receiver.empty(seq, b.now);
        b.wait(Duration::from_secs(seconds));
    }
    assert_eq!(b.got(), [Got::Gap(8)]);
}
