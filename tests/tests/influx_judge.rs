//! The official client of InfluxDB, from PyPI, as an independent judge of the fake and its parser of line protocol.

use testkit::fakes::Fake;
use testkit::fakes::influx::{Field, Influx};

use testkit::judge;

#[test]
fn the_official_client_agrees() {
    let place = ("my org".to_owned(), "traffic".to_owned());
    let fake = Fake::start(Influx { token: "t0k".to_owned(), place, ..Influx::default() }).unwrap();
    let Some(said) =
        judge::hear("influx_check.py", "influxdb_client", &[&fake.url(), "t0k", "my org", "traffic"])
    else {
        return;
    };
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 4, "{said}");
    let points = fake.with(|fake| fake.points.clone());
    let odd = points.iter().find(|point| point.measurement == "my, m").unwrap();
    assert_eq!((odd.tags["k,="].as_str(), odd.time), ("v ,=", 1_795_269_600_123_456_789));
    assert_eq!(odd.fields["a b,c=d"], Field::Text("say \"hi\" \\ x=1 ".to_owned()));
    assert_eq!((&odd.fields["ok"], &odd.fields["n"]), (&Field::Bool(true), &Field::Float(-5.5)));
    assert_eq!(odd.fields["whole"], Field::Integer(7));
}
