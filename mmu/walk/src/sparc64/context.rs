//! What a CPU and an instruction contribute to a translation: privilege, trap level, contexts and the ASI (reference
//! sparc64-mmu §1.3, §1.4).

use super::fault::{Fault, Machine, Reason};
use crate::Access;
use racewalk_ram::Vaddr;

/// Which context register names the address space; the numbers are those of SFSR.CT and of demap operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Space {
    /// The primary context registers.
    #[default]
    Primary = 0,
    /// The secondary context registers.
    Secondary = 1,
    /// Context 0, always.
    Nucleus = 2,
}

/// Bits of a context.
pub const CONTEXT: u16 = 0x1fff;

/// The registers of one CPU that both machines have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// PSTATE.PRIV.
    pub privileged: bool,
    /// TL.
    pub trap_level: u8,
    /// The instruction MMU is on (sun4u: LSU control register bit 2).
    pub fetch_mmu: bool,
    /// The data MMU is on (sun4u: LSU control register bit 3).
    pub data_mmu: bool,
    /// Primary context registers 0 and 1; sun4u has only the first.
    pub primary: [u16; 2],
    /// Secondary context registers 0 and 1; sun4u has only the first.
    pub secondary: [u16; 2],
}

impl Default for State {
    fn default() -> Self {
        State {
            privileged: false,
            trap_level: 0,
            fetch_mmu: true,
            data_mmu: true,
            primary: [0; 2],
            secondary: [0; 2],
        }
    }
}

/// What the instruction says of a data access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    /// The ASI it names; `None` for loads and stores without one.
    pub asi: Option<u8>,
    /// Its size, a power of two, which it must be aligned to.
    pub bytes: u8,
    /// It reads and writes atomically (CASA, LDSTUB, SWAP): made as a store.
    pub atomic: bool,
}

impl Default for Operand {
    fn default() -> Self {
        Operand { asi: None, bytes: 1, atomic: false }
    }
}

/// An access as the MMU sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What for.
    pub access: Access,
    /// The ASI, named or implicit.
    pub asi: u8,
    /// Which context registers.
    pub space: Space,
    /// Their contents; both the same in the nucleus.
    pub contexts: [u16; 2],
    /// With the rights of the supervisor.
    pub privileged: bool,
    /// PSTATE.PRIV, whatever the ASI makes of it.
    pub supervisor: bool,
    /// The ASI is one that translates.
    pub translating: bool,
    /// A no-fault load.
    pub no_fault: bool,
    /// Atomic: not possible where memory is not cacheable. Quad loads are.
    pub atomic: bool,
    /// The address is physical (sun4u) or real (sun4v).
    pub untranslated: bool,
}

impl Request {
    /// A user's load, store or fetch without anything special.
    pub fn user(access: Access, primary: u16) -> Request {
        Request {
            access,
            asi: asi::PRIMARY,
            space: Space::Primary,
            contexts: [primary; 2],
            privileged: false,
            supervisor: false,
            translating: true,
            no_fault: false,
            atomic: false,
            untranslated: false,
        }
    }

    /// The context that tags are compared with: that of register 0.
    #[inline]
    pub fn context(&self) -> u16 {
        self.contexts[0]
    }

    /// The fault that this access has for `reason`.
    #[cold]
    pub fn fault(&self, machine: Machine, va: Vaddr, reason: Reason) -> Fault {
        Fault {
            machine,
            vaddr: va,
            reason,
            request: *self,
            fault_type: reason.fault_type(),
            side_effect: false,
        }
    }
}

/// Address space identifiers.
pub mod asi {
    /// Implicit at TL > 0.
    pub const NUCLEUS: u8 = 0x04;
    /// Implicit at TL = 0.
    pub const PRIMARY: u8 = 0x80;
    /// Physical addresses of devices (sun4u): not cacheable, with side effects.
    pub const PHYSICAL_SIDE_EFFECT: u8 = 0x15;
    /// The bit of little-endian ASIs.
    pub const LITTLE: u8 = 0x08;
    /// Below it an ASI is privileged.
    pub const FIRST_USER: u8 = 0x80;
    /// First of those that sun4v keeps for the hypervisor.
    pub const FIRST_HYPERPRIVILEGED: u8 = 0x30;
}

/// What an ASI does to an address.
struct Meaning {
    space: Space,
    untranslated: bool,
    as_user: bool,
    no_fault: bool,
    quad: bool,
}

/// `None` for ASIs that name no memory, or none here.
fn meaning(machine: Machine, number: u8) -> Option<Meaning> {
    let m =
        Meaning { space: Space::Primary, untranslated: false, as_user: false, no_fault: false, quad: false };
    let odd = if number & 1 == 0 { Space::Primary } else { Space::Secondary };
    let sun4v = machine == Machine::Sun4v;
    // Endianness is no matter of translation.
    Some(match number & !asi::LITTLE {
        0x04 => Meaning { space: Space::Nucleus, ..m },
        0x10 | 0x11 => Meaning { space: odd, as_user: true, ..m },
        0x14 | 0x15 => Meaning { untranslated: true, ..m },
        0x22 | 0x23 if sun4v => Meaning { space: odd, as_user: true, quad: true, ..m },
        0x24 => Meaning { space: Space::Nucleus, quad: true, ..m },
        0x26 if sun4v => Meaning { untranslated: true, quad: true, ..m },
        0x27 if sun4v => Meaning { space: Space::Nucleus, quad: true, ..m },
        0x34 if !sun4v => Meaning { untranslated: true, quad: true, ..m },
        0x80 | 0x81 => Meaning { space: odd, ..m },
        0x82 | 0x83 => Meaning { space: odd, no_fault: true, ..m },
        // Partial stores, short floating point, blocks.
        0xc0..=0xc5 | 0xd0..=0xd3 | 0xf0 | 0xf1 => Meaning { space: odd, ..m },
        0xe0 | 0xe1 if number & asi::LITTLE == 0 => Meaning { space: odd, ..m },
        0xe2 | 0xe3 if sun4v => Meaning { space: odd, quad: true, ..m },
        _ => return None,
    })
}

impl State {
    /// The contents of a space's context registers.
    pub fn contexts(&self, space: Space) -> [u16; 2] {
        match space {
            Space::Primary => self.primary,
            Space::Secondary => self.secondary,
            Space::Nucleus => [0; 2],
        }
    }

    /// What the MMU is asked, or the exceptions that come before it asks anything: alignment, then privilege of the
    /// ASI, then whether it is one for this.
    pub fn request(
        &self,
        machine: Machine,
        va: Vaddr,
        access: Access,
        o: &Operand,
    ) -> Result<Request, Fault> {
        let implicit = if self.trap_level > 0 { Space::Nucleus } else { Space::Primary };
        let asi = match (access, o.asi) {
            (Access::Load | Access::Store, Some(asi)) => asi,
            _ if self.trap_level > 0 => asi::NUCLEUS,
            _ => asi::PRIMARY,
        };
        let mut r = Request {
            access,
            asi,
            space: implicit,
            contexts: self.contexts(implicit),
            privileged: self.privileged,
            supervisor: self.privileged,
            translating: true,
            no_fault: false,
            atomic: false,
            untranslated: !self.fetch_mmu,
        };
        if access == Access::Fetch {
            return Ok(r);
        }
        r.atomic = o.atomic;
        let m = meaning(machine, asi);
        r.translating = m.as_ref().is_some_and(|m| !m.untranslated);
        if let Some(m) = &m {
            r.space = m.space;
            r.contexts = self.contexts(m.space);
            r.no_fault = m.no_fault;
            r.privileged &= !m.as_user;
            r.atomic |= m.quad;
            r.untranslated = m.untranslated || !self.data_mmu;
        }
        if va.0 & (o.bytes as u64).wrapping_sub(1) != 0 {
            return Err(r.fault(machine, va, Reason::Alignment));
        }
        let hyperprivileged =
            machine == Machine::Sun4v && (asi::FIRST_HYPERPRIVILEGED..asi::FIRST_USER).contains(&asi);
        // An ASI that the instruction does not name is never refused.
        if o.asi.is_some() && (asi < asi::FIRST_USER && !self.privileged || hyperprivileged) {
            return Err(r.fault(machine, va, Reason::PrivilegedAction));
        }
        match m {
            Some(m) if access == Access::Load || !(m.no_fault || m.quad) => Ok(r),
            _ => Err(r.fault(machine, va, Reason::Asi)),
        }
    }
}

/// What accesses through a translation are checked against: bits 12-6 of a sun4v TTE where they stand there, and NFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf(pub u8);

impl Leaf {
    /// W: writable.
    pub const W: u8 = 0x01;
    /// EP: executable.
    pub const EP: u8 = 0x02;
    /// P: privileged.
    pub const P: u8 = 0x04;
    /// CV: cacheable in virtually indexed caches.
    pub const CV: u8 = 0x08;
    /// CP: cacheable in physically indexed caches.
    pub const CP: u8 = 0x10;
    /// E: accesses have side effects.
    pub const E: u8 = 0x20;
    /// IE: data is of the other endianness.
    pub const IE: u8 = 0x40;
    /// NFO: for no-fault loads only.
    pub const NFO: u8 = 0x80;

    /// Whether all of `bits` are set.
    #[inline]
    pub fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_translation() {
        let s = State { primary: [5, 6], secondary: [7, 8], ..State::default() };
        let of = |s: &State, m, access, asi, bytes, va| {
            s.request(m, Vaddr(va), access, &Operand { asi, bytes, atomic: false }).map_err(|f| f.reason)
        };
        let (u, v) = (Machine::Sun4u, Machine::Sun4v);
        assert_eq!(of(&s, u, Access::Load, None, 8, 0x10).unwrap().contexts, [5, 6]);
        assert_eq!(of(&s, u, Access::Load, Some(0x81), 8, 0x10).unwrap().contexts, [7, 8]);
        assert_eq!(of(&s, u, Access::Load, Some(0x04), 8, 0x11), Err(Reason::Alignment), "before privilege");
        assert_eq!(of(&s, u, Access::Load, Some(0x04), 8, 0x10), Err(Reason::PrivilegedAction));
        assert_eq!(of(&s, u, Access::Store, Some(0x82), 1, 0), Err(Reason::Asi));
        assert_eq!(of(&s, u, Access::Load, Some(0x90), 1, 0), Err(Reason::Asi));
        let k = State { privileged: true, trap_level: 1, ..s };
        assert_eq!(of(&k, u, Access::Load, None, 1, 0).unwrap().space, Space::Nucleus);
        assert_eq!(of(&k, u, Access::Fetch, Some(0x80), 4, 0).unwrap().contexts, [0, 0]);
        assert!(of(&k, u, Access::Load, Some(0x34), 16, 0).unwrap().untranslated);
        assert_eq!(of(&k, v, Access::Load, Some(0x34), 16, 0), Err(Reason::PrivilegedAction));
        let odd = State { trap_level: 1, ..s };
        assert!(of(&odd, u, Access::Load, None, 1, 0).is_ok(), "implicit");
        let user = of(&k, u, Access::Load, Some(0x10), 1, 0).unwrap();
        assert!(!user.privileged && user.contexts == [5, 6]);
    }
}
