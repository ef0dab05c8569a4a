//! A service's own words, made fit for a log, a list and a dead letter: one line, bounded, without what is secret.

/// Longest that is kept, in characters.
const MAX: usize = 300;
/// Secrets shorter than this are not looked for: they would be found in everything.
const SHORTEST: usize = 4;

/// Cuts, and takes out every one of `secrets`, which a server might repeat.
pub(super) fn said(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST) {
        text = text.replace(secret.as_str(), "[REDACTED]");
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut kept: String = text.chars().take(MAX).map(plain).collect();
    if text.chars().nth(MAX).is_some() {
        kept.push('…');
    }
    kept.trim().to_owned()
}

/// A word of a service's, such as the name of an error; `other` if it is none.
pub(super) fn word(text: &str, other: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b' ' | b'.');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    // Tokens have many digits, names of errors hardly any.
    let is_word = !text.is_empty() && text.len() <= 80 && digits <= 4 && text.bytes().all(plain);
    if is_word { text.to_owned() } else { other.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_line_bounded_and_without_secrets() {
        let text = format!("key s3cr3t is\nwrong {}", "x".repeat(1_000));
        let kept = said(&text, &["s3cr3t".to_owned(), String::new(), "x".to_owned()]);
        assert!(kept.starts_with("key [REDACTED] is wrong xxx") && kept.ends_with("x…"), "{kept}");
        assert_eq!(kept.chars().count(), MAX + 1);
    }

    #[test]
    fn what_is_no_word_is_not_repeated() {
        assert_eq!(word("mapper_parsing_exception", "unknown"), "mapper_parsing_exception");
        for odd in ["", "QWxhZGRpbjpvcGVuc2VzYW1l12345", "a\nb", "<html>"] {
            assert_eq!(word(odd, "unknown"), "unknown");
        }
    }
}
