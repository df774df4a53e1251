//! Signal frames of s390x (docs/reference/s390x-mmu.md section 7, abi-measured.txt).
//!
//! Offsets from the new stack pointer. Both frames begin with the 160-byte register save area, whose first
//! doubleword is the back chain. Without the vector facility neither has the extension for vector registers.

use crate::errno::Errno;
use crate::task::{Registers, Task};
use racewalk_isa::s390x::state;

/// Register save area below every frame.
const SAVE_AREA: u64 = 160;
/// PSW, general registers, access registers, floating-point control and registers.
pub(super) const REGISTERS: usize = 344;

/// `struct rt_sigframe`, for handlers with SA_SIGINFO.
pub(super) mod rt {
    /// A halfword: SVC rt_sigreturn.
    pub(in super::super) const SVC: u64 = super::SAVE_AREA;
    pub(in super::super) const INFO: u64 = SVC + 8;
    pub(in super::super) const UCONTEXT: u64 = INFO + 128;
    /// uc_stack in the ucontext; uc_flags and uc_link are before it.
    pub(in super::super) const UC_STACK: u64 = 16;
    pub(in super::super) const UC_MCONTEXT: u64 = 40;
    pub(in super::super) const UC_SIGMASK: u64 = 384;
    /// The signal mask has room for 1024 signals.
    pub(in super::super) const SIZE: u64 = UCONTEXT + 512;
}

/// `struct sigframe`, for handlers without.
pub(super) mod plain {
    /// `struct sigcontext`: the mask, then a pointer to the registers.
    pub(in super::super) const CONTEXT: u64 = super::SAVE_AREA;
    pub(in super::super) const REGISTERS: u64 = CONTEXT + 16;
    pub(in super::super) const SIGNO: u64 = REGISTERS + super::REGISTERS as u64;
    /// The halfword SVC sigreturn ends the frame.
    pub(in super::super) const SIZE: u64 = SIGNO + 16;
    pub(in super::super) const SVC: u64 = SIZE - 2;
}

/// DAT, I/O, external and machine-check interruptions, problem state, primary space, 64-bit addressing.
const USER_PSW: u64 = 0x0705_0001_8000_0000;
/// Bits of the floating-point control register that exist.
const FPC_BITS: u64 = 0xfcfc_ff77;

/// `_sigregs`.
pub(super) fn save(r: &Registers) -> [u8; REGISTERS] {
    let mut b = [0; REGISTERS];
    let slot = |n: u16| r.slots[n as usize];
    let psw = USER_PSW | (slot(state::CC) & 3) << 44 | (slot(state::PMASK) & 15) << 40;
    b[..8].copy_from_slice(&psw.to_be_bytes());
    b[8..16].copy_from_slice(&r.pc.to_be_bytes());
    for n in 0..16usize {
        b[16 + n * 8..][..8].copy_from_slice(&slot(state::gpr(n as u8)).to_be_bytes());
        b[144 + n * 4..][..4].copy_from_slice(&(slot(state::ar(n as u8)) as u32).to_be_bytes());
        b[216 + n * 8..][..8].copy_from_slice(&slot(state::fpr(n as u8)).to_be_bytes());
    }
    b[208..212].copy_from_slice(&(slot(state::FPC) as u32).to_be_bytes());
    b
}

/// Registers from `_sigregs`. An invalid floating-point control is refused, as the machine does.
pub(super) fn restore(b: &[u8; REGISTERS], r: &mut Registers) -> Result<(), Errno> {
    let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]) as u64;
    let long = |at: usize| word(at) << 32 | word(at + 4);
    let fpc = word(208);
    if fpc & !FPC_BITS != 0 {
        return Err(Errno::EINVAL);
    }
    let psw = long(0);
    r.pc = long(8);
    r.slots[state::CC as usize] = psw >> 44 & 3;
    r.slots[state::PMASK as usize] = psw >> 40 & 15;
    r.slots[state::FPC as usize] = fpc;
    for n in 0..16usize {
        r.slots[state::gpr(n as u8) as usize] = long(16 + n * 8);
        r.slots[state::ar(n as u8) as usize] = word(144 + n * 4);
        r.slots[state::fpr(n as u8) as usize] = long(216 + n * 8);
    }
    Ok(())
}

impl Task {
    /// Whether `sp` is on the alternate signal stack.
    fn on_alternate_stack(&self, sp: u64) -> bool {
        let s = self.altstack;
        s.flags & AltStack::AUTODISARM == 0 && sp > s.sp && sp - s.sp <= s.size
    }

    /// SS_ flags of the alternate stack as `sigaltstack` gives them, for stack pointer `sp`.
    pub(crate) fn stack_flags(&self, sp: u64) -> u32 {
        if self.altstack.size == 0 { AltStack::DISABLE } else { self.on_alternate_stack(sp) as u32 }
    }

    /// Where a frame of `size` bytes goes; none if it would leave the alternate stack.
    pub(super) fn frame_address(&self, size: u64, on_stack: bool) -> Option<u64> {
        let mut sp = self.gpr(15);
        if self.on_alternate_stack(sp) && !self.on_alternate_stack(sp.wrapping_sub(size) & !7) {
            return None;
        }
        if on_stack && self.stack_flags(sp) == 0 {
            sp = self.altstack.sp.wrapping_add(self.altstack.size);
        }
        Some(sp.wrapping_sub(size) & !7)
    }
}

/// `stack_t` of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AltStack {
    pub(crate) sp: u64,
    /// SS_DISABLE and SS_AUTODISARM as given.
    pub(crate) flags: u32,
    pub(crate) size: u64,
}

impl AltStack {
    pub(crate) const ONSTACK: u32 = 1;
    pub(crate) const DISABLE: u32 = 2;
    pub(crate) const AUTODISARM: u32 = 1 << 31;
    /// No alternate stack.
    pub(crate) const NONE: AltStack = AltStack { sp: 0, flags: AltStack::DISABLE, size: 0 };
    /// The smallest that is accepted (MINSIGSTKSZ).
    pub(crate) const MIN: u64 = 2048;

    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut b = [0; 24];
        b[..8].copy_from_slice(&self.sp.to_be_bytes());
        b[8..12].copy_from_slice(&self.flags.to_be_bytes());
        b[16..].copy_from_slice(&self.size.to_be_bytes());
        b
    }
    pub(crate) fn from_bytes(b: &[u8; 24]) -> Self {
        let long = |at: usize| u64::from_be_bytes(b[at..at + 8].try_into().unwrap_or_default());
        AltStack { sp: long(0), flags: (long(8) >> 32) as u32, size: long(16) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_isa::MAX_SLOTS;

    #[test]
    fn sizes_are_the_abi_s() {
        assert_eq!((rt::INFO, rt::UCONTEXT, rt::SIZE), (168, 296, 808));
        assert_eq!((plain::SIGNO, plain::SIZE, plain::SVC), (520, 536, 534));
    }

    #[test]
    fn registers_round_trip() {
        let mut r = Registers { slots: [0; MAX_SLOTS], pc: 0x1234 };
        for n in 0..16u8 {
            r.slots[state::gpr(n) as usize] = 0x0102_0304_0506_0708 * (n as u64 + 1);
            r.slots[state::fpr(n) as usize] = !(n as u64);
            r.slots[state::ar(n) as usize] = 0x8000_0000 + n as u64;
        }
        r.slots[state::CC as usize] = 2;
        r.slots[state::PMASK as usize] = 5;
        // Masks, data-exception code, decimal and binary rounding modes.
        r.slots[state::FPC as usize] = 0xfc04_ff73;
        let b = save(&r);
        assert_eq!(&b[..8], &0x0705_2501_8000_0000u64.to_be_bytes());
        let mut back = Registers { slots: [0; MAX_SLOTS], pc: 0 };
        restore(&b, &mut back).unwrap();
        assert_eq!((back.slots, back.pc), (r.slots, r.pc));
    }
}
