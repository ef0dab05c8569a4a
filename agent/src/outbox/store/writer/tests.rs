//! A disk that takes nothing for a while, and ever new destinations.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::*;
use crate::outbox::Alert;
use crate::outbox::blobs::Blobs;
use crate::outbox::config::{DeadLimits, FoldPolicy};
use crate::outbox::delivery::{Attachment, Body, Delivery, DeliveryId, Fold};
use crate::outbox::folds::Folds;
use crate::outbox::store::tests::row;
use crate::secret::Secret;

fn writer(folder: &std::path::Path) -> Writer {
    let blobs = Arc::new(Blobs::open(folder.join("blobs"), false, 0).unwrap());
    let connection = schema::open(folder, false).unwrap().writer;
    Writer::new(connection, Keep { blobs, counters: Arc::default(), dead: DeadLimits::default() })
}

fn count(writer: &Writer, of: &str) -> i64 {
    writer.connection.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).unwrap()
}

fn insert(writer: &mut Writer, id: u64) -> Result<(), String> {
    let (reply, answer) = sync_channel(1);
    writer.write(vec![Op::Insert(Box::new(row(id, "x")), reply)]);
    answer.recv().unwrap()
}

/// What a fold comes to whose key is `key`.
fn fold(folds: &mut Folds, key: u64) -> Op {
    let delivery = Delivery::SlackWebhook {
        url: Secret::new("http://127.0.0.1:1/x"),
        alert: Alert::default(),
        fold: Some(Fold { key: key.to_string(), window: Duration::from_secs(60) }),
    };
    let parts = delivery.split();
    let _ = folds.judge(1, "s.js", &parts.destination, &parts.content, parts.fold.as_ref());
    Op::Folds(folds.changed())
}

#[test]
fn what_the_disk_refuses_is_bounded_and_written_once_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    for id in 1..=3 {
        insert(&mut writer, id).unwrap();
    }
    writer.connection.pragma_update(None, "query_only", true).unwrap();
    let copy = Attachment { name: "a".to_owned(), size: 1, body: Body::Copy("3-0".to_owned()) };
    std::fs::write(writer.keep.blobs.path("3-0"), "x").unwrap();
    let mut folds = Folds::new(FoldPolicy::default());
    for attempt in 1..=1_000 {
        let tried = |id| Op::Tried { id: DeliveryId(id), attempts: attempt, error: format!("e{attempt}") };
        writer.write(vec![
            tried(1),
            tried(2),
            Op::Progress(DeliveryId(2), format!("p{attempt}")),
            fold(&mut folds, 1),
        ]);
    }
    assert!(insert(&mut writer, 4).is_err(), "who inserts is told");
    writer.write(vec![
        Op::Dead { id: DeliveryId(2), attempts: 1_001, error: "over".to_owned() },
        Op::Done(DeliveryId(3), vec![copy]),
    ]);
    assert_eq!(writer.refused.len(), 5);
    assert!(writer.keep.blobs.path("3-0").exists(), "not before it is written down");

    writer.connection.pragma_update(None, "query_only", false).unwrap();
    writer.write(Vec::new());
    assert!(writer.refused.is_empty());
    assert!(!writer.keep.blobs.path("3-0").exists());
    let of = |id: i64| {
        const SQL: &str = "SELECT state, attempts, error, progress FROM entry WHERE id = ?1";
        writer.connection.query_row(SQL, [id], |row| {
            let progress: Option<String> = row.get(3)?;
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?, progress))
        })
    };
    assert_eq!(of(1).unwrap(), (0, 1_000, "e1000".to_owned(), None));
    assert_eq!(of(2).unwrap(), (1, 1_001, "over".to_owned(), Some("p1000".to_owned())));
    assert!(of(3).is_err() && of(4).is_err());
    assert_eq!(count(&writer, "fold"), 1);
}

#[test]
fn one_change_that_cannot_be_made_does_not_keep_the_others_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    insert(&mut writer, 1).unwrap();
    let (again, refused) = sync_channel(1);
    let (new, taken) = sync_channel(1);
    // The number is taken.
    writer.write(vec![Op::Insert(Box::new(row(1, "x")), again), Op::Insert(Box::new(row(2, "x")), new)]);
    assert!(refused.recv().unwrap().is_err());
    assert_eq!((taken.recv().unwrap(), count(&writer, "entry")), (Ok(()), 2));
}

#[test]
fn destinations_that_nothing_is_for_are_forgotten_while_we_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    insert(&mut writer, 1).unwrap();
    for n in 0..MANY {
        let url = Secret::new(&format!("http://127.0.0.1:1/{n}"));
        writer.destination(&Destination::Slack { url }).unwrap();
    }
    assert_eq!(count(&writer, "destination"), MANY + 1);
    writer.look(&|_| ()).unwrap();
    assert_eq!(count(&writer, "destination"), 1);
    // Those that are used again are put down again.
    let (reply, answer) = sync_channel(1);
    let url = Secret::new("http://127.0.0.1:1/7");
    let other = Row { destination: Destination::Slack { url }, ..row(2, "x") };
    writer.write(vec![Op::Insert(Box::new(other), reply)]);
    answer.recv().unwrap().unwrap();
    assert_eq!(count(&writer, "destination d JOIN entry e ON e.destination = d.id"), 2);
}
