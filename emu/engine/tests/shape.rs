//! The shape of the backend trait: instructions that strain it, through the interpreter, the translator and the
//! scan, with checked results. The two architectures without a translator yet go through the first and the last.

mod common;

use common::Machine;
use common::asm::Asm;
use racewalk_engine::cache::{CodeCache, Mode};
use racewalk_engine::interp::{Interp, Left};
use racewalk_engine::vcpu::{Stop, Vcpu};
use racewalk_engine::{Core, Mmu, Piece};
use racewalk_isa::s390x::state::{CC, FPC, fpr, gpr};
use racewalk_isa::s390x::{FIXED_DIVIDE, S390x, decode};
use racewalk_isa::scan::{Scan, Terminator, scan};
use racewalk_isa::{Access, Arch, Exc};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::s390x::{Pte, Reason};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

const CODE: u64 = 0x10_000;

/// A machine with `code`, ready to run it in `mode`.
fn guest(mode: Mode, code: &Asm) -> (Machine, Vcpu<S390x>) {
    let m = Machine::new(1, |p| p != 0);
    m.put(code.base, &code.bytes);
    let cache: Arc<CodeCache<S390x>> = m.cache(mode);
    let mut v = m.vcpu(0, &cache);
    v.core.pc = code.base;
    (m, v)
}

fn both(f: impl Fn(Mode)) {
    for mode in [Mode::Interp, Mode::Jit] {
        f(mode)
    }
}

fn notes(bytes: &[u8]) -> Scan {
    scan::<S390x>(&decode::decode(CODE, bytes))
}

fn counted(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8 + 1).collect()
}

#[test]
fn mvc_across_pages() {
    let mut a = Asm::new(CODE);
    a.ss(0xd2, 200, (6, 0), (7, 0));
    a.svc(0);
    let n = notes(&a.bytes[..6]);
    assert!(n.loads && n.stores && n.may_fault && n.writes.is_empty());
    // The last byte of each first page is in the middle of the operand.
    let (to, from) = (0x31_000 - 100, 0x34_000 - 50);
    both(|mode| {
        let (m, mut v) = guest(mode, &a);
        m.put(from, &counted(200));
        let old = vec![0xee; 200];
        v.core.slots[gpr(6) as usize] = to;
        v.core.slots[gpr(7) as usize] = from;
        // First with one of the four pages away at a time: a fault that changes nothing.
        for (page, access) in [(0x31, Access::Store), (0x30, Access::Store), (0x34, Access::Load)] {
            m.put(to, &old);
            m.ipte(page);
            v.core.pc = CODE;
            let stop = v.run(10);
            let Stop::Exception { exc: Exc::ACCESS, fault: Some(f), len: 6 } = stop else {
                panic!("{mode:?} {page:#x}: {stop:?}")
            };
            assert_eq!((f.reason, f.vaddr.page()), (Reason::Page, Vaddr(page << 12)), "{mode:?}");
            assert_eq!(f.access == racewalk_cpu::Access::Store, access == Access::Store, "{mode:?}");
            assert_eq!((v.core.pc, v.instructions), (CODE, 0), "{mode:?}: nullified and not counted");
            assert_eq!(m.get(to, 200), old, "{mode:?}: page {page:#x} was away, and something was stored");
            m.set_entry(page, m.entry(page).0 & !Pte::I);
        }
        assert!(matches!(v.run(10), Stop::Syscall { .. }), "{mode:?}");
        assert_eq!(m.get(to, 200), counted(200), "{mode:?}");
        assert_eq!(v.instructions, 2);
    });
}

#[test]
fn mvcle_is_interruptible() {
    let mut a = Asm::new(CODE);
    let again = a.here();
    a.rx(0xa8, 2, 4, 0, 0x40);
    a.ri_to(0xa74, 1, again);
    a.svc(0);
    let n = notes(&a.bytes[..4]);
    assert!(n.helper && n.loads && n.stores && n.writes.contains(gpr(2)) && n.writes.contains(CC));
    both(|mode| {
        let (m, mut v) = guest(mode, &a);
        let (to, from) = (0x30_800, 0x38_400);
        let (long, short) = (0x2800, 0x2000);
        m.put(from, &counted(short));
        for (r, x) in [(2, to), (3, long as u64), (4, from), (5, short as u64)] {
            v.core.slots[gpr(r) as usize] = x;
        }
        // One unit each time, never past a page of either operand; cc 3 until it is done.
        let mut units = 0;
        loop {
            assert_eq!(v.run(1), Stop::Quantum, "{mode:?}");
            units += 1;
            let moved = v.core.slots[gpr(2) as usize] - to;
            assert_eq!(v.core.slots[gpr(3) as usize], long as u64 - moved, "{mode:?}");
            if v.core.slots[CC as usize] != 3 {
                break;
            }
            if units == 2 {
                // Progress stays when the next unit cannot be moved.
                let page = v.core.slots[gpr(2) as usize] >> 12;
                m.ipte(page);
                let (before, n) = (v.core.slots, v.instructions);
                assert_eq!(v.run(1), Stop::Quantum, "{mode:?}: the branch back");
                assert!(matches!(v.run(1), Stop::Exception { exc: Exc::ACCESS, .. }), "{mode:?}");
                assert_eq!((before[..16].to_vec(), n + 1), (v.core.slots[..16].to_vec(), v.instructions));
                m.set_entry(page, m.entry(page).0 & !Pte::I);
                continue;
            }
            assert_eq!(v.run(1), Stop::Quantum, "{mode:?}");
        }
        assert!(units > 4, "{mode:?}: {units} units");
        assert_eq!(v.core.slots[CC as usize], 2, "{mode:?}: the first operand was longer");
        let mut want = counted(short);
        want.resize(long, 0x40);
        assert!(m.get(to, long) == want, "{mode:?}");
        assert_eq!(v.instructions, 2 * units - 1, "{mode:?}");
    });
}

#[test]
fn execute_counts_one() {
    let mut a = Asm::new(CODE);
    let h = a.ril_hole(0xc60, 1);
    a.svc(0);
    let target = a.here();
    a.fill(h, target);
    a.ss(0xd2, 1, (6, 0), (7, 0));
    assert_eq!(notes(&a.bytes[..6]).terminator, Terminator::Execute);
    both(|mode| {
        let (m, mut v) = guest(mode, &a);
        m.put(0x33_000, &counted(64));
        for (r, x) in [(1, 0xff_0f), (6, 0x30_ff8), (7, 0x33_000)] {
            v.core.slots[gpr(r) as usize] = x;
        }
        assert_eq!(v.run(1), Stop::Quantum, "{mode:?}");
        assert_eq!((v.instructions, v.core.pc), (1, CODE + 6), "{mode:?}");
        assert_eq!(
            m.get(0x30_ff8, 17),
            [&counted(16)[..], &[0]].concat(),
            "{mode:?}: 16 bytes by the modifier"
        );
        assert!(matches!(v.run(9), Stop::Syscall { .. }));
        // A fault of the target is one of EXECUTE: nullified, its own length.
        m.ipte(0x31);
        v.core.pc = CODE;
        let stop = v.run(9);
        assert!(matches!(stop, Stop::Exception { exc: Exc::ACCESS, len: 6, .. }), "{mode:?} {stop:?}");
        assert_eq!((v.core.pc, v.instructions), (CODE, 2), "{mode:?}");
    });
}

#[test]
fn a_store_into_its_own_block() {
    let mut a = Asm::new(CODE);
    let h = a.ril_hole(0xc00, 9);
    a.rx(0x50, 3, 0, 9, 0);
    let next = a.here();
    a.fill(h, next);
    a.lghi(1, 1);
    a.lghi(2, 7);
    a.svc(0);
    both(|mode| {
        let (m, mut v) = guest(mode, &a);
        // Twice, so that the second time the block is known, and translated.
        for (n, value) in [(1, 2), (2, 3)] {
            v.core.pc = CODE;
            v.core.slots[gpr(3) as usize] = 0xa719_0000 | value;
            assert!(matches!(v.run(100), Stop::Syscall { .. }), "{mode:?}");
            assert_eq!(v.core.slots[gpr(1) as usize], value, "{mode:?}: the new instruction");
            assert_eq!((v.core.slots[gpr(2) as usize], v.instructions), (7, 5 * n), "{mode:?}");
        }
        assert_eq!(m.get(next, 4), [0xa7, 0x19, 0, 3]);
    });
}

#[test]
fn a_division_that_is_inexact() {
    let mut a = Asm::new(CODE);
    a.rre(0xb31d, 0, 2);
    a.svc(0);
    let n = notes(&a.bytes[..4]);
    assert!(n.writes.contains(FPC) && n.writes.contains(fpr(0)) && n.reads.contains(fpr(2)) && n.may_fault);
    both(|mode| {
        let (_m, mut v) = guest(mode, &a);
        v.core.slots[fpr(0) as usize] = 1f64.to_bits();
        v.core.slots[fpr(2) as usize] = 3f64.to_bits();
        assert!(matches!(v.run(100), Stop::Syscall { .. }), "{mode:?}");
        assert_eq!(f64::from_bits(v.core.slots[fpr(0) as usize]), 1.0 / 3.0, "{mode:?}");
        assert_eq!(v.core.slots[FPC as usize], 0x0008_0000, "{mode:?}: the inexact flag alone");
        // With the mask on it is a data exception that comes after the result (DXC 0x08: inexact, truncated, or
        // 0x0c: incremented).
        v.core.pc = CODE;
        v.core.slots[FPC as usize] = 0x0800_0000;
        v.core.slots[fpr(0) as usize] = 1f64.to_bits();
        let Stop::Exception { exc, len: 4, .. } = v.run(100) else { panic!("{mode:?}: no exception") };
        assert!(exc == Exc::data(0x08) || exc == Exc::data(0x0c), "{mode:?}: {exc:?}");
    });
}

#[test]
fn a_division_by_zero_has_its_length() {
    let mut a = Asm::new(CODE);
    a.lghi(1, 3);
    a.rre(0xb90d, 2, 4);
    both(|mode| {
        let (_m, mut v) = guest(mode, &a);
        assert_eq!(v.run(100), Stop::Exception { exc: FIXED_DIVIDE, fault: None, len: 4 }, "{mode:?}");
        assert_eq!((v.core.pc, v.instructions), (CODE + 4, 1), "{mode:?}");
    });
}

/// A loop whose second block continues in the next page: when that page gets another frame, the loop sees the new
/// instruction, although nothing about its first page has changed and its jumps could be patched.
#[test]
fn a_block_in_two_pages_follows_the_second() {
    let base = 0x11_000 - 14;
    let mut a = Asm::new(base);
    a.ri(0xa7b, 2, 1); // aghi r2,1
    a.ri_to(0xa74, 15, base + 8); // j to the next
    let h = a.here();
    assert_eq!(h, base + 8);
    a.rr(0x18, 0, 0);
    a.raw(&[0xc0, 0x39, 0, 0]); // iilf r3,... its immediate crosses
    a.raw(&[0, 1]);
    a.ri_to(0xa74, 15, base);
    both(|mode| {
        let (m, mut v) = guest(mode, &a);
        assert_eq!(v.run(1000), Stop::Quantum);
        assert_eq!(v.core.slots[gpr(3) as usize] as u32, 1, "{mode:?}");
        let new = m.ram().size() / 4096 - 1;
        let frame = racewalk_ram::Pfn(new);
        m.ipte(0x11);
        m.ram().copy_frame(frame, m.frame(0x11)).unwrap();
        m.ram().store_u8(Paddr((new << 12) + 1), 2).unwrap();
        m.ram().store_u8(Paddr(new << 12), 0).unwrap();
        // The low half of the immediate is what lies in the second page.
        m.set_entry(0x11, new << 12);
        assert_eq!(v.run(1000), Stop::Quantum);
        assert_eq!(v.core.slots[gpr(3) as usize] as u32 & 0xffff, 2, "{mode:?}: the old second page");
    });
}

// ---- the other architectures: the interpreter over flat memory ------------------------------------------------

/// Memory without translation.
struct Flat(Box<[u64]>);

impl Mmu for Flat {
    fn translate(&mut self, addr: u64, _: Access, _: u8) -> Result<Piece, Exc> {
        if addr >= self.0.len() as u64 * 8 {
            return Err(Exc::ACCESS);
        }
        let host = self.0.as_mut_ptr().cast::<u8>().wrapping_add(addr as usize);
        Ok(Piece { host, paddr: Paddr(addr), cacheable: true })
    }
    fn written(&mut self, _: Paddr, _: u64) -> bool {
        false
    }
    fn clock(&mut self) -> u64 {
        0
    }
    fn cpu(&self) -> u32 {
        0
    }
}

fn flat() -> Box<Core> {
    Core::new(Box::new(Flat(vec![0; 0x1000].into())), Arc::new(AtomicU32::new(0)))
}

/// Executes one instruction word; its scan must have seen every slot that changes.
fn word<A: Arch>(core: &mut Core, pc: u64, w: u32) -> Result<(Left, u64), Exc> {
    let i = A::decode(pc, &w.to_be_bytes());
    let before = core.slots;
    let mut t = Interp::new(core);
    A::exec(&mut t, &i)?;
    let left = (t.left, t.target);
    let n = scan::<A>(&i);
    for (s, old) in before.iter().enumerate() {
        let seen = n.writes.contains(s as u16) || n.rotates && (8..32).contains(&s);
        assert!(core.slots[s] == *old || seen, "{}: slot {s} written unseen", A::text(&i));
    }
    Ok(left)
}

#[test]
fn ppc64_quadword_reservation() {
    use racewalk_isa::ppc64::state::{cr, cr_so, gpr};
    use racewalk_isa::ppc64::{ALIGNMENT, Ppc64};
    let (lqarx, stqcx) = (0x7cc0_2228, 0x7cc0_216d); // lqarx r6,0,r4; stqcx. r6,0,r4
    let mut c = flat();
    let reg = |r: u8| gpr(r) as usize;
    let exec = |c: &mut Core, w| word::<Ppc64>(c, 0x1000, w);
    let quad = |c: &mut Core| {
        let m = racewalk_isa::MemOp::be(16);
        c.load_pair(m, 0x2000).unwrap()
    };
    let put = |c: &mut Core, v| c.store_pair(racewalk_isa::MemOp::be(16), 0x2000, v).unwrap();
    c.slots[reg(4)] = 0x2000;
    c.slots[racewalk_isa::ppc64::state::SO as usize] = 1;
    put(&mut c, (1, 2));
    exec(&mut c, lqarx).unwrap();
    assert_eq!((c.slots[reg(6)], c.slots[reg(7)]), (1, 2));
    c.slots[reg(7)] = 3;
    exec(&mut c, stqcx).unwrap();
    assert_eq!(quad(&mut c), (1, 3));
    assert_eq!(c.slots[cr(0).slot as usize], 0, "EQ: stored");
    assert_eq!(c.slots[cr_so(0) as usize], 1, "XER.SO comes along");
    exec(&mut c, stqcx).unwrap();
    assert_ne!(c.slots[cr(0).slot as usize], 0, "the reservation is used up");
    // Somebody else stored meanwhile.
    exec(&mut c, lqarx).unwrap();
    put(&mut c, (9, 9));
    exec(&mut c, stqcx).unwrap();
    assert_ne!(c.slots[cr(0).slot as usize], 0);
    assert_eq!(quad(&mut c), (9, 9));
    c.slots[reg(4)] = 0x2008;
    assert_eq!(exec(&mut c, lqarx), Err(ALIGNMENT));
}

#[test]
fn ppc64_record_form_with_xer() {
    use racewalk_isa::ppc64::Ppc64;
    use racewalk_isa::ppc64::state::{CA, CA32, OV, OV32, SO, cr, cr_so, gpr};
    let mut c = flat();
    let at = |s: u16| s as usize;
    c.slots[at(gpr(4))] = i64::MAX as u64;
    c.slots[at(gpr(5))] = 1;
    word::<Ppc64>(&mut c, 0x1000, 0x7c64_2e15).unwrap(); // addo. r3,r4,r5
    assert_eq!(c.slots[at(gpr(3))], 1 << 63);
    assert_eq!([SO, OV, OV32, cr_so(0)].map(|s| c.slots[at(s)]), [1, 1, 0, 1]);
    assert!((c.slots[at(cr(0).slot)] as i64) < 0, "LT, of the wrapped result");
    c.slots[at(gpr(4))] = u64::MAX;
    word::<Ppc64>(&mut c, 0x1004, 0x7c64_2814).unwrap(); // addc r3,r4,r5
    assert_eq!([CA, CA32, gpr(3), OV].map(|s| c.slots[at(s)]), [1, 1, 0, 1]);
    word::<Ppc64>(&mut c, 0x1008, 0x7c64_2915).unwrap(); // adde. r3,r4,r5
    assert_eq!([CA, gpr(3), cr_so(0)].map(|s| c.slots[at(s)]), [1, 1, 1]);
    assert!((c.slots[at(cr(0).slot)] as i64) > 0, "GT");
}

#[test]
fn sparc64_save_around_an_annulled_slot() {
    use racewalk_isa::sparc64::state::{CANRESTORE, CANSAVE, CWP, reg};
    use racewalk_isa::sparc64::{SPILL, Sparc64};
    let at = |r: u8| reg(r) as usize;
    let program = [
        0x80a2_2007u32, // cmp %o0, 7
        0x3268_0003,    // bne,a,pt %xcc, .+12: annuls its slot when not taken
        0x9de3_bf50,    //  save %sp, -176, %sp: in the slot
        0x9de3_bf50,    // save %sp, -176, %sp
        0xa006_2001,    // add %i0, 1, %l0
        0x91ee_2005,    // restore %i0, 5, %o0
    ];
    // (pc, npc), as the engine will have it; how many instructions ran is what it has to count.
    let run = |o0: u64| {
        let mut c = flat();
        c.slots[at(14)] = 0x2000;
        c.slots[at(8)] = o0;
        c.slots[CANSAVE as usize] = 3;
        let (mut pc, mut npc, mut count, mut saves) = (0x1000u64, 0x1004u64, 0, 0);
        let mut locals = Vec::new();
        while let Some(w) = program.get((pc - 0x1000) as usize / 4) {
            let (left, target) = word::<Sparc64>(&mut c, pc, *w).unwrap();
            count += 1;
            saves += (*w == 0x9de3_bf50) as u32;
            locals.push(c.slots[at(16)]);
            (pc, npc) = match left {
                Left::Next | Left::EndBlock => (npc, npc + 4),
                Left::Delayed(true, _) => (npc, target),
                Left::Delayed(false, false) => (npc, npc + 4),
                // The slot is annulled: neither executed nor counted.
                Left::Delayed(false, true) => (npc + 4, npc + 8),
                other => panic!("{other:?}"),
            };
        }
        (c, count, saves, locals)
    };
    // Not taken: the slot is annulled, one SAVE.
    let (c, count, saves, locals) = run(7);
    assert_eq!((count, saves), (5, 1));
    assert_eq!(locals[3], 8, "%l0 of the new window, from its %i0");
    assert_eq!(
        (c.slots[at(8)], c.slots[at(14)], c.slots[at(16)]),
        (12, 0x2000, 0),
        "back in the first window"
    );
    assert_eq!([CANSAVE, CANRESTORE, CWP].map(|s| c.slots[s as usize]), [3, 0, 0]);
    // Taken: the slot runs, the branch goes behind the second SAVE.
    let (c, count, saves, _) = run(8);
    assert_eq!((count, saves), (5, 1));
    assert_eq!(c.slots[at(8)], 13);
    // No window left: a trap that changes nothing.
    let mut c = flat();
    c.slots[at(14)] = 0x2000;
    assert_eq!(word::<Sparc64>(&mut c, 0x1000, 0x9de3_bf50), Err(SPILL));
    assert_eq!(c.slots[at(14)], 0x2000);
    let n = scan::<Sparc64>(&Sparc64::decode(0x1000, &0x9de3_bf50u32.to_be_bytes()));
    assert!(n.rotates && n.terminator == Terminator::EndBlock { next: 0x1004 });
}
