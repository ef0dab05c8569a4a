//! Filters against items: what matches, what is refused, and that three ways to the answer agree: the predicate tree, the
//! interpreter on the whole expression, and the same filter asked of the item's JSON.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use agent_core::item::{
    Body, Endpoint, ErrorKind, HeaderBlock, ItemError, Message, Request, Response, StreamId,
};
use agent_core::{HttpExchange, Item, Record, Timestamp};
use proptest::prelude::*;

mod bodies;

use super::interpret;
use super::names::{self, Kind};
use super::source::value;
use super::*;
use crate::captured::{Known, Name, Node, Source as Origin};
use crate::process::{PodUid, ProcessInfo};
use crate::view::Redaction;

fn message(head: HeaderBlock, body: &[u8], minor_version: u8) -> Message {
    let body = Body { size: body.len() as u64, bytes: body.into(), ..Body::default() };
    Message { minor_version, head, head_size: 120, body, complete: true, ..Message::default() }
}

fn request(method: &str, target: &str, fields: &[(&str, &[u8])], body: &[u8]) -> Request {
    let ([method, target], head) = HeaderBlock::with_words([method.as_bytes(), target.as_bytes()], fields);
    Request { method, target, message: message(head, body, 1) }
}

fn response(status: u16, fields: &[(&str, &[u8])], body: &[u8]) -> Response {
    let ([reason], head) = HeaderBlock::with_words([b"Whatever"], fields);
    Response { status, reason, message: message(head, body, 1) }
}

fn captured(request: Option<Request>, response: Option<Response>) -> Captured {
    let end = |last: u8, port| Endpoint { addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port, cgroup: 0 };
    let process = ProcessInfo {
        pid: 4711,
        name: Some("curl".to_owned()),
        container_id: None,
        cgroup_id: 9,
        cgroup_path: None,
        pod: PodUid::parse("6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f"),
    };
    let whole = request.is_some() && response.is_some();
    let error = ItemError { kind: ErrorKind::Timeout, msg: "nothing came".into() };
    let record = Record::Http(Box::new(HttpExchange { request, response, interim: Vec::new() }));
    Captured {
        outgoing: true,
        item: Box::new(Item {
            started: Timestamp(1_700_000_000_123_456_789),
            finished: Timestamp(1_700_000_000_135_801_789),
            error: (!whole).then_some(error),
            ..Item::new(StreamId(25258), 7, end(1, 40000), end(2, 8080), record)
        }),
        src: Name { process: Some(Arc::new(process)), ..Name::default() },
        dst: Name::from(Known { service: Some(Arc::from("orders")), ..Known::pod("orders-1", "prod") }),
        node: Arc::new(Node { name: "node-7".to_owned(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) }),
        worker: 3,
        source: Origin::Ebpf,
    }
}

const FIELDS: &[(&str, &[u8])] = &[
    ("Host", b"shop.test"),
    ("Authorization", b"Bearer hushhush"),
    ("Accept", b"text/html"),
    ("accept", b"*/*"),
    ("X-Odd", b"caf\xe9"),
    ("Cookie", b"session=hushhush; theme=dark"),
];

fn failing() -> Captured {
    captured(
        Some(request("POST", "/api/orders/7?id=123&tag=a&tag=b", FIELDS, b"{\"a\":1}")),
        Some(response(503, &[("Content-Type", b"application/json"), ("Set-Cookie", b"a=1")], b"oh no")),
    )
}

fn unanswered() -> Captured {
    captured(Some(request("GET", "/health", &[("Host", b"shop.test")], b"")), None)
}

/// By all three ways, which have to agree.
#[track_caller]
fn outcome(text: &str, item: &Captured, view: &ItemView) -> Outcome {
    let filter = Filter::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let native = Native::new(item, view).unwrap();
    let outcome = filter.test(&native);
    if text.trim().is_empty() {
        return outcome;
    }
    let (expr, info) = Parser::new().parse_with_source_info(&reserved::replaced(text)).unwrap();
    let mut resolver =
        Resolver { text, info: &info, now: 0, slots: Vec::new(), bound: Vec::new(), loops: 0, nodes: 0 };
    let expr = resolver.expr(expr, 0).unwrap();
    if !text.contains("now()") {
        assert_eq!(outcome, interpret::test(&expr, &resolver.slots, &native), "interpreted: {text}");
    }
    let mut json = Vec::new();
    view.json(item, &mut json);
    let plain: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(outcome, filter.test(&Plain(&plain)), "of its JSON: {text}");
    outcome
}

#[track_caller]
fn matches(text: &str, item: &Captured) -> bool {
    outcome(text, item, &ItemView::default()) == Outcome::True
}

#[test]
fn both_spellings_match_what_they_say() {
    let item = failing();
    for text in [
        "",
        "  ",
        "http",
        "http && status_code >= 500",
        "http && response.status >= 500",
        "tcp && !tls && !dns && !redis",
        "method == \"POST\" && request.method == 'POST'",
        "path == \"/api/orders/7\" && request.path.startsWith('/api/')",
        "url == '/api/orders/7?id=123&tag=a&tag=b' && url.matches('.*/orders/[0-9]+.*')",
        "request.url == 'http://shop.test/api/orders/7?id=123&tag=a&tag=b'",
        "request.target.endsWith('tag=b') && request.target.contains('id=')",
        "src.port == 40000 && src.port == '40000' && dst.port in [80, 8080] && dst.port in ['8080']",
        "src.ip == '10.0.0.1' && dst.ip.startsWith('10.0.') && src.port.startsWith('400')",
        "src.name == '10.0.0.1' && dst.name == 'orders-1'",
        "dst.pod.name == 'orders-1' && dst.service.name == 'orders' && src.pod.name == ''",
        "dst.pod.namespace == 'prod' && namespace == 'prod' && 'prod' in namespaces && pods == ['orders-1'] && services == ['orders']",
        "node_name == 'node-7' && node.name == node_name && node['name'] == node_name && node_ip == node.ip",
        "elapsed_time == 12345 && elapsedTime == 12.345 && elapsed_time > 12 * 1000",
        "timestamp == 1700000000123 && timestamp > timestamp('2023-11-14T22:13:20Z')",
        "timestamp < now() && timestamp < now() - duration('5m')",
        "index == 7 && worker == 3 && worker == '3' && stream == '000000025258'",
        "id == '000000025258-7' && !passed && outgoing",
        "request.headers['host'] == 'shop.test' && request.headers.Host == 'shop.test'",
        "request.headers['accept'] == 'text/html, */*' && 'ACCEPT' in request.headers",
        "request_headers['x-odd'] == 'café' && response_headers['content-type'].contains('json')",
        "has(request.headers.host) && !has(request.headers.via) && !('via' in request.headers)",
        "map_get(request.headers, 'via', '-') == '-' && map_get(local_labels, 'app', '') == ''",
        "map_get(request.headers, 'host', '-') == 'shop.test'",
        "query_string['id'] == '123' && query_string['tag'] == 'a' && 'id' in query_string",
        "request.queryString['tag'] == ['a', 'b'] && request.queryString.id == '123'",
        "request.pathSegments == ['api', 'orders', '7'] && request.pathSegments[1] == 'orders'",
        "request_body_size == 7 && request.bodySize == 7 && request_size == 127 && requestSize == 127",
        "response_headers_size == 120 && response_body_size < 10 && size(path) == 13 && path.size() > 3",
        "response.content.text == 'oh no' && response.content.mimeType == 'application/json'",
        "request.postData.text.contains('\"a\"') && response.content.size == 5",
        "capture_source == 'ebpf' && capture['source'] == 'ebpf' && capture.gaps == 0 && capture_backend == 'ebpf'",
        "dst.pod == 'orders-1' && dst.service == 'orders' && !has(src.pod)",
        "src.podUid == '6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f' && !has(dst.podUid)",
        "src.processName == 'curl' && local_process_name == 'curl' && src.processId == 4711",
        "protocol == 'HTTP' && protocol.name == 'http' && protocol.version == '1.1' && http_version == 'HTTP/1.1'",
        "response != null && error == null && has(response.status) && !has(error.type)",
        "request.headersList.exists(h, h.name == 'X-Odd' && h.value.matches('^caf'))",
        "[500, 502, 503].exists(s, s == status_code) && request.pathSegments.all(s, s != '')",
        "status_code / 100 == 5 && (method == 'GET' ? false : true)",
        "dns_questions == [] && size(dns_answers) == 0 && grpc_status == -1",
        "'x' in local_labels || response.status == 503",
    ] {
        assert!(matches(text, &item), "{text}");
    }
}

#[test]
fn what_is_missing_does_not_match_and_defaults_are_kfl2s() {
    let item = unanswered();
    for text in [
        "response.status >= 500",
        "response.status < 500",
        "!(response.status >= 500)",
        "response.status != 200",
        "request.headers['via'] == 'x'",
        "request.headers['via'] != 'x'",
        "error.type == 'gap'",
        "elapsedTime < 5",
        "response.content.text.contains('x')",
        "response.headersList.exists(h, true)",
        "http && response.status / 0 == 1",
    ] {
        assert!(!matches(text, &item), "{text}");
    }
    for text in [
        "response.status >= 500 || method == 'GET'",
        "method == 'GET' || response.status >= 500",
        "!(response.status >= 500 && method == 'POST')",
        "!has(response.status) && response == null && response.status == null",
        "status_code == 0 && status_code != 200 && elapsed_time == 0 && response_body_size == 0",
        "!('via' in response.headers) && size(response.headers) == 0",
        "error.type == 'timeout' && error.msg.startsWith('nothing') && error != null",
        "src.pod.name == '' && !kafka && redis_type == ''",
    ] {
        assert!(matches(text, &item), "{text}");
    }
}

#[test]
fn secrets_are_as_scripts_see_them() {
    let item = failing();
    for text in [
        "request.headers['authorization'] == '[REDACTED]'",
        "request.cookies['session'] == '[REDACTED]'",
        "response.cookies.a == '[REDACTED]'",
        "!request.headersList.exists(h, h.value.contains('hushhush'))",
        "!request.headers.exists(h, request.headers[h].contains('hushhush'))",
    ] {
        assert!(matches(text, &item), "{text}");
    }
    let shown = ItemView::new(Redaction::off());
    let bare = outcome("request.headers['authorization'] == 'Bearer hushhush'", &item, &shown);
    assert_eq!(bare, Outcome::True);
    let more = ItemView::new(Redaction::with(&["host".to_owned()]));
    assert_eq!(outcome("request.headers.host == 'shop.test'", &item, &more), Outcome::False);
}

#[test]
fn errors_say_where_and_what_to_write() {
    for (text, wanted) in [
        ("http && statuscode >= 500", "column 9: there is no name \"statuscode\"; did you mean status_code?"),
        (
            "http && response.stauts >= 500",
            "column 9: there is no name \"response.stauts\"; did you mean response.status?",
        ),
        ("http and tls", "column 6: syntax error: "),
        ("http && path.startswith('/')", "there is no function \"startswith\"; did you mean startsWith?"),
        ("status_code", "column 1: this is a value of type int, not a condition"),
        (
            "status_code == '500'",
            "column 1: status_code is of type int, and is compared with a string: write the number without quotes",
        ),
        ("method == 1", "method is of type string, and is compared with a int: put the number in quotes"),
        ("path.matches('(')", "this is no regular expression"),
        ("path.matches('((a{100}){100}){100}')", "it is too large: bound its repetitions"),
        ("path.matches(method)", "the expression of matches has to be written out"),
        ("has(path)", "column"),
        ("http &&", "something is missing at the end"),
        ("(http", "syntax error"),
        ("http = 1", "syntax error"),
        ("xylophone", "docs/kfl.md lists the names"),
        ("src", "this is a value of type object"),
        ("src.foo == 'x'", "there is no name \"src.foo\""),
        ("status_code.foo == 1", "there is no name \"status_code.foo\""),
        ("Foo{a: 1} == 1", "a filter makes no messages"),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "can be nested 2 deep"),
    ] {
        let error = Filter::compile(text).err().unwrap_or_else(|| panic!("{text} compiled"));
        assert!(error.one_line().contains(wanted), "{text}: {error}");
        assert!(error.to_string().ends_with('^'), "{error}");
    }
    let long = Filter::compile(&format!("path == '{}'", "x".repeat(LONGEST))).unwrap_err();
    assert!(long.message.contains("4096 are allowed"), "{long}");
}

#[test]
fn hostile_filters_are_refused_or_bounded() {
    for text in [
        "(".repeat(4000),
        "[".repeat(4000),
        "{".repeat(4000),
        "1+".repeat(2000) + "1",
        "path+".repeat(800) + "path == ''",
        "a.".repeat(2000) + "a",
        "http".to_owned() + &"[0]".repeat(1300),
        "f(".repeat(2000),
        "http?".repeat(800),
        "'a".repeat(2000),
        "\u{0}\u{ffff}é".repeat(500),
    ] {
        assert!(Filter::compile(&text).is_err(), "{}", &text[..20.min(text.len())]);
    }
    let item = captured(
        Some(request("POST", "/", FIELDS, b"")),
        Some(response(200, &[("Content-Type", b"text/plain")], &vec![b'x'; 1 << 20])),
    );
    let list = format!("[{}]", "1,".repeat(200) + "1");
    for text in [
        format!("{list}.all(a, {list}.all(b, response.content.text != ''))"),
        "[response.content.text].map(a, a+a+a+a).map(a, a+a+a+a).map(a, a+a+a+a) == []".to_owned(),
        "response.content.text + response.content.text == ''".to_owned(),
        "response.headersList.all(a, request.headersList.all(b, response.content.text.contains(b.value)))"
            .to_owned(),
    ] {
        assert!(!matches(&text, &item), "{text}");
    }
    assert!(matches(&vec!["http"; 400].join("&&"), &item), "a long chain is fine");
}

#[test]
fn the_common_filters_need_no_interpreter() {
    for text in [
        "http && response.status >= 500",
        "http && method == 'POST' && path.contains('/orders') && elapsed_time > 5 * 1000000",
        "timestamp > now() - duration('5m') || dst.port in [80, 443] || 'via' in request.headers",
        "url.matches('^/api/v[0-9]+/') && request.headers['content-type'] == 'a' && size(path) > 10",
        "!(src.pod.namespace == 'kube-system') && response != null && dst.ip.startsWith('10.')",
    ] {
        assert!(!Filter::compile(text).unwrap().is_interpreted(), "{text}");
    }
    assert!(Filter::compile("[1].exists(x, x == status_code)").unwrap().is_interpreted());
}

#[test]
fn every_name_reads_the_same_from_memory_and_from_json() {
    let view = ItemView::default();
    let only_response = captured(None, Some(response(200, &[], b"\x00\xff\xfe")));
    for item in [failing(), unanswered(), only_response, bodies::coded(), bodies::badly_coded()] {
        let mut json = Vec::new();
        view.json(&item, &mut json);
        let json: Value = serde_json::from_slice(&json).unwrap();
        let (native, plain) = (Native::new(&item, &view).unwrap(), Plain(&json));
        for name in names::all() {
            let (in_memory, in_json) = (value(&native, name), value(&plain, name));
            assert_eq!(in_memory, in_json, "{}", name.name);
            let fits = match in_memory {
                value::Datum::Missing => !name.kfl2,
                value::Datum::Bool(_) => name.kind == Kind::Bool,
                value::Datum::Int(_) => name.kind == Kind::Int,
                value::Datum::Double(_) => name.kind == Kind::Double,
                value::Datum::Text(_) => name.kind == Kind::Text,
                value::Datum::Time(_) => name.kind == Kind::Time,
                value::Datum::Json(value) if value.is_array() => name.kind == Kind::List,
                value::Datum::Json(_) => matches!(name.kind, Kind::Map | Kind::Object),
            };
            assert!(fits, "{} is not of its type", name.name);
        }
    }
}

/// Leaves of expressions that compile: of each type some.
fn condition() -> impl Strategy<Value = String> {
    let literal = prop_oneof![
        Just("200".to_owned()),
        Just("503".to_owned()),
        Just("-1".to_owned()),
        Just("12.345".to_owned()),
        (0..20_000i64).prop_map(|n| n.to_string()),
    ];
    let numbers = prop::sample::select(vec![
        "status_code",
        "response.status",
        "elapsed_time",
        "elapsedTime",
        "request_size",
        "response.bodySize",
        "index",
        "capture.gaps",
        "dst.port",
        "timestamp",
        "size(path)",
        "status_code + 1",
        "response.status * 2",
    ]);
    let texts = prop::sample::select(vec![
        "method",
        "path",
        "url",
        "request.url",
        "response.statusText",
        "request.headers['host']",
        "request.headers['via']",
        "response.headers['content-type']",
        "src.name",
        "error.type",
        "src.pod",
        "query_string['id']",
        "request.cookies['theme']",
        "map_get(request.headers, 'via', 'GET')",
        "src.port",
        "request.postData.text",
        "string(status_code)",
    ]);
    let words = prop::sample::select(vec!["", "GET", "/api", "orders", "shop.test", "timeout", "40000", "é"]);
    let flags = prop::sample::select(vec![
        "http",
        "tls",
        "dns",
        "true",
        "false",
        "outgoing",
        "has(response.status)",
        "response == null",
        "'via' in request.headers",
        "'a' in response.cookies",
        "'prod' in namespaces",
        "error != null",
        "response.content.truncated",
        "1 / 0 == 1",
        "status_code > 'x' + path",
        "request.headersList.exists(h, h.name == 'Host')",
    ]);
    let compare = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let method = prop::sample::select(vec!["contains", "startsWith", "endsWith", "matches"]);
    let leaf = prop_oneof![
        (numbers.clone(), compare.clone(), literal.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (numbers.clone(), compare.clone(), numbers.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (texts.clone(), compare, words.clone()).prop_map(|(a, op, b)| format!("{a} {op} '{b}'")),
        (texts.clone(), method, words.clone()).prop_map(|(a, m, b)| format!("{a}.{m}('{b}')")),
        (texts, words.clone(), words).prop_map(|(a, b, c)| format!("{a} in ['{b}', '{c}']")),
        (numbers, literal.clone(), literal).prop_map(|(a, b, c)| format!("{a} in [{b}, {c}]")),
        flags.prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

fn item() -> impl Strategy<Value = Captured> {
    let field = (
        prop::sample::select(vec!["Host", "via", "Via", "Content-Type", "Cookie", "Set-Cookie", "X"]),
        prop::sample::select(vec![&b"shop.test"[..], b"GET", b"a=1; theme=dark", b"\xe9", b""]),
    );
    let fields = prop::collection::vec(field, 0..5);
    let asked = (
        prop::sample::select(vec!["GET", "POST", "é"]),
        prop::sample::select(vec!["/", "/api/orders?id=1&id=2", "*", "http://x/y#z", "\u{fffd}?id=GET", ""]),
        fields.clone(),
        prop::collection::vec(any::<u8>(), 0..20),
    );
    let answered =
        (prop::sample::select(vec![200u16, 503, 0]), fields, prop::collection::vec(any::<u8>(), 0..20));
    (prop::option::of(asked), prop::option::of(answered), any::<u32>(), any::<[bool; 2]>()).prop_map(
        |(asked, answered, elapsed, coded)| {
            let request = asked.map(|(method, target, fields, body)| request(method, target, &fields, &body));
            let response = answered.map(|(status, fields, body)| response(status, &fields, &body));
            let mut item = captured(request, response);
            bodies::code(&mut item, coded);
            item.item.finished = Timestamp(item.item.started.0 + u64::from(elapsed));
            item
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn tree_interpreter_and_json_agree(text in condition(), item in item()) {
        match Filter::compile(&text) {
            Ok(_) => {
                outcome(&text, &item, &ItemView::default());
            }
            // What no item can pass is refused: numbers compared with texts.
            Err(error) => prop_assert!(error.message.contains("is compared with"), "{}: {}", text, error),
        }
    }

    #[test]
    fn no_text_is_too_much(text in "[-a-z.&|!()\\[\\]{}<>=?:,+*/%\"'0-9 \\n]{0,80}|\\PC{0,60}") {
        if let Ok(filter) = Filter::compile(&text) {
            let _ = filter.matches(&failing(), &ItemView::default());
        }
    }

    #[test]
    fn no_mixture_of_words_is_too_much(
        words in prop::collection::vec(prop::sample::select(vec![
            "http", "response", ".", "status", "headers", "[", "]", "(", ")", "'x'", "1", "&&", "||", "!", "==", "in",
            "?", ":", ",", "has", "exists", "map", "x", "matches", "size", "+", "-", "{", "}", "now", "timestamp",
            "duration", "'5m'", "map_get", "request", "null", "1.5", "2u", "b'x'", "\\", "\"", "$0", "@result", "`",
        ]), 0..40),
        glue in prop::sample::select(vec!["", " "]),
    ) {
        if let Ok(filter) = Filter::compile(&words.join(glue)) {
            let _ = filter.matches(&failing(), &ItemView::default());
            let _ = filter.matches_plain(&Value::Null);
        }
    }
}
