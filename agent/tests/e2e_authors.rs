//! `remora scripts check` and `remora scripts test`: what authors are told, and where.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::PathBuf;

use common::rehearsal::Played;
use common::{remora, root, script};

fn shop() -> PathBuf {
    root().join("tests/fixtures/shop/input.pcap")
}

/// What `check` finds: line, column, severity and message.
#[track_caller]
fn findings(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = script(dir.path(), "a.js", text);
    let ran = remora(["scripts", "check", path.to_str().unwrap()]).never_panicked();
    let place = format!("{}:", path.display());
    let lines = ran.stdout.lines().filter_map(|line| line.strip_prefix(&place));
    let found: Vec<String> =
        lines.filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect();
    let wrong = found.iter().any(|line| line.contains(": error: "));
    assert_eq!(
        ran.code == 1,
        wrong || ran.stdout.starts_with(&place) && found.len() == 1 && !ran.stdout.contains(": ok: "),
        "{}",
        ran.stdout
    );
    found
}

#[test]
fn mistakes_are_found_with_their_place_and_what_was_meant() {
    for (text, expected) in [
        ("vendor.slak('x');", "1:8: error: vendor has no slak; did you mean slack?"),
        ("\n  vendor.slack('u', 'p');", "2:3: error: vendor.slack: the arguments text, color are missing"),
        (
            "function onItemCaptureed(data) {}",
            "1:10: error: onItemCaptureed is no hook, so it is never called; did you mean onItemCaptured?",
        ),
        (
            "const onitemcaptured = (data) => 1;",
            "1:7: error: onitemcaptured is no hook, so it is never called; did you mean onItemCaptured?",
        ),
        ("/* ä */ consle.log(1);", "1:9: error: there is no consle; did you mean console?"),
        (
            "function onItemCaptured(d) { return d.response.staus; }",
            "1:48: warning: the response has no staus; did you mean status?",
        ),
        (
            "function onItemCaptured({ respons }) {}",
            "1:27: warning: the item has no respons; did you mean response?",
        ),
        (
            "function onItemCaptured(d) { const r = d.request; r.metod; }",
            "1:53: warning: the request has no metod; did you mean method?",
        ),
        (
            "hooks.on('itemCaptured', { filter: 'http && status_cod > 1' }, d => 1);",
            "1:45: error: hooks.on: filter: there is no name \"status_cod\"; did you mean status_code?",
        ),
        (
            "hooks.on('itemCaptured', { filtr: 'http' }, d => 1);",
            "1:28: error: hooks.on: options has no filtr; did you mean filter?",
        ),
        (
            "hooks.on('itemCaptred', d => 1);",
            "1:10: error: hooks.on: name cannot be \"itemCaptred\"; it is one of \"itemCaptured\", \"onItemCaptured\"",
        ),
        (
            "jobs.schedule('a', '* * * * *', () => 1);",
            "1:20: error: jobs.schedule: cron: \"* * * * *\" is no cron pattern: ",
        ),
        (
            "prometheus.metric('a', 'b', 4, 1);",
            "1:29: error: prometheus.metric: type cannot be 4; it is one of 1, 2, 3",
        ),
        (
            "prometheus.metric('a', 'b', 1, 'x');",
            "1:32: error: prometheus.metric: value must be a number, this is text",
        ),
        ("vendor.s3.putt('a');", "1:11: error: vendor.s3 has no putt; did you mean put?"),
        (
            "vendor.splunk('u', 't', {}, { indx: 1 });",
            "1:31: error: vendor.splunk: options has no indx; did you mean index?",
        ),
        ("require('fs');", "1:1: error: there is no require here: "),
        ("setTimeout(() => 1, 5);", "1:1: error: there is no setTimeout here: jobs.schedule "),
        (
            "file.write('a', 'b', 'c');",
            "1:22: warning: file.write takes path, text; what comes after that is ignored",
        ),
        ("console.log(channel);", "1:13: warning: channel is not defined here: is it a variable of --env?"),
        ("function onItemCaptured(d) {\n  let = = 1;\n}", "2:"),
    ] {
        let found = findings(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}: {found:?}, not {expected:?}");
    }
}

#[test]
fn what_runs_well_is_not_called_wrong() {
    let text = "var vendor2 = { slak() {} }; vendor2.slak();\n\
                (function (vendor) { vendor.slak(); })(vendor2);\n\
                if (typeof vendor.kafka === 'function' && typeof process === 'undefined') count = 1;\n\
                function onItemCaptured(data) {\n\
                  data.mine = 1; delete data.src; count++;\n\
                  var d = data.response || {}; d.whatever;\n\
                  [SOME_TOKEN, env.other].forEach((x) => console.log(x, data.hasOwnProperty('id'), count));\n\
                  vendor.slack(...args());\n\
                }\n\
                function args() { return [1, 2, 3, 4]; }\n\
                function onionSoup() {}\n\
                vendor.webhook('POST', 'http://x/', 'text'); vendor.webhook('POST', 'http://x/', { a: 1 });\n\
                utils.json2Yaml('{}'); pcap.snapshot(['1']); pcap.path(1); vendor.elastic(null, 'i', {});\n\
                vendor.gcs.put('b', 'p', '{}'); vendor.slack('u', 'p', 1, 'c', { key: 1 }); kfl.validate('and', true);\n";
    let found = findings(text);
    assert!(found.iter().all(|line| line.contains(": warning: ")), "{found:?}");
    let module = "import { x } from './lib.mjs';\nexport function onItemCaptured(data) { x(data.id) }";
    let dir = tempfile::tempdir().unwrap();
    script(dir.path(), "lib.mjs", "export const x = (y) =>\n  consol.log(y);\n");
    let path = script(dir.path(), "a.js", module);
    let ran = remora(["scripts", "check", path.to_str().unwrap()]).exits(1);
    assert!(
        ran.stdout.contains("lib.mjs:2:3: error: there is no consol; did you mean console?"),
        "{}",
        ran.stdout
    );
}

#[test]
fn warnings_fail_only_where_asked_and_types_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = script(dir.path(), "a.js", "// A\nfunction onItemCaptured(d) { d.respons; }");
    let path = path.to_str().unwrap();
    remora(["scripts", "check", path]).exits(0);
    remora(["scripts", "check", "--strict", path]).exits(1);
    let ran = remora(["scripts", "check", "--json", path, "/nonexistent.js"]).exits(1);
    let lines = ran.items();
    assert_eq!(
        (&lines[0]["hooks"][0], &lines[0]["findings"][0]["line"]),
        (&"onItemCaptured".into(), &2.into())
    );
    assert_eq!(
        (&lines[1]["compiles"], &lines[1]["findings"][0]["severity"]),
        (&false.into(), &"error".into())
    );
    let types = std::fs::read_to_string(root().join("scripts/remora.d.ts")).unwrap();
    assert_eq!(remora(["scripts", "types"]).exits(0).stdout, types);
    remora(["scripts", "test", path]).exits(2);
    for command in ["check", "test"] {
        assert!(remora(["scripts", command, "--help"]).exits(0).stdout.contains("Examples:"));
    }
}

#[test]
fn errors_say_where_they_were_thrown() {
    let dir = tempfile::tempdir().unwrap();
    script(dir.path(), "lib.mjs", "\nexport function lib() {\n  throw new Error('in a module');\n}\n");
    for (text, failure) in [
        (
            "function onItemCaptured() {\n  null.x;\n}",
            "onItemCaptured threw TypeError: cannot read property 'x' of null at a.js:2",
        ),
        (
            "function f() {\n\n  throw new Error('deep') }\nfunction onItemCaptured() { f() }",
            "onItemCaptured threw Error: deep at a.js:3",
        ),
        (
            "function onItemCaptured(d) {\n [1].forEach(() => {\n  undefinedName })\n}",
            "onItemCaptured threw ReferenceError: undefinedName is not defined at a.js:3",
        ),
        (
            "async function onItemCaptured() {\n  await 1;\n  throw new Error('late') }",
            "onItemCaptured threw Error: late at a.js:3",
        ),
        (
            "import { lib } from './lib.mjs';\nexport function onItemCaptured() { lib() }",
            "onItemCaptured threw Error: in a module at lib.mjs:3",
        ),
        (
            "function onItemCaptured() {\n  vendor.slack(1) }",
            "onItemCaptured threw TypeError: vendor.slack: argument 2 (pretext) is missing at a.js:2",
        ),
        (
            "function onItemCaptured() {\n  while (true) {}\n}",
            "onItemCaptured exceeded its time limit of 1 s at a.js:2",
        ),
        (
            "jobs.schedule('j', '0 0 0 1 1 *', () => {\n  throw new Error('job') })",
            "job \"j\" threw Error: job at a.js:2",
        ),
    ] {
        let path = script(dir.path(), "a.js", text);
        // One item is enough.
        let played = Played::new(&path, &shop(), &[], &["--filter", "index == 0"]);
        assert_eq!(
            (played.failures().first().map(String::as_str), played.code),
            (Some(failure), 1),
            "{text}"
        );
    }
    for (text, said) in [
        ("function onItemCaptured() {\n  let = 1 1;\n}", "a.js:2:"),
        ("var a = 1;\nthrow new Error('top');", "a.js:2:"),
        ("import { no } from './lib.mjs';\nno();", "a.js"),
    ] {
        let path = script(dir.path(), "a.js", text);
        let ran =
            remora(["scripts", "test", path.to_str().unwrap(), "--pcap", shop().to_str().unwrap()]).exits(1);
        assert!(ran.stderr.contains(said), "{text}: {}", ran.stderr);
    }
}

#[test]
fn a_test_prints_what_would_be_sent_and_where_to() {
    let dir = tempfile::tempdir().unwrap();
    let text = "// Try\nconsole.log('top');\n\
                hooks.on('itemCaptured', { filter: 'response.status == 500' }, (data) => {\n\
                  const path = file.temp('x', '', 'json'); file.write(path, '12345');\n\
                  vendor.slackBot(TOKEN, 'C012', 'Title', 'one\\ntwo', 'good', { A: 1 }, { 'x.json': path }, { key: 'k', window: 9 });\n\
                });\n";
    let path = script(dir.path(), "a.js", text);
    let args = ["scripts", "test", path.to_str().unwrap(), "--env", "TOKEN=xoxb-hushhush", "--pcap"];
    let shop = shop();
    let ran = remora(args.into_iter().chain([shop.to_str().unwrap(), "--brief"])).exits(0);
    for part in [
        "a.js: top level\n    console.log: top\n",
        "POST http://10.99.0.1:8080/checkout → 500",
        "    would send to slackBot: channel C012\n        pretext: Title\n        text: one\n          two\n",
        "        A: 1\n        file x.json, 5 bytes\n        one in 9.0 s with the key \"k\"\n",
        "slackBot: channel C012, folded into the next one alike",
        "2 deliveries (1 of them folded) and 0 webhooks, none sent\n",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("hushhush") && !ran.stderr.contains("hushhush"));
    let ran = remora(args.into_iter().chain(["/nonexistent.pcap"])).exits(1);
    assert!(ran.stderr.contains("/nonexistent.pcap"), "{}", ran.stderr);
}
