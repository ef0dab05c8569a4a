//! Patterns of the shell: `*` for any characters, `?` for one. In paths neither stands for a slash.

/// Whether a name is a pattern rather than a name.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a name is as the pattern says. Time is at most the product of the lengths.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on if it does not match from here: behind the last star, which takes one more character.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((after, from)) = retry else { return false };
                retry = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name) in [
            ("veth*", "veth"),
            ("veth*", "veth1a2b"),
            ("*", ""),
            ("*", "lo"),
            ("e?h0", "eth0"),
            ("*a*b", "xaybab"),
            ("a*a*a", "aaa"),
            ("eth0", "eth0"),
            ("ü?", "üb"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("veth*", "xveth0"), ("e?h0", "eh0"), ("?", ""), ("a*a*a", "aa"), ("eth0", "eth01"), ("", "x")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        let long = "a".repeat(5_000);
        assert!(!matches(&format!("{}b", "a*".repeat(200)), &long), "and it takes no time");
    }
}
