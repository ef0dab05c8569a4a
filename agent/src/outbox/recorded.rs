//! An outbox that takes notes and sends nothing: for trying scripts out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::delivery::Parts;
use super::{Delivery, DeliveryId, Fold, FoldPolicy, Outbox, OutboxError, check};

/// Kinds of alerts that are told apart when saying what would be folded.
const MOST: usize = 10_000;

/// A delivery that was not sent.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The number that the script was given.
    pub id: DeliveryId,
    /// Who made it.
    pub script: String,
    /// Where it would go, without secrets: `slackBot: channel C012`.
    pub to: String,
    /// What it says, without secrets.
    pub content: Value,
    /// Name shown, and bytes.
    pub files: Vec<(String, u64)>,
    /// `options` of an alert.
    pub fold: Option<Fold>,
    /// It would not be sent by itself, but be counted in the next one alike.
    pub folded: bool,
}

/// Hands each delivery that an outbox would take to a function, and sends nothing. What an outbox would refuse for its
/// arguments or files, it refuses in the same words.
pub struct RecordingOutbox {
    note: Box<dyn Fn(Recorded) + Send + Sync>,
    next: AtomicU64,
    seen: Mutex<HashMap<(String, String, String), Seen>>,
    flood: u32,
}

/// Alerts alike.
struct Seen {
    count: u32,
    last_sent: Instant,
}

impl RecordingOutbox {
    /// An outbox over that function.
    #[must_use]
    pub fn new(note: impl Fn(Recorded) + Send + Sync + 'static) -> Self {
        let flood = FoldPolicy::default().flood_limit;
        Self { note: Box::new(note), next: AtomicU64::new(1), seen: Mutex::default(), flood }
    }

    /// Whether one alike was sent within the window, or too many were without one.
    fn is_folded(&self, script: &str, to: &str, title: Option<&str>, fold: Option<&Fold>) -> bool {
        let (kind, window) = match (fold, title) {
            (Some(fold), _) => (format!("key {}", fold.key), fold.window),
            (None, Some(title)) => (format!("title {title}"), Duration::from_secs(60)),
            (None, None) => return false,
        };
        let allowed = if fold.is_some() { 1 } else { self.flood };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (full, now) = (seen.len() >= MOST, Instant::now());
        let key = (script.to_owned(), to.to_owned(), kind);
        if full && !seen.contains_key(&key) {
            return false;
        }
        let alike = seen.entry(key).or_insert(Seen { count: 0, last_sent: now });
        if now.duration_since(alike.last_sent) >= window {
            *alike = Seen { count: 0, last_sent: now };
        }
        alike.count += 1;
        allowed != 0 && alike.count > allowed
    }
}

impl Outbox for RecordingOutbox {
    fn enqueue(&self, script: &str, delivery: Delivery) -> Result<DeliveryId, OutboxError> {
        check::arguments(&delivery)?;
        let Parts { destination, content, files, fold } = delivery.split();
        let files = files.into_iter().map(sized).collect::<Result<_, _>>()?;
        let to = destination.label();
        let folded = self.is_folded(script, &to, content.title(), fold.as_ref());
        let content = serde_json::to_value(&content).unwrap_or_default();
        let id = DeliveryId(self.next.fetch_add(1, Ordering::Relaxed));
        (self.note)(Recorded { id, script: script.to_owned(), to, content, files, fold, folded });
        Ok(id)
    }
}

fn sized((name, path): (String, PathBuf)) -> Result<(String, u64), OutboxError> {
    match std::fs::metadata(&path) {
        Ok(file) => Ok((name, file.len())),
        Err(error) => {
            Err(OutboxError::File { name, path: path.display().to_string(), cause: error.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outbox::Alert;
    use crate::secret::Secret;

    fn alert(title: &str, fold: Option<Fold>) -> Delivery {
        let alert = Alert { pretext: title.to_owned(), text: "t".to_owned(), color: "good".to_owned() };
        let url = Secret::new("https://hooks.example/services/hushhush");
        Delivery::SlackWebhook { url, alert, fold }
    }

    #[test]
    fn deliveries_are_noted_without_secrets_and_it_is_said_which_are_folded() {
        let notes: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let sink = Arc::clone(&notes);
        let outbox = RecordingOutbox::new(move |note| sink.lock().unwrap().push(note));
        let fold = || Some(Fold { key: "k".to_owned(), window: Duration::from_secs(600) });
        for _ in 0..2 {
            outbox.enqueue("a.js", alert("keyed", fold())).unwrap();
        }
        for _ in 0..21 {
            outbox.enqueue("a.js", alert("flood", None)).unwrap();
        }
        let notes = notes.lock().unwrap();
        let folded: Vec<bool> = notes.iter().map(|note| note.folded).collect();
        assert_eq!(&folded[..3], [false, true, false]);
        assert_eq!(
            folded.iter().filter(|folded| **folded).count(),
            2,
            "one by its key, one past the flood's bound"
        );
        assert_eq!(notes[0].content["alert"]["pretext"], "keyed");
        assert!(!format!("{notes:?}").contains("hushhush"));
    }

    #[test]
    fn it_refuses_what_an_outbox_refuses_and_forgets_past_its_bound() {
        let outbox = RecordingOutbox::new(|_| {});
        let bot = |files| Delivery::SlackBot {
            token: Secret::new("xoxb-1"),
            channel: "C1".to_owned(),
            alert: Alert::default(),
            fields: Vec::new(),
            files,
            fold: None,
        };
        let missing = vec![("a".to_owned(), PathBuf::from("/nonexistent"))];
        let error = outbox.enqueue("a.js", bot(missing)).unwrap_err().to_string();
        assert!(error.starts_with("files[\"a\"] (/nonexistent): "), "{error}");
        for n in 0..MOST + 10 {
            outbox.enqueue("a.js", alert(&n.to_string(), None)).unwrap();
        }
        assert_eq!(outbox.seen.lock().unwrap().len(), MOST);
    }
}
