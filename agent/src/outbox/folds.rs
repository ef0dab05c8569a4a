//! The throttle: alerts that are alike are folded into one that says how many were held back. Pure: time is given.
//!
//! ```text
//!          sent, up to the limit      held back                    a message: how many, since when
//! ├──────●───●────────────────────○──○────○─────────┤─ grace ─┤ ●  the next alike, if one comes within the grace,
//! opened (the first that was sent)               window         │  else a closing one made of the last held back
//! ```
//!
//! Invariants: a window counts from what was *sent*, never from what was held back, so that nothing is mute for ever; what was
//! held back is always told; the table is bounded, and an entry that must go for want of room is closed first.
//! An entry is one of: a script's key (limit 1), a flood (20 a minute), what is past a budget, or was refused by a full outbox
//! (limit 0).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::config::FoldPolicy;
use super::delivery::{Alert, Content, DeliveryId, Destination, Fold, HeldBack};

/// A minute, for budgets, in ms.
const MINUTE: u64 = 60_000;
/// What is kept of the last alert that was held back, in bytes of text and in fields.
const SAMPLE: (usize, usize) = (2_000, 10);
/// How often it is tried to tell of what a full outbox refused, in ms.
const REFUSED: u64 = 10_000;
/// Longest wait for the next alike before a closing message is made, in ms.
const MOST_GRACE: u64 = 2_000;

/// Hash of what is alike.
pub(super) type Key = String;

/// What is folded just now.
#[derive(Debug)]
pub(super) struct Folds {
    policy: FoldPolicy,
    entries: HashMap<Key, Entry>,
    scripts: HashMap<String, Budget>,
    total: Budget,
    /// Closed for want of room; told by the next [`Folds::due`].
    pushed_out: Vec<Closing>,
    /// Keys whose entry is other than what was last taken by [`Folds::changed`].
    changed: HashSet<Key>,
}

/// One thing that is folded; also its stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) script: String,
    #[serde(skip)]
    destination: Option<Destination>,
    /// Start of the window, ms since 1970.
    opened: u64,
    window: u64,
    limit: u32,
    /// Sent in this window.
    sent: u32,
    /// When the last one was sent, and its number.
    since: u64,
    last: u64,
    /// Held back since then.
    held: u64,
    /// The last of them, cut.
    sample: Option<Content>,
    /// They were refused.
    #[serde(default)]
    refused: bool,
}

#[derive(Debug, Default)]
struct Budget {
    opened: u64,
    sent: u32,
}

/// What to do with an alert.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Send it, telling this; then say so by [`Folds::sent`], or [`Folds::not_sent`].
    Send(Option<HeldBack>, Ticket),
    /// Held back under the message of this number.
    Held(DeliveryId),
}

/// The means to take a verdict back.
#[derive(Debug)]
pub(super) struct Ticket(Option<(Key, Before)>);

#[derive(Debug)]
struct Before {
    opened: u64,
    sent: u32,
    since: u64,
    held: u64,
    sample: Option<Content>,
}

/// A message about what was held back.
#[derive(Debug)]
pub(super) struct Closing {
    key: Key,
    pub(super) script: String,
    pub(super) destination: Destination,
    /// Tells how many.
    pub(super) content: Content,
    held: u64,
}

impl Folds {
    pub(super) fn new(policy: FoldPolicy) -> Self {
        Self {
            policy,
            entries: HashMap::new(),
            scripts: HashMap::new(),
            total: Budget::default(),
            pushed_out: Vec::new(),
            changed: HashSet::new(),
        }
    }

    /// Takes up an entry of an earlier run.
    pub(super) fn restore(&mut self, key: Key, mut entry: Entry, destination: Destination) {
        entry.destination = Some(destination);
        self.entries.insert(key, entry);
    }

    /// Judges an alert at `now`, in ms since 1970, as if it will be sent if it may.
    pub(super) fn judge(
        &mut self,
        now: u64,
        script: &str,
        destination: &Destination,
        content: &Content,
        fold: Option<&Fold>,
    ) -> Verdict {
        let guard = match (fold, content.title()) {
            (Some(fold), _) => Some(("key", fold.key.as_str(), fold.window, 1)),
            (None, Some(title)) if self.policy.flood_limit > 0 => {
                Some(("flood", title, self.policy.flood_window, self.policy.flood_limit))
            }
            _ => None,
        };
        let key = guard.map(|(kind, alike, ..)| key(kind, script, destination, alike));
        if let Some(under) = key.as_ref().and_then(|key| self.held_under(key, now, content)) {
            return Verdict::Held(under);
        }
        if content.title().is_some() && !self.within_budget(now, script) {
            return Verdict::Held(self.past_budget(now, script, destination, content));
        }
        let (Some(key), Some((_, _, window, limit))) = (key, guard) else {
            return Verdict::Send(None, Ticket(None));
        };
        let window = window.as_millis().try_into().unwrap_or(u64::MAX);
        let entry = self.entry(&key, now, script, destination, window, limit);
        let before = Before {
            opened: entry.opened,
            sent: entry.sent,
            since: entry.since,
            held: entry.held,
            sample: entry.sample.take(),
        };
        let told = HeldBack { count: before.held, since: before.since, ..HeldBack::default() };
        let told = (told.count > 0).then_some(told);
        if entry.ended(now) {
            (entry.opened, entry.sent) = (now, 0);
        }
        (entry.window, entry.limit) = (window, limit);
        (entry.sent, entry.since, entry.held) = (entry.sent + 1, now, 0);
        self.changed.insert(key.clone());
        Verdict::Send(told, Ticket(Some((key, before))))
    }

    /// The verdict was carried out.
    pub(super) fn sent(&mut self, ticket: &Ticket, id: DeliveryId) {
        if let Some((key, _)) = &ticket.0
            && let Some(entry) = self.entries.get_mut(key)
        {
            entry.last = id.0;
        }
    }

    /// The alert could not be queued: nothing was told.
    pub(super) fn not_sent(&mut self, ticket: Ticket) {
        let Some((key, before)) = ticket.0 else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        // It may have been stored as sent meanwhile.
        self.changed.insert(key.clone());
        (entry.opened, entry.sent, entry.since) = (before.opened, before.sent, before.since);
        (entry.held, entry.sample) = (before.held, before.sample);
        if entry.sent == 0 && entry.held == 0 {
            self.entries.remove(&key);
        }
    }

    /// A full outbox refused an alert, which its script was told. Whoever reads the others is told as soon as there is room.
    pub(super) fn refused(&mut self, now: u64, script: &str, destination: &Destination, content: &Content) {
        if content.title().is_none() {
            return;
        }
        let key = key("refused", script, destination, "");
        self.changed.insert(key.clone());
        let entry = self.entry(&key, now, script, destination, REFUSED, 0);
        entry.refused = true;
        if entry.held == 0 {
            (entry.opened, entry.since) = (now, now);
        }
        entry.hold(content);
    }

    /// What has to be told now: windows that ended with something held back, and nothing alike after it. With `all`, windows
    /// that have not ended, too. What could not be queued comes back by [`Folds::not_told`].
    pub(super) fn due(&mut self, now: u64, all: bool) -> Vec<Closing> {
        let mut closings = std::mem::take(&mut self.pushed_out);
        let changed = &mut self.changed;
        self.entries.retain(|key, entry| {
            if entry.held > 0 && (all || entry.overdue(now)) {
                closings.extend(entry.close(key, now));
                changed.insert(key.clone());
            } else if entry.held == 0 && entry.ended(now) {
                changed.insert(key.clone());
                return false;
            }
            true
        });
        let minute = |budget: &Budget| now.saturating_sub(budget.opened) < MINUTE;
        self.scripts.retain(|_, budget| minute(budget));
        closings
    }

    /// A closing message could not be queued: it is due again.
    pub(super) fn not_told(&mut self, closing: Closing) {
        let Content::Alert { held: told, .. } = &closing.content else { return };
        match self.entries.get_mut(&closing.key) {
            Some(entry) => {
                entry.held += closing.held;
                entry.since = told.map_or(entry.since, |told| told.since.min(entry.since));
                if entry.sample.is_none() {
                    entry.sample = Some(closing.content);
                }
            }
            None => self.keep_to_tell(closing),
        }
    }

    /// Kept until it can be told. Where there are as many as keys, it is told with another one of its script.
    fn keep_to_tell(&mut self, closing: Closing) {
        if self.pushed_out.len() >= self.policy.max_keys.max(1) {
            let with = |other: &&mut Closing| {
                other.script == closing.script && other.destination == closing.destination
            };
            match self.pushed_out.iter_mut().find(with) {
                Some(other) => other.add(closing.held),
                None => tracing::error!(
                    "outbox: {} alerts of {} were held back, and there is no room to keep that to be told",
                    closing.held,
                    closing.script
                ),
            }
            return;
        }
        self.pushed_out.push(closing);
    }

    /// Entries that are other than at the last call, to be stored; `None`: gone.
    pub(super) fn changed(&mut self) -> Vec<(Key, Option<(Entry, Destination)>)> {
        let entries = &self.entries;
        let now = |key: Key| {
            let entry = entries.get(&key).cloned();
            let whole = entry.and_then(|entry| entry.destination.clone().map(|to| (entry, to)));
            (key, whole)
        };
        self.changed.drain().map(now).collect()
    }

    /// The entry is full in this window: the alert is held back.
    fn held_under(&mut self, key: &Key, now: u64, content: &Content) -> Option<DeliveryId> {
        let entry = self.entries.get_mut(key)?;
        if entry.ended(now) || entry.sent < entry.limit {
            return None;
        }
        self.changed.insert(key.clone());
        Some(entry.hold(content))
    }

    fn within_budget(&mut self, now: u64, script: &str) -> bool {
        let FoldPolicy { script_budget, total_budget, .. } = self.policy;
        let own = self.scripts.entry(script.to_owned()).or_default();
        for budget in [&mut *own, &mut self.total] {
            if now.saturating_sub(budget.opened) >= MINUTE || now < budget.opened {
                *budget = Budget { opened: now, sent: 0 };
            }
        }
        let within = |budget: &Budget, limit| limit == 0 || budget.sent < limit;
        let both = within(own, script_budget) && within(&self.total, total_budget);
        if both {
            own.sent += 1;
            self.total.sent += 1;
        }
        both
    }

    fn past_budget(
        &mut self,
        now: u64,
        script: &str,
        destination: &Destination,
        content: &Content,
    ) -> DeliveryId {
        let key = key("budget", script, destination, "");
        self.changed.insert(key.clone());
        let entry = self.entry(&key, now, script, destination, MINUTE, 0);
        if entry.held == 0 {
            (entry.opened, entry.since) = (now, now);
        }
        entry.hold(content)
    }

    fn entry(
        &mut self,
        key: &Key,
        now: u64,
        script: &str,
        destination: &Destination,
        window: u64,
        limit: u32,
    ) -> &mut Entry {
        if !self.entries.contains_key(key) && self.entries.len() >= self.policy.max_keys.max(1) {
            self.push_out(now);
        }
        self.entries.entry(key.clone()).or_insert_with(|| Entry {
            script: script.to_owned(),
            destination: Some(destination.clone()),
            opened: now,
            window,
            limit,
            sent: 0,
            since: now,
            last: 0,
            held: 0,
            sample: None,
            refused: false,
        })
    }

    /// Makes room: the entry that was opened first goes, one with nothing held back before any other.
    fn push_out(&mut self, now: u64) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| (entry.held > 0, entry.opened));
        let Some(key) = oldest.map(|(key, _)| key.clone()) else { return };
        if let Some(mut entry) = self.entries.remove(&key)
            && entry.held > 0
            && let Some(closing) = entry.close(&key, now)
        {
            self.keep_to_tell(closing);
        }
        self.changed.insert(key);
    }
}

impl Entry {
    /// Whether the window is over; also when the clock was put back to before it.
    fn ended(&self, now: u64) -> bool {
        now < self.opened || now - self.opened >= self.window
    }

    fn overdue(&self, now: u64) -> bool {
        let grace = (self.window / 10).min(MOST_GRACE);
        now < self.opened || now - self.opened >= self.window.saturating_add(grace)
    }

    fn hold(&mut self, content: &Content) -> DeliveryId {
        self.held += 1;
        self.sample = Some(sample(content));
        DeliveryId(self.last)
    }

    /// The closing message; it opens a window of its own.
    fn close(&mut self, key: &Key, now: u64) -> Option<Closing> {
        let destination = self.destination.clone()?;
        let mut content = self.sample.take()?;
        let (refused, over_budget) = (self.refused, self.limit == 0 && !self.refused);
        content.tell(HeldBack { count: self.held, since: self.since, closing: true, over_budget, refused });
        let closing =
            Closing { key: key.clone(), script: self.script.clone(), destination, content, held: self.held };
        (self.held, self.opened, self.since, self.sent) = (0, now, now, 1);
        Some(closing)
    }
}

impl Closing {
    /// Tells of so many more.
    fn add(&mut self, more: u64) {
        self.held += more;
        if let Content::Alert { held: Some(told), .. } = &mut self.content {
            told.count += more;
        }
    }
}

/// What a closing message is made of.
fn sample(content: &Content) -> Content {
    // Only alerts are folded.
    let Content::Alert { alert, fields, .. } = content else { return content.clone() };
    let (bytes, count) = SAMPLE;
    let cut = |text: &str| {
        let end = text.floor_char_boundary(bytes);
        if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
    };
    let Alert { pretext, text, color } = alert;
    Content::Alert {
        alert: Alert { pretext: cut(pretext), text: cut(text), color: cut(color) },
        fields: fields.iter().take(count).map(|(title, value)| (cut(title), cut(value))).collect(),
        held: None,
    }
}

fn key(kind: &str, script: &str, destination: &Destination, alike: &str) -> Key {
    let mut hash = Sha256::new();
    let destination = serde_json::to_string(destination).unwrap_or_default();
    for part in [kind, script, &destination, alike] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
