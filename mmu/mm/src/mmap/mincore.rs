//! mincore.

use super::page_align;
use crate::arch::{Arch, PteFormat};
use crate::error::{Errno, Result, sys};
use crate::mm::Mm;
use racewalk_ram::Vaddr;

impl<A: Arch> Mm<A> {
    /// `mincore(2)`: for each page of the range, whether it is mapped to a frame.
    pub fn mincore(&self, addr: u64, len: u64) -> Result<Vec<bool>> {
        let end = page_align::<A>(len).and_then(|l| addr.checked_add(l)).filter(|&e| e <= A::TASK_SIZE);
        if addr & Self::IN_PAGE != 0 {
            return sys("mincore", Errno::EINVAL, "the address is not a multiple of the page size");
        }
        let Some(end) = end else { return sys("mincore", Errno::ENOMEM, "beyond the address space") };
        let space = self.mmap_read();
        if !space.vmas.all(addr, end) {
            return sys("mincore", Errno::ENOMEM, "a part is not mapped");
        }
        (addr..end)
            .step_by(Self::PAGE as usize)
            .map(|a| {
                let pmd = self.kernel().pmd_offset(self, Vaddr(a))?;
                pmd.map_or(Ok(false), |p| {
                    Ok(self.kernel().pte_peek(p, Vaddr(a))?.is_none_or(|pte| pte.present()))
                })
            })
            .collect()
    }
}
