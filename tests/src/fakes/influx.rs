//! InfluxDB's v2 write API, with a parser of line protocol of its own.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Asked, Service};

/// A point as it was understood.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Unescaped.
    pub measurement: String,
    /// Unescaped.
    pub tags: BTreeMap<String, String>,
    /// Unescaped.
    pub fields: BTreeMap<String, Field>,
    /// ns since 1970.
    pub time: i64,
}

/// A field's value.
#[derive(Clone, PartialEq, Debug)]
pub enum Field {
    /// Floating point.
    Float(f64),
    /// With an `i` or `u`.
    Integer(i64),
    /// Between quotation marks.
    Text(String),
    /// True or false.
    Bool(bool),
}

/// The server, with one organization and one bucket.
#[derive(Debug, Default)]
pub struct Influx {
    /// The token that is taken.
    pub token: String,
    /// Organization and bucket that exist.
    pub place: (String, String),
    /// Largest body taken, in bytes.
    pub max_bytes: Option<usize>,
    /// What was written.
    pub points: Vec<Point>,
}

impl Service for Influx {
    fn call(&self, _: &Asked) -> &'static str {
        "write"
    }

    fn answer(&mut self, asked: &Asked) -> Response {
        match self.write(asked) {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err((status, code, message)) => {
                (status, Json(json!({"code": code, "message": message}))).into_response()
            }
        }
    }
}

type Refusal = (StatusCode, &'static str, String);

impl Influx {
    fn write(&mut self, asked: &Asked) -> Result<(), Refusal> {
        if asked.uri.path() != "/api/v2/write" || asked.method != "POST" {
            return Err((StatusCode::NOT_FOUND, "not found", "path not found".to_owned()));
        }
        let given = asked.header("authorization");
        let token = given.strip_prefix("Token ").or_else(|| given.strip_prefix("Bearer "));
        if token != Some(self.token.as_str()) {
            return Err((StatusCode::UNAUTHORIZED, "unauthorized", "unauthorized access".to_owned()));
        }
        let place = (asked.query("org").unwrap_or_default(), asked.query("bucket").unwrap_or_default());
        if place != self.place {
            return Err((StatusCode::NOT_FOUND, "not found", format!("bucket {:?} not found", place.1)));
        }
        if self.max_bytes.is_some_and(|most| asked.body.len() > most) {
            return Err((
                StatusCode::PAYLOAD_TOO_LARGE,
                "request too large",
                "body exceeds limit".to_owned(),
            ));
        }
        if asked.query("precision").as_deref() != Some("ns") {
            return Err((StatusCode::BAD_REQUEST, "invalid", "the fake takes nanoseconds only".to_owned()));
        }
        let text = std::str::from_utf8(&asked.body)
            .map_err(|_| (StatusCode::BAD_REQUEST, "invalid", "not UTF-8".to_owned()))?;
        let points = points(text).map_err(|cause| (StatusCode::BAD_REQUEST, "invalid", cause))?;
        if points.is_empty() {
            return Err((StatusCode::BAD_REQUEST, "invalid", "no points".to_owned()));
        }
        for point in points {
            let conflict =
                self.points.iter().filter(|known| known.measurement == point.measurement).any(|known| {
                    point.fields.iter().any(|(name, value)| {
                        known
                            .fields
                            .get(name)
                            .is_some_and(|old| std::mem::discriminant(old) != std::mem::discriminant(value))
                    })
                });
            if conflict {
                let cause = "partial write: field type conflict";
                return Err((StatusCode::UNPROCESSABLE_ENTITY, "unprocessable entity", cause.to_owned()));
            }
            // The same series at the same time is the same point.
            self.points.retain(|known| {
                (&known.measurement, &known.tags, known.time) != (&point.measurement, &point.tags, point.time)
            });
            self.points.push(point);
        }
        Ok(())
    }
}

/// All points of a body; a line end inside a quoted text does not end a line.
fn points(text: &str) -> Result<Vec<Point>, String> {
    let mut rest = text;
    let mut points = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('\n') {
            rest = after;
        } else if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else {
            let (point, after) = point(rest).map_err(|cause| format!("unable to parse '{rest}': {cause}"))?;
            points.push(point);
            rest = after;
        }
    }
    Ok(points)
}

fn point(text: &str) -> Result<(Point, &str), &'static str> {
    let (measurement, mut end, mut rest) = token(text, ", ")?;
    if measurement.is_empty() {
        return Err("missing measurement");
    }
    let mut tags = BTreeMap::new();
    while end == ',' {
        let (name, equals, after) = token(rest, ",= ")?;
        let (value, next, after) = token(after, ",= ")?;
        if equals != '=' || name.is_empty() || value.is_empty() || next == '=' {
            return Err("missing tag value");
        }
        if tags.insert(name, value).is_some() {
            return Err("duplicate tags");
        }
        (end, rest) = (next, after);
    }
    let mut fields = BTreeMap::new();
    loop {
        let (name, equals, after) = token(rest, ",= ")?;
        if equals != '=' || name.is_empty() {
            return Err("missing fields");
        }
        let (value, next, after) = field(after)?;
        fields.insert(name, value);
        rest = after;
        if next == ' ' {
            break;
        }
    }
    let (time, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let time = time.parse().map_err(|_| "bad timestamp")?;
    Ok((Point { measurement, tags, fields, time }, rest))
}

/// Up to an unescaped one of `ends`, which is taken, too. A backslash escapes one of these, and is itself otherwise.
fn token<'t>(text: &'t str, ends: &str) -> Result<(String, char, &'t str), &'static str> {
    let mut out = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => return Err("line ends too early"),
            '\\' => match chars.peek() {
                Some(&(_, next)) if ends.contains(next) => {
                    out.push(next);
                    chars.next();
                }
                _ => out.push('\\'),
            },
            c if ends.contains(c) => return Ok((out, c, &text[at + c.len_utf8()..])),
            c => out.push(c),
        }
    }
    Err("line ends too early")
}

/// A value, and the comma or space after it.
fn field(text: &str) -> Result<(Field, char, &str), &'static str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut out = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, next @ ('"' | '\\'))) => out.push(next),
                    Some((_, next)) => out.extend(['\\', next]),
                    None => return Err("unbalanced quotes"),
                },
                '"' => {
                    let rest = &quoted[at + 1..];
                    let end =
                        rest.chars().next().filter(|c| matches!(c, ',' | ' ')).ok_or("bad end of a text")?;
                    return Ok((Field::Text(out), end, &rest[1..]));
                }
                c => out.push(c),
            }
        }
        return Err("unbalanced quotes");
    }
    let at = text.find([',', ' ']).ok_or("missing timestamp")?;
    let (value, end) = (&text[..at], text[at..].chars().next().unwrap_or(' '));
    let value = match value {
        "true" | "t" | "T" | "True" | "TRUE" => Field::Bool(true),
        "false" | "f" | "F" | "False" | "FALSE" => Field::Bool(false),
        value => match value.strip_suffix(['i', 'u']) {
            Some(whole) => Field::Integer(whole.parse().map_err(|_| "invalid number")?),
            None => Field::Float(value.parse().ok().filter(|n: &f64| n.is_finite()).ok_or("invalid number")?),
        },
    };
    Ok((value, end, &text[at + 1..]))
}
