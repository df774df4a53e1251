//! Registers and bits of PAE paging by name, for people and for `.walk` files.

use super::context::{Context, Order};
use super::entry::{self, Pde, Pdpte, Pte};
use super::fault::Reason;
use super::walk::{load_pdptes, walk};
use crate::text::{Field, Format, Register, Table, Tables};
use crate::{Access, WalkStop};
use racewalk_ram::Vaddr;
use std::cell::Cell;

const XD: Field = Field::new("XD", entry::XD, "no execution (with EFER.NXE)");
const SOFTWARE: Field = Field::new("soft", entry::SOFTWARE, "free for software");
const G: Field = Field::new("G", entry::G, "global (with CR4.PGE)");
const D: Field = Field::new("D", entry::D, "dirty");
const A: Field = Field::new("A", entry::A, "accessed");
const PCD: Field = Field::new("PCD", entry::PCD, "not cached");
const PWT: Field = Field::new("PWT", entry::PWT, "write-through");
const US: Field = Field::new("U/S", entry::US, "for user code too");
const RW: Field = Field::new("R/W", entry::RW, "writable");
const P: Field = Field::new("P", entry::P, "present");

const PDPTE: &[Field] = &[Field::address("table", Pdpte::TABLE, "page directory"), SOFTWARE, PCD, PWT, P];

const PDE: &[Field] =
    &[XD, Field::address("table", Pde::TABLE, "page table"), SOFTWARE, A, PCD, PWT, US, RW, P];

const PDE_LARGE: &[Field] = &[
    XD,
    Field::address("frame", Pde::FRAME, "frame of 2 MiB"),
    Field::new("PAT", Pde::PAT, "memory type"),
    SOFTWARE,
    G,
    Field::new("PS", Pde::PS, "page size: maps 2 MiB"),
    D,
    A,
    PCD,
    PWT,
    US,
    RW,
    P,
];

const PTE: &[Field] = &[
    XD,
    Field::address("frame", Pte::FRAME, "frame of 4 KiB"),
    SOFTWARE,
    G,
    Field::new("PAT", Pte::PAT, "memory type"),
    D,
    A,
    PCD,
    PWT,
    US,
    RW,
    P,
];

const fn table(name: &'static str, about: &'static str, fields: fn(u64) -> &'static [Field]) -> Table {
    Table { name, about, register: false, fields }
}

const TABLES: &[Table] = &[
    table("page-directory-pointer", "page-directory-pointer-table entry, read by a load of CR3", |_| PDPTE),
    table("page-directory", "page-directory entry", |e| if e & Pde::PS != 0 { PDE_LARGE } else { PDE }),
    table("page-table", "page-table entry", |_| PTE),
];

const REGISTERS: &[Register] = &[
    Register {
        name: "cr3",
        about: "page-directory-pointer table; the next access loads the PDPTE registers from it",
    },
    Register { name: "wp", about: "CR0.WP (default 1)" },
    Register { name: "pge", about: "CR4.PGE (default 1)" },
    Register { name: "nxe", about: "EFER.NXE (default 1)" },
    Register { name: "user", about: "1 if CPL = 3" },
    Register { name: "maxphyaddr", about: "physical-address width, 32 to 52 (default 36)" },
    Register {
        name: "order",
        about: "how entries are read: 0 low word first (default), 1 high word first, 2 whole",
    },
];

/// The format as text deals with it.
#[derive(Clone, Debug, Default)]
pub struct Text {
    context: Cell<Context>,
    /// CR3, until an access has loaded the PDPTE registers from it.
    cr3: Cell<Option<u64>>,
}

impl Format for Text {
    fn name(&self) -> &'static str {
        "pae"
    }
    fn about(&self) -> &'static str {
        "x86 PAE paging with entries in two words, for the lab; memory is little-endian, so `mem` lines show entries reversed"
    }
    fn registers(&self) -> &'static [Register] {
        REGISTERS
    }
    fn set(&mut self, name: &str, value: u64) -> bool {
        let c = self.context.get_mut();
        match name {
            "cr3" => self.cr3.set(Some(value)),
            "wp" => c.write_protect = value != 0,
            "pge" => c.global_pages = value != 0,
            "nxe" => c.no_execute = value != 0,
            "user" => c.user = value != 0,
            "maxphyaddr" => c.maxphyaddr = value.clamp(32, 52) as u8,
            "order" => {
                c.order = match value {
                    0 => Order::LowFirst,
                    1 => Order::HighFirst,
                    _ => Order::Whole,
                }
            }
            _ => return false,
        }
        true
    }
    fn walk(&self, memory: &Tables, va: Vaddr, access: Access) -> Vec<(&'static str, u64)> {
        let mut c = self.context.get();
        let loaded = match self.cr3.get() {
            Some(cr3) => load_pdptes(memory, &c, cr3).map(|pdptes| {
                c.pdptes = pdptes;
                self.context.set(c);
                self.cr3.set(None);
            }),
            None => Ok(()),
        };
        match loaded.and_then(|()| walk(memory, &c, va, access)) {
            Ok(t) => {
                if t.global {
                    vec![("global", 1)]
                } else {
                    Vec::new()
                }
            }
            Err(WalkStop::Cancelled) => Vec::new(),
            Err(WalkStop::Fault(f)) => {
                let mut r = vec![("vector", f.reason.vector() as u64)];
                r.extend(f.error_code().map(|e| ("error-code", e as u64)));
                r.extend(f.cr2().map(|a| ("cr2", a)));
                r
            }
        }
    }
    fn tables(&self) -> &'static [Table] {
        TABLES
    }
    fn faults(&self) -> Vec<&'static str> {
        Reason::ALL.iter().map(|r| r.name()).collect()
    }
}
