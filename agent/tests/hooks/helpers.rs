//! The helpers but for `file` and webhooks: what they do, and every error in their words.

use std::time::Duration;

use agent::hooks::Level;
use agent::outbox::{Delivery, Fold};

use crate::rig::Rig;

#[test]
fn console_writes_one_line_a_call() {
    let rig = Rig::new().env("SLACK_AUTH_TOKEN", "xoxb-hushhush-1");
    let lines = rig.body(
        "console.log('a', 1, true, null, undefined, {b: [1]}, [2], () => 1, Symbol('s'), 10n);\n\
         console.warn('two\\nlines \\u001b[31m');\nconsole.error(new TypeError('bad'));\nconsole.debug();\n\
         console.log('token ' + SLACK_AUTH_TOKEN + ' ' + env.SLACK_AUTH_TOKEN);\n\
         var loop = {}; loop.loop = loop; console.log(loop, 'after');\n\
         console.log({ toJSON() { throw 1 } }); console.log({ get x() { throw 1 } });\n\
         console.log('a😀'.slice(0, 2)); console.log('x'.repeat(20000).length, 'y'.repeat(20000));",
    );
    assert_eq!(lines[0], r#"a 1 true null undefined {"b":[1]} [2] [function ] [symbol] 10"#);
    assert_eq!(lines[1], "two\\nlines \\u{1b}[31m");
    assert_eq!(lines[2], "TypeError: bad at onItemCaptured (a.js:4:19)");
    assert_eq!(lines[3], "");
    assert_eq!(lines[4], "token [REDACTED] [REDACTED]");
    assert_eq!(lines[5], "[object that has no JSON form] after");
    assert_eq!(lines[6..8], ["[object that has no JSON form]", "[object that has no JSON form]"]);
    assert!(lines[8].starts_with("a\u{fffd}"));
    assert!(lines[9].starts_with("20000 yyy") && lines[9].ends_with(" more bytes)"), "{}", lines[9].len());
    assert!(lines[9].len() < (16 << 10) + 40);
    assert_eq!(rig.log.levels()[..4], [Level::Info, Level::Warn, Level::Error, Level::Debug]);
}

#[test]
fn a_secret_of_env_is_in_no_error_either() {
    let rig = Rig::new().env("SLACK_AUTH_TOKEN", "xoxb-hushhush-1");
    rig.run("function onItemCaptured() { throw new Error('with ' + SLACK_AUTH_TOKEN) }", 2);
    let about = rig.log.about();
    assert_eq!(about.len(), 2);
    assert!(about.iter().all(|line| line.contains("with [REDACTED]")), "{about:?}");
}

#[test]
fn env_is_an_object_and_bare_globals() {
    let rig =
        Rig::new().env("PLAIN", "1").env("file", "x").env("with-dash", "2").env("JSON", "y").env("env", "z");
    let lines = rig.body(
        "console.log(PLAIN, env.PLAIN, env['with-dash'], env.file, typeof file.write, typeof JSON.parse, env.env, env.MISSING);\n\
         try { MISSING } catch (e) { console.log(String(e)) }",
    );
    assert_eq!(lines, ["1 1 2 x function function z undefined", "ReferenceError: MISSING is not defined"]);
    let about = rig.log.about();
    assert_eq!(
        about,
        ["JSON", "env", "file"].map(|key| format!(
            "script a.js: the variable {key} is only to be had as env.{key}: a global of that name exists"
        ))
    );
    let rig = Rig::new().env("CHANNEL", "one");
    rig.run("var CHANNEL = CHANNEL || 'two';\nlet test = 1; function hash() {}\nfunction onItemCaptured() { console.log(CHANNEL, test, typeof hash) }", 1);
    assert_eq!(rig.log.console(), ["one 1 function"], "a script may use the names for its own");
}

#[test]
fn data_is_all_of_the_item_and_plain() {
    let rig = Rig::new();
    let lines = rig.body(
        "console.log(data.stream, data.protocol.name, data.response.status, data.elapsedTime, data.dst.name);\n\
         console.log(Object.keys(data).join());\n\
         var copy = JSON.parse(JSON.stringify(data)); console.log(copy.request.path, copy.id);\n\
         data.passed = 5; data.extra = 1; console.log(data.passed, data.extra);",
    );
    assert_eq!(
        lines,
        [
            "000000000001 http 500 12.5 shop",
            "id,index,stream,node,worker,protocol,tls,src,dst,namespace,outgoing,timestamp,startTime,elapsedTime,requestSize,\
             responseSize,request,response,anomalies,error,capture,passed,failed",
            "/pay 000000000001-0",
            "5 1",
        ]
    );
    rig.run("function onItemCaptured(data) { if (data.extra) console.log('leaked'); data.extra = 1 }", 3);
    assert_eq!(rig.log.console().len(), 4, "a change goes nowhere");
}

#[test]
fn pcap_path_gives_the_file_or_says_why_not() {
    let rig = Rig::new();
    let pcaps = rig.dir.path().join("pcaps");
    let path = format!("{}/000000000001.pcap", pcaps.display());
    assert_eq!(
        rig.body("console.log(pcap.path(data.stream)); console.log(pcap.path(1))"),
        [path.clone(), path]
    );
    for (call, message) in [
        ("pcap.path()", "TypeError: pcap.path: argument 1 (stream) is missing"),
        ("pcap.path(null)", "TypeError: pcap.path: argument 1 (stream) is missing"),
        ("pcap.path({})", "TypeError: pcap.path: argument 1 (stream) must be a string, not an object"),
        (
            "pcap.path('../x')",
            r#"Error: pcap.path: stream: "../x" is not a stream number (data.stream is one)"#,
        ),
        ("pcap.path('+1')", r#"Error: pcap.path: stream: "+1" is not a stream number (data.stream is one)"#),
        ("pcap.path('9')", "Error: pcap.path: stream: stream 000000000009 is not known"),
        ("pcap.path('2')", "Error: pcap.path: stream: stream 000000000002 has expired from the store"),
    ] {
        assert_eq!(rig.thrown(call), message);
    }
    let mut rig = Rig::new();
    rig.store = false;
    assert_eq!(
        rig.thrown("pcap.path(data.stream)"),
        "Error: pcap.path: the PCAP store is off, so there is no capture file to be had"
    );
}

#[test]
fn slack_bot_queues_everything_and_copies_the_files_first() {
    let rig = Rig::new();
    let lines = rig.body(
        "var path = file.temp('data', '', 'json'); file.write(path, '{\"a\":1}'); file.write('own.txt', 'mine');\n\
         var id = vendor.slackBot(' tok\\n', 'C1', 'Pre', 5, '#ff0000',\n\
           {Service: data.dst.name, Empty: '', Null: null, Undefined: undefined, Number: 1.5, Bool: true, Object: {x: 1}},\n\
           {'s.pcap': pcap.path(data.stream), 'data.json': path, 'own.txt': 'own.txt'});\n\
         file.delete(path); console.log(typeof id, id);",
    );
    assert_eq!(lines, ["string 1"]);
    let queued = rig.outbox.0.lock().unwrap();
    assert_eq!(queued[0].script, "a.js");
    let Delivery::SlackBot { token, channel, alert, fields, files, .. } = &queued[0].delivery else {
        panic!("{queued:?}")
    };
    assert_eq!((token.expose(), channel.as_str()), ("tok", "C1"));
    assert_eq!((alert.pretext.as_str(), alert.text.as_str(), alert.color.as_str()), ("Pre", "5", "#ff0000"));
    let fields: Vec<String> = fields.iter().map(|(title, value)| format!("{title}={value}")).collect();
    assert_eq!(
        fields,
        ["Service=shop", "Empty=", "Null=", "Undefined=", "Number=1.5", "Bool=true", "Object={\"x\":1}"]
    );
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["s.pcap", "data.json", "own.txt"]);
    assert_eq!(queued[0].files[1], b"{\"a\":1}", "there when it was queued");
    assert_eq!(queued[0].files[2], b"mine");
    let note = std::fs::read_to_string(rig.dir.path().join("pcaps/000000000001.note")).unwrap();
    assert_eq!(note, "a.js: Pre: 5", "the alert is known where its stream's packets are");
    assert!(rig.log.about().is_empty());
}

#[test]
fn slack_queues_a_webhook_with_its_options() {
    let rig = Rig::new();
    rig.body(
        "vendor.slack('http://hook/x', 'p', 't', 'good', {key: 'a', window: 1.5}); \
         vendor.slackBot('xoxb', 'C1', 'p', 't', '', {}, {}, {key: 7}); vendor.slack('http://hook/x', 'p', 't', 'good')",
    );
    let queued = rig.outbox.0.lock().unwrap();
    assert_eq!(queued.len(), 3);
    let Delivery::SlackWebhook { url, fold, .. } = &queued[0].delivery else { panic!() };
    assert_eq!(url.expose(), "http://hook/x");
    assert_eq!(*fold, Some(Fold { key: "a".into(), window: Duration::from_millis(1_500) }));
    let Delivery::SlackBot { fold, .. } = &queued[1].delivery else { panic!() };
    assert_eq!(
        *fold,
        Some(Fold { key: "7".into(), window: Duration::from_secs(60) }),
        "a minute if not said"
    );
    assert!(matches!(&queued[2].delivery, Delivery::SlackWebhook { fold: None, .. }));
}

#[test]
fn options_that_cannot_be_meant_are_refused() {
    let rig = Rig::new();
    for (options, part) in [
        ("{window: 5}", "options: has a window, but no key"),
        ("{key: ''}", "options.key: is empty"),
        ("{key: 'a', window: 0}", "options.window: \"0\" is not a number of seconds above 0"),
        ("{key: 'a', windw: 5}", "options: there is no option \"windw\"; key and window are"),
    ] {
        let said = rig.thrown(&format!("vendor.slack('http://h/x', 'p', 't', '', {options})"));
        assert!(said.contains(part), "{options}: {said}");
    }
    assert!(rig.outbox.0.lock().unwrap().is_empty());
}

#[test]
fn vendor_errors_name_helper_and_argument() {
    let rig = Rig::new();
    for (call, message) in [
        ("vendor.slack()", "TypeError: vendor.slack: argument 1 (webhookUrl) is missing"),
        ("vendor.slack('u', 'p', undefined, 'c')", "TypeError: vendor.slack: argument 3 (text) is missing"),
        (
            "vendor.slack('u', 'p', {}, 'c')",
            "TypeError: vendor.slack: argument 3 (text) must be a string, not an object",
        ),
        ("vendor.slackBot('t')", "TypeError: vendor.slackBot: argument 2 (channelId) is missing"),
        ("vendor.slackBot('t', 'c', 'p', 't')", "TypeError: vendor.slackBot: argument 5 (color) is missing"),
        (
            "vendor.slackBot('t', 'c', 'p', 't', 'c', 'text')",
            "TypeError: vendor.slackBot: argument 6 (fields) must be an object, not a value of another type",
        ),
        (
            "vendor.slackBot('t', 'c', 'p', 't', 'c', [1])",
            "TypeError: vendor.slackBot: argument 6 (fields) must be an object, not an array",
        ),
        (
            "vendor.slackBot('t', 'c', 'p', 't', 'c', {a: () => 1})",
            "TypeError: vendor.slackBot: fields[\"a\"] must be a string, not a function",
        ),
        (
            "vendor.slackBot('t', 'c', 'p', 't', 'c', {}, {'x.txt': '../../etc/passwd'})",
            "Error: vendor.slackBot: files[\"x.txt\"]: \"../../etc/passwd\" leaves the script's data folder",
        ),
        (
            "vendor.slackBot('t', 'c', 'p', 't', 'c', {}, {'x.txt': '/etc/passwd'})",
            "Error: vendor.slackBot: files[\"x.txt\"]: \"/etc/passwd\" leaves the script's data folder",
        ),
        (
            "vendor.slackBot('t', 'c', 'p', 't', 'c', {}, {'x.txt': 'gone'})",
            "Error: vendor.slackBot: files[\"x.txt\"]: \"gone\": No such file or directory (os error 2)",
        ),
        (
            "vendor.slackBot('t', 'refused', 'p', 't', 'c')",
            "Error: vendor.slackBot: channelId: no such channel",
        ),
        (
            "var f = {}; for (var i = 0; i < 300; i++) f[i] = i; vendor.slackBot('t', 'c', 'p', 't', 'c', f)",
            "Error: vendor.slackBot: fields: has more than 256 entries",
        ),
    ] {
        assert_eq!(rig.thrown(call), message, "{call}");
    }
    assert!(rig.outbox.0.lock().unwrap().is_empty(), "nothing was queued");
}

#[test]
fn data_is_queued_with_what_its_store_asks_for() {
    let mut rig = Rig::new();
    rig.s3_endpoint = Some("http://minio:9000/".into());
    let lines = rig.body(
        "console.log(vendor.elastic('https://es:9200', 'remora', data, 'elastic', 'pw').length);\n\
         console.log(vendor.elastic(null, 'remora', {a: 1}, undefined, undefined, 'n:aG9zdCRlcw==', ' id:key ').length);\n\
         console.log(vendor.splunk('https://s:8088', 'tok', data, {index: 'main', raw: false, source: 'mine'}));\n\
         console.log(vendor.splunk('https://s:8088', 'tok', 'text', {raw: true, channel: 'FE0ECFAD-13D5-401B-847D-77833BD77131'}));\n\
         console.log(vendor.influxdb('http://i:8086', 'tok', 'org', 'b', 'http', {timestamp: 1, ms: 1.5}, {path: '/a b'}));\n\
         file.write('own.txt', 'mine');\n\
         console.log(vendor.s3.put('captures', 'own.txt', 'us-east-1', 'AKIA', 'hushhush'));\n\
         console.log(vendor.s3.put('captures/a/b', pcap.path(data.stream), 'us-east-1'));\n\
         console.log(vendor.gcs.put('captures', 'own.txt', {client_email: 'a@b', private_key: 'k'}));",
    );
    assert_eq!(
        lines,
        [
            "22",
            "22",
            "3",
            "4",
            "5",
            "http://minio:9000/captures/node-7/own.txt",
            "http://minio:9000/captures/a/b/000000000001.pcap",
            "https://storage.googleapis.com/captures/node-7/own.txt",
        ]
    );
    let queued = rig.outbox.0.lock().unwrap();
    let Delivery::Elastic { document, .. } = &queued[0].delivery else { panic!() };
    assert_eq!(document.id().len(), 22, "128 bits");
    assert_eq!(queued[5].files, [b"mine"], "there when it was queued");
    assert!(!format!("{queued:?}").contains("hushhush") && !format!("{queued:?}").contains("id:key"));
}

#[test]
fn data_that_cannot_be_sent_is_an_error_in_the_helpers_words() {
    let rig = Rig::new();
    for (call, message) in [
        ("vendor.elastic()", "TypeError: vendor.elastic: argument 1 (url) is missing"),
        ("vendor.elastic('http://e')", "TypeError: vendor.elastic: argument 2 (index) is missing"),
        ("vendor.elastic('http://e', 'i')", "TypeError: vendor.elastic: argument 3 (data) is missing"),
        (
            "vendor.elastic('e', 'i', {})",
            "Error: vendor.elastic: url: is not a URL; it looks like https://elasticsearch.example:9200",
        ),
        (
            "vendor.elastic('http://e', 'Up', {})",
            "Error: vendor.elastic: index: \"Up\" has upper-case letters, which an index cannot have",
        ),
        (
            "vendor.elastic('http://e', 'i', {}, 'elastic')",
            "Error: vendor.elastic: password: is empty; is its variable set?",
        ),
        ("vendor.splunk('http://s', 't')", "TypeError: vendor.splunk: argument 3 (event) is missing"),
        (
            "vendor.splunk('http://s', 't', ' ')",
            "Error: vendor.splunk: event: is blank, which Splunk refuses",
        ),
        (
            "vendor.splunk('http://s', 't', 'e', {indx: 'a'})",
            "Error: vendor.splunk: options: there is no option \"indx\"; index, sourcetype, source, host, raw and channel are",
        ),
        (
            "vendor.splunk('http://s', 't', 'e', {raw: 'maybe'})",
            "Error: vendor.splunk: options.raw: \"maybe\" is neither true nor false",
        ),
        (
            "vendor.influxdb('http://i', 't', 'o', 'b', 'm')",
            "TypeError: vendor.influxdb: argument 6 (data) is missing",
        ),
        (
            "vendor.influxdb('http://i', 't', 'o', 'b', 'm', {})",
            "Error: vendor.influxdb: data: has no field with a value",
        ),
        ("vendor.s3.put('b')", "TypeError: vendor.s3.put: argument 2 (path) is missing"),
        (
            "vendor.s3.put('bucket', '../x', 'r')",
            "Error: vendor.s3.put: path: \"../x\" leaves the script's data folder",
        ),
        (
            "file.write('x', ''); vendor.s3.put('B', 'x', 'r')",
            "Error: vendor.s3.put: bucket: \"B\" is not the name of a bucket: 3 to 63 of a-z, 0-9, '-', '.'",
        ),
        (
            "file.write('x', ''); vendor.s3.put('bucket', 'x', 'r', 'AKIA')",
            "Error: vendor.s3.put: accessKey: is empty, but there is a keyID",
        ),
        (
            "file.write('x', ''); vendor.gcs.put('bucket', 'x', {})",
            "Error: vendor.gcs.put: saKeyObj: is not the key of a service account: it needs client_email and private_key",
        ),
    ] {
        assert_eq!(rig.thrown(call), message, "{call}");
    }
    assert!(rig.outbox.0.lock().unwrap().is_empty(), "nothing was queued");
}

#[test]
fn an_argument_is_bounded() {
    let mut rig = Rig::new();
    rig.limits.argument = 1000;
    assert_eq!(
        rig.thrown("hash.sha256('x'.repeat(1001))"),
        "Error: hash.sha256: text: is 1001 bytes long, more than the 1000 bytes that are allowed"
    );
}

#[test]
fn the_small_helpers() {
    let rig = Rig::new();
    let lines = rig.body(
        "var item = test.pass(data); console.log(item === data, data.passed, data.failed);\n\
         console.log(test.fail(data).failed);\nconsole.log(utils.nodeName());\nconsole.log(hash.sha256('abc'), hash.sha256(''));",
    );
    assert_eq!(lines[..3], ["true true false", "true", "node-7"]);
    assert_eq!(
        lines[3],
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad \
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    for (call, message) in [
        ("test.pass()", "TypeError: test.pass: argument 1 (data) is missing"),
        ("test.fail(5)", "TypeError: test.fail: argument 1 (data) must be an object, not a number"),
        ("hash.sha256()", "TypeError: hash.sha256: argument 1 (text) is missing"),
        ("hash.sha256([])", "TypeError: hash.sha256: argument 1 (text) must be a string, not an array"),
    ] {
        assert_eq!(rig.thrown(call), message, "{call}");
    }
}

#[test]
fn errors_of_helpers_carry_the_line_of_the_call() {
    let rig = Rig::new();
    rig.run("function onItemCaptured(data) {\n\n  file.read('gone');\n}", 1);
    assert_eq!(
        rig.log.about(),
        [
            "script a.js: onItemCaptured threw Error: file.read: path: \"gone\": No such file or directory (os error 2) \
             at onItemCaptured (a.js:3:8)"
        ]
    );
}

#[test]
fn nothing_of_the_host_is_reachable_but_the_helpers() {
    let rig = Rig::new();
    let lines = rig.body(
        "console.log(['require', 'process', 'std', 'os', 'bjson', 'Deno', 'fetch', 'XMLHttpRequest', 'print', 'scriptArgs', 'load', '__remora_hooks']\n\
           .filter(name => name in globalThis).join());\n\
         for (var name of ['std', 'os', 'qjs:std', 'qjs:os', 'fs']) import(name).then(() => console.log('loaded'), () => {});\n\
         console.log(Function('return typeof require')(), (0, eval)('typeof process'));\n\
         file.write = 1; vendor.extra = 1; delete console.log; file.read.x = 1;\n\
         console.log(typeof file.write, vendor.extra, typeof console.log, file.read.x);\n\
         Object.prototype.polluted = 'yes'; String.prototype.toString = () => 'no';\n\
         console.log(utils.nodeName(), hash.sha256('').slice(0, 4));",
    );
    assert_eq!(lines, ["", "undefined undefined", "function undefined function undefined", "node-7 e3b0"]);
}

#[test]
fn prototypes_that_a_script_bent_do_not_bend_helpers() {
    let rig = Rig::new();
    rig.body(
        "Object.prototype.evil = 'x'; Array.prototype[0] = 'y'; Object.prototype[6] = {f: '/etc/passwd'};\n\
         vendor.slackBot('t', 'c', 'p', 't', 'c', {a: 'b'})",
    );
    let queued = rig.outbox.0.lock().unwrap();
    let Delivery::SlackBot { fields, files, .. } = &queued[0].delivery else { panic!() };
    assert_eq!(fields, &[("a".to_owned(), "b".to_owned())]);
    assert!(files.is_empty());
}

#[test]
fn helpers_may_be_entered_again_from_within() {
    let rig = Rig::new();
    let lines = rig.body(
        "file.write('a', '1');\n\
         vendor.slackBot('t', 'c', 'p', 't', 'c', { get x() { return file.read('a') }, y: { toJSON() { return utils.nodeName() } } });\n\
         console.log({ toJSON() { console.log('inner'); return 1 } });",
    );
    assert_eq!(lines, ["inner", "1"]);
    let queued = rig.outbox.0.lock().unwrap();
    let Delivery::SlackBot { fields, .. } = &queued[0].delivery else { panic!() };
    assert_eq!(fields[0].1, "1");
    assert_eq!(fields[1].1, "\"node-7\"");
}
