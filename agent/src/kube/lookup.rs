//! Pods behind no service, on other nodes: asked for by their address when traffic shows it.
//!
//! The API server has no index of addresses: each question has it look through all pods in its cache. So only an address that is
//! near a known pod's is asked for, each at most once in a while, and all together at a bounded rate. What it answers holds for
//! [`Limits::found_for`]; a pod whose address becomes another's in that time is misnamed for the rest of it, unless the other one is
//! on this node or behind a service, whose events come at once.

use std::collections::{HashMap, HashSet};
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
/// How long it holds that nobody has an address: a pod sends before its status says so, and what is no pod stays none.
const MISSED: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];
/// How long after that is remembered how often nobody had it.
const REMEMBERED: Duration = Duration::from_secs(600);
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
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_minute: 12, kept: 4096, found_for: Duration::from_secs(300) }
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
    /// Not asked again before.
    until: Instant,
    /// Whether it has a name now.
    named: bool,
    /// How often it had none, one after the other.
    misses: usize,
}

/// Answers.
#[derive(Default)]
struct Cache(HashMap<IpAddr, Kept>);

/// Answers questions, one after the other; `tell` gets what holds from now on, or no longer.
pub(super) async fn answer(
    pods: Api<Pod>,
    mut questions: mpsc::Receiver<IpAddr>,
    node: &str,
    limits: Limits,
    status: Arc<Status>,
    tell: impl Fn(IpAddr, Option<Arc<Known>>),
) {
    let mut cache = Cache::default();
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
        if cache.holds(ip, Instant::now()) {
            Counters::add(&status.counters.lookups_cached);
            continue;
        }
        if !rate.take(Instant::now()) {
            Counters::add(&status.counters.lookups_refused);
            continue;
        }
        Counters::add(&status.counters.lookups);
        match look_up(&pods, node, ip).await {
            Ok(Some(known)) => {
                Counters::add(&status.counters.lookups_found);
                cache.found(ip, Instant::now() + limits.found_for);
                tell(ip, Some(Arc::new(known)));
            }
            Ok(None) => {
                Counters::add(&status.counters.lookups_nobody);
                cache.missed(ip, Instant::now());
            }
            Err(why) => {
                Counters::add(&status.counters.lookups_failed);
                tracing::debug!("Kubernetes: looking up the pod of {ip}: {why}");
                cache.missed(ip, Instant::now());
            }
        }
    }
}

/// The pod of an address, unless it is in its node's own network, or on this node, whose pods are known by their events.
async fn look_up(pods: &Api<Pod>, node: &str, ip: IpAddr) -> Result<Option<Known>, String> {
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
    if pod.spec.host_network || pod.spec.node_name == node || running.next().is_some() {
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
    fn holds(&self, ip: IpAddr, now: Instant) -> bool {
        self.0.get(&ip).is_some_and(|kept| kept.until > now)
    }

    fn found(&mut self, ip: IpAddr, until: Instant) {
        self.0.insert(ip, Kept { until, named: true, misses: 0 });
    }

    fn missed(&mut self, ip: IpAddr, now: Instant) {
        let misses = self.0.get(&ip).map_or(0, |kept| kept.misses) + 1;
        let time = MISSED[(misses - 1).min(MISSED.len() - 1)];
        self.0.insert(ip, Kept { until: now + time, named: false, misses });
    }

    /// Addresses whose names hold no longer: their time is over, or past `most` answers they are the oldest.
    fn expire(&mut self, now: Instant, most: usize) -> Vec<IpAddr> {
        let mut ended = Vec::new();
        for (ip, kept) in self.0.iter_mut().filter(|(_, kept)| kept.named && kept.until <= now) {
            kept.named = false;
            ended.push(*ip);
        }
        self.0.retain(|_, kept| kept.until + REMEMBERED > now);
        if self.0.len() > most {
            let mut times: Vec<_> = self.0.iter().map(|(ip, kept)| (kept.until, *ip)).collect();
            times.sort();
            for (_, ip) in times.into_iter().take(self.0.len() - most) {
                ended.extend(self.0.remove(&ip).filter(|kept| kept.named).map(|_| ip));
            }
        }
        ended
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u32) -> IpAddr {
        IpAddr::V4((0x0a01_0000 + last).into())
    }

    #[test]
    fn answers_hold_for_their_time_and_are_bounded() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        cache.found(ip(1), at(300));
        for (asked, held) in [(0, 9), (10, 69), (70, 669), (670, 1269)] {
            cache.missed(ip(2), at(asked));
            assert!(cache.holds(ip(2), at(held)) && !cache.holds(ip(2), at(held + 1)), "{asked}");
        }
        assert!(cache.holds(ip(1), at(299)) && !cache.holds(ip(1), at(300)));
        assert_eq!(cache.expire(at(299), 10), Vec::<IpAddr>::new());
        assert_eq!(cache.expire(at(300), 10), [ip(1)]);
        assert_eq!((cache.expire(at(301), 10), cache.0.len()), (vec![], 2));
        assert_eq!((cache.expire(at(2000), 10), cache.0.len()), (vec![], 0));
        for n in 0..100 {
            cache.found(ip(n), at(2000 + u64::from(n)));
            assert!(cache.expire(at(1999), 10).len() <= 1 && cache.0.len() <= 10);
        }
        assert!(cache.holds(ip(99), at(2000)), "the oldest went");
    }

    #[test]
    fn questions_are_rare_and_near() {
        let mut rate = Rate::new(12);
        let begun = Instant::now();
        let taken = |rate: &mut Rate, at: f64| {
            (0..100).filter(|_| rate.take(begun + Duration::from_secs_f64(at))).count()
        };
        assert_eq!((taken(&mut rate, 0.0), taken(&mut rate, 4.0), taken(&mut rate, 35.1)), (12, 0, 7));
        assert_eq!(taken(&mut rate, 9999.0), 12);

        let near = Arc::new(Near::default());
        let (asker, mut questions) = Asker::new(Arc::clone(&near), Arc::new(Status::new()));
        asker.ask(ip(1));
        assert!(questions.try_recv().is_err(), "nobody is near");
        near.replace([ip(7)].into_iter());
        (0..100).for_each(|_| asker.ask(ip(1)));
        asker.ask("192.0.2.1".parse().unwrap());
        assert_eq!((questions.try_recv().ok(), questions.try_recv().is_err()), (Some(ip(1)), true), "once");
        (0..10_000).for_each(|n| asker.ask(ip(n)));
        assert_eq!(questions.len(), WAITING);
        assert!(asker.status.counters.lookups_refused.load(Ordering::Relaxed) > 9_000);
    }
}
