//! Power behind the port: radix trees and the hashed page table.

use super::context::Context;
use super::fault::{Denied, Fault, Reason};
use super::{hash, radix};
use crate::hardware::{Hardware, Use};
use crate::tlb::{Entry, Key};
use crate::{Access, TableMemory, WalkStop};
use racewalk_ram::Vaddr;

/// The MMU of Power with radix trees.
#[derive(Clone, Copy, Debug)]
pub enum Radix {}

/// The MMU of Power with segments and the hashed page table.
#[derive(Clone, Copy, Debug)]
pub enum Hash {}

fn usable(checked: Result<(), Denied>) -> Result<Use, Fault> {
    match checked {
        Ok(()) => Ok(Use::Now),
        Err(Denied::Walk) => Ok(Use::AfterWalk),
        Err(Denied::Fault(f)) => Err(f),
    }
}

impl Hardware for Radix {
    type Context = Context;
    type Leaf = radix::Leaf;
    type Fault = Fault;

    fn key(c: &Context, va: Vaddr, access: Access) -> Result<Key, Fault> {
        let va = c.effective(va);
        Ok(c.radix(va, access).tlb_key(va))
    }

    fn check(c: &Context, entry: &Entry<radix::Leaf>, va: Vaddr, access: Access) -> Result<Use, Fault> {
        let va = c.effective(va);
        usable(c.radix(va, access).check(&entry.leaf, va, access))
    }

    fn walk<M: TableMemory>(
        memory: &M,
        c: &Context,
        va: Vaddr,
        access: Access,
    ) -> Result<Entry<radix::Leaf>, WalkStop<Fault>> {
        let va = c.effective(va);
        let controls = c.radix(va, access);
        radix::walk(memory, &controls, va, access).map(|t| t.tlb_entry(&controls, va))
    }

    fn outside(c: &Context, va: Vaddr, access: Access) -> Fault {
        Fault::new(c.effective(va), access, Reason::Addressing)
    }

    fn idle(c: &Context) -> bool {
        c.ptcr == 0
    }
}

impl Hardware for Hash {
    type Context = Context;
    type Leaf = hash::Leaf;
    type Fault = Fault;

    fn key(c: &Context, va: Vaddr, access: Access) -> Result<Key, Fault> {
        c.hash(access).tlb_key(c.effective(va), access)
    }

    fn check(c: &Context, entry: &Entry<hash::Leaf>, va: Vaddr, access: Access) -> Result<Use, Fault> {
        usable(c.hash(access).check(&entry.leaf, c.effective(va), access))
    }

    fn walk<M: TableMemory>(
        memory: &M,
        c: &Context,
        va: Vaddr,
        access: Access,
    ) -> Result<Entry<hash::Leaf>, WalkStop<Fault>> {
        hash::walk(memory, &c.hash(access), c.effective(va), access).map(|t| t.tlb_entry())
    }

    fn outside(c: &Context, va: Vaddr, access: Access) -> Fault {
        Fault::new(c.effective(va), access, Reason::Addressing)
    }

    fn idle(c: &Context) -> bool {
        c.sdr1 == 0 && c.ptcr == 0
    }
}
