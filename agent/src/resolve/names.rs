//! What addresses and pods are called now: read by workers while it changes.
//!
//! ```text
//! kube: pods, services, endpoints, look-ups ──► change() ──► 256 tables, each replaced as a whole ◄── workers
//! ```
//! Invariants:
//! - A reader takes no lock and copies nothing but an `Arc`: it loads one of [`SHARDS`] tables and looks the address up.
//! - A name holds from its event on. What was seen before bears the name that the address had then, which is remembered for
//!   [`GRACE`] after it ended.
//! - Addresses are bounded by a number that the owner gives; what is refused is counted.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use agent_core::Timestamp;
use arc_swap::ArcSwap;

use crate::captured::Known;
use crate::process::PodUid;

/// Tables that the addresses are spread over: a change copies one of them.
const SHARDS: usize = 256;
/// How long the name of what is gone is remembered, for traffic from before that is still on its way.
pub const GRACE: Duration = Duration::from_secs(60);

/// What an address is called.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Called {
    /// Whoever sends from it, or is sent to.
    pub known: Option<Arc<Known>>,
    /// Who listens on its ports, where several share the address: pods in a node's own network, services by a node's address.
    pub ports: Vec<(u16, Arc<Known>)>,
}

impl Called {
    fn is_nothing(&self) -> bool {
        self.known.is_none() && self.ports.is_empty()
    }
}

/// An address in a table.
#[derive(Clone, Default)]
struct Slot {
    known: Option<Arc<Known>>,
    /// Since when, in nanoseconds since the epoch; of importance only if there was another one before.
    since: u64,
    more: Option<Box<More>>,
}

/// What few addresses have.
#[derive(Clone, Default)]
struct More {
    ports: Vec<(u16, Arc<Known>)>,
    /// Who had the address before, and until when.
    before: Option<(Arc<Known>, u64)>,
}

type Shard = HashMap<IpAddr, Slot>;

/// What is to be forgotten.
enum Due {
    Address(IpAddr),
    Pod(PodUid),
}

#[derive(Default)]
struct Writer {
    /// In the order of time.
    due: VecDeque<(u64, Due)>,
    most: usize,
}

/// How many names there are, and what became of others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NamesStats {
    /// Addresses with a name, those of the last [`GRACE`] included.
    pub addresses: u64,
    /// Changes of names.
    pub changes: u64,
    /// Addresses that there was no room for.
    pub refused: u64,
}

/// Asked for an address that nobody knows.
pub type Ask = dyn Fn(IpAddr) + Send + Sync;

/// The names.
pub struct Names {
    shards: Box<[ArcSwap<Shard>]>,
    pods: ArcSwap<HashMap<PodUid, Arc<Known>>>,
    writer: Mutex<Writer>,
    version: AtomicU64,
    addresses: AtomicU64,
    changes: AtomicU64,
    refused: AtomicU64,
    ask: OnceLock<Box<Ask>>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new(1 << 18)
    }
}

impl Names {
    /// Of at most so many addresses.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            pods: ArcSwap::default(),
            writer: Mutex::new(Writer { most, ..Writer::default() }),
            version: AtomicU64::new(0),
            addresses: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            ask: OnceLock::new(),
        }
    }

    /// What the address was called at that time; its port tells where several share it.
    #[must_use]
    pub fn of_address(&self, ip: IpAddr, port: u16, at: Timestamp) -> Option<Arc<Known>> {
        let shard = self.shards[shard_of(ip)].load();
        if let Some(slot) = shard.get(&ip) {
            return slot.at(port, at.0).cloned();
        }
        if let Some(ask) = self.ask.get() {
            ask(ip);
        }
        None
    }

    /// Who had the address until lately, if nobody has it now.
    #[must_use]
    pub fn was(&self, ip: IpAddr) -> Option<Arc<Known>> {
        let shard = self.shards[shard_of(ip)].load();
        let slot = shard.get(&ip).filter(|slot| slot.known.is_none())?;
        slot.more.as_ref()?.before.as_ref().map(|(known, _)| Arc::clone(known))
    }

    /// What a pod of this node is called.
    #[must_use]
    pub fn of_pod(&self, uid: &PodUid) -> Option<Arc<Known>> {
        self.pods.load().get(uid).cloned()
    }

    /// Another number whenever a name has changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Who is asked about addresses that nobody knows: by workers, so it must not wait. The first one stays.
    pub fn ask_by(&self, ask: Box<Ask>) {
        // Whoever came first.
        let _ = self.ask.set(ask);
    }

    /// What these addresses are called from then on.
    pub fn change(&self, at: Timestamp, changes: impl IntoIterator<Item = (IpAddr, Called)>) {
        let mut changes: Vec<_> = changes.into_iter().collect();
        changes.sort_by_key(|(ip, _)| shard_of(*ip));
        let mut writer = self.writer();
        let mut rest = changes.into_iter().peekable();
        while let Some(first) = rest.next() {
            let number = shard_of(first.0);
            let mut shard = Shard::clone(&self.shards[number].load());
            self.put(&mut writer, &mut shard, at.0, first);
            while let Some(next) = rest.next_if(|(ip, _)| shard_of(*ip) == number) {
                self.put(&mut writer, &mut shard, at.0, next);
            }
            self.shards[number].store(Arc::new(shard));
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    fn put(&self, writer: &mut Writer, shard: &mut Shard, at: u64, (ip, called): (IpAddr, Called)) {
        if !shard.contains_key(&ip) {
            if called.is_nothing() {
                return;
            }
            if self.addresses.load(Ordering::Relaxed) >= writer.most as u64 {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.addresses.fetch_add(1, Ordering::Relaxed);
        }
        let slot = shard.entry(ip).or_default();
        if slot.says(&called) {
            return;
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
        if slot.take(called, at) {
            writer.due.push_back((at.saturating_add(nanos(GRACE)), Due::Address(ip)));
        }
        if slot.is_empty() {
            shard.remove(&ip);
            self.addresses.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What pods of this node are called from then on; `None`: one that is gone, whose name is remembered for [`GRACE`].
    pub fn change_pods(
        &self,
        at: Timestamp,
        changes: impl IntoIterator<Item = (PodUid, Option<Arc<Known>>)>,
    ) {
        let mut writer = self.writer();
        let mut pods = HashMap::clone(&self.pods.load());
        for (uid, known) in changes {
            match known {
                Some(known) => drop(pods.insert(uid, known)),
                None => writer.due.push_back((at.0.saturating_add(nanos(GRACE)), Due::Pod(uid))),
            }
        }
        self.pods.store(Arc::new(pods));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Forgets what was to be forgotten by then; to be called every second or so. `keep` tells pods that are there again.
    pub fn expire(&self, at: Timestamp, keep: impl Fn(&PodUid) -> bool) {
        let mut writer = self.writer();
        let most = writer.most;
        let (mut addresses, mut pods) = (Vec::new(), Vec::new());
        while writer.due.front().is_some_and(|(due, _)| *due <= at.0) || writer.due.len() > most {
            match writer.due.pop_front() {
                Some((due, Due::Address(ip))) => addresses.push((ip, due - nanos(GRACE).min(due))),
                Some((_, Due::Pod(uid))) if !keep(&uid) => pods.push(uid),
                Some(_) => {}
                None => break,
            }
        }
        addresses.sort_by_key(|(ip, _)| shard_of(*ip));
        for same in addresses.chunk_by(|(a, _), (b, _)| shard_of(*a) == shard_of(*b)) {
            let Some((first, _)) = same.first() else { continue };
            let place = &self.shards[shard_of(*first)];
            let mut shard = Shard::clone(&place.load());
            for (ip, until) in same {
                let Some(slot) = shard.get_mut(ip) else { continue };
                slot.forget(*until);
                if slot.is_empty() {
                    shard.remove(ip);
                    self.addresses.fetch_sub(1, Ordering::Relaxed);
                }
            }
            shard.shrink_to_fit();
            place.store(Arc::new(shard));
        }
        if !pods.is_empty() {
            let mut left = HashMap::clone(&self.pods.load());
            pods.iter().for_each(|uid| drop(left.remove(uid)));
            self.pods.store(Arc::new(left));
        }
    }

    /// What there is.
    #[must_use]
    pub fn stats(&self) -> NamesStats {
        NamesStats {
            addresses: self.addresses.load(Ordering::Relaxed),
            changes: self.changes.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // Tables are replaced as a whole.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn at(&self, port: u16, at: u64) -> Option<&Arc<Known>> {
        let Some(more) = &self.more else { return self.known.as_ref() };
        if let Some((_, known)) = more.ports.iter().find(|(of, _)| *of == port) {
            return Some(known);
        }
        match &more.before {
            Some((before, until)) if at < self.since || self.known.is_none() => {
                (at <= *until).then_some(before)
            }
            _ => self.known.as_ref(),
        }
    }

    /// Whether it is called so already. One that is empty says nothing, and is new.
    fn says(&self, called: &Called) -> bool {
        let ports = self.more.as_ref().map(|more| more.ports.as_slice()).unwrap_or_default();
        !called.is_nothing() && self.known == called.known && ports == called.ports
    }

    /// Takes the new name. Whether there is now one from before.
    fn take(&mut self, called: Called, at: u64) -> bool {
        let same = match (&self.known, &called.known) {
            (Some(old), Some(new)) => is_same(old, new),
            (None, None) => true,
            _ => false,
        };
        let mut before = self.more.as_mut().and_then(|more| more.before.take());
        let mut ended = false;
        if !same {
            if let Some(old) = self.known.take() {
                before = Some((old, at));
                ended = true;
            }
            self.since = at;
        }
        self.known = called.known;
        let more = More { ports: called.ports, before };
        self.more = (more.before.is_some() || !more.ports.is_empty()).then(|| Box::new(more));
        ended
    }

    /// Forgets who had the address before, if that ended then.
    fn forget(&mut self, ended: u64) {
        let Some(more) = &mut self.more else { return };
        if more.before.as_ref().is_some_and(|(_, until)| *until <= ended) {
            more.before = None;
        }
        if more.before.is_none() && more.ports.is_empty() {
            self.more = None;
        }
    }

    fn is_empty(&self) -> bool {
        self.known.is_none() && self.more.is_none()
    }
}

/// Whether both are of one pod or service: what else is said of it may change.
fn is_same(old: &Known, new: &Known) -> bool {
    match (&old.uid, &new.uid) {
        (Some(old), Some(new)) => old == new,
        _ => {
            old.pod == new.pod
                && old.namespace == new.namespace
                && (old.pod.is_some() || old.service == new.service)
        }
    }
}

fn shard_of(ip: IpAddr) -> usize {
    let fold = |bytes: &[u8]| bytes.iter().fold(0, |sum: u8, byte| sum.rotate_left(3) ^ byte);
    usize::from(match ip {
        IpAddr::V4(v4) => fold(&v4.octets()),
        IpAddr::V6(v6) => fold(&v6.octets()),
    })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ip(last: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + last).into())
    }

    fn pod(name: &str) -> Called {
        Called { known: Some(Arc::new(Known::pod(name, "prod"))), ports: Vec::new() }
    }

    fn named(names: &Names, ip: IpAddr, at: u64) -> Option<String> {
        names.of_address(ip, 1, Timestamp(at * SECOND)).and_then(|known| known.name().map(str::to_owned))
    }

    #[test]
    fn a_name_holds_from_its_event_on() {
        let names = Names::default();
        let change = |at: u64, called| names.change(Timestamp(at * SECOND), [(ip(1), called)]);
        change(100, pod("a"));
        assert_eq!(named(&names, ip(1), 50).as_deref(), Some("a"), "who else could it have been");
        change(200, pod("b"));
        assert_eq!(named(&names, ip(1), 199).as_deref(), Some("a"));
        assert_eq!(named(&names, ip(1), 200).as_deref(), Some("b"));
        change(250, Called::default());
        assert_eq!(named(&names, ip(1), 249).as_deref(), Some("b"));
        assert_eq!(named(&names, ip(1), 251), None, "nobody's");
        change(255, pod("c"));
        assert_eq!(named(&names, ip(1), 249).as_deref(), Some("b"));
        assert_eq!(named(&names, ip(1), 252), None, "between the two");
        assert_eq!(named(&names, ip(1), 256).as_deref(), Some("c"));
        // Grace is over; the entry of the first change is of one that is forgotten already.
        names.expire(Timestamp(316 * SECOND), |_| false);
        assert_eq!(named(&names, ip(1), 249).as_deref(), Some("c"));
        change(400, Called::default());
        names.expire(Timestamp(459 * SECOND), |_| false);
        assert_eq!((named(&names, ip(1), 399).as_deref(), names.stats().addresses), (Some("c"), 1));
        names.expire(Timestamp(460 * SECOND), |_| false);
        assert_eq!((named(&names, ip(1), 399), names.stats().addresses), (None, 0));
    }

    #[test]
    fn ports_tell_who_shares_an_address() {
        let names = Names::default();
        let listens = (9100, Arc::new(Known::pod("exporter", "monitoring")));
        names.change(Timestamp(0), [(ip(1), Called { known: None, ports: vec![listens] })]);
        let at =
            |port| names.of_address(ip(1), port, Timestamp(1)).map(|known| known.name() == Some("exporter"));
        assert_eq!((at(9100), at(9101)), (Some(true), None));
    }

    #[test]
    fn a_change_of_its_service_makes_no_other_pod() {
        let names = Names::default();
        let serves = |service: &str| Called {
            known: Some(Arc::new(Known { service: Some(Arc::from(service)), ..Known::pod("a", "prod") })),
            ports: Vec::new(),
        };
        names.change(Timestamp(SECOND), [(ip(1), serves("x"))]);
        names.change(Timestamp(9 * SECOND), [(ip(1), serves("y"))]);
        let service = |at| names.of_address(ip(1), 1, Timestamp(at)).and_then(|known| known.service.clone());
        assert_eq!(service(2 * SECOND).as_deref(), Some("y"));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_asked_for_is_what_nobody_knows() {
        let names = Names::new(1000);
        names.change(Timestamp(0), (0..5000).map(|n| (ip(n), pod("a"))));
        assert_eq!(names.stats(), NamesStats { addresses: 1000, changes: 1000, refused: 4000 });
        // Coming and going leaves nothing behind.
        for round in 1..20 {
            let at = Timestamp(round * 100 * SECOND);
            names.change(at, (0..5000).map(|n| (ip(n), Called::default())));
            names.change(at, (0..1000).map(|n| (ip(n), pod("b"))));
            names.expire(at, |_| false);
        }
        assert_eq!(names.stats().addresses, 1000);
        names.change(Timestamp(9000 * SECOND), (0..5000).map(|n| (ip(n), Called::default())));
        names.expire(Timestamp(9999 * SECOND), |_| false);
        assert_eq!((names.stats().addresses, names.writer().due.len()), (0, 0));

        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        names.ask_by(Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(named(&names, ip(1), 1), None);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_pod_that_is_gone_is_remembered_for_a_while() {
        let names = Names::default();
        let uid = PodUid::parse("6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f").unwrap();
        names.change_pods(Timestamp(0), [(uid, pod("a").known)]);
        names.change_pods(Timestamp(SECOND), [(uid, None)]);
        names.expire(Timestamp(60 * SECOND), |_| false);
        assert!(names.of_pod(&uid).is_some());
        names.expire(Timestamp(61 * SECOND), |_| true);
        assert!(names.of_pod(&uid).is_some(), "it is there again");
        names.change_pods(Timestamp(SECOND), [(uid, None)]);
        names.expire(Timestamp(61 * SECOND), |_| false);
        assert!(names.of_pod(&uid).is_none());
    }
}
