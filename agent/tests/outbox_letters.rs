//! `remora outbox` as people type it.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod outbox_common;

use std::process::Command;
use std::time::{Duration, Instant};

use agent::outbox::Outbox as _;
use outbox_common::{Bench, bot};
use serde_json::Value;
use testkit::slack::{FakeConfig, Fault, Injection};

/// Exit code, standard output, standard error.
fn remora(bench: &Bench, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remora"));
    let output =
        command.arg("outbox").args(args).arg("--data-dir").arg(bench.folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn letters_are_listed_shown_retried_and_dropped() {
    let bench = Bench::quick();
    let (code, out, _) = remora(&bench, &["list"]);
    assert_eq!((code, out.as_str()), (0, "nothing waits, and nothing is dead\n"));
    bench.fake.fail(Injection::new("chat.postMessage", 2, Fault::Error("is_archived".to_owned())));
    for text in ["first\u{1b}[31m", "second"] {
        bench
            .outbox
            .enqueue("s.js", bot(FakeConfig::CHANNEL, text, &[("p", bench.file("p", b"x"))]))
            .unwrap();
    }
    bench.drain();
    let end = Instant::now() + Duration::from_secs(10);
    while remora(&bench, &["list", "--dead", "--json"]).1.lines().count() < 2 {
        assert!(Instant::now() < end);
    }
    let (_, table, _) = remora(&bench, &["list"]);
    assert!(
        table.contains("dead") && table.contains("slackBot: channel C00000ALERTS: Server-side Error first")
    );
    assert!(table.contains("is_archived: the channel is archived") && !table.contains('\u{1b}'), "{table}");
    let (_, json, _) = remora(&bench, &["list", "--dead", "--json"]);
    let letters: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, second) = (letters[0]["id"].to_string(), letters[1]["id"].to_string());
    let (_, shown, _) = remora(&bench, &["show", &first]);
    assert!(shown.contains("script       s.js") && shown.contains("field        Service: shop"), "{shown}");
    assert!(!format!("{table}{json}{shown}").contains("xoxb"), "no token");

    let (code, _, error) = remora(&bench, &["retry", "4711"]);
    assert_eq!(code, 1);
    assert!(error.contains("4711 is not a dead letter: nothing was changed"), "{error}");
    assert_eq!(remora(&bench, &["retry"]).0, 2, "which?");
    assert_eq!(remora(&bench, &["retry", &second]).1, "1 letter will be sent again\n");
    while bench.fake.messages().is_empty() {
        assert!(Instant::now() < end, "it is not sent");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(remora(&bench, &["drop", "--all", "--json"]).1, "{\"dropped\":1}\n");
    bench.drain();
    bench.wait_for_copies(0);
    assert_eq!(remora(&bench, &["list", "--json"]).1, "");
}

#[test]
fn a_folder_without_an_outbox_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_remora"));
    let output = command.args(["outbox", "list", "--data-dir"]).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("has no outbox: give the agent's --data-dir"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "and none is made");
}
