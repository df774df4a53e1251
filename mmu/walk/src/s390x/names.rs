//! Registers and bits of z/Architecture translation by name, for people and for `.walk` files.

use super::context::Context;
use super::entry::{Asce, FrameBits, Pte, Rte, Ste};
use super::fault::Reason;
use super::walk::walk;
use crate::text::{Field, Format, Register, Table, Tables};
use crate::{Access, WalkStop};
use racewalk_ram::Vaddr;

const fn field(name: &'static str, mask: u64, about: &'static str) -> Field {
    Field { name, mask, about }
}

const TT: u64 = 0xc;
const TF: u64 = 0xc0;
const LENGTH: u64 = 0x3;

const ASCE: &[Field] = &[
    field("origin", Asce::ORIGIN, "origin of the designated table (real)"),
    field("G", Asce::G, "subspace group"),
    field("P", Asce::P, "private space: no low-address protection, no common segments"),
    field("S", Asce::S, "storage-alteration event (PER)"),
    field("X", Asce::X, "space-switch event"),
    field("R", Asce::R, "real space: no tables"),
    field("DT", TT, "designates 3 region-first, 2 region-second, 1 region-third, 0 segment table"),
    field("TL", LENGTH, "the table has (TL + 1) * 512 entries"),
];

const REGION: &[Field] = &[
    field("origin", Rte::ORIGIN, "origin of the next table (real)"),
    field("P", Rte::P, "DAT protection (with EDAT-1)"),
    field("TF", TF, "first quarter of the next table that exists"),
    field("I", Rte::I, "invalid"),
    field("CR", Rte::CR, "common region (region-third, with EDAT-2)"),
    field("TT", TT, "table type: 3 region-first, 2 region-second, 1 region-third"),
    field("TL", LENGTH, "last quarter of the next table that exists"),
];

const REGION_FRAME: &[Field] = &[
    field("RFAA", Rte::RFAA, "region frame of 2 GiB (absolute)"),
    field("AV", FrameBits::AV, "ACC and F are valid"),
    field("ACC", FrameBits::ACC, "access-control bits in place of the storage keys'"),
    field("F", FrameBits::F, "fetch protection in place of the storage keys'"),
    field("FC", Rte::FC, "format control: a frame, not a table (with EDAT-2)"),
    field("P", Rte::P, "DAT protection"),
    field("IEP", FrameBits::IEP, "instruction-execution protection"),
    field("I", Rte::I, "invalid"),
    field("CR", Rte::CR, "common region"),
    field("TT", TT, "table type: 1 region-third"),
];

const SEGMENT: &[Field] = &[
    field("origin", Ste::ORIGIN, "origin of the page table (real)"),
    field("P", Ste::P, "DAT protection"),
    field("I", Ste::I, "invalid"),
    field("CS", Ste::CS, "common segment"),
    field("TT", TT, "table type: 0 segment"),
];

const SEGMENT_FRAME: &[Field] = &[
    field("SFAA", Ste::SFAA, "segment frame of 1 MiB (absolute)"),
    field("AV", FrameBits::AV, "ACC and F are valid"),
    field("ACC", FrameBits::ACC, "access-control bits in place of the storage keys'"),
    field("F", FrameBits::F, "fetch protection in place of the storage keys'"),
    field("FC", Ste::FC, "format control: a frame, not a table (with EDAT-1)"),
    field("P", Ste::P, "DAT protection"),
    field("IEP", FrameBits::IEP, "instruction-execution protection"),
    field("I", Ste::I, "invalid"),
    field("CS", Ste::CS, "common segment"),
    field("TT", TT, "table type: 0 segment"),
];

const PAGE: &[Field] = &[
    field("PFRA", Pte::PFRA, "page frame of 4 KiB (real)"),
    field("bit 52", Pte::ZERO, "must be zero: translation-specification exception"),
    field("I", Pte::I, "invalid"),
    field("P", Pte::P, "DAT protection"),
    field("IEP", Pte::IEP, "instruction-execution protection"),
    field("soft", Pte::SOFTWARE, "free for software"),
];

const TABLES: &[Table] = &[
    Table { name: "asce", about: "address-space-control element (CR1, CR7, CR13)", fields: |_| ASCE },
    Table { name: "region-first", about: "region-first-table entry", fields: |_| REGION },
    Table { name: "region-second", about: "region-second-table entry", fields: |_| REGION },
    Table {
        name: "region-third",
        about: "region-third-table entry",
        fields: |e| if e & Rte::FC != 0 { REGION_FRAME } else { REGION },
    },
    Table {
        name: "segment",
        about: "segment-table entry",
        fields: |e| if e & Ste::FC != 0 { SEGMENT_FRAME } else { SEGMENT },
    },
    Table { name: "page", about: "page-table entry", fields: |_| PAGE },
];

const REGISTERS: &[Register] = &[
    Register { name: "psw", about: "left half of the PSW: DAT (bit 5), key (8-11), address space (16-17)" },
    Register { name: "cr0", about: "control register 0: LAP (35), overrides (38, 39), EDAT (40), IEP (43)" },
    Register { name: "cr1", about: "control register 1: primary ASCE" },
    Register { name: "cr2", about: "control register 2: dispatchable-unit-control-table origin" },
    Register { name: "cr5", about: "control register 5: primary-ASTE origin" },
    Register { name: "cr7", about: "control register 7: secondary ASCE" },
    Register { name: "cr8", about: "control register 8: extended authorization index (32-47)" },
    Register { name: "cr13", about: "control register 13: home ASCE" },
    Register { name: "prefix", about: "prefix register" },
    Register { name: "base", about: "the access register that the operand's base register goes with" },
    Register { name: "alet", about: "what that access register holds" },
    Register { name: "edat1", about: "1 if facility 8 is installed (default)" },
    Register { name: "edat2", about: "1 if facility 78 is installed (default)" },
    Register { name: "iep", about: "1 if facility 130 is installed (default)" },
];

/// The format as text deals with it.
#[derive(Clone, Debug, Default)]
pub struct Text {
    context: Context,
    base: u8,
}

impl Format for Text {
    fn name(&self) -> &'static str {
        "s390x"
    }
    fn about(&self) -> &'static str {
        "z/Architecture dynamic address translation (SA22-7832 chapter 3)"
    }
    fn registers(&self) -> &'static [Register] {
        REGISTERS
    }
    fn set(&mut self, name: &str, value: u64) -> bool {
        let c = &mut self.context;
        match name {
            "psw" => c.psw = value,
            "prefix" => c.prefix = value & 0x7fff_e000,
            "base" => self.base = (value & 15) as u8,
            "alet" => c.ar[self.base as usize] = value as u32,
            "edat1" => c.facilities.edat1 = value != 0,
            "edat2" => c.facilities.edat2 = value != 0,
            "iep" => c.facilities.execution_protection = value != 0,
            _ => match name.strip_prefix("cr").and_then(|n| n.parse::<usize>().ok()) {
                Some(n) if REGISTERS.iter().any(|r| r.name == name) => c.cr[n] = value,
                _ => return false,
            },
        }
        true
    }
    fn walk(&self, memory: &Tables, va: Vaddr, access: Access) -> Vec<(&'static str, u64)> {
        let walked =
            self.context.controls(memory, va, access, self.base).and_then(|c| walk(memory, &c, va, access));
        match walked {
            Ok(t) => t.leaf.key.map(|k| ("key", k as u64)).into_iter().collect(),
            Err(WalkStop::Cancelled) => Vec::new(),
            Err(WalkStop::Fault(f)) => {
                let mut r = vec![("pic", f.reason.code() as u64)];
                r.extend(f.teid().map(|t| ("teid", t)));
                r.extend(f.access_id().map(|n| ("access-id", n as u64)));
                r
            }
        }
    }
    fn tables(&self) -> &'static [Table] {
        TABLES
    }
    fn faults(&self) -> Vec<&'static str> {
        // Key-controlled protection is a matter of frames, not of tables.
        Reason::ALL.iter().filter(|r| **r != Reason::KeyProtection).map(|r| r.name()).collect()
    }
}
