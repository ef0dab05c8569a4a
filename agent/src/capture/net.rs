//! Nets to filter by: `10.0.0.0/8`, `fd00::/8`, or a bare address.

use std::net::IpAddr;
use std::str::FromStr;

/// An IP network. Bits of the address beyond the prefix are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no net.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetError {
    /// The part before the slash is no IP address.
    #[error("{0:?} is not an IP address")]
    Address(String),
    /// The part after the slash is no prefix length.
    #[error("prefix length {prefix:?} of {address} is not within 0 to {most}")]
    Prefix {
        /// The address.
        address: IpAddr,
        /// What was given.
        prefix: String,
        /// The address' number of bits.
        most: u8,
    },
}

/// An address as 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`.
pub(crate) fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl Net {
    /// The net that `address` is in. `None` if `prefix` is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        if prefix > bits(address) {
            return None;
        }
        let address = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => IpAddr::V6(
                (v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into(),
            ),
        };
        Some(Self { address, prefix })
    }

    /// The net of one address.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        Self { address, prefix: bits(address) }
    }

    /// Its first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Its prefix length.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The same as an IPv6 net, IPv4 as `::ffff:0:0/96` and longer: address in network order, prefix length.
    #[must_use]
    pub fn mapped(&self) -> ([u8; 16], u8) {
        let shift = if self.address.is_ipv4() { 96 } else { 0 };
        (mapped(self.address), self.prefix + shift)
    }

    /// Whether `address` is in it. An IPv4 address is in no IPv6 net and the other way round.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.prefix).is_some_and(|net| net.address == self.address)
    }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| NetError::Address(address.to_owned()))?;
        let most = bits(address);
        let Some(prefix) = prefix else {
            return Ok(Self { address, prefix: most });
        };
        let number = prefix.parse().ok().filter(|_| prefix.bytes().all(|b| b.is_ascii_digit()));
        number.and_then(|n| Self::new(address, n)).ok_or_else(|| NetError::Prefix {
            address,
            prefix: prefix.to_owned(),
            most,
        })
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    #[test]
    fn nets_are_read_and_their_host_bits_cut() {
        assert_eq!(net("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(net("10.1.2.3").to_string(), "10.1.2.3/32");
        assert_eq!(net("fd00:1::5/16").to_string(), "fd00::/16");
        assert_eq!(net("::1").to_string(), "::1/128");
        assert_eq!(net("0.0.0.0/0").to_string(), "0.0.0.0/0");
        assert_eq!(net("::/0").to_string(), "::/0");
    }

    #[test]
    fn what_is_no_net_is_refused_by_name() {
        assert_eq!("10.0.0/8".parse::<Net>(), Err(NetError::Address("10.0.0".into())));
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "::/999"] {
            let error = text.parse::<Net>().unwrap_err().to_string();
            assert!(error.contains("is not within 0 to"), "{error}");
        }
    }

    #[test]
    fn ipv4_nets_map_into_ipv6() {
        let (address, prefix) = net("10.0.0.0/8").mapped();
        assert_eq!((address[10..].to_vec(), prefix), (vec![0xFF, 0xFF, 10, 0, 0, 0], 104));
        assert_eq!(net("fd00::/8").mapped().1, 8);
    }

    #[test]
    fn a_net_contains_its_addresses_only() {
        assert!(net("10.0.0.0/8").contains("10.255.0.1".parse().unwrap()));
        assert!(!net("10.0.0.0/8").contains("11.0.0.1".parse().unwrap()));
        assert!(!net("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(net("fd00::/8").contains("fdff::1".parse().unwrap()));
    }
}
