//! Interfaces, by name and by pattern: as rtnetlink lists them, not sysfs, which shows the namespace that mounted it.

use super::error::LiveError;
use super::netlink::link::Link;
use super::pattern::{is_pattern, matches};

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
    /// As the kernel lists it.
    ///
    /// # Errors
    /// When it carries neither Ethernet nor IP.
    pub(super) fn of(link: &Link) -> Result<Self, LiveError> {
        let Link { index, ref name, arphrd } = *link;
        let framing = framing(arphrd).ok_or_else(|| LiveError::LinkType { name: name.clone(), arphrd })?;
        Ok(Self { name: name.clone(), index, framing })
    }
}

/// The interfaces that were asked for, by name or by pattern.
#[derive(Debug)]
pub(super) struct Wanted(Vec<String>);

impl Wanted {
    /// # Errors
    /// When one that was named, not by a pattern, is not there or cannot be captured from.
    pub(super) fn new(names: &[String], there: &[Link]) -> Result<Self, LiveError> {
        for name in names.iter().filter(|name| !is_pattern(name)) {
            let link =
                there.iter().find(|link| link.name == *name).ok_or_else(|| LiveError::NoInterface {
                    name: name.clone(),
                    existing: there.iter().map(|link| link.name.clone()).collect(),
                })?;
            Interface::of(link)?;
        }
        Ok(Self(names.to_vec()))
    }

    /// Whether it is asked for by name.
    pub(super) fn names(&self, name: &str) -> bool {
        self.0.iter().any(|wanted| wanted == name)
    }

    /// What precedes IP on those that are there, each kind once.
    pub(super) fn framings(&self, there: &[Link]) -> Vec<Framing> {
        let taken = there.iter().filter(|link| self.takes(&link.name));
        let mut framings = Vec::new();
        for framing in taken.filter_map(|link| framing(link.arphrd)) {
            if !framings.contains(&framing) {
                framings.push(framing);
            }
        }
        framings
    }

    /// Whether it is asked for.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.0.iter().any(|wanted| matches(wanted, name))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, arphrd: u16) -> Link {
        Link { index: 3, name: name.to_owned(), arphrd }
    }

    #[test]
    fn what_is_named_must_be_there_and_what_is_a_pattern_need_not() {
        let there = [link("lo", libc::ARPHRD_LOOPBACK), link("wlan0mon", 801)];
        let wanted = |name: &str| Wanted::new(&[name.to_owned()], &there);
        assert!(wanted("veth*").unwrap().takes("veth7"));
        assert!(wanted("lo").unwrap().takes("lo") && !wanted("lo").unwrap().takes("lo0"));
        let error = wanted("no-such-if0").unwrap_err().to_string();
        assert!(error.contains("\"no-such-if0\"") && error.contains("lo"), "{error}");
        assert!(matches!(wanted("wlan0mon"), Err(LiveError::LinkType { arphrd: 801, .. })));
        assert!(wanted("wlan*").is_ok());
    }

    #[test]
    fn kinds_of_what_is_wanted_and_there_are_told_once_each() {
        let there = [link("eth0", 1), link("eth1", 1), link("wg0", 0xFFFE), link("eth0mon", 801)];
        let framings = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            Wanted::new(&names, &there).unwrap().framings(&there)
        };
        assert_eq!(framings(&["eth*"]), [Framing::Ethernet]);
        assert_eq!(framings(&["*"]), [Framing::Ethernet, Framing::Raw]);
        assert_eq!(framings(&["veth*"]), []);
    }

    #[test]
    fn loopback_is_known_as_such() {
        assert_eq!(Interface::of(&link("lo", libc::ARPHRD_LOOPBACK)).unwrap().framing, Framing::Loopback);
    }

    #[test]
    fn kinds_that_are_not_known_are_refused() {
        assert_eq!(framing(1), Some(Framing::Ethernet));
        assert_eq!(framing(0xFFFE), Some(Framing::Raw));
        assert_eq!(framing(801), None, "802.11 without Ethernet framing");
    }
}
