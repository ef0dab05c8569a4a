//! What the agent lends to scripts. Scripts reach nothing of the host but what the helpers make of this.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::outbox::Outbox;
use crate::pcap::PcapStore;
use crate::tls::Trust;
use crate::view::ItemView;

use super::log::ScriptLog;

/// Which names addresses got, by Unix second.
pub type NamesBySecond = Arc<dyn Fn() -> BTreeMap<u64, Vec<(IpAddr, String)>> + Send + Sync>;

/// The services behind the helpers.
#[derive(Clone)]
pub struct HostServices {
    /// `pcap.path`; `None`: the store is off.
    pub store: Option<Arc<dyn PcapStore>>,
    /// `vendor.*` but for webhooks.
    pub outbox: Arc<dyn Outbox>,
    /// `env` and the bare globals.
    pub env: Arc<BTreeMap<String, String>>,
    /// Each script gets a sub-folder of its own, made when it is first needed.
    pub data_dir: PathBuf,
    /// Where `vendor.webhook` does its waiting. Its reactor must be running.
    pub runtime: tokio::runtime::Handle,
    /// Whom `vendor.webhook` trusts.
    pub trust: Trust,
    /// Where `vendor.s3.put` puts objects; `None`: Amazon's S3.
    pub s3_endpoint: Option<String>,
    /// `utils.nodeName()`.
    pub node_name: String,
    /// `pcap.nameResolutionHistory()`.
    pub names: NamesBySecond,
    /// How items are shown: what `data` holds, and what filters see of an item.
    pub view: Arc<ItemView>,
    /// Where log lines of scripts go.
    pub log: Arc<dyn ScriptLog>,
}
