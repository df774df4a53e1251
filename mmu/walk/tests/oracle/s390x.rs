//! z/Architecture: dynamic address translation in the words of SA22-7832 chapter 3, with bits numbered as there.

use crate::{Words, judge, tables};
use proptest::prelude::*;
use racewalk_ram::Vaddr;
use racewalk_walk::s390x::{Context, Reason, walk};
use racewalk_walk::{Access, WalkStop};

/// Bits `first` to `last` of a doubleword, bit 0 leftmost.
fn bits(x: u64, first: u32, last: u32) -> u64 {
    let width = last - first + 1;
    let right = 63 - last;
    if width == 64 { x } else { x >> right & ((1 << width) - 1) }
}

fn bit(x: u64, n: u32) -> bool {
    bits(x, n, n) == 1
}

#[derive(Debug, PartialEq, Eq)]
enum Slow {
    /// Absolute address, log2 of the page size, protected, no execution.
    Found(u64, u8, bool, bool),
    /// Program-interruption code and, where one is stored, the TEID.
    Exception(u16, Option<u64>),
}

struct Machine<'a> {
    words: &'a Words,
    psw: u64,
    cr: [u64; 16],
    prefix: u64,
    edat1_installed: bool,
    edat2_installed: bool,
    iep_installed: bool,
}

impl<'a> Machine<'a> {
    fn new(words: &'a Words, c: &Context) -> Self {
        Machine {
            words,
            psw: c.psw,
            cr: c.cr,
            prefix: c.prefix,
            edat1_installed: c.facilities.edat1,
            edat2_installed: c.facilities.edat2,
            iep_installed: c.facilities.execution_protection,
        }
    }

    fn exception(&self, code: u16, va: u64, access: Access, space: u64, why: u64) -> Slow {
        let stored = match code {
            0x04 | 0x10 | 0x11 | 0x38..=0x3b => {
                let fsi = if access == Access::Store { 1 } else { 2 };
                Some(bits(va, 0, 51) << 12 | fsi << 10 | why | space)
            }
            _ => None,
        };
        Slow::Exception(code, stored)
    }

    fn prefixed(&self, real: u64) -> u64 {
        match bits(real, 0, 50) {
            0 => self.prefix + bits(real, 51, 63),
            n if n == bits(self.prefix, 0, 50) => bits(real, 51, 63),
            _ => real,
        }
    }

    /// The whole of it, without access registers.
    fn translate(&self, va: u64, access: Access) -> Slow {
        let dat = bit(self.psw, 5);
        let mode = bits(self.psw, 16, 17);
        let (asce, space) = match (dat, mode, access) {
            (false, _, _) => (self.cr[1], 0),
            (true, 0b11, _) => (self.cr[13], 3),
            (true, 0b10, Access::Load | Access::Store) => (self.cr[7], 2),
            _ => (self.cr[1], 0),
        };
        let private = bit(asce, 55);
        let edat1 = self.edat1_installed && bit(self.cr[0], 40);
        let edat2 = edat1 && self.edat2_installed;
        let iep = self.iep_installed && bit(self.cr[0], 43);
        let fail = |code| self.exception(code, va, access, space, 0);
        let guarded = (0..=511).contains(&va) || (4096..=4607).contains(&va);
        if access == Access::Store && guarded && bit(self.cr[0], 35) && !(dat && private) {
            return self.exception(0x04, va, access, space, 0x80);
        }
        if !dat || bit(asce, 58) {
            return Slow::Found(self.prefixed(va), 12, false, false);
        }

        // The four indexes, and which of them the designated table takes.
        let index = [bits(va, 0, 10), bits(va, 11, 21), bits(va, 22, 32), bits(va, 33, 43)];
        let missing = [0x39, 0x3a, 0x3b, 0x10];
        let first = 3 - bits(asce, 60, 61) as usize;
        if index[..first].iter().any(|&i| i != 0) {
            return fail(0x38);
        }
        let (mut from, mut to) = (0, bits(asce, 62, 63));
        let mut origin = bits(asce, 0, 51) << 12;
        let mut protection = false;
        for level in first..4 {
            // Which quarters of the table exist.
            let quarter = index[level] / 512;
            if quarter < from || quarter > to {
                return fail(missing[level]);
            }
            let Some(&entry) = self.words.get(&(origin + 8 * index[level])) else { return fail(0x05) };
            if bit(entry, 58) {
                return fail(missing[level]);
            }
            if bits(entry, 60, 61) != 3 - level as u64 {
                return fail(0x12);
            }
            let common_means_something = level == 3 || (level == 2 && edat2);
            if common_means_something && bit(entry, 59) && private {
                return fail(0x12);
            }
            protection |= bit(entry, 54) && (level == 3 || edat1);
            let frame = bit(entry, 53) && ((level == 2 && edat2) || (level == 3 && edat1));
            if frame {
                let offset_bits = if level == 2 { 31 } else { 20 };
                let base = bits(entry, 0, 63 - offset_bits) << offset_bits;
                let address = base + bits(va, 64 - offset_bits, 63);
                return self.finish(
                    Slow::Found(address, offset_bits as u8, protection, bit(entry, 55)),
                    iep,
                    va,
                    access,
                    space,
                );
            }
            (from, to) = (bits(entry, 56, 57), bits(entry, 62, 63));
            origin = if level == 3 { bits(entry, 0, 52) << 11 } else { bits(entry, 0, 51) << 12 };
        }
        let Some(&entry) = self.words.get(&(origin + 8 * bits(va, 44, 51))) else { return fail(0x05) };
        if bit(entry, 53) {
            return fail(0x11);
        }
        if bit(entry, 52) {
            return fail(0x12);
        }
        let real = bits(entry, 0, 51) << 12 | bits(va, 52, 63);
        protection |= bit(entry, 54);
        self.finish(Slow::Found(self.prefixed(real), 12, protection, bit(entry, 55)), iep, va, access, space)
    }

    /// Protection, of a translation that was found.
    fn finish(&self, found: Slow, iep: bool, va: u64, access: Access, space: u64) -> Slow {
        let Slow::Found(_, _, protection, no_execution) = found else { return found };
        match access {
            Access::Store if protection => self.exception(0x04, va, access, space, 0x04),
            Access::Fetch if no_execution && iep => self.exception(0x04, va, access, space, 0x84),
            _ => found,
        }
    }
}

/// A case: registers, an address, and one path of entries with its mistakes.
#[derive(Clone, Debug)]
pub struct Case {
    pub psw_mode: u64,
    pub dat: bool,
    pub cr0: u64,
    pub asce_flags: u64,
    pub designation: u64,
    pub length: u64,
    pub prefix: u64,
    pub facilities: [bool; 3],
    pub va: u64,
    pub access: Access,
    /// TF and TL of the region entries.
    pub quarters: [(u64, u64); 3],
    /// Bits of entry n (0: region-first … 3: segment, 4: page) that are inverted.
    pub flips: Vec<(usize, u32)>,
    /// The entry that lies outside the configuration.
    pub outside: Option<usize>,
    pub frame: u64,
}

const ORIGINS: [u64; 5] = [0x9_0000, 0x8_0000, 0x1_0000, 0x2_0000, 0x3_0800];

impl Case {
    fn index(&self, n: usize) -> u64 {
        [
            bits(self.va, 0, 10),
            bits(self.va, 11, 21),
            bits(self.va, 22, 32),
            bits(self.va, 33, 43),
            bits(self.va, 44, 51),
        ][n]
    }

    pub fn build(&self) -> (Words, Context) {
        let mut words = Words::new();
        for n in 0..5 {
            if self.outside == Some(n) {
                continue;
            }
            let mut entry = match n {
                0..=2 => {
                    let (tf, tl) = self.quarters[n];
                    ORIGINS[n + 1] | tf << 6 | (3 - n as u64) << 2 | tl
                }
                3 => ORIGINS[4],
                _ => self.frame & !0xfff,
            };
            for &(m, b) in &self.flips {
                if m == n {
                    entry ^= 1 << (63 - b);
                }
            }
            words.insert(ORIGINS[n] + 8 * self.index(n), entry);
        }
        let asce =
            ORIGINS[3 - self.designation as usize] | self.asce_flags | self.designation << 2 | self.length;
        let psw = (self.dat as u64) << 58 | self.psw_mode << 46;
        let mut cr = [0; 16];
        cr[0] = self.cr0;
        // The spaces that are not meant have no tables.
        for (n, mode) in [(1, 0), (7, 2), (13, 3)] {
            let fetch_is_primary = self.access == Access::Fetch && self.psw_mode != 3;
            let used = if fetch_is_primary { 0 } else { self.psw_mode };
            cr[n] = if used == mode { asce } else { 0xdead_0000 };
        }
        let mut context = Context { psw, cr, prefix: self.prefix, ..Context::default() };
        let [edat1, edat2, iep] = self.facilities;
        context.facilities.edat1 = edat1;
        context.facilities.edat2 = edat2;
        context.facilities.execution_protection = iep;
        (words, context)
    }
}

/// Addresses whose indexes are near zero, near a quarter's border or anything.
fn addresses() -> impl Strategy<Value = u64> {
    let index = || prop_oneof![4 => 0u64..4, 2 => 510u64..514, 1 => 0u64..2048];
    let low = prop_oneof![2 => Just(0u64), 1 => 0u64..0x1300];
    let wild = prop_oneof![3 => Just(0u64), 2 => index()];
    (wild.clone(), wild, index(), index(), 0u64..256, 0u64..4096, low, 0..20u8).prop_map(
        |(a, b, c, d, px, bx, low, pick)| match pick {
            0 => low,
            1 => px << 12 | bx,
            _ => a << 53 | b << 42 | c << 31 | d << 20 | px << 12 | bx,
        },
    )
}

pub fn cases() -> impl Strategy<Value = Case> {
    let mostly = |p: f64| prop::bool::weighted(p);
    let access = prop_oneof![Just(Access::Load), Just(Access::Store), Just(Access::Fetch)];
    let cr0 = prop::sample::subsequence(vec![0x1000_0000u64, 0x0080_0000, 0x0010_0000, 0x0400_0000], 0..=4)
        .prop_map(|v| v.iter().sum());
    let flags = prop_oneof![8 => Just(0u64), 3 => Just(0x100u64), 1 => Just(0x20), 1 => Just(0x120), 1 => Just(0x2c0)];
    let quarter = || prop_oneof![5 => Just((0u64, 3u64)), 1 => (0u64..4, 0u64..4)];
    // Any bit now and then; those with a meaning more often.
    let bit = prop_oneof![1 => 0u32..64, 6 => prop::sample::select(vec![47u32, 48, 52, 53, 54, 55, 57, 58, 59, 60, 61])];
    let flip = (0usize..5, bit);
    let mode = prop_oneof![4 => Just(0u64), 1 => Just(2u64), 1 => Just(3u64)];
    let prefix = prop_oneof![Just(0u64), Just(0x6000), Just(0x7_6000), Just(0x4000_0000)];
    let frame = prop_oneof![Just(0x7_7000u64), Just(0x1000), Just(0x6000), any::<u64>()];
    (
        (mode, mostly(0.95), cr0, flags, 0u64..4, 0u64..4, prefix),
        (mostly(0.8), mostly(0.8), mostly(0.8)),
        (addresses(), access, [quarter(), quarter(), quarter()]),
        (prop::collection::vec(flip, 0..3), prop::option::weighted(0.1, 0usize..5), frame),
    )
        .prop_map(
            |(
                (psw_mode, dat, cr0, asce_flags, designation, length, prefix),
                (a, b, c),
                (va, access, quarters),
                rest,
            )| {
                let (flips, outside, frame) = rest;
                // Most addresses fit the designated table.
                let keep = [31, 42, 53, 64][designation as usize];
                let va = if keep < 64 && va & 3 != 3 { va & ((1 << keep) - 1) } else { va };
                let facilities = [a, b, c];
                Case {
                    psw_mode,
                    dat,
                    cr0,
                    asce_flags,
                    designation,
                    length,
                    prefix,
                    facilities,
                    va,
                    access,
                    quarters,
                    flips,
                    outside,
                    frame,
                }
            },
        )
}

fn compare(case: &Case, seen: &mut dyn FnMut(&str)) -> Result<(), String> {
    let (words, context) = case.build();
    let slow = Machine::new(&words, &context).translate(case.va, case.access);
    let memory = tables(&words);
    let va = Vaddr(case.va);
    let fast = context.controls(&memory, va, case.access, 0).and_then(|c| walk(&memory, &c, va, case.access));
    let fast = match fast {
        Ok(t) => {
            seen("found");
            Slow::Found(t.paddr.0, t.shift, t.leaf.protected, t.leaf.no_execute)
        }
        Err(WalkStop::Fault(f)) => {
            seen(f.reason.name());
            Slow::Exception(f.reason.code(), f.teid())
        }
        Err(WalkStop::Cancelled) => return Err("cancelled without a schedule".into()),
    };
    if slow == fast { Ok(()) } else { Err(format!("by the manual {slow:x?}, the walker {fast:x?}")) }
}

#[test]
fn s390x() {
    // Keys and access registers are not part of the walk.
    let apart = [
        Reason::KeyProtection,
        Reason::AccessListProtection,
        Reason::AletSpecification,
        Reason::AlenTranslation,
        Reason::AleSequence,
        Reason::AsteValidity,
        Reason::AsteSequence,
        Reason::ExtendedAuthority,
    ];
    let mut all: Vec<_> = Reason::ALL.iter().filter(|r| !apart.contains(r)).map(|r| r.name()).collect();
    all.push("found");
    judge(cases(), &all, compare);
}
