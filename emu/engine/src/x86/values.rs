//! Values and registers: which guest value is in which host register, spill word or slot.
//!
//! A value never changes once made. A slot's cache entry names the value the slot has; several slots may name the
//! same one, so copies between guest registers cost nothing. A value is in a register, in a spill word, in the
//! memory of a slot (its home), or in several of them; any register can be taken from it at any time. Values that
//! nothing names are freed when the instruction ends.

use super::arena::Ops;
use super::assembler::{Asm, POOL, Reg, Src};
use super::control::Cold;
use super::describe::{Describe, Loc, SPILLS};
use racewalk_isa::{Family, FlagKind, MAX_SLOTS, Slot};
use std::sync::Arc;

/// A value: a constant or a number in the table of values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum V {
    /// Known while translating.
    K(u64),
    /// Known when the code runs.
    T(u16),
}

/// "No register", "no spill word", "no value".
const NONE8: u8 = 0xff;
const NONE: u16 = 0xffff;

#[derive(Clone, Copy, Debug)]
struct Val {
    reg: u8,
    spill: u8,
    home: Slot,
    refs: u16,
    alive: bool,
    /// The value this one is at a constant distance from (itself, if none is known), and the distance.
    root: u32,
    offset: i64,
}

/// A range that the current instruction has probed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probed {
    /// What its address is, as [`Work::root`] tells.
    pub root: u32,
    pub offset: i64,
    pub len: i64,
    pub store: bool,
    /// The addend for its host address, or zero.
    pub addend: V,
}

/// What a slot has, as far as the translator knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cur {
    /// What its memory has.
    Unknown,
    /// A value.
    Val(V),
    /// Flags, not yet computed: an index of [`Work::lazies`].
    Lazy(u16),
}

/// A flag producer that has not been evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lazy {
    pub family: Family,
    pub kind: FlagKind,
    pub a: V,
    pub b: V,
}

/// A set of slots.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Slots([u64; MAX_SLOTS / 64]);

impl Slots {
    pub fn insert(&mut self, s: Slot) {
        self.0[s as usize / 64] |= 1 << (s % 64)
    }
    pub fn remove(&mut self, s: Slot) {
        self.0[s as usize / 64] &= !(1 << (s % 64))
    }
    pub fn union(&mut self, other: Slots) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a |= b
        }
    }
    pub fn count(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        self.0.into_iter().enumerate().flat_map(|(i, mut w)| {
            std::iter::from_fn(move || {
                (w != 0).then(|| {
                    let b = w.trailing_zeros();
                    w &= w - 1;
                    i as Slot * 64 + b as Slot
                })
            })
        })
    }
}

/// Everything about values that a conditional region must put back at its end.
pub(super) struct Saved {
    vals: Vec<Val>,
    free_vals: Vec<u16>,
    touched: Vec<u16>,
    regs: [u16; 16],
    free: u16,
    spills: u64,
    cur: [Cur; MAX_SLOTS],
    home: [u16; MAX_SLOTS],
    probed: usize,
}

/// A translation in progress. Kept between blocks for its memory.
pub(super) struct Work {
    pub asm: Asm,
    pub ops: Arc<Ops>,
    vals: Vec<Val>,
    free_vals: Vec<u16>,
    touched: Vec<u16>,
    regs: [u16; 16],
    free: u16,
    lock: u16,
    used: [u32; 16],
    tick: u32,
    spills: u64,
    pub cur: [Cur; MAX_SLOTS],
    home: [u16; MAX_SLOTS],
    pub dirty: Slots,
    /// Slots written since the innermost conditional region began.
    pub changed: Slots,
    pub lazies: Vec<Lazy>,
    pub descs: Vec<u8>,
    pub cold: Vec<Cold>,
    pub links: Vec<(usize, u64)>,
    pub probed: Vec<Probed>,
    serial: u32,
    /// Offset in the arena at which the code will be.
    pub origin: usize,
    /// This instruction's address and that of the one after it.
    pub pc: u64,
    pub next: u64,
    /// Instructions from this one to the end of the block.
    pub left: u16,
    /// This instruction called something that may have stored to code.
    pub called: bool,
    /// This instruction transferred control.
    pub ended: bool,
    /// This instruction cannot be translated.
    pub bail: bool,
    pub movbe: bool,
    /// The code notes the pages that it touches.
    pub records: bool,
    /// How many touches the current instruction has noted so far.
    pub noted: u8,
    /// That depends on how it goes.
    pub unsure: bool,
}

impl Work {
    /// A new translation.
    pub fn new(ops: Arc<Ops>) -> Self {
        Work {
            asm: Asm::new(),
            ops,
            vals: Vec::with_capacity(256),
            free_vals: Vec::new(),
            touched: Vec::new(),
            regs: [NONE; 16],
            free: 0,
            lock: 0,
            used: [0; 16],
            tick: 0,
            spills: 0,
            cur: [Cur::Unknown; MAX_SLOTS],
            home: [NONE; MAX_SLOTS],
            dirty: Slots::default(),
            changed: Slots::default(),
            lazies: Vec::new(),
            descs: Vec::new(),
            cold: Vec::new(),
            links: Vec::new(),
            probed: Vec::new(),
            serial: 0,
            origin: 0,
            pc: 0,
            next: 0,
            left: 0,
            called: false,
            ended: false,
            bail: false,
            records: false,
            noted: 0,
            unsure: false,
            movbe: std::arch::is_x86_feature_detected!("movbe"),
        }
    }

    /// Begins a block whose code will be at `origin`.
    pub fn reset(&mut self, origin: usize) {
        self.asm.clear();
        self.vals.clear();
        self.free_vals.clear();
        self.touched.clear();
        self.regs = [NONE; 16];
        self.free = POOL.iter().fold(0, |m, r| m | 1 << r);
        self.lock = 0;
        self.spills = 0;
        self.cur = [Cur::Unknown; MAX_SLOTS];
        self.home = [NONE; MAX_SLOTS];
        self.dirty = Slots::default();
        self.changed = Slots::default();
        self.lazies.clear();
        self.descs.clear();
        self.cold.clear();
        self.links.clear();
        self.probed.clear();
        self.serial = 0;
        self.origin = origin;
        self.bail = false;
        self.noted = 0;
        self.unsure = false;
    }

    // ---- registers ----------------------------------------------------------------------------------------

    /// Begins one operation: nothing is locked.
    pub fn begin(&mut self) {
        self.lock = 0
    }

    /// Ends an instruction: values that nothing names are gone.
    pub fn end_insn(&mut self) {
        self.lock = 0;
        self.noted = 0;
        self.unsure = false;
        self.probed.clear();
        while let Some(i) = self.touched.pop() {
            let v = &mut self.vals[i as usize];
            if !v.alive || v.refs != 0 {
                continue;
            }
            v.alive = false;
            let v = *v;
            if v.reg != NONE8 {
                self.regs[v.reg as usize] = NONE;
                self.free |= 1 << v.reg;
            }
            if v.spill != NONE8 {
                self.spills &= !(1 << v.spill);
            }
            if v.home != NONE {
                self.home[v.home as usize] = NONE;
            }
            self.free_vals.push(i);
        }
    }

    fn bind(&mut self, r: Reg, i: u16) {
        self.regs[r as usize] = i;
        self.vals[i as usize].reg = r
    }

    fn use_now(&mut self, r: Reg) {
        self.lock |= 1 << r;
        self.tick += 1;
        self.used[r as usize] = self.tick
    }

    /// A register for a new purpose, locked. Its old value moves to memory if it is nowhere else.
    fn take_reg(&mut self) -> Reg {
        let r = if self.free != 0 {
            let r = self.free.trailing_zeros() as Reg;
            self.free &= !(1 << r);
            r
        } else {
            let lock = self.lock;
            let Some(r) =
                POOL.into_iter().filter(|r| lock >> r & 1 == 0).min_by_key(|r| self.used[*r as usize])
            else {
                self.bail = true;
                return POOL[0];
            };
            self.evict(r);
            r
        };
        self.use_now(r);
        r
    }

    fn evict(&mut self, r: Reg) {
        let i = self.regs[r as usize];
        if i == NONE {
            return;
        }
        let v = self.vals[i as usize];
        if v.alive && v.spill == NONE8 && v.home == NONE {
            self.spill(i);
        }
        self.vals[i as usize].reg = NONE8;
        self.regs[r as usize] = NONE;
    }

    /// Copies a value that is in a register to a spill word.
    fn spill(&mut self, i: u16) {
        let k = (!self.spills).trailing_zeros() as u8;
        if k as usize >= SPILLS {
            self.bail = true;
            return;
        }
        self.spills |= 1 << k;
        let v = &mut self.vals[i as usize];
        v.spill = k;
        self.asm.spill(k, v.reg)
    }

    fn new_val(&mut self, reg: u8) -> u16 {
        self.serial += 1;
        let root = self.serial;
        let v = Val { reg, spill: NONE8, home: NONE, refs: 0, alive: true, root, offset: 0 };
        let i = match self.free_vals.pop() {
            Some(i) => {
                self.vals[i as usize] = v;
                i
            }
            None => {
                self.vals.push(v);
                self.vals.len() as u16 - 1
            }
        };
        self.touched.push(i);
        i
    }

    /// A new value and the locked register that the caller will compute it into.
    pub fn fresh(&mut self) -> (V, Reg) {
        let r = self.take_reg();
        let i = self.new_val(r);
        self.regs[r as usize] = i;
        (V::T(i), r)
    }

    /// Remembers that `v` is `a + offset`.
    pub fn derive(&mut self, v: V, a: V, offset: i64) {
        if let (V::T(v), V::T(a)) = (v, a) {
            let a = self.vals[a as usize];
            let v = &mut self.vals[v as usize];
            v.root = a.root;
            v.offset = a.offset.wrapping_add(offset)
        }
    }

    /// A number for the value that `v` is at a constant distance from, and the distance.
    pub fn root(&self, v: V) -> Option<(u32, i64)> {
        match v {
            V::T(i) => {
                let v = self.vals[i as usize];
                Some((v.root, v.offset))
            }
            V::K(_) => None,
        }
    }

    /// The register of a value in the table, locked; loads it if it has none.
    fn reg_of(&mut self, i: u16) -> Reg {
        let v = self.vals[i as usize];
        debug_assert!(v.alive);
        if v.reg != NONE8 {
            self.use_now(v.reg);
            return v.reg;
        }
        let r = self.take_reg();
        if v.spill != NONE8 {
            self.asm.unspill(r, v.spill)
        } else {
            debug_assert!(v.home != NONE || self.bail);
            self.asm.load(r, v.home as i32 * 8)
        }
        self.bind(r, i);
        r
    }

    /// A register that holds `v`: a locked one, or `scratch` for a constant. Leaves the flags alone.
    pub fn reg(&mut self, v: V, scratch: Reg) -> Reg {
        match v {
            V::T(i) => self.reg_of(i),
            V::K(k) => {
                self.asm.movi(scratch, k);
                scratch
            }
        }
    }

    /// `v` as a second operand: an immediate, or a register as in [`Work::reg`].
    pub fn src(&mut self, v: V, scratch: Reg) -> Src {
        match v {
            V::K(k) if k as i64 as i32 as i64 == k as i64 => Src::I(k as i32),
            _ => Src::R(self.reg(v, scratch)),
        }
    }

    /// Puts `v` into the register `d`, which holds nothing. Leaves the flags alone.
    pub fn copy_to(&mut self, d: Reg, v: V) {
        match v {
            V::K(k) => self.asm.movi(d, k),
            V::T(i) => {
                let v = self.vals[i as usize];
                if v.reg != NONE8 {
                    self.asm.mov(d, v.reg)
                } else if v.spill != NONE8 {
                    self.asm.unspill(d, v.spill)
                } else {
                    self.asm.load(d, v.home as i32 * 8)
                }
            }
        }
    }

    /// A new value in a register, begun as a copy of `v`.
    pub fn fresh_copy(&mut self, v: V) -> (V, Reg) {
        if let V::T(i) = v {
            let r = self.vals[i as usize].reg;
            if r != NONE8 {
                self.use_now(r)
            }
        }
        let (d, r) = self.fresh();
        self.copy_to(r, v);
        (d, r)
    }

    /// Where `v` is now.
    pub fn loc(&self, v: V) -> Loc {
        match v {
            V::K(k) => Loc::Const(k),
            V::T(i) => {
                let v = self.vals[i as usize];
                if v.reg != NONE8 {
                    Loc::Reg(v.reg)
                } else if v.spill != NONE8 {
                    Loc::Spill(v.spill)
                } else {
                    Loc::Slot(v.home)
                }
            }
        }
    }

    // ---- slots --------------------------------------------------------------------------------------------

    fn retain(&mut self, v: V) {
        if let V::T(i) = v {
            self.vals[i as usize].refs += 1
        }
    }

    fn release(&mut self, v: V) {
        if let V::T(i) = v {
            let v = &mut self.vals[i as usize];
            v.refs -= 1;
            if v.refs == 0 {
                self.touched.push(i)
            }
        }
    }

    /// What slot `s` has becomes `c`; counts the names.
    fn rename(&mut self, s: Slot, c: Cur) {
        match c {
            Cur::Val(v) => self.retain(v),
            Cur::Lazy(l) => {
                let l = self.lazies[l as usize];
                self.retain(l.a);
                self.retain(l.b)
            }
            Cur::Unknown => {}
        }
        match std::mem::replace(&mut self.cur[s as usize], c) {
            Cur::Val(v) => self.release(v),
            Cur::Lazy(l) => {
                let l = self.lazies[l as usize];
                self.release(l.a);
                self.release(l.b)
            }
            Cur::Unknown => {}
        }
    }

    /// The value of a slot.
    pub fn slot_get(&mut self, s: Slot) -> V {
        match self.cur[s as usize] {
            Cur::Val(v) => v,
            Cur::Lazy(l) => {
                let l = self.lazies[l as usize];
                let v = self.canonical(l);
                self.rename(s, Cur::Val(v));
                v
            }
            Cur::Unknown => {
                let (v, r) = self.fresh();
                self.asm.load(r, s as i32 * 8);
                let V::T(i) = v else { unreachable!("a fresh value is in the table") };
                if self.home[s as usize] == NONE {
                    self.home[s as usize] = i;
                    self.vals[i as usize].home = s;
                }
                self.rename(s, Cur::Val(v));
                v
            }
        }
    }

    /// A slot gets a value.
    pub fn slot_set(&mut self, s: Slot, v: V) {
        self.changed.insert(s);
        self.rename(s, Cur::Val(v));
        if let V::T(i) = v
            && self.home[s as usize] == i
        {
            self.dirty.remove(s)
        } else {
            self.dirty.insert(s)
        }
    }

    /// A slot gets flags that are not computed yet.
    pub fn slot_lazy(&mut self, s: Slot, l: Lazy) {
        self.changed.insert(s);
        self.lazies.push(l);
        self.rename(s, Cur::Lazy(self.lazies.len() as u16 - 1));
        self.dirty.insert(s)
    }

    /// Before the memory of slot `s` changes: whatever value lives only there moves out.
    pub fn detach(&mut self, s: Slot) {
        let i = self.home[s as usize];
        if i == NONE {
            return;
        }
        let v = self.vals[i as usize];
        if v.alive && v.reg == NONE8 && v.spill == NONE8 {
            self.reg_of(i);
        }
        self.vals[i as usize].home = NONE;
        self.home[s as usize] = NONE
    }

    /// The memory of slot `s` now has the value its cache entry names.
    pub fn settled(&mut self, s: Slot) {
        self.dirty.remove(s);
        if let Cur::Val(V::T(i)) = self.cur[s as usize]
            && self.vals[i as usize].home == NONE
        {
            debug_assert!(self.home[s as usize] == NONE);
            self.vals[i as usize].home = s;
            self.home[s as usize] = i
        }
    }

    /// Forgets what slot `s` has: its memory knows.
    pub fn forget(&mut self, s: Slot) {
        self.rename(s, Cur::Unknown);
        self.dirty.remove(s);
        self.changed.insert(s)
    }

    /// Stores every dirty slot.
    pub fn write_back(&mut self) {
        for s in self.dirty.iter() {
            let lock = self.lock;
            let v = self.slot_get(s);
            match v {
                V::K(k) => {
                    self.detach(s);
                    if k as i64 as i32 as i64 == k as i64 {
                        self.asm.store_imm(s as i32 * 8, k as i32)
                    } else {
                        self.asm.movi(0, k);
                        self.asm.store(s as i32 * 8, 0)
                    }
                }
                V::T(i) => {
                    let r = self.reg_of(i);
                    self.detach(s);
                    self.asm.store(s as i32 * 8, r)
                }
            }
            self.settled(s);
            self.lock = lock;
        }
    }

    /// Appends the state to a description: address, how many instructions from this one on (plus `count`) have not
    /// completed, dirty slots.
    pub fn describe_state(&mut self, pc: u64, refund: u16) {
        let mut d = std::mem::take(&mut self.descs);
        d.point(pc, refund);
        d.put(&[self.noted, self.dirty.count() as u8]);
        for s in self.dirty.iter() {
            d.put(&[s as u8]);
            match self.cur[s as usize] {
                Cur::Val(v) => d.loc(self.loc(v)),
                Cur::Lazy(l) => {
                    let l = self.lazies[l as usize];
                    d.lazy(l.family, l.kind, self.loc(l.a), self.loc(l.b))
                }
                Cur::Unknown => unreachable!("a dirty slot has a value"),
            }
        }
        self.descs = d
    }

    // ---- conditional regions ------------------------------------------------------------------------------

    /// Before a conditional region, after everything was written back: no value lives only in the memory of a slot.
    pub fn detach_all(&mut self) {
        for s in 0..MAX_SLOTS as Slot {
            let i = self.home[s as usize];
            if i == NONE {
                continue;
            }
            let lock = self.lock;
            self.detach(s);
            self.lock = lock;
        }
    }

    /// Remembers where everything is.
    pub fn save(&self) -> Saved {
        Saved {
            vals: self.vals.clone(),
            free_vals: self.free_vals.clone(),
            touched: self.touched.clone(),
            regs: self.regs,
            free: self.free,
            spills: self.spills,
            cur: self.cur,
            home: self.home,
            probed: self.probed.len(),
        }
    }

    /// At the end of a conditional region, after everything was written back: emits what puts the values of `saved`
    /// back where they were, and forgets the slots in `changed`.
    pub fn join(&mut self, saved: Saved, changed: Slots) {
        let moved: Vec<(Reg, u16)> = POOL
            .into_iter()
            .map(|r| (r, saved.regs[r as usize]))
            .filter(|&(r, i)| i != NONE && saved.vals[i as usize].alive && self.regs[r as usize] != i)
            .collect();
        for &(_, i) in &moved {
            let v = self.vals[i as usize];
            if v.spill != NONE8 {
                continue;
            }
            if v.reg != NONE8 {
                self.spill(i)
            } else {
                let k = (!self.spills).trailing_zeros() as u8;
                if k as usize >= SPILLS {
                    self.bail = true;
                    return;
                }
                self.spills |= 1 << k;
                self.vals[i as usize].spill = k;
                self.asm.load(0, v.home as i32 * 8);
                self.asm.spill(k, 0)
            }
        }
        for &(r, i) in &moved {
            self.asm.unspill(r, self.vals[i as usize].spill)
        }
        self.vals = saved.vals;
        self.free_vals = saved.free_vals;
        self.touched = saved.touched;
        self.regs = saved.regs;
        self.free = saved.free;
        self.spills = saved.spills;
        self.cur = saved.cur;
        self.home = saved.home;
        self.probed.truncate(saved.probed);
        self.dirty = Slots::default();
        self.lock = 0;
        for s in changed.iter() {
            self.rename(s, Cur::Unknown)
        }
    }
}
