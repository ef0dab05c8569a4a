//! What scripts do wrong: loops, floods of memory, deep recursion, errors. None of it may reach anyone else.

use std::time::{Duration, Instant};

use agent::hooks::{Backpressure, ScriptLimits};

use crate::rig::{PATIENCE, Rig, item};

fn quick() -> Rig {
    let mut rig = small();
    rig.limits.call_time = Duration::from_millis(100);
    rig
}

/// Little memory, and time enough to fill it on a busy machine.
fn small() -> Rig {
    let mut rig = Rig::new();
    rig.limits = ScriptLimits { call_time: Duration::from_secs(30), memory: 8 << 20, ..rig.limits };
    rig
}

#[test]
fn an_endless_loop_is_ended_and_named_with_its_line() {
    let rig = quick();
    let stats = rig.run("function onItemCaptured(data) {\n  while(true){}\n}", 2);
    assert_eq!((stats.calls, stats.timeouts, stats.errors), (2, 2, 2));
    assert_eq!(
        rig.log.about(),
        [
            "script a.js: onItemCaptured exceeded its time limit of 100 ms at a.js:2",
            "script a.js: onItemCaptured exceeded its time limit of 100 ms at a.js:2 (again 1 times, 2 in all)",
        ]
    );
}

#[test]
fn a_loop_that_does_something_is_named_with_its_line() {
    let rig = quick();
    rig.run(
        "var n = 0;\nfunction count() {\n  n += 1;\n  for (;;) {\n    n = Math.sin(n);\n  }\n}\nfunction onItemCaptured() { count() }",
        1,
    );
    // QuickJS seems to ask whether to go on at the loop's jump or at the call in it, as it happens: one knows the call's line, the
    // other that of the function's first expression.
    let said = rig.log.about();
    let lines = [3, 5]
        .map(|line| format!("script a.js: onItemCaptured exceeded its time limit of 100 ms at a.js:{line}"));
    assert!(said.len() == 1 && lines.contains(&said[0]), "{said:?}");
}

#[test]
fn neither_catch_nor_finally_nor_a_promise_holds_a_loop_up() {
    for body in [
        "for (;;) { try { while (true) {} } catch (e) {} }",
        "try { for (;;); } finally { for (;;); }",
        "(async () => { for (;;) { try { await (async () => { for (;;); })() } catch (e) {} } })()",
        "function again() { Promise.resolve().then(again) } again()",
        "function* g() { try { yield 1 } finally { for (;;); } } for (const x of g()) for (;;);",
        "Error.prepareStackTrace = () => { for (;;); }; for (;;);",
        "throw { toString() { for (;;); }, get stack() { for (;;); } }",
        "throw new Proxy(new Error('x'), { get() { for (;;); } })",
        "/(a*)*b/.test('a'.repeat(100))",
        "JSON.stringify({ toJSON() { for (;;); } })",
        "console.log({ toJSON() { for (;;); } })",
        "vendor.slackBot('t', 'c', 'p', 't', 'c', { get a() { for (;;); } })",
    ] {
        let rig = quick();
        let began = Instant::now();
        let stats = rig.run(&format!("function onItemCaptured(data) {{ {body} }}"), 2);
        assert_eq!((stats.calls, stats.timeouts), (2, 2), "{body}: {:?}", rig.log.about());
        assert!(began.elapsed() < Duration::from_secs(10), "{body}");
        assert!(rig.log.about()[0].contains("onItemCaptured exceeded its time limit of 100 ms"), "{body}");
    }
}

#[test]
fn atomics_cannot_block_the_thread() {
    let rig = quick();
    let text = rig.thrown("Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)");
    assert_eq!(text, "TypeError: cannot block in this thread");
}

#[test]
fn memory_without_end_is_ended_named_and_recovered_from() {
    for (body, line) in [
        ("for (;;) {\n    kept.push({});\n  }", Some(4)),
        ("for (;;) {\n    kept.push('x'.repeat(1000) + kept.length);\n  }", Some(4)),
        ("var s = 'x';\n  for (;;)\n    { s = s + s; s.charCodeAt(1) }", Some(5)),
        ("for (;;) { try {\n    for (;;) kept.push([1, 2, 3]);\n  } catch (e) {} }", Some(4)),
        ("for (;;)\n    kept.push(new ArrayBuffer(1 << 20));", Some(4)),
    ] {
        let rig = small();
        let text = format!("var kept = [];\nfunction onItemCaptured(data) {{\n  {body}\n}}");
        let stats = rig.run(&text, 2);
        assert_eq!((stats.calls, stats.out_of_memory), (2, 2), "{body}: {:?}", rig.log.about());
        let said = &rig.log.about()[0];
        assert!(
            said.starts_with("script a.js: onItemCaptured exceeded its memory limit of 8 MiB at a.js:"),
            "{body}: {said}"
        );
        if let Some(line) = line {
            // Or where the function begins: see above.
            assert!([2, line].iter().any(|line| said.ends_with(&format!(":{line}"))), "{body}: {said}");
        }
    }
}

#[test]
fn after_running_out_of_memory_the_next_item_is_served() {
    let rig = small();
    let stats = rig.run(
        "var kept = [], calls = 0;\nfunction onItemCaptured(data) {\n\
         if (data.index === 1) for (;;) kept.push({});\n  calls++; console.log(data.index, calls, kept.length) }",
        4,
    );
    assert_eq!((stats.calls, stats.out_of_memory, stats.restarts), (4, 1, 1));
    assert_eq!(rig.log.console(), ["0 1 0", "2 1 0", "3 2 0"], "its state is fresh after the restart");
    assert!(rig.log.about().iter().any(|line| line.contains("was started again with fresh state")));
}

#[test]
fn memory_that_is_let_go_needs_no_restart() {
    let rig = small();
    let stats = rig.run(
        "var calls = 0;\nfunction onItemCaptured(data) { calls++;\n\
         if (data.index === 0) { var mine = []; for (;;) mine.push({}) }\n  console.log(calls) }",
        2,
    );
    assert_eq!((stats.out_of_memory, stats.restarts), (1, 0));
    assert_eq!(rig.log.console(), ["2"], "its state is kept");
}

#[test]
fn cycles_do_not_fill_the_heap_of_a_script_that_keeps_much() {
    let rig = small();
    let stats = rig.run(
        "var kept = []; for (var i = 0; i < 44000; i++) kept.push({});\n\
         function onItemCaptured() { for (var i = 0; i < 100; i++) { var a = { big: new ArrayBuffer(4096) }; a.a = a } }",
        200,
    );
    assert!(stats.heap > 11 << 19, "it does keep much: {}", stats.heap);
    assert_eq!((stats.calls, stats.errors), (200, 0), "{:?}", rig.log.about());
}

#[test]
fn memory_may_run_out_anywhere() {
    let text = "var kept = []; function onItemCaptured(data) { kept = [];\n\
                try { for (;;) kept.push('x'.repeat(STEP) + kept.length) } catch (e) {}\n\
                try { file.temp('a', '', '') } catch (e) {} try { console.log(data, new Error('x')) } catch (e) {}\n\
                try { vendor.slackBot('t', 'c', 'p', 't', 'c', {a: 1, b: {}}, {}) } catch (e) {}\n\
                try { file.read('gone') } catch (e) { String(e.stack) } throw new TypeError('last') }";
    for memory in (128 << 10..1 << 20).step_by(61_441) {
        let mut rig = Rig::new();
        rig.limits.memory = memory;
        let step = [3, 50, 977][memory % 3].to_string();
        let (scripts, failures) = rig.load(&[rig.script("a.js", &text.replace("STEP", &step))]);
        if let Some(failure) = failures.first() {
            assert!(failure.to_string().contains("memory limit of"), "{failure}");
            continue;
        }
        for n in 0..3 {
            scripts.deliver(&item(n));
        }
        assert!(scripts.drain(PATIENCE));
        let stats = scripts.shutdown(PATIENCE).remove(0);
        assert_eq!((stats.calls, stats.out_of_memory), (3, 3), "{memory}: {:?}", rig.log.about());
    }
}

#[test]
fn promise_jobs_that_were_cut_short_do_not_come_back() {
    let rig = quick();
    let stats = rig.run(
        "function onItemCaptured(data) {\n\
         function again() { Promise.resolve().then(again) }\n\
         if (data.index === 0) again(); else console.log('fine') }",
        2,
    );
    assert_eq!((stats.timeouts, stats.restarts), (1, 1));
    assert_eq!(rig.log.console(), ["fine"]);
}

#[test]
fn deep_recursion_ends_the_call_only() {
    let rig = quick();
    let stats = rig.run(
        "function deep(n) { return deep(n + 1) + 1 }\nfunction onItemCaptured(data) {\n\
         if (data.index < 5) deep(0);\n console.log('fine') }",
        6,
    );
    assert_eq!((stats.stack_overflows, stats.errors, stats.pauses), (5, 5, 0), "a deep stack never pauses");
    assert_eq!(rig.log.about()[0], "script a.js: onItemCaptured exceeded its stack limit of 1 MiB at a.js:1");
    assert_eq!(rig.log.console(), ["fine"]);
}

#[test]
fn native_recursion_is_within_the_threads_stack() {
    let rig = Rig::new();
    let stats = rig.run(
        "function onItemCaptured(data) {\n\
         if (data.index === 0) { var o = {}; for (var i = 0; i < 200000; i++) o = { o }; JSON.stringify(o) }\n\
         if (data.index === 1) JSON.parse('['.repeat(200000));\n\
         if (data.index === 2) new RegExp('('.repeat(100000));\n\
         if (data.index === 3) eval('('.repeat(100000));\n\
         console.log('fine') }",
        5,
    );
    assert_eq!((stats.calls, stats.errors), (5, 4), "{:?}", rig.log.about());
    assert_eq!(rig.log.console(), ["fine"]);
}

#[test]
fn a_script_that_throws_sees_the_next_item_and_is_logged_once() {
    let rig = Rig::new();
    let stats = rig.run("function onItemCaptured(data) {\n  return data.response.status.x.y;\n}", 300);
    assert_eq!((stats.calls, stats.errors, stats.pauses), (300, 300, 0), "throwing never pauses");
    let about = rig.log.about();
    assert_eq!(about.len(), 4, "two messages, each with its repeats: {about:?}");
    assert_eq!(
        about[0],
        "script a.js: onItemCaptured threw TypeError: cannot read property 'y' of undefined at onItemCaptured (a.js:2:10)"
    );
    assert!(about[3].ends_with("at a.js:2 (again 199 times, 200 in all)"), "{about:?}");
}

#[test]
fn whatever_is_thrown_is_described() {
    for (expression, message) in [
        ("throw 'a word'", "onItemCaptured threw a word"),
        ("throw null", "onItemCaptured threw null"),
        ("throw {a: 1}", r#"onItemCaptured threw {"a":1}"#),
        ("throw Symbol('x')", "onItemCaptured threw [symbol]"),
        (
            "throw new Error('two\\nlines')",
            "onItemCaptured threw Error: two\\nlines at onItemCaptured (a.js:2:11)",
        ),
        (
            "return Promise.reject(new Error('later'))",
            "onItemCaptured threw Error: later at onItemCaptured (a.js:2:",
        ),
        (
            "queueMicrotask(() => { throw new Error('micro') })",
            "onItemCaptured threw Error: micro at <anonymous> (a.js:2:",
        ),
        (
            "throw { get message() { throw 1 }, toJSON() { throw 2 } }",
            "onItemCaptured threw [object that has no JSON form]",
        ),
    ] {
        let rig = Rig::new();
        let stats = rig.run(&format!("function onItemCaptured() {{\n{expression}\n}}"), 1);
        assert_eq!(stats.errors, 1, "{expression}");
        let said = &rig.log.about()[0];
        assert!(said.starts_with(&format!("script a.js: {message}")), "{expression}: {said}");
    }
}

#[test]
fn a_rejection_that_is_handled_is_no_error() {
    let rig = Rig::new();
    let stats = rig.run(
        "async function fails() { throw new Error('x') }\n\
         async function onItemCaptured() { try { await fails() } catch (e) { console.log('caught ' + e.message) } }",
        1,
    );
    assert_eq!(stats.errors, 0, "{:?}", rig.log.about());
    assert_eq!(rig.log.console(), ["caught x"]);
}

#[test]
fn a_full_queue_drops_the_newest_and_counts() {
    let mut rig = Rig::new();
    rig.backpressure = Backpressure::DropNewest;
    rig.limits.queue = 10;
    rig.limits.call_time = Duration::from_secs(4);
    let (scripts, failures) = rig.load(&[rig.script(
        "a.js",
        "function onItemCaptured(data) { if (data.index === 0) for (;;); console.log(data.index) }",
    )]);
    assert_eq!(failures, []);
    scripts.deliver(&item(0));
    while scripts.stats()[0].waiting > 0 {
        std::thread::yield_now();
    }
    let began = Instant::now();
    for n in 1..=100 {
        scripts.deliver(&item(n));
    }
    assert!(began.elapsed() < Duration::from_secs(3), "delivering does not wait for the call");
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.shutdown(PATIENCE).remove(0);
    assert_eq!((stats.dropped, stats.calls), (90, 11));
    assert_eq!(rig.log.console(), (1..=10).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn in_a_replay_a_slow_script_loses_nothing() {
    let mut rig = Rig::new();
    rig.limits.queue = 3;
    let stats =
        rig.run("var n = 0; function onItemCaptured(data) { if (data.index !== n++) throw 'order' }", 5000);
    assert_eq!((stats.calls, stats.dropped, stats.errors), (5000, 0, 0));
}

#[test]
fn a_bad_script_does_not_touch_its_neighbours() {
    let mut rig = quick();
    rig.backpressure = Backpressure::DropNewest;
    let paths = [
        rig.script("loops.js", "function onItemCaptured() { while(true){} }"),
        rig.script("eats.js", "var a = []; function onItemCaptured() { for(;;) a.push({}) }"),
        rig.script("throws.js", "function onItemCaptured() { throw new Error('x') }"),
        rig.script("broken.js", "// Broken\nfunction onItemCaptured( {\n"),
        rig.script(
            "good.js",
            "var seen = 0; function onItemCaptured(data) { seen++; if (seen === 500) console.log('all') }",
        ),
    ];
    let (scripts, failures) = rig.load(&paths);
    assert_eq!(failures.len(), 1);
    assert_eq!(scripts.len(), 4);
    for n in 0..500 {
        scripts.deliver(&item(n));
    }
    let until = Instant::now() + PATIENCE;
    let hit = || {
        let stats = scripts.stats();
        stats.iter().any(|s| s.timeouts > 0) && stats.iter().any(|s| s.out_of_memory > 0)
    };
    while (rig.log.console().is_empty() || !hit()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(rig.log.console(), ["all"], "while the others are still at it");
    let stats = scripts.shutdown(Duration::from_secs(5));
    let of = |name: &str| stats.iter().find(|stats| stats.name == name).unwrap();
    assert!(of("loops.js").timeouts > 0 && of("eats.js").out_of_memory > 0);
    assert_eq!((of("good.js").calls, of("good.js").errors, of("good.js").dropped), (500, 0, 0));
    assert_eq!((of("throws.js").calls, of("throws.js").errors), (500, 500));
}

#[test]
fn a_script_that_keeps_running_out_of_time_is_paused() {
    let mut rig = quick();
    rig.limits.call_time = Duration::from_millis(200);
    rig.limits.pause_first = Duration::from_secs(1);
    let (scripts, _) = rig.load(&[rig.script(
        "a.js",
        "function onItemCaptured(data) { if (data.index < 1000) for(;;); console.log('back') }",
    )]);
    for n in 0..50 {
        scripts.deliver(&item(n));
    }
    assert!(scripts.drain(PATIENCE), "a pause holds no replay up");
    let stats = &scripts.stats()[0];
    assert_eq!((stats.calls, stats.skipped, stats.pauses, stats.paused), (3, 47, 1, true));
    std::thread::sleep(Duration::from_millis(1100));
    scripts.deliver(&item(1));
    assert!(scripts.drain(PATIENCE));
    std::thread::sleep(Duration::from_millis(2100));
    scripts.deliver(&item(1000));
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.shutdown(PATIENCE).remove(0);
    assert_eq!((stats.calls, stats.pauses, stats.paused), (5, 2, false));
    assert_eq!(rig.log.console(), ["back"]);
    let about = rig.log.about();
    assert!(about.iter().any(|line| line.contains("is paused for 1 s")), "{about:?}");
    assert!(about.iter().any(|line| line.contains("is paused for 2 s")), "{about:?}");
}

#[test]
fn shutdown_interrupts_what_runs() {
    let mut rig = Rig::new();
    rig.limits.call_time = Duration::from_secs(600);
    let (scripts, _) = rig.load(&[rig.script("a.js", "function onItemCaptured() { for(;;); }")]);
    scripts.deliver(&item(0));
    scripts.deliver(&item(1));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!scripts.drain(Duration::from_millis(50)), "it never comes to an end by itself");
    let began = Instant::now();
    let stats = scripts.shutdown(Duration::from_secs(10)).remove(0);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!((stats.timeouts, stats.dropped), (0, 1));
    assert!(rig.log.about().is_empty(), "a stop is no error: {:?}", rig.log.about());
}
