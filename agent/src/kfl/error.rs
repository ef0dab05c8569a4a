//! Why a filter is refused: what, where in its text, and what to write instead.

use std::fmt;

/// A filter that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KflError {
    /// What is wrong, and what to do about it.
    pub message: String,
    /// Line in the filter's text, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line itself, cut to what is near the column.
    shown: String,
    /// Where in `shown` the mark stands, in characters.
    mark: usize,
}

/// Characters of a line that are shown on either side of the mark.
const NEAR: usize = 60;

impl KflError {
    /// An error at a byte of the text.
    pub(super) fn at(text: &str, byte: usize, message: impl Into<String>) -> Self {
        let byte = (0..=byte.min(text.len())).rev().find(|&byte| text.is_char_boundary(byte)).unwrap_or(0);
        let begin = text[..byte].rfind('\n').map_or(0, |at| at + 1);
        let end = text[byte..].find('\n').map_or(text.len(), |at| byte + at);
        let before = text[begin..byte].chars().count();
        let cut = before.saturating_sub(NEAR);
        let shown = text[begin..end].chars().skip(cut).take(before - cut + NEAR).collect();
        let line = text[..byte].matches('\n').count() + 1;
        Self { message: message.into(), line, column: before + 1, shown, mark: before - cut }
    }

    /// An error at a line and a column, both from 1.
    pub(super) fn at_place(text: &str, line: usize, column: usize, message: impl Into<String>) -> Self {
        let begin: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest = text.get(begin..).unwrap_or_default();
        let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
        Self::at(text, begin + within, message)
    }

    /// In one line, without the filter's text.
    #[must_use]
    pub fn one_line(&self) -> String {
        if self.line == 1 {
            format!("column {}: {}", self.column, self.message)
        } else {
            format!("line {}, column {}: {}", self.line, self.column, self.message)
        }
    }
}

impl fmt::Display for KflError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}\n  {:mark$}^", self.one_line(), self.shown, "", mark = self.mark)
    }
}

impl std::error::Error for KflError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_below_the_place() {
        let error = KflError::at("http &&\n  é && stat", 15, "no such name");
        assert_eq!((error.line, error.column), (2, 7));
        assert_eq!(error.to_string(), "line 2, column 7: no such name\n    é && stat\n        ^");
        let long = format!("{}x{}", "a ".repeat(1000), " b".repeat(1000));
        let error = KflError::at(&long, 2000, "here");
        assert!(error.to_string().len() < 300 && error.shown.chars().nth(error.mark) == Some('x'));
        assert_eq!(KflError::at_place("ab\ncd", 2, 2, "").column, 2);
        assert_eq!(KflError::at("ab", 99, "").column, 3, "past the end is the end");
    }
}
