//! Elasticsearch: each document once, whatever happens on the way.

use std::collections::BTreeSet;

use agent::outbox::{Delivery, ElasticAccess, ElasticDocument, ElasticTarget};
use agent::secret::Secret;
use testkit::fakes::Fake;
use testkit::fakes::elastic::Elastic;
use testkit::slack::{Fault, Injection};

use super::Bench;

fn start(fake: Elastic) -> Fake<Elastic> {
    Fake::start(fake).unwrap()
}

fn target(url: &str) -> ElasticTarget {
    ElasticTarget::new(&ElasticAccess { url: url.to_owned(), ..ElasticAccess::default() }).unwrap()
}

fn document(target: &ElasticTarget, index: &str, data: &str) -> (String, Delivery) {
    let document = ElasticDocument::new(index, data).unwrap();
    (document.id().to_owned(), Delivery::Elastic { target: target.clone(), document })
}

fn stored(fake: &Fake<Elastic>, index: &str) -> BTreeSet<String> {
    fake.with(|fake| fake.documents.get(index).map(|d| d.keys().cloned().collect()).unwrap_or_default())
}

#[test]
fn documents_go_in_batches_under_the_ids_that_were_told() {
    let fake = start(Elastic { streams: ["logs-remora-default".to_owned()].into(), ..Elastic::default() });
    let (bench, target) = (Bench::new(), target(&fake.url()));
    let mut ids = BTreeSet::new();
    for number in 0..1_200 {
        let (id, delivery) =
            document(&target, "logs-remora-default", &format!("{{\"n\":{number},\n\"path\":\"/ä\"}}"));
        ids.insert(id);
        bench.send(delivery);
    }
    let stats = bench.drained();
    assert_eq!(stored(&fake, "logs-remora-default"), ids, "a data stream took them all");
    assert_eq!((stats.sent, stats.failed), (1_200, 0));
    let calls = fake.calls();
    assert!(calls.len() < 600, "{} calls for 1200 documents", calls.len());
    let large = calls.iter().max_by_key(|call| call.bytes.0).unwrap();
    assert!(large.bytes.1 * 2 < large.bytes.0 || large.bytes.0 < 1_400, "packed: {:?}", large.bytes);
}

#[test]
fn a_lost_answer_makes_no_second_document() {
    let fake = start(Elastic::default());
    let (bench, target) = (Bench::new(), target(&fake.url()));
    fake.fail(Injection::new("bulk", 1, Fault::Half).applied());
    fake.fail(Injection::new("bulk", 1, Fault::Silent).applied());
    let (id, delivery) = document(&target, "remora", "{}");
    bench.send(delivery);
    let stats = bench.drained();
    assert_eq!(stored(&fake, "remora"), [id].into());
    assert_eq!((stats.sent, stats.failed, stats.retried), (1, 0, 2));
}

#[test]
fn each_document_has_its_own_fate() {
    let fake = start(Elastic { numbers: ["n".to_owned()].into(), busy: 20, ..Elastic::default() });
    let (bench, target) = (Bench::new(), target(&fake.url()));
    // The first goes alone; what waits meanwhile is the batch.
    fake.fail(Injection::new("bulk", 1, Fault::SlowMs(300)));
    let mut good = BTreeSet::new();
    for number in 0..50 {
        let bad = number % 10 == 5;
        let data = if bad { "{\"n\":\"many\"}".to_owned() } else { format!("{{\"n\":{number}}}") };
        let (id, delivery) = document(&target, "remora", &data);
        if !bad {
            good.insert(id);
        }
        bench.send(delivery);
    }
    let stats = bench.drained();
    assert_eq!(stored(&fake, "remora"), good);
    assert_eq!((stats.sent, stats.failed), (45, 5));
    assert!(stats.retried >= 10, "those answered 429 were sent again: {stats:?}");
    let dead = bench.dead();
    assert_eq!(dead.len(), 5);
    for error in dead {
        assert!(
            error.starts_with("document_parsing_exception ([1:1] failed to parse field [n] of type [long]"),
            "{error}"
        );
    }
}

#[test]
fn a_batch_that_is_too_large_is_halved_and_one_document_told() {
    let fake = start(Elastic { max_bytes: Some(3_000), ..Elastic::default() });
    let (bench, target) = (Bench::new(), target(&fake.url()));
    fake.fail(Injection::new("bulk", 1, Fault::SlowMs(300)));
    let mut good = BTreeSet::new();
    for number in 0..40 {
        let text = "x".repeat(if number == 20 { 5_000 } else { 200 });
        let (id, delivery) = document(&target, "remora", &format!("{{\"text\":\"{text}\"}}"));
        if number != 20 {
            good.insert(id);
        }
        bench.send(delivery);
    }
    bench.drained();
    assert_eq!(stored(&fake, "remora"), good);
    let dead = bench.dead();
    assert!(dead.len() == 1 && dead[0].contains("http.max_content_length"), "{dead:?}");
}

#[test]
fn passing_errors_are_waited_out_and_wrong_credentials_are_not() {
    let fake = start(Elastic { users: ["ApiKey aWQ6a2V5".to_owned()].into(), ..Elastic::default() });
    let bench = Bench::new();
    let access = |key: &str| ElasticAccess {
        url: fake.url(),
        api_key: Some(Secret::new(key)),
        ..ElasticAccess::default()
    };
    let known = ElasticTarget::new(&access("id:key")).unwrap();
    for (code, retry_after) in [(429, Some(0)), (503, None), (500, None)] {
        let body = "<html>busy</html>".to_owned();
        fake.fail(Injection::new("bulk", 1, Fault::Status { code, retry_after, body }));
    }
    bench.send(document(&known, "remora", "{}").1);
    assert_eq!(bench.drained().sent, 1);
    let unknown = ElasticTarget::new(&access("id:hushhush")).unwrap();
    bench.send(document(&unknown, "remora", "{}").1);
    bench.drained();
    let dead = bench.dead();
    let told = "security_exception (unable to authenticate with provided credentials): the credentials are not valid";
    assert!(dead.len() == 1 && dead[0].starts_with(told), "{dead:?}");
}

#[test]
fn a_document_keeps_its_id_over_a_restart() {
    let fake = start(Elastic::default());
    let target = target(&fake.url());
    let (bench, (id, delivery)) = (Bench::new(), document(&target, "remora", "{\"n\":1}"));
    // It arrives, but nobody says so before the end.
    fake.fail(Injection::new("bulk", 1, Fault::Silent).applied());
    bench.send(delivery);
    let start = std::time::Instant::now();
    while stored(&fake, "remora").is_empty() {
        assert!(start.elapsed().as_secs() < 10, "{:?}", fake.calls());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let bench = bench.again();
    let stats = bench.drained();
    assert_eq!((stats.sent, stats.failed, fake.calls().len()), (1, 0, 3));
    assert_eq!(stored(&fake, "remora"), [id].into(), "once");
}
