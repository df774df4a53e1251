//! sparc64 instructions on the oracle, and what the scan sees of them.

use racewalk_isa::oracle::{Next, Oracle};
use racewalk_isa::scan::{Terminator, scan};
use racewalk_isa::sparc64::state::*;
use racewalk_isa::sparc64::{FILL, ILLEGAL, NOT_ALIGNED, SPILL, Sparc64};
use racewalk_isa::{Arch, Exc};

const PC: u64 = 0x1000;
const SP: u8 = 14;
const O0: u8 = 8;
const I0: u8 = 24;

fn oracle(regs: &[(u8, u64)]) -> Oracle {
    let mut o = Oracle::new(0, 0x4000);
    for &(r, v) in regs {
        o.slots[reg(r) as usize] = v;
    }
    o
}

fn step(o: &mut Oracle, word: u32) -> Result<Next, Exc> {
    o.run::<Sparc64>(&Sparc64::decode(PC, &word.to_be_bytes()))
}

fn get(o: &Oracle, r: u8) -> u64 {
    o.slots[reg(r) as usize]
}

#[test]
fn windows_turn() {
    let mut o = oracle(&[(SP, 0x2000), (O0, 42), (16, 7)]);
    o.slots[CANSAVE as usize] = 1;
    assert_eq!(step(&mut o, 0x9de3_bf50), Ok(Next::Jump(PC + 4))); // save %sp, -176, %sp
    assert_eq!(get(&o, SP), 0x2000 - 176);
    assert_eq!(get(&o, 30), 0x2000, "%fp is the caller's %sp");
    assert_eq!(get(&o, I0), 42, "ins are the caller's outs");
    assert_eq!(get(&o, 16), 0, "locals are fresh");
    assert_eq!((o.slots[CANSAVE as usize], o.slots[CANRESTORE as usize], o.slots[CWP as usize]), (0, 1, 1));

    assert_eq!(step(&mut o, 0x9de3_bf50), Err(SPILL));
    assert_eq!(get(&o, SP), 0x2000 - 176, "a trap changes nothing");

    step(&mut o, 0x91ee_2005).unwrap(); // restore %i0, 5, %o0
    assert_eq!((get(&o, O0), get(&o, SP), get(&o, 16)), (47, 0x2000, 7));
    assert_eq!(step(&mut o, 0x91ee_2005), Err(FILL));
}

#[test]
fn condition_codes_of_both_widths() {
    let mut o = oracle(&[(8, 0x7fff_ffff), (9, 1)]);
    step(&mut o, 0x9482_0009).unwrap(); // addcc %o0, %o1, %o2
    assert_eq!(o.slots[ICC.slot as usize], 0b1010, "negative and overflow in 32 bits");
    assert_eq!(o.slots[XCC.slot as usize], 0);
    o.slots[reg(8) as usize] = 6;
    step(&mut o, 0x80a2_2007).unwrap(); // cmp %o0, 7
    assert_eq!(o.slots[XCC.slot as usize], 0b1001, "negative and borrow");
    assert_eq!(get(&o, 0), 0);
}

#[test]
fn annulled_branches() {
    let mut o = oracle(&[(8, 7)]);
    let taken = |t| Ok(Next::Delayed { taken: true, target: t, annul: true });
    assert_eq!(step(&mut o, 0x3268_0008), taken(PC + 0x20)); // bne,a %xcc
    step(&mut o, 0x80a2_2007).unwrap(); // cmp %o0, 7
    assert_eq!(step(&mut o, 0x3268_0008), Ok(Next::Delayed { taken: false, target: PC + 0x20, annul: true }));
    assert_eq!(step(&mut o, 0x304f_fff8), Ok(Next::Jump(PC - 0x20)), "ba,a has no slot");
    assert_eq!(step(&mut o, 0x1048_0008), Ok(Next::Delayed { taken: true, target: PC + 0x20, annul: false }));
}

#[test]
fn memory_and_constants() {
    let mut o = oracle(&[(8, 0x2000), (9, 0x0102_0304_0506_0708), (1, 16)]);
    step(&mut o, 0xd272_0001).unwrap(); // stx %o1, [%o0 + %g1]
    assert_eq!(o.bytes(0x2010, 8).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    o.slots[reg(8) as usize] = 0x2008;
    step(&mut o, 0xd25a_2008).unwrap(); // ldx [%o0 + 8], %o1
    assert_eq!(get(&o, 9), 0x0102_0304_0506_0708);
    o.slots[reg(8) as usize] = 0x2004;
    assert_eq!(step(&mut o, 0xd25a_2008), Err(NOT_ALIGNED));
    step(&mut o, 0x0304_8d15).unwrap(); // sethi %hi(0x12345400), %g1
    step(&mut o, 0x8210_6200).unwrap(); // or %g1, 0x200, %g1
    assert_eq!(get(&o, 1), 0x1234_5600);
}

#[test]
fn scan_sees_windows_and_slots() {
    let notes = |w: u32| scan::<Sparc64>(&Sparc64::decode(PC, &w.to_be_bytes()));
    let save = notes(0x9de3_bf50);
    assert!(save.rotates && save.may_fault && save.writes.contains(CWP));
    assert_eq!(save.terminator, Terminator::EndBlock { next: PC + 4 });
    assert_eq!(notes(0x3268_0008).terminator, Terminator::Delayed { annul: true });
    assert!(notes(0x3268_0008).reads.contains(XCC.slot));
    assert_eq!(notes(0).terminator, Terminator::Trap(ILLEGAL));
    let ldx = notes(0xd25a_2008);
    assert!(ldx.loads && !ldx.stores && ldx.writes.iter().eq([reg(9)]));
}
