//! From a stream's ends to the processes that hold them.
//!
//! Asked at most once for each stream, by any worker. An answer costs a few look-ups in the kernel's maps, and for a
//! process that is asked about for the first time a look at /proc; nothing here waits for anything.
//!
//! The server's end, where an address translation stands between the two (a Service address): the client's socket
//! knows the address that it asked for, the server's its real one; what they share is the client's own address and
//! port. So the server's socket is the one accepted connection whose other end that is, provided that the client's
//! socket is known to be on this node, and that no other connection of the client explains it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use agent_common::identity::{
    ACCEPTED, COMM, Connection, End, Ends as Key, HOW, LEADER, PASSIVE, Peer, Process, SHARED,
};
use agent_core::time::Timestamp;
use aya::maps::{HashMap as BpfMap, MapData};
use nix::time::{ClockId, clock_gettime};

use super::cgroups::Watcher;
use super::older::{Holder, Older};
use crate::capture::net::mapped;
use crate::process::{
    Ends, ProcessInfo, Processes, Question, Workload, container_of_process, pod_of_process, proc,
};

/// How exactly a packet's time and a socket's can be compared: two clocks are read, a second apart at most.
const EXACT: u64 = 1_000_000;
/// How long before a server's socket was established something may have been said on its connection, as the client's end
/// shows it: packets take their time, and wait in queues.
const EARLY: u64 = 10_000_000_000;
/// Processes that are remembered.
const PROCESSES: usize = 4096;
/// How long a look at /proc holds.
const FRESH: Duration = Duration::from_secs(1);

/// Who knows the processes of the watched cgroups.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) connections: BpfMap<MapData, Key, Connection>,
    pub(super) peers: BpfMap<MapData, End, Peer>,
    pub(super) older: RwLock<Older>,
    pub(super) cgroups: Option<Watcher>,
    /// /proc counts processes as the kernel does.
    pub(super) proc: bool,
    pub(super) processes: Mutex<HashMap<Process, Seen>>,
}

/// A process that was asked about.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    info: Arc<ProcessInfo>,
    looked: Instant,
}

impl Seen {
    /// Whether another look would tell nothing more: the name is the process' own, and its cgroup was found.
    fn is_final(&self, process: &Process) -> bool {
        process.how & LEADER != 0 && comm(process).is_some() && self.info.cgroup_path.is_some()
    }
}

impl Processes for Lookup {
    fn ends(&self, question: &Question) -> Ends {
        let at = monotonic(question.at);
        let Question { client, client_cgroup, server, server_cgroup, .. } = *question;
        let asking = self.connection(client, server, client_cgroup, at);
        let answering = self.connection(server, client, server_cgroup, at);
        let asked = match &answering {
            None if asking.is_some() => self.translated(client, server_cgroup, at),
            _ => None,
        };
        Ends {
            client: self.process(asking.as_ref(), client, server, client_cgroup),
            server: match &asked {
                Some((own, connection)) => self.process(Some(connection), *own, client, server_cgroup),
                None => self.process(answering.as_ref(), server, client, server_cgroup),
            },
        }
    }

    fn workload(&self, cgroup: u64) -> Option<Workload> {
        let place = self.cgroups.as_ref()?.cgroups.place(cgroup)?;
        Some(Workload { container_id: place.container, pod: place.pod })
    }
}

impl Lookup {
    /// The connection that a socket had at that time, with these ends.
    fn connection(&self, local: SocketAddr, remote: SocketAddr, cgroup: u64, at: u64) -> Option<Connection> {
        let key = Key { local: end(local), remote: end(remote) };
        let mut connection = steady(|| self.connections.get(&key, 0).ok())?;
        if connection.closed_ns == 0 {
            // Whatever becomes of a socket after its cgroup, the programs do not see it end.
            connection.closed_ns = self.gone(&connection).unwrap_or(0);
        }
        (held(&connection, at) && is_of(&connection, cgroup)).then_some(connection)
    }

    /// When the cgroup at which its end would have been seen was found to be gone.
    fn gone(&self, connection: &Connection) -> Option<u64> {
        let cgroup = if connection.cgroup == 0 { connection.process.cgroup } else { connection.cgroup };
        self.cgroups.as_ref()?.cgroups.place(cgroup)?.gone_ns
    }

    /// The accepted connection whose other end is `client`, and its own end: whatever address the client asked for.
    fn translated(&self, client: SocketAddr, cgroup: u64, at: u64) -> Option<(SocketAddr, Connection)> {
        let peer = steady(|| self.peers.get(&end(client), 0).ok())?;
        if peer.flags & SHARED != 0 {
            return None;
        }
        let own = address(&peer.local)?;
        // The client reached that server by its real address: it is another connection.
        if self.connection(client, own, 0, at).is_some() {
            return None;
        }
        let connection = self.connection(own, client, cgroup, at)?;
        (connection.cookie == peer.cookie).then_some((own, connection))
    }

    fn process(
        &self,
        connection: Option<&Connection>,
        local: SocketAddr,
        remote: SocketAddr,
        cgroup: u64,
    ) -> Option<Arc<ProcessInfo>> {
        match connection {
            Some(connection) if connection.process.tgid != 0 => self.named(connection),
            // Its listening socket is older than the agent.
            Some(connection) if connection.flags & PASSIVE != 0 => {
                self.holder(self.older().listener(local, cgroup)?)
            }
            _ => self.holder(self.older().connection(local, remote, cgroup)?),
        }
    }

    fn named(&self, connection: &Connection) -> Option<Arc<ProcessInfo>> {
        let process = connection.process;
        let inherited = connection.flags & PASSIVE != 0 && process.how & HOW != ACCEPTED;
        // Who made a listening socket may have left it to its children.
        if inherited && self.proc && self.alive(&process).is_none() {
            return None;
        }
        let key = Process { time_ns: 0, ..process };
        let known = self.processes().get(&key).cloned();
        if let Some(seen) = known.filter(|seen| seen.is_final(&process) || seen.looked.elapsed() < FRESH) {
            return Some(seen.info);
        }
        let info = Arc::new(self.describe(&process));
        self.remember(key, &info);
        Some(info)
    }

    /// Everything about a process that is asked about for the first time, or not for a while.
    fn describe(&self, process: &Process) -> ProcessInfo {
        let leader = process.how & LEADER != 0;
        let alive = if self.proc { self.alive(process) } else { None };
        // A thread's name is its own affair, and the best there is of a process that has gone.
        let of_process = alive.as_ref().map(|stat| stat.name.clone());
        let name = if leader { comm(process).or(of_process) } else { of_process.or_else(|| comm(process)) };
        let place = self.cgroups.as_ref().and_then(|watcher| watcher.cgroups.place(process.cgroup));
        let container = place.as_ref().and_then(|place| place.container.clone());
        // Where the runtime keeps its containers in cgroup v1, version 2 does not tell them.
        let pod = place.as_ref().and_then(|place| place.pod);
        let lines = match (&container, &alive) {
            (None, Some(_)) => proc::cgroup(process.tgid),
            _ => None,
        };
        let lines = lines.unwrap_or_default();
        let container = container.or_else(|| container_of_process(&lines).map(Arc::from));
        ProcessInfo {
            pid: process.tgid,
            name,
            container_id: container,
            cgroup_id: process.cgroup,
            cgroup_path: place.map(|place| place.path),
            pod: pod.or_else(|| pod_of_process(&lines)),
        }
    }

    /// What /proc says of the process, if it still is that one: it was there when it was seen at its socket.
    fn alive(&self, process: &Process) -> Option<proc::Stat> {
        let stat = proc::stat(process.tgid)?;
        let seen = process.time_ns.saturating_add(asleep());
        (stat.started <= seen).then_some(stat)
    }

    fn holder(&self, holder: &Holder) -> Option<Arc<ProcessInfo>> {
        let comm = words(&holder.name);
        let process = Process { tgid: holder.pid, how: LEADER, comm, cgroup: holder.cgroup, time_ns: 0 };
        let known = self.processes().get(&process).cloned();
        if let Some(seen) = known.filter(|seen| seen.is_final(&process) || seen.looked.elapsed() < FRESH) {
            return Some(seen.info);
        }
        let now = Process { time_ns: clock(ClockId::CLOCK_MONOTONIC), ..process };
        let info = Arc::new(self.describe(&now));
        self.remember(process, &info);
        Some(info)
    }

    fn remember(&self, key: Process, info: &Arc<ProcessInfo>) {
        let mut processes = self.processes();
        if processes.len() >= PROCESSES {
            processes.clear();
        }
        processes.insert(key, Seen { info: Arc::clone(info), looked: Instant::now() });
    }

    pub(super) fn older(&self) -> RwLockReadGuard<'_, Older> {
        self.older.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn older_mut(&self) -> RwLockWriteGuard<'_, Older> {
        self.older.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, HashMap<Process, Seen>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the connection was there at that time.
fn held(connection: &Connection, at: u64) -> bool {
    let before = if connection.flags & PASSIVE == 0 { EXACT } else { EARLY };
    let early = connection.opened_ns.saturating_sub(before).max(connection.since_ns);
    let late = if connection.closed_ns == 0 { u64::MAX } else { connection.closed_ns };
    early <= at && at <= late.saturating_add(EXACT)
}

/// Whether it can be a socket of that cgroup (0: not known).
fn is_of(connection: &Connection, cgroup: u64) -> bool {
    if cgroup == 0 || connection.cgroup == 0 {
        // Two namespaces, the same addresses: it cannot be told which.
        return connection.flags & SHARED == 0;
    }
    connection.cgroup == cgroup
}

/// A value that two readings agree on: the kernel may replace it meanwhile.
fn steady<T: PartialEq>(read: impl Fn() -> Option<T>) -> Option<T> {
    let mut last = read()?;
    for _ in 0..4 {
        let next = read()?;
        if next == last {
            return Some(next);
        }
        last = next;
    }
    None
}

fn end(address: SocketAddr) -> End {
    let bytes = mapped(address.ip().to_canonical());
    let mut words = [0; 4];
    for (word, four) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
    }
    End { address: words, port: u32::from(address.port()) }
}

fn address(end: &End) -> Option<SocketAddr> {
    let mut bytes = [0; 16];
    for (four, word) in bytes.chunks_exact_mut(4).zip(end.address) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    let ip = std::net::IpAddr::from(bytes).to_canonical();
    Some(SocketAddr::new(ip, u16::try_from(end.port).ok()?))
}

/// The thread's name, up to the zero that ends it.
fn comm(process: &Process) -> Option<String> {
    let bytes = process.comm.map(u64::to_ne_bytes).concat();
    let name = bytes.split(|byte| *byte == 0).next()?;
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

/// A name as the kernel has it.
fn words(name: &str) -> [u64; COMM / 8] {
    let mut bytes = name.bytes().take(COMM - 1).chain(std::iter::repeat(0));
    std::array::from_fn(|_| u64::from_ne_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0))))
}

/// Wall time as the programs' clock has it.
fn monotonic(wall: Timestamp) -> u64 {
    let passed = i128::from(clock(ClockId::CLOCK_REALTIME)) - i128::from(wall.0);
    let at = i128::from(clock(ClockId::CLOCK_MONOTONIC)) - passed;
    u64::try_from(at.max(0)).unwrap_or(u64::MAX)
}

/// How long the machine was suspended since boot, which /proc counts and `CLOCK_MONOTONIC` does not.
fn asleep() -> u64 {
    clock(ClockId::CLOCK_BOOTTIME).saturating_sub(clock(ClockId::CLOCK_MONOTONIC))
}

/// Nanoseconds.
pub(super) fn clock(id: ClockId) -> u64 {
    // All three clocks are always there.
    clock_gettime(id).map_or(0, |time| u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn connection(since_ns: u64, opened_ns: u64, closed_ns: u64) -> Connection {
        Connection { since_ns, opened_ns, closed_ns, cgroup: 7, ..Connection::default() }
    }

    #[test]
    fn a_connection_holds_for_its_own_time() {
        let open = connection(0, 100 * SECOND, 0);
        assert!(held(&open, 100 * SECOND) && held(&open, 5000 * SECOND));
        assert!(!held(&open, 99 * SECOND), "it was asked for later");
        let accepted = Connection { flags: PASSIVE, ..open };
        assert!(held(&accepted, 99 * SECOND), "the client is ahead");
        assert!(!held(&accepted, 80 * SECOND));
        let after = connection(99 * SECOND, 100 * SECOND, 0);
        assert!(!held(&after, 98 * SECOND), "that was the one before it");
        assert!(!held(&Connection { flags: PASSIVE, ..after }, 99 * SECOND - 1));
        assert!(held(&after, 100 * SECOND));
        let ended = connection(0, 100 * SECOND, 200 * SECOND);
        assert!(held(&ended, 199 * SECOND) && held(&ended, 200 * SECOND));
        assert!(!held(&ended, 201 * SECOND), "that is another one, not seen to begin");
    }

    #[test]
    fn the_same_addresses_elsewhere_are_somebody_elses() {
        let own = connection(0, 1, 0);
        assert!(is_of(&own, 7) && is_of(&own, 0) && !is_of(&own, 8));
        let shared = Connection { flags: SHARED, ..own };
        assert!(is_of(&shared, 7), "its cgroup tells");
        assert!(!is_of(&shared, 0) && !is_of(&shared, 8));
        assert!(!is_of(&Connection { cgroup: 0, ..shared }, 7));
    }

    #[test]
    fn addresses_there_and_back() {
        for text in ["10.1.2.3:80", "[fd77::2]:65535", "[::1]:1"] {
            let given: SocketAddr = text.parse().unwrap();
            assert_eq!(address(&end(given)), Some(given));
        }
        let mapped: SocketAddr = "[::ffff:10.1.2.3]:80".parse().unwrap();
        assert_eq!(end(mapped), end("10.1.2.3:80".parse().unwrap()));
    }

    #[test]
    fn wall_time_is_taken_back_to_the_programs_clock() {
        let (wall, now) = (clock(ClockId::CLOCK_REALTIME), clock(ClockId::CLOCK_MONOTONIC));
        assert!(monotonic(Timestamp(wall)).abs_diff(now) < SECOND);
        assert!(monotonic(Timestamp(wall - 3 * SECOND)).abs_diff(now - 3 * SECOND) < SECOND);
        assert_eq!(monotonic(Timestamp(0)), 0);
    }

    #[test]
    fn names_end_at_their_zero() {
        let named = |comm: [u64; 2]| super::comm(&Process { comm, ..Process::default() });
        assert_eq!(named(words("nginx")).as_deref(), Some("nginx"));
        assert_eq!(named(words("nginx\0garbage")).as_deref(), Some("nginx"));
        assert_eq!(named(words("a-name-that-is-too-long")).as_deref(), Some("a-name-that-is-"));
        assert_eq!(named([u64::from_ne_bytes(*b"\xffoo\0aaaa"), 0]).as_deref(), Some("\u{fffd}oo"));
        assert_eq!(named([0; 2]), None);
    }
}
