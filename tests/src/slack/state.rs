//! What the fake keeps: messages, files, calls, faults, violations; and how they are shown.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::config::FakeConfig;
use super::fault::Injection;

/// Calls kept for [`State::requests`]; later ones are not.
const MAX_REQUESTS: usize = 1_000_000;

/// A message, as `GET /_fake/messages` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Slack's id of the message in its channel.
    pub ts: String,
    /// Channel id.
    pub channel: String,
    /// `bot`, `webhook` or `upload`.
    pub via: &'static str,
    /// The text above the attachments.
    pub text: String,
    /// As they were sent.
    pub attachments: Vec<Value>,
    /// Files of this message and of its whole thread.
    pub files: Vec<FileView>,
    /// The thread.
    pub replies: Vec<Message>,
    /// When it came, in microseconds since the fake started.
    pub received_us: u64,
    /// `parse`, `unfurl_links`, `link_names` and the like, as they were sent.
    pub options: BTreeMap<String, Value>,
}

/// A file that was shared.
#[derive(Clone, Debug, Serialize)]
pub struct FileView {
    /// `F…`
    pub id: String,
    /// File name.
    pub name: String,
    /// Bytes.
    pub size: usize,
    /// Title shown.
    pub title: String,
    /// Where its bytes can be had, relative to the fake.
    pub url: String,
}

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// A method's name, `upload` or `webhook`.
    pub method: String,
    /// The channel it named.
    pub channel: Option<String>,
    /// `ok`, Slack's error, or `fault: …`; after one that is `applied`, there is a second entry for what it did.
    pub outcome: String,
    /// When, in microseconds since the fake started.
    pub at_us: u64,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) ts: String,
    pub(super) thread_ts: Option<String>,
    pub(super) channel: String,
    pub(super) via: &'static str,
    pub(super) text: String,
    pub(super) attachments: Vec<Value>,
    pub(super) files: Vec<String>,
    pub(super) received_us: u64,
    pub(super) options: BTreeMap<String, Value>,
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) length: usize,
    pub(super) token: String,
    pub(super) bytes: Option<Bytes>,
    pub(super) title: Option<String>,
    pub(super) completed: bool,
    pub(super) shared_in: Option<(String, String)>,
}

#[derive(Debug)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) config: FakeConfig,
    pub(super) messages: Vec<Stored>,
    pub(super) files: BTreeMap<String, File>,
    pub(super) requests: Vec<Request>,
    pub(super) violations: Vec<String>,
    pub(super) faults: Vec<Injection>,
    recent: HashMap<String, VecDeque<Instant>>,
    started: Instant,
    last_ts: u64,
    last_file: u64,
}

impl Shared {
    pub(super) fn new(config: FakeConfig) -> Self {
        Self(Mutex::new(State {
            config,
            messages: Vec::new(),
            files: BTreeMap::new(),
            requests: Vec::new(),
            violations: Vec::new(),
            faults: Vec::new(),
            recent: HashMap::new(),
            started: Instant::now(),
            last_ts: 0,
            last_file: 0,
        }))
    }

    /// Every change is made whole under the lock, so that a panic elsewhere leaves nothing torn.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A `ts` never given before.
    pub(super) fn next_ts(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_ts = u64::try_from(now.as_micros()).unwrap_or(0).max(self.last_ts + 1);
        format!("{}.{:06}", self.last_ts / 1_000_000, self.last_ts % 1_000_000)
    }

    pub(super) fn new_file(&mut self, file: File) -> String {
        self.last_file += 1;
        let id = format!("F{:08}", self.last_file);
        self.files.insert(id.clone(), file);
        id
    }

    pub(super) fn record(&mut self, method: &str, channel: Option<&str>, outcome: &str) {
        if self.requests.len() < MAX_REQUESTS {
            let request = Request {
                method: method.to_owned(),
                channel: channel.map(str::to_owned),
                outcome: outcome.to_owned(),
                at_us: self.now_us(),
            };
            self.requests.push(request);
        }
    }

    /// Whether one more message in `channel` stays within the rate; if so it is counted.
    pub(super) fn within_rate(&mut self, channel: &str) -> bool {
        let Some(limit) = self.config.messages_per_second else { return true };
        let now = Instant::now();
        let recent = self.recent.entry(channel.to_owned()).or_default();
        while recent.front().is_some_and(|t| now.duration_since(*t) >= Duration::from_secs(1)) {
            recent.pop_front();
        }
        let within = recent.len() < limit as usize;
        if within {
            recent.push_back(now);
        }
        within
    }

    pub(super) fn has_thread(&self, channel: &str, ts: &str) -> bool {
        self.messages.iter().any(|m| m.channel == channel && m.ts == ts && m.thread_ts.is_none())
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        let mut replies: HashMap<(&str, &str), Vec<&Stored>> = HashMap::new();
        for reply in &self.messages {
            if let Some(parent) = &reply.thread_ts {
                replies.entry((&reply.channel, parent)).or_default().push(reply);
            }
        }
        let top = self.messages.iter().filter(|m| m.thread_ts.is_none());
        top.map(|m| {
            let thread = replies.get(&(m.channel.as_str(), m.ts.as_str())).map_or(&[][..], Vec::as_slice);
            let replies: Vec<Message> = thread.iter().map(|r| self.view(r, Vec::new())).collect();
            self.view(m, replies)
        })
        .collect()
    }

    fn view(&self, stored: &Stored, replies: Vec<Message>) -> Message {
        let own = stored.files.iter().filter_map(|id| self.file_view(id));
        let files = own.chain(replies.iter().flat_map(|r| r.files.clone())).collect();
        Message {
            ts: stored.ts.clone(),
            channel: stored.channel.clone(),
            via: stored.via,
            text: stored.text.clone(),
            attachments: stored.attachments.clone(),
            files,
            replies,
            received_us: stored.received_us,
            options: stored.options.clone(),
        }
    }

    pub(super) fn file_view(&self, id: &str) -> Option<FileView> {
        let file = self.files.get(id)?;
        Some(FileView {
            id: id.to_owned(),
            name: file.name.clone(),
            size: file.length,
            title: file.title.clone().unwrap_or_else(|| file.name.clone()),
            url: format!("/_fake/files/{id}"),
        })
    }

    pub(super) fn shared_files(&self) -> Vec<FileView> {
        let shared = self.files.iter().filter(|(_, f)| f.shared_in.is_some());
        shared.filter_map(|(id, _)| self.file_view(id)).collect()
    }

    pub(super) fn file_bytes(&self, id: &str) -> Option<Bytes> {
        self.files.get(id).filter(|f| f.completed).and_then(|f| f.bytes.clone())
    }
}
