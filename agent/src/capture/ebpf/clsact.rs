//! Filters on clsact qdiscs, which outlive whoever made them: tagged, so that the next one can tell whose they were.
//!
//! A filter's name is its tag: `remora:PID:TOKEN:PROGRAM`, and `:q` behind it where the qdisc itself is remora's. The
//! token is also the name of an abstract socket that the owner binds in the interface's network namespace before its
//! first filter, and that the kernel takes away with the process, however that ends. So whether an owner lives can be
//! told from any container that shares the network namespace, also where process ids mean nothing.
//!
//! Invariants: nobody else's filter is touched. A qdisc goes only if a remora added it and no filter is left on it;
//! between that look and the removal there is nothing that the kernel could do in one step.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::netlink::tc::{self, Filter, Way};
use super::netlink::{Socket, link};

const NAME: &str = "remora";

/// What a filter's name says of its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Tag {
    pid: u32,
    token: String,
    program: String,
    /// The qdisc was added by a remora.
    qdisc: bool,
}

impl Tag {
    fn parse(filter: &Filter) -> Option<Self> {
        let mut parts = filter.name.split(':');
        let (name, pid) = (parts.next()?, parts.next()?.parse().ok()?);
        let (token, program) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let qdisc = match parts.next() {
            None => false,
            Some("q") => true,
            Some(_) => return None,
        };
        let whole = parts.next().is_none() && is_token(&token);
        (name == NAME && filter.kind == "bpf" && whole).then_some(Self { pid, token, program, qdisc })
    }

    fn name(&self) -> String {
        let Self { pid, token, program, qdisc } = self;
        format!("{NAME}:{pid}:{token}:{program}{}", if *qdisc { ":q" } else { "" })
    }
}

fn is_token(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn life_sign(token: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{NAME}-owner-{token}"))
}

/// Whether the owner of a token lives. If it cannot be told, it does.
fn lives(token: &str) -> bool {
    let bound = life_sign(token).and_then(|address| UnixDatagram::bind_addr(&address));
    bound.is_err()
}

/// The owner of this process' filters in one network namespace.
pub(super) struct Owner {
    socket: Socket,
    token: String,
    _life_sign: UnixDatagram,
}

impl Owner {
    /// In the calling thread's network namespace.
    pub(super) fn new() -> io::Result<Self> {
        // Seeded anew by the standard library for each one.
        let token = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        let life_sign = UnixDatagram::bind_addr(&life_sign(&token)?)?;
        Ok(Self { socket: Socket::open()?, token, _life_sign: life_sign })
    }

    /// Adds a filter, and the qdisc if there is none.
    pub(super) fn attach(
        &mut self,
        interface: u32,
        way: Way,
        program: BorrowedFd<'_>,
        program_name: &str,
    ) -> io::Result<()> {
        let added = tc::add_clsact(&mut self.socket, interface)?;
        // Who comes last puts the light out, whoever made it.
        let qdisc = added || tags(&mut self.socket, interface)?.iter().any(|(_, _, tag)| tag.qdisc);
        let tag = Tag {
            pid: std::process::id(),
            token: self.token.clone(),
            program: program_name.to_owned(),
            qdisc,
        };
        let attached = tc::add_filter(&mut self.socket, interface, way, program, &tag.name());
        if attached.is_err() && added {
            // No filter tells that it is ours.
            let _ = tc::remove_clsact(&mut self.socket, interface);
        }
        attached
    }

    /// Whether the filters are still there: all that were attached to an interface. If it cannot be told, they are.
    pub(super) fn holds(&mut self, interface: u32, filters: usize) -> bool {
        let token = &self.token;
        let Ok(all) = tags(&mut self.socket, interface) else {
            return true;
        };
        all.iter().filter(|(_, _, tag)| tag.token == *token).count() == filters
    }

    /// Removes this owner's filters from an interface, and the qdisc if that was remora's and nothing is left on it.
    pub(super) fn detach(&mut self, interface: u32) -> io::Result<()> {
        let token = self.token.clone();
        remove(&mut self.socket, interface, |tag| tag.token == token).map(drop)
    }
}

/// The filters on an interface that carry a tag.
fn tags(socket: &mut Socket, interface: u32) -> io::Result<Vec<(Way, Filter, Tag)>> {
    let mut all = Vec::new();
    for way in Way::BOTH {
        let filters = tc::filters(socket, interface, way)?;
        all.extend(filters.into_iter().filter_map(|filter| {
            let tag = Tag::parse(&filter)?;
            Some((way, filter, tag))
        }));
    }
    Ok(all)
}

/// Removes the filters whose tag is `meant`. Whether the qdisc went with them.
fn remove(socket: &mut Socket, interface: u32, meant: impl Fn(&Tag) -> bool) -> io::Result<bool> {
    let mut ours = false;
    for (way, filter, tag) in tags(socket, interface)?.into_iter().filter(|(_, _, tag)| meant(tag)) {
        ours |= tag.qdisc;
        match tc::remove_filter(socket, interface, way, &filter) {
            // Gone in the meantime.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT)) => return Err(error),
            _ => {}
        }
    }
    if !ours {
        return Ok(false);
    }
    for way in Way::BOTH {
        if !tc::filters(socket, interface, way)?.is_empty() {
            return Ok(false);
        }
    }
    tc::remove_clsact(socket, interface)?;
    Ok(true)
}

/// What a remora that is gone left on an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// The interface.
    pub interface: String,
    /// The filter's program, and which way it hangs: `ether_ingress`.
    pub program: String,
    /// Process id of who left it, in that one's own count.
    pub pid: u32,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "filter {} on {}, left by process {}", self.program, self.interface, self.pid)
    }
}

/// What remoras that are gone left on the interfaces of the calling thread's network namespace; `clean`: removed, too.
///
/// # Errors
/// When the kernel does not let the filters be read or removed.
pub fn leftovers(clean: bool) -> io::Result<Vec<Leftover>> {
    let mut socket = Socket::open()?;
    let mut found = Vec::new();
    let with_clsact = tc::with_clsact(&mut socket)?;
    if with_clsact.is_empty() {
        return Ok(found);
    }
    let links = link::list(&mut socket)?;
    for interface in with_clsact {
        let Some(link) = links.iter().find(|link| link.index == interface) else { continue };
        let dead: Vec<_> = tags(&mut socket, interface)?
            .into_iter()
            .map(|(_, _, tag)| tag)
            .filter(|tag| !lives(&tag.token))
            .collect();
        if clean && !dead.is_empty() {
            remove(&mut socket, interface, |tag| dead.iter().any(|d| d.token == tag.token))?;
        }
        found.extend(dead.into_iter().map(|tag| Leftover {
            interface: link.name.clone(),
            program: tag.program,
            pid: tag.pid,
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_lives_as_long_as_its_socket() {
        let owner = Owner::new().unwrap();
        let token = owner.token.clone();
        assert!(lives(&token));
        drop(owner);
        assert!(!lives(&token));
    }

    #[test]
    fn only_whole_tags_are_ours() {
        let filter = |name: &str, kind: &str| Tag::parse(&Filter::named(kind, name));
        for qdisc in [false, true] {
            let tag = Tag {
                pid: 7,
                token: String::from("0123456789abcdef"),
                program: String::from("ether_egress"),
                qdisc,
            };
            assert_eq!(filter(&tag.name(), "bpf"), Some(tag.clone()));
            assert_eq!(filter(&tag.name(), "flower"), None);
        }
        for name in [
            "ether_egress",
            "remora",
            "remora:x:0123456789abcdef:p",
            "remora:7:0123456789abcdef",
            "remora:7:0123456789abcdeg:p",
            "remora:7:0123456789abcdef:p:x",
            "remora:7:0123456789abcdef:p:q:q",
            "other:7:0123456789abcdef:p",
        ] {
            assert_eq!(filter(name, "bpf"), None, "{name}");
        }
    }
}
