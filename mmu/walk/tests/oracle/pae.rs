//! PAE paging in the words of the Intel SDM volume 3, on bytes.

use crate::{Words, judge, tables};
use proptest::prelude::*;
use racewalk_ram::Vaddr;
use racewalk_walk::pae::{Context, Order, Reason, load_pdptes, walk};
use racewalk_walk::{Access, WalkStop};
use std::collections::BTreeMap;

/// Memory byte by byte.
type Bytes = BTreeMap<u64, u8>;

/// Little-endian.
fn read(bytes: &Bytes, at: u64) -> Option<u64> {
    (0..8).rev().try_fold(0, |value: u64, i| Some(value << 8 | *bytes.get(&(at + i))? as u64))
}

fn set_bit(bytes: &mut Bytes, at: u64, n: u64) {
    if let Some(b) = bytes.get_mut(&(at + n / 8)) {
        *b |= 1 << (n % 8);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Slow {
    /// Address, log2 of the page size, global.
    Found(u64, u32, bool),
    /// Vector, error code, CR2.
    Exception(u8, Option<u32>, Option<u64>),
}

fn bit(x: u64, n: u32) -> bool {
    x >> n & 1 == 1
}

/// Whether any of the bits `from..to` is set.
fn any_bit(x: u64, from: u32, to: u32) -> bool {
    (from..to).any(|n| bit(x, n))
}

fn translate(bytes: &mut Bytes, case: &Case) -> Slow {
    let la = case.va as u32;
    let (write, fetch) = (case.access == Access::Store, case.access == Access::Fetch);
    let page_fault = |present: bool, reserved: bool| {
        let mut code = 0;
        code += present as u32;
        code += 2 * write as u32;
        code += 4 * case.user as u32;
        code += 8 * reserved as u32;
        code += 16 * (fetch && case.nxe) as u32;
        Slow::Exception(14, Some(code), Some(la as u64))
    };
    let width = case.maxphyaddr as u32;
    // The load of CR3.
    let mut pdptes = Vec::new();
    for i in 0..4 {
        match read(bytes, CR3 / 32 * 32 + i * 8) {
            Some(e) => pdptes.push(e),
            None => return Slow::Exception(18, None, None),
        }
    }
    if pdptes.iter().any(|&e| bit(e, 0) && (any_bit(e, 1, 3) || any_bit(e, 5, 9) || any_bit(e, width, 64))) {
        return Slow::Exception(13, Some(0), None);
    }
    let pdpte = pdptes[(la / (1 << 30)) as usize];
    if !bit(pdpte, 0) {
        return page_fault(false, false);
    }
    let frame_of = |entry: u64, low: u32| (entry << 12 >> 12) >> low << low;
    let pde_at = frame_of(pdpte, 12) + (la / (1 << 21) % 512) as u64 * 8;
    let Some(pde) = read(bytes, pde_at) else { return Slow::Exception(18, None, None) };
    if !bit(pde, 0) {
        return page_fault(false, false);
    }
    let wrong = |e: u64| any_bit(e, width, 63) || (bit(e, 63) && !case.nxe);
    let large = bit(pde, 7);
    if wrong(pde) || (large && any_bit(pde, 13, 21)) {
        return page_fault(true, true);
    }
    let (at, leaf) = if large {
        (pde_at, pde)
    } else {
        set_bit(bytes, pde_at, 5);
        let pte_at = frame_of(pde, 12) + (la / 4096 % 512) as u64 * 8;
        let Some(pte) = read(bytes, pte_at) else { return Slow::Exception(18, None, None) };
        if !bit(pte, 0) {
            return page_fault(false, false);
        }
        if wrong(pte) {
            return page_fault(true, true);
        }
        (pte_at, pte)
    };
    // Rights of every level that has them.
    let all = |n: u32| bit(pde, n) && bit(leaf, n);
    let user_page = all(2);
    let allowed = match (case.user, case.access) {
        (true, _) if !user_page => false,
        (true, Access::Store) => all(1),
        (false, Access::Store) => all(1) || !case.wp,
        (_, Access::Fetch) => !(case.nxe && (bit(pde, 63) || bit(leaf, 63))),
        (_, Access::Load) => true,
    };
    if !allowed {
        return page_fault(true, false);
    }
    set_bit(bytes, at, 5);
    if write {
        set_bit(bytes, at, 6);
    }
    let size = if large { 21 } else { 12 };
    let address = frame_of(leaf, size) + la as u64 % (1 << size);
    Slow::Found(address, size, case.pge && bit(leaf, 8))
}

const CR3: u64 = 0x1_0020;
const DIRECTORY: u64 = 0x2_0000;
const TABLE: u64 = 0x3_0000;

#[derive(Clone, Debug)]
struct Case {
    va: u64,
    access: Access,
    user: bool,
    wp: bool,
    pge: bool,
    nxe: bool,
    maxphyaddr: u8,
    order: Order,
    /// Low bits, high bits of PDE and PTE, and the frame.
    rights: [u64; 2],
    large: bool,
    frame: u64,
    flips: Vec<(usize, u32)>,
    outside: Option<usize>,
}

impl Case {
    fn build(&self) -> Words {
        let la = self.va & 0xffff_ffff;
        let mut entries = [
            (CR3 + (la >> 30) * 8, DIRECTORY | 1),
            (
                DIRECTORY + (la >> 21 & 511) * 8,
                self.rights[0] | if self.large { self.frame >> 21 << 21 | 0x80 } else { TABLE },
            ),
            (TABLE + (la >> 12 & 511) * 8, self.rights[1] | self.frame >> 12 << 12),
        ];
        for &(n, b) in &self.flips {
            entries[n].1 ^= 1 << b;
        }
        let mut words: Words = (0..4).map(|i| (CR3 + i * 8, 0)).collect();
        for (n, (at, entry)) in entries.into_iter().enumerate() {
            words.insert(at, entry.swap_bytes());
            if self.outside == Some(n) {
                words.remove(&at);
            }
        }
        words
    }
}

fn case() -> impl Strategy<Value = Case> {
    let mostly = |p: f64| prop::bool::weighted(p);
    let access = prop_oneof![Just(Access::Load), Just(Access::Store), Just(Access::Fetch)];
    let order = prop_oneof![Just(Order::LowFirst), Just(Order::HighFirst), Just(Order::Whole)];
    let rights = || {
        let bits = prop::sample::subsequence(vec![0x2u64, 0x4, 0x20, 0x40, 0x100, 0x18, 0xe00], 0..=7);
        (mostly(0.97), bits, mostly(0.15), mostly(0.6)).prop_map(|(p, bits, xd, lax)| {
            p as u64 | bits.iter().sum::<u64>() | if lax { 6 } else { 0 } | (xd as u64) << 63
        })
    };
    let flip = (
        0usize..3,
        prop_oneof![1 => 0u32..64, 1 => prop::sample::select(vec![0u32, 1, 2, 5, 13, 20, 35, 36, 40, 62])],
    );
    let frame = prop_oneof![3 => 0u64..1 << 32, 1 => 0u64..1 << 36, 1 => 0u64..1 << 40];
    (
        (
            prop_oneof![4 => 0u64..1 << 32, 1 => any::<u64>()],
            access,
            mostly(0.5),
            mostly(0.7),
            mostly(0.7),
            mostly(0.8),
        ),
        (prop::sample::select(vec![32u8, 36, 40, 52]), order, [rights(), rights()], mostly(0.3), frame),
        (prop::collection::vec(flip, 0..2), prop::option::weighted(0.06, 0usize..3)),
    )
        .prop_map(
            |(
                (va, access, user, wp, pge, nxe),
                (maxphyaddr, order, rights, large, frame),
                (flips, outside),
            )| {
                Case {
                    va,
                    access,
                    user,
                    wp,
                    pge,
                    nxe,
                    maxphyaddr,
                    order,
                    rights,
                    large,
                    frame,
                    flips,
                    outside,
                }
            },
        )
}

#[test]
fn pae() {
    let mut all: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
    all.push("found");
    judge(case(), &all, |case, seen| {
        let words = case.build();
        let mut bytes: Bytes = words
            .iter()
            .flat_map(|(&at, v)| v.to_be_bytes().into_iter().zip(at..).map(|(b, a)| (a, b)))
            .collect();
        let slow = translate(&mut bytes, case);
        let memory = tables(&words);
        let mut c = Context {
            write_protect: case.wp,
            global_pages: case.pge,
            no_execute: case.nxe,
            user: case.user,
            maxphyaddr: case.maxphyaddr,
            order: case.order,
            ..Context::default()
        };
        let walked = load_pdptes(&memory, &c, CR3 | 0x18).and_then(|pdptes| {
            c.pdptes = pdptes;
            walk(&memory, &c, Vaddr(case.va), case.access)
        });
        let fast = match walked {
            Ok(t) => {
                seen("found");
                Slow::Found(t.paddr.0, t.shift as u32, t.global)
            }
            Err(WalkStop::Fault(f)) => {
                seen(f.reason.name());
                Slow::Exception(f.reason.vector(), f.error_code(), f.cr2())
            }
            Err(WalkStop::Cancelled) => return Err("cancelled without a schedule".into()),
        };
        let after: Bytes = memory
            .contents()
            .into_iter()
            .flat_map(|(at, v)| v.to_be_bytes().into_iter().zip(at..).map(|(b, a)| (a, b)))
            .collect();
        match (slow == fast, bytes == after) {
            (false, _) => Err(format!("by the manual {slow:x?}, the walker {fast:x?}")),
            (_, false) => Err(format!(
                "{slow:x?}, but memory differs: by the manual {bytes:x?}, after the walk {after:x?}"
            )),
            _ => Ok(()),
        }
    });
}
