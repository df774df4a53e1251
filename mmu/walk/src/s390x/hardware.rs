//! z/Architecture behind the port.

use super::fault::{Fault, Reason};
use super::walk::{Controls, Leaf, walk};
use crate::hardware::{Hardware, Use};
use crate::tlb::{Entry, Key};
use crate::{Access, TableMemory, WalkStop};
use racewalk_ram::Vaddr;

/// The MMU of s390x. Its context is what one space's accesses go by; storage keys are the port's, and all zero.
#[derive(Clone, Copy, Debug)]
pub enum S390x {}

impl Hardware for S390x {
    type Context = Controls;
    type Leaf = Leaf;
    type Fault = Fault;

    #[inline]
    fn key(c: &Controls, va: Vaddr, _access: Access) -> Result<Key, Fault> {
        Ok(c.tlb_key(va))
    }

    #[inline]
    fn check(c: &Controls, entry: &Entry<Leaf>, va: Vaddr, access: Access) -> Result<Use, Fault> {
        c.check(&entry.leaf, va, access).map(|()| Use::Now)
    }

    #[inline]
    fn walk<M: TableMemory>(
        memory: &M,
        c: &Controls,
        va: Vaddr,
        access: Access,
    ) -> Result<Entry<Leaf>, WalkStop<Fault>> {
        walk(memory, c, va, access).map(|t| t.tlb_entry(c, va))
    }

    fn outside(c: &Controls, va: Vaddr, access: Access) -> Fault {
        Fault { vaddr: va, access, reason: Reason::Addressing, space: c.space }
    }

    fn idle(c: &Controls) -> bool {
        c.asce.0 == 0
    }
}
