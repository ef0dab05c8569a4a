//! Where a direction begins whose SYN was not seen, or late.

use super::*;

#[test]
fn a_join_at_a_keep_alive_probe_does_not_begin_with_its_zero() {
    let mut b = Bench::joined(100);
    b.data(0, "\0");
    b.wait(Duration::from_secs(1));
    b.data(1, "GET /");
    b.ack(6, None);
    assert_eq!(b.got(), [text("GET /")]);
    // What is just one zero byte to the end may as well be data.
    let mut b = Bench::joined(100);
    b.data(0, "\0");
    b.flush();
    assert_eq!(b.got(), [text("\0")]);
}

#[test]
fn a_stream_joined_in_the_middle_begins_at_its_lowest_byte() {
    let mut b = Bench::joined(7_000);
    b.data(4, "efgh");
    b.data(0, "abcd");
    assert_eq!(b.got(), []);
    b.ack(8, None);
    assert_eq!(b.got(), [text("abcdefgh")]);
    // Where an acknowledgement has told the place, nothing is waited for.
    let mut b = Bench::joined(7_000);
    b.ack(0, None);
    b.data(0, "at once");
    assert_eq!(b.got(), [text("at once")]);
    // Without any acknowledgement, a moment.
    let mut b = Bench::joined(7_000);
    b.data(0, "one side");
    assert_eq!(b.got(), []);
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [text("one side")]);
    assert_eq!(b.receiver.figures().runs[0].0, 0);
}

#[test]
fn what_is_lost_before_a_joined_direction_is_told_and_is_no_gap() {
    let mut b = Bench::joined(7_000);
    b.ack(0, None);
    b.ack(30, None);
    b.data(30, "behind");
    assert_eq!(b.got(), [Got::Gap(30), text("behind")]);
    let figures = b.receiver.figures();
    assert_eq!((figures.before, figures.gaps_total, figures.runs[0].0), (30, 0, 0));
    // A SYN that comes later makes it one.
    let mut b = Bench::joined(7_000);
    b.ack(0, None);
    b.ack(30, None);
    b.data(30, "behind");
    b.receiver.syn(Seq(6_999));
    let figures = b.receiver.figures();
    assert_eq!((figures.before, &figures.gaps[..], figures.runs[0].0), (0, &[(0, 30)][..], 30));
}

#[test]
fn a_syn_that_comes_late_tells_the_beginning() {
    let mut b = Bench::joined(11);
    b.data(3, "def");
    assert!(b.receiver.same_syn(Seq(10)));
    assert!(!b.receiver.same_syn(Seq(10_000_000)));
    b.receiver.syn(Seq(10));
    b.data(0, "abc");
    assert_eq!(b.got(), [text("abcdef")]);
    assert!(b.receiver.same_syn(Seq(10)));
    assert!(!b.receiver.same_syn(Seq(11)));
}
