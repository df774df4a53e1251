//! Registers and bits of Power translation by name, for people and for `.walk` files.

use super::context::{Context, Update};
use super::fault::Reason;
use super::hash::entry::TableDesignation;
use super::hash::{self, Hpte, Version};
use super::radix::{self, Entry, PartitionEntry, Root};
use crate::text::{Field, Format, Register, Table, Tables};
use crate::{Access, WalkStop};
use racewalk_ram::Vaddr;

const ROOT: &[Field] = &[
    Field::new("HR", PartitionEntry::HR, "the partition uses radix trees (partition-table entry)"),
    Field::new("RTS1", 3 << 61, "upper bits of RTS: the tree translates RTS + 31 bits"),
    Field::address("RPDB", Root::RPDB, "base of the root page directory"),
    Field::new("RTS2", 0xe0, "lower bits of RTS"),
    Field::new("RPDS", Root::RPDS, "the root page directory has 2^RPDS entries"),
];

const PARTITION_1: &[Field] = &[
    Field::address(
        "PRTB",
        PartitionEntry::PRTB,
        "base of the process table, translated by the partition-scoped tree",
    ),
    Field::new("PRTS", PartitionEntry::PRTS, "the process table has 2^(12 + PRTS) bytes"),
];

const DIRECTORY: &[Field] = &[
    Field::new("V", Entry::V, "valid"),
    Field::address("NLB", Entry::NLB, "base of the next table"),
    Field::new("NLS", Entry::NLS, "the next table has 2^NLS entries"),
];

const LEAF: &[Field] = &[
    Field::new("V", Entry::V, "valid"),
    Field::new("L", Entry::L, "leaf: maps a page"),
    Field::address("RPN", Entry::RPN, "address of the page"),
    Field::new("soft", Entry::SOFTWARE, "free for software"),
    Field::new("R", Entry::R, "referenced"),
    Field::new("C", Entry::C, "changed"),
    Field::new("ATT", Entry::ATT, "0 normal memory, 1 SAO, 2 non-idempotent I/O, 3 tolerant I/O"),
    Field::new("P", Entry::PRIVILEGED, "privileged"),
    Field::new("Rd", Entry::READ, "loads are permitted"),
    Field::new("RW", Entry::WRITE, "loads and stores are permitted"),
    Field::new("X", Entry::EXECUTE, "fetches are permitted"),
];

const fn table(name: &'static str, about: &'static str, fields: fn(u64) -> &'static [Field]) -> Table {
    Table { name, about, register: false, fields }
}

fn radix_entry(e: u64) -> &'static [Field] {
    if e & Entry::L != 0 { LEAF } else { DIRECTORY }
}

const RADIX_TABLES: &[Table] = &[
    table("partition-0", "partition-table entry, first doubleword: the partition-scoped tree", |_| ROOT),
    table("partition-1", "partition-table entry, second doubleword: the process table", |_| PARTITION_1),
    table("process-0", "process-table entry, first doubleword: the process's tree", |_| ROOT),
    table("page-directory", "entry of a page directory of the process", radix_entry),
    table("page-table", "entry of a page table of the process", radix_entry),
    table("partition-directory", "entry of a partition-scoped page directory", radix_entry),
    table("partition-page-table", "entry of a partition-scoped page table", radix_entry),
];

const MSR: Register =
    Register { name: "msr", about: "machine state: SF (0), HV (3), PR (49), IR (58), DR (59)" };
const AMR: Register = Register { name: "amr", about: "authority mask: two bits a key, no store, no load" };
const IAMR: Register =
    Register { name: "iamr", about: "instruction authority mask: the second bit of a key denies fetches" };
const LPIDR: Register = Register { name: "lpidr", about: "logical partition identification" };
const PTCR: Register = Register { name: "ptcr", about: "partition table control: PATB (4-51), PATS (59-63)" };
const HRMOR: Register = Register { name: "hrmor", about: "hypervisor real mode offset" };

const RADIX_REGISTERS: &[Register] = &[
    MSR,
    PTCR,
    LPIDR,
    Register { name: "pidr", about: "process identification" },
    AMR,
    IAMR,
    HRMOR,
    Register { name: "rc", about: "1 if the walker sets R and C, 0 (default) if software is to" },
];

/// Sets what both formats have.
fn set(c: &mut Context, name: &str, value: u64) -> bool {
    match name {
        "msr" => c.msr = value,
        "ptcr" => c.ptcr = value,
        "lpidr" => c.lpidr = value & Context::LPID,
        "pidr" => c.pidr = value & Context::PID,
        "amr" => c.amr = value,
        "iamr" => c.iamr = value,
        "hrmor" => c.hrmor = value,
        "rc" => c.update = if value != 0 { Update::Atomic } else { Update::Interrupt },
        _ => return false,
    }
    true
}

/// Radix trees as text deals with them.
#[derive(Clone, Debug, Default)]
pub struct RadixText {
    context: Context,
}

impl Format for RadixText {
    fn name(&self) -> &'static str {
        "ppc64-radix"
    }
    fn about(&self) -> &'static str {
        "radix trees of Power ISA 3.0 (Book III 6.7) as on POWER9 and POWER10"
    }
    fn registers(&self) -> &'static [Register] {
        RADIX_REGISTERS
    }
    fn set(&mut self, name: &str, value: u64) -> bool {
        RADIX_REGISTERS.iter().any(|r| r.name == name) && set(&mut self.context, name, value)
    }
    fn walk(&self, memory: &Tables, va: Vaddr, access: Access) -> Vec<(&'static str, u64)> {
        let va = self.context.effective(va);
        match radix::walk(memory, &self.context.radix(va, access), va, access) {
            Err(WalkStop::Fault(f)) => f.registers(),
            Ok(_) | Err(WalkStop::Cancelled) => Vec::new(),
        }
    }
    fn tables(&self) -> &'static [Table] {
        RADIX_TABLES
    }
    fn faults(&self) -> Vec<&'static str> {
        Reason::RADIX.iter().map(|r| r.name()).collect()
    }
}

const HASH_PARTITION: &[Field] = &[
    Field::new("HR", PartitionEntry::HR, "the partition uses radix trees"),
    Field::address("HTABORG", TableDesignation::HTABORG, "origin of the page table"),
    Field::new("PS", 0xe0, "base page size of the virtual real mode area"),
    Field::new("HTABSIZE", TableDesignation::HTABSIZE, "the page table has 2^(11 + HTABSIZE) groups"),
];

const FIRST: &[Field] = &[
    Field::new("B", Hpte::B_V2, "segment size (ISA 2.x): 0 256M, 1 1T"),
    Field::new(
        "AVPN",
        Hpte::AVPN_V2,
        "virtual address without its 23 lower bits (ISA 3.0: without B and four bits more)",
    ),
    Field::new("soft", Hpte::SOFTWARE, "free for software"),
    Field::new("L", Hpte::L, "the LP field tells the page size"),
    Field::new("H", Hpte::H, "in the secondary group"),
    Field::new("V", Hpte::V, "valid"),
];

const SECOND: &[Field] = &[
    Field::new("PP0", Hpte::PP0, "page protection, first bit"),
    Field::new("KEY", Hpte::KEY_HIGH, "upper bits of the key"),
    Field::new("B", Hpte::B_V3, "segment size (ISA 3.0): 0 256M, 1 1T"),
    Field::address("ARPN", Hpte::RPN_V3, "page address, with the LP field in its lower bits where L = 1"),
    Field::new("key", Hpte::KEY_LOW, "lower bits of the key"),
    Field::new("R", Hpte::R, "referenced"),
    Field::new("C", Hpte::C, "changed"),
    Field::new("WIM", Hpte::WIM, "write through, caching inhibited, memory coherence"),
    Field::new("G", Hpte::G, "guarded"),
    Field::new("N", Hpte::N, "no execute"),
    Field::new("PP", Hpte::PP, "page protection, last bits"),
];

const SLB_VSID: &[Field] = &[
    Field::new("B", hash::slb::VSID_B, "segment size: 0 256M, 1 1T"),
    Field::new("VSID", hash::slb::VSID, "virtual segment id; of 1T without the last 12 bits"),
    Field::new("Ks", hash::slb::VSID_KS, "storage key of privileged accesses"),
    Field::new("Kp", hash::slb::VSID_KP, "storage key of accesses in problem state"),
    Field::new("N", hash::slb::VSID_N, "no execute"),
    Field::new("L", hash::slb::VSID_L, "with LP: 1 0 16M, 1 1 64K, 1 2 16G"),
    Field::new("C", hash::slb::VSID_C, "class"),
    Field::new("LP", hash::slb::VSID_LP, "with L: 0 0 4K"),
];

const HASH_TABLES: &[Table] = &[
    table("partition-0", "partition-table entry, first doubleword: the page table", |_| HASH_PARTITION),
    table("primary-group-0", "page-table entry in the primary group, first doubleword", |_| FIRST),
    table("primary-group-1", "page-table entry in the primary group, second doubleword", |_| SECOND),
    table("secondary-group-0", "page-table entry in the secondary group, first doubleword", |_| FIRST),
    table("secondary-group-1", "page-table entry in the secondary group, second doubleword", |_| SECOND),
    Table { name: "slb-vsid", about: "SLB entry as RS of slbmte", register: true, fields: |_| SLB_VSID },
];

const HASH_REGISTERS: &[Register] = &[
    MSR,
    Register { name: "lpcr", about: "LPAR control: VPM1 (1), ISL (2), UPRT (41), TC (54)" },
    Register { name: "isa", about: "2: page table by SDR1; 3 (default): by the partition table" },
    Register { name: "sdr1", about: "HTABORG (4-45) and HTABSIZE (59-63) of ISA 2.x" },
    PTCR,
    LPIDR,
    AMR,
    IAMR,
    HRMOR,
    Register { name: "slb-rs", about: "RS of the slbmte that setting slb-rb makes" },
    Register { name: "slb-rb", about: "slbmte: ESID (0-35), V (36), index (52-63)" },
];

/// The hashed page table as text deals with it.
#[derive(Clone, Debug)]
pub struct HashText {
    context: Context,
    slb_rs: u64,
}

impl Default for HashText {
    fn default() -> Self {
        HashText { context: Context { lpcr: 0, ..Context::default() }, slb_rs: 0 }
    }
}

impl Format for HashText {
    fn name(&self) -> &'static str {
        "ppc64-hash"
    }
    fn about(&self) -> &'static str {
        "segments and hashed page table of Power ISA 2.x and 3.0 (Book III 6.7.8)"
    }
    fn registers(&self) -> &'static [Register] {
        HASH_REGISTERS
    }
    fn set(&mut self, name: &str, value: u64) -> bool {
        let c = &mut self.context;
        match name {
            "lpcr" => c.lpcr = value,
            "isa" => c.version = if value == 2 { Version::V2 } else { Version::V3 },
            "sdr1" => c.sdr1 = value,
            "slb-rs" => self.slb_rs = value,
            "slb-rb" => return c.slb.slbmte(self.slb_rs, value),
            _ => return HASH_REGISTERS.iter().any(|r| r.name == name) && set(c, name, value),
        }
        true
    }
    fn walk(&self, memory: &Tables, va: Vaddr, access: Access) -> Vec<(&'static str, u64)> {
        let va = self.context.effective(va);
        match hash::walk(memory, &self.context.hash(access), va, access) {
            Err(WalkStop::Fault(f)) => f.registers(),
            Ok(_) | Err(WalkStop::Cancelled) => Vec::new(),
        }
    }
    fn tables(&self) -> &'static [Table] {
        HASH_TABLES
    }
    fn faults(&self) -> Vec<&'static str> {
        Reason::HASH.iter().map(|r| r.name()).collect()
    }
}
