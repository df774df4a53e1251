//! Linux's handler of fast_instruction_access_MMU_miss and fast_data_access_MMU_miss, at trap level 1 with physical
//! addresses (reference sparc64-mmu §7.1). **This is kernel code, not hardware**: it stands here because it is what walks
//! tables on sun4u, has the walk's events, and may be stopped between any two loads like a hardware walk. Whoever runs it
//! enters it as a trap.
//!
//! It serves user contexts. The kernel's own mappings (context 0) are made otherwise and have no tables here.

use super::entry::{TagAccess, TagTarget, Tte, table};
use super::geometry::{HUGE_HALF, PGD_SHIFT, PMD_SHIFT, PUD_SHIFT, Tsb, index};
use super::walk::{Context, Translation, data_in, lookup};
use crate::event::{Level, WalkEvent};
use crate::sparc64::context::{Leaf, Request};
use crate::sparc64::fault::{Fault, Machine, Reason};
use crate::text::Tables;
use crate::tlb::{Entry, InfiniteTlb};
use crate::{Access, EntryStop, TableMemory, WalkStop};
use racewalk_ram::{Paddr, Vaddr};

/// What the handler needs beside loads: it writes TSB entries.
pub trait KernelMemory: TableMemory {
    /// Stores a doubleword.
    fn store_entry(&self, addr: Paddr, value: u64) -> Result<(), EntryStop>;

    /// Another CPU holds the lock of the TSB entry at `tag`: waits a little. Stops the walk where nobody could ever release
    /// it.
    fn spin(&self, tag: Paddr) -> Result<(), EntryStop>;
}

impl KernelMemory for Tables {
    fn store_entry(&self, addr: Paddr, value: u64) -> Result<(), EntryStop> {
        self.load_entry(addr)?;
        self.set(addr.0, value);
        Ok(())
    }
    fn spin(&self, _tag: Paddr) -> Result<(), EntryStop> {
        Err(EntryStop::Cancelled)
    }
}

/// What the kernel keeps of the process that runs on a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kernel {
    /// Physical address of the page directory.
    pub pgd: Paddr,
    /// The TSB of huge pages, once there is one.
    pub huge_tsb: Option<Tsb>,
    /// The entry of the page tables is read again under the lock of the TSB entry that it fills, and one that has changed is
    /// not entered. Linux 6.12 does not (hosted-mm F-29): whoever clears the entry and flushes the TSB between the load and
    /// the lock finds nothing to flush, and the stale TTE is entered afterwards.
    pub recheck: bool,
}

/// What the handler found and stores to Data In.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refill {
    /// The TTE.
    pub tte: Tte,
    /// Where it was fetched.
    pub from: Paddr,
}

type Stop = WalkStop<Fault>;

struct Handler<'m, M> {
    memory: &'m M,
    r: &'m Request,
    va: Vaddr,
}

impl<M: KernelMemory> Handler<'_, M> {
    /// The handler gives up: the mm decides.
    #[cold]
    fn fault<T>(&self, reason: Reason) -> Result<T, Stop> {
        Err(report(self.memory, self.r.fault(Machine::Sun4u, self.va, reason)))
    }

    #[cold]
    fn stopped<T>(&self, stop: EntryStop) -> Result<T, Stop> {
        match stop {
            EntryStop::Addressing => self.fault(Reason::TableError),
            EntryStop::Cancelled => Err(WalkStop::Cancelled),
        }
    }

    fn step(&self, level: Level, table: &'static str, entry_addr: Paddr, entry: u64) {
        self.memory.event(WalkEvent::Step { level, table, entry_addr, entry });
    }

    /// `ldda` with a quad ASI: both halves of a TSB entry by one access. Its TTE, if the tag is the one wanted.
    #[inline]
    fn tsb(&self, names: [&'static str; 2], at: Paddr, want: TagTarget) -> Result<Option<Refill>, Stop> {
        let [tag, data] = match self.memory.load_pair(at) {
            Ok(pair) => pair,
            Err(stop) => return self.stopped(stop),
        };
        self.step(Level(0), names[0], at, tag);
        self.step(Level(0), names[1], at.offset(8), data);
        Ok((tag == want.0).then_some(Refill { tte: Tte(data), from: at }))
    }

    /// `ldxa` with a physical ASI: an entry of a page table.
    #[inline]
    fn entry(&self, level: u8, name: &'static str, table: Paddr, shift: u32) -> Result<(Paddr, u64), Stop> {
        let at = table.offset(index(shift, self.va) * 8);
        match self.memory.load_entry(at) {
            Ok(entry) => {
                self.step(Level(level), name, at, entry);
                Ok((at, entry))
            }
            Err(stop) => self.stopped(stop),
        }
    }

    /// The page tables: a valid TTE and whether it is half of a huge page.
    #[inline]
    fn tables(&self, pgd: Paddr) -> Result<(Refill, bool), Stop> {
        let Some(pud) = table(self.entry(3, "pgd", pgd, PGD_SHIFT)?.1) else {
            return self.fault(Reason::Miss);
        };
        let Some(pmd) = table(self.entry(2, "pud", pud, PUD_SHIFT)?.1) else {
            return self.fault(Reason::Miss);
        };
        let (from, entry) = self.entry(1, "pmd", pmd, PMD_SHIFT)?;
        let Some(pte) = table(entry) else { return self.fault(Reason::Miss) };
        if entry & Tte::LINUX_HUGE != 0 {
            if !Tte(entry).valid() {
                return self.fault(Reason::Miss);
            }
            // A huge page is two TTEs of 4M, and the address says which.
            let tte = Tte(entry & !HUGE_HALF | self.va.0 & HUGE_HALF);
            return Ok((Refill { tte, from }, true));
        }
        let (from, entry) = self.entry(0, "pte", pte, 13)?;
        if !Tte(entry).valid() {
            return self.fault(Reason::Miss);
        }
        Ok((Refill { tte: Tte(entry), from }, false))
    }

    /// What the TSB at `pointer` does not have: the TSB of huge pages, then the page tables, and what these have is entered
    /// into the TSB that it belongs in.
    #[inline(never)]
    fn beyond_tsb(&self, kernel: &Kernel, pointer: Paddr, tag: TagTarget) -> Result<Refill, Stop> {
        let huge_pointer = kernel.huge_tsb.map(|t| t.pointer_huge(self.va));
        if let Some(at) = huge_pointer
            && let Some(found) = self.tsb(["huge-tsb-0", "huge-tsb-1"], at, tag)?
        {
            return Ok(found);
        }
        loop {
            let (found, huge) = self.tables(kernel.pgd)?;
            // Linux allocates a missing TSB of huge pages here; without one the TLB is filled alone.
            let Some(at) = (if huge { huge_pointer } else { Some(pointer) }) else { return Ok(found) };
            // Half of a huge page is a bit of the address.
            let same = if huge { !HUGE_HALF } else { !0 };
            let source = kernel.recheck.then_some((found, same));
            match self.fill(at, tag, found.tte, source) {
                Ok(true) => return Ok(found),
                // The tables have changed.
                Ok(false) => {}
                Err(stop) => return self.stopped(stop),
            }
        }
    }

    /// Enters a TTE into a TSB: locks the tag, stores the data, then the tag, which unlocks. With `source` only if the page
    /// tables still have it, but for bits that are not the same, under the lock; says whether they have.
    fn fill(
        &self,
        at: Paddr,
        tag: TagTarget,
        tte: Tte,
        source: Option<(Refill, u64)>,
    ) -> Result<bool, EntryStop> {
        loop {
            let old = self.memory.load_entry(at)?;
            if old & TagTarget::LINUX_LOCK != 0 {
                self.memory.spin(at)?;
                continue;
            }
            // Linux swaps the tag's upper word only; a change of the lower one under it merely makes this try again.
            if self.memory.cas_entry(at, old, old | TagTarget::LINUX_LOCK)? == old {
                break;
            }
        }
        if let Some((source, same)) = source {
            let now = self.memory.load_entry(source.from)?;
            if (now ^ source.tte.0) & same != 0 {
                self.memory.store_entry(at, TagTarget::LINUX_INVALID)?;
                return Ok(false);
            }
        }
        self.memory.store_entry(at.offset(8), tte.0)?;
        self.memory.store_entry(at, tag.0)?;
        Ok(true)
    }
}

#[cold]
fn report<M: TableMemory>(memory: &M, f: Fault) -> Stop {
    let trap = f.trap();
    memory.event(WalkEvent::Fault { vaddr: f.vaddr, name: trap.name, code: trap.number as u32 });
    WalkStop::Fault(f)
}

/// Finds the TTE for a miss: in the TSB, in the TSB of huge pages, in the page tables, which also fills the TSB. Where there
/// is none, or none to execute, the miss goes to the mm.
#[inline]
pub fn refill<M: KernelMemory>(
    memory: &M,
    kernel: &Kernel,
    tsb: Tsb,
    r: &Request,
    va: Vaddr,
) -> Result<Refill, WalkStop<Fault>> {
    let h = Handler { memory, r, va };
    let access = TagAccess::new(va, r.context());
    memory.event(WalkEvent::Start { vaddr: va, access: r.access, root: kernel.pgd.0 });
    if r.context() == 0 {
        return h.fault(Reason::Miss);
    }
    let tag = access.target().without_context();
    let pointer = tsb.pointer_8k(access);
    let found = match h.tsb(["tsb-0", "tsb-1"], pointer, tag)? {
        Some(found) => found,
        None => h.beyond_tsb(kernel, pointer, tag)?,
    };
    if r.access == Access::Fetch && found.tte.0 & Tte::LINUX_EXEC == 0 {
        return h.fault(Reason::Miss);
    }
    Ok(found)
}

/// Translates `va`: what the TLB has, else the miss handler, Data In, and the access once more. The TLB is `tlb`, which gets
/// what the handler found.
pub fn translate<M: KernelMemory>(
    memory: &M,
    c: &Context,
    kernel: &Kernel,
    tlb: &mut InfiniteTlb<Leaf>,
    r: &Request,
    va: Vaddr,
) -> Result<Translation, WalkStop<Fault>> {
    match lookup(c, r, va, |key| tlb.lookup(key)) {
        Err(Fault { reason: Reason::Miss, .. }) => {}
        hit => return hit.map_err(|f| report(memory, f)),
    }
    let found = refill(memory, kernel, c.tsb(r.access), r, va)?;
    if let Some(e) = enter(r, va, &found) {
        tlb.fill(e);
    }
    let t = lookup(c, r, va, |key| tlb.lookup(key)).map_err(|f| report(memory, f))?;
    let protected = !t.leaf.has(Leaf::W);
    memory.event(WalkEvent::Done { vaddr: va, paddr: t.paddr, shift: t.shift, protected });
    Ok(t)
}

/// The TLB entry that the handler's store to Data In makes.
pub fn enter(r: &Request, va: Vaddr, found: &Refill) -> Option<Entry<Leaf>> {
    data_in(TagAccess::new(va, r.context()), found.tte, found.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VA: Vaddr = Vaddr(0x123_4567_8abc);
    const PTE: u64 = Tte::V | 0x77_2000 | Tte::CP | Tte::CV | Tte::W | Tte::LINUX_EXEC;
    const TSB: Tsb = Tsb(0x10_0000);

    fn tables() -> (Tables, Kernel, Request) {
        let t = Tables::default();
        for (table, shift, entry) in [
            (0x2_0000, PGD_SHIFT, 0x2_2000),
            (0x2_2000, PUD_SHIFT, 0x2_4000),
            (0x2_4000, PMD_SHIFT, 0x2_6000),
        ] {
            t.set(table + index(shift, VA) * 8, entry);
        }
        t.set(0x2_6000 + index(13, VA) * 8, PTE);
        for i in 0..1024 {
            t.set(TSB.0 + i * 8, 0);
            t.set(0x11_0000 + i * 8, 0);
        }
        let kernel = Kernel { pgd: Paddr(0x2_0000), ..Kernel::default() };
        (t, kernel, Request::user(Access::Load, 5))
    }

    #[test]
    fn the_tables_fill_the_tsb_and_the_tsb_the_tlb() {
        let (t, kernel, r) = tables();
        let c = Context { data_tsb: TSB, ..Context::default() };
        let mut tlb = InfiniteTlb::new();
        let found = translate(&t, &c, &kernel, &mut tlb, &r, VA).unwrap();
        assert_eq!((found.paddr, found.shift), (Paddr(0x77_2abc), 13));
        let names: Vec<_> = t
            .take_events()
            .iter()
            .filter_map(|e| if let WalkEvent::Step { table, .. } = e { Some(*table) } else { None })
            .collect();
        assert_eq!(names, ["tsb-0", "tsb-1", "pgd", "pud", "pmd", "pte"]);
        let at = TSB.pointer_8k(TagAccess::new(VA, 5));
        assert_eq!((t.get(at.0), t.get(at.0 + 8)), (Some(VA.0 >> 22), Some(PTE)));
        // The TLB has it; then the TSB alone.
        translate(&t, &c, &kernel, &mut tlb, &r, VA).unwrap();
        assert!(t.take_events().is_empty());
        assert_eq!(refill(&t, &kernel, TSB, &r, VA).unwrap(), Refill { tte: Tte(PTE), from: at });
        assert_eq!(t.take_events().len(), 3);
    }

    #[test]
    fn a_locked_tag_is_no_hit_and_holds_the_filler_up() {
        let (t, kernel, r) = tables();
        let at = TSB.pointer_8k(TagAccess::new(VA, 5));
        t.set(at.0, VA.0 >> 22 | TagTarget::LINUX_LOCK);
        assert_eq!(refill(&t, &kernel, TSB, &r, VA), Err(WalkStop::Cancelled));
        t.set(at.0, VA.0 >> 22 | TagTarget::LINUX_INVALID);
        assert!(refill(&t, &kernel, TSB, &r, VA).is_ok());
        assert_eq!(t.get(at.0), Some(VA.0 >> 22));
    }

    #[test]
    fn huge_pages_are_two_ttes() {
        let (t, mut kernel, r) = tables();
        let pmd = Tte::V | Tte::LINUX_HUGE | 3 << 61 | 0x1200_0000 | Tte::CP;
        t.set(0x2_4000 + index(PMD_SHIFT, VA) * 8, pmd);
        kernel.huge_tsb = Some(Tsb(0x11_0000));
        let low = refill(&t, &kernel, TSB, &r, Vaddr(VA.0 & !HUGE_HALF)).unwrap();
        let high = refill(&t, &kernel, TSB, &r, Vaddr(VA.0 | HUGE_HALF)).unwrap();
        assert_eq!((low.tte.0, high.tte.0), (pmd, pmd | HUGE_HALF));
        assert_eq!(enter(&r, VA, &high).unwrap().tag.shift, 22);
        t.take_events();
        refill(&t, &kernel, TSB, &r, Vaddr(VA.0 | HUGE_HALF)).unwrap();
        assert_eq!(t.take_events().len(), 5, "the TSB of huge pages has it");
    }

    #[test]
    fn what_goes_to_the_mm() {
        let of = |at: u64, entry: u64, access| {
            let (t, kernel, mut r) = tables();
            t.set(at, entry);
            r.access = access;
            match refill(&t, &kernel, TSB, &r, VA) {
                Err(WalkStop::Fault(f)) => f.trap().number,
                other => panic!("{other:?}"),
            }
        };
        let pte = 0x2_6000 + index(13, VA) * 8;
        let pmd = 0x2_4000 + index(PMD_SHIFT, VA) * 8;
        assert_eq!(of(pte, PTE & !Tte::V, Access::Load), 0x68);
        assert_eq!(of(pte, PTE & !Tte::LINUX_EXEC, Access::Fetch), 0x64);
        assert_eq!(of(pmd, 0, Access::Store), 0x68);
        assert_eq!(of(pmd, Tte::LINUX_HUGE | 0x1200_0000, Access::Load), 0x68);
        assert_eq!(of(pmd, 0xdead_0000, Access::Load), 0x32);
    }
}
