//! Code bits: which 64-byte lines of which frames translated code was made from.

use crate::{Paddr, Pfn};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Code bits of all frames, and the queue of frames whose code became stale.
///
/// Two flags a frame answer the race between translating from a frame and gaining fast write access to it
/// ([`mark`](CodeBits::mark) and [`fast_writable`](CodeBits::fast_writable) each set their own flag, fence, and
/// look at the other's): whoever comes second sees the first.
pub struct CodeBits {
    lines: Box<[AtomicU64]>,
    written_fast: Box<[AtomicU8]>,
    stale: Mutex<Vec<Pfn>>,
    epoch: AtomicU64,
}

fn zeroed<T: Default>(n: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(n).collect()
}

impl CodeBits {
    pub(crate) fn new(frames: usize) -> Self {
        CodeBits {
            lines: zeroed(frames),
            written_fast: zeroed(frames),
            stale: Mutex::new(Vec::new()),
            epoch: AtomicU64::new(0),
        }
    }

    fn mask(addr: Paddr, len: u64) -> u64 {
        let first = addr.0 >> 6 & 63;
        let last = (addr.0 + len - 1) >> 6 & 63;
        (u64::MAX << first) & (u64::MAX >> (63 - last))
    }

    /// Says that code is about to be made from these bytes of one frame. Returns true if some CPU may hold fast
    /// write access to the frame: the caller must revoke it everywhere before it reads the bytes.
    pub fn mark(&self, addr: Paddr, len: u64) -> bool {
        let f = addr.pfn().0 as usize;
        let new = self.lines[f].fetch_or(Self::mask(addr, len), Ordering::SeqCst) == 0;
        new && self.written_fast[f].swap(0, Ordering::SeqCst) != 0
    }

    /// Says that a CPU is about to enter the frame into its fast TLB for writing. Returns false if it may not,
    /// because code was made from the frame: stores must then go through [`Ram::written`](crate::Ram::written).
    pub fn fast_writable(&self, frame: Pfn) -> bool {
        let f = frame.0 as usize;
        if self.written_fast[f].load(Ordering::Relaxed) == 0 {
            self.written_fast[f].store(1, Ordering::SeqCst);
        }
        std::sync::atomic::fence(Ordering::SeqCst);
        self.lines[f].load(Ordering::SeqCst) == 0
    }

    /// Whether code was made from any line of the frame.
    pub fn has_code(&self, frame: Pfn) -> bool {
        self.lines[frame.0 as usize].load(Ordering::Relaxed) != 0
    }

    /// See [`Ram::written`](crate::Ram::written).
    #[inline]
    pub fn written(&self, addr: Paddr, len: u64) {
        if len == 0 {
            return;
        }
        let last = addr.0 + len - 1;
        if addr.0 >> 12 == last >> 12 {
            let hit = self.lines[(addr.0 >> 12) as usize].load(Ordering::Relaxed);
            if hit != 0 {
                self.hit(addr, len, hit);
            }
        } else {
            self.written_span(addr, last);
        }
    }

    #[cold]
    fn written_span(&self, addr: Paddr, last: u64) {
        let mut a = addr.0;
        while a <= last {
            let end = (a | 0xfff).min(last);
            let lines = self.lines[(a >> 12) as usize].load(Ordering::Relaxed);
            if lines != 0 {
                self.hit(Paddr(a), end - a + 1, lines);
            }
            a = end + 1;
        }
    }

    #[cold]
    fn hit(&self, addr: Paddr, len: u64, lines: u64) {
        if lines & Self::mask(addr, len) == 0 {
            return;
        }
        let f = addr.pfn();
        let mut q = self.stale.lock().unwrap_or_else(|e| e.into_inner());
        // Cleared under the lock: a translator that marks the frame again after this makes new code.
        if self.lines[f.0 as usize].swap(0, Ordering::SeqCst) != 0 {
            q.push(f);
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A number that changes whenever code became stale: engines compare it at their polls and after stores to
    /// frames that hold code.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Takes the frames whose code is stale. Their bits are clear already.
    pub fn take_stale(&self) -> Vec<Pfn> {
        let mut taken = Vec::new();
        self.swap_stale(&mut taken);
        taken
    }

    /// The same in place of what is in `frames`, whose memory the queue goes on with.
    pub fn swap_stale(&self, frames: &mut Vec<Pfn>) {
        frames.clear();
        std::mem::swap(frames, &mut *self.stale.lock().unwrap_or_else(|e| e.into_inner()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_lines_count() {
        let c = CodeBits::new(4);
        assert!(!c.mark(Paddr(0x1080), 4));
        let e = c.epoch();
        c.written(Paddr(0x1000), 0x80);
        c.written(Paddr(0x10c0), 8);
        assert_eq!(c.epoch(), e);
        c.written(Paddr(0x0ff8), 0x1000);
        assert_ne!(c.epoch(), e);
        assert_eq!(c.take_stale(), [Pfn(1)]);
        assert!(!c.has_code(Pfn(1)));
    }

    #[test]
    fn whoever_comes_second_sees_the_first() {
        let c = CodeBits::new(4);
        assert!(c.fast_writable(Pfn(2)));
        assert!(c.mark(Paddr(0x2000), 2), "a fast writer must be revoked");
        assert!(!c.fast_writable(Pfn(2)));
    }
}
