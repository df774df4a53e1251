//! T0: the interpreter. A [`Backend`] whose values are numbers and that executes at once.
//!
//! It is the oracle for the translators, so it takes no short cut: flags and floating point come from the shared
//! definitions in `racewalk-isa`, memory from [`Core`].

use crate::core::Core;
use racewalk_isa::fp::FpOp;
use racewalk_isa::vec::VecOp;
use racewalk_isa::{
    Access, Backend, Cc, Env, Exc, Flag, FlagKind, Helper, Hint, MemOp, Rmw, Slot, Width, flags,
};

/// How an instruction left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Left {
    /// It fell through.
    #[default]
    Next,
    /// To [`Interp::target`].
    Jump,
    /// A supervisor call with this number; continues at [`Interp::target`].
    Syscall(u16),
    /// EXECUTE: target in `core.arg0`, modifier in `core.arg1`.
    Execute,
    /// The block ends; continues at [`Interp::target`].
    EndBlock,
    /// A delayed transfer (SPARC): target in [`Interp::target`], taken, annul.
    Delayed(bool, bool),
}

/// The interpreter for one instruction.
pub struct Interp<'a> {
    /// The CPU.
    pub core: &'a mut Core,
    /// Where it continues, see [`Left`].
    pub target: u64,
    /// How it left.
    pub left: Left,
}

impl<'a> Interp<'a> {
    /// An interpreter over `core`.
    #[inline(always)]
    pub fn new(core: &'a mut Core) -> Self {
        Interp { core, target: 0, left: Left::Next }
    }
}

impl Backend for Interp<'_> {
    type V = u64;
    type C = bool;
    type X = (u64, u64);
    type Trap = Exc;

    #[inline(always)]
    fn k(&mut self, c: u64) -> u64 {
        c
    }
    #[inline(always)]
    fn get(&mut self, s: Slot) -> u64 {
        self.core.slots[s as usize]
    }
    #[inline(always)]
    fn set(&mut self, s: Slot, v: u64) {
        self.core.slots[s as usize] = v
    }
    #[inline(always)]
    fn add(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn sub(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn mul(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_mul(b)
    }
    #[inline(always)]
    fn mulhu(&mut self, a: u64, b: u64) -> u64 {
        ((a as u128 * b as u128) >> 64) as u64
    }
    #[inline(always)]
    fn mulhs(&mut self, a: u64, b: u64) -> u64 {
        ((a as i64 as i128 * b as i64 as i128) >> 64) as u64
    }
    #[inline(always)]
    fn udiv(&mut self, a: u64, b: u64) -> u64 {
        a.checked_div(b).unwrap_or(0)
    }
    #[inline(always)]
    fn urem(&mut self, a: u64, b: u64) -> u64 {
        a.checked_rem(b).unwrap_or(0)
    }
    #[inline(always)]
    fn sdiv(&mut self, a: u64, b: u64) -> u64 {
        (a as i64).checked_div(b as i64).unwrap_or(0) as u64
    }
    #[inline(always)]
    fn srem(&mut self, a: u64, b: u64) -> u64 {
        (a as i64).checked_rem(b as i64).unwrap_or(0) as u64
    }
    #[inline(always)]
    fn and(&mut self, a: u64, b: u64) -> u64 {
        a & b
    }
    #[inline(always)]
    fn or(&mut self, a: u64, b: u64) -> u64 {
        a | b
    }
    #[inline(always)]
    fn xor(&mut self, a: u64, b: u64) -> u64 {
        a ^ b
    }
    #[inline(always)]
    fn shl(&mut self, a: u64, n: u64) -> u64 {
        a.wrapping_shl(n as u32)
    }
    #[inline(always)]
    fn shr(&mut self, a: u64, n: u64) -> u64 {
        a.wrapping_shr(n as u32)
    }
    #[inline(always)]
    fn sar(&mut self, a: u64, n: u64) -> u64 {
        (a as i64).wrapping_shr(n as u32) as u64
    }
    #[inline(always)]
    fn rotl(&mut self, a: u64, n: u64) -> u64 {
        a.rotate_left(n as u32 & 63)
    }
    #[inline(always)]
    fn rotl32(&mut self, a: u64, n: u64) -> u64 {
        (a as u32).rotate_left(n as u32 & 31) as u64
    }
    #[inline(always)]
    fn sx(&mut self, a: u64, bits: u8) -> u64 {
        match bits {
            8 => a as i8 as u64,
            16 => a as i16 as u64,
            _ => a as i32 as u64,
        }
    }
    #[inline(always)]
    fn zx(&mut self, a: u64, bits: u8) -> u64 {
        match bits {
            8 => a as u8 as u64,
            16 => a as u16 as u64,
            _ => a as u32 as u64,
        }
    }
    #[inline(always)]
    fn bswap(&mut self, a: u64) -> u64 {
        a.swap_bytes()
    }
    #[inline(always)]
    fn clz(&mut self, a: u64) -> u64 {
        a.leading_zeros() as u64
    }
    #[inline(always)]
    fn cmp(&mut self, w: Width, cc: Cc, a: u64, b: u64) -> bool {
        cc.holds(w, a, b)
    }
    #[inline(always)]
    fn sel(&mut self, c: bool, a: u64, b: u64) -> u64 {
        if c { a } else { b }
    }
    #[inline(always)]
    fn c2v(&mut self, c: bool) -> u64 {
        c as u64
    }

    #[inline(always)]
    fn flags(&mut self, f: Flag, kind: FlagKind, a: u64, b: u64) {
        self.core.slots[f.slot as usize] = flags::eval(f.family, kind, a, b)
    }
    #[inline(always)]
    fn flags_test(&mut self, f: Flag, mask: u8) -> bool {
        flags::test(f.family, self.core.slots[f.slot as usize], mask)
    }
    #[inline(always)]
    fn flags_value(&mut self, f: Flag) -> u64 {
        self.core.slots[f.slot as usize]
    }

    #[inline(always)]
    fn load(&mut self, m: MemOp, addr: u64) -> Result<u64, Exc> {
        self.core.touch(addr, m.size as u64, false);
        self.core.load(m, addr)
    }
    #[inline(always)]
    fn store(&mut self, m: MemOp, addr: u64, v: u64) -> Result<(), Exc> {
        self.core.touch(addr, m.size as u64, true);
        self.core.store(m, addr, v)
    }
    fn load_pair(&mut self, m: MemOp, addr: u64) -> Result<(u64, u64), Exc> {
        self.core.touch(addr, 16, false);
        self.core.load_pair(m, addr)
    }
    fn store_pair(&mut self, m: MemOp, addr: u64, v: (u64, u64)) -> Result<(), Exc> {
        self.core.touch(addr, 16, true);
        self.core.store_pair(m, addr, v)
    }
    fn rmw(&mut self, m: MemOp, op: Rmw, addr: u64, v: u64) -> Result<u64, Exc> {
        self.core.touch_both(addr, m.size as u64);
        self.core.rmw(m, op, addr, v)
    }
    fn cas(&mut self, m: MemOp, addr: u64, expected: u64, new: u64) -> Result<u64, Exc> {
        self.core.touch(addr, m.size as u64, true);
        self.core.cas(m, addr, expected, new)
    }
    fn cas_pair(
        &mut self,
        m: MemOp,
        addr: u64,
        expected: (u64, u64),
        new: (u64, u64),
    ) -> Result<(u64, u64), Exc> {
        self.core.touch(addr, 16, true);
        self.core.cas_pair(m, addr, expected, new)
    }
    fn load_reserve(&mut self, m: MemOp, addr: u64) -> Result<(u64, u64), Exc> {
        self.core.touch(addr, m.size as u64, false);
        self.core.load_reserve(m, addr)
    }
    fn store_conditional(&mut self, m: MemOp, addr: u64, v: (u64, u64)) -> Result<u64, Exc> {
        self.core.touch(addr, m.size as u64, true);
        self.core.store_conditional(m, addr, v).map(u64::from)
    }
    fn probe(&mut self, addr: u64, len: u64, access: Access) -> Result<(), Exc> {
        Env::probe(self.core, addr, len, access)
    }
    fn fence(&mut self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst)
    }

    fn fp(&mut self, op: FpOp, rm: u64, args: &[u64]) -> (u64, u64, u64) {
        let mut a = [0; 6];
        a[..args.len()].copy_from_slice(args);
        racewalk_isa::fp::eval(op, rm, a)
    }

    fn x_get(&mut self, s: Slot) -> (u64, u64) {
        (self.core.slots[s as usize], self.core.slots[s as usize + 1])
    }
    fn x_set(&mut self, s: Slot, x: (u64, u64)) {
        self.core.slots[s as usize] = x.0;
        self.core.slots[s as usize + 1] = x.1;
    }
    fn x_make(&mut self, hi: u64, lo: u64) -> (u64, u64) {
        (hi, lo)
    }
    fn x_split(&mut self, x: (u64, u64)) -> (u64, u64) {
        x
    }
    fn x_op(&mut self, op: VecOp, a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
        racewalk_isa::vec::eval(op, a, b)
    }

    #[inline(always)]
    fn trap_if(&mut self, c: bool, e: Exc) -> Result<(), Exc> {
        if c { Err(e) } else { Ok(()) }
    }
    #[inline(always)]
    fn trap(&mut self, e: Exc) -> Result<(), Exc> {
        Err(e)
    }
    #[inline(always)]
    fn when(&mut self, c: bool, f: impl FnOnce(&mut Self) -> Result<(), Exc>) -> Result<(), Exc> {
        if c { f(self) } else { Ok(()) }
    }
    #[inline(always)]
    fn helper(&mut self, h: &'static Helper, args: &[u64]) -> Result<u64, Exc> {
        let mut a = [0; 4];
        a[..args.len()].copy_from_slice(args);
        (h.run)(self.core, a)
    }
    #[inline(always)]
    fn late(&mut self, h: &'static Helper) -> Result<(), Exc> {
        if self.core.traps_late { (h.run)(self.core, [0; 4]).map(|_| ()) } else { Ok(()) }
    }
    fn late_mask(&mut self, s: Slot, mask: u64) -> u64 {
        self.core.slots[s as usize] & mask
    }
    fn rotate_windows(&mut self, by: i8) {
        self.core.rotate_windows(by)
    }

    #[inline(always)]
    fn goto(&mut self, pc: u64, _hint: Hint) {
        self.target = pc;
        self.left = Left::Jump
    }
    #[inline(always)]
    fn branch(&mut self, c: bool, taken: u64, fall: u64) {
        self.target = if c { taken } else { fall };
        self.left = Left::Jump
    }
    #[inline(always)]
    fn branch_v(&mut self, c: bool, t: u64, fall: u64, _hint: Hint) {
        self.target = if c { t } else { fall };
        self.left = Left::Jump
    }
    #[inline(always)]
    fn goto_v(&mut self, t: u64, _hint: Hint) {
        self.target = t;
        self.left = Left::Jump
    }
    fn delayed(&mut self, c: bool, t: u64, annul: bool) {
        self.target = t;
        self.left = Left::Delayed(c, annul)
    }
    fn syscall(&mut self, number: u16, next: u64) {
        self.target = next;
        self.left = Left::Syscall(number)
    }
    fn execute(&mut self, target: u64, modifier: u64) {
        self.core.arg0 = target;
        self.core.arg1 = modifier;
        self.left = Left::Execute
    }
    fn end_block(&mut self, next: u64) {
        self.target = next;
        self.left = Left::EndBlock
    }
}
