//! Descriptions: bytes behind out-of-line calls that say what to do and, if the instruction does not complete,
//! which registers hold which slots. Written while translating, read only on slow paths.
//!
//! A description is an operation's own operands followed by the state: how many instructions of the block had not
//! completed (2 bytes; the top bit says that the address needs eight bytes), the program counter (4 or 8 bytes), the
//! number of dirty slots (1 byte) and, for each, the slot and where its value is.

use crate::core::Core;
use racewalk_isa::{Endian, Exc, Family, FlagKind, MAX_SLOTS, MemOp, Slot, Width, flags};

/// Words of the spill area in the stack frame of generated code.
pub(super) const SPILLS: usize = 64;

/// The stack as a trampoline leaves it: the registers by number, then what generated code had below its stack
/// pointer.
#[repr(C)]
pub(super) struct Frame {
    /// General registers; `rbx` and `rsp` are not stored.
    pub regs: [u64; 16],
    pad: u64,
    /// Where the trampoline returns to.
    pub ret: *const u8,
    /// The spill area.
    pub spills: [u64; SPILLS],
}

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loc {
    Reg(u8),
    Const(u64),
    Spill(u8),
    Slot(Slot),
}

const BYTE: u8 = 16;
const WORD: u8 = 17;
const QUAD: u8 = 18;
const SIGNED: u8 = 19;
const SPILL: u8 = 20;
const SLOT: u8 = 21;
const FLAGS: u8 = 22;
/// In the count of a [`Point`]: the address takes eight bytes.
const LONG: u16 = 0x8000;

fn width(w: Width) -> u8 {
    (w == Width::W64) as u8
}

fn kind_code(k: FlagKind) -> u8 {
    match k {
        FlagKind::Value => 0,
        FlagKind::TestMask => 1,
        FlagKind::TestMaskHigh => 2,
        FlagKind::Cmp(w) => 4 | width(w),
        FlagKind::CmpU(w) => 6 | width(w),
        FlagKind::Logic(w) => 8 | width(w),
        FlagKind::AddS(w) => 10 | width(w),
        FlagKind::SubS(w) => 12 | width(w),
        FlagKind::AddU(w) => 14 | width(w),
        FlagKind::SubU(w) => 16 | width(w),
    }
}

fn kind_from(c: u8) -> FlagKind {
    let w = if c & 1 != 0 { Width::W64 } else { Width::W32 };
    match c {
        0 => FlagKind::Value,
        1 => FlagKind::TestMask,
        2 => FlagKind::TestMaskHigh,
        4 | 5 => FlagKind::Cmp(w),
        6 | 7 => FlagKind::CmpU(w),
        8 | 9 => FlagKind::Logic(w),
        10 | 11 => FlagKind::AddS(w),
        12 | 13 => FlagKind::SubS(w),
        14 | 15 => FlagKind::AddU(w),
        _ => FlagKind::SubU(w),
    }
}

fn family_code(f: Family) -> u8 {
    match f {
        Family::S390Cc => 0,
        Family::PpcCr => 1,
        Family::SparcCc => 2,
    }
}

fn family_from(c: u8) -> Family {
    match c {
        0 => Family::S390Cc,
        1 => Family::PpcCr,
        _ => Family::SparcCc,
    }
}

/// The family and kind that [`Describe::flag_kind`] wrote.
pub(super) fn flag_codes(family: u8, kind: u8) -> (Family, FlagKind) {
    (family_from(family), kind_from(kind))
}

/// Appends the parts of descriptions.
pub(super) trait Describe {
    /// Appends bytes.
    fn put(&mut self, b: &[u8]);
    /// Appends where a value is.
    fn loc(&mut self, l: Loc) {
        match l {
            Loc::Reg(r) => self.put(&[r]),
            Loc::Const(k) if k <= u8::MAX as u64 => self.put(&[BYTE, k as u8]),
            Loc::Const(k) if k <= u32::MAX as u64 => {
                self.put(&[WORD]);
                self.put(&(k as u32).to_le_bytes())
            }
            Loc::Const(k) if k as i64 as i8 as i64 == k as i64 => self.put(&[SIGNED, k as u8]),
            Loc::Const(k) => {
                self.put(&[QUAD]);
                self.put(&k.to_le_bytes())
            }
            Loc::Spill(i) => self.put(&[SPILL, i]),
            Loc::Slot(s) => self.put(&[SLOT, s as u8]),
        }
    }
    /// Appends a flag producer and where its operands are, as the value of a slot.
    fn lazy(&mut self, family: Family, kind: FlagKind, a: Loc, b: Loc) {
        self.put(&[FLAGS]);
        self.flag_kind(family, kind);
        self.loc(a);
        self.loc(b)
    }
    /// Appends the first part of a state.
    fn point(&mut self, pc: u64, refund: u16) {
        match u32::try_from(pc) {
            Ok(pc) => {
                self.put(&refund.to_le_bytes());
                self.put(&pc.to_le_bytes())
            }
            Err(_) => {
                self.put(&(refund | LONG).to_le_bytes());
                self.put(&pc.to_le_bytes())
            }
        }
    }
    /// Appends a family and a kind.
    fn flag_kind(&mut self, family: Family, kind: FlagKind) {
        self.put(&[family_code(family), kind_code(kind)])
    }
    /// Appends an access.
    fn memop(&mut self, m: MemOp) {
        let bits = m.size.trailing_zeros() as u8
            | (m.signed as u8) << 3
            | ((m.endian == Endian::Big) as u8) << 4
            | (m.align.is_some() as u8) << 5
            | ((m.space != 0) as u8) << 6;
        self.put(&[bits]);
        if m.space != 0 {
            self.put(&[m.space])
        }
        if let Some(e) = m.align {
            self.put(&e.0.get().to_le_bytes())
        }
    }
}

impl Describe for Vec<u8> {
    fn put(&mut self, b: &[u8]) {
        self.extend_from_slice(b)
    }
}

/// Reads a description.
pub(super) struct Reader {
    p: *const u8,
}

/// What did not complete: see [`Reader::restore`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// The instruction.
    pub pc: u64,
    /// Instructions of the block that have not completed.
    pub refund: u16,
    /// Touches of the instruction that were noted.
    pub noted: u8,
}

impl Reader {
    /// The description that belongs to the call of `frame`: behind the jump that the call returns to, or where the
    /// `test eax, imm32` there points; at the return address itself if the call does not return.
    ///
    /// # Safety
    /// The call was emitted by this translator.
    pub unsafe fn of(frame: &Frame, returns: bool) -> Reader {
        // SAFETY: the caller says who wrote the bytes.
        unsafe {
            let p = frame.ret;
            if !returns {
                return Reader { p };
            }
            match p.read() {
                0xa9 => Reader { p: p.add(5).offset(p.add(1).cast::<i32>().read_unaligned() as isize) },
                _ => Reader { p: p.add(5) },
            }
        }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        // SAFETY: `of` was told that a description is here, and every read mirrors a write.
        unsafe {
            let v = self.p.cast::<[u8; N]>().read();
            self.p = self.p.add(N);
            v
        }
    }
    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    /// A value.
    pub fn value(&mut self, core: &Core, frame: &Frame) -> u64 {
        let tag = self.u8();
        self.tagged(tag, core, frame)
    }
    fn tagged(&mut self, tag: u8, core: &Core, frame: &Frame) -> u64 {
        match tag {
            BYTE => self.u8() as u64,
            WORD => self.u32() as u64,
            QUAD => self.u64(),
            SIGNED => self.u8() as i8 as u64,
            SPILL => frame.spills[self.u8() as usize],
            SLOT => core.slots[self.u8() as usize],
            FLAGS => {
                let (family, kind) = self.flag_kind();
                let a = self.value(core, frame);
                let b = self.value(core, frame);
                flags::eval(family, kind, a, b)
            }
            r => frame.regs[r as usize & 15],
        }
    }
    /// A family and a kind.
    pub fn flag_kind(&mut self) -> (Family, FlagKind) {
        let family = self.u8();
        flag_codes(family, self.u8())
    }
    /// An access.
    pub fn memop(&mut self) -> MemOp {
        let bits = self.u8();
        let space = if bits & 0x40 != 0 { self.u8() } else { 0 };
        let align = if bits & 0x20 != 0 { std::num::NonZeroU32::new(self.u32()).map(Exc) } else { None };
        let endian = if bits & 0x10 != 0 { Endian::Big } else { Endian::Little };
        MemOp { size: 1 << (bits & 7), signed: bits & 8 != 0, endian, align, space }
    }
    /// The state's first part.
    pub fn point(&mut self) -> Point {
        let refund = u16::from_le_bytes(self.take());
        let pc = if refund & LONG != 0 { self.u64() } else { self.u32() as u64 };
        Point { pc, refund: refund & !LONG, noted: self.u8() }
    }
    /// Writes the dirty slots to the core. All are read before the first is written: one may be a copy of the old
    /// value of another.
    pub fn restore(&mut self, core: &mut Core, frame: &Frame) {
        let n = self.u8() as usize;
        let mut all = [(0, 0); MAX_SLOTS];
        for e in &mut all[..n] {
            let slot = self.u8();
            *e = (slot, self.value(core, frame));
        }
        for (slot, v) in &all[..n] {
            core.slots[*slot as usize] = *v
        }
    }
}
