//! InfluxDB: points as they were meant, by a parser that is not ours to please.

use agent::outbox::{Delivery, InfluxPoint, InfluxTarget};
use agent::secret::Secret;
use testkit::fakes::Fake;
use testkit::fakes::influx::{Field, Influx};
use testkit::slack::{Fault, Injection};

use super::Bench;

fn start(fake: Influx) -> Fake<Influx> {
    let place = ("my org".to_owned(), "traffic".to_owned());
    Fake::start(Influx { token: "t0k".to_owned(), place, ..fake }).unwrap()
}

fn point(fake: &Fake<Influx>, measurement: &str, data: &str, tags: &[(&str, &str)]) -> Delivery {
    let target = InfluxTarget::new(&fake.url(), Secret::new("t0k"), "my org", "traffic").unwrap();
    let tags: Vec<_> = tags.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Delivery::Influx { target, point: InfluxPoint::new(measurement, data, &tags).unwrap() }
}

#[test]
fn what_is_written_is_what_was_meant() {
    let fake = start(Influx::default());
    let bench = Bench::new();
    let odd =
        r#"{"timestamp":1795269600123,"a b,c=d":"say \"hi\" \\ \n, x=1 ","ok":false,"n":-5e3,"o":{"x":1}}"#;
    bench.send(point(&fake, "my, m=1", odd, &[("k,=", "v ,="), ("path", "C:\\dir"), ("empty", "")]));
    assert_eq!(bench.drained().sent, 1);
    let points = fake.with(|fake| fake.points.clone());
    let point = &points[0];
    assert_eq!((point.measurement.as_str(), point.time), ("my, m=1", 1_795_269_600_123_000_000));
    let tags: Vec<(&str, &str)> = point.tags.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(tags, [("k,=", "v ,="), ("path", "C:\\dir")]);
    assert_eq!(point.fields["a b,c=d"], Field::Text("say \"hi\" \\ \n, x=1 ".to_owned()));
    assert_eq!((&point.fields["ok"], &point.fields["n"]), (&Field::Bool(false), &Field::Float(-5_000.0)));
    assert_eq!(point.fields["o.x"], Field::Float(1.0));
}

#[test]
fn batches_survive_bad_points_large_bodies_and_bad_days() {
    let fake = start(Influx { max_bytes: Some(2_000), ..Influx::default() });
    let bench = Bench::new();
    fake.fail(Injection::new("write", 1, Fault::SlowMs(300)));
    for (code, retry_after) in [(429, Some(0)), (503, None)] {
        fake.fail(Injection::new("write", 1, Fault::Status { code, retry_after, body: String::new() }));
    }
    fake.fail(Injection::new("write", 1, Fault::Half).applied());
    bench.send(point(&fake, "m", "{\"v\":1}", &[("n", "0")]));
    for number in 1..200 {
        // A field that is a number in all the others.
        let data = if number == 77 { "{\"v\":\"text\"}" } else { "{\"v\":1}" };
        bench.send(point(&fake, "m", data, &[("n", &number.to_string())]));
    }
    let stats = bench.drained();
    assert_eq!((stats.sent, stats.failed), (199, 1));
    assert_eq!(fake.with(|fake| fake.points.len()), 199, "each point once");
    let dead = bench.dead();
    assert!(
        dead[0].starts_with("influxdb unprocessable entity (partial write: field type conflict): "),
        "{dead:?}"
    );
}

#[test]
fn wrong_tokens_and_buckets_are_told() {
    let fake = start(Influx::default());
    let bench = Bench::new();
    for (token, bucket) in [("wr0ng", "traffic"), ("t0k", "none")] {
        let target = InfluxTarget::new(&fake.url(), Secret::new(token), "my org", bucket).unwrap();
        bench.send(Delivery::Influx { target, point: InfluxPoint::new("m", "{\"a\":1}", &[]).unwrap() });
        bench.drained();
    }
    let dead = bench.dead();
    assert!(
        dead[0].starts_with("influxdb unauthorized (unauthorized access): the token is not valid"),
        "{dead:?}"
    );
    assert!(dead[1].contains("there is no such organization or bucket"), "{dead:?}");
}
