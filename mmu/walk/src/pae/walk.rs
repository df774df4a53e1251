//! The walk (Intel SDM volume 3, "PAE paging"). Processors read an entry by one access; this walker reads it in the two
//! words that software of such a machine does, and the halves may be of two times.
//!
//! A and D are set by a compare-and-swap of the whole entry. If it fails, the entry has changed since it was read, or was
//! never there as it was read, and the walk begins anew: a torn entry does harm only where A and D are set already. A of a
//! directory entry is set as the walk passes it; A and D of the leaf once the access is permitted.

use super::context::{Context, Order, SPACE};
use super::entry::{A, D, G, P, Pde, Pdpte, Pte, RW, US, XD};
use super::fault::{Fault, Reason};
use super::geometry::{PDE_SHIFT, PDPT_ENTRIES, PTE_SHIFT, linear, pde_index, pdpt_index, pte_index};
use crate::event::{Level, WalkEvent};
use crate::tlb::{Entry, Tag};
use crate::{Access, EntryStop, TableMemory, Upper, WalkStop};
use racewalk_ram::{Paddr, Vaddr};

/// What accesses through a translation are checked against: all levels together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf {
    /// R/W = 1 on all levels.
    pub writable: bool,
    /// U/S = 1 on all levels.
    pub user: bool,
    /// XD = 1 on some level.
    pub no_execute: bool,
    /// D is set: a store needs no walk.
    pub dirty: bool,
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Physical address of the byte.
    pub paddr: Paddr,
    /// log2 of the size of the page.
    pub shift: u8,
    /// G, with CR4.PGE.
    pub global: bool,
    /// Where the leaf entry was fetched.
    pub from: Paddr,
    /// What accesses are checked against.
    pub leaf: Leaf,
}

impl Translation {
    /// The TLB entry for the page of `va`.
    pub fn tlb_entry(&self, va: Vaddr) -> Entry<Leaf> {
        let inside = (1u64 << self.shift) - 1;
        let page = Vaddr(linear(va) & !inside);
        let tag = Tag { space: SPACE, global: self.global, page, shift: self.shift };
        Entry { tag, frame: Paddr(self.paddr.0 & !inside), from: self.from, locked: false, leaf: self.leaf }
    }
}

type Stop = WalkStop<Fault>;

struct Walk<'m, M> {
    memory: &'m M,
    c: &'m Context,
    va: Vaddr,
    access: Access,
}

impl<M: TableMemory> Walk<'_, M> {
    #[cold]
    fn fault<T>(&self, reason: Reason) -> Result<T, Stop> {
        let fault = self.c.fault(self.va, self.access, reason);
        let (name, code) = (reason.name(), reason.vector() as u32);
        self.memory.event(WalkEvent::Fault { vaddr: fault.vaddr, name, code });
        Err(WalkStop::Fault(fault))
    }

    #[cold]
    fn stopped<T>(&self, stop: EntryStop) -> Result<T, Stop> {
        match stop {
            EntryStop::Addressing => self.fault(Reason::Addressing),
            EntryStop::Cancelled => Err(WalkStop::Cancelled),
        }
    }

    /// An entry, in two words or whole.
    #[inline]
    fn entry(&self, level: u8, table: &'static str, at: Paddr) -> Result<u64, Stop> {
        let word = |at| self.memory.load_word(at).map(|w| w.swap_bytes() as u64);
        let read = match self.c.order {
            Order::LowFirst => word(at).and_then(|low| Ok(word(at.offset(4))? << 32 | low)),
            Order::HighFirst => word(at.offset(4)).and_then(|high| Ok(high << 32 | word(at)?)),
            Order::Whole => self.memory.load_entry(at).map(u64::swap_bytes),
        };
        match read {
            Ok(entry) => {
                self.memory.event(WalkEvent::Step { level: Level(level), table, entry_addr: at, entry });
                Ok(entry)
            }
            Err(stop) => self.stopped(stop),
        }
    }

    /// Sets bits of an entry; whether it still was what was read.
    #[inline]
    fn mark(&self, at: Paddr, entry: u64, bits: u64) -> Result<bool, Stop> {
        if entry & bits == bits {
            return Ok(true);
        }
        match self.memory.cas_entry(at, entry.swap_bytes(), (entry | bits).swap_bytes()) {
            Ok(old) => Ok(old == entry.swap_bytes()),
            Err(stop) => self.stopped(stop),
        }
    }

    /// 1 and 2: the page directory. `None`: from the beginning.
    #[inline]
    fn directory(&self) -> Result<Option<Translation>, Stop> {
        let (c, va) = (self.c, self.va);
        // 1. The PDPTE register that bits 31-30 name.
        let pdpte = c.pdptes[pdpt_index(va)];
        if !pdpte.present() {
            return self.fault(Reason::NotPresent);
        }
        // 2. The directory entry.
        let at = c.layout.memory(pdpte.table()).offset(pde_index(va) * 8);
        let pde = Pde(self.entry(1, "page-directory", at)?);
        if pde.0 & P == 0 {
            return self.fault(Reason::NotPresent);
        }
        if pde.reserved(c.maxphyaddr, c.no_execute) != 0 {
            return self.fault(Reason::Reserved);
        }
        let rights = pde.0 & (RW | US | XD);
        if pde.large() {
            return self.leaf(at, pde.0, Pde::FRAME, PDE_SHIFT, rights);
        }
        if !self.mark(at, pde.0, A)? {
            return Ok(None);
        }
        let upper = Upper { next: Level(0), entry: pde.0, gathered: rights };
        self.memory.remember(Vaddr(linear(va)), PDE_SHIFT, upper);
        self.table(pde, rights)
    }

    /// 3. The page table.
    #[inline]
    fn table(&self, pde: Pde, rights: u64) -> Result<Option<Translation>, Stop> {
        let at = self.c.layout.memory(pde.table()).offset(pte_index(self.va) * 8);
        let pte = Pte(self.entry(0, "page-table", at)?);
        if pte.0 & P == 0 {
            return self.fault(Reason::NotPresent);
        }
        if pte.reserved(self.c.maxphyaddr, self.c.no_execute) != 0 {
            return self.fault(Reason::Reserved);
        }
        self.leaf(at, pte.0, Pte::FRAME, PTE_SHIFT, rights)
    }

    /// 4 and 5: rights of all levels, then A and D.
    #[inline]
    fn leaf(
        &self,
        at: Paddr,
        entry: u64,
        frame: u64,
        shift: u8,
        rights: u64,
    ) -> Result<Option<Translation>, Stop> {
        let (c, store) = (self.c, self.access == Access::Store);
        let both = entry & rights;
        let mut leaf = Leaf {
            writable: both & RW != 0,
            user: both & US != 0,
            no_execute: (entry | rights) & XD != 0,
            dirty: entry & D != 0,
        };
        if let Some(reason) = c.refusal(&leaf, self.access) {
            return self.fault(reason);
        }
        if !self.mark(at, entry, if store { A | D } else { A })? {
            return Ok(None);
        }
        leaf.dirty |= store;
        let inside = (1u64 << shift) - 1;
        let paddr = c.layout.memory(Paddr(entry & frame | self.va.0 & inside));
        Ok(Some(Translation { paddr, shift, global: c.global_pages && entry & G != 0, from: at, leaf }))
    }
}

/// Translates `va`, a linear address: its upper 32 bits are not looked at.
#[inline]
pub fn walk<M: TableMemory>(
    memory: &M,
    c: &Context,
    va: Vaddr,
    access: Access,
) -> Result<Translation, WalkStop<Fault>> {
    let w = Walk { memory, c, va, access };
    let vaddr = Vaddr(linear(va));
    memory.event(WalkEvent::Start { vaddr, access, root: c.pdptes[pdpt_index(va)].0 });
    let t = loop {
        let found = match memory.resume(vaddr) {
            None => w.directory()?,
            Some(Upper { entry, gathered, .. }) => match w.table(Pde(entry), gathered)? {
                // The leaf changed: the directory is asked, too.
                None => w.directory()?,
                found => found,
            },
        };
        if let Some(t) = found {
            break t;
        }
    };
    memory.event(WalkEvent::Done { vaddr, paddr: t.paddr, shift: t.shift, protected: !t.leaf.writable });
    Ok(t)
}

/// The load of the PDPTE registers that comes with a load of CR3: four entries of 8 bytes at CR3[31:5]. They are not read
/// again until the next.
pub fn load_pdptes<M: TableMemory>(
    memory: &M,
    c: &Context,
    cr3: u64,
) -> Result<[Pdpte; PDPT_ENTRIES], WalkStop<Fault>> {
    let w = Walk { memory, c, va: Vaddr(0), access: Access::Load };
    let mut pdptes = [Pdpte::default(); PDPT_ENTRIES];
    for (i, pdpte) in pdptes.iter_mut().enumerate() {
        *pdpte =
            Pdpte(w.entry(2, "page-directory-pointer", Paddr(cr3 & 0xffff_ffe0).offset(i as u64 * 8))?);
    }
    if pdptes.iter().any(|p| p.present() && p.reserved(c.maxphyaddr) != 0) {
        return w.fault(Reason::PointerReserved);
    }
    Ok(pdptes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tables;
    use std::cell::Cell;

    const VA: Vaddr = Vaddr(0x4060_3abc);
    const PDE: u64 = 0x2_0000 + 3 * 8;
    const PTE: u64 = 0x3_0000 + 3 * 8;

    fn set(t: &Tables, at: u64, entry: u64) {
        t.set(at, entry.swap_bytes())
    }
    fn get(t: &Tables, at: u64) -> u64 {
        t.get(at).unwrap().swap_bytes()
    }

    fn tables() -> (Tables, Context) {
        let t = Tables::default();
        set(&t, 0x1_0008, 0x2_0000 | P);
        for free in [0x1_0000, 0x1_0010, 0x1_0018] {
            set(&t, free, 0);
        }
        set(&t, PDE, 0x3_0000 | P | RW | US);
        set(&t, PTE, 0x7_7000 | P | RW | US);
        let mut c = Context::default();
        c.pdptes = load_pdptes(&t, &c, 0x1_0000).unwrap();
        (t, c)
    }

    #[test]
    fn accessed_and_dirty() {
        let (t, c) = tables();
        let found = walk(&t, &c, VA, Access::Load).unwrap();
        assert_eq!((found.paddr, found.shift, found.leaf.dirty), (Paddr(0x7_7abc), 12, false));
        assert_eq!((get(&t, PDE), get(&t, PTE)), (0x3_0000 | P | RW | US | A, 0x7_7000 | P | RW | US | A));
        use super::super::context::Hit;
        assert_eq!(c.check(&found.leaf, VA, Access::Store), Ok(Hit::Walk));
        let found = walk(&t, &c, VA, Access::Store).unwrap();
        assert_eq!(get(&t, PTE), 0x7_7000 | P | RW | US | A | D);
        assert_eq!(c.check(&found.leaf, VA, Access::Store), Ok(Hit::Use));
    }

    #[test]
    fn a_forbidden_access_leaves_the_leaf_alone() {
        let (t, c) = tables();
        set(&t, PTE, 0x7_7000 | P);
        assert!(walk(&t, &c, VA, Access::Store).is_err());
        assert_eq!((get(&t, PDE) & A, get(&t, PTE)), (A, 0x7_7000 | P));
        let lax = Context { write_protect: false, ..c };
        assert!(walk(&t, &lax, VA, Access::Store).is_ok());
    }

    /// Memory whose entry at `at` becomes `to` between the two words.
    struct Changing<'a> {
        tables: &'a Tables,
        at: u64,
        to: u64,
        reads: Cell<u32>,
    }

    impl TableMemory for Changing<'_> {
        fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
            self.tables.load_entry(addr)
        }
        fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
            self.tables.cas_entry(addr, expected, new)
        }
        fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
            self.tables.load_pair(addr)
        }
        fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
            let word = self.tables.load_word(addr);
            if addr.0 & !7 == self.at {
                self.reads.set(self.reads.get() + 1);
                set(self.tables, self.at, self.to);
            }
            word
        }
        fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
            self.tables.store_byte(addr, byte)
        }
    }

    #[test]
    fn a_torn_entry_is_noticed_only_where_a_has_to_be_set() {
        // From frame 0x7_7000 to one above 4 GiB: the low word of the one with the high word of the other.
        let to = 0x1_0008_8000 | P | RW | US | A | D;
        let torn = |order, from: u64| {
            let (t, mut c) = tables();
            set(&t, PTE, from);
            c.order = order;
            let m = Changing { tables: &t, at: PTE, to, reads: Cell::new(0) };
            (walk(&m, &c, VA, Access::Load).unwrap().paddr, m.reads.get())
        };
        let from = 0x7_7000 | P | RW | US;
        assert_eq!(torn(Order::LowFirst, from | A), (Paddr(0x1_0007_7abc), 2));
        assert_eq!(torn(Order::HighFirst, from | A), (Paddr(0x8_8abc), 2));
        assert_eq!(torn(Order::LowFirst, from), (Paddr(0x1_0008_8abc), 4), "read again");
        assert_eq!(torn(Order::Whole, from | A), (Paddr(0x7_7abc), 0));
    }

    #[test]
    fn registers_stay_until_cr3_is_loaded() {
        let (t, mut c) = tables();
        set(&t, 0x1_0008, 0);
        assert!(walk(&t, &c, VA, Access::Load).is_ok());
        c.pdptes = load_pdptes(&t, &c, 0x1_0000).unwrap();
        assert!(walk(&t, &c, VA, Access::Load).is_err());
        set(&t, 0x1_0010, P | RW);
        assert!(
            matches!(load_pdptes(&t, &c, 0x1_0000), Err(WalkStop::Fault(f)) if f.reason == Reason::PointerReserved)
        );
        set(&t, 0x1_0010, RW);
        assert!(load_pdptes(&t, &c, 0x1_0000).is_ok(), "not present, not looked at");
    }
}
