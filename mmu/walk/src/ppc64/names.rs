//! Registers and bits of Power translation by name, for people and for `.walk` files.

use super::context::{Context, Update};
use super::fault::Reason;
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
    Field::address("PRTB", PartitionEntry::PRTB, "base of the process table (in a partition guest real)"),
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
