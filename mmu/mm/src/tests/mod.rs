//! Tests of the whole mm.

mod calls;
mod model;
mod races;
mod refill;
mod schemes;
mod search;
mod threads;
mod tso;

use crate::vma::{MapFlags, Prot};

const RW: Prot = Prot(3);
const ANON: MapFlags = MapFlags(0x22);
const FIXED: MapFlags = MapFlags(0x32);
