//! Schemes of `pae`: a page for each PTE table, and how entries of two words are read (hosted-mm GEN-defer, PAE).

use super::whole::Whole;
use super::{Frag, Scheme};
use crate::arch::Pae;

/// The code of a scheme of this family.
pub(crate) fn of(scheme: Scheme) -> Option<Box<dyn Frag<Pae>>> {
    Some(Box::new(match scheme.name() {
        "gen-defer" => Whole::rcu(true),
        "gen-torn" => Whole::Rcu { defers: true, rereads: true, guards: false },
        _ => return None,
    }))
}
