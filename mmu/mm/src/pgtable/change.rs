//! Changing entries that are there: protection, and moving them elsewhere.

use crate::arch::{Arch, How, PteFormat};
use crate::error::{Result, broken_at};
use crate::kernel::Kernel;
use crate::layout;
use crate::lockword;
use crate::mm::Mm;
use crate::page::word;
use crate::pgtable::{above, pmd_level, pte_level};
use crate::tlb_batch::TlbBatch;
use crate::vma::Vma;
use racewalk_ram::{Paddr, Vaddr};

impl<A: Arch> Kernel<A> {
    /// Gives all present entries of `start..end` the protection of `vma`.
    pub(crate) fn change_protection(&self, mm: &Mm<A>, vma: &Vma, start: u64, end: u64) -> Result<()> {
        self.each_segment(mm, start, end, |pmd, from, to| {
            let locked = match self.pte_map_lock(pmd, Vaddr(from))? {
                None if self.split_if_huge(mm, pmd, Vaddr(from))? => self.pte_map_lock(pmd, Vaddr(from))?,
                l => l,
            };
            let Some(mut l) = locked else { return Ok(()) };
            let mut batch = TlbBatch::default();
            for a in (from..to).step_by(1 << A::PAGE_SHIFT) {
                let old = l.load()?;
                if old.present() {
                    let new = old.modify(vma.prot, vma.is_shared());
                    if new != old {
                        self.ptep_xchg(mm, Vaddr(a), l.pte, new, How::Lazy(&mut batch))?;
                    }
                }
                l.pte = l.pte.offset(8);
            }
            A::leave_lazy(self, mm, &mut batch)
        })
    }

    /// Moves the entries of `len` bytes from `old` to `new`, which has none. Entries whose new table cannot be had
    /// stay; the error says so after as many as possible were moved.
    pub(crate) fn move_page_tables(&self, mm: &Mm<A>, old: u64, new: u64, len: u64) -> Result<()> {
        let (segment, above) = (A::LEVELS[pmd_level::<A>()].span(), above::<A>());
        let mut at = 0;
        while at < len {
            let Some(from_pmd) = self.pmd_offset(mm, Vaddr(old + at))? else {
                at += ((old + at) | (above - 1)) + 1 - (old + at);
                continue;
            };
            let piece = |a: u64| (a | (segment - 1)) + 1 - a;
            let n = piece(old + at).min(piece(new + at)).min(len - at);
            if self.pte_table(from_pmd)?.is_some() || self.split_if_huge(mm, from_pmd, Vaddr(old + at))? {
                let to_pmd = self.pmd_alloc(mm, Vaddr(new + at))?;
                self.pte_alloc(mm, to_pmd, Vaddr(new + at))?;
                self.move_ptes(mm, (from_pmd, old + at), (to_pmd, new + at), n)?;
            }
            at += n;
        }
        A::flush_mm_lazy(self, mm)
    }

    fn move_ptes(&self, mm: &Mm<A>, from: (Paddr, u64), to: (Paddr, u64), n: u64) -> Result<()> {
        let Some(mut src) = self.pte_map_lock(from.0, Vaddr(from.1))? else { return Ok(()) };
        let Some(table) = self.pte_table(to.0)? else {
            return broken_at(
                16,
                layout::direct(to.0),
                format!("the page table at {:?} vanished under mmap_lock", to.0),
            );
        };
        // Tables of the same page have the same lock.
        let page = self.kmem.pages.at(table)?;
        let nested = !src.shares_lock(page);
        let ptl = self.kmem.pages.word(page, word::PTL)?;
        if nested {
            lockword::lock(ptl, "ptl nested").map_err(|e| e.at(layout::record(page)))?;
        }
        let mut dst = table.offset(pte_level::<A>().offset(Vaddr(to.1)));
        let r = (|| {
            for a in (from.1..from.1 + n).step_by(1 << A::PAGE_SHIFT) {
                if !src.load()?.none() {
                    let old = self.ptep_xchg(mm, Vaddr(a), src.pte, A::Pte::EMPTY, How::Direct)?;
                    self.set_pte(dst, old)?;
                }
                src.pte = src.pte.offset(8);
                dst = dst.offset(8);
            }
            Ok(())
        })();
        if nested {
            lockword::unlock(ptl, "ptl nested")?;
        }
        r
    }

    /// Changes an entry under its table's lock; returns the old one.
    pub(crate) fn ptep_xchg(
        &self,
        mm: &Mm<A>,
        va: Vaddr,
        pte: Paddr,
        new: A::Pte,
        how: How<'_>,
    ) -> Result<A::Pte> {
        if let Some(s) = self.sanitizer() {
            s.store(pte, new.raw())?;
        }
        A::ptep_xchg(self, mm, va, pte, new.raw(), how).map(A::Pte::from_raw)
    }

    /// Stores an entry where there is none, or changes software bits only, under its table's lock.
    pub(crate) fn set_pte(&self, pte: Paddr, new: A::Pte) -> Result<()> {
        if let Some(s) = self.sanitizer() {
            s.store(pte, new.raw())?;
        }
        A::set_pte(self, pte, new.raw())
    }
}
