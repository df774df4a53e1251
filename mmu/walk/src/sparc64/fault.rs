//! Traps of a translation and what the machines report for them (reference sparc64-mmu §2.1, §2.2).

use super::context::{Request, asi};
use super::sun4u::geometry::VA_BITS;
use crate::Access;
use racewalk_ram::Vaddr;
use std::fmt;

/// Which of the two machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Machine {
    /// Software-filled TLB.
    Sun4u,
    /// Hardware tablewalk under a hypervisor.
    Sun4v,
}

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// The address is not a multiple of the access's size.
    Alignment,
    /// A privileged ASI from user code, or a hyperprivileged one from anything but the hypervisor.
    PrivilegedAction,
    /// The address is in the hole between the lower and upper halves of the address space.
    AddressHole,
    /// An ASI that names no memory, or not for such an access.
    Asi,
    /// No TLB entry; on sun4v: and no TSB is configured.
    Miss,
    /// sun4v: no TSB has the translation.
    TsbMiss,
    /// sun4v: a TSB entry whose real address is in no real range.
    InvalidRealAddress,
    /// sun4v: a real address, used as one, that is in no real range.
    RealMiss,
    /// P = 1, and user code.
    Privilege,
    /// sun4v: EP = 0, and a fetch.
    NoExecute,
    /// NFO = 1, and no no-fault load.
    NoFaultOnly,
    /// E = 1, and a no-fault load.
    SideEffect,
    /// CP = 0, and an atomic access.
    NoncacheableAtomic,
    /// W = 0, and a store.
    Protection,
    /// A TSB entry or table lies outside memory.
    TableError,
    /// Several TLB entries match.
    MultipleHit,
}

/// A trap: its name and type. Where one type stands for several conditions the name says which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    /// Name as in the manual.
    pub name: &'static str,
    /// Trap type, TT.
    pub number: u16,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 16] = [
        Reason::Alignment,
        Reason::PrivilegedAction,
        Reason::AddressHole,
        Reason::Asi,
        Reason::Miss,
        Reason::TsbMiss,
        Reason::InvalidRealAddress,
        Reason::RealMiss,
        Reason::Privilege,
        Reason::NoExecute,
        Reason::NoFaultOnly,
        Reason::SideEffect,
        Reason::NoncacheableAtomic,
        Reason::Protection,
        Reason::TableError,
        Reason::MultipleHit,
    ];

    /// The trap that `machine` takes for it on an instruction or data access; `None` if that cannot happen. sun4v's
    /// are those of UltraSPARC T2, most of which go to the hypervisor: [`Fault::guest_trap`] says what it makes of them.
    pub fn trap(self, machine: Machine, access: Access) -> Option<Trap> {
        use Machine::{Sun4u, Sun4v};
        use Reason::*;
        let fetch = access == Access::Fetch;
        let (name, number) = match (machine, fetch, self) {
            (_, false, Alignment) => ("mem_address_not_aligned", 0x34),
            (_, false, PrivilegedAction) => ("privileged_action", 0x37),
            (_, true, Miss) => ("fast_instruction_access_MMU_miss", 0x64),
            (_, false, Miss) => ("fast_data_access_MMU_miss", 0x68),
            (_, false, Protection) => ("fast_data_access_protection", 0x6c),

            (Sun4u, true, AddressHole) => ("instruction_access_exception: VA out of range", 0x08),
            (Sun4u, true, Privilege) => ("instruction_access_exception: privilege violation", 0x08),
            (Sun4u, false, AddressHole) => ("data_access_exception: VA out of range", 0x30),
            (Sun4u, false, Privilege) => ("data_access_exception: privilege violation", 0x30),
            (Sun4u, false, Asi) => ("data_access_exception: invalid ASI", 0x30),
            (Sun4u, false, NoFaultOnly) => ("data_access_exception: NFO page", 0x30),
            (Sun4u, false, SideEffect) => ("data_access_exception: no-fault load of side-effect page", 0x30),
            (Sun4u, false, NoncacheableAtomic) => ("data_access_exception: atomic to uncacheable page", 0x30),
            // The miss handler's own load fails, whatever the miss was for.
            (Sun4u, _, TableError) => ("data_access_error", 0x32),
            // UltraSPARC's manuals leave this undefined; SPARC64 V has these traps.
            (Sun4u, true, MultipleHit) => ("instruction_access_error: several TLB entries match", 0x0a),
            (Sun4u, false, MultipleHit) => ("data_access_error: several TLB entries match", 0x32),

            (Sun4v, true, Privilege) => ("IAE_privilege_violation", 0x08),
            (Sun4v, true, TsbMiss) => ("instruction_access_MMU_miss", 0x09),
            (Sun4v, true, NoExecute) => ("IAE_unauth_access", 0x0b),
            (Sun4v, true, NoFaultOnly) => ("IAE_nfo_page", 0x0c),
            (Sun4v, true, AddressHole) => ("instruction_address_range", 0x0d),
            (Sun4v, false, Asi) => ("DAE_invalid_asi", 0x14),
            (Sun4v, false, Privilege) => ("DAE_privilege_violation", 0x15),
            (Sun4v, false, NoncacheableAtomic) => ("DAE_nc_page", 0x16),
            (Sun4v, false, NoFaultOnly) => ("DAE_nfo_page", 0x17),
            (Sun4v, true, InvalidRealAddress) => ("instruction_invalid_TSB_entry", 0x2a),
            (Sun4v, false, InvalidRealAddress) => ("data_invalid_TSB_entry", 0x2b),
            (Sun4v, false, AddressHole) => ("mem_address_range", 0x2e),
            (Sun4v, false, SideEffect) => ("DAE_so_page", 0x30),
            (Sun4v, false, TsbMiss) => ("data_access_MMU_miss", 0x31),
            (Sun4v, true, RealMiss) => ("instruction_real_translation_miss", 0x3e),
            (Sun4v, false, RealMiss) => ("data_real_translation_miss", 0x3f),
            (Sun4v, true, TableError) => ("instruction_access_MMU_error", 0x71),
            (Sun4v, false, TableError) => ("data_access_MMU_error", 0x72),
            (Sun4v, true, MultipleHit) => ("instruction_access_MMU_error: several TLB entries match", 0x71),
            (Sun4v, false, MultipleHit) => ("data_access_MMU_error: several TLB entries match", 0x72),
            _ => return None,
        };
        Some(Trap { name, number })
    }

    /// Its bit of SFSR.FT (UltraSPARC-I User's Manual, "I-/D-MMU Synchronous Fault Status Registers"); zero if it is
    /// reported without one.
    pub fn fault_type(self) -> u8 {
        match self {
            Reason::Privilege => 0x01,
            Reason::SideEffect => 0x02,
            Reason::NoncacheableAtomic => 0x04,
            Reason::Asi => 0x08,
            Reason::NoFaultOnly => 0x10,
            Reason::AddressHole => 0x20,
            _ => 0,
        }
    }
}

/// A trap with everything the machine reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// On which machine.
    pub machine: Machine,
    /// Address that was translated.
    pub vaddr: Vaddr,
    /// Why it failed: the condition that the trap is for.
    pub reason: Reason,
    /// The access.
    pub request: Request,
    /// SFSR.FT: every condition that was found, beside `reason`.
    pub fault_type: u8,
    /// E of the page.
    pub side_effect: bool,
}

/// SFSR: the fields are valid.
pub const SFSR_FV: u64 = 1;
/// SFSR: another fault was overwritten.
pub const SFSR_OW: u64 = 1 << 1;
/// SFSR: a store or an atomic access.
pub const SFSR_W: u64 = 1 << 2;
/// SFSR: with PSTATE.PRIV.
pub const SFSR_PR: u64 = 1 << 3;
/// SFSR.CT of an access without a translating ASI.
const SFSR_CT_NONE: u64 = 3;
/// SFSR: the page has E set.
pub const SFSR_E: u64 = 1 << 6;
/// SFSR: a no-fault load.
pub const SFSR_NF: u64 = 1 << 24;

/// What the hypervisor writes into a guest's MMU fault area: the type, address and context of the half for the access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultArea {
    /// Offset of the half: 0 for instructions, 0x40 for data.
    pub offset: u64,
    /// What happened (sun4v `HV_FAULT_TYPE`).
    pub fault_type: u64,
    /// The address; of misses and protection traps only the page's.
    pub address: u64,
    /// The context.
    pub context: u64,
}

impl Fault {
    /// The trap.
    pub fn trap(&self) -> Trap {
        // A reason that its machine cannot have does not come from these walkers.
        self.reason
            .trap(self.machine, self.request.access)
            .unwrap_or(Trap { name: "internal_error", number: 0 })
    }

    /// The address as sun4u's registers keep it: VA[43:0], sign-extended, so that an address in the hole is not known whole
    /// (UltraSPARC-I User's Manual §6.9, §6.9.5).
    fn kept(&self) -> u64 {
        const ABOVE: u32 = 64 - VA_BITS;
        match self.machine {
            Machine::Sun4u => (((self.vaddr.0 << ABOVE) as i64) >> ABOVE) as u64,
            Machine::Sun4v => self.vaddr.0,
        }
    }

    /// Tag Access as hardware sets it, if it does: VA[63:13] and the context.
    pub fn tag_access(&self) -> Option<u64> {
        use Reason::*;
        match self.reason {
            Alignment | PrivilegedAction | TableError | MultipleHit => None,
            // Nothing was looked up, and a guest's SFSR has it all.
            Asi if self.machine == Machine::Sun4v => None,
            _ => Some(self.kept() & !0x1fff | self.request.context() as u64),
        }
    }

    /// The SFSR of sun4u after `old` was in it. `None` for misses, which leave it as it is on UltraSPARC-I and II, and for
    /// errors, which have registers of their own.
    pub fn sfsr(&self, old: u64) -> Option<u64> {
        use Reason::*;
        if matches!(self.reason, Miss | TsbMiss | TableError | MultipleHit) {
            return None;
        }
        let r = &self.request;
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let context = if r.translating { r.space as u64 } else { SFSR_CT_NONE };
        Some(
            SFSR_FV
                | flag(old & SFSR_FV != 0, SFSR_OW)
                | flag(r.access == Access::Store, SFSR_W)
                | flag(r.supervisor, SFSR_PR)
                | context << 4
                | flag(self.side_effect, SFSR_E)
                | (self.fault_type as u64) << 7
                | (r.asi as u64) << 16
                | flag(r.no_fault, SFSR_NF),
        )
    }

    /// The SFAR of sun4u, which is set with the data MMU's SFSR.
    pub fn sfar(&self) -> Option<u64> {
        let set = self.sfsr(0).is_some() && self.request.access != Access::Fetch;
        set.then_some(self.kept())
    }

    /// The trap type that a sun4v guest takes once its hypervisor has looked at the hardware's.
    pub fn guest_trap(&self) -> u16 {
        match self.reason {
            Reason::Alignment
            | Reason::PrivilegedAction
            | Reason::Miss
            | Reason::TsbMiss
            | Reason::Protection => self.trap().number,
            // Nonresumable error.
            Reason::TableError | Reason::MultipleHit => 0x7f,
            _ if self.request.access == Access::Fetch => 0x08,
            _ => 0x30,
        }
    }

    /// What the hypervisor writes for the guest; `None` for errors.
    pub fn fault_area(&self) -> Option<FaultArea> {
        let fault_type = match self.reason {
            Reason::Miss => 1,
            Reason::Protection => 2,
            Reason::TsbMiss => 3,
            Reason::InvalidRealAddress | Reason::RealMiss => 4,
            Reason::Privilege => 5,
            Reason::NoExecute => 6,
            Reason::NoFaultOnly => 7,
            Reason::SideEffect => 8,
            Reason::AddressHole => 9,
            Reason::Asi => 10,
            Reason::NoncacheableAtomic => 11,
            Reason::PrivilegedAction => 12,
            Reason::Alignment => 14,
            Reason::TableError | Reason::MultipleHit => return None,
        };
        // The hypervisor has the address of a miss from Tag Access, whose low bits are the context.
        let page = matches!(self.reason, Reason::Miss | Reason::TsbMiss | Reason::Protection);
        Some(FaultArea {
            offset: if self.request.access == Access::Fetch { 0 } else { 0x40 },
            fault_type,
            address: if page { self.vaddr.0 & !0x1fff } else { self.vaddr.0 },
            context: self.request.context() as u64,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trap { name, number } = self.trap();
        let kind = if self.request.asi == asi::PRIMARY {
            String::new()
        } else {
            format!(" ASI {:#x}", self.request.asi)
        };
        write!(f, "{name} ({number:#04x}) at {:#x} on {}{kind}", self.vaddr.0, self.request.access)
    }
}
