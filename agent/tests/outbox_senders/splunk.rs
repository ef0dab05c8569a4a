//! Splunk: codes, acknowledgement, health.

use std::time::{Duration, Instant};

use agent::outbox::{Delivery, SplunkEvent, SplunkTarget};
use agent::secret::Secret;
use testkit::fakes::Fake;
use testkit::fakes::splunk::Splunk;
use testkit::slack::{Fault, Injection};

use super::Bench;

const TOKEN: &str = "12345678-ABCD-EF01-2345-6789ABCDEF01";

fn start(fake: Splunk) -> Fake<Splunk> {
    Fake::start(Splunk { tokens: [(TOKEN.to_owned(), true)].into(), ..fake }).unwrap()
}

fn event(fake: &Fake<Splunk>, token: &str, text: &str, index: &str) -> Delivery {
    let target = SplunkTarget::new(&fake.url(), Secret::new(token), None).unwrap();
    let metadata = vec![("index".to_owned(), index.to_owned()), ("source".to_owned(), "remora".to_owned())];
    Delivery::Splunk { target, event: SplunkEvent::event(text, true, metadata).unwrap() }
}

fn numbers(fake: &Fake<Splunk>) -> Vec<u64> {
    fake.with(|fake| fake.events.iter().filter_map(|event| event["event"]["n"].as_u64()).collect())
}

#[test]
fn events_arrive_in_order_in_batches_and_raw_text_as_it_is() {
    let fake = start(Splunk::default());
    let bench = Bench::new();
    fake.fail(Injection::new("event", 1, Fault::SlowMs(200)));
    let target = SplunkTarget::new(&fake.url(), Secret::new(TOKEN), None).unwrap();
    for number in 0..300 {
        bench.send(event(&fake, TOKEN, &format!("{{\"n\":{number},\"timestamp\":1795269600123}}"), ""));
        if number == 150 {
            let metadata = vec![("sourcetype".to_owned(), "access_combined".to_owned())];
            let event = SplunkEvent::raw("line 1\nline 2".to_owned(), metadata).unwrap();
            bench.send(Delivery::Splunk { target: target.clone(), event });
        }
    }
    assert_eq!(bench.drained().sent, 301);
    assert_eq!(numbers(&fake), (0..300).collect::<Vec<_>>());
    let events = fake.with(|fake| fake.events.clone());
    assert_eq!(events[151]["raw"], "line 1\nline 2", "between the others");
    assert_eq!(events[151]["sourcetype"], "access_combined");
    assert_eq!(events[0]["time"].to_string(), "1795269600.123");
    assert_eq!((events[0]["source"].as_str(), events[0].get("index")), (Some("remora"), None));
    assert!(fake.calls().len() < 100, "{}", fake.calls().len());
}

#[test]
fn an_event_counts_when_it_is_indexed() {
    let fake = start(Splunk { ack_after: Some(3), ..Splunk::default() });
    let bench = Bench::new();
    bench.send(event(&fake, TOKEN, "{\"n\":1}", ""));
    assert_eq!(bench.drained().sent, 1);
    let names: Vec<&str> = fake.calls().iter().map(|call| call.name).collect();
    assert_eq!(names, ["event", "ack", "ack", "ack"]);
}

#[test]
fn one_that_is_refused_does_not_take_the_others_with_it() {
    let fake =
        start(Splunk { indices: ["main".to_owned()].into(), max_bytes: Some(2_000), ..Splunk::default() });
    let bench = Bench::new();
    fake.fail(Injection::new("event", 1, Fault::SlowMs(300)));
    for number in 0..60 {
        let index = if number == 33 { "secret" } else { "main" };
        bench.send(event(&fake, TOKEN, &format!("{{\"n\":{number}}}"), index));
    }
    let stats = bench.drained();
    assert_eq!((stats.sent, stats.failed), (59, 1));
    let mut all = numbers(&fake);
    all.dedup();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..60).filter(|n| *n != 33).collect::<Vec<_>>());
    let dead = bench.dead();
    assert_eq!(
        dead,
        ["splunk_7 (Incorrect index): the token may not write to this index, or there is none of this name"]
    );
}

#[test]
fn a_collector_in_trouble_is_asked_for_its_health_first() {
    let fake = start(Splunk { unhealthy: true, ..Splunk::default() });
    let bench = Bench::with(|config| config.retry.max_attempts = 1_000);
    bench.send(event(&fake, TOKEN, "{\"n\":1}", ""));
    let start = Instant::now();
    while fake.calls().iter().filter(|call| call.name == "health").count() < 3 {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", fake.calls());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fake.calls().iter().filter(|call| call.name == "event").count(), 1, "{:?}", fake.calls());
    fake.with(|fake| fake.unhealthy = false);
    assert_eq!(bench.drained().sent, 1);
    assert_eq!(numbers(&fake), [1]);
}

#[test]
fn tokens_that_do_not_open_are_told_at_once_and_never_repeated() {
    let fake = start(Splunk::default());
    fake.with(|fake| fake.tokens.extend([("off-token".to_owned(), false)]));
    let bench = Bench::new();
    fake.fail(Injection::new(
        "event",
        1,
        Fault::Status {
            code: 403,
            retry_after: None,
            body: "{\"text\":\"no wrong-token here\",\"code\":4}".to_owned(),
        },
    ));
    bench.send(event(&fake, "wrong-token", "{}", ""));
    bench.drained();
    bench.send(event(&fake, "off-token", "{}", ""));
    bench.drained();
    let dead = bench.dead();
    assert!(dead[0].starts_with("splunk_4 (no [REDACTED] here): the token is not valid"), "{dead:?}");
    assert!(dead[1].starts_with("splunk_1 (Token disabled): "), "{dead:?}");
}
