//! ppc64 instructions on the oracle, and what the scan sees of them.

use racewalk_isa::oracle::{Next, Oracle};
use racewalk_isa::ppc64::state::*;
use racewalk_isa::ppc64::{ALIGNMENT, PROGRAM, Ppc64};
use racewalk_isa::scan::{Terminator, scan};
use racewalk_isa::{Arch, Exc, Hint};

const PC: u64 = 0x1000;

fn oracle(regs: &[(u8, u64)]) -> Oracle {
    let mut o = Oracle::new(0, 0x4000);
    for &(r, v) in regs {
        o.slots[gpr(r) as usize] = v;
    }
    o
}

fn step(o: &mut Oracle, word: u32) -> Result<Next, Exc> {
    let i = Ppc64::decode(PC, &word.to_be_bytes());
    let before = o.slots;
    let next = o.run::<Ppc64>(&i)?;
    let notes = scan::<Ppc64>(&i);
    for (s, old) in before.iter().enumerate() {
        let seen = notes.writes.contains(s as u16);
        assert!(o.slots[s] == *old || seen, "{}: slot {s} written unseen", Ppc64::text(&i));
    }
    Ok(next)
}

fn reg(o: &Oracle, r: u8) -> u64 {
    o.slots[gpr(r) as usize]
}

#[test]
fn add_records_and_overflows() {
    let mut o = oracle(&[(4, i64::MAX as u64), (5, 1)]);
    step(&mut o, 0x7c64_2e15).unwrap(); // addo. r3,r4,r5
    assert_eq!(reg(&o, 3), 1 << 63);
    assert_eq!([SO, OV, OV32, cr_so(0)].map(|s| o.slots[s as usize]), [1, 1, 0, 1]);
    assert!((o.slots[cr(0).slot as usize] as i64) < 0);

    step(&mut o, 0x7c64_2a15).unwrap(); // add.: SO stays, OV is not touched
    assert_eq!([SO, OV, cr_so(0)].map(|s| o.slots[s as usize]), [1, 1, 1]);
}

#[test]
fn carries_chain() {
    let mut o = oracle(&[(4, u64::MAX), (5, 1)]);
    step(&mut o, 0x7c64_2814).unwrap(); // addc r3,r4,r5
    assert_eq!((reg(&o, 3), o.slots[CA as usize], o.slots[CA32 as usize]), (0, 1, 1));
    step(&mut o, 0x7c64_2914).unwrap(); // adde r3,r4,r5
    assert_eq!((reg(&o, 3), o.slots[CA as usize]), (1, 1));
    o.slots[gpr(4) as usize] = 0xffff_ffff;
    o.slots[CA as usize] = 0;
    step(&mut o, 0x7c64_2914).unwrap();
    assert_eq!((reg(&o, 3), o.slots[CA as usize], o.slots[CA32 as usize]), (1 << 32, 0, 1));
}

#[test]
fn update_forms_write_the_base_after_the_access() {
    let mut o = oracle(&[(3, 0x1122_3344_5566_7788), (4, 0x2008)]);
    step(&mut o, 0x9464_fff8).unwrap(); // stwu r3,-8(r4)
    assert_eq!(reg(&o, 4), 0x2000);
    assert_eq!(o.bytes(0x2000, 8).unwrap(), [0x55, 0x66, 0x77, 0x88, 0, 0, 0, 0]);

    let mut o = oracle(&[(4, 0x9000)]);
    assert_eq!(step(&mut o, 0x9464_fff8), Err(Exc::ACCESS));
    assert_eq!(reg(&o, 4), 0x9000);
}

#[test]
fn doublewords_are_big_endian() {
    let mut o = oracle(&[(3, 0x0102_0304_0506_0708), (4, 0x2000)]);
    step(&mut o, 0xf864_0008).unwrap(); // std r3,8(r4)
    assert_eq!(o.bytes(0x2008, 8).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    o.slots[gpr(3) as usize] = 0;
    step(&mut o, 0xe864_0008).unwrap(); // ld r3,8(r4)
    assert_eq!(reg(&o, 3), 0x0102_0304_0506_0708);
}

#[test]
fn quadword_reservation() {
    let (load, store) = (0x7cc0_2228, 0x7cc0_216d); // lqarx r6,0,r4; stqcx. r6,0,r4
    let mut o = oracle(&[(4, 0x2000)]);
    o.bytes(0x2000, 16).unwrap().copy_from_slice(&[1; 16]);
    step(&mut o, load).unwrap();
    assert_eq!((reg(&o, 6), reg(&o, 7)), (0x0101_0101_0101_0101, 0x0101_0101_0101_0101));
    o.slots[gpr(7) as usize] = 2;
    step(&mut o, store).unwrap();
    assert_eq!(o.slots[cr(0).slot as usize], 0, "EQ: stored");
    assert_eq!(o.bytes(0x2008, 8).unwrap()[7], 2);

    step(&mut o, store).unwrap();
    assert_ne!(o.slots[cr(0).slot as usize], 0, "the reservation is used up");

    o.slots[gpr(4) as usize] = 0x2008;
    assert_eq!(step(&mut o, load), Err(ALIGNMENT));
    assert_eq!(step(&mut o, 0x7ce0_2228), Err(PROGRAM), "odd register");
}

#[test]
fn branches() {
    let mut o = oracle(&[(3, 7)]);
    assert_eq!(step(&mut o, 0x4800_0040), Ok(Next::Jump(PC + 0x40)));
    assert_eq!(step(&mut o, 0x4bff_ffc1), Ok(Next::Jump(PC - 0x40)), "bl");
    assert_eq!(o.slots[LR as usize], PC + 4);
    step(&mut o, 0x2c23_0007).unwrap(); // cmpdi r3,7
    assert_eq!(step(&mut o, 0x4082_0020), Ok(Next::Jump(PC + 4)), "bne not taken");
    assert_eq!(step(&mut o, 0x4d82_0020), Ok(Next::Jump(PC + 4)), "beqlr to LR");
    o.slots[LR as usize] = 0x3003;
    assert_eq!(step(&mut o, 0x4e80_0020), Ok(Next::Jump(0x3000)), "blr drops two bits");
    o.slots[CTR as usize] = 2;
    assert_eq!(step(&mut o, 0x4200_ffe0), Ok(Next::Jump(PC - 0x20)), "bdnz");
    assert_eq!(step(&mut o, 0x4200_ffe0), Ok(Next::Jump(PC + 4)), "bdnz at one");
}

#[test]
fn scan_sees_terminators() {
    let notes = |w: u32| scan::<Ppc64>(&Ppc64::decode(PC, &w.to_be_bytes()));
    assert_eq!(notes(0x4bff_ffc1).terminator, Terminator::Goto { target: PC - 0x40, hint: Hint::Call });
    assert_eq!(notes(0x4082_0020).terminator, Terminator::Branch { taken: PC + 0x20, fall: PC + 4 });
    assert_eq!(notes(0x4e80_0020).terminator, Terminator::Indirect { fall: None, hint: Hint::Return });
    assert_eq!(notes(0).terminator, Terminator::Trap(PROGRAM));
    let std = notes(0xf864_0008);
    assert!(std.stores && std.may_fault && !std.loads && std.writes.is_empty());
}
