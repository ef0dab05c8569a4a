//! Where a bucket is, and the token that opens it.

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::outbox::delivery::kept;
use crate::outbox::failure::Failure;
use crate::outbox::{OutboxError, check};
use crate::secret::Secret;

/// A bucket and a token for it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct InfluxTarget {
    url: String,
    #[serde(with = "kept")]
    pub(super) token: Secret,
    organization: String,
    bucket: String,
}

impl InfluxTarget {
    /// A bucket of the InfluxDB at `url`, `http://host:8086`.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] naming the argument.
    pub fn new(url: &str, token: Secret, organization: &str, bucket: &str) -> Result<Self, OutboxError> {
        let mut url = check::url("url", url.trim(), "http://influxdb.example:8086")?;
        check::name("token", token.expose())?;
        check::text("organization", organization)?;
        check::text("bucket", bucket)?;
        let base = url.path().split("/api/v2").next().unwrap_or_default().to_owned();
        url.set_path(&base);
        url.set_query(None);
        url.set_fragment(None);
        let _ = (url.set_username(""), url.set_password(None));
        let (organization, bucket) = (organization.to_owned(), bucket.to_owned());
        Ok(Self { url: url.to_string(), token, organization, bucket })
    }

    /// Bucket, host and port, for logs and lists.
    pub(in crate::outbox) fn shown(&self) -> String {
        format!("bucket {} at {}", self.bucket, check::host(&self.url))
    }

    pub(super) fn endpoint(&self) -> Result<Url, Failure> {
        let wrong = || Failure::local("bad_request", "the URL".to_owned());
        let mut url = Url::parse(&self.url).map_err(|_| wrong())?;
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(["api", "v2", "write"]);
        let names = [("org", self.organization.as_str()), ("bucket", &self.bucket), ("precision", "ns")];
        url.query_pairs_mut().extend_pairs(names);
        Ok(url)
    }
}
