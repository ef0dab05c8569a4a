//! Where `remora scripts test` has scripts play: everything that they do is written down, call by call, and nothing sent.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::say;
use crate::hooks::{Level, Rehearsal, ScriptLog, WebhookRequest};
use crate::outbox::Recorded;

/// Console lines, deliveries and webhooks of one call that are kept; of more only the number.
const MOST: usize = 1000;
/// What is done outside of any call.
const TOP_LEVEL: &str = "top level";

/// How it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    /// One JSON object for each call.
    pub(super) json: bool,
    /// Only calls that led to something.
    pub(super) brief: bool,
}

/// The notes.
pub(super) struct Stage {
    telling: Telling,
    /// What webhooks answer.
    answer: Option<String>,
    acts: Mutex<Acts>,
}

#[derive(Default)]
struct Acts {
    /// The call at hand, by script.
    open: HashMap<String, Act>,
    counts: Counts,
}

/// What there was in all.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) console: u64,
    pub(super) deliveries: u64,
    pub(super) folded: u64,
    pub(super) webhooks: u64,
}

/// One call.
#[derive(Default)]
struct Act {
    about: String,
    /// In the order in which they happened: as JSON, with a member `what`.
    events: Vec<Value>,
    left_out: u64,
}

impl Stage {
    pub(super) fn new(telling: Telling, answer: Option<String>) -> Self {
        Self { telling, answer, acts: Mutex::default() }
    }

    /// A delivery that is not sent.
    pub(super) fn deliver(&self, note: &Recorded) {
        let mut acts = self.acts();
        acts.counts.deliveries += 1;
        acts.counts.folded += u64::from(note.folded);
        let files: Vec<Value> =
            note.files.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
        let fold =
            note.fold.as_ref().map(|fold| json!({ "key": fold.key, "window": fold.window.as_secs_f64() }));
        let event = json!({
            "what": "delivery", "id": note.id.0.to_string(), "to": note.to, "content": note.content,
            "files": files, "options": fold, "folded": note.folded,
        });
        acts.add(&note.script, event);
    }

    /// Says what scripts did outside of any call since their last one, and how much there was.
    pub(super) fn finish(&self) -> Counts {
        let mut acts = self.acts();
        let left: Vec<(String, Act)> = acts.open.drain().collect();
        for (script, act) in left {
            self.tell(&script, TOP_LEVEL, None, None, &act);
        }
        acts.counts
    }

    fn tell(&self, script: &str, call: &str, took: Option<Duration>, failure: Option<&str>, act: &Act) {
        if act.events.is_empty() && failure.is_none() && (self.telling.brief || call == TOP_LEVEL) {
            return;
        }
        if self.telling.json {
            let mut line = json!({ "script": script, "call": call, "about": act.about });
            line["ms"] = took.map_or(Value::Null, |took| json!(took.as_secs_f64() * 1000.0));
            line["failure"] = json!(failure);
            line["events"] = json!(act.events);
            line["events_left_out"] = json!(act.left_out);
            say::out(format_args!("{line}"));
        } else {
            say::out(format_args!("{}", told(script, call, failure, act)));
        }
    }

    fn acts(&self) -> MutexGuard<'_, Acts> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acts {
    fn add(&mut self, script: &str, event: Value) {
        let act = self.open.entry(script.to_owned()).or_default();
        if act.events.len() < MOST {
            act.events.push(event);
        } else {
            act.left_out += 1;
        }
    }
}

impl Rehearsal for Stage {
    fn begins(&self, script: &str, _call: &str, about: &str) {
        let mut acts = self.acts();
        if let Some(before) = acts.open.remove(script) {
            self.tell(script, TOP_LEVEL, None, None, &before);
        }
        acts.open.insert(script.to_owned(), Act { about: about.to_owned(), ..Act::default() });
    }

    fn ended(&self, script: &str, call: &str, took: Duration, failure: Option<&str>) {
        let mut acts = self.acts();
        acts.counts.calls += 1;
        acts.counts.failures += u64::from(failure.is_some());
        let act = acts.open.remove(script).unwrap_or_default();
        self.tell(script, call, Some(took), failure, &act);
    }

    fn webhook(&self, script: &str, request: &WebhookRequest) -> Result<String, String> {
        let mut acts = self.acts();
        acts.counts.webhooks += 1;
        let WebhookRequest { method, to, body, size } = request;
        acts.add(
            script,
            json!({ "what": "webhook", "method": method, "to": to, "body": body, "bytes": size }),
        );
        self.answer.clone().ok_or_else(|| {
            "nothing is sent while a script is tested; --webhook-answer TEXT says what to answer".to_owned()
        })
    }
}

impl ScriptLog for Stage {
    fn line(&self, script: &str, level: Level, console: bool, text: &str) {
        // What calls threw is told with them, each time; what the runtime has to say besides is for the log.
        if console {
            let mut acts = self.acts();
            acts.counts.console += 1;
            acts.add(script, json!({ "what": "console", "level": word(level), "text": text }));
        } else if level != Level::Error {
            tracing::warn!(target: "script", script, "{text}");
        }
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "log",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// A call for a person.
fn told(script: &str, call: &str, failure: Option<&str>, act: &Act) -> String {
    let mut text = format!("{script}: {call}");
    if !act.about.is_empty() {
        let _ = write!(text, "  {}", act.about);
    }
    for event in &act.events {
        let of = |name: &str| event[name].as_str().unwrap_or_default();
        match of("what") {
            "console" => {
                let _ = write!(text, "\n    console.{}: {}", of("level"), of("text"));
            }
            "webhook" => {
                let _ =
                    write!(text, "\n    would send {} {}\n        {}", of("method"), of("to"), of("body"));
            }
            _ => delivery(event, &mut text),
        }
    }
    if act.left_out > 0 {
        let _ = write!(text, "\n    … and {} more", act.left_out);
    }
    if let Some(failure) = failure {
        let _ = write!(text, "\n    FAILED: {failure}");
    }
    text
}

fn delivery(event: &Value, text: &mut String) {
    let _ = write!(text, "\n    would send to {}", event["to"].as_str().unwrap_or_default());
    if event["folded"] == true {
        text.push_str(", folded into the next one alike");
    }
    lines(&event["content"], "", text);
    for file in event["files"].as_array().into_iter().flatten() {
        let _ = write!(
            text,
            "\n        file {}, {} bytes",
            file["name"].as_str().unwrap_or_default(),
            file["bytes"]
        );
    }
    if let Some(key) = event["options"]["key"].as_str() {
        let _ = write!(text, "\n        one in {} s with the key {key:?}", event["options"]["window"]);
    }
}

/// The parts of what is delivered, a line each; pairs of title and value too.
fn lines(content: &Value, name: &str, text: &mut String) {
    match content {
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| *name != "kind") {
                lines(value, name, text);
            }
        }
        Value::Array(pairs) => {
            for pair in pairs {
                match (pair[0].as_str(), pair[1].as_str()) {
                    (Some(title), Some(value)) => {
                        let _ = write!(text, "\n        {title}: {value}");
                    }
                    _ => lines(pair, name, text),
                }
            }
        }
        Value::String(value) => {
            let _ = write!(text, "\n        {name}: {}", value.replace('\n', "\n          "));
        }
        other => {
            let _ = write!(text, "\n        {name}: {other}");
        }
    }
}
