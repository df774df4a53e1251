//! The walk of radix trees, step by step as in ISA 3.0B Book III 6.7.10 and 6.7.11 (numbers: reference ppc64-mmu §2.1).

use super::controls::{Controls, Leaf, PartitionLeaf, Translation, authority, denies, recorded, wanted};
use super::entry::{ENTRY_16, Entry, PartitionEntry, Ptcr, Root};
use super::geometry::{LEVELS, TREE_BITS, index, may_be_leaf, offset, width};
use crate::event::{Level, WalkEvent};
use crate::ppc64::context::{Context, Mode, Update};
use crate::ppc64::fault::{CAUSE_TABLE, Denied, Fault, Reason};
use crate::{Access, EntryStop, TableMemory, Upper, WalkStop};
use racewalk_ram::{Paddr, Vaddr};
use std::ops::ControlFlow;

/// Why a walk does not go on: it ended, or an entry changed while its R or C was to be set.
enum Halt {
    Stop(WalkStop<Fault>),
    Again,
}

/// A page found in one tree.
#[derive(Clone, Copy)]
struct Found {
    /// The leaf.
    entry: Entry,
    /// Where it was fetched.
    at: Paddr,
    /// Where the tree has it: in a partition's process a guest real address.
    slot: u64,
    /// log2 of the page's size.
    shift: u32,
}

impl Found {
    /// Where `address` leads.
    #[inline]
    fn page(&self, address: u64) -> u64 {
        let inside = (1u64 << self.shift) - 1;
        (self.entry.0 & Entry::RPN & !inside) | (address & inside)
    }

    /// As the whole of a translation: the host's.
    #[inline(always)]
    fn of_host(&self, real: u64) -> Translation {
        let leaf = Leaf { process: self.entry, partition: None };
        Translation { paddr: Paddr(real), shift: self.shift as u8, from: self.at, leaf }
    }
}

/// Which tree, and what its faults say.
#[derive(Clone, Copy)]
enum Tree {
    /// The process's. In a partition (`NESTED` below) its tables lie at guest real addresses, which the partition's tree of
    /// this root translates.
    Process(Root),
    /// The partition's, to translate this guest real address, for a store or not, to a table of the process or not.
    Partition { real: u64, store: bool, table: bool },
}

struct Walk<'m, M> {
    memory: &'m M,
    c: &'m Controls,
    va: Vaddr,
    access: Access,
}

impl<M: TableMemory> Walk<'_, M> {
    #[cold]
    fn halt<T>(&self, fault: Fault) -> Result<T, Halt> {
        let (name, code) = (fault.reason.name(), fault.vector());
        self.memory.event(WalkEvent::Fault { vaddr: self.va, name, code });
        Err(Halt::Stop(WalkStop::Fault(fault)))
    }

    #[cold]
    fn fault<T>(&self, reason: Reason) -> Result<T, Halt> {
        self.halt(Fault::new(self.va, self.access, reason))
    }

    /// A fault of one tree.
    #[cold]
    fn tree_fault<T>(&self, tree: Tree, reason: Reason) -> Result<T, Halt> {
        let mut f = Fault::new(self.va, self.access, reason);
        if let Tree::Partition { real, store, table } = tree {
            f = Fault { store, ..f.partition_scoped(real) };
            f.causes |= if table { CAUSE_TABLE } else { 0 };
        }
        self.halt(f)
    }

    #[inline]
    fn load(&self, level: Level, table: &'static str, addr: Paddr) -> Result<u64, Halt> {
        match self.memory.load_entry(addr) {
            Ok(entry) => {
                self.memory.event(WalkEvent::Step { level, table, entry_addr: addr, entry });
                Ok(entry)
            }
            Err(stop) => self.stopped(stop),
        }
    }

    #[cold]
    fn stopped<T>(&self, stop: EntryStop) -> Result<T, Halt> {
        match stop {
            EntryStop::Addressing => self.fault(Reason::Addressing),
            EntryStop::Cancelled => Err(Halt::Stop(WalkStop::Cancelled)),
        }
    }

    /// 2. The partition-table entry. What is wrong with it is the hypervisor's to know.
    #[inline]
    fn partition_entry(&self) -> Result<PartitionEntry, Halt> {
        let c = self.c;
        let unsupported = Fault::new(self.va, self.access, Reason::UnsupportedMmu).to_hypervisor();
        let ptcr = Ptcr(c.ptcr);
        let at = c.lpid * ENTRY_16;
        // LPID 0 is the hypervisor's own.
        if at >= ptcr.bytes() || (c.lpid == 0 && !c.hypervisor) {
            return self.halt(unsupported);
        }
        let at = ptcr.base().offset(at);
        let first = self.load(Level::ROOT, "partition-0", at)?;
        let e = PartitionEntry(first, self.load(Level::ROOT, "partition-1", at.offset(8))?);
        if !e.radix() {
            return self.halt(unsupported);
        }
        Ok(e)
    }

    /// Steps 3 and 4: the process-table entry. The table's address is the partition's business also for LPID 0: the first tree of
    /// its entry translates it, for which a host has its own linear mapping there.
    #[inline]
    fn process_root(&self, e: PartitionEntry) -> Result<Root, Halt> {
        let (base, bytes) = e.process_table();
        if base & (bytes - 1) != 0 {
            return self.fault(Reason::UnsupportedMmu);
        }
        let at = self.c.pid * ENTRY_16;
        if at >= bytes {
            return self.fault(Reason::NoTranslation);
        }
        let at = self.table_at::<true>(e.root(), base + at, Access::Load)?;
        Ok(Root(self.load(Level::ROOT, "process-0", at)?))
    }

    /// Where a table of the process is: in a partition its address is a guest real one, translated as for a load, or for a
    /// store that sets R or C.
    #[inline]
    fn table_at<const NESTED: bool>(&self, guest: Root, real: u64, access: Access) -> Result<Paddr, Halt> {
        match NESTED {
            false => Ok(Paddr(real)),
            true => Ok(Paddr(self.partition_scoped(guest, real, access, true)?.page(real))),
        }
    }

    /// 5. The root of a tree: its size and that of the root page directory are supported.
    #[inline]
    fn directory(&self, tree: Tree, root: Root) -> Result<Entry, Halt> {
        if root.bits() != TREE_BITS || width(0, root.directory().next_bits()).is_none() {
            return self.tree_fault(tree, Reason::UnsupportedMmu);
        }
        Ok(root.directory())
    }

    /// Step 5: one tree from the table that `e` designates, `depth` levels below the root. Written out by level: which
    /// widths a level can have is known, so a load does not wait for the width that the entry before tells.
    #[inline(always)]
    fn tables_below<const NESTED: bool>(
        &self,
        tree: Tree,
        depth: u32,
        e: Entry,
        address: u64,
    ) -> Result<Found, Halt> {
        let mut e = e;
        macro_rules! level {
            ($depth:literal) => {
                if depth <= $depth {
                    match self.table::<NESTED>(tree, $depth, e, address)? {
                        ControlFlow::Break(found) => return Ok(found),
                        ControlFlow::Continue(next) => e = next,
                    }
                }
            };
        }
        level!(0);
        level!(1);
        level!(2);
        level!(3);
        let _ = e;
        self.tree_fault(tree, Reason::UnsupportedMmu)
    }

    /// One table: the page, or what designates the next table.
    #[inline(always)]
    fn table<const NESTED: bool>(
        &self,
        tree: Tree,
        depth: u32,
        e: Entry,
        address: u64,
    ) -> Result<ControlFlow<Found, Entry>, Halt> {
        let level = Level((LEVELS - 1 - depth) as u8);
        let Some((bits, left)) = width(depth, e.next_bits()) else {
            return self.tree_fault(tree, Reason::UnsupportedMmu);
        };
        let slot = e.slot(bits, index(address, left, bits));
        let (at, names) = match tree {
            Tree::Process(guest) => {
                (self.table_at::<NESTED>(guest, slot, Access::Load)?, ["page-directory", "page-table"])
            }
            Tree::Partition { .. } => (Paddr(slot), ["partition-directory", "partition-page-table"]),
        };
        let e = Entry(self.load(level, names[(level.0 == 0) as usize], at)?);
        if !e.valid() {
            return self.tree_fault(tree, Reason::NoTranslation);
        }
        if e.is_leaf() {
            if !may_be_leaf(depth) {
                return self.tree_fault(tree, Reason::UnsupportedMmu);
            }
            return Ok(ControlFlow::Break(Found { entry: e, at, slot, shift: left }));
        }
        if matches!(tree, Tree::Process(_)) && level.0 > 0 {
            let upper = Upper { next: Level(level.0 - 1), entry: e.0, gathered: 0 };
            self.memory.remember(self.va, left as u8, upper);
        }
        Ok(ControlFlow::Continue(e))
    }

    /// 8. R, and C for stores.
    #[inline]
    fn record<const NESTED: bool>(&self, tree: Tree, found: &Found, access: Access) -> Result<Entry, Halt> {
        if recorded(found.entry, access) {
            return Ok(found.entry);
        }
        self.set_recorded::<NESTED>(tree, *found, access)
    }

    #[cold]
    fn set_recorded<const NESTED: bool>(
        &self,
        tree: Tree,
        found: Found,
        access: Access,
    ) -> Result<Entry, Halt> {
        if self.c.update == Update::Interrupt {
            return self.tree_fault(tree, Reason::ReferenceChange);
        }
        let at = match tree {
            Tree::Process(guest) => self.table_at::<NESTED>(guest, found.slot, Access::Store)?,
            Tree::Partition { .. } => found.at,
        };
        let old = found.entry.0;
        let new = old | wanted(access);
        match self.memory.cas_entry(at, old, new) {
            Ok(seen) if seen == old => Ok(Entry(new)),
            Ok(_) => Err(Halt::Again),
            Err(stop) => self.stopped(stop),
        }
    }

    /// 9. Partition-scoped translation of a guest real address.
    #[inline(never)]
    fn partition_scoped(&self, root: Root, real: u64, access: Access, table: bool) -> Result<Found, Halt> {
        let tree = Tree::Partition { real, store: access == Access::Store, table };
        let directory = self.directory(tree, root)?;
        if real >> TREE_BITS != 0 {
            return self.tree_fault(tree, Reason::NoTranslation);
        }
        let found = self.tables_below::<false>(tree, 0, directory, real)?;
        if let Some(reason) = denies(found.entry, authority(found.entry), access) {
            return self.tree_fault(tree, reason);
        }
        let entry = self.record::<false>(tree, &found, access)?;
        Ok(Found { entry, ..found })
    }

    /// The access itself at a guest real address: that of an access with translation off, or what the process's tree gave.
    #[inline(never)]
    fn in_partition(&self, root: Root, real: u64, process: Option<Found>) -> Result<Translation, Halt> {
        let found = self.partition_scoped(root, real, self.access, false)?;
        let (entry, from, shift) = match process {
            Some(p) => (p.entry, p.at, found.shift.min(p.shift)),
            None => (Entry::default(), found.at, found.shift),
        };
        let (paddr, shift) = (Paddr(found.page(real)), shift as u8);
        let partition = PartitionLeaf { entry: found.entry, real: real & !((1 << shift) - 1), shift };
        Ok(Translation { paddr, shift, from, leaf: Leaf { process: entry, partition: Some(partition) } })
    }

    /// Steps 2 to 8 through the process's tree: the page, where it is for the partition or the host, and the partition's tree.
    /// One function for the host and one for partitions: the host's does not ask at every table where it is.
    #[inline(always)]
    fn process_scoped<const NESTED: bool>(&self) -> Result<(Found, u64, Root), Halt> {
        // 1. The tree reaches the address.
        let Some(address) = offset(self.va) else { return self.fault(Reason::Segment) };
        let upper = self.memory.resume(self.va);
        let below = |u: Upper| (LEVELS - 1 - u.next.0 as u32, Entry(u.entry));
        let (guest, (depth, directory)) = match upper {
            // The host's tables lie at real addresses: nothing above them is needed.
            Some(u) if !NESTED => (Root::default(), below(u)),
            _ => {
                let e = self.partition_entry()?;
                let guest = e.root();
                match upper {
                    Some(u) => (guest, below(u)),
                    None => {
                        let root = self.process_root(e)?;
                        (guest, (0, self.directory(Tree::Process(guest), root)?))
                    }
                }
            }
        };
        if upper.is_none() {
            // The process-table entry serves the whole quadrant.
            let upper = Upper { next: Level(LEVELS as u8 - 1), entry: directory.0, gathered: 0 };
            self.memory.remember(self.va, 62, upper);
        }
        let tree = Tree::Process(guest);
        // 5. and 6.
        let found = self.tables_below::<NESTED>(tree, depth, directory, address)?;
        // 7.
        if let Some(reason) = self.c.process_denies(found.entry, self.access) {
            return self.fault(reason);
        }
        let real = found.page(address);
        let entry = self.record::<NESTED>(tree, &found, self.access)?;
        Ok((Found { entry, ..found }, real, guest))
    }

    fn translate(&self) -> Result<Translation, Halt> {
        let c = self.c;
        match c.mode {
            Mode::Virtual => {
                if c.of_host() {
                    let (found, real, _) = self.process_scoped::<false>()?;
                    return Ok(found.of_host(real));
                }
                let (found, real, root) = self.process_scoped::<true>()?;
                self.in_partition(root, real, Some(found))
            }
            Mode::NoQuadrant => self.fault(Reason::Segment),
            Mode::HypervisorReal => {
                let paddr = Paddr(Context::real(self.va, c.hrmor));
                let leaf = Leaf { process: Entry::default(), partition: None };
                Ok(Translation { paddr, shift: 12, from: Paddr(0), leaf })
            }
            Mode::GuestReal => {
                let e = self.partition_entry()?;
                self.in_partition(e.root(), Context::real(self.va, 0), None)
            }
        }
    }

    /// Walks until nothing changes underneath.
    #[inline(never)]
    fn complete(&self) -> Result<Translation, WalkStop<Fault>> {
        loop {
            match self.translate() {
                Ok(t) => {
                    self.done(&t);
                    return Ok(t);
                }
                Err(Halt::Stop(stop)) => return Err(stop),
                Err(Halt::Again) => {}
            }
        }
    }

    #[inline(always)]
    fn done(&self, t: &Translation) {
        let store = self.c.check(&t.leaf, self.va, Access::Store);
        let protected = matches!(store, Err(Denied::Fault(_)));
        self.memory.event(WalkEvent::Done { vaddr: self.va, paddr: t.paddr, shift: t.shift, protected });
    }
}

/// Translates `va`.
#[inline]
pub fn walk<M: TableMemory>(
    memory: &M,
    c: &Controls,
    va: Vaddr,
    access: Access,
) -> Result<Translation, WalkStop<Fault>> {
    memory.event(WalkEvent::Start { vaddr: va, access, root: c.ptcr });
    let w = Walk { memory, c, va, access };
    // The common case by itself: its result stays in registers.
    if c.of_host() {
        match w.process_scoped::<false>() {
            Ok((found, real, _)) => {
                w.done(&found.of_host(real));
                return Ok(found.of_host(real));
            }
            Err(Halt::Stop(stop)) => return Err(stop),
            Err(Halt::Again) => {}
        }
    }
    w.complete()
}
