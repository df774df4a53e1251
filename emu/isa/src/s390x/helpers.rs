//! Instructions that loop over storage, as [`Helper`]s (PoP chapter 7).

use super::FIXED_DIVIDE;
use super::SPECIFICATION;
use super::state::gpr;
use crate::backend::{Access, Env, Exc, Helper, Slots};

const NONE: &[Slots] = &[];
const GPRS: &[Slots] = &[(0, 16)];
type Args = [u64; 4];
type R = Result<u64, Exc>;

/// A helper that accesses storage and no register.
pub(super) const fn on_storage(name: &'static str, run: fn(&mut dyn Env, Args) -> R) -> Helper {
    Helper { name, run, reads: NONE, writes: NONE, faults: true }
}

/// A helper that accesses storage and general registers.
pub(super) const fn on_registers(name: &'static str, run: fn(&mut dyn Env, Args) -> R) -> Helper {
    Helper { name, run, reads: GPRS, writes: GPRS, faults: true }
}

/// Quotient of (a0, a1) by a2, unsigned; divide exception if it does not fit.
pub static DIVIDE_128: Helper = Helper {
    name: "divide logical 128/64",
    run: |_, [h, l, d, _]| {
        if h >= d {
            return Err(FIXED_DIVIDE);
        }
        if h == 0 {
            return Ok(l / d);
        }
        Ok((((h as u128) << 64 | l as u128) / d as u128) as u64)
    },
    reads: NONE,
    writes: NONE,
    faults: true,
};

fn probe_both(e: &mut dyn Env, to: u64, from: u64, len: u64) -> Result<(), Exc> {
    e.probe(from, len, Access::Load)?;
    e.probe(to, len, Access::Store)
}

/// MVC: (to, from, length 1 to 256), byte by byte from the left.
pub static MVC: Helper = on_storage("mvc", |e, [to, from, len, _]| {
    let mut buf = [0u8; 256];
    let out = &mut buf[..len as usize];
    probe_both(e, to, from, len)?;
    e.read(from, out)?;
    let step = to.wrapping_sub(from);
    if step != 0 && step < len {
        for k in step as usize..out.len() {
            out[k] = out[k - step as usize];
        }
    }
    e.write(to, out)?;
    Ok(0)
});

/// The operand bytes of a two-operand SS instruction as the byte-by-byte order sees them.
fn combine(e: &mut dyn Env, [to, from, len, _]: Args, f: fn(u8, u8) -> u8) -> R {
    let (mut x, mut y) = ([0u8; 256], [0u8; 256]);
    let n = len as usize;
    probe_both(e, to, from, len)?;
    e.read(to, &mut x[..n])?;
    e.read(from, &mut y[..n])?;
    let step = to.wrapping_sub(from);
    let overlap = step != 0 && step < len;
    let mut any = 0;
    for k in 0..n {
        // A source byte may have been written by this very instruction.
        let s = if overlap && k as u64 >= step { x[k - step as usize] } else { y[k] };
        x[k] = f(x[k], s);
        any |= x[k];
    }
    e.write(to, &x[..n])?;
    Ok((any != 0) as u64)
}

/// NC.
pub static NC: Helper = on_storage("nc", |e, a| combine(e, a, |x, y| x & y));
/// OC.
pub static OC: Helper = on_storage("oc", |e, a| combine(e, a, |x, y| x | y));
/// XC.
pub static XC: Helper = on_storage("xc", |e, a| combine(e, a, |x, y| x ^ y));
/// MVN: the right halves.
pub static MVN: Helper = on_storage("mvn", |e, a| combine(e, a, |x, y| x & 0xf0 | y & 0x0f));
/// MVZ: the left halves.
pub static MVZ: Helper = on_storage("mvz", |e, a| combine(e, a, |x, y| x & 0x0f | y & 0xf0));

fn order(x: &[u8], y: &[u8]) -> u64 {
    match x.cmp(y) {
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Less => 1,
        std::cmp::Ordering::Greater => 2,
    }
}

/// CLC.
pub static CLC: Helper = on_storage("clc", |e, [x, y, len, _]| {
    let (mut a, mut b) = ([0u8; 256], [0u8; 256]);
    let n = len as usize;
    e.read(x, &mut a[..n])?;
    e.read(y, &mut b[..n])?;
    Ok(order(&a[..n], &b[..n]))
});

/// MVCIN: the second operand is read from right to left.
pub static MVCIN: Helper = on_storage("mvcin", |e, [to, from, len, _]| {
    probe_both(e, to, from.wrapping_sub(len - 1), len)?;
    for k in 0..len {
        let mut b = [0];
        e.read(from.wrapping_sub(k), &mut b)?;
        e.write(to.wrapping_add(k), &b)?;
    }
    Ok(0)
});

/// TR: replaces each byte by the table's.
pub static TR: Helper = on_storage("tr", |e, [to, table, len, _]| {
    let mut x = [0u8; 256];
    let x = &mut x[..len as usize];
    e.probe(to, len, Access::Store)?;
    e.read(to, x)?;
    // Of the table only what is needed is accessed; each page from the first such byte to the last holds one.
    let first = x.iter().copied().min().unwrap_or(0) as u64;
    let last = x.iter().copied().max().unwrap_or(0) as u64;
    e.probe(table.wrapping_add(first), last - first + 1, Access::Load)?;
    for (k, &index) in x.iter().enumerate() {
        // The table may overlap the operand: read it as it is now.
        let mut b = [0];
        e.read(table.wrapping_add(index as u64), &mut b)?;
        e.write(to.wrapping_add(k as u64), &b)?;
    }
    Ok(0)
});

fn translate_and_test(e: &mut dyn Env, [at, table, len, _]: Args, back: bool) -> R {
    for k in 0..len {
        let a = if back { at.wrapping_sub(k) } else { at.wrapping_add(k) };
        let mut b = [0];
        e.read(a, &mut b)?;
        e.read(table.wrapping_add(b[0] as u64), &mut b)?;
        if b[0] != 0 {
            let r2 = e.get(gpr(2));
            e.set(gpr(1), a);
            e.set(gpr(2), r2 & !0xff | b[0] as u64);
            return Ok(if k == len - 1 { 2 } else { 1 });
        }
    }
    Ok(0)
}

/// TRT.
pub static TRT: Helper = on_registers("trt", |e, a| translate_and_test(e, a, false));
/// TRTR.
pub static TRTR: Helper = on_registers("trtr", |e, a| translate_and_test(e, a, true));

/// One operand of a long move or comparison: an address register and a length register.
pub(super) struct Run {
    reg: u8,
    pub(super) addr: u64,
    pub(super) len: u64,
    rest: u64,
}

impl Run {
    /// `bits` of the odd register are the length.
    pub(super) fn new(e: &dyn Env, reg: u8, bits: u32) -> Run {
        let word = e.get(gpr(reg | 1));
        let mask = u64::MAX >> (64 - bits);
        Run { reg, addr: e.get(gpr(reg)), len: word & mask, rest: word & !mask }
    }
    pub(super) fn advance(&mut self, e: &mut dyn Env, n: u64) {
        let n = n.min(self.len);
        self.addr = self.addr.wrapping_add(n);
        self.len -= n;
        e.set(gpr(self.reg), self.addr);
        e.set(gpr(self.reg | 1), self.rest | self.len);
    }
    /// Bytes before the end of the operand's page, at most all of it.
    pub(super) fn room(&self) -> u64 {
        self.len.min(page_room(self.addr))
    }
}

/// Bytes from `addr` to the end of its page.
pub(super) fn page_room(addr: u64) -> u64 {
    4096 - (addr & 4095)
}

fn lengths(a: u64, b: u64) -> u64 {
    match a.cmp(&b) {
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Less => 1,
        std::cmp::Ordering::Greater => 2,
    }
}

/// Moves one unit of at most a page; keeps progress in the registers.
fn move_unit(e: &mut dyn Env, to: &mut Run, from: &mut Run, pad: u8) -> Result<(), Exc> {
    let mut buf = [0u8; 4096];
    let n = if from.len == 0 {
        buf.fill(pad);
        to.room()
    } else {
        let n = to.room().min(from.room());
        e.read(from.addr, &mut buf[..n as usize])?;
        n
    };
    e.write(to.addr, &buf[..n as usize])?;
    to.advance(e, n);
    from.advance(e, n);
    Ok(())
}

/// MVCL: (register numbers). Interruptible: progress is in the registers, so a fault restarts where it was.
pub static MVCL: Helper = on_registers("mvcl", |e, [regs, ..]| {
    let (r1, r2) = (regs as u8, (regs >> 8) as u8);
    let mut to = Run::new(e, r1, 24);
    let mut from = Run::new(e, r2, 24);
    let pad = (e.get(gpr(r2 | 1)) >> 24) as u8;
    let cc = lengths(to.len, from.len);
    let distance = to.addr.wrapping_sub(from.addr);
    if distance != 0 && distance < to.len.min(from.len) {
        return Ok(3);
    }
    while to.len != 0 {
        move_unit(e, &mut to, &mut from, pad)?;
    }
    Ok(cc)
});

/// MVCLE: (register numbers, padding). One unit a call, condition code 3 if more is left.
pub static MVCLE: Helper = on_registers("mvcle", |e, [regs, pad, ..]| {
    let mut to = Run::new(e, regs as u8, 64);
    let mut from = Run::new(e, (regs >> 8) as u8, 64);
    let cc = lengths(to.len, from.len);
    if to.len == 0 {
        return Ok(cc);
    }
    move_unit(e, &mut to, &mut from, pad as u8)?;
    Ok(if to.len == 0 { cc } else { 3 })
});

/// Compares one unit of at most a page; `Some(cc)` when a difference was found.
fn compare_unit(e: &mut dyn Env, x: &mut Run, y: &mut Run, pad: u8) -> Result<Option<u64>, Exc> {
    let (mut a, mut b) = ([pad; 4096], [pad; 4096]);
    let n = match (x.len, y.len) {
        (0, _) => y.room(),
        (_, 0) => x.room(),
        _ => x.room().min(y.room()),
    };
    let n = n as usize;
    if x.len != 0 {
        e.read(x.addr, &mut a[..n])?;
    }
    if y.len != 0 {
        e.read(y.addr, &mut b[..n])?;
    }
    let same = a[..n].iter().zip(&b[..n]).take_while(|(p, q)| p == q).count();
    x.advance(e, same as u64);
    y.advance(e, same as u64);
    Ok((same < n).then(|| if a[same] < b[same] { 1 } else { 2 }))
}

/// CLCL: (register numbers). Interruptible.
pub static CLCL: Helper = on_registers("clcl", |e, [regs, ..]| {
    let r2 = (regs >> 8) as u8;
    let mut x = Run::new(e, regs as u8, 24);
    let mut y = Run::new(e, r2, 24);
    let pad = (e.get(gpr(r2 | 1)) >> 24) as u8;
    while x.len != 0 || y.len != 0 {
        if let Some(cc) = compare_unit(e, &mut x, &mut y, pad)? {
            return Ok(cc);
        }
    }
    Ok(0)
});

/// CLCLE: (register numbers, padding). One unit a call.
pub static CLCLE: Helper = on_registers("clcle", |e, [regs, pad, ..]| {
    let mut x = Run::new(e, regs as u8, 64);
    let mut y = Run::new(e, (regs >> 8) as u8, 64);
    if x.len == 0 && y.len == 0 {
        return Ok(0);
    }
    let cc = compare_unit(e, &mut x, &mut y, pad as u8)?;
    Ok(cc.unwrap_or(if x.len == 0 && y.len == 0 { 0 } else { 3 }))
});

/// The character in register 0, whose bits 32 to 55 must be zero.
fn character(e: &dyn Env) -> Result<u8, Exc> {
    let r0 = e.get(gpr(0));
    if r0 & 0xffff_ff00 != 0 { Err(SPECIFICATION) } else { Ok(r0 as u8) }
}

/// Most bytes a string instruction looks at in one unit.
const STRING_UNIT: u64 = 256;

/// MVST: (register numbers). Moves up to and including the terminator; condition code 1 when it was moved, 3 when
/// the unit ended first.
pub static MVST: Helper = on_registers("mvst", |e, [regs, ..]| {
    let (r1, r2) = (regs as u8, (regs >> 8) as u8);
    let end = character(e)?;
    let (to, from) = (e.get(gpr(r1)), e.get(gpr(r2)));
    let n = STRING_UNIT.min(page_room(to)).min(page_room(from));
    let mut buf = [0u8; STRING_UNIT as usize];
    let buf = &mut buf[..n as usize];
    e.read(from, buf)?;
    let found = buf.iter().position(|&c| c == end);
    let count = found.map_or(buf.len(), |p| p + 1);
    e.write(to, &buf[..count])?;
    if let Some(p) = found {
        e.set(gpr(r1), to.wrapping_add(p as u64));
        return Ok(1);
    }
    e.set(gpr(r1), to.wrapping_add(n));
    e.set(gpr(r2), from.wrapping_add(n));
    Ok(3)
});

/// CLST: (register numbers).
pub static CLST: Helper = on_registers("clst", |e, [regs, ..]| {
    let (r1, r2) = (regs as u8, (regs >> 8) as u8);
    let end = character(e)?;
    let (x, y) = (e.get(gpr(r1)), e.get(gpr(r2)));
    let n = STRING_UNIT.min(page_room(x)).min(page_room(y));
    let (mut a, mut b) = ([0u8; STRING_UNIT as usize], [0u8; STRING_UNIT as usize]);
    e.read(x, &mut a[..n as usize])?;
    e.read(y, &mut b[..n as usize])?;
    for k in 0..n {
        let (p, q) = (a[k as usize], b[k as usize]);
        if p == end && q == end {
            return Ok(0);
        }
        if p != q {
            e.set(gpr(r1), x.wrapping_add(k));
            e.set(gpr(r2), y.wrapping_add(k));
            return Ok(if p == end || (q != end && p < q) { 1 } else { 2 });
        }
    }
    e.set(gpr(r1), x.wrapping_add(n));
    e.set(gpr(r2), y.wrapping_add(n));
    Ok(3)
});

/// SRST: (register numbers). R1 is the first byte after the operand, R2 its beginning.
pub static SRST: Helper = on_registers("srst", |e, [regs, ..]| {
    let (r1, r2) = (regs as u8, (regs >> 8) as u8);
    let want = character(e)?;
    let (end, at) = (e.get(gpr(r1)), e.get(gpr(r2)));
    let left = end.wrapping_sub(at);
    let n = left.min(STRING_UNIT).min(page_room(at));
    let mut buf = [0u8; STRING_UNIT as usize];
    let buf = &mut buf[..n as usize];
    e.read(at, buf)?;
    if let Some(p) = buf.iter().position(|&c| c == want) {
        e.set(gpr(r1), at.wrapping_add(p as u64));
        return Ok(1);
    }
    if n == left {
        return Ok(2);
    }
    e.set(gpr(r2), at.wrapping_add(n));
    Ok(3)
});

/// CKSM: (register numbers). Adds words with end-around carry; one unit of at most a page a call.
pub static CKSM: Helper = on_registers("cksm", |e, [regs, ..]| {
    let r1 = regs as u8;
    let mut run = Run::new(e, (regs >> 8) as u8, 64);
    let n = match run.room() {
        n if n == run.len => n,
        // Only the last word may be short.
        n => n.next_multiple_of(4).min(run.len),
    };
    let mut buf = [0u8; 4100];
    e.read(run.addr, &mut buf[..n as usize])?;
    let old = e.get(gpr(r1));
    let words = buf[..n.next_multiple_of(4) as usize].chunks_exact(4);
    let mut sum =
        words.fold(old & 0xffff_ffff, |s, w| s + u32::from_be_bytes([w[0], w[1], w[2], w[3]]) as u64);
    while sum >> 32 != 0 {
        sum = (sum & 0xffff_ffff) + (sum >> 32);
    }
    e.set(gpr(r1), old & !0xffff_ffff | sum);
    run.advance(e, n);
    Ok(if run.len == 0 { 0 } else { 3 })
});

/// STCK, STCKF: the clock to eight bytes.
pub static STCK: Helper = on_storage("stck", |e, [a, ..]| {
    e.probe(a, 8, Access::Store)?;
    let t = e.clock();
    e.write(a, &t.to_be_bytes())?;
    Ok(0)
});

/// The CPU timer, which counts down; here it mirrors the time-of-day clock.
pub static CPU_TIMER: Helper = Helper {
    name: "cpu timer",
    run: |e, _| Ok(e.clock().wrapping_neg()),
    reads: NONE,
    writes: NONE,
    faults: true,
};

/// STCKE: a zero byte, the clock, five bytes that make values unique, the programmable field.
pub static STCKE: Helper = on_storage("stcke", |e, [a, ..]| {
    e.probe(a, 16, Access::Store)?;
    let t = e.clock();
    let mut out = [0u8; 16];
    out[1..9].copy_from_slice(&t.to_be_bytes());
    out[13] = e.cpu() as u8 | 1;
    e.write(a, &out)?;
    Ok(0)
});

/// Facility numbers (PoP chapter 4, "Facility Indications") that are installed: nothing is claimed that is not
/// here.
pub const FACILITIES: &[u32] = &[
    0,   // N3
    1,   // z/Architecture installed
    2,   // z/Architecture active
    7,   // store facility list extended
    16,  // extended translation 2
    18,  // long displacement
    19,  // long displacement, fast
    21,  // extended immediate
    22,  // extended translation 3
    24,  // extended translation 2 enhancement
    25,  // store clock fast
    26,  // parsing enhancement
    30,  // extended translation 3 enhancement
    31,  // extract CPU time
    32,  // compare and swap and store
    33,  // compare and swap and store 2
    34,  // general-instructions extension
    35,  // execute extensions
    41,  // FPR-GR transfer, sign handling, DFP rounding mode
    45,  // distinct operands, high word, interlocked access 1, load and store on condition, population count
    130, // instruction-execution protection
];

/// The facility list as doublewords.
pub const FACILITY_LIST: [u64; 3] = {
    let mut list = [0u64; 3];
    let mut n = 0;
    while n < FACILITIES.len() {
        let f = FACILITIES[n];
        list[(f / 64) as usize] |= 1 << (63 - f % 64);
        n += 1;
    }
    list
};

/// STFLE: register 0 says how many doublewords, minus one, and is told how many there are.
pub static STFLE: Helper = on_registers("stfle", |e, [a, ..]| {
    if a & 7 != 0 {
        return Err(SPECIFICATION);
    }
    let r0 = e.get(gpr(0));
    let room = (r0 & 0xff) as usize + 1;
    let n = room.min(FACILITY_LIST.len());
    let mut out = [0u8; 8 * FACILITY_LIST.len()];
    for (o, w) in out.chunks_exact_mut(8).zip(FACILITY_LIST) {
        o.copy_from_slice(&w.to_be_bytes());
    }
    e.write(a, &out[..8 * n])?;
    e.set(gpr(0), r0 & !0xff | (FACILITY_LIST.len() as u64 - 1));
    Ok(if n == FACILITY_LIST.len() { 0 } else { 3 })
});

/// ECAG: one level of split caches with lines of 256 bytes; all else is not there.
pub static ECAG: Helper = Helper {
    name: "ecag",
    run: |_, [a, ..]| {
        let (attribute, level) = (a >> 4 & 15, a >> 1 & 7);
        Ok(match (attribute, level) {
            // Topology: private to the CPU, separate data and instruction caches.
            (0, _) => 0x04 << 56,
            (1, 0) => 256,
            (2, 0) => 128 << 10,
            (3, 0) => 8,
            _ => u64::MAX,
        })
    },
    reads: NONE,
    writes: NONE,
    faults: false,
};
