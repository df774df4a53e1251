//! `hash_page`: what a data or instruction storage interrupt runs before the mm is asked, with interrupts off and without a
//! lock of any table (Linux's `__hash_page_4K`, `__hash_page_64K`; walker W2 of hosted-mm A.8).

use super::hpte::{Page, vsid_word};
use super::pte::{BUSY, HASHED, Pte, SLOT, SLOT_SHIFT};
use super::{Hpt, Space};
use crate::arch::{Arch, PteFormat};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::lookup::IrqOff;
use crate::mm::Mm;
use crate::pgtable::pmd_level;
use crate::sanitizer::Class;
use racewalk_cpu::Access;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::{point, this_cpu, wake};
use racewalk_walk::ppc64::hash::slb::{ESID, RB_V};
use racewalk_walk::ppc64::radix::entry::Entry;
use std::sync::atomic::Ordering::SeqCst;

/// Whether an entry permits an access. The first store to a page is the mm's, which keeps the list of pages to be written
/// back.
fn permits(pte: Pte, access: Access) -> bool {
    pte.valid()
        && match access {
            Access::Store => pte.stores(),
            Access::Fetch => pte.raw() & Entry::EXECUTE != 0,
            _ => true,
        }
}

impl<const SHIFT: u32> Kernel<Hpt<SHIFT>> {
    /// `slb_allocate`: the segment of `va` gets an entry, in place of one of the others in turn.
    pub(super) fn slb_allocate(&self, space: &Space, va: Vaddr) -> Result<bool> {
        let cpu = this_cpu();
        if va.0 >= Hpt::<SHIFT>::TASK_SIZE || cpu >= self.cpus.count() {
            return Ok(false);
        }
        let word = vsid_word(SHIFT, space.number, va);
        let next = self.machine.slb_next.fetch_add(1, SeqCst);
        self.cpus.load(cpu, |c| {
            let n = next % c.slb.entries() as u64;
            // TLB entries are named by virtual address: what an entry of the SLB said of others stays true.
            c.slb.slbmte(word, va.0 & ESID | RB_V | n);
        });
        Ok(true)
    }

    /// Puts an HPTE in for `va` if the page tables permit the access. Whether the access is to be tried again; else it is the
    /// mm's.
    pub(super) fn hash_page(&self, mm: &Mm<Hpt<SHIFT>>, va: Vaddr, access: Access) -> Result<bool> {
        let w = IrqOff::new(self, Class::W2);
        let Some(at) = self.find_linux_pte(&w, mm, va)? else { return Ok(false) };
        let raw = loop {
            let raw = w.load("hash_page.load", at)?;
            if raw & BUSY != 0 {
                // Another CPU is at it; the access comes again.
                drop(w);
                self.wait_busy(at);
                return Ok(true);
            }
            if !permits(Pte::from_raw(raw), access) {
                return Ok(false);
            }
            point("hash_page.busy");
            if self.cas_u64(at, raw, raw | BUSY)? == raw {
                break raw;
            }
        };
        let page = Page::new(SHIFT, mm.context().number, va);
        let there = raw & HASHED != 0 && self.hpte_is(&page, self.slot(at, raw)?)?;
        let mut new = raw;
        if !there {
            let slot = self.hpte_insert(&page, Pte::from_raw(raw))?;
            new |= HASHED;
            if SHIFT == 16 {
                self.store_u64(Self::slots_at(at), slot)?;
            } else {
                new = new & !SLOT | slot << SLOT_SHIFT;
            }
        }
        point("hash_page.done");
        self.store_u64(at, new)?;
        wake(self.word_key(at));
        Ok(true)
    }

    /// `find_linux_pte`: the entry for an address, if the tables above exist.
    fn find_linux_pte(
        &self,
        w: &IrqOff<'_, Hpt<SHIFT>>,
        mm: &Mm<Hpt<SHIFT>>,
        va: Vaddr,
    ) -> Result<Option<Paddr>> {
        if va.0 >= Hpt::<SHIFT>::TASK_SIZE {
            return Ok(None);
        }
        let mut at = mm.pgd().offset(Hpt::<SHIFT>::LEVELS[0].offset(va));
        for level in 0..=pmd_level::<Hpt<SHIFT>>() {
            let entry = w.load("hash_page.load", at)?;
            let Some(next) = Hpt::<SHIFT>::next_table(level, entry) else { return Ok(None) };
            w.hold(next);
            at = next.offset(Hpt::<SHIFT>::LEVELS[level + 1].offset(va));
        }
        Ok(Some(at))
    }
}
