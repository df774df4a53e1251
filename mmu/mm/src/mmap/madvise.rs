//! madvise.

use super::page_align;
use crate::arch::Arch;
use crate::error::{Errno, MmError, Result, sys};
use crate::gather::Gather;
use crate::mm::Mm;
use crate::vma::Contents;

/// `MADV_*`.
pub mod madv {
    /// Nothing special.
    pub const NORMAL: u32 = 0;
    /// Random access to come.
    pub const RANDOM: u32 = 1;
    /// Sequential access to come.
    pub const SEQUENTIAL: u32 = 2;
    /// Will be needed.
    pub const WILLNEED: u32 = 3;
    /// Drop the pages.
    pub const DONTNEED: u32 = 4;
    /// The pages may be dropped.
    pub const FREE: u32 = 8;
    /// Huge pages wanted.
    pub const HUGEPAGE: u32 = 14;
    /// No huge pages.
    pub const NOHUGEPAGE: u32 = 15;
}

impl<A: Arch> Mm<A> {
    /// `madvise(2)`. DONTNEED and FREE drop pages; other known advice is accepted without effect.
    pub fn madvise(&self, addr: u64, len: u64, advice: u32) -> Result<()> {
        self.kernel().note(self.do_madvise(addr, len, advice))
    }

    fn do_madvise(&self, addr: u64, len: u64, advice: u32) -> Result<()> {
        const OP: &str = "madvise";
        let zap = match advice {
            madv::DONTNEED | madv::FREE => true,
            madv::NORMAL
            | madv::RANDOM
            | madv::SEQUENTIAL
            | madv::WILLNEED
            | madv::HUGEPAGE
            | madv::NOHUGEPAGE => false,
            _ => {
                return Err(MmError::NotModelled {
                    what: format!("madvise advice {advice}"),
                    errno: Errno::EINVAL,
                });
            }
        };
        if addr & Self::IN_PAGE != 0 {
            return sys(OP, Errno::EINVAL, "the address is not a multiple of the page size");
        }
        let end = page_align::<A>(len).and_then(|l| addr.checked_add(l));
        let Some(end) = end.filter(|_| len == 0 || len.wrapping_add(Self::IN_PAGE) >= len) else {
            return sys(OP, Errno::EINVAL, "the length overflows");
        };
        if addr == end {
            return Ok(());
        }
        let space = self.mmap_read();
        let mut at = addr;
        let mut hole = false;
        let mut g = Gather::new(self.kernel(), self);
        for v in space.vmas.overlapping(addr, end) {
            hole |= v.start > at;
            at = v.end;
            if advice == madv::FREE && !matches!(v.contents, Contents::Anonymous) {
                g.flush()?;
                return sys(OP, Errno::EINVAL, "MADV_FREE is for private anonymous memory");
            }
            if zap {
                self.kernel().zap_range(&mut g, self, v.start.max(addr), v.end.min(end))?;
            }
        }
        g.flush()?;
        if hole || at < end { sys(OP, Errno::ENOMEM, "a part is not mapped") } else { Ok(()) }
    }
}
