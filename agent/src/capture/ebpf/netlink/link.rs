//! The interfaces of a network namespace.

use std::io;

use super::{Request, Socket, attributes, half, text, word};

/// Bytes of `struct ifinfomsg`.
const INFO: usize = 16;
/// `RTEXT_FILTER_SKIP_STATS` of `linux/rtnetlink.h`: interfaces' counters are most of a dump.
const SKIP_STATS: u32 = 1 << 3;

/// An interface as the kernel lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Link {
    pub(in super::super) index: u32,
    pub(in super::super) name: String,
    /// Its kind, as `linux/if_arp.h` numbers them.
    pub(in super::super) arphrd: u16,
}

/// All interfaces of the socket's namespace.
pub(in super::super) fn list(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; INFO]);
    request.attribute(libc::IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
    let mut all = Vec::new();
    socket.dump(&request, |kind, body| {
        if kind == libc::RTM_NEWLINK
            && let Some(link) = parse(body)
        {
            all.push(link);
        }
    })?;
    Ok(all)
}

fn parse(body: &[u8]) -> Option<Link> {
    let (arphrd, index) = (half(body, 2)?, word(body, 4)?);
    let (_, name) = attributes(body.get(INFO..)?).find(|(kind, _)| *kind == libc::IFLA_IFNAME)?;
    Some(Link { index, name: text(name), arphrd })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        let all = list(&mut Socket::open().unwrap()).unwrap();
        let lo = all.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(lo.arphrd, libc::ARPHRD_LOOPBACK);
        assert_eq!(lo.index, nix::net::if_::if_nametoindex("lo").unwrap());
    }
}
