//! Exceptions: lines of `rule path reason…`. Empty lines and those that begin with `#` are passed over.

use super::Finding;

/// Where they stand.
pub(super) const FILE: &str = "xtask/tidy.allow";

/// Takes out what is allowed; adds what is wrong with the list itself.
pub(super) fn excuse(findings: Vec<Finding>, list: &str) -> Vec<Finding> {
    let mut left = findings;
    let mut wrong = Vec::new();
    for (index, line) in list.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(rule), Some(path), Some(_reason)) = (words.next(), words.next(), words.next()) else {
            wrong.push(Finding::new("allow", FILE, index + 1, "needs a rule, a path and a reason"));
            continue;
        };
        let before = left.len();
        left.retain(|f| !(f.rule == rule && f.path == path));
        if left.len() == before {
            wrong.push(Finding::new(
                "allow",
                FILE,
                index + 1,
                format!("excuses nothing: no [{rule}] in {path}"),
            ));
        }
    }
    left.extend(wrong);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_with_a_reason_is_excused() {
        let findings =
            vec![Finding::new("length", "a.rs", 0, "long"), Finding::new("length", "b.rs", 0, "long")];
        let left = excuse(findings.clone(), "# a comment\n\nlength a.rs one table\n");
        assert_eq!(left, [findings[1].clone()]);
    }

    #[test]
    fn lines_without_reason_or_effect_are_findings() {
        let left = excuse(Vec::new(), "length a.rs\nlength gone.rs was long once\n");
        let messages: Vec<_> = left.iter().map(|f| (f.line, f.message.as_str())).collect();
        assert_eq!(messages[0], (1, "needs a rule, a path and a reason"));
        assert_eq!(messages[1], (2, "excuses nothing: no [length] in gone.rs"));
    }
}
