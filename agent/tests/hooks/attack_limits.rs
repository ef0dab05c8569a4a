//! Scripts that want too much: time, memory, stack, disk, entries, jobs. Each must be ended, and the next item served.
//!
//! `cargo xtask mutate hooks` weakens the runtime in one place after the other and demands that these tests notice.

use std::time::{Duration, Instant};

use agent::hooks::{Backpressure, ScriptStats};

use crate::rig::{PATIENCE, Rig, files_in, item};

fn quick() -> Rig {
    let mut rig = Rig::new();
    rig.limits.call_time = Duration::from_millis(200);
    rig.limits.memory = 16 << 20;
    // Pauses are another test's.
    rig.limits.strikes = 1000;
    rig
}

/// Runs an attack for item 0 and asks for a sign of life at item 1.
fn attacked(rig: &Rig, attack: &str) -> (ScriptStats, Duration) {
    let began = Instant::now();
    let text = format!(
        "function onItemCaptured(data) {{ if (data.index) return console.log('alive');\n{attack}\n}}"
    );
    let stats = rig.run(&text, 2);
    assert_eq!(
        rig.log.console().last().map(String::as_str),
        Some("alive"),
        "{attack}: {:?}",
        rig.log.about()
    );
    (stats, began.elapsed())
}

/// Each must run out of time, soon.
fn out_of_time(attacks: &[&str]) {
    for attack in attacks {
        let (stats, took) = attacked(&quick(), attack);
        assert_eq!(stats.timeouts, 1, "{attack}");
        assert!(took < Duration::from_secs(20), "{attack}: {took:?}");
    }
}

/// Each must run out of memory.
fn out_of_memory(attacks: &[&str]) {
    for attack in attacks {
        let mut rig = quick();
        rig.limits.call_time = Duration::from_secs(10);
        let (stats, _) = attacked(&rig, attack);
        assert_eq!((stats.out_of_memory, stats.timeouts), (1, 0), "{attack}: {:?}", rig.log.about());
    }
}

#[test]
fn no_loop_outlasts_its_time_whatever_it_is_made_of() {
    out_of_time(&[
        "eval('for (;;);')",
        "new Function('for (;;);')()",
        "/^(([a-z])+.)+[A-Z]([a-z])+$/.test('a'.repeat(60))",
        "'x'.repeat(40).replace(/(x+x+)+y/, '')",
        "vendor.slackBot('t', 'c', 'p', 't', 'c', { get a() { for (;;); } })",
        "vendor.slackBot('t', 'c', 'p', 't', 'c', new Proxy({}, { ownKeys() { for (;;); } }))",
        "prometheus.metric('m', '', 1, 1, new Proxy({ a: 1 }, { get() { for (;;); } }))",
        "console.log(new Proxy({ a: 1 }, { get() { for (;;); } }))",
        "utils.json2Yaml({ toJSON() { for (;;); } })",
        "throw { get stack() { for (;;); }, get message() { for (;;); }, toString() { for (;;); } }",
        "var e = new Error('x'); Object.defineProperty(e, 'stack', { get() { for (;;); } }); throw e",
        "jobs.schedule('j', '* * * * * *', () => 1); for (;;) jobs.run('j')",
        "[3, 2, 1].sort(() => { for (;;); })",
        "for (;;) new Array(1e4).fill(0).forEach(Math.sqrt)",
    ]);
}

#[test]
fn floods_of_promises_and_finalizers_are_ended() {
    out_of_time(&[
        "(function again() { Promise.resolve().then(again) })()",
        "(async () => { for (;;) await null })()",
        "(async function* g() { for (;;) yield 1 })().next(); (async () => { for await (const x of (async function* () { for (;;) yield 1 })()); })()",
        "queueMicrotask(function again() { queueMicrotask(again) })",
    ]);
    // A finalizer runs when the collector comes by: within some call, on that call's time.
    let rig = quick();
    let stats = rig.run(
        "var registry = new FinalizationRegistry(() => { for (;;); });\n\
         function onItemCaptured(data) { if (data.index === 0) { for (var i = 0; i < 10; i++) registry.register({}, i) }\n\
           if (data.index === 4) console.log('alive') }",
        5,
    );
    assert!(stats.timeouts >= 1 && rig.log.console() == ["alive"], "{stats:?}");
}

#[test]
fn no_heap_outgrows_its_limit_whatever_fills_it() {
    out_of_memory(&[
        "var a = [...(function* () { for (;;) yield 'x'.repeat(100) + Math.random() })()]",
        "var s = 'x'; for (;;) { s += s + s.length; s.charCodeAt(0) }",
        "var kept = []; for (;;) kept.push(new WeakRef({ big: new ArrayBuffer(10000) }), new ArrayBuffer(10000))",
        "var m = new Map(); for (var i = 0; ; i++) m.set(i, [i])",
        "console.log(JSON.stringify({ length: 1, a: new Array(4294967295) }))",
        "var a = []; a.length = 4294967295; a.fill({})",
        "String.raw({ raw: { length: 1e9 } }, ...new Array(60000).fill('x'.repeat(1000)))",
        "new Error('x'.repeat(1e6).repeat(100))",
    ]);
}

#[test]
fn a_heap_that_is_full_breaks_nothing_when_code_is_made() {
    // QuickJS's compiler does not bear a failed allocation: where each of them fails once, it crashes.
    let mut rig = quick();
    rig.limits.memory = 2 << 20;
    rig.limits.strikes = 100_000;
    rig.limits.call_time = Duration::from_secs(10);
    let text = "const code = 'if (a) { for (var i = 0; i < 9; i++) try { f(i) } catch (e) { g(e) } } else while (b) h();'.repeat(40);\n\
                function onItemCaptured(data) {\n\
                  if (data.index === 600) return console.log('alive');\n\
                  const filled = new ArrayBuffer(2097152 - 600000 + data.index * 1000); new Function(code)(); return filled }";
    let stats = rig.run(text, 601);
    assert_eq!((rig.log.console(), stats.timeouts), (vec!["alive".to_owned()], 0), "{:?}", rig.log.about());
    assert!(stats.out_of_memory > 100 && stats.calls == 601, "{stats:?}");
}

#[test]
fn recursion_ends_within_the_stack() {
    for attack in [
        "(function f() { f() })()",
        "var o = {}; for (var i = 0; i < 300000; i++) o = { o }; console.log(o); JSON.stringify(o)",
        "var o = {}; for (var i = 0; i < 300000; i++) o = [o]; utils.json2Yaml(o)",
        "JSON.parse('['.repeat(300000))",
        "({ toJSON() { return JSON.stringify(this) } }).toJSON()",
        "new Proxy({}, { get(t, k, r) { return r[k] } }).x",
        "var p = {}; for (var i = 0; i < 100000; i++) p = new Proxy(p, {}); p.x",
        "eval('(' .repeat(200000))",
        "new RegExp('('.repeat(200000) + ')'.repeat(200000))",
        "'a'.replace(/a/, function f(m) { return 'a'.replace(/a/, f) })",
        "var e = new Error('x'); e.toString = function () { return String(this) }; throw { toString: () => String(e), message: String(e) }",
    ] {
        let mut rig = quick();
        rig.limits.memory = 256 << 20;
        rig.limits.call_time = Duration::from_secs(10);
        let stats = attacked(&rig, attack).0;
        assert_eq!((stats.errors, stats.timeouts), (1, 0), "{attack}: {:?}", rig.log.about());
    }
}

#[test]
fn the_thread_cannot_be_put_to_sleep() {
    let rig = quick();
    let began = Instant::now();
    for call in [
        "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000)",
        "Atomics.wait(new BigInt64Array(new SharedArrayBuffer(8)), 0, 0n, 5000)",
    ] {
        assert_eq!(rig.thrown(call), "TypeError: cannot block in this thread");
    }
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[test]
fn errors_that_bite_are_described_all_the_same() {
    for (attack, said) in [
        (
            "throw { get stack() { throw 1 }, get message() { throw 2 }, get name() { throw 3 }, toJSON() { throw 4 } }",
            "[object that has no JSON form]",
        ),
        (
            "var e = new Error('x'); for (const k of ['stack', 'message', 'name']) Object.defineProperty(e, k, { get() { throw e } }); throw e",
            "Error",
        ),
        (
            "var e = new Error('x'); e.name = Symbol('s'); e.message = { toString() { throw 1 } }; throw e",
            "Error",
        ),
        ("var e = new Error('x'.repeat(1e6)); throw e", "Error: xxx"),
        ("var e = new Error('\\ud800'); e.stack = 'at \\udfff'; throw e", "Error: \u{fffd}"),
        ("var r = Proxy.revocable({}, {}); r.revoke(); throw r.proxy", "[object that has no JSON form]"),
        ("var r = Proxy.revocable(function () {}, {}); r.revoke(); console.log(r.proxy); throw 5", "5"),
        ("Error.prepareStackTrace = () => { throw 1 }; throw new Error('p')", ""),
        (
            "return Promise.reject({ get stack() { throw 1 }, toJSON() { throw 2 } })",
            "[object that has no JSON form]",
        ),
        ("return { get then() { throw new Error('then') } }", ""),
        ("return { then() { throw new Error('then') } }", ""),
    ] {
        let rig = quick();
        attacked(&rig, attack);
        let about = rig.log.about();
        let begins = format!("script a.js: onItemCaptured threw {said}");
        assert!(said.is_empty() || about[0].starts_with(&begins), "{attack}: {about:?}");
        assert!(
            about.iter().all(|line| !line.contains("panicked") && line.len() < 20_000),
            "{attack}: {about:?}"
        );
    }
}

#[test]
fn no_helper_takes_a_text_without_end() {
    let mut rig = Rig::new();
    rig.limits.memory = 512 << 20;
    rig.limits.call_time = Duration::from_secs(20);
    let huge = "var huge = 'x'.repeat(64 << 20), half = 'x'.repeat(10 << 20);";
    for call in [
        "file.write('f', huge)",
        "file.append('f', huge)",
        "file.read(huge)",
        "hash.sha256(huge)",
        "utils.json2Yaml(huge)",
        "vendor.slack('http://x', huge, '', '')",
        "vendor.slackBot('t', 'c', 'p', huge, 'c')",
        "vendor.slackBot('t', 'c', 'p', 't', 'c', { f: huge })",
        "vendor.slackBot('t', 'c', 'p', 't', 'c', { [huge]: 1 })",
        "vendor.slackBot('t', 'c', 'p', 't', 'c', { a: half, b: half, d: half, e: half })",
        "vendor.webhook('POST', 'http://127.0.0.1:1/', huge)",
        "vendor.webhook('POST', 'http://127.0.0.1:1/', [huge])",
        "jobs.schedule(huge, '* * * * * *', () => 1)",
        "jobs.schedule('a', huge, () => 1)",
        "prometheus.metric(huge, '', 1, 1)",
        "prometheus.metric('m', huge, 1, 1)",
        "prometheus.metric('m', '', 1, 1, { l: huge })",
        "pcap.path(huge)",
    ] {
        let said = rig.thrown(&format!("{huge} {call}"));
        let bounded =
            ["that are allowed", "more than 32 MiB together"].iter().any(|bound| said.contains(bound));
        assert!(bounded && said.len() < 300, "{call}: {}", said.chars().take(300).collect::<String>());
    }
    let said = rig.thrown("file.write('f', 'x'.repeat(20 << 20))");
    assert!(said.contains("is 20971520 bytes long, more than the 16 MiB that are allowed"), "{said}");
    let lines = rig.body(&format!("{huge} console.log(huge, huge, huge)"));
    assert!(lines[0].len() < 20_000);
}

#[test]
fn no_helper_counts_to_the_end_of_a_list_without_end() {
    let rig = quick();
    let began = Instant::now();
    for (call, said) in [
        ("pcap.snapshot(new Array(4294967295))", "pcap.snapshot: streams: has more than 256 entries"),
        (
            "var a = []; a[4294967294] = '1'; pcap.snapshot(a)",
            "pcap.snapshot: streams: has more than 256 entries",
        ),
        ("pcap.snapshot(new Array(300).fill('1'))", "pcap.snapshot: streams: has more than 256 entries"),
        (
            "vendor.slackBot('t', 'c', 'p', 't', 'c', new Array(4294967295))",
            "argument 6 (fields) must be an object, not an array",
        ),
        (
            "var o = {}; for (var i = 0; i < 300; i++) o['k' + i] = 1; vendor.slackBot('t', 'c', 'p', 't', 'c', o)",
            "fields: has more than 256 entries",
        ),
        (
            "for (var i = 0; i < 5000; i++) prometheus.metric('m', '', 1, 1, { i })",
            "the script has 1000 series already",
        ),
        (
            "for (var i = 0; i < 5000; i++) jobs.schedule(i, '0 0 0 29 2 *', () => 1)",
            "100 jobs are scheduled, the most a script may have",
        ),
    ] {
        let text = rig.thrown(call);
        assert!(text.contains(said), "{call}: {text}");
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn no_script_fills_the_disk() {
    let mut rig = Rig::new();
    rig.limits.file_quota = 1 << 20;
    rig.limits.call_time = Duration::from_secs(20);
    let mut most = 0;
    for attack in [
        "for (var i = 0; i < 5000; i++) file.write('f' + i, 'x'.repeat(9000))",
        "for (var i = 0; i < 5000; i++) file.append('grow', 'x'.repeat(9000))",
        "for (var i = 0; i < 5000; i++) file.temp('t', '', '')",
        "for (var i = 0; i < 5000; i++) file.mkdirTemp()",
        "file.write('a', 'x'.repeat(300000)); for (var i = 0; i < 50; i++) file.copy('a', 'b' + i)",
        "file.write('a', 'x'.repeat(900000)); for (var i = 0; i < 50; i++) file.copy(pcap.path('1'), 'p' + i)",
    ] {
        let said = rig.thrown(attack);
        assert!(said.contains("quota of 1 MiB is used up"), "{attack}: {said}");
        let size = |name: &String| std::fs::metadata(rig.data().join(name)).unwrap().len().max(4096);
        most = most.max(files_in(&rig.data()).iter().map(size).sum::<u64>());
        std::fs::remove_dir_all(rig.data()).unwrap();
    }
    assert!(most <= 1 << 20, "{most}");
}

#[test]
fn a_script_that_never_learns_is_left_alone_for_longer_and_longer() {
    let mut rig = Rig::new();
    rig.limits.call_time = Duration::from_millis(20);
    rig.limits.pause_first = Duration::from_millis(300);
    rig.backpressure = Backpressure::DropNewest;
    let (scripts, _) = rig.load(&[rig.script("a.js", "function onItemCaptured() { for (;;); }")]);
    let end = Instant::now() + Duration::from_secs(3);
    let mut n = 0;
    while Instant::now() < end {
        scripts.deliver(&item(n));
        n += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    let stats = scripts.shutdown(PATIENCE).remove(0);
    assert!(stats.calls < 20 && stats.pauses >= 2 && stats.skipped > 100, "{stats:?}");
    assert!(stats.busy < Duration::from_secs(2), "most of the time it was not run: {stats:?}");
}

#[test]
fn a_queue_takes_no_more_than_its_bound() {
    let mut rig = Rig::new();
    rig.backpressure = Backpressure::DropNewest;
    rig.limits.queue = 50;
    rig.limits.call_time = Duration::from_secs(20);
    let (scripts, _) = rig.load(&[rig.script("a.js", "function onItemCaptured() { for (;;); }")]);
    for n in 0..5000 {
        scripts.deliver(&item(n));
    }
    assert!(scripts.stats()[0].waiting <= 50 && scripts.stats()[0].dropped >= 4949);
}
