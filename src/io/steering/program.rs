//! The program: from a datagram to the socket of the shard that owns its Call-ID.
//!
//! It reads of a message what [`sip::Message`] reads (RFC 3261 §7.3.1, §20.8): the first line whose name is `Call-ID` or `i` in any
//! case, blanks around the colon, a value that may begin in a folded line; and computes [`agent::ShardHash`]. It gives up, and so
//! leaves the choice to the kernel, where a message is out of the ordinary: there is much before its Call-ID, or that is long, has
//! blanks in it or ends in a fold. Where it selects, user space says the same of every message that it parses; of others it
//! may say anything, for nobody owns them.
//!
//! The verifier walks every way through every turn of a loop, and knows two ways for one where all that matters is the same. So a place that was
//! found is written to the map and read from there: all places are one to it then. And where a message ends is no condition of the loop, but an
//! empty line behind it.

use super::assembler::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use super::assembler::{Assembler, Helper, If, Instruction, Label, Op, Register, Width};
use std::os::fd::BorrowedFd;

/// Octets of a datagram that are looked at. A message rarely has more before its Call-ID.
pub(super) const SCANNED: usize = 4096;

/// Octets of the longest Call-ID.
pub(super) const LONGEST: usize = 256;

/// The most blanks, line ends of folds included, before the colon, behind it, and behind the value.
pub(super) const BLANKS: usize = 16;

/// Octets of the scratch memory: what is scanned, room for what is read behind a place in it, and that place.
pub(super) const SCRATCH_OCTETS: usize = PLACE as usize + 8;
const PLACE: i16 = (SCANNED + LONGEST + 2 * BLANKS + STEP) as i16;

/// Numbers of the tally: datagrams whose owner was found, and others.
pub(super) const STEERED: u32 = 0;
pub(super) const LEFT: u32 = 1;
pub(super) const TALLIED: u32 = 2;

/// Steps of the scan: every word of what is scanned, and a line's begin every 32 octets.
const TRIPS: i32 = (SCANNED / STEP + SCANNED / 32) as i32;

/// Octets of a UDP header, where the datagram begins for the program.
const UDP_HEADER: i32 = 8;

/// Octets that are scanned at once, and those of a block of SipHash.
const STEP: usize = 8;

/// `len` of `struct sk_reuseport_md`.
const LENGTH: i16 = 16;

/// The verdict: the datagram is taken, by the socket selected or else by the kernel's choice (SK_PASS).
const TAKE: i32 = 1;

// On the stack.
const CONTEXT: i16 = -8;
const OCTETS: i16 = -16;
const VALUE: i16 = -24;
const KEY: i16 = -28;

/// Each octet `octet`.
const fn each(octet: u8) -> u64 {
    u64::from_le_bytes([octet; STEP])
}

/// The maps of a program.
#[derive(Clone, Copy)]
pub(super) struct Maps<'m> {
    /// The sockets of the listener by their shards' numbers.
    pub(super) sockets: BorrowedFd<'m>,
    /// One entry of [`SCRATCH_OCTETS`] for each processor.
    pub(super) scratch: BorrowedFd<'m>,
    /// Counts by [`STEERED`] and [`LEFT`] for each processor.
    pub(super) tally: BorrowedFd<'m>,
}

/// Writes the program for so many shards, whose owners are hashed by `key`.
pub(super) fn program(maps: Maps<'_>, key: (u64, u64), shards: u16) -> Vec<Instruction> {
    let mut asm = Assembler::default();
    let (named, leave, out) = (asm.label(), asm.label(), asm.label());
    copy(&mut asm, maps, leave, out);
    find_name(&mut asm, named, leave);
    asm.bind(named);
    find_value(&mut asm, leave);
    hash(&mut asm, key, leave);
    choose_shard(&mut asm, shards);
    check_end(&mut asm, leave);
    select(&mut asm, maps, leave, out);
    asm.bind(out);
    asm.set(R0, TAKE);
    asm.exit();
    asm.finish()
}

/// Copies what is looked at to the scratch memory, for a datagram need not lie in one piece. From here on R7 is that memory,
/// and R8 how many octets of it are the datagram's.
fn copy(asm: &mut Assembler, maps: Maps<'_>, leave: Label, out: Label) {
    asm.set(R6, R1);
    asm.store(Width::Double, R10, CONTEXT, R6);
    asm.set(R0, 0);
    asm.store(Width::Word, R10, KEY, R0);
    look_up(asm, maps.scratch);
    asm.jump_if(R0, If::Equal, 0, out);
    asm.set(R7, R0);

    let fits = asm.label();
    asm.load(Width::Word, R8, R6, LENGTH);
    asm.jump_if(R8, If::AtMost, UDP_HEADER, leave);
    asm.apply(Op::Sub, R8, UDP_HEADER);
    asm.jump_if(R8, If::AtMost, SCANNED as i32, fits);
    asm.set(R8, SCANNED as i32);
    asm.bind(fits);
    asm.set(R1, R6);
    asm.set(R2, UDP_HEADER);
    asm.set(R3, R7);
    asm.set(R4, R8);
    asm.call(Helper::SkbLoadBytes);
    asm.jump_if(R0, If::Differs, 0, leave);
    // Behind them an empty line begins: the scan ends there, and sees nothing of what former datagrams have left.
    asm.set(R1, R7);
    asm.apply(Op::Add, R1, R8);
    asm.set(R0, i32::from(b'\n'));
    asm.store(Width::Octet, R1, 0, R0);
    asm.set(R0, i32::from(b'\r'));
    asm.store(Width::Octet, R1, 1, R0);
    // A keep-alive; or line ends before the start-line, which would pass for the end of the headers.
    asm.load(Width::Octet, R0, R7, 0);
    asm.jump_if(R0, If::AtMost, i32::from(b'\r'), leave);
}

/// The entry for the key on the stack, or zero, in R0.
fn look_up(asm: &mut Assembler, map: BorrowedFd<'_>) {
    asm.set_map(R1, map);
    asm.set(R2, R10);
    asm.apply(Op::Add, R2, i32::from(KEY));
    asm.call(Helper::MapLookupElement);
}

/// Looks for a line feed in eight octets at a time, and behind each for the name. Goes on at `named` with the place behind it in R9.
fn find_name(asm: &mut Assembler, named: Label, leave: Label) {
    let (scan, line, other) = (asm.label(), asm.label(), asm.label());
    let (line_feeds, trips) = (R3, R6);
    asm.set_wide(line_feeds, each(b'\n'));
    asm.set(trips, 0);
    asm.set(R9, 0);
    forget(asm, leave);

    asm.bind(scan);
    asm.jump_if(trips, If::AtLeast, TRIPS, leave);
    asm.apply(Op::Add, trips, 1);
    asm.set(R1, R7);
    asm.apply(Op::Add, R1, R9);
    asm.load(Width::Double, R0, R1, 0);
    asm.apply(Op::Xor, R0, line_feeds);
    mark_below(asm, 1, R2, R0, R4);
    asm.jump_if(R2, If::Differs, 0, line);
    asm.apply(Op::Add, R9, STEP as i32);
    asm.bind(other);
    asm.jump_if(R9, If::Below, SCANNED as i32, scan);
    asm.jump(leave);

    asm.bind(line);
    bits_before(asm, R2, R4);
    count_octets(asm, R2, R4);
    asm.apply(Op::Add, R9, R2);
    asm.apply(Op::Add, R9, 1);
    forget(asm, leave);
    read_name(asm, named, leave, other);
}

/// Sets in `marks` the highest bit of the first octet of `word` that is below `bound`, which is at most 0x80. Those of octets behind it
/// may be wrong.
fn mark_below(asm: &mut Assembler, bound: u8, marks: Register, word: Register, scratch: Register) {
    asm.set(marks, word);
    asm.set_wide(scratch, each(bound));
    asm.apply(Op::Sub, marks, scratch);
    asm.set(scratch, word);
    asm.apply(Op::Xor, scratch, -1);
    asm.apply(Op::And, marks, scratch);
    asm.set_wide(scratch, each(0x80));
    asm.apply(Op::And, marks, scratch);
}

/// From marks, of which there are some, to all bits of the octets before the first.
fn bits_before(asm: &mut Assembler, marks: Register, scratch: Register) {
    asm.set(scratch, marks);
    asm.apply(Op::Negate, scratch, 0);
    asm.apply(Op::And, marks, scratch);
    asm.apply(Op::ShiftRight, marks, 7);
    asm.apply(Op::Sub, marks, 1);
}

/// From these bits to the number of octets: the sum of one bit of each, in the highest octet of a product.
fn count_octets(asm: &mut Assembler, bits: Register, scratch: Register) {
    asm.set_wide(scratch, each(1));
    asm.apply(Op::And, bits, scratch);
    asm.apply(Op::Mul, bits, scratch);
    asm.apply(Op::ShiftRight, bits, 56);
    // As the verifier does not see.
    asm.apply(Op::And, bits, STEP as i32 - 1);
}

/// Looks at the line that begins at R1, which is R9 octets from the begin.
fn read_name(asm: &mut Assembler, named: Label, leave: Label, other: Label) {
    let (long, compact) = (asm.label(), asm.label());
    asm.load(Width::Octet, R0, R1, 0);
    // An empty line: the headers end, and what the body says is no business of ours.
    asm.jump_if(R0, If::Equal, i32::from(b'\r'), leave);
    asm.apply(Op::And, R0, i32::from(!0x20u8));
    asm.jump_if(R0, If::Equal, i32::from(b'C'), long);
    asm.jump_if(R0, If::Differs, i32::from(b'I'), other);
    // The compact form stands alone.
    asm.load(Width::Octet, R0, R1, 1);
    for end in [b':', b' ', b'\t'] {
        asm.jump_if(R0, If::Equal, i32::from(end), compact);
    }
    asm.jump(other);
    asm.bind(compact);
    asm.apply(Op::Add, R9, 1);
    asm.jump(named);

    asm.bind(long);
    asm.load(Width::Double, R0, R1, 0);
    // Letters in any case; the hyphen as it is; of the octet behind the name nothing.
    const NAME: &[u8; STEP] = b"CALL-ID\0";
    asm.set_wide(R4, u64::from_le_bytes(NAME.map(|octet| if octet.is_ascii_alphabetic() { !0x20 } else { octet })));
    asm.apply(Op::And, R0, R4);
    asm.set_wide(R4, u64::from_le_bytes(*NAME));
    asm.jump_if(R0, If::Differs, R4, other);
    asm.apply(Op::Add, R9, NAME.len() as i32 - 1);
    asm.jump(named);
}

/// From the place behind the name to that of the value.
fn find_value(asm: &mut Assembler, leave: Label) {
    let (before_colon, colon, behind_colon, fold, value) =
        (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    forget(asm, leave);
    asm.set(R2, 0);
    asm.bind(before_colon);
    next_octet(asm, leave);
    asm.jump_if(R0, If::Equal, i32::from(b' '), before_colon);
    asm.jump_if(R0, If::Equal, i32::from(b'\t'), before_colon);
    asm.jump_if(R0, If::Equal, i32::from(b':'), colon);
    // Another header, of which it is the begin; or none at all.
    asm.jump(leave);

    asm.bind(colon);
    asm.apply(Op::Add, R9, R2);
    forget(asm, leave);
    asm.set(R2, 0);
    asm.bind(behind_colon);
    next_octet(asm, leave);
    for blank in [b' ', b'\t', b'\r'] {
        asm.jump_if(R0, If::Equal, i32::from(blank), behind_colon);
    }
    asm.jump_if(R0, If::Equal, i32::from(b'\n'), fold);
    asm.jump(value);
    // The value goes on in the next line if that begins with a blank; else it is empty.
    asm.bind(fold);
    next_octet(asm, leave);
    asm.jump_if(R0, If::Equal, i32::from(b' '), behind_colon);
    asm.jump_if(R0, If::Equal, i32::from(b'\t'), behind_colon);
    asm.jump(leave);

    asm.bind(value);
    asm.apply(Op::Sub, R2, 1);
    asm.apply(Op::Add, R9, R2);
    forget(asm, leave);
}

/// Lets the verifier forget where R9 is, but for its bound, and puts that place into R1.
fn forget(asm: &mut Assembler, leave: Label) {
    asm.store(Width::Word, R7, PLACE, R9);
    asm.load(Width::Word, R9, R7, PLACE);
    asm.jump_if(R9, If::AtLeast, SCANNED as i32, leave);
    asm.set(R1, R7);
    asm.apply(Op::Add, R1, R9);
}

/// Reads the octet that is R2 behind R1, and steps over it.
fn next_octet(asm: &mut Assembler, leave: Label) {
    asm.jump_if(R2, If::AtLeast, BLANKS as i32, leave);
    asm.set(R3, R1);
    asm.apply(Op::Add, R3, R2);
    asm.load(Width::Octet, R0, R3, 0);
    asm.apply(Op::Add, R2, 1);
}

/// SipHash-1-3 of the octets at R1 up to the first one that is no more than a blank; the hash is in R2 then, the octet's place in R6, how far it is
/// from the value's begin in R9.
fn hash(asm: &mut Assembler, key: (u64, u64), leave: Label) {
    let state @ [v0, v1, v2, v3] = [R2, R3, R4, R5];
    let (block, at) = (R0, R6);
    asm.store(Width::Double, R10, OCTETS, R8);
    asm.store(Width::Double, R10, VALUE, R9);
    asm.set(at, R1);
    asm.set_wide(v0, key.0 ^ 0x736f_6d65_7073_6575);
    asm.set_wide(v1, key.1 ^ 0x646f_7261_6e64_6f6d);
    asm.set_wide(v2, key.0 ^ 0x6c79_6765_6e65_7261);
    asm.set_wide(v3, key.1 ^ 0x7465_6462_7974_6573);
    asm.set(R9, 0);

    let (next, last) = (asm.here(), asm.label());
    asm.jump_if(R9, If::AtLeast, LONGEST as i32, leave);
    asm.set(R1, at);
    asm.apply(Op::Add, R1, R9);
    asm.load(Width::Double, block, R1, 0);
    mark_below(asm, b' ' + 1, R1, block, R8);
    asm.jump_if(R1, If::Differs, 0, last);
    compress(asm, state, block);
    asm.apply(Op::Add, R9, STEP as i32);
    asm.jump(next);

    asm.bind(last);
    bits_before(asm, R1, R8);
    asm.apply(Op::And, block, R1);
    count_octets(asm, R1, R8);
    asm.apply(Op::Add, R9, R1);
    asm.apply(Op::Add, at, R9);
    // The last block ends in the length.
    asm.set(R1, R9);
    asm.apply(Op::ShiftLeft, R1, 56);
    asm.apply(Op::Or, block, R1);
    compress(asm, state, block);
    asm.apply(Op::Xor, v2, 0xff);
    for _ in 0..3 {
        round(asm, state);
    }
    for v in [v1, v2, v3] {
        asm.apply(Op::Xor, v0, v);
    }
}

fn compress(asm: &mut Assembler, state: [Register; 4], block: Register) {
    asm.apply(Op::Xor, state[3], block);
    round(asm, state);
    asm.apply(Op::Xor, state[0], block);
}

fn round(asm: &mut Assembler, [v0, v1, v2, v3]: [Register; 4]) {
    mix(asm, v0, v1, 13);
    asm.rotate(v0, 32, R1);
    mix(asm, v2, v3, 16);
    mix(asm, v0, v3, 21);
    mix(asm, v2, v1, 17);
    asm.rotate(v2, 32, R1);
}

fn mix(asm: &mut Assembler, a: Register, b: Register, left: i32) {
    asm.apply(Op::Add, a, b);
    asm.rotate(b, left, R1);
    asm.apply(Op::Xor, b, a);
}

/// From the hash in R2 to the owner's number, on the stack.
fn choose_shard(asm: &mut Assembler, shards: u16) {
    asm.apply(Op::ShiftRight, R2, 32);
    asm.apply(Op::Mul, R2, i32::from(shards));
    asm.apply(Op::ShiftRight, R2, 32);
    asm.store(Width::Word, R10, KEY, R2);
}

/// Goes on only where the value ends at R6: blanks at most, a line end, and another line, all of which was received.
fn check_end(asm: &mut Assembler, leave: Label) {
    let (blank, line_end) = (asm.label(), asm.label());
    asm.set(R1, R6);
    asm.set(R2, 0);
    asm.bind(blank);
    next_octet(asm, leave);
    asm.jump_if(R0, If::Equal, i32::from(b' '), blank);
    asm.jump_if(R0, If::Equal, i32::from(b'\t'), blank);
    asm.jump_if(R0, If::Equal, i32::from(b'\r'), line_end);
    // It has another word, or a control in it.
    asm.jump(leave);

    asm.bind(line_end);
    asm.load(Width::Octet, R0, R3, 1);
    asm.jump_if(R0, If::Differs, i32::from(b'\n'), leave);
    // It may be folded.
    asm.load(Width::Octet, R0, R3, 2);
    asm.jump_if(R0, If::Equal, i32::from(b' '), leave);
    asm.jump_if(R0, If::Equal, i32::from(b'\t'), leave);
    // The last octet that was looked at is this far from the datagram's begin.
    asm.load(Width::Double, R1, R10, VALUE);
    asm.apply(Op::Add, R1, R9);
    asm.apply(Op::Add, R1, R2);
    asm.apply(Op::Add, R1, 1);
    asm.load(Width::Double, R2, R10, OCTETS);
    asm.jump_if(R1, If::AtLeast, R2, leave);
}

/// Selects the owner's socket, and counts that; at `leave` it counts that none is selected.
fn select(asm: &mut Assembler, maps: Maps<'_>, leave: Label, out: Label) {
    let count = asm.label();
    asm.load(Width::Double, R1, R10, CONTEXT);
    asm.set_map(R2, maps.sockets);
    asm.set(R3, R10);
    asm.apply(Op::Add, R3, i32::from(KEY));
    asm.set(R4, 0);
    asm.call(Helper::SkSelectReuseport);
    // It may have been closed.
    asm.jump_if(R0, If::Differs, 0, leave);
    asm.set(R0, STEERED as i32);
    asm.jump(count);
    asm.bind(leave);
    asm.set(R0, LEFT as i32);
    asm.bind(count);
    asm.store(Width::Word, R10, KEY, R0);
    look_up(asm, maps.tally);
    asm.jump_if(R0, If::Equal, 0, out);
    asm.load(Width::Double, R1, R0, 0);
    asm.apply(Op::Add, R1, 1);
    asm.store(Width::Double, R0, 0, R1);
}
