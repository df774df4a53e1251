//! Schemes of sparc64 (hosted-mm A.4): a page of 8K for each PTE table.

use super::whole::Whole;
use super::{Frag, Scheme};
use crate::arch::Sparc64;

/// The code of a scheme of this family.
pub(crate) fn of(scheme: Scheme) -> Option<Box<dyn Frag<Sparc64>>> {
    Some(Box::new(match scheme.name() {
        "sparc-conv" => Whole::rcu(true),
        "sparc-rcu" => Whole::rcu(false),
        "sparc-quick" => Whole::quick(),
        "sparc-late-fill" => Whole::Rcu { defers: true, rereads: false, guards: true },
        _ => return None,
    }))
}
