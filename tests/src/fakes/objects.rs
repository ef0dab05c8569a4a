//! S3 and Google's XML API, as far as putting objects goes: whole or in parts, signed or with a token.
//!
//! It checks that a request is signed by the known key, for the day and region, over the headers that matter, and that the
//! body is the one that was signed; it does not compute the signature (a real server does, where there is one).

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Asked, Service};

/// Smallest part but for the last one, in bytes.
const MIN_PART: usize = 5 * 1024 * 1024;

/// Who may write.
#[derive(Debug)]
pub enum Account {
    /// S3: key id and region.
    Signed(String, String),
    /// Google: the service account's address.
    Token(String),
}

/// The store, with one bucket.
#[derive(Debug)]
pub struct Objects {
    /// Who may write.
    pub account: Account,
    /// The bucket that exists.
    pub bucket: String,
    /// Objects by key.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Uploads under way: key and parts by number.
    pub uploads: BTreeMap<String, (String, BTreeMap<u32, Bytes>)>,
    started: u32,
}

type Refusal = (StatusCode, &'static str, &'static str);

impl Objects {
    /// An empty one.
    #[must_use]
    pub fn new(account: Account, bucket: &str) -> Self {
        Self {
            account,
            bucket: bucket.to_owned(),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            started: 0,
        }
    }

    fn judge(&mut self, asked: &Asked) -> Result<Response, Refusal> {
        match &self.account {
            Account::Signed(key, region) => signed(asked, key, region)?,
            Account::Token(email) => token(asked, email)?,
        }
        let path = decoded(asked.uri.path().trim_start_matches('/'));
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        if bucket != self.bucket {
            return Err((StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist"));
        }
        if key.is_empty() {
            return Err((StatusCode::BAD_REQUEST, "InvalidRequest", "no key"));
        }
        let upload = asked.query("uploadId");
        match (asked.method.as_str(), upload) {
            ("PUT", None) => {
                self.objects.insert(key.to_owned(), asked.body.to_vec());
                Ok(tagged(&asked.body))
            }
            ("PUT", Some(id)) => self.part(asked, &id),
            ("POST", None) if asked.uri.query().is_some_and(|query| query.starts_with("uploads")) => {
                self.started += 1;
                let id = format!("upload-{}", self.started);
                self.uploads.insert(id.clone(), (key.to_owned(), BTreeMap::new()));
                Ok(xml(&format!(
                    "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                )))
            }
            ("POST", Some(id)) => self.complete(asked, &id),
            ("DELETE", Some(id)) => {
                self.uploads.remove(&id);
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not here")),
        }
    }

    fn part(&mut self, asked: &Asked, id: &str) -> Result<Response, Refusal> {
        let number =
            asked.query("partNumber").and_then(|text| text.parse().ok()).filter(|n| (1..=10_000).contains(n));
        let number = number.ok_or((StatusCode::BAD_REQUEST, "InvalidArgument", "partNumber"))?;
        let (_, parts) = self.uploads.get_mut(id).ok_or(NO_UPLOAD)?;
        parts.insert(number, asked.body.clone());
        Ok(tagged(&asked.body))
    }

    fn complete(&mut self, asked: &Asked, id: &str) -> Result<Response, Refusal> {
        let (key, parts) = self.uploads.get(id).ok_or(NO_UPLOAD)?;
        let text = String::from_utf8_lossy(&asked.body);
        let mut whole = Vec::new();
        let named = text.matches("<PartNumber>").count();
        for (place, (number, part)) in parts.iter().enumerate() {
            if !text.contains(&etag(part).replace('"', ""))
                || !text.contains(&format!("<PartNumber>{number}</PartNumber>"))
            {
                return Err((StatusCode::BAD_REQUEST, "InvalidPart", "a part is not named as it was stored"));
            }
            if part.len() < MIN_PART && place + 1 < parts.len() {
                return Err((StatusCode::BAD_REQUEST, "EntityTooSmall", "a part is smaller than 5 MiB"));
            }
            whole.extend_from_slice(part);
        }
        if named != parts.len() {
            return Err((StatusCode::BAD_REQUEST, "InvalidPart", "parts are missing"));
        }
        let tag = etag(&whole);
        let answer = format!(
            "<CompleteMultipartUploadResult><Key>{key}</Key><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
        );
        self.objects.insert(key.clone(), whole);
        self.uploads.remove(id);
        Ok(xml(&answer))
    }
}

const NO_UPLOAD: Refusal = (StatusCode::NOT_FOUND, "NoSuchUpload", "The specified upload does not exist");
const DENIED: Refusal = (StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");

impl Service for Objects {
    fn call(&self, asked: &Asked) -> &'static str {
        let query = asked.uri.query().unwrap_or_default();
        match asked.method.as_str() {
            "POST" if query.starts_with("uploads") => "begin",
            "POST" => "complete",
            "PUT" if query.contains("partNumber") => "part",
            "PUT" => "put",
            "DELETE" => "abort",
            _ => "other",
        }
    }

    fn answer(&mut self, asked: &Asked) -> Response {
        self.judge(asked).unwrap_or_else(|(status, code, message)| {
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            );
            (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
        })
    }
}

/// Percent-decoded, as ASCII.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(code.map_or('%', char::from));
        out.push_str(part.get(2..).unwrap_or_default());
    }
    out
}

fn tagged(body: &[u8]) -> Response {
    (StatusCode::OK, [(header::ETAG, etag(body))]).into_response()
}

fn etag(body: &[u8]) -> String {
    format!("\"{}\"", &hex(&Sha256::digest(body))[..32])
}

fn xml(body: &str) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/xml")], format!("<?xml version=\"1.0\"?>{body}"))
        .into_response()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `AWS4-HMAC-SHA256 Credential=KEY/DAY/REGION/s3/aws4_request, SignedHeaders=…, Signature=…`
fn signed(asked: &Asked, key: &str, region: &str) -> Result<(), Refusal> {
    let given = asked.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").ok_or(DENIED)?;
    let member =
        |name: &str| given.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let scope: Vec<&str> = member("Credential").ok_or(DENIED)?.split('/').collect();
    let &[id, day, signed_region, "s3", "aws4_request"] = scope.as_slice() else { return Err(DENIED) };
    if id != key {
        return Err((StatusCode::FORBIDDEN, "InvalidAccessKeyId", "The key id you provided does not exist"));
    }
    if signed_region != region {
        return Err((StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed", "the region is wrong"));
    }
    let at = asked.header("x-amz-date");
    if at.len() != 16 || !at.starts_with(day) || !is_now(at) {
        return Err((
            StatusCode::FORBIDDEN,
            "RequestTimeTooSkewed",
            "The difference between the times is too large",
        ));
    }
    let covered: Vec<&str> = member("SignedHeaders").unwrap_or_default().split(';').collect();
    let needed = ["host", "x-amz-content-sha256", "x-amz-date"];
    let signature = member("Signature").unwrap_or_default();
    let is_hex = signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex || needed.iter().any(|name| !covered.contains(name)) {
        return Err((StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The signature does not match"));
    }
    match asked.header("x-amz-content-sha256") {
        "UNSIGNED-PAYLOAD" => Ok(()),
        digest if digest == hex(&Sha256::digest(&asked.body)) => Ok(()),
        _ => Err((StatusCode::BAD_REQUEST, "XAmzContentSHA256Mismatch", "The body is not what was signed")),
    }
}

/// `20261121T140000Z`, within a day: enough to see that it is not made up.
fn is_now(at: &str) -> bool {
    let days = now() / 86_400;
    let number = |range: std::ops::Range<usize>| at.get(range).and_then(|text| text.parse::<u64>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(4..6), number(6..8)) else {
        return false;
    };
    // Good to a few days, which is what a wrong clock exceeds.
    let about = (year - 1970) * 36_524 / 100 + (month - 1) * 3_044 / 100 + day;
    about.abs_diff(days) <= 4
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A token that the account signed itself: header, claims and a signature as long as RSA's.
fn token(asked: &Asked, email: &str) -> Result<(), Refusal> {
    let denied = (StatusCode::UNAUTHORIZED, "AuthenticationRequired", "Authentication required");
    let token = asked.header("authorization").strip_prefix("Bearer ").ok_or(denied)?;
    let parts: Vec<Vec<u8>> = token.split('.').filter_map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect();
    let [head, claims, signature] = parts.as_slice() else { return Err(denied) };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let (head, claims) = (json(head), json(claims));
    let lives = claims["exp"].as_u64().is_some_and(|end| end > now())
        && claims["iat"].as_u64().is_some_and(|at| at <= now() + 60);
    let scoped = claims["scope"]
        .as_str()
        .is_some_and(|scope| scope.contains("devstorage.") || scope.contains("cloud-platform"));
    let whole = head["alg"] == "RS256" && claims["iss"] == email && lives && scoped && signature.len() == 256;
    if whole { Ok(()) } else { Err(denied) }
}
