//! UltraSPARC demap: the list has contexts, G, L and each entry's own page size.

use crate::list::{Fate, Tally, compare, models};
use proptest::prelude::*;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::sparc64::State;
use racewalk_walk::sparc64::sun4u::invalidate::{Side, demap};
use racewalk_walk::sparc64::sun4u::walk::data_in;
use racewalk_walk::sparc64::sun4u::{TagAccess, Tte};
use racewalk_walk::tlb::{Entry, Purge};

#[derive(Clone, Copy, Debug)]
struct Formed {
    context: u16,
    va: u64,
    /// Of 8K, 64K, 512K or 4M.
    size: u64,
    global: bool,
    locked: bool,
}

const CONTEXTS: [u16; 4] = [0, 1, 5, 0x1fff];

fn bytes(size: u64) -> u64 {
    [8 << 10, 64 << 10, 512 << 10, 4 << 20][size as usize]
}

/// Few enough pages that an operand often names one, near each other and at the ends of the halves.
fn address() -> impl Strategy<Value = u64> {
    let base = prop_oneof![3 => Just(0), 1 => Just(0x7ff_ff80_0000), 1 => Just(0xffff_f800_0000_0000)];
    (base, prop_oneof![0..10u64, 60..70u64, 510..514u64]).prop_map(|(base, page)| base + page * 8192)
}

fn formed() -> impl Strategy<Value = Formed> {
    let context = prop::sample::select(&CONTEXTS[..]);
    (context, address(), 0..4u64, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(context, va, size, global, locked)| Formed { context, va, size, global, locked })
}

fn entry(f: &Formed) -> Entry<()> {
    let bit = |is: bool, b: u64| if is { b } else { 0 };
    let tte = Tte(Tte::V | f.size << 61 | bit(f.global, Tte::G) | bit(f.locked, Tte::L));
    let e = data_in(TagAccess::new(Vaddr(f.va), f.context), tte, Paddr(0)).expect("valid");
    Entry { tag: e.tag, frame: e.frame, from: e.from, locked: e.locked, leaf: () }
}

/// What the manual says of each type of demap (6.9.10), for the contexts of the registers.
fn wording(side: Side, kind: u64, register: u64, va: u64, registers: [u16; 2], f: &Formed) -> Option<Fate> {
    let context = match (register, side) {
        (0, _) => Some(registers[0]),
        (1, Side::Data) => Some(registers[1]),
        (2, _) => Some(0),
        _ => None,
    };
    match kind {
        0 => context.map(|c| {
            let page = f.va / bytes(f.size) == va / bytes(f.size);
            Fate::named(page && (f.global || f.context == c))
        }),
        1 => context.map(|c| Fate::named(!f.global && f.context == c)),
        2 => Some(Fate::named(!f.locked)),
        _ => None,
    }
}

/// Seen to fail: with demap page by the base page size, demap context that took global entries, demap all that took
/// locked ones, the secondary register for the instruction MMU.
#[test]
fn what_goes_is_what_the_manual_names() {
    let models = models(&["us2", "us3"], "[\"8K\", \"64K\", \"512K\", \"4M\"]");
    let tally = Tally::default();
    let side = prop_oneof![Just(Side::Instruction), Just(Side::Data)];
    let operand = (0..4u64, 0..4u64, address(), 0..16u64);
    let registers = [(); 2].map(|()| prop::sample::select(&CONTEXTS[..]));
    let list = prop::collection::vec(formed(), 1..40);
    crate::check((list, side, operand, registers), |(list, side, (kind, register, va, stray), registers)| {
        let [primary, secondary] = registers.map(|c| [c; 2]);
        let state = State { primary, secondary, ..State::default() };
        let purge = demap(&state, side, va | kind << 6 | register << 4 | stray);
        let says = |i: usize| wording(side, kind, register, va, registers, &list[i]);
        prop_assert_eq!(purge.is_some(), says(0).is_some());
        let purges: Vec<Purge> = purge.into_iter().collect();
        let entries: Vec<_> = list.iter().map(entry).collect();
        compare(&models, &entries, &purges, |i| says(i).unwrap_or(Fate::Stays), &tally)
    });
    tally.shows_something();
}
