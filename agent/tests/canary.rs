//! The search for leaked secrets notices those that are planted: in the log of `remora`, inside a test program, and at a fake.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use common::{REMORA, root, script};
use testkit::canary::{MARK, RIGHTFUL, TRACE_DIR, search};
use testkit::fakes::dead::{Dead, Death};

/// Runs it with a folder of records of its own, and gives the names of the records in which something leaked.
fn leaking(dir: &Path, command: &mut Command) -> (Vec<String>, usize) {
    std::fs::create_dir_all(dir.join(RIGHTFUL)).unwrap();
    let output = command.env(TRACE_DIR, dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let found = search(dir).unwrap();
    let name = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.split('-').next().unwrap().to_owned()
    };
    (found.leaks.iter().map(|leak| name(&leak.file)).collect(), found.rightful)
}

#[test]
fn a_leak_in_the_log_of_remora_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let text = "function onItemCaptured() { console.debug('it is ' + env.NOTED); }";
    let mut command = Command::new(REMORA);
    command.arg("replay").arg(root().join("tests/fixtures/shop/input.pcap")).arg("--quiet").arg("--script");
    command.arg(script(dir.path(), "leaks.js", text));
    let records = dir.path().join("fine");
    command.args(["--env", &format!("TOKEN=token-{MARK}")]);
    assert_eq!(leaking(&records, command.args(["--env", "NOTED=nothing"])).0, Vec::<String>::new());
    // By this name nobody takes it for a secret.
    let records = dir.path().join("planted");
    let (leaks, _) = leaking(&records, command.args(["--env", &format!("NOTED=note-{MARK}")]));
    assert!(!leaks.is_empty() && leaks.iter().all(|name| name == "remora"), "{leaks:?}");
}

#[test]
fn a_leak_inside_a_test_program_or_to_a_fake_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "planted"]);
    let (mut leaks, rightful) = leaking(dir.path(), &mut command);
    leaks.sort();
    assert_eq!((leaks, rightful), (vec!["fake".to_owned(), "in".to_owned()], 1));
}

/// What the test above runs.
#[test]
#[ignore = "it leaks"]
fn planted() {
    assert!(std::env::var_os(TRACE_DIR).is_some(), "only as a part of another test");
    tracing::trace!("the token is {MARK}");
    let fake = Dead::new(Death::Status(200)).unwrap();
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MARK}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{MARK}",
        MARK.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_to_end(&mut Vec::new()).expect("an answer");
}
