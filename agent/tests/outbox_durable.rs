//! What is on the disk: taken up by the next run, private, set aside if it cannot be read, done without if it is full.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod outbox_common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::outbox::{
    DeadLimits, DurableOutbox, LetterState, Letters, Outbox as _, OutboxConfig, OutboxError,
};
use outbox_common::{Bench, bot, quick};
use testkit::disk::{SmallDisk, with_own_mounts};
use testkit::slack::{FakeConfig, Fault, Injection};

const CHANNEL: &str = FakeConfig::CHANNEL;

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn texts(bench: &Bench) -> Vec<String> {
    let text = |m: &testkit::slack::Message| m.attachments[0]["text"].as_str().unwrap().to_owned();
    bench.fake.messages().iter().map(text).collect()
}

/// Ends this run and begins the next in the same folder.
fn again(bench: &mut Bench) {
    bench.runtime.block_on(bench.outbox.shutdown(Duration::ZERO));
    let folder = bench.folder.path().join("outbox");
    let config = OutboxConfig { slack_api_url: bench.fake.api_url(), folder, ..quick() };
    // The workers hold the old one for a moment; in one process it must be gone before the next.
    let old = Arc::downgrade(&bench.outbox);
    let other = bench.folder.path().join("elsewhere");
    let dummy = OutboxConfig { folder: other, ..config.clone() };
    bench.outbox = DurableOutbox::open(dummy, bench.runtime.handle()).unwrap();
    until("the old one goes", || old.strong_count() == 0);
    until("the lock is free", || {
        DurableOutbox::open(config.clone(), bench.runtime.handle())
            .map(|outbox| bench.outbox = outbox)
            .is_ok()
    });
}

fn letters(bench: &Bench) -> Letters {
    Letters::open(bench.folder.path()).unwrap()
}

fn listed(bench: &Bench) -> Vec<agent::outbox::Letter> {
    let mut all = Vec::new();
    letters(bench)
        .list(&mut |letter| {
            all.push(letter);
            Ok(())
        })
        .unwrap();
    all
}

#[test]
fn the_next_run_sends_what_waits_in_order() {
    let mut bench = Bench::quick();
    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::Silent));
    let path = bench.file("p", b"bytes");
    for text in ["first", "second", "third"] {
        bench.outbox.enqueue("s.js", bot(CHANNEL, text, &[("p", path.clone())])).unwrap();
    }
    std::fs::remove_file(path).unwrap();
    again(&mut bench);
    bench.drain();
    assert_eq!(texts(&bench), ["first", "second", "third"]);
    assert!(bench.fake.messages().iter().all(|m| m.files.len() == 1));
    bench.wait_for_copies(0);
    let stats = bench.outbox.stats();
    assert_eq!((stats.taken_up, stats.queued, stats.sent, stats.waiting), (3, 0, 3, 0));
    let next = bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[])).unwrap();
    assert_eq!(next.0, 4, "no number is given twice");
}

#[test]
fn a_text_that_arrived_is_not_sent_again_for_its_file() {
    let mut bench = Bench::quick();
    bench.fake.fail(Injection::new("upload", 1, Fault::Silent));
    let path = bench.file("p", b"bytes");
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("p", path)])).unwrap();
    until("the upload begins", || bench.fake.requests().iter().any(|r| r.method == "upload"));
    again(&mut bench);
    bench.drain();
    let messages = bench.fake.messages();
    assert_eq!((messages.len(), messages[0].files.len()), (1, 1));
}

#[test]
fn everything_is_private_and_a_second_agent_is_refused() {
    let bench = Bench::quick();
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("p", bench.file("p", b"x"))])).unwrap();
    let folder = bench.folder.path().join("outbox");
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("blobs"))), (0o700, 0o700));
    for name in ["outbox.db", "outbox.db-wal", "outbox.db-shm", "lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    let config = OutboxConfig { folder, ..quick() };
    let error = DurableOutbox::open(config, bench.runtime.handle()).unwrap_err().to_string();
    assert!(error.contains("in use by another remora") && error.contains("--data-dir"), "{error}");
    bench.drain();
}

#[test]
fn an_unreadable_database_is_set_aside_and_alerts_go_on() {
    let form = |path: &Path| {
        let other = rusqlite::Connection::open(path).unwrap();
        other.pragma_update(None, "user_version", 99).unwrap();
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 3] = [
        ("no database", &|path| {
            std::fs::write(path, "not a database, but long enough ".repeat(200)).unwrap();
        }),
        ("torn", &|path| {
            let mut bytes = std::fs::read(path).unwrap();
            let end = bytes.len();
            bytes[4096..end].fill(0xa5);
            std::fs::write(path, bytes).unwrap();
        }),
        ("of a later version", &form),
    ];
    for (what, damage) in damages {
        let mut bench = Bench::quick();
        bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::Silent));
        bench.outbox.enqueue("s.js", bot(CHANNEL, "lost", &[])).unwrap();
        let kept = bench.folder.path().join("outbox/outbox.db");
        // As a process does that ends: all is in the one file.
        let fresh = Bench::quick();
        bench.runtime.block_on(bench.outbox.shutdown(Duration::ZERO));
        bench.outbox = Arc::clone(&fresh.outbox);
        until("the old one ends", || !kept.with_file_name("outbox.db-wal").exists());
        damage(&kept);
        let folder = bench.folder.path().join("outbox");
        let config = OutboxConfig { slack_api_url: bench.fake.api_url(), folder: folder.clone(), ..quick() };
        bench.outbox = DurableOutbox::open(config, bench.runtime.handle()).unwrap();
        bench.outbox.enqueue("s.js", bot(CHANNEL, "goes on", &[])).unwrap();
        bench.drain();
        assert_eq!(texts(&bench), ["goes on"], "{what}");
        let names =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let aside: Vec<_> = names.filter(|n| n.starts_with("outbox.db.unreadable-")).collect();
        assert!(!aside.is_empty(), "{what}: it is kept");
    }
}

#[test]
fn dead_letters_are_listed_shown_sent_again_and_dropped_while_the_agent_runs() {
    let bench = Bench::quick();
    bench.fake.fail(Injection::new("chat.postMessage", 3, Fault::Error("is_archived".to_owned())));
    let path = bench.file("p", b"bytes");
    for text in ["a", "b", "c"] {
        bench.outbox.enqueue("s.js", bot(CHANNEL, text, &[("p", path.clone())])).unwrap();
    }
    bench.drain();
    until("all are dead letters", || {
        listed(&bench).iter().filter(|l| l.state == LetterState::Dead).count() == 3
    });
    let dead = listed(&bench);
    assert!(dead[0].error.as_deref().unwrap().starts_with("is_archived: the channel is archived"));
    assert_eq!((dead[0].script.as_str(), dead[0].attempts), ("s.js", 0));
    let shown = letters(&bench).show(dead[0].id).unwrap();
    assert_eq!(std::fs::read(shown.files[0].copy.as_ref().unwrap()).unwrap(), b"bytes");
    let all = format!("{shown:?}{}", serde_json::to_string(&dead).unwrap());
    assert!(!all.contains("xoxb") && all.contains("\"pretext\":\"Server-side Error\""), "{all}");

    assert!(letters(&bench).retry(Some(&[dead[0].id, 4711])).is_err());
    assert_eq!(
        listed(&bench).iter().filter(|l| l.state == LetterState::Waiting).count(),
        0,
        "all or nothing"
    );
    assert_eq!(letters(&bench).retry(Some(&[dead[1].id])).unwrap(), 1);
    until("it is sent", || texts(&bench) == ["b"]);
    bench.drain();
    assert_eq!(bench.fake.messages()[0].files.len(), 1);
    assert_eq!(letters(&bench).drop(Some(&[dead[0].id])).unwrap(), 1);
    assert_eq!(letters(&bench).retry(None).unwrap(), 1);
    until("the last is sent", || texts(&bench) == ["b", "c"]);
    bench.drain();
    until("nothing is left", || listed(&bench).is_empty());
    bench.wait_for_copies(0);
    let stats = bench.outbox.stats();
    assert_eq!((stats.queued, stats.failed, stats.sent, stats.taken_up, stats.waiting), (3, 3, 2, 2, 0));
}

#[test]
fn what_waits_can_be_dropped_and_letters_work_without_an_agent() {
    let mut bench = Bench::quick();
    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::SlowMs(1_000)));
    for text in ["under way", "dropped", "stays"] {
        bench.outbox.enqueue("s.js", bot(CHANNEL, text, &[])).unwrap();
    }
    let ids: Vec<u64> = listed(&bench).iter().map(|letter| letter.id).collect();
    letters(&bench).drop(Some(&ids[1..2])).unwrap();
    bench.drain();
    assert_eq!(texts(&bench), ["under way", "stays"]);

    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::Error("is_archived".to_owned())));
    bench.outbox.enqueue("s.js", bot(CHANNEL, "later", &[])).unwrap();
    bench.drain();
    let fresh = Bench::quick();
    bench.runtime.block_on(bench.outbox.shutdown(Duration::ZERO));
    bench.outbox = Arc::clone(&fresh.outbox);
    assert_eq!(letters(&bench).retry(None).unwrap(), 1);
    let config = OutboxConfig {
        slack_api_url: bench.fake.api_url(),
        folder: bench.folder.path().join("outbox"),
        ..quick()
    };
    until("the folder is free", || {
        DurableOutbox::open(config.clone(), bench.runtime.handle())
            .map(|outbox| bench.outbox = outbox)
            .is_ok()
    });
    bench.drain();
    assert_eq!(texts(&bench), ["under way", "stays", "later"]);
}

#[test]
fn dead_letters_are_bounded_the_oldest_go() {
    let dead = DeadLimits { max_count: 3, ..DeadLimits::default() };
    let bench = Bench::new(FakeConfig::default(), OutboxConfig { dead, ..quick() });
    bench.fake.fail(Injection::new("chat.postMessage", 10, Fault::Error("is_archived".to_owned())));
    let path = bench.file("p", b"bytes");
    for n in 0..10 {
        bench.outbox.enqueue("s.js", bot(CHANNEL, &n.to_string(), &[("p", path.clone())])).unwrap();
    }
    bench.drain();
    until("three are left", || listed(&bench).len() == 3);
    let text = |l: &agent::outbox::Letter| l.content["alert"]["text"].as_str().unwrap().to_owned();
    assert_eq!(listed(&bench).iter().map(text).collect::<Vec<_>>(), ["7", "8", "9"]);
    bench.wait_for_copies(3);
    assert_eq!(bench.outbox.stats().dead_dropped, 7);
}

#[test]
fn what_waited_too_long_is_a_dead_letter() {
    let bench =
        Bench::new(FakeConfig::default(), OutboxConfig { max_age: Duration::from_millis(200), ..quick() });
    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::SlowMs(500)));
    for text in ["in time", "late"] {
        bench.outbox.enqueue("s.js", bot(CHANNEL, text, &[])).unwrap();
    }
    bench.drain();
    assert_eq!(texts(&bench), ["in time"]);
    until("it is dead", || listed(&bench).first().is_some_and(|letter| letter.error.is_some()));
    assert!(listed(&bench)[0].error.as_deref().unwrap().starts_with("expired"));
}

/// A real file system of 3 MiB, in a mount namespace of this thread's own.
#[test]
fn on_a_full_disk_the_text_goes_out_and_the_file_becomes_a_reason() {
    with_own_mounts(|| {
        let source = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(source.path(), [7; 100_000]).unwrap();
        let mut disk = None;
        let bench = Bench::prepared(FakeConfig::default(), quick(), |folder| {
            disk = Some(SmallDisk::over(folder, 3).unwrap());
        });
        let mut full = std::fs::File::create(bench.folder.path().join("filler")).unwrap();
        let _ = std::io::copy(&mut std::io::repeat(0), &mut full);
        for n in 0..200 {
            let files = [("s.pcap", source.path().to_owned())];
            let text = format!("{n} {}", "x".repeat(1_000));
            bench.outbox.enqueue("s.js", bot(CHANNEL, &text, &files)).unwrap();
        }
        bench.drain();
        let messages = bench.fake.messages();
        assert_eq!(messages.len(), 200);
        let reason = messages[0].attachments[0]["text"].as_str().unwrap();
        assert!(reason.contains("`s.pcap` (100,000 bytes)") && reason.contains("MiB are free"), "{reason}");
        let stats = bench.outbox.stats();
        assert!(stats.in_memory > 0 && stats.in_memory <= 200, "{stats:?}");
        assert_eq!((stats.sent, stats.refused, stats.failed), (200, 0, 0));
        // With room again, the disk is used again.
        drop(full);
        std::fs::remove_file(bench.folder.path().join("filler")).unwrap();
        let before = bench.outbox.stats().in_memory;
        bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("s.pcap", source.path().to_owned())])).unwrap();
        bench.drain();
        assert_eq!(bench.outbox.stats().in_memory, before);
        assert_eq!(bench.fake.messages()[200].files.len(), 1);
        drop(disk);
    });
}

#[test]
fn what_neither_disk_nor_memory_has_room_for_is_refused_and_told_later() {
    with_own_mounts(|| {
        let mut disk = None;
        let config = OutboxConfig { max_memory: 5_000, ..quick() };
        let bench = Bench::prepared(FakeConfig::default(), config, |folder| {
            disk = Some(SmallDisk::over(folder, 3).unwrap());
        });
        let filler = bench.folder.path().join("filler");
        let _ = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&filler).unwrap());
        bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::SlowMs(1_000)));
        let enqueue =
            |n: usize| bench.outbox.enqueue("s.js", bot(CHANNEL, &format!("{n} {}", "x".repeat(1_000)), &[]));
        let results: Vec<_> = (0..200).map(enqueue).collect();
        let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert!(!refused.is_empty() && refused.len() < 200, "{}", refused.len());
        assert!(refused.iter().all(|why| matches!(why, OutboxError::FullBytes { limit: 5_000 })));
        assert_eq!(bench.outbox.stats().refused, refused.len() as u64);
        std::fs::remove_file(&filler).unwrap();
        bench.drain();
        let note = format!("the last of {} alerts of this script that were refused since", refused.len());
        assert_eq!(texts(&bench).iter().filter(|text| text.contains(&note)).count(), 1, "{note}");
        drop(disk);
    });
}
