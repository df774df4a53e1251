//! What mappings of files have besides: msync, and a file that becomes shorter.

use super::page_align;
use crate::arch::Arch;
use crate::error::{Errno, Result, sys};
use crate::file::FileObject;
use crate::gather::Gather;
use crate::mm::Mm;
use crate::vma::Contents;
use std::sync::Arc;

impl<A: Arch> Mm<A> {
    /// `msync(2)`: writes back what was stored through shared file mappings of the range.
    pub fn msync(&self, addr: u64, len: u64, write: bool) -> Result<()> {
        const OP: &str = "msync";
        if addr & Self::IN_PAGE != 0 {
            return sys(OP, Errno::EINVAL, "the address is not a multiple of the page size");
        }
        let end = page_align::<A>(len).and_then(|l| addr.checked_add(l));
        let Some(end) = end else { return sys(OP, Errno::ENOMEM, "the length overflows") };
        let mut pieces = Vec::new();
        let whole = {
            let space = self.mmap_read();
            for v in space.vmas.overlapping(addr, end).filter(|v| v.is_shared()) {
                if let Contents::Object { file, .. } = &v.contents {
                    let (from, to) = (v.start.max(addr), v.end.min(end));
                    pieces.push((
                        file.clone(),
                        v.pgoff_of(from),
                        v.pgoff_of(from) + ((to - from) >> A::PAGE_SHIFT),
                    ));
                }
            }
            space.vmas.all(addr, end)
        };
        if write {
            for (file, from, to) in pieces {
                file.write_back(from, to)?;
            }
        }
        if whole { Ok(()) } else { sys(OP, Errno::ENOMEM, "a part is not mapped") }
    }

    /// The object has `size` bytes now: pages beyond are mapped no more, private copies included.
    pub fn truncate_object(&self, object: &Arc<FileObject>, size: u64) -> Result<()> {
        let r = self.do_truncate(object, size.div_ceil(Self::PAGE));
        self.kernel().note(r)
    }

    fn do_truncate(&self, object: &Arc<FileObject>, pages: u64) -> Result<()> {
        let space = self.mmap_read();
        let mut g = Gather::new(self.kernel(), self);
        for v in space.vmas.iter() {
            let Contents::Object { file, pgoff } = &v.contents else { continue };
            let from = v.start + (pages.saturating_sub(*pgoff) << A::PAGE_SHIFT).min(v.bytes());
            if Arc::ptr_eq(file, object) && from < v.end {
                self.kernel().zap_range(&mut g, self, from, v.end)?;
            }
        }
        g.flush()
    }
}
