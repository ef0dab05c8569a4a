//! Arguments as Slack takes them: query, form or JSON body; the token in a header or in the form.

use axum::body::Body;
use axum::extract::{Form, FromRequest as _, Query, Request};
use axum::http::{HeaderMap, Method, Uri, header};
use serde_json::{Map, Value};

/// The arguments of a call, by name.
#[derive(Debug, Default)]
pub(super) struct Args {
    values: Map<String, Value>,
    /// From the `Authorization` header, or else the form's or query's `token`.
    pub(super) token: Option<String>,
}

impl Args {
    /// A non-empty text argument; numbers count as text, as forms have no numbers.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.values.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A list, given as JSON or as a string of JSON. `Some(None)` where it is something else.
    pub(super) fn list(&self, name: &str) -> Option<Option<Vec<Value>>> {
        let value = match self.values.get(name)? {
            Value::Null => return None,
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        };
        Some(match value {
            Some(Value::Array(list)) => Some(list),
            _ => None,
        })
    }

    /// An argument as it was sent.
    pub(super) fn raw(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}

/// Reads the arguments. `takes_json` is false for methods that, like Slack's, look only at forms.
///
/// The error is Slack's word for what is wrong.
pub(super) async fn read(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    takes_json: bool,
) -> Result<Args, &'static str> {
    let mut args = Args { values: query(uri), token: bearer(headers) };
    if *method != Method::GET && !body.is_empty() {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let media_type = content_type.ok_or("missing_post_type")?.split(';').next().unwrap_or_default();
        match media_type.trim() {
            "application/json" if takes_json => args.values.extend(json(body)?),
            // Slack does not look at a JSON body here: the arguments are simply missing.
            "application/json" => {}
            "application/x-www-form-urlencoded" => args.values.extend(form(body).await?),
            _ => return Err("invalid_post_type"),
        }
        if args.token.is_none() && media_type.trim() == "application/json" {
            args.values.remove("token");
        }
    }
    if args.token.is_none() {
        args.token = args.text("token");
    }
    args.values.remove("token");
    Ok(args)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ").unwrap_or("").to_owned())
}

fn query(uri: &Uri) -> Map<String, Value> {
    Query::<Vec<(String, String)>>::try_from_uri(uri).map_or_else(|_| Map::new(), |Query(pairs)| map(pairs))
}

fn json(body: &[u8]) -> Result<Map<String, Value>, &'static str> {
    match serde_json::from_slice(body).map_err(|_| "invalid_json")? {
        Value::Object(map) => Ok(map),
        _ => Err("json_not_object"),
    }
}

async fn form(body: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let request = Request::builder()
        .method(Method::POST)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(body.to_vec()))
        .map_err(|_| "invalid_form_data")?;
    let Form(pairs) =
        Form::<Vec<(String, String)>>::from_request(request, &()).await.map_err(|_| "invalid_form_data")?;
    Ok(map(pairs))
}

fn map(pairs: Vec<(String, String)>) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect()
}
