//! Bodies by gzip where it pays: JSON shrinks to a tenth, and what goes out is often billed.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_ENCODING;

use super::failure::Failure;

/// Smaller bodies fit a packet anyway.
const WORTH_IT: usize = 1_400;

/// The request with this body, packed if it is worth it. Off the reactor: megabytes take milliseconds.
pub(super) async fn body(request: RequestBuilder, body: Vec<u8>) -> Result<RequestBuilder, Failure> {
    if body.len() < WORTH_IT {
        return Ok(request.body(body));
    }
    let packed = tokio::task::spawn_blocking(move || gzip(&body)).await;
    let packed = packed.map_err(std::io::Error::other).and_then(|packed| packed);
    let packed = packed.map_err(|error| Failure::no_answer(format!("gzip: {error}")))?;
    Ok(request.header(CONTENT_ENCODING, "gzip").body(packed))
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
