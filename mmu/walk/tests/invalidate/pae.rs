//! PAE: INVLPG, MOV to CR3, MOV to CR4.

use crate::list::{Fate, Part, Tally, compare, compare_parts, models};
use proptest::prelude::*;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::pae::Context;
use racewalk_walk::pae::invalidate::{invlpg, mov_cr3, mov_cr4_pge};
use racewalk_walk::text::Tables;
use racewalk_walk::tlb::{Entry, Purge, Tag};

#[derive(Clone, Copy, Debug)]
struct Formed {
    va: u64,
    large: bool,
    global: bool,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Invlpg(u64),
    Cr3,
    Cr4,
}

fn address() -> impl Strategy<Value = u64> {
    let base = prop_oneof![2 => Just(0u64), 1 => Just(0x4000_0000), 1 => Just(0xffc0_0000)];
    (base, prop_oneof![0..6u64, 510..514u64], 0..4096u64).prop_map(|(b, page, at)| b + (page << 12) + at)
}

fn wording(op: Op, f: &Formed) -> Fate {
    let bytes = if f.large { 2 << 20 } else { 4096 };
    Fate::named(match op {
        // Global or not; bits to the left of 32 are no part of a linear address.
        Op::Invlpg(va) => va % (1 << 32) / bytes == f.va / bytes,
        Op::Cr3 => !f.global,
        Op::Cr4 => true,
    })
}

/// Seen to fail: with INVLPG by 4 KiB for large pages, MOV to CR3 that took global pages, INVLPG that left the
/// paging-structure caches alone.
#[test]
fn what_goes_is_what_the_manual_names() {
    let models = models(&[], "[\"4K\", \"2M\"]");
    let (entries, uppers) = (Tally::default(), Tally::default());
    let formed = (address(), any::<bool>(), prop::bool::weighted(0.3));
    let formed = formed.prop_map(|(va, large, global)| Formed { va, large, global });
    let op = prop_oneof![
        4 => (address(), any::<bool>()).prop_map(|(va, high)| Op::Invlpg(va | u64::from(high) << 40)),
        1 => Just(Op::Cr3),
        1 => Just(Op::Cr4)
    ];
    // The space that translations are tagged with; PAE has no other.
    let space = Context::default().tlb_key(Vaddr(0)).space;
    crate::check((prop::collection::vec(formed, 1..40), op), |(list, op)| {
        let memory = Tables::default();
        (0..4).for_each(|i| memory.set(0x1000 + i * 8, 0));
        let purges: Vec<Purge> = match op {
            Op::Invlpg(va) => invlpg(va).to_vec(),
            Op::Cr3 => vec![mov_cr3(&memory, &Context::default(), 0x1000).expect("in memory").1],
            Op::Cr4 => vec![mov_cr4_pge()],
        };
        let entry = |f: &Formed| {
            let shift = if f.large { 21 } else { 12 };
            let tag = Tag { space, global: f.global, page: Vaddr(f.va >> shift << shift), shift };
            Entry { tag, frame: Paddr(0), from: Paddr(0), locked: false, leaf: () }
        };
        let made: Vec<_> = list.iter().map(entry).collect();
        compare(&models, &made, &purges, |i| wording(op, &list[i]), &entries)?;
        // All of them go by each of the three, whatever address they are for.
        let parts: Vec<_> = list.iter().map(|f| Part { space, va: Vaddr(f.va), shift: 21 }).collect();
        compare_parts(&parts, &purges, |_| Fate::Goes, &uppers)
    });
    entries.shows_something();
}
