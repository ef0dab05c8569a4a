//! The assembler: instructions and labels in, a program out.
//!
//! A conditional jump reaches 255 instructions; where its target is farther, an unconditional one, which reaches
//! everything, is put behind it. That moves what follows, so lengths are settled by going over them until none grows.

use super::{Instruction, MAX_INSTRUCTIONS, op};

/// A place in a program, to jump to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Label(usize);

/// What a conditional jump asks of `A`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Condition {
    /// `A == k`.
    Equal,
    /// `A >= k`, unsigned.
    AtLeast,
    /// `A & k != 0`.
    AnyBit,
}

/// A program is longer than the kernel takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct TooLong {
    /// Its length.
    pub(in super::super) instructions: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Plain(u16, u32),
    Jump(Label),
    If(Condition, u32, Label, Label),
}

/// A program that is being written.
#[derive(Default)]
pub(in super::super) struct Assembler {
    steps: Vec<Step>,
    /// The step that each label stands before.
    labels: Vec<Option<usize>>,
}

impl Assembler {
    /// A label that stands nowhere yet.
    pub(in super::super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label stands here: before the next instruction.
    pub(in super::super) fn here(&mut self, label: Label) {
        debug_assert!(self.labels[label.0].is_none(), "a label stands in one place");
        self.labels[label.0] = Some(self.steps.len());
    }

    /// Any instruction but a jump.
    pub(in super::super) fn put(&mut self, code: u16, k: u32) {
        self.steps.push(Step::Plain(code, k));
    }

    /// Goes on at `to`, which must stand farther down.
    pub(in super::super) fn jump(&mut self, to: Label) {
        self.steps.push(Step::Jump(to));
    }

    /// Goes on at `yes` or `no`, which must stand farther down.
    pub(in super::super) fn branch(&mut self, condition: Condition, k: u32, yes: Label, no: Label) {
        self.steps.push(Step::If(condition, k, yes, no));
    }

    /// Goes on at `yes` if the condition holds, else with the next instruction.
    pub(in super::super) fn branch_if(&mut self, condition: Condition, k: u32, yes: Label) {
        let next = self.label();
        self.branch(condition, k, yes, next);
        self.here(next);
    }

    /// Goes on at `no` if the condition does not hold, else with the next instruction.
    pub(in super::super) fn branch_unless(&mut self, condition: Condition, k: u32, no: Label) {
        let next = self.label();
        self.branch(condition, k, next, no);
        self.here(next);
    }

    /// The program.
    ///
    /// # Errors
    /// When it is longer than the kernel takes.
    pub(in super::super) fn finish(self) -> Result<Vec<Instruction>, TooLong> {
        // Where each step begins, the end included. Grows until it fits itself.
        let mut starts: Vec<usize> = (0..=self.steps.len()).collect();
        loop {
            let mut next = Vec::with_capacity(starts.len());
            let mut at = 0;
            for (index, step) in self.steps.iter().enumerate() {
                next.push(at);
                at += self.len(step, starts[index], &starts);
            }
            next.push(at);
            if next == starts {
                break;
            }
            starts = next;
        }
        let instructions = starts[self.steps.len()];
        if instructions > MAX_INSTRUCTIONS {
            return Err(TooLong { instructions });
        }
        let mut program = Vec::with_capacity(instructions);
        for (step, start) in self.steps.iter().zip(&starts) {
            self.encode(step, *start, &starts, &mut program);
        }
        Ok(program)
    }

    fn target(&self, label: Label, starts: &[usize]) -> usize {
        debug_assert!(self.labels[label.0].is_some(), "a label that is jumped to stands somewhere");
        starts[self.labels[label.0].unwrap_or(self.steps.len())]
    }

    /// How many instructions are between the one after `from` and the label.
    fn distance(&self, from: usize, label: Label, starts: &[usize]) -> usize {
        let target = self.target(label, starts);
        debug_assert!(target > from, "jumps go forward");
        target.saturating_sub(from + 1)
    }

    fn len(&self, step: &Step, start: usize, starts: &[usize]) -> usize {
        match *step {
            Step::Plain(..) | Step::Jump(_) => 1,
            Step::If(_, _, yes, no) => {
                let far = |label| usize::from(self.distance(start, label, starts) > usize::from(u8::MAX));
                1 + far(yes) + far(no)
            }
        }
    }

    fn encode(&self, step: &Step, start: usize, starts: &[usize], program: &mut Vec<Instruction>) {
        let plain = |code, k| Instruction { code, yes: 0, no: 0, k };
        let jump = |from, to| plain(op::JUMP, self.distance(from, to, starts) as u32);
        match *step {
            Step::Plain(code, k) => program.push(plain(code, k)),
            Step::Jump(to) => program.push(jump(start, to)),
            Step::If(condition, k, yes, no) => {
                let code = match condition {
                    Condition::Equal => op::IF_EQUAL,
                    Condition::AtLeast => op::IF_AT_LEAST,
                    Condition::AnyBit => op::IF_ANY_BIT,
                };
                let mut behind = Vec::new();
                let mut skip = |label| {
                    let distance = self.distance(start, label, starts);
                    u8::try_from(distance).unwrap_or_else(|_| {
                        behind.push(jump(start + 1 + behind.len(), label));
                        behind.len() as u8 - 1
                    })
                };
                let (yes, no) = (skip(yes), skip(no));
                program.push(Instruction { code, yes, no, k });
                program.append(&mut behind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{Machine, run};
    use super::*;

    /// A program that gives 1 if `A`, the packet's first word, is `k`, with so much between question and answers.
    fn question(k: u32, between: usize) -> Assembler {
        let mut asm = Assembler::default();
        let (yes, no) = (asm.label(), asm.label());
        asm.put(op::LOAD, 0);
        asm.branch(Condition::Equal, k, yes, no);
        for _ in 0..between {
            asm.put(op::RETURN, 9);
        }
        asm.here(yes);
        asm.put(op::RETURN, 1);
        asm.here(no);
        asm.put(op::RETURN, 0);
        asm
    }

    #[test]
    fn near_and_far_jumps_arrive() {
        for between in [0, 1, 252, 253, 254, 255, 256, 257, 300, 4000] {
            let program = question(0x0102_0304, between).finish().unwrap();
            let answer = |bytes: [u8; 4]| run(&program, &Machine::new(&bytes));
            assert_eq!((answer([1, 2, 3, 4]), answer([1, 2, 3, 5])), (1, 0), "{between} between");
        }
    }

    /// Each jump that grows may push another one's target out of reach.
    #[test]
    fn jumps_that_push_each_other_apart_arrive_too() {
        let mut asm = Assembler::default();
        let labels: Vec<_> = (0..300).map(|_| asm.label()).collect();
        asm.put(op::LOAD, 0);
        for (k, label) in labels.iter().enumerate() {
            asm.branch_if(Condition::Equal, k as u32, *label);
        }
        asm.put(op::RETURN, u32::MAX);
        for (k, label) in labels.iter().enumerate() {
            asm.here(*label);
            asm.put(op::RETURN, k as u32);
        }
        let program = asm.finish().unwrap();
        for k in [0_u32, 1, 40, 150, 298, 299, 300, 5000] {
            let expected = if k < 300 { k } else { u32::MAX };
            assert_eq!(run(&program, &Machine::new(&k.to_be_bytes())), expected);
        }
    }

    #[test]
    fn a_program_that_is_too_long_says_how_long() {
        assert!(question(0, MAX_INSTRUCTIONS - 6).finish().is_ok());
        let error = question(0, MAX_INSTRUCTIONS).finish().unwrap_err();
        assert_eq!(error.instructions, MAX_INSTRUCTIONS + 6);
    }
}
