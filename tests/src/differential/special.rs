//! Instructions whose operands lie where no format says: pairs of address and length, implied registers, targets.
//!
//! What is compared of instructions whose results two machines need not share:
//!
//! | instruction | compared | afterwards |
//! |---|---|---|
//! | STCK, STCKF, STCKE | condition code, exceptions | the stored bytes are cleared |
//! | STFLE | condition code, exceptions | the stored bytes and register 0 are cleared |
//! | ECTG | registers 1 and R3, exceptions | register 0 is cleared |
//! | ECAG, EPSW | exceptions | R1 (and R2) are cleared |
//! | SVC | close(-1): registers | nothing |
//! | CSST of a word | all but R3, of which qemu 7.2 loads the wrong half | it is cleared |
//! | MVST, SRST, SRSTU, CLST | everything but a register that the last unit leaves alone | it is cleared |
//!
//! Where the manual says that results are unpredictable, no such operands are made: tables and operands that
//! overlap where bytes are used after they were stored, accesses that a condition forbids, parts of decimal operands
//! that are not used.

use super::encode::Fields;
use super::generate::{Build, POOL};
use super::rng::Rng;
use super::sequence::{Pooled, To};
use super::values::{self, Class, DATA_BYTES, IMAGE_BYTES};
use racewalk_isa::s390x;
use racewalk_isa::s390x::decode::{Format, Row};

fn none() -> Fields {
    Fields::default()
}

/// A length for a long operand.
fn length(r: &mut Rng, unit: usize) -> u64 {
    let n = match r.below(8) {
        0 => 0,
        1..5 => r.below(24),
        5 | 6 => r.below(300),
        _ => r.below(700),
    };
    let n = n / unit * unit;
    // A length that is no multiple of the character's is an exception of its own.
    if unit > 1 && r.chance(3) { n as u64 + 1 } else { n as u64 }
}

/// Builds the item of `row` and says which piece is under test.
pub fn build(b: &mut Build, row: &'static Row) -> usize {
    match row.name {
        "ex" | "exrl" => return execute(b, row),
        "mvcl" | "clcl" => {
            let (r1, r2) = (b.pair(), if b.r.chance(4) { 0 } else { b.pair() });
            let r2 = if r2 == 0 { r1 } else { r2 };
            let (junk, pad) = (b.r.next() << 32, b.r.pick(&[0u64, 0, 0x40, 0xff]) << 24);
            long_pair(b, (r1, r2), 1, (junk | b_byte(junk) << 24, junk | pad), false);
            b.units = true;
            b.push(row.name, Fields { r1, r2, ..none() }, To::None);
        }
        "mvcle" | "clcle" | "mvclu" | "clclu" => {
            let unit = if row.name.ends_with('u') { 2 } else { 1 };
            let (r1, r3) = (b.pair(), b.pair());
            long_pair(b, (r1, r3), unit, (0, 0), row.name.starts_with("mv"));
            let d = b.r.pick(&[0, 0, 1, 2, 0x40, 0xff, 0x100, 0xabc]);
            // Registers that may be anything give the padding, but none that a unit changes.
            let base = if b.r.chance(50) { 0 } else { b.fresh() };
            return again(b, row, Fields { r1, r3, b: base, d, ..none() });
        }
        "mvst" | "clst" | "srst" | "srstu" => return string(b, row),
        "cksm" => {
            let r2 = b.pair();
            let at = b.place(Class::Bytes);
            let (n, sum) = (length(b.r, 1), values::integer(b.r));
            b.address(r2, at);
            b.constant(r2 + 1, n);
            let r1 = b.fresh();
            b.constant(r1, sum);
            return again(b, row, Fields { r1, r2, ..none() });
        }
        "tre" => {
            let r1 = b.pair();
            let r2 = b.fresh();
            let table = b.place(Class::Table);
            let at = b.apart(Class::Bytes, table, 1500);
            let (n, test) = (length(b.r, 1), b.r.next() & 0xff | values::integer(b.r) << 8);
            b.address(r1, at);
            b.constant(r1 + 1, n);
            b.address(r2, table);
            b.constant(0, test);
            return again(b, row, Fields { r1, r2, ..none() });
        }
        "troo" | "trot" | "trto" | "trtt" => {
            let from = if row.name.starts_with("tro") { 1 } else { 2 };
            return translate(b, row, from);
        }
        "trte" | "trtre" => {
            let m = b.r.below(16) as u8 & 14;
            b.used |= 2;
            let from = if m & 8 != 0 { 2 } else { 1 };
            let r1 = b.pair();
            let r2 = b.fresh();
            let class = if from == 2 { Class::Integer } else { Class::Table };
            let (at, table) = (b.place(class), b.place(Class::Table) & !7);
            let n = length(b.r, from);
            b.address(r1, at);
            b.constant(r1 + 1, n);
            b.address(1, table);
            return again(b, row, Fields { r1, r2, r3: m, ..none() });
        }
        "cu12" | "cu14" | "cu21" | "cu24" | "cu41" | "cu42" => {
            let class = match &row.name[2..3] {
                "1" => Class::Utf8,
                "2" => Class::Utf16,
                _ => Class::Utf32,
            };
            let (r1, r2) = (b.pair(), b.pair());
            // Whether what is too short for a character is accessed is unpredictable.
            let from = b.place(class).clamp(0, IMAGE_BYTES as i32 - 4);
            let to = b.apart(Class::Bytes, from, 1300);
            let (room, n) = (length(b.r, 1), length(b.r, 1));
            b.address(r1, to);
            b.constant(r1 + 1, room);
            b.address(r2, from);
            b.constant(r2 + 1, n);
            let m = if row.format == Format::RRF { b.r.below(2) as u8 } else { 0 };
            return again(b, row, Fields { r1, r2, r3: m, ..none() });
        }
        "ed" | "edmk" => {
            let (to, from) = (b.place(Class::Pattern), b.place(Class::Decimal));
            if row.name == "edmk" {
                b.used |= 2;
            }
            let (base, _, d) = b.storage(to, false, false);
            let (b2, _, d2) = b.storage(from, false, false);
            let i = b.r.pick(&[0, 3, 5, 9, 11, 15, 20, 31]);
            b.push(row.name, Fields { b: base, d, b2, d2, i, ..none() }, To::None);
        }
        "cs" | "csy" | "csg" | "cds" | "cdsy" | "cdsg" => swap(b, row),
        "csst" => return swap_and_store(b),
        "plo" => locked(b),
        "bassm" | "bsm" => {
            let r1 = b.r.below(16) as u8;
            let r2 = if b.r.chance(15) { 0 } else { b.fresh() };
            if r2 != 0 {
                b.label(r2);
                b.push("aghi", Fields { r1: r2, i: 1, ..none() }, To::None);
            }
            b.push(row.name, Fields { r1, r2, ..none() }, To::None);
        }
        "spm" => {
            // Fixed-point overflow stays masked: qemu 7.2 takes no such exception.
            let r1 = b.r.below(16) as u8;
            if b.r.chance(50) {
                let v = values::integer(b.r);
                b.constant(r1, v);
            }
            b.push("nilh", Fields { r1, i: 0xf7ff, ..none() }, To::None);
            b.push("spm", Fields { r1, ..none() }, To::None);
        }
        "sfpc" | "sfasr" => {
            let r1 = b.fresh();
            let v = (values::fpc(b.r) | if b.r.chance(4) { 1 << b.r.below(32) } else { 0 }) as u64;
            // qemu 7.2 aborts when SFASR finds ones in the left half, which does not matter.
            let high = if row.name == "sfpc" { b.r.next() << 32 } else { 0 };
            b.constant(r1, v | high);
            b.push(row.name, Fields { r1, ..none() }, To::None);
        }
        "cebr" | "cdbr" | "cxbr" | "ceb" | "cdb" | "kebr" | "kdbr" | "kxbr" | "keb" | "kdb" => {
            b.plain(row);
            // qemu 7.2 drops the comparison, IEEE flags and all, when nothing asks for the condition code.
            let test = b.pieces.len() - 1;
            let r1 = b.fresh();
            b.push("ipm", Fields { r1, ..none() }, To::None);
            return test;
        }
        "tr" => {
            show_cc(b);
            b.plain(row);
        }
        "svc" => {
            b.constant(2, u64::MAX);
            b.push("svc", Fields { i: 6, ..none() }, To::None);
        }
        "stck" | "stckf" | "stcke" | "stfle" | "ectg" | "ecag" | "epsw" => return masked(b, row),
        _ => b.plain(row),
    }
    b.pieces.len() - 1
}

/// qemu 7.2 loses a condition code that nothing has asked for yet at TR and at faults of STORE CLOCK.
fn show_cc(b: &mut Build) {
    let r1 = b.fresh();
    b.push("ipm", Fields { r1, ..none() }, To::None);
}

fn b_byte(v: u64) -> u64 {
    v >> 40 & 0xff
}

/// Two operands, each an address and a length in a pair; `high` are the other bits of the length registers.
fn long_pair(b: &mut Build, (r1, r2): (u8, u8), unit: usize, high: (u64, u64), move_extended: bool) {
    let c = Class::Bytes;
    let x = b.place(c);
    // Near each other, overlapping, or elsewhere.
    let y = match b.r.chance(40) {
        // The extended forms do not look for destructive overlap.
        _ if move_extended => b.apart(c, x, 1300),
        true => x + b.r.below(600) as i32 - 300,
        false => b.place(c),
    };
    let y = if unit == 2 { y & !1 } else { y };
    let n = length(b.r, unit);
    let m = if b.r.chance(40) { n } else { length(b.r, unit) };
    b.address(r1, x);
    b.constant(r1 + 1, n | high.0);
    if r2 != r1 {
        b.address(r2, y);
        b.constant(r2 + 1, m | high.1);
    }
}

/// The instruction, and a branch back to it while the condition code is 3.
fn again(b: &mut Build, row: &'static Row, f: Fields) -> usize {
    b.units = true;
    b.push(row.name, f, To::None);
    b.push("brc", Fields { r1: 1, ..none() }, To::Back);
    b.pieces.len() - 2
}

fn string(b: &mut Build, row: &'static Row) -> usize {
    let (r1, r2) = (b.fresh(), b.fresh());
    let c = b.r.pick(&[0u64, 0, 1, 2, 0x40, 0xff]);
    let c = if row.name == "srstu" { c * 0x101 } else { c };
    // Bits that must be zero, and bits that are ignored.
    let bad = if b.r.chance(2) { 0x0010_0000 } else { 0 };
    let junk = b.r.next() << 32;
    let from = b.place(Class::Bytes);
    b.address(r2, from);
    let to = match row.name {
        "srst" | "srstu" => from + length(b.r, if row.name == "srstu" { 2 } else { 1 }) as i32,
        "clst" if b.r.chance(30) => from,
        "mvst" => b.apart(Class::Bytes, from, 800),
        _ => b.place(Class::Bytes),
    };
    b.address(r1, to);
    b.constant(0, c | bad | junk);
    let test = again(b, row, Fields { r1, r2, ..none() });
    // A register that the last unit leaves alone holds what the units before made of it.
    let zero = b.fresh();
    b.push("lghi", Fields { r1: zero, ..none() }, To::None);
    let clear = |b: &mut Build, r1, m| b.push("locgr", Fields { r1, r2: zero, r3: m, ..none() }, To::None);
    clear(b, r2, if row.name == "clst" { 8 } else { 15 });
    if row.name == "clst" {
        clear(b, r1, 8);
    }
    test
}

fn translate(b: &mut Build, row: &'static Row, from: usize) -> usize {
    b.used |= 2;
    let r1 = b.pair();
    let r2 = b.fresh();
    // Two-byte characters must be small: the table has to be within the data area.
    let class = if from == 2 { Class::Utf16 } else { Class::Table };
    let (source, table) = (b.place(class), b.r.below(0x800) as i32 & !7);
    let (n, test) = (length(b.r, from).min(120), values::integer(b.r));
    // The table of small characters ends before 0xd00.
    let to = loop {
        let to = b.apart(Class::Bytes, source, 300);
        if !(0..0xd00).contains(&to) {
            break to;
        }
    };
    b.address(r1, to);
    b.constant(r1 + 1, n);
    b.address(r2, source);
    // The rightmost bits of the table's address are ignored.
    let junk = if b.r.chance(10) { b.r.below(8) as i32 } else { 0 };
    b.address(1, table + junk);
    b.constant(0, test);
    let m = b.r.below(2) as u8;
    again(b, row, Fields { r1, r2, r3: m, ..none() })
}

/// COMPARE AND SWAP: in half of the cases what is compared with is what is there.
fn swap(b: &mut Build, row: &'static Row) {
    let long = row.format == Format::RSY;
    let at = b.place(Class::Integer);
    let (base, _, d) = b.storage(at, false, long);
    let double = row.name.starts_with("cd");
    let (r1, r3) = if double { (b.pair(), b.pair()) } else { (b.fresh(), b.r.below(16) as u8) };
    let odd = (double && b.r.chance(2)) as u8;
    if b.r.chance(50) {
        let r3 = r1 + double as u8;
        b.push(
            if row.name.ends_with('g') { "lmg" } else { "lmy" },
            Fields { r1, r3, b: base, d, ..none() },
            To::None,
        );
    }
    b.push(row.name, Fields { r1, r3: r3 | odd, b: base, d, ..none() }, To::None);
}

/// An operand of `size` bytes: aligned as it must be, but for few.
fn aligned(b: &mut Build, size: i32) -> i32 {
    let at = b.place(Class::Integer);
    if b.r.chance(96) { at & -size } else { at }
}

/// COMPARE AND SWAP AND STORE: function code and storage characteristic in register 0, the values behind register 1;
/// in half of the cases what is compared with is what is there.
fn swap_and_store(b: &mut Build) -> usize {
    // qemu 7.2 aborts when one byte is to be stored.
    let (function, characteristic) = (b.r.below(3) as i32, 1 + b.r.below(4) as i32);
    let bad = if b.r.chance(3) { b.r.pick(&[3u64, 0x500, 0xff]) } else { 0 };
    b.used |= 3;
    let at = aligned(b, 4 << function);
    let stored = aligned(b, 1 << characteristic);
    let list = b.place(Class::Integer) & !15;
    let (base, _, d) = b.storage(at & !1, false, false);
    let (b2, _, d2) = b.storage(stored, false, false);
    let r3 = if function == 2 { b.pair() + b.r.chance(2) as u8 } else { b.fresh() };
    b.address(1, list);
    if b.r.chance(50) {
        let load = if function == 0 { "ly" } else { "lg" };
        b.push(load, Fields { r1: r3, b: base, d, ..none() }, To::None);
        if function == 2 {
            b.push("lg", Fields { r1: r3 | 1, b: base, d: (d + 8) & 0xfff, ..none() }, To::None);
        }
    }
    let junk = b.r.next() << 32;
    b.constant(0, junk | (characteristic << 8 | function) as u64 | bad);
    b.push("csst", Fields { r3, b: base, d, b2, d2, ..none() }, To::None);
    let test = b.pieces.len() - 1;
    if function == 0 {
        b.push("lghi", Fields { r1: r3, ..none() }, To::None);
    }
    test
}

/// PERFORM LOCKED OPERATION: function code in register 0, comparison and replacement in registers or in the parameter
/// list, which also holds addresses.
fn locked(b: &mut Build) {
    let function = b.r.below(24) as u64;
    let test = if b.r.chance(20) { 0x100 } else { 0 };
    b.used |= 3;
    let second = aligned(b, 8);
    let fourth = b.place(Class::Integer) & !7;
    let (base, _, d) = b.storage(second, false, false);
    let (b2, _, d2) = b.storage(fourth, false, false);
    let (r1, r3) = (b.pair(), b.pair());
    let odd = b.r.chance(2) as u8;
    b.constant(0, function | test);
    b.push("plo", Fields { r1: r1 | odd, r3, b: base, d, b2, d2, ..none() }, To::None);
}

/// Instructions whose results are cleared: see the table at the top.
fn masked(b: &mut Build, row: &'static Row) -> usize {
    let clear = |b: &mut Build, r1: u8| b.push("lghi", Fields { r1, ..none() }, To::None);
    match row.name {
        "ecag" => {
            let r1 = b.r.below(16) as u8;
            let d = b.r.below(256) as i32;
            b.push("ecag", Fields { r1, d, ..none() }, To::None);
            clear(b, r1);
            b.pieces.len() - 2
        }
        "epsw" => {
            let (r1, r2) = (b.r.below(16) as u8, b.r.below(16) as u8);
            b.push("epsw", Fields { r1, r2, ..none() }, To::None);
            clear(b, r1);
            if r2 != 0 {
                clear(b, r2);
            }
            b.pieces.iter().rposition(|p| p.bytes[..2] == [0xb9, 0x8d]).unwrap_or(0)
        }
        "ectg" => {
            b.used |= 3;
            let places = [0; 3].map(|_| b.place(Class::Integer));
            let (base, _, d) = b.storage(places[0], false, false);
            let (b2, _, d2) = b.storage(places[1], false, false);
            let r3 = b.fresh();
            b.address(r3, places[2]);
            b.push("ectg", Fields { r3, b: base, d, b2, d2, ..none() }, To::None);
            clear(b, 0);
            b.pieces.len() - 2
        }
        _ => {
            let at = b.place(Class::Integer);
            // All of it is stored and cleared, or nothing.
            let at = if (0..DATA_BYTES as i32 - 64).contains(&at) { at } else { IMAGE_BYTES as i32 + 8 };
            let base = b.fresh();
            b.address(base, at);
            show_cc(b);
            let size = match row.name {
                "stcke" => 16,
                "stfle" => 64,
                _ => 8,
            };
            if row.name == "stfle" {
                let junk = b.r.next() << 8;
                b.constant(0, junk | 7);
            }
            b.push(row.name, Fields { b: base, ..none() }, To::None);
            let test = b.pieces.len() - 1;
            // The condition code is compared: it goes where nothing else does.
            let keep = b.fresh();
            b.push("ipm", Fields { r1: keep, ..none() }, To::None);
            b.push("xc", Fields { b: base, b2: base, i: size - 1, ..none() }, To::None);
            if row.name == "stfle" {
                clear(b, 0);
            }
            test
        }
    }
}

/// EXECUTE of another instruction of the table: its second byte comes from the target and from register R1.
fn execute(b: &mut Build, row: &'static Row) -> usize {
    let (test, target, back) = loop {
        let inner = b.r.pick(&POOL);
        let begun = (b.pieces.len(), b.pool.len(), b.used, b.units);
        // qemu 7.2 lets this one branch count from EXECUTE.
        if inner.name == "brcth" {
            continue;
        }
        let test = if matches!(inner.name, "ex" | "exrl" | "spm") {
            // EXECUTE of EXECUTE is an exception whatever its operands.
            let r1 = b.r.below(16) as u8;
            let base = b.r.below(16) as u8;
            let f = Fields { r1, b: base, ..none() };
            let name = if inner.name == "spm" { "ipm" } else { inner.name };
            let to = if inner.format == Format::RILrel { To::Data(0) } else { To::None };
            b.push(name, f, to);
            b.pieces.len() - 1
        } else {
            build(b, inner)
        };
        let piece = b.pieces[test];
        // No register of the target may change before it runs, nor may registers 0 and 1, which some imply.
        let i = s390x::decode::decode(0, &piece.bytes[..piece.len()]);
        let regs = [i.r1, i.r1 | 1, i.r2, i.r2 | 1, i.r3, i.r3 | 1, i.b, i.b2, i.x, 1];
        b.used = regs.iter().fold(b.used | 1, |u, r| u | 1 << r);
        if b.used.count_ones() <= 12 {
            b.subject = Some(inner);
            break (test, piece, b.pieces[test + 1..].to_vec());
        }
        b.pieces.truncate(begun.0);
        b.pool.truncate(begun.1);
        (b.used, b.units) = (begun.2, begun.3);
    };
    b.pieces.truncate(test);
    let mut shown = target;
    let mut r1 = 0;
    if b.r.chance(80) {
        let (kept, junk) = (b.r.next() as u8, b.r.next() << 8);
        shown.bytes[1] &= kept;
        r1 = b.fresh();
        b.constant(r1, junk | (target.bytes[1] & !kept) as u64);
    }
    b.pool.push(Pooled::Target(shown));
    let at = To::Pool(b.pool.len() as u8 - 1);
    if row.name == "exrl" {
        b.push("exrl", Fields { r1, ..none() }, at);
    } else {
        let base = b.fresh();
        b.push("larl", Fields { r1: base, ..none() }, at);
        b.push("ex", Fields { r1, b: base, ..none() }, To::None);
    }
    let test = b.pieces.len() - 1;
    b.pieces.extend(back);
    test
}
