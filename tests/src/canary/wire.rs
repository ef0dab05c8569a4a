//! What a fake is sent, put down.

use std::io::Read as _;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;

use super::{folder, record, rightful};

/// Largest body that is put down.
const MOST: usize = 300 << 20;
/// How capture files begin: what is in them is raw, and goes only where a script sends it.
const CAPTURES: [[u8; 4]; 5] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x0a, 0x0d, 0x0d, 0x0a],
];

/// Puts a request down and passes it on.
pub(crate) async fn record_request(request: Request, next: Next) -> Response {
    if folder().is_none() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    // A webhook's path is what lets one in.
    if parts.uri.path().starts_with("/services/") {
        rightful("path", line.as_bytes());
    } else {
        record("fake", line.as_bytes());
    }
    for (name, value) in &parts.headers {
        let line = [name.as_str().as_bytes(), b": ", value.as_bytes()].concat();
        if name == header::AUTHORIZATION { rightful("header", &line) } else { record("fake", &line) }
    }
    let Ok(bytes) = to_bytes(body, MOST).await else {
        return next.run(Request::from_parts(parts, Body::empty())).await;
    };
    let packed = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|value| value == "gzip");
    let mut plain = Vec::new();
    if packed && flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut plain).is_ok() {
        record("fake", &plain);
    } else if !CAPTURES.iter().any(|magic| bytes.starts_with(magic)) {
        record("fake", &bytes);
    }
    next.run(Request::from_parts(parts, Body::from(bytes))).await
}
