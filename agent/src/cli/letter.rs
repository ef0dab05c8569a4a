//! What a letter of the outbox says, for people: every kind in lines of its own, secrets in none (a letter's content has none).
//!
//! Traffic may say anything: no control characters reach the terminal. A kind that this version does not know is shown as
//! it is stored.

use serde_json::Value;

use crate::utc;

/// In one line, for the list.
pub(super) fn title(content: &Value) -> String {
    let text = |name: &str| content[name].as_str().unwrap_or_default();
    match text("kind") {
        "alert" => {
            let part = |name: &str| content["alert"][name].as_str().unwrap_or_default().trim();
            [part("pretext"), part("text")].join(" ").trim().to_owned()
        }
        "elastic" => format!("document {} for {}", text("id"), text("index")),
        "elasticMany" => format!("{} for {}", many(&content["documents"], "document"), text("index")),
        "web" => content["message"]["body"].as_str().unwrap_or_default().to_owned(),
        "splunk" => {
            let body = &content["envelope"]["body"];
            let one = body["event"].as_str().or_else(|| body["raw"].as_str()).map(str::to_owned);
            one.unwrap_or_else(|| many(&body["events"], "event"))
        }
        "influx" => text("line").to_owned(),
        "object" => text("key").to_owned(),
        kind => kind.to_owned(),
    }
}

fn many(list: &Value, what: &str) -> String {
    let count = list.as_array().map_or(0, Vec::len);
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// All of it.
pub(super) fn lines(content: &Value) -> Vec<String> {
    let mut page = Page(Vec::new());
    let text = |name: &str| content[name].as_str().unwrap_or_default();
    match text("kind") {
        "alert" => page.alert(content),
        "elastic" => {
            page.line("index", text("index"));
            page.document(text("id"), text("json"));
        }
        "elasticMany" => {
            page.line("index", text("index"));
            for document in content["documents"].as_array().into_iter().flatten() {
                let part = |at: usize| document[at].as_str().unwrap_or_default();
                page.document(part(0), part(1));
            }
        }
        "web" => {
            let part = |name: &str| content["message"][name].as_str().unwrap_or_default();
            page.line("type", part("mime"));
            page.json("body", part("body"));
        }
        "splunk" => page.splunk(&content["envelope"]),
        "influx" => page.line("point", text("line")),
        "object" => {
            page.line("key", text("key"));
            page.line("url", text("url"));
        }
        _ => page.json("content", &content.to_string()),
    }
    page.0
}

struct Page(Vec<String>);

impl Page {
    fn alert(&mut self, content: &Value) {
        let part = |name: &str| content["alert"][name].as_str().unwrap_or_default();
        self.line("title", part("pretext"));
        self.line("colour", part("color"));
        self.line("text", part("text"));
        for field in content["fields"].as_array().into_iter().flatten() {
            let part = |at: usize| field[at].as_str().unwrap_or_default();
            self.line("field", &format!("{}: {}", part(0), part(1)));
        }
        if let Some(count) = content["held"]["count"].as_u64() {
            let since = utc::text(content["held"]["since"].as_u64().unwrap_or_default() / 1_000);
            self.line("held back", &format!("{count} since {since}"));
        }
    }

    fn document(&mut self, id: &str, json: &str) {
        self.line("id", id);
        self.json("document", json);
    }

    fn splunk(&mut self, envelope: &Value) {
        for pair in envelope["metadata"].as_array().into_iter().flatten() {
            let part = |at: usize| pair[at].as_str().unwrap_or_default();
            self.line(part(0), part(1));
        }
        let body = &envelope["body"];
        if let Some(text) = body["raw"].as_str() {
            self.line("raw", text);
        }
        let one = body["event"].as_str().map(|event| (envelope["time"].as_u64(), event));
        let many = body["events"].as_array().into_iter().flatten();
        let many = many.map(|event| (event[0].as_u64(), event[1].as_str().unwrap_or_default()));
        for (time, event) in one.into_iter().chain(many) {
            self.line("time", &utc::text(time.unwrap_or_default() / 1_000_000_000));
            self.json("event", event);
        }
    }

    /// Spread over lines if it is JSON.
    fn json(&mut self, name: &str, text: &str) {
        let value = serde_json::from_str::<Value>(text);
        let spread = value.and_then(|value| serde_json::to_string_pretty(&value));
        self.line(name, spread.as_deref().unwrap_or(text));
    }

    /// A name and what it is, its further lines below; nothing where there is nothing.
    fn line(&mut self, name: &str, text: &str) {
        for (at, line) in text.trim_end().lines().enumerate() {
            let name = if at == 0 { name } else { "" };
            self.0.push(format!("{:11}  {}", plain(name), plain(line)));
        }
    }
}

/// Without control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(content: Value, in_list: &str, shown: &[&str]) {
        assert_eq!(title(&content), in_list);
        assert_eq!(lines(&content), shown, "{content}");
    }

    #[test]
    fn alerts() {
        let alert = json!({"pretext": "Failed", "text": "first\u{1b}[31m\nsecond", "color": "#ff0000"});
        let held = json!({"count": 12, "since": 1_700_000_000_000u64, "closing": false});
        check(
            json!({"kind": "alert", "alert": alert, "fields": [["Service", "shop"]], "held": held}),
            "Failed first\u{1b}[31m\nsecond",
            &[
                "title        Failed",
                "colour       #ff0000",
                "text         first [31m",
                "             second",
                "field        Service: shop",
                "held back    12 since 2023-11-14T22:13:20Z",
            ],
        );
    }

    #[test]
    fn documents() {
        check(
            json!({"kind": "elastic", "index": "items", "id": "a1", "json": r#"{"status":500}"#}),
            "document a1 for items",
            &[
                "index        items",
                "id           a1",
                "document     {",
                "               \"status\": 500",
                "             }",
            ],
        );
        check(
            json!({"kind": "elasticMany", "index": "items", "documents": [["a1", "1"], ["a2", "2"]]}),
            "2 documents for items",
            &["index        items", "id           a1", "document     1", "id           a2", "document     2"],
        );
    }

    #[test]
    fn bodies_points_and_objects() {
        check(
            json!({"kind": "web", "message": {"mime": "text/plain", "body": "up\n"}}),
            "up\n",
            &["type         text/plain", "body         up"],
        );
        check(json!({"kind": "influx", "line": "m a=1 1"}), "m a=1 1", &["point        m a=1 1"]);
        check(
            json!({"kind": "object", "key": "a/b.pcap", "url": "https://b/a/b.pcap"}),
            "a/b.pcap",
            &["key          a/b.pcap", "url          https://b/a/b.pcap"],
        );
        check(
            json!({"kind": "new", "x": 1}),
            "new",
            &[
                "content      {",
                "               \"kind\": \"new\",",
                "               \"x\": 1",
                "             }",
            ],
        );
    }

    #[test]
    fn events() {
        let envelope = |body: Value| {
            json!({"kind": "splunk", "envelope":
                {"time": 1_700_000_000_000_000_000u64, "metadata": [["host", "n1"]], "body": body}})
        };
        let time = "time         2023-11-14T22:13:20Z";
        let host = "host         n1";
        check(envelope(json!({"event": "7"})), "7", &[host, time, "event        7"]);
        check(envelope(json!({"raw": "as it is"})), "as it is", &[host, "raw          as it is"]);
        check(
            envelope(json!({"events": [[1_700_000_000_000_000_000u64, "7"]]})),
            "1 event",
            &[host, time, "event        7"],
        );
    }
}
