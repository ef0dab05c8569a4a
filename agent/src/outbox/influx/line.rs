//! Line protocol: `measurement,tag=value field=1,other="text" nanoseconds`.
//!
//! What it cannot carry is changed, not refused, as it comes from traffic: a line end in a name becomes a space, and a
//! backslash before a character that is escaped, or at the end, becomes a slash (it would escape what follows).

use serde_json::{Map, Value};

use crate::outbox::{OutboxError, check, stamp};

/// Fields of a point.
const MAX_FIELDS: usize = 1_000;
/// Depth of objects that are laid out as `a.b.c`.
const MAX_DEPTH: usize = 8;
/// Longest text of a field that InfluxDB takes, in bytes.
const MAX_TEXT: usize = 64 * 1024 - 1;

/// A point, as a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InfluxPoint(pub(in crate::outbox) String);

impl InfluxPoint {
    /// A point of `measurement`. `data` is a JSON object: numbers are floating-point fields, texts and booleans what they are,
    /// objects laid out as `a.b`, arrays JSON texts; `null` is left out. Empty tags are left out. Its time is that of `startTime`
    /// or `timestamp`, as items have them, else the present.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] where there is no measurement, no object, or nothing in it.
    pub fn new(measurement: &str, data: &str, tags: &[(String, String)]) -> Result<Self, OutboxError> {
        if measurement.trim().is_empty() {
            return check::invalid("measurement", "is empty".to_owned());
        }
        let Ok(object) = serde_json::from_str::<Map<String, Value>>(data) else {
            return check::invalid("data", "is not an object {field: value}".to_owned());
        };
        let mut line = escaped(measurement.trim(), ", ");
        let mut tags: Vec<_> =
            tags.iter().filter(|(name, value)| !name.is_empty() && !value.trim().is_empty()).collect();
        // InfluxDB finds series faster so.
        tags.sort();
        for (name, value) in tags {
            if name == "time" {
                return check::invalid("tags", "\"time\" cannot be the name of a tag".to_owned());
            }
            line.push_str(&format!(",{}={}", escaped(name, ",= "), escaped(value, ",= ")));
        }
        let mut fields = Vec::new();
        lay_out("", &object, 1, &mut fields)?;
        if fields.is_empty() {
            return check::invalid("data", "has no field with a value".to_owned());
        }
        Ok(Self(format!("{line} {} {}", fields.join(","), stamp::of(data))))
    }
}

fn lay_out(
    before: &str,
    object: &Map<String, Value>,
    depth: usize,
    fields: &mut Vec<String>,
) -> Result<(), OutboxError> {
    for (name, value) in object {
        let name = format!("{before}{name}");
        let shown = match value {
            Value::Null => continue,
            Value::Object(inner) if depth < MAX_DEPTH => {
                lay_out(&format!("{name}."), inner, depth + 1, fields)?;
                continue;
            }
            Value::Bool(value) => value.to_string(),
            // Always floating-point: 5 and then 5.5 would else be a conflict of types.
            Value::Number(number) => number.to_string(),
            Value::String(text) => quoted(text),
            Value::Array(_) | Value::Object(_) => quoted(&value.to_string()),
        };
        // An empty name cannot be; "time" is the point's own.
        if name.is_empty() || name == "time" {
            continue;
        }
        if fields.len() == MAX_FIELDS {
            return check::invalid("data", format!("has more than {MAX_FIELDS} fields"));
        }
        fields.push(format!("{}={shown}", escaped(&name, ",= ")));
    }
    Ok(())
}

/// A text between quotation marks; cut where InfluxDB would refuse it.
fn quoted(text: &str) -> String {
    let cut = text.floor_char_boundary(MAX_TEXT.min(text.len()));
    format!("\"{}\"", text[..cut].replace('\\', "\\\\").replace('"', "\\\""))
}

fn escaped(name: &str, special: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\r' | '\t' | ' ' => out.push_str("\\ "),
            '\\' => {
                let ambiguous = rest.peek().is_none_or(|&next| {
                    special.contains(next) || next.is_whitespace() || matches!(next, '\\' | '"' | '=')
                });
                out.push(if ambiguous { '/' } else { '\\' });
            }
            c if special.contains(c) => {
                out.push('\\');
                out.push(c);
            }
            // A line that begins with '#' is a comment.
            '#' if out.is_empty() => out.push('_'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(measurement: &str, data: &str, tags: &[(&str, &str)]) -> String {
        let tags: Vec<_> = tags.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        InfluxPoint::new(measurement, data, &tags).unwrap().0
    }

    #[test]
    fn every_part_is_escaped_by_its_own_rules() {
        let data = r#"{"timestamp":1795269600123,"a b,c=d":"say \"hi\" \\ \n","ok":true,"n":5,"f":5.5,"none":null,"o":{"x":{"y":1}},"l":[1,"a"]}"#;
        assert_eq!(
            line("my, m=1", data, &[("z", "1 2"), ("a=b", "x,y=z"), ("empty", "")]),
            "my\\,\\ m=1,a\\=b=x\\,y\\=z,z=1\\ 2 timestamp=1795269600123,a\\ b\\,c\\=d=\"say \\\"hi\\\" \\\\ \n\",ok=true,n=5,f=5.5,\
             o.x.y=1,l=\"[1,\\\"a\\\"]\" 1795269600123000000"
        );
    }

    #[test]
    fn what_cannot_be_carried_is_changed() {
        let data = r#"{"timestamp":0,"v\\":1}"#;
        assert_eq!(
            line("#m\nx", data, &[("t", "C:\\dir\\"), ("u", "a\\ b")]),
            "_m\\ x,t=C:\\dir/,u=a/\\ b timestamp=0,v/=1 0"
        );
        let long = format!(r#"{{"timestamp":0,"t":"{}"}}"#, "ä".repeat(40_000));
        assert!(line("m", &long, &[]).len() < 64 * 1024 + 40);
    }

    #[test]
    fn what_is_no_point_is_refused() {
        let of = |m: &str, d: &str| InfluxPoint::new(m, d, &[]).unwrap_err().to_string();
        assert!(of("", "{}").starts_with("measurement: is empty"));
        assert!(of("m", "5").starts_with("data: is not an object"));
        assert!(of("m", r#"{"a":null,"time":1}"#).starts_with("data: has no field"));
        let many: Vec<String> = (0..1001).map(|n| format!(r#""f{n}":1"#)).collect();
        assert!(of("m", &format!("{{{}}}", many.join(","))).contains("more than 1000 fields"));
    }
}
