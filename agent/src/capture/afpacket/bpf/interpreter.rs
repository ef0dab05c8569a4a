//! A naive interpreter of classic BPF, for tests: what the kernel would do with a program and a packet.

use super::{FROM_LINK_HEADER, FROM_NETWORK_HEADER, Instruction, METADATA};

/// A packet with what the kernel knows about it.
#[derive(Clone, Debug)]
pub(in super::super) struct Machine<'a> {
    /// The bytes that offset 0 stands for, to the end.
    pub(in super::super) data: &'a [u8],
    /// From the link header on.
    pub(in super::super) from_link: &'a [u8],
    /// From the network header on.
    pub(in super::super) from_network: &'a [u8],
    pub(in super::super) protocol: u16,
    pub(in super::super) packet_type: u32,
    pub(in super::super) interface: u32,
    pub(in super::super) hardware: u32,
}

impl<'a> Machine<'a> {
    /// Ethernet; the network header stands behind 14 bytes.
    pub(in super::super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            from_link: data,
            from_network: data.get(14..).unwrap_or_default(),
            protocol: 0,
            packet_type: 0,
            interface: 1,
            hardware: 1,
        }
    }

    fn load(&self, offset: u32, size: usize) -> Option<u32> {
        let (bytes, at) = match offset {
            METADATA.. => {
                return match offset - METADATA {
                    0 => Some(u32::from(self.protocol)),
                    4 => Some(self.packet_type),
                    8 => Some(self.interface),
                    28 => Some(self.hardware),
                    other => panic!("metadata {other}"),
                };
            }
            FROM_NETWORK_HEADER.. => (self.from_network, offset - FROM_NETWORK_HEADER),
            FROM_LINK_HEADER.. => (self.from_link, offset - FROM_LINK_HEADER),
            _ => (self.data, offset),
        };
        let bytes = bytes.get(at as usize..)?.get(..size)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }
}

/// Runs it; a load beyond the packet gives 0, as in the kernel.
pub(in super::super) fn run(program: &[Instruction], machine: &Machine<'_>) -> u32 {
    let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [None; 16], 0);
    loop {
        let Instruction { code, yes, no, k } = program[at];
        at += 1;
        let size = match code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            _ => 1,
        };
        let answer = match code {
            0x15 => Some(a == k),
            0x35 => Some(a >= k),
            0x45 => Some(a & k != 0),
            _ => None,
        };
        match code {
            0x15 | 0x35 | 0x45 => at += usize::from(if answer == Some(true) { yes } else { no }),
            0x05 => at += k as usize,
            0x20 | 0x28 | 0x30 => match machine.load(k, size) {
                Some(value) => a = value,
                None => return 0,
            },
            0x40 | 0x48 | 0x50 => match machine.load(x.wrapping_add(k), size) {
                Some(value) => a = value,
                None => return 0,
            },
            0x00 => a = k,
            0x60 => a = memory[k as usize].expect("the kernel refuses to load what was never stored"),
            0x01 => x = k,
            0x61 => x = memory[k as usize].expect("the kernel refuses to load what was never stored"),
            0x02 => memory[k as usize] = Some(a),
            0x03 => memory[k as usize] = Some(x),
            0x04 => a = a.wrapping_add(k),
            0x0C => a = a.wrapping_add(x),
            0x24 => a = a.wrapping_mul(k),
            0x54 => a &= k,
            0x64 => a <<= k,
            0x74 => a >>= k,
            0xA4 => a ^= k,
            0xAC => a ^= x,
            0x07 => x = a,
            0x06 => return k,
            0x16 => return a,
            other => panic!("operation {other:#x}"),
        }
    }
}
