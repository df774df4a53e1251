//! What each invalidation removes (ISA 3.0B Book III 6.9.3; reference ppc64-mmu §4). Each instruction is given its operands as
//! the registers and fields have them. When a broadcast is complete is told by [`completion`](super::completion).

use super::context::Context;
use super::hash::entry::Version;
use super::hash::geometry::{BASE_4K, LARGE_PAGES};
use super::hash::slb::{ESID, RB_B, SegmentSize};
use super::hash::walk::{SPACE_1T, SPACE_LPID_SHIFT};
use super::radix::controls::{SPACE_GUEST_REAL, SPACE_LPID, space};
use crate::tlb::{Globals, Purge, Spaces, Target};
use racewalk_ram::Vaddr;

/// Which instruction asked for it, for events and statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Instruction {
    /// TLB Invalidate Entry: on all threads.
    Tlbie,
    /// TLB Invalidate Entry Local: on this thread.
    Tlbiel,
    /// SLB Invalidate Entry.
    Slbie,
    /// SLB Invalidate Entry Global: on all threads.
    Slbieg,
    /// SLB Invalidate All.
    Slbia,
    /// SLB Move To Entry, over an entry that was valid.
    Slbmte,
}

impl Instruction {
    /// Mnemonic.
    pub fn name(self) -> &'static str {
        match self {
            Instruction::Tlbie => "tlbie",
            Instruction::Tlbiel => "tlbiel",
            Instruction::Slbie => "slbie",
            Instruction::Slbieg => "slbieg",
            Instruction::Slbia => "slbia",
            Instruction::Slbmte => "slbmte",
        }
    }
}

/// Why an invalidation did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Privileged-instruction program interrupt: problem state.
    Privileged,
    /// Hypervisor emulation assistance: a partition may not do this.
    HypervisorPrivileged,
    /// A form that the manual calls invalid: results are boundedly undefined.
    InvalidForm,
    /// Not modelled, and what.
    NotModelled(&'static str),
}

/// Operands of `tlbie` and `tlbiel`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Operands {
    /// RB: page, IS, AP, SET; for hashed pages AVA, LP, B and L.
    pub rb: u64,
    /// RS: PID in bits 0-31, LPID in bits 32-63.
    pub rs: u64,
    /// RIC: 0 translations, 1 upper parts of walks, 2 both and cached process-table or partition-table entries.
    pub ric: u8,
    /// PRS: process-scoped.
    pub prs: bool,
    /// R: radix.
    pub radix: bool,
}

/// Which cached entries of the tables above the trees go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Structures {
    /// Those of process tables.
    pub process: bool,
    /// Those of the partition table.
    pub partition: bool,
}

/// What an invalidation leaves to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effect {
    /// What goes from TLBs and walk caches. A walk cache keeps process-table entries as upper parts of 62 bits.
    pub purge: Purge,
    /// Only this thread's.
    pub local: bool,
    /// `tlbiel` with IS other than 0: the one congruence class that goes; of all classes software makes a loop. A TLB
    /// without classes may take every iteration for the whole.
    pub set: Option<u16>,
    /// Cached entries of the tables above.
    pub structures: Structures,
}

// Fields of RB.
const RB_IS_SHIFT: u32 = 10;
const RB_SET_SHIFT: u32 = 12;
const RB_AP_SHIFT: u32 = 5;
const RB_PAGE: u64 = !0xfff;
const RB_B_SHIFT: u32 = 8;
const RB_L: u64 = 1;
/// LP with L = 1, bits 44-51.
const RB_LP_SHIFT: u32 = 12;
/// AVA with L = 1, bits 0-43.
const RB_AVA_LARGE: u64 = !0xf_ffff;
/// AVAL, bits 56-62: the address bits from 2^13 to 2^19.
const RB_AVAL: u64 = 0xfe;

/// log2 of a radix page's size by AP.
fn radix_page(ap: u64) -> Option<u8> {
    match ap {
        0 => Some(12),
        5 => Some(16),
        1 => Some(21),
        2 => Some(30),
        _ => None,
    }
}

/// log2 of the size of a page in a segment with pages of 4K, by AP: L and LP of a segment with such pages.
fn hash_page(ap: u64) -> Option<u8> {
    match ap {
        0 => Some(BASE_4K),
        5 => Some(16),
        4 => Some(24),
        _ => None,
    }
}

/// `tlbie RB,RS,RIC,PRS,R`.
pub fn tlbie(c: &Context, o: Operands) -> Result<Effect, Refused> {
    invalidate(c, o, false)
}

/// `tlbiel RB,RS,RIC,PRS,R`. The partition is that of the LPIDR, whatever RS has.
pub fn tlbiel(c: &Context, o: Operands) -> Result<Effect, Refused> {
    invalidate(c, o, true)
}

fn invalidate(c: &Context, o: Operands, local: bool) -> Result<Effect, Refused> {
    if c.problem() {
        return Err(Refused::Privileged);
    }
    let hypervisor = c.hypervisor();
    let shootdown = local || c.lpcr & Context::LPCR_GTSE != 0;
    if !hypervisor && (!shootdown || !o.radix || !o.prs) {
        return Err(Refused::HypervisorPrivileged);
    }
    let is = o.rb >> RB_IS_SHIFT & 3;
    if o.ric == 3 {
        return Err(Refused::NotModelled("not modelled: tlbie of a group of translations (RIC = 3)"));
    }
    if o.ric > 3 || (o.ric == 1 && (is == 0 || !o.radix)) || (!o.radix && o.prs && o.ric != 2) {
        return Err(Refused::InvalidForm);
    }
    let lpid = if local || !hypervisor { c.lpidr } else { o.rs & 0xffff_ffff } & Context::LPID;
    let pid = o.rs >> 32 & Context::PID;
    let mut purge = match o.radix {
        true => radix_purge(o, is, lpid, pid, hypervisor)?,
        false => hash_purge(c.version, o.rb, is, lpid)?,
    };
    purge.globals = Globals::Like;
    purge.target = match o.ric {
        0 => Target::Translations,
        1 => Target::WalkCache,
        _ => Target::Both,
    };
    let structures = Structures { process: o.ric == 2 && o.prs, partition: o.ric == 2 && !o.prs };
    let set = (local && is != 0).then_some((o.rb >> RB_SET_SHIFT & 0xfff) as u16);
    Ok(Effect { purge, local, set, structures })
}

fn matching(value: u64, mask: u64) -> Purge {
    Purge { spaces: Spaces::Matching { value, mask }, ..Purge::default() }
}

fn radix_purge(o: Operands, is: u64, lpid: u64, pid: u64, hypervisor: bool) -> Result<Purge, Refused> {
    let partition = space(lpid, 0).0;
    if !o.prs {
        // Translations of a partition are kept joined with those of its processes, by effective address: which came of a
        // guest real address is not known any more, so all of the partition go, those with translation off included.
        return match is {
            0 if radix_page(o.rb >> RB_AP_SHIFT & 7).is_none() => Err(Refused::InvalidForm),
            0 | 2 => Ok(matching(partition, SPACE_LPID)),
            3 => Ok(Purge::default()),
            _ => Err(Refused::InvalidForm),
        };
    }
    match is {
        0 => {
            let Some(shift) = radix_page(o.rb >> RB_AP_SHIFT & 7) else { return Err(Refused::InvalidForm) };
            let first = (o.rb & RB_PAGE) >> shift << shift;
            let last = first | ((1 << shift) - 1);
            let p = matching(space(lpid, pid).0, u64::MAX);
            // A host's page is kept whole under its own size. A partition's may be in pieces.
            let shift = (lpid == 0).then_some(shift);
            Ok(Purge { range: Some((Vaddr(first), Vaddr(last))), shift, ..p })
        }
        1 => Ok(matching(space(lpid, pid).0, u64::MAX)),
        3 if hypervisor => Ok(matching(0, SPACE_GUEST_REAL)),
        _ => Ok(matching(partition, SPACE_LPID | SPACE_GUEST_REAL)),
    }
}

fn hash_purge(version: Version, rb: u64, is: u64, lpid: u64) -> Result<Purge, Refused> {
    let partition = lpid << SPACE_LPID_SHIFT;
    let all_of_partition = matching(partition, Context::LPID << SPACE_LPID_SHIFT);
    match is {
        0 => {}
        2 => return Ok(all_of_partition),
        3 => return Ok(Purge::default()),
        // By process: of segment tables only.
        _ if version == Version::V3 => return Err(Refused::InvalidForm),
        _ => return Ok(all_of_partition),
    }
    let Some(size) = SegmentSize::from_bits(rb >> RB_B_SHIFT & 3) else { return Err(Refused::InvalidForm) };
    let (address, shift) = if rb & RB_L == 0 {
        (rb & RB_PAGE, hash_page(rb >> RB_AP_SHIFT & 7).ok_or(Refused::InvalidForm)?)
    } else {
        let lp = rb >> RB_LP_SHIFT & 0xff;
        let fits = |base: u8, shift: u8, encoding: u64| {
            base > BASE_4K && (lp ^ encoding) & ((1u64 << (shift - 12).min(8)) - 1) == 0
        };
        let page = LARGE_PAGES.iter().find(|p| fits(p.base, p.shift, p.encoding));
        ((rb & RB_AVA_LARGE) | (rb & RB_AVAL) << 12, page.ok_or(Refused::InvalidForm)?.shift)
    };
    // RB has the lower 64 bits of the virtual address: the lower bits of the VSID.
    let vsid_bits = (1u64 << (64 - size.shift())) - 1;
    let one_terabyte = if size == SegmentSize::T1 { SPACE_1T } else { 0 };
    let value = partition | one_terabyte | (address >> size.shift() & vsid_bits);
    let mask = Context::LPID << SPACE_LPID_SHIFT | SPACE_1T | vsid_bits;
    let first = (address & ((1 << size.shift()) - 1)) >> shift << shift;
    let last = first | ((1 << shift) - 1);
    Ok(Purge { range: Some((Vaddr(first), Vaddr(last))), shift: Some(shift), ..matching(value, mask) })
}

/// What an SLB instruction removes from caches of translations by effective address, first and last byte; such caches
/// hold what the SLB said. TLB entries are named by virtual address and stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lookaside(pub Vaddr, pub Vaddr);

impl Lookaside {
    /// All effective addresses.
    pub const ALL: Lookaside = Lookaside(Vaddr(0), Vaddr(u64::MAX));

    /// The segment that RB of `slbie` or `slbieg` names.
    fn segment(rb: u64) -> Lookaside {
        let shift = if (rb & RB_B) >> 25 == SegmentSize::T1 as u64 { 40 } else { 28 };
        let first = (rb & ESID) >> shift << shift;
        Lookaside(Vaddr(first), Vaddr(first | ((1 << shift) - 1)))
    }
}

/// `slbie RB`.
pub fn slbie(c: &mut Context, rb: u64) -> Lookaside {
    c.slb.slbie(rb);
    Lookaside::segment(rb)
}

/// `slbia IH`. What IH spares of the lookaside information may go all the same, and does.
pub fn slbia(c: &mut Context, ih: u8) -> Result<Lookaside, Refused> {
    if ih == 5 || ih > 7 {
        return Err(Refused::InvalidForm);
    }
    c.slb.slbia(ih);
    Ok(Lookaside::ALL)
}

/// `slbmte RS,RB`: what was known through the entry that is replaced must go. `None`: there is no entry of this number.
pub fn slbmte(c: &mut Context, rs: u64, rb: u64) -> Option<Lookaside> {
    c.slb.slbmte(rs, rb).then_some(Lookaside::ALL)
}

/// `slbieg RS,RB`, a broadcast: each thread does [`Slbieg::apply`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slbieg {
    lpid: u64,
    pid: u64,
    rb: u64,
}

/// `slbieg RS,RB` with PID in bits 0-31 and LPID in bits 32-63 of RS; a partition names its own LPID only.
pub fn slbieg(c: &Context, rs: u64, rb: u64) -> Result<Slbieg, Refused> {
    if c.problem() {
        return Err(Refused::Privileged);
    }
    if !c.hypervisor() && c.lpcr & Context::LPCR_GTSE == 0 {
        return Err(Refused::HypervisorPrivileged);
    }
    let lpid = if c.hypervisor() { rs & Context::LPID } else { c.lpidr };
    Ok(Slbieg { lpid, pid: rs >> 32 & Context::PID, rb })
}

impl Slbieg {
    /// On one thread, if it runs the process.
    pub fn apply(&self, c: &mut Context) -> Option<Lookaside> {
        (c.lpidr == self.lpid && c.pidr == self.pid).then(|| slbie(c, self.rb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ppc64::hash;
    use crate::tlb::Tag;

    const HOST: u64 = Context::MSR_HV;

    fn context(msr: u64) -> Context {
        Context { msr, lpidr: 5, lpcr: Context::LPCR_GTSE, ..Context::default() }
    }
    fn page(rb: u64, rs: u64, ric: u8) -> Operands {
        Operands { rb, rs, ric, prs: true, radix: true }
    }
    fn names(e: &Effect, lpid: u64, pid: u64, va: u64, shift: u8) -> bool {
        e.purge.names(&Tag { space: space(lpid, pid), global: false, page: Vaddr(va), shift })
    }

    #[test]
    fn a_page_of_a_process_and_no_walk_cache() {
        let e = tlbie(&context(HOST), page(0xc000_0000_0001_2000, 7 << 32, 0)).unwrap();
        assert_eq!((e.purge.target, e.local, e.set), (Target::Translations, false, None));
        let at = 0xc000_0000_0001_2000;
        assert!(names(&e, 0, 7, at, 12));
        assert!(!names(&e, 0, 8, at, 12) && !names(&e, 5, 7, at, 12) && !names(&e, 0, 7, at + 0x1000, 12));
        assert!(!names(&e, 0, 7, 0xc000_0000_0000_0000, 30), "another size");
        // AP: 5 is 64K, 1 2M, 2 1G; 3 is none.
        let e = tlbie(&context(HOST), page(0x1_2000 | 5 << 5, 7 << 32, 0)).unwrap();
        assert!(names(&e, 0, 7, 0x1_0000, 16) && !names(&e, 0, 7, 0x1_0000, 12));
        let e = tlbie(&context(HOST), page(0x7fff_f000 | 2 << 5, 7 << 32 | 3, 0)).unwrap();
        assert!(names(&e, 3, 7, 0x4000_1000, 12), "a partition's page may be in pieces");
        assert_eq!(tlbie(&context(HOST), page(3 << 5, 0, 0)), Err(Refused::InvalidForm));
    }

    #[test]
    fn ric_says_what_goes() {
        let of = |ric, prs| {
            let o = Operands { rb: 1 << RB_IS_SHIFT, rs: 7 << 32, ric, prs, radix: true };
            tlbie(&context(HOST), o).map(|e| (e.purge.target, e.structures.process, e.structures.partition))
        };
        assert_eq!(of(0, true), Ok((Target::Translations, false, false)));
        assert_eq!(of(1, true), Ok((Target::WalkCache, false, false)));
        assert_eq!(of(2, true), Ok((Target::Both, true, false)));
        assert_eq!(of(2, false), Err(Refused::InvalidForm), "a partition has no PID");
        assert!(matches!(of(3, true), Err(Refused::NotModelled(_))));
        assert_eq!(tlbie(&context(HOST), page(0, 0, 1)), Err(Refused::InvalidForm), "RIC = 1 of one page");
    }

    #[test]
    fn is_says_whose() {
        let of = |is: u64, prs| {
            let o = Operands { rb: is << RB_IS_SHIFT, rs: 7 << 32 | 3, ric: 2, prs, radix: true };
            tlbie(&context(HOST), o).unwrap()
        };
        let pid = of(1, true);
        assert!(names(&pid, 3, 7, 0, 12) && !names(&pid, 3, 8, 0, 12) && !names(&pid, 4, 7, 0, 12));
        let (lpid, all) = (of(2, true), of(3, true));
        assert!(names(&lpid, 3, 8, 0, 12) && !names(&lpid, 4, 8, 0, 12) && names(&all, 4, 8, 0, 12));
        // Guest real addresses are a matter of the partition's scope.
        let real = |e: &Effect, lpid| {
            let space = racewalk_ram::Asid(space(lpid, 0).0 | SPACE_GUEST_REAL);
            e.purge.names(&Tag { space, global: false, page: Vaddr(0), shift: 12 })
        };
        assert!(!real(&lpid, 3) && !real(&all, 3) && real(&of(2, false), 3) && !real(&of(2, false), 4));
        assert!(real(&of(3, false), 4) && real(&of(0, false), 3));
    }

    #[test]
    fn who_may() {
        let guest = context(0);
        let e = tlbie(&guest, page(1 << RB_IS_SHIFT, 7 << 32 | 3, 0)).unwrap();
        assert!(names(&e, 5, 7, 0, 12) && !names(&e, 3, 7, 0, 12), "its own LPID");
        let e = tlbie(&guest, page(3 << RB_IS_SHIFT, 0, 0)).unwrap();
        assert!(names(&e, 5, 9, 0, 12) && !names(&e, 4, 9, 0, 12));
        let partition = Operands { prs: false, ..page(0, 0, 0) };
        assert_eq!(tlbie(&guest, partition), Err(Refused::HypervisorPrivileged));
        let hash = Operands { radix: false, prs: false, ..page(0, 0, 0) };
        assert_eq!(tlbie(&guest, hash), Err(Refused::HypervisorPrivileged));
        let quiet = Context { lpcr: 0, ..context(0) };
        assert_eq!(tlbie(&quiet, page(0, 0, 0)), Err(Refused::HypervisorPrivileged));
        assert!(tlbiel(&quiet, page(0, 0, 0)).is_ok());
        assert_eq!(tlbie(&context(Context::MSR_PR), page(0, 0, 0)), Err(Refused::Privileged));
    }

    #[test]
    fn tlbiel_takes_one_class_of_its_own_partition() {
        let e = tlbiel(&context(HOST), page(1 << RB_IS_SHIFT | 0x7f << RB_SET_SHIFT, 7 << 32, 0)).unwrap();
        assert!(e.local && names(&e, 5, 7, 0, 12) && !names(&e, 0, 7, 0, 12));
        assert_eq!(e.set, Some(0x7f));
        assert_eq!(tlbiel(&context(HOST), page(0, 0, 0)).unwrap().set, None);
    }

    /// The purge of a hashed page, asked of a tag in segment `vsid`.
    fn hashed(rb: u64, vsid: u64, size: SegmentSize, offset: u64, shift: u8) -> Result<bool, Refused> {
        let o = Operands { rb, rs: 5, ..Operands::default() };
        let tag = Tag { space: hash::walk::space(5, size, vsid), global: false, page: Vaddr(offset), shift };
        tlbie(&context(HOST), o).map(|e| e.purge.names(&tag))
    }

    #[test]
    fn hashed_pages_by_virtual_address() {
        let m = SegmentSize::M256;
        // VSID 0x123, page 0x2345 of 4K.
        let rb = 0x123 << 28 | 0x234_5000;
        assert_eq!(hashed(rb, 0x123, m, 0x234_5000, 12), Ok(true));
        assert_eq!(hashed(rb, 0x124, m, 0x234_5000, 12), Ok(false));
        assert_eq!(hashed(rb, 0x123, m, 0x234_6000, 12), Ok(false));
        assert_eq!(hashed(rb, 0x123, SegmentSize::T1, 0x234_5000, 12), Ok(false));
        // 64K and 16M in a segment of 4K.
        assert_eq!(hashed(rb | 5 << 5, 0x123, m, 0x234_0000, 16), Ok(true));
        assert_eq!(hashed(rb | 4 << 5, 0x123, m, 0x200_0000, 24), Ok(true));
        assert_eq!(hashed(rb | 1 << 5, 0x123, m, 0, 12), Err(Refused::InvalidForm));
        // 64K in a segment of 64K: bits 13 to 19 of the address are in AVAL.
        let rb = 0x123 << 28 | 0x230_0000 | 1 << 12 | 0x40 | RB_L;
        assert_eq!(hashed(rb, 0x123, m, 0x234_0000, 16), Ok(true));
        assert_eq!(hashed(rb, 0x123, m, 0x230_0000, 16), Ok(false));
        // 16M in a segment of 64K, and of 16M in one of 1T.
        let rb = 0x123 << 28 | 0x230_0000 | 8 << 12 | 0x40 | RB_L;
        assert_eq!(hashed(rb, 0x123, m, 0x200_0000, 24), Ok(true));
        let rb = 5 << 40 | 0x12_0000_0000 | 1 << RB_B_SHIFT | RB_L;
        assert_eq!(hashed(rb, 5, SegmentSize::T1, 0x12_0000_0000, 24), Ok(true));
        assert_eq!(hashed(rb | 2 << RB_B_SHIFT, 5, m, 0, 24), Err(Refused::InvalidForm));
        assert_eq!(hashed(RB_L | 5 << 12, 5, m, 0, 24), Err(Refused::InvalidForm), "no such encoding");
        assert_eq!(hashed(2 << RB_IS_SHIFT, 9, m, 0, 12), Ok(true));
    }

    #[test]
    fn segments_leave_the_caches_by_effective_address() {
        use crate::ppc64::hash::slb::{RB_V, VSID_C};
        let mut c = context(HOST);
        assert_eq!(slbmte(&mut c, 1 << 12, 0x1000_0000 | RB_V | 1), Some(Lookaside::ALL));
        assert_eq!(slbmte(&mut c, 0, RB_V | 99), None);
        assert_eq!(slbie(&mut c, 0x1000_0000), Lookaside(Vaddr(0x1000_0000), Vaddr(0x1fff_ffff)));
        assert_eq!(c.slb.slbmfee(1), Some(0x1000_0000));
        assert_eq!(slbia(&mut c, 5), Err(Refused::InvalidForm));
        slbmte(&mut c, 1 << 62 | VSID_C, 0x100_0000_0000 | RB_V | 1);
        c.pidr = 7;
        let rb = 0x1ff_f000_0000 | 1 << 25 | 0x800_0000;
        assert_eq!(slbieg(&c, 8 << 32 | 5, rb).unwrap().apply(&mut c), None);
        let gone = slbieg(&c, 7 << 32 | 5, rb).unwrap().apply(&mut c);
        assert_eq!(gone, Some(Lookaside(Vaddr(0x100_0000_0000), Vaddr(0x1ff_ffff_ffff))));
        assert_eq!(c.slb.slbmfee(1), Some(0x100_0000_0000));
    }
}
