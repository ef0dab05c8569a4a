//! Real items against `scripts/remora.d.ts`: every key and value of an item has its type, every member of a type is
//! there unless it is optional, and every type was met.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use common::remora;
use serde_json::Value;
use testkit::synth::{CLIENT, Capture, SERVER};

/// As much of TypeScript's types as `remora.d.ts` uses for items.
#[derive(Clone, Debug)]
enum Type {
    Text,
    Number,
    Boolean,
    Null,
    Literal(String),
    Named(String),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// Name, whether optional, type.
    Object(Vec<(String, bool, Type)>),
}

struct Parser {
    words: std::iter::Peekable<std::vec::IntoIter<String>>,
}

impl Parser {
    fn new(text: &str) -> Self {
        let mut words = Vec::new();
        let mut rest = text.trim_start();
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '"' => rest[1..].find('"').expect("a literal ends") + 2,
                c if c.is_alphanumeric() => {
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
                }
                c => c.len_utf8(),
            };
            words.push(rest[..length].to_owned());
            rest = rest[length..].trim_start();
        }
        Self { words: words.into_iter().peekable() }
    }

    fn next(&mut self) -> String {
        self.words.next().expect("more of the type")
    }

    fn take(&mut self, word: &str) -> bool {
        self.words.next_if(|next| next == word).is_some()
    }

    fn expect(&mut self, word: &str) {
        assert_eq!(self.next(), word);
    }

    fn union(&mut self) -> Type {
        let mut all = vec![self.array()];
        while self.take("|") {
            all.push(self.array());
        }
        if all.len() == 1 { all.remove(0) } else { Type::Union(all) }
    }

    fn array(&mut self) -> Type {
        let mut single = self.single();
        while self.take("[") {
            self.expect("]");
            single = Type::Array(Box::new(single));
        }
        single
    }

    fn single(&mut self) -> Type {
        match self.next().as_str() {
            "string" => Type::Text,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            "null" => Type::Null,
            "{" => self.object(),
            "Record" => {
                for word in ["<", "string", ","] {
                    self.expect(word);
                }
                let values = self.union();
                self.expect(">");
                Type::Map(Box::new(values))
            }
            literal if literal.starts_with('"') => Type::Literal(literal.trim_matches('"').to_owned()),
            name => Type::Named(name.to_owned()),
        }
    }

    fn object(&mut self) -> Type {
        let mut members = Vec::new();
        while !self.take("}") {
            if self.take("[") {
                // Anything else may be there, too: it is of objects that are not ours.
                for word in ["key", ":", "string", "]", ":", "any"] {
                    self.expect(word);
                }
                self.take(";");
                continue;
            }
            let name = self.next();
            let optional = self.take("?");
            self.expect(":");
            members.push((name, optional, self.union()));
            // The last member of a line needs none.
            self.take(";");
        }
        Type::Object(members)
    }
}

/// The interfaces and aliases of `remora.d.ts` that items are made of.
fn types() -> BTreeMap<String, Type> {
    let text = std::fs::read_to_string(common::root().join("scripts/remora.d.ts")).unwrap();
    let code: String = without_comments(&text);
    let mut types = BTreeMap::new();
    for part in code.split("\n\n") {
        if let Some((name, body)) = part.trim().strip_prefix("interface ").and_then(|p| p.split_once(' ')) {
            types.insert(name.to_owned(), Parser::new(body).union());
        } else if let Some((name, body)) = part.trim().strip_prefix("type ").and_then(|p| p.split_once(" = "))
            && !body.contains("=>")
        {
            types.insert(name.to_owned(), Parser::new(body.trim_end_matches(';')).union());
        }
    }
    types
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((code, comment)) = rest.split_once("/**") {
        out.push_str(code);
        rest = comment.split_once("*/").expect("a comment ends").1;
    }
    out.push_str(rest);
    out.lines().filter(|line| !line.starts_with("//")).map(|line| line.to_owned() + "\n").collect()
}

struct Check {
    types: BTreeMap<String, Type>,
    /// `Item.request` and so on: members that were met.
    met: RefCell<BTreeSet<String>>,
}

impl Check {
    /// What is wrong with the value, if anything.
    fn value(&self, at: &str, of: &Type, value: &Value) -> Result<(), String> {
        let fits = match (of, value) {
            (Type::Text, Value::String(_))
            | (Type::Number, Value::Number(_))
            | (Type::Boolean, Value::Bool(_))
            | (Type::Null, Value::Null) => true,
            (Type::Literal(literal), Value::String(text)) => literal == text,
            (Type::Named(name), value) => {
                let named = self.types.get(name).ok_or_else(|| format!("{at}: no type {name}"))?;
                return self.value(name, named, value).map_err(|error| format!("{at}: {error}"));
            }
            (Type::Array(of), Value::Array(values)) => {
                return values.iter().try_for_each(|value| self.value(&format!("{at}[]"), of, value));
            }
            (Type::Map(of), Value::Object(map)) => {
                return map.values().try_for_each(|value| self.value(&format!("{at}{{}}"), of, value));
            }
            (Type::Union(all), value) => {
                let errors: Vec<String> =
                    all.iter().map_while(|of| self.value(at, of, value).err()).collect();
                return if errors.len() < all.len() { Ok(()) } else { Err(errors.join(" or ")) };
            }
            (Type::Object(members), Value::Object(map)) => return self.object(at, members, map),
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("{at}: {value} is not {of:?}")) }
    }

    fn object(
        &self,
        at: &str,
        members: &[(String, bool, Type)],
        map: &serde_json::Map<String, Value>,
    ) -> Result<(), String> {
        if let Some(extra) = map.keys().find(|key| !members.iter().any(|(name, ..)| name == *key)) {
            return Err(format!("{at}: {extra} is not in the types"));
        }
        for (name, optional, of) in members {
            let at = format!("{at}.{name}");
            match map.get(name) {
                Some(value) => {
                    self.value(&at, of, value)?;
                    self.met.borrow_mut().insert(at);
                }
                None if *optional => {}
                None => return Err(format!("{at} is not in the item")),
            }
        }
        Ok(())
    }
}

/// Everything that an item can have, but for what only live capture and Kubernetes know.
fn capture(path: &std::path::Path) {
    let mut capture = Capture::create(path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\n\
        Content-Disposition: form-data; name=\"f\"; filename=\"x.png\"\r\nContent-Type: image/png\r\n\r\n\u{0}\r\n--b--\r\n";
    let post = format!(
        "POST /a?x=1&x=2&y=3 HTTP/1.1\r\nHost: s\r\nCookie: a=1; a=2\r\nX-A: 1\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{multipart}",
        multipart.len()
    );
    capture.send(&mut connection, CLIENT, post.as_bytes()).unwrap();
    capture.send(&mut connection, SERVER, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").unwrap();
    let chunked = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    capture.send(&mut connection, SERVER, chunked).unwrap();
    let both = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    capture.exchange(&mut connection, b"GET / HTTP/1.0\r\n\r\n", both).unwrap();
    capture.close(connection).unwrap();
    let mut silent = capture.open(40_001).unwrap();
    capture.send(&mut silent, CLIENT, b"GET /silent HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
    capture.close(silent).unwrap();
    let mut unasked = capture.open(40_002).unwrap();
    capture.send(&mut unasked, SERVER, b"HTTP/1.1 408 Slow\r\nContent-Length: 0\r\n\r\n").unwrap();
    capture.close(unasked).unwrap();
}

#[test]
fn items_are_what_the_types_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.pcap");
    capture(&path);
    let items = remora(["replay", path.to_str().unwrap(), "--json", "--hash"]).exits(0).items();
    assert_eq!(items.len(), 4);
    for missing in ["request", "response", "error", "elapsedTime"] {
        assert!(items.iter().any(|item| item[missing].is_null()), "an item without {missing}");
        assert!(items.iter().any(|item| !item[missing].is_null()), "an item with {missing}");
    }
    let check = Check { types: types(), met: RefCell::default() };
    let item = check.types["Item"].clone();
    for value in &items {
        check.value("Item", &item, value).unwrap();
    }
    let unmet = |name: &str| {
        let Type::Object(members) = &check.types[name] else { panic!("{name} is an interface") };
        let met = check.met.borrow();
        members
            .iter()
            .map(|(member, ..)| member.clone())
            .filter(|m| !met.contains(&format!("{name}.{m}")))
            .collect::<Vec<_>>()
    };
    for name in ["Item", "HttpRequest", "HttpResponse", "PostData"] {
        assert_eq!(unmet(name), Vec::<String>::new(), "{name}");
    }
    let from_elsewhere = ["pod", "podUid", "service", "processId", "processName", "containerId", "cgroupId"];
    assert_eq!(unmet("Endpoint"), from_elsewhere);
    for param in ["name", "value", "fileName", "contentType"] {
        assert!(check.met.borrow().contains(&format!("PostData.params[].{param}")), "{param}");
    }
}

#[test]
fn the_check_can_fail() {
    let check = Check { types: types(), met: RefCell::default() };
    let fails = |name: &str, value: Value| check.value(name, &check.types[name], &value).unwrap_err();
    assert!(fails("Values", serde_json::json!({ "a": 1 })).contains("is not"));
    let param =
        serde_json::json!({ "mimeType": "", "params": [{}], "encoding": "", "text": "", "truncated": false });
    assert!(fails("PostData", param).contains("params[].name is not in the item"));
    let more = serde_json::json!({ "ip": "", "port": "", "name": "", "namespace": "", "more": 1 });
    assert!(fails("Endpoint", more).contains("more is not in the types"));
}
