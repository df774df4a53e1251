//! Registers and bits of z/Architecture translation by name, for people and for `.walk` files.

use super::context::{self, Context};
use super::entry::{Asce, FrameBits, Pte, Rte, Ste};
use super::fault::Reason;
use super::walk::walk;
use crate::text::{Field, Format, Register, Table, Tables};
use crate::{Access, WalkStop};
use racewalk_ram::Vaddr;

const TT: u64 = 0xc;
const TF: u64 = 0xc0;
const LENGTH: u64 = 0x3;

const ASCE: &[Field] = &[
    Field::address("origin", Asce::ORIGIN, "origin of the designated table (real)"),
    Field::new("G", Asce::G, "subspace group"),
    Field::new("P", Asce::P, "private space: no low-address protection, no common segments"),
    Field::new("S", Asce::S, "storage-alteration event (PER)"),
    Field::new("X", Asce::X, "space-switch event"),
    Field::new("R", Asce::R, "real space: no tables"),
    Field::new("DT", TT, "designates 3 region-first, 2 region-second, 1 region-third, 0 segment table"),
    Field::new("TL", LENGTH, "the table has (TL + 1) * 512 entries"),
];

const REGION: &[Field] = &[
    Field::address("origin", Rte::ORIGIN, "origin of the next table (real)"),
    Field::new("P", Rte::P, "DAT protection (with EDAT-1)"),
    Field::new("TF", TF, "first quarter of the next table that exists"),
    Field::new("I", Rte::I, "invalid"),
    Field::new("CR", Rte::CR, "common region (region-third, with EDAT-2)"),
    Field::new("TT", TT, "table type: 3 region-first, 2 region-second, 1 region-third"),
    Field::new("TL", LENGTH, "last quarter of the next table that exists"),
];

const REGION_FRAME: &[Field] = &[
    Field::address("RFAA", Rte::RFAA, "region frame of 2 GiB (absolute)"),
    Field::new("AV", FrameBits::AV, "ACC and F are valid"),
    Field::new("ACC", FrameBits::ACC, "access-control bits in place of the storage keys'"),
    Field::new("F", FrameBits::F, "fetch protection in place of the storage keys'"),
    Field::new("FC", Rte::FC, "format control: a frame, not a table (with EDAT-2)"),
    Field::new("P", Rte::P, "DAT protection"),
    Field::new("IEP", FrameBits::IEP, "instruction-execution protection"),
    Field::new("I", Rte::I, "invalid"),
    Field::new("CR", Rte::CR, "common region"),
    Field::new("TT", TT, "table type: 1 region-third"),
];

const SEGMENT: &[Field] = &[
    Field::address("origin", Ste::ORIGIN, "origin of the page table (real)"),
    Field::new("P", Ste::P, "DAT protection"),
    Field::new("I", Ste::I, "invalid"),
    Field::new("CS", Ste::CS, "common segment"),
    Field::new("TT", TT, "table type: 0 segment"),
];

const SEGMENT_FRAME: &[Field] = &[
    Field::address("SFAA", Ste::SFAA, "segment frame of 1 MiB (absolute)"),
    Field::new("AV", FrameBits::AV, "ACC and F are valid"),
    Field::new("ACC", FrameBits::ACC, "access-control bits in place of the storage keys'"),
    Field::new("F", FrameBits::F, "fetch protection in place of the storage keys'"),
    Field::new("FC", Ste::FC, "format control: a frame, not a table (with EDAT-1)"),
    Field::new("P", Ste::P, "DAT protection"),
    Field::new("IEP", FrameBits::IEP, "instruction-execution protection"),
    Field::new("I", Ste::I, "invalid"),
    Field::new("CS", Ste::CS, "common segment"),
    Field::new("TT", TT, "table type: 0 segment"),
];

const PAGE: &[Field] = &[
    Field::address("PFRA", Pte::PFRA, "page frame of 4 KiB (real)"),
    Field::new("bit 52", Pte::ZERO, "must be zero: translation-specification exception"),
    Field::new("I", Pte::I, "invalid"),
    Field::new("P", Pte::P, "DAT protection"),
    Field::new("IEP", Pte::IEP, "instruction-execution protection"),
    Field::new("soft", Pte::SOFTWARE, "free for software"),
];

const LIST_DESIGNATION: &[Field] = &[
    Field::address("ALO", context::ALD_ORIGIN << 32, "access-list origin, in the left word"),
    Field::new("ALL", 0x7f << 32, "the list has (ALL + 1) * 8 entries"),
    Field::new("word", 0xffff_ffff, "the word behind the designation"),
];

const LIST_0: &[Field] = &[
    Field::new("I", context::ALE_INVALID, "invalid"),
    Field::new("FO", context::ALE_FETCH_ONLY, "fetch only"),
    Field::new("P", context::ALE_PRIVATE, "private: authority is asked for"),
    Field::new("ALESN", 0xff << 48, "sequence number, to equal the token's"),
    Field::new("ALEAX", 0xffff << 32, "authorization index that needs no table"),
];

const LIST_1: &[Field] = &[
    Field::address("ASTEO", context::STEP_64 << 32, "origin of the ASN-second-table entry, in the left word"),
    Field::new("ASTESN", 0xffff_ffff, "sequence number, to equal that entry's"),
];

const SECOND_0: &[Field] = &[
    Field::new("I", context::ASTE_INVALID, "invalid"),
    Field::address("ATO", context::ASTE_AUTHORITY, "authority-table origin, in the left word"),
    Field::new("AX", 0xffff << 16, "authorization index"),
    Field::new("ATL", 0xfff << 4, "the authority table has (ATL + 1) * 16 entries"),
];

const SECOND_2: &[Field] = &[
    Field::new("ALD", 0xffff_ffff << 32, "access-list designation of the space, in the left word"),
    Field::new("ASTESN", 0xffff_ffff, "sequence number"),
];

const AUTHORITY: &[Field] = &[Field::new("bits", u64::MAX, "primary and secondary authority of 32 indexes")];

const fn table(name: &'static str, about: &'static str, fields: fn(u64) -> &'static [Field]) -> Table {
    Table { name, about, register: false, fields }
}

const TABLES: &[Table] = &[
    Table {
        name: "asce",
        about: "address-space-control element (CR1, CR7, CR13)",
        register: true,
        fields: |_| ASCE,
    },
    table("region-first", "region-first-table entry", |_| REGION),
    table("region-second", "region-second-table entry", |_| REGION),
    table(
        "region-third",
        "region-third-table entry",
        |e| if e & Rte::FC != 0 { REGION_FRAME } else { REGION },
    ),
    table("segment", "segment-table entry", |e| if e & Ste::FC != 0 { SEGMENT_FRAME } else { SEGMENT }),
    table("page", "page-table entry", |_| PAGE),
    table("access-list-designation", "access-list designation (left word)", |_| LIST_DESIGNATION),
    table("access-list-0", "access-list entry, first doubleword", |_| LIST_0),
    table("access-list-1", "access-list entry, second doubleword", |_| LIST_1),
    table("asn-second-0", "ASN-second-table entry, first doubleword", |_| SECOND_0),
    table("asn-second-1", "ASN-second-table entry, second doubleword: the ASCE", |_| ASCE),
    table("asn-second-2", "ASN-second-table entry, third doubleword", |_| SECOND_2),
    table("authority", "eight bytes of the authority table: two bits an authorization index", |_| AUTHORITY),
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
