//! What the API shows of the others, as `cli` hands it in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::captured::Captured;
use crate::pcap::PcapStore;
use crate::view::ItemView;

/// Asks the scripts what is to be shown of an item, for so long at most: JSON, or `None` for the item as it is.
type AskScripts = Arc<dyn Fn(&Captured, Duration) -> Option<String> + Send + Sync>;
/// A list.
type List<T> = Arc<dyn Fn() -> Vec<T> + Send + Sync>;

/// What is not there is told as such.
#[derive(Clone, Default)]
pub struct Services {
    /// Version, node and the like: `/api/status`.
    pub about: Value,
    /// How items are shown.
    pub view: Arc<ItemView>,
    /// The PCAP store.
    pub store: Option<Arc<dyn PcapStore>>,
    /// …and its folder.
    pub store_folder: Option<PathBuf>,
    /// `onItemQueried`.
    pub ask_scripts: Option<AskScripts>,
    /// The scripts.
    pub scripts: Option<List<ScriptState>>,
    /// Files of scripts that do not run as they are now, with why.
    pub script_failures: Option<List<String>>,
    /// Counters of the outbox.
    pub outbox: Option<Arc<dyn Fn() -> Value + Send + Sync>>,
    /// The data folder that the outbox is in.
    pub outbox_folder: Option<PathBuf>,
}

/// What is told of a script.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScriptState {
    /// Its name, as in logs and metrics.
    pub name: String,
    /// First comment line of its file.
    pub title: Option<String>,
    /// `running`, `paused` (after limits hit in a row), or `ended` (its file is gone).
    pub state: &'static str,
    /// Its counters, as in `--stats`.
    pub counters: Value,
}
