//! Walkers in software that look at tables without their locks (hosted-mm A.8): `pte_offset_map` readers under
//! `rcu_read_lock` (W4), and `gup_fast` with interrupts off (W3).

use crate::arch::{Arch, PteFormat};
use crate::error::Result;
use crate::hold::{Held, Since};
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::mutant::Step;
use crate::pgtable::{pmd_level, pte_level};
use crate::sanitizer::{Class, Sanitizer};
use racewalk_ram::{Paddr, Pfn, Vaddr};
use racewalk_sched::{Label, point, this_cpu};

/// Interrupts are off on this CPU, and a walk is under way.
pub(crate) struct IrqOff<'a, A: Arch> {
    k: &'a Kernel<A>,
    cpu: u32,
    off: bool,
    _since: Option<Since<'a>>,
    scope: Option<(&'a Sanitizer, u64)>,
}

impl<'a, A: Arch> IrqOff<'a, A> {
    pub(crate) fn new(k: &'a Kernel<A>, class: Class) -> Self {
        point("irq.off");
        let cpu = this_cpu();
        let off = k.takes(Step::GupIrqOff);
        if off {
            k.cpus.irq_off(cpu);
        }
        racewalk_sched::atomic_enter();
        let scope = k.sanitizer().map(|s| (s, s.state().enter(class)));
        IrqOff { k, cpu, off, _since: k.holds.begin(Held::IrqOff), scope }
    }
    /// A pointer to `table` was loaded.
    pub(crate) fn hold(&self, table: Paddr) {
        if let Some((s, id)) = self.scope {
            s.state().hold(id, table);
        }
    }
    /// Loads an entry, one step.
    pub(crate) fn load(&self, label: Label, entry: Paddr) -> Result<u64> {
        point(label);
        let v = A::load_entry(self.k, entry)?;
        if let Some((s, id)) = self.scope {
            s.load(id, entry, v)?;
        }
        Ok(v)
    }
}

impl<A: Arch> Drop for IrqOff<'_, A> {
    fn drop(&mut self) {
        if let Some((s, id)) = self.scope {
            s.state().leave(id);
        }
        racewalk_sched::atomic_leave();
        if self.off {
            self.k.cpus.irq_on(self.cpu);
        }
    }
}

impl<A: Arch> Mm<A> {
    /// A W4 reader: loads `entries` entries from the one for `va` on, one step each, under `rcu_read_lock`. It comes by
    /// the mapped object, whose lock keeps `munmap` away but not a retract. Says how many map something; none if there
    /// is no table.
    pub fn read_entries(&self, va: Vaddr, entries: u64) -> Result<Option<u64>> {
        let r = self.by_object(va, || self.read_entries_unlocked(va, entries));
        self.kernel().note(r).map(Option::flatten)
    }

    /// The same by the anon_vma of anonymous memory.
    pub fn read_anon_entries(&self, va: Vaddr, entries: u64) -> Result<Option<u64>> {
        let r = self.by_anon(va, || self.read_entries_unlocked(va, entries));
        self.kernel().note(r).map(Option::flatten)
    }

    fn read_entries_unlocked(&self, va: Vaddr, entries: u64) -> Result<Option<u64>> {
        let k = self.kernel();
        let Some(pmd) = k.pmd_offset(self, va)? else { return Ok(None) };
        let rcu = k.rcu_read_lock();
        let Some(table) = A::next_table(pmd_level::<A>(), k.load_entry(pmd)?) else { return Ok(None) };
        rcu.hold(table);
        let mut mapped = 0;
        let first = pte_level::<A>().offset(va) / 8;
        for i in first..(first + entries).min(pte_level::<A>().entries()) {
            let at = table.offset(i * 8);
            point("pte.load");
            let raw = A::load_entry(k, at)?;
            rcu.loaded(at, raw)?;
            let pte = A::Pte::from_raw(raw);
            if pte.present() {
                mapped += 1;
            } else if !pte.none() {
                return k.broken_about(9, format!("a reader sees {raw:#x}, which no mapping made"), at);
            }
        }
        Ok(Some(mapped))
    }

    /// A W5 reader that comes the same way: `pte_offset_map_lock`, one look, unlock. Says whether there is a table.
    pub fn lock_entry(&self, va: Vaddr) -> Result<bool> {
        let k = self.kernel();
        let r = self.by_object(va, || {
            let Some(pmd) = k.pmd_offset(self, va)? else { return Ok(false) };
            let Some(l) = k.pte_map_lock(pmd, va)? else { return Ok(false) };
            l.load()?;
            Ok(true)
        });
        k.note(r).map(|r| r.unwrap_or(false))
    }

    /// `gup_fast` (hosted-mm C.3): the frame behind `va` with a reference, or none. Takes no lock at all.
    pub fn gup_fast(&self, va: Vaddr) -> Result<Option<Pfn>> {
        self.kernel().note(self.gup_fast_unlocked(va))
    }

    fn gup_fast_unlocked(&self, va: Vaddr) -> Result<Option<Pfn>> {
        let k = self.kernel();
        let w = IrqOff::new(k, Class::W3);
        let mut table = self.pgd();
        let mut entry = table.offset(A::LEVELS[0].offset(va));
        for level in 0..=pmd_level::<A>() {
            let v = w.load("gup.load", entry)?;
            let Some(next) = A::next_table(level, v) else { return Ok(None) };
            w.hold(next);
            table = next;
            if level == pmd_level::<A>() {
                let at = table.offset(pte_level::<A>().offset(va));
                let pte = A::Pte::from_raw(w.load("gup.load", at)?);
                if !pte.present() || !pte.valid() || pte.special() {
                    return Ok(None);
                }
                point("gup.grab");
                let page = pte.frame();
                if !k.kmem.pages.try_get_page(page)? {
                    return Ok(None);
                }
                // Both must be what they were, or the reference is to the wrong frame.
                if w.load("gup.load", entry)? != v || A::Pte::from_raw(w.load("gup.load", at)?) != pte {
                    drop(w);
                    k.put_page(page)?;
                    return Ok(None);
                }
                return Ok(Some(page));
            }
            entry = table.offset(A::LEVELS[level + 1].offset(va));
        }
        Ok(None)
    }

    /// Drops the reference of [`gup_fast`](Self::gup_fast).
    pub fn unpin(&self, page: Pfn) -> Result<()> {
        self.kernel().note(self.kernel().put_page(page))
    }
}
