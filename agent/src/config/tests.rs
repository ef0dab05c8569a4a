//! What is read, and what is said of what is not.

use std::path::Path;
use std::time::Duration;

use super::{ConfigError, Read, differences, parse};

fn read(text: &str) -> Result<Read, ConfigError> {
    parse(text, Path::new("agent.yaml"))
}

#[track_caller]
fn refused(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("was taken: {text}"),
        Err(error) => error.to_string(),
    }
}

const WHOLE: &str = "
capture:
  mode: ebpf
  interfaces: [eth0, 'veth*']
  cgroups: [kubepods.slice]
  identityCgroups: [system.slice]
  tcHook: clsact
  ports: [80, 8080]
  nets: [10.0.0.0/8, 'fd00::/8']
  exclude: ['10.0.0.7:9200', '[fd00::7]:443']
  direction: in
  workers: 4
  ringMib: 16
  pinWorkers: true
  trim: true
  promiscuous: true
store: {mode: matched, maxBytes: 2G, maxAge: 6h, reserve: 1048576}
scripts:
  paths: [/s/a.js]
  env: {SLACK_CHANNEL_ID: C1}
  envFiles: [/s/env]
  limits: {memory: 32M, stack: 512K, callTime: 0.25s, queue: 99, queueBytes: 8M, fileQuota: 1G, webhookTimeout: 5, waitTotal: 1m}
outbox: {maxWaiting: 7, maxBytes: 64M, maxDeliveryBytes: 8M, drainTimeout: 15s, maxAge: 2h, giveUpAfter: 1h, slackRate: 0.5,
  slackBurst: 2, floodLimit: 0, scriptAlerts: 60, totalAlerts: 90}
filter: http && response.status >= 500
slackApiUrl: http://127.0.0.1:9/api
s3Endpoint: http://127.0.0.1:9000
caFile: /etc/ca.pem
redaction: {enabled: true, headers: [x-session]}
api: {listen: '[::1]:1', tokenFile: /t, recentItems: 5, recentBytes: 1M, maxClients: 3}
metrics: {listen: 'off'}
dataDir: /var/lib/remora
drainTimeout: 50s
";

#[test]
fn every_key_is_read() {
    let file = read(WHOLE).unwrap().file;
    let capture = &file.capture;
    assert_eq!(capture.interfaces, ["eth0", "veth*"]);
    assert_eq!(capture.ports.iter().map(|port| port.0).collect::<Vec<_>>(), [80, 8080]);
    assert_eq!((capture.nets.len(), capture.exclude.len()), (2, 2));
    assert_eq!((capture.workers.unwrap().0, capture.ring_mib.unwrap().0), (4, 16));
    assert!(capture.pin_workers && capture.trim && capture.promiscuous);
    assert_eq!(file.store.max_bytes.unwrap().0, 2 << 30);
    assert_eq!(file.store.reserve.unwrap().0, 1 << 20, "a plain number is a word, too");
    assert_eq!(file.store.max_age.unwrap().0, Duration::from_secs(6 * 3600));
    let limits = file.scripts.limits.whole();
    assert_eq!((limits.memory, limits.stack, limits.queue), (32 << 20, 512 << 10, 99));
    assert_eq!((limits.queue_bytes, limits.file_quota), (8 << 20, 1 << 30));
    assert_eq!(limits.call_time, Duration::from_millis(250));
    assert_eq!((limits.webhook_timeout, limits.wait_total).1, Duration::from_secs(60));
    assert_eq!(file.slack_api_url.unwrap().0, "http://127.0.0.1:9/api/");
    assert_eq!(file.outbox.max_waiting.unwrap().0, 7);
    let (api, metrics) = (file.api, file.metrics);
    assert_eq!(api.listen.unwrap().0, Some("[::1]:1".parse().unwrap()));
    assert_eq!((api.recent_items.unwrap().0, api.recent_bytes.unwrap().0), (5, 1 << 20));
    assert_eq!((api.max_clients.unwrap().0, metrics.listen.unwrap().0), (3, None));
    assert_eq!(file.scripts.env.0["SLACK_CHANNEL_ID"], "C1");
    assert!(!format!("{:?}", file.scripts.env).contains("\"C1\""));
}

#[test]
fn nothing_is_all_defaults() {
    for text in ["", "# only words\n", "{}", "capture:\nstore: null\nscripts:\n  env:\n  limits:\n"] {
        let file = read(text).unwrap().file;
        assert_eq!(file, super::File::default(), "{text}");
        assert!(file.redaction.enabled);
    }
}

#[test]
fn an_error_names_line_key_what_was_found_and_what_is_allowed() {
    for (text, words) in [
        ("capture:\n  portz: [80]\n", &["line 2", "capture", "portz", "`ports`", "`nets`"][..]),
        ("captur: {}\n", &["line 1", "captur", "`capture`", "`store`"]),
        ("capture:\n  mode: fast\n", &["line 2", "capture.mode", "fast", "`auto`, `ebpf`, `af-packet`"]),
        ("capture:\n  ports: [80, 70000]\n", &["line 2", "capture.ports[1]", "70000", "1 to 65535"]),
        ("capture:\n  workers: 0\n", &["capture.workers", "\"0\"", "1 to 64"]),
        ("capture:\n  workers: many\n", &["capture.workers", "many", "1 to 64"]),
        ("capture:\n\n  nets: [10.0.0.0/40]\n", &["line 3", "capture.nets[0]", "10.0.0.0/40"]),
        ("capture:\n  exclude: [10.0.0.7]\n", &["capture.exclude[0]", "10.0.0.7", "address and port"]),
        ("capture:\n  trim: perhaps\n", &["capture.trim", "perhaps", "boolean"]),
        ("store:\n  maxBytes: 4X\n", &["store.maxBytes", "4X", "512M or 4G"]),
        ("store:\n  maxBytes: [1]\n", &["store.maxBytes", "number of bytes"]),
        ("store:\n  maxAge: 1y\n", &["store.maxAge", "1y", "90s, 30m"]),
        ("scripts:\n  limits:\n    memory: 1K\n", &["line 3", "scripts.limits.memory", "1K", "1048576"]),
        ("outbox:\n  slackRate: 0\n", &["line 2", "outbox.slackRate", "\"0\"", "0.001 to 100000"]),
        ("outbox:\n  slackBurst: 0\n", &["line 2", "outbox.slackBurst", "1 to"]),
        ("outbox:\n  maxAge: 0\n", &["line 2", "outbox.maxAge", "90s, 30m"]),
        ("sinks:\n  - kind: splunk\n    url: https://x/\n", &["sinks[0]", "token"]),
        ("sinks: [{kind: kafka}]\n", &["sinks[0]", "kafka", "`elasticsearch`", "`jsonFile`"]),
        ("sinks:\n  - {kind: jsonFile, path: a, size: 1}\n", &["sinks[0]", "size"]),
        ("slackApiUrl: slack.com\n", &["slackApiUrl", "slack.com", "http"]),
        ("api:\n  listen: 8899\n", &["line 2", "api.listen", "\"8899\"", "127.0.0.1:8899", "\"off\""]),
        ("api:\n  recentItems: -1\n", &["line 2", "api.recentItems", "0 to 1000000"]),
        ("metrics:\n  token: x\n", &["line 2", "metrics", "token", "`listen`"]),
        ("capture: {}\ncapture: {}\n", &["capture", "duplicate"]),
    ] {
        let said = refused(text);
        for word in words {
            assert!(said.contains(word), "{text}: {word:?} is not in {said:?}");
        }
        assert!(said.starts_with("agent.yaml, line ") && !said.contains("column"), "{said}");
    }
}

#[test]
fn what_is_no_yaml_is_refused_with_its_line() {
    let said = refused("store: {}\ncapture: [\n");
    assert!(said.starts_with("agent.yaml, line 3: did not find"), "{said}");
    assert!(refused("just words\n").contains("invalid type: string"), "{}", refused("just words\n"));
}

#[test]
fn what_this_version_does_not_have_is_refused_as_such() {
    for (text, words) in [
        ("store: {}\ntargets:\n  namespaces: [shop]\n", &["line ", "targets", "not in this version"][..]),
        ("targets: 1\n", &["targets", "not in this version"]),
    ] {
        let said = refused(text);
        for word in words {
            assert!(said.contains(word), "{text}: {word:?} is not in {said:?}");
        }
    }
    assert!(read("targets:\napi: null\nsinks: []\n").is_ok(), "nothing is asked for");
}

#[test]
fn no_error_tells_a_variables_value() {
    for value in ["12345678", "1.2345678e3", "true", "[hush12345678]", "{hush: 12345678}", "~"] {
        let said = refused(&format!("scripts:\n  env:\n    TOKEN: {value}\n"));
        assert!(said.contains("scripts.env"), "{said}");
        for secret in ["12345678", "1.234", "true", "hush"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    for name in ["1A", "A-B", "''"] {
        let said = refused(&format!("scripts:\n  env: {{{name}: hush}}\n"));
        assert!(said.contains("variable") && !said.contains("hush"), "{said}");
    }
    let said = refused("scripts:\n  env: {A: hush1, A: hush2}\n");
    assert!(said.contains("duplicate") && said.contains("\"A\"") && !said.contains("hush"), "{said}");
}

#[test]
fn a_token_is_written_or_named_and_never_told() {
    use super::Token;
    let token =
        |text: &str| read(&format!("api: {{token: {text}}}\n")).map(|read| read.file.api.token.unwrap());
    for text in ["hush-hush", "'${A}'", "{env: A}", "{file: /a}"] {
        let found = token(text).unwrap();
        assert_eq!(matches!(found, Token::Written(_)), text == "hush-hush");
        assert!(!format!("{found:?}").contains("hush"), "{found:?}");
    }
    assert_eq!(token("'${A}'").unwrap(), token("{env: A}").unwrap());
    for text in
        ["12345678", "true", "[hush]", "{env: A, hush: b}", "{hush: 1}", "'${hush'", "'${hu sh}'", "'${}'"]
    {
        let said = refused(&format!("api:\n  token: {text}\n"));
        assert!(said.contains("api.token: expected a token"), "{said}");
        assert!(!said.contains("hush") && !said.contains("12345678"), "{said}");
    }
}

#[test]
fn a_filter_that_does_not_compile_is_refused_with_its_place() {
    let said = refused("\nfilter: response.status >=\n");
    assert!(
        said.starts_with("agent.yaml, line 2: filter: found \"response.status >=\", column 19: "),
        "{said}"
    );
}

#[test]
fn no_error_tells_the_password_of_a_url() {
    let said = refused("s3Endpoint: http://user:hush@minio:9000\n");
    assert!(said.contains("s3Endpoint") && said.contains("without user") && !said.contains("hush"), "{said}");
}

#[test]
fn a_file_is_no_larger_than_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.yaml");
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    let Err(error) = super::read(&path) else { panic!("was taken") };
    assert!(error.to_string().contains("larger than 1048576 bytes"), "{error}");
    let Err(error) = super::read(&dir.path().join("none.yaml")) else { panic!("was taken") };
    assert!(error.to_string().contains("none.yaml: No such file"), "{error}");
}

#[test]
fn aliases_do_not_grow_without_bounds() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(refused(&bomb).contains("repetition limit"), "{}", refused(&bomb));
}

#[test]
fn differences_are_told_by_key() {
    let yaml = |text: &str| read(text).unwrap().yaml;
    let old = yaml("capture: {ports: [80], trim: true}\nscripts: {env: {A: x}}\n");
    assert_eq!(differences(&old, &old), [""; 0]);
    let new = yaml("capture: {ports: [81], trim: true}\nscripts: {env: {A: y}}\nstore: {mode: off}\n");
    assert_eq!(differences(&old, &new), ["capture.ports", "scripts.env.A", "store.mode"]);
    assert_eq!(differences(&old, &yaml("")), ["capture.ports", "capture.trim", "scripts.env.A"]);
    assert_eq!(differences(&yaml("capture:\n"), &yaml("capture: {}\n")), [""; 0]);
}
