//! What a user is told when something is wrong: exit codes and words.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{REMORA, remora, script};
use testkit::synth::Capture;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn capture(path: &Path, requests: usize) {
    let mut capture = Capture::create(path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    for id in 0..requests {
        capture
            .exchange(&mut connection, format!("GET /{id} HTTP/1.1\r\nHost: shop\r\n\r\n").as_bytes(), OK)
            .unwrap();
    }
    capture.close(connection).unwrap();
}

#[test]
fn bad_usage_is_2_and_says_what_is_wrong() {
    for (args, said) in [
        (&["replay"][..], "FILE"),
        (&["tap"], "--interface"),
        (&["fly"], "unrecognized subcommand"),
        (&["tap", "--interface", "x", "--port", "0"], "--port"),
        (&["tap", "--interface", "x", "--net", "10.0.0.0/40"], "--net 10.0.0.0/40"),
        (&["replay", "x.pcap", "--env", "secret-without-a-name"], "--env takes K=V"),
        (&["replay", "x.pcap", "--slack-api-url", "slack.com"], "--slack-api-url"),
        (&["replay", "x.pcap", "--env-file", "/nonexistent"], "--env-file /nonexistent"),
    ] {
        let ran = remora(args).exits(2);
        assert!(ran.stderr.contains(said), "{args:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("secret-without"), "{}", ran.stderr);
    }
}

#[test]
fn a_file_that_is_no_capture_is_1_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, garbage) = (dir.path().join("empty.pcap"), dir.path().join("garbage.pcap"));
    fs::write(&empty, b"").unwrap();
    fs::write(&garbage, b"this is no capture, whatever it is called").unwrap();
    for file in [&empty, &garbage, &dir.path().join("missing.pcap"), &dir.path().to_path_buf()] {
        let ran = remora(["replay".as_ref(), file.as_os_str(), "--json".as_ref()]).exits(1);
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(ran.stderr.contains(name), "{}", ran.stderr);
        let (first, second) = ran.stderr.split_at(ran.stderr.len() / 2);
        assert!(!first.contains("os error") || !second.contains("os error"), "said twice: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn a_capture_cut_anywhere_gives_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.pcap");
    capture(&whole, 3);
    let bytes = fs::read(&whole).unwrap();
    let cut = dir.path().join("cut.pcap");
    let mut items = Vec::new();
    for length in (25..bytes.len()).step_by(37) {
        fs::write(&cut, &bytes[..length]).unwrap();
        let ran = remora(["replay".as_ref(), cut.as_os_str(), "--json".as_ref()]).exits(0);
        items.push(ran.items().len());
        let whole_records = whole_records(&bytes[24..length]);
        assert_eq!(whole_records, !ran.stderr.contains("cut.pcap"), "{length}: {}", ran.stderr);
    }
    assert!(items.is_sorted() && items.ends_with(&[3]), "{items:?}");
}

/// Whether the records end with the bytes.
fn whole_records(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(length) = bytes.get(8..12) else { return false };
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let Some(rest) = bytes.get(16 + length..) else { return false };
        bytes = rest;
    }
    true
}

#[test]
fn an_unknown_link_type_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usb.pcap");
    capture(&file, 1);
    let mut bytes = fs::read(&file).unwrap();
    bytes[20..24].copy_from_slice(&189_u32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let ran = remora(["replay".as_ref(), file.as_os_str(), "--json".as_ref(), "--stats".as_ref()]).exits(0);
    assert_eq!(ran.stdout, "");
    assert_eq!(ran.stats()["unknown_link"], ran.stats()["packets"], "{}", ran.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("many.pcap");
    capture(&file, 20_000);
    let mut child = Command::new(REMORA)
        .args(["replay".as_ref(), file.as_os_str(), "--json".as_ref()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran: common::Ran = child.wait_with_output().unwrap().into();
    ran.exits(0);
}

#[test]
fn scripts_check_tells_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let good = script(dir.path(), "good.js", "// Good\nfunction onItemCaptured(data) {}\n");
    let bad = script(dir.path(), "bad.js", "// Bad\nfunction onItemCaptured(data) {\n  var = 1;\n}\n");
    let ran = remora(["scripts".as_ref(), "check".as_ref(), good.as_os_str(), bad.as_os_str()]).exits(1);
    assert!(ran.stdout.contains("onItemCaptured"), "{}", ran.stdout);
    assert!(ran.stdout.contains("bad.js:3:"), "{}", ran.stdout);
}

#[test]
fn help_has_examples() {
    for args in [&["--help"][..], &["replay", "--help"], &["tap", "--help"]] {
        assert!(remora(args).exits(0).stdout.contains("Examples:"));
    }
}

/// Runs it with standard output and standard error into a pipe that nobody reads.
fn unheard(args: &[&str], both: bool) -> common::Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(REMORA);
    command.args(args).env_remove("REMORA_LOG").stdin(Stdio::null()).stdout(writer.try_clone().unwrap());
    if both {
        command.stderr(writer);
    }
    command.output().unwrap().into()
}

#[test]
fn readers_that_go_away_are_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcap");
    capture(&file, 3);
    let loud = script(dir.path(), "loud.js", "function onItemCaptured() { console.log('x'); throw 1 }");
    let (file, loud) = (file.to_str().unwrap(), loud.to_str().unwrap());
    for both in [false, true] {
        unheard(&["replay", file, "--stats", "--script", loud], both).exits(0);
        unheard(&["scripts", "check", loud], both).exits(0);
        // Exit code 1: live capture may not be possible here.
        assert!(matches!(unheard(&["doctor"], both).never_panicked().code, 0 | 1));
        unheard(&["replay", "/nonexistent"], both).exits(1);
    }
}

#[test]
fn a_disk_that_is_full_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcap");
    capture(&file, 3);
    let mut command = Command::new(REMORA);
    command.arg("replay").arg(&file).stdout(fs::File::create("/dev/full").unwrap());
    let ran = common::Ran::from(command.output().unwrap()).exits(1);
    assert!(ran.stderr.contains("writing to standard output: No space left"), "{}", ran.stderr);
}

#[test]
fn repeats_of_an_error_are_told_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcap");
    capture(&file, 200);
    let throws = script(dir.path(), "throws.js", "function onItemCaptured() { throw new Error('boom') }");
    for _ in 0..5 {
        let ran =
            remora(["replay".as_ref(), file.as_os_str(), "--script".as_ref(), throws.as_os_str()]).exits(0);
        assert!(ran.stderr.contains("again 199 times"), "{}", ran.stderr);
    }
}

#[test]
fn every_way_out_removes_the_temporary_folder() {
    use nix::sys::signal::{Signal, kill};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcap");
    capture(&file, 3);
    let slow = script(dir.path(), "slow.js", "function onItemCaptured() { for (;;); }");
    let broken = script(dir.path(), "broken.js", "function (");
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let folders = || fs::read_dir(&temporary).unwrap().count();
    let start = |script: &Path| {
        let mut command = Command::new(REMORA);
        command.arg("replay").arg(&file).arg("--script").arg(script).env("TMPDIR", &temporary);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    start(&broken).wait().unwrap();
    assert_eq!(folders(), 0);

    let wait = |done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for signals in [&[Signal::SIGINT, Signal::SIGTERM][..], &[Signal::SIGHUP, Signal::SIGHUP]] {
        let mut child = start(&slow);
        wait(&|| folders() == 1);
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        for &signal in signals {
            kill(pid, signal).unwrap();
            // Two of a kind that come at once are one.
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(folders(), 0, "{signals:?}");
    }

    let mut killed = start(&slow);
    wait(&|| fs::read_dir(&temporary).unwrap().flatten().any(|run| run.path().join("lock").exists()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(folders(), 1);
    start(&broken).wait().unwrap();
    assert_eq!(folders(), 0, "what a killed run left is removed by the next");
}
