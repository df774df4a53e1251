//! PAE paging behind the port.

use super::context::{Context, Hit};
use super::fault::{Fault, Reason};
use super::walk::{Leaf, walk};
use crate::hardware::{Hardware, Use};
use crate::tlb::{Entry, Key};
use crate::{Access, TableMemory, WalkStop};
use racewalk_ram::Vaddr;

/// The MMU of x86 with PAE.
#[derive(Clone, Copy, Debug)]
pub enum Pae {}

impl Hardware for Pae {
    type Context = Context;
    type Leaf = Leaf;
    type Fault = Fault;

    fn key(c: &Context, va: Vaddr, _access: Access) -> Result<Key, Fault> {
        Ok(c.tlb_key(va))
    }

    fn check(c: &Context, entry: &Entry<Leaf>, va: Vaddr, access: Access) -> Result<Use, Fault> {
        Ok(match c.check(&entry.leaf, va, access)? {
            Hit::Use => Use::Now,
            Hit::Walk => Use::AfterWalk,
        })
    }

    fn walk<M: TableMemory>(
        memory: &M,
        c: &Context,
        va: Vaddr,
        access: Access,
    ) -> Result<Entry<Leaf>, WalkStop<Fault>> {
        walk(memory, c, va, access).map(|t| t.tlb_entry(va))
    }

    fn outside(c: &Context, va: Vaddr, access: Access) -> Fault {
        c.fault(va, access, Reason::Addressing)
    }

    fn idle(c: &Context) -> bool {
        c.pdptes.iter().all(|p| p.0 == 0)
    }
}
