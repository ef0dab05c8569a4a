//! Interfaces of the calling thread's network namespace: by system calls, not by sysfs, which shows the namespace
//! that mounted it.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::error::LiveError;

/// What precedes the network header on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// Ethernet.
    Ethernet,
    /// Ethernet whose every packet goes out and comes in again.
    Loopback,
    /// Nothing: tun, WireGuard, IP in IP.
    Raw,
}

/// An interface that can be captured from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) framing: Framing,
}

impl Interface {
    /// Looks `name` up.
    pub(super) fn find(name: &str) -> Result<Self, LiveError> {
        let missing = || LiveError::NoInterface { name: name.to_owned(), existing: existing() };
        let index = nix::net::if_::if_nametoindex(name).map_err(|_| missing())?;
        let arphrd = hardware_type(name).map_err(|_| missing())?;
        let framing = framing(arphrd).ok_or_else(|| LiveError::LinkType { name: name.to_owned(), arphrd })?;
        Ok(Self { name: name.to_owned(), index, framing })
    }
}

/// The kinds of `linux/if_arp.h` that are known to begin with Ethernet or with IP.
const fn framing(arphrd: u16) -> Option<Framing> {
    const NONE: u16 = 0xFFFE;
    const RAWIP: u16 = 519;
    match arphrd {
        libc::ARPHRD_ETHER => Some(Framing::Ethernet),
        libc::ARPHRD_LOOPBACK => Some(Framing::Loopback),
        NONE | RAWIP | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT => Some(Framing::Raw),
        _ => None,
    }
}

fn hardware_type(name: &str) -> io::Result<u16> {
    // SAFETY: no memory is involved; the result is checked.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: SIOCGIFHWADDR reads the name and writes the address of an ifreq, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the address is what the union holds.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

fn existing() -> Vec<String> {
    let Ok(all) = nix::net::if_::if_nameindex() else {
        return Vec::new();
    };
    all.iter().map(|i| i.name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_named_with_those_there_are() {
        let error = Interface::find("no-such-if0").unwrap_err().to_string();
        assert!(error.contains("\"no-such-if0\"") && error.contains("lo"), "{error}");
        let error = Interface::find("a-name-that-is-much-too-long").unwrap_err().to_string();
        assert!(error.contains("much-too-long"), "{error}");
    }

    #[test]
    fn loopback_is_known_as_such() {
        assert_eq!(Interface::find("lo").unwrap().framing, Framing::Loopback);
    }

    #[test]
    fn kinds_that_are_not_known_are_refused() {
        assert_eq!(framing(1), Some(Framing::Ethernet));
        assert_eq!(framing(0xFFFE), Some(Framing::Raw));
        assert_eq!(framing(801), None, "802.11 without Ethernet framing");
    }
}
