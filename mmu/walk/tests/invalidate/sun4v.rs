//! sun4v's MMU hypercalls: the list has partitions, contexts and permanent mappings.

use crate::list::{Fate, Tally, compare, models};
use proptest::prelude::*;
use racewalk_ram::{Asid, Paddr, Vaddr};
use racewalk_walk::sparc64::sun4v::Context;
use racewalk_walk::sparc64::sun4v::invalidate::{self as inv, Demap};
use racewalk_walk::sparc64::sun4v::{Model, Refused};
use racewalk_walk::sparc64::{Machine, Operand, State};
use racewalk_walk::tlb::{Entry, Tag};

#[derive(Clone, Copy, Debug)]
struct Formed {
    partition: u8,
    /// `None`: a real address.
    context: Option<u16>,
    va: u64,
    shift: u8,
    permanent: bool,
}

const CONTEXTS: [u16; 3] = [0, 5, 0x1fff];
const HOLE: u64 = 1 << 47;

fn address() -> impl Strategy<Value = u64> {
    let base = prop_oneof![3 => Just(0), 1 => Just(0xffff_f800_0000_0000)];
    (base, prop_oneof![0..10u64, 510..514u64], 0..0x2000u64)
        .prop_map(|(base, page, at)| base + page * 8192 + at)
}

/// What a call names: now and then an address in the hole.
fn asked() -> impl Strategy<Value = u64> {
    prop_oneof![9 => address(), 1 => Just(HOLE)]
}

fn formed() -> impl Strategy<Value = Formed> {
    let context = prop::option::weighted(0.9, prop::sample::select(&CONTEXTS[..]));
    let shift = prop::sample::select(&[13u8, 16, 22, 28][..]);
    (0..2u8, context, address(), shift, prop::bool::weighted(0.2)).prop_map(
        |(partition, context, va, shift, permanent)| Formed { partition, context, va, shift, permanent },
    )
}

/// The space is the one that an access of such a context is looked up in.
fn space(f: &Formed) -> Asid {
    let c = Context { partition: f.partition, ..Context::default() };
    let state = State { privileged: true, primary: [f.context.unwrap_or(0); 2], ..State::default() };
    let operand = Operand { asi: f.context.is_none().then_some(0x14), ..Operand::default() };
    let va = Vaddr(0x2000);
    let r = state.request(Machine::Sun4v, va, racewalk_walk::Access::Load, &operand).expect("permitted");
    c.tlb_key(va, &r).space
}

fn entry(f: &Formed) -> Entry<()> {
    let page = Vaddr(f.va >> f.shift << f.shift);
    let tag = Tag { space: space(f), global: false, page, shift: f.shift };
    Entry { tag, frame: Paddr(0), from: Paddr(0), locked: f.permanent, leaf: () }
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Page(u64, u64),
    Unmap(u64, u64),
    Context(u64),
    All,
}

fn wording(call: Call, partition: u8, f: &Formed) -> Fate {
    if f.partition != partition {
        return Fate::Stays;
    }
    let in_context = |c: u64| f.context.is_some_and(|own| u64::from(own) == c);
    match call {
        Call::Page(va, c) | Call::Unmap(va, c) => {
            Fate::named(in_context(c) && va >> f.shift == f.va >> f.shift)
        }
        Call::Context(c) => Fate::named(in_context(c) && !f.permanent),
        // Real addresses are the hypervisor's own affair.
        Call::All => Fate::named(f.context.is_some() && !f.permanent).or_may(f.context.is_none()),
    }
}

/// Seen to fail: with demap context that took permanent mappings, demap page that spared them, demap all of every
/// partition, flags that were not looked at.
#[test]
fn what_goes_is_what_the_interface_names() {
    let models = models(&["t1", "t2", "t4", "m7"], "[\"8K\", \"64K\", \"4M\", \"256M\"]");
    let tally = Tally::default();
    let context =
        || prop_oneof![8 => prop::sample::select(&CONTEXTS[..]).prop_map(u64::from), 1 => Just(0x2000u64)];
    let call = prop_oneof![
        3 => (asked(), context()).prop_map(|(va, c)| Call::Page(va, c)),
        1 => (asked(), context()).prop_map(|(va, c)| Call::Unmap(va, c)),
        2 => context().prop_map(Call::Context),
        1 => Just(Call::All)
    ];
    let flags = prop_oneof![6 => 1..4u64, 1 => Just(0u64), 1 => Just(4u64)];
    let zero = prop_oneof![8 => Just(0u64), 1 => Just(1u64)];
    let list = prop::collection::vec(formed(), 1..40);
    crate::check((list, call, 0..2u8, flags, zero), |(list, call, partition, flags, zero)| {
        let done: Result<Demap, Refused> = match call {
            Call::Page(va, c) => inv::demap_page(partition, &Model::T2, [0, zero, va, c, flags]),
            Call::Unmap(va, c) => inv::unmap_addr(partition, &Model::T2, [va, c, flags]),
            Call::Context(c) => inv::demap_context(partition, [zero, 0, c, flags]),
            Call::All => inv::demap_all(partition, [zero, 0, flags]),
        };
        let (at, of, reserved) = match call {
            Call::Page(va, c) => (va, c, zero),
            Call::Unmap(va, c) => (va, c, 0),
            Call::Context(c) => (0, c, zero),
            Call::All => (0, 0, zero),
        };
        let why = match () {
            _ if reserved != 0 => Some(Refused::NotSupported),
            _ if at == HOLE || of > 0x1fff || flags == 0 || flags > 3 => Some(Refused::Invalid),
            _ => None,
        };
        if let Some(why) = why {
            prop_assert_eq!(done, Err(why));
            return Ok(());
        }
        let d = done.expect("nothing is wrong");
        prop_assert_eq!((d.sides.data, d.sides.instruction), (flags & 1 != 0, flags & 2 != 0));
        let entries: Vec<_> = list.iter().map(entry).collect();
        compare(&models, &entries, &[d.purge], |i| wording(call, partition, &list[i]), &tally)
    });
    tally.shows_something();
}
