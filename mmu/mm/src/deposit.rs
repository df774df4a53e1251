//! Page tables kept for a later split: `pgtable_trans_huge_deposit` and `_withdraw` (hosted-mm B.5), and the references
//! that others take to pages of tables (F-22).

use crate::arch::Arch;
use crate::error::{Errno, MmError, Result};
use crate::layout;
use crate::mm::Mm;
use crate::page::{FrameKind, flag, word};
use crate::pgtable::pmd_level;
use racewalk_ram::{Kva, Paddr, Pfn, Vaddr};
use racewalk_sched::{point, tso};
use std::sync::atomic::Ordering::SeqCst;

impl<A: Arch> Mm<A> {
    /// Makes a table and deposits it with the PMD table of `va`: the list runs through the first two doublewords of the
    /// tables; its head is the PMD page's `pmd_huge_pte`.
    pub fn deposit_table(&self, va: Vaddr) -> Result<()> {
        if !A::DEPOSIT_LIST {
            // Linux keeps a slot for it behind the PMD there, and HPTE slots in the table.
            let what = format!("deposited tables on {}", A::NAME);
            return Err(MmError::NotModelled { what, errno: Errno::ENOSYS });
        }
        let _space = self.mmap_read();
        let k = self.kernel();
        k.note((|| {
            let pmd = k.pmd_alloc(self, va)?;
            let table = k.pte_table_alloc(self.kva())?;
            k.with_pmd_lock(pmd, |page| {
                let head = k.kmem.pages.word(page, word::LRU_PREV)?;
                let node = layout::direct(table);
                match head.load(SeqCst) {
                    0 => k.kmem.list_init(node)?,
                    old => {
                        k.kmem.list_init(node)?;
                        k.kmem.list_add(node, Kva(old))?;
                    }
                }
                tso::fence();
                head.store(node.0, SeqCst);
                Ok(())
            })
        })())
    }

    /// Takes a deposited table back and frees it; false if there is none.
    pub fn withdraw_table(&self, va: Vaddr) -> Result<bool> {
        let _space = self.mmap_read();
        let k = self.kernel();
        k.note((|| {
            let Some(pmd) = k.pmd_offset(self, va)? else { return Ok(false) };
            let taken = k.with_pmd_lock(pmd, |page| {
                let head = k.kmem.pages.word(page, word::LRU_PREV)?;
                let node = Kva(head.load(SeqCst));
                if node.0 == 0 {
                    return Ok(None);
                }
                let next = Kva(k.kmem.load(node, "a deposited table")?);
                if next == node {
                    tso::fence();
                    head.store(0, SeqCst);
                } else {
                    tso::fence();
                    head.store(next.0, SeqCst);
                    k.kmem.list_del_init(node)?;
                }
                for i in 0..2 {
                    k.kmem.store(Kva(node.0 + 8 * i), A::empty(pmd_level::<A>() + 1), "a page table")?;
                }
                Ok(Some(Paddr(node.0)))
            })?;
            let Some(table) = taken else { return Ok(false) };
            k.pte_table_free(self.kva(), table)?;
            Ok(true)
        })())
    }

    /// A reference to the page that was last allocated for tables, as a walk over physical memory takes it: whether it is
    /// hooked already or not, unless the page has no reference.
    pub fn get_table_page(&self) -> Result<Option<Pfn>> {
        let k = self.kernel();
        point("page.get_unless_zero");
        let page = Pfn(k.last_table_page.load(SeqCst));
        if page.0 == 0 || k.kmem.pages.kind(page)? != FrameKind::PteTables {
            return Ok(None);
        }
        k.note(k.kmem.pages.try_get_page(page)).map(|got| got.then_some(page))
    }

    /// Drops it. Whoever drops the last one frees the page.
    pub fn put_table_page(&self, page: Pfn) -> Result<()> {
        let k = self.kernel();
        k.note((|| {
            point("page.put");
            if k.kmem.pages.put_testzero(page)? {
                if k.kmem.pages.flags(page)? & flag::TABLE == 0 {
                    // Its tables are gone: we were the last user.
                    return k.free(page, 0);
                }
                let found =
                    format!("the last reference to page {:#x} of tables is a stranger's", page.paddr().0);
                return k.broken_about(7, found, page.paddr());
            }
            Ok(())
        })())
    }
}
