//! Where a call was when its time ran out.
//!
//! QuickJS knows the position of expressions, not of jumps: in a loop without any (`while (true) {}`) it reports where
//! the function begins. Then the first empty loop after that is what the author wants to see. Otherwise the position is
//! that of the last call or property access before the interruption, which is in the function that loops.

use super::source::{Place, Source};

/// The position reported, or that of the empty loop which it stands for.
pub(crate) fn of_timeout(source: &Source, reported: &Place) -> Place {
    if reported.file != source.file {
        return reported.clone();
    }
    empty_loop(&source.text, reported).unwrap_or_else(|| reported.clone())
}

/// The first loop with an empty body after `from`, if `from` is where a function or the script begins.
fn empty_loop(text: &str, from: &Place) -> Option<Place> {
    let start = offset(text, from)?;
    let begins_function = ["function", "async"].iter().any(|word| text[start..].starts_with(word))
        || text[start..].starts_with('(');
    if !begins_function && start != 0 {
        return None;
    }
    let code = blank_out(text);
    let mut at = start;
    while let Some((found, word)) = next_loop(&code, at) {
        let body = match word {
            "do" => found + word.len(),
            _ => after_parentheses(&code, found + word.len())?,
        };
        let body = code[body..].trim_start();
        let empty =
            body.starts_with(';') || body.strip_prefix('{').is_some_and(|b| b.trim_start().starts_with('}'));
        if empty {
            return Some(place(text, found, &from.file));
        }
        at = found + word.len();
    }
    None
}

fn next_loop(code: &str, from: usize) -> Option<(usize, &'static str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    ["while", "for", "do"]
        .into_iter()
        .filter_map(|word| {
            let alone = |&(at, _): &(usize, &str)| {
                !code[..from + at].ends_with(is_word) && !code[from + at + word.len()..].starts_with(is_word)
            };
            code[from..].match_indices(word).find(alone).map(|(at, _)| (from + at, word))
        })
        .min()
}

fn after_parentheses(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth <= 1 => return Some(from + at + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The text with comments and strings replaced by blanks of the same length.
fn blank_out(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let end = match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'/')) => {
                bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n)
            }
            (b'/', Some(b'*')) => text[at + 2..].find("*/").map_or(bytes.len(), |n| at + n + 4),
            (quote @ (b'"' | b'\'' | b'`'), _) => end_of_string(bytes, at, quote),
            _ => {
                out.push(if bytes[at].is_ascii() { bytes[at] } else { b'_' });
                at += 1;
                continue;
            }
        };
        out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
        at = end;
    }
    // All bytes are ASCII now.
    String::from_utf8_lossy(&out).into_owned()
}

fn end_of_string(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b if b == quote => return at + 1,
            b'\n' if quote != b'`' => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Byte offset of a position; QuickJS counts columns in characters, from 1.
fn offset(text: &str, place: &Place) -> Option<usize> {
    let mut start = 0;
    for _ in 1..place.line {
        start += text[start..].find('\n')? + 1;
    }
    let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
    text[start..].char_indices().nth(column).map(|(at, _)| start + at)
}

fn place(text: &str, at: usize, file: &str) -> Place {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { file: file.to_owned(), line: number(line), column: number(column) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, line: u32, column: u32) -> Option<(u32, u32)> {
        let from = Place { file: "a.js".to_owned(), line, column };
        empty_loop(text, &from).map(|place| (place.line, place.column))
    }

    #[test]
    fn an_empty_loop_is_found_in_its_function() {
        assert_eq!(found("function f() {\n  while (true) {}\n}", 1, 1), Some((2, 3)));
        assert_eq!(found("// ä while(1);\nfunction f() {\n  for (;;) ;\n}", 2, 1), Some((3, 3)));
        assert_eq!(found("function f() {\n  'while(1);';\n  do {} while (true)\n}", 1, 1), Some((3, 3)));
        assert_eq!(found("var x = 1;\nwhile (x) { }", 1, 1), Some((2, 1)));
        assert_eq!(found("function f() {\n  while (a(b)) { x() }\n  for(;;){\n}\n}", 1, 1), Some((3, 3)));
    }

    #[test]
    fn other_positions_are_left_alone() {
        assert_eq!(found("function f() {\n  x();\n  while (true) {}\n}", 2, 3), None);
        assert_eq!(found("function f() { forget(); doing(); }", 1, 1), None);
        assert_eq!(found("function f() {}", 9, 1), None);
        assert_eq!(found("function f() { while (", 1, 1), None);
    }
}
