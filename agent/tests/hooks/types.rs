//! `scripts/remora.d.ts` against the runtime: every helper by its name, what it must be given, and what it looks at.

use std::collections::BTreeSet;

use agent::hooks::{Declared, declared};

use crate::rig::Rig;

/// Called at the top level only; the tests of filters have it.
const ELSEWHERE: [&str; 1] = ["hooks.on"];

/// Something that a parameter of that name takes, as JavaScript.
fn sample(helper: &str, param: &str) -> &'static str {
    match (helper, param) {
        (_, "webhookUrl" | "url") => "'http://127.0.0.1:1/'",
        (_, "method") => "'POST'",
        (_, "cron") => "'0 0 0 1 1 *'",
        (_, "fn") => "() => 1",
        (_, "query") => "'http'",
        (_, "type" | "value") => "1",
        (_, "saKeyObj" | "files" | "headers" | "options" | "tags") => "{}",
        (_, "cloudID" | "certificateFingerprint") => "''",
        (_, "data" | "fields" | "event") => "{ a: 1 }",
        (_, "src" | "old" | "path") => "'f.txt'",
        (_, "stream") => "'1'",
        ("utils.json2Yaml", _) => "'{}'",
        _ => "'x'",
    }
}

/// What a call says that gives samples for the first parameters, but `odd` at one place.
fn said(rig: &Rig, of: &Declared, upto: usize, at: usize, odd: &str) -> String {
    let given: Vec<&str> = (0..upto)
        .map(|n| if n == at { odd } else { of.params.get(n).map_or("'x'", |name| sample(&of.helper, name)) })
        .collect();
    rig.thrown(&format!("file.write('f.txt', 'x'); {}({})", of.helper, given.join(", ")))
}

#[test]
fn helpers_demand_what_the_types_say_and_call_it_by_the_same_name() {
    let rig = Rig::new();
    let (helpers, _) = declared();
    for of in helpers.iter().filter(|of| !ELSEWHERE.contains(&of.helper.as_str())) {
        for (at, name) in of.params.iter().enumerate() {
            let said = said(&rig, of, of.params.len(), at, "undefined");
            let missing = format!("{}: argument {} ({name}) is missing", of.helper, at + 1);
            assert_eq!(said.contains(&missing), at < of.required, "{}: {name}: {said}", of.helper);
            assert!(at < of.required || !said.contains("is missing"), "{}: {name}: {said}", of.helper);
        }
    }
}

#[test]
fn helpers_look_at_no_argument_that_the_types_do_not_have_and_at_all_that_they_have() {
    let rig = Rig::new();
    let (helpers, _) = declared();
    let mut unseen = BTreeSet::new();
    for of in helpers.iter().filter(|of| !of.rest && !ELSEWHERE.contains(&of.helper.as_str())) {
        let all = of.params.len();
        // A symbol is no text, no number, no object: whoever looks at it complains.
        let without = said(&rig, of, all, all, "");
        let beyond = said(&rig, of, all + 1, all, "Symbol('odd')");
        assert!(!beyond.contains("odd"), "{}: {beyond}", of.helper);
        assert_eq!(without.contains("TypeError"), beyond.contains("TypeError"), "{}: {beyond}", of.helper);
        for (at, name) in of.params.iter().enumerate() {
            if !said(&rig, of, all, at, "Symbol('odd')").contains(&format!("({name})"))
                && !said(&rig, of, all, at, "Symbol('odd')").contains(name.as_str())
            {
                unseen.insert(format!("{} {name}", of.helper));
            }
        }
    }
    // Whatever is given there is taken for false.
    assert_eq!(unseen, BTreeSet::from(["kfl.validate quiet".to_owned()]));
}

#[test]
fn hooks_of_the_types_are_those_that_are_found() {
    let (_, hooks) = declared();
    let text: String = hooks.iter().map(|hook| format!("function {hook}() {{}}\n")).collect();
    let rig = Rig::new();
    let outline = agent::hooks::check(&rig.script("a.js", &text)).unwrap();
    let found: BTreeSet<&str> = outline.hooks.iter().chain(&outline.uncalled_hooks).copied().collect();
    assert_eq!(found, hooks.iter().map(String::as_str).collect());
    assert_eq!(found.len(), 8);
    assert_eq!(outline.findings, []);
}
