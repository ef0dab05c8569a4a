//! `hooks.on` and `kfl`: which items come to a script, what is said of a bad filter, and what is counted.

use agent::hooks::{Backpressure, ScriptLimits};

use crate::rig::{PATIENCE, Rig, item};

#[test]
fn only_what_matches_comes_to_a_registered_hook() {
    let rig = Rig::new();
    let stats = rig.run(
        "hooks.on('itemCaptured', { filter: 'http && index >= 8' }, function (data) { console.log('a', data.index) });\n\
         hooks.on('onItemCaptured', { filter: \"dst.name == 'shop' && index == 9\" }, d => console.log('b', d.index));\n\
         hooks.on('itemCaptured', { filter: 'response.status >= 600' }, d => console.log('never'));",
        10,
    );
    assert_eq!(rig.log.console(), ["a 8", "a 9", "b 9"]);
    assert_eq!((stats.calls, stats.filtered, stats.errors), (3, 8 + 9 + 10, 0));
    assert_eq!(rig.log.about(), [] as [&str; 0]);
}

#[test]
fn a_plain_hook_beside_it_gets_every_item() {
    let rig = Rig::new();
    let stats = rig.run(
        "function onItemCaptured(d) { console.log('all', d.index) }\n\
         hooks.on('itemCaptured', { filter: 'index == 1' }, d => { console.log('one', d.index); throw new Error('x') });",
        3,
    );
    assert_eq!(rig.log.console(), ["all 0", "all 1", "one 1", "all 2"]);
    assert_eq!((stats.calls, stats.errors), (4, 1));
    assert!(rig.log.about()[0].contains("onItemCaptured threw Error: x"), "{:?}", rig.log.about());
}

#[test]
fn a_sample_is_even_and_counted() {
    let rig = Rig::new();
    let stats = rig.run(
        "hooks.on('itemCaptured', { sample: 0.25 }, d => console.log('a', d.index));\n\
         hooks.on('itemCaptured', { sample: 5, filter: 'index >= 10' }, d => console.log('b', d.index));\n\
         hooks.on('itemCaptured', d => {});",
        20,
    );
    assert_eq!(rig.log.console(), ["a 3", "a 7", "a 11", "b 14", "a 15", "a 19", "b 19"]);
    assert_eq!((stats.calls, stats.sampled, stats.filtered), (7 + 20, 15 + 8, 10));
}

#[test]
fn its_own_queue_drops_without_touching_the_others() {
    let mut rig = Rig::new();
    rig.backpressure = Backpressure::DropNewest;
    let script = rig.script(
        "a.js",
        "var began = Date.now(); while (Date.now() - began < 400); // items wait meanwhile\n\
         function onItemCaptured(d) { var t = Date.now(); while (d.index === 0 && Date.now() - t < 400); }\n\
         hooks.on('itemCaptured', { queue: 2 }, d => console.log(d.index));",
    );
    let (scripts, failures) = rig.load(&[script]);
    assert_eq!(failures, []);
    for n in 0..10 {
        scripts.deliver(&item(n));
    }
    assert!(scripts.drain(PATIENCE));
    scripts.deliver(&item(10));
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.shutdown(PATIENCE).remove(0);
    assert_eq!(rig.log.console(), ["0", "1", "10"], "what was worked on makes room");
    assert_eq!((stats.calls, stats.dropped), (11 + 3, 8));
}

#[test]
fn a_restarted_script_registers_again() {
    let mut rig = Rig::new();
    rig.limits = ScriptLimits { memory: 8 << 20, ..rig.limits };
    let stats = rig.run(
        "var kept = [];\nhooks.on('itemCaptured', { filter: 'index != 2' }, d => {\n\
         if (d.index === 1) for (;;) kept.push({});\n console.log(d.index, kept.length) });",
        5,
    );
    assert_eq!(rig.log.console(), ["0 0", "3 0", "4 0"]);
    assert_eq!((stats.restarts, stats.filtered), (1, 1));
}

#[test]
fn registering_wrongly_says_what_is_wrong() {
    for (call, wanted) in [
        ("hooks.on()", "TypeError: hooks.on: argument 1 (name) is missing"),
        ("hooks.on('itemCaptured', {})", "TypeError: hooks.on: argument 3 (fn) is missing"),
        (
            "hooks.on('itemCaptured', {}, 5)",
            "TypeError: hooks.on: argument 3 (fn) must be a function, not a number",
        ),
        (
            "hooks.on('itemCaptured', 'http', d => 1)",
            "TypeError: hooks.on: argument 2 (options) must be an object",
        ),
        (
            "hooks.on('podEvent', {}, d => 1)",
            "hooks.on: name: \"podEvent\" cannot be registered, itemCaptured can",
        ),
        (
            "hooks.on('itemCaptured', { fliter: '' }, d => 1)",
            "hooks.on: options: \"fliter\" is none of filter, sample, queue",
        ),
        (
            "hooks.on('itemCaptured', { filter: 5 }, d => 1)",
            "TypeError: hooks.on: options.filter must be a string",
        ),
        (
            "hooks.on('itemCaptured', { filter: 'http && statuscode > 1' }, d => 1)",
            "Error: hooks.on: options.filter: column 9: there is no name \"statuscode\"; did you mean status_code?",
        ),
        ("hooks.on('itemCaptured', { sample: 0 }, d => 1)", "options.sample: must be a fraction"),
        ("hooks.on('itemCaptured', { sample: NaN }, d => 1)", "options.sample: must be a fraction"),
        (
            "hooks.on('itemCaptured', { queue: 0.5 }, d => 1)",
            "options.queue: must be a number of items, 1 or more",
        ),
        ("hooks.on('itemCaptured', { get filter() { throw new Error('mine') } }, d => 1)", "Error: mine"),
    ] {
        let rig = Rig::new();
        let text = format!("try {{ {call}; console.log('nothing') }} catch (e) {{ console.log(String(e)) }}");
        rig.run(&text, 0);
        let said = rig.log.console();
        assert!(said.len() == 1 && said[0].contains(wanted), "{call}: {said:?}");
    }
    let rig = Rig::new();
    let late = rig.thrown("hooks.on('itemCaptured', d => 1)");
    assert_eq!(late, "Error: hooks.on: hooks are registered at the script's top level, not later");
    rig.run("try { for (let n = 0; n < 64; n++) hooks.on('itemCaptured', d => 1) } catch (e) { console.log(e.message) }", 1);
    assert!(rig.log.console().iter().any(|line| line == "hooks.on: a script can register 63 hooks"));
}

#[test]
fn match_and_validate_are_asked_of_data() {
    let rig = Rig::new();
    let lines = rig.body(
        "console.log(kfl.match('http && response.status >= 500', data), kfl.match('status_code < 500', data),\n\
           kfl.match(\"dst.port == 80 && path.startsWith('/p') && elapsed_time == 12500\", data),\n\
           kfl.match('', data), kfl.match('request.headers.x == \"1\"', { request: { headers: { X: '1' } } }));\n\
         console.log(kfl.validate('http'), kfl.validate('http &&', true), kfl.validate('htp'));",
    );
    assert_eq!(lines, ["true false true true true", "true false false"]);
    assert!(
        rig.log.about()[0].contains("kfl.validate: column 1: there is no name \"htp\"; did you mean http?"),
        "{:?}",
        rig.log.about()
    );
    assert_eq!(rig.log.about().len(), 1, "quiet is quiet");
    for (call, wanted) in [
        ("kfl.match()", "TypeError: kfl.match: argument 1 (query) is missing"),
        ("kfl.match('http')", "TypeError: kfl.match: argument 2 (data) is missing"),
        ("kfl.match('http', 5)", "TypeError: kfl.match: argument 2 (data) must be an object, not a number"),
        ("kfl.match('http &&', data)", "Error: kfl.match: query: column 8: syntax error"),
        ("kfl.validate()", "TypeError: kfl.validate: argument 1 (query) is missing"),
        ("var a = {}; a.a = a; kfl.match('http', a)", "circular"),
        ("kfl.match('http', { toJSON() { throw new Error('mine') } })", "Error: mine"),
        (
            "kfl.match('http', { get request() { return kfl.match('nope', {}) } })",
            "there is no name \"nope\"",
        ),
    ] {
        let thrown = rig.thrown(call);
        assert!(thrown.contains(wanted), "{call}: {thrown}");
    }
}

#[test]
fn filters_that_are_made_up_anew_each_time_stay_bounded_and_are_counted() {
    let rig = Rig::new();
    let stats = rig.run(
        "function onItemCaptured(d) { for (let n = 0; n < 20; n++) kfl.match('index == ' + n, d);\n\
                         for (let n = 0; n < 7; n++) kfl.match('index < ' + d.index * 7 + n, d) }",
        10,
    );
    assert_eq!(stats.errors, 0, "{:?}", rig.log.about());
    assert_eq!(stats.filters_evicted, 20 + 70 - 64);
}
