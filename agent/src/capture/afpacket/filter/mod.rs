//! Which packets are wanted: the same rules as the eBPF programs', as a classic BPF program for the kernel, or in user
//! space where that would be too long.
//!
//! Ports and nets match if either end matches; both must, where both are set. Excluded endpoints are left out. A later
//! fragment has no ports to go by: its net decides, and what it belongs to is told apart when it is put together.

#[cfg(test)]
pub(super) mod frames;
mod set;
#[cfg(test)]
mod tests;
mod user;

use std::net::{IpAddr, SocketAddr};

use agent_core::packet::Direction;

use self::set::Set;
use super::bpf::{Assembler, Condition, INTERFACE, Instruction, Label, PACKET_TYPE, TooLong, op};
use super::headers::{Headers, IPV4, LOOPBACK, memory};
use crate::capture::net::Net;

/// `PACKET_OUTGOING`.
const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;

/// What is wanted. The default: every TCP segment of every interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Filter {
    /// Numbers of interfaces; `None`: the socket is bound to one, and sees no other's packets.
    interfaces: Option<Set>,
    direction: Option<Direction>,
    ports: Option<Set>,
    nets: Option<ByFamily>,
    exclude: Option<ByFamily>,
}

/// Addresses, or addresses with ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct ByFamily {
    v4: Set,
    v6: Set,
}

impl ByFamily {
    const fn of(&self, v4: bool) -> &Set {
        if v4 { &self.v4 } else { &self.v6 }
    }
}

impl Filter {
    /// Empty lists of ports and nets: all.
    pub(super) fn new(ports: &[u16], nets: &[Net], exclude: &[SocketAddr]) -> Self {
        let port = |port: &u16| (vec![u32::from(*port)], vec![u32::from(*port)]);
        let nets = nets.iter().map(|net| (net.address(), range(net)));
        let endpoints = exclude.iter().map(|end| {
            let address = end.ip().to_canonical();
            let mut row = words(address);
            row.push(u32::from(end.port()));
            (address, (row.clone(), row))
        });
        Self {
            interfaces: None,
            direction: None,
            ports: (!ports.is_empty()).then(|| Set::new(ports.iter().map(port).collect())),
            nets: by_family(nets),
            exclude: by_family(endpoints),
        }
    }

    /// The same, of these interfaces only.
    pub(super) fn of_interfaces(self, indices: &[u32]) -> Self {
        let ranges = indices.iter().map(|index| (vec![*index], vec![*index])).collect();
        Self { interfaces: Some(Set::new(ranges)), ..self }
    }

    /// The same, one way only, as the interface sees it.
    pub(super) fn of_direction(self, direction: Option<Direction>) -> Self {
        Self { direction, ..self }
    }

    /// The same without ports, nets and endpoints: what the kernel is left with when user space looks at those.
    pub(super) fn without_details(&self) -> Self {
        Self { interfaces: self.interfaces.clone(), direction: self.direction, ..Self::default() }
    }

    /// The program: gives `snap` bytes of what is wanted, and 0 of what is not. Of loopback the outgoing packets are not
    /// wanted, because each of them comes in again, unless nothing but outgoing ones is wanted.
    ///
    /// # Errors
    /// When there are more ports, nets or endpoints than a program can hold.
    pub(super) fn program(&self, snap: u32) -> Result<Vec<Instruction>, TooLong> {
        let mut asm = Assembler::default();
        let (wanted, unwanted, found, nets) = (asm.label(), asm.label(), asm.label(), asm.label());
        self.interface(&mut asm, unwanted);
        Headers { link: 0, first_fragment: true }.write(&mut asm, found, unwanted);
        asm.here(found);
        self.port(&mut asm, nets, unwanted);
        asm.here(nets);
        self.addresses(&mut asm, wanted, unwanted);
        asm.here(wanted);
        asm.put(op::RETURN, snap);
        asm.here(unwanted);
        asm.put(op::RETURN, 0);
        asm.finish()
    }

    fn interface(&self, asm: &mut Assembler, unwanted: Label) {
        if let Some(interfaces) = &self.interfaces {
            let known = asm.label();
            interfaces.write(asm, &|asm, _| asm.put(op::LOAD, INTERFACE), known, unwanted);
            asm.here(known);
        }
        let once = asm.label();
        if self.direction.is_none() {
            asm.put(op::LOAD, super::bpf::HARDWARE);
            asm.branch_unless(Condition::Equal, LOOPBACK, once);
        }
        asm.put(op::LOAD, PACKET_TYPE);
        let (outgoing, incoming) =
            if self.direction == Some(Direction::Egress) { (once, unwanted) } else { (unwanted, once) };
        asm.branch(Condition::Equal, OUTGOING, outgoing, incoming);
        asm.here(once);
    }

    fn port(&self, asm: &mut Assembler, nets: Label, unwanted: Label) {
        let Some(ports) = &self.ports else { return asm.jump(nets) };
        asm.put(op::LOAD_MEM, memory::PORTS_KNOWN);
        asm.branch_if(Condition::Equal, 0, nets);
        let other = asm.label();
        ports.write(asm, &|asm, _| asm.put(op::LOAD_MEM, memory::SOURCE), nets, other);
        asm.here(other);
        ports.write(asm, &|asm, _| asm.put(op::LOAD_MEM, memory::DESTINATION), nets, unwanted);
    }

    fn addresses(&self, asm: &mut Assembler, wanted: Label, unwanted: Label) {
        let (v4, v6) = (asm.label(), asm.label());
        asm.put(op::X_MEM, memory::NETWORK);
        asm.put(op::LOAD_MEM, memory::FAMILY);
        asm.branch(Condition::Equal, IPV4, v4, v6);
        // Where the addresses stand in the header, and of how many words they are.
        for (label, source, words) in [(v4, 12, 1), (v6, 8, 4)] {
            asm.here(label);
            let is_v4 = label == v4;
            let ends = [(source, memory::SOURCE), (source + 4 * words as u32, memory::DESTINATION)];
            let load = |end: (u32, u32)| {
                move |asm: &mut Assembler, word: usize| {
                    if word < words {
                        asm.put(op::LOAD_X, end.0 + 4 * word as u32);
                    } else {
                        asm.put(op::LOAD_MEM, end.1);
                    }
                }
            };
            if let Some(nets) = &self.nets {
                let (other, within) = (asm.label(), asm.label());
                nets.of(is_v4).write(asm, &load(ends[0]), within, other);
                asm.here(other);
                nets.of(is_v4).write(asm, &load(ends[1]), within, unwanted);
                asm.here(within);
            }
            if let Some(exclude) = &self.exclude {
                asm.put(op::LOAD_MEM, memory::PORTS_KNOWN);
                asm.branch_if(Condition::Equal, 0, wanted);
                let other = asm.label();
                exclude.of(is_v4).write(asm, &load(ends[0]), unwanted, other);
                asm.here(other);
                exclude.of(is_v4).write(asm, &load(ends[1]), unwanted, wanted);
            } else {
                asm.jump(wanted);
            }
        }
    }
}

fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(v4) => vec![v4.to_bits()],
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32).to_vec()
        }
    }
}

fn range(net: &Net) -> (Vec<u32>, Vec<u32>) {
    let first = words(net.address());
    let mut left = u32::from(net.prefix());
    let last = first.iter().map(|word| {
        let fixed = left.min(32);
        left -= fixed;
        word | u32::MAX.checked_shr(fixed).unwrap_or(0)
    });
    let last = last.collect();
    (first, last)
}

/// Sorts by family; `None` if there is nothing.
fn by_family(all: impl Iterator<Item = (IpAddr, (Vec<u32>, Vec<u32>))>) -> Option<ByFamily> {
    let (v4, v6): (Vec<_>, Vec<_>) = all.partition(|(address, _)| address.is_ipv4());
    let set = |ranges: Vec<(IpAddr, _)>| Set::new(ranges.into_iter().map(|(_, range)| range).collect());
    let sets = ByFamily { v4: set(v4), v6: set(v6) };
    (!sets.v4.is_empty() || !sets.v6.is_empty()).then_some(sets)
}
