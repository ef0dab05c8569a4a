//! Items held against nginx's own access log, request for request.
//!
//! The log format is `$msec $remote_addr:$remote_port $connection $connection_requests "$request" $status $request_length
//! $body_bytes_sent`. It is an account of what was served that knows nothing of packets.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::BufRead;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// Most differences that are described; all are counted.
const DESCRIBED: usize = 20;

/// One request as nginx logged it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Logged {
    connection: u64,
    nth: u64,
    request: String,
    status: u16,
    request_bytes: u64,
    body_bytes: u64,
}

/// One item.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    stream: String,
    index: u64,
    request: String,
    status: u16,
    /// Head alone, and head with body.
    request_bytes: [u64; 2],
    body_bytes: u64,
    chunked: bool,
    error: Option<String>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Lines of the access log.
    pub logged: u64,
    /// Items.
    pub found: u64,
    /// Equal in client, place on the connection, request line, status, size of the request, bytes of the body.
    pub equal: u64,
    /// Cut off by the client, which ended while the response was on its way; equal as far as it came. Part of `equal`.
    pub cut: u64,
    /// Sent when the client was about to go, and never served: no line, and no response. Neither equal nor different.
    pub unserved: u64,
    /// Differences, missing and extra ones.
    pub different: u64,
    /// Clients, by address and port.
    pub clients: u64,
    /// The first differences in words.
    pub described: Vec<String>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    index: u64,
    #[serde(borrow)]
    src: End<'a>,
    #[serde(rename = "requestSize")]
    request_size: u64,
    #[serde(borrow)]
    request: Option<Request<'a>>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
    #[serde(borrow)]
    error: Option<ItemError<'a>>,
}

#[derive(Deserialize)]
struct End<'a> {
    #[serde(borrow)]
    ip: Cow<'a, str>,
    #[serde(borrow)]
    port: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow, rename = "httpVersion")]
    version: Cow<'a, str>,
    #[serde(rename = "headersSize")]
    head_size: u64,
}

#[derive(Deserialize)]
struct Response<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Headers<'a>,
    #[serde(rename = "bodySize")]
    body_size: u64,
}

#[derive(Deserialize)]
struct Headers<'a> {
    #[serde(borrow, rename = "Transfer-Encoding")]
    coding: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ItemError<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

fn logged(line: &str) -> Option<(String, Logged)> {
    let (before, rest) = line.split_once(" \"")?;
    let (request, after) = rest.rsplit_once("\" ")?;
    let mut before = before.split(' ').skip(1);
    let mut after = after.split(' ');
    let client = before.next()?.to_owned();
    let logged = Logged {
        connection: before.next()?.parse().ok()?,
        nth: before.next()?.parse().ok()?,
        request: request.to_owned(),
        status: after.next()?.parse().ok()?,
        request_bytes: after.next()?.parse().ok()?,
        body_bytes: after.next()?.parse().ok()?,
    };
    Some((client, logged))
}

fn found(line: &[u8]) -> Result<(String, Found)> {
    let item: Item<'_> = serde_json::from_slice(line).context("a line of --json")?;
    let request = item.request.as_ref().map_or_else(String::new, |r| {
        format!("{} {} HTTP/{}", r.method, r.target, r.version.trim_start_matches("HTTP/"))
    });
    let response = item.response.as_ref();
    let found = Found {
        stream: item.stream.into_owned(),
        index: item.index,
        request,
        status: response.map_or(0, |r| r.status),
        request_bytes: [item.request.as_ref().map_or(0, |r| r.head_size), item.request_size],
        body_bytes: response.map_or(0, |r| r.body_size),
        chunked: response.is_some_and(|r| r.headers.coding.is_some()),
        error: item.error.map(|e| e.kind.into_owned()),
    };
    Ok((format!("{}:{}", item.src.ip, item.src.port), found))
}

/// Compares items, lines of `remora replay --json`, with an access log.
///
/// # Errors
/// When a line of either cannot be read.
pub fn compare(access_log: &str, mut items: impl BufRead) -> Result<Account> {
    let mut clients: BTreeMap<String, (Vec<Logged>, Vec<Found>)> = BTreeMap::new();
    for line in access_log.lines() {
        let (client, one) =
            logged(line).with_context(|| format!("not a line of the access log: {line:?}"))?;
        clients.entry(client).or_default().0.push(one);
    }
    let mut line = Vec::new();
    while items.read_until(b'\n', &mut line)? > 0 {
        let (client, one) = found(&line)?;
        clients.entry(client).or_default().1.push(one);
        line.clear();
    }
    let mut account = Account { clients: clients.len() as u64, ..Account::default() };
    for (client, (mut logged, mut found)) in clients {
        // A port that is used again has a connection, and a stream, with a higher number.
        logged.sort_by_key(|l| (l.connection, l.nth));
        found.sort_by(|a, b| (&a.stream, a.index).cmp(&(&b.stream, b.index)));
        account.client(&client, &logged, &found);
    }
    Ok(account)
}

impl Account {
    fn client(&mut self, client: &str, logged: &[Logged], found: &[Found]) {
        self.logged += logged.len() as u64;
        self.found += found.len() as u64;
        for n in 0..logged.len().max(found.len()) {
            let difference = match (logged.get(n), found.get(n)) {
                (Some(l), Some(f)) => {
                    // A pipelining client leaves several behind, some of which nginx has served for nobody.
                    let last = logged.get(n + 1).is_none_or(|next| next.connection != l.connection)
                        || (found.get(n + 1).is_some_and(|next| next.stream == f.stream)
                            && unanswered_from(found, n + 1, &f.stream));
                    let together = |n: usize| {
                        let same_stream = found.get(n).map(|o| &o.stream) == Some(&f.stream);
                        (logged.get(n).map(|o| o.connection) == Some(l.connection)) == same_stream
                    };
                    let difference = difference(l, f, last)
                        .or_else(|| (n > 0 && !together(n - 1)).then(|| "on another connection".to_owned()));
                    if difference.is_none() {
                        self.equal += 1;
                        self.cut += u64::from(f.error.is_some());
                    }
                    difference.map(|what| format!("{what}: logged {l:?}, found {f:?}"))
                }
                (Some(l), None) => Some(format!("missing: {l:?}")),
                (None, Some(f))
                    if n > 0 && f.stream == found[n - 1].stream && unanswered_from(found, n, &f.stream) =>
                {
                    self.unserved += 1;
                    None
                }
                (None, Some(f)) => Some(format!("extra: {f:?}")),
                (None, None) => None,
            };
            if let Some(text) = difference {
                self.different += 1;
                if self.described.len() < DESCRIBED {
                    self.described.push(format!("{client} #{}: {text}", n + 1));
                }
            }
        }
    }
}

/// Whether the rest of a stream are requests without any response, for its client was gone.
fn unanswered_from(found: &[Found], n: usize, stream: &str) -> bool {
    let rest = found.iter().skip(n).take_while(|f| f.stream == stream);
    rest.into_iter().all(|f| f.status == 0 && f.error.as_deref() == Some("connection"))
}

/// What differs, in a word. `last`: nothing follows on the connection.
fn difference(logged: &Logged, found: &Found, last: bool) -> Option<String> {
    let what = if logged.request != found.request {
        "request"
    } else if !found.request_bytes.contains(&logged.request_bytes) {
        // A body that nginx threw away unread (`return`) is not in its count.
        "size of the request"
    } else if found.error.as_deref() == Some("connection") && last {
        // nginx counts what it gave to the kernel, the capture what went out before the client was gone.
        let answered = found.status == logged.status || found.status == 0;
        return (!answered || found.body_bytes > logged.body_bytes).then(|| "cut response".to_owned());
    } else if found.error.is_some() {
        "error"
    } else if logged.status != found.status {
        "status"
    } else if !same_body(logged.body_bytes, found) {
        "bytes of the body"
    } else {
        return None;
    };
    Some(what.to_owned())
}

/// nginx counts the framing of chunks (RFC 9112 section 7.1) as body: at least that of one, at most that of chunks of 512 bytes.
fn same_body(logged: u64, found: &Found) -> bool {
    let size = found.body_bytes;
    if !found.chunked || size == 0 {
        return logged == size + if found.chunked { 5 } else { 0 };
    }
    let one = format!("{size:x}\r\n\r\n0\r\n\r\n").len() as u64;
    let many = (size / 512 + 1) * "200\r\n\r\n".len() as u64 + 5;
    (size + one..=size + one.max(many)).contains(&logged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(stream: u32, index: u32, port: u16, target: &str, body: u64, chunked: bool) -> String {
        let headers =
            if chunked { serde_json::json!({"Transfer-Encoding": "chunked"}) } else { serde_json::json!({}) };
        serde_json::json!({"stream": format!("{stream:012}"), "index": index, "src": {"ip": "1.1.1.1", "port": port.to_string()},
            "requestSize": 42, "request": {"method": "GET", "target": target, "httpVersion": "HTTP/1.1", "headersSize": 42},
            "response": {"status": 200, "headers": headers, "bodySize": body}, "error": null})
        .to_string()
    }

    const LOG: &str = "1.5 1.1.1.1:10 3 1 \"GET /a HTTP/1.1\" 200 42 7\n1.5 1.1.1.1:10 3 2 \"GET /b HTTP/1.1\" 200 42 111\n\
                       1.6 1.1.1.1:10 9 1 \"GET /a HTTP/1.1\" 200 42 7\n";

    fn account(items: &[String]) -> Account {
        compare(LOG, items.join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn equal_is_what_is_equal_in_all() {
        // 111 bytes on the wire: 100 in one chunk.
        let right =
            [item(1, 0, 10, "/a", 7, false), item(1, 1, 10, "/b", 100, true), item(2, 2, 10, "/a", 7, false)];
        let whole = account(&right);
        assert_eq!((whole.logged, whole.found, whole.equal, whole.different), (3, 3, 3, 0), "{whole:?}");
        for (n, wrong) in [
            (0, item(1, 0, 10, "/x", 7, false)),
            (0, item(1, 0, 10, "/a", 8, false)),
            (0, item(1, 0, 10, "/a", 7, false).replace("42", "43")),
            (0, item(1, 0, 10, "/a", 7, false).replace("200", "201")),
            (0, item(1, 0, 10, "/a", 7, false).replace("null", r#"{"type":"gap"}"#)),
            (1, item(1, 1, 10, "/b", 101, true)),
            (2, item(1, 2, 10, "/a", 7, false)),
        ] {
            let mut items = right.clone();
            items[n] = wrong;
            assert_eq!(account(&items).different, 1, "{}", items[n]);
        }
        assert_eq!(account(&right[..2]).different, 1);
        assert_eq!(account(&[right.to_vec(), vec![item(3, 3, 11, "/a", 7, false)]].concat()).different, 1);
    }

    #[test]
    fn a_response_that_the_client_did_not_wait_for_may_be_shorter() {
        let cut = |body| {
            let last = item(2, 2, 10, "/a", body, false).replace("null", r#"{"type":"connection"}"#);
            account(&[item(1, 0, 10, "/a", 7, false), item(1, 1, 10, "/b", 100, true), last])
        };
        assert_eq!((cut(3).equal, cut(3).cut), (3, 1));
        assert_eq!(cut(8).different, 1);
        let unserved = |status: &str| {
            let whole = [
                item(1, 0, 10, "/a", 7, false),
                item(1, 1, 10, "/b", 100, true),
                item(2, 2, 10, "/a", 7, false),
            ];
            let more = item(2, 3, 10, "/more", 0, false).replace("200", status);
            account(&[whole.to_vec(), vec![more.replace("null", r#"{"type":"connection"}"#)]].concat())
        };
        assert_eq!((unserved("0").different, unserved("0").unserved, unserved("0").equal), (0, 1, 3));
        assert_eq!(unserved("200").different, 1, "what was answered is logged");
        let midway = item(1, 0, 10, "/a", 3, false).replace("null", r#"{"type":"connection"}"#);
        assert_eq!(account(&[midway]).different, 3);
    }
}
