//! Taking page tables away from under their readers, and who keeps out of whose way: the `i_mmap` lock (hosted-mm C.4,
//! C.7).

use crate::arch::Arch;
use crate::error::{MmError, Result};
use crate::gather::Gather;
use crate::mm::Mm;
use crate::mutant::Step;
use crate::pgtable::pmd_level;
use racewalk_ram::Vaddr;

/// A range whose mappings are linked to no object.
#[must_use]
pub(crate) struct Unlinked<'a, A: Arch> {
    mm: &'a Mm<A>,
    range: (u64, u64),
}

impl<A: Arch> Drop for Unlinked<'_, A> {
    fn drop(&mut self) {
        // A space that exits has no mappings any more; one that was cancelled stays as it is.
        if !std::thread::panicking() {
            let mut u = self.mm.i_mmap_write();
            if let Some(i) = u.iter().position(|&r| r == self.range) {
                u.swap_remove(i);
            }
        }
    }
}

impl<A: Arch> Mm<A> {
    /// `unlink_file_vma`: waits for walkers that came by the object, and lets no new ones in.
    pub(crate) fn unlink(&self, start: u64, end: u64) -> Unlinked<'_, A> {
        let range = (start, end);
        self.i_mmap_write().push(range);
        Unlinked { mm: self, range }
    }

    /// Runs `f` as a walk along an object's mappings does: with `i_mmap` held for reading, if the mapping at `va` is
    /// still linked.
    pub(crate) fn by_object<R>(&self, va: Vaddr, f: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
        let unlinked = self.i_mmap_read();
        if unlinked.iter().any(|r| (r.0..r.1).contains(&va.0)) {
            return Ok(None);
        }
        f().map(Some)
    }

    /// `retract_page_tables` of one segment, as it landed: `i_mmap` for reading and no `mmap_lock`. The pages are
    /// unmapped first, as whoever collapses them does. A scheme without `pte_free_defer` retracts as Linux 6.1 does,
    /// see [`retract_by_ipi`](Self::retract_by_ipi). False if there was nothing to retract.
    pub fn retract(&self, va: Vaddr) -> Result<bool> {
        let start = va.0 & !(A::LEVELS[pmd_level::<A>()].span() - 1);
        if !self.kernel().frag.defers() {
            return self.retract_by_ipi(va);
        }
        self.kernel().note(self.retract_linked(start))
    }

    /// The way of Linux 6.1: `mmap_lock` and `i_mmap` for writing, a cross call, `pte_free`.
    pub fn retract_by_ipi(&self, va: Vaddr) -> Result<bool> {
        let start = va.0 & !(A::LEVELS[pmd_level::<A>()].span() - 1);
        let _space = self.mmap_write();
        self.kernel().note(self.retract_alone(start))
    }

    pub(crate) fn retract_linked(&self, start: u64) -> Result<bool> {
        let done = self.by_object(Vaddr(start), || {
            self.unmap_segment(start)?;
            self.kernel().retract_table(self, start, true)
        })?;
        Ok(done.unwrap_or(false))
    }

    /// With `mmap_lock` held for writing.
    pub(crate) fn retract_alone(&self, start: u64) -> Result<bool> {
        let _unlinked = self.kernel().takes(Step::RetractLock).then(|| self.i_mmap_write());
        self.unmap_segment(start)?;
        self.kernel().retract_table(self, start, false)
    }

    fn unmap_segment(&self, start: u64) -> Result<()> {
        let mut g = Gather::new(self.kernel(), self);
        let end = start + A::LEVELS[pmd_level::<A>()].span();
        self.kernel().zap_range(&mut g, self, start, end)?;
        g.flush()
    }

    /// Makes sure that a table hangs there, as the first touch of a mapping does: `pte_alloc`, with `mmap_lock` held for
    /// reading.
    pub fn alloc_table(&self, va: Vaddr) -> Result<()> {
        let space = self.mmap_read();
        if space.vmas.find(va.0).is_none() {
            return Err(MmError::UserFault { addr: va.0 });
        }
        let k = self.kernel();
        k.note((|| {
            let pmd = k.pmd_alloc(self, va)?;
            k.pte_alloc(self, pmd, va)
        })())
    }

    /// Takes all pages of the segment away, as `MADV_DONTNEED` does; its table stays.
    pub fn zap_segment(&self, va: Vaddr) -> Result<()> {
        let start = va.0 & !(A::LEVELS[pmd_level::<A>()].span() - 1);
        let _space = self.mmap_read();
        self.kernel().note(self.unmap_segment(start))
    }
}
