//! The database's file: it shrinks, is not held open by who reads it, and what cannot be read is set aside whole.

use super::*;
use crate::outbox::BLOBS;
use crate::outbox::delivery::{Alert, Body};
use crate::secret::Secret;

fn keep(folder: &Path) -> Keep {
    let blobs = Arc::new(Blobs::open(folder.join(BLOBS), false, 0).unwrap());
    Keep { blobs, counters: Arc::default(), dead: DeadLimits::default() }
}

pub(super) fn row(id: u64, text: &str) -> Row {
    Row {
        id: DeliveryId(id),
        destination: Destination::Slack { url: Secret::new("http://127.0.0.1:1/x") },
        script: "s.js".to_owned(),
        made: SystemTime::now(),
        content: Content::Alert {
            alert: Alert { text: text.to_owned(), ..Alert::default() },
            fields: Vec::new(),
            held: None,
        },
        files: Vec::new(),
        bytes: text.len() as u64,
    }
}

#[test]
fn who_lists_letters_slowly_does_not_keep_the_log_from_being_taken_up() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join(crate::outbox::FOLDER);
    std::fs::create_dir(&folder).unwrap();
    let (store, _) = Store::open(&folder, false, keep(&folder), |_| ()).unwrap();
    for id in 1..=250 {
        store.insert(row(id, "x")).unwrap();
    }
    let other = Connection::open(folder.join(schema::DATABASE)).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut seen = Vec::new();
    Letters::open(data.path())
        .unwrap()
        .list(&mut |letter| {
            seen.push(letter.id);
            // The writer goes on meanwhile.
            store.insert(row(1_000 + letter.id, "y")).unwrap();
            let busy: i64 = other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            assert_eq!(busy, 0, "at letter {}", letter.id);
            if seen.len() < 250 { Ok(()) } else { Err(anyhow!("enough")) }
        })
        .unwrap_err();
    assert_eq!(seen, (1..=250).collect::<Vec<_>>());
}

#[test]
fn room_of_what_is_gone_goes_back_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path(), false, keep(folder.path()), |_| ()).unwrap();
    let text = "x".repeat(100_000);
    for id in 1..=20 {
        store.insert(row(id, &text)).unwrap();
    }
    for id in 1..=20 {
        store.tell(Op::Done(DeliveryId(id), Vec::new()));
    }
    drop(store);
    let Opened { writer, .. } = schema::open(folder.path(), false).unwrap();
    let free = || writer.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = free();
    assert!(before > 400, "{before}");
    schema::vacuum(&writer, 300).unwrap();
    assert_eq!(before - free(), 300);
}

#[test]
fn a_database_that_cannot_be_read_is_set_aside_with_its_copies_and_the_oldest_such_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for stamp in [1, 2, 3, 4] {
        std::fs::write(path(&format!("outbox.db.unreadable-{stamp}")), "x").unwrap();
        std::fs::create_dir(path(&format!("outbox.db.unreadable-{stamp}-blobs"))).unwrap();
    }
    std::fs::write(path("outbox.db"), "no database at all, and long enough to be read as one").unwrap();
    let keep = keep(folder.path());
    std::fs::write(keep.blobs.path("1-0"), "pcap").unwrap();
    let blobs = Arc::clone(&keep.blobs);
    let (_store, found) = Store::open(folder.path(), false, keep, |_| ()).unwrap();
    assert_eq!(blobs.collect(&found.copies).unwrap(), 0, "the new one begins with none");
    let mut aside: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("outbox.db.unreadable-"))
        .collect();
    aside.sort();
    assert_eq!(aside.len(), 6, "{aside:?}");
    let newest = aside.iter().find(|name| name.len() > "outbox.db.unreadable-4-blobs".len()).unwrap();
    let stamp = newest.trim_end_matches("-blobs");
    assert_eq!(std::fs::read(path(&format!("{stamp}-blobs/1-0"))).unwrap(), b"pcap");
    assert!(
        aside.iter().any(|name| name == "outbox.db.unreadable-3") && !path("outbox.db.unreadable-2").exists()
    );
    // Copies are made as before.
    let source = path("a.txt");
    std::fs::write(&source, "hello").unwrap();
    let copied = blobs.copy(crate::outbox::blobs::Source::open("a", &source).unwrap(), DeliveryId(1), 0);
    assert!(matches!(copied.body, Body::Copy(_)), "{copied:?}");
}
