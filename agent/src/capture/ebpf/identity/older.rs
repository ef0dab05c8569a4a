//! Sockets that are older than the programs at their cgroup: /proc is read once for the processes in each watched
//! cgroup, at start, or when the cgroup comes.
//!
//! ```text
//! cgroup.procs of the watched folders ─► processes ─► /proc/PID/fd: socket:[inode]
//!                                            └─ one for each network namespace ─► /proc/PID/net/tcp, tcp6: inode → ends
//! ```
//! Nothing tells when such a socket ends, so one is named only while its process has it: [`Holder::has_it`] looks, with
//! one system call. Everything is bounded, in number and in time; what was left out is counted.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::proc;

/// How much is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) processes: usize,
    /// Descriptors of all processes together.
    pub(super) descriptors: usize,
    /// Sockets of all namespaces together.
    pub(super) sockets: usize,
    pub(super) time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { processes: 16_384, descriptors: 1 << 20, sockets: 1 << 18, time: Duration::from_secs(2) }
    }
}

/// A process that has a socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) cgroup: u64,
    /// The watched cgroup that its own is, or is within.
    root: u64,
    parent: u32,
    descriptor: u32,
    inode: u64,
}

impl Holder {
    /// Whether it still has that very socket. Inode numbers of sockets are not used again while one lives.
    pub(super) fn has_it(&self) -> bool {
        let link = fs::read_link(format!("/proc/{}/fd/{}", self.pid, self.descriptor));
        link.is_ok_and(|link| socket_inode(&link) == Some(self.inode))
    }
}

/// What was there before the programs.
#[derive(Debug, Default)]
pub(super) struct Older {
    connections: HashMap<(SocketAddr, SocketAddr), Vec<Holder>>,
    /// By port.
    listeners: HashMap<u16, Vec<(IpAddr, Holder)>>,
    /// Not all was read.
    pub(super) left_out: u64,
    /// Processes whose descriptors may not be read.
    pub(super) forbidden: u64,
}

impl Older {
    /// Reads /proc for the processes in these cgroup folders and below.
    pub(super) fn read<'a>(folders: impl IntoIterator<Item = &'a Path>, bounds: Bounds) -> Self {
        let mut reading = Reading { bounds, until: Instant::now() + bounds.time, left_out: 0, forbidden: 0 };
        let mut processes = Vec::new();
        for folder in folders {
            let root = fs::metadata(folder).map_or(0, |metadata| metadata.ino());
            reading.processes(folder, root, &mut processes);
        }
        let holders = reading.holders(&processes);
        let mut older = Self::default();
        for socket in reading.sockets(&processes) {
            let Some(holder) = holders.get(&socket.inode).and_then(|all| eldest(all)) else { continue };
            if socket.listening {
                let port = older.listeners.entry(socket.local.port()).or_default();
                port.push((socket.local.ip(), holder.clone()));
            } else {
                older.connections.entry((socket.local, socket.remote)).or_default().push(holder.clone());
            }
        }
        (older.left_out, older.forbidden) = (reading.left_out, reading.forbidden);
        older
    }

    /// Adds what was found in a cgroup that has come.
    pub(super) fn add(&mut self, other: Self) {
        for (ends, holders) in other.connections {
            self.connections.entry(ends).or_default().extend(holders);
        }
        for (port, listeners) in other.listeners {
            self.listeners.entry(port).or_default().extend(listeners);
        }
        self.left_out += other.left_out;
        self.forbidden += other.forbidden;
    }

    /// Forgets what was found in a watched cgroup that has gone.
    pub(super) fn forget(&mut self, root: u64) {
        self.connections.retain(|_, holders| {
            holders.retain(|holder| holder.root != root);
            !holders.is_empty()
        });
        self.listeners.retain(|_, listeners| {
            listeners.retain(|(_, holder)| holder.root != root);
            !listeners.is_empty()
        });
    }

    pub(super) fn len(&self) -> usize {
        self.connections.values().map(Vec::len).sum::<usize>()
            + self.listeners.values().map(Vec::len).sum::<usize>()
    }

    /// Who has the connection, and had it at start. `cgroup`: its socket's, or 0.
    pub(super) fn connection(&self, local: SocketAddr, remote: SocketAddr, cgroup: u64) -> Option<&Holder> {
        one(self.connections.get(&(local, remote))?.iter(), cgroup)
    }

    /// Who listens, and did at start, where connections to `local` are accepted. `cgroup`: their sockets', or 0.
    pub(super) fn listener(&self, local: SocketAddr, cgroup: u64) -> Option<&Holder> {
        let port = self.listeners.get(&local.port())?;
        let of = |fits: &dyn Fn(IpAddr) -> bool| {
            one(port.iter().filter(|(ip, _)| fits(*ip)).map(|(_, holder)| holder), cgroup)
        };
        // The kernel gives a connection to the listener of the very address, if there is one.
        if port.iter().any(|(ip, _)| *ip == local.ip()) {
            return of(&|ip| ip == local.ip());
        }
        of(&|ip| ip.is_unspecified())
    }
}

/// The only one that can be meant, if there is only one: in other namespaces the same addresses are others'.
fn one<'a>(all: impl Iterator<Item = &'a Holder>, cgroup: u64) -> Option<&'a Holder> {
    let mut fitting = all.filter(|holder| cgroup == 0 || holder.cgroup == cgroup);
    fitting.next().filter(|_| fitting.next().is_none()).filter(|holder| holder.has_it())
}

/// Of the processes that share a socket, the one that the others have it from.
fn eldest(all: &[Holder]) -> Option<&Holder> {
    let mut eldest = all.iter().filter(|holder| all.iter().all(|other| other.pid != holder.parent));
    eldest.next().filter(|_| eldest.next().is_none())
}

struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    inode: u64,
    listening: bool,
}

struct Process {
    pid: u32,
    cgroup: u64,
    root: u64,
}

struct Reading {
    bounds: Bounds,
    until: Instant,
    left_out: u64,
    forbidden: u64,
}

impl Reading {
    fn spent(&self) -> bool {
        Instant::now() >= self.until
    }

    /// The processes of a cgroup and of those below.
    fn processes(&mut self, folder: &Path, root: u64, all: &mut Vec<Process>) {
        let cgroup = fs::metadata(folder).map_or(0, |metadata| metadata.ino());
        let pids = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0) {
            if all.len() >= self.bounds.processes || self.spent() {
                self.left_out += 1;
                return;
            }
            all.push(Process { pid, cgroup, root });
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.processes(&entry.path(), root, all);
            }
        }
    }

    /// Who has which socket, by inode.
    fn holders(&mut self, processes: &[Process]) -> HashMap<u64, Vec<Holder>> {
        let mut holders: HashMap<u64, Vec<Holder>> = HashMap::new();
        let mut looked_at = 0;
        for process in processes {
            let Some(stat) = proc::stat(process.pid) else { continue };
            let mut known = HashSet::new();
            let mut forbidden = false;
            let mut allowed =
                |error: &io::Error| forbidden |= error.kind() == io::ErrorKind::PermissionDenied;
            let entries = fs::read_dir(format!("/proc/{}/fd", process.pid)).inspect_err(&mut allowed);
            for entry in entries.into_iter().flatten().flatten() {
                looked_at += 1;
                if looked_at > self.bounds.descriptors || self.spent() {
                    self.left_out += 1;
                    return holders;
                }
                let link = fs::read_link(entry.path()).inspect_err(&mut allowed);
                let inode = link.ok().and_then(|link| socket_inode(&link));
                let descriptor = entry.file_name().to_str().and_then(|name| name.parse().ok());
                if let (Some(inode), Some(descriptor)) = (inode, descriptor)
                    && known.insert(inode)
                {
                    holders.entry(inode).or_default().push(Holder {
                        pid: process.pid,
                        name: stat.name.clone(),
                        cgroup: process.cgroup,
                        root: process.root,
                        parent: stat.parent,
                        descriptor,
                        inode,
                    });
                }
            }
            self.forbidden += u64::from(forbidden);
        }
        holders
    }

    /// The sockets of every network namespace that a process is in.
    fn sockets(&mut self, processes: &[Process]) -> Vec<Socket> {
        let (mut sockets, mut namespaces) = (Vec::new(), HashSet::new());
        for process in processes {
            let namespace = fs::metadata(format!("/proc/{}/ns/net", process.pid));
            let Ok(namespace) = namespace.map(|namespace| (namespace.dev(), namespace.ino())) else {
                continue;
            };
            if !namespaces.insert(namespace) {
                continue;
            }
            for table in ["tcp", "tcp6"] {
                let Ok(file) = File::open(format!("/proc/{}/net/{table}", process.pid)) else { continue };
                for line in BufReader::new(file).lines().skip(1).map_while(Result::ok) {
                    if sockets.len() >= self.bounds.sockets || self.spent() {
                        self.left_out += 1;
                        return sockets;
                    }
                    sockets.extend(parse(&line));
                }
            }
        }
        sockets
    }
}

/// `socket:[12345]`.
fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `TCP_ESTABLISHED` and `TCP_LISTEN` of `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// A line of /proc/net/tcp (proc(5)): `sl local remote state queues timer retransmits uid timeout inode …`.
fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (end(fields.next()?)?, end(fields.next()?)?);
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    let wanted = matches!(state, ESTABLISHED | CLOSE_WAIT | LISTEN) && inode != 0;
    wanted.then_some(Socket { local, remote, inode, listening: state == LISTEN })
}

/// `0100007F:1F90`: words of the address as they lie in memory, and the port.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            // As packets have it: an IPv4 address that was mapped into IPv6 travels as IPv4.
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:1F90 0200000A:0050 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 20 4 0 10 -1";
        let socket = parse(line).unwrap();
        assert_eq!(
            (socket.local.to_string(), socket.remote.to_string()),
            ("127.0.0.1:8080".into(), "10.0.0.2:80".into())
        );
        assert_eq!((socket.inode, socket.listening), (4242, false));
        let line = "  1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 77 1";
        let socket = parse(line).unwrap();
        assert_eq!((socket.local.to_string(), socket.listening), ("[::1]:22".into(), true));
        let mapped = "2: 0000000000000000FFFF00000100007F:0016 0000000000000000FFFF00000100007F:1F90 01 0:0 00:0 0 0 0 78 1";
        assert_eq!(parse(mapped).unwrap().local.to_string(), "127.0.0.1:22");
        for none in [
            "",
            "  sl  local_address rem_address   st",
            // In TIME_WAIT, and one without an inode.
            "3: 0100007F:1F90 0200000A:0050 06 0:0 00:0 0 0 0 0 1",
            "3: 0100007F:1F90 0200000A:0050 01 0:0 00:0 0 0 0 0 1",
            "4: 0100007:1F90 0200000A:0050 01 0:0 00:0 0 0 0 5 1",
        ] {
            assert!(parse(none).is_none(), "{none:?}");
        }
    }

    fn holder(pid: u32, parent: u32) -> Holder {
        Holder { pid, name: String::new(), cgroup: 0, root: 0, parent, descriptor: 0, inode: 0 }
    }

    #[test]
    fn of_those_that_share_a_socket_the_parent_is_meant_and_strangers_are_nobody() {
        let pid = |all: &[Holder]| eldest(all).map(|holder| holder.pid);
        assert_eq!(pid(&[holder(7, 1)]), Some(7));
        assert_eq!(pid(&[holder(8, 7), holder(7, 1), holder(9, 7)]), Some(7));
        assert_eq!(pid(&[holder(8, 7), holder(9, 7)]), None, "their parent closed it");
        assert_eq!(pid(&[]), None);
    }

    #[test]
    fn own_sockets_are_found_until_they_are_closed_and_within_bounds() {
        // A folder with a cgroup.procs is all that is looked for.
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (local, cgroup) = (client.local_addr().unwrap(), fs::metadata(folder.path()).unwrap().ino());
        let older = Older::read([folder.path()], Bounds::default());
        assert_eq!(older.left_out, 0);
        assert!(older.len() >= 2);
        let found = older.connection(local, address, cgroup).unwrap();
        assert_eq!(found.pid, std::process::id());
        assert!(older.connection(local, address, 0).is_some());
        assert_eq!(older.connection(local, address, cgroup + 1), None, "of another cgroup");
        assert_eq!(older.connection(address, address, 0), None);
        assert!(older.listener(address, 0).is_some());
        assert_eq!(older.listener("127.0.0.2:1".parse().unwrap(), 0), None);
        drop((client, listener));
        assert_eq!(older.connection(local, address, cgroup), None, "closed");
        assert_eq!(older.listener(address, 0), None);

        for bounds in [
            Bounds { processes: 0, ..Bounds::default() },
            Bounds { descriptors: 1, ..Bounds::default() },
            Bounds { time: Duration::ZERO, ..Bounds::default() },
        ] {
            assert!(Older::read([folder.path()], bounds).left_out > 0, "{bounds:?}");
        }
        let _held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let none = Older::read([folder.path()], Bounds { sockets: 0, ..Bounds::default() });
        assert_eq!((none.len(), none.left_out > 0), (0, true));
    }

    #[test]
    fn what_was_found_in_a_cgroup_goes_with_it() {
        let of = |root: u64, local: &str| {
            let holder = Holder {
                pid: 1,
                name: String::new(),
                cgroup: 0,
                root,
                parent: 0,
                descriptor: 0,
                inode: root,
            };
            let (local, remote): (SocketAddr, SocketAddr) =
                (local.parse().unwrap(), "10.0.0.9:80".parse().unwrap());
            let mut older = Older { left_out: 1, ..Older::default() };
            older.connections.insert((local, remote), vec![holder.clone()]);
            older.listeners.insert(80, vec![(local.ip(), holder)]);
            older
        };
        let mut all = of(1, "10.0.0.1:5");
        all.add(of(2, "10.0.0.1:5"));
        all.add(of(3, "10.0.0.3:5"));
        assert_eq!((all.len(), all.left_out), (6, 3));
        all.forget(2);
        assert_eq!((all.len(), all.connections.len()), (4, 2));
        all.forget(1);
        all.forget(3);
        assert_eq!((all.len(), all.connections.len(), all.listeners.len()), (0, 0, 0));
    }
}
