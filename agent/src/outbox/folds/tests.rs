//! With a clock of our own.

use super::*;
use crate::secret::Secret;

const START: u64 = 1_000_000_000;

fn to(channel: &str) -> Destination {
    Destination::SlackBot { token: Secret::new("xoxb"), channel: channel.to_owned() }
}

fn alert(title: &str) -> Content {
    let alert = Alert { pretext: title.to_owned(), text: "x".repeat(5_000), color: String::new() };
    Content::Alert { alert, fields: vec![("f".to_owned(), "v".to_owned()); 50], held: None }
}

fn policy() -> FoldPolicy {
    FoldPolicy { script_budget: 0, total_budget: 0, ..FoldPolicy::default() }
}

/// Judges one alert; sent ones say how many were held back.
fn judge(folds: &mut Folds, at: u64, title: &str, fold: Option<&Fold>) -> Option<u64> {
    match folds.judge(START + at, "s.js", &to("C1"), &alert(title), fold) {
        Verdict::Held(_) => None,
        Verdict::Send(told, ticket) => {
            folds.sent(&ticket, DeliveryId(at));
            Some(told.map_or(0, |held| held.count))
        }
    }
}

fn told(closings: &[Closing]) -> Vec<u64> {
    let count = |closing: &Closing| {
        let Content::Alert { held, .. } = &closing.content else { panic!("{closing:?}") };
        held.unwrap().count
    };
    closings.iter().map(count).collect()
}

fn key_of(seconds: u64) -> Fold {
    Fold { key: "k".to_owned(), window: Duration::from_secs(seconds) }
}

#[test]
fn the_window_counts_from_what_was_sent_and_never_goes_mute() {
    let mut folds = Folds::new(policy());
    let fold = key_of(10);
    // One a second for ever: sent at 0, then whenever a window is over.
    let sent: Vec<(u64, u64)> = (0..40)
        .filter_map(|second| judge(&mut folds, second * 1_000, "t", Some(&fold)).map(|held| (second, held)))
        .collect();
    assert_eq!(sent, [(0, 0), (10, 9), (20, 9), (30, 9)]);
    assert!(folds.due(START + 39_999, false).is_empty(), "the window is not over");
    assert!(folds.due(START + 40_500, false).is_empty(), "the next may carry it");
    assert_eq!(told(&folds.due(START + 41_000, false)), [9]);
    assert!(folds.due(START + 99_000, false).is_empty());
    assert!(folds.entries.is_empty(), "a window in which nothing was held back is forgotten");
}

#[test]
fn a_flood_sends_twenty_a_minute_and_then_the_count() {
    let mut folds = Folds::new(policy());
    let sent = (0..1_000).filter(|n| judge(&mut folds, n * 10, "t", None).is_some()).count();
    assert_eq!(sent, 20);
    assert_eq!(judge(&mut folds, 500, "another", None), Some(0), "another title is no part of it");
    assert_eq!(judge(&mut folds, 60_000, "t", None), Some(980));
    assert_eq!(judge(&mut folds, 60_001, "t", None), Some(0));
}

#[test]
fn what_could_not_be_queued_was_not_sent() {
    let mut folds = Folds::new(policy());
    let fold = key_of(10);
    assert_eq!(judge(&mut folds, 0, "t", Some(&fold)), Some(0));
    assert_eq!(judge(&mut folds, 1, "t", Some(&fold)), None);
    let verdict = folds.judge(START + 10_000, "s.js", &to("C1"), &alert("t"), Some(&fold));
    let Verdict::Send(Some(held), ticket) = verdict else { panic!("{verdict:?}") };
    assert_eq!(held.count, 1);
    folds.not_sent(ticket);
    assert_eq!(judge(&mut folds, 10_001, "t", Some(&fold)), Some(1), "still to be told");
    // The same for a closing message.
    judge(&mut folds, 10_002, "t", Some(&fold));
    let mut due = folds.due(START + 30_000, false);
    assert_eq!(told(&due), [1]);
    folds.not_told(due.remove(0));
    assert_eq!(told(&folds.due(START + 60_000, false)), [1]);
}

#[test]
fn a_clock_that_is_put_back_opens_a_new_window() {
    let mut folds = Folds::new(policy());
    let fold = key_of(10);
    assert_eq!(judge(&mut folds, 1_000_000, "t", Some(&fold)), Some(0));
    assert_eq!(judge(&mut folds, 1_000_001, "t", Some(&fold)), None);
    assert_eq!(judge(&mut folds, 0, "t", Some(&fold)), Some(1), "not mute until the clock has caught up");
}

#[test]
fn the_table_is_bounded_and_what_is_pushed_out_is_told() {
    let mut folds = Folds::new(FoldPolicy { max_keys: 100, ..policy() });
    for n in 0..1_000u64 {
        let fold = Fold { key: n.to_string(), window: Duration::from_secs(3_600) };
        judge(&mut folds, n, "t", Some(&fold));
        judge(&mut folds, n, "t", Some(&fold));
        assert!(folds.entries.len() <= 100);
    }
    let due = folds.due(START + 1_000, false);
    assert_eq!(due.len(), 100, "of what could not be told yet no more is kept than of what is held back");
    assert_eq!(told(&due).iter().sum::<u64>(), 900, "but all is counted");
    assert_eq!(told(&folds.due(START + 1_000, true)), [1; 100], "the rest at the end");
    let Content::Alert { alert, fields, .. } = &due[0].content else { panic!("{due:?}") };
    assert!(alert.text.len() < 2_010 && fields.len() == 10, "what is kept is cut");
}

#[test]
fn what_is_stored_and_restored_goes_on() {
    let mut folds = Folds::new(policy());
    let fold = key_of(10);
    for at in 0..5 {
        judge(&mut folds, at, "t", Some(&fold));
    }
    let mut changed = folds.changed();
    assert!(folds.changed().is_empty());
    let (key, stored) = changed.remove(0);
    let (entry, destination) = stored.unwrap();
    let json = serde_json::to_string(&entry).unwrap();
    assert!(!json.contains("xoxb"), "{json}");
    let mut folds = Folds::new(policy());
    folds.restore(key, serde_json::from_str(&json).unwrap(), destination);
    assert_eq!(judge(&mut folds, 9_000, "t", Some(&fold)), None);
    assert_eq!(told(&folds.due(START + 12_000, false)), [5]);
}

#[test]
fn what_a_full_outbox_refused_is_told_once_there_is_room() {
    let mut folds = Folds::new(policy());
    for at in 0..50 {
        folds.refused(START + at, "s.js", &to("C1"), &alert("t"));
    }
    assert!(folds.due(START + 10_900, false).is_empty(), "not yet");
    for round in 1..=3 {
        let due = folds.due(START + 11_000 * round, false);
        assert_eq!(told(&due), [50 + (round - 1)]);
        let Content::Alert { held: Some(held), .. } = &due[0].content else { panic!("{due:?}") };
        assert!(held.refused && !held.over_budget && held.since == START, "{held:?}");
        // Still no room, and one more is refused.
        due.into_iter().for_each(|closing| folds.not_told(closing));
        folds.refused(START + 11_000 * round, "s.js", &to("C1"), &alert("t"));
    }
    assert_eq!(told(&folds.due(START + 60_000, true)), [53]);
    assert!(folds.due(START + 99_000, false).is_empty());
}

#[test]
fn what_cannot_be_told_is_bounded_and_its_counts_are_kept() {
    let mut folds = Folds::new(FoldPolicy { max_keys: 3, ..policy() });
    let mut held = 0;
    for n in 0..50 {
        let fold = Fold { key: n.to_string(), window: Duration::from_secs(1_000) };
        assert!(judge(&mut folds, n, "t", Some(&fold)).is_some());
        assert!(judge(&mut folds, n, "t", Some(&fold)).is_none());
        held += 1;
        // Nothing of it finds room.
        folds.due(START + n, false).into_iter().for_each(|closing| folds.not_told(closing));
        assert!(folds.pushed_out.len() <= 3 && folds.entries.len() <= 3);
    }
    assert_eq!(told(&folds.due(START + 60_000, true)).iter().sum::<u64>(), held);
}
