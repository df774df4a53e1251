//! SPARC: what the slow walkers of sun4u and sun4v share, and the cases. Bit ranges are written as in the manuals, leftmost
//! first; 63 is the most significant.

use crate::Words;
use proptest::prelude::*;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::Access;
use racewalk_walk::sparc64::sun4u::{self, Kernel, TagAccess, Tsb};
use racewalk_walk::sparc64::sun4v::{self, Config, Model, RealRange};
use racewalk_walk::sparc64::{Machine, Operand, Reason, State};

/// x[high:low].
pub fn bits(x: u64, high: u32, low: u32) -> u64 {
    let mut out = 0;
    for n in (low..=high).rev() {
        out = out * 2 + (x >> n) % 2;
    }
    out
}

pub fn bit(x: u64, n: u32) -> bool {
    bits(x, n, n) == 1
}

/// What an instruction does before the MMU sees it.
pub struct Issue {
    pub context0: u64,
    pub context1: u64,
    pub user: bool,
    pub supervisor: bool,
    pub no_fault: bool,
    pub atomic: bool,
    pub bypass: bool,
    pub asi: u64,
    /// SFSR.CT.
    pub ct: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Slow {
    /// Physical address, log2 of the page size.
    Found(u64, u32, Vec<u64>),
    /// Trap type and the registers.
    Trap(u64, Vec<u64>),
}

/// The part that both machines share. `Err`: a trap by its number, with FT.
pub fn issue(case: &Case, sun4v: bool) -> Result<Issue, (u64, u64, Issue)> {
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

/// A case for either machine: registers, an access, TSB entries and tables with their mistakes.
#[derive(Clone, Debug)]
pub struct Case {
    pub state: State,
    pub operand: Operand,
    pub access: Access,
    pub va: u64,
    pub sfsr: u64,
    /// TSB registers: low bits of each configuration, of sun4u's registers the first.
    pub configs: Vec<u64>,
    /// TTE and what is inverted in tag and TTE, for each TSB.
    pub ttes: Vec<(u64, u64, u64)>,
    /// Bits inverted in PGD, PUD, PMD and PTE.
    pub flips: Vec<(usize, u32)>,
    pub huge: bool,
    pub huge_tsb: bool,
    /// What is not in memory: TSB n, or table n - 4.
    pub outside: Option<usize>,
    /// sun4u: Tag Access and TTE of an entry.
    pub entry: Option<(u64, u64)>,
    pub ranges: Vec<(u64, u64, u64)>,
    pub t2: bool,
}

const TSBS: [u64; 4] = [0x10_0000_0000, 0x20_0000_0000, 0x30_0000_0000, 0x40_0000_0000];
const TABLES: [u64; 4] = [0x2_0000, 0x2_2000, 0x2_4000, 0x2_6000];

impl Case {
    pub fn sun4v(&self) -> (Words, sun4v::Context) {
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

    pub fn sun4u(&self) -> (Words, sun4u::Context, Kernel) {
        let mut words = Words::new();
        let va = Vaddr(self.va);
        let register = |n: usize| Tsb(TSBS[n] | self.configs[n] & 0x3_e007 | self.configs[n] >> 8 & 0x1000);
        let c = sun4u::Context { state: self.state, instruction_tsb: register(0), data_tsb: register(1) };
        let huge_tsb = self.huge_tsb.then(|| Tsb(TSBS[2]));
        let kernel = Kernel { pgd: Paddr(TABLES[0]), huge_tsb, recheck: false };
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
pub fn as_4u(tte: u64) -> u64 {
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

pub fn case() -> impl Strategy<Value = Case> {
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

pub fn all(machine: Machine, except: &[Reason]) -> Vec<&'static str> {
    let sides = [Access::Fetch, Access::Load];
    let reasons = Reason::ALL.iter().filter(|r| !except.contains(r));
    let mut names: Vec<_> =
        reasons.flat_map(|r| sides.map(|s| r.trap(machine, s))).flatten().map(|t| t.name).collect();
    names.push("found");
    names
}

pub fn agree(slow: Slow, fast: Slow) -> Result<(), String> {
    if slow == fast { Ok(()) } else { Err(format!("by the manual {slow:x?}, the walker {fast:x?}")) }
}
