//! Slack's official client, `slack_sdk` from PyPI, as an independent judge of the fake.
//!
//! `REMORA_JUDGE_PYTHON` names a Python that has it; otherwise `python3` is tried. Where the variable is
//! set, a missing package is a failure; where it is not, this test says that the judge was not heard.

use std::process::Command;

use testkit::slack::{Channel, FakeConfig, SlackFake};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/judge/slack_sdk_check.py");
const NOT_JOINED: &str = "C0NOTJOINED";

#[test]
fn the_official_client_agrees() {
    let named = std::env::var_os("REMORA_JUDGE_PYTHON");
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let has_sdk = Command::new(&python).args(["-c", "import slack_sdk"]).output();
    if !has_sdk.as_ref().is_ok_and(|output| output.status.success()) {
        assert!(named.is_none(), "REMORA_JUDGE_PYTHON={}: no slack_sdk: {has_sdk:?}", python.display());
        return eprintln!("NOT JUDGED: python3 has no slack_sdk; set REMORA_JUDGE_PYTHON to one that has");
    }
    let config = FakeConfig {
        channels: vec![
            Channel::new(FakeConfig::CHANNEL, "alerts"),
            Channel::new(NOT_JOINED, "other").not_joined(),
        ],
        ..FakeConfig::default()
    };
    let fake = SlackFake::local(config).unwrap();
    let output = Command::new(&python)
        .arg(SCRIPT)
        .args([&fake.api_url(), &fake.webhook_url(), FakeConfig::TOKEN, FakeConfig::CHANNEL, NOT_JOINED])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.lines().filter(|line| line.starts_with("ok ")).count() >= 15, "{out}");
    assert!(fake.violations().is_empty(), "{:?}", fake.violations());
    let first = &fake.messages()[0];
    assert_eq!(first.attachments[0]["fields"][0]["value"], "shop");
    assert_eq!(
        first.files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        ["a.pcap", "b.json", "c.pcap"]
    );
}
