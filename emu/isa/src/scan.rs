//! What an instruction reads, writes and may do, found by running its semantics on a backend that only takes notes.
//!
//! Both sides of every condition are noted, since a scan knows no values: the sets are what *may* happen.

use crate::backend::*;
use crate::fp::FpOp;
use crate::vec::VecOp;
use std::convert::Infallible;

/// A set of slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlotSet(pub [u64; MAX_SLOTS / 64]);

impl SlotSet {
    /// Adds `s`.
    #[inline]
    pub fn insert(&mut self, s: Slot) {
        self.0[s as usize / 64] |= 1 << (s % 64)
    }
    /// Whether `s` is in.
    #[inline]
    pub fn contains(&self, s: Slot) -> bool {
        self.0[s as usize / 64] >> (s % 64) & 1 != 0
    }
    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&w| w == 0)
    }
    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..MAX_SLOTS as Slot).filter(|&s| self.contains(s))
    }
}

/// How an instruction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Terminator {
    /// It falls through.
    #[default]
    None,
    /// To a known address.
    Goto {
        /// The address.
        target: u64,
        /// Jump, call or return.
        hint: Hint,
    },
    /// To one of two known addresses.
    Branch {
        /// If the condition holds.
        taken: u64,
        /// If not.
        fall: u64,
    },
    /// To an address in a value, or on.
    Indirect {
        /// The next instruction, if the transfer is conditional.
        fall: Option<u64>,
        /// Jump, call or return.
        hint: Hint,
    },
    /// To the kernel.
    Syscall {
        /// Where it returns to.
        next: u64,
    },
    /// To the target of EXECUTE.
    Execute,
    /// On, but in a new block.
    EndBlock {
        /// Where.
        next: u64,
    },
    /// Through a delay slot.
    Delayed {
        /// Whether the slot is annulled.
        annul: bool,
    },
    /// Nowhere: it always raises this exception.
    Trap(Exc),
}

/// The notes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// Slots it may read (flags included).
    pub reads: SlotSet,
    /// Slots it may write.
    pub writes: SlotSet,
    /// It may raise an exception.
    pub may_fault: bool,
    /// It may read memory.
    pub loads: bool,
    /// It may write memory.
    pub stores: bool,
    /// It calls a helper.
    pub helper: bool,
    /// It rotates the register windows.
    pub rotates: bool,
    /// How it ends.
    pub terminator: Terminator,
}

/// Scans one instruction.
#[inline]
pub fn scan<A: Arch>(i: &A::Insn) -> Scan {
    let mut s = Scan::default();
    match A::exec(&mut s, i) {
        Ok(()) => s,
        Err(never) => match never {},
    }
}

type R<T> = Result<T, Infallible>;

impl Scan {
    #[inline]
    fn end(&mut self, t: Terminator) {
        // What follows an unconditional trap is unreachable.
        if !matches!(self.terminator, Terminator::Trap(_)) {
            self.terminator = t;
        }
    }
    #[inline]
    fn access(&mut self, loads: bool, stores: bool) {
        self.may_fault = true;
        self.loads |= loads;
        self.stores |= stores;
    }
}

macro_rules! unit {
    ($($name:ident($($arg:ident: $t:ty),*);)*) => {
        $(#[inline] fn $name(&mut self, $($arg: $t),*) { $(let _ = $arg;)* })*
    };
}

impl Backend for Scan {
    type V = ();
    type C = ();
    type X = ();
    type Trap = Infallible;

    unit! {
        k(c: u64); add(a: (), b: ()); sub(a: (), b: ()); mul(a: (), b: ()); mulhu(a: (), b: ());
        mulhs(a: (), b: ()); udiv(a: (), b: ()); urem(a: (), b: ()); sdiv(a: (), b: ()); srem(a: (), b: ());
        and(a: (), b: ()); or(a: (), b: ()); xor(a: (), b: ()); shl(a: (), n: ()); shr(a: (), n: ());
        sar(a: (), n: ()); rotl(a: (), n: ()); rotl32(a: (), n: ()); sx(a: (), bits: u8); zx(a: (), bits: u8);
        bswap(a: ()); clz(a: ()); cmp(w: Width, cc: Cc, a: (), b: ()); sel(c: (), a: (), b: ()); c2v(c: ());
        fence(); x_make(hi: (), lo: ()); x_op(op: VecOp, a: (), b: ());
    }
    #[inline]
    fn get(&mut self, s: Slot) {
        self.reads.insert(s)
    }
    #[inline]
    fn set(&mut self, s: Slot, _: ()) {
        self.writes.insert(s)
    }
    #[inline]
    fn flags(&mut self, f: Flag, _: FlagKind, _: (), _: ()) {
        self.writes.insert(f.slot)
    }
    #[inline]
    fn flags_test(&mut self, f: Flag, _: u8) {
        self.reads.insert(f.slot)
    }
    #[inline]
    fn flags_value(&mut self, f: Flag) {
        self.reads.insert(f.slot)
    }
    fn load(&mut self, _: MemOp, _: ()) -> R<()> {
        self.access(true, false);
        Ok(())
    }
    fn store(&mut self, _: MemOp, _: (), _: ()) -> R<()> {
        self.access(false, true);
        Ok(())
    }
    fn load_pair(&mut self, _: MemOp, _: ()) -> R<((), ())> {
        self.access(true, false);
        Ok(((), ()))
    }
    fn store_pair(&mut self, _: MemOp, _: (), _: ((), ())) -> R<()> {
        self.access(false, true);
        Ok(())
    }
    fn rmw(&mut self, _: MemOp, _: Rmw, _: (), _: ()) -> R<()> {
        self.access(true, true);
        Ok(())
    }
    fn cas(&mut self, _: MemOp, _: (), _: (), _: ()) -> R<()> {
        self.access(true, true);
        Ok(())
    }
    fn cas_pair(&mut self, _: MemOp, _: (), _: ((), ()), _: ((), ())) -> R<((), ())> {
        self.access(true, true);
        Ok(((), ()))
    }
    fn load_reserve(&mut self, _: MemOp, _: ()) -> R<((), ())> {
        self.access(true, false);
        Ok(((), ()))
    }
    fn store_conditional(&mut self, _: MemOp, _: (), _: ((), ())) -> R<()> {
        self.access(true, true);
        Ok(())
    }
    fn probe(&mut self, _: (), _: (), _: Access) -> R<()> {
        self.may_fault = true;
        Ok(())
    }
    fn fp(&mut self, _: FpOp, _: (), _: &[()]) -> ((), (), ()) {
        ((), (), ())
    }
    fn x_get(&mut self, s: Slot) {
        self.reads.insert(s);
        self.reads.insert(s + 1);
    }
    fn x_set(&mut self, s: Slot, _: ()) {
        self.writes.insert(s);
        self.writes.insert(s + 1);
    }
    fn x_split(&mut self, _: ()) -> ((), ()) {
        ((), ())
    }
    fn trap_if(&mut self, _: (), _: Exc) -> R<()> {
        self.may_fault = true;
        Ok(())
    }
    fn trap(&mut self, e: Exc) -> R<()> {
        self.may_fault = true;
        self.end(Terminator::Trap(e));
        Ok(())
    }
    #[inline]
    fn when(&mut self, _: (), f: impl FnOnce(&mut Self) -> R<()>) -> R<()> {
        // A trap inside is conditional.
        let before = self.terminator;
        f(self)?;
        self.terminator = before;
        Ok(())
    }
    fn helper(&mut self, h: &'static Helper, _: &[()]) -> R<()> {
        self.helper = true;
        if h.faults {
            self.access(true, true);
        }
        for &(first, count) in h.reads {
            (first..first + count).for_each(|s| self.reads.insert(s));
        }
        for &(first, count) in h.writes {
            (first..first + count).for_each(|s| self.writes.insert(s));
        }
        Ok(())
    }
    fn late(&mut self, h: &'static Helper) -> Result<(), Infallible> {
        self.may_fault = true;
        for &(first, count) in h.reads {
            (first..first + count).for_each(|s| self.reads.insert(s));
        }
        for &(first, count) in h.writes {
            (first..first + count).for_each(|s| self.writes.insert(s));
        }
        Ok(())
    }
    fn late_mask(&mut self, s: Slot, _: u64) {
        self.reads.insert(s);
    }
    fn rotate_windows(&mut self, _: i8) {
        self.rotates = true;
    }
    fn goto(&mut self, target: u64, hint: Hint) {
        self.end(Terminator::Goto { target, hint })
    }
    fn branch(&mut self, _: (), taken: u64, fall: u64) {
        self.end(Terminator::Branch { taken, fall })
    }
    fn branch_v(&mut self, _: (), _: (), fall: u64, hint: Hint) {
        self.end(Terminator::Indirect { fall: Some(fall), hint })
    }
    fn goto_v(&mut self, _: (), hint: Hint) {
        self.end(Terminator::Indirect { fall: None, hint })
    }
    fn delayed(&mut self, _: (), _: (), annul: bool) {
        self.end(Terminator::Delayed { annul })
    }
    fn syscall(&mut self, _: u16, next: u64) {
        self.end(Terminator::Syscall { next })
    }
    fn execute(&mut self, _: (), _: ()) {
        self.end(Terminator::Execute)
    }
    fn end_block(&mut self, next: u64) {
        self.end(Terminator::EndBlock { next })
    }
}
