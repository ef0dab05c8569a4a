//! Recordings of real servers and clients, and mangled variants of them: what `remora replay` finds is what is expected.
//!
//! Three judges: `expected.jsonl`, the items as they were reviewed; `account.jsonl`, what the server or client itself said; and for
//! a variant its source. With `REMORA_UPDATE_FIXTURES` set the first is written instead (`cargo xtask record --update`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Longer texts stand in the expected items as their hash.
const LONGEST_TEXT: usize = 300;
const LARGEST: u64 = 100 << 10;
const LARGEST_TOGETHER: u64 = 1 << 20;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|p| p.is_dir()).collect();
    folders.sort();
    assert!(folders.len() > 5, "{folders:?}");
    folders
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}

/// The items of a recording, by client and order, without what is another in every run or place.
fn items(folder: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_remora"))
        .arg("replay")
        .arg(folder.join("input.pcap"))
        .args(["--json", "--hash", "--no-redact"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut items: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    items.sort_by_key(|i| {
        (i["src"]["port"].as_str().map(str::to_owned), i["stream"].to_string(), i["index"].as_u64())
    });
    for item in &mut items {
        let object = item.as_object_mut().unwrap();
        for time_or_place in
            ["id", "index", "stream", "node", "worker", "timestamp", "startTime", "elapsedTime"]
        {
            assert!(object.remove(time_or_place).is_some(), "{time_or_place}");
        }
        for text in ["/request/postData/text", "/response/content/text"] {
            if let Some(text) =
                item.pointer_mut(text).filter(|t| t.as_str().is_some_and(|t| t.len() > LONGEST_TEXT))
            {
                let hash = Sha256::digest(text.as_str().unwrap());
                *text = json!({"sha256": hash.iter().map(|b| format!("{b:02x}")).collect::<String>()});
            }
        }
    }
    items
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn items_are_as_they_were_reviewed() {
    let update = std::env::var_os("REMORA_UPDATE_FIXTURES").is_some();
    for folder in fixtures() {
        let found = items(&folder);
        let path = folder.join("expected.jsonl");
        if update {
            fs::write(&path, found.iter().map(|i| format!("{i}\n")).collect::<String>()).unwrap();
            continue;
        }
        let expected = lines(&path);
        for (n, (expected, found)) in (1..).zip(expected.iter().zip(&found)) {
            assert_eq!(expected, found, "{}, line {n}", name(&folder));
        }
        assert_eq!(expected.len(), found.len(), "{}", name(&folder));
    }
}

/// Request line without version, status, and bytes of the body.
fn told(item: &Value) -> (String, u64) {
    let request = &item["request"];
    let line = format!(
        "{} {}",
        request["method"].as_str().unwrap_or("-"),
        request["target"].as_str().unwrap_or("-")
    );
    (line, item["response"]["status"].as_u64().unwrap_or(0))
}

/// Whether an item is what a line of an account says; else what differs.
fn same(item: &Value, line: &Value) -> Result<(), String> {
    let (response, by_nginx) = (&item["response"], line.get("nth").is_some());
    let status = line["status"].as_u64().unwrap_or(0);
    if told(item) != (line["request"].as_str().unwrap_or_default().to_owned(), status) {
        return Err(format!("{:?}", told(item)));
    }
    let interim: Value =
        response["interim"].as_array().unwrap().iter().map(|r| r["status"].clone()).collect();
    if line.get("interim").is_some_and(|expected| *expected != interim) {
        return Err(format!("interim {interim}"));
    }
    // nginx counts the framing of chunks as body, and `HTTP/1.1 100 Continue` with its empty line.
    let chunked = response["headers"].get("Transfer-Encoding").is_some();
    let continued = if by_nginx && interim == json!([100]) { 25 } else { 0 };
    let size = response["bodySize"].as_u64().map(|size| size + continued);
    if line["body"].is_u64() && !(chunked && by_nginx) && size != line["body"].as_u64() {
        return Err(format!("body of {size:?} bytes"));
    }
    // A client whose body was not asked for (RFC 9110 §10.1.1) leaves without it.
    let unsent = item["request"]["headers"].get("Expect").is_some() && interim == json!([]);
    let error = if unsent { json!("connection") } else { Value::Null };
    if item["error"]["type"] == error { Ok(()) } else { Err(item["error"].to_string()) }
}

#[test]
fn items_are_what_the_server_or_client_itself_said() {
    let mut accounts = 0;
    for folder in fixtures() {
        let path = folder.join("account.jsonl");
        if !path.is_file() {
            assert!(folder.join("variant").is_file(), "{}: no account of its own", name(&folder));
            continue;
        }
        accounts += 1;
        let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in lines(&path) {
            expected.entry(line["client"].as_str().unwrap().to_owned()).or_default().push(line);
        }
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for item in items(&folder) {
            let client =
                format!("{}:{}", item["src"]["ip"].as_str().unwrap(), item["src"]["port"].as_str().unwrap());
            found.entry(client).or_default().push(item);
        }
        assert!(found.keys().eq(expected.keys()), "{}: {:?}", name(&folder), found.keys());
        for (client, expected) in &expected {
            let (answered, unanswered): (Vec<_>, Vec<_>) =
                found[client].iter().partition(|i| i["response"].is_object());
            // A client that leaves (wrk does) has no account of its last requests.
            assert!(unanswered.iter().all(|i| i["error"]["type"] == "connection"), "{}", name(&folder));
            assert_eq!(answered.len(), expected.len(), "{}, {client}", name(&folder));
            for (item, line) in answered.into_iter().zip(expected) {
                same(item, line).unwrap_or_else(|what| panic!("{}, {client}: {what}: {line}", name(&folder)));
            }
        }
    }
    assert!(accounts >= 6);
}

#[test]
fn a_mangled_variant_shows_nothing_that_its_source_does_not() {
    let mut variants = 0;
    for folder in fixtures() {
        let Ok(variant) = fs::read_to_string(folder.join("variant")) else { continue };
        variants += 1;
        let (of, kept) = variant.trim().split_once(' ').unwrap();
        let source = items(&folder.parent().unwrap().join(of));
        let found = items(&folder);
        if kept == "lossless" {
            assert_eq!(found, source, "{}", name(&folder));
            continue;
        }
        let whole: Vec<_> = found.iter().filter(|i| i["error"].is_null()).collect();
        assert!(!whole.is_empty() && whole.len() < source.len(), "{}: {} whole", name(&folder), whole.len());
        for item in whole {
            assert!(source.contains(item), "{}: {item}", name(&folder));
        }
    }
    assert!(variants >= 6);
}

#[test]
fn recordings_are_small_and_say_where_they_are_from() {
    let mut together = 0;
    for folder in fixtures() {
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(readme.contains("Recorded by") || readme.contains("makes it anew"), "{}", name(&folder));
        for entry in fs::read_dir(&folder).unwrap() {
            let size = entry.as_ref().unwrap().metadata().unwrap().len();
            assert!(size <= LARGEST, "{}: {size} bytes", entry.unwrap().path().display());
            together += size;
        }
    }
    assert!(together <= LARGEST_TOGETHER, "{together} bytes");
}
