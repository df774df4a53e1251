//! What removes translations (Intel SDM volume 3, "Invalidation of TLBs and Paging-Structure Caches"). All concern the CPU
//! that executes them and are complete when the instruction ends; nothing is promised of other CPUs.

use super::context::{Context, SPACE};
use super::entry::Pdpte;
use super::fault::Fault;
use super::geometry::{PDPT_ENTRIES, linear};
use super::walk::load_pdptes;
use crate::tlb::{Globals, Purge, Spaces, Target};
use crate::{TableMemory, WalkStop};
use racewalk_ram::Vaddr;

/// INVLPG: the page of an address, whatever its size, global or not; and all that the paging-structure caches have,
/// whatever address it is for.
pub fn invlpg(va: u64) -> [Purge; 2] {
    let va = Vaddr(linear(Vaddr(va)));
    let page = Purge {
        range: Some((va, va)),
        globals: Globals::Always,
        target: Target::Translations,
        ..Purge::default()
    };
    [page, Purge { target: Target::WalkCache, ..Purge::ALL }]
}

/// MOV to CR3: new PDPTE registers, and everything but global translations goes. With a fault nothing changes.
pub fn mov_cr3<M: TableMemory>(
    memory: &M,
    c: &Context,
    cr3: u64,
) -> Result<([Pdpte; PDPT_ENTRIES], Purge), WalkStop<Fault>> {
    let pdptes = load_pdptes(memory, c, cr3)?;
    Ok((pdptes, Purge { spaces: Spaces::one(SPACE), globals: Globals::Never, ..Purge::default() }))
}

/// MOV to CR4 that changes PGE: everything goes.
pub fn mov_cr4_pge() -> Purge {
    Purge::ALL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlb::{Entry, InfiniteTlb, Tag};
    use racewalk_ram::Paddr;

    /// A small and a large page, and a global small one.
    fn gone(purges: &[Purge]) -> usize {
        let mut t = InfiniteTlb::new();
        for (page, shift, global) in [(0x2000, 12, false), (0x40_0000, 21, false), (0x3000, 12, true)] {
            let tag = Tag { space: SPACE, global, page: Vaddr(page), shift };
            t.fill(Entry { tag, frame: Paddr(0), from: Paddr(0), locked: false, leaf: () });
        }
        purges.iter().map(|p| t.purge(p, |_| {})).sum()
    }

    #[test]
    fn what_goes() {
        assert_eq!(gone(&invlpg(0x2abc)), 1);
        assert_eq!(gone(&invlpg(0x5f_ffff)), 1);
        assert_eq!(gone(&invlpg(0x3000)), 1, "global");
        assert_eq!(gone(&invlpg(0x4000)), 0);
        let memory = crate::text::Tables::default();
        (0..4).for_each(|i| memory.set(0x1000 + i * 8, 0));
        let (pdptes, purge) = mov_cr3(&memory, &Context::default(), 0x1000).unwrap();
        assert_eq!((gone(&[purge]), pdptes), (2, [Pdpte(0); 4]));
        assert!(mov_cr3(&memory, &Context::default(), 0x2000).is_err());
        assert_eq!(gone(&[mov_cr4_pge()]), 3);
    }
}
