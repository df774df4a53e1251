//! Sequences of instructions, and their layout as code.

use racewalk_isa::s390x::S390x;
use racewalk_isa::s390x::decode::Row;
use racewalk_isa::{Arch, s390x};

/// Where the guest puts code. At the beginning is its jump to the sequence.
pub const CODE: u64 = 0x5b5d_0000;
/// Where it has a jump back to itself, at which every sequence ends.
pub const EXIT: u64 = CODE + 8;
/// Where the data area lies: two pages to write, one to read; unmapped pages on both sides.
pub const DATA: u64 = 0x5b6e_1000;
/// Bytes for code.
pub const CODE_BYTES: usize = 0x2000;

/// General, floating-point, access registers, FPC, condition code and program mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// General registers.
    pub gr: [u64; 16],
    /// Floating-point registers.
    pub fr: [u64; 16],
    /// Access registers.
    pub ar: [u32; 16],
    /// Floating-point control register.
    pub fpc: u32,
    /// Condition code (2 bits), program mask (4 bits).
    pub pm: u32,
}

/// Bytes of the data area that differ from the image when the sequence begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patch {
    /// Offset in the data area.
    pub at: u16,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What a relative operand refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// Nothing is relative.
    None,
    /// The beginning of the item this many items ahead, or the end.
    Ahead(u8),
    /// The piece before this one.
    Back,
    /// A byte of the data area.
    Data(i32),
    /// A constant or a target of EXECUTE behind the code of the item.
    Pool(u8),
}

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Its bytes, zeros after the last one.
    pub bytes: [u8; 6],
    /// What its relative operand refers to: 16 or 32 bits from the third byte.
    pub to: To,
}

impl Piece {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        S390x::insn_len([self.bytes[0], self.bytes[1]])
    }
    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }
    /// The bytes at address `pc` when the operand lies at `target`.
    fn placed(&self, pc: u64, target: u64) -> Vec<u8> {
        let mut b = self.bytes;
        if self.to != To::None {
            let halfwords = (target.wrapping_sub(pc) as i64 / 2) as i32;
            if matches!(b[0], 0xc0..=0xc6 | 0xcc) {
                b[2..6].copy_from_slice(&halfwords.to_be_bytes());
            } else {
                b[2..4].copy_from_slice(&(halfwords as i16).to_be_bytes());
            }
        }
        b[..self.len()].to_vec()
    }
}

/// What lies behind the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pooled {
    /// Eight bytes.
    Constant(u64),
    /// A target of EXECUTE.
    Target(Piece),
}

/// An instruction under test with what sets its operands up and what follows it.
#[derive(Clone, Debug)]
pub struct Item {
    /// The instruction under test.
    pub row: &'static Row,
    /// What is executed in the end: `row`, or the target of EXECUTE.
    pub subject: &'static Row,
    /// All instructions in order.
    pub pieces: Vec<Piece>,
    /// Which of them is under test.
    pub test: usize,
    /// What lies behind the code.
    pub pool: Vec<Pooled>,
    /// Progress is by units that the CPU chooses: after an access exception its operands say little.
    pub units: bool,
}

impl Item {
    /// Whether it may go elsewhere than to the next item.
    pub fn branches(&self) -> bool {
        self.pieces.iter().any(|p| matches!(p.to, To::Ahead(_)))
    }
}

/// One sequence with its operands.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Registers before it.
    pub state: State,
    /// Storage before it.
    pub patches: Vec<Patch>,
    /// The instructions.
    pub items: Vec<Item>,
    /// Offset of the code from [`CODE`]: even.
    pub start: u16,
}

/// A sequence as bytes.
#[derive(Clone, Debug)]
pub struct Code {
    /// The code and what lies behind it.
    pub bytes: Vec<u8>,
    /// Address of each item's pieces.
    pub at: Vec<Vec<u64>>,
}

impl Sequence {
    /// Lays the code out.
    pub fn code(&self) -> Code {
        let begin = CODE + self.start as u64;
        let mut pc = begin;
        let mut at = Vec::new();
        for i in &self.items {
            let mut all = Vec::new();
            for p in &i.pieces {
                all.push(pc);
                pc += p.len() as u64;
            }
            // An item that lost all its pieces still has an address.
            all.push(pc);
            at.push(all);
        }
        let end = pc;
        let mut pool = Vec::new();
        pc += 6;
        for i in &self.items {
            let mut all = Vec::new();
            for p in &i.pool {
                let size = if matches!(p, Pooled::Constant(_)) { 8 } else { 6 };
                pc = if size == 8 { pc.next_multiple_of(8) } else { pc };
                all.push(pc);
                pc += size;
            }
            pool.push(all);
        }
        let mut bytes = vec![0; (pc - begin) as usize];
        let mut put = |pc: u64, b: &[u8]| {
            let k = (pc - begin) as usize;
            bytes[k..k + b.len()].copy_from_slice(b);
        };
        for (n, i) in self.items.iter().enumerate() {
            let find = |to: To, k: usize| match to {
                To::None => 0,
                To::Ahead(s) => at.get(n + s as usize).map_or(end, |a| a[0]),
                To::Back => at[n][k.saturating_sub(1)],
                To::Data(d) => DATA.wrapping_add(d as i64 as u64),
                To::Pool(p) => pool[n][p as usize],
            };
            for (k, p) in i.pieces.iter().enumerate() {
                put(at[n][k], &p.placed(at[n][k], find(p.to, k)));
            }
            for (k, p) in i.pool.iter().enumerate() {
                match p {
                    Pooled::Constant(v) => put(pool[n][k], &v.to_be_bytes()),
                    Pooled::Target(p) => put(pool[n][k], &p.placed(pool[n][k], find(p.to, 0))),
                }
            }
        }
        let leave = Piece { bytes: [0xc0, 0xf4, 0, 0, 0, 0], to: To::Back };
        put(end, &leave.placed(end, EXIT));
        Code { bytes, at }
    }

    /// The same with the first `n` items only.
    pub fn prefix(&self, n: usize) -> Sequence {
        Sequence { items: self.items[..n].to_vec(), ..self.clone() }
    }

    /// Instructions, targets of EXECUTE included.
    pub fn instructions(&self) -> usize {
        let pooled = |i: &Item| i.pool.iter().filter(|p| matches!(p, Pooled::Target(_))).count();
        self.items.iter().map(|i| i.pieces.len() + pooled(i)).sum()
    }

    /// One line for each instruction: address, bytes, text.
    pub fn listing(&self) -> String {
        let code = self.code();
        let begin = CODE + self.start as u64;
        let mut s = String::new();
        let mut line = |pc: u64, mark: &str| {
            let k = (pc - begin) as usize;
            let Some(two) = code.bytes.get(k..k + 2) else { return };
            let b = &code.bytes[k..k + S390x::insn_len([two[0], two[1]])];
            let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
            let text = s390x::text::text(&S390x::decode(pc, b));
            s += &format!("  {pc:x}  {hex:<12}  {text}{mark}\n");
        };
        for (i, at) in self.items.iter().zip(&code.at) {
            for (k, &pc) in at.iter().take(i.pieces.len()).enumerate() {
                line(pc, if k == i.test { "   <- under test" } else { "" });
            }
        }
        // Behind the exit lie constants, which would only look like instructions.
        let end = code.at.last().and_then(|a| a.last()).copied().unwrap_or(begin);
        let rest: String =
            code.bytes[(end - begin) as usize + 6..].iter().map(|b| format!("{b:02x}")).collect();
        if !rest.is_empty() {
            s += &format!("  {:x}  {rest}  constants and targets of EXECUTE\n", end + 6);
        }
        s
    }
}
