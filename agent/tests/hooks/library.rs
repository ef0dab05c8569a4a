//! The ready scripts, and the types against what is really there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agent::outbox::Delivery;

use crate::rig::{PATIENCE, Rig, files_in, item};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts")
}

/// Global names and their members in the types: `declare const NAME: {` with a method a line, or without members.
fn typed() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(scripts().join("remora.d.ts")).unwrap();
    let mut globals: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("declare const ") {
            let name = rest.split(':').next().unwrap().to_owned();
            globals.insert(name.clone(), BTreeSet::new());
            open = line.ends_with('{').then_some(name);
        } else if line == "};" {
            open = None;
        } else if let (Some(global), Some((member, _))) =
            (&open, line.trim_start().split_once('(').or_else(|| line.trim_start().split_once(": {")))
            && line.starts_with("  ")
            && !line.starts_with("   ")
            && !member.contains(['*', '/', ' '])
        {
            globals.get_mut(global).unwrap().insert(member.to_owned());
        }
    }
    globals
}

#[test]
fn the_types_are_what_is_there_and_nothing_else() {
    let rig = Rig::new();
    let lines = rig.body(
        "var plain = new Set(Object.getOwnPropertyNames(globalThis).filter(name => !['onItemCaptured'].includes(name)));\n\
         console.log(JSON.stringify([...plain])); \n\
         for (var name of plain) { var it = globalThis[name]; \n\
           if (Object.isFrozen(it) && typeof it === 'object' && it) console.log(name + ':' + Object.keys(it).join()) }",
    );
    let typed = typed();
    let mut real: BTreeMap<String, BTreeSet<String>> = lines[1..]
        .iter()
        .map(|line| {
            let (name, members) = line.split_once(':').unwrap();
            (name.to_owned(), members.split(',').map(str::to_owned).collect())
        })
        .collect();
    real.insert("env".to_owned(), BTreeSet::new());
    assert_eq!(typed, real);

    // And no global that is neither typed nor JavaScript's own.
    let all: BTreeSet<String> = serde_json::from_str(&lines[0]).unwrap();
    let runtime = rquickjs::Runtime::new().unwrap();
    let context = rquickjs::Context::full(&runtime).unwrap();
    let own: BTreeSet<String> = context.with(|ctx| {
        ctx.eval::<Vec<String>, _>("Object.getOwnPropertyNames(globalThis)").unwrap().into_iter().collect()
    });
    let extra: Vec<&String> = all.difference(&own).filter(|name| !typed.contains_key(*name)).collect();
    assert!(extra.is_empty(), "{extra:?}");
}

#[test]
fn alert_on_error_alerts_on_errors_and_leaves_nothing_behind() {
    let rig = Rig::new().env("SLACK_AUTH_TOKEN", "xoxb-hushhush-1").env("SLACK_CHANNEL_ID", "C12345678");
    let (running, failures) = rig.load(&[scripts().join("alert-on-error.js")]);
    assert_eq!(failures, []);
    for n in 0..6 {
        running.deliver(&item(n));
    }
    assert!(running.drain(PATIENCE));
    let stats = running.shutdown(PATIENCE).remove(0);
    assert_eq!((stats.calls, stats.errors), (6, 0), "{:?}", rig.log.about());
    assert_eq!(
        stats.title.as_deref(),
        Some("Alert on HTTP errors: a Slack message with the stream's PCAP and the item")
    );
    // 0 and 4 are 500, 2 and 5 have no response, the others are 200.
    let queued = rig.outbox.0.lock().unwrap();
    assert_eq!(queued.len(), 2);
    let Delivery::SlackBot { channel, alert, fields, files, .. } = &queued[0].delivery else { panic!() };
    assert_eq!(channel, "C12345678");
    assert_eq!(alert.pretext, "HTTP 500 from shop:80");
    assert_eq!(alert.text, "GET /pay was answered with 500 x");
    assert!(fields.contains(&("Took".to_owned(), "12.5 ms".to_owned())));
    assert_eq!(files[0].0, "stream-000000000001.pcap");
    let item: serde_json::Value = serde_json::from_slice(&queued[0].files[1]).unwrap();
    assert_eq!(item["response"]["status"], 500);
    assert_eq!(files_in(&rig.dir.path().join("data/alert-on-error.js")), Vec::<String>::new());
}

#[test]
fn alert_on_error_is_configurable_and_says_what_it_lacks() {
    let rig = Rig::new();
    let (_, failures) = rig.load(&[scripts().join("alert-on-error.js")]);
    assert!(failures[0].to_string().contains("SLACK_AUTH_TOKEN is not set"), "{failures:?}");
    for (key, value, alerts) in [
        ("ALERT_MIN_STATUS", "200", 4),
        ("ALERT_MAX_STATUS", "499", 0),
        ("ALERT_NAMESPACES", "dev, prod", 2),
        ("ALERT_NAMESPACES", "dev", 0),
        ("ALERT_IGNORE_PATHS", "/healthz,/pay", 0),
    ] {
        let rig = Rig::new()
            .env("SLACK_AUTH_TOKEN", "xoxb-hushhush-1")
            .env("SLACK_CHANNEL_ID", "C1")
            .env(key, value);
        let (running, failures) = rig.load(&[scripts().join("alert-on-error.js")]);
        assert_eq!(failures, []);
        for n in 0..6 {
            running.deliver(&item(n));
        }
        assert!(running.drain(PATIENCE));
        assert_eq!(rig.outbox.0.lock().unwrap().len(), alerts, "{key}={value}");
    }
    let mut rig = Rig::new().env("SLACK_AUTH_TOKEN", "xoxb-hushhush-1").env("SLACK_CHANNEL_ID", "C1");
    rig.store = false;
    let (running, _) = rig.load(&[scripts().join("alert-on-error.js")]);
    running.deliver(&item(0));
    assert!(running.drain(PATIENCE));
    let queued = rig.outbox.0.lock().unwrap();
    assert_eq!(queued[0].files.len(), 1, "without the capture rather than not at all");
    assert!(rig.log.console()[0].starts_with("no capture for the alert: pcap.path: the PCAP store is off"));
}
