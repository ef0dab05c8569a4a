//! What the daemon has of Kubernetes: names for items, pods for capture and scripts.

use std::sync::Arc;

use serde_json::Value;

use super::metrics::KubernetesCounts;
use super::settings::UsageError;
#[cfg(feature = "ebpf")]
use crate::capture::WantedPods;
use crate::hooks::Scripts;
use crate::kube::{KubeConfig, Targets};
use crate::resolve::Names;

/// What the configuration says of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wish {
    /// `None`: where there is a service account, or a kubeconfig is named.
    pub(super) enabled: Option<bool>,
    pub(super) config: KubeConfig,
}

#[cfg(feature = "kubernetes")]
pub(super) use with::Kubernetes;
#[cfg(not(feature = "kubernetes"))]
pub(super) use without::Kubernetes;

/// Targets where nobody can tell which pods there are: to capture all of them would be more than was asked for.
fn no_targets(why: &str) -> UsageError {
    UsageError(format!(
        "targets: which pods there are is told by the Kubernetes API, and {why}; give the pod a service account (in the \
         chart kubernetesApi.enabled), name a file in kubernetes.kubeconfig, or leave targets out, which takes all pods"
    ))
}

#[cfg(feature = "kubernetes")]
mod with {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::kube::{Kube, KubeError, Standing, in_cluster};

    /// How long the first lists are waited for before capture begins without them.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// The watcher.
    pub(in super::super) struct Kubernetes {
        kube: Kube,
        targeted: bool,
    }

    impl std::fmt::Debug for Kubernetes {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "Kubernetes({})", self.kube.standing())
        }
    }

    impl Kubernetes {
        /// Begins to watch, where that is wished for and can be done, and waits a moment for names and targets.
        ///
        /// # Errors
        /// When it was asked for and cannot be had; when targets were named and nobody tells of pods.
        pub(in super::super) fn start(wish: &Wish) -> Result<Option<Self>, UsageError> {
            let targeted = !wish.config.targets.is_all();
            let there = in_cluster() || wish.config.kubeconfig.is_some();
            if wish.enabled == Some(false) || (wish.enabled.is_none() && !there) {
                let why = match wish.enabled {
                    Some(_) => "kubernetes.enabled is false",
                    None => "there is no service account here",
                };
                if targeted {
                    return Err(no_targets(why));
                }
                tracing::info!(
                    "Kubernetes: the API is not asked, for {why}: items have pods' UIDs and containers' ids where cgroups \
                     tell them, but no names of pods and services, and targets are not to be had"
                );
                return Ok(None);
            }
            let refused = |error: KubeError| UsageError(format!("kubernetes: {error}"));
            let kube = Kube::start(KubeConfig::clone(&wish.config)).map_err(refused)?;
            if !kube.wait(PATIENCE) {
                tracing::warn!(
                    "{} (waited {} s): capture begins{}",
                    kube.standing(),
                    PATIENCE.as_secs(),
                    if targeted { ", and takes pods in as they become known" } else { " without names" }
                );
            }
            Ok(Some(Self { kube, targeted }))
        }

        pub(in super::super) fn names(&self) -> Arc<Names> {
            Arc::clone(self.kube.names())
        }

        /// Which pods are to be captured; `None`: all.
        #[cfg(feature = "ebpf")]
        pub(in super::super) fn wanted_pods(&self) -> Option<Arc<dyn WantedPods>> {
            self.targeted.then(|| self.kube.wanted_pods())
        }

        /// The wanted pods' addresses, where only these can be captured by; `None`: all.
        pub(in super::super) fn wanted_ips(&self) -> Option<Vec<std::net::IpAddr>> {
            self.targeted.then(|| self.kube.wanted().ips.clone())
        }

        /// # Errors
        /// Where all pods were captured from the start, or are to be from now on.
        pub(in super::super) fn retarget(&self, targets: Targets) -> Result<(), &'static str> {
            if self.targeted == targets.is_all() {
                return Err("from all pods to some, or back");
            }
            self.kube.retarget(targets);
            Ok(())
        }

        /// Scripts hear of pods from now on.
        pub(in super::super) fn tell(&self, scripts: &Arc<Scripts>) {
            // The scripts end before this does, and must not be kept by it.
            let scripts = Arc::downgrade(scripts);
            self.kube.listen(Arc::new(move |event, pod| {
                if let Some(scripts) = scripts.upgrade() {
                    scripts.pod_event(event, pod);
                }
            }));
        }

        /// Scripts hear of pods no longer.
        pub(in super::super) fn silence(&self) {
            self.kube.silence();
        }

        /// Why capture is not ready: where pods are picked and nobody has told yet which there are.
        pub(in super::super) fn wanting(&self) -> Vec<String> {
            match self.kube.standing() {
                Standing::Wanting(what) if self.targeted && !self.kube.wait(Duration::ZERO) => what,
                _ => Vec::new(),
            }
        }

        pub(in super::super) fn counts(&self) -> KubernetesCounts {
            let stats = self.kube.stats();
            KubernetesCounts {
                followed: self.kube.standing().is_good(),
                requests: stats.requests,
                errors: stats.errors,
                broken: stats.broken,
                lists: stats.lists,
                events: stats.events,
                found: stats.lookups_found,
                nobody: stats.lookups_nobody,
                failed: stats.lookups_failed,
                refused: stats.lookups_refused,
                cached: stats.lookups_cached,
                pods: stats.pods,
                pods_wanted: stats.pods_wanted,
                services: stats.services,
                slices: stats.slices,
                no_room: stats.refused,
                addresses: stats.names.addresses,
                nameless: stats.names.refused,
            }
        }

        pub(in super::super) fn stats(&self) -> Value {
            let stats = self.kube.stats();
            json!({
                "standing": self.kube.standing().to_string(),
                "requests": stats.requests,
                "lists": stats.lists,
                "events": stats.events,
                "errors": stats.errors,
                "broken": stats.broken,
                "lookups": {
                    "asked": stats.lookups,
                    "found": stats.lookups_found,
                    "nobody": stats.lookups_nobody,
                    "failed": stats.lookups_failed,
                    "refused": stats.lookups_refused,
                    "cached": stats.lookups_cached,
                },
                "pods": stats.pods,
                "pods_wanted": stats.pods_wanted,
                "services": stats.services,
                "slices": stats.slices,
                "refused": stats.refused,
                "names": {
                    "addresses": stats.names.addresses,
                    "changes": stats.names.changes,
                    "refused": stats.names.refused,
                },
            })
        }
    }
}

#[cfg(not(feature = "kubernetes"))]
mod without {
    use super::*;

    /// Never there.
    #[derive(Debug)]
    pub(in super::super) enum Kubernetes {}

    impl Kubernetes {
        pub(in super::super) fn start(wish: &Wish) -> Result<Option<Self>, UsageError> {
            const WHY: &str = "this remora was built without it";
            if !wish.config.targets.is_all() {
                return Err(no_targets(WHY));
            }
            if wish.enabled == Some(true) || wish.config.kubeconfig.is_some() {
                return Err(UsageError(format!("kubernetes: {WHY}")));
            }
            Ok(None)
        }

        pub(in super::super) fn names(&self) -> Arc<Names> {
            match *self {}
        }

        #[cfg(feature = "ebpf")]
        pub(in super::super) fn wanted_pods(&self) -> Option<Arc<dyn WantedPods>> {
            match *self {}
        }

        pub(in super::super) fn wanted_ips(&self) -> Option<Vec<std::net::IpAddr>> {
            match *self {}
        }

        pub(in super::super) fn retarget(&self, _: Targets) -> Result<(), &'static str> {
            match *self {}
        }

        pub(in super::super) fn tell(&self, _: &Arc<Scripts>) {
            match *self {}
        }

        pub(in super::super) fn silence(&self) {
            match *self {}
        }

        pub(in super::super) fn wanting(&self) -> Vec<String> {
            match *self {}
        }

        pub(in super::super) fn counts(&self) -> KubernetesCounts {
            match *self {}
        }

        pub(in super::super) fn stats(&self) -> Value {
            match *self {}
        }
    }
}
