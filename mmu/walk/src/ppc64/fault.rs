//! Storage interrupts and what they leave in registers (ISA 3.0B Book III 7.5; reference ppc64-mmu §2.3).

use crate::Access;
use racewalk_ram::Vaddr;

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// The address is in no segment: a quadrant that is not there, an address beyond the radix tree, or no SLB entry.
    Segment,
    /// Bit 33: no entry translates the address.
    NoTranslation,
    /// Bit 35: a fetch from no-execute or guarded storage.
    NoExecute,
    /// Bit 36: the entry does not permit the access.
    Protection,
    /// Bit 42: the key of a hashed page does not permit the access.
    Key,
    /// Bit 44: a table that the implementation does not support.
    UnsupportedMmu,
    /// Bit 45: R or C is to be set, and by software.
    ReferenceChange,
    /// Machine check: a table lies outside memory.
    Addressing,
    /// Machine check: several SLB entries translate the address.
    SlbMultihit,
    /// A guest's real-mode access under the hashed page table, which needs the virtual real mode area.
    VirtualRealMode,
    /// The hashed page table with LPCR\[UPRT\]: segment tables in memory.
    SegmentTable,
}

impl Reason {
    /// All of them, for tests that want one of each.
    pub const ALL: [Reason; 11] = [
        Reason::Segment,
        Reason::NoTranslation,
        Reason::NoExecute,
        Reason::Protection,
        Reason::Key,
        Reason::UnsupportedMmu,
        Reason::ReferenceChange,
        Reason::Addressing,
        Reason::SlbMultihit,
        Reason::VirtualRealMode,
        Reason::SegmentTable,
    ];

    /// Those that a walk of radix trees can end with.
    pub const RADIX: [Reason; 7] = [
        Reason::Segment,
        Reason::NoTranslation,
        Reason::NoExecute,
        Reason::Protection,
        Reason::UnsupportedMmu,
        Reason::ReferenceChange,
        Reason::Addressing,
    ];

    /// Name in events.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Segment => "segment",
            Reason::NoTranslation => "no translation",
            Reason::NoExecute => "no-execute or guarded",
            Reason::Protection => "protection",
            Reason::Key => "virtual page class key protection",
            Reason::UnsupportedMmu => "unsupported MMU configuration",
            Reason::ReferenceChange => "reference and change",
            Reason::Addressing => "addressing",
            Reason::SlbMultihit => "SLB multi-hit",
            Reason::VirtualRealMode => "not modelled: virtual real mode area",
            Reason::SegmentTable => "not modelled: segment tables",
        }
    }

    /// Those that a search of the hashed page table can end with.
    pub const HASH: [Reason; 10] = [
        Reason::Segment,
        Reason::NoTranslation,
        Reason::NoExecute,
        Reason::Protection,
        Reason::Key,
        Reason::UnsupportedMmu,
        Reason::Addressing,
        Reason::SlbMultihit,
        Reason::VirtualRealMode,
        Reason::SegmentTable,
    ];

    /// The bit in DSISR, HDSISR, SRR1 or HSRR1; zero for reasons that have none.
    pub fn cause(self) -> u32 {
        match self {
            Reason::NoTranslation => 0x4000_0000,
            Reason::NoExecute => 0x1000_0000,
            Reason::Protection => 0x0800_0000,
            Reason::Key => 0x0020_0000,
            Reason::UnsupportedMmu => 0x0008_0000,
            Reason::ReferenceChange => 0x0004_0000,
            _ => 0,
        }
    }
}

/// Bit 38 of DSISR and HDSISR: the access was a store.
pub const CAUSE_STORE: u32 = 0x0200_0000;
/// Bit 46: the access that failed was one to a process table or to a process's tree.
pub const CAUSE_TABLE: u32 = 0x0002_0000;
/// Bit 56 of DSISR after a machine check: several SLB entries translate the address (POWER7 to POWER9).
const MACHINE_CHECK_SLB_MULTIHIT: u64 = 0x80;
/// Bits of a guest real address that the ASDR keeps.
const ASDR_REAL: u64 = 0x0fff_ffff_ffff_f000;

/// An interrupt with everything it leaves in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Address that was translated.
    pub vaddr: Vaddr,
    /// What for.
    pub access: Access,
    /// Why it failed.
    pub reason: Reason,
    /// All bits of the cause but the store bit.
    pub causes: u32,
    /// Taken by the hypervisor: HDSI and HISI in place of DSI and ISI.
    pub hypervisor: bool,
    /// What failed was itself a store: by the access, or to set R or C of an entry.
    pub store: bool,
    /// What the access segment descriptor register gets, where it gets something.
    pub asdr: Option<u64>,
}

impl Fault {
    /// A fault that the operating system of the partition gets.
    pub fn new(vaddr: Vaddr, access: Access, reason: Reason) -> Fault {
        let store = access == Access::Store;
        Fault { vaddr, access, reason, causes: reason.cause(), hypervisor: false, store, asdr: None }
    }

    /// The same, for the hypervisor.
    pub fn to_hypervisor(self) -> Fault {
        Fault { hypervisor: true, ..self }
    }

    /// A failed partition-scoped translation of a guest real address.
    pub fn partition_scoped(self, real: u64) -> Fault {
        Fault { hypervisor: true, asdr: Some(real & ASDR_REAL), ..self }
    }

    /// An access to a table is one to data, also where it is made for a fetch.
    fn fetch(&self) -> bool {
        self.access == Access::Fetch && self.causes & CAUSE_TABLE == 0
    }

    /// The interrupt vector, an effective address; zero for what is not modelled.
    pub fn vector(&self) -> u32 {
        let fetch = self.fetch();
        match (self.reason, self.hypervisor) {
            (Reason::VirtualRealMode | Reason::SegmentTable, _) => 0,
            (Reason::Addressing | Reason::SlbMultihit, _) => 0x200,
            (Reason::Segment, _) => 0x380 + 0x100 * fetch as u32,
            (_, false) => 0x300 + 0x100 * fetch as u32,
            (_, true) => 0xe00 + 0x20 * fetch as u32,
        }
    }

    /// DSISR or HDSISR, or the cause in SRR1 or HSRR1, which does not tell stores.
    pub fn cause(&self) -> u32 {
        self.causes | if self.store && !self.fetch() { CAUSE_STORE } else { 0 }
    }

    /// The registers that the interrupt sets to tell what happened, by name. (H)SRR0, the address of the instruction, is not
    /// among them; of (H)SRR1 only the cause is.
    pub fn registers(&self) -> Vec<(&'static str, u64)> {
        let (cause, va) = (self.cause() as u64, self.vaddr.0);
        let mut r = match self.vector() {
            0x300 => vec![("dsisr", cause), ("dar", va)],
            0x400 => vec![("srr1", cause)],
            0x380 => vec![("dar", va)],
            0x200 if self.reason == Reason::SlbMultihit && !self.fetch() => {
                vec![("dsisr", MACHINE_CHECK_SLB_MULTIHIT), ("dar", va)]
            }
            0xe00 => vec![("hdsisr", cause), ("hdar", va)],
            0xe20 => vec![("hsrr1", cause)],
            _ => Vec::new(),
        };
        r.extend(self.asdr.map(|a| ("asdr", a)));
        r
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, va) = (self.reason.name(), self.vaddr.0);
        write!(
            f,
            "{name} (vector {:#x}, cause {:#x}) at {va:#x} on {}",
            self.vector(),
            self.cause(),
            self.access
        )
    }
}

/// Why an access cannot use a translation that a TLB holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// It must not be made.
    Fault(Fault),
    /// C is to be set first: the access walks again.
    Walk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_registers() {
        let f = |access, reason| Fault::new(Vaddr(0x1234), access, reason);
        let store = f(Access::Store, Reason::Protection);
        assert_eq!((store.vector(), store.cause()), (0x300, 0x0a00_0000));
        assert_eq!(store.registers(), [("dsisr", 0x0a00_0000), ("dar", 0x1234)]);
        let fetch = f(Access::Fetch, Reason::NoExecute);
        assert_eq!((fetch.vector(), fetch.registers()), (0x400, vec![("srr1", 0x1000_0000)]));
        let guest = fetch.partition_scoped(0xf000_0000_0005_4321);
        assert_eq!((guest.vector(), guest.asdr), (0xe20, Some(0x5_4000)));
        assert_eq!(f(Access::Load, Reason::Segment).vector(), 0x380);
        assert_eq!(f(Access::Fetch, Reason::Segment).registers(), []);
        assert_eq!(f(Access::Load, Reason::SlbMultihit).vector(), 0x200);
    }
}
