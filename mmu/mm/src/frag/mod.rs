//! The axis "fragment and defer": how PTE tables share pages, and what must pass before one is used again.

mod catalogue;
pub(crate) mod pae;
pub(crate) mod ppc64;
pub(crate) mod s390x;
pub(crate) mod sparc64;
#[cfg(test)]
pub(crate) mod template;
pub(crate) mod whole;

pub use catalogue::{CATALOGUE, Row, Scheme, Status, table};

use crate::arch::Arch;
use crate::buddy::Gfp;
use crate::error::{Errno, MmError, Result, broken_at};
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use crate::layout;
use crate::lockword;
use crate::mm::Mm;
use crate::page::{FrameKind, flag, word};
use crate::pgtable::pte_level;
use crate::sanitizer::{Give, What};
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::point;
use std::sync::atomic::Ordering::SeqCst;

/// A scheme's code with what it keeps, as often as wanted: what every `Clone` scheme is.
pub trait Copied<A: Arch> {
    /// The same scheme in the same state. Nothing runs meanwhile.
    fn copy(&self) -> Box<dyn Frag<A>>;
}

impl<A: Arch, F: Frag<A> + Clone + 'static> Copied<A> for F {
    fn copy(&self) -> Box<dyn Frag<A>> {
        Box::new(self.clone())
    }
}

/// What a scheme does. `mm` is the slab object of the address space.
pub trait Frag<A: Arch>: Copied<A> + Send + Sync {
    /// A PTE table, all entries invalid (or as a former user left them, which is the same).
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr>;
    /// Gives a table back that no walker can reach: it may be used again at once.
    fn free(&self, k: &Kernel<A>, mm: Kva, table: Paddr) -> Result<()>;
    /// Gives an unhooked table back through the gather's batch.
    fn free_rcu(&self, k: &Kernel<A>, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, A>) -> Result<()>;
    /// Whether there is a `pte_free_defer`. Without it, retracting a table excludes its readers, sends a cross call and
    /// frees (Linux 6.1, hosted-mm C.1).
    fn defers(&self) -> bool {
        true
    }
    /// `pte_free_defer`: as `free`, but readers under RCU may still be inside.
    fn free_defer(&self, k: &Kernel<A>, mm: &Mm<A>, table: Paddr) -> Result<()>;
    /// `__tlb_remove_table`: the batch that `tag` was put on is past its flush and grace period.
    fn remove_table(&self, k: &Kernel<A>, tag: u64) -> Result<()>;
    /// Whether a software refill reads the entry again once it has locked what it fills (hosted-mm F-29).
    fn rereads(&self) -> bool {
        true
    }
    /// Whether an entry of two words is read with interrupts off until it is the same twice, and whoever clears it waits for
    /// such readers (`pmdp_get_lockless_start` and `_sync`, hosted-mm PAE).
    fn guards_halves(&self) -> bool {
        true
    }
    /// Whether a collapse to a huge page keeps those out who come by the anon_vma (hosted-mm F-27).
    fn collapse_excludes(&self) -> bool {
        true
    }
    /// How PMD tables are made where several share a page; without it each has pages of its own.
    fn pmds(&self) -> Option<&dyn PmdFrag<A>> {
        None
    }
    /// A space is made.
    fn mm_init(&self, k: &Kernel<A>, mm: Kva) -> Result<()> {
        let _ = (k, mm);
        Ok(())
    }
    /// A space's last table has been given back.
    fn mm_exit(&self, k: &Kernel<A>, mm: Kva) -> Result<()> {
        let _ = (k, mm);
        Ok(())
    }
    /// Gives back what the scheme itself keeps; nothing runs any more.
    fn shutdown(&self, k: &Kernel<A>) -> Result<()> {
        let _ = k;
        Ok(())
    }
    /// The lock of the lists of a space's pages, for the search of all states.
    #[cfg(test)]
    fn lock<'a>(&'a self, k: &'a Kernel<A>, mm: Kva) -> Result<&'a std::sync::atomic::AtomicU64> {
        let _ = (k, mm);
        crate::error::broken(0, "the scheme has no lists")
    }
    /// An RCU callback that the scheme queued as number `which`, given its head.
    fn callback(&self, k: &Kernel<A>, which: u8, head: Kva) -> Result<()>;
}

/// How a scheme cuts PMD tables from pages that they share.
pub trait PmdFrag<A: Arch>: Send + Sync {
    /// `pmd_fragment_alloc`: a PMD table, all entries empty.
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr>;
    /// `pmd_fragment_free`: no walker can reach the table any more.
    fn free(&self, k: &Kernel<A>, table: Paddr) -> Result<()>;
}

impl<A: Arch> Kernel<A> {
    /// `pte_alloc_one`: a PTE table.
    pub(crate) fn pte_table_alloc(&self, mm: Kva) -> Result<Paddr> {
        let table = self.frag.alloc(self, mm)?;
        self.stats.tables_allocated.bump();
        if let Some(s) = self.sanitizer() {
            if self.kmem.pages.kind(self.kmem.pages.at(table)?)? != FrameKind::PteTables {
                let found =
                    format!("{:#x} is handed out as a table, but its page is none of tables", table.0);
                return Err(s.broken(13, found, Some(table)));
            }
            for at in [table, table.offset(8)] {
                let entry = A::peek_entry(self, at)?;
                if entry != A::empty(A::LEVELS.len() - 1) {
                    let found = format!("a table is handed out with {entry:#x} at {:#x}", at.0);
                    return Err(s.broken(9, found, Some(table)));
                }
            }
            s.alloc(table, pte_level::<A>().bytes(), A::LEVELS.len() - 1, mm)?;
        }
        Ok(table)
    }

    /// `pte_free`: gives back a table that no walker can reach.
    pub(crate) fn pte_table_free(&self, mm: Kva, table: Paddr) -> Result<()> {
        if let Some(s) = self.sanitizer() {
            s.give(table, Give::Now)?;
        }
        self.frag.free(self, mm, table)
    }

    /// `pte_free_tlb`: gives back an unhooked table through the gather's batch.
    pub(crate) fn pte_table_free_rcu(
        &self,
        mm: Kva,
        table: Paddr,
        batch: &mut TableBatch<'_, A>,
    ) -> Result<()> {
        if let Some(s) = self.sanitizer() {
            s.give(table, Give::Gather)?;
        }
        self.frag.free_rcu(self, mm, table, batch)
    }

    /// `pte_free_defer`.
    pub(crate) fn pte_table_free_defer(&self, mm: &Mm<A>, table: Paddr) -> Result<()> {
        if let Some(s) = self.sanitizer() {
            s.give(table, Give::Defer)?;
        }
        self.stats.tables_deferred.bump();
        self.frag.free_defer(self, mm, table)
    }

    /// A page for PTE tables: its record made, `entries` of it empty.
    pub(crate) fn table_page(&self, mm: Kva) -> Result<Pfn> {
        let page = self.alloc(0, Gfp::Kernel, FrameKind::PteTables, "page tables")?;
        let pages = &self.kmem.pages;
        pages.set_flag(page, flag::TABLE)?;
        self.last_table_page.store(page.0, SeqCst);
        pages.word(page, word::PT_MM)?.store(mm.0, SeqCst);
        lockword::init(pages.word(page, word::PTL)?);
        self.fill_table(page.paddr(), self.page_size(), A::empty(A::LEVELS.len() - 1))?;
        self.stats.add_table_bytes(self.page_size());
        if let Some(s) = self.sanitizer() {
            s.mark(What::PageAlloc(page));
        }
        Ok(page)
    }

    /// The destructor of a page of PTE tables: its lock cannot be used any more.
    pub(crate) fn table_dtor(&self, page: Pfn) -> Result<()> {
        point("pte.dtor");
        if let Some(s) = self.sanitizer() {
            s.lock_gone(page, self.page_size())?;
        }
        lockword::destroy(self.kmem.pages.word(page, word::PTL)?, "ptl")
            .map_err(|e| e.at(layout::record(page)))
    }

    /// Frees a page of PTE tables after its destructor. If somebody took a speculative reference, he frees it.
    pub(crate) fn table_page_free(&self, page: Pfn) -> Result<()> {
        let pages = &self.kmem.pages;
        if pages.kind(page)? != FrameKind::PteTables {
            return broken_at(
                13,
                layout::record(page),
                format!("{page:?} is freed as a page of PTE tables: {:?}", pages.kind(page)?),
            );
        }
        if pages.flags(page)? & flag::ACTIVE != 0 {
            let found = format!("page {:#x} of PTE tables is freed with Active set", page.paddr().0);
            return broken_at(25, layout::record(page), found);
        }
        pages.clear_flag(page, flag::TABLE)?;
        self.stats.table_bytes.sub(self.page_size());
        if pages.put_testzero(page)? { self.free(page, 0) } else { Ok(()) }
    }
}

/// The code of a scheme on an architecture.
pub(crate) fn of<A: Arch>(scheme: Scheme) -> Result<Box<dyn Frag<A>>> {
    A::frag(scheme).ok_or_else(|| MmError::NotModelled {
        what: format!("scheme {scheme} on {} (available: {})", A::NAME, Scheme::list_available()),
        errno: Errno::EINVAL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Hpt, Pae, Radix, S390x, Sparc64};

    #[test]
    fn names_parse_and_say_what_is_available() {
        assert_eq!("S390-66".parse::<Scheme>().unwrap(), Scheme::default());
        for s in Scheme::catalogue() {
            assert_eq!(s.name().parse::<Scheme>().unwrap(), s);
            let ppc64 = of::<Radix<16>>(s).is_ok() || of::<Radix<12>>(s).is_ok();
            assert_eq!(ppc64, of::<Hpt<16>>(s).is_ok() || of::<Hpt<12>>(s).is_ok(), "{s}");
            let others = of::<Sparc64>(s).is_ok() || of::<Pae>(s).is_ok();
            let code = of::<S390x>(s).is_ok() || ppc64 || others;
            assert_eq!(code, s.available(), "{s}");
        }
        let e = "s390-99".parse::<Scheme>().unwrap_err().to_string();
        assert!(e.contains("s390-66"), "{e}");
        let e = of::<S390x>("ppc-v1".parse().unwrap()).err().unwrap().to_string();
        assert!(e.starts_with("not modelled: scheme ppc-v1 on s390x-2k (available: "), "{e}");
    }
}
