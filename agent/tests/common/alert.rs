//! What an alert must be: the message, its fields, the PCAP and the item attached.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::slack::{Message, SlackFake};

/// Checks one message against the item that it is about.
#[track_caller]
pub(crate) fn check(fake: &SlackFake, message: &Message, item: &Value, dir: &Path) {
    let attachment = &message.attachments[0];
    let fields = attachment["fields"].as_array().expect("fields");
    let value = |title: &str| {
        let field = fields.iter().find(|field| field["title"] == title);
        field.unwrap_or_else(|| panic!("field {title} in {fields:?}"))["value"].as_str().expect("a string").to_owned()
    };
    assert_eq!(value("Service"), item["dst"]["name"].as_str().unwrap());
    assert_eq!(value("Namespace"), "-", "outside Kubernetes there is none, and an empty value is shown so");
    assert_eq!(value("Node"), item["node"]["name"].as_str().unwrap());
    assert_eq!(value("HTTP method"), item["request"]["method"].as_str().unwrap());
    assert_eq!(value("HTTP path"), item["request"]["path"].as_str().unwrap());
    assert!(value("Timestamp").starts_with("20"), "{}", value("Timestamp"));

    let files: Vec<_> = message.replies.iter().chain([message]).flat_map(|m| &m.files).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    let stream = item["stream"].as_str().unwrap();
    let json = files.iter().find(|file| file.name == "data.json").expect("data.json");
    let attached: Value = serde_json::from_slice(&fake.file(&json.id).unwrap()).expect("data.json is JSON");
    assert_eq!(&attached, item, "data.json is the item");

    let pcap = files.iter().find(|file| file.name == format!("{stream}.pcap")).expect("the stream's PCAP");
    let path = dir.join(format!("{stream}-{}.pcap", item["index"]));
    std::fs::write(&path, fake.file(&pcap.id).unwrap()).unwrap();
    check_pcap(&path, item);
}

/// The PCAP opens in tshark, and holds handshake, request and response of that stream and of no other.
#[track_caller]
fn check_pcap(path: &Path, item: &Value) {
    let rows = tshark(path, &["tcp.srcport", "tcp.dstport", "tcp.flags.syn", "http.request.uri", "http.response.code"]);
    let ports = |end: &str| item[end]["port"].as_str().unwrap().to_owned();
    let both = BTreeSet::from([ports("src"), ports("dst")]);
    for row in &rows {
        assert_eq!(BTreeSet::from([row[0].clone(), row[1].clone()]), both, "another stream's packet");
    }
    let holds = |column: usize, value: &str| rows.iter().any(|row| row[column].split(',').any(|v| v == value));
    let syns = rows.iter().filter(|row| matches!(row[2].as_str(), "1" | "True")).count();
    assert_eq!(syns, 2, "SYN and SYN-ACK");
    assert!(holds(3, item["request"]["target"].as_str().unwrap()), "the request: {rows:?}");
    assert!(holds(4, &item["response"]["status"].to_string()), "the response: {rows:?}");
}

/// Fields of every packet, by tshark.
#[track_caller]
pub(crate) fn tshark(path: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let port = "tcp.port==1-65535,http";
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-n", "-d", port, "-T", "fields", "-E", "separator=/t"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark runs (`cargo xtask setup` installs it)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}
