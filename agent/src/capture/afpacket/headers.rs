//! The part that filter and fan-out share: from a packet's first bytes to addresses and ports of a TCP segment.
//!
//! It follows the rules of the eBPF programs: Ethernet with up to two tags in the bytes (one more may have been taken off
//! by the kernel), or whatever link header the kernel knows the end of; IPv4, or IPv6 with up to seven extension headers;
//! TCP. A later fragment has no ports.

use super::bpf::{Assembler, Condition, FROM_NETWORK_HEADER, HARDWARE, Label, PROTOCOL, op};

pub(super) const ETHERNET: u32 = 1;
pub(super) const LOOPBACK: u32 = 772;

pub(super) const IPV4: u32 = 0x0800;
pub(super) const IPV6: u32 = 0x86DD;
pub(super) const TAGS: [u32; 2] = [0x8100, 0x88A8];
/// Tags in the bytes that are gone through.
pub(super) const MAX_TAGS: u32 = 2;

pub(super) const TCP: u32 = 6;
pub(super) const HOP_BY_HOP: u32 = 0;
pub(super) const ROUTING: u32 = 43;
pub(super) const FRAGMENT: u32 = 44;
pub(super) const AUTHENTICATION: u32 = 51;
pub(super) const DESTINATION_OPTIONS: u32 = 60;
/// Headers after IPv6's own that are looked at, TCP included.
pub(super) const MAX_HEADERS: usize = 8;

/// Words of memory that hold what was found.
pub(super) mod memory {
    /// Offset of the IP header.
    pub(in super::super) const NETWORK: u32 = 0;
    /// [`super::IPV4`] or [`super::IPV6`].
    pub(in super::super) const FAMILY: u32 = 1;
    /// 1 if the ports are known; else they are stored as 0.
    pub(in super::super) const PORTS_KNOWN: u32 = 2;
    /// Source port.
    pub(in super::super) const SOURCE: u32 = 3;
    /// Destination port.
    pub(in super::super) const DESTINATION: u32 = 4;
    /// The first word that is free for others.
    pub(in super::super) const FREE: u32 = 8;

    pub(super) const AT: u32 = 5;
    pub(super) const NEXT: u32 = 6;
    pub(super) const LENGTH: u32 = 7;
}

/// What to look for, and where it begins.
pub(super) struct Headers {
    /// Offset of an Ethernet header: 0, or `bpf::FROM_LINK_HEADER`.
    pub(super) link: u32,
    /// Whether the first fragment of several counts as having ports, too.
    pub(super) first_fragment: bool,
}

impl Headers {
    /// Goes on at `found` with [`memory`] filled, or at `other` if it is no TCP.
    pub(super) fn write(&self, asm: &mut Assembler, found: Label, other: Label) {
        let (ethernet, ipv4, ipv6) = (asm.label(), asm.label(), asm.label());
        asm.put(op::LOAD, HARDWARE);
        asm.branch_if(Condition::Equal, ETHERNET, ethernet);
        asm.branch_if(Condition::Equal, LOOPBACK, ethernet);
        // Of any other kind the kernel knows where its header ends, and what follows.
        asm.put(op::X_CONST, FROM_NETWORK_HEADER);
        asm.put(op::LOAD, PROTOCOL);
        asm.branch_if(Condition::Equal, IPV4, ipv4);
        asm.branch(Condition::Equal, IPV6, ipv6, other);
        asm.here(ethernet);
        self.ethernet(asm, ipv4, ipv6, other);
        let ports = asm.label();
        asm.here(ipv4);
        self.ipv4(asm, ports, found, other);
        asm.here(ipv6);
        self.ipv6(asm, ports, found, other);
        // With X at the TCP header.
        asm.here(ports);
        asm.put(op::LOAD_HALF_X, 0);
        asm.put(op::STORE, memory::SOURCE);
        asm.put(op::LOAD_HALF_X, 2);
        asm.put(op::STORE, memory::DESTINATION);
        set(asm, memory::PORTS_KNOWN, 1);
        asm.jump(found);
    }

    /// Leaves X at the IP header.
    fn ethernet(&self, asm: &mut Assembler, ipv4: Label, ipv6: Label, other: Label) {
        for tags in 0..=MAX_TAGS {
            let end = self.link.wrapping_add(14 + 4 * tags);
            let next = asm.label();
            asm.put(op::X_CONST, end);
            asm.put(op::LOAD_HALF, end.wrapping_sub(2));
            asm.branch_if(Condition::Equal, IPV4, ipv4);
            asm.branch_if(Condition::Equal, IPV6, ipv6);
            if tags < MAX_TAGS {
                asm.branch_if(Condition::Equal, TAGS[0], next);
                asm.branch_unless(Condition::Equal, TAGS[1], other);
            } else {
                asm.jump(other);
            }
            asm.here(next);
        }
    }

    fn ipv4(&self, asm: &mut Assembler, ports: Label, found: Label, other: Label) {
        asm.put(op::STORE_X, memory::NETWORK);
        set(asm, memory::FAMILY, IPV4);
        // The last word of the header, so that one that is cut short is none.
        asm.put(op::LOAD_X, 16);
        asm.put(op::LOAD_BYTE_X, 9);
        asm.branch_unless(Condition::Equal, TCP, other);
        asm.put(op::LOAD_BYTE_X, 0);
        asm.put(op::AND, 0x0F);
        asm.put(op::SHIFT_LEFT, 2);
        asm.branch_unless(Condition::AtLeast, 20, other);
        asm.put(op::STORE, memory::LENGTH);
        let whole = asm.label();
        let no_ports = asm.label();
        asm.put(op::LOAD_HALF_X, 6);
        // The offset; where the first of several does not count either, "more fragments" too.
        let fragment = if self.first_fragment { 0x1FFF } else { 0x3FFF };
        asm.branch(Condition::AnyBit, fragment, no_ports, whole);
        asm.here(whole);
        asm.put(op::LOAD_MEM, memory::LENGTH);
        asm.put(op::ADD_X, 0);
        asm.put(op::A_TO_X, 0);
        asm.jump(ports);
        asm.here(no_ports);
        without_ports(asm, found);
    }

    fn ipv6(&self, asm: &mut Assembler, ports: Label, found: Label, other: Label) {
        asm.put(op::STORE_X, memory::NETWORK);
        set(asm, memory::FAMILY, IPV6);
        asm.put(op::LOAD_X, 36);
        asm.put(op::LOAD_BYTE_X, 6);
        asm.put(op::STORE, memory::NEXT);
        asm.put(op::LOAD_CONST, 40);
        asm.put(op::ADD_X, 0);
        asm.put(op::STORE, memory::AT);
        let (later, tcp, no_ports) = (asm.label(), asm.label(), asm.label());
        for _ in 0..MAX_HEADERS {
            self.extension(asm, tcp, later, no_ports, other);
        }
        asm.jump(other);
        // A later fragment says what the first one held, and no more.
        asm.here(later);
        asm.put(op::LOAD_BYTE_X, 0);
        asm.branch(Condition::Equal, TCP, no_ports, other);
        asm.here(no_ports);
        without_ports(asm, found);
        asm.here(tcp);
        asm.put(op::X_MEM, memory::AT);
        asm.jump(ports);
    }

    /// Goes past one header, whose number is in memory.
    fn extension(&self, asm: &mut Assembler, tcp: Label, later: Label, no_ports: Label, other: Label) {
        let (options, authentication, fragment, past) = (asm.label(), asm.label(), asm.label(), asm.label());
        asm.put(op::X_MEM, memory::AT);
        asm.put(op::LOAD_MEM, memory::NEXT);
        asm.branch_if(Condition::Equal, TCP, tcp);
        for kind in [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS] {
            asm.branch_if(Condition::Equal, kind, options);
        }
        asm.branch_if(Condition::Equal, AUTHENTICATION, authentication);
        asm.branch(Condition::Equal, FRAGMENT, fragment, other);

        let whole = asm.label();
        asm.here(fragment);
        asm.put(op::LOAD_HALF_X, 2);
        asm.branch_if(Condition::AnyBit, 0xFFF8, later);
        if !self.first_fragment {
            let first = asm.label();
            asm.branch(Condition::AnyBit, 1, first, whole);
            asm.here(first);
            asm.put(op::LOAD_BYTE_X, 0);
            asm.branch(Condition::Equal, TCP, no_ports, other);
        }
        asm.here(whole);
        set(asm, memory::LENGTH, 8);
        asm.jump(past);

        for (label, shift) in [(options, 3), (authentication, 2)] {
            asm.here(label);
            asm.put(op::LOAD_BYTE_X, 1);
            asm.put(op::SHIFT_LEFT, shift);
            asm.put(op::ADD, 8);
            asm.put(op::STORE, memory::LENGTH);
            asm.jump(past);
        }

        asm.here(past);
        asm.put(op::LOAD_BYTE_X, 0);
        asm.put(op::STORE, memory::NEXT);
        asm.put(op::LOAD_MEM, memory::LENGTH);
        asm.put(op::ADD_X, 0);
        asm.put(op::STORE, memory::AT);
    }
}

fn set(asm: &mut Assembler, word: u32, value: u32) {
    asm.put(op::LOAD_CONST, value);
    asm.put(op::STORE, word);
}

fn without_ports(asm: &mut Assembler, found: Label) {
    asm.put(op::LOAD_CONST, 0);
    for word in [memory::PORTS_KNOWN, memory::SOURCE, memory::DESTINATION] {
        asm.put(op::STORE, word);
    }
    asm.jump(found);
}
