//! The smallest complete [`Backend`]: numbers as values, a flat array as memory, no translation, one CPU.
//!
//! It executes semantics directly and keeps everything visible, which makes it the reference that engines are
//! compared with and the bed of the instruction tests. An address outside memory raises [`Exc::ACCESS`].

use crate::backend::*;
use crate::fp::FpOp;
use crate::vec::VecOp;
use crate::{flags, fp};

/// Where an instruction went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// To the next instruction in sequence.
    Fall,
    /// To an address.
    Jump(u64),
    /// To the delay slot, then to the target if taken; an untaken transfer with `annul` skips the slot.
    Delayed {
        /// Whether the condition holds.
        taken: bool,
        /// Where to after the slot.
        target: u64,
        /// The slot does not execute unless the transfer is taken.
        annul: bool,
    },
    /// To the kernel, and then to `next`.
    Syscall {
        /// Number in the instruction.
        number: u16,
        /// Where the kernel returns to.
        next: u64,
    },
    /// To the target of EXECUTE.
    Execute {
        /// Address of the instruction to be executed.
        target: u64,
        /// ORed into its second byte.
        modifier: u8,
    },
}

/// A CPU with its memory.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// Architectural state.
    pub slots: [u64; MAX_SLOTS],
    /// Memory; its first byte has address `base`.
    pub memory: Vec<u8>,
    /// Address of the first byte of memory.
    pub base: u64,
    /// What [`Env::clock`] gives; advances by 4096 at each reading.
    pub clock: u64,
    /// Address, size and value of the reservation.
    pub reservation: Option<(u64, u8, u128)>,
    /// Windows rotated since the start: +1 for each SAVE.
    pub windows: i64,
    /// Locals and ins of the register windows that are not current.
    pub window_file: [[u64; 16]; 8],
    /// What the last instruction did.
    pub next: Next,
}

impl Oracle {
    /// Zeroed state and `len` bytes of zeroed memory at `base`.
    pub fn new(base: u64, len: usize) -> Oracle {
        Oracle {
            slots: [0; MAX_SLOTS],
            memory: vec![0; len],
            base,
            clock: 0,
            reservation: None,
            windows: 0,
            window_file: [[0; 16]; 8],
            next: Next::Fall,
        }
    }

    /// The memory from `addr` on, `len` bytes.
    pub fn bytes(&mut self, addr: u64, len: u64) -> Result<&mut [u8], Exc> {
        let at = addr.wrapping_sub(self.base);
        let end = at.checked_add(len).filter(|&e| e <= self.memory.len() as u64).ok_or(Exc::ACCESS)?;
        Ok(&mut self.memory[at as usize..end as usize])
    }

    /// Fetches, decodes and executes the instruction at `pc`, and the target of an EXECUTE with it.
    pub fn step<A: Arch>(&mut self, pc: u64) -> Result<Next, Exc> {
        let insn = self.fetch::<A>(pc, 0)?;
        self.run::<A>(&insn)?;
        if let Next::Execute { target, modifier } = self.next {
            let mut inner = self.fetch::<A>(target, modifier)?;
            let next = pc.wrapping_add(A::len(&insn) as u64);
            A::executed(&mut inner, next);
            self.run::<A>(&inner)?;
            if matches!(self.next, Next::Execute { .. }) {
                return Err(Exc::program(3));
            }
            if self.next == Next::Fall {
                self.next = Next::Jump(next);
            }
        }
        Ok(self.next)
    }

    fn fetch<A: Arch>(&mut self, pc: u64, modifier: u8) -> Result<A::Insn, Exc> {
        let first = self.bytes(pc, 2)?;
        let len = A::insn_len([first[0], first[1]]);
        let mut bytes = self.bytes(pc, len as u64)?.to_vec();
        bytes[1] |= modifier;
        Ok(A::decode(pc, &bytes))
    }

    /// Executes one decoded instruction; [`Oracle::next`] then says where it went.
    pub fn run<A: Arch>(&mut self, i: &A::Insn) -> Result<Next, Exc> {
        self.next = Next::Fall;
        A::exec(self, i)?;
        Ok(self.next)
    }

    fn check(&mut self, m: MemOp, addr: u64) -> Result<&mut [u8], Exc> {
        match m.align {
            Some(e) if !addr.is_multiple_of(m.size as u64) => Err(e),
            _ => self.bytes(addr, m.size as u64),
        }
    }

    fn load_wide(&mut self, m: MemOp, addr: u64) -> Result<u128, Exc> {
        let b = self.check(m, addr)?;
        let fold = |v: u128, &x: &u8| v << 8 | x as u128;
        Ok(match m.endian {
            Endian::Big => b.iter().fold(0, fold),
            Endian::Little => b.iter().rev().fold(0, fold),
        })
    }

    fn store_wide(&mut self, m: MemOp, addr: u64, v: u128) -> Result<(), Exc> {
        let b = self.check(m, addr)?;
        let n = b.len();
        for (k, x) in b.iter_mut().enumerate() {
            let place = if m.endian == Endian::Big { n - 1 - k } else { k };
            *x = (v >> (8 * place)) as u8;
        }
        Ok(())
    }
}

fn wide(v: (u64, u64)) -> u128 {
    (v.0 as u128) << 64 | v.1 as u128
}

fn halves(v: u128) -> (u64, u64) {
    ((v >> 64) as u64, v as u64)
}

fn extend(m: MemOp, v: u64) -> u64 {
    match (m.signed, m.size) {
        (true, 1) => v as i8 as u64,
        (true, 2) => v as i16 as u64,
        (true, 4) => v as i32 as u64,
        _ => v,
    }
}

impl Env for Oracle {
    fn get(&self, s: Slot) -> u64 {
        self.slots[s as usize]
    }
    fn set(&mut self, s: Slot, v: u64) {
        self.slots[s as usize] = v
    }
    fn load(&mut self, m: MemOp, addr: u64) -> Result<u64, Exc> {
        self.load_wide(m, addr).map(|v| extend(m, v as u64))
    }
    fn store(&mut self, m: MemOp, addr: u64, v: u64) -> Result<(), Exc> {
        self.store_wide(m, addr, v as u128)
    }
    fn probe(&mut self, addr: u64, len: u64, _: Access) -> Result<(), Exc> {
        self.bytes(addr, len).map(|_| ())
    }
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Exc> {
        out.copy_from_slice(self.bytes(addr, out.len() as u64)?);
        Ok(())
    }
    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Exc> {
        self.bytes(addr, bytes.len() as u64)?.copy_from_slice(bytes);
        Ok(())
    }
    fn cas(&mut self, m: MemOp, addr: u64, expected: (u64, u64), new: (u64, u64)) -> Result<(u64, u64), Exc> {
        if m.size == 16 {
            return Backend::cas_pair(self, m, addr, expected, new);
        }
        Backend::cas(self, m, addr, expected.1, new.1).map(|old| (0, old))
    }
    fn exclusively(
        &mut self,
        f: fn(&mut dyn Env, [u64; 4]) -> Result<u64, Exc>,
        args: [u64; 4],
    ) -> Result<u64, Exc> {
        f(self, args)
    }
    fn end_block(&mut self) {}
    fn clock(&mut self) -> u64 {
        self.clock += 4096;
        self.clock
    }
    fn cpu(&self) -> u32 {
        0
    }
}

impl Backend for Oracle {
    type V = u64;
    type C = bool;
    type X = (u64, u64);
    type Trap = Exc;

    fn k(&mut self, c: u64) -> u64 {
        c
    }
    fn get(&mut self, s: Slot) -> u64 {
        self.slots[s as usize]
    }
    fn set(&mut self, s: Slot, v: u64) {
        self.slots[s as usize] = v
    }
    fn add(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    fn sub(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_sub(b)
    }
    fn mul(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_mul(b)
    }
    fn mulhu(&mut self, a: u64, b: u64) -> u64 {
        ((a as u128 * b as u128) >> 64) as u64
    }
    fn mulhs(&mut self, a: u64, b: u64) -> u64 {
        ((a as i64 as i128 * b as i64 as i128) >> 64) as u64
    }
    fn udiv(&mut self, a: u64, b: u64) -> u64 {
        a / b
    }
    fn urem(&mut self, a: u64, b: u64) -> u64 {
        a % b
    }
    fn sdiv(&mut self, a: u64, b: u64) -> u64 {
        (a as i64 / b as i64) as u64
    }
    fn srem(&mut self, a: u64, b: u64) -> u64 {
        (a as i64 % b as i64) as u64
    }
    fn and(&mut self, a: u64, b: u64) -> u64 {
        a & b
    }
    fn or(&mut self, a: u64, b: u64) -> u64 {
        a | b
    }
    fn xor(&mut self, a: u64, b: u64) -> u64 {
        a ^ b
    }
    fn shl(&mut self, a: u64, n: u64) -> u64 {
        a << (n & 63)
    }
    fn shr(&mut self, a: u64, n: u64) -> u64 {
        a >> (n & 63)
    }
    fn sar(&mut self, a: u64, n: u64) -> u64 {
        (a as i64 >> (n & 63)) as u64
    }
    fn rotl(&mut self, a: u64, n: u64) -> u64 {
        a.rotate_left(n as u32 & 63)
    }
    fn rotl32(&mut self, a: u64, n: u64) -> u64 {
        (a as u32).rotate_left(n as u32 & 31) as u64
    }
    fn sx(&mut self, a: u64, bits: u8) -> u64 {
        let s = 64 - bits;
        ((a << s) as i64 >> s) as u64
    }
    fn zx(&mut self, a: u64, bits: u8) -> u64 {
        let s = 64 - bits;
        a << s >> s
    }
    fn bswap(&mut self, a: u64) -> u64 {
        a.swap_bytes()
    }
    fn clz(&mut self, a: u64) -> u64 {
        a.leading_zeros() as u64
    }
    fn cmp(&mut self, w: Width, cc: Cc, a: u64, b: u64) -> bool {
        cc.holds(w, a, b)
    }
    fn sel(&mut self, c: bool, a: u64, b: u64) -> u64 {
        if c { a } else { b }
    }
    fn c2v(&mut self, c: bool) -> u64 {
        c as u64
    }
    fn flags(&mut self, f: Flag, kind: FlagKind, a: u64, b: u64) {
        self.slots[f.slot as usize] = flags::eval(f.family, kind, a, b)
    }
    fn flags_test(&mut self, f: Flag, mask: u8) -> bool {
        flags::test(f.family, self.slots[f.slot as usize], mask)
    }
    fn flags_value(&mut self, f: Flag) -> u64 {
        self.slots[f.slot as usize]
    }
    fn load(&mut self, m: MemOp, addr: u64) -> Result<u64, Exc> {
        Env::load(self, m, addr)
    }
    fn store(&mut self, m: MemOp, addr: u64, v: u64) -> Result<(), Exc> {
        Env::store(self, m, addr, v)
    }
    fn load_pair(&mut self, m: MemOp, addr: u64) -> Result<(u64, u64), Exc> {
        self.load_wide(MemOp { size: 16, ..m }, addr).map(halves)
    }
    fn store_pair(&mut self, m: MemOp, addr: u64, v: (u64, u64)) -> Result<(), Exc> {
        self.store_wide(MemOp { size: 16, ..m }, addr, wide(v))
    }
    fn rmw(&mut self, m: MemOp, op: Rmw, addr: u64, v: u64) -> Result<u64, Exc> {
        let old = self.load_wide(m, addr)? as u64;
        let new = op.apply(old, v);
        self.store_wide(m, addr, new as u128)?;
        Ok(extend(m, old))
    }
    fn cas(&mut self, m: MemOp, addr: u64, expected: u64, new: u64) -> Result<u64, Exc> {
        let old = self.load_wide(m, addr)? as u64;
        let mask = u64::MAX >> (64 - 8 * m.size as u32);
        if old == expected & mask {
            self.store_wide(m, addr, new as u128)?;
        }
        Ok(old)
    }
    fn cas_pair(
        &mut self,
        m: MemOp,
        addr: u64,
        expected: (u64, u64),
        new: (u64, u64),
    ) -> Result<(u64, u64), Exc> {
        let m = MemOp { size: 16, ..m };
        let old = self.load_wide(m, addr)?;
        if old == wide(expected) {
            self.store_wide(m, addr, wide(new))?;
        }
        Ok(halves(old))
    }
    fn load_reserve(&mut self, m: MemOp, addr: u64) -> Result<(u64, u64), Exc> {
        let v = self.load_wide(m, addr)?;
        self.reservation = Some((addr, m.size, v));
        Ok(if m.size == 16 { halves(v) } else { (v as u64, 0) })
    }
    fn store_conditional(&mut self, m: MemOp, addr: u64, v: (u64, u64)) -> Result<u64, Exc> {
        let now = self.load_wide(m, addr)?;
        let held = self.reservation.take() == Some((addr, m.size, now));
        if held {
            self.store_wide(m, addr, if m.size == 16 { wide(v) } else { v.0 as u128 })?;
        }
        Ok(held as u64)
    }
    fn probe(&mut self, addr: u64, len: u64, access: Access) -> Result<(), Exc> {
        Env::probe(self, addr, len, access)
    }
    fn fence(&mut self) {}
    fn fp(&mut self, op: FpOp, rm: u64, args: &[u64]) -> (u64, u64, u64) {
        let mut a = [0; 6];
        a[..args.len()].copy_from_slice(args);
        fp::eval(op, rm, a)
    }
    fn x_get(&mut self, s: Slot) -> (u64, u64) {
        (self.slots[s as usize], self.slots[s as usize + 1])
    }
    fn x_set(&mut self, s: Slot, x: (u64, u64)) {
        (self.slots[s as usize], self.slots[s as usize + 1]) = x
    }
    fn x_make(&mut self, hi: u64, lo: u64) -> (u64, u64) {
        (hi, lo)
    }
    fn x_split(&mut self, x: (u64, u64)) -> (u64, u64) {
        x
    }
    fn x_op(&mut self, op: VecOp, a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
        crate::vec::eval(op, a, b)
    }
    fn trap_if(&mut self, c: bool, e: Exc) -> Result<(), Exc> {
        if c { Err(e) } else { Ok(()) }
    }
    fn trap(&mut self, e: Exc) -> Result<(), Exc> {
        Err(e)
    }
    fn when(&mut self, c: bool, f: impl FnOnce(&mut Self) -> Result<(), Exc>) -> Result<(), Exc> {
        if c { f(self) } else { Ok(()) }
    }
    fn helper(&mut self, h: &'static Helper, args: &[u64]) -> Result<u64, Exc> {
        let mut a = [0; 4];
        a[..args.len()].copy_from_slice(args);
        (h.run)(self, a)
    }
    fn late(&mut self, h: &'static Helper) -> Result<(), Exc> {
        (h.run)(self, [0; 4]).map(|_| ())
    }
    fn late_mask(&mut self, s: Slot, mask: u64) -> u64 {
        self.slots[s as usize] & mask
    }
    fn rotate_windows(&mut self, by: i8) {
        // Slots 8..16 are the outs, 16..24 the locals, 24..32 the ins of the current window; the outs of a window
        // are the ins of the one after it.
        let at = |n: i64| n.rem_euclid(8) as usize;
        let now = self.windows;
        self.window_file[at(now)].copy_from_slice(&self.slots[16..32]);
        let outs: [u64; 8] = std::array::from_fn(|k| self.slots[8 + k]);
        self.window_file[at(now + 1)][8..].copy_from_slice(&outs);
        self.windows += by as i64;
        let new = self.windows;
        let (window, after) = (self.window_file[at(new)], self.window_file[at(new + 1)]);
        self.slots[16..32].copy_from_slice(&window);
        self.slots[8..16].copy_from_slice(&after[8..]);
    }
    fn goto(&mut self, pc: u64, _: Hint) {
        self.next = Next::Jump(pc)
    }
    fn branch(&mut self, c: bool, taken: u64, fall: u64) {
        self.next = Next::Jump(if c { taken } else { fall })
    }
    fn branch_v(&mut self, c: bool, t: u64, fall: u64, _: Hint) {
        self.next = Next::Jump(if c { t } else { fall })
    }
    fn goto_v(&mut self, t: u64, _: Hint) {
        self.next = Next::Jump(t)
    }
    fn delayed(&mut self, c: bool, t: u64, annul: bool) {
        self.next = Next::Delayed { taken: c, target: t, annul }
    }
    fn syscall(&mut self, number: u16, next: u64) {
        self.next = Next::Syscall { number, next }
    }
    fn execute(&mut self, target: u64, modifier: u64) {
        self.next = Next::Execute { target, modifier: modifier as u8 }
    }
    fn end_block(&mut self, next: u64) {
        self.next = Next::Jump(next)
    }
}
