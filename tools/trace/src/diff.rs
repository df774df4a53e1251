//! Two recordings held against each other.

use crate::compare::{Compare, Divergence, Limit};
use crate::frame::FrameKind;
use crate::reader::{Damage, Recording};
use crate::record::Record;
use crate::recorder::Output;
use std::sync::Arc;

/// The first difference of `b` from `a`, stream by stream, or the first frame of `b` that holds no records. Of recordings that are
/// damaged, in what can be read of both.
pub fn diff(a: Arc<Recording>, b: &Recording) -> Result<Option<Divergence>, Damage> {
    let whole = a.damage.is_empty() && b.damage.is_empty();
    let mut compare = Compare::new(a, if whole { Limit::Whole } else { Limit::Readable }, Arc::default());
    for f in b.frames.iter().filter(|f| f.header.kind == FrameKind::Stream) {
        let s = f.header.stream;
        compare.skip(s, f.header.first);
        for r in b.records_of(f)? {
            match r {
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
