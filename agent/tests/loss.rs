//! Packets removed at random: no response with another's request, and nothing missing without account.
//!
//! The long run is `cargo xtask loss`: real clients and servers, 100,000 transactions, 100 seeds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use testkit::loss::{Baseline, Shape, Trial, Verdict, synthetic};

const TRANSACTIONS: u32 = 5000;

/// Three seeds; what came of all of them.
fn trials(shape: Shape, percent: f64) -> Verdict {
    let remora = Path::new(env!("CARGO_BIN_EXE_remora"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = synthetic(shape, TRANSACTIONS, file.path()).unwrap();
    let baseline = Baseline::new(remora, file.path(), log.iter().map(String::as_str)).unwrap();
    let mut sum = Verdict::default();
    for seed in 1..=3 {
        let verdict = baseline.run(remora, Trial { percent, seed }).unwrap();
        assert!(verdict.is_true(), "{shape:?}, {percent} %, seed {seed}: {verdict:#?}");
        sum.add(&verdict);
    }
    assert!(sum.removed > 0 && sum.touched > 0, "{sum:?}");
    sum
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[test]
fn who_waits_for_responses_loses_only_what_was_lost() {
    for percent in [1.0, 10.0] {
        let sum = trials(Shape::KeepAlive, percent);
        assert!(share(sum.collateral, sum.transactions) < 0.01, "{sum:?}");
        assert!(sum.errors.contains_key("gap") && sum.gaps > 0, "{sum:?}");
    }
}

#[test]
fn a_connection_for_each_request_loses_only_what_was_lost() {
    let sum = trials(Shape::Close, 5.0);
    assert!(share(sum.collateral, sum.transactions) < 0.01, "{sum:?}");
}

#[test]
fn pipelined_requests_are_never_shown_with_anothers_response() {
    // What is certain is little here: that nothing is wrong is all that is asked.
    let sum = trials(Shape::Pipeline, 1.0);
    assert!(sum.apart > 0 && sum.recovered > 0, "{sum:?}");
}

#[test]
fn all_at_once() {
    trials(Shape::Mixed, 5.0);
}
