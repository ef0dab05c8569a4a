//! Classic BPF: its instructions, and an assembler for programs with labels.
//!
//! A program is a list of at most [`MAX_INSTRUCTIONS`] that only ever jumps forward; an accumulator `A`, an index `X` and
//! 16 words of memory are all its state. A load beyond the packet ends it with 0.

mod asm;
#[cfg(test)]
pub(super) mod interpreter;

pub(super) use asm::{Assembler, Condition, Label, TooLong};

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

/// Offsets from here on are metadata of the packet (`SKF_AD_OFF`), not bytes of it.
const METADATA: u32 = -0x1000_i32 as u32;
/// Offsets from here on count from the network header (`SKF_NET_OFF`).
pub(super) const FROM_NETWORK_HEADER: u32 = -0x10_0000_i32 as u32;
/// Offsets from here on count from the link header (`SKF_LL_OFF`).
pub(super) const FROM_LINK_HEADER: u32 = -0x20_0000_i32 as u32;

/// Metadata: EtherType of what follows the link header.
pub(super) const PROTOCOL: u32 = METADATA;
/// Metadata: `PACKET_HOST` to `PACKET_OUTGOING`.
pub(super) const PACKET_TYPE: u32 = METADATA + 4;
/// Metadata: number of the interface.
pub(super) const INTERFACE: u32 = METADATA + 8;
/// Metadata: kind of the interface, as `linux/if_arp.h` numbers them.
pub(super) const HARDWARE: u32 = METADATA + 28;

/// One instruction, as the kernel takes it (`struct sock_filter`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Instruction {
    /// What to do.
    pub(super) code: u16,
    /// Of a conditional jump: how many instructions to skip if it holds.
    pub(super) yes: u8,
    /// How many to skip if it does not.
    pub(super) no: u8,
    /// Operand.
    pub(super) k: u32,
}

/// Operation codes of `linux/bpf_common.h`, put together.
pub(super) mod op {
    pub(in super::super) const LOAD: u16 = 0x20;
    pub(in super::super) const LOAD_HALF: u16 = 0x28;
    pub(in super::super) const LOAD_X: u16 = 0x40;
    pub(in super::super) const LOAD_HALF_X: u16 = 0x48;
    pub(in super::super) const LOAD_BYTE_X: u16 = 0x50;
    pub(in super::super) const LOAD_CONST: u16 = 0x00;
    pub(in super::super) const LOAD_MEM: u16 = 0x60;
    pub(in super::super) const X_CONST: u16 = 0x01;
    pub(in super::super) const X_MEM: u16 = 0x61;
    pub(in super::super) const STORE: u16 = 0x02;
    pub(in super::super) const STORE_X: u16 = 0x03;
    pub(in super::super) const ADD: u16 = 0x04;
    pub(in super::super) const ADD_X: u16 = 0x0C;
    pub(in super::super) const MUL: u16 = 0x24;
    pub(in super::super) const AND: u16 = 0x54;
    pub(in super::super) const SHIFT_LEFT: u16 = 0x64;
    pub(in super::super) const SHIFT_RIGHT: u16 = 0x74;
    pub(in super::super) const XOR: u16 = 0xA4;
    pub(in super::super) const XOR_X: u16 = 0xAC;
    pub(in super::super) const JUMP: u16 = 0x05;
    pub(in super::super) const IF_EQUAL: u16 = 0x15;
    pub(in super::super) const IF_AT_LEAST: u16 = 0x35;
    pub(in super::super) const IF_ANY_BIT: u16 = 0x45;
    pub(in super::super) const RETURN: u16 = 0x06;
    pub(in super::super) const RETURN_A: u16 = 0x16;
    pub(in super::super) const A_TO_X: u16 = 0x07;
}
