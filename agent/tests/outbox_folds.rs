//! Folding as a user sees it: floods become a handful of messages whose counts add up, keys have their windows, and a
//! restart forgets nothing that matters.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

#[expect(dead_code, reason = "each test crate uses a part of what they share")]
mod outbox_common;

use std::time::{Duration, Instant};

use agent::outbox::{Delivery, DurableOutbox, Fold, FoldPolicy, Outbox as _, OutboxConfig};
use outbox_common::{Bench, bot, quick};
use testkit::slack::FakeConfig;

const CHANNEL: &str = FakeConfig::CHANNEL;

fn bench(flood_limit: u32, window: u64) -> Bench {
    let flood_window = Duration::from_millis(window);
    let fold = FoldPolicy { flood_limit, flood_window, ..FoldPolicy::default() };
    Bench::new(FakeConfig::default(), OutboxConfig { fold, ..quick() })
}

fn texts(bench: &Bench) -> Vec<String> {
    let text = |m: &testkit::slack::Message| m.attachments[0]["text"].as_str().unwrap().to_owned();
    bench.fake.messages().iter().map(text).collect()
}

/// How many alerts a message stands for: itself, and those that it says were held back.
fn stands_for(text: &str) -> u64 {
    let count = |after: &str| -> Option<u64> {
        let rest = text.split(after).nth(1)?;
        rest.split(' ').next()?.replace(',', "").parse().ok()
    };
    match (count("_held back: "), count("_the last of ")) {
        (Some(held), _) => 1 + held,
        // A closing message is made of one of those it counts.
        (None, Some(held)) => held,
        (None, None) => 1,
    }
}

fn keyed(text: &str, key: &str, millis: u64) -> Delivery {
    let Delivery::SlackBot { token, channel, alert, fields, files, .. } = bot(CHANNEL, text, &[]) else {
        unreachable!("bot() makes one")
    };
    let fold = Some(Fold { key: key.to_owned(), window: Duration::from_millis(millis) });
    Delivery::SlackBot { token, channel, alert, fields, files, fold }
}

fn wait_for(bench: &Bench, messages: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let texts = texts(bench);
        if texts.len() >= messages {
            return texts;
        }
        assert!(Instant::now() < end, "{texts:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_flood_becomes_a_handful_whose_counts_add_up() {
    const ALL: u64 = 50_000;
    let bench = bench(20, 1_000);
    for n in 0..ALL {
        bench.outbox.enqueue("s.js", bot(CHANNEL, &n.to_string(), &[])).unwrap();
    }
    bench.drain();
    let texts = texts(&bench);
    let told: u64 = texts.iter().map(|text| stands_for(text)).sum();
    assert_eq!(told, ALL, "{texts:?}");
    let stats = bench.outbox.stats();
    assert!(stats.suppressed > ALL * 9 / 10, "{stats:?}");
    assert_eq!(stats.sent, stats.queued);
    // The burst may have taken some of these windows.
    assert!(texts.len() < 21 * 30, "{} messages", texts.len());
}

#[test]
fn a_window_that_ends_with_some_held_back_says_so_though_none_comes() {
    let bench = bench(0, 1_000);
    for n in 0..5 {
        bench.outbox.enqueue("s.js", keyed(&format!("n{n}"), "k", 500)).unwrap();
    }
    let texts = wait_for(&bench, 2);
    assert_eq!(texts[0], "n0");
    assert!(texts[1].starts_with("n4\n_the last of 4 more like this, held back since 20"), "{}", texts[1]);
    // Nothing more is told, and a later one is not mute.
    std::thread::sleep(Duration::from_millis(1_500));
    bench.outbox.enqueue("s.js", keyed("n5", "k", 500)).unwrap();
    let texts = wait_for(&bench, 3);
    assert_eq!(texts[2..], ["n5"]);
    let stats = bench.outbox.stats();
    assert_eq!((stats.suppressed, stats.queued), (4, 3));
}

#[test]
fn keys_scripts_and_channels_are_told_apart() {
    let bench = bench(0, 1_000);
    for (script, key) in [("a.js", "k"), ("a.js", "l"), ("b.js", "k"), ("a.js", "k")] {
        bench.outbox.enqueue(script, keyed(&format!("{script} {key}"), key, 60_000)).unwrap();
    }
    bench.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(300)).await });
    assert_eq!(texts(&bench), ["a.js k", "a.js l", "b.js k"]);
    assert_eq!(bench.outbox.stats().suppressed, 1);
}

#[test]
fn a_run_that_ends_tells_what_it_held_back_and_the_next_remembers_the_window() {
    let mut bench = bench(0, 1_000);
    for n in 0..3 {
        bench.outbox.enqueue("s.js", keyed(&format!("n{n}"), "k", 60_000)).unwrap();
    }
    bench.runtime.block_on(bench.outbox.shutdown(Duration::from_secs(10)));
    let told = texts(&bench);
    assert_eq!(told.len(), 2);
    assert!(told[1].contains("the last of 2 more"), "{}", told[1]);
    let folder = bench.folder.path().join("outbox");
    let config = OutboxConfig { slack_api_url: bench.fake.api_url(), folder, ..quick() };
    bench.outbox = DurableOutbox::open(
        OutboxConfig { folder: bench.folder.path().join("elsewhere"), ..config.clone() },
        bench.runtime.handle(),
    )
    .unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match DurableOutbox::open(config.clone(), bench.runtime.handle()) {
            Ok(outbox) => break bench.outbox = outbox,
            Err(error) => assert!(Instant::now() < end, "{error:#}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bench.outbox.enqueue("s.js", keyed("n3", "k", 60_000)).unwrap();
    assert_eq!(bench.outbox.stats().suppressed, 1, "still in the window that the closing message opened");
}

#[test]
fn budgets_fold_what_is_past_them_and_tell() {
    let fold = FoldPolicy { flood_limit: 0, script_budget: 10, total_budget: 15, ..FoldPolicy::default() };
    let bench = Bench::new(FakeConfig::default(), OutboxConfig { fold, ..quick() });
    for n in 0..12 {
        for script in ["a.js", "b.js"] {
            bench.outbox.enqueue(script, bot(CHANNEL, &format!("{script} {n}"), &[])).unwrap();
        }
    }
    bench.drain();
    let texts = texts(&bench);
    assert_eq!(texts.len(), 15 + 2, "{texts:?}");
    assert_eq!(texts.iter().map(|text| stands_for(text)).sum::<u64>(), 24);
    assert!(texts[15..].iter().all(|text| text.contains("past the budget")), "{texts:?}");
    assert_eq!(bench.outbox.stats().suppressed, 9);
}
