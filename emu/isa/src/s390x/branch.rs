//! Branches, conditional traps, EXECUTE, SUPERVISOR CALL (PoP chapter 7). An odd branch address is not an
//! exception of the branch: the fetch at the target raises it.

use super::operand::{Src, ea, put, src};
use super::state::{CC_FLAG, gpr};
use super::{COMPARE_TRAP, Insn, SPECIFICATION};
use crate::backend::{Backend, Cc, Exc, Hint, Sem, Width};
use Width::{W32, W64};

/// BRANCH RELATIVE ON CONDITION, any distance.
#[inline]
pub fn relative<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let c = b.flags_test(CC_FLAG, i.m);
    b.branch(c, i.target, i.next());
    Ok(())
}

/// The same with mask 15.
#[inline]
pub fn jump<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    b.goto(i.target, Hint::Jump);
    Ok(())
}

fn register_hint(i: &Insn) -> Hint {
    if i.r2 == 14 { Hint::Return } else { Hint::Jump }
}

/// BRANCH ON CONDITION, register form, R2 not 0.
#[inline]
pub fn on_condition_register<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let c = b.flags_test(CC_FLAG, i.m);
    let t = b.get(gpr(i.r2));
    b.branch_v(c, t, i.next(), register_hint(i));
    Ok(())
}

/// The same with mask 15.
#[inline]
pub fn register<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let t = b.get(gpr(i.r2));
    b.goto_v(t, register_hint(i));
    Ok(())
}

/// BRANCH ON CONDITION, storage-address form.
#[inline]
pub fn on_condition<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let t = ea(b, i);
    if i.m == 15 {
        b.goto_v(t, Hint::Jump);
    } else {
        let c = b.flags_test(CC_FLAG, i.m);
        b.branch_v(c, t, i.next(), Hint::Jump);
    }
    Ok(())
}

/// BRANCH RELATIVE AND SAVE.
#[inline]
pub fn relative_and_save<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let link = b.k(i.next());
    b.set(gpr(i.r1), link);
    b.goto(i.target, Hint::Call);
    Ok(())
}

/// BRANCH AND SAVE (R2 = 0: no branch), and BRANCH AND LINK, which does the same in 64-bit mode.
#[inline]
pub fn register_and_save<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let t = b.get(gpr(i.r2));
    let link = b.k(i.next());
    b.set(gpr(i.r1), link);
    if i.r2 != 0 {
        b.goto_v(t, Hint::Call);
    }
    Ok(())
}

/// BRANCH AND SAVE, storage-address form.
#[inline]
pub fn address_and_save<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let t = ea(b, i);
    let link = b.k(i.next());
    b.set(gpr(i.r1), link);
    b.goto_v(t, Hint::Call);
    Ok(())
}

/// BRANCH AND SAVE AND SET MODE (`save`), BRANCH AND SET MODE: bit 63 of an address stands for 64-bit mode, which
/// is the only one modelled.
#[inline]
pub fn set_mode<B: Backend>(b: &mut B, i: &Insn, save: bool) -> Sem<B> {
    let t = b.get(gpr(i.r2));
    let one = b.k(1);
    if i.r2 != 0 {
        let z = b.k(0);
        let bit = b.and(t, one);
        let c = b.cmp(W64, Cc::Eq, bit, z);
        b.trap_if(c, Exc::NOT_MODELLED)?;
    }
    if save {
        let link = b.k(i.next() | 1);
        b.set(gpr(i.r1), link);
    } else if i.r1 != 0 {
        let old = b.get(gpr(i.r1));
        let v = b.or(old, one);
        b.set(gpr(i.r1), v);
    }
    if i.r2 != 0 {
        let t = b.sub(t, one);
        b.goto_v(t, if save { Hint::Call } else { Hint::Jump });
    }
    Ok(())
}

#[inline]
fn decrement<B: Backend>(b: &mut B, i: &Insn, w: Width) -> B::C {
    let v = b.get(gpr(i.r1));
    let one = b.k(1);
    let v = b.sub(v, one);
    put(b, i.r1, w, v);
    let z = b.k(0);
    b.cmp(w, Cc::Ne, v, z)
}

/// BRANCH RELATIVE ON COUNT.
#[inline]
pub fn relative_on_count<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let c = decrement(b, i, w);
    b.branch(c, i.target, i.next());
    Ok(())
}

/// BRANCH RELATIVE ON COUNT HIGH.
#[inline]
pub fn relative_on_count_high<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = src(b, i, Src::High(1))?;
    let one = b.k(1);
    let v = b.sub(v, one);
    super::operand::put_high(b, i.r1, v);
    let z = b.k(0);
    let c = b.cmp(W32, Cc::Ne, v, z);
    b.branch(c, i.target, i.next());
    Ok(())
}

/// BRANCH ON COUNT, register form (R2 = 0: count only).
#[inline]
pub fn register_on_count<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let t = b.get(gpr(i.r2));
    let c = decrement(b, i, w);
    if i.r2 != 0 {
        b.branch_v(c, t, i.next(), Hint::Jump);
    }
    Ok(())
}

/// BRANCH ON COUNT, storage-address form.
#[inline]
pub fn address_on_count<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let t = ea(b, i);
    let c = decrement(b, i, w);
    b.branch_v(c, t, i.next(), Hint::Jump);
    Ok(())
}

#[inline]
fn index<B: Backend>(b: &mut B, i: &Insn, w: Width, high: bool) -> B::C {
    let v = b.get(gpr(i.r1));
    let step = b.get(gpr(i.r3));
    let limit = b.get(gpr(i.r3 | 1));
    let v = b.add(v, step);
    put(b, i.r1, w, v);
    b.cmp(w, if high { Cc::Gt } else { Cc::Le }, v, limit)
}

/// BRANCH RELATIVE ON INDEX HIGH (`high`), LOW OR EQUAL.
#[inline]
pub fn relative_on_index<B: Backend>(b: &mut B, i: &Insn, w: Width, high: bool) -> Sem<B> {
    let c = index(b, i, w, high);
    b.branch(c, i.target, i.next());
    Ok(())
}

/// BRANCH ON INDEX HIGH (`high`), LOW OR EQUAL.
#[inline]
pub fn address_on_index<B: Backend>(b: &mut B, i: &Insn, w: Width, high: bool) -> Sem<B> {
    let t = ea(b, i);
    let c = index(b, i, w, high);
    b.branch_v(c, t, i.next(), Hint::Jump);
    Ok(())
}

/// How a compare-and-branch compares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Compare {
    /// Operand width.
    pub w: Width,
    /// Signed or logical.
    pub signed: bool,
    /// The second operand.
    pub y: Src,
}

/// The comparison a mask of compare-and-branch stands for: `Ok` a comparison, `Err` always or never.
fn condition(m: u8, signed: bool) -> Result<Cc, bool> {
    Ok(match (m >> 1 & 7, signed) {
        (0, _) => return Err(false),
        (7, _) => return Err(true),
        (4, _) => Cc::Eq,
        (3, _) => Cc::Ne,
        (2, true) => Cc::Lt,
        (2, false) => Cc::Ltu,
        (5, true) => Cc::Ge,
        (5, false) => Cc::Geu,
        (1, true) => Cc::Gt,
        (1, false) => Cc::Gtu,
        (_, true) => Cc::Le,
        (_, false) => Cc::Leu,
    })
}

/// COMPARE (LOGICAL) AND BRANCH RELATIVE.
#[inline]
pub fn compare_relative<B: Backend>(b: &mut B, i: &Insn, k: Compare) -> Sem<B> {
    match condition(i.m, k.signed) {
        Err(true) => b.goto(i.target, Hint::Jump),
        Err(false) => {}
        Ok(cc) => {
            let x = b.get(gpr(i.r1));
            let y = src(b, i, k.y)?;
            let c = b.cmp(k.w, cc, x, y);
            b.branch(c, i.target, i.next());
        }
    }
    Ok(())
}

/// COMPARE (LOGICAL) AND BRANCH.
#[inline]
pub fn compare_address<B: Backend>(b: &mut B, i: &Insn, k: Compare) -> Sem<B> {
    let t = ea(b, i);
    match condition(i.m, k.signed) {
        Err(true) => b.goto_v(t, Hint::Jump),
        Err(false) => {}
        Ok(cc) => {
            let x = b.get(gpr(i.r1));
            let y = src(b, i, k.y)?;
            let c = b.cmp(k.w, cc, x, y);
            b.branch_v(c, t, i.next(), Hint::Jump);
        }
    }
    Ok(())
}

/// COMPARE (LOGICAL) AND TRAP.
#[inline]
pub fn compare_trap<B: Backend>(b: &mut B, i: &Insn, k: Compare) -> Sem<B> {
    match condition(i.m, k.signed) {
        Err(true) => b.trap(COMPARE_TRAP),
        Err(false) => Ok(()),
        Ok(cc) => {
            let x = b.get(gpr(i.r1));
            let y = src(b, i, k.y)?;
            let c = b.cmp(k.w, cc, x, y);
            b.trap_if(c, COMPARE_TRAP)
        }
    }
}

#[inline]
fn execute_at<B: Backend>(b: &mut B, i: &Insn, t: B::V) -> Sem<B> {
    let m = if i.r1 == 0 {
        b.k(0)
    } else {
        let v = b.get(gpr(i.r1));
        b.zx(v, 8)
    };
    b.execute(t, m);
    Ok(())
}

/// EXECUTE.
#[inline]
pub fn execute<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let t = ea(b, i);
    let one = b.k(1);
    let z = b.k(0);
    let odd = b.and(t, one);
    let c = b.cmp(W64, Cc::Ne, odd, z);
    b.trap_if(c, SPECIFICATION)?;
    execute_at(b, i, t)
}

/// EXECUTE RELATIVE LONG.
#[inline]
pub fn execute_relative<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let t = b.k(i.target);
    execute_at(b, i, t)
}

/// SUPERVISOR CALL.
#[inline]
pub fn supervisor_call<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    b.syscall(i.imm as u16, i.next());
    Ok(())
}

/// BRANCH PREDICTION PRELOAD and its like, and branches never taken.
#[inline]
pub fn nothing<B: Backend>(_: &mut B) -> Sem<B> {
    Ok(())
}

/// Serialization: BRANCH ON CONDITION with mask 14 or 15 and R2 = 0.
#[inline]
pub fn serialize<B: Backend>(b: &mut B) -> Sem<B> {
    b.fence();
    Ok(())
}

/// MONITOR CALL: no monitor class is enabled, so only an invalid class is noticed.
#[inline]
pub fn monitor_call<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    if i.imm & 0xf0 != 0 { b.trap(SPECIFICATION) } else { Ok(()) }
}
