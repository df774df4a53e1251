//! The hashed page table in the words of Power ISA 2.07B Book III-S 5.7 and 3.0B Book III 6.7.8, with bits numbered as there.

use crate::{Words, judge, tables};
use proptest::prelude::*;
use racewalk_ram::Vaddr;
use racewalk_walk::ppc64::hash::{Slb, Version, walk};
use racewalk_walk::ppc64::{Context, Denied, Fault, Reason};
use racewalk_walk::{Access, WalkStop};

/// Bits `first` to `last` of a doubleword, bit 0 leftmost.
fn bits(x: u64, first: u32, last: u32) -> u64 {
    (x << first) >> (first + 63 - last)
}

fn bit(x: u64, n: u32) -> bool {
    bits(x, n, n) == 1
}

/// Bit `n` of a 64-bit register.
const fn b(n: u32) -> u64 {
    1 << (63 - n)
}

type Interrupt = (u32, Vec<(&'static str, u64)>);
/// Where an access leads and log2 of the page, or an interrupt's vector and registers.
type End = Result<(u64, u32), Interrupt>;

/// An SLB entry by the operands that `slbmte` had.
#[derive(Clone, Copy, Debug)]
struct Slbe {
    rs: u64,
    rb: u64,
}

impl Slbe {
    fn one_terabyte(&self) -> bool {
        bits(self.rs, 0, 1) == 1
    }
    /// log2 of the segment.
    fn size(&self) -> u32 {
        if self.one_terabyte() { 40 } else { 28 }
    }
    fn translates(&self, ea: u64) -> bool {
        bit(self.rb, 36) && ea >> self.size() == self.rb >> self.size()
    }
    /// log2 of the base page, by L and LP.
    fn base(&self) -> Option<u32> {
        match (bits(self.rs, 0, 1), bits(self.rs, 55, 55), bits(self.rs, 58, 59)) {
            (2 | 3, _, _) => None,
            (_, 0, 0) => Some(12),
            (_, 1, 0) => Some(24),
            (_, 1, 1) => Some(16),
            (_, 1, 2) => Some(34),
            _ => None,
        }
    }
    fn vsid(&self) -> u128 {
        if self.one_terabyte() { bits(self.rs, 2, 39) as u128 } else { bits(self.rs, 2, 51) as u128 }
    }
    fn virtual_address(&self, ea: u64) -> u128 {
        self.vsid() << self.size() | (ea as u128 & ((1 << self.size()) - 1))
    }
    /// The 39 bits of the primary hash.
    fn hash(&self, ea: u64, base: u32) -> u64 {
        let page = (ea as u128 & ((1 << self.size()) - 1)) >> base;
        let shifted = if self.one_terabyte() { self.vsid() << 25 } else { 0 };
        ((self.vsid() ^ shifted ^ page) % (1 << 39)) as u64
    }
}

/// log2 of the page that L and LP of an entry tell in a segment with such base pages.
fn page_size(base: u32, large: bool, lp: u64) -> Option<u32> {
    Some(match (base, large, lp, lp & 15) {
        (12, false, _, _) => 12,
        (12, true, _, 0b0111) => 16,
        (12, true, 0b0011_1000, _) => 24,
        (16, true, _, 0b0001) => 16,
        (16, true, 0b0000_1000, _) => 24,
        (24, true, 0, _) => 24,
        (34, true, 0b0000_0011, _) => 34,
        _ => return None,
    })
}

struct Machine<'a> {
    words: Words,
    context: &'a Context,
    slb: &'a [Slbe],
    ea: u64,
    access: Access,
}

impl Machine<'_> {
    fn word(&self, at: u64) -> Result<u64, Interrupt> {
        self.words.get(&at).copied().ok_or((0x200, Vec::new()))
    }

    fn interrupt(&self, cause: u64, hypervisor: bool, segment: Option<u64>) -> Interrupt {
        let ea = self.ea;
        let cause = if self.access == Access::Store { cause | b(38) } else { cause };
        let (vector, mut r) = match (self.access, hypervisor) {
            (Access::Fetch, false) => (0x400, vec![("srr1", cause)]),
            (Access::Fetch, true) => (0xe20, vec![("hsrr1", cause)]),
            (_, false) => (0x300, vec![("dsisr", cause), ("dar", ea)]),
            (_, true) => (0xe00, vec![("hdsisr", cause), ("hdar", ea)]),
        };
        r.extend(segment.map(|s| ("asdr", s)));
        (vector, r)
    }

    fn translate(&mut self) -> End {
        let (c, ea) = (self.context, self.ea);
        let (hv, pr) = (bit(c.msr, 3), bit(c.msr, 49));
        let fetch = self.access == Access::Fetch;
        let three = c.version == Version::V3;
        if !bit(c.msr, if fetch { 58 } else { 59 }) {
            let offset = if bit(ea, 0) { 0 } else { c.hrmor };
            return if hv { Ok((bits(ea | offset, 4, 63), 12)) } else { Err((0, Vec::new())) };
        }
        if three && bit(c.lpcr, 41) {
            return Err((0, Vec::new()));
        }
        let own: Vec<&Slbe> = self.slb.iter().filter(|e| e.translates(ea)).collect();
        let none = if fetch { (0x480, Vec::new()) } else { (0x380, vec![("dar", ea)]) };
        let (slbe, mut base) = match own[..] {
            [] => return Err(none),
            [e] => (*e, e.base().ok_or(none)?),
            _ if fetch => return Err((0x200, Vec::new())),
            _ => return Err((0x200, vec![("dsisr", b(56)), ("dar", ea)])),
        };
        let virtualized = !hv && bit(c.lpcr, 1);
        let storage =
            |m: &Self, cause| m.interrupt(cause, virtualized, (virtualized && three).then_some(slbe.rs));
        if fetch && bit(slbe.rs, 54) {
            return Err(storage(self, b(35)));
        }
        if bit(c.lpcr, 2) {
            base = 12;
        }
        let table = if three {
            let lpid = bits(c.lpidr, 52, 63);
            if lpid >= 1 << (bits(c.ptcr, 59, 63) + 8) {
                return Err(self.interrupt(b(44), true, None));
            }
            let entry = self.word((bits(c.ptcr, 4, 51) << 12) + 16 * lpid)?;
            if bit(entry, 0) {
                return Err(self.interrupt(b(44), true, None));
            }
            entry
        } else {
            c.sdr1
        };
        let groups = 2048 << bits(table, 59, 63);
        let va = slbe.virtual_address(ea) >> base << base;
        let mut found = None;
        'search: for secondary in [false, true] {
            if secondary && bit(c.lpcr, 54) {
                break;
            }
            let hash = slbe.hash(ea, base);
            let hash = if secondary { (1 << 39) - 1 - hash } else { hash };
            for slot in 0..8 {
                let at = (bits(table, 4, 45) << 18) + hash % groups * 128 + slot * 16;
                let first = self.word(at)?;
                // The entry has bits 0-54 of the 78-bit address, or under ISA 3.0 the last 45 of them.
                let wanted = va >> 23;
                let agrees = match three {
                    false => {
                        bits(first, 2, 56) as u128 == wanted
                            && bits(first, 0, 1) == slbe.one_terabyte() as u64
                    }
                    true => bits(first, 12, 56) as u128 == wanted % (1 << 45),
                };
                if !bit(first, 63) || bit(first, 62) != secondary || !agrees {
                    continue;
                }
                let second = self.word(at + 8)?;
                if three && bits(second, 4, 5) != slbe.one_terabyte() as u64 {
                    continue;
                }
                if let Some(size) = page_size(base, bit(first, 61), bits(second, 44, 51)) {
                    found = Some((at, second, size));
                    break 'search;
                }
            }
        }
        let Some((at, second, size)) = found else { return Err(storage(self, b(33))) };
        let key = bit(slbe.rs, if pr { 53 } else { 52 });
        let permitted = match (bits(second, 0, 0) * 4 + bits(second, 62, 63), key) {
            (0b000 | 0b001, false) | (0b010, _) => "load store",
            (0b001, true) | (0b011, _) | (0b110, false) => "load",
            _ => "",
        };
        let class = bits(second, 2, 3) as u32 * 8 + bits(second, 52, 54) as u32;
        let no_execute = bit(second, 60) || bit(second, 61);
        let cause = match self.access {
            Access::Fetch if no_execute => b(35),
            Access::Fetch | Access::Load if !permitted.contains("load") => b(36),
            Access::Store if !permitted.contains("store") => b(36),
            _ => 0,
        };
        let by_class = match self.access {
            Access::Fetch => bit(c.iamr, 2 * class + 1),
            Access::Load => bit(c.amr, 2 * class + 1),
            Access::Store => bit(c.amr, 2 * class),
        };
        let cause = cause | if by_class { b(42) } else { 0 };
        if cause != 0 {
            return Err(storage(self, cause));
        }
        let recorded = second | b(55) | if self.access == Access::Store { b(56) } else { 0 };
        self.words.insert(at + 8, recorded);
        let rpn = if three { bits(second, 7, 51) } else { bits(second, 4, 51) } << 12;
        let offset = ea % (1 << slbe.size());
        Ok(((rpn >> size << size) + offset % (1 << size), size))
    }
}

/// An entry of one of the two groups.
#[derive(Clone, Debug)]
struct Placed {
    secondary: bool,
    slot: u64,
    large: bool,
    lp: u64,
    /// Flags of the second doubleword.
    second: u64,
    frame: u64,
    wrong: Option<(bool, u32)>,
}

#[derive(Clone, Debug)]
struct Case {
    hv: bool,
    pr: bool,
    on: bool,
    version: Version,
    lpcr: u64,
    lpid: u64,
    masks: (u64, u64),
    ea: u64,
    access: Access,
    /// The segment's VSID word; other entries of the SLB.
    segment: u64,
    others: Vec<Slbe>,
    valid: bool,
    htabsize: u64,
    entries: Vec<Placed>,
    table_wrong: Option<u32>,
    outside: bool,
}

/// Aligned to the largest table, of 2^46 bytes: only there do all bits of the hash count.
const TABLE: u64 = 1 << 50;

impl Case {
    fn slb(&self) -> Vec<Slbe> {
        let mut e = Slbe { rs: self.segment, rb: if self.valid { b(36) } else { 0 } };
        e.rb |= self.ea >> e.size() << e.size();
        std::iter::once(e).chain(self.others.iter().copied()).collect()
    }

    fn build(&self) -> (Words, Context) {
        let flag = |on, n: u32| if on { b(n) } else { 0 };
        let translation = flag(self.on, 58) | flag(self.on, 59);
        let msr = b(0) | flag(self.hv, 3) | flag(self.pr, 49) | translation;
        let mut slb = Slb::default();
        for (n, e) in self.slb().iter().enumerate() {
            assert!(slb.slbmte(e.rs, e.rb | n as u64));
        }
        let table = TABLE | self.htabsize;
        let context = Context {
            msr,
            lpcr: self.lpcr,
            ptcr: 0x1_0000,
            lpidr: self.lpid,
            hrmor: 0x100_0000,
            amr: self.masks.0,
            iamr: self.masks.1,
            version: self.version,
            sdr1: table,
            slb,
            ..Context::default()
        };
        let three = self.version == Version::V3;
        let mut words = Words::new();
        let partition = table ^ self.table_wrong.map_or(0, b);
        words.insert(0x1_0000 + 16 * self.lpid, partition);
        let e = self.slb()[0];
        let base = if bit(self.lpcr, 2) { 12 } else { e.base().unwrap_or(12) };
        let hash = e.hash(self.ea, base);
        let group = |secondary: bool| {
            let h = if secondary { (1 << 39) - 1 - hash } else { hash };
            TABLE + h % (2048 << self.htabsize) * 128
        };
        if !self.outside {
            for at in [group(false), group(true)] {
                words.extend((0..16).map(|n| (at + 8 * n, 0)));
            }
        }
        let va = e.virtual_address(self.ea) >> base << base;
        let b_field = e.one_terabyte() as u64;
        for p in &self.entries {
            let avpn = ((va >> 23) as u64) << 7;
            let low = flag(p.large, 61) | flag(p.secondary, 62) | b(63);
            let mut first = if three { avpn % b(11) } else { avpn | b_field << 62 } | low;
            let mut second = p.second | p.frame | p.lp << 12 | if three { b_field << 58 } else { 0 };
            match p.wrong {
                Some((true, n)) => first ^= b(n),
                Some((false, n)) => second ^= b(n),
                None => {}
            }
            let at = group(p.secondary) + 16 * p.slot;
            words.insert(at, first);
            words.insert(at + 8, second);
        }
        (words, context)
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let mostly = |p: f64| prop::bool::weighted(p);
    let access = prop_oneof![Just(Access::Load), Just(Access::Store), Just(Access::Fetch)];
    let lpcr = prop_oneof![8 => Just(0u64), 2 => Just(b(1)), 2 => Just(b(54)), 2 => Just(b(2)), 1 => Just(b(41)),
        1 => Just(b(1) | b(54) | b(2))];
    let lpid = prop_oneof![6 => 0u64..8, 1 => Just(0x100u64), 1 => Just(0xff)];
    let mask = || prop_oneof![5 => Just(0u64), 2 => any::<u64>()];
    let version = prop_oneof![Just(Version::V2), Just(Version::V3)];
    let ea =
        prop_oneof![4 => 0u64..1 << 34, 2 => any::<u64>(), 1 => (0u64..1 << 41).prop_map(|a| a | 0xc << 60)];
    // Mostly a base page size that exists, in segments that hold it.
    let size = prop_oneof![6 => Just(0x000u64), 5 => Just(0x110), 3 => Just(0x100), 2 => Just(0x120 | 1 << 62),
        1 => Just(0x010), 1 => Just(0x130)];
    let vsid = prop_oneof![3 => 0u64..1 << 20, 1 => any::<u64>()];
    let flags = (0u64..16, prop_oneof![6 => Just(0u64), 1 => Just(0x200), 1 => Just(0x80)]);
    let terabyte = prop_oneof![6 => Just(0u64), 4 => Just(1u64 << 62), 1 => Just(1u64 << 63)];
    let segment = (size, vsid, flags, terabyte).prop_map(|(size, vsid, (keys, n), t)| {
        size | t | (vsid << 12 & 0x3fff_ffff_ffff_f000) | (keys & 3) << 10 | n
    });
    let other = (any::<u64>(), any::<u64>(), 0u64..4).prop_map(|(rs, rb, low)| Slbe {
        rs: rs & !(3 << 62) & !0x4f,
        rb: if low == 0 { rb & !0xfff_ffff } else { (rb & 7) << 28 } | b(36),
    });
    let others = prop_oneof![8 => Just(Vec::new()), 2 => prop::collection::vec(other, 1..3)];
    let lp = prop_oneof![5 => Just(0u64), 3 => Just(1), 2 => Just(7), 2 => Just(0x38), 2 => Just(8), 2 => Just(3),
        2 => 0u64..256];
    let second = (
        prop_oneof![6 => Just(0x192u64), 2 => Just(0x190), 1 => Just(0x112), 1 => Just(0x012), 2 => 0u64..0x200],
        prop_oneof![4 => Just(0u64), 2 => 0u64..32],
        mostly(0.15),
    )
        .prop_map(|(low, key, pp0)| low | (key >> 3) << 60 | (key & 7) << 9 | (pp0 as u64) << 63);
    let bit = prop_oneof![2 => 0u32..64, 2 => prop::sample::select(vec![4u32, 5, 60, 61, 62, 63])];
    let wrong = prop::option::weighted(0.3, (any::<bool>(), bit));
    let frame = prop_oneof![3 => (0u64..1 << 20).prop_map(|f| f << 20), 1 => any::<u64>().prop_map(|f| f & (((1 << 49) - 1) << 12) & !0xff000)];
    let placed = (mostly(0.3), 0u64..8, mostly(0.5), lp, second, frame, wrong).prop_map(
        |(secondary, slot, large, lp, second, frame, wrong)| Placed {
            secondary,
            slot,
            large,
            lp,
            second,
            frame,
            wrong,
        },
    );
    let htabsize = prop_oneof![4 => 0u64..3, 1 => 3u64..28, 1 => Just(28)];
    // A good entry as well, three times in four, by the segment's base page.
    let good = prop::option::weighted(0.75, (mostly(0.3), placed.clone()));
    (
        (mostly(0.5), mostly(0.4), mostly(0.95), version, lpcr, lpid, (mask(), mask())),
        (ea, access, segment, others, mostly(0.95)),
        (htabsize, prop::collection::vec(placed, 0..6), good),
        (prop::option::weighted(0.04, 0u32..64), mostly(0.03)),
    )
        .prop_map(|(registers, path, (htabsize, mut entries, good), (table_wrong, outside))| {
            let (hv, pr, on, version, lpcr, lpid, masks) = registers;
            let (ea, access, segment, others, valid) = path;
            if let Some((_, p)) = good {
                let (large, lp) = match segment & 0x130 {
                    _ if lpcr & b(2) != 0 => (false, p.lp),
                    0x000 => (false, p.lp),
                    0x110 => (true, 1),
                    0x100 => (true, 0),
                    _ => (true, 3),
                };
                entries.push(Placed { large, lp, ..p });
            }
            Case {
                hv,
                pr,
                on,
                version,
                lpcr,
                lpid,
                masks,
                ea,
                access,
                segment,
                others,
                valid,
                htabsize,
                entries,
                table_wrong,
                outside,
            }
        })
}

fn told(f: &Fault) -> End {
    Err((f.vector(), f.registers()))
}

fn compare(case: &Case, seen: &mut dyn FnMut(&str)) -> Result<(), String> {
    let (words, context) = case.build();
    let memory = tables(&words);
    let contents = || memory.contents().into_iter().collect::<Words>();
    let va = Vaddr(case.ea);
    let slb = case.slb();
    let slow = |words: Words, access| {
        let mut m = Machine { words, context: &context, slb: &slb, ea: va.0, access };
        let end = m.translate();
        (end, m.words)
    };
    let (manual, after) = slow(words, case.access);
    let c = context.hash(case.access);
    let walked = walk(&memory, &c, va, case.access);
    let fast = match &walked {
        Ok(t) => {
            seen(&format!("found {}", t.shift));
            Ok((t.paddr.0, t.shift as u32))
        }
        Err(WalkStop::Fault(f)) => {
            seen(&format!("{}{}", if f.hypervisor { "hypervisor: " } else { "" }, f.reason.name()));
            told(f)
        }
        Err(WalkStop::Cancelled) => return Err("cancelled without a schedule".into()),
    };
    if manual != fast {
        return Err(format!("by the manual {manual:x?}, the walker {fast:x?}"));
    }
    if after != contents() {
        return Err(format!("by the manual memory is then {after:x?}, the walker left {:x?}", contents()));
    }
    // What a TLB keeps must answer every further access as a walk does.
    let Ok(t) = walked else { return Ok(()) };
    let entry = t.tlb_entry();
    for access in Access::ALL {
        let c = context.hash(access);
        let kept = match c.check(&entry.leaf, va, access) {
            Ok(()) => match c.tlb_key(va, access) {
                Ok(key) if entry.tag.serves(&key) => Ok((entry.paddr(key.va).0, t.shift as u32)),
                other => return Err(format!("{access} is asked of the TLB as {other:?}")),
            },
            Err(Denied::Fault(f)) => told(&f),
            Err(Denied::Walk) => continue,
        };
        let (manual, _) = slow(contents(), access);
        if manual != kept {
            return Err(format!("{access} by the manual {manual:x?}, by the TLB {kept:x?}"));
        }
    }
    Ok(())
}

#[test]
fn ppc64_hash() {
    let mut all: Vec<_> =
        Reason::HASH.iter().filter(|r| **r != Reason::UnsupportedMmu).map(|r| r.name().to_string()).collect();
    let hypervisor =
        [Reason::NoTranslation, Reason::NoExecute, Reason::Protection, Reason::Key, Reason::UnsupportedMmu];
    all.extend(hypervisor.iter().map(|r| format!("hypervisor: {}", r.name())));
    all.extend([12, 16, 24, 34].map(|n| format!("found {n}")));
    judge(cases(), &all.iter().map(String::as_str).collect::<Vec<_>>(), compare);
}
