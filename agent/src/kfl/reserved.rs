//! `namespace` is a name of items, and a word that CEL reserves: before the parser sees it, it becomes another of the same
//! length, so that positions stay.

/// What the parser reads in its place; nobody else begins a name so.
pub(super) const STAND_IN: &str = "_namespac";
const WORD: &str = "namespace";

/// The text with the stand-in for each `namespace` that is a name of its own: no part of a path, of a string or of a comment.
pub(super) fn replaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '"' | '\'' => string(rest, is_raw(&out)),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            next if is_letter(next) => rest.find(|c| !is_letter(c)).unwrap_or(rest.len()),
            next => next.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        let is_field = out.trim_end().ends_with('.');
        out.push_str(if token == WORD && !is_field { STAND_IN } else { token });
        rest = behind;
    }
    out
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether the string that follows has the prefix of a raw one: `r""`, `br""`.
fn is_raw(before: &str) -> bool {
    let begin = before.rfind(|c| !is_letter(c)).map_or(0, |at| at + 1);
    before
        .get(begin..)
        .is_some_and(|prefix| matches!(prefix.to_ascii_lowercase().as_str(), "r" | "br" | "rb"))
}

/// Length of the string at the start of the text, to the end where it has none.
fn string(text: &str, raw: bool) -> usize {
    let quote = if text.starts_with("\"\"\"") || text.starts_with("'''") { &text[..3] } else { &text[..1] };
    let mut at = quote.len();
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(quote) {
            return at + quote.len();
        }
        let mut chars = rest.chars();
        let first = chars.next().map_or(0, char::len_utf8);
        let escaped = if rest.starts_with('\\') && !raw { chars.next().map_or(0, char::len_utf8) } else { 0 };
        at += first + escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_itself_is_replaced() {
        for (text, wanted) in [
            ("namespace == 'namespace'", "_namespac == 'namespace'"),
            (
                "src.namespace == \"a\\\"namespace\" || !namespace",
                "src.namespace == \"a\\\"namespace\" || !_namespac",
            ),
            ("src . namespace == r'\\' && namespace", "src . namespace == r'\\' && _namespac"),
            (
                "'''it's namespace''' == namespace // namespace\nnamespace",
                "'''it's namespace''' == _namespac // namespace\n_namespac",
            ),
            ("namespaces namespace_ 'namespace", "namespaces namespace_ 'namespace"),
            ("é.namespace + 'é\\", "é.namespace + 'é\\"),
        ] {
            assert_eq!(replaced(text), wanted);
        }
    }
}
