//! Taking page tables away from under their readers, and who keeps out of whose way: the `i_mmap` lock (hosted-mm C.4,
//! C.7).

use crate::arch::Arch;
use crate::error::{MmError, Result};
use crate::gather::Gather;
use crate::mm::{Mm, Space};
use crate::mutant::Step;
use crate::pgtable::pmd_level;
use crate::vma::{Contents, Vma};
use racewalk_ram::Vaddr;
use std::collections::BTreeMap;

/// What is linked to the objects it maps (`i_mmap`): ranges by their first address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked(BTreeMap<u64, u64>);

impl Linked {
    fn contains(&self, va: u64) -> bool {
        self.0.range(..=va).next_back().is_some_and(|(_, &end)| va < end)
    }

    fn insert(&mut self, start: u64, end: u64) {
        self.0.insert(start, end);
    }

    fn remove(&mut self, start: u64, end: u64) {
        let cut: Vec<(u64, u64)> =
            self.0.range(..end).rev().take_while(|r| *r.1 > start).map(|(&a, &b)| (a, b)).collect();
        for (a, b) in cut {
            self.0.remove(&a);
            if a < start {
                self.0.insert(a, start);
            }
            if b > end {
                self.0.insert(end, b);
            }
        }
    }
}

impl<A: Arch> Mm<A> {
    /// Bytes that one PTE table covers.
    const SEGMENT: u64 = A::LEVELS[A::LEVELS.len() - 2].span();

    /// Drops the pages of the object mapping in the segment (1 MiB) at `addr` and takes their page table away, as
    /// khugepaged does when it has collapsed them; both come back by faults. False if that segment is not wholly
    /// inside one object mapping, or somebody mapped a page meanwhile.
    pub fn retract_segment(&self, addr: u64) -> Result<bool> {
        self.kernel().note(self.do_retract(addr & !(Self::SEGMENT - 1)))
    }

    fn do_retract(&self, start: u64) -> Result<bool> {
        let inside = |space: &Space| {
            let end = start.saturating_add(Self::SEGMENT);
            space.vmas.find(start).is_some_and(|v| v.end >= end && v.is_shared())
        };
        if !self.kernel().frag.defers() {
            let space = self.mmap_write();
            return if inside(&space) { self.retract_alone(start) } else { Ok(false) };
        }
        let space = self.mmap_read();
        if inside(&space) { self.retract_linked(start) } else { Ok(false) }
    }

    /// `vma_link`: to the object, or the anon_vma.
    pub(crate) fn link(&self, vma: &Vma) {
        match vma.contents {
            Contents::Object { .. } => self.i_mmap_write().insert(vma.start, vma.end),
            Contents::Anonymous => self.anon_write().insert(vma.start, vma.end),
        }
    }

    /// `unlink_file_vma`: waits for walkers that came by the object, and lets no new ones in.
    pub(crate) fn unlink(&self, start: u64, end: u64, anon: bool) {
        self.i_mmap_write().remove(start, end);
        if anon {
            self.anon_write().remove(start, end);
        }
    }

    /// Runs `f` as a walk along an object's mappings does: with `i_mmap` held for reading, if `va` is linked.
    pub(crate) fn by_object<R>(&self, va: Vaddr, f: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
        let linked = self.i_mmap_read();
        if linked.contains(va.0) { f().map(Some) } else { Ok(None) }
    }

    /// Runs `f` as a walk along an anonymous page's mappings does: with the `anon_vma` lock held for reading, if `va` is linked.
    pub(crate) fn by_anon<R>(&self, va: Vaddr, f: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
        let linked = self.anon_read();
        if linked.contains(va.0) { f().map(Some) } else { Ok(None) }
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
        let linked = self.kernel().takes(Step::RetractLock).then(|| self.i_mmap_write());
        if linked.as_ref().is_some_and(|l| !l.contains(start)) {
            return Ok(false);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut() {
        let mut l = Linked::default();
        l.insert(10, 20);
        l.insert(20, 30);
        l.remove(15, 25);
        let linked: Vec<u64> = (0..40).filter(|&v| l.contains(v)).collect();
        assert_eq!(linked, (10..15).chain(25..30).collect::<Vec<_>>());
        l.remove(0, 100);
        assert!((0..40).all(|v| !l.contains(v)));
        l.insert(0, 100);
        l.remove(40, 60);
        assert!(l.contains(39) && !l.contains(40) && !l.contains(59) && l.contains(60));
    }
}
