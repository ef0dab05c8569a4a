//! Where a collector is, and the token that opens it.

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::outbox::delivery::kept;
use crate::outbox::failure::Failure;
use crate::outbox::{OutboxError, check};
use crate::secret::Secret;

/// A collector and a token for it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SplunkTarget {
    url: String,
    #[serde(with = "kept")]
    pub(super) token: Secret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
}

impl SplunkTarget {
    /// A collector at `url`, `https://host:8088` with or without `/services/collector…`. `channel` is a GUID; without one,
    /// there is one of the agent's own.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] naming the argument.
    pub fn new(url: &str, token: Secret, channel: Option<String>) -> Result<Self, OutboxError> {
        let mut url = check::url("url", url.trim(), "https://splunk.example:8088")?;
        check::name("token", token.expose())?;
        if channel.as_deref().is_some_and(|channel| !is_guid(channel)) {
            let cause = "is not a GUID such as FE0ECFAD-13D5-401B-847D-77833BD77131";
            return check::invalid("options.channel", cause.to_owned());
        }
        let base = url.path().split("/services/collector").next().unwrap_or_default().to_owned();
        url.set_path(&base);
        url.set_query(None);
        url.set_fragment(None);
        let _ = (url.set_username(""), url.set_password(None));
        Ok(Self { url: url.to_string(), token, channel })
    }

    /// Host and port, for logs and lists.
    pub(in crate::outbox) fn host(&self) -> String {
        check::host(&self.url)
    }

    pub(super) fn endpoint(&self, name: &str) -> Result<Url, Failure> {
        let wrong = || Failure::local("bad_request", "the URL".to_owned());
        let mut url = Url::parse(&self.url).map_err(|_| wrong())?;
        let way = ["services", "collector", name];
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(way);
        Ok(url)
    }

    pub(super) fn channel(&self) -> Option<String> {
        self.channel.clone()
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        vec![self.token.expose().to_owned()]
    }
}

/// Random, of version 4.
pub(super) fn new_channel() -> String {
    let mut random = [0; 16];
    // Without randomness it is the GUID of nobody, which a collector takes as well.
    let _ = getrandom::fill(&mut random);
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let digits: String = random.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_usual_url_leads_to_the_endpoints() {
        for url in [
            "https://s:8088",
            "https://s:8088/services/collector/event",
            " https://s:8088/services/collector/ ",
        ] {
            let target = SplunkTarget::new(url, Secret::new("t"), None).unwrap();
            assert_eq!(target.endpoint("ack").unwrap().as_str(), "https://s:8088/services/collector/ack");
        }
        let behind = SplunkTarget::new("https://s/splunk", Secret::new("t"), None).unwrap();
        assert_eq!(behind.endpoint("event").unwrap().path(), "/splunk/services/collector/event");
        assert!(is_guid(&new_channel()) && new_channel() != new_channel());
        for (url, token, channel, part) in [
            ("splunk", "t", None, "url: "),
            ("https://s", "", None, "token: is empty"),
            ("https://s", "a b", None, "token: has white space"),
            ("https://s", "t", Some("abc".to_owned()), "options.channel: is not a GUID"),
        ] {
            let error = SplunkTarget::new(url, Secret::new(token), channel).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}
