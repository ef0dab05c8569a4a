//! Slack's text: `&`, `<` and `>` are the three characters that it reads as markup of its own.
//!
//! Everything is escaped, whoever wrote it: a script's text is mixed with captured traffic, and an unescaped
//! `<!channel>` in a captured string would ping everybody. So a script cannot write `<url|label>`; a bare URL is
//! made a link by Slack, and `*bold*`, `_italic_` and `` `code` `` work.

/// Escapes all of `text`.
pub(super) fn escape(text: &str) -> String {
    cut(text, usize::MAX).0
}

/// Escapes as much of `text` as fits into `max` characters, entities counted whole; whether all of it did.
pub(super) fn cut(text: &str, max: usize) -> (String, bool) {
    let mut out = String::with_capacity(text.len().min(max));
    let mut length = 0;
    for c in text.chars() {
        let entity = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        length += entity.len().max(1);
        if length > max {
            return (out, false);
        }
        match entity {
            "" => out.push(c),
            entity => out.push_str(entity),
        }
    }
    (out, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(escape("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
        assert_eq!(escape("&lt;"), "&amp;lt;");
        assert_eq!(escape("*bold* é 😀"), "*bold* é 😀");
    }

    #[test]
    fn an_entity_is_never_cut() {
        assert_eq!(cut("a<b", 4), ("a".to_owned(), false));
        assert_eq!(cut("a<b", 5), ("a&lt;".to_owned(), false));
        assert_eq!(cut("a<b", 6), ("a&lt;b".to_owned(), true));
        assert_eq!(cut("éé", 2), ("éé".to_owned(), true));
    }
}
