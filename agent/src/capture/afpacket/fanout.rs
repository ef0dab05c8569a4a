//! Which worker a packet goes to: a symmetric hash of addresses and ports, as a classic BPF program for the kernel's
//! fan-out (`PACKET_FANOUT_CBPF`).
//!
//! Not the kernel's own hash (`PACKET_FANOUT_HASH`), though that is symmetric as well: it starts where the kernel
//! believes the network header to be, which is another place for outgoing packets whose tag was put into the bytes (an
//! interface that does no VLAN by itself, QinQ), so that the two directions of a tagged stream part. Ours reads the
//! bytes of both directions from the link header on, and goes by the rules of the filter and of the eBPF programs.
//!
//! A fragmented datagram goes by its addresses only, first fragment included: later ones carry no ports. (The kernel
//! could put fragments together first, `PACKET_FANOUT_FLAG_DEFRAG`; but what is captured then is not what was on the wire, and
//! fragments that never become whole are not seen.)

use super::bpf::{Assembler, Condition, FROM_LINK_HEADER, Instruction, TooLong, op};
use super::headers::{Headers, IPV4, memory};

/// Odd, with bits that are well spread: from the golden ratio, and of MurmurHash3's finaliser.
const M1: u32 = 0x9E37_79B1;
const M2: u32 = 0x85EB_CA6B;
const M3: u32 = 0xC2B2_AE35;

/// Words of memory.
const SOURCE_HASH: u32 = memory::FREE;
const DESTINATION_HASH: u32 = memory::FREE + 1;
const SCRATCH: u32 = memory::FREE + 2;

/// The program: gives a number, of which the kernel takes the remainder by the number of workers. What is no TCP has
/// 0; the filters leave it out anyway.
///
/// # Errors
/// Never, as it is of one length; the type is the assembler's.
pub(super) fn program(seed: u32) -> Result<Vec<Instruction>, TooLong> {
    let mut asm = Assembler::default();
    let (found, other, ipv4, ipv6, mixed) = (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    Headers { link: FROM_LINK_HEADER, first_fragment: false }.write(&mut asm, found, other);
    asm.here(found);
    asm.put(op::LOAD_MEM, memory::FAMILY);
    asm.branch(Condition::Equal, IPV4, ipv4, ipv6);
    for (label, source, words) in [(ipv4, 12, 1), (ipv6, 8, 4)] {
        asm.here(label);
        end(&mut asm, seed, source, words, memory::SOURCE, SOURCE_HASH);
        end(&mut asm, seed, source + 4 * words, words, memory::DESTINATION, DESTINATION_HASH);
        asm.jump(mixed);
    }
    asm.here(mixed);
    // The sum does not tell which end was the source.
    asm.put(op::X_MEM, SOURCE_HASH);
    asm.put(op::LOAD_MEM, DESTINATION_HASH);
    asm.put(op::ADD_X, 0);
    mix(&mut asm, M3);
    asm.put(op::RETURN_A, 0);
    asm.here(other);
    asm.put(op::RETURN, 0);
    asm.finish()
}

/// Hashes one end: its address at `offset` of the IP header, `words` long, and its port.
fn end(asm: &mut Assembler, seed: u32, offset: u32, words: u32, port: u32, to: u32) {
    asm.put(op::LOAD_MEM, port);
    asm.put(op::XOR, seed);
    for word in 0..words {
        asm.put(op::MUL, M1);
        asm.put(op::STORE, SCRATCH);
        asm.put(op::X_MEM, memory::NETWORK);
        asm.put(op::LOAD_X, offset + 4 * word);
        asm.put(op::X_MEM, SCRATCH);
        asm.put(op::XOR_X, 0);
        mix(asm, M2);
    }
    asm.put(op::STORE, to);
}

/// A ^= A >> 15; A *= `by`; A ^= A >> 16.
fn mix(asm: &mut Assembler, by: u32) {
    asm.put(op::A_TO_X, 0);
    asm.put(op::SHIFT_RIGHT, 15);
    asm.put(op::XOR_X, 0);
    asm.put(op::MUL, by);
    asm.put(op::A_TO_X, 0);
    asm.put(op::SHIFT_RIGHT, 16);
    asm.put(op::XOR_X, 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bpf::interpreter::{Machine, run};
    use super::super::filter::frames::Frame;
    use super::*;

    fn hash(program: &[Instruction], frame: &Frame) -> u32 {
        let bytes = frame.bytes();
        run(program, &frame.machine(&bytes))
    }

    proptest! {
        #[test]
        fn both_directions_and_all_fragments_go_to_one_worker(frame: Frame, seed: u32) {
            let program = program(seed).unwrap();
            let there = hash(&program, &frame);
            let back = hash(&program, &frame.reversed());
            prop_assert_eq!(there, back);
            // However tagged, and wherever its bytes begin.
            prop_assert_eq!(there, hash(&program, &frame.clone().with_tags(vec![])));
            if frame.is_tcp() {
                let first = frame.clone().fragment(0, true);
                let later = frame.clone().fragment(64, false);
                let back = frame.reversed().fragment(8, true);
                prop_assert_eq!(hash(&program, &first), hash(&program, &later));
                prop_assert_eq!(hash(&program, &first), hash(&program, &back));
            }
        }
    }

    /// Flows that differ in the client's port only, or in the last byte of its address only, spread over the workers.
    #[test]
    fn similar_flows_spread() {
        let program = program(0x1234_5678).unwrap();
        for workers in [2_u32, 3, 4, 16] {
            let mut by_port = vec![0_u32; workers as usize];
            let mut by_host = by_port.clone();
            for n in 0..4096_u16 {
                let mut frame = Frame::tcp("10.0.0.2:0", "10.0.0.1:80");
                frame.src.set_port(32_768 + n);
                by_port[(hash(&program, &frame) % workers) as usize] += 1;
                let host = format!("10.0.{}.{}:4000", n >> 8, n & 255);
                by_host[(hash(&program, &Frame::tcp(&host, "10.9.0.1:80")) % workers) as usize] += 1;
            }
            let fair = 4096 / workers;
            for counts in [by_port, by_host] {
                let even = counts.iter().all(|count| count.abs_diff(fair) < fair / 4);
                assert!(even, "{workers} workers: {counts:?}");
            }
        }
    }

    /// A few connections of one client, whose ports the kernel picks two apart: whatever the seed, they are as rarely all at one
    /// worker as chance would have it.
    #[test]
    fn few_flows_spread_as_by_chance() {
        let mut together = 0;
        for seed in 0..2000_u32 {
            let program = program(seed.wrapping_mul(0x9E37_79B9)).unwrap();
            let mut frame = Frame::tcp("10.77.0.1:0", "10.77.0.2:35000");
            let workers: Vec<_> = (0..8)
                .map(|n| {
                    frame.src.set_port(40_000 + 2 * n);
                    hash(&program, &frame) % 2
                })
                .collect();
            together += u32::from(workers.iter().all(|worker| *worker == workers[0]));
        }
        // Expected are 2000 / 128.
        assert!((4..40).contains(&together), "{together}");
    }

    /// A mere reading of metadata, as in the kernel, gives an answer also where nothing is to be had.
    #[test]
    fn what_is_no_tcp_goes_to_the_first() {
        let program = program(7).unwrap();
        assert_eq!(run(&program, &Machine::new(&[0; 60])), 0);
        assert_eq!(run(&program, &Machine::new(&[])), 0);
    }
}
