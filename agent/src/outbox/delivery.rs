//! What scripts hand over, and the form in which it is kept: where to (with the secrets), and what (without any).
//!
//! A [`Delivery`] is split into a [`Destination`] and a [`Content`]. They are stored apart, so that what lists or shows
//! deliveries never reads a secret. Both are serialised as JSON with a `kind`; a kind or a field once released keeps its
//! name, and new fields have defaults: an older outbox must open.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::elastic::{ElasticDocument, ElasticTarget};
use super::influx::{InfluxPoint, InfluxTarget};
use super::objects::{GcsTarget, S3Target};
use super::splunk::{Envelope, SplunkEvent, SplunkTarget};
use super::web::{WebMessage, WebTarget};
use crate::secret::Secret;

/// A queued delivery's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeliveryId(pub u64);

/// What is to be delivered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// Slack incoming webhook.
    SlackWebhook {
        /// Webhook URL; a secret.
        url: Secret,
        /// What it says.
        alert: Alert,
        /// How it is folded with others; `None`: only by the flood guard.
        fold: Option<Fold>,
    },
    /// Slack `chat.postMessage`, then the files into its thread.
    SlackBot {
        /// Bot token; a secret.
        token: Secret,
        /// Channel id.
        channel: String,
        /// What it says.
        alert: Alert,
        /// Title and value, in order.
        fields: Vec<(String, String)>,
        /// Name shown, and path. The outbox takes its own copy before [`super::Outbox::enqueue`] returns.
        files: Vec<(String, PathBuf)>,
        /// How it is folded with others; `None`: only by the flood guard.
        fold: Option<Fold>,
    },
    /// A document for Elasticsearch or OpenSearch.
    Elastic {
        /// Which cluster.
        target: ElasticTarget,
        /// What.
        document: ElasticDocument,
    },
    /// Documents for Elasticsearch or OpenSearch, written down and sent as one.
    ElasticMany {
        /// Which cluster.
        target: ElasticTarget,
        /// What; all for the same index.
        documents: Vec<ElasticDocument>,
    },
    /// A body for any HTTP server, which takes it by a status of 2xx.
    Web {
        /// Where to, with which headers.
        target: WebTarget,
        /// What.
        message: WebMessage,
    },
    /// An event for Splunk.
    Splunk {
        /// Which collector.
        target: SplunkTarget,
        /// What.
        event: SplunkEvent,
    },
    /// A point for InfluxDB.
    Influx {
        /// Which bucket.
        target: InfluxTarget,
        /// What.
        point: InfluxPoint,
    },
    /// A file that becomes an object of S3.
    S3 {
        /// Which bucket.
        target: S3Target,
        /// The object's key.
        key: String,
        /// The outbox takes its own copy before [`super::Outbox::enqueue`] returns.
        path: PathBuf,
    },
    /// A file that becomes an object of Google Cloud Storage.
    Gcs {
        /// Which bucket.
        target: GcsTarget,
        /// The object's key.
        key: String,
        /// The outbox takes its own copy before [`super::Outbox::enqueue`] returns.
        path: PathBuf,
    },
}

/// The text of a Slack message.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Alert {
    /// Above the coloured bar.
    pub pretext: String,
    /// The text.
    pub text: String,
    /// `#rrggbb`, or Slack's `good`, `warning`, `danger`.
    pub color: String,
}

/// `options {key, window}`: of the alerts of one key, one is sent in each window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fold {
    /// What is alike, for one script and destination.
    pub key: String,
    /// From the last alert that was sent.
    pub window: Duration,
}

/// Where to, with what it takes to get in. Deliveries to one destination keep their order and share a rate.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(crate) enum Destination {
    Slack {
        #[serde(with = "kept")]
        url: Secret,
    },
    SlackBot {
        #[serde(with = "kept")]
        token: Secret,
        channel: String,
    },
    Elastic {
        target: ElasticTarget,
    },
    Web {
        target: WebTarget,
    },
    Splunk {
        target: SplunkTarget,
    },
    Influx {
        target: InfluxTarget,
    },
    S3 {
        target: S3Target,
    },
    Gcs {
        target: GcsTarget,
    },
}

/// What, without secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(crate) enum Content {
    Alert {
        alert: Alert,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fields: Vec<(String, String)>,
        /// Alerts folded into this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<HeldBack>,
    },
    Elastic {
        index: String,
        id: String,
        /// A JSON object in one line.
        json: String,
    },
    /// Id and JSON of each.
    ElasticMany {
        index: String,
        documents: Vec<(String, String)>,
    },
    Web {
        message: WebMessage,
    },
    Splunk {
        envelope: Envelope,
    },
    Influx {
        /// In line protocol.
        line: String,
    },
    /// The first of the files becomes it.
    Object {
        key: String,
        url: String,
    },
}

/// Alerts that were not sent, told by one that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HeldBack {
    pub(crate) count: u64,
    /// When the last one before them was sent, in ms since 1970.
    pub(crate) since: u64,
    /// Nothing alike came after them: the message is made of the last of them.
    pub(crate) closing: bool,
    /// Not alike, but past the budget of their script or of all.
    #[serde(default)]
    pub(crate) over_budget: bool,
    /// Not held back, but refused, because the outbox was full.
    #[serde(default)]
    pub(crate) refused: bool,
}

/// A file of a delivery.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// Name shown.
    pub(crate) name: String,
    /// Bytes of the source.
    pub(crate) size: u64,
    pub(crate) body: Body,
}

/// Where a file's bytes are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Body {
    /// A copy of the outbox's own, by its name there.
    Copy(String),
    /// Not taken over, and why.
    Missing(String),
}

/// A delivery that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Job {
    pub(crate) id: DeliveryId,
    pub(crate) script: String,
    pub(crate) content: Content,
    pub(crate) files: Vec<Attachment>,
    /// When the script made it.
    pub(crate) made: SystemTime,
    /// What a sender noted of an earlier attempt; its own form.
    pub(crate) progress: Option<String>,
}

/// The parts that are kept apart.
pub(crate) struct Parts {
    pub(crate) destination: Destination,
    pub(crate) content: Content,
    pub(crate) files: Vec<(String, PathBuf)>,
    pub(crate) fold: Option<Fold>,
}

impl Delivery {
    pub(crate) fn split(self) -> Parts {
        match self {
            Self::SlackWebhook { url, alert, fold } => Parts {
                destination: Destination::Slack { url },
                content: Content::Alert { alert, fields: Vec::new(), held: None },
                files: Vec::new(),
                fold,
            },
            Self::SlackBot { token, channel, alert, fields, files, fold } => Parts {
                destination: Destination::SlackBot { token, channel },
                content: Content::Alert { alert, fields, held: None },
                files,
                fold,
            },
            Self::Elastic { target, document: ElasticDocument { index, id, json } } => {
                Parts::of(Destination::Elastic { target }, Content::Elastic { index, id, json })
            }
            Self::ElasticMany { target, documents } => {
                let index = documents.first().map(|document| document.index.clone()).unwrap_or_default();
                let documents =
                    documents.into_iter().map(|ElasticDocument { id, json, .. }| (id, json)).collect();
                Parts::of(Destination::Elastic { target }, Content::ElasticMany { index, documents })
            }
            Self::Web { target, message } => Parts::of(Destination::Web { target }, Content::Web { message }),
            Self::Splunk { target, event: SplunkEvent(envelope) } => {
                Parts::of(Destination::Splunk { target }, Content::Splunk { envelope })
            }
            Self::Influx { target, point: InfluxPoint(line) } => {
                Parts::of(Destination::Influx { target }, Content::Influx { line })
            }
            Self::S3 { target, key, path } => {
                let url = target.url(&key);
                Parts::object(Destination::S3 { target }, key, url, path)
            }
            Self::Gcs { target, key, path } => {
                let url = target.url(&key);
                Parts::object(Destination::Gcs { target }, key, url, path)
            }
        }
    }
}

impl Parts {
    /// What is neither folded nor has files.
    fn of(destination: Destination, content: Content) -> Self {
        Self { destination, content, files: Vec::new(), fold: None }
    }

    fn object(destination: Destination, key: String, url: String, path: PathBuf) -> Self {
        let files = vec![(key.clone(), path)];
        Self { files, ..Self::of(destination, Content::Object { key, url }) }
    }
}

impl Destination {
    /// For logs and lists; without secrets.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Slack { url } => {
                let url = reqwest::Url::parse(url.expose()).ok();
                let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or("?");
                format!("slack: webhook at {host}")
            }
            Self::Elastic { target } => format!("elastic: {}", target.host()),
            Self::Web { target } => format!("webhook: {}", target.host()),
            Self::Splunk { target } => format!("splunk: {}", target.host()),
            Self::Influx { target } => format!("influxdb: {}", target.shown()),
            Self::S3 { target } => format!("s3: {}", target.shown()),
            Self::Gcs { target } => format!("gcs: {}", target.shown()),
            Self::SlackBot { channel, .. } => format!("slackBot: channel {channel}"),
        }
    }
}

impl Content {
    /// Bytes of text.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Alert { alert: Alert { pretext, text, color }, fields, .. } => {
                let fields: usize = fields.iter().map(|(title, value)| title.len() + value.len()).sum();
                pretext.len() + text.len() + color.len() + fields
            }
            Self::Elastic { index, id, json } => index.len() + id.len() + json.len(),
            Self::ElasticMany { index, documents } => {
                index.len() + documents.iter().map(|(id, json)| id.len() + json.len()).sum::<usize>()
            }
            Self::Web { message } => message.bytes(),
            Self::Splunk { envelope } => envelope.bytes(),
            Self::Influx { line } => line.len(),
            Self::Object { key, url } => key.len() + url.len(),
        };
        bytes as u64
    }

    /// What floods are told apart by, besides script and destination; `None`: never a flood.
    pub(crate) fn title(&self) -> Option<&str> {
        match self {
            Self::Alert { alert, .. } => Some(&alert.pretext),
            // Data, not alerts: each counts.
            _ => None,
        }
    }

    /// Nothing is left of it without its file.
    pub(crate) fn is_its_file(&self) -> bool {
        matches!(self, Self::Object { .. })
    }

    /// Says how many others were folded into this.
    pub(crate) fn tell(&mut self, told: HeldBack) {
        if let Self::Alert { held, .. } = self {
            *held = Some(told);
        }
    }
}

/// Secrets, in the outbox's own file only: [`Secret`] itself cannot be serialised.
pub(super) mod kept {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::secret::Secret;

    pub(in crate::outbox) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(in crate::outbox) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(|text| Secret::new(&text))
    }

    /// The same for what may not be there.
    pub(in crate::outbox) mod optional {
        use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

        use crate::secret::Secret;

        pub(in crate::outbox) fn serialize<S: Serializer>(
            secret: &Option<Secret>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            secret.as_ref().map(Secret::expose).serialize(to)
        }

        pub(in crate::outbox) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Secret>, D::Error> {
            Ok(Option::<String>::deserialize(from)?.map(|text| Secret::new(&text)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_targets_open_again() {
        for json in [
            r#"{"kind":"elastic","target":{"url":"https://e:9200/","auth":"ApiKey a2V5","fingerprint":null}}"#,
            r#"{"kind":"splunk","target":{"url":"https://s:8088/","token":"t"}}"#,
            r#"{"kind":"influx","target":{"url":"http://i:8086/","token":"t","organization":"o","bucket":"b"}}"#,
            r#"{"kind":"s3","target":{"endpoint":null,"region":"r","bucket":"b","key_id":"k","access_key":"s"}}"#,
            r#"{"kind":"gcs","target":{"bucket":"b","account":"{}"}}"#,
        ] {
            let destination: Destination = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&destination).unwrap(), json);
            assert!(!destination.label().contains("a2V5"), "{}", destination.label());
        }
        for json in [
            r#"{"kind":"elastic","index":"i","id":"1","json":"{}"}"#,
            r#"{"kind":"splunk","envelope":{"time":1,"metadata":[["host","n"]],"body":{"event":"{}"}}}"#,
            r#"{"kind":"splunk","envelope":{"time":1,"body":{"raw":"x"}}}"#,
            r#"{"kind":"influx","line":"m a=1 1"}"#,
            r#"{"kind":"object","key":"a/b","url":"https://b/a/b"}"#,
        ] {
            let content: Content = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&content).unwrap(), json);
        }
    }

    #[test]
    fn the_stored_form_is_as_it_was_released() {
        let destination = Destination::SlackBot { token: Secret::new("xoxb-1"), channel: "C1".into() };
        let json = r#"{"kind":"slackBot","token":"xoxb-1","channel":"C1"}"#;
        assert_eq!(serde_json::to_string(&destination).unwrap(), json);
        assert_eq!(serde_json::from_str::<Destination>(json).unwrap(), destination);
        let json = r#"{"kind":"alert","alert":{"pretext":"p","text":"t","color":"c"}}"#;
        let content: Content = serde_json::from_str(json).unwrap();
        assert_eq!((content.bytes(), content.title()), (3, Some("p")));
        assert_eq!(serde_json::to_string(&content).unwrap(), json);
        let file = Attachment { name: "a".into(), size: 1, body: Body::Copy("7-0".into()) };
        assert_eq!(serde_json::to_string(&file).unwrap(), r#"{"name":"a","size":1,"body":{"copy":"7-0"}}"#);
    }

    #[test]
    fn labels_have_no_secrets() {
        let webhook = Destination::Slack { url: Secret::new("https://hooks.slack.com/services/secret") };
        assert_eq!(webhook.label(), "slack: webhook at hooks.slack.com");
        assert!(!format!("{webhook:?}").contains("secret"));
    }
}
