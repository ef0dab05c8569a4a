//! Hot reload: what is edited, added or removed takes effect, and nothing of other scripts is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::hooks::{Backpressure, Scripts};

use crate::rig::{PATIENCE, Rig, item};

/// Until an edit takes effect: the contract's 2 s, and something for a busy machine.
const SOON: Duration = Duration::from_secs(8);

fn watched(rig: &Rig, paths: &[PathBuf]) -> Scripts {
    let (scripts, failures) = rig.load(paths);
    assert_eq!(failures, []);
    scripts.watch().unwrap();
    scripts
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn said(rig: &Rig, what: &str) -> bool {
    rig.log.about().iter().any(|line| line.contains(what))
}

/// The last line that a script logs for an item.
fn answer(rig: &Rig, scripts: &Scripts) -> String {
    scripts.deliver(&item(7));
    assert!(scripts.drain(PATIENCE));
    rig.log.console().pop().unwrap_or_default()
}

#[test]
fn an_edit_takes_effect_and_others_keep_their_state() {
    let rig = Rig::new();
    let hook = |text: &str| format!("var n = 0; function onItemCaptured() {{ n++; console.log({text}) }}");
    let edited = rig.script("a.js", &hook("'one ' + n"));
    let kept = rig.script("b.js", "var n = 0; function onItemCaptured() { n++; file.write('n', n) }");
    let scripts = watched(&rig, &[edited, kept]);
    assert_eq!(answer(&rig, &scripts), "one 1");
    let began = Instant::now();
    rig.script("a.js", &hook("'two ' + n"));
    until("the edit", || answer(&rig, &scripts).starts_with("two"));
    println!("an edit took effect after {} ms", began.elapsed().as_millis());
    assert!(said(&rig, "was edited: what it says now runs"));
    assert_eq!(scripts.len(), 2);
    let stats = scripts.shutdown(PATIENCE);
    assert_eq!((stats[0].reloads, stats[1].reloads), (1, 0));
    assert_eq!(stats[0].calls, stats[1].calls, "counters go on through an edit");
    let n = std::fs::read_to_string(rig.dir.path().join("data/b.js/n")).unwrap();
    assert_eq!(n, stats[1].calls.to_string(), "the other's state was kept all the time");
}

#[test]
fn an_edit_that_does_not_run_leaves_the_version_before() {
    let rig = Rig::new();
    let path = rig.script("a.js", "function onItemCaptured() { console.log('one') }");
    let scripts = watched(&rig, &[path]);
    for (text, cause) in [
        ("function onItemCaptured( {", ":1:27: SyntaxError"),
        ("", "is empty"),
        ("null.x", "its top level threw TypeError"),
        ("for (;;);", "exceeded its time limit"),
    ] {
        rig.script("a.js", text);
        let line = "was edited, but does not run, so the version before goes on: ";
        until(text, || rig.log.about().iter().any(|said| said.contains(line) && said.contains(cause)));
        assert_eq!(answer(&rig, &scripts), "one");
    }
    rig.script("a.js", "function onItemCaptured() { console.log('mended') }");
    until("the mended one", || answer(&rig, &scripts) == "mended");
}

#[test]
fn a_folder_is_followed() {
    let rig = Rig::new();
    let hook = |text: &str| format!("function onItemCaptured() {{ console.log('{text}') }}");
    let folder = rig.dir.path().join("scripts");
    let scripts = watched(&rig, &[folder]);
    assert!(scripts.is_empty());
    let first = rig.script("a.js", &hook("a"));
    rig.script("broken.js", "function (");
    rig.script("lib.mjs", "for (;;);");
    until("the added one", || scripts.len() == 1);
    until("the broken one", || said(&rig, "script broken.js: does not run: "));
    assert_eq!(answer(&rig, &scripts), "a");
    rig.script("b.js", &hook("b"));
    until("the second", || scripts.len() == 2);
    std::fs::remove_file(&first).unwrap();
    until("the removal", || scripts.len() == 1);
    assert!(said(&rig, "script a.js: its file is gone: it ends"));
    assert_eq!(answer(&rig, &scripts), "b");
    rig.script("a.js", &hook("a again"));
    until("its return", || scripts.len() == 2);
    rig.script("broken.js", &hook("mended"));
    until("the mended one", || scripts.len() == 3);
    scripts.deliver(&item(1));
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.shutdown(PATIENCE);
    let calls = |name: &str| stats.iter().find(|stats| stats.name == name).unwrap().calls;
    assert_eq!(
        (calls("a.js"), calls("b.js"), calls("broken.js")),
        (2, 2, 1),
        "a script that comes back goes on counting"
    );
}

#[test]
fn a_module_that_changes_reloads_those_that_import_it() {
    let rig = Rig::new();
    rig.script("lib.mjs", "export const word = 'one';");
    let text = "import { word } from './lib.mjs';\nexport function onItemCaptured() { console.log(word) }";
    let scripts =
        watched(&rig, &[rig.script("a.js", text), rig.script("b.js", "function onItemCaptured() {}")]);
    assert_eq!(answer(&rig, &scripts), "one");
    rig.script("lib.mjs", "export const word = 'two';");
    until("the module", || answer(&rig, &scripts) == "two");
    std::fs::remove_file(rig.dir.path().join("scripts/lib.mjs")).unwrap();
    until("the missing module", || said(&rig, "so the version before goes on"));
    rig.script("lib.mjs", "export const word = 'three';");
    until("the module that came back", || answer(&rig, &scripts) == "three");
    let stats = scripts.shutdown(PATIENCE);
    assert_eq!((stats[0].reloads, stats[1].reloads), (2, 0));
}

/// As the kubelet updates a ConfigMap volume: a new folder, and `..data` renamed onto it.
fn publish(volume: &Path, version: u32, files: &[(&str, String)]) {
    let folder = format!("..{version}");
    std::fs::create_dir(volume.join(&folder)).unwrap();
    for (name, text) in files {
        std::fs::write(volume.join(&folder).join(name), text).unwrap();
    }
    std::os::unix::fs::symlink(&folder, volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (name, _) in files {
        // Err: it is there from the version before.
        let _ = std::os::unix::fs::symlink(Path::new("..data").join(name), volume.join(name));
    }
    if version > 1 {
        std::fs::remove_dir_all(volume.join(format!("..{}", version - 1))).unwrap();
    }
}

#[test]
fn a_config_map_that_is_swapped_takes_effect() {
    let rig = Rig::new();
    let volume = rig.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let files = |word: &str| {
        [
            (
                "a.js",
                format!(
                    "import {{ word }} from './lib.mjs';\nexport function onItemCaptured() {{ console.log('{word}', word) }}"
                ),
            ),
            ("lib.mjs", format!("export const word = '{word}';")),
        ]
    };
    publish(&volume, 1, &files("one"));
    let scripts = watched(&rig, std::slice::from_ref(&volume));
    assert_eq!(answer(&rig, &scripts), "one one");
    publish(&volume, 2, &files("two"));
    until("the swap", || answer(&rig, &scripts) == "two two");
    publish(&volume, 3, &files("three"));
    until("the second swap", || answer(&rig, &scripts) == "three three");
}

#[test]
fn what_waits_is_taken_over_and_a_long_call_is_interrupted() {
    let mut rig = Rig::new();
    rig.limits.call_time = Duration::from_secs(60);
    rig.backpressure = Backpressure::DropNewest;
    let path =
        rig.script("a.js", "function onItemCaptured(data) { console.log('old', data.index); for (;;); }");
    let scripts = watched(&rig, &[path]);
    for n in 0..5 {
        scripts.deliver(&item(n));
    }
    until("the long call", || rig.log.console() == ["old 0"]);
    rig.script("a.js", "function onItemCaptured(data) { console.log('new', data.index) }");
    until("the rest", || rig.log.console().len() == 5);
    assert_eq!(rig.log.console(), ["old 0", "new 1", "new 2", "new 3", "new 4"]);
    let stats = scripts.shutdown(PATIENCE).remove(0);
    assert_eq!((stats.dropped, stats.timeouts, stats.reloads), (0, 0, 1));
}

/// What waits was matched by the old version's filters; the numbers of the new one's mean other functions.
#[test]
fn what_waits_is_asked_of_the_filters_of_the_new_version() {
    let mut rig = Rig::new();
    rig.limits.call_time = Duration::from_secs(60);
    rig.backpressure = Backpressure::DropNewest;
    let on = |filter: &str, text: &str| {
        format!("hooks.on('itemCaptured', {{ filter: '{filter}' }}, data => {{ {text} }});\n")
    };
    let old = on("index >= 0", "console.log('old', data.index); for (;;);");
    let path = rig.script("a.js", &old);
    let scripts = watched(&rig, &[path]);
    for n in 0..5 {
        scripts.deliver(&item(n));
    }
    until("the long call", || rig.log.console() == ["old 0"]);
    let odd = on("index % 2 == 1", "console.log('odd', data.index)");
    rig.script("a.js", &(odd + &on("index >= 3", "console.log('late', data.index)")));
    until("the rest", || rig.log.console().len() == 5);
    assert_eq!(rig.log.console(), ["old 0", "odd 1", "odd 3", "late 3", "late 4"]);
    drop(scripts);
}

#[test]
fn what_an_old_version_published_and_scheduled_goes_with_it() {
    let rig = Rig::new();
    let path = rig.script(
        "a.js",
        "prometheus.metric('old', '', 2, 1); prometheus.metric('both', '', 2, 1);\n\
         jobs.schedule('tick', '* * * * * *', () => console.log('old job'));",
    );
    let scripts = watched(&rig, std::slice::from_ref(&path));
    assert!(scripts.prometheus().contains("old{script=\"a.js\"} 1"));
    rig.script(
        "a.js",
        "prometheus.metric('both', '', 2, 5); function onItemCaptured() { console.log(jobs.list()) }",
    );
    until("the edit", || answer(&rig, &scripts) == "[]");
    let published = scripts.prometheus();
    assert!(published.contains("both{script=\"a.js\"} 5") && !published.contains("old{"), "{published}");
    let jobs = || rig.log.console().iter().filter(|line| *line == "old job").count();
    let before = jobs();
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(jobs(), before);
    std::fs::remove_file(&path).unwrap();
    until("the removal", || scripts.is_empty());
    assert!(!scripts.prometheus().contains("both{"));
}

/// Threads, open descriptors, and resident memory in KiB of this process.
fn held() -> (usize, usize, u64) {
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (count("/proc/self/task"), count("/proc/self/fd"), rss.trim().trim_end_matches(" kB").parse().unwrap())
}

/// Waits until no more threads and descriptors are held than that: other tests of this process come and go.
fn settles(least: (usize, usize)) -> (usize, usize, u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = held();
        if (now.0 <= least.0 && now.1 <= least.1) || Instant::now() > end {
            return now;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `REMORA_RELOADS=1000 cargo test -p agent --test hooks -- reloads_under_load --nocapture`: as many as a release is to bear.
/// Alone in its process, threads, descriptors and memory are held to what they were.
#[test]
fn reloads_under_load_lose_no_item_of_others_and_leak_nothing() {
    let reloads: u64 = std::env::var("REMORA_RELOADS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let alone = std::env::var_os("REMORA_RELOADS").is_some();
    let mut rig = Rig::new();
    rig.backpressure = Backpressure::Wait;
    // The looks are what takes the time.
    rig.limits.look = Duration::from_millis(20);
    let text = |version: u64| {
        format!(
            "var kept = []; for (var i = 0; i < 1000; i++) kept.push({{ i }});\n\
             jobs.schedule('j', '* * * * * *', () => kept.push(1)); prometheus.metric('version', '', 2, {version});\n\
             var seen = 0; function onItemCaptured(data) {{ if (!seen++) console.log('{version}') }}"
        )
    };
    let other =
        "var next = 0; function onItemCaptured(data) { if (data.index !== next++) throw new Error('lost') }";
    let scripts =
        Arc::new(watched(&rig, &[rig.script("edited.js", &text(0)), rig.script("other.js", other)]));
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = {
        let (scripts, stop, sent) = (Arc::clone(&scripts), Arc::clone(&stop), Arc::clone(&sent));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    scripts.deliver(&item(sent.fetch_add(1, Ordering::Relaxed)));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let mut before = held();
    let mut slowest = Duration::ZERO;
    for version in 1..=reloads {
        let began = Instant::now();
        rig.script("edited.js", &text(version));
        let wanted = version.to_string();
        until("the edit", || rig.log.console().last() == Some(&wanted));
        slowest = slowest.max(began.elapsed());
        if version == reloads / 10 + 1 {
            before = held();
        }
    }
    let after = settles((before.0, before.1));
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.stats();
    let sent = sent.load(Ordering::Relaxed);
    println!(
        "{reloads} reloads, {sent} items; the slowest edit took effect after {} ms; threads, descriptors, RSS in KiB: \
         {before:?} then {after:?}",
        slowest.as_millis()
    );
    assert_eq!(
        stats.iter().map(|s| (s.reloads, s.calls - s.jobs_passed, s.errors, s.dropped)).collect::<Vec<_>>(),
        [(reloads, sent, 0, 0), (0, sent, 0, 0)]
    );
    if alone {
        assert!(after.0 <= before.0 && after.1 <= before.1, "{before:?} then {after:?}");
        assert!(after.2 < before.2 + 32 * 1024, "RSS grew: {before:?} then {after:?}");
    }
}
