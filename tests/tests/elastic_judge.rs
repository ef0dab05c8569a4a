//! The official clients of Elasticsearch and OpenSearch, from PyPI, as independent judges of the fake.
//!
//! `REMORA_JUDGE_PYTHON` as for Slack's.

use testkit::fakes::Fake;
use testkit::fakes::elastic::Elastic;

use testkit::judge;

#[test]
fn the_official_clients_agree() {
    let fake = Elastic {
        users: ["ApiKey aWQ6a2V5".to_owned()].into(),
        streams: ["logs-judge-default".to_owned()].into(),
        numbers: ["number".to_owned()].into(),
        ..Elastic::default()
    };
    let fake = Fake::start(fake).unwrap();
    let modules = "elasticsearch, opensearchpy";
    let Some(said) = judge::hear("elastic_check.py", modules, &[&fake.url(), "aWQ6a2V5"]) else { return };
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 10, "{said}");
    assert!(fake.with(|fake| fake.documents["judge"].len()) > 1_000);
    assert!(fake.with(|fake| fake.templates.contains_key("judge")));
}
