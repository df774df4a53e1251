//! Radix trees with four levels, with and without the tables above them, and hits in a primary group with a full SLB.

use super::*;
use racewalk_walk::event::Level;
use racewalk_walk::ppc64::radix::entry::{Entry, PartitionEntry, Root};
use racewalk_walk::ppc64::{Context, hash, radix};
use racewalk_walk::{EntryStop, TableMemory, Upper};

const PARTITIONS: u64 = 0x1_0000;
const PROCESSES: u64 = 0x2_0000;
const ROOT: u64 = 0x10_0000;
/// The partition's tree, which translates the address of the process table: one page of 1G.
const LINEAR: u64 = 0xc0_0000;
const LINEAR_1G: u64 = 0xd0_0000;
const PID: u64 = 1;

const SHIFTS: [u32; 3] = [30, 21, 12];

/// Four entries used in each table but the root: 64 pages.
fn tables(ram: &Ram, addresses: &Addresses) -> radix::Controls {
    let set = |at: u64, v: u64| ram.store_u64(Paddr(at), v).expect("inside memory");
    set(PARTITIONS, PartitionEntry::HR | Root::new(LINEAR, 52, 13).0);
    set(PARTITIONS + 8, PROCESSES);
    set(LINEAR, Entry::directory(LINEAR_1G, 9).0);
    set(LINEAR_1G, Entry::leaf(0, Entry::R | Entry::C | Entry::WRITE).0);
    set(PROCESSES + 16 * PID, Root::new(ROOT, 52, 13).0);
    let mut next = 0x20_0000;
    let mut take = || {
        next += 0x1000;
        next - 0x1000
    };
    let mut frame = 0x80_0000;
    let second = take();
    set(ROOT, Entry::directory(second, 9).0);
    for a in 0..4 {
        let third = take();
        set(second + a * 8, Entry::directory(third, 9).0);
        for b in 0..4 {
            let last = take();
            set(third + addresses.indexes(a, b, 0)[1] * 8, Entry::directory(last, 9).0);
            for c in 0..4 {
                let all = Entry::R | Entry::C | Entry::WRITE | Entry::EXECUTE;
                set(last + addresses.indexes(a, b, c)[2] * 8, Entry::leaf(frame, all).0);
                frame += 4096;
            }
        }
    }
    let context = Context { ptcr: PARTITIONS, pidr: PID, ..Context::default() };
    context.radix(Vaddr(0), Access::Load)
}

#[divan::bench]
fn radix_walk_four_levels(b: Bencher) {
    let ram = ram();
    let mut addresses = Addresses::new(SHIFTS);
    let c = tables(&ram, &addresses);
    b.bench_local(|| {
        let t = radix::walk(&ram, black_box(&c), addresses.next(), Access::Load);
        addresses.took(t.map_or(u64::MAX, |t| t.paddr.0))
    });
}

/// The four loads of a tree from its root.
#[inline]
fn chase_tree(ram: &Ram, root: u64, va: u64) -> u64 {
    let load = |at| ram.load_u64(Paddr(at)).unwrap_or(u64::MAX);
    let table = |e: u64| e & 0x0fff_ffff_ffff_ff00;
    let e = load(table(root) + (va >> 39 & 8191) * 8);
    let e = load(table(e) + (va >> 30 & 511) * 8);
    let e = load(table(e) + (va >> 21 & 511) * 8);
    load(table(e) + (va >> 12 & 511) * 8) & 0x01ff_ffff_ffff_f000
}

#[divan::bench]
fn radix_chase_nine_loads(b: Bencher) {
    let ram = ram();
    let mut addresses = Addresses::new(SHIFTS);
    tables(&ram, &addresses);
    b.bench_local(|| {
        let va = addresses.next().0;
        let load = |at| ram.load_u64(Paddr(at)).unwrap_or(u64::MAX);
        let first = load(black_box(PARTITIONS));
        let processes = load(black_box(PARTITIONS) + 8) & 0x0fff_ffff_ffff_f000;
        let directory = load((first & 0x0fff_ffff_ffff_ff00) + (processes >> 39 & 8191) * 8);
        let page = load((directory & 0x0fff_ffff_ffff_ff00) + (processes >> 30 & 511) * 8);
        let inside = (1 << 30) - 1;
        let root = load((page & 0x01ff_ffff_ffff_f000 & !inside) + ((processes + 16 * PID) & inside));
        addresses.took(chase_tree(&ram, root, va) | (first & 1))
    });
}

/// A walk cache that has the process-table entry.
struct Rooted<'a>(&'a Ram, Upper);

impl TableMemory for Rooted<'_> {
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.0.load_entry(addr)
    }
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        self.0.cas_entry(addr, expected, new)
    }
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        TableMemory::load_pair(self.0, addr)
    }
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        self.0.load_word(addr)
    }
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        self.0.store_byte(addr, byte)
    }
    fn resume(&self, _: Vaddr) -> Option<Upper> {
        Some(self.1)
    }
}

#[divan::bench]
fn radix_walk_four_levels_root_cached(b: Bencher) {
    from_the_root(b, Addresses::new(SHIFTS));
}

#[divan::bench]
fn radix_walk_four_levels_root_cached_spread(b: Bencher) {
    from_the_root(b, Addresses::spread(SHIFTS));
}

fn from_the_root(b: Bencher, mut addresses: Addresses) {
    let ram = ram();
    let c = tables(&ram, &addresses);
    let upper = Upper { next: Level(3), entry: Root::new(ROOT, 52, 13).0, gathered: 0 };
    let memory = Rooted(&ram, black_box(upper));
    b.bench_local(|| {
        let t = radix::walk(&memory, black_box(&c), addresses.next(), Access::Load);
        addresses.took(t.map_or(u64::MAX, |t| t.paddr.0))
    });
}

#[divan::bench]
fn radix_chase_four_loads(b: Bencher) {
    chases(b, Addresses::new(SHIFTS));
}

#[divan::bench]
fn radix_chase_four_loads_spread(b: Bencher) {
    chases(b, Addresses::spread(SHIFTS));
}

fn chases(b: Bencher, mut addresses: Addresses) {
    let ram = ram();
    tables(&ram, &addresses);
    let root = Root::new(ROOT, 52, 13).0;
    b.bench_local(|| {
        let va = addresses.next().0;
        addresses.took(chase_tree(&ram, black_box(root), va))
    });
}

const HTAB: u64 = 0x40_0000;
const GROUPS: u64 = 2047;
const VSIDS: u64 = 0x123;

/// 32 segments, of which four have 16 pages each; entries are in slots 0 to 3 of their groups.
fn hashed(ram: &Ram) -> (Context, Addresses) {
    let set = |at: u64, v: u64| ram.store_u64(Paddr(at), v).expect("inside memory");
    let mut context = Context { lpcr: 0, ptcr: PARTITIONS, ..Context::default() };
    set(PARTITIONS, HTAB);
    for n in 0..32 {
        assert!(context.slb.slbmte((VSIDS + n) << 12, n << 28 | hash::slb::RB_V | n));
    }
    let mut frame = 0x80_0000;
    for s in 0..4u64 {
        for page in (0..16).map(|i| (i >> 2) << 8 | (i & 3)) {
            let vsid = VSIDS + s;
            let group = HTAB + ((vsid ^ page) & GROUPS) * 128;
            let slot =
                (0..8).find(|n| matches!(ram.load_u64(Paddr(group + n * 16)), Ok(0)) && *n >= (page & 3));
            let at = group + slot.expect("a free slot") * 16;
            set(at, (vsid << 28 | page << 12) >> 23 << 7 | 1);
            set(at + 8, frame | 0x192);
            frame += 4096;
        }
    }
    (context, Addresses::new([28, 20, 12]))
}

#[divan::bench]
fn hash_walk_primary_group(b: Bencher) {
    let ram = ram();
    let (context, mut addresses) = hashed(&ram);
    let c = context.hash(Access::Load);
    b.bench_local(|| {
        let t = hash::walk(&ram, black_box(&c), addresses.next(), Access::Load);
        addresses.took(t.map_or(u64::MAX, |t| t.paddr.0))
    });
}

/// The same lookup in the SLB and the same loads.
#[divan::bench]
fn hash_chase_primary_group(b: Bencher) {
    let ram = ram();
    let (context, mut addresses) = hashed(&ram);
    b.bench_local(|| {
        let va = addresses.next().0;
        let load = |at| ram.load_u64(Paddr(at)).unwrap_or(u64::MAX);
        let vsid = context.slb.lookup(Vaddr(va)).map_or(0, |s| s.vsid);
        let table = load(black_box(PARTITIONS)) & !0x3_ffff;
        let offset = va & 0xfff_ffff;
        let group = table + ((vsid ^ offset >> 12) & GROUPS) * 128;
        let want = (vsid << 28 | offset) >> 23 << 7 | 1;
        let slot = (0..8).find(|n| load(group + n * 16) == want).unwrap_or(8);
        addresses.took(load(group + slot * 16 + 8) & 0x01ff_ffff_ffff_f000)
    });
}
