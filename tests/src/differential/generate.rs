//! Random sequences: each item is an instruction from the opcode table, with what gives its operands meaning.
//!
//! Base registers are set by LOAD ADDRESS RELATIVE LONG right before the instruction, so that it works on the data
//! area whatever the instructions before it left; every other register is what they left, or a boundary value.
//! Branches go forward. What works in units that the CPU chooses is repeated while the condition code is 3.

use super::encode::{Fields, encode};
use super::rng::Rng;
use super::sequence::{CODE_BYTES, Item, Patch, Piece, Pooled, Sequence, State, To};
use super::special;
use super::values::{self, Class, DATA_BYTES, DECIMAL, Fmt, IMAGE_BYTES};
use racewalk_isa::s390x::decode::{Format, Row};
use racewalk_isa::s390x::table::ROWS;
use racewalk_isa::s390x::{PRIVILEGED, S390x, SPECIFICATION};
use racewalk_isa::scan::{Scan, Terminator, scan};
use racewalk_isa::{Arch, Exc};
use std::sync::LazyLock;

/// Most items of a sequence.
const ITEMS: usize = 9;

/// What an instruction may do, as the engines see it.
pub fn scanned(bytes: &[u8; 6]) -> Scan {
    let len = S390x::insn_len([bytes[0], bytes[1]]);
    scan::<S390x>(&S390x::decode(0x1000, &bytes[..len]))
}

/// The rows that are generated: all but those that end a run because they are not modelled. A privileged
/// operation, which only traps, stands here once; the others stand here six times.
pub static POOL: LazyLock<Vec<&'static Row>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for row in ROWS {
        let times = match scanned(&encode(row, &Fields::default())).terminator {
            Terminator::Trap(Exc::NOT_MODELLED) => 0,
            Terminator::Trap(PRIVILEGED) => 1,
            _ => 6,
        };
        all.resize(all.len() + times, row);
    }
    all
});

/// The mnemonics that are generated.
pub fn mnemonics() -> Vec<&'static str> {
    let mut all: Vec<_> = POOL.iter().map(|r| r.name).collect();
    all.dedup();
    all
}

/// Whether the register fields are floating-point registers.
pub fn is_float(row: &Row) -> bool {
    matches!(row.code >> 8, 0xb3 | 0xed) || matches!(row.code, 0x28 | 0x38 | 0x68 | 0x78 | 0x60 | 0x70)
}

/// The format of (most of) the operands of a floating-point instruction: the letter before the `b` of its name.
fn float_format(row: &Row) -> Fmt {
    let stem = row.name.trim_end_matches('r').trim_end_matches('b');
    match (stem.chars().last(), row.name) {
        (_, "ld" | "ldy" | "std" | "stdy" | "ldr") | (Some('d'), _) => Fmt::Long,
        (Some('x'), _) => Fmt::Extended,
        _ => Fmt::Short,
    }
}

/// An item being built.
pub struct Build<'a> {
    /// Where randomness comes from.
    pub r: &'a mut Rng,
    /// The instructions so far.
    pub pieces: Vec<Piece>,
    /// What lies behind the code.
    pub pool: Vec<Pooled>,
    /// General registers that hold operands of this item: bit `n` for register `n`.
    pub used: u16,
    /// See [`Item::units`].
    pub units: bool,
    /// See [`Item::subject`].
    pub subject: Option<&'static Row>,
    /// Which of the four groups of floating-point registers holds which format.
    formats: [Fmt; 4],
}

/// A row by name; the names in this module are in the table.
pub fn row(name: &str) -> &'static Row {
    let found = ROWS.iter().find(|r| r.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the opcode table"))
}

impl Build<'_> {
    /// Adds an instruction.
    pub fn push(&mut self, name: &str, f: Fields, to: To) {
        self.pieces.push(Piece { bytes: encode(row(name), &f), to });
    }

    /// Takes a register that holds nothing of this item; never 0.
    pub fn fresh(&mut self) -> u8 {
        loop {
            let n = 1 + self.r.below(15) as u8;
            if self.used >> n & 1 == 0 {
                self.used |= 1 << n;
                return n;
            }
        }
    }

    /// Takes an even-odd pair that holds nothing of this item; never 0 and 1.
    pub fn pair(&mut self) -> u8 {
        loop {
            let n = 2 + 2 * self.r.below(7) as u8;
            if self.used >> n & 3 == 0 {
                self.used |= 3 << n;
                return n;
            }
        }
    }

    /// Sets register `r` to the address of an offset in the data area.
    pub fn address(&mut self, r: u8, at: i32) {
        self.used |= 1 << r;
        self.push("larl", Fields { r1: r, ..Default::default() }, To::Data(at & !1));
        if at & 1 != 0 {
            self.push("la", Fields { r1: r, b: r, d: 1, ..Default::default() }, To::None);
        }
    }

    /// Sets register `r` to a constant.
    pub fn constant(&mut self, r: u8, v: u64) {
        self.used |= 1 << r;
        if v as i64 == v as i16 as i64 {
            self.push("lghi", Fields { r1: r, i: v as i64, ..Default::default() }, To::None);
        } else {
            self.pool.push(Pooled::Constant(v));
            let at = To::Pool(self.pool.len() as u8 - 1);
            self.push("lgrl", Fields { r1: r, ..Default::default() }, at);
        }
    }

    /// Sets register `r` to an address of code ahead.
    pub fn label(&mut self, r: u8) {
        self.used |= 1 << r;
        let ahead = To::Ahead(1 + self.r.below(2) as u8);
        self.push("larl", Fields { r1: r, ..Default::default() }, ahead);
    }

    /// An offset for an operand of a class: mostly where such operands are, sometimes unaligned, across pages, on
    /// the read-only page, or beyond an end.
    pub fn place(&mut self, c: Class) -> i32 {
        let (at, len) = c.region();
        let align = |r: &mut Rng| if r.chance(85) { r.pick(&[16, 16, 8]) } else { r.pick(&[1, 2, 4]) };
        let at = match self.r.below(100) {
            0..70 => at + self.r.below(len),
            70..82 => self.r.below(DATA_BYTES - 0x100),
            82..92 => 0x1000 - self.r.below(20),
            92..96 => DATA_BYTES - 1 - self.r.below(40),
            96 => DATA_BYTES + self.r.below(0x1000),
            97 => IMAGE_BYTES - self.r.below(20),
            98 => return -(self.r.below(12) as i32),
            _ => at,
        };
        match c {
            Class::Integer | Class::Float(_) | Class::Fpc => (at & !(align(self.r) - 1)) as i32,
            Class::Utf16 => (at & !1) as i32,
            Class::Utf32 => (at & !3) as i32,
            _ => at as i32,
        }
    }

    /// An offset for a packed number of `len` bytes: mostly one that ends where a number does.
    pub fn decimal(&mut self, len: usize) -> i32 {
        let (at, bytes) = Class::Decimal.region();
        if self.r.chance(20) {
            return self.place(Class::Decimal);
        }
        let end =
            DECIMAL * (1 + self.r.below(bytes / DECIMAL)) - if self.r.chance(10) { DECIMAL / 2 } else { 0 };
        (at + end) as i32 - len as i32
    }

    /// Tries places until one keeps a distance from another operand: where overlapping operands have
    /// unpredictable results.
    pub fn apart(&mut self, c: Class, from: i32, distance: i32) -> i32 {
        loop {
            let at = self.place(c);
            if (at - from).abs() > distance {
                return at;
            }
        }
    }

    /// A storage operand at an offset: base, index (0 if `indexed` is not set) and displacement, and the
    /// instructions that set them.
    pub fn storage(&mut self, at: i32, indexed: bool, long: bool) -> (u8, u8, i32) {
        let mut rest = at;
        let d = match self.r.below(10) {
            0..6 => self.r.below(32) as i32,
            6 | 7 => self.r.below(4096) as i32,
            _ if long => self.r.below(1 << 20) as i32 - (1 << 19),
            _ => 4095,
        };
        rest -= d;
        let mut x = 0;
        if indexed && self.r.chance(30) {
            x = self.fresh();
            let v = self.r.below(200) as i32 - 100;
            self.constant(x, v as i64 as u64);
            rest -= v;
        }
        let b = self.fresh();
        self.address(b, rest);
        // Index and base may change places.
        if x != 0 && self.r.chance(50) { (x, b, d) } else { (b, x, d) }
    }

    /// A floating-point register that begins with a value of a format.
    fn float_register(&mut self, f: Fmt) -> u8 {
        let groups: Vec<u8> = (0..4).filter(|&g| self.formats[g as usize] == f).collect();
        if groups.is_empty() || self.r.chance(15) {
            return self.r.below(16) as u8;
        }
        let pair = if f == Fmt::Extended { 2 } else { 4 };
        4 * self.r.pick(&groups) + self.r.below(pair) as u8
    }

    /// A register field.
    fn register(&mut self, row: &Row) -> u8 {
        if is_float(row) && !self.r.chance(4) {
            return self.float_register(float_format(row));
        }
        self.r.below(16) as u8
    }

    /// The class of a storage operand.
    fn class(&mut self, row: &Row) -> Class {
        match row.name {
            "ap" | "sp" | "zap" | "cp" | "mvo" | "srp" | "tp" | "cvb" | "cvby" | "cvbg" | "unpk"
            | "unpka" | "unpku" => Class::Decimal,
            "lfpc" | "lfas" => Class::Fpc,
            "tr" | "trt" | "trtr" => Class::Table,
            "clc" | "mvc" | "nc" | "oc" | "xc" | "mvn" | "mvz" | "mvcin" | "pack" | "pka" | "pku" => {
                Class::Bytes
            }
            _ if is_float(row) => Class::Float(float_format(row)),
            _ => Class::Integer,
        }
    }

    /// Immediates: boundaries, or anything.
    pub fn immediate(&mut self) -> i64 {
        let v = values::integer(self.r) as i64;
        if self.r.chance(40) { self.r.pick(&[0, 1, -1, 0x7f, 0x80, 0x7fff, 0x8000, -0x8000]) } else { v }
    }

    /// Register and immediate fields that the decoder takes, or in a few cases does not.
    fn fields(&mut self, row: &Row) -> Fields {
        loop {
            let mut f = Fields {
                r1: self.register(row),
                r2: self.register(row),
                r3: self.register(row),
                m3: self.r.below(16) as u8,
                i: self.immediate(),
                ..Default::default()
            };
            match row.format {
                Format::RRF if takes_mask(row) => {
                    f.r3 = if is_float(row) { self.r.pick(&[0, 0, 1, 2, 3, 4, 5, 6, 7]) } else { f.m3 };
                    f.m4 = if is_float(row) { self.r.pick(&[0, 0, 4]) } else { 0 };
                }
                Format::RRF if !takes_third(row) => f.r3 = 0,
                // Without the bits that should be zero: bit 0 has a meaning in I4 of RISB…. In I3 of the others it asks
                // for the condition code only, which qemu 7.2 mostly ends with.
                Format::RIEf if row.name.starts_with("ris") => f.i &= 0x3f_bf3f,
                Format::RIEf => f.i &= if self.r.chance(1) { 0xbf_3f3f } else { 0x3f_3f3f },
                Format::RXE => f.m3 = 0,
                Format::RIEb | Format::RIEc | Format::RRS | Format::RIS | Format::RIEa => f.m3 &= 14,
                Format::SS | Format::SSl2 => f.i &= 0xff,
                _ => {}
            }
            // A base other than 0 where there is one: what the decoder says must not hang on it.
            let trial = Fields { b: 1, b2: 1, ..f };
            match scanned(&encode(row, &trial)).terminator {
                Terminator::Trap(Exc::NOT_MODELLED) => {}
                Terminator::Trap(SPECIFICATION) if !self.r.chance(2) => {}
                _ => return f,
            }
        }
    }

    /// An ordinary instruction: sets up what its format asks for.
    pub fn plain(&mut self, row: &'static Row) {
        let mut f = self.fields(row);
        let s = scanned(&encode(row, &Fields { b: 1, b2: 1, ..f }));
        let touches = s.loads || s.stores || s.may_fault && !matches!(row.format, Format::RIEa);
        let privileged = s.terminator == Terminator::Trap(PRIVILEGED);
        let indirect = matches!(s.terminator, Terminator::Indirect { .. });
        let mut to = To::None;
        use Format::*;
        match row.format {
            RR | RRE | RRF | RRm | RRD | RRS | RS | RSY | RI | RIL | RIEa | RIEb | RIEc | RIEd | RIEe
            | RIEf | RIS | RSI | RX | RXY | RIrel
                if !is_float(row) =>
            {
                for n in [f.r1, f.r2, f.r3] {
                    if self.r.chance(20) && !(indirect && n == f.r2) {
                        let v = values::integer(self.r);
                        self.constant(n, v);
                    }
                }
            }
            _ => {}
        }
        match row.format {
            RX | RXm | RXE | RXF | RXY | RXYm | RS | RSY | S | SI | SIY | SIL | RSL | RIS | RRS | SSF
            | SS | SSl2 => {
                let indexed = matches!(row.format, RX | RXm | RXE | RXF | RXY | RXYm);
                let long = matches!(row.format, RXY | RXYm | RSY | SIY);
                if indirect || matches!(row.format, RIS | RRS) {
                    f.b = self.fresh();
                    self.label(f.b);
                } else if touches || privileged {
                    self.lengths(row, &mut f);
                    let at = self.first(row, &f);
                    (f.b, f.x, f.d) = self.storage(at, indexed, long);
                    if matches!(row.format, SS | SSl2 | SSF) {
                        self.second(row, &mut f, at);
                    }
                } else {
                    // The address is the operand.
                    f.b = self.r.below(16) as u8;
                    f.x = if indexed { self.r.below(16) as u8 } else { 0 };
                    f.d = self.r.below(if long { 1 << 20 } else { 4096 }) as i32;
                    f.d = if self.r.chance(50) { f.d & 0x7f } else { f.d };
                }
            }
            RRm | RR | RRE if indirect && f.r2 != 0 => {
                f.r2 = if self.used >> f.r2 & 1 == 0 { f.r2 } else { self.fresh() };
                self.label(f.r2);
            }
            RIrel | RIm | RIEb | RIEc | RIEe | RSI => to = To::Ahead(1 + self.r.below(2) as u8),
            RILrel | RILm => {
                let jumps = matches!(s.terminator, Terminator::Branch { .. } | Terminator::Goto { .. });
                to = match jumps || row.name == "brcl" {
                    true => To::Ahead(1 + self.r.below(2) as u8),
                    // Most must be aligned.
                    false if self.r.chance(97) => To::Data(self.place(Class::Integer) & !7),
                    false => To::Data(self.place(Class::Integer) & !1),
                };
            }
            _ => {}
        }
        self.pieces.push(Piece { bytes: encode(row, &f), to });
    }

    /// Where the first (or only) storage operand lies.
    fn first(&mut self, row: &Row, f: &Fields) -> i32 {
        let c = self.class(row);
        match row.name {
            "cvb" | "cvby" => self.decimal(8),
            "cvbg" => self.decimal(16),
            "tp" => self.decimal(f.i as usize + 1),
            "ap" | "sp" | "cp" | "srp" => self.decimal((f.i as usize >> 4) + 1),
            // Whether an access that the condition forbids is tried is unpredictable.
            "loc" | "locg" | "stoc" | "stocg" => self.place(c).clamp(0, DATA_BYTES as i32 - 8),
            // So is whether bytes behind the first that differ are.
            "clc" => self.place(c).clamp(0, IMAGE_BYTES as i32 - 256),
            _ => self.place(c),
        }
    }

    /// The second operand of a storage-to-storage instruction whose first lies at `first`.
    fn second(&mut self, row: &Row, f: &mut Fields, first: i32) {
        if row.name == "srp" {
            (f.b2, f.d2) =
                (if self.r.chance(60) { 0 } else { self.r.below(16) as u8 }, self.r.below(64) as i32);
            return;
        }
        let c = self.class(row);
        // Overlaps are where such instructions differ from each other.
        let at = match self.r.below(4) {
            0 => first + self.r.below(9) as i32 - 4,
            1.. if matches!(row.name, "ap" | "sp" | "cp" | "zap") => self.decimal((f.i as usize & 15) + 1),
            1.. if matches!(row.name, "unpka" | "unpku") => self.decimal(16),
            _ => self.place(c),
        };
        // Whether the part of it that no digit comes from is accessed is unpredictable.
        let partly = matches!(row.name, "pack" | "unpk" | "mvo" | "unpka" | "unpku" | "pka" | "pku" | "zap");
        let at = if partly || row.name == "clc" { at.clamp(0, IMAGE_BYTES as i32 - 256) } else { at };
        // So are the results of these when their operands overlap.
        let near = matches!(row.name, "unpka" | "unpku" | "pka" | "pku") && (at - first).abs() < 64;
        let at = if near { (first + 0x400) & 0xfff } else { at };
        if self.r.chance(25) && f.x == 0 {
            let d2 = f.d + at - first;
            if (0..4096).contains(&d2) {
                (f.b2, f.d2) = (f.b, d2);
                return;
            }
        }
        (f.b2, _, f.d2) = self.storage(at, false, false);
    }

    /// Lengths of storage-to-storage instructions: mostly short.
    fn lengths(&mut self, row: &Row, f: &mut Fields) {
        match row.format {
            Format::SS if self.r.chance(70) => {
                f.i = self.r.pick(&[0, 0, 1, 2, 3, 3, 4, 6, 7, 7, 8, 11, 14, 15, 16, 30, 31]);
                if matches!(row.name, "pku" | "unpku") && self.r.chance(90) {
                    f.i |= 1;
                }
            }
            Format::RSL => f.i &= 15,
            Format::SSl2 if self.r.chance(50) => {
                f.i = self.r.pick(&[0x00, 0x11, 0x33, 0x77, 0x73, 0x37, 0x7f])
            }
            _ => {}
        }
    }
}

/// Whether the field in the place of R3 of RRF is a mask.
fn takes_mask(row: &Row) -> bool {
    matches!(row.code, 0xb344..=0xb346 | 0xb347 | 0xb357 | 0xb35f | 0xb390..=0xb39f | 0xb3a0..=0xb3af)
        || matches!(
            row.name,
            "locr"
                | "locgr"
                | "crt"
                | "cgrt"
                | "clrt"
                | "clgrt"
                | "cu12"
                | "cu14"
                | "cu21"
                | "cu24"
                | "trte"
                | "trtre"
                | "troo"
                | "trot"
                | "trto"
                | "trtt"
        )
}

/// Whether it is a third register.
fn takes_third(row: &Row) -> bool {
    matches!(row.code, 0xb372 | 0xb9c8..=0xb9db | 0xb9e4..=0xb9eb | 0xb9f4..=0xb9fb)
}

/// The item for a row.
pub fn item(r: &mut Rng, row: &'static Row, formats: [Fmt; 4]) -> Item {
    let mut b =
        Build { r, pieces: Vec::new(), pool: Vec::new(), used: 0, units: false, subject: None, formats };
    let test = special::build(&mut b, row);
    Item { row, subject: b.subject.unwrap_or(row), test, pieces: b.pieces, pool: b.pool, units: b.units }
}

/// Sequence `index` of `seed`.
pub fn sequence(seed: u64, index: u64) -> Sequence {
    let r = &mut Rng::new(seed, index);
    let third = r.pick(&[Fmt::Short, Fmt::Long, Fmt::Extended]);
    let mut formats = [Fmt::Short, Fmt::Long, Fmt::Extended, third];
    formats.rotate_left(r.below(4));
    let mut state = State::default();
    for n in 0..16 {
        state.gr[n] = values::integer(r);
        state.ar[n] = values::integer(r) as u32;
        state.fr[n] = match formats[n / 4] {
            Fmt::Short => {
                (values::float(r, Fmt::Short) as u64) << 32 | if r.chance(50) { 0 } else { r.next() >> 32 }
            }
            Fmt::Long => values::float(r, Fmt::Long) as u64,
            Fmt::Extended if n & 2 == 0 => (values::float(r, Fmt::Extended) >> 64) as u64,
            Fmt::Extended => values::float(r, Fmt::Extended) as u64,
        };
    }
    state.fpc = values::fpc(r);
    // Fixed-point overflow stays masked: qemu 7.2 takes no such exception.
    let mask = if r.chance(80) { 0 } else { r.below(8) as u32 };
    state.pm = (r.below(4) as u32) << 4 | mask;
    let mut patches = Vec::new();
    for _ in 0..r.below(6) {
        let class = r.pick(&[
            Class::Integer,
            Class::Decimal,
            Class::Bytes,
            Class::Float(Fmt::Short),
            Class::Float(Fmt::Long),
            Class::Float(Fmt::Extended),
        ]);
        let (at, len) = class.region();
        let mut bytes = vec![0; 16];
        values::fill(r, class, &mut bytes);
        patches.push(Patch { at: ((at + r.below(len - 16)) & !7) as u16, bytes });
    }
    let count = 1 + r.below(ITEMS);
    let items = (0..count).map(|_| {
        let row = r.pick(&POOL);
        item(r, row, formats)
    });
    let items = items.collect();
    // Behind the guest's two jumps, and now and then across the page boundary.
    let start = if r.chance(10) { 0x1000 - 2 * r.below(40) } else { 0x40 + 2 * r.below(200) } as u16;
    let s = Sequence { state, patches, items, start };
    debug_assert!(s.start as usize + s.code().bytes.len() <= CODE_BYTES);
    s
}
