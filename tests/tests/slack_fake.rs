//! The fake refuses what Slack refuses: a client that passes here has been told of its faults.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use testkit::slack::{Channel, FakeConfig, Fault, Injection, SlackFake, Token};
use tokio::runtime::Runtime;

const CHANNEL: &str = FakeConfig::CHANNEL;

struct Bench {
    fake: SlackFake,
    client: Client,
    runtime: Runtime,
}

impl Bench {
    fn new(config: FakeConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { fake: SlackFake::local(config).unwrap(), client, runtime: Runtime::new().unwrap() }
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(self.fake.url() + path)
    }

    fn send(&self, request: reqwest::RequestBuilder) -> (StatusCode, String) {
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            (response.status(), response.text().await.unwrap())
        })
    }

    fn json(&self, request: reqwest::RequestBuilder) -> Value {
        serde_json::from_str(&self.send(request).1).unwrap()
    }

    /// A JSON call with the valid token.
    fn call(&self, method: &str, body: &Value) -> Value {
        self.json(self.request(&format!("/api/{method}")).bearer_auth(FakeConfig::TOKEN).json(body))
    }

    fn error(&self, method: &str, body: &Value) -> String {
        self.call(method, body)["error"].as_str().unwrap_or("ok").to_owned()
    }

    fn form(&self, method: &str, form: &[(&str, &str)]) -> Value {
        self.json(self.request(&format!("/api/{method}")).bearer_auth(FakeConfig::TOKEN).form(form))
    }

    fn post(&self, text: &str) -> String {
        let posted = self.call("chat.postMessage", &json!({"channel": CHANNEL, "text": text}));
        posted["ts"].as_str().unwrap().to_owned()
    }

    /// Steps one and two; the file's id.
    fn upload(&self, bytes: &'static [u8]) -> String {
        let length = bytes.len().to_string();
        let ticket = self.form("files.getUploadURLExternal", &[("filename", "a.pcap"), ("length", &length)]);
        let (status, body) = self.send(self.client.post(ticket["upload_url"].as_str().unwrap()).body(bytes));
        assert_eq!((status, body), (StatusCode::OK, format!("OK - {length}")));
        ticket["file_id"].as_str().unwrap().to_owned()
    }
}

#[test]
fn tokens_and_bodies() {
    // Without the mark of secrets: what is told here of tokens in bodies is the fake's own affair.
    let token = "xoxb-of-this-test";
    let bench = Bench::new(FakeConfig {
        tokens: vec![Token::new(FakeConfig::TOKEN), Token::new(token)],
        ..FakeConfig::default()
    });
    let post = || bench.request("/api/chat.postMessage");
    let message = json!({"channel": CHANNEL, "text": "t"});
    let error = |request| bench.json(request)["error"].as_str().unwrap_or("ok").to_owned();
    assert_eq!(error(post().json(&message)), "not_authed");
    assert_eq!(error(post().bearer_auth("xoxb-other").json(&message)), "invalid_auth");
    let with_token = json!({"channel": CHANNEL, "text": "t", "token": token});
    assert_eq!(error(post().json(&with_token)), "not_authed", "a token in JSON is not looked at");
    assert_eq!(error(post().bearer_auth(token).json(&json!([message]))), "json_not_object");
    assert_eq!(error(post().bearer_auth(token).body(message.to_string())), "missing_post_type");
    let plain = post().bearer_auth(token).header("content-type", "text/csv").body(message.to_string());
    assert_eq!(error(plain), "invalid_post_type");
    let broken = post().bearer_auth(token).header("content-type", "application/json").body("{");
    assert_eq!(error(broken), "invalid_json");
    assert_eq!(bench.error("chat.unknown", &message), "unknown_method");
    assert_eq!(bench.error("auth.test", &json!({})), "ok");
    assert!(bench.fake.messages().is_empty());
    let form = post().form(&[("token", token), ("channel", CHANNEL), ("attachments", r#"[{"text": "a"}]"#)]);
    assert_eq!(error(form), "ok", "forms carry the token and JSON in strings");
    assert_eq!(bench.fake.messages().len(), 1);
}

#[test]
fn what_a_message_needs() {
    let bench = Bench::new(FakeConfig::default());
    let attachments = |list: Value| json!({"channel": CHANNEL, "attachments": list});
    let many = |n| attachments(Value::Array(vec![json!({"text": "a"}); n]));
    let cases = [
        (json!({"text": "t"}), "channel_not_found"),
        (json!({"channel": "C0NOTTHERE", "text": "t"}), "channel_not_found"),
        (json!({"channel": CHANNEL}), "no_text"),
        (json!({"channel": CHANNEL, "text": ""}), "no_text"),
        (attachments(json!([{"color": "#ff0000"}])), "no_text"),
        (attachments(json!({"text": "a"})), "invalid_attachments"),
        (attachments(json!(["a"])), "invalid_attachments"),
        (attachments(json!([{"text": 5}])), "invalid_attachments"),
        (attachments(json!([{"text": "a", "fields": {"Service": "shop"}}])), "invalid_attachments"),
        (attachments(json!([{"text": "a", "fields": [{"title": "t", "value": 5}]}])), "invalid_attachments"),
        (attachments(json!([{"text": "a".repeat(300_000)}])), "attachment_payload_limit_exceeded"),
        (many(101), "too_many_attachments"),
        (json!({"channel": CHANNEL, "text": "t", "thread_ts": "1.000001"}), "thread_not_found"),
    ];
    for (body, expected) in cases {
        assert_eq!(bench.error("chat.postMessage", &body), expected);
    }
    assert!(bench.fake.messages().is_empty());
    assert_eq!(bench.error("chat.postMessage", &many(100)), "ok");
    bench.post(&"é".repeat(50_000));
    assert_eq!(bench.fake.messages()[1].text.chars().count(), 40_000);
}

#[test]
fn membership_and_scopes() {
    let private = Channel { private: true, ..Channel::new("C00PRIVATE", "private").not_joined() };
    let config = FakeConfig {
        tokens: vec![Token::new(FakeConfig::TOKEN), Token::new("narrow").without("chat:write.public")],
        channels: vec![
            Channel::new(CHANNEL, "alerts").not_joined(),
            private,
            Channel { archived: true, ..Channel::new("C0ARCHIVED", "old") },
        ],
        ..FakeConfig::default()
    };
    let bench = Bench::new(config);
    let message = |channel: &str| json!({"channel": channel, "text": "t"});
    assert_eq!(bench.error("chat.postMessage", &message("C00PRIVATE")), "channel_not_found");
    assert_eq!(bench.error("chat.postMessage", &message("C0ARCHIVED")), "is_archived");
    assert_eq!(bench.error("conversations.join", &json!({"channel": "C00PRIVATE"})), "channel_not_found");
    let narrow = bench.request("/api/chat.postMessage").bearer_auth("narrow").json(&message(CHANNEL));
    assert_eq!(bench.json(narrow)["error"], "not_in_channel");
    assert_eq!(
        bench.error("chat.postMessage", &message(CHANNEL)),
        "ok",
        "chat:write.public is enough to post"
    );

    let id = bench.upload(b"bytes");
    let complete = json!({"files": [{"id": id}], "channel_id": CHANNEL});
    assert_eq!(bench.error("files.completeUploadExternal", &complete), "not_in_channel");
    assert_eq!(bench.error("conversations.join", &json!({"channel": CHANNEL})), "ok");
    assert_eq!(bench.error("files.completeUploadExternal", &complete), "ok");

    let bench = Bench::new(FakeConfig {
        tokens: vec![Token::new(FakeConfig::TOKEN).without("files:write")],
        ..FakeConfig::default()
    });
    let refusal = bench.form("files.getUploadURLExternal", &[("filename", "a"), ("length", "1")]);
    assert_eq!((&refusal["error"], &refusal["needed"]), (&"missing_scope".into(), &"files:write".into()));
    assert!(refusal["provided"].as_str().unwrap().contains("chat:write"));
}

#[test]
fn the_first_and_second_step_of_an_upload() {
    let bench = Bench::new(FakeConfig { max_file: 1_000_000, ..FakeConfig::default() });
    let begin = |form: &[(&str, &str)]| bench.form("files.getUploadURLExternal", form);
    for form in [
        &[("filename", "a")][..],
        &[("length", "5")],
        &[("filename", "a"), ("length", "0")],
        &[("filename", "a"), ("length", "five")],
    ] {
        assert_eq!(begin(form)["error"], "invalid_arguments", "{form:?}");
    }
    let json_body = json!({"filename": "a", "length": 5});
    assert_eq!(bench.error("files.getUploadURLExternal", &json_body), "invalid_arguments", "forms only");
    assert_eq!(begin(&[("filename", "a"), ("length", "1000001")])["error"], "file_upload_size_restricted");

    let ticket = begin(&[("filename", "a"), ("length", "5")]);
    let url = ticket["upload_url"].as_str().unwrap();
    let put = |bytes: &'static str| bench.client.post(url).body(bytes);
    assert_eq!(bench.send(put("four")).1, "length_mismatch");
    assert_eq!(
        bench.send(bench.client.request(Method::PUT, url).body("bytes")).0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(bench.send(put("bytes")).0, StatusCode::OK);
    assert_eq!(bench.send(put("bytes")).1, "already_uploaded");
    assert!(bench.fake.violations().is_empty());
    bench.send(put("bytes").bearer_auth(FakeConfig::TOKEN));
    assert_eq!(bench.fake.violations().len(), 1);
    assert_eq!(bench.send(bench.request("/upload/v1/F99").body("x")).0, StatusCode::NOT_FOUND);
}

#[test]
fn the_third_step_of_an_upload() {
    let bench = Bench::new(FakeConfig::default());
    let ts = bench.post("parent");
    let id = bench.upload(b"bytes");
    let no_bytes = bench.form("files.getUploadURLExternal", &[("filename", "a"), ("length", "5")]);
    let error = |body: Value| bench.error("files.completeUploadExternal", &body);
    let files = json!([{"id": id, "title": "A <title>"}]);
    for (body, expected) in [
        (json!({"channel_id": CHANNEL}), "invalid_arguments"),
        (json!({"files": [], "channel_id": CHANNEL}), "invalid_arguments"),
        (json!({"files": [{"id": id}, {"id": id}], "channel_id": CHANNEL}), "invalid_arguments"),
        (json!({"files": [{"id": "F99"}], "channel_id": CHANNEL}), "file_not_found"),
        (json!({"files": [{"id": no_bytes["file_id"]}], "channel_id": CHANNEL}), "file_not_found"),
        (json!({"files": files, "channel_id": "alerts"}), "invalid_arguments"),
        (json!({"files": files, "channel_id": "C0NOTTHERE"}), "channel_not_found"),
        (json!({"files": files, "channel_id": CHANNEL, "thread_ts": "1.000001"}), "thread_not_found"),
        (json!({"files": files, "channel_id": CHANNEL, "thread_ts": ts}), "ok"),
        (json!({"files": files, "channel_id": CHANNEL, "thread_ts": ts}), "file_not_found"),
    ] {
        assert_eq!(error(body.clone()), expected, "{body}");
    }
    let messages = bench.fake.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].files.len(), messages[0].replies.len()), (1, 1));
    assert_eq!(messages[0].files[0].title, "A <title>");
    let info = bench.form("files.info", &[("file", &id)]);
    assert_eq!(info["file"]["shares"]["public"][CHANNEL][0]["ts"], messages[0].replies[0].ts.as_str());

    let get = |path: &str| bench.send(bench.client.get(bench.fake.url() + path));
    assert_eq!(get(&messages[0].files[0].url).1, "bytes");
    let page = get("/").1;
    assert!(page.contains("A &lt;title&gt;") && !page.contains("A <title>"));
    let listed: Value = serde_json::from_str(&get("/_fake/messages").1).unwrap();
    assert_eq!(listed[0]["files"][0]["name"], "a.pcap");
    assert_eq!(listed[0]["replies"][0]["via"], "upload");
}

#[test]
fn webhooks() {
    let archived = Channel { archived: true, ..Channel::new(CHANNEL, "alerts") };
    let bench = Bench::new(FakeConfig::default());
    let hook = || bench.client.post(bench.fake.webhook_url());
    let answer = |request| {
        let (status, body) = bench.send(request);
        (status.as_u16(), body)
    };
    let good = json!({"attachments": [{"text": "a"}]});
    assert_eq!(answer(hook().json(&good)), (200, "ok".to_owned()));
    assert_eq!(answer(hook().json(&json!([good]))), (400, "invalid_payload".to_owned()));
    assert_eq!(answer(hook().body(good.to_string())), (400, "invalid_payload".to_owned()));
    assert_eq!(answer(hook().json(&json!({}))), (400, "no_text".to_owned()));
    let many = json!({"attachments": vec![json!({"text": "a"}); 101]});
    assert_eq!(answer(hook().json(&many)), (400, "too_many_attachments".to_owned()));
    let wrong = bench.request("/services/T0/B0/wrong").json(&good);
    assert_eq!(answer(wrong), (404, "no_service".to_owned()));
    bench.fake.set_channel(archived);
    assert_eq!(answer(hook().json(&good)), (410, "channel_is_archived".to_owned()));
    assert_eq!(bench.fake.messages().len(), 1);
}

#[test]
fn the_rate_is_enforced_per_channel() {
    let config = FakeConfig {
        channels: vec![Channel::new(CHANNEL, "a"), Channel::new("C0000OTHER", "b")],
        messages_per_second: Some(2),
        ..FakeConfig::default()
    };
    let bench = Bench::new(config);
    let status = |channel: &str| {
        let request = bench.request("/api/chat.postMessage").bearer_auth(FakeConfig::TOKEN);
        let request = request.json(&json!({"channel": channel, "text": "t"}));
        bench.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let after = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
            (response.status().as_u16(), after)
        })
    };
    assert_eq!([status(CHANNEL).0, status(CHANNEL).0, status("C0000OTHER").0], [200, 200, 200]);
    assert_eq!(status(CHANNEL), (429, Some("1".to_owned())));
    std::thread::sleep(std::time::Duration::from_millis(1_050));
    assert_eq!(status(CHANNEL).0, 200);
}

#[test]
fn faults_come_as_often_as_told_and_take_effect_only_if_told() {
    let bench = Bench::new(FakeConfig::default());
    let control = |path: &str, body: Value| bench.send(bench.request(path).json(&body));
    let told =
        json!({"method": "chat.postMessage", "times": 2, "fault": {"status": {"code": 503, "body": "busy"}}});
    assert_eq!(control("/_fake/fail", told).1, "ok");
    assert_eq!(control("/_fake/fail", json!({"method": "m", "times": 1, "fault": "wrong"})).0.as_u16(), 422);
    let post = || {
        let request = bench.request("/api/chat.postMessage").bearer_auth(FakeConfig::TOKEN);
        request.json(&json!({"channel": CHANNEL, "text": "t"}))
    };
    assert_eq!(bench.send(post()), (StatusCode::SERVICE_UNAVAILABLE, "busy".to_owned()));
    assert_eq!(bench.send(post()).0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.send(post()).0, StatusCode::OK);
    assert_eq!(bench.fake.messages().len(), 1);

    let half = Injection::new("chat.postMessage", 1, Fault::Half);
    for (injection, messages) in [(half.clone(), 1), (half.applied(), 2)] {
        bench.fake.fail(injection);
        let broken = bench.runtime.block_on(async { post().send().await?.text().await });
        assert!(broken.is_err(), "{broken:?}");
        assert_eq!(bench.fake.messages().len(), messages);
    }
    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::Silent));
    let silent = post().timeout(std::time::Duration::from_millis(100));
    assert!(bench.runtime.block_on(async { silent.send().await }).unwrap_err().is_timeout());
    bench.fake.fail(
        Injection::new(
            "chat.postMessage",
            1,
            Fault::Status { code: 500, retry_after: None, body: String::new() },
        )
        .channel("C0000OTHER"),
    );
    assert_eq!(bench.send(post()).0, StatusCode::OK, "a fault of another channel");
    assert_eq!(control("/_fake/channel", json!({"id": "C0000ADDED", "member": true})).1, "ok");
    assert_eq!(bench.error("chat.postMessage", &json!({"channel": "C0000ADDED", "text": "t"})), "ok");
    assert_eq!(control("/_fake/reset", json!({})).1, "ok");
    assert!(bench.fake.messages().is_empty());
}

#[test]
fn it_stops_when_dropped_even_with_a_silent_connection() {
    let bench = Bench::new(FakeConfig::default());
    bench.fake.fail(Injection::new("auth.test", 1, Fault::Silent));
    let request = bench.request("/api/auth.test").bearer_auth(FakeConfig::TOKEN).send();
    let hanging = bench.runtime.spawn(request);
    while bench.fake.requests().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let address = bench.fake.address();
    drop(bench.fake);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(bench.runtime.block_on(hanging).unwrap().is_err());
}
