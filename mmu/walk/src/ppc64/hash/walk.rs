//! The search of the hashed page table, step by step as in ISA 2.07B Book III-S 5.7.7 and ISA 3.0B Book III 6.7.8 (numbers:
//! reference ppc64-mmu §2.2).

use super::entry::{Hpte, TableDesignation, Version};
use super::geometry::{BASE_4K, ENTRY_BYTES, GROUP_BYTES, GROUP_ENTRIES, HASH, avpn, hash};
use super::slb::{Segment, SegmentSize, Slb, SlbMiss, VSID_KP, VSID_KS, VSID_N};
use crate::event::{Level, WalkEvent};
use crate::ppc64::context::{Context, Mode};
use crate::ppc64::fault::{Denied, Fault, Reason};
use crate::ppc64::radix::entry::{ENTRY_16, PartitionEntry, Ptcr};
use crate::tlb::{self, Key, Tag};
use crate::{Access, EntryStop, TableMemory, WalkStop};
use racewalk_ram::{Asid, Paddr, Vaddr};

/// What steers one translation.
#[derive(Clone, Copy, Debug)]
pub struct Controls<'a> {
    /// How the address is taken.
    pub mode: Mode,
    /// MSR\[PR\].
    pub problem: bool,
    /// LPIDR.
    pub lpid: u64,
    /// Which architecture.
    pub version: Version,
    /// SDR1, of ISA 2.x.
    pub table: TableDesignation,
    /// Partition table control register, of ISA 3.0.
    pub ptcr: u64,
    /// Hypervisor real mode offset.
    pub hrmor: u64,
    /// The segments.
    pub slb: &'a Slb,
    /// Authority mask register.
    pub amr: u64,
    /// Instruction authority mask register.
    pub iamr: u64,
    /// LPCR\[TC\] is zero: the secondary group is searched.
    pub secondary: bool,
    /// LPCR\[ISL\]: segments have base pages of 4K, whatever their entries say.
    pub ignore_large: bool,
    /// LPCR\[UPRT\] under ISA 3.0: segment tables.
    pub segment_tables: bool,
    /// LPCR\[VPM1\] outside hypervisor state: storage interrupts are the hypervisor's.
    pub virtualized: bool,
}

/// The space of hypervisor real addresses.
const SPACE_REAL: u64 = 1 << 63;
/// Set in the space of a segment of 1T.
pub const SPACE_1T: u64 = 1 << 50;
/// Where a space has the LPID. Below it are the bit of the segment's size and 50 bits of VSID.
pub const SPACE_LPID_SHIFT: u32 = 51;

/// The space of a segment's translations, as TLB entries are tagged; their pages are named by offset in the segment.
pub fn space(lpid: u64, size: SegmentSize, vsid: u64) -> Asid {
    let size = if size == SegmentSize::T1 { SPACE_1T } else { 0 };
    Asid((lpid & Context::LPID) << SPACE_LPID_SHIFT | size | vsid)
}

impl Controls<'_> {
    /// 1. and 2. The segment of an access.
    #[inline(always)]
    fn segment(&self, va: Vaddr, access: Access) -> Result<Segment, Fault> {
        let mut s = match self.slb.lookup(va) {
            Ok(s) => *s,
            Err(miss) => return Err(no_segment(miss, va, access)),
        };
        if access == Access::Fetch && s.word & VSID_N != 0 {
            return Err(self.fault(&s, va, access, Reason::NoExecute));
        }
        if self.ignore_large {
            s.base = BASE_4K;
        }
        Ok(s)
    }

    /// A storage interrupt in a segment.
    #[cold]
    fn fault(&self, s: &Segment, va: Vaddr, access: Access, reason: Reason) -> Fault {
        let f = Fault::new(va, access, reason);
        if !self.virtualized {
            return f;
        }
        // ISA 3.0 shows the hypervisor the segment.
        let asdr = (self.version == Version::V3).then_some(s.word);
        Fault { asdr, ..f.to_hypervisor() }
    }

    /// What a TLB is asked for `va`: entries are named by virtual address, so the segment comes first.
    pub fn tlb_key(&self, va: Vaddr, access: Access) -> Result<Key, Fault> {
        let key = |va, space| Key { va, space, other: None, globals: false };
        match self.mode {
            Mode::HypervisorReal => Ok(key(Vaddr(Context::real(va, self.hrmor)), Asid(SPACE_REAL))),
            Mode::Virtual if !self.segment_tables => {
                let s = self.segment(va, access)?;
                Ok(key(Vaddr(offset(&s, va)), space(self.lpid, s.size, s.vsid)))
            }
            Mode::Virtual | Mode::NoQuadrant => Err(Fault::new(va, access, Reason::SegmentTable)),
            Mode::GuestReal => Err(Fault::new(va, access, Reason::VirtualRealMode)),
        }
    }

    /// 4. What of an entry denies an access: the first reason and all bits of the cause.
    #[inline]
    fn denies(&self, s: &Segment, second: u64, access: Access) -> Option<(Reason, u32)> {
        let e = Hpte(0, second);
        let key = s.word & if self.problem { VSID_KP } else { VSID_KS } != 0;
        let (loads, stores) = e.protection(key);
        // Two bits a key, key 0 leftmost.
        let shift = 62 - 2 * e.key();
        let (amr, iamr) = (self.amr >> shift, self.iamr >> shift);
        let (protection, by_key) = match access {
            Access::Fetch if second & (Hpte::N | Hpte::G) != 0 => (Some(Reason::NoExecute), iamr & 1),
            Access::Fetch => ((!loads).then_some(Reason::Protection), iamr & 1),
            Access::Load => ((!loads).then_some(Reason::Protection), amr & 1),
            Access::Store => ((!stores).then_some(Reason::Protection), amr & 2),
        };
        let by_key = (by_key != 0).then_some(Reason::Key);
        let causes = protection.map_or(0, Reason::cause) | by_key.map_or(0, Reason::cause);
        protection.or(by_key).map(|reason| (reason, causes))
    }

    /// Whether an access may use a translation that a TLB holds; the same questions, in the same order, that a walk asks
    /// at its beginning and end.
    pub fn check(&self, leaf: &Leaf, va: Vaddr, access: Access) -> Result<(), Denied> {
        if self.mode != Mode::Virtual {
            return Ok(());
        }
        let s = self.segment(va, access).map_err(Denied::Fault)?;
        if let Some((reason, causes)) = self.denies(&s, leaf.second, access) {
            return Err(Denied::Fault(Fault { causes, ..self.fault(&s, va, access, reason) }));
        }
        let wanted = if access == Access::Store { Hpte::R | Hpte::C } else { Hpte::R };
        if leaf.second & wanted == wanted { Ok(()) } else { Err(Denied::Walk) }
    }
}

#[cold]
fn no_segment(miss: SlbMiss, va: Vaddr, access: Access) -> Fault {
    let reason = match miss {
        SlbMiss::None => Reason::Segment,
        SlbMiss::Multiple => Reason::SlbMultihit,
    };
    Fault::new(va, access, reason)
}

/// The part of an address that is inside its segment.
#[inline]
fn offset(s: &Segment, va: Vaddr) -> u64 {
    va.0 & ((1 << s.size.shift()) - 1)
}

/// What accesses through a translation are checked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf {
    /// The second doubleword of the entry.
    pub second: u64,
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Real address of the byte.
    pub paddr: Paddr,
    /// log2 of the size of the page.
    pub shift: u8,
    /// Where the entry was fetched; zero where translation is off.
    pub from: Paddr,
    /// The space and the address in it that TLB entries are named by.
    pub key: Key,
    /// What accesses are checked against.
    pub leaf: Leaf,
}

impl Translation {
    /// The TLB entry for the page.
    pub fn tlb_entry(&self) -> tlb::Entry<Leaf> {
        let inside = (1u64 << self.shift) - 1;
        let page = Vaddr(self.key.va.0 & !inside);
        let tag = Tag { space: self.key.space, global: false, page, shift: self.shift };
        let frame = Paddr(self.paddr.0 & !inside);
        tlb::Entry { tag, frame, from: self.from, locked: false, leaf: self.leaf }
    }
}

type Stop = WalkStop<Fault>;
/// An entry found: where, both doublewords, log2 of the page's size.
type Match = Option<(Paddr, Hpte, u8)>;

struct Walk<'m, 'c, M> {
    memory: &'m M,
    c: &'m Controls<'c>,
    va: Vaddr,
    access: Access,
}

impl<M: TableMemory> Walk<'_, '_, M> {
    #[cold]
    fn halt<T>(&self, fault: Fault) -> Result<T, Stop> {
        let (name, code) = (fault.reason.name(), fault.vector());
        self.memory.event(WalkEvent::Fault { vaddr: self.va, name, code });
        Err(WalkStop::Fault(fault))
    }

    #[inline]
    fn load(&self, level: Level, table: &'static str, addr: Paddr) -> Result<u64, Stop> {
        match self.memory.load_entry(addr) {
            Ok(entry) => {
                self.memory.event(WalkEvent::Step { level, table, entry_addr: addr, entry });
                Ok(entry)
            }
            Err(stop) => self.stopped(stop),
        }
    }

    #[cold]
    fn stopped<T>(&self, stop: EntryStop) -> Result<T, Stop> {
        match stop {
            EntryStop::Addressing => self.halt(Fault::new(self.va, self.access, Reason::Addressing)),
            EntryStop::Cancelled => Err(WalkStop::Cancelled),
        }
    }

    /// Where the page table is.
    #[inline]
    fn designation(&self) -> Result<TableDesignation, Stop> {
        let c = self.c;
        if c.version == Version::V2 {
            return Ok(c.table);
        }
        let unsupported = Fault::new(self.va, self.access, Reason::UnsupportedMmu).to_hypervisor();
        let (ptcr, at) = (Ptcr(c.ptcr), c.lpid * ENTRY_16);
        if at >= ptcr.bytes() {
            return self.halt(unsupported);
        }
        let first = self.load(Level::ROOT, "partition-0", ptcr.base().offset(at))?;
        if first & PartitionEntry::HR != 0 {
            return self.halt(unsupported);
        }
        Ok(TableDesignation(first))
    }

    /// 3. The first entry of a group that is the page's: where it is, its second doubleword, log2 of the page's size.
    #[inline(always)]
    fn group(
        &self,
        group: Paddr,
        s: &Segment,
        (want, mask): (u64, u64),
        secondary: bool,
    ) -> Result<Match, Stop> {
        let version = self.c.version;
        let names = [["primary-group-0", "primary-group-1"], ["secondary-group-0", "secondary-group-1"]];
        let [first_name, second_name] = names[secondary as usize];
        for slot in 0..GROUP_ENTRIES {
            let at = group.offset(slot * ENTRY_BYTES);
            let first = self.load(Level(0), first_name, at)?;
            if (first ^ want) & mask != 0 {
                continue;
            }
            // The halves are two accesses: software that reuses an entry without an invalidation between can have both.
            let e = Hpte(first, self.load(Level(0), second_name, at.offset(8))?);
            if e.segment_matches(version, s.size)
                && let Some(shift) = e.page_shift(s.base)
            {
                return Ok(Some((at, e, shift)));
            }
        }
        Ok(None)
    }

    #[inline(never)]
    fn second_group(&self, at: Paddr, s: &Segment, want: (u64, u64)) -> Result<Match, Stop> {
        self.group(at, s, want, true)
    }

    /// 5. Sets R, and C for stores: each by a store of its byte, which is not atomic with what was read.
    #[inline]
    fn record(&self, at: Paddr, e: Hpte) -> Result<Hpte, Stop> {
        let mut second = e.1;
        if second & Hpte::R == 0 {
            second |= Hpte::R;
            self.store(at.offset(14), (second >> 8) as u8)?;
        }
        if self.access == Access::Store && second & Hpte::C == 0 {
            second |= Hpte::C;
            self.store(at.offset(15), second as u8)?;
        }
        Ok(Hpte(e.0, second))
    }

    #[cold]
    fn store(&self, at: Paddr, byte: u8) -> Result<(), Stop> {
        self.memory.store_byte(at, byte).or_else(|stop| self.stopped(stop))
    }

    #[inline]
    fn translate(&self) -> Result<(Translation, bool), Stop> {
        let (c, va, access) = (self.c, self.va, self.access);
        let s = match c.mode {
            Mode::Virtual if !c.segment_tables => match c.segment(va, access) {
                Ok(s) => s,
                Err(fault) => return self.halt(fault),
            },
            _ => return self.without_segment(),
        };
        let offset = offset(&s, va);
        let table = self.designation()?;
        let hash = hash(&s, offset);
        let (want, mask) = Hpte::wanted(c.version, avpn(&s, offset), s.size);
        let group = |hash: u64| table.origin().offset((hash & table.mask()) * GROUP_BYTES);
        let mut found = self.group(group(hash), &s, (want, mask), false)?;
        if found.is_none() && c.secondary {
            found = self.second_group(group(!hash & HASH), &s, (want | Hpte::H, mask))?;
        }
        let Some((at, e, shift)) = found else {
            return self.halt(c.fault(&s, va, access, Reason::NoTranslation));
        };
        if let Some((reason, causes)) = c.denies(&s, e.1, access) {
            return self.halt(Fault { causes, ..c.fault(&s, va, access, reason) });
        }
        let e = self.record(at, e)?;
        let space = space(c.lpid, s.size, s.vsid);
        let key = Key { va: Vaddr(offset), space, other: None, globals: false };
        let paddr = Paddr(e.real(c.version, shift, offset));
        let protected = c.denies(&s, e.1, Access::Store).is_some();
        Ok((Translation { paddr, shift, from: at, key, leaf: Leaf { second: e.1 } }, protected))
    }

    /// Translation is off, or needs what is not modelled.
    #[cold]
    fn without_segment(&self) -> Result<(Translation, bool), Stop> {
        match self.c.tlb_key(self.va, self.access) {
            Ok(key) => {
                let (paddr, from) = (Paddr(key.va.0), Paddr(0));
                Ok((Translation { paddr, shift: BASE_4K, from, key, leaf: Leaf::default() }, false))
            }
            Err(fault) => self.halt(fault),
        }
    }
}

/// Translates `va`.
#[inline]
pub fn walk<M: TableMemory>(
    memory: &M,
    c: &Controls<'_>,
    va: Vaddr,
    access: Access,
) -> Result<Translation, WalkStop<Fault>> {
    let root = if c.version == Version::V2 { c.table.0 } else { c.ptcr };
    memory.event(WalkEvent::Start { vaddr: va, access, root });
    let (t, protected) = Walk { memory, c, va, access }.translate()?;
    memory.event(WalkEvent::Done { vaddr: va, paddr: t.paddr, shift: t.shift, protected });
    Ok(t)
}
