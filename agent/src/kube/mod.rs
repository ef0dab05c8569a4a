//! What Kubernetes says: names for addresses and cgroups, which pods are to be captured, what happens to pods.
//!
//! ```text
//! pods of this node (spec.nodeName), in full ─┐          ┌─► Names ◄── workers
//! services, endpointslices: trimmed ──────────┼─► Book ──┤
//! pods behind no service, by address ─────────┘          ├─► wanted pods ─► capture
//!                                                        └─► onPodEvent
//! ```
//! Invariants:
//! - Only this node's pods are read in full. Of the others names and addresses are kept, of those that are behind a service as it
//!   tells them (as kube-proxy learns them), of the rest those that traffic shows (`lookup`). All of it is bounded.
//! - Nothing here holds a worker up, and nothing here ends the run: without the API server what is known stays, and is said to be old.
//! - Which pods are wanted is known or it is not: before the first complete list none is.

#[cfg(feature = "kubernetes")]
mod book;
#[cfg(feature = "kubernetes")]
mod client;
#[cfg(feature = "kubernetes")]
mod hub;
#[cfg(feature = "kubernetes")]
mod lookup;
#[cfg(feature = "kubernetes")]
mod objects;
#[cfg(feature = "kubernetes")]
mod pods;
#[cfg(feature = "kubernetes")]
mod status;
mod targets;
#[cfg(feature = "kubernetes")]
mod watch;

use std::path::PathBuf;

#[cfg(feature = "kubernetes")]
pub use self::client::in_cluster;
#[cfg(feature = "kubernetes")]
pub use self::hub::{Kube, KubeError, KubeStats};
#[cfg(feature = "kubernetes")]
pub use self::pods::{Listener, Wanted};
#[cfg(feature = "kubernetes")]
pub use self::status::Standing;
pub use self::targets::{Namespace, PodRegex, Targets};

/// What is wanted of Kubernetes.
#[derive(Clone, PartialEq, Debug)]
pub struct KubeConfig {
    /// A kubeconfig; `None`: the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The node's name.
    pub node: String,
    /// Which pods of the node are wanted.
    pub targets: Targets,
    /// Pods behind no service that are looked up in a minute at most; 0: none.
    pub lookups_per_minute: u32,
}
