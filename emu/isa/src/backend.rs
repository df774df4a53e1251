//! The port through which instruction semantics speak to an engine.
//!
//! Every instruction of every architecture is one function generic over [`Backend`]. An interpreter implements
//! the trait with numbers and executes at once, a translator with handles and emits code, a scanner with unit
//! values and only takes notes. Three rules make one text serve all of them:
//!
//! 1. **No Rust control flow on values.** A semantics function may branch (Rust `if`, `match`) only on fields of
//!    the decoded instruction. Conditions on values go through [`Backend::sel`], [`Backend::when`],
//!    [`Backend::trap_if`] or a [`Helper`].
//! 2. **Effects last.** Every access that can fault, and every trap, comes before the first
//!    [`set`](Backend::set) or [`flags`](Backend::flags). An instruction that faults has changed nothing and can
//!    be restarted. ([`Backend::late`] is for exceptions of completed instructions.) Where two accesses are made and the second may fault after the first has stored, both are
//!    [`probe`](Backend::probe)d first.
//! 3. **Exactly one terminator.** A control-transfer instruction calls exactly one of the methods of the last
//!    group (`goto`, `branch`, …), as its last action. Any other instruction calls none and falls through.

use crate::fp::FpOp;

/// Index of a 64-bit word of architectural state. Each architecture numbers its own (`s390x::state`, …).
pub type Slot = u16;

/// Slots an engine reserves for every architecture.
pub const MAX_SLOTS: usize = 192;

/// Comparison of two 64-bit values (or of their low halves, see [`Backend::cmp`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cc {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less, signed.
    Lt,
    /// Greater or equal, signed.
    Ge,
    /// Less or equal, signed.
    Le,
    /// Greater, signed.
    Gt,
    /// Less, unsigned.
    Ltu,
    /// Greater or equal, unsigned.
    Geu,
    /// Less or equal, unsigned.
    Leu,
    /// Greater, unsigned.
    Gtu,
}

impl Cc {
    /// Whether the comparison holds: the one definition for whoever has numbers.
    #[inline(always)]
    pub fn holds(self, w: Width, a: u64, b: u64) -> bool {
        let (ua, ub, sa, sb) = match w {
            Width::W32 => (a as u32 as u64, b as u32 as u64, a as i32 as i64, b as i32 as i64),
            Width::W64 => (a, b, a as i64, b as i64),
        };
        match self {
            Cc::Eq => ua == ub,
            Cc::Ne => ua != ub,
            Cc::Lt => sa < sb,
            Cc::Ge => sa >= sb,
            Cc::Le => sa <= sb,
            Cc::Gt => sa > sb,
            Cc::Ltu => ua < ub,
            Cc::Geu => ua >= ub,
            Cc::Leu => ua <= ub,
            Cc::Gtu => ua > ub,
        }
    }
}

/// How much of a value an operation looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// The low 32 bits.
    W32,
    /// All 64 bits.
    W64,
}

/// Byte order of one access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endian {
    /// Most significant byte first.
    Big,
    /// Least significant byte first.
    Little,
}

/// One memory access, everything about it but the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemOp {
    /// Bytes: 1, 2, 4 or 8 (16 in the pair forms).
    pub size: u8,
    /// Loads only: extend the sign to 64 bits; otherwise zeros.
    pub signed: bool,
    /// Byte order.
    pub endian: Endian,
    /// `Some(e)`: the address must be a multiple of `size`, else the access raises `e` and touches nothing.
    pub align: Option<Exc>,
    /// Address-space selector: 0 is the context's own data space. Other values belong to the architecture
    /// (an ASI on sparc64).
    pub space: u8,
}

impl MemOp {
    /// A big-endian, zero-extending access of `size` bytes without an alignment rule.
    pub const fn be(size: u8) -> Self {
        MemOp { size, signed: false, endian: Endian::Big, align: None, space: 0 }
    }
    /// A little-endian, zero-extending access of `size` bytes without an alignment rule.
    pub const fn le(size: u8) -> Self {
        MemOp { size, signed: false, endian: Endian::Little, align: None, space: 0 }
    }
    /// The same access, loads extending the sign.
    pub const fn signed(self) -> Self {
        MemOp { signed: true, ..self }
    }
    /// The same access, naturally aligned or raising `e`.
    pub const fn aligned(self, e: Exc) -> Self {
        MemOp { align: Some(e), ..self }
    }
}

/// What an access wants of the translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Data read.
    Load,
    /// Data write.
    Store,
    /// Instruction fetch.
    Fetch,
}

/// Atomic read-modify-write operations; all return the old value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rmw {
    /// `old + v`.
    Add,
    /// `old & v`.
    And,
    /// `old | v`.
    Or,
    /// `old ^ v`.
    Xor,
    /// `v`.
    Swap,
}

impl Rmw {
    /// The new value.
    #[inline(always)]
    pub fn apply(self, old: u64, v: u64) -> u64 {
        match self {
            Rmw::Add => old.wrapping_add(v),
            Rmw::And => old & v,
            Rmw::Or => old | v,
            Rmw::Xor => old ^ v,
            Rmw::Swap => v,
        }
    }
}

/// Why an instruction did not complete. Zero is not a value, so an engine may use it for "no exception".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct Exc(pub std::num::NonZeroU32);

impl Exc {
    const fn new(v: u32) -> Self {
        match std::num::NonZeroU32::new(v) {
            Some(n) => Exc(n),
            None => panic!("an exception number is not zero"),
        }
    }
    /// A translation or protection exception; the engine holds the walker's fault record.
    pub const ACCESS: Exc = Exc::new(1);
    /// The controlled schedule ended inside the instruction: leave, touch nothing.
    pub const CANCELLED: Exc = Exc::new(2);
    /// The instruction exists and racewalk does not model it: the engine reports it by name.
    pub const NOT_MODELLED: Exc = Exc::new(3);

    /// An s390x program interruption with this interruption code (1 operation, 6 specification, 7 data, …).
    pub const fn program(code: u16) -> Exc {
        Exc::new(0x10000 | code as u32)
    }
    /// An s390x program interruption 7 (data) with this data-exception code.
    pub const fn data(dxc: u8) -> Exc {
        Exc::new(0x40000 | dxc as u32)
    }
    /// A PowerPC interrupt at this vector offset.
    pub const fn ppc(vector: u16) -> Exc {
        Exc::new(0x20000 | vector as u32)
    }
    /// A SPARC trap of this type.
    pub const fn sparc(tt: u16) -> Exc {
        Exc::new(0x30000 | tt as u32)
    }
}

/// A place that holds flags, in the canonical form of its family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// Where the canonical form is kept.
    pub slot: Slot,
    /// What the canonical form is and what a test mask means.
    pub family: Family,
}

/// Canonical forms of flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// s390x: the condition code 0..=3. Test mask: the 4-bit branch mask, bit `8 >> cc`.
    S390Cc,
    /// ppc64: a signed value `v`; LT is `v < 0`, EQ is `v == 0`, GT is `v > 0`; SO lives apart.
    /// Test mask: 8 LT, 4 GT, 2 EQ; the test holds if any of the selected bits is set.
    PpcCr,
    /// sparc64: `N<<3 | Z<<2 | V<<1 | C`. Test mask: the 4-bit `cond` of Bicc.
    SparcCc,
}

/// How flags come from operands. [`crate::flags::eval`] is the one definition; a backend may fuse a producer with
/// the test that follows it as long as the outcome is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlagKind {
    /// The canonical form is `a` itself.
    Value,
    /// Signed comparison of `a` with `b`.
    Cmp(Width),
    /// Unsigned comparison of `a` with `b`.
    CmpU(Width),
    /// s390x: 0 if `a` is zero, else 1. ppc64 and sparc64: sign and zero of `a` (V and C clear).
    Logic(Width),
    /// Signed addition `a + b`. s390x: 0 zero, 1 negative, 2 positive, 3 overflow.
    AddS(Width),
    /// Signed subtraction `a - b`, like `AddS`.
    SubS(Width),
    /// s390x logical addition `a + b`: bit 0 = result not zero, bit 1 = carry. sparc64: `addcc`.
    AddU(Width),
    /// s390x logical subtraction `a - b`: bit 0 = result not zero, bit 1 = no borrow. sparc64: `subcc`.
    SubU(Width),
    /// s390x TEST UNDER MASK on storage: `a` = selected bits, `b` = mask: 0 all zero (or mask zero), 3 all one,
    /// else 1.
    TestMask,
    /// s390x TEST UNDER MASK on a register: as `TestMask`, but mixed gives 1 if the leftmost selected bit is zero
    /// and 2 if it is one.
    TestMaskHigh,
}

/// Where an indirect jump probably goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hint {
    /// An ordinary jump.
    Jump,
    /// A call.
    Call,
    /// A return.
    Return,
}

/// A run of slots: `(first, count)`.
pub type Slots = (Slot, u16);

/// A part of an instruction that is a Rust function rather than a sequence of primitives: loops over memory,
/// wide division, conversions. Called through [`Backend::helper`].
pub struct Helper {
    /// For listings and reports.
    pub name: &'static str,
    /// The function. Faults before it has any effect, or keeps its own progress in the state (interruptible
    /// instructions).
    pub run: fn(&mut dyn Env, [u64; 4]) -> Result<u64, Exc>,
    /// Slots it may read through [`Env::get`].
    pub reads: &'static [Slots],
    /// Slots it may write through [`Env::set`].
    pub writes: &'static [Slots],
    /// Whether it accesses memory or can fail.
    pub faults: bool,
}

/// What a [`Helper`] may do.
pub trait Env {
    /// Reads a slot.
    fn get(&self, s: Slot) -> u64;
    /// Writes a slot.
    fn set(&mut self, s: Slot, v: u64);
    /// Loads one value; page-crossing accesses are made in parts, after both pages were checked.
    fn load(&mut self, m: MemOp, addr: u64) -> Result<u64, Exc>;
    /// Stores one value; nothing is stored unless all of it can be.
    fn store(&mut self, m: MemOp, addr: u64, v: u64) -> Result<(), Exc>;
    /// Checks that `len` bytes (at most 4096) at `addr` can be accessed; faults exactly as the access would.
    fn probe(&mut self, addr: u64, len: u64, access: Access) -> Result<(), Exc>;
    /// Reads bytes; a fault leaves `out` unspecified.
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Exc>;
    /// Writes bytes, at most 4096; nothing is written unless all can be.
    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Exc>;
    /// Atomic compare and swap of 4, 8 or 16 bytes as [`Backend::cas`] and [`Backend::cas_pair`]; values are
    /// `(high, low)`, the high one zero for less than 16 bytes. Returns the old value.
    fn cas(&mut self, m: MemOp, addr: u64, expected: (u64, u64), new: (u64, u64)) -> Result<(u64, u64), Exc>;
    /// Runs `f` while no other CPU of the machine runs one such function.
    fn exclusively(
        &mut self,
        f: fn(&mut dyn Env, [u64; 4]) -> Result<u64, Exc>,
        args: [u64; 4],
    ) -> Result<u64, Exc>;
    /// Makes the block end after this instruction: the engine looks at the state anew.
    fn end_block(&mut self);
    /// The time-of-day clock in the architecture's unit (s390x: bit 51 is a microsecond since 1900).
    fn clock(&mut self) -> u64;
    /// The number of the CPU that runs.
    fn cpu(&self) -> u32;
}

/// The engine's side of the semantics. See the module text for the rules.
///
/// Arguments must be bound with `let` before the call that uses them: `let x = b.get(r); b.add(x, y)`.
pub trait Backend {
    /// A 64-bit guest value.
    type V: Copy;
    /// A condition that may not have been materialised.
    type C: Copy;
    /// A 128-bit vector value.
    type X: Copy;
    /// Why execution stopped: [`Exc`] in an interpreter, [`std::convert::Infallible`] in a translator.
    type Trap;

    /// A constant.
    fn k(&mut self, c: u64) -> Self::V;
    /// Reads a slot.
    fn get(&mut self, s: Slot) -> Self::V;
    /// Writes a slot.
    fn set(&mut self, s: Slot, v: Self::V);
    /// Writes the low 32 bits of a slot and keeps the high ones.
    fn set_low32(&mut self, s: Slot, v: Self::V) {
        let old = self.get(s);
        let m = self.k(0xffff_ffff_0000_0000);
        let hi = self.and(old, m);
        let lo = self.zx(v, 32);
        let r = self.or(hi, lo);
        self.set(s, r)
    }

    /// `a + b`, wrapping.
    fn add(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`, wrapping.
    fn sub(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Low 64 bits of the product.
    fn mul(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// High 64 bits of the unsigned product.
    fn mulhu(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// High 64 bits of the signed product.
    fn mulhs(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Unsigned quotient; the caller has ruled out `b == 0`.
    fn udiv(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Unsigned remainder; the caller has ruled out `b == 0`.
    fn urem(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Signed quotient, truncated; the caller has ruled out `b == 0` and overflow.
    fn sdiv(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Signed remainder, sign of the dividend; the caller has ruled out `b == 0` and overflow.
    fn srem(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise and.
    fn and(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise or.
    fn or(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise exclusive or.
    fn xor(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Shift left; the amount is taken modulo 64.
    fn shl(&mut self, a: Self::V, n: Self::V) -> Self::V;
    /// Logical shift right; the amount is taken modulo 64.
    fn shr(&mut self, a: Self::V, n: Self::V) -> Self::V;
    /// Arithmetic shift right; the amount is taken modulo 64.
    fn sar(&mut self, a: Self::V, n: Self::V) -> Self::V;
    /// Rotate left; the amount is taken modulo 64.
    fn rotl(&mut self, a: Self::V, n: Self::V) -> Self::V;
    /// Rotates the low 32 bits left (amount modulo 32); the result is zero-extended.
    fn rotl32(&mut self, a: Self::V, n: Self::V) -> Self::V;
    /// Sign-extends the low `bits` (8, 16 or 32).
    fn sx(&mut self, a: Self::V, bits: u8) -> Self::V;
    /// Zero-extends the low `bits` (8, 16 or 32).
    fn zx(&mut self, a: Self::V, bits: u8) -> Self::V;
    /// Reverses all eight bytes.
    fn bswap(&mut self, a: Self::V) -> Self::V;
    /// Leading zeros of 64 bits; 64 for zero.
    fn clz(&mut self, a: Self::V) -> Self::V;
    /// Compares `a` with `b`.
    fn cmp(&mut self, w: Width, cc: Cc, a: Self::V, b: Self::V) -> Self::C;
    /// `a` if `c`, else `b`. Both are evaluated.
    fn sel(&mut self, c: Self::C, a: Self::V, b: Self::V) -> Self::V;
    /// 1 if `c`, else 0.
    fn c2v(&mut self, c: Self::C) -> Self::V;

    /// Defines the flags `f` from operands.
    fn flags(&mut self, f: Flag, kind: FlagKind, a: Self::V, b: Self::V);
    /// Tests flags; the meaning of `mask` is the family's.
    fn flags_test(&mut self, f: Flag, mask: u8) -> Self::C;
    /// The canonical form of the flags.
    fn flags_value(&mut self, f: Flag) -> Self::V;

    /// Loads a value.
    fn load(&mut self, m: MemOp, addr: Self::V) -> Result<Self::V, Self::Trap>;
    /// Stores the low `m.size` bytes of `v`.
    fn store(&mut self, m: MemOp, addr: Self::V, v: Self::V) -> Result<(), Self::Trap>;
    /// Loads 16 bytes as one access: `(high, low)` in the byte order of `m`.
    fn load_pair(&mut self, m: MemOp, addr: Self::V) -> Result<(Self::V, Self::V), Self::Trap>;
    /// Stores 16 bytes as one access.
    fn store_pair(&mut self, m: MemOp, addr: Self::V, v: (Self::V, Self::V)) -> Result<(), Self::Trap>;
    /// Atomic read-modify-write of 4 or 8 bytes; returns the old value, zero-extended (or sign, see `m`).
    fn rmw(&mut self, m: MemOp, op: Rmw, addr: Self::V, v: Self::V) -> Result<Self::V, Self::Trap>;
    /// Atomic compare and swap of 1 to 8 bytes; returns the old value, zero-extended. Stored if it equals `expected`.
    fn cas(
        &mut self,
        m: MemOp,
        addr: Self::V,
        expected: Self::V,
        new: Self::V,
    ) -> Result<Self::V, Self::Trap>;
    /// Atomic compare and swap of 16 bytes; returns the old `(high, low)`.
    fn cas_pair(
        &mut self,
        m: MemOp,
        addr: Self::V,
        expected: (Self::V, Self::V),
        new: (Self::V, Self::V),
    ) -> Result<(Self::V, Self::V), Self::Trap>;
    /// Load-reserve (`m.size` 4, 8; 16 in the pair form) : loads and remembers address and value.
    fn load_reserve(&mut self, m: MemOp, addr: Self::V) -> Result<(Self::V, Self::V), Self::Trap>;
    /// Store-conditional: 1 if the reservation held and the store was made, else 0. Clears the reservation.
    fn store_conditional(
        &mut self,
        m: MemOp,
        addr: Self::V,
        v: (Self::V, Self::V),
    ) -> Result<Self::V, Self::Trap>;
    /// Checks that `len` bytes (1 to 4096) can be accessed, faulting exactly as the access would; no effect.
    fn probe(&mut self, addr: Self::V, len: Self::V, access: Access) -> Result<(), Self::Trap>;
    /// Full memory barrier.
    fn fence(&mut self);

    /// Evaluates a floating-point operation ([`crate::fp`] says which operands it takes and in what form).
    /// `rm` is a rounding mode in the numbering of [`crate::fp::Round`]. Returns `(high, low, flags)`: the result
    /// (low half only for 128-bit formats) and the IEEE flags it raised ([`crate::fp::flag`]).
    fn fp(&mut self, op: FpOp, rm: Self::V, args: &[Self::V]) -> (Self::V, Self::V, Self::V);

    /// A floating-point operation whose flags go to `record`, which is called with them if there are any and may
    /// raise an exception. If `quick` holds, rounding is to nearest even and recording "inexact" alone changes
    /// nothing: a translator may then do the common cases on the host. Returns `(high, low)`.
    fn fp_record(
        &mut self,
        op: FpOp,
        rm: Self::V,
        quick: Self::C,
        args: &[Self::V],
        record: &'static Helper,
    ) -> Result<(Self::V, Self::V), Self::Trap> {
        let _ = quick;
        let (h, l, flags) = self.fp(op, rm, args);
        let z = self.k(0);
        let any = self.cmp(Width::W64, Cc::Ne, flags, z);
        self.when(any, |b| b.helper(record, &[flags]).map(|_| ()))?;
        Ok((h, l))
    }

    /// Reads a vector from the slots `s` (high) and `s + 1` (low).
    fn x_get(&mut self, s: Slot) -> Self::X;
    /// Writes a vector.
    fn x_set(&mut self, s: Slot, x: Self::X);
    /// A vector from its halves.
    fn x_make(&mut self, hi: Self::V, lo: Self::V) -> Self::X;
    /// The halves of a vector.
    fn x_split(&mut self, x: Self::X) -> (Self::V, Self::V);
    /// A lane-wise vector operation ([`crate::vec`]).
    fn x_op(&mut self, op: crate::vec::VecOp, a: Self::X, b: Self::X) -> Self::X;

    /// Raises `e` if `c`.
    fn trap_if(&mut self, c: Self::C, e: Exc) -> Result<(), Self::Trap>;
    /// Raises `e`. In a translator the code after it is unreachable.
    fn trap(&mut self, e: Exc) -> Result<(), Self::Trap>;
    /// Runs `f` only if `c`: for effects that cannot be written with `sel`. A value made inside must not be used
    /// outside, and a value made outside before may be used inside. May not contain a terminator.
    fn when(
        &mut self,
        c: Self::C,
        f: impl FnOnce(&mut Self) -> Result<(), Self::Trap>,
    ) -> Result<(), Self::Trap>;
    /// Calls a helper with at most four arguments.
    fn helper(&mut self, h: &'static Helper, args: &[Self::V]) -> Result<Self::V, Self::Trap>;

    /// Calls `h`, which raises an exception of an instruction that has completed, after all of its effects. An
    /// instruction that can enable such exceptions ([`Arch::traps_late`]) ends its block then
    /// ([`Env::end_block`]), and only an interpreter runs while they are enabled: a translator leaves this out.
    fn late(&mut self, h: &'static Helper) -> Result<(), Self::Trap>;
    /// Bits `mask` of slot `s`, which enable such exceptions: for a translator they are zero.
    fn late_mask(&mut self, s: Slot, mask: u64) -> Self::V;

    /// Rotates the register windows by `by` (+1 SAVE, -1 RESTORE); ends the block (sparc64).
    fn rotate_windows(&mut self, by: i8);

    // ---- terminators --------------------------------------------------------------------------------------

    /// Continues at `pc`.
    fn goto(&mut self, pc: u64, hint: Hint);
    /// Continues at `taken` if `c`, else at `fall`.
    fn branch(&mut self, c: Self::C, taken: u64, fall: u64);
    /// Continues at the address `t` if `c`, else at `fall`.
    fn branch_v(&mut self, c: Self::C, t: Self::V, fall: u64, hint: Hint);
    /// Continues at the address `t`.
    fn goto_v(&mut self, t: Self::V, hint: Hint);
    /// A delayed control transfer (sparc64): the delay slot at `pc + 4` runs first, unless annulled; then `t` if
    /// `c`, else `pc + 8`.
    fn delayed(&mut self, c: Self::C, t: Self::V, annul: bool);
    /// A supervisor call; continues at `next` when the kernel returns.
    fn syscall(&mut self, number: u16, next: u64);
    /// Executes the instruction at `target` with `modifier` ORed into its second byte (s390x EXECUTE), then
    /// continues after this one unless the target transferred control.
    fn execute(&mut self, target: Self::V, modifier: Self::V);
    /// Ends the block after this instruction and continues at `next`: something changed that translated code may
    /// have assumed.
    fn end_block(&mut self, next: u64);
}

/// The result of a semantics function.
pub type Sem<B> = Result<(), <B as Backend>::Trap>;

/// One architecture: how its instructions are found, decoded and executed.
pub trait Arch: Sized + Copy + Send + Sync + 'static {
    /// A decoded instruction: plain data, operands extracted, self-contained.
    type Insn: Copy + Send + Sync + std::fmt::Debug + 'static;
    /// Name as in `uname -m`.
    const NAME: &'static str;
    /// Slots used.
    const SLOTS: usize;
    /// Least instruction alignment in bytes.
    const INSN_ALIGN: u64;
    /// What fetching from an address that is not a multiple of it raises.
    const MISALIGNED_PC: Exc = Exc::NOT_MODELLED;
    /// What EXECUTE of EXECUTE raises, where there is such a thing.
    const EXECUTE_OF_EXECUTE: Exc = Exc::NOT_MODELLED;
    /// Length in bytes of the instruction that begins with these two bytes.
    fn insn_len(first: [u8; 2]) -> usize;
    /// Decodes the instruction at `pc`; `bytes` holds exactly its length. Never fails: what does not exist, or is
    /// not modelled, decodes to an instruction that says so when executed.
    fn decode(pc: u64, bytes: &[u8]) -> Self::Insn;
    /// Makes `i` the target of EXECUTE: what links or goes on goes to `next`. Relative operands count from the
    /// address it was decoded for.
    fn executed(i: &mut Self::Insn, next: u64) {
        let _ = (i, next);
    }
    /// Whether this state enables exceptions that are raised by [`Backend::late`].
    fn traps_late(slots: &[u64]) -> bool {
        let _ = slots;
        false
    }
    /// Executes one instruction on a backend.
    fn exec<B: Backend>(b: &mut B, i: &Self::Insn) -> Sem<B>;
    /// Length in bytes of a decoded instruction.
    fn len(i: &Self::Insn) -> u8;
    /// Address the instruction was decoded for.
    fn pc(i: &Self::Insn) -> u64;
    /// Mnemonic and operands for reports.
    fn text(i: &Self::Insn) -> String;
}
