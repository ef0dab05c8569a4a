//! A call that did not succeed, for every service: whether to try again, and what a person can do about it.

use std::fmt;
use std::time::Duration;

/// What to do after an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Try the same again.
    Passing,
    /// Try something shorter or plainer.
    Mend,
    /// Nothing that we can do.
    Terminal,
}

/// It never holds a URL, a secret or text that a server made up freely.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// The service's word, or ours: `http_503`, `no_answer`, `unreachable`, `bad_answer` …
    pub(crate) code: String,
    /// More about it; may be empty.
    pub(crate) detail: String,
    pub(crate) kind: Kind,
    /// What a person can do; may be empty.
    pub(crate) hint: &'static str,
    /// When the server wants the next attempt.
    pub(crate) retry_after: Option<Duration>,
    /// The call may have taken effect.
    pub(crate) unanswered: bool,
    /// Nobody was there to answer: it cannot be for the sake of what was sent.
    pub(crate) unreachable: bool,
}

impl Failure {
    /// A failure of this code, with nothing more to it. The code must be made of a service's words or be ours.
    pub(crate) fn new(code: &str, kind: Kind, hint: &'static str) -> Self {
        Self {
            code: code.to_owned(),
            detail: String::new(),
            kind,
            hint,
            retry_after: None,
            unanswered: false,
            unreachable: false,
        }
    }

    /// From a status whose body says nothing.
    pub(crate) fn status(status: u16) -> Self {
        let passing = status == 429 || status == 408 || (500..600).contains(&status);
        let kind = if passing { Kind::Passing } else { Kind::Terminal };
        let hint = match status {
            404 | 405 => "what answers there is not the service: check the URL",
            _ => "",
        };
        let detail = match status {
            300..400 => "a redirect, which is not followed",
            _ => "",
        };
        Self { detail: detail.to_owned(), ..Self::new(&format!("http_{status}"), kind, hint) }
    }

    /// A connection could not be made: nothing was sent.
    pub(crate) fn unreachable(cause: String) -> Self {
        Self { detail: cause, unreachable: true, ..Self::new("unreachable", Kind::Passing, NETWORK) }
    }

    /// Sent, but not answered to the end.
    pub(crate) fn no_answer(cause: String) -> Self {
        Self { detail: cause, unanswered: true, ..Self::new("no_answer", Kind::Passing, NETWORK) }
    }

    /// Answered, but not as the service answers.
    pub(crate) fn bad_answer(cause: String) -> Self {
        let hint = "what answers there is not the service: check the URL";
        Self { detail: cause, unanswered: true, ..Self::new("bad_answer", Kind::Passing, hint) }
    }

    /// Something on our side that trying again does not change.
    pub(crate) fn local(code: &str, cause: String) -> Self {
        let hint = match code {
            "no_tls" => "install the system's CA certificates (ca-certificates)",
            _ => "",
        };
        Self { detail: cause, ..Self::new(code, Kind::Terminal, hint) }
    }

    /// The same, with a server's wish.
    pub(crate) fn after(mut self, wish: Option<Duration>) -> Self {
        self.retry_after = wish;
        self
    }

    /// The same, given up.
    pub(crate) fn given_up(mut self, attempts: u32) -> Self {
        let separator = if self.detail.is_empty() { "" } else { "; " };
        let plural = if attempts == 1 { "" } else { "s" };
        self.detail = format!("{}{separator}given up after {attempts} attempt{plural}", self.detail);
        self.kind = Kind::Terminal;
        self
    }
}

const NETWORK: &str = "check network, DNS, proxy and firewall";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        match self.hint {
            "" => Ok(()),
            hint => write!(f, ": {hint}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        assert_eq!(Failure::status(503).kind, Kind::Passing);
        assert_eq!(Failure::status(302).kind, Kind::Terminal);
        assert!(Failure::unreachable(String::new()).unreachable);
        assert_eq!(
            Failure::status(404).given_up(1).to_string(),
            "http_404 (given up after 1 attempt): what answers there is not the service: check the URL"
        );
    }
}
