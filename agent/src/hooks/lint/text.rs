//! Positions in a text, as QuickJS counts them: lines and columns from 1, columns in characters.

/// Finds lines.
pub(super) struct Positions<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'t> Positions<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let begins = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, lines: std::iter::once(0).chain(begins).collect() }
    }

    /// Line and column of a byte.
    pub(super) fn of(&self, at: u32) -> (u32, u32) {
        let at = (at as usize).min(self.text.len());
        let line = self.lines.partition_point(|begin| *begin <= at);
        let begin = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.text.get(begin..at).map_or(0, |before| before.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_counted_in_characters() {
        let positions = Positions::new("ä = 1;\nö(é);\n");
        assert_eq!(positions.of(0), (1, 1));
        assert_eq!(positions.of(3), (1, 3));
        assert_eq!(positions.of(8), (2, 1));
        assert_eq!(positions.of(11), (2, 3));
        assert_eq!(positions.of(999), (3, 1));
    }
}
