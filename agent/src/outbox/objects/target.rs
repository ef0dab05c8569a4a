//! Buckets: where they are, who may write to them, and the URL that an object will have.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ObjectStore, RetryConfig};
use serde::{Deserialize, Serialize};

use super::web::{Connector, Web};
use crate::outbox::delivery::kept;
use crate::outbox::{OutboxError, check};
use crate::secret::Secret;

/// Longest key of an object that stores take, in bytes.
const MAX_KEY: usize = 1_024;
const GOOGLE: &str = "https://storage.googleapis.com";

/// A bucket of S3, or of what speaks like it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct S3Target {
    #[serde(default)]
    endpoint: Option<String>,
    region: String,
    bucket: String,
    #[serde(default)]
    key_id: Option<String>,
    #[serde(with = "kept::optional", default)]
    access_key: Option<Secret>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GcsTarget {
    bucket: String,
    #[serde(with = "kept")]
    account: Secret,
}

impl S3Target {
    /// `endpoint`: another service than Amazon's; buckets are then a part of the path. Without keys those of the environment
    /// are taken (`AWS_ACCESS_KEY_ID` …), or the role of pod or machine.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] naming the argument.
    pub fn new(
        endpoint: Option<&str>,
        bucket: &str,
        region: &str,
        keys: Option<(String, Secret)>,
    ) -> Result<Self, OutboxError> {
        bucket_name(bucket)?;
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return check::invalid("region", "is not one; it looks like eu-central-1".to_owned());
        }
        let (key_id, access_key) = keys.unzip();
        if let (Some(key_id), Some(access_key)) = (&key_id, &access_key) {
            check::name("keyID", key_id)?;
            check::name("accessKey", access_key.expose())?;
        }
        let china = || region.starts_with("cn-").then(|| format!("https://s3.{region}.amazonaws.com.cn"));
        let endpoint = endpoint.map(|text| text.trim_end_matches('/').to_owned()).or_else(china);
        Ok(Self { endpoint, region: region.to_owned(), bucket: bucket.to_owned(), key_id, access_key })
    }

    /// The URL that the object of this key will have.
    #[must_use]
    pub fn url(&self, key: &str) -> String {
        let Self { region, bucket, .. } = self;
        match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}/{key}"),
            None if self.has_own_host() => format!("https://{bucket}.s3.{region}.amazonaws.com/{key}"),
            None => format!("https://s3.{region}.amazonaws.com/{bucket}/{key}"),
        }
    }

    /// For logs and lists.
    pub(in crate::outbox) fn shown(&self) -> String {
        format!("bucket {} in {}", self.bucket, self.endpoint.as_deref().unwrap_or(&self.region))
    }

    /// Amazon's certificate fits one label before its own.
    fn has_own_host(&self) -> bool {
        self.endpoint.is_none() && !self.bucket.contains('.')
    }

    pub(super) fn open(&self, web: &Arc<Web>) -> object_store::Result<Arc<dyn ObjectStore>> {
        let builder = match &self.key_id {
            Some(_) => AmazonS3Builder::new(),
            None => AmazonS3Builder::from_env(),
        };
        let mut builder = builder
            .with_region(&self.region)
            .with_bucket_name(&self.bucket)
            .with_virtual_hosted_style_request(self.has_own_host())
            .with_retry(once())
            .with_http_connector(Connector(Arc::clone(web)));
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let (Some(key_id), Some(access_key)) = (&self.key_id, &self.access_key) {
            builder = builder.with_access_key_id(key_id).with_secret_access_key(access_key.expose());
        }
        Ok(Arc::new(builder.build()?))
    }
}

/// What is needed of a service account's key file.
#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    gcs_base_url: Option<String>,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
}

impl GcsTarget {
    /// `account` is the key file of a service account, as JSON. Its `gcs_base_url`, if there is one, names another service
    /// than Google's.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] naming the argument.
    pub fn new(bucket: &str, account: Secret) -> Result<Self, OutboxError> {
        bucket_name(bucket)?;
        let target = Self { bucket: bucket.to_owned(), account };
        let whole =
            target.account().is_some_and(|key| !key.client_email.is_empty() && !key.private_key.is_empty());
        if !whole {
            let cause = "is not the key of a service account: it needs client_email and private_key";
            return check::invalid("saKeyObj", cause.to_owned());
        }
        Ok(target)
    }

    fn account(&self) -> Option<Account> {
        serde_json::from_str(self.account.expose()).ok()
    }

    /// The URL that the object of this key will have.
    #[must_use]
    pub fn url(&self, key: &str) -> String {
        let base = self.account().and_then(|account| account.gcs_base_url);
        let base = base.as_deref().unwrap_or(GOOGLE).trim_end_matches('/').to_owned();
        format!("{base}/{}/{key}", self.bucket)
    }

    /// For logs and lists.
    pub(in crate::outbox) fn shown(&self) -> String {
        format!("bucket {}", self.bucket)
    }

    pub(super) fn open(&self, web: &Arc<Web>) -> object_store::Result<Arc<dyn ObjectStore>> {
        let builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&self.bucket)
            .with_service_account_key(self.account.expose())
            .with_retry(once())
            .with_http_connector(Connector(Arc::clone(web)));
        Ok(Arc::new(builder.build()?))
    }
}

/// Trying again is the outbox's.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn bucket_name(name: &str) -> Result<(), OutboxError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
    if (3..=63).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['-', '.']) {
        return Ok(());
    }
    check::invalid("bucket", format!("{name:?} is not the name of a bucket: 3 to 63 of a-z, 0-9, '-', '.'"))
}

/// Key of an object: folders, and a file's name. What URLs would have to escape becomes `_`.
///
/// # Errors
/// Where it is too long.
pub fn object_key(folder: &str, file: &str) -> Result<String, OutboxError> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.=+".contains(c) { c } else { '_' };
    let parts = folder.split('/').chain([file]).filter(|part| !part.is_empty());
    let named = parts.map(|part| match part {
        "." | ".." => "_".to_owned(),
        part => part.chars().map(plain).collect(),
    });
    let key = named.collect::<Vec<String>>().join("/");
    if key.len() > MAX_KEY {
        return check::invalid("path", format!("makes a key of {} bytes; at most {MAX_KEY}", key.len()));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_urls_that_their_stores_give_them() {
        let at =
            |endpoint, bucket, region| S3Target::new(endpoint, bucket, region, None).unwrap().url("n/a.pcap");
        assert_eq!(at(None, "caps", "eu-central-1"), "https://caps.s3.eu-central-1.amazonaws.com/n/a.pcap");
        assert_eq!(at(None, "my.caps", "us-east-1"), "https://s3.us-east-1.amazonaws.com/my.caps/n/a.pcap");
        assert_eq!(at(None, "caps", "cn-north-1"), "https://s3.cn-north-1.amazonaws.com.cn/caps/n/a.pcap");
        assert_eq!(at(Some("http://minio:9000/"), "caps", "us-east-1"), "http://minio:9000/caps/n/a.pcap");
        let account = r#"{"client_email":"a@b","private_key":"k"}"#;
        assert_eq!(
            GcsTarget::new("caps", Secret::new(account)).unwrap().url("a"),
            "https://storage.googleapis.com/caps/a"
        );
    }

    #[test]
    fn arguments_that_cannot_be_right_are_refused() {
        for (bucket, region, part) in [
            ("", "r", "bucket: "),
            ("Caps", "r", "bucket: "),
            ("caps", "", "region: "),
            ("caps", "a b", "region: "),
        ] {
            let error = S3Target::new(None, bucket, region, None).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
        for account in ["", "{}", "hushhush", r#"{"client_email":"a","private_key":""}"#] {
            let error = GcsTarget::new("caps", Secret::new(account)).unwrap_err().to_string();
            assert!(error.starts_with("saKeyObj: is not the key") && !error.contains("hushhush"), "{error}");
        }
    }

    #[test]
    fn keys_need_no_escaping() {
        assert_eq!(object_key("node 1/../x//", "a b#%ä.pcap").unwrap(), "node_1/_/x/a_b___.pcap");
        assert!(object_key(&"a".repeat(1_024), "b").is_err());
    }
}
