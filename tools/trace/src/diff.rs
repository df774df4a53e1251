//! Two recordings held against each other.

use crate::compare::{Compare, Divergence, Limit};
use crate::reader::{Damage, Recording};
use crate::record::Record;
use crate::recorder::Output;
use std::sync::Arc;

/// The first difference of `b` from `a`, stream by stream, or the first damage of `b`.
pub fn diff(a: Arc<Recording>, b: &Recording) -> Result<Option<Divergence>, Damage> {
    let mut compare = Compare::new(a, Limit::Whole, Arc::default());
    for s in b.streams() {
        for r in b.records(s) {
            match r? {
                Record::Run { page, store_first, loads, stores } => {
                    compare.run(s, page, store_first, loads, stores)
                }
                Record::Enter { page, instructions } => compare.enter(s, page, instructions),
                Record::Event { seq, instructions, event } => compare.event(s, seq, instructions, event),
            }
        }
    }
    Ok(compare.verdict())
}
