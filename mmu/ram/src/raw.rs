//! Guest accesses by host address.
//!
//! Racing guest accesses of different sizes overlap at will. Rust's atomics do not allow that and plain accesses
//! even less, so on x86-64 each function is one instruction written in assembly: the compiler knows only that
//! memory may change. A naturally aligned access is single-copy atomic, as s390x, PowerPC and SPARC demand; x86-64
//! gives their loads and stores at least the ordering (TSO) that s390x and sparc64 ask for.
//!
//! Values are in host byte order; callers swap.
//!
//! # Safety
//!
//! Every function here asks the same of its caller: `p` points to as many bytes of a live [`Ram`](crate::Ram)
//! mapping as the access is wide. Alignment is not needed unless a function says so; nobody holds a reference into
//! the mapping, so there is nothing to alias.

#![allow(clippy::missing_safety_doc, reason = "the module text states the one condition all of them share")]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("racewalk-ram: only x86-64 hosts have guest access instructions so far");

use core::arch::asm;

macro_rules! plain {
    ($ld:ident, $st:ident, $ty:ty, $reg:ident, $fmt:literal, $name:literal) => {
        #[doc = concat!("Loads ", $name, ".")]
        #[inline(always)]
        pub unsafe fn $ld(p: *const u8) -> $ty {
            let v: $ty;
            // SAFETY: one load of bytes that the caller vouches for; no stack, no flags.
            unsafe {
                asm!(concat!("mov {0", $fmt, "}, [{1}]"), out($reg) v, in(reg) p,
                     options(nostack, preserves_flags))
            }
            v
        }
        #[doc = concat!("Stores ", $name, ".")]
        #[inline(always)]
        pub unsafe fn $st(p: *mut u8, v: $ty) {
            // SAFETY: one store to bytes that the caller vouches for; no stack, no flags.
            unsafe {
                asm!(concat!("mov [{1}], {0", $fmt, "}"), in($reg) v, in(reg) p,
                     options(nostack, preserves_flags))
            }
        }
    };
}
plain!(ld8, st8, u8, reg_byte, "", "one byte");
plain!(ld16, st16, u16, reg, ":x", "two bytes");
plain!(ld32, st32, u32, reg, ":e", "four bytes");
plain!(ld64, st64, u64, reg, ":r", "eight bytes");

macro_rules! locked {
    ($cas:ident, $xadd:ident, $xchg:ident, $ty:ty, $reg:ident, $fmt:literal, $acc:tt, $name:literal) => {
        #[doc = concat!("Compare and swap of ", $name, ": stores `new` if the old value is `expected`; returns the old value.")]
        #[inline(always)]
        pub unsafe fn $cas(p: *mut u8, expected: $ty, new: $ty) -> $ty {
            let old: $ty;
            // SAFETY: one locked access to bytes that the caller vouches for.
            unsafe {
                asm!(concat!("lock cmpxchg [{1}], {0", $fmt, "}"), in($reg) new, in(reg) p,
                     inout($acc) expected => old, options(nostack))
            }
            old
        }
        #[doc = concat!("Adds to ", $name, "; returns the old value.")]
        #[inline(always)]
        pub unsafe fn $xadd(p: *mut u8, v: $ty) -> $ty {
            let mut r = v;
            // SAFETY: one locked access to bytes that the caller vouches for.
            unsafe {
                asm!(concat!("lock xadd [{1}], {0", $fmt, "}"), inout($reg) r, in(reg) p, options(nostack))
            }
            r
        }
        #[doc = concat!("Exchanges ", $name, "; returns the old value.")]
        #[inline(always)]
        pub unsafe fn $xchg(p: *mut u8, v: $ty) -> $ty {
            let mut r = v;
            // SAFETY: one (implicitly locked) access to bytes that the caller vouches for.
            unsafe {
                asm!(concat!("xchg [{1}], {0", $fmt, "}"), inout($reg) r, in(reg) p,
                     options(nostack, preserves_flags))
            }
            r
        }
    };
}
locked!(cas16, xadd16, xchg16, u16, reg, ":x", "ax", "two bytes");
locked!(cas32, xadd32, xchg32, u32, reg, ":e", "eax", "four bytes");
locked!(cas64, xadd64, xchg64, u64, reg, ":r", "rax", "eight bytes");

/// Compare and swap of one byte; returns the old value.
#[inline(always)]
pub unsafe fn cas8(p: *mut u8, expected: u8, new: u8) -> u8 {
    let old: u8;
    // SAFETY: one locked access to a byte that the caller vouches for.
    unsafe {
        asm!("lock cmpxchg [{1}], {0}", in(reg_byte) new, in(reg) p, inout("al") expected => old, options(nostack))
    }
    old
}

/// Compare and swap of sixteen bytes as `(low address half, high address half)`, both in host order; `p` must be
/// 16-byte aligned. Returns the old value.
#[inline]
pub unsafe fn cas128(p: *mut u8, expected: (u64, u64), new: (u64, u64)) -> (u64, u64) {
    debug_assert_eq!(p as usize & 15, 0);
    let (mut lo, mut hi) = expected;
    // SAFETY: `cmpxchg16b` on sixteen aligned bytes that the caller vouches for. LLVM reserves rbx, so it is
    // saved and restored around the instruction by hand. Every x86-64 host this project supports has it.
    unsafe {
        asm!(
            "xchg r8, rbx",
            "lock cmpxchg16b [rdi]",
            "mov rbx, r8",
            inout("r8") new.0 => _,
            in("rdi") p,
            in("rcx") new.1,
            inout("rax") lo,
            inout("rdx") hi,
            options(nostack)
        )
    }
    (lo, hi)
}

/// Loads sixteen aligned bytes as one access: `(low address half, high address half)`.
#[inline]
pub unsafe fn ld128(p: *const u8) -> (u64, u64) {
    debug_assert_eq!(p as usize & 15, 0);
    if !std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: as for `cas128`; swapping zero for zero leaves memory as it was. The page is writable on the host.
        return unsafe { cas128(p.cast_mut(), (0, 0), (0, 0)) };
    }
    let (lo, hi): (u64, u64);
    // SAFETY: one access to sixteen aligned bytes that the caller vouches for. Processors with AVX do MOVDQA of aligned
    // operands atomically (Intel SDM volume 3, "Guaranteed Atomic Operations"; AMD APM volume 2, "Access Atomicity").
    unsafe {
        asm!(
            "movdqa {x}, [{p}]",
            "movq {lo}, {x}",
            "punpckhqdq {x}, {x}",
            "movq {hi}, {x}",
            p = in(reg) p,
            x = out(xmm_reg) _,
            lo = lateout(reg) lo,
            hi = lateout(reg) hi,
            options(nostack, readonly, preserves_flags)
        )
    }
    (lo, hi)
}

/// Stores sixteen aligned bytes as one access.
#[inline]
pub unsafe fn st128(p: *mut u8, v: (u64, u64)) {
    // SAFETY: as for `cas128`.
    unsafe {
        let mut old = (ld64(p), ld64(p.add(8)));
        loop {
            let seen = cas128(p, old, v);
            if seen == old {
                return;
            }
            old = seen;
        }
    }
}

/// Copies `n` bytes from `src` to `dst`, upward, byte by byte as far as overlap can tell: the way s390x MOVE and
/// PowerPC string moves are defined. Both ranges are guest memory.
#[inline]
pub unsafe fn copy_up(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: `rep movsb` with DF clear (the ABI's state) over ranges that the caller vouches for.
    unsafe {
        asm!("rep movsb", inout("rcx") n => _, inout("rdi") dst => _, inout("rsi") src => _,
             options(nostack, preserves_flags))
    }
}

/// Reads `out.len()` bytes of guest memory into host memory.
#[inline]
pub unsafe fn read(src: *const u8, out: &mut [u8]) {
    // SAFETY: source vouched for by the caller, destination exclusively borrowed.
    unsafe { copy_up(out.as_mut_ptr(), src, out.len()) }
}

/// Writes host bytes to guest memory.
#[inline]
pub unsafe fn write(dst: *mut u8, bytes: &[u8]) {
    // SAFETY: destination vouched for by the caller, source borrowed.
    unsafe { copy_up(dst, bytes.as_ptr(), bytes.len()) }
}

/// Fills `n` bytes of guest memory.
#[inline]
pub unsafe fn fill(dst: *mut u8, byte: u8, n: usize) {
    // SAFETY: `rep stosb` with DF clear over a range that the caller vouches for.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") dst => _, in("al") byte,
             options(nostack, preserves_flags))
    }
}

/// Stores `v` into each of `n` doublewords of guest memory.
#[inline]
pub unsafe fn fill64(dst: *mut u8, v: u64, n: usize) {
    // SAFETY: `rep stosq` with DF clear over a range that the caller vouches for.
    unsafe {
        asm!("rep stosq", inout("rcx") n => _, inout("rdi") dst => _, in("rax") v,
             options(nostack, preserves_flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Area([u8; 64]);

    /// Seen to fail with one doubleword fewer.
    #[test]
    fn doublewords_are_filled() {
        let mut a = Area([9; 64]);
        let p = a.0.as_mut_ptr();
        // SAFETY: all offsets stay inside the 64 bytes of `a`, which nothing else refers to.
        unsafe {
            fill64(p.wrapping_add(8), 0x0102_0304_0506_0708, 3);
            assert_eq!([0, 8, 16, 24].map(|i| ld64(p.wrapping_add(i))), {
                let v = 0x0102_0304_0506_0708;
                [0x0909_0909_0909_0909, v, v, v]
            });
            assert_eq!(ld64(p.wrapping_add(32)), 0x0909_0909_0909_0909);
        }
    }

    #[test]
    fn sizes_and_pairs() {
        let mut a = Area([0; 64]);
        let p = a.0.as_mut_ptr();
        // SAFETY: all offsets stay inside the 64 bytes of `a`, which nothing else refers to.
        unsafe {
            st64(p, 0x1122_3344_5566_7788);
            assert_eq!(ld8(p), 0x88);
            assert_eq!(ld16(p.add(1)), 0x6677);
            assert_eq!(ld32(p.add(3)), 0x2233_4455);
            assert_eq!(cas32(p, 0x5566_7788, 1), 0x5566_7788);
            assert_eq!(cas32(p, 0, 2), 1);
            assert_eq!(xadd64(p, 1), 0x1122_3344_0000_0001);
            assert_eq!(xchg8_like(p), 2);
            st128(p.add(16), (7, 9));
            assert_eq!(ld128(p.add(16)), (7, 9));
            assert_eq!(cas128(p.add(16), (7, 8), (1, 1)), (7, 9));
            assert_eq!(cas128(p.add(16), (7, 9), (1, 2)), (7, 9));
            assert_eq!(ld128(p.add(16)), (1, 2));
            fill(p, 0, 32);
            st8(p, 0xab);
            copy_up(p.add(1), p, 16);
            assert_eq!(ld64(p.add(9)), 0xabab_abab_abab_abab);
        }
    }

    /// Seen to fail with two `ld64` in place of `ld128`.
    #[test]
    fn a_pair_is_never_torn() {
        use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
        let mut a = Area([0; 64]);
        let (p, stop) = (AtomicPtr::new(a.0.as_mut_ptr()), AtomicBool::new(false));
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut n = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: `a` outlives the scope and is reached through these accessors only.
                    unsafe { st128(p.load(Ordering::Relaxed), (n, !n)) };
                    n += 1;
                }
            });
            let (mut last, mut changes, mut torn) = ((0, 0), 0, None);
            while changes < 20_000 && torn.is_none() {
                // SAFETY: as above.
                let pair = unsafe { ld128(p.load(Ordering::Relaxed)) };
                changes += (pair != last) as u32;
                torn = Some(pair).filter(|&(lo, hi)| lo != !hi && (lo, hi) != (0, 0));
                last = pair;
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(torn, None);
        });
    }

    unsafe fn xchg8_like(p: *mut u8) -> u8 {
        // SAFETY: forwarded from the test.
        unsafe { cas8(p, 2, 3) }
    }
}
