//! The keys of the file. What is left out is `None`, or an empty list: the command line's default then holds.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::env::Variables;
use super::later::NotYet;
use super::token::Token;
use super::values::{BaseUrl, Count, Endpoint, Kfl, ListenOn, Network, PerSecond, Size, Time};
use crate::cli::{DirectionArg, Mode, PcapMode, TcHookArg};
use crate::hooks::ScriptLimits;
use crate::pipeline::SinkConfig;

/// A section that is named and left empty is as one left out.
fn section<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The whole file.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct File {
    /// What is captured, and with how much memory.
    #[serde(deserialize_with = "section")]
    pub(crate) capture: Capture,
    /// The PCAP store.
    #[serde(deserialize_with = "section")]
    pub(crate) store: Store,
    /// What runs on items.
    #[serde(deserialize_with = "section")]
    pub(crate) scripts: Scripts,
    /// Deliveries.
    #[serde(deserialize_with = "section")]
    pub(crate) outbox: Outbox,
    /// Which items scripts get; none: all.
    pub(crate) filter: Option<Kfl>,
    /// Base of Slack's API.
    pub(crate) slack_api_url: Option<BaseUrl>,
    /// Where S3 is, if it is not Amazon's.
    pub(crate) s3_endpoint: Option<BaseUrl>,
    /// Certificates to trust besides the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// What is hidden in items.
    #[serde(deserialize_with = "section")]
    pub(crate) redaction: Redaction,
    /// Folder of the PCAP store (`pcap`), the outbox and the scripts' files.
    pub(crate) data_dir: Option<PathBuf>,
    /// The end of the agent takes no longer.
    pub(crate) drain_timeout: Option<Time>,
    targets: NotYet,
    /// Items, streams, scripts and the outbox by HTTP.
    #[serde(deserialize_with = "section")]
    pub(crate) api: Api,
    /// Health and metrics by HTTP.
    #[serde(deserialize_with = "section")]
    pub(crate) metrics: Metrics,
    /// Where items go without a script.
    #[serde(deserialize_with = "section")]
    pub(crate) sinks: Vec<SinkConfig>,
}

/// `capture`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Capture {
    /// How packets are taken.
    pub(crate) mode: Option<Mode>,
    /// Interfaces, or patterns.
    #[serde(deserialize_with = "section")]
    pub(crate) interfaces: Vec<String>,
    /// cgroup v2 folders, or patterns.
    #[serde(deserialize_with = "section")]
    pub(crate) cgroups: Vec<PathBuf>,
    /// More cgroups whose processes are named.
    #[serde(deserialize_with = "section")]
    pub(crate) identity_cgroups: Vec<PathBuf>,
    /// How interfaces are attached to.
    pub(crate) tc_hook: Option<TcHookArg>,
    /// TCP ports; none: all.
    #[serde(deserialize_with = "section")]
    pub(crate) ports: Vec<Count<1, 65_535>>,
    /// Networks; none: all.
    #[serde(deserialize_with = "section")]
    pub(crate) nets: Vec<Network>,
    /// Endpoints to leave out.
    #[serde(deserialize_with = "section")]
    pub(crate) exclude: Vec<Endpoint>,
    /// Which way.
    pub(crate) direction: Option<DirectionArg>,
    /// Threads, each with a ring.
    pub(crate) workers: Option<Count<1, 64>>,
    /// Size of each ring.
    pub(crate) ring_mib: Option<Count<1, 1024>>,
    /// Whether each worker stays on a core of its own.
    pub(crate) pin_workers: bool,
    /// Whether payload that no item shows is left in the kernel.
    pub(crate) trim: bool,
    /// By AF_PACKET: packets for other machines, too.
    pub(crate) promiscuous: bool,
}

/// `store`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Store {
    /// Which packets.
    pub(crate) mode: Option<PcapMode>,
    /// All segments together.
    pub(crate) max_bytes: Option<Size>,
    /// How long they are kept.
    pub(crate) max_age: Option<Time>,
    /// So much of the disk stays free.
    pub(crate) reserve: Option<Size>,
}

/// `scripts`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Scripts {
    /// The scripts.
    #[serde(deserialize_with = "section")]
    pub(crate) paths: Vec<PathBuf>,
    /// Their variables; these win over the files.
    pub(crate) env: Variables,
    /// Files of variables, or folders with a file for each.
    #[serde(deserialize_with = "section")]
    pub(crate) env_files: Vec<PathBuf>,
    /// Bounds of each script.
    #[serde(deserialize_with = "section")]
    pub(crate) limits: Limits,
}

/// `scripts.limits`: see [`ScriptLimits`].
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Limits {
    memory: Option<Size<{ 1 << 20 }, { 4 << 30 }>>,
    stack: Option<Size<{ 64 << 10 }, { 64 << 20 }>>,
    call_time: Option<Time>,
    queue: Option<Count<1, 10_000_000>>,
    queue_bytes: Option<Size<{ 64 << 10 }, { 16 << 30 }>>,
    file_quota: Option<Size>,
    webhook_timeout: Option<Time>,
    wait_total: Option<Time>,
}

impl Limits {
    /// These, and the usual ones for what is left out.
    pub(crate) fn whole(&self) -> ScriptLimits {
        let usual = ScriptLimits::default();
        let time = |given: &Option<Time>, usual| given.as_ref().map_or(usual, |time| time.0);
        // All sizes are far below what fits a pointer, by their bounds.
        ScriptLimits {
            memory: self.memory.map_or(usual.memory, |size| size.0 as usize),
            stack: self.stack.map_or(usual.stack, |size| size.0 as usize),
            call_time: time(&self.call_time, usual.call_time),
            queue: self.queue.map_or(usual.queue, |count| count.0 as usize),
            queue_bytes: self.queue_bytes.map_or(usual.queue_bytes, |size| size.0 as usize),
            file_quota: self.file_quota.map_or(usual.file_quota, |size| size.0),
            webhook_timeout: time(&self.webhook_timeout, usual.webhook_timeout),
            wait_total: time(&self.wait_total, usual.wait_total),
            ..usual
        }
    }
}

/// `outbox`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Outbox {
    /// Deliveries that may wait.
    pub(crate) max_waiting: Option<Count<1, 10_000_000>>,
    /// Bytes of text and files that may wait.
    pub(crate) max_bytes: Option<Size<{ 1 << 20 }>>,
    /// Bytes of files of one delivery.
    pub(crate) max_delivery_bytes: Option<Size>,
    /// How long a delivery may wait.
    pub(crate) max_age: Option<Time>,
    /// How long a destination may be out of order.
    pub(crate) give_up_after: Option<Time>,
    /// Messages a second to one Slack channel or webhook.
    pub(crate) slack_rate: Option<PerSecond>,
    /// Messages at once after a quiet time.
    pub(crate) slack_burst: Option<Count<1, { u32::MAX }>>,
    /// Alerts alike in a minute; 0: all.
    pub(crate) flood_limit: Option<Count<0, { u32::MAX }>>,
    /// Alerts of one script in a minute; 0: any number.
    pub(crate) script_alerts: Option<Count<0, { u32::MAX }>>,
    /// Alerts of all scripts in a minute; 0: any number.
    pub(crate) total_alerts: Option<Count<0, { u32::MAX }>>,
    /// Patience at the end, counted from the last delivery that succeeded.
    pub(crate) drain_timeout: Option<Time>,
}

/// `api`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Api {
    /// Where.
    pub(crate) listen: Option<ListenOn>,
    /// What is asked of who comes.
    pub(crate) token: Option<Token>,
    /// A file with that.
    pub(crate) token_file: Option<PathBuf>,
    /// Latest items that are kept.
    pub(crate) recent_items: Option<Count<0, 1_000_000>>,
    /// Memory that they hold.
    pub(crate) recent_bytes: Option<Size<0, { 4 << 30 }>>,
    /// Clients that follow items at a time.
    pub(crate) max_clients: Option<Count<1, 48>>,
}

/// `metrics`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Metrics {
    /// Where.
    pub(crate) listen: Option<ListenOn>,
}

/// `redaction`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Redaction {
    /// Whether values of sensitive headers are hidden.
    pub(crate) enabled: bool,
    /// Headers to hide beside the usual ones.
    #[serde(deserialize_with = "section")]
    pub(crate) headers: Vec<String>,
}

impl Default for Redaction {
    fn default() -> Self {
        Self { enabled: true, headers: Vec::new() }
    }
}
