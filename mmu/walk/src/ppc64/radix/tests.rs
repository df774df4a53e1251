//! Walks of one tree, walk caches, and the setting of R and C.

use super::controls::Controls;
use super::entry::{Entry, PartitionEntry, Root};
use super::geometry::{index, width};
use super::walk::walk;
use crate::event::Level;
use crate::ppc64::{Denied, Reason, Update};
use crate::text::Tables;
use crate::{Access, EntryStop, TableMemory, Upper, WalkStop};
use racewalk_ram::{Paddr, Vaddr};

const VA: Vaddr = Vaddr(0x1234_5678_9abc);
const BITS: u64 = Entry::R | Entry::C | Entry::WRITE | Entry::EXECUTE;

/// A host's process 1 with four levels; the tables are at 0x10_0000, 0x20_0000, 0x30_0000 and 0x40_0000.
fn host() -> (Tables, Controls) {
    let t = Tables::default();
    t.set(0x1_0000, PartitionEntry::HR | Root::new(0x100_0000, 52, 13).0);
    t.set(0x1_0008, 0x2_0000);
    t.set(0x100_0000, Entry::directory(0x110_0000, 9).0);
    t.set(0x110_0000, Entry::leaf(0, BITS).0);
    t.set(0x2_0010, Root::new(0x10_0000, 52, 13).0);
    let mut at = Root::new(0x10_0000, 52, 13).directory();
    for depth in 0..3 {
        let (bits, shift) = width(depth, at.next_bits()).unwrap();
        let slot = at.slot(bits, index(VA.0, shift, bits));
        at = Entry::directory((depth as u64 + 2) << 20, 9);
        t.set(slot, at.0);
    }
    t.set(leaf_at(), Entry::leaf(0x77_7000, BITS).0);
    (t, Controls { hypervisor: true, pid: 1, ptcr: 0x1_0000, ..Controls::default() })
}

fn leaf_at() -> u64 {
    0x40_0000 + index(VA.0, 12, 9) * 8
}

#[test]
fn four_levels_and_their_upper_parts() {
    let (t, c) = host();
    let r = walk(&t, &c, VA, Access::Store).unwrap();
    assert_eq!((r.paddr, r.shift, r.from), (Paddr(0x77_7abc), 12, Paddr(leaf_at())));
    assert_eq!(t.take_events().len(), 11);
    assert_eq!(c.check(&r.leaf, VA, Access::Fetch), Ok(()));
    assert_eq!(r.tlb_entry(&c, VA).paddr(VA), r.paddr);
    assert!(r.tlb_entry(&c, VA).tag.serves(&c.tlb_key(VA)));
}

/// Memory whose walk cache holds one upper part, and counts loads.
struct Cached(Tables, std::cell::Cell<Option<Upper>>, std::cell::Cell<u32>);
impl TableMemory for Cached {
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.2.set(self.2.get() + 1);
        self.0.load_entry(addr)
    }
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        self.0.cas_entry(addr, expected, new)
    }
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        self.0.load_pair(addr)
    }
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        self.0.load_word(addr)
    }
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        self.0.store_byte(addr, byte)
    }
    fn resume(&self, _: Vaddr) -> Option<Upper> {
        self.1.get()
    }
    fn remember(&self, _: Vaddr, _: u8, upper: Upper) {
        self.1.set(Some(upper));
    }
}

#[test]
fn a_walk_cache_leaves_the_last_table_to_read() {
    let (t, c) = host();
    let m = Cached(t, Default::default(), Default::default());
    let whole = walk(&m, &c, VA, Access::Load).unwrap();
    assert_eq!(m.2.replace(0), 9);
    assert_eq!(m.1.get().unwrap().next, Level(0));
    assert_eq!(walk(&m, &c, VA, Access::Load).unwrap(), whole);
    assert_eq!(m.2.get(), 1);
}

#[test]
fn changed_is_set_once_or_asked_for() {
    let (t, mut c) = host();
    t.set(leaf_at(), Entry::leaf(0x77_7000, Entry::R | Entry::WRITE).0);
    let r = walk(&t, &c, VA, Access::Load).unwrap();
    assert_eq!(c.check(&r.leaf, VA, Access::Store), Err(Denied::Walk));
    match walk(&t, &c, VA, Access::Store) {
        Err(WalkStop::Fault(f)) => {
            assert_eq!((f.reason, f.cause()), (Reason::ReferenceChange, 0x0204_0000))
        }
        other => panic!("{other:?}"),
    }
    c.update = Update::Atomic;
    let r = walk(&t, &c, VA, Access::Store).unwrap();
    assert_eq!(t.get(leaf_at()), Some(Entry::leaf(0x77_7000, Entry::R | Entry::C | Entry::WRITE).0));
    assert_eq!(c.check(&r.leaf, VA, Access::Store), Ok(()));
}
