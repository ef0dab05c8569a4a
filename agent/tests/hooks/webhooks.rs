//! `vendor.webhook` and `vendor.webhookForm` against a small server on the loopback interface.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use testkit::fakes::dead::{Dead, Death};

use crate::rig::{Rig, item};

/// Answers each connection with the next of `answers` and hands over what was asked.
fn serve(answers: Vec<String>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            if asked.send(read_request(&mut stream)).is_err() || stream.write_all(answer.as_bytes()).is_err()
            {
                return;
            }
        }
    });
    (address, requests)
}

fn read_request(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                })
                .map_or(0, |length| length.parse::<usize>().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        let n = stream.read(&mut buffer).unwrap();
        if n == 0 {
            return text;
        }
        request.extend_from_slice(&buffer[..n]);
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn a_webhook_sends_what_it_is_given_and_returns_the_body() {
    let rig = Rig::new();
    let (url, requests) =
        serve(vec![answer("200 OK", "", "fine ä"), answer("500 No", "", "oops"), answer("200 OK", "", "")]);
    let lines = rig.body(&format!(
        "console.log(vendor.webhook('post', '{url}/a?b=c', {{x: 1}}, {{Authorization: 'Bearer hushhush', 'X-Two': 2}}));\n\
         console.log(vendor.webhook('PUT', '{url}/', 'just text'));\n\
         console.log('[' + vendor.webhook('POST', '{url}/', '[1]', {{'content-type': 'text/csv'}}) + ']');"
    ));
    assert_eq!(lines, ["fine ä", "oops", "[]"]);
    let first = requests.recv().unwrap();
    assert!(first.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{first}");
    let lower = first.to_ascii_lowercase();
    for header in [
        "authorization: bearer hushhush",
        "x-two: 2",
        "content-type: application/json",
        "user-agent: remora/",
    ] {
        assert!(lower.contains(header), "{header}: {first}");
    }
    assert!(first.ends_with("\r\n\r\n{\"x\":1}"));
    let second = requests.recv().unwrap();
    assert!(second.starts_with("PUT / ") && second.contains("text/plain; charset=utf-8"), "{second}");
    assert!(second.ends_with("just text"));
    let third = requests.recv().unwrap();
    assert!(third.contains("text/csv") && !third.contains("application/json"), "{third}");
}

#[test]
fn a_form_is_form_encoded() {
    let rig = Rig::new();
    let (url, requests) = serve(vec![answer("200 OK", "", "ok")]);
    assert_eq!(
        rig.body(&format!("console.log(vendor.webhookForm('POST', '{url}', {{a: 'b c', d: 1, e: null}}))")),
        ["ok"]
    );
    let request = requests.recv().unwrap();
    assert!(
        request.contains("application/x-www-form-urlencoded") && request.ends_with("a=b+c&d=1&e="),
        "{request}"
    );
}

#[test]
fn errors_name_the_cause_and_hide_the_urls_secrets() {
    let rig = Rig::new();
    let closed = Dead::new(Death::Refused).unwrap().address();
    let said = rig.thrown(&format!(
        "vendor.webhook('POST', 'http://user:pass@{closed}/SECREThushhush?key=SECREThushhush', 'x')"
    ));
    assert!(
        said.starts_with(&format!("Error: vendor.webhook: url: no answer to POST http://{closed}: ")),
        "{said}"
    );
    assert!(said.contains("refused"), "{said}");
    for secret in ["SECREThushhush", "user", "pass"] {
        assert!(!said.contains(secret), "{said}");
    }
    for (call, message) in [
        ("vendor.webhook()", "TypeError: vendor.webhook: argument 1 (method) is missing"),
        ("vendor.webhook('POST')", "TypeError: vendor.webhook: argument 2 (url) is missing"),
        ("vendor.webhook('POST', 'http://h')", "TypeError: vendor.webhook: argument 3 (body) is missing"),
        ("vendor.webhook('P T', 'http://h', '')", "Error: vendor.webhook: method: is not an HTTP method"),
        ("vendor.webhook('POST', 'nonsense', '')", "Error: vendor.webhook: url: relative URL without a base"),
        (
            "vendor.webhook('POST', 'file:///etc/passwd', '')",
            "Error: vendor.webhook: url: must begin with http:// or https://",
        ),
        (
            "vendor.webhook('POST', 'http://h', () => 1)",
            "TypeError: vendor.webhook: argument 3 (body) must be a string or an object, not a function",
        ),
        (
            "vendor.webhook('POST', 'http://h', '', 'x')",
            "TypeError: vendor.webhook: argument 4 (headers) must be an object, not a value of another type",
        ),
        (
            "vendor.webhook('POST', 'http://h', '', {'a b': 'c'})",
            "Error: vendor.webhook: headers[\"a b\"]: is not a header name",
        ),
        (
            "vendor.webhook('POST', 'http://h', '', {a: 'TOKEN\\n'})",
            "Error: vendor.webhook: headers[\"a\"]: its value holds characters that a header cannot carry",
        ),
        (
            "vendor.webhookForm('POST', 'http://h')",
            "TypeError: vendor.webhookForm: argument 3 (fields) is missing",
        ),
        (
            "vendor.webhookForm('POST', 'http://h', 5)",
            "TypeError: vendor.webhookForm: argument 3 (fields) must be an object, not a number",
        ),
    ] {
        assert_eq!(rig.thrown(call), message, "{call}");
    }
}

#[test]
fn a_wait_has_its_own_time_and_does_not_count_as_the_calls() {
    let mut rig = Rig::new();
    rig.limits.call_time = Duration::from_millis(100);
    rig.limits.webhook_timeout = Duration::from_millis(300);
    rig.limits.wait_total = Duration::from_millis(500);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let lines = rig.body(&format!(
        "for (var i = 0; i < 3; i++) try {{ vendor.webhook('POST', '{url}/SECREThushhush', 'x') }} catch (e) {{ console.log(e.message) }}"
    ));
    assert_eq!(lines.len(), 3, "{:?}", rig.log.about());
    assert_eq!(lines[0], format!("vendor.webhook: url: no answer to POST {url}: none within 300 ms"));
    assert!(
        lines[1].contains(": none within ") && !lines[1].contains("300 ms"),
        "the rest of the total: {}",
        lines[1]
    );
    assert_eq!(lines[2], "vendor.webhook: this call has already waited 500 ms, the most it may");
}

#[test]
fn a_long_answer_is_cut_and_that_is_said() {
    let mut rig = Rig::new();
    rig.limits.webhook_answer = 1 << 10;
    let (url, _requests) = serve(vec![answer("200 OK", "", &"x".repeat(5000))]);
    assert_eq!(
        rig.body(&format!("console.log(vendor.webhook('GET', '{url}/SECREThushhush', '').length)")),
        ["1024"]
    );
    assert_eq!(rig.log.about(), [format!("script a.js: the answer to GET {url} was cut to 1 KiB")]);
}

#[test]
fn redirects_stay_with_their_host() {
    let rig = Rig::new();
    let (elsewhere, asked_elsewhere) = serve(vec![answer("200 OK", "", "stolen")]);
    let (url, requests) = serve(vec![
        answer("302 Found", "location: /next\r\n", ""),
        answer("302 Found", &format!("location: {elsewhere}/\r\n"), "not followed"),
    ]);
    let lines = rig.body(&format!("console.log(vendor.webhook('POST', '{url}/', '', {{'X-Key': 'abc'}}))"));
    assert_eq!(lines, ["not followed"]);
    assert_eq!(requests.iter().count(), 2);
    assert!(asked_elsewhere.try_recv().is_err(), "the header stayed where it was sent");
}

#[test]
fn shutdown_breaks_a_wait_off() {
    let rig = Rig::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (scripts, failures) =
        rig.load(&[rig.script(
            "a.js",
            &format!("function onItemCaptured() {{ vendor.webhook('POST', '{url}', '') }}"),
        )]);
    assert_eq!(failures, []);
    scripts.deliver(&item(0));
    drop(silent.accept().unwrap().0.set_nodelay(true));
    let _held = silent;
    let began = Instant::now();
    let stats = scripts.shutdown(Duration::from_secs(8)).remove(0);
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(stats.timeouts, 0);
}
