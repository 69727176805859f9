//! An assembler for eBPF (RFC 9669): typed operands, and jumps to labels.
//!
//! It knows the instructions that the program needs and no more. It checks no program: the kernel does.

use std::os::fd::{AsRawFd, BorrowedFd};

/// An instruction as the kernel takes it (`struct bpf_insn` of linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// The destination in the lower half, the source in the upper one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// R0 has what a helper returns and the verdict; a call destroys R1 to R5, which are its arguments; R10 is the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// What an instruction works with beside its destination.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Register(Register),
    /// Extended by its sign to 64 bits.
    Immediate(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Self::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(immediate: i32) -> Self {
        Self::Immediate(immediate)
    }
}

/// Octets that a load or a store moves.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Width {
    Word = 0x00,
    Octet = 0x10,
    Double = 0x18,
}

/// What is done with 64 bits of a register.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Negate = 0x80,
    Xor = 0xa0,
    Set = 0xb0,
}

/// When a jump is taken; all without signs.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum If {
    Always = 0x00,
    Equal = 0x10,
    AtLeast = 0x30,
    Differs = 0x50,
    Below = 0xa0,
    AtMost = 0xb0,
}

/// What the kernel does for a program (`enum bpf_func_id`).
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Helper {
    MapLookupElement = 1,
    SkbLoadBytes = 26,
    SkSelectReuseport = 82,
}

// Classes of instructions, and their bits.
const LOAD_WIDE: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const JUMP: u8 = 0x05;
const ALU: u8 = 0x07;
const BY_REGISTER: u8 = 0x08;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;

/// As the source of a wide load: the immediate is a map's descriptor (BPF_PSEUDO_MAP_FD).
const MAP: u8 = 1;

/// A place in the program, which may be bound after the jumps to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program that is being written.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    written: Vec<Instruction>,
    /// Where each label is, once it is bound.
    labels: Vec<Option<usize>>,
    /// Jumps, with where they lead.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub(super) fn set(&mut self, destination: Register, value: impl Into<Operand>) {
        self.apply(Op::Set, destination, value);
    }

    pub(super) fn set_wide(&mut self, destination: Register, value: u64) {
        self.wide(destination, 0, value);
    }

    /// The map's address, which the kernel puts there in place of its descriptor.
    pub(super) fn set_map(&mut self, destination: Register, map: BorrowedFd<'_>) {
        self.wide(destination, MAP, map.as_raw_fd() as u64);
    }

    fn wide(&mut self, destination: Register, source: u8, value: u64) {
        self.write(LOAD_WIDE, destination as u8 | source << 4, 0, value as i32);
        self.write(0, 0, 0, (value >> 32) as i32);
    }

    /// `destination = destination op operand`.
    pub(super) fn apply(&mut self, op: Op, destination: Register, operand: impl Into<Operand>) {
        self.with_operand(ALU | op as u8, destination, operand.into());
    }

    /// Turns the bits around by `left` places. There is no such instruction.
    pub(super) fn rotate(&mut self, destination: Register, left: i32, scratch: Register) {
        self.set(scratch, destination);
        self.apply(Op::ShiftLeft, destination, left);
        self.apply(Op::ShiftRight, scratch, 64 - left);
        self.apply(Op::Or, destination, scratch);
    }

    pub(super) fn load(&mut self, width: Width, destination: Register, from: Register, offset: i16) {
        self.write(LOAD | width as u8, destination as u8 | (from as u8) << 4, offset, 0);
    }

    pub(super) fn store(&mut self, width: Width, to: Register, offset: i16, source: Register) {
        self.write(STORE | width as u8, to as u8 | (source as u8) << 4, offset, 0);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.jump_if(Register::R0, If::Always, 0, to);
    }

    /// Jumps if the 64 bits of `left` stand so to `right`.
    pub(super) fn jump_if(&mut self, left: Register, test: If, right: impl Into<Operand>, to: Label) {
        self.jumps.push((self.written.len(), to));
        self.with_operand(JUMP | test as u8, left, right.into());
    }

    pub(super) fn call(&mut self, helper: Helper) {
        self.write(JUMP | CALL, 0, 0, helper as i32);
    }

    pub(super) fn exit(&mut self) {
        self.write(JUMP | EXIT, 0, 0, 0);
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here: before what is written next.
    pub(super) fn bind(&mut self, label: Label) {
        let before = self.labels[label.0].replace(self.written.len());
        debug_assert!(before.is_none(), "a label is bound once");
    }

    /// A label that is here.
    pub(super) fn here(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    /// The program, its jumps resolved.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        for (at, Label(label)) in self.jumps {
            let to = self.labels[label].expect("every label that is jumped to is bound");
            // Counted from the instruction behind the jump.
            let distance = to as isize - at as isize - 1;
            self.written[at].offset = distance.try_into().expect("the program is far shorter than a jump reaches");
        }
        self.written
    }

    fn with_operand(&mut self, code: u8, destination: Register, operand: Operand) {
        match operand {
            Operand::Register(source) => {
                self.write(code | BY_REGISTER, destination as u8 | (source as u8) << 4, 0, 0);
            }
            Operand::Immediate(immediate) => self.write(code, destination as u8, 0, immediate),
        }
    }

    fn write(&mut self, code: u8, registers: u8, offset: i16, immediate: i32) {
        self.written.push(Instruction { code, registers, offset, immediate });
    }
}

#[cfg(test)]
mod tests {
    use super::Register::{R0, R1, R2, R10};
    use super::*;

    /// The octets of a program, by `write`.
    fn octets(write: impl FnOnce(&mut Assembler)) -> Vec<[u8; 8]> {
        let mut asm = Assembler::default();
        write(&mut asm);
        let octets = |i: Instruction| {
            let ([o0, o1], [i0, i1, i2, i3]) = (i.offset.to_le_bytes(), i.immediate.to_le_bytes());
            [i.code, i.registers, o0, o1, i0, i1, i2, i3]
        };
        asm.finish().into_iter().map(octets).collect()
    }

    #[test]
    fn instructions_are_those_of_the_standard() {
        // RFC 9669 §4 and §5.
        let program = octets(|asm| {
            asm.set(R0, 1);
            asm.set(R1, R2);
            asm.apply(Op::Add, R2, -4);
            asm.apply(Op::Xor, R2, R10);
            asm.apply(Op::Negate, R1, 0);
            asm.load(Width::Octet, R0, R1, 2);
            asm.load(Width::Word, R0, R1, 16);
            asm.load(Width::Double, R0, R1, 8);
            asm.store(Width::Word, R10, -4, R0);
            asm.call(Helper::SkSelectReuseport);
            asm.exit();
            asm.set_wide(R1, 0x0123_4567_89ab_cdef);
        });
        let expected = [
            [0xb7, 0x00, 0, 0, 1, 0, 0, 0],
            [0xbf, 0x21, 0, 0, 0, 0, 0, 0],
            [0x07, 0x02, 0, 0, 0xfc, 0xff, 0xff, 0xff],
            [0xaf, 0xa2, 0, 0, 0, 0, 0, 0],
            [0x87, 0x01, 0, 0, 0, 0, 0, 0],
            [0x71, 0x10, 2, 0, 0, 0, 0, 0],
            [0x61, 0x10, 16, 0, 0, 0, 0, 0],
            [0x79, 0x10, 8, 0, 0, 0, 0, 0],
            [0x63, 0x0a, 0xfc, 0xff, 0, 0, 0, 0],
            [0x85, 0x00, 0, 0, 82, 0, 0, 0],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
            [0x18, 0x01, 0, 0, 0xef, 0xcd, 0xab, 0x89],
            [0x00, 0x00, 0, 0, 0x67, 0x45, 0x23, 0x01],
        ];
        assert_eq!(program, expected);
    }

    #[test]
    fn jumps_lead_to_their_labels_forwards_and_backwards() {
        let program = octets(|asm| {
            let again = asm.here();
            let out = asm.label();
            asm.jump_if(R1, If::AtLeast, R2, out);
            asm.set_wide(R0, 7);
            asm.jump_if(R0, If::Below, 9, again);
            asm.jump(again);
            asm.bind(out);
            asm.exit();
        });
        // A wide load is two instructions long.
        assert_eq!(program[0], [0x3d, 0x21, 4, 0, 0, 0, 0, 0]);
        assert_eq!(program[3], [0xa5, 0, 0xfc, 0xff, 9, 0, 0, 0]);
        assert_eq!(program[4], [0x05, 0, 0xfb, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    #[should_panic(expected = "every label that is jumped to is bound")]
    fn a_jump_to_nowhere_is_found_out() {
        octets(|asm| {
            let nowhere = asm.label();
            asm.jump(nowhere);
        });
    }
}
