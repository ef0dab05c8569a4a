//! Pods behind no service, on other nodes: asked for by their address when traffic shows it.
//!
//! The API server has no index of addresses: each question has it look through all pods in its cache. So only an address that is
//! near a known pod's is asked for, each at most once in a while, and all together at a bounded rate. What it answers holds for
//! [`Limits::found_for`]; a pod whose address becomes another's in that time is misnamed for the rest of it, unless the other one is
//! on this node or behind a service, whose events come at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::kube::Api;
use ::kube::api::{ListParams, VersionMatch};
use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::objects::Pod;
use super::status::{Counters, Status};
use super::watch::told;
use crate::captured::Known;
use crate::process::PodUid;

/// Questions that wait.
const WAITING: usize = 256;
/// Places for addresses that were asked about: a power of two.
const ASKED: usize = 4096;
/// One request takes no longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// How much is asked and kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Questions a minute; as many at once after a quiet time.
    pub(super) per_minute: u32,
    /// Answers kept.
    pub(super) kept: usize,
    /// How long a name holds.
    pub(super) found_for: Duration,
    /// How long it holds that nobody has an address.
    pub(super) missed_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_minute: 12,
            kept: 4096,
            found_for: Duration::from_secs(300),
            missed_for: Duration::from_secs(600),
        }
    }
}

/// Where pods' addresses are: the first 16 bits of IPv4 addresses, the first 64 of IPv6.
#[derive(Default, Debug)]
pub(super) struct Near(ArcSwap<HashSet<u64>>);

impl Near {
    fn of(ip: IpAddr) -> u64 {
        match ip {
            IpAddr::V4(v4) => u64::from(v4.to_bits() >> 16),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        }
    }

    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.0.load().contains(&Self::of(ip))
    }

    /// From now on pods have these.
    pub(super) fn replace(&self, ips: impl Iterator<Item = IpAddr>) {
        let new: HashSet<u64> = ips.map(Self::of).collect();
        if **self.0.load() != new {
            self.0.store(Arc::new(new));
        }
    }
}

/// What workers ask: neither waits nor takes a lock.
pub(super) struct Asker {
    near: Arc<Near>,
    questions: mpsc::Sender<IpAddr>,
    asked: Box<[AtomicU64]>,
    hasher: RandomState,
    started: Instant,
    status: Arc<Status>,
}

/// An address is put into the queue again after so long at the earliest.
const AGAIN: u64 = 5;

impl Asker {
    pub(super) fn new(near: Arc<Near>, status: Arc<Status>) -> (Self, mpsc::Receiver<IpAddr>) {
        let (questions, receiver) = mpsc::channel(WAITING);
        let asked = (0..ASKED).map(|_| AtomicU64::new(0)).collect();
        let asker =
            Self { near, questions, asked, hasher: RandomState::new(), started: Instant::now(), status };
        (asker, receiver)
    }

    pub(super) fn ask(&self, ip: IpAddr) {
        if !self.near.has(ip) {
            return;
        }
        // The address' hash and the time in one word: two addresses of one place displace each other, and are asked about more.
        let hash = self.hasher.hash_one(ip);
        let time = self.started.elapsed().as_secs() / AGAIN + 1;
        let mark = (hash & !0xffff_ffff) | (time & 0xffff_ffff);
        let place = &self.asked[hash as usize % ASKED];
        if place.swap(mark, Ordering::Relaxed) != mark && self.questions.try_send(ip).is_err() {
            Counters::add(&self.status.counters.lookups_refused);
        }
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug)]
struct Kept {
    until: Instant,
    found: bool,
}

/// Answers that still hold.
struct Cache {
    kept: HashMap<IpAddr, Kept>,
    /// In the order of asking.
    order: VecDeque<(IpAddr, Instant)>,
}

/// Answers questions, one after the other; `tell` gets what holds from now on, or no longer.
pub(super) async fn answer(
    pods: Api<Pod>,
    mut questions: mpsc::Receiver<IpAddr>,
    limits: Limits,
    status: Arc<Status>,
    tell: impl Fn(IpAddr, Option<Arc<Known>>),
) {
    let mut cache = Cache { kept: HashMap::new(), order: VecDeque::new() };
    let mut rate = Rate::new(limits.per_minute);
    loop {
        let next = tokio::time::timeout(Duration::from_secs(1), questions.recv()).await;
        for ip in cache.expire(Instant::now(), limits.kept) {
            tell(ip, None);
        }
        let ip = match next {
            Ok(Some(ip)) => ip,
            Ok(None) => return,
            Err(_) => continue,
        };
        if cache.kept.contains_key(&ip) {
            Counters::add(&status.counters.lookups_cached);
            continue;
        }
        if !rate.take(Instant::now()) {
            Counters::add(&status.counters.lookups_refused);
            continue;
        }
        Counters::add(&status.counters.lookups);
        match look_up(&pods, ip).await {
            Ok(found) => {
                let time = if found.is_some() { limits.found_for } else { limits.missed_for };
                cache.keep(ip, Kept { until: Instant::now() + time, found: found.is_some() });
                if let Some(known) = found {
                    Counters::add(&status.counters.lookups_found);
                    tell(ip, Some(Arc::new(known)));
                }
            }
            Err(why) => {
                Counters::add(&status.counters.lookups_failed);
                tracing::debug!("Kubernetes: looking up the pod of {ip}: {why}");
                cache.keep(ip, Kept { until: Instant::now() + Duration::from_secs(30), found: false });
            }
        }
    }
}

/// The pod of an address, unless it is in its node's own network.
async fn look_up(pods: &Api<Pod>, ip: IpAddr) -> Result<Option<Known>, String> {
    let params = ListParams {
        field_selector: Some(format!("status.podIP={ip}")),
        resource_version: Some(String::from("0")),
        version_match: Some(VersionMatch::NotOlderThan),
        ..ListParams::default()
    };
    let found = match tokio::time::timeout(PATIENCE, pods.list(&params)).await {
        Ok(found) => found.map_err(|error| told(&error))?,
        Err(_) => return Err(String::from("the server does not answer")),
    };
    let mut running =
        found.items.into_iter().filter(|pod| !pod.status.is_over() && pod.status.ips().contains(&ip));
    let Some(pod) = running.next() else { return Ok(None) };
    if pod.spec.host_network || running.next().is_some() {
        return Ok(None);
    }
    let uid = pod.metadata.uid.as_deref().and_then(PodUid::parse);
    let name = Known::pod(
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
    );
    Ok(Some(Known { uid, ..name }))
}

impl Cache {
    fn keep(&mut self, ip: IpAddr, kept: Kept) {
        self.kept.insert(ip, kept);
        self.order.push_back((ip, kept.until));
    }

    /// Forgets what holds no longer, and the oldest past the bound. Addresses that had a name.
    fn expire(&mut self, now: Instant, most: usize) -> Vec<IpAddr> {
        let over = self.order.len().saturating_sub(most);
        let mut gone: Vec<(IpAddr, Instant)> = self.order.drain(..over).collect();
        // Names hold shorter than their absence, so the order is not that of time.
        self.order.retain(|entry| {
            let holds = entry.1 > now;
            if !holds {
                gone.push(*entry);
            }
            holds
        });
        gone.retain(|(ip, _)| self.kept.remove(ip).is_some_and(|kept| kept.found));
        gone.into_iter().map(|(ip, _)| ip).collect()
    }
}

/// A bucket of tokens.
struct Rate {
    tokens: f64,
    most: f64,
    filled: Instant,
}

impl Rate {
    fn new(per_minute: u32) -> Self {
        let most = f64::from(per_minute);
        Self { tokens: most, most, filled: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * self.most / 60.0).min(self.most);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}
