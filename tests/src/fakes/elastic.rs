//! Elasticsearch and OpenSearch, as far as writing goes: `_bulk`, and reading back what was written.
//!
//! It refuses what they refuse: a body without its last line end, media types, actions and names of indices that cannot be,
//! anything but `create` for a data stream, documents that do not fit the mapping.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::{Asked, Service};

/// The cluster.
#[derive(Debug, Default)]
pub struct Elastic {
    /// `Authorization` headers that are taken; none: anybody.
    pub users: BTreeSet<String>,
    /// Names that are data streams.
    pub streams: BTreeSet<String>,
    /// Fields that must be numbers.
    pub numbers: BTreeSet<String>,
    /// Documents by index and id.
    pub documents: BTreeMap<String, BTreeMap<String, Value>>,
    /// Index templates that were put.
    pub templates: BTreeMap<String, Value>,
    /// Largest body taken, in bytes.
    pub max_bytes: Option<usize>,
    /// So many of the next documents are answered 429, every other one.
    pub busy: u32,
}

impl Service for Elastic {
    fn call(&self, asked: &Asked) -> &'static str {
        if asked.uri.path().ends_with("/_bulk") { "bulk" } else { "other" }
    }

    fn answer(&mut self, asked: &Asked) -> Response {
        let answer = self.judge(asked);
        let (status, body) = answer.unwrap_or_else(|(status, kind, reason)| {
            let error = json!({"type": kind, "reason": reason});
            (status, json!({"error": {"root_cause": [error], "type": kind, "reason": reason}, "status": status.as_u16()}))
        });
        // The versioned media type is answered in kind.
        let versioned = asked.header("accept").contains("compatible-with=");
        let media = if versioned {
            "application/vnd.elasticsearch+json;compatible-with=9"
        } else {
            "application/json"
        };
        let headers = [(header::CONTENT_TYPE.as_str(), media), ("x-elastic-product", "Elasticsearch")];
        (status, headers, body.to_string()).into_response()
    }
}

type Refusal = (StatusCode, &'static str, String);

impl Elastic {
    fn judge(&mut self, asked: &Asked) -> Result<(StatusCode, Value), Refusal> {
        if !self.users.is_empty() && !self.users.contains(asked.header("authorization")) {
            let reason = "unable to authenticate with provided credentials";
            return Err((StatusCode::UNAUTHORIZED, "security_exception", reason.to_owned()));
        }
        let path = asked.uri.path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET" | "HEAD", [""]) => Ok((
                StatusCode::OK,
                json!({"name": "fake", "version": {"number": "9.2.0", "build_flavor": "default"}}),
            )),
            ("POST" | "PUT", ["_bulk"]) => self.bulk(asked, None),
            ("POST" | "PUT", [index, "_bulk"]) => self.bulk(asked, Some(index)),
            ("GET", [index, "_doc", id]) => Ok(self.get(index, id)),
            ("PUT", ["_index_template", name]) => {
                let body: Value =
                    serde_json::from_slice(&asked.body).map_err(|error| parsing(&error.to_string()))?;
                if !body["index_patterns"].is_array() {
                    return Err(parsing("Required [index_patterns]"));
                }
                self.templates.insert((*name).to_owned(), body);
                Ok((StatusCode::OK, json!({"acknowledged": true})))
            }
            _ => {
                let reason = format!("no handler found for uri [{path}] and method [{}]", asked.method);
                Err((StatusCode::BAD_REQUEST, "illegal_argument_exception", reason))
            }
        }
    }

    fn get(&self, index: &str, id: &str) -> (StatusCode, Value) {
        match self.documents.get(index).and_then(|documents| documents.get(id)) {
            Some(source) => (
                StatusCode::OK,
                json!({"_index": index, "_id": id, "_version": 1, "found": true, "_source": source}),
            ),
            None => (StatusCode::NOT_FOUND, json!({"_index": index, "_id": id, "found": false})),
        }
    }

    fn bulk(&mut self, asked: &Asked, usual: Option<&str>) -> Result<(StatusCode, Value), Refusal> {
        debug_assert!(asked.method != Method::GET);
        if self.max_bytes.is_some_and(|most| asked.body.len() > most) {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "", "Request Entity Too Large".to_owned()));
        }
        let known = [
            "application/json",
            "application/x-ndjson",
            "application/vnd.elasticsearch+json",
            "application/vnd.elasticsearch+x-ndjson",
        ];
        if !known.contains(&asked.media_type()) {
            let reason = format!("Content-Type header [{}] is not supported", asked.header("content-type"));
            return Err((StatusCode::NOT_ACCEPTABLE, "media_type_header_exception", reason));
        }
        let text = std::str::from_utf8(&asked.body).map_err(|_| parsing("Invalid UTF-8"))?;
        if text.is_empty() {
            return Err((StatusCode::BAD_REQUEST, "parse_exception", "request body is required".to_owned()));
        }
        if !text.ends_with('\n') {
            return Err(argument("The bulk request must be terminated by a newline [\\n]"));
        }
        let mut items = Vec::new();
        // All is read before anything is done.
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let (operation, index, id) = action(line, usual)?;
            let source = lines
                .next()
                .ok_or_else(|| argument("The bulk request must be terminated by a newline [\\n]"))?;
            items.push((operation, index, id, source));
        }
        let results: Vec<Value> = items
            .into_iter()
            .map(|(operation, index, id, source)| {
                let result = self.write(&operation, &index, id.as_deref(), source);
                json!({ operation: result })
            })
            .collect();
        let errors = results
            .iter()
            .any(|item| item.as_object().is_some_and(|o| o.values().any(|r| r["error"].is_object())));
        Ok((StatusCode::OK, json!({"took": 1, "errors": errors, "items": results})))
    }

    fn write(&mut self, operation: &str, index: &str, id: Option<&str>, source: &str) -> Value {
        let id = id.map_or_else(
            || format!("auto-{}", self.documents.values().map(BTreeMap::len).sum::<usize>()),
            str::to_owned,
        );
        let refused = |status: u16, kind: &str, reason: String| json!({"_index": index, "_id": id, "status": status, "error": {"type": kind, "reason": reason}});
        if !is_index(index) {
            return refused(400, "invalid_index_name_exception", format!("Invalid index name [{index}]"));
        }
        if id.len() > 512 {
            return refused(400, "illegal_argument_exception", "id is too long".to_owned());
        }
        let Ok(document) = serde_json::from_str::<Map<String, Value>>(source) else {
            return refused(400, "document_parsing_exception", "[1:1] failed to parse".to_owned());
        };
        if self.busy > 0 {
            self.busy -= 1;
            if self.busy.is_multiple_of(2) {
                return refused(
                    429,
                    "es_rejected_execution_exception",
                    "rejected execution: queue capacity".to_owned(),
                );
            }
        }
        if self.streams.contains(index) {
            if operation != "create" {
                let reason = "only write ops with an op_type of create are allowed in data streams";
                return refused(400, "illegal_argument_exception", reason.to_owned());
            }
            if !document.get("@timestamp").is_some_and(Value::is_string) {
                let reason = "data stream timestamp field [@timestamp] is missing";
                return refused(400, "document_parsing_exception", reason.to_owned());
            }
        }
        let number = |value: &Value| {
            value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok())
        };
        if let Some(name) =
            self.numbers.iter().find(|name| document.get(*name).is_some_and(|value| !number(value)))
        {
            let reason =
                format!("[1:1] failed to parse field [{name}] of type [long] in document with id '{id}'");
            return refused(400, "document_parsing_exception", reason);
        }
        let documents = self.documents.entry(index.to_owned()).or_default();
        if operation == "create" && documents.contains_key(&id) {
            return refused(
                409,
                "version_conflict_engine_exception",
                format!("[{id}]: version conflict, document already exists"),
            );
        }
        documents.insert(id.clone(), Value::Object(document));
        json!({"_index": index, "_id": id, "_version": 1, "result": "created", "status": 201})
    }
}

/// Operation, index and id of an action line.
fn action(line: &str, usual: Option<&str>) -> Result<(String, String, Option<String>), Refusal> {
    let malformed = || argument(&format!("Malformed action/metadata line [{line}]"));
    let object: Map<String, Value> = serde_json::from_str(line).map_err(|_| malformed())?;
    let (operation, of) = object.iter().next().filter(|_| object.len() == 1).ok_or_else(malformed)?;
    if !matches!(operation.as_str(), "create" | "index") {
        return Err(argument(&format!("the fake knows create and index, not [{operation}]")));
    }
    let of = of.as_object().ok_or_else(malformed)?;
    if let Some(odd) = of
        .keys()
        .find(|key| !matches!(key.as_str(), "_index" | "_id" | "routing" | "pipeline" | "require_alias"))
    {
        return Err(argument(&format!("Action/metadata line [1] contains an unknown parameter [{odd}]")));
    }
    let index = of.get("_index").and_then(Value::as_str).or(usual);
    let index = index.ok_or_else(|| argument("Validation Failed: 1: index is missing;"))?;
    Ok((operation.clone(), index.to_owned(), of.get("_id").and_then(Value::as_str).map(str::to_owned)))
}

fn is_index(name: &str) -> bool {
    let forbidden = |c: char| c.is_uppercase() || c.is_whitespace() || "\\/*?\"<>|,#:".contains(c);
    (1..=255).contains(&name.len())
        && !name.starts_with(['-', '_', '+'])
        && !matches!(name, "." | "..")
        && !name.chars().any(forbidden)
}

fn argument(reason: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, "illegal_argument_exception", reason.to_owned())
}

fn parsing(reason: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, "x_content_parse_exception", reason.to_owned())
}
