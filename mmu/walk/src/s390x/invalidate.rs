//! What each invalidation does to tables and TLBs (SA22-7832 chapter 10; reference s390x-mmu §4). Each instruction is
//! given its operands as the registers have them, changes the table, and says what is purged and where; that a purge is
//! complete on every CPU before the instruction ends is the bus's promise, not made here.

use super::entry::{Asce, Pte, Rte, TableType};
use super::geometry::{CRST_ENTRIES, INDEX_BITS, PAGE_TABLE_ENTRIES, index, page_index, shift, span};
use crate::tlb::{Globals, Purge, Spaces};
use crate::{EntryStop, TableMemory};
use racewalk_ram::{Paddr, Vaddr};

/// Which instruction asked for it, for events and statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Instruction {
    /// INVALIDATE PAGE TABLE ENTRY.
    Ipte,
    /// INVALIDATE DAT TABLE ENTRY.
    Idte,
    /// COMPARE AND REPLACE DAT TABLE ENTRY.
    Crdte,
    /// COMPARE AND SWAP AND PURGE, 32 and 64 bits.
    Csp,
    /// PURGE TLB.
    Ptlb,
    /// RESET DAT PROTECTION.
    Rdp,
    /// SET PREFIX.
    Spx,
}

impl Instruction {
    /// Mnemonic.
    pub fn name(self) -> &'static str {
        match self {
            Instruction::Ipte => "ipte",
            Instruction::Idte => "idte",
            Instruction::Crdte => "crdte",
            Instruction::Csp => "csp",
            Instruction::Ptlb => "ptlb",
            Instruction::Rdp => "rdp",
            Instruction::Spx => "spx",
        }
    }
}

/// Why an invalidation did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// 0x06: operands that are not allowed.
    Specification,
    /// 0x05: the entry is outside the configuration.
    Addressing,
    /// The controlled run ended.
    Cancelled,
}

impl From<EntryStop> for Refused {
    fn from(e: EntryStop) -> Self {
        match e {
            EntryStop::Addressing => Refused::Addressing,
            EntryStop::Cancelled => Refused::Cancelled,
        }
    }
}

/// What an invalidation leaves to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effect {
    /// What goes from TLBs; `None` if nothing does.
    pub purge: Option<Purge>,
    /// The local-clearing control: only this CPU's TLB is purged.
    pub local: bool,
    /// The first entry as it was.
    pub old: u64,
    /// The second and third operand registers after the instruction.
    pub after: [u64; 2],
}

/// M4 bit 3 of IPTE, IDTE and CRDTE: local clearing.
pub const LOCAL: u8 = 1;
const GUEST_ASCE: u64 = 0x800;
const COUNT: u64 = 0xff;
const CLEAR_BY_ASCE: u64 = 0x800;
const IDTE_ZERO: u64 = 0xf_f000;
const IDTE_COUNT: u64 = 0x7ff;

/// Sets or clears bits of an entry, atomically.
fn change(memory: &impl TableMemory, at: Paddr, set: u64, clear: u64) -> Result<u64, EntryStop> {
    let mut old = memory.load_entry(at)?;
    loop {
        let seen = memory.cas_entry(at, old, (old & !clear) | set)?;
        if seen == old {
            return Ok(old);
        }
        old = seen;
    }
}

/// What is purged for page-table entries at `first..=last`. Entries for a page are identified by page-table origin and
/// page index, that is, by where they were fetched: in whatever space and at whatever address the table is attached.
fn pages(first: Paddr, last: Paddr) -> Purge {
    Purge { from: Some((first, last.offset(7))), globals: Globals::Always, ..Purge::default() }
}

/// Restricts a purge to the space whose ASCE has the origin and designation of `asce`; common entries go all the same.
fn of_space(purge: Purge, asce: u64) -> Purge {
    let value = Asce(asce).space().0;
    Purge { spaces: Spaces::Matching { value, mask: Asce::ORIGIN | 0xf }, ..purge }
}

/// INVALIDATE PAGE TABLE ENTRY: R1 page-table origin, R2 the virtual address with the page index, R3 options and, with
/// the IPTE-range facility, the number of further entries, which must lie in the same table.
pub fn ipte(memory: &impl TableMemory, r1: u64, r2: u64, r3: u64, m4: u8) -> Result<Effect, Refused> {
    let (origin, px, more) = (Paddr(r1 & !0x7ff), page_index(Vaddr(r2)), r3 & COUNT);
    if px + more >= PAGE_TABLE_ENTRIES {
        return Err(Refused::Specification);
    }
    let first = origin.offset(px * 8);
    let mut old = 0;
    for i in 0..=more {
        let seen = change(memory, first.offset(i * 8), Pte::I, 0)?;
        if i == 0 {
            old = seen;
        }
    }
    let mut purge = pages(first, first.offset(more * 8));
    if r3 & GUEST_ASCE != 0 {
        purge.spaces = Spaces::Matching { value: r3 & Asce::ORIGIN, mask: Asce::ORIGIN };
    }
    // The counted form ends with the address past the last entry and a count of -1.
    let after = if more != 0 { [r2.wrapping_add((more + 1) << 12), r3 | COUNT] } else { [r2, r3] };
    Ok(Effect { purge: Some(purge), local: m4 & LOCAL != 0, old, after })
}

/// RESET DAT PROTECTION: clears P of one page-table entry. Other CPUs may keep the protected translation and take a
/// fault that is none; only this CPU's must go if `m4` has the local-clearing control.
pub fn rdp(memory: &impl TableMemory, r1: u64, r2: u64, m4: u8) -> Result<Effect, Refused> {
    let at = Paddr(r1 & !0x7ff).offset(page_index(Vaddr(r2)) * 8);
    let old = change(memory, at, 0, Pte::P)?;
    Ok(Effect { purge: Some(pages(at, at)), local: m4 & LOCAL != 0, old, after: [r2, 0] })
}

/// What IDTE clears by ASCE: the translations of one space, except common ones.
pub fn by_asce(asce: u64) -> Purge {
    of_space(Purge { globals: Globals::Never, ..Purge::default() }, asce)
}

/// INVALIDATE DAT TABLE ENTRY: R1 table origin and designation, R2 address and options, R3 the ASCE (zero: any space).
pub fn idte(memory: &impl TableMemory, r1: u64, r2: u64, r3: u64, m4: u8) -> Result<Effect, Refused> {
    let local = m4 & LOCAL != 0;
    if r2 & IDTE_ZERO != 0 {
        return Err(Refused::Specification);
    }
    if r2 & CLEAR_BY_ASCE != 0 {
        return Ok(Effect { purge: Some(by_asce(r3)), local, old: 0, after: [r2, r3] });
    }
    let table = TableType::from_bits(r1 >> 2);
    let (origin, more) = (Paddr(r1 & Rte::ORIGIN), r2 & IDTE_COUNT);
    let start = index(table, Vaddr(r2));
    let mut old = 0;
    for i in 0..=more {
        // The index wraps within the table.
        let at = origin.offset((start + i) % CRST_ENTRIES * 8);
        let seen = change(memory, at, Rte::I, 0)?;
        if i == 0 {
            old = seen;
        }
    }
    Ok(Effect { purge: Some(below(table, Vaddr(r2), more, r3)), local, old, after: [r2, r3] })
}

/// Everything formed through `more + 1` entries of a table of type `table` from the one for `va` on. Only the index counts
/// of the address, as the manual says: the table may be attached in several places. So all entries go whose address has
/// that index, whether they came through this table or another of its type; all of the table's span if the index wraps.
fn below(table: TableType, va: Vaddr, more: u64, asce: u64) -> Purge {
    let bits = shift(table);
    let start = index(table, va);
    let (first, count) = if start + more < CRST_ENTRIES { (start, more + 1) } else { (0, CRST_ENTRIES) };
    let (first, end) = (first << bits, (first + count) as u128 * (1u128 << bits));
    let range = Some((Vaddr(first), Vaddr((end - 1) as u64)));
    let repeats = (span(table) <= u64::MAX as u128).then_some(bits as u8 + INDEX_BITS as u8);
    let p = Purge { range, repeats, globals: Globals::Always, ..Purge::default() };
    if asce == 0 { p } else { of_space(p, asce) }
}

/// The designation of a page table in CRDTE's operand (DTT 0); region and segment tables have bit 59 set beside DT.
const DTT_NOT_PAGE: u64 = 0x10;

/// COMPARE AND REPLACE DAT TABLE ENTRY: if the entry equals `expected` it becomes `new` and what was formed from it is
/// purged. `table` is the origin with the designation, `va` the address, `asce` the space (zero: any). Condition code 0
/// if replaced, else 1 with the entry in `old`.
pub fn crdte(
    memory: &impl TableMemory,
    [expected, new]: [u64; 2],
    table: u64,
    va: u64,
    asce: u64,
    m4: u8,
) -> Result<(u8, Effect), Refused> {
    let va = Vaddr(va);
    let (at, purge) = if table & DTT_NOT_PAGE == 0 {
        let at = Paddr(table & !0x7ff).offset(page_index(va) * 8);
        (at, pages(at, at))
    } else {
        let t = TableType::from_bits(table >> 2);
        (Paddr(table & Rte::ORIGIN).offset(index(t, va) * 8), below(t, va, 0, asce))
    };
    let old = memory.cas_entry(at, expected, new)?;
    let replaced = old == expected;
    let e = Effect { purge: replaced.then_some(purge), local: m4 & LOCAL != 0, old, after: [table, va.0] };
    Ok((!replaced as u8, e))
}

/// PURGE TLB: everything of this CPU's.
pub fn ptlb() -> Effect {
    Effect { purge: Some(Purge::ALL), local: true, old: 0, after: [0; 2] }
}

/// COMPARE AND SWAP AND PURGE whose comparison succeeded, by bit 63 of R2: everything, on all CPUs.
pub fn csp(r2: u64) -> Option<Purge> {
    (r2 & 1 != 0).then_some(Purge::ALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tables;

    fn table(n: u64) -> Tables {
        let t = Tables::default();
        for i in 0..n {
            t.set(0x8000 + i * 8, i << 12 | Pte::P);
        }
        t
    }

    #[test]
    fn ipte_invalidates_where_the_entry_was_fetched() {
        let t = table(256);
        let e = ipte(&t, 0x8000, 0x1234_5000, 0, 0).unwrap();
        assert_eq!((e.old, t.get(0x8228)), (0x45 << 12 | Pte::P, Some(0x45 << 12 | Pte::P | Pte::I)));
        assert_eq!(e.purge.unwrap().from, Some((Paddr(0x8228), Paddr(0x822f))));
        assert!(!e.local && ipte(&t, 0x8000, 0, 0, LOCAL).unwrap().local);
        assert_eq!(ipte(&t, 0x10000, 0, 0, 0), Err(Refused::Addressing));
    }

    #[test]
    fn ipte_of_a_range_stays_in_its_table_and_counts_to_the_end() {
        let t = table(256);
        let e = ipte(&t, 0x8000, 0xf_c000, 3, 0).unwrap();
        assert_eq!(e.after, [0x10_0000, 0xff]);
        assert!((0xfc..0x100).all(|i| t.get(0x8000 + i * 8).unwrap() & Pte::I != 0));
        assert_eq!(t.get(0x8000 + 0xfb * 8).unwrap() & Pte::I, 0);
        assert_eq!(ipte(&t, 0x8000, 0xf_c000, 4, 0), Err(Refused::Specification));
    }

    #[test]
    fn rdp_clears_protection_only() {
        let t = table(1);
        assert_eq!(rdp(&t, 0x8000, 0, LOCAL).unwrap().old, Pte::P);
        assert_eq!(t.get(0x8000), Some(0));
    }

    #[test]
    fn idte_covers_what_its_entries_cover() {
        let t = table(2048);
        let at = |r1, r2| {
            let p = idte(&t, r1, r2, 0, 0).unwrap().purge.unwrap();
            (p.range.unwrap(), p.repeats)
        };
        assert_eq!(at(0x8000, 0x1230_0000), ((Vaddr(0x1230_0000), Vaddr(0x123f_ffff)), Some(31)));
        assert!(t.get(0x8000 + 0x123 * 8).unwrap() & Rte::I != 0);
        assert_eq!(at(0x8004, 7 << 31 | 1), ((Vaddr(7 << 31), Vaddr((9 << 31) - 1)), Some(42)));
        assert_eq!(at(0x8004, 5 << 42 | 7 << 31), ((Vaddr(7 << 31), Vaddr((8 << 31) - 1)), Some(42)));
        assert_eq!(at(0x8000, 0x7ff0_0001), ((Vaddr(0), Vaddr(0x7fff_ffff)), Some(31)), "the index wraps");
        assert!(t.get(0x8000).unwrap() & Rte::I != 0);
        let last = 0xffe0_0000_0000_0000;
        assert_eq!(at(0x800c, last), ((Vaddr(last), Vaddr(u64::MAX)), None), "a table for everything");
        assert_eq!(idte(&t, 0x8000, 0x1000, 0, 0), Err(Refused::Specification));
    }

    #[test]
    fn idte_by_asce_spares_common_entries() {
        let p = idte(&Tables::default(), 0, CLEAR_BY_ASCE, 0x12_3007 | Asce::P, 0).unwrap().purge.unwrap();
        assert_eq!(p.spaces, Spaces::Matching { value: 0x12_3007 | Asce::P, mask: Asce::ORIGIN | 0xf });
        assert!(p.spaces.contains(Asce(0x12_3007).space()) && p.globals == Globals::Never);
    }

    #[test]
    fn crdte_compares_first() {
        let t = table(4);
        let (cc, e) = crdte(&t, [1, 2], 0x8000, 0x1000, 0, 0).unwrap();
        assert_eq!((cc, e.purge, e.old), (1, None, 0x1000 | Pte::P));
        let (cc, e) = crdte(&t, [0x1000 | Pte::P, 0x5000], 0x8000, 0x1000, 0, 0).unwrap();
        assert_eq!((cc, t.get(0x8008)), (0, Some(0x5000)));
        assert_eq!(e.purge.unwrap().from, Some((Paddr(0x8008), Paddr(0x800f))));
        let (cc, e) = crdte(&t, [0x2000 | Pte::P, 0x20], 0x8000 | DTT_NOT_PAGE, 0x20_0000, 0, 0).unwrap();
        assert_eq!((cc, e.purge.unwrap().range), (0, Some((Vaddr(0x20_0000), Vaddr(0x2f_ffff)))));
        assert_eq!((csp(1), csp(2)), (Some(Purge::ALL), None));
    }
}
