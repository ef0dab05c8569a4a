//! One direction of a TCP stream against the naive model that agent-core holds.

use agent_core::fuzzing::assembler::{Start, Step, run as assemble};
use arbitrary::{Result, Unstructured};

/// Flags, a sequence number, then steps.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let flags: u8 = u.arbitrary().unwrap_or(0);
    let base = u.arbitrary().unwrap_or(0);
    let start = Start { joined: flags & 1 != 0, base, tight: flags & 2 != 0, hash: flags & 4 != 0 };
    let mut steps = Vec::new();
    while !u.is_empty() && steps.len() < 2_000 {
        steps.extend(step(&mut u));
    }
    assemble(start, &steps);
}

fn step(u: &mut Unstructured<'_>) -> Result<Step> {
    let kind: u8 = u.arbitrary()?;
    let offset = u32::from(u.arbitrary::<u16>()? % 4_096);
    Ok(match kind & 15 {
        0 => Step::Ack { offset, answer: None },
        1 => Step::Ack { offset, answer: Some(u32::from(u.arbitrary::<u16>()?)) },
        2 => Step::Answers(u32::from(u.arbitrary::<u16>()?)),
        3 => Step::Wait { millis: offset * 4 },
        4 => Step::Empty(offset),
        5 => Step::Fin(offset),
        6 => Step::Cut {
            offset,
            length: u.arbitrary::<u16>()? % 2_048,
            lost: u16::from(u.arbitrary::<u8>()?),
            version: kind >> 4,
        },
        7 if kind >> 4 == 15 => Step::Far { seq: u.arbitrary()?, length: u.arbitrary()? },
        _ => Step::Cut {
            offset,
            length: u16::from(u.arbitrary::<u8>()?) + 1,
            lost: 0,
            version: (kind >> 4) & 3,
        },
    })
}
