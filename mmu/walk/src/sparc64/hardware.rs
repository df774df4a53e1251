//! SPARC behind the port: software misses (sun4u) and the hardware tablewalk (sun4v). Accesses are those of instructions
//! without an ASI.

use super::context::{Leaf, Operand, Request};
use super::fault::{Fault, Machine, Reason};
use super::{sun4u, sun4v};
use crate::hardware::{Hardware, Use};
use crate::tlb::{Entry, Key, Lookup, Tag};
use crate::{Access, TableMemory, WalkStop};
use racewalk_ram::{Paddr, Vaddr};

/// The MMU of UltraSPARC I and II: a TLB that traps. What it misses is refilled by
/// [`miss`](super::sun4u::miss), which the port enters.
#[derive(Clone, Copy, Debug)]
pub enum Sun4u {}

/// The MMU of UltraSPARC T2: a tablewalk over TSBs.
#[derive(Clone, Copy, Debug)]
pub enum Sun4v {}

fn request(machine: Machine, c: &super::context::State, va: Vaddr, access: Access) -> Result<Request, Fault> {
    c.request(machine, va, access, &Operand::default())
}

impl Hardware for Sun4u {
    type Context = sun4u::Context;
    type Leaf = Leaf;
    type Fault = Fault;

    fn key(c: &Self::Context, va: Vaddr, access: Access) -> Result<Key, Fault> {
        Ok(c.tlb_key(va, &request(Machine::Sun4u, &c.state, va, access)?))
    }

    fn check(c: &Self::Context, entry: &Entry<Leaf>, va: Vaddr, access: Access) -> Result<Use, Fault> {
        c.check(entry.leaf, va, &request(Machine::Sun4u, &c.state, va, access)?).map(|()| Use::Now)
    }

    fn multiple(c: &Self::Context, va: Vaddr, access: Access) -> Option<Fault> {
        let r = request(Machine::Sun4u, &c.state, va, access).ok()?;
        Some(r.fault(Machine::Sun4u, va, Reason::MultipleHit))
    }

    /// There is no walk: what is not translated at all gets an entry, everything else is a miss.
    fn walk<M: TableMemory>(
        _memory: &M,
        c: &Self::Context,
        va: Vaddr,
        access: Access,
    ) -> Result<Entry<Leaf>, WalkStop<Fault>> {
        let r = request(Machine::Sun4u, &c.state, va, access).map_err(WalkStop::Fault)?;
        let t = sun4u::lookup(c, &r, va, |_| Lookup::Miss).map_err(WalkStop::Fault)?;
        let inside = (1u64 << t.shift) - 1;
        let space = c.tlb_key(va, &r).space;
        let tag = Tag { space, global: false, page: Vaddr(va.0 & !inside), shift: t.shift };
        Ok(Entry { tag, frame: Paddr(t.paddr.0 & !inside), from: t.from, locked: false, leaf: t.leaf })
    }

    fn outside(c: &Self::Context, va: Vaddr, access: Access) -> Fault {
        outside(Machine::Sun4u, &c.state, va, access)
    }

    /// The hardware never walks by itself.
    fn idle(_: &Self::Context) -> bool {
        true
    }
}

impl Hardware for Sun4v {
    type Context = sun4v::Context;
    type Leaf = Leaf;
    type Fault = Fault;

    fn key(c: &Self::Context, va: Vaddr, access: Access) -> Result<Key, Fault> {
        Ok(c.tlb_key(va, &request(Machine::Sun4v, &c.state, va, access)?))
    }

    fn check(c: &Self::Context, entry: &Entry<Leaf>, va: Vaddr, access: Access) -> Result<Use, Fault> {
        c.check(entry.leaf, va, &request(Machine::Sun4v, &c.state, va, access)?).map(|()| Use::Now)
    }

    fn walk<M: TableMemory>(
        memory: &M,
        c: &Self::Context,
        va: Vaddr,
        access: Access,
    ) -> Result<Entry<Leaf>, WalkStop<Fault>> {
        let r = c.request(memory, va, access, &Operand::default())?;
        sun4v::walk(memory, c, &r, va).map(|t| t.tlb_entry(c, &r, va))
    }

    fn outside(c: &Self::Context, va: Vaddr, access: Access) -> Fault {
        outside(Machine::Sun4v, &c.state, va, access)
    }

    fn idle(c: &Self::Context) -> bool {
        !c.zero.iter().chain(&c.nonzero).any(|t| t.enabled())
    }
}

fn outside(machine: Machine, c: &super::context::State, va: Vaddr, access: Access) -> Fault {
    let r = request(machine, c, va, access).unwrap_or_else(|f| f.request);
    r.fault(machine, va, Reason::TableError)
}
