//! What a radix translation goes by, what it finds, and what accesses through it are checked against (ISA 3.0B Book III
//! 6.7.10 and 6.7.12; numbers: reference ppc64-mmu §2.1).

use super::entry::Entry;
use crate::Access;
use crate::ppc64::context::{Context, Mode, Update};
use crate::ppc64::fault::{Denied, Fault, Reason};
use crate::tlb::{self, Key, Tag};
use racewalk_ram::{Asid, Paddr, Vaddr};

/// What steers one translation: the state of the thread, and the partition and process that the quadrant names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Controls {
    /// How the address is taken.
    pub mode: Mode,
    /// MSR\[HV\].
    pub hypervisor: bool,
    /// MSR\[PR\].
    pub problem: bool,
    /// Effective LPID.
    pub lpid: u64,
    /// Effective PID.
    pub pid: u64,
    /// Partition table control register.
    pub ptcr: u64,
    /// Hypervisor real mode offset.
    pub hrmor: u64,
    /// What key 0 denies to privileged accesses of unprivileged pages, as [`Entry`]'s EAA has permissions: 4 loads, 2
    /// stores (AMR), 1 fetches (IAMR).
    pub denied: u8,
    /// How R and C are set.
    pub update: Update,
}

/// A space without a process: guest real addresses of one LPID.
pub const SPACE_GUEST_REAL: u64 = 1 << 31;
/// Hypervisor real addresses.
const SPACE_REAL: u64 = 1 << 63;

/// The space of a process's translations, as TLB entries are tagged.
pub fn space(lpid: u64, pid: u64) -> Asid {
    Asid((lpid & Context::LPID) << 32 | (pid & Context::PID))
}
/// The bits of a space that name the partition.
pub const SPACE_LPID: u64 = SPACE_REAL | Context::LPID << 32;

impl Controls {
    /// The space that entries are tagged with.
    pub fn space(&self) -> Asid {
        match self.mode {
            Mode::HypervisorReal => Asid(SPACE_REAL),
            Mode::GuestReal => Asid(space(self.lpid, 0).0 | SPACE_GUEST_REAL),
            Mode::Virtual | Mode::NoQuadrant => space(self.lpid, self.pid),
        }
    }

    /// What a TLB is asked for `va`.
    pub fn tlb_key(&self, va: Vaddr) -> Key {
        Key { va, space: self.space(), other: None, globals: false }
    }

    /// The host's own, through tables: the common case.
    #[inline]
    pub(super) fn of_host(&self) -> bool {
        self.mode == Mode::Virtual && self.lpid == 0 && self.hypervisor
    }

    /// Whether the process-scoped entry denies the access, and why. 7.
    #[inline]
    pub(super) fn process_denies(&self, e: Entry, access: Access) -> Option<Reason> {
        let permitted = if e.0 & Entry::PRIVILEGED != 0 {
            if self.problem { 0 } else { authority(e) }
        } else if self.problem {
            authority(e)
        } else {
            authority(e) & !self.denied
        };
        denies(e, permitted, access)
    }

    /// Whether an access may use a translation that a TLB holds; the same questions, in the same order, that a walk asks
    /// at its end.
    #[inline]
    pub fn check(&self, leaf: &Leaf, va: Vaddr, access: Access) -> Result<(), Denied> {
        let fault = |reason| Fault::new(va, access, reason);
        if self.mode == Mode::NoQuadrant {
            return Err(Denied::Fault(fault(Reason::Segment)));
        }
        if self.mode == Mode::Virtual {
            if let Some(reason) = self.process_denies(leaf.process, access) {
                return Err(Denied::Fault(fault(reason)));
            }
            if !recorded(leaf.process, access) {
                return Err(Denied::Walk);
            }
        }
        if let Some(PartitionLeaf { entry: e, real, shift }) = leaf.partition {
            if let Some(reason) = denies(e, authority(e), access) {
                let real = real | (va.0 & ((1 << shift) - 1));
                return Err(Denied::Fault(fault(reason).partition_scoped(real)));
            }
            if !recorded(e, access) {
                return Err(Denied::Walk);
            }
        }
        Ok(())
    }
}

/// Permissions of the EAA field, 4 loads, 2 stores, 1 fetches: stores imply loads.
#[inline]
pub(super) fn authority(e: Entry) -> u8 {
    let eaa = (e.0 & (Entry::READ | Entry::WRITE | Entry::EXECUTE)) as u8;
    eaa | (eaa & Entry::WRITE as u8) << 1
}

#[inline]
pub(super) fn denies(e: Entry, permitted: u8, access: Access) -> Option<Reason> {
    let guarded = e.0 & Entry::ATT == Entry::ATT_NON_IDEMPOTENT;
    match access {
        Access::Fetch if guarded || permitted & 1 == 0 => Some(Reason::NoExecute),
        Access::Store if permitted & 2 == 0 => Some(Reason::Protection),
        Access::Load if permitted & 4 == 0 => Some(Reason::Protection),
        _ => None,
    }
}

/// The bits that an access sets.
#[inline]
pub(super) fn wanted(access: Access) -> u64 {
    if access == Access::Store { Entry::R | Entry::C } else { Entry::R }
}

#[inline]
pub(super) fn recorded(e: Entry, access: Access) -> bool {
    e.0 & wanted(access) == wanted(access)
}

/// What accesses through a translation are checked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The process-scoped entry; where translation is off, not used.
    pub process: Entry,
    /// In a partition: its part.
    pub partition: Option<PartitionLeaf>,
}

/// What a partition's translation has beside the process's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionLeaf {
    /// The partition-scoped entry.
    pub entry: Entry,
    /// Guest real address of the page's first byte.
    pub real: u64,
    /// log2 of the size of the page.
    pub shift: u8,
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Real address of the byte.
    pub paddr: Paddr,
    /// log2 of the size of the page: in a partition the smaller of the two scopes'.
    pub shift: u8,
    /// Where the process-scoped leaf was fetched, or without one the partition-scoped; zero without both.
    pub from: Paddr,
    /// What accesses are checked against.
    pub leaf: Leaf,
}

impl Translation {
    /// The TLB entry for the page of `va`.
    pub fn tlb_entry(&self, c: &Controls, va: Vaddr) -> tlb::Entry<Leaf> {
        let inside = (1u64 << self.shift) - 1;
        let tag = Tag { space: c.space(), global: false, page: Vaddr(va.0 & !inside), shift: self.shift };
        let frame = Paddr(self.paddr.0 & !inside);
        tlb::Entry { tag, frame, from: self.from, locked: false, leaf: self.leaf }
    }
}
