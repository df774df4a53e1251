//! What a thread contributes to a translation: MSR, LPCR and the registers that name partition, process and keys
//! (reference ppc64-mmu §1.1).

use super::hash::{self, Slb, Version, entry::TableDesignation};
use super::radix;
use crate::Access;
use racewalk_ram::Vaddr;

/// How R and C of radix entries are set, where they are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Update {
    /// By software, after an interrupt that asks for it: POWER9.
    #[default]
    Interrupt,
    /// By the walker: it compares the entry with the one it used, and walks again if that has changed.
    Atomic,
}

/// How an effective address is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Through the tables.
    #[default]
    Virtual,
    /// Translation is off in hypervisor state: a real address, with the HRMOR.
    HypervisorReal,
    /// Translation is off in a partition: a guest real address.
    GuestReal,
    /// In a quadrant that the state of the thread does not have.
    NoQuadrant,
}

/// The registers of one thread that steer translation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// Machine state register.
    pub msr: u64,
    /// Logical partitioning control register.
    pub lpcr: u64,
    /// Partition table control register.
    pub ptcr: u64,
    /// Logical partition identification register: 12 bits.
    pub lpidr: u64,
    /// Process identification register: 20 bits.
    pub pidr: u64,
    /// Hypervisor real mode offset register.
    pub hrmor: u64,
    /// Authority mask register: two bits a key, the first denies stores, the second loads.
    pub amr: u64,
    /// Instruction authority mask register: the second bit of a key's two denies fetches.
    pub iamr: u64,
    /// How the machine sets R and C of radix entries.
    pub update: Update,
    /// Which architecture the hashed page table follows.
    pub version: Version,
    /// Storage description register 1: the hashed page table of ISA 2.x.
    pub sdr1: u64,
    /// Segment lookaside buffer.
    pub slb: Slb,
}

impl Default for Context {
    fn default() -> Self {
        let msr = Self::MSR_SF | Self::MSR_HV | Self::MSR_IR | Self::MSR_DR;
        let lpcr = Self::LPCR_HR | Self::LPCR_UPRT;
        Context {
            msr,
            lpcr,
            ptcr: 0,
            lpidr: 0,
            pidr: 0,
            hrmor: 0,
            amr: 0,
            iamr: 0,
            update: Update::default(),
            version: Version::default(),
            sdr1: 0,
            slb: Slb::default(),
        }
    }
}

/// Bits of a real address that an effective address has in real mode.
const REAL: u64 = 0x0fff_ffff_ffff_ffff;

impl Context {
    /// MSR bit 0: 64-bit mode.
    pub const MSR_SF: u64 = 1 << 63;
    /// MSR bit 3: hypervisor state (with PR = 0; with PR = 1 problem state of the host).
    pub const MSR_HV: u64 = 1 << 60;
    /// MSR bit 49: problem state.
    pub const MSR_PR: u64 = 0x4000;
    /// MSR bit 58: instruction addresses are translated.
    pub const MSR_IR: u64 = 0x20;
    /// MSR bit 59: data addresses are translated.
    pub const MSR_DR: u64 = 0x10;
    /// LPCR bit 1: a partition's storage interrupts in virtual mode are the hypervisor's.
    pub const LPCR_VPM1: u64 = 1 << 62;
    /// LPCR bit 2: the page sizes of segments are ignored.
    pub const LPCR_ISL: u64 = 1 << 61;
    /// LPCR bit 41: process table.
    pub const LPCR_UPRT: u64 = 0x40_0000;
    /// LPCR bit 43: the host uses radix trees.
    pub const LPCR_HR: u64 = 0x10_0000;
    /// LPCR bit 53: a partition may shoot down translations on other threads.
    pub const LPCR_GTSE: u64 = 0x400;
    /// LPCR bit 54: secondary groups are not searched.
    pub const LPCR_TC: u64 = 0x200;
    /// Width of the LPIDR.
    pub const LPID: u64 = 0xfff;
    /// Width of the PIDR.
    pub const PID: u64 = 0xf_ffff;

    /// Hypervisor state, or problem state below it.
    pub fn hypervisor(&self) -> bool {
        self.msr & Self::MSR_HV != 0
    }

    /// Problem state.
    pub fn problem(&self) -> bool {
        self.msr & Self::MSR_PR != 0
    }

    /// Whether addresses of such accesses are translated.
    pub fn translates(&self, access: Access) -> bool {
        self.msr & if access == Access::Fetch { Self::MSR_IR } else { Self::MSR_DR } != 0
    }

    /// The effective address as the mode has it: 32 bits outside 64-bit mode.
    pub fn effective(&self, va: Vaddr) -> Vaddr {
        if self.msr & Self::MSR_SF != 0 { va } else { Vaddr(va.0 & 0xffff_ffff) }
    }

    /// The address of an access with translation off: in hypervisor state the offset counts where bit 0 is zero; in a
    /// partition there is none.
    pub fn real(va: Vaddr, offset: u64) -> u64 {
        let offset = if va.0 >> 63 == 0 { offset } else { 0 };
        (va.0 | offset) & REAL
    }

    /// What a radix walk for this access goes by: quadrant, effective LPID and PID (ISA 3.0B Book III 6.7.10).
    #[inline]
    pub fn radix(&self, va: Vaddr, access: Access) -> radix::Controls {
        let hypervisor = self.hypervisor();
        let (lpidr, pidr) = (self.lpidr & Self::LPID, self.pidr & Self::PID);
        let (mode, lpid, pid) = if !self.translates(access) {
            if hypervisor { (Mode::HypervisorReal, 0, 0) } else { (Mode::GuestReal, lpidr, 0) }
        } else {
            match (va.0 >> 62, hypervisor) {
                (0, true) => (Mode::Virtual, 0, pidr),
                (0, false) => (Mode::Virtual, lpidr, pidr),
                (1, true) => (Mode::Virtual, lpidr, pidr),
                (2, true) => (Mode::Virtual, lpidr, 0),
                (3, true) => (Mode::Virtual, 0, 0),
                (3, false) => (Mode::Virtual, lpidr, 0),
                _ => (Mode::NoQuadrant, lpidr, pidr),
            }
        };
        let (problem, ptcr, hrmor) = (self.problem(), self.ptcr, self.hrmor);
        // Radix pages have key 0, the first two bits of both.
        let (amr, iamr) = (self.amr >> 62, self.iamr >> 62);
        let denied = ((amr & 1) << 2 | (amr & 2) | (iamr & 1)) as u8;
        let update = self.update;
        radix::Controls { mode, hypervisor, problem, lpid, pid, ptcr, hrmor, denied, update }
    }

    /// What a search of the hashed page table for this access goes by.
    #[inline]
    pub fn hash(&self, access: Access) -> hash::Controls<'_> {
        let mode = match (self.translates(access), self.hypervisor()) {
            (true, _) => Mode::Virtual,
            (false, true) => Mode::HypervisorReal,
            (false, false) => Mode::GuestReal,
        };
        hash::Controls {
            mode,
            problem: self.problem(),
            lpid: self.lpidr & Self::LPID,
            version: self.version,
            table: TableDesignation(self.sdr1),
            ptcr: self.ptcr,
            hrmor: self.hrmor,
            slb: &self.slb,
            amr: self.amr,
            iamr: self.iamr,
            secondary: self.lpcr & Self::LPCR_TC == 0,
            ignore_large: self.lpcr & Self::LPCR_ISL != 0,
            segment_tables: self.version == Version::V3 && self.lpcr & Self::LPCR_UPRT != 0,
            virtualized: !self.hypervisor() && self.lpcr & Self::LPCR_VPM1 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quadrants_by_state() {
        let of = |msr: u64, q: u64| {
            let c = Context { msr, lpidr: 5, pidr: 7, ..Context::default() };
            let r = c.radix(Vaddr(q << 62 | 0x1000), Access::Load);
            (r.mode, r.lpid, r.pid)
        };
        let (hv, guest) = (Context::MSR_HV | Context::MSR_DR, Context::MSR_DR);
        assert_eq!(
            [0, 1, 2, 3].map(|q| of(hv, q)),
            [(Mode::Virtual, 0, 7), (Mode::Virtual, 5, 7), (Mode::Virtual, 5, 0), (Mode::Virtual, 0, 0)]
        );
        assert_eq!((of(guest, 0), of(guest, 3)), ((Mode::Virtual, 5, 7), (Mode::Virtual, 5, 0)));
        assert_eq!((of(guest, 1).0, of(guest, 2).0), (Mode::NoQuadrant, Mode::NoQuadrant));
        assert_eq!((of(0, 1).0, of(Context::MSR_HV, 1).0), (Mode::GuestReal, Mode::HypervisorReal));
    }

    #[test]
    fn real_mode_offsets() {
        assert_eq!(Context::real(Vaddr(0x7000_0000_0000_2000), 0x1000_0000), 0x1000_2000);
        assert_eq!(Context::real(Vaddr(0xf000_0000_0000_2000), 0x1000_0000), 0x2000);
        let narrow = Context { msr: 0, ..Context::default() };
        assert_eq!(narrow.effective(Vaddr(0x1_2345_6789)), Vaddr(0x2345_6789));
    }
}
