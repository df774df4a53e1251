//! What the hardware does: looks into the TLB, checks, and sets registers for the trap handler (UltraSPARC-I User's Manual
//! chapter 6; reference sparc64-mmu §2.1). It reads no memory: the walk is [`miss`](super::miss).

use super::entry::{TagAccess, Tte};
use super::geometry::{BASE_SHIFT, PA_BITS, Tsb, in_range};
use crate::Access;
use crate::sparc64::context::{Leaf, Operand, Request, State, asi};
use crate::sparc64::fault::{Fault, Machine, Reason};
use crate::tlb::{Entry, Key, Lookup, Tag};
use racewalk_ram::{Asid, Paddr, Vaddr};

/// The registers of one CPU that steer translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Privilege, trap level, contexts, MMU enables.
    pub state: State,
    /// The instruction MMU's TSB register.
    pub instruction_tsb: Tsb,
    /// The data MMU's TSB register.
    pub data_tsb: Tsb,
}

impl Context {
    /// What the MMU is asked, or the exceptions that come before.
    pub fn request(&self, va: Vaddr, access: Access, operand: &Operand) -> Result<Request, Fault> {
        self.state.request(Machine::Sun4u, va, access, operand)
    }

    /// The TSB register for an access.
    pub fn tsb(&self, access: Access) -> Tsb {
        if access == Access::Fetch { self.instruction_tsb } else { self.data_tsb }
    }

    /// What a TLB is asked.
    pub fn tlb_key(&self, va: Vaddr, r: &Request) -> Key {
        Key { va, space: space(r.context()), other: None, globals: true }
    }

    /// Step 4: whether an access may use a translation that a TLB holds. Every condition that is met is reported.
    pub fn check(&self, leaf: Leaf, va: Vaddr, r: &Request) -> Result<(), Fault> {
        let data = r.access != Access::Fetch;
        let conditions = [
            (Reason::Privilege, leaf.has(Leaf::P) && !r.privileged),
            (Reason::NoFaultOnly, data && leaf.has(Leaf::NFO) && !r.no_fault),
            (Reason::SideEffect, data && leaf.has(Leaf::E) && r.no_fault),
            (Reason::NoncacheableAtomic, data && r.atomic && !leaf.has(Leaf::CP)),
        ];
        let met = || conditions.iter().filter(|(_, met)| *met).map(|(reason, _)| *reason);
        let reason = match met().next() {
            Some(reason) => reason,
            None if r.access == Access::Store && !leaf.has(Leaf::W) => Reason::Protection,
            None => return Ok(()),
        };
        let fault_type = met().fold(0, |ft, reason| ft | reason.fault_type());
        let side_effect = data && leaf.has(Leaf::E);
        Err(Fault { fault_type, side_effect, ..r.fault(Machine::Sun4u, va, reason) })
    }
}

/// What tells address spaces apart in a TLB.
pub fn space(context: u16) -> Asid {
    Asid(context as u64)
}

/// What an access came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Physical address of the byte.
    pub paddr: Paddr,
    /// log2 of the size of the page.
    pub shift: u8,
    /// Where the TTE came from; zero if there was none.
    pub from: Paddr,
    /// What accesses are checked against.
    pub leaf: Leaf,
}

/// Data In: the TLB entry that a store of `tte` makes, tagged with Tag Access. `None` for an invalid TTE, which only takes
/// an entry away. `from` is where the TTE was fetched.
pub fn data_in(tag: TagAccess, tte: Tte, from: Paddr) -> Option<Entry<Leaf>> {
    let shift = tte.shift();
    let inside = (1u64 << shift) - 1;
    let page = Vaddr(tag.page().0 & !inside);
    tte.valid().then(|| Entry {
        tag: Tag { space: space(tag.context()), global: tte.0 & Tte::G != 0, page, shift },
        frame: Paddr(tte.0 & Tte::PA & !inside),
        from,
        locked: tte.0 & Tte::L != 0,
        leaf: tte.leaf(),
    })
}

/// Translates `va`, as far as the hardware does. `tlb` looks into the TLB for the side that the access is on.
#[inline]
pub fn lookup(
    c: &Context,
    r: &Request,
    va: Vaddr,
    tlb: impl FnOnce(&Key) -> Lookup<Leaf>,
) -> Result<Translation, Fault> {
    // 1. Without the MMU, and with an ASI of physical addresses, there is nothing to translate.
    if r.untranslated {
        // The ASI for devices is not cacheable (UltraSPARC-I User's Manual §6.4.4).
        if r.atomic && r.asi & !asi::LITTLE == asi::PHYSICAL_SIDE_EFFECT {
            let f = r.fault(Machine::Sun4u, va, Reason::NoncacheableAtomic);
            return Err(Fault { side_effect: true, ..f });
        }
        let leaf = Leaf(Leaf::W | Leaf::EP | Leaf::CP);
        let paddr = Paddr(va.0 & ((1 << PA_BITS) - 1));
        return Ok(Translation { paddr, shift: BASE_SHIFT, from: Paddr(0), leaf });
    }
    // 2. The hole.
    if !in_range(va) {
        return Err(r.fault(Machine::Sun4u, va, Reason::AddressHole));
    }
    // 3. The TLB.
    let e = match tlb(&c.tlb_key(va, r)) {
        Lookup::Hit(e) => e,
        Lookup::Miss => return Err(r.fault(Machine::Sun4u, va, Reason::Miss)),
        Lookup::Multiple => return Err(r.fault(Machine::Sun4u, va, Reason::MultipleHit)),
    };
    // 4. Protection.
    c.check(e.leaf, va, r)?;
    Ok(Translation { paddr: e.paddr(va), shift: e.tag.shift, from: e.from, leaf: e.leaf })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlb::InfiniteTlb;

    const GOOD: u64 = Tte::V | 0x77_0000 | Tte::CP | Tte::CV | Tte::W;

    fn tlb(tte: u64) -> InfiniteTlb<Leaf> {
        let mut t = InfiniteTlb::new();
        t.fill(data_in(TagAccess::new(Vaddr(0x1234_5678), 5), Tte(tte), Paddr(0)).unwrap());
        t
    }

    fn of(tte: u64, va: u64, r: &Request) -> Result<Translation, Fault> {
        lookup(&Context::default(), r, Vaddr(va), |k| tlb(tte).lookup(k))
    }

    #[test]
    fn hits_by_page_context_and_g() {
        let r = Request::user(Access::Store, 5);
        assert_eq!(of(GOOD, 0x1234_5678, &r).unwrap().paddr, Paddr(0x77_1678));
        let sized = |size: u64| of(GOOD | size << 61, 0x1234_f678, &r).map(|t| t.paddr);
        assert_eq!(sized(1), Ok(Paddr(0x77_f678)));
        assert_eq!(sized(0).unwrap_err().reason, Reason::Miss);
        let other = Request::user(Access::Load, 6);
        assert_eq!(of(GOOD, 0x1234_5678, &other).unwrap_err().tag_access(), Some(0x1234_4006));
        assert!(of(GOOD | Tte::G, 0x1234_5678, &other).is_ok());
        assert_eq!(of(GOOD, 0x800_0000_0000, &r).unwrap_err().reason, Reason::AddressHole);
        let physical = Request { untranslated: true, ..r };
        let device = Request { asi: asi::PHYSICAL_SIDE_EFFECT, atomic: true, translating: false, ..physical };
        let f = of(GOOD, 0x1000, &device).unwrap_err();
        assert_eq!(
            (f.reason, f.sfsr(0).unwrap() >> 4 & 0x3ff),
            (Reason::NoncacheableAtomic, 4 << 3 | 1 << 2 | 3)
        );
        assert_eq!(of(GOOD, 0xffff_f800_0000_1234, &physical).unwrap().paddr, Paddr(0x1234));
    }

    #[test]
    fn several_conditions_are_reported_at_once() {
        let r = Request { no_fault: true, ..Request::user(Access::Load, 5) };
        let f = of(GOOD | Tte::P | Tte::E, 0x1234_5678, &r).unwrap_err();
        assert_eq!((f.reason, f.fault_type, f.trap().number), (Reason::Privilege, 0x03, 0x30));
        // FV, OW, E, FT, ASI, NF; primary context.
        assert_eq!(f.sfsr(1), Some(1 | 1 << 1 | 1 << 6 | 3 << 7 | 0x80 << 16 | 1 << 24));
        let f = of(GOOD, 0x1234_0800_0000_0010, &Request::user(Access::Load, 5)).unwrap_err();
        assert_eq!(
            (f.reason, f.sfar()),
            (Reason::AddressHole, Some(0xffff_f800_0000_0010)),
            "VA[43:0] is all it has"
        );
        let store = Request::user(Access::Store, 5);
        let f = of(GOOD & !Tte::W | Tte::NFO, 0x1234_5678, &store).unwrap_err();
        assert_eq!((f.reason, f.fault_type), (Reason::NoFaultOnly, 0x10));
        let f = of(GOOD & !Tte::W, 0x1234_5678, &store).unwrap_err();
        assert_eq!((f.trap().number, f.sfsr(0)), (0x6c, Some(1 | 1 << 2 | 0x80 << 16)));
        let fetch = Request::user(Access::Fetch, 5);
        assert!(
            of(GOOD | Tte::NFO | Tte::E, 0x1234_5678, &fetch).is_ok(),
            "no such bits in the instruction TLB"
        );
    }
}
