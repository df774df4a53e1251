//! `ppc-pmdfrag`: PMD tables cut from pages as PTE tables are (`pmd_fragment_alloc` and `pmd_fragment_free` of book3s64;
//! hosted-mm PPC-pmdfrag, B.4). The cursor is `context.pmd_frag`, the lock of the page is that of all its tables, and its
//! destructor runs with the last of them, behind the grace period. A piece is not handed out again.

use super::fragments::{Cut, add, cut, rest_of, set};
use crate::arch::Arch;
use crate::buddy::Gfp;
use crate::error::Result;
use crate::frag::PmdFrag;
use crate::kernel::Kernel;
use crate::lockword;
use crate::mm::mmw;
use crate::mutant::Step;
use crate::page::{FrameKind, flag, word};
use crate::pgtable::pmd_level;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::point;

/// The code.
#[derive(Clone)]
pub(super) struct PmdFragments;

fn what<A: Arch>() -> Cut<A> {
    Cut { bytes: A::PMD_FRAGMENT, cursor: mmw::PMD_FRAG_CURSOR, page, release }
}

fn page<A: Arch>(k: &Kernel<A>, _mm: Kva) -> Result<Pfn> {
    let level = pmd_level::<A>();
    let page = k.alloc(0, Gfp::Kernel, FrameKind::UpperTable, A::LEVELS[level].name)?;
    k.kmem.pages.set_flag(page, flag::TABLE)?;
    lockword::init(k.kmem.pages.word(page, word::PTL)?);
    k.fill_table(page.paddr(), k.page_size(), A::empty(level))?;
    k.stats.add_table_bytes(k.page_size());
    Ok(page)
}

fn release<A: Arch>(k: &Kernel<A>, page: Pfn) -> Result<()> {
    point("pmd.dtor");
    lockword::destroy(k.kmem.pages.word(page, word::PTL)?, "pmd lock")?;
    if !k.kmem.pages.put_testzero(page)? {
        let found = format!("somebody holds a reference to page {:#x} of PMD tables", page.paddr().0);
        return k.broken_about(7, found, page.paddr());
    }
    k.stats.table_bytes.sub(k.page_size());
    k.free(page, 0)
}

/// The pieces of a page that are or will be handed out.
fn begin<A: Arch>(k: &Kernel<A>, page: Pfn, n: u64) -> Result<()> {
    set(k, page, if k.takes(Step::PmdFragCount) { n } else { 1 }, "pmd_fragment_alloc")
}

/// Takes `n` from the count; whoever takes the last frees the page.
fn take<A: Arch>(k: &Kernel<A>, page: Pfn, n: u64, by: &'static str) -> Result<()> {
    if add(k, page, -(n as i64), by)? == 0 { release(k, page) } else { Ok(()) }
}

/// `pmd_frag_destroy`: the space ends, and what the cursor has left is given back.
pub(super) fn destroy<A: Arch>(k: &Kernel<A>, mm: Kva) -> Result<()> {
    match rest_of(k, mm, &what())?.filter(|_| k.takes(Step::PmdFragRest)) {
        Some((page, n)) => take(k, page, n, "pmd_frag_destroy"),
        None => Ok(()),
    }
}

impl<A: Arch> PmdFrag<A> for PmdFragments {
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr> {
        cut(k, mm, &what(), begin)
    }

    fn free(&self, k: &Kernel<A>, table: Paddr) -> Result<()> {
        let page = k.kmem.pages.at(table)?;
        if k.kmem.pages.kind(page)? != FrameKind::UpperTable || !table.0.is_multiple_of(A::PMD_FRAGMENT) {
            let found = format!("{:#x} is not a PMD table: {:?}", table.0, k.kmem.pages.kind(page)?);
            return k.broken_about(1, found, table);
        }
        k.stats.upper_freed.bump();
        take(k, page, 1, "pmd_fragment_free")
    }
}

#[cfg(test)]
mod tests {
    use crate::arch::{Arch, Hpt, Radix};
    use crate::kernel::{Config, Kernel};
    use crate::page::FrameKind;
    use crate::pgtable::pmd_level;
    use crate::vma::{MapFlags, Prot};
    use racewalk_cpu::Cpus;
    use racewalk_ram::{Ram, Vaddr};
    use std::sync::Arc;

    /// Tables of one space fill its page before it takes another, and the page goes with the last of them. Seen to fail with
    /// a count of one for a fresh page, and with the pieces left over kept at the end of the space.
    fn cut<A: Arch>(tables: u64) {
        assert_eq!((1 << A::PAGE_SHIFT) / A::PMD_FRAGMENT, tables);
        let ram = Arc::new(Ram::new((128 << A::PAGE_SHIFT).max(16 << 20)).unwrap());
        let config = Config {
            scheme: "ppc-pmdfrag".parse().unwrap(),
            reserved: (2 << A::PAGE_SHIFT).max(8192),
            max_mms: 4,
            sanitize: Some(Default::default()),
            ..Config::default()
        };
        let k = Kernel::<A>::new(ram.clone(), Cpus::new(ram, 1), config).unwrap();
        let (a, b) = (k.mm_create().unwrap(), k.mm_create().unwrap());
        let pmd = A::LEVELS[pmd_level::<A>()];
        let span = pmd.span() << pmd.bits;
        let (flags, upper) =
            (MapFlags::FIXED | MapFlags::ANONYMOUS | MapFlags::SHARED, FrameKind::UpperTable);
        let table = |mm: &crate::Mm<A>, n: u64| {
            let va = Vaddr((n + 1) * span);
            mm.mmap(va.0, pmd.span(), Prot::READ, flags, None).unwrap();
            mm.alloc_table(va).unwrap();
            let entry = k.pmd_offset(mm, va).unwrap().unwrap();
            entry.0 - pmd.offset(va)
        };
        let first = table(&a, 0);
        let before = k.buddy.in_use(upper);
        for n in 1..tables {
            assert_eq!(table(&a, n), first + n * A::PMD_FRAGMENT);
        }
        assert_eq!(k.buddy.in_use(upper), before, "no page more");
        assert_ne!(table(&b, 0) >> A::PAGE_SHIFT, first >> A::PAGE_SHIFT, "another space, another page");
        for n in 0..tables {
            assert_eq!(
                k.kmem.pages.kind(k.kmem.pages.at(racewalk_ram::Paddr(first)).unwrap()).unwrap(),
                upper
            );
            a.munmap((n + 1) * span, pmd.span()).unwrap();
            k.rcu_barrier();
        }
        let page = k.kmem.pages.at(racewalk_ram::Paddr(first)).unwrap();
        assert_eq!(k.kmem.pages.kind(page).unwrap(), FrameKind::Free);
        // The cursor of the other points into its page until the end.
        b.exit().unwrap();
        a.exit().unwrap();
        k.rcu_barrier();
        k.check_leaks();
        assert!(k.take_findings().is_empty());
    }

    #[test]
    fn pmd_tables_share_pages() {
        cut::<Radix<16>>(16);
        cut::<Hpt<16>>(4);
        cut::<Hpt<12>>(4);
    }
}
