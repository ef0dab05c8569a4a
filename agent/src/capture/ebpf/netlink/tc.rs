//! The clsact qdisc and the eBPF filters on it (tc-bpf(8)).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::{Request, Socket, attributes, text, word};

/// Bytes of `struct tcmsg`: family, interface, handle, parent, info.
const TCMSG: usize = 20;
/// `TC_H_CLSACT`, major and minor number: the qdisc's parent.
const CLSACT: u32 = 0xFFFF_FFF1;
/// The qdisc's own handle.
const CLSACT_HANDLE: u32 = 0xFFFF_0000;

// linux/pkt_cls.h and linux/rtnetlink.h.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const ACT_DIRECT: u32 = 1;
const ETH_P_ALL: u16 = 3;

/// Which way past an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Way {
    In,
    Out,
}

impl Way {
    pub(in super::super) const BOTH: [Self; 2] = [Self::In, Self::Out];

    /// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS or EGRESS)`.
    const fn parent(self) -> u32 {
        match self {
            Self::In => 0xFFFF_FFF2,
            Self::Out => 0xFFFF_FFF3,
        }
    }
}

/// A filter on a clsact qdisc.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Filter {
    /// `bpf` for ours.
    pub(in super::super) kind: String,
    /// Of a `bpf` filter: what its maker called it.
    pub(in super::super) name: String,
    handle: u32,
    /// Priority and protocol.
    info: u32,
}

#[cfg(test)]
impl Filter {
    pub(in super::super) fn named(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), handle: 1, info: 0 }
    }
}

fn tcmsg(interface: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut body = [0; TCMSG];
    for (at, value) in [(4, interface), (8, handle), (12, parent), (16, info)] {
        body[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    body
}

/// The interfaces that have a clsact qdisc.
pub(in super::super) fn with_clsact(socket: &mut Socket) -> io::Result<Vec<u32>> {
    let request = Request::new(libc::RTM_GETQDISC, libc::NLM_F_DUMP, &tcmsg(0, 0, 0, 0));
    let mut all = Vec::new();
    socket.dump(&request, |kind, body| {
        let clsact = attributes(body.get(TCMSG..).unwrap_or_default())
            .any(|(kind, value)| kind == TCA_KIND && text(value) == "clsact");
        if let (libc::RTM_NEWQDISC, true, Some(interface)) = (kind, clsact, word(body, 4)) {
            all.push(interface);
        }
    })?;
    all.dedup();
    Ok(all)
}

/// Adds a clsact qdisc; `false` if there was one.
///
/// Where an `ingress` qdisc takes its place the kernel refuses, in the same words as if there were a clsact.
pub(in super::super) fn add_clsact(socket: &mut Socket, interface: u32) -> io::Result<bool> {
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWQDISC, flags, &tcmsg(interface, CLSACT_HANDLE, CLSACT, 0));
    request.attribute(TCA_KIND, b"clsact\0");
    match socket.ask(request, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the clsact qdisc with all that hangs there.
pub(in super::super) fn remove_clsact(socket: &mut Socket, interface: u32) -> io::Result<()> {
    let body = tcmsg(interface, CLSACT_HANDLE, CLSACT, 0);
    socket.ask(Request::new(libc::RTM_DELQDISC, libc::NLM_F_ACK, &body), |_, _| {})
}

/// The filters on the clsact qdisc of an interface, one way.
pub(in super::super) fn filters(socket: &mut Socket, interface: u32, way: Way) -> io::Result<Vec<Filter>> {
    let body = tcmsg(interface, 0, way.parent(), 0);
    let mut all = Vec::new();
    socket.dump(&Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, &body), |kind, body| {
        if kind == libc::RTM_NEWTFILTER
            && let Some(filter) = parse(body)
        {
            all.push(filter);
        }
    })?;
    Ok(all)
}

/// `None` for what stands for a whole priority: its handle is nothing.
fn parse(body: &[u8]) -> Option<Filter> {
    let (handle, info) = (word(body, 8)?, word(body, 16)?);
    let (mut kind, mut name) = (String::new(), String::new());
    for (attribute, value) in attributes(body.get(TCMSG..)?) {
        match attribute {
            TCA_KIND => kind = text(value),
            TCA_OPTIONS => {
                name = attributes(value)
                    .find(|(k, _)| *k == TCA_BPF_NAME)
                    .map(|(_, v)| text(v))
                    .unwrap_or_default();
            }
            _ => {}
        }
    }
    (handle != 0).then_some(Filter { kind, name, handle, info })
}

/// Adds an eBPF filter behind those that are there; the kernel picks priority and handle.
pub(in super::super) fn add_filter(
    socket: &mut Socket,
    interface: u32,
    way: Way,
    program: BorrowedFd<'_>,
    name: &str,
) -> io::Result<()> {
    let info = u32::from(ETH_P_ALL.to_be());
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWTFILTER, flags, &tcmsg(interface, 0, way.parent(), info));
    request.attribute(TCA_KIND, b"bpf\0");
    request.nested(TCA_OPTIONS, |options| {
        options.attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
        options.attribute(TCA_BPF_NAME, &[name.as_bytes(), b"\0"].concat());
        options.attribute(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
    });
    socket.ask(request, |_, _| {})
}

/// Removes a filter that [`filters`] found.
pub(in super::super) fn remove_filter(
    socket: &mut Socket,
    interface: u32,
    way: Way,
    filter: &Filter,
) -> io::Result<()> {
    let body = tcmsg(interface, filter.handle, way.parent(), filter.info);
    let mut request = Request::new(libc::RTM_DELTFILTER, libc::NLM_F_ACK, &body);
    request.attribute(TCA_KIND, format!("{}\0", filter.kind).as_bytes());
    socket.ask(request, |_, _| {})
}
