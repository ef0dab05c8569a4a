//! Sets of addresses, ports, or both together, as ranges of words; looked up in user space, or compiled.
//!
//! A member is a row of 32-bit words: an IPv4 address is one, an IPv6 address four, a port one. A range of rows, in
//! lexicographic order, holds a net, a port, or an endpoint. Compiled, each word is found by binary search among the
//! values where something changes, so that a look-up costs the logarithm of the set's size.

use super::super::bpf::{Assembler, Condition, Label};

/// Rows of words from the first to the last, both included.
type Range = (Vec<u32>, Vec<u32>);

/// A set of rows that are all of one length.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Set {
    /// In order, apart from each other.
    ranges: Vec<Range>,
}

/// What is known after a word has been compared.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    In,
    Out,
    /// The next words decide: what is in of them.
    Rest(Vec<Range>),
}

impl Set {
    /// The union of the ranges.
    pub(super) fn new(mut ranges: Vec<Range>) -> Self {
        ranges.sort_unstable();
        let mut apart: Vec<Range> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match apart.last_mut() {
                Some((_, end)) if *end >= first => {
                    if last > *end {
                        *end = last;
                    }
                }
                _ => apart.push((first, last)),
            }
        }
        Self { ranges: apart }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `row` is in it.
    pub(super) fn contains(&self, row: &[u32]) -> bool {
        let after = self.ranges.partition_point(|(first, _)| first.as_slice() <= row);
        after.checked_sub(1).is_some_and(|index| self.ranges[index].1.as_slice() >= row)
    }

    /// Writes the look-up: goes on at `yes` or `no`. `load` brings the word of a number, from 0, into A.
    pub(super) fn write(
        &self,
        asm: &mut Assembler,
        load: &dyn Fn(&mut Assembler, usize),
        yes: Label,
        no: Label,
    ) {
        write(asm, &self.ranges, 0, load, (yes, no));
    }
}

fn write(
    asm: &mut Assembler,
    ranges: &[Range],
    word: usize,
    load: &dyn Fn(&mut Assembler, usize),
    (yes, no): (Label, Label),
) {
    let mut rests = Vec::new();
    let leaves: Vec<(u32, Label)> = outcomes(ranges)
        .into_iter()
        .map(|(from, outcome)| match outcome {
            Outcome::In => (from, yes),
            Outcome::Out => (from, no),
            Outcome::Rest(ranges) => {
                let label = asm.label();
                rests.push((label, ranges));
                (from, label)
            }
        })
        .collect();
    if leaves.len() > 1 {
        load(asm, word);
    }
    search(asm, &leaves);
    for (label, ranges) in rests {
        asm.here(label);
        write(asm, &ranges, word + 1, load, (yes, no));
    }
}

/// Goes on at the label of the last leaf that begins at or below A.
fn search(asm: &mut Assembler, leaves: &[(u32, Label)]) {
    match leaves {
        [] => {}
        [(_, only)] => asm.jump(*only),
        // One value among others.
        [(_, below), (value, at), (above, beyond)] if below == beyond && value.wrapping_add(1) == *above => {
            asm.branch(Condition::Equal, *value, *at, *below);
        }
        _ => {
            let (left, right) = leaves.split_at(leaves.len() / 2);
            let mut side = |leaves: &[(u32, Label)]| match leaves {
                [(_, only)] => *only,
                _ => asm.label(),
            };
            let (low, high) = (side(left), side(right));
            asm.branch(Condition::AtLeast, right[0].0, high, low);
            for (leaves, label) in [(left, low), (right, high)] {
                if leaves.len() > 1 {
                    asm.here(label);
                    search(asm, leaves);
                }
            }
        }
    }
}

/// By the first word: from which value on what is known. Covers all values, beginning with 0.
fn outcomes(ranges: &[Range]) -> Vec<(u32, Outcome)> {
    let mut all: Vec<(u32, u32, Outcome)> = Vec::new();
    for (first, last) in ranges {
        let (Some((&from, first)), Some((&to, last))) = (first.split_first(), last.split_first()) else {
            continue;
        };
        let (begins, ends) = (first.iter().all(|w| *w == 0), last.iter().all(|w| *w == u32::MAX));
        let rest = |first: &[u32], last: &[u32]| Outcome::Rest(vec![(first.to_vec(), last.to_vec())]);
        if from == to {
            let whole = begins && ends;
            all.push((from, to, if whole { Outcome::In } else { rest(first, last) }));
            continue;
        }
        let lowest = vec![0; first.len()];
        let highest = vec![u32::MAX; first.len()];
        if !begins {
            all.push((from, from, rest(first, &highest)));
        }
        let (inner_from, inner_to) = (from + u32::from(!begins), to - u32::from(!ends));
        if inner_from <= inner_to {
            all.push((inner_from, inner_to, Outcome::In));
        }
        if !ends {
            all.push((to, to, rest(&lowest, last)));
        }
    }
    joined(all)
}

/// Puts together what stands side by side, and fills the gaps.
fn joined(pieces: Vec<(u32, u32, Outcome)>) -> Vec<(u32, Outcome)> {
    let mut leaves: Vec<(u32, Outcome)> = Vec::new();
    // The value after the last piece; none once that was the highest.
    let mut next = Some(0);
    for (from, to, outcome) in pieces {
        if next.is_some_and(|next| next < from) {
            leaves.push((next.unwrap_or_default(), Outcome::Out));
        }
        match (leaves.last_mut(), outcome) {
            (Some((_, Outcome::In)), Outcome::In) => {}
            (Some((value, Outcome::Rest(known))), Outcome::Rest(more)) if *value == from => {
                known.extend(more);
            }
            (_, outcome) => leaves.push((from, outcome)),
        }
        next = to.checked_add(1);
    }
    if let Some(next) = next {
        leaves.push((next, Outcome::Out));
    }
    leaves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::bpf::interpreter::{Machine, run};
    use super::super::super::bpf::op;
    use super::*;

    /// What the compiled look-up says of a row.
    fn compiled(set: &Set, row: &[u32]) -> bool {
        let mut asm = Assembler::default();
        let (yes, no) = (asm.label(), asm.label());
        set.write(&mut asm, &|asm, word| asm.put(op::LOAD, word as u32 * 4), yes, no);
        asm.here(yes);
        asm.put(op::RETURN, 1);
        asm.here(no);
        asm.put(op::RETURN, 0);
        let bytes: Vec<u8> = row.iter().flat_map(|word| word.to_be_bytes()).collect();
        run(&asm.finish().unwrap(), &Machine::new(&bytes)) == 1
    }

    /// Values that meet often, and the ends.
    fn word() -> impl Strategy<Value = u32> {
        prop_oneof![0..6_u32, (u32::MAX - 3)..=u32::MAX]
    }

    fn row() -> impl Strategy<Value = Vec<u32>> {
        proptest::collection::vec(word(), 3)
    }

    proptest! {
        #[test]
        fn what_is_compiled_and_what_is_looked_up_are_the_ranges(
            ranges in proptest::collection::vec((row(), row()), 0..12),
            rows in proptest::collection::vec(row(), 50),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(a, b)| if a <= b { (a, b) } else { (b, a) }).collect();
            let set = Set::new(ranges.clone());
            for row in rows {
                let expected = ranges.iter().any(|(first, last)| *first <= row && row <= *last);
                prop_assert_eq!(set.contains(&row), expected);
                prop_assert_eq!(compiled(&set, &row), expected, "{:?} in {:?}", row, set);
            }
        }
    }

    #[test]
    fn neighbours_become_one_range() {
        let ports = Set::new((1000..3000).map(|port| (vec![port], vec![port])).collect());
        assert_eq!(outcomes(&ports.ranges).len(), 3);
        assert!(compiled(&ports, &[1000]) && compiled(&ports, &[2999]));
        assert!(!compiled(&ports, &[999]) && !compiled(&ports, &[3000]));
    }
}
