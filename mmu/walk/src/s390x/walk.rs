//! The walk, step by step as in SA22-7832 "Dynamic Address Translation" (numbers: reference s390x-mmu §2).

use super::entry::{Asce, Pte, Rte, Ste, TableType};
use super::fault::{Fault, Reason};
use super::geometry::{index, page_index};
use crate::event::{Level, WalkEvent};
use crate::{Access, EntryStop, TableMemory, WalkStop};
use racewalk_ram::{Paddr, Vaddr};

/// The control-register bits that steer a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Controls {
    /// PSW bit 5: DAT is on.
    pub dat: bool,
    /// The ASCE of the space the access uses.
    pub asce: Asce,
    /// CR0 bit 35: low-address protection.
    pub low_address_protection: bool,
    /// CR0 bit 43, with facility 130: instruction-execution protection.
    pub execution_protection: bool,
    /// The prefix: real 0..8 KiB and absolute prefix..prefix + 8 KiB are swapped. A multiple of 8 KiB.
    pub prefix: u64,
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Absolute address of the byte.
    pub paddr: Paddr,
    /// DAT protection on the way: stores are forbidden.
    pub protected: bool,
    /// Instruction-execution protection: fetches are forbidden.
    pub no_execute: bool,
}

/// Real to absolute.
#[inline]
pub fn prefixing(prefix: u64, real: u64) -> Paddr {
    let area = real & !0x1fff;
    Paddr(if area == 0 {
        real | prefix
    } else if area == prefix {
        real & 0x1fff
    } else {
        real
    })
}

fn code_of(table: TableType) -> Reason {
    match table {
        TableType::Segment => Reason::Segment,
        TableType::Region3 => Reason::RegionThird,
        TableType::Region2 => Reason::RegionSecond,
        TableType::Region1 => Reason::RegionFirst,
    }
}

struct Walk<'m, M> {
    memory: &'m M,
    va: Vaddr,
    access: Access,
}

impl<M: TableMemory> Walk<'_, M> {
    fn fault<T>(&self, reason: Reason) -> Result<T, WalkStop<Fault>> {
        self.memory.event(WalkEvent::Fault {
            vaddr: self.va,
            name: reason.name(),
            code: reason.code() as u32,
        });
        Err(WalkStop::Fault(Fault { vaddr: self.va, access: self.access, reason }))
    }

    fn entry(&self, level: u8, table: &'static str, addr: Paddr) -> Result<u64, WalkStop<Fault>> {
        match self.memory.load_entry(addr) {
            Ok(entry) => {
                self.memory.event(WalkEvent::Step { level: Level(level), table, entry_addr: addr, entry });
                Ok(entry)
            }
            Err(EntryStop::Addressing) => self.fault(Reason::Addressing),
            Err(EntryStop::Cancelled) => Err(WalkStop::Cancelled),
        }
    }
}

/// Translates `va`. EDAT is off (its bits mean nothing then); storage keys are all zero, and so is the access key.
#[inline]
pub fn walk<M: TableMemory>(
    memory: &M,
    c: &Controls,
    va: Vaddr,
    access: Access,
) -> Result<Translation, WalkStop<Fault>> {
    let w = Walk { memory, va, access };
    memory.event(WalkEvent::Start { vaddr: va, access, root: c.asce.0 });
    let store = access == Access::Store;

    // 1. Low-address protection looks at the virtual address, before DAT.
    let low = va.0 & !0x11ff == 0;
    if store && low && c.low_address_protection && !(c.dat && c.asce.private()) {
        return w.fault(Reason::LowAddress);
    }
    // 2. Without DAT, and in a real space, the address is real.
    if !c.dat || c.asce.real_space() {
        return done(&w, prefixing(c.prefix, va.0), false, false);
    }
    // 3. Index bits to the left of the designated table's index are zero.
    let top = c.asce.designation();
    if top != TableType::Region1 && va.0 >> (super::geometry::shift(top) + 11) != 0 {
        return w.fault(Reason::AsceType);
    }
    // 4. The table is long enough.
    if index(top, va) >> 9 > c.asce.length() {
        return w.fault(code_of(top));
    }
    // 5. Region tables.
    let (mut table, mut origin) = (top, c.asce.origin());
    while let Some(next) = table.below() {
        let rte = Rte(w.entry(table as u8 + 1, table.name(), origin.offset(index(table, va) * 8))?);
        if rte.invalid() {
            return w.fault(code_of(table));
        }
        if rte.table_type() != table {
            return w.fault(Reason::TranslationSpecification);
        }
        let quarter = index(next, va) >> 9;
        if quarter < rte.offset() || quarter > rte.length() {
            return w.fault(code_of(next));
        }
        origin = rte.origin();
        table = next;
    }
    // 6. The segment table.
    let ste = Ste(w.entry(1, table.name(), origin.offset(index(table, va) * 8))?);
    if ste.invalid() {
        return w.fault(Reason::Segment);
    }
    if ste.table_type() != TableType::Segment || (ste.0 & Ste::CS != 0 && c.asce.private()) {
        return w.fault(Reason::TranslationSpecification);
    }
    // 7. The page table.
    let pte = Pte(w.entry(0, "page", ste.origin().offset(page_index(va) * 8))?);
    if pte.invalid() {
        return w.fault(Reason::Page);
    }
    if pte.0 & Pte::ZERO != 0 {
        return w.fault(Reason::TranslationSpecification);
    }
    let protected = pte.protected() || ste.0 & Ste::P != 0;
    // 9. Protection; 8 and 10: the frame is a real address.
    if store && protected {
        return w.fault(Reason::DatProtection);
    }
    let no_execute = c.execution_protection && pte.0 & Pte::IEP != 0;
    if access == Access::Fetch && no_execute {
        return w.fault(Reason::InstructionExecution);
    }
    done(&w, prefixing(c.prefix, pte.frame() | (va.0 & 0xfff)), protected, no_execute)
}

fn done<M: TableMemory>(
    w: &Walk<'_, M>,
    paddr: Paddr,
    protected: bool,
    no_execute: bool,
) -> Result<Translation, WalkStop<Fault>> {
    w.memory.event(WalkEvent::Done { vaddr: w.va, paddr, protected });
    Ok(Translation { paddr, protected, no_execute })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Tables(RefCell<HashMap<u64, u64>>, RefCell<Vec<WalkEvent>>);

    impl TableMemory for Tables {
        fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
            self.0.borrow().get(&addr.0).copied().ok_or(EntryStop::Addressing)
        }
        fn cas_entry(&self, _: Paddr, _: u64, _: u64) -> Result<u64, EntryStop> {
            Err(EntryStop::Addressing)
        }
        fn event(&self, e: WalkEvent) {
            self.1.borrow_mut().push(e)
        }
    }

    const VA: Vaddr = Vaddr(0x1_2345_6789);

    fn three_levels() -> (Tables, Controls) {
        let t = Tables::default();
        let asce = Asce::new(Paddr(0x10000), TableType::Region3, 3);
        let set = |a: u64, v: u64| t.0.borrow_mut().insert(a, v);
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
        assert_eq!(r, Translation { paddr: Paddr(0x77789), protected: false, no_execute: false });
        let text: Vec<_> = t.1.borrow().iter().map(|e| e.to_string()).collect();
        assert_eq!(text[0], "walk_start 0x123456789 load root 0x10007");
        assert_eq!(text[3], "walk_step level 0 page [0x30ab0] = 0x0000000000077000");
        assert_eq!(text[4], "walk_done 0x123456789 -> 0x77789");
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
            let v = t.0.borrow()[&at(i)];
            t.0.borrow_mut().insert(at(i), f(v));
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
        t.0.borrow_mut().remove(&at(1));
        assert_eq!(reason(&t, &c, VA, Access::Load), Reason::Addressing);
        let short = Controls { asce: Asce::new(Paddr(0x10000), TableType::Region3, 0), ..c };
        assert_eq!(reason(&t, &short, Vaddr(512 << 31), Access::Load), Reason::RegionThird);
        let iep = Controls { execution_protection: true, ..c };
        t.0.borrow_mut().insert(at(1), Ste::new(Paddr(0x30800)).0);
        t.0.borrow_mut().insert(at(2), 0x77000 | Pte::IEP);
        assert!(
            walk(&t, &c, VA, Access::Fetch).is_ok() && walk(&t, &iep, VA, Access::Load).unwrap().no_execute
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
        let f = |reason, access| Fault { vaddr: Vaddr(0x1234), access, reason }.teid();
        assert_eq!(f(Reason::DatProtection, Access::Store), Some(0x1404));
        assert_eq!(f(Reason::Page, Access::Load), Some(0x1800));
        assert_eq!(f(Reason::Addressing, Access::Load), None);
    }
}
