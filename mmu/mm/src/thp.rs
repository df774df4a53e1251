//! Huge pages: a segment of anonymous memory mapped by its PMD entry, with a page table deposited for the split (hosted-mm
//! C.4, B.5). What khugepaged does to a whole segment, what splits it, and what unmaps it.

use crate::arch::{Arch, PteFormat, Soft};
use crate::buddy::Gfp;
use crate::error::{Errno, MmError, Result};
use crate::kernel::Kernel;
use crate::layout;
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::mutant::Step;
use crate::page::{FrameKind, flag, word};
use crate::pgtable::{pmd_level, pte_level};
use crate::vma::{Contents, Prot};
use racewalk_ram::{Paddr, Pfn, Vaddr};
use racewalk_sched::point;
use std::sync::atomic::Ordering::SeqCst;

/// log2 of the pages of a huge page.
const fn order<A: Arch>() -> u32 {
    pte_level::<A>().bits
}

/// Bytes of a huge page.
const fn span<A: Arch>() -> u64 {
    A::LEVELS[pmd_level::<A>()].span()
}

impl<A: Arch> Mm<A> {
    /// The segment of `va` becomes a huge page: where it has a page table, as `collapse_huge_page` does it, with `mmap_lock`
    /// and the `anon_vma` lock for writing; else as `do_huge_pmd_anonymous_page`. False if it is not anonymous memory as a
    /// whole, is one already, or somebody else holds one of its pages.
    pub fn huge_map(&self, va: Vaddr) -> Result<bool> {
        if !A::DEPOSITS {
            let what = format!("huge pages on {}", A::NAME);
            return Err(MmError::NotModelled { what, errno: Errno::ENOSYS });
        }
        let k = self.kernel();
        let start = va.0 & !(span::<A>() - 1);
        let space = self.mmap_write();
        let vma = space.vmas.find(start).filter(|v| v.end >= start + span::<A>());
        let Some(vma) = vma.filter(|v| matches!(v.contents, Contents::Anonymous)) else { return Ok(false) };
        // A scheme may leave out what keeps those away who come by the anon_vma.
        let _alone = (k.takes(Step::CollapseRmap) && k.frag.collapse_excludes()).then(|| self.anon_write());
        let block = k.alloc(order::<A>(), Gfp::Kernel, FrameKind::Anon, "a huge page")?;
        k.kmem.pages.set_flag(block, flag::ANON)?;
        let soft = match vma.prot.contains(Prot::WRITE) {
            true => Soft::YOUNG | Soft::DIRTY | Soft::WRITE,
            false => Soft::YOUNG,
        };
        let pte = A::Pte::new(block, vma.prot, false).with(soft);
        let done = k.huge_fill(self, Vaddr(start), block, pte);
        if !matches!(done, Ok(true)) {
            k.free(block, order::<A>())?;
        }
        k.note(done)
    }

    /// `split_huge_pmd`: the huge page becomes pages, mapped by the table that is withdrawn. False if it is none.
    pub fn split_huge(&self, va: Vaddr) -> Result<bool> {
        let _space = self.mmap_read();
        let k = self.kernel();
        k.note((|| match k.pmd_offset(self, va)? {
            Some(pmd) => k.split_pmd(self, pmd, Vaddr(va.0 & !(span::<A>() - 1))),
            None => Ok(false),
        })())
    }
}

impl<A: Arch> Kernel<A> {
    fn huge_fill(&self, mm: &Mm<A>, va: Vaddr, block: Pfn, pte: A::Pte) -> Result<bool> {
        let pmd = self.pmd_alloc(mm, va)?;
        let entry = self.load_entry(pmd)?;
        if A::huge_pte(entry).is_some() {
            return Ok(false);
        }
        let table = match A::next_table(pmd_level::<A>(), entry) {
            None => {
                let table = self.pte_table_alloc(mm.kva())?;
                mm.words()?[mmw::NR_PTES].fetch_add(1, SeqCst);
                self.clear(block.paddr(), span::<A>())?;
                table
            }
            Some(table) => {
                self.with_pmd_lock(mm, pmd, || {
                    point("pmd.collapse_flush");
                    self.unhooked(table, pmd)?;
                    A::collapse_flush(self, mm, pmd, va)
                })?;
                // For those who walk with interrupts off (F-23).
                if self.takes(Step::CollapseIpi) {
                    self.cross_call();
                }
                if !self.collapse_copy(mm, table, block)? {
                    self.with_pmd_lock(mm, pmd, || {
                        A::store_entry(self, pmd, A::table_entry(pmd_level::<A>(), table))?;
                        self.hooked(pmd_level::<A>(), table, pmd, va)
                    })?;
                    return Ok(false);
                }
                table
            }
        };
        self.with_pmd_lock(mm, pmd, || {
            self.deposit(mm, pmd, table)?;
            point("pmd.set_huge");
            A::store_entry(self, pmd, A::huge_entry(pte))?;
            self.huge_counts(mm, pmd, true)
        })?;
        self.kmem.pages.add_mapcount(block, 1)?;
        mm.words()?[mmw::RSS_ANON].fetch_add(1 << order::<A>(), SeqCst);
        Ok(true)
    }

    /// `__collapse_huge_page_isolate` and `_copy`: the pages of a detached table go, their contents to `block`. False, and
    /// nothing is changed, if somebody else holds one of them.
    fn collapse_copy(&self, mm: &Mm<A>, table: Paddr, block: Pfn) -> Result<bool> {
        let ptl = self.kmem.pages.word(self.kmem.pages.at(table)?, word::PTL)?;
        lockword::lock(ptl, "ptl").map_err(|e| e.at(layout::direct(table)))?;
        point("collapse.copy");
        let r = (|| -> Result<Option<Vec<Pfn>>> {
            let entries = || (0..pte_level::<A>().entries()).map(|i| (i, table.offset(i * 8)));
            let mut pages = Vec::new();
            for (_, at) in entries() {
                let pte = A::Pte::from_raw(A::peek_entry(self, at)?);
                if pte.present() && !pte.special() && self.kmem.pages.refcount(pte.frame())? != 1 {
                    return Ok(None);
                }
            }
            for (i, at) in entries() {
                let pte = A::Pte::from_raw(A::peek_entry(self, at)?);
                let to = block.paddr().offset(i << A::PAGE_SHIFT);
                if pte.present() && !pte.special() {
                    self.copy_page(to.pfn(), pte.frame())?;
                    pages.push(pte.frame());
                } else {
                    self.clear(to, self.page_size())?;
                }
                if !pte.none() {
                    A::store_entry(self, at, A::Pte::EMPTY.raw())?;
                }
            }
            Ok(Some(pages))
        })();
        lockword::unlock(ptl, "ptl")?;
        let Some(pages) = r? else { return Ok(false) };
        for p in pages {
            self.remove_rmap(mm, p)?;
            self.put_page(p)?;
        }
        Ok(true)
    }

    /// Under the PMD lock: an entry became huge, or is no more. Deposits and huge entries must be as many (invariant 15).
    fn huge_counts(&self, mm: &Mm<A>, pmd: Paddr, huge: bool) -> Result<()> {
        match self.sanitizer() {
            Some(s) => s.huge(self.deposit_head(mm, pmd)?, pmd, huge),
            None => Ok(()),
        }
    }

    /// `__split_huge_pmd`: under the PMD lock the entry goes, the withdrawn table is filled and hooked in its place.
    pub(crate) fn split_pmd(&self, mm: &Mm<A>, pmd: Paddr, va: Vaddr) -> Result<bool> {
        self.with_pmd_lock(mm, pmd, || {
            let Some(pte) = A::huge_pte(self.load_entry(pmd)?) else { return Ok(false) };
            A::huge_flush(self, mm, pmd, va)?;
            let table = self.withdraw(mm, pmd)?;
            let block = pte.frame();
            self.split_block(block, order::<A>())?;
            point("split.fill");
            if let Some(s) = self.sanitizer() {
                // One for all: they differ in the frame.
                s.store(table, pte.raw())?;
            }
            for i in 0..pte_level::<A>().entries() {
                A::store_entry(self, table.offset(i * 8), pte.raw() + (i << A::PAGE_SHIFT))?;
            }
            A::store_entry(self, pmd, A::table_entry(pmd_level::<A>(), table))?;
            self.hooked(pmd_level::<A>(), table, pmd, va)?;
            self.huge_counts(mm, pmd, false)?;
            Ok(true)
        })
    }

    /// A huge page becomes pages, each with the references that the whole had.
    fn split_block(&self, block: Pfn, order: u32) -> Result<()> {
        let pages = &self.kmem.pages;
        let counts = pages.word(block, word::COUNTS)?.load(SeqCst);
        pages.split(block, order)?;
        for p in (0..1 << order).map(|i| Paddr(block.paddr().0 + (i << A::PAGE_SHIFT)).pfn()) {
            pages.set_flag(p, flag::ANON)?;
            pages.word(p, word::COUNTS)?.store(counts, SeqCst);
        }
        Ok(())
    }

    /// `zap_huge_pmd`: translations, then the deposited table, then the huge page go. Nothing if the entry is not huge.
    pub(crate) fn zap_huge(&self, mm: &Mm<A>, pmd: Paddr, va: Vaddr) -> Result<()> {
        let taken = self.with_pmd_lock(mm, pmd, || {
            let Some(pte) = A::huge_pte(self.load_entry(pmd)?) else { return Ok(None) };
            A::huge_flush(self, mm, pmd, va)?;
            let table = self.takes(Step::ZapWithdraw).then(|| self.withdraw(mm, pmd)).transpose()?;
            self.huge_counts(mm, pmd, false)?;
            Ok(Some((pte.frame(), table)))
        })?;
        let Some((block, table)) = taken else { return Ok(()) };
        if let Some(table) = table {
            self.pte_table_free(mm.kva(), table)?;
        }
        mm.words()?[mmw::NR_PTES].fetch_sub(1, SeqCst);
        mm.words()?[mmw::RSS_ANON].fetch_sub(1 << order::<A>(), SeqCst);
        self.kmem.pages.add_mapcount(block, -1)?;
        point("page.put");
        if self.kmem.pages.put_testzero(block)? { self.free(block, order::<A>()) } else { Ok(()) }
    }

    /// Splits what `pmd` maps, if it is a huge page. Whether it was.
    pub(crate) fn split_if_huge(&self, mm: &Mm<A>, pmd: Paddr, va: Vaddr) -> Result<bool> {
        if A::huge_pte(A::peek_entry(self, pmd)?).is_none() {
            return Ok(false);
        }
        self.split_pmd(mm, pmd, Vaddr(va.0 & !(span::<A>() - 1)))
    }

    /// What `start..end` has of a segment that `pmd` maps as a huge page: all of it goes, or it is split first. Whether
    /// there is more to do.
    pub(crate) fn zap_or_split(&self, mm: &Mm<A>, pmd: Paddr, (start, end): (u64, u64)) -> Result<bool> {
        if A::huge_pte(A::peek_entry(self, pmd)?).is_none() {
            return Ok(false);
        }
        if end - start == span::<A>() {
            self.zap_huge(mm, pmd, Vaddr(start))?;
            return Ok(false);
        }
        self.split_pmd(mm, pmd, Vaddr(start & !(span::<A>() - 1)))
    }
}
