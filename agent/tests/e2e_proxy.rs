//! HTTPS through a proxy: a tunnel, inside which nobody but the server reads; and no secret in what is said of its failures.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use common::{REMORA, Ran, script};
use testkit::canary::MARK;
use testkit::synth::Capture;
use testkit::tls::{Proxy, TlsServer};

const SCRIPT: &str = "
function onItemCaptured() {
  try { console.log('got ' + vendor.webhook('POST', URL, 'hello', {Authorization: TOKEN})); }
  catch (error) { console.log('not: ' + error.message); }
  vendor.splunk('https://splunk.example:8088', TOKEN, {a: 1});
}";

fn replay(dir: &Path, proxy: SocketAddr, ca: Option<&Path>) -> Ran {
    let capture = dir.join("one.pcap");
    let mut file = Capture::create(&capture).unwrap();
    let mut connection = file.open(40_000).unwrap();
    let (ask, answer) = ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 204 Fine\r\n\r\n");
    file.exchange(&mut connection, ask.as_bytes(), answer.as_bytes()).unwrap();
    file.close(connection).unwrap();
    drop(file);
    let mut command = Command::new(REMORA);
    for name in ["http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "no_proxy", "all_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command.env("https_proxy", format!("http://remora:pw-{MARK}@{proxy}")).env("REMORA_LOG", "trace");
    command.arg("replay").arg(capture).args(["--json", "--drain-timeout", "3", "--script"]);
    command.arg(script(dir, "send.js", SCRIPT));
    command.args(["--env", &format!("TOKEN=token-{MARK}")]);
    command.args(["--env", &format!("URL=https://hooks.example/services/{MARK}?key={MARK}")]);
    if let Some(ca) = ca {
        command.arg("--ca-file").arg(ca);
    }
    let ran: Ran = command.output().unwrap().into();
    let line = ran.stderr.lines().chain(ran.stdout.lines()).find(|line| line.contains(MARK));
    assert_eq!(line, None, "a secret is told");
    ran.never_panicked()
}

#[test]
fn a_tunnel_leads_to_the_server_and_the_proxy_reads_nothing() {
    let server =
        TlsServer::start(&["hooks.example", "splunk.example"], "{\"text\":\"Success\",\"code\":0}").unwrap();
    let proxy = Proxy::start(Some(server.address())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, server.ca()).unwrap();
    let ran = replay(dir.path(), proxy.address(), Some(&ca)).exits(0);
    assert!(ran.stderr.contains("got {\\\"text") || ran.stderr.contains("got {\"text"), "{}", ran.stderr);
    let mut tunnels = proxy.asked();
    tunnels.sort();
    assert_eq!(tunnels.len(), 2, "{tunnels:?}");
    assert!(tunnels[0].starts_with("CONNECT hooks.example:443 HTTP/1.1\r\n"), "{tunnels:?}");
    assert!(tunnels[1].starts_with("CONNECT splunk.example:8088 HTTP/1.1\r\n"), "{tunnels:?}");
    for tunnel in &tunnels {
        let lower = tunnel.to_ascii_lowercase();
        assert!(lower.contains("proxy-authorization: basic "), "{tunnel}");
        assert!(!tunnel.contains("token") && !tunnel.contains("services"), "{tunnel}");
    }
    let asked = server.asked();
    let hook = asked.iter().find(|asked| asked.starts_with("POST /services/")).expect("the webhook");
    assert!(hook.contains(&format!("authorization: token-{MARK}\r\n")) && hook.ends_with("hello"), "{hook}");
    assert!(!hook.to_ascii_lowercase().contains("proxy-authorization"), "{hook}");
    let event =
        asked.iter().find(|asked| asked.starts_with("POST /services/collector/event")).expect("the event");
    assert!(event.contains(&format!("authorization: Splunk token-{MARK}")), "{event}");
}

#[test]
fn what_goes_wrong_on_the_way_is_told_without_secrets() {
    let server = TlsServer::start(&["hooks.example", "splunk.example"], "{}").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(Some(server.address())).unwrap();
    let ran = replay(dir.path(), proxy.address(), None).exits(1);
    assert!(
        ran.stderr.contains("not: vendor.webhook: url: no answer to POST https://hooks.example: "),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("invalid peer certificate"), "{}", ran.stderr);
    assert_eq!(server.asked(), Vec::<String>::new(), "nothing is sent to a server that is not trusted");

    let refuses = Proxy::start(None).unwrap();
    let ran = replay(dir.path(), refuses.address(), None).exits(1);
    assert!(
        ran.stderr.contains("not: vendor.webhook: url: no answer to POST https://hooks.example: "),
        "{}",
        ran.stderr
    );
    assert!(!refuses.asked().is_empty());
}
