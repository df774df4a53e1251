//! The walk, step by step as in SA22-7832 "Dynamic Address Translation" (numbers: reference s390x-mmu §2).

use super::context::Space;
use super::entry::{Asce, FrameBits, Pte, Rte, Ste, TableType};
use super::fault::{Fault, Reason};
use super::geometry::{REGION_3_SHIFT, SEGMENT_SHIFT, beyond, index, page_index, quarter, shift};
use crate::event::{Level, WalkEvent};
use crate::tlb::{Entry, Key, Tag};
use crate::{Access, EntryStop, TableMemory, Upper, WalkStop};
use racewalk_ram::{Paddr, Vaddr};

/// What steers one translation: the effective controls and the ASCE of the space the access is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Controls {
    /// PSW bit 5: DAT is on.
    pub dat: bool,
    /// The ASCE of the space the access uses.
    pub asce: Asce,
    /// That space.
    pub space: Space,
    /// CR0 bit 35: low-address protection.
    pub low_address_protection: bool,
    /// EDAT-1 applies: facility 8 and CR0 bit 40.
    pub edat1: bool,
    /// EDAT-2 applies: EDAT-1 and facility 78.
    pub edat2: bool,
    /// CR0 bit 43, with facility 130: instruction-execution protection.
    pub execution_protection: bool,
    /// The prefix: real 0..8 KiB and absolute prefix..prefix + 8 KiB are swapped. A multiple of 8 KiB.
    pub prefix: u64,
}

impl Controls {
    /// What a TLB is asked for `va`.
    pub fn tlb_key(&self, va: Vaddr) -> Key {
        Key { va, space: self.asce.space(), other: None, globals: !self.asce.private() }
    }

    /// Low-address protection: it looks at the virtual address, before DAT.
    #[inline]
    fn low_address(&self, va: Vaddr, access: Access) -> bool {
        access == Access::Store
            && va.0 & !0x11ff == 0
            && self.low_address_protection
            && !(self.dat && self.asce.private())
    }

    /// 9. Protection: what of a translation denies an access.
    #[inline]
    fn denial(&self, leaf: &Leaf, access: Access) -> Option<Reason> {
        match access {
            Access::Store if leaf.protected => Some(Reason::DatProtection),
            Access::Fetch if leaf.no_execute && self.execution_protection => {
                Some(Reason::InstructionExecution)
            }
            _ => None,
        }
    }

    /// Whether an access may use a translation that a TLB holds; the same questions, in the same order, that a walk asks
    /// at its beginning and end.
    pub fn check(&self, leaf: &Leaf, va: Vaddr, access: Access) -> Result<(), Fault> {
        let low = self.low_address(va, access).then_some(Reason::LowAddress);
        match low.or_else(|| self.denial(leaf, access)) {
            Some(reason) => Err(Fault { vaddr: va, access, reason, space: self.space }),
            None => Ok(()),
        }
    }
}

/// What accesses through a translation are checked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf {
    /// DAT protection on the way: stores are forbidden.
    pub protected: bool,
    /// The leaf's IEP bit: fetches are forbidden where the protection is enabled.
    pub no_execute: bool,
    /// ACC and F of a large frame, which stand in for those of the storage keys.
    pub key: Option<u8>,
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Absolute address of the byte.
    pub paddr: Paddr,
    /// log2 of the size of the page.
    pub shift: u8,
    /// A common segment or region: the translation serves all spaces that are not private.
    pub common: bool,
    /// Where the leaf entry was fetched; zero where no table was used.
    pub from: Paddr,
    /// What accesses are checked against.
    pub leaf: Leaf,
}

impl Translation {
    /// The TLB entry for the page of `va`.
    pub fn tlb_entry(&self, c: &Controls, va: Vaddr) -> Entry<Leaf> {
        let inside = (1u64 << self.shift) - 1;
        let tag = Tag {
            space: c.asce.space(),
            global: self.common,
            page: Vaddr(va.0 & !inside),
            shift: self.shift,
        };
        Entry { tag, frame: Paddr(self.paddr.0 & !inside), from: self.from, locked: false, leaf: self.leaf }
    }
}

/// Real to absolute.
#[inline]
pub fn prefixing(prefix: u64, real: u64) -> Paddr {
    let area = real & !0x1fff;
    // Hardly any address is in either area, and the walk waits for this one.
    if area != 0 && area != prefix { Paddr(real) } else { swapped(prefix, real) }
}

#[cold]
fn swapped(prefix: u64, real: u64) -> Paddr {
    Paddr(if real & !0x1fff == 0 { real | prefix } else { real & 0x1fff })
}

fn code_of(table: TableType) -> Reason {
    match table {
        TableType::Segment => Reason::Segment,
        TableType::Region3 => Reason::RegionThird,
        TableType::Region2 => Reason::RegionSecond,
        TableType::Region1 => Reason::RegionFirst,
    }
}

/// Events and walk caches number tables from the leaf: page table 0, segment table 1, and so on.
fn level(table: TableType) -> Level {
    Level(table as u8 + 1)
}

/// What of the upper entries counts below: DAT protection and common regions.
const PROTECTED: u64 = 1;
const COMMON: u64 = 2;

struct Walk<'m, M> {
    memory: &'m M,
    c: &'m Controls,
    va: Vaddr,
    access: Access,
}

type Stop = WalkStop<Fault>;

impl<M: TableMemory> Walk<'_, M> {
    #[cold]
    fn fault<T>(&self, reason: Reason) -> Result<T, Stop> {
        let (name, code) = (reason.name(), reason.code() as u32);
        self.memory.event(WalkEvent::Fault { vaddr: self.va, name, code });
        Err(WalkStop::Fault(Fault { vaddr: self.va, access: self.access, reason, space: self.c.space }))
    }

    #[inline]
    fn entry(&self, level: Level, table: &'static str, addr: Paddr) -> Result<u64, Stop> {
        match self.memory.load_entry(addr) {
            Ok(entry) => {
                self.memory.event(WalkEvent::Step { level, table, entry_addr: addr, entry });
                Ok(entry)
            }
            Err(EntryStop::Addressing) => self.fault(Reason::Addressing),
            Err(EntryStop::Cancelled) => Err(WalkStop::Cancelled),
        }
    }

    /// Steps 3 to 7 from the ASCE.
    #[inline]
    fn tables(&self) -> Result<Translation, Stop> {
        let (c, va) = (self.c, self.va);
        let top = c.asce.designation();
        // 3. Index bits to the left of the designated table's index are zero.
        if beyond(top, va) {
            return self.fault(Reason::AsceType);
        }
        // 4. The table is long enough.
        if quarter(top, va) > c.asce.length() {
            return self.fault(code_of(top));
        }
        self.table(top, c.asce.origin(), 0)
    }

    /// The table of type `table` at `origin`, and those below it.
    #[inline]
    fn table(&self, table: TableType, origin: Paddr, gathered: u64) -> Result<Translation, Stop> {
        match table {
            TableType::Region1 => self.region_table::<3>(origin, gathered),
            TableType::Region2 => self.region_table::<2>(origin, gathered),
            TableType::Region3 => self.region_table::<1>(origin, gathered),
            TableType::Segment => self.segment_table(origin, gathered),
        }
    }

    /// 5. A region table. `TYPE` is its TT: the compiler makes one function a table, a fifth quicker than one loop over them.
    #[inline]
    fn region_table<const TYPE: u64>(&self, origin: Paddr, mut gathered: u64) -> Result<Translation, Stop> {
        let (c, va) = (self.c, self.va);
        let (table, next) = (TableType::from_bits(TYPE), TableType::from_bits(TYPE - 1));
        let at = origin.offset(index(table, va) * 8);
        let rte = Rte(self.entry(level(table), table.name(), at)?);
        // Most entries ask no question: valid, of the right type, with the whole of the next table and no other bits.
        let origin = if rte.is_plain(table) {
            self.memory.remember(va, shift(table) as u8, Upper { next: level(next), entry: rte.0, gathered });
            rte.origin()
        } else {
            if rte.invalid() {
                return self.fault(code_of(table));
            }
            if rte.table_type() != table {
                return self.fault(Reason::TranslationSpecification);
            }
            if c.edat1 && rte.0 & Rte::P != 0 {
                gathered |= PROTECTED;
            }
            if table == TableType::Region3 && c.edat2 {
                if rte.0 & Rte::CR != 0 {
                    if c.asce.private() {
                        return self.fault(Reason::TranslationSpecification);
                    }
                    gathered |= COMMON;
                }
                if rte.0 & Rte::FC != 0 {
                    return self.large(rte.0, Rte::RFAA, REGION_3_SHIFT, at, gathered);
                }
            }
            self.memory.remember(va, shift(table) as u8, Upper { next: level(next), entry: rte.0, gathered });
            self.designated(next, rte)?
        };
        match next {
            TableType::Region2 => self.region_table::<2>(origin, gathered),
            TableType::Region3 => self.region_table::<1>(origin, gathered),
            _ => self.segment_table(origin, gathered),
        }
    }

    /// The origin of the table that a region entry designates, if `va` has an entry in it.
    #[inline]
    fn designated(&self, next: TableType, rte: Rte) -> Result<Paddr, Stop> {
        if !(rte.offset()..=rte.length()).contains(&quarter(next, self.va)) {
            return self.fault(code_of(next));
        }
        Ok(rte.origin())
    }

    /// 6. The segment table.
    #[inline]
    fn segment_table(&self, origin: Paddr, mut gathered: u64) -> Result<Translation, Stop> {
        let (c, va) = (self.c, self.va);
        let table = TableType::Segment;
        let at = origin.offset(index(table, va) * 8);
        let ste = Ste(self.entry(level(table), table.name(), at)?);
        if !ste.is_plain() {
            if ste.invalid() {
                return self.fault(Reason::Segment);
            }
            if ste.table_type() != table {
                return self.fault(Reason::TranslationSpecification);
            }
            if ste.0 & Ste::CS != 0 {
                if c.asce.private() {
                    return self.fault(Reason::TranslationSpecification);
                }
                gathered |= COMMON;
            }
            if ste.0 & Ste::P != 0 {
                gathered |= PROTECTED;
            }
            if c.edat1 && ste.0 & Ste::FC != 0 {
                return self.large(ste.0, Ste::SFAA, SEGMENT_SHIFT, at, gathered);
            }
        }
        self.memory.remember(va, SEGMENT_SHIFT as u8, Upper { next: Level(0), entry: ste.0, gathered });
        self.page_table(ste, gathered)
    }

    /// 7. The page table. 8 and 10: the frame is a real address.
    #[inline]
    fn page_table(&self, ste: Ste, gathered: u64) -> Result<Translation, Stop> {
        let at = ste.origin().offset(page_index(self.va) * 8);
        let pte = Pte(self.entry(Level(0), "page", at)?);
        if pte.0 & (Pte::I | Pte::ZERO) != 0 {
            return self.fault(if pte.invalid() { Reason::Page } else { Reason::TranslationSpecification });
        }
        let leaf = Leaf {
            protected: pte.protected() || gathered & PROTECTED != 0,
            no_execute: pte.0 & Pte::IEP != 0,
            key: None,
        };
        self.protection(&leaf)?;
        let paddr = prefixing(self.c.prefix, pte.frame() | (self.va.0 & 0xfff));
        Ok(Translation { paddr, shift: 12, common: gathered & COMMON != 0, from: at, leaf })
    }

    /// A large frame: its address is absolute, no prefixing.
    fn large(
        &self,
        entry: u64,
        frame: u64,
        shift: u32,
        from: Paddr,
        gathered: u64,
    ) -> Result<Translation, Stop> {
        let bits = FrameBits(entry);
        let leaf = Leaf {
            protected: gathered & PROTECTED != 0,
            no_execute: entry & FrameBits::IEP != 0,
            key: bits.key(),
        };
        self.protection(&leaf)?;
        let paddr = Paddr(entry & frame | self.va.0 & !frame);
        Ok(Translation { paddr, shift: shift as u8, common: gathered & COMMON != 0, from, leaf })
    }

    /// 9. Protection.
    #[inline]
    fn protection(&self, leaf: &Leaf) -> Result<(), Stop> {
        match self.c.denial(leaf, self.access) {
            Some(reason) => self.fault(reason),
            None => Ok(()),
        }
    }
}

/// Translates `va`. Key-controlled protection is not part of it: keys belong to frames, and each access asks
/// [`key`](super::key) anew.
#[inline]
pub fn walk<M: TableMemory>(
    memory: &M,
    c: &Controls,
    va: Vaddr,
    access: Access,
) -> Result<Translation, WalkStop<Fault>> {
    let w = Walk { memory, c, va, access };
    memory.event(WalkEvent::Start { vaddr: va, access, root: c.asce.0 });
    // 1. Low-address protection.
    if c.low_address(va, access) {
        return w.fault(Reason::LowAddress);
    }
    // 2. Without DAT, and in a real space, the address is real.
    let t = if !c.dat || c.asce.real_space() {
        let paddr = prefixing(c.prefix, va.0);
        Translation { paddr, shift: 12, common: false, from: Paddr(0), leaf: Leaf::default() }
    } else {
        match memory.resume(va) {
            None => w.tables()?,
            Some(Upper { next: Level(0), entry, gathered }) => w.page_table(Ste(entry), gathered)?,
            Some(Upper { next, entry, gathered }) => {
                let next = TableType::from_bits(next.0 as u64 - 1);
                w.table(next, w.designated(next, Rte(entry))?, gathered)?
            }
        }
    };
    memory.event(WalkEvent::Done { vaddr: va, paddr: t.paddr, shift: t.shift, protected: t.leaf.protected });
    Ok(t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tables;

    const VA: Vaddr = Vaddr(0x1_2345_6789);

    fn three_levels() -> (Tables, Controls) {
        let t = Tables::default();
        let asce = Asce::new(Paddr(0x10000), TableType::Region3, 3);
        let set = |a: u64, v: u64| t.set(a, v);
        set(0x10000 + index(TableType::Region3, VA) * 8, Rte::new(TableType::Region3, Paddr(0x20000)).0);
        set(0x20000 + index(TableType::Segment, VA) * 8, Ste::new(Paddr(0x30800)).0);
        set(0x30800 + page_index(VA) * 8, 0x77000);
        (t, Controls { dat: true, asce, ..Controls::default() })
    }

    fn reason(t: &Tables, c: &Controls, va: Vaddr, a: Access) -> Reason {
        match walk(t, c, va, a) {
            Err(WalkStop::Fault(f)) => f.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_translation_and_its_events() {
        let (t, c) = three_levels();
        let r = walk(&t, &c, VA, Access::Load).unwrap();
        let from = Paddr(0x30800 + page_index(VA) * 8);
        let leaf = Leaf { protected: false, no_execute: false, key: None };
        assert_eq!(r, Translation { paddr: Paddr(0x77789), shift: 12, common: false, from, leaf });
        let text: Vec<_> = t.take_events().iter().map(|e| e.to_string()).collect();
        assert_eq!(text[0], "walk_start 0x123456789 load root 0x10007");
        assert_eq!(text[3], "walk_step level 0 page [0x30ab0] = 0x0000000000077000");
        assert_eq!(text[4], "walk_done 0x123456789 -> 0x77789 4K");
    }

    #[test]
    fn every_exception() {
        let at = |i: u64| {
            [
                0x10000 + index(TableType::Region3, VA) * 8,
                0x20000 + index(TableType::Segment, VA) * 8,
                0x30800 + page_index(VA) * 8,
            ][i as usize]
        };
        let with = |i: u64, f: fn(u64) -> u64, a: Access| {
            let (t, c) = three_levels();
            let v = t.get(at(i)).unwrap();
            t.set(at(i), f(v));
            reason(&t, &c, VA, a)
        };
        assert_eq!(with(0, |v| v | Rte::I, Access::Load), Reason::RegionThird);
        assert_eq!(with(0, |v| v ^ 0xc, Access::Load), Reason::TranslationSpecification);
        // TF and TL failures raise the next level's code.
        assert_eq!(with(0, |v| v & !3, Access::Load), Reason::Segment);
        assert_eq!(with(1, |v| v | Ste::I, Access::Load), Reason::Segment);
        assert_eq!(with(1, |v| v | 4, Access::Load), Reason::TranslationSpecification);
        assert_eq!(with(1, |v| v | Ste::P, Access::Store), Reason::DatProtection);
        assert_eq!(with(2, |v| v | Pte::I, Access::Load), Reason::Page);
        assert_eq!(with(2, |v| v | Pte::ZERO, Access::Load), Reason::TranslationSpecification);
        assert_eq!(with(2, |v| v | Pte::P, Access::Store), Reason::DatProtection);
        let (t, c) = three_levels();
        assert_eq!(reason(&t, &c, Vaddr(1 << 42), Access::Load), Reason::AsceType);
        t.unset(at(1));
        assert_eq!(reason(&t, &c, VA, Access::Load), Reason::Addressing);
        let short = Controls { asce: Asce::new(Paddr(0x10000), TableType::Region3, 0), ..c };
        assert_eq!(reason(&t, &short, Vaddr(512 << 31), Access::Load), Reason::RegionThird);
        let iep = Controls { execution_protection: true, ..c };
        t.set(at(1), Ste::new(Paddr(0x30800)).0);
        t.set(at(2), 0x77000 | Pte::IEP);
        assert!(
            walk(&t, &c, VA, Access::Fetch).is_ok()
                && walk(&t, &iep, VA, Access::Load).unwrap().leaf.no_execute
        );
        assert_eq!(reason(&t, &iep, VA, Access::Fetch), Reason::InstructionExecution);
        let lap = Controls { low_address_protection: true, ..c };
        assert_eq!(reason(&t, &lap, Vaddr(0x11ff), Access::Store), Reason::LowAddress);
        for (dt, want) in
            [(TableType::Region2, Reason::RegionSecond), (TableType::Region1, Reason::RegionFirst)]
        {
            let c = Controls { asce: Asce::new(Paddr(0x40000), dt, 0), ..c };
            assert_eq!(reason(&t, &c, Vaddr(600 << super::super::geometry::shift(dt)), Access::Load), want);
        }
    }

    #[test]
    fn prefixing_swaps() {
        assert_eq!(prefixing(0x6000, 0x10), Paddr(0x6010));
        assert_eq!(prefixing(0x6000, 0x7010), Paddr(0x1010));
        assert_eq!(prefixing(0x6000, 0x8010), Paddr(0x8010));
        assert_eq!(prefixing(0, 0x1010), Paddr(0x1010));
    }

    #[test]
    fn teid_bits() {
        let f = |reason, access| Fault { vaddr: Vaddr(0x1234), access, reason, space: Space::Primary }.teid();
        assert_eq!(f(Reason::DatProtection, Access::Store), Some(0x1404));
        assert_eq!(f(Reason::Page, Access::Load), Some(0x1800));
        assert_eq!(f(Reason::Addressing, Access::Load), None);
    }
}
