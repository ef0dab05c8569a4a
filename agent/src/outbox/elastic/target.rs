//! Where a cluster is and how to get in: URL or cloud id, and one of the ways to say who one is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::outbox::OutboxError;
use crate::outbox::check;
use crate::outbox::delivery::kept;
use crate::secret::Secret;
use crate::tls::Fingerprint;

/// What a script gives; empty texts count as not given.
#[derive(Clone, Debug, Default)]
pub struct ElasticAccess {
    /// `https://host:9200`; may hold user and password, and a path.
    pub url: String,
    /// With `password`.
    pub username: String,
    /// With `username`.
    pub password: Option<Secret>,
    /// Elastic Cloud's id of the deployment, in place of the URL.
    pub cloud_id: String,
    /// `id:key`, or that in base64, as Kibana shows it.
    pub api_key: Option<Secret>,
    /// A service account's token.
    pub service_token: Option<Secret>,
    /// SHA-256 of the certificate to trust, in hexadecimal.
    pub fingerprint: String,
}

/// A cluster and the right to write to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ElasticTarget {
    pub(super) url: String,
    /// The `Authorization` header's value.
    #[serde(with = "kept::optional", default)]
    pub(super) auth: Option<Secret>,
    #[serde(default)]
    fingerprint: Option<String>,
}

impl ElasticTarget {
    /// Judges what a script gave. An API key goes before a service token, and both before a password.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] naming the argument.
    pub fn new(access: &ElasticAccess) -> Result<Self, OutboxError> {
        let mut url = address(access)?;
        let inside = (decoded(url.username()), url.password().map(decoded));
        // The URL is shown; it cannot fail for a URL with a host.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.set_fragment(None);
        let fingerprint = match access.fingerprint.trim() {
            "" => None,
            text if Fingerprint::parse(text).is_none() => {
                let cause = "is no SHA-256 of a certificate: 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints";
                return check::invalid("certificateFingerprint", cause.to_owned());
            }
            _ if url.scheme() != "https" => {
                return check::invalid("certificateFingerprint", "needs an https URL".to_owned());
            }
            text => Some(text.to_owned()),
        };
        Ok(Self { url: url.to_string(), auth: auth(access, inside)?, fingerprint })
    }

    /// Host and port, for logs and lists.
    pub(in crate::outbox) fn host(&self) -> String {
        check::host(&self.url)
    }

    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint.as_deref().and_then(Fingerprint::parse)
    }

    /// What must not be repeated: the header's credentials as sent and in the clear.
    pub(super) fn secrets(&self) -> Vec<String> {
        let Some(auth) = &self.auth else { return Vec::new() };
        let sent = auth.expose().split_once(' ').map_or("", |(_, sent)| sent);
        let clear = BASE64.decode(sent).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let mut secrets = vec![sent.to_owned()];
        if let Some((_, secret)) = clear.as_deref().and_then(|clear| clear.split_once(':')) {
            secrets.push(secret.to_owned());
        }
        secrets
    }
}

fn address(access: &ElasticAccess) -> Result<Url, OutboxError> {
    match (access.url.trim(), access.cloud_id.trim()) {
        ("", "") => check::invalid("url", "is empty, and there is no cloudID".to_owned()),
        ("", cloud_id) => cloud(cloud_id),
        (url, _) => check::url("url", url, "https://elasticsearch.example:9200"),
    }
}

/// `name:base64(host[:port]$elasticsearch[:port]$kibana)`
fn cloud(id: &str) -> Result<Url, OutboxError> {
    let wrong = || OutboxError::Invalid {
        argument: "cloudID",
        cause: "is not one: copy it from the deployment's page (name:base64)".to_owned(),
    };
    let coded = id.rsplit_once(':').map_or(id, |(_, coded)| coded);
    let padded = format!("{coded}{}", "=".repeat((4 - coded.len() % 4) % 4));
    let clear =
        BASE64.decode(padded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let mut parts = clear.split('$');
    let (host, cluster) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (host, port) = split_port(host, "443");
    let (cluster, port) = split_port(cluster, port);
    if host.is_empty() || cluster.is_empty() {
        return Err(wrong());
    }
    Url::parse(&format!("https://{cluster}.{host}:{port}/")).map_err(|_| wrong())
}

fn split_port<'t>(text: &'t str, usual: &'t str) -> (&'t str, &'t str) {
    text.split_once(':').unwrap_or((text, usual))
}

fn auth(access: &ElasticAccess, inside: (String, Option<String>)) -> Result<Option<Secret>, OutboxError> {
    let given =
        |secret: &Option<Secret>| secret.as_ref().map(|s| s.expose().to_owned()).filter(|s| !s.is_empty());
    if let Some(key) = given(&access.api_key) {
        check::name("apiKey", &key)?;
        let coded = if key.contains(':') { BASE64.encode(key) } else { key };
        return Ok(Some(Secret::new(&format!("ApiKey {coded}"))));
    }
    if let Some(token) = given(&access.service_token) {
        check::name("serviceToken", &token)?;
        return Ok(Some(Secret::new(&format!("Bearer {token}"))));
    }
    let (user, password) = match (access.username.trim(), given(&access.password)) {
        ("", None) => match inside {
            (user, password) if user.is_empty() && password.is_none() => return Ok(None),
            (user, password) => (user, password.unwrap_or_default()),
        },
        ("", Some(_)) => return check::invalid("username", "is empty, but there is a password".to_owned()),
        (_, None) => return check::invalid("password", "is empty; is its variable set?".to_owned()),
        (user, Some(password)) => (user.to_owned(), password),
    };
    check::text("username", &user)?;
    if user.contains(':') {
        return check::invalid("username", "has a colon in it, which Basic cannot carry".to_owned());
    }
    check::text("password", &password)?;
    Ok(Some(Secret::new(&format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))))
}

/// Percent-decoded, as user and password stand in a URL.
fn decoded(text: &str) -> String {
    let coded = format!("_={}", text.replace('+', "%2B"));
    let pair = Url::parse(&format!("http://x/?{coded}")).ok();
    pair.and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret::new(text))
    }

    fn at(url: &str) -> ElasticAccess {
        ElasticAccess { url: url.to_owned(), ..ElasticAccess::default() }
    }

    fn header(access: &ElasticAccess) -> String {
        ElasticTarget::new(access).unwrap().auth.map(|auth| auth.expose().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_cloud_id_names_a_host() {
        // The example of Elastic's documentation.
        let id = "cluster_name:dXMtZWFzdC0xLmF3cy5mb3VuZC5pbyQ0ZmE4ODIxZTc1NjM0MDMyYmVkMWNmMjIxMTBlMmY5NyQ0ZmE4ODIxZTc1NjM0MDMyYmVkMWNmMjIxMTBlMmY5Ng==";
        let access = ElasticAccess { cloud_id: id.to_owned(), ..ElasticAccess::default() };
        let target = ElasticTarget::new(&access).unwrap();
        assert_eq!(target.url, "https://4fa8821e75634032bed1cf22110e2f97.us-east-1.aws.found.io/");
        let coded = BASE64.encode("eu.example:9243$abc$def");
        let access = ElasticAccess { cloud_id: format!("n:{coded}"), ..ElasticAccess::default() };
        assert_eq!(ElasticTarget::new(&access).unwrap().url, "https://abc.eu.example:9243/");
        for wrong in ["n:", "n:!!!", &format!("n:{}", BASE64.encode("host-only"))] {
            let access = ElasticAccess { cloud_id: wrong.to_owned(), ..ElasticAccess::default() };
            assert!(ElasticTarget::new(&access).unwrap_err().to_string().starts_with("cloudID: "), "{wrong}");
        }
    }

    #[test]
    fn who_one_is_can_be_said_in_every_way() {
        let url = "https://es.example:9200";
        assert_eq!(header(&at(url)), "");
        let basic = BASE64.encode("elastic:pa ss:ä");
        let named = ElasticAccess { username: "elastic".into(), password: secret("pa ss:ä"), ..at(url) };
        assert_eq!(header(&named), format!("Basic {basic}"));
        assert_eq!(header(&at("https://elastic:pa%20ss:%C3%A4@es.example")), format!("Basic {basic}"));
        let coded = ElasticAccess { api_key: secret("aWQ6a2V5"), ..named.clone() };
        assert_eq!(header(&coded), "ApiKey aWQ6a2V5");
        assert_eq!(header(&ElasticAccess { api_key: secret("id:key"), ..at(url) }), "ApiKey aWQ6a2V5");
        let token = ElasticAccess { service_token: secret("AAEAAW"), ..at(url) };
        assert_eq!(header(&token), "Bearer AAEAAW");
        let target = ElasticTarget::new(&named).unwrap();
        assert_eq!(target.secrets(), [basic, "pa ss:ä".to_owned()]);
        assert!(!format!("{target:?}").contains("ZWxhc3"), "{target:?}");
    }

    #[test]
    fn arguments_that_cannot_be_right_are_refused_by_name() {
        let url = "https://es.example:9200";
        for (access, part) in [
            (at(""), "url: is empty, and there is no cloudID"),
            (at("es.example:9200"), "url: is not an http or https URL"),
            (ElasticAccess { username: "elastic".into(), ..at(url) }, "password: is empty"),
            (ElasticAccess { password: secret("hushhush"), ..at(url) }, "username: is empty"),
            (ElasticAccess { api_key: secret("hushhush hushhush"), ..at(url) }, "apiKey: has white space"),
            (ElasticAccess { fingerprint: "abc".into(), ..at(url) }, "certificateFingerprint: is no SHA-256"),
            (
                ElasticAccess { fingerprint: "ab".repeat(32), ..at("http://es.example") },
                "certificateFingerprint: needs an https URL",
            ),
        ] {
            let error = ElasticTarget::new(&access).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hushhush"), "{error}");
        }
    }
}
