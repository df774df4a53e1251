//! One architecture's MMU as `mmu/cpu` runs it: what is loaded, how a TLB is asked, and the walk.

use crate::tlb::{Entry, Key};
use crate::{Access, TableMemory, WalkStop};
use racewalk_ram::Vaddr;
use std::fmt::{Debug, Display};

/// How an access may use a translation that a TLB holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// As it is.
    Now,
    /// After another walk, which sets a reference or change bit in the table.
    AfterWalk,
}

/// An MMU. Nothing of it is a value: the types and functions are what the port needs to be generic over.
pub trait Hardware: Sized + Send + Sync + 'static {
    /// The registers that steer a translation. The default is a CPU with no address space.
    type Context: Clone + Default + PartialEq + Debug + Send + Sync;
    /// What accesses through a TLB entry are checked against.
    type Leaf: Copy + PartialEq + Debug + Send + Sync;
    /// What a translation ends with if there is none.
    type Fault: Copy + PartialEq + Debug + Display + Send + Sync;

    /// What the TLB is asked for an access, or why no TLB is asked.
    fn key(context: &Self::Context, va: Vaddr, access: Access) -> Result<Key, Self::Fault>;

    /// Whether the access may use a translation that the TLB holds.
    fn check(
        context: &Self::Context,
        entry: &Entry<Self::Leaf>,
        va: Vaddr,
        access: Access,
    ) -> Result<Use, Self::Fault>;

    /// Several entries serve the key. `None`, the default: the format does not notice, a walk replaces them.
    fn multiple(context: &Self::Context, va: Vaddr, access: Access) -> Option<Self::Fault> {
        let _ = (context, va, access);
        None
    }

    /// The walk, as an entry for the TLB that covers `va` and permits the access.
    fn walk<M: TableMemory>(
        memory: &M,
        context: &Self::Context,
        va: Vaddr,
        access: Access,
    ) -> Result<Entry<Self::Leaf>, WalkStop<Self::Fault>>;

    /// The translation leads outside memory.
    fn outside(context: &Self::Context, va: Vaddr, access: Access) -> Self::Fault;

    /// No address space is loaded: hardware that walks by itself stays away.
    fn idle(context: &Self::Context) -> bool;
}
