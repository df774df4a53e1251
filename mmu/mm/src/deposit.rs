//! Page tables kept for a later split: `pgtable_trans_huge_deposit` and `_withdraw` (hosted-mm B.5). The list runs through the
//! first two doublewords of the tables; its head is in the record of the page that the PMD table is in, or, where PMD locks
//! are not split, in the space. Everything here is done under the PMD lock.

use crate::arch::Arch;
use crate::error::{Result, broken_at};
use crate::kernel::Kernel;
use crate::layout;
use crate::mm::{Mm, mmw};
use crate::mutant::Step;
use crate::page::{Pages, word};
use crate::pgtable::pmd_level;
use racewalk_ram::{Kva, Paddr, Pfn};
use std::sync::atomic::Ordering::SeqCst;

impl<A: Arch> Kernel<A> {
    /// Where the head of the list is that a PMD entry's table is deposited on.
    pub(crate) fn deposit_head(&self, mm: &Mm<A>, pmd: Paddr) -> Result<Kva> {
        Ok(match self.config.pmd_locks {
            crate::PmdLocks::Split => Kva(Pages::lru(self.pmd_page(pmd)?).0 + 8),
            crate::PmdLocks::Space => Kva(mm.kva().0 + mmw::PMD_HUGE_PTE as u64 * 8),
        })
    }

    /// The page that the table of a PMD entry is in.
    pub(crate) fn pmd_page(&self, pmd: Paddr) -> Result<Pfn> {
        self.kmem.pages.at(Paddr(pmd.0 & !(A::LEVELS[pmd_level::<A>()].bytes() - 1)))
    }

    /// `pgtable_trans_huge_deposit`: the new node is linked behind the one that the head names, and the head names it.
    pub(crate) fn deposit(&self, mm: &Mm<A>, pmd: Paddr, table: Paddr) -> Result<()> {
        let (head, node) = (self.deposit_head(mm, pmd)?, layout::direct(table));
        if let Some(s) = self.sanitizer() {
            s.deposit(table, head)?;
        }
        let first = self.kmem.load(head, "pmd_huge_pte")?;
        self.kmem.list_init(node)?;
        if first != 0 {
            self.kmem.list_add(node, Kva(first))?;
        }
        self.kmem.store(head, node.0, "pmd_huge_pte")
    }

    /// `pgtable_trans_huge_withdraw`: the node that the head names; then it names the one behind. Both words that linked it
    /// are empty entries again.
    pub(crate) fn withdraw(&self, mm: &Mm<A>, pmd: Paddr) -> Result<Paddr> {
        let head = self.deposit_head(mm, pmd)?;
        let node = Kva(self.kmem.load(head, "pmd_huge_pte")?);
        if node.0 == 0 {
            return self.broken_about(15, "a table is withdrawn where none is deposited".into(), pmd);
        }
        let table = match layout::place(node, self.kmem.pages.frames(), "a deposited table")? {
            layout::Place::Direct(at) => at,
            _ => return broken_at(15, head, format!("{node:?} is deposited, which is no table")),
        };
        let next = Kva(self.kmem.load(node, "a deposited table")?);
        self.kmem.list_del_init(node)?;
        self.kmem.store(head, if next == node { 0 } else { next.0 }, "pmd_huge_pte")?;
        if self.takes(Step::WithdrawClear) {
            for i in 0..2 {
                let empty = A::empty(pmd_level::<A>() + 1);
                self.kmem.store(Kva(node.0 + 8 * i), empty, "a page table")?;
            }
        }
        if let Some(s) = self.sanitizer() {
            s.withdraw(table, head)?;
        }
        Ok(table)
    }

    /// Before the page of a PMD table is freed: nothing may be deposited with it (invariant 15).
    pub(crate) fn no_deposits(&self, table: Paddr) -> Result<()> {
        if A::DEPOSITS && self.config.pmd_locks == crate::PmdLocks::Split {
            let page = self.kmem.pages.at(table)?;
            let left = self.kmem.pages.word(page, word::LRU_PREV)?.load(SeqCst);
            if left != 0 {
                let found = format!("the page of PMD table {:#x} is freed with deposited tables", table.0);
                return self.broken_about(15, found, table);
            }
        }
        Ok(())
    }
}
