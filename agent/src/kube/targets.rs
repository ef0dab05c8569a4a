//! Which pods are wanted.

use std::collections::BTreeMap;
use std::str::FromStr;

use regex::Regex;

/// Which pods are wanted: those for which all that is said holds. Nothing said: all.
#[derive(Clone, Default, Debug)]
pub struct Targets {
    /// Of these namespaces; none: of any.
    pub namespaces: Vec<Namespace>,
    /// Not of these.
    pub excluded_namespaces: Vec<Namespace>,
    /// Whose name the expression is found in.
    pub pod_regex: Option<PodRegex>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
}

/// A namespace's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace(String);

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = (1..=63).contains(&text.len())
            && text.chars().all(|c| letter(c) || c == '-')
            && text.starts_with(letter)
            && text.ends_with(letter);
        if fits {
            return Ok(Self(text.to_owned()));
        }
        Err(String::from(
            "allowed is the name of a namespace: lower-case letters, digits and '-'; patterns are not",
        ))
    }
}

/// A regular expression, compared by its text.
#[derive(Clone, Debug)]
pub struct PodRegex(Regex);

impl FromStr for PodRegex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Self).map_err(|error| format!("not a regular expression: {error}"))
    }
}

impl PartialEq for PodRegex {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for PodRegex {}

impl Eq for Targets {}

impl PartialEq for Targets {
    fn eq(&self, other: &Self) -> bool {
        self.namespaces == other.namespaces
            && self.excluded_namespaces == other.excluded_namespaces
            && self.pod_regex == other.pod_regex
            && self.labels == other.labels
    }
}

impl Targets {
    /// Whether every pod is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a pod is wanted.
    #[must_use]
    pub fn wants(&self, namespace: &str, pod: &str, labels: &BTreeMap<String, String>) -> bool {
        let among = |of: &[Namespace]| of.iter().any(|of| of.0 == namespace);
        (self.namespaces.is_empty() || among(&self.namespaces))
            && !among(&self.excluded_namespaces)
            && self.pod_regex.as_ref().is_none_or(|regex| regex.0.is_match(pod))
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_must_hold() {
        let label = |text: &str| {
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>()
        };
        let targets = Targets {
            namespaces: vec!["prod".parse().unwrap(), "test".parse().unwrap()],
            excluded_namespaces: vec!["test".parse().unwrap()],
            pod_regex: Some("^shop-".parse().unwrap()),
            labels: label("app=shop,tier=web"),
        };
        assert!(targets.wants("prod", "shop-1", &label("app=shop,tier=web,x=y")));
        assert!(!targets.wants("prod", "shop-1", &label("app=shop")));
        assert!(!targets.wants("prod", "a-shop-1", &label("app=shop,tier=web")));
        assert!(!targets.wants("test", "shop-1", &label("app=shop,tier=web")), "exclusion wins");
        assert!(!targets.wants("other", "shop-1", &label("app=shop,tier=web")));
        assert!(Targets::default().is_all() && Targets::default().wants("any", "pod", &label("")));
        let excluding = Targets { excluded_namespaces: vec!["test".parse().unwrap()], ..Targets::default() };
        assert!(!excluding.is_all() && excluding.wants("prod", "x", &label("")));
    }

    #[test]
    fn what_can_be_no_namespace_is_refused() {
        for wrong in ["", "Prod", "prod-*", "-a", "a-", "a b", &"a".repeat(64)] {
            assert!(wrong.parse::<Namespace>().is_err(), "{wrong}");
        }
        assert!("(".parse::<PodRegex>().is_err());
    }
}
