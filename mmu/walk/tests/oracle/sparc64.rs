//! SPARC: the tablewalk of UltraSPARC T2 as its sources wire it, and the lookup, miss handler and retry of sun4u, with bit
//! ranges written as in the manuals (leftmost first, 63 is the most significant).

use crate::{Words, judge, tables};
use proptest::prelude::*;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::sparc64::sun4u::{self, Kernel, TagAccess, Tsb};
use racewalk_walk::sparc64::sun4v::{self, Config, Model, RealRange};
use racewalk_walk::sparc64::{Fault, Machine, Operand, Reason, State};
use racewalk_walk::tlb::InfiniteTlb;
use racewalk_walk::{Access, WalkStop};

/// x[high:low].
fn bits(x: u64, high: u32, low: u32) -> u64 {
    let mut out = 0;
    for n in (low..=high).rev() {
        out = out * 2 + (x >> n) % 2;
    }
    out
}

fn bit(x: u64, n: u32) -> bool {
    bits(x, n, n) == 1
}

/// What an instruction does before the MMU sees it.
struct Issue {
    context0: u64,
    context1: u64,
    user: bool,
    supervisor: bool,
    no_fault: bool,
    atomic: bool,
    bypass: bool,
    asi: u64,
    /// SFSR.CT.
    ct: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Slow {
    /// Physical address, log2 of the page size.
    Found(u64, u32, Vec<u64>),
    /// Trap type and the registers.
    Trap(u64, Vec<u64>),
}

/// The part that both machines share. `Err`: a trap by its number, with FT.
fn issue(case: &Case, sun4v: bool) -> Result<Issue, (u64, u64, Issue)> {
    let s = &case.state;
    let tl = s.trap_level != 0;
    let store = case.access == Access::Store;
    let fetch = case.access == Access::Fetch;
    let asi = match case.operand.asi {
        Some(a) if !fetch => a as u64,
        _ => {
            if tl {
                0x04
            } else {
                0x80
            }
        }
    };
    let mut i = Issue {
        context0: s.primary[0] as u64,
        context1: s.primary[1] as u64,
        user: !s.privileged,
        supervisor: s.privileged,
        no_fault: false,
        atomic: case.operand.atomic && !fetch,
        bypass: if fetch { !s.fetch_mmu } else { !s.data_mmu },
        asi,
        ct: 0,
    };
    let nucleus = |i: &mut Issue| (i.context0, i.context1, i.ct) = (0, 0, 2);
    if fetch {
        if tl {
            nucleus(&mut i);
        }
        return Ok(i);
    }
    // Little-endian twins differ in bit 3.
    let base = if bit(asi, 3) { asi - 8 } else { asi };
    let little = bit(asi, 3);
    let (mut known, mut only_loads) = (true, false);
    let named_secondary = base % 2 == 1;
    match base {
        0x04 => nucleus(&mut i),
        0x10 | 0x11 => i.user = true,
        0x14 | 0x15 => (i.bypass, i.ct) = (true, 3),
        0x22 | 0x23 if sun4v => (i.user, only_loads) = (true, true),
        0x24 => {
            nucleus(&mut i);
            only_loads = true;
        }
        0x26 if sun4v => (i.bypass, i.ct, only_loads) = (true, 3, true),
        0x27 if sun4v => {
            nucleus(&mut i);
            only_loads = true;
        }
        0x34 if !sun4v => (i.bypass, i.ct, only_loads) = (true, 3, true),
        0x80 | 0x81 => {}
        0x82 | 0x83 => i.no_fault = true,
        0xc0..=0xc5 | 0xd0..=0xd3 | 0xf0 | 0xf1 => {}
        0xe0 | 0xe1 if !little => {}
        0xe2 | 0xe3 if sun4v => only_loads = true,
        _ => known = false,
    }
    let by_parity = matches!(base, 0x10 | 0x11 | 0x22 | 0x23 | 0x80..=0xff);
    if known && by_parity && named_secondary {
        (i.context0, i.context1, i.ct) = (s.secondary[0] as u64, s.secondary[1] as u64, 1);
    }
    if !known {
        i.ct = 3;
        if tl {
            (i.context0, i.context1) = (0, 0);
        }
    }
    i.atomic |= only_loads;
    if !case.va.is_multiple_of(case.operand.bytes as u64) {
        return Err((0x34, 0, i));
    }
    let hyper = sun4v && (0x30..0x80).contains(&asi);
    if case.operand.asi.is_some() && (hyper || (asi < 0x80 && !s.privileged)) {
        return Err((0x37, 0, i));
    }
    if !known || (store && (only_loads || i.no_fault)) {
        return Err((if sun4v { 0x14 } else { 0x30 }, 0x08, i));
    }
    Ok(i)
}

struct Machine4v<'a> {
    words: &'a Words,
    c: &'a sun4v::Context,
    case: &'a Case,
    i: Issue,
}

impl Machine4v<'_> {
    fn trap(&self, tt: u64) -> Slow {
        let fetch = self.case.access == Access::Fetch;
        let (guest, kind) = match tt {
            0x34 => (0x34, 14),
            0x37 => (0x37, 12),
            0x64 | 0x68 => (tt, 1),
            0x6c => (tt, 2),
            0x09 | 0x31 => (tt, 3),
            0x71 | 0x72 => return Slow::Trap(tt, vec![0x7f]),
            _ => {
                let kind = match tt {
                    0x2a | 0x2b | 0x3e | 0x3f => 4,
                    0x08 | 0x15 => 5,
                    0x0b => 6,
                    0x0c | 0x17 => 7,
                    0x30 => 8,
                    0x0d | 0x2e => 9,
                    0x14 => 10,
                    0x16 => 11,
                    _ => unreachable!(),
                };
                (if fetch { 0x08 } else { 0x30 }, kind)
            }
        };
        let va = self.case.va;
        let address = if kind <= 3 { bits(va, 63, 13) << 13 } else { va };
        Slow::Trap(tt, vec![guest, kind, address, self.i.context0])
    }

    fn to_physical(&self, ra: u64) -> Option<u64> {
        let r = self.c.ranges.iter().find(|r| {
            bit(r.range, 63) && (bits(r.range, 26, 0)..=bits(r.range, 53, 27)).contains(&bits(ra, 63, 13))
        })?;
        Some((ra + (bits(r.offset, 39, 13) << 13)) % (1 << 40))
    }

    fn access(&self) -> Slow {
        let (case, c) = (self.case, self.c);
        let va = case.va;
        let fetch = case.access == Access::Fetch;
        let by_side = |instruction: u64, data: u64| self.trap(if fetch { instruction } else { data });
        if self.i.bypass {
            return match self.to_physical(bits(va, 63, 13) << 13) {
                Some(pa) => Slow::Found(pa + bits(va, 12, 0), 13, vec![]),
                None => by_side(0x3e, 0x3f),
            };
        }
        let top = c.model.va_bits as u32 - 1;
        let above = bits(va, 63, top);
        if above != 0 && above != bits(u64::MAX, 63, top) {
            return by_side(0x0d, 0x2e);
        }
        let zero = self.i.context0 == 0;
        let mut walked = false;
        for config in if zero { &c.zero } else { &c.nonzero } {
            let config = config.0;
            if !bit(config, 63) {
                continue;
            }
            walked = true;
            // {base[39:13+size], VPN[8+size:0], 0000}
            let (size, smallest) = (bits(config, 3, 0) as u32, bits(config, 6, 4) as u32);
            let vpn = bits(va, 47, 13 + 3 * smallest);
            let pointer = (bits(config, 39, 13 + size) << (13 + size)) + 16 * bits(vpn, 8 + size, 0);
            let (Some(&tag), Some(&tte)) = (self.words.get(&pointer), self.words.get(&(pointer + 8))) else {
                return by_side(0x71, 0x72);
            };
            let page = bits(tte, 3, 0) as u32;
            if !bit(tte, 63) || page > 7 || page < smallest || !bit(c.model.page_sizes as u64, page) {
                continue;
            }
            if bits(tag, 63, 61) != 0 || bits(tag, 47, 42) != 0 {
                continue;
            }
            let page_bits = 13 + 3 * page;
            let compared = page_bits.max(22);
            if bits(tag, 41, compared - 22) != bits(va, 63, compared) {
                continue;
            }
            let (use0, use1) = (bit(config, 62), bit(config, 61));
            if bits(tag, 60, 48) != self.i.context0 && (zero || !(use0 || use1)) {
                continue;
            }
            if fetch && !bit(tte, 7) {
                return self.trap(0x0b);
            }
            let field = bits(tte, 55, 13) << 13;
            let address = if bit(config, 8) {
                match self.to_physical(field) {
                    Some(pa) => pa,
                    None => return by_side(0x2a, 0x2b),
                }
            } else {
                bits(field, c.model.pa_bits as u32 - 1, 0)
            };
            let (p, w, nfo, e, cp) = (bit(tte, 8), bit(tte, 6), bit(tte, 62), bit(tte, 11), bit(tte, 10));
            if p && self.i.user {
                return by_side(0x08, 0x15);
            }
            if !fetch && self.i.atomic && !cp {
                return self.trap(0x16);
            }
            if nfo && !self.i.no_fault {
                return by_side(0x0c, 0x17);
            }
            if e && self.i.no_fault {
                return self.trap(0x30);
            }
            if case.access == Access::Store && !w {
                return self.trap(0x6c);
            }
            let context = match (zero, use0, use1) {
                (false, false, true) => self.i.context1,
                _ => self.i.context0,
            };
            let frame = address - bits(address, page_bits - 1, 0);
            return Slow::Found(frame + bits(va, page_bits - 1, 0), page_bits, vec![context]);
        }
        if walked { by_side(0x09, 0x31) } else { by_side(0x64, 0x68) }
    }
}

/// sun4u, with a TLB that is a list.
struct Machine4u<'a> {
    words: &'a Words,
    c: &'a sun4u::Context,
    kernel: &'a Kernel,
    case: &'a Case,
    i: Issue,
}

impl Machine4u<'_> {
    fn trap(&self, tt: u64, ft: u64, e: bool) -> Slow {
        let case = self.case;
        let (va, fetch) = (case.va, case.access == Access::Fetch);
        let mut registers = Vec::new();
        let flag = |b: bool, n: u32| if b { 1u64 << n } else { 0 };
        if matches!(tt, 0x08 | 0x30 | 0x34 | 0x37 | 0x6c) {
            registers.push(
                1 + flag(bit(case.sfsr, 0), 1)
                    + flag(case.access == Access::Store, 2)
                    + flag(self.i.supervisor, 3)
                    + (self.i.ct << 4)
                    + flag(e, 6)
                    + (ft << 7)
                    + (self.i.asi << 16)
                    + flag(self.i.no_fault, 24),
            );
        }
        if matches!(tt, 0x08 | 0x30 | 0x64 | 0x68 | 0x6c) {
            let register = if fetch { self.c.instruction_tsb } else { self.c.data_tsb }.0;
            registers.push((bits(va, 63, 13) << 13) + self.i.context0);
            registers.push((self.i.context0 << 48) + bits(va, 63, 22));
            registers.push(pointer(register, bits(va, 63, 13), 0));
            registers.push(pointer(register, bits(va, 63, 16), 1));
        }
        Slow::Trap(tt, registers)
    }

    /// Matches and checks one TTE as the TLB has it.
    fn check(&self, tte: u64) -> Slow {
        let (case, va) = (self.case, self.case.va);
        let data = case.access != Access::Fetch;
        let size = bits(tte, 62, 61) + if bit(tte, 48) { 4 } else { 0 };
        let page_bits = if size > 5 { 13 } else { 13 + 3 * size as u32 };
        let mut ft = 0;
        if bit(tte, 2) && self.i.user {
            ft += 0x01;
        }
        if data && bit(tte, 3) && self.i.no_fault {
            ft += 0x02;
        }
        if data && self.i.atomic && !bit(tte, 5) {
            ft += 0x04;
        }
        if data && bit(tte, 60) && !self.i.no_fault {
            ft += 0x10;
        }
        let e = data && bit(tte, 3);
        if ft != 0 {
            return self.trap(if data { 0x30 } else { 0x08 }, ft, e);
        }
        if case.access == Access::Store && !bit(tte, 1) {
            return self.trap(0x6c, 0, e);
        }
        let frame = bits(tte, 42, page_bits) << page_bits;
        Slow::Found(frame + bits(va, page_bits - 1, 0), page_bits, vec![])
    }

    fn access(&self) -> Slow {
        let (case, va) = (self.case, self.case.va);
        let fetch = case.access == Access::Fetch;
        if self.i.bypass {
            return Slow::Found(bits(va, 42, 0), 13, vec![]);
        }
        let above = bits(va, 63, 43);
        if above != 0 && above != (1 << 21) - 1 {
            return self.trap(if fetch { 0x08 } else { 0x30 }, 0x20, false);
        }
        // The one TLB entry of the case.
        if let Some((tag, tte)) = case.entry
            && bit(tte, 63)
        {
            let size = bits(tte, 62, 61) + if bit(tte, 48) { 4 } else { 0 };
            let page_bits = if size > 5 { 13 } else { 13 + 3 * size as u32 };
            let context = bit(tte, 0) || bits(tag, 12, 0) == self.i.context0;
            if context && bits(tag, 63, page_bits) == bits(va, 63, page_bits) {
                return self.check(tte);
            }
        }
        match self.handler() {
            Ok(tte) => self.check(tte),
            Err(tt) => self.trap(tt, 0, false),
        }
    }

    /// The software handler: the TTE, or the trap that stands.
    fn handler(&self) -> Result<u64, u64> {
        let va = self.case.va;
        let fetch = self.case.access == Access::Fetch;
        let miss = if fetch { 0x64 } else { 0x68 };
        if self.i.context0 == 0 {
            return Err(miss);
        }
        let load = |at: u64| self.words.get(&at).copied().ok_or(0x32u64);
        let register = if fetch { self.c.instruction_tsb } else { self.c.data_tsb }.0;
        let tag = bits(va, 63, 22);
        let mut tsbs = vec![pointer(register, bits(va, 63, 13), 0)];
        tsbs.extend(self.kernel.huge_tsb.map(|t| pointer(t.0, bits(va, 63, 22), 0)));
        let mut tte = None;
        for at in &tsbs {
            let pair = (load(*at)?, load(at + 8)?);
            if pair.0 == tag {
                tte = Some(pair.1);
                break;
            }
        }
        if tte.is_none() {
            let mut table = self.kernel.pgd.0;
            let mut entry = 0;
            for (high, low) in [(52, 43), (42, 33), (32, 23), (22, 13)] {
                entry = load(table + 8 * bits(va, high, low))?;
                if entry == 0 {
                    return Err(miss);
                }
                if low == 23 && bit(entry, 56) {
                    entry = entry - (bits(entry, 22, 22) << 22) + (bits(va, 22, 22) << 22);
                    break;
                }
                table = entry;
            }
            if !bit(entry, 63) {
                return Err(miss);
            }
            tte = Some(entry);
        }
        let tte = tte.expect("found");
        if fetch && !bit(tte, 12) {
            return Err(miss);
        }
        // A TTE that is not valid enters nothing: the retried access misses again.
        if bit(tte, 63) { Ok(tte) } else { Err(miss) }
    }
}

/// A TSB pointer of sun4u, by the formula for common and split TSBs.
fn pointer(register: u64, number: u64, half: u64) -> u64 {
    let n = bits(register, 2, 0) as u32;
    let entry = 16 * bits(number, 8 + n, 0);
    if bit(register, 12) {
        (bits(register, 63, 14 + n) << (14 + n)) + (half << (13 + n)) + entry
    } else {
        (bits(register, 63, 13 + n) << (13 + n)) + entry
    }
}

/// A case for either machine: registers, an access, TSB entries and tables with their mistakes.
#[derive(Clone, Debug)]
struct Case {
    state: State,
    operand: Operand,
    access: Access,
    va: u64,
    sfsr: u64,
    /// TSB registers: low bits of each configuration, of sun4u's registers the first.
    configs: Vec<u64>,
    /// TTE and what is inverted in tag and TTE, for each TSB.
    ttes: Vec<(u64, u64, u64)>,
    /// Bits inverted in PGD, PUD, PMD and PTE.
    flips: Vec<(usize, u32)>,
    huge: bool,
    huge_tsb: bool,
    /// What is not in memory: TSB n, or table n - 4.
    outside: Option<usize>,
    /// sun4u: Tag Access and TTE of an entry.
    entry: Option<(u64, u64)>,
    ranges: Vec<(u64, u64, u64)>,
    t2: bool,
}

const TSBS: [u64; 4] = [0x10_0000_0000, 0x20_0000_0000, 0x30_0000_0000, 0x40_0000_0000];
const TABLES: [u64; 4] = [0x2_0000, 0x2_2000, 0x2_4000, 0x2_6000];

impl Case {
    fn sun4v(&self) -> (Words, sun4v::Context) {
        let mut words = Words::new();
        let mut c = sun4v::Context { state: self.state, ..Default::default() };
        c.model = if self.t2 { Model::T2 } else { Model::ALL };
        let fetch = self.access == Access::Fetch;
        let context = self.state.request(Machine::Sun4v, Vaddr(self.va), self.access, &self.operand);
        let context = context.map_or(0, |r| r.context());
        let mut tsbs = [Config::default(); 4];
        for (n, &(tte, tag_flip, tte_flip)) in self.ttes.iter().enumerate() {
            let config = Config(TSBS[n] | self.configs[n]);
            tsbs[n] = config;
            if self.outside == Some(n) {
                continue;
            }
            let at = config.pointer(Vaddr(self.va)).0;
            words.insert(at, sun4v::Tag::new(Vaddr(self.va), context).0 ^ tag_flip);
            words.insert(at + 8, tte ^ tte_flip ^ if fetch { 0 } else { tte & 0x80 });
        }
        for (n, &(first, last, offset)) in self.ranges.iter().enumerate() {
            c.ranges[n] = RealRange::new(first, last, offset);
        }
        (c.zero, c.nonzero) =
            if context == 0 { (tsbs, Default::default()) } else { (Default::default(), tsbs) };
        (words, c)
    }

    fn sun4u(&self) -> (Words, sun4u::Context, Kernel) {
        let mut words = Words::new();
        let va = Vaddr(self.va);
        let register = |n: usize| Tsb(TSBS[n] | self.configs[n] & 0x3_e007 | self.configs[n] >> 8 & 0x1000);
        let c = sun4u::Context { state: self.state, instruction_tsb: register(0), data_tsb: register(1) };
        let kernel = Kernel { pgd: Paddr(TABLES[0]), huge_tsb: self.huge_tsb.then(|| Tsb(TSBS[2])) };
        let tag = TagAccess::new(va, 0);
        // A tag that differs is what most accesses find in the TSB.
        for (n, at) in
            [register(0).pointer_8k(tag), register(1).pointer_8k(tag), Tsb(TSBS[2]).pointer_huge(va)]
                .into_iter()
                .enumerate()
        {
            let (tte, tag_flip, tte_flip) = self.ttes.get(n).copied().unwrap_or((0, 1, 0));
            if self.outside != Some(n) {
                words.insert(at.0, self.va >> 22 ^ tag_flip);
                words.insert(at.0 + 8, as_4u(tte) ^ tte_flip);
            }
        }
        for (n, &table) in TABLES.iter().enumerate() {
            let (shift, next) = (43 - 10 * n as u32, TABLES.get(n + 1));
            let mut entry = match next {
                None => as_4u(self.ttes[0].0),
                Some(_) if n == 2 && self.huge => as_4u(self.ttes[0].0) | 1 << 56 | 3 << 61,
                Some(&next) => next,
            };
            for &(m, b) in &self.flips {
                entry ^= if m == n { 1 << b } else { 0 };
            }
            if self.outside != Some(n + 4) {
                words.insert(table + (self.va >> shift & 1023) * 8, entry);
            }
        }
        (words, c, kernel)
    }
}

/// A sun4v TTE's meaning in sun4u's bits.
fn as_4u(tte: u64) -> u64 {
    tte & 1 << 63
        | (tte & 3) << 61
        | (tte >> 2 & 1) << 48
        | tte & 0x7ff_ffff_e000
        | (tte >> 7 & 1) << 12
        | (tte >> 9 & 3) << 4
        | (tte >> 11 & 1) << 3
        | (tte >> 8 & 1) << 2
        | (tte >> 6 & 1) << 1
        | (tte >> 62 & 1) << 60
}

fn case() -> impl Strategy<Value = Case> {
    let mostly = |p: f64| prop::bool::weighted(p);
    let context = || prop_oneof![1 => Just(0u16), 4 => prop::sample::select(vec![5u16, 6, 0x1fff])];
    let state = (
        mostly(0.4),
        mostly(0.1),
        mostly(0.97),
        mostly(0.97),
        [context(), context()],
        [context(), context()],
    )
        .prop_map(|(privileged, tl, fetch_mmu, data_mmu, primary, secondary)| State {
            privileged,
            trap_level: tl as u8,
            fetch_mmu,
            data_mmu,
            primary,
            secondary,
        });
    let asi = prop_oneof![
        12 => Just(None),
        3 => prop::sample::select(vec![0x81u8, 0x82, 0x83, 0x88, 0x8a, 0xf0, 0xe2]).prop_map(Some),
        2 => prop::sample::select(vec![0x04u8, 0x10, 0x11, 0x19, 0x24, 0x14, 0x15, 0x34, 0x26, 0x27, 0x22, 0x23]).prop_map(Some),
        1 => any::<u8>().prop_map(Some),
    ];
    let operand = (asi, prop::sample::select(vec![1u8, 2, 4, 8, 16]), mostly(0.2));
    let access = prop_oneof![Just(Access::Load), Just(Access::Store), Just(Access::Fetch)];
    let va = prop_oneof![
        12 => (0u64..1 << 43).prop_map(|v| v & !15),
        2 => (0u64..1 << 43).prop_map(|v| !v & !15),
        1 => any::<u64>().prop_map(|v| v & 0xffff_ffff_ffff),
        1 => any::<u64>(),
        1 => 0u64..1 << 26,
    ];
    // Enabled; the use bits, RA, the page size, the size and low bits of the base; for sun4u bit 20 is split.
    let flags = prop::sample::subsequence(vec![1u64 << 62, 1 << 61, 1 << 8, 1 << 20], 0..=2);
    let low =
        prop_oneof![3 => Just(0u64), 1 => prop::sample::select(vec![0x2000u64, 0x6000, 0x1_6000, 0x3_e000])];
    let page = prop_oneof![4 => Just(0u64), 1 => 0u64..8];
    let length = prop_oneof![3 => Just(0u64), 1 => 0u64..16];
    let config = (mostly(0.9), flags, page, length, low).prop_map(|(on, flags, page, length, low)| {
        (on as u64) << 63 | flags.iter().sum::<u64>() | page << 4 | length | low
    });
    let size = prop_oneof![3 => Just(0u64), 2 => prop::sample::select(vec![1u64, 3, 5]), 1 => 0u64..16];
    let permissions = prop::sample::subsequence(vec![6u32, 7, 9, 10], 0..=4);
    let odd = prop::sample::subsequence(vec![8u32, 11, 12, 62], 0..=2);
    let tte = (
        mostly(0.95),
        size,
        prop_oneof![3 => Just(0x77_0000u64), 1 => any::<u64>()],
        permissions,
        odd,
        mostly(0.5),
        mostly(0.4),
    )
        .prop_map(|(valid, size, ra, permissions, odd, all, strange)| {
            let set = |v: &[u32]| v.iter().map(|b| 1u64 << b).sum::<u64>();
            let permissions = if all { 0x6c0 } else { set(&permissions) };
            (valid as u64) << 63
                | size
                | ra & 0xff_ffff_ffff_e000
                | permissions
                | if strange { set(&odd) } else { 0 }
        });
    let flip = |p: f64| prop::option::weighted(p, 0u32..64).prop_map(|b| b.map_or(0, |b| 1u64 << b));
    let entry = (tte.clone(), flip(0.3), flip(0.3)).boxed();
    let range = prop_oneof![
        3 => Just((0x70_0000u64, 0x7f_e000u64, 0x1_0000_0000u64)),
        1 => Just((0, 0xff_ffff_e000, 0)),
        1 => Just((0x78_0000, 0x70_0000, 0x2000)),
    ];
    let table_flip =
        (0usize..4, prop_oneof![1 => 0u32..64, 2 => prop::sample::select(vec![63u32, 56, 22, 12, 1, 2])]);
    (
        (state, operand, access, va, 0u64..4),
        (
            prop::collection::vec(config, 4),
            prop::collection::vec(entry, 0..4),
            prop::collection::vec(range, 0..3),
        ),
        (
            prop::collection::vec(table_flip, 0..2),
            mostly(0.2),
            mostly(0.5),
            prop::option::weighted(0.05, 0usize..8),
            mostly(0.5),
        ),
        prop::option::weighted(0.2, (tte, flip(0.2), mostly(0.3), mostly(0.2))),
    )
        .prop_map(
            |((state, (asi, bytes, atomic), access, va, sfsr), (configs, mut ttes, ranges), rest, entry)| {
                let (flips, huge, huge_tsb, outside, t2) = rest;
                let access = if atomic && access == Access::Load { Access::Store } else { access };
                let va = if access == Access::Fetch { va & !3 } else { va };
                // sun4u's table wants one; tags that differ leave the TSBs behind.
                if ttes.is_empty() {
                    ttes.push((1 << 63 | 0x77_06c0, 1 << 21, 0));
                }
                let entry = entry.map(|(tte, flip, other, global)| {
                    let tag = va & !0x1fff | if other { 6 } else { state.primary[0] as u64 };
                    (tag ^ flip, as_4u(tte) | global as u64)
                });
                let operand = Operand { asi, bytes, atomic };
                Case {
                    state,
                    operand,
                    access,
                    va,
                    sfsr,
                    configs,
                    ttes,
                    flips,
                    huge,
                    huge_tsb,
                    outside,
                    entry,
                    ranges,
                    t2,
                }
            },
        )
}

fn all(machine: Machine, except: &[Reason]) -> Vec<&'static str> {
    let sides = [Access::Fetch, Access::Load];
    let reasons = Reason::ALL.iter().filter(|r| !except.contains(r));
    let mut names: Vec<_> =
        reasons.flat_map(|r| sides.map(|s| r.trap(machine, s))).flatten().map(|t| t.name).collect();
    names.push("found");
    names
}

fn agree(slow: Slow, fast: Slow) -> Result<(), String> {
    if slow == fast { Ok(()) } else { Err(format!("by the manual {slow:x?}, the walker {fast:x?}")) }
}

#[test]
fn sun4v() {
    judge(case(), &all(Machine::Sun4v, &[Reason::MultipleHit]), |case, seen| {
        let (words, c) = case.sun4v();
        let slow = match issue(case, true) {
            Ok(i) => Machine4v { words: &words, c: &c, case, i }.access(),
            Err((tt, _, i)) => Machine4v { words: &words, c: &c, case, i }.trap(tt),
        };
        let (memory, va) = (tables(&words), Vaddr(case.va));
        let walked = c.request(&memory, va, case.access, &case.operand).and_then(|r| {
            let t = sun4v::walk(&memory, &c, &r, va)?;
            Ok((t, r.untranslated))
        });
        let fast = match walked {
            Ok((t, bypass)) => {
                seen("found");
                Slow::Found(t.paddr.0, t.shift as u32, if bypass { vec![] } else { vec![t.context as u64] })
            }
            Err(WalkStop::Fault(f)) => {
                seen(f.trap().name);
                let mut registers = vec![f.guest_trap() as u64];
                registers
                    .extend(f.fault_area().into_iter().flat_map(|a| [a.fault_type, a.address, a.context]));
                Slow::Trap(f.trap().number as u64, registers)
            }
            Err(WalkStop::Cancelled) => return Err("cancelled without a schedule".into()),
        };
        agree(slow, fast)
    });
}

fn registers_4u(f: &Fault, c: &sun4u::Context, sfsr: u64) -> Vec<u64> {
    let mut r: Vec<u64> = f.sfsr(sfsr).into_iter().collect();
    if let Some(tag) = f.tag_access().map(TagAccess) {
        let tsb = c.tsb(f.request.access);
        r.extend([tag.0, tag.target().0, tsb.pointer_8k(tag).0, tsb.pointer_64k(tag).0]);
    }
    r
}

#[test]
fn sun4u() {
    // Two entries that match are no case of one entry.
    judge(case(), &all(Machine::Sun4u, &[Reason::MultipleHit]), |case, seen| {
        let (words, c, kernel) = case.sun4u();
        let slow = match issue(case, false) {
            Ok(i) => Machine4u { words: &words, c: &c, kernel: &kernel, case, i }.access(),
            Err((tt, ft, i)) => {
                Machine4u { words: &words, c: &c, kernel: &kernel, case, i }.trap(tt, ft, false)
            }
        };
        let (memory, va) = (tables(&words), Vaddr(case.va));
        let mut tlb = InfiniteTlb::new();
        if let Some((tag, tte)) = case.entry {
            let e = sun4u::walk::data_in(TagAccess(tag), sun4u::Tte(tte), Paddr(0));
            e.into_iter().for_each(|e| tlb.fill(e));
        }
        let request = c.request(va, case.access, &case.operand).map_err(WalkStop::Fault);
        let walked = request.and_then(|r| sun4u::translate(&memory, &c, &kernel, &mut tlb, &r, va));
        let fast = match walked {
            Ok(t) => {
                seen("found");
                Slow::Found(t.paddr.0, t.shift as u32, vec![])
            }
            Err(WalkStop::Fault(f)) => {
                seen(f.trap().name);
                Slow::Trap(f.trap().number as u64, registers_4u(&f, &c, case.sfsr))
            }
            // Nobody releases a lock that a case begins with.
            Err(WalkStop::Cancelled) => return Ok(()),
        };
        agree(slow, fast)
    });
}
