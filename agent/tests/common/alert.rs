//! What an alert must be: the message, its fields, the PCAP and the item attached.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::slack::{Message, SlackFake};

/// Checks one message of `script` against the item that it is about.
#[track_caller]
pub(crate) fn check(script: &Path, fake: &SlackFake, message: &Message, item: &Value, dir: &Path) {
    let attachment = &message.attachments[0];
    let shown: Vec<(String, String)> = attachment["fields"]
        .as_array()
        .expect("fields")
        .iter()
        .map(|field| {
            (field["title"].as_str().unwrap().to_owned(), field["value"].as_str().unwrap().to_owned())
        })
        .collect();
    let (timestamp, fields) = shown.split_last().expect("fields");
    assert_eq!(timestamp.0, "Timestamp");
    assert!(timestamp.1.starts_with("20"), "{timestamp:?}");
    let style = Style::of(script, item);
    assert_eq!(fields, style.fields);

    let files = &message.files;
    assert_eq!(files.len(), 2, "{files:?}");
    let named = |name: &str| {
        files.iter().find(|file| file.name == name).unwrap_or_else(|| panic!("{name} in {files:?}"))
    };
    let json = named(&style.json);
    let attached: Value = serde_json::from_slice(&fake.file(&json.id).unwrap()).expect("the item is JSON");
    assert_eq!(&attached, item, "the file is the item");

    let path = dir.join(format!("{}-{}.pcap", text(item, "/stream"), item["index"]));
    std::fs::write(&path, fake.file(&named(&style.pcap).id).unwrap()).unwrap();
    check_pcap(&path, item);
}

/// What a script's alert looks like.
struct Style {
    fields: Vec<(String, String)>,
    json: String,
    pcap: String,
}

impl Style {
    fn of(script: &Path, item: &Value) -> Self {
        let stream = text(item, "/stream");
        let end = |end: &str| {
            format!("{}:{}", text(item, &format!("/{end}/name")), text(item, &format!("/{end}/port")))
        };
        let ours = script.ends_with("alert-on-error.js");
        // Outside Kubernetes there is no namespace, and an empty value is shown as "-".
        let fields = if ours {
            vec![
                ("From", end("src")),
                ("To", end("dst")),
                ("Namespace", "-".to_owned()),
                ("Node", text(item, "/node/name")),
                ("Took", format!("{} ms", item["elapsedTime"])),
            ]
        } else {
            vec![
                ("Service", text(item, "/dst/name")),
                ("Namespace", "-".to_owned()),
                ("Node", text(item, "/node/name")),
                ("HTTP method", text(item, "/request/method")),
                ("HTTP path", text(item, "/request/path")),
            ]
        };
        Self {
            fields: fields.into_iter().map(|(title, value)| (title.to_owned(), value)).collect(),
            json: if ours { format!("item-{}.json", text(item, "/id")) } else { "data.json".to_owned() },
            pcap: if ours { format!("stream-{stream}.pcap") } else { format!("{stream}.pcap") },
        }
    }
}

fn text(item: &Value, path: &str) -> String {
    item.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path} in {item}")).to_owned()
}

/// The PCAP opens in tshark, and holds handshake, request and response of that stream and of no other.
#[track_caller]
fn check_pcap(path: &Path, item: &Value) {
    let rows = tshark(
        path,
        &["tcp.srcport", "tcp.dstport", "tcp.flags.syn", "http.request.uri", "http.response.code"],
    );
    let ports = |end: &str| item[end]["port"].as_str().unwrap().to_owned();
    let both = BTreeSet::from([ports("src"), ports("dst")]);
    for row in &rows {
        assert_eq!(BTreeSet::from([row[0].clone(), row[1].clone()]), both, "another stream's packet");
    }
    let holds =
        |column: usize, value: &str| rows.iter().any(|row| row[column].split(',').any(|v| v == value));
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
