//! Branches with delay slots (V9 manual, A.7).

use super::Insn;
use super::state::{ICC, XCC};
use crate::backend::{Backend, Cc, Hint, Sem, Width};

/// BPcc. A conditional branch with the annul bit skips its slot when it is not taken; BA,a skips it always.
#[inline]
pub fn conditional<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let t = b.k(i.target);
    match (i.cond, i.annul) {
        (0, false) => {}
        (0, true) => b.goto(i.pc.wrapping_add(8), Hint::Jump),
        (8, true) => b.goto(i.target, Hint::Jump),
        (8, false) => {
            let z = b.k(0);
            let c = b.cmp(Width::W64, Cc::Eq, z, z);
            b.delayed(c, t, false);
        }
        (cond, annul) => {
            let c = b.flags_test(if i.wide { XCC } else { ICC }, cond);
            b.delayed(c, t, annul);
        }
    }
    Ok(())
}
