//! The hardware tablewalk of UltraSPARC T2 (the OpenSPARC T2 sources `mmu_htc_ctl` and `mmu_htd_dp`; reference
//! sparc64-mmu §2.2). The hardware fetches from all TSBs at once or in a predicted order; here it is the order of their
//! numbers.

use super::entry::{self, Tte};
use super::geometry::{BASE_SHIFT, Config, Model, RealRange, page_shift};
use super::permanent::Permanent;
use crate::event::{Level, WalkEvent};
use crate::sparc64::context::{Leaf, Operand, Request, State};
use crate::sparc64::fault::{Fault, Machine, Reason};
use crate::tlb::{Entry, Key, Tag};
use crate::{Access, EntryStop, TableMemory, WalkStop};
use racewalk_ram::{Asid, Paddr, Vaddr};

/// The registers of one CPU that steer translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Privilege, trap level, contexts.
    pub state: State,
    /// TSBs for context zero.
    pub zero: [Config; 4],
    /// TSBs for all other contexts.
    pub nonzero: [Config; 4],
    /// Where the guest's real memory is.
    pub ranges: [RealRange; 4],
    /// The partition, 0 to 7, which TLB entries are tagged with.
    pub partition: u8,
    /// Which processor.
    pub model: Model,
    /// What the hypervisor enters when the tablewalk does not find it.
    pub permanent: Permanent,
    /// Real address of the area where the hypervisor reports faults to the guest; 0: there is none.
    pub fault_area: u64,
}

/// What tells address spaces apart in a TLB: the context (bits 12-0), the partition (15-13), and whether addresses are
/// real (16).
#[inline]
pub fn space(partition: u8, context: u16) -> Asid {
    Asid((partition as u64 & 7) << 13 | context as u64)
}

/// A tag has the address from this bit on.
const TAG_SHIFT: u8 = 22;

/// The bit of a space that holds real addresses.
const REAL: u64 = 1 << 16;

impl Context {
    /// What the MMU is asked, or the exceptions that come before. Tells of those.
    pub fn request<M: TableMemory>(
        &self,
        memory: &M,
        va: Vaddr,
        access: Access,
        operand: &Operand,
    ) -> Result<Request, WalkStop<Fault>> {
        self.state.request(Machine::Sun4v, va, access, operand).map_err(|f| stop(memory, f))
    }

    /// What a TLB is asked: entries of both context registers serve.
    pub fn tlb_key(&self, va: Vaddr, r: &Request) -> Key {
        if r.untranslated {
            return Key { va, space: Asid(space(self.partition, 0).0 | REAL), other: None, globals: false };
        }
        let [first, second] = r.contexts.map(|c| space(self.partition, c));
        Key { va, space: first, other: (first != second).then_some(second), globals: false }
    }

    /// Whether an access may use a translation that a TLB holds.
    pub fn check(&self, leaf: Leaf, va: Vaddr, r: &Request) -> Result<(), Fault> {
        if !r.untranslated && !self.model.in_range(va) {
            return Err(r.fault(Machine::Sun4v, va, Reason::AddressHole));
        }
        refusal(leaf, r).map_or(Ok(()), |reason| Err(r.fault(Machine::Sun4v, va, reason)))
    }
}

/// What forbids the access, the first in the order of priorities.
#[inline]
fn refusal(leaf: Leaf, r: &Request) -> Option<Reason> {
    // Most pages forbid nothing to most accesses.
    const ASKED: u8 = Leaf::W | Leaf::EP | Leaf::P | Leaf::CP | Leaf::E | Leaf::NFO;
    if leaf.0 & ASKED == Leaf::W | Leaf::EP | Leaf::CP { None } else { asked(leaf, r) }
}

/// The questions.
#[inline(never)]
fn asked(leaf: Leaf, r: &Request) -> Option<Reason> {
    let privilege = leaf.has(Leaf::P) && !r.privileged;
    if r.access == Access::Fetch {
        return match () {
            // The tablewalk does not enter such a page into the instruction TLB: nothing else is asked of it.
            _ if !leaf.has(Leaf::EP) => Some(Reason::NoExecute),
            _ if privilege => Some(Reason::Privilege),
            _ if leaf.has(Leaf::NFO) => Some(Reason::NoFaultOnly),
            _ => None,
        };
    }
    match () {
        _ if privilege => Some(Reason::Privilege),
        _ if r.atomic && !leaf.has(Leaf::CP) => Some(Reason::NoncacheableAtomic),
        _ if leaf.has(Leaf::NFO) && !r.no_fault => Some(Reason::NoFaultOnly),
        _ if leaf.has(Leaf::E) && r.no_fault => Some(Reason::SideEffect),
        _ if r.access == Access::Store && !leaf.has(Leaf::W) => Some(Reason::Protection),
        _ => None,
    }
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Physical address of the byte.
    pub paddr: Paddr,
    /// log2 of the size of the page.
    pub shift: u8,
    /// The context that the TLB entry gets.
    pub context: u16,
    /// Where the TSB entry is; zero if none was used.
    pub from: Paddr,
    /// A permanent mapping.
    pub permanent: bool,
    /// What accesses are checked against.
    pub leaf: Leaf,
}

impl Translation {
    /// The TLB entry for the page of `va`.
    pub fn tlb_entry(&self, c: &Context, r: &Request, va: Vaddr) -> Entry<Leaf> {
        let inside = (1u64 << self.shift) - 1;
        let space = space(c.partition, self.context).0 | if r.untranslated { REAL } else { 0 };
        let tag = Tag { space: Asid(space), global: false, page: Vaddr(va.0 & !inside), shift: self.shift };
        let frame = Paddr(self.paddr.0 & !inside);
        Entry { tag, frame, from: self.from, locked: self.permanent, leaf: self.leaf }
    }
}

#[cold]
fn stop<M: TableMemory>(memory: &M, f: Fault) -> WalkStop<Fault> {
    let trap = f.trap();
    memory.event(WalkEvent::Fault { vaddr: f.vaddr, name: trap.name, code: trap.number as u32 });
    WalkStop::Fault(f)
}

struct Walk<'m, M> {
    memory: &'m M,
    c: &'m Context,
    r: &'m Request,
    va: Vaddr,
}

type Stop = WalkStop<Fault>;

impl<M: TableMemory> Walk<'_, M> {
    #[cold]
    fn fault<T>(&self, reason: Reason) -> Result<T, Stop> {
        Err(stop(self.memory, self.r.fault(Machine::Sun4v, self.va, reason)))
    }

    /// Step 2: a TSB entry, tag and data by one access.
    #[inline]
    fn pair(&self, at: Paddr) -> Result<[u64; 2], Stop> {
        match self.memory.load_pair(at) {
            Ok([tag, data]) => {
                let step = |table, entry_addr, entry| {
                    self.memory.event(WalkEvent::Step { level: Level(0), table, entry_addr, entry });
                };
                step("tsb-0", at, tag);
                step("tsb-1", at.offset(8), data);
                Ok([tag, data])
            }
            Err(EntryStop::Addressing) => self.fault(Reason::TableError),
            Err(EntryStop::Cancelled) => Err(WalkStop::Cancelled),
        }
    }

    /// Step 3: whether an entry is the one: valid, of a page size that exists and is not below the TSB's, no reserved tag bit
    /// set, the address bits above the page (and above bit 21, which the index has seen) equal, and the context, unless
    /// the TSB is a context register's own.
    #[inline(never)]
    fn hits(&self, config: Config, tag: u64, tte: Tte) -> bool {
        let size = tte.size();
        let above = page_shift(size & 7).max(TAG_SHIFT);
        let differ = (tag << TAG_SHIFT ^ self.va.0) >> above;
        let foreign = (tag ^ self.wanted().0) & entry::Tag::CONTEXT & !self.ignored(config);
        tte.0 & Tte::V != 0
            && tag & entry::Tag::RESERVED == 0
            && differ == 0
            && foreign == 0
            && self.c.model.has(size)
            && size >= config.page_size()
    }

    /// The same for the common case, an entry of the TSB's own page size, which is at most 4M: the whole tag is compared
    /// at once, and nothing that the frame's address waits for depends on the entry.
    #[inline]
    fn hits_plainly(&self, config: Config, tag: u64, tte: Tte) -> bool {
        let size = config.page_size();
        (tag ^ self.wanted().0) & !self.ignored(config) == 0
            && tte.0 & (Tte::V | Tte::SIZE) == Tte::V | size as u64
            && page_shift(size) <= TAG_SHIFT
            && self.c.model.has(size)
    }

    /// The tag of an entry for this access.
    #[inline]
    fn wanted(&self) -> entry::Tag {
        entry::Tag::new(self.va, self.r.context())
    }

    /// Bits of a tag that do not count: the context, in a context register's own TSB.
    #[inline]
    fn ignored(&self, config: Config) -> u64 {
        let own = config.0 & (Config::USE_CONTEXT_0 | Config::USE_CONTEXT_1) != 0 && self.r.context() != 0;
        if own { entry::Tag::CONTEXT } else { 0 }
    }

    /// Step 5: real to physical, for the page at `ra`.
    #[inline(never)]
    fn physical(&self, ra: u64, reason: Reason) -> Result<u64, Stop> {
        match self.c.ranges.iter().find_map(|range| range.physical(ra)) {
            Some(pa) => Ok(pa),
            None => self.fault(reason),
        }
    }

    /// Steps 4 to 6 for an entry that hits; `size` is its page size.
    #[inline]
    fn found(&self, config: Config, at: Paddr, tte: Tte, size: u8) -> Result<Translation, Stop> {
        let (c, r) = (self.c, self.r);
        let leaf = tte.leaf();
        // 4. An instruction walk ends at a page that is not executable.
        if r.access == Access::Fetch && !leaf.has(Leaf::EP) {
            return self.fault(Reason::NoExecute);
        }
        let shift = page_shift(size);
        let inside = (1u64 << shift) - 1;
        let address = tte.0 & Tte::RA;
        let page = if config.0 & Config::RA_NOT_PA != 0 {
            self.physical(address, Reason::InvalidRealAddress)?
        } else {
            c.model.truncate(address)
        };
        // The TLB entry is of the context register that the TSB is for.
        let second = config.0 & (Config::USE_CONTEXT_0 | Config::USE_CONTEXT_1) == Config::USE_CONTEXT_1;
        let context = r.contexts[(second && r.context() != 0) as usize];
        // 6. Protection.
        if let Some(reason) = refusal(leaf, r) {
            return self.fault(reason);
        }
        let paddr = Paddr(page & !inside | self.va.0 & inside);
        Ok(Translation { paddr, shift, context, from: at, permanent: false, leaf })
    }
}

/// Translates `va`.
#[inline]
pub fn walk<M: TableMemory>(
    memory: &M,
    c: &Context,
    r: &Request,
    va: Vaddr,
) -> Result<Translation, WalkStop<Fault>> {
    let w = Walk { memory, c, r, va };
    // 1. The TSBs for the class of the context.
    let tsbs = if r.context() == 0 { &c.zero } else { &c.nonzero };
    let root = if r.untranslated { 0 } else { tsbs[0].0 };
    memory.event(WalkEvent::Start { vaddr: va, access: r.access, root });
    let t = if r.untranslated { w.real()? } else { w.tsbs(tsbs)? };
    let protected = !t.leaf.has(Leaf::W);
    memory.event(WalkEvent::Done { vaddr: va, paddr: t.paddr, shift: t.shift, protected });
    Ok(t)
}

impl<M: TableMemory> Walk<'_, M> {
    /// Without translation the hypervisor's ranges say where real memory is.
    #[inline(never)]
    fn real(&self) -> Result<Translation, Stop> {
        const INSIDE: u64 = (1 << BASE_SHIFT) - 1;
        let page = self.physical(self.va.0 & !INSIDE, Reason::RealMiss)?;
        let leaf = Leaf(Leaf::W | Leaf::EP | Leaf::P | Leaf::CV | Leaf::CP);
        let paddr = Paddr(page | self.va.0 & INSIDE);
        let shift = BASE_SHIFT;
        Ok(Translation { paddr, shift, context: 0, from: Paddr(0), permanent: false, leaf })
    }

    /// Steps 2 to 6, TSB after TSB.
    #[inline]
    fn tsbs(&self, tsbs: &[Config; 4]) -> Result<Translation, Stop> {
        if !self.c.model.in_range(self.va) {
            return self.fault(Reason::AddressHole);
        }
        // The first by itself: in a loop, the address that the load waits for would go through the stack.
        let [first, others @ ..] = tsbs;
        if !first.enabled() {
            return self.others(others, Reason::Miss);
        }
        let at = first.pointer(self.va);
        let [tag, data] = self.pair(at)?;
        let tte = Tte(data);
        if self.hits_plainly(*first, tag, tte) {
            return self.found(*first, at, tte, first.page_size());
        }
        self.of_other_size(*first, at, tag, tte, others)
    }

    /// The first entry is of another page size, or none for this access.
    #[inline(never)]
    fn of_other_size(
        &self,
        config: Config,
        at: Paddr,
        tag: u64,
        tte: Tte,
        others: &[Config],
    ) -> Result<Translation, Stop> {
        match self.hits(config, tag, tte) {
            true => self.found(config, at, tte, tte.size()),
            false => self.others(others, Reason::TsbMiss),
        }
    }

    /// The TSBs after the first, and what the walk ends with if they do not have it either.
    #[inline(never)]
    fn others(&self, tsbs: &[Config], mut miss: Reason) -> Result<Translation, Stop> {
        for &config in tsbs.iter().filter(|config| config.enabled()) {
            miss = Reason::TsbMiss;
            let at = config.pointer(self.va);
            let [tag, data] = self.pair(at)?;
            let tte = Tte(data);
            if self.hits(config, tag, tte) {
                return self.found(config, at, tte, tte.size());
            }
        }
        // 7. None has it; with none enabled there was no walk.
        if self.r.context() == 0 { self.permanent(miss) } else { self.fault(miss) }
    }

    /// What the hypervisor does with a miss in context 0 before the guest sees it.
    #[cold]
    fn permanent(&self, miss: Reason) -> Result<Translation, Stop> {
        let Some(m) = self.c.permanent.find(self.va, self.r.access) else { return self.fault(miss) };
        let leaf = m.tte.leaf();
        if let Some(reason) = refusal(leaf, self.r) {
            return self.fault(reason);
        }
        let shift = m.shift();
        let paddr = Paddr(m.frame.0 | self.va.0 & ((1 << shift) - 1));
        Ok(Translation { paddr, shift, context: 0, from: Paddr(0), permanent: true, leaf })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tables;

    const VA: Vaddr = Vaddr(0x1234_5678);
    const GOOD: u64 = Tte::V | 0x77_0000 | Tte::CP | Tte::CV | Tte::EP | Tte::W;

    fn one(tte: u64) -> (Tables, Context, Request) {
        let mut c = Context { model: Model::T2, ..Context::default() };
        c.nonzero[0] = Config::new(Paddr(0x10_0000), 0, 0);
        let t = Tables::default();
        let at = c.nonzero[0].pointer(VA).0;
        t.set(at, entry::Tag::new(VA, 5).0);
        t.set(at + 8, tte);
        (t, c, Request::user(Access::Load, 5))
    }

    fn reason(r: Result<Translation, WalkStop<Fault>>) -> Reason {
        match r {
            Err(WalkStop::Fault(f)) => f.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hit_and_its_events() {
        let (t, c, r) = one(GOOD);
        let found = walk(&t, &c, &r, VA).unwrap();
        assert_eq!((found.paddr, found.shift, found.context), (Paddr(0x77_1678), 13, 5));
        let text: Vec<_> = t.take_events().iter().map(|e| e.to_string()).collect();
        assert_eq!(text[0], "walk_start 0x12345678 load root 0x8000000000100000");
        assert_eq!(text[1], "walk_step level 0 tsb-0 [0x101a20] = 0x0005000000000048");
        assert_eq!(text[3], "walk_done 0x12345678 -> 0x771678 8K");
        let e = found.tlb_entry(&c, &r, VA);
        assert!(e.tag.serves(&c.tlb_key(VA, &r)) && e.frame == Paddr(0x77_0000));
    }

    #[test]
    fn what_is_no_hit() {
        let of = |tag: u64, data: u64, context: u16, config: u64| {
            let (t, mut c, mut r) = one(GOOD ^ data);
            c.nonzero[0].0 ^= config;
            r.contexts = [context; 2];
            let at = c.nonzero[0].pointer(VA).0;
            t.set(at, entry::Tag::new(VA, 5).0 ^ tag);
            t.set(at + 8, GOOD ^ data);
            reason(walk(&t, &c, &r, VA))
        };
        assert_eq!(of(1, 0, 5, 0), Reason::TsbMiss);
        assert_eq!(of(1 << 47, 0, 5, 0), Reason::TsbMiss, "Linux's lock bit");
        assert_eq!(of(0, Tte::V, 5, 0), Reason::TsbMiss);
        assert_eq!(of(0, 0, 6, 0), Reason::TsbMiss);
        assert_eq!(of(0, 2, 5, 0), Reason::TsbMiss, "T2 has no 512K");
        assert_eq!(of(0, 0, 5, 1 << 4), Reason::TsbMiss, "8K in a TSB of 64K");
        assert_eq!(of(0, 0, 5, Config::ENABLE), Reason::Miss);
    }

    #[test]
    fn a_tsb_of_a_context_register_asks_for_no_context() {
        let (t, mut c, mut r) = one(GOOD);
        r.contexts = [6, 7];
        c.nonzero[0].0 |= Config::USE_CONTEXT_1;
        assert_eq!(walk(&t, &c, &r, VA).unwrap().context, 7);
        c.nonzero[0].0 |= Config::USE_CONTEXT_0;
        assert_eq!(walk(&t, &c, &r, VA).unwrap().context, 6);
        // Context zero is compared all the same.
        c.zero = c.nonzero;
        r.contexts = [0, 7];
        assert_eq!(reason(walk(&t, &c, &r, VA)), Reason::TsbMiss);
    }

    #[test]
    fn real_addresses_must_be_in_a_range() {
        let (t, mut c, r) = one(GOOD);
        c.nonzero[0].0 |= Config::RA_NOT_PA;
        assert_eq!(reason(walk(&t, &c, &r, VA)), Reason::InvalidRealAddress);
        c.ranges[2] = RealRange::new(0x77_0000, 0x77_0000, 0x1000_0000);
        assert_eq!(walk(&t, &c, &r, VA).unwrap().paddr, Paddr(0x1077_1678));
        let r = Request { untranslated: true, ..r };
        assert_eq!(walk(&t, &c, &r, Vaddr(0x77_1004)).unwrap().paddr, Paddr(0x1077_1004));
        assert_eq!(reason(walk(&t, &c, &r, Vaddr(0x78_0000))), Reason::RealMiss);
    }

    #[test]
    fn priorities() {
        let of = |bits: u64, change: fn(&mut Request)| {
            let (t, c, mut r) = one(GOOD ^ bits);
            change(&mut r);
            reason(walk(&t, &c, &r, VA))
        };
        let store = |r: &mut Request| r.access = Access::Store;
        assert_eq!(of(Tte::W, store), Reason::Protection);
        assert_eq!(of(Tte::W | Tte::NFO, store), Reason::NoFaultOnly);
        let atomic = |r: &mut Request| (r.access, r.atomic) = (Access::Store, true);
        assert_eq!(of(Tte::W | Tte::NFO | Tte::CP, atomic), Reason::NoncacheableAtomic);
        assert_eq!(of(Tte::P | Tte::CP, atomic), Reason::Privilege);
        assert_eq!(of(Tte::E, |r| r.no_fault = true), Reason::SideEffect);
        let fetch = |r: &mut Request| r.access = Access::Fetch;
        assert_eq!(of(Tte::EP | Tte::P, fetch), Reason::NoExecute);
        assert_eq!(of(Tte::NFO | Tte::P, fetch), Reason::Privilege);
        assert_eq!(of(Tte::NFO, fetch), Reason::NoFaultOnly);
    }
}
