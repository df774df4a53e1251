//! Branches (Power ISA Book I, chapter 2.4).

use super::Insn;
use super::state::{CTR, LR, cr, cr_so};
use crate::backend::{Backend, Cc, Hint, Sem, Width};
use Width::W64;

fn next(i: &Insn) -> u64 {
    i.pc.wrapping_add(4)
}

#[inline]
fn link<B: Backend>(b: &mut B, i: &Insn) {
    if i.rc {
        let n = b.k(next(i));
        b.set(LR, n);
    }
}

fn hint(i: &Insn) -> Hint {
    if i.rc { Hint::Call } else { Hint::Jump }
}

/// b, bl.
#[inline]
pub fn unconditional<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    link(b, i);
    b.goto(i.target, hint(i));
    Ok(())
}

/// The condition of BO and BI, counting CTR down when BO says so; `None` is always.
#[inline]
fn condition<B: Backend>(b: &mut B, i: &Insn) -> Option<B::C> {
    let (bo, bi) = (i.rt, i.ra);
    let count = if bo & 4 == 0 {
        let ctr = b.get(CTR);
        let one = b.k(1);
        let z = b.k(0);
        let ctr = b.sub(ctr, one);
        b.set(CTR, ctr);
        Some(b.cmp(W64, if bo & 2 != 0 { Cc::Eq } else { Cc::Ne }, ctr, z))
    } else {
        None
    };
    let test = if bo & 16 == 0 {
        let c = if bi & 3 == 3 {
            let so = b.get(cr_so(bi >> 2));
            let z = b.k(0);
            b.cmp(W64, Cc::Ne, so, z)
        } else {
            b.flags_test(cr(bi >> 2), 8 >> (bi & 3))
        };
        let v = b.c2v(c);
        let z = b.k(0);
        Some(if bo & 8 != 0 { c } else { b.cmp(W64, Cc::Eq, v, z) })
    } else {
        None
    };
    match (count, test) {
        (Some(x), Some(y)) => {
            let x = b.c2v(x);
            let y = b.c2v(y);
            let both = b.and(x, y);
            let z = b.k(0);
            Some(b.cmp(W64, Cc::Ne, both, z))
        }
        (x, y) => x.or(y),
    }
}

/// bc.
#[inline]
pub fn conditional<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let c = condition(b, i);
    link(b, i);
    match c {
        Some(c) => b.branch(c, i.target, next(i)),
        None => b.goto(i.target, hint(i)),
    }
    Ok(())
}

/// bclr: to LR without its two low bits.
#[inline]
pub fn to_link<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let t = b.get(LR);
    let m = b.k(!3);
    let t = b.and(t, m);
    let c = condition(b, i);
    link(b, i);
    let hint = if i.rc { Hint::Call } else { Hint::Return };
    match c {
        Some(c) => b.branch_v(c, t, next(i), hint),
        None => b.goto_v(t, hint),
    }
    Ok(())
}
