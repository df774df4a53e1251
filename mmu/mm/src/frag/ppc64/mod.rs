//! Fragment schemes of Power (hosted-mm A.3, B.4).

mod counter;
mod fragments;
mod nheads;
mod pmd;
mod side;

use super::{Frag, Scheme, whole};
use crate::arch::Arch;
use counter::{Counter, Variant};

/// The code of a scheme of this family.
pub(crate) fn of<A: Arch>(scheme: Scheme) -> Option<Box<dyn Frag<A>>> {
    let counter = |variant| Some(Box::new(Counter { variant, pmds: false }) as Box<dyn Frag<A>>);
    match scheme.name() {
        "ppc-frag" => counter(Variant::Base),
        "ppc-v1" => counter(Variant::V1),
        "ppc-v2" => counter(Variant::V2),
        "ppc-jason-side" => Some(Box::new(side::Side::new(false))),
        "ppc-jason-side-fixed" => Some(Box::new(side::Side::new(true))),
        "ppc-nheads" => Some(Box::new(nheads::NHeads)),
        "ppc-jason-last-a" => counter(Variant::LastA),
        "ppc-jason-last-b" => counter(Variant::LastB),
        "ppc-jason-last-c" => counter(Variant::LastC),
        "ppc-66-fixed" => counter(Variant::V66),
        "ppc-66" => counter(Variant::V66AsMerged),
        "ppc-pmdfrag" => Some(Box::new(Counter { variant: Variant::V66, pmds: true })),
        "ppc-oldref" => counter(Variant::OldRef),
        // A page of its own for every table wants pages no larger than a table.
        "gen-defer" if super::ppc64::fragments::pieces::<A>() == 1 => whole::of(scheme),
        _ => None,
    }
}
