//! What is to be captured, looked up when capture begins.

use std::sync::Arc;

use super::error::LiveError;
use super::interface::Framing;
use super::netlink::Socket;
use super::netlink::link;
use super::{LiveConfig, cgroup, interface};
use crate::capture::WantedPods;

/// What is wanted, looked up.
pub(super) struct Plan {
    pub(super) socket: Socket,
    pub(super) interfaces: interface::Wanted,
    /// What precedes IP on those that are there now.
    framings: Vec<Framing>,
    pub(super) cgroups: Option<cgroup::Wanted>,
    /// Of the cgroups only those of pods that are wanted, while that changes.
    pub(super) pods: Option<Arc<dyn WantedPods>>,
    pub(super) limit: usize,
    pub(super) notifications: bool,
}

impl Plan {
    /// In the calling thread's network namespace.
    pub(super) fn new(config: &LiveConfig) -> Result<Self, LiveError> {
        if config.interfaces.is_empty() && config.cgroups.is_empty() {
            return Err(LiveError::NoTarget);
        }
        let mut socket = Socket::open().map_err(|e| LiveError::kernel("opening an rtnetlink socket", &e))?;
        let there = link::list(&mut socket).map_err(|e| LiveError::kernel("listing interfaces", &e))?;
        let interfaces = interface::Wanted::new(&config.interfaces, &there)?;
        Ok(Self {
            socket,
            framings: interfaces.framings(&there),
            interfaces,
            cgroups: cgroup::Wanted::new(&config.cgroups)?.map(|wanted| wanted.of_pods(config.pods.clone())),
            pods: config.pods.clone(),
            limit: config.max_attachments,
            notifications: !config.without.notifications,
        })
    }

    /// What precedes IP on the wanted interfaces that are there.
    pub(super) fn framings(&self) -> &[Framing] {
        &self.framings
    }
}
