//! rtnetlink, as much of it as watching interfaces takes: a request and its answers, or notifications.
//!
//! Messages are built and taken apart byte by byte in the machine's order (rtnetlink(7), netlink(7)); what does not
//! parse is skipped, for newer kernels may say more than this knows.

pub(super) mod link;
pub(super) mod tc;

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

/// Bytes of a message's header (`struct nlmsghdr`).
const HEADER: usize = 16;
/// Room for what one read gives: the kernel fills at most 32 KiB of a dump at a time.
const ROOM: usize = 64 << 10;

/// How often a dump is begun anew because what it lists changed meanwhile.
const TRIES: usize = 16;

/// A message to the kernel.
#[derive(Clone)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// One of `kind` (`RTM_…`) with its fixed part; `flags` on top of `NLM_F_REQUEST`.
    pub(super) fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self { bytes }
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute made of attributes.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.attribute(kind, &[]);
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A socket to the kernel, of the network namespace in which it was opened.
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        Self::with(SockFlag::SOCK_CLOEXEC, 0)
    }

    /// One that is told of changes to interfaces; [`Self::drain`] never waits.
    pub(super) fn of_links() -> io::Result<Self> {
        Self::with(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, libc::RTMGRP_LINK as u32)
    }

    fn with(flags: SockFlag, groups: u32) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; ROOM] })
    }

    /// Has something listed, and hands each entry (kind and body) to `each`: all of them, of one moment.
    pub(super) fn dump(&mut self, request: &Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        for _ in 0..TRIES {
            let mut all = Vec::new();
            match self.ask(request.clone(), |kind, body| all.push((kind, body.to_vec()))) {
                Ok(()) => {
                    all.iter().for_each(|(kind, body)| each(*kind, body));
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "what is to be listed never stays the same"))
    }

    /// Sends a request and hands each answer to `each`, up to the acknowledgement or the dump's end.
    ///
    /// # Errors
    /// What the kernel says; `Interrupted` for a dump that mixes what was with what is.
    pub(super) fn ask(&mut self, request: Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.sequence += 1;
        let bytes = request.finish(self.sequence);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut mixed = false;
        loop {
            let read = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            for message in messages(&self.buffer[..read]) {
                if message.sequence != self.sequence {
                    continue;
                }
                mixed |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
                match i32::from(message.kind) {
                    // The error code is the first thing in both: of a dump that failed midway, too.
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let code = word(message.body, 0).map_or(0, u32::cast_signed);
                        return match code {
                            ..0 => Err(io::Error::from_raw_os_error(-code)),
                            _ if mixed => Err(io::ErrorKind::Interrupted.into()),
                            _ => Ok(()),
                        };
                    }
                    _ => each(message.kind, message.body),
                }
            }
        }
    }

    /// Reads away all notifications; whether there were any (or so many that some were lost).
    pub(super) fn drain(&mut self) -> bool {
        let mut any = false;
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(0) | Err(nix::Error::EAGAIN) => return any,
                Ok(_) | Err(nix::Error::EINTR | nix::Error::ENOBUFS) => any = true,
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of one read, as far as they are whole.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let (kind, flags, sequence) = (half(bytes, 4)?, half(bytes, 6)?, word(bytes, 8)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, flags, sequence, body })
    })
}

/// Kind and value of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        // The two highest bits say how the value is coded.
        let kind = half(bytes, 2)? & 0x3FFF;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Text that may end in a zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_taken_apart_again() {
        let mut request = Request::new(7, libc::NLM_F_ACK, &[1, 2, 3, 4]);
        request.attribute(1, b"abc");
        request.nested(2, |inner| {
            inner.attribute(3, &9_u32.to_ne_bytes());
            inner.attribute(4, b"x\0");
        });
        let bytes = request.finish(5);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(
            (all.len(), all[0].kind, all[0].sequence, &all[0].body[..4]),
            (1, 7, 5, &[1, 2, 3, 4][..])
        );
        let outer: Vec<_> = attributes(&all[0].body[4..]).collect();
        assert_eq!((outer.len(), outer[0]), (2, (1, &b"abc"[..])));
        let inner: Vec<_> = attributes(outer[1].1).collect();
        assert_eq!((inner[0].0, word(inner[0].1, 0), text(inner[1].1)), (3, Some(9), String::from("x")));
    }

    #[test]
    fn what_is_cut_short_ends_in_silence() {
        let bytes = Request::new(7, 0, &[0; 8]).finish(1);
        for length in 0..bytes.len() {
            assert_eq!(messages(&bytes[..length]).count(), 0);
        }
        assert_eq!(attributes(&[9, 0, 1, 0, 5]).count(), 0);
        assert_eq!(attributes(&[0; 4]).count(), 0, "a length of nothing is no attribute");
    }
}
