//! Slack's official client, `slack_sdk` from PyPI, as an independent judge of the fake.
//!
//! `REMORA_JUDGE_PYTHON`: see `judge`.

use testkit::judge;

use testkit::slack::{Channel, FakeConfig, SlackFake};

const NOT_JOINED: &str = "C0NOTJOINED";

#[test]
fn the_official_client_agrees() {
    let config = FakeConfig {
        channels: vec![
            Channel::new(FakeConfig::CHANNEL, "alerts"),
            Channel::new(NOT_JOINED, "other").not_joined(),
        ],
        ..FakeConfig::default()
    };
    let fake = SlackFake::local(config).unwrap();
    let (api, webhook) = (fake.api_url(), fake.webhook_url());
    let arguments = [&api, &webhook, FakeConfig::TOKEN, FakeConfig::CHANNEL, NOT_JOINED];
    let Some(out) = judge::hear("slack_sdk_check.py", "slack_sdk", &arguments) else { return };
    assert!(out.lines().filter(|line| line.starts_with("ok ")).count() >= 15, "{out}");
    assert!(fake.violations().is_empty(), "{:?}", fake.violations());
    let first = &fake.messages()[0];
    assert_eq!(first.attachments[0]["fields"][0]["value"], "shop");
    assert_eq!(
        first.files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        ["a.pcap", "b.json", "c.pcap"]
    );
}
