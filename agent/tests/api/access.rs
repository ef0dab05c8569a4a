//! Who is let in: each route without and with a wrong token, of another site's page, under another name.

use crate::rig::{Answer, Rig, TOKEN, ask};

const ROUTES: [&str; 16] = [
    "GET /",
    "GET /api",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /api/status",
    "GET /api/items",
    "GET /api/items/000000000001-0",
    "GET /api/items/stream",
    "GET /api/items/ws",
    "GET /api/streams",
    "GET /api/streams/000000000001/pcap",
    "GET /api/scripts",
    "GET /api/outbox",
    "POST /api/outbox/1/retry",
    "DELETE /api/outbox/1",
];

fn send(rig: &Rig, route: &str, headers: &str) -> Answer {
    ask(rig.api, &format!("{route} HTTP/1.1\r\n{headers}"))
}

#[test]
fn without_the_token_no_route_tells_anything() {
    let rig = Rig::new(Some(TOKEN));
    for route in ROUTES.into_iter().chain(["GET /nothing", "PUT /api/items"]) {
        for given in ["", "authorization: Bearer wrong-token-of-16\r\n", "authorization: Basic YTpi\r\n"] {
            let answer = send(&rig, route, &format!("host: localhost\r\n{given}"));
            assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{}", answer.head);
            answer.says(401, "send the API's token");
        }
    }
    assert_eq!(rig.metric("remora_api_refused_total{reason=\"token\"}"), 54.0);
    assert_eq!(rig.metric("remora_api_answers_total{status=\"4xx\"}"), 54.0);
}

#[test]
fn pages_of_other_sites_and_other_names_get_nothing_even_with_the_token() {
    for token in [None, Some(TOKEN)] {
        let rig = Rig::new(token);
        let bearer = format!("authorization: Bearer {TOKEN}\r\n");
        for route in ROUTES {
            for headers in [
                "host: evil.example\r\n",
                "host: localhost\r\norigin: http://evil.example\r\n",
                "host: localhost\r\nsec-fetch-site: cross-site\r\n",
            ] {
                let answer = send(&rig, route, &format!("{headers}{bearer}"));
                assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
                answer.says(403, "localhost");
            }
        }
        assert_eq!(rig.metric("remora_api_refused_total{reason=\"origin\"}"), 48.0);
    }
}

#[test]
fn health_and_metrics_have_an_address_without_a_token_and_nothing_else() {
    let rig = Rig::new(Some(TOKEN));
    for route in ROUTES {
        let answer = ask(rig.metrics, &format!("{route} HTTP/1.1\r\nhost: localhost\r\n"));
        let open = ["/healthz", "/readyz", "/metrics"].iter().any(|path| route.ends_with(path));
        assert_eq!(answer.status, if open { 200 } else { 404 }, "{route}");
    }
}

#[test]
fn raw_packets_and_changes_take_a_token_also_on_the_loopback() {
    let open = Rig::new(None);
    let send = |route: &str| ask(open.api, &format!("{route} HTTP/1.1\r\nhost: localhost\r\n"));
    send("GET /api/items").is(200);
    send("GET /api/streams/000000000001/pcap").says(403, "raw packets show what items hide");
    send("GET /api/streams/000000000001/pcap?redact=true").says(404, "store.mode");
    send("POST /api/outbox/1/retry").says(403, "changes need a token");
    send("DELETE /api/outbox/1").says(403, "changes need a token");
    let closed = Rig::new(Some(TOKEN));
    closed.get("/api/streams/000000000001/pcap").says(404, "store.mode");
}
