//! Kernel memory by kernel virtual address, and the lists threaded through it.

use crate::error::{MmError, Result, broken_at};
use crate::layout::{self, Place};
use crate::memory::Memory;
use crate::page::Pages;
use crate::sanitizer::Sanitizer;
use crate::slab::{Slab, TypeSafe};
use racewalk_ram::{Kva, Paddr, Ram};
use racewalk_sched::{Label, observe, point, tso};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Everything a kernel pointer can reach.
#[derive(Debug)]
pub(crate) struct Kmem {
    pub(crate) ram: Arc<Ram>,
    pub(crate) pages: Pages,
    pub(crate) slab: Slab,
    /// Objects whose slots are never used for anything else (`SLAB_TYPESAFE_BY_RCU`).
    pub(crate) type_safe: TypeSafe,
    pub(crate) sanitizer: Option<Arc<Sanitizer>>,
}

impl Kmem {
    /// Loads the doubleword at `kva`.
    pub(crate) fn load(&self, kva: Kva, wanted: &'static str) -> Result<u64> {
        point("kmem.load");
        self.peek(kva, wanted)
    }

    /// The same without a scheduling point.
    pub(crate) fn peek(&self, kva: Kva, wanted: &'static str) -> Result<u64> {
        Ok(tso::load(kva.0, self.memory(kva, wanted)?))
    }

    /// What is at `kva`, past store buffers.
    fn memory(&self, kva: Kva, wanted: &'static str) -> Result<u64> {
        match layout::place(kva, self.pages.frames(), wanted)? {
            Place::Direct(at) if at.0 & 7 == 0 => Ok(self.ram.load_u64(at)?),
            Place::Record { pfn, byte } if byte & 7 == 0 => {
                Ok(self.pages.bare_word(pfn, (byte / 8) as usize)?.load(SeqCst))
            }
            Place::Slab { byte, .. } if byte & 7 == 0 => {
                Ok(self.slab.bare_object(kva)?[(byte / 8) as usize].load(SeqCst))
            }
            Place::TypeSafe { byte, .. } if byte & 7 == 0 => {
                Ok(self.type_safe.bare_words(kva)?[(byte / 8) as usize].load(SeqCst))
            }
            _ => Err(MmError::Wild { kva, wanted }),
        }
    }

    /// Stores the doubleword at `kva`.
    pub(crate) fn store(&self, kva: Kva, v: u64, wanted: &'static str) -> Result<()> {
        point("kmem.store");
        if let Some(s) = &self.sanitizer {
            match layout::place(kva, self.pages.frames(), wanted)? {
                Place::Direct(at) => s.store(at, v)?,
                _ => s.overwrites(kva)?,
            }
        }
        self.poke(kva, v, wanted)
    }

    /// The same without a scheduling point, unseen by the sanitizer: for RCU's own lists.
    pub(crate) fn poke(&self, kva: Kva, v: u64, wanted: &'static str) -> Result<()> {
        if tso::enabled() {
            // A wild store is found now, not when it leaves the buffer.
            self.memory(kva, wanted)?;
            if self.buffer(kva.0, v, u64::MAX) {
                return Ok(());
            }
        }
        self.write(kva, v, wanted)
    }

    /// Stores into the buffer of the CPU, if it has one. Keys are kernel virtual addresses, which in the direct map are
    /// those of the memory behind it.
    pub(crate) fn buffer(&self, key: u64, v: u64, mask: u64) -> bool {
        let buffered = tso::store(key, v, mask);
        if buffered && let Some(s) = &self.sanitizer {
            s.state().buffered(Paddr(key));
        }
        buffered
    }

    /// Stores past store buffers.
    fn write(&self, kva: Kva, v: u64, wanted: &'static str) -> Result<()> {
        match layout::place(kva, self.pages.frames(), wanted)? {
            Place::Direct(at) if at.0 & 7 == 0 => self.ram.store_u64(at, v)?,
            Place::Record { pfn, byte } if byte & 7 == 0 => {
                self.pages.bare_word(pfn, (byte / 8) as usize)?.store(v, SeqCst);
            }
            Place::Slab { byte, .. } if byte & 7 == 0 => {
                self.slab.bare_object(kva)?[(byte / 8) as usize].store(v, SeqCst);
            }
            Place::TypeSafe { byte, .. } if byte & 7 == 0 => {
                self.type_safe.bare_words(kva)?[(byte / 8) as usize].store(v, SeqCst);
            }
            _ => return Err(MmError::Wild { kva, wanted }),
        }
        Ok(())
    }

    fn next(&self, node: Kva) -> Result<Kva> {
        self.load(node, "a list node").map(Kva)
    }

    /// The first load of a list operation, at a point that names it. The others are inside: nobody changes a list without
    /// its lock.
    fn begin(&self, at: Kva, operation: Label) -> Result<Kva> {
        point(operation);
        self.peek(at, "a list node").map(Kva)
    }

    fn prev(&self, node: Kva) -> Result<Kva> {
        self.load(Kva(node.0 + 8), "a list node").map(Kva)
    }

    fn link(&self, a: Kva, b: Kva) -> Result<()> {
        self.store(a, b.0, "a list node")?;
        self.store(Kva(b.0 + 8), a.0, "a list node")
    }

    /// Makes an empty list (or an unlinked node).
    pub(crate) fn list_init(&self, node: Kva) -> Result<()> {
        self.link(node, node)
    }

    /// Whether the list is empty or the node unlinked.
    pub(crate) fn list_empty(&self, node: Kva) -> Result<bool> {
        let empty = self.begin(node, "list.empty")? == node;
        observe(empty.into());
        Ok(empty)
    }

    /// The first node, if there is one.
    pub(crate) fn list_first(&self, head: Kva) -> Result<Option<Kva>> {
        let n = self.begin(head, "list.first")?;
        observe((n != head).into());
        Ok((n != head).then_some(n))
    }

    fn insert(&self, node: Kva, prev: Kva, next: Kva) -> Result<()> {
        if self.prev(next)? != prev || self.next(prev)? != next {
            return broken_at(14, node, format!("list around {prev:?} and {next:?} is not linked both ways"));
        }
        self.link(node, next)?;
        self.link(prev, node)
    }

    /// Adds at the front.
    pub(crate) fn list_add(&self, node: Kva, head: Kva) -> Result<()> {
        if let Some(s) = &self.sanitizer {
            s.list_add(node)?;
        }
        let next = self.begin(head, "list.add")?;
        self.insert(node, head, next)
    }

    /// Adds at the end.
    pub(crate) fn list_add_tail(&self, node: Kva, head: Kva) -> Result<()> {
        if let Some(s) = &self.sanitizer {
            s.list_add(node)?;
        }
        let prev = self.begin(Kva(head.0 + 8), "list.add")?;
        self.insert(node, prev, head)
    }

    /// Unlinks a node and makes it an empty list; harmless on an unlinked node.
    pub(crate) fn list_del_init(&self, node: Kva) -> Result<()> {
        let (next, prev) = (self.begin(node, "list.del")?, self.prev(node)?);
        if self.prev(next)? != node || self.next(prev)? != node {
            return broken_at(14, node, format!("list node {node:?} is not linked both ways"));
        }
        self.link(prev, next)?;
        self.list_init(node)?;
        // Only now is the node's memory out of use.
        self.sanitizer.as_ref().map_or(Ok(()), |s| s.list_del(node))
    }

    /// The nodes of a list, at most `limit` (more is invariant 14).
    pub(crate) fn list_nodes(&self, head: Kva, limit: usize) -> Result<Vec<Kva>> {
        let mut v = Vec::new();
        let mut n = self.next(head)?;
        while n != head {
            if v.len() == limit {
                return broken_at(14, n, format!("the list at {head:?} has more than {limit} nodes"));
            }
            v.push(n);
            n = self.next(n)?;
        }
        Ok(v)
    }
}

/// What is behind the store buffers of a run: guest memory, page records and kernel objects.
pub(crate) struct Buffered(pub(crate) Arc<Memory>);

impl tso::Cells for Buffered {
    fn load(&self, key: u64) -> u64 {
        self.0.kmem.memory(Kva(key), "a buffered store").unwrap_or(0)
    }
    fn store(&self, key: u64, value: u64) {
        // The place was there when the store was made. An object that has been freed since is found stale.
        if let Err(e) = self.0.kmem.write(Kva(key), value, "a buffered store") {
            self.0.report(e);
        }
    }
    fn update(&self, key: u64, f: &mut dyn FnMut(u64) -> u64) -> u64 {
        let old = self.load(key);
        self.store(key, f(old));
        old
    }
    fn drained(&self, cpu: u32, key: u64, value: u64) {
        if let Some(s) = self.0.sanitizer() {
            s.state().drained(cpu, Paddr(key), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_ram::Pfn;

    #[test]
    fn lists_through_page_records() {
        let ram = Arc::new(Ram::new(1 << 24).unwrap());
        let k = Kmem {
            ram,
            pages: Pages::new(4096, 0).unwrap(),
            slab: Slab::new(4).unwrap(),
            type_safe: TypeSafe::new(4).unwrap(),
            sanitizer: None,
        };
        let head = Kva(k.slab.alloc("t").unwrap().0 + 8);
        k.list_init(head).unwrap();
        let [a, b, c] = [5, 6, 7].map(|f| Pages::lru(Pfn(f)));
        for n in [a, b, c] {
            k.list_init(n).unwrap();
        }
        k.list_add(a, head).unwrap();
        k.list_add(b, head).unwrap();
        k.list_add_tail(c, head).unwrap();
        assert_eq!(k.list_nodes(head, 9).unwrap(), [b, a, c]);
        assert_eq!(k.list_first(head).unwrap(), Some(b));
        k.list_del_init(a).unwrap();
        k.list_del_init(a).unwrap();
        assert_eq!(k.list_nodes(head, 9).unwrap(), [b, c]);
        // Something else writes over the links, as in F-03a.
        k.store(b, 0x1234_5678_9abc, "t").unwrap();
        assert!(k.list_del_init(b).unwrap_err().is_finding());
        assert!(k.list_nodes(head, 9).is_err());
    }
}
