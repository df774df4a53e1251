//! What a CPU contributes to a translation: PSW, control and access registers, and which space an access is in
//! (SA22-7832 chapters 3 and 5; reference s390x-mmu §1.4).

use super::entry::Asce;
use super::fault::{Fault, Reason};
use super::walk::{Controls, prefixing};
use crate::event::{Level, WalkEvent};
use crate::{Access, EntryStop, TableMemory, WalkStop};
use racewalk_ram::Vaddr;

/// The address space of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Space {
    /// The ASCE in control register 1.
    #[default]
    Primary,
    /// The space that the access register with this number designates.
    AccessRegister(u8),
    /// The ASCE in control register 7.
    Secondary,
    /// The ASCE in control register 13.
    Home,
}

impl Space {
    /// The address-space identification, as the TEID has it in bits 62-63 and the PSW in bits 16-17.
    pub fn id(self) -> u64 {
        match self {
            Space::Primary => 0,
            Space::AccessRegister(_) => 1,
            Space::Secondary => 2,
            Space::Home => 3,
        }
    }
}

/// Facilities that change what translation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facilities {
    /// Facility 8: enhanced DAT 1, frames of 1 MiB.
    pub edat1: bool,
    /// Facility 78: enhanced DAT 2, frames of 2 GiB.
    pub edat2: bool,
    /// Facility 130: instruction-execution protection.
    pub execution_protection: bool,
}

impl Facilities {
    /// All of them.
    pub const ALL: Facilities = Facilities { edat1: true, edat2: true, execution_protection: true };
}

/// The registers of one CPU that steer translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// The left half of the PSW.
    pub psw: u64,
    /// Control registers 0 to 15.
    pub cr: [u64; 16],
    /// Access registers 0 to 15.
    pub ar: [u32; 16],
    /// The prefix register: a multiple of 8 KiB below 2 GiB.
    pub prefix: u64,
    /// What the machine has.
    pub facilities: Facilities,
}

impl Default for Context {
    fn default() -> Self {
        Context { psw: Self::PSW_DAT, cr: [0; 16], ar: [0; 16], prefix: 0, facilities: Facilities::ALL }
    }
}

// Access-register translation reads these structures (reference s390x-mmu §1.5).
const ALET_RESERVED: u32 = 0xfe00_0000;
const ALET_PRIMARY_LIST: u32 = 0x0100_0000;
/// Where an address-space-number-second-table entry or a DUCT may lie: 64-byte steps below 2 GiB.
pub(super) const STEP_64: u64 = 0x7fff_ffc0;
/// Offset of the access-list designation, in both.
const ALD: u64 = 16;
pub(super) const ALD_ORIGIN: u64 = 0x7fff_ff80;
pub(super) const ALE_INVALID: u64 = 1 << 63;
pub(super) const ALE_FETCH_ONLY: u64 = 1 << 57;
pub(super) const ALE_PRIVATE: u64 = 1 << 56;
pub(super) const ASTE_INVALID: u64 = 1 << 63;
pub(super) const ASTE_AUTHORITY: u64 = 0x7fff_fffc << 32;

impl Context {
    /// PSW bit 5: DAT is on.
    pub const PSW_DAT: u64 = 1 << 58;
    /// CR0 bit 35: low-address protection.
    pub const CR0_LAP: u64 = 0x1000_0000;
    /// CR0 bit 38: fetch-protection override.
    pub const CR0_FETCH_OVERRIDE: u64 = 0x0200_0000;
    /// CR0 bit 39: storage-protection override.
    pub const CR0_STORAGE_OVERRIDE: u64 = 0x0100_0000;
    /// CR0 bit 40: enhanced DAT is enabled.
    pub const CR0_EDAT: u64 = 0x0080_0000;
    /// CR0 bit 43: instruction-execution protection is enabled.
    pub const CR0_IEP: u64 = 0x0010_0000;

    /// The access key: PSW bits 8-11.
    pub fn key(&self) -> u8 {
        (self.psw >> 52 & 15) as u8
    }

    /// Which space an access uses, when DAT is on. `base` is the access register that goes with the operand's base
    /// register; instructions come from the primary space, or in home-space mode from the home space.
    pub fn space(&self, access: Access, base: u8) -> Space {
        match (self.psw >> 46 & 3, access) {
            (3, _) => Space::Home,
            (_, Access::Fetch) | (0, _) => Space::Primary,
            (1, _) => Space::AccessRegister(base),
            _ => Space::Secondary,
        }
    }

    /// What a walk for this access goes by. In access-register mode this is access-register translation, which reads
    /// memory and has exceptions of its own.
    pub fn controls<M: TableMemory>(
        &self,
        memory: &M,
        va: Vaddr,
        access: Access,
        base: u8,
    ) -> Result<Controls, WalkStop<Fault>> {
        let dat = self.psw & Self::PSW_DAT != 0;
        let space = if dat { self.space(access, base) } else { Space::Primary };
        let edat1 = self.facilities.edat1 && self.cr[0] & Self::CR0_EDAT != 0;
        let mut c = Controls {
            dat,
            asce: Asce(self.cr[1]),
            space,
            low_address_protection: self.cr[0] & Self::CR0_LAP != 0,
            edat1,
            edat2: edat1 && self.facilities.edat2,
            execution_protection: self.facilities.execution_protection && self.cr[0] & Self::CR0_IEP != 0,
            prefix: self.prefix,
        };
        match space {
            Space::Primary => {}
            Space::Secondary => c.asce = Asce(self.cr[7]),
            Space::Home => c.asce = Asce(self.cr[13]),
            Space::AccessRegister(n) => {
                let t = Art { context: self, memory, va, access, space };
                c.asce = t.translate(if n == 0 { 0 } else { self.ar[n as usize & 15] })?;
            }
        }
        Ok(c)
    }
}

/// Access-register translation.
struct Art<'a, M> {
    context: &'a Context,
    memory: &'a M,
    va: Vaddr,
    access: Access,
    space: Space,
}

impl<M: TableMemory> Art<'_, M> {
    fn fault<T>(&self, reason: Reason) -> Result<T, WalkStop<Fault>> {
        let (name, code) = (reason.name(), reason.code() as u32);
        self.memory.event(WalkEvent::Fault { vaddr: self.va, name, code });
        Err(WalkStop::Fault(Fault { vaddr: self.va, access: self.access, reason, space: self.space }))
    }

    /// A doubleword of one of the structures, which lie at real addresses.
    fn load(&self, table: &'static str, real: u64) -> Result<u64, WalkStop<Fault>> {
        let addr = prefixing(self.context.prefix, real);
        match self.memory.load_entry(addr) {
            Ok(entry) => {
                self.memory.event(WalkEvent::Step { level: Level::ROOT, table, entry_addr: addr, entry });
                Ok(entry)
            }
            Err(EntryStop::Addressing) => self.fault(Reason::Addressing),
            Err(EntryStop::Cancelled) => Err(WalkStop::Cancelled),
        }
    }

    /// The steps of SA22-7832 "Access-Register Translation".
    fn translate(&self, alet: u32) -> Result<Asce, WalkStop<Fault>> {
        let cr = &self.context.cr;
        // 1. Two tokens need no list.
        match alet {
            0 => return Ok(Asce(cr[1])),
            1 => return Ok(Asce(cr[7])),
            _ => {}
        }
        if alet & ALET_RESERVED != 0 {
            return self.fault(Reason::AletSpecification);
        }
        // 2. The access list: the primary space's or the dispatchable unit's.
        let holder = if alet & ALET_PRIMARY_LIST != 0 { cr[5] } else { cr[2] } & STEP_64;
        let ald = self.load("access-list-designation", holder + ALD)? >> 32;
        let (origin, length) = (ald & ALD_ORIGIN, ald & 0x7f);
        let alen = (alet & 0xffff) as u64;
        if alen >> 3 > length {
            return self.fault(Reason::AlenTranslation);
        }
        // 3. Its entry.
        let ale = origin + alen * 16;
        let (left, right) = (self.load("access-list-0", ale)?, self.load("access-list-1", ale + 8)?);
        if left & ALE_INVALID != 0 {
            return self.fault(Reason::AlenTranslation);
        }
        if left >> 48 & 0xff != (alet >> 16 & 0xff) as u64 {
            return self.fault(Reason::AleSequence);
        }
        // 4. The space's ASN-second-table entry.
        let aste = right >> 32 & STEP_64;
        let word = self.load("asn-second-0", aste)?;
        if word & ASTE_INVALID != 0 {
            return self.fault(Reason::AsteValidity);
        }
        let asce = self.load("asn-second-1", aste + 8)?;
        let sequence = self.load("asn-second-2", aste + 16)? & 0xffff_ffff;
        if sequence != right & 0xffff_ffff {
            return self.fault(Reason::AsteSequence);
        }
        // 5. Authority over a private entry.
        let eax = cr[8] >> 16 & 0xffff;
        if left & ALE_PRIVATE != 0 && left >> 32 & 0xffff != eax && !self.authorised(word, eax)? {
            return self.fault(Reason::ExtendedAuthority);
        }
        if self.access == Access::Store && left & ALE_FETCH_ONLY != 0 {
            return self.fault(Reason::AccessListProtection);
        }
        Ok(Asce(asce))
    }

    /// The secondary-authority bit of the authority table for index `eax`.
    fn authorised(&self, aste: u64, eax: u64) -> Result<bool, WalkStop<Fault>> {
        let (origin, length) = ((aste & ASTE_AUTHORITY) >> 32, aste >> 4 & 0xfff);
        if eax >> 4 > length {
            return Ok(false);
        }
        // Two bits an index: primary and secondary authority.
        let real = origin + (eax >> 2);
        let word = self.load("authority", real & !7)?;
        let byte = word >> (56 - (real & 7) * 8);
        Ok(byte & 0x40 >> (eax % 4 * 2) != 0)
    }
}
