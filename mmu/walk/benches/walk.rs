//! What a walk costs when all tables are in the cache, beside a hand-written chase of the same loads:
//! `cargo bench -p racewalk-walk --bench walk`. Times are of one walk.

use divan::{Bencher, black_box};
use racewalk_ram::{Paddr, Ram, RamError, Vaddr};
use racewalk_walk::{Access, EntryStop, TableMemory};

fn main() {
    divan::main();
}

/// Guest memory as a free run without an observer sees it.
struct Direct<'a>(&'a Ram);

fn outside(_: RamError) -> EntryStop {
    EntryStop::Addressing
}

impl TableMemory for Direct<'_> {
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.0.load_u64(addr).map_err(outside)
    }
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        self.0.cas_u64(addr, expected, new).map_err(outside)
    }
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        self.0.load_pair(addr).map_err(outside)
    }
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        self.0.load_u32(addr).map_err(outside)
    }
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        self.0.store_u8(addr, byte).map_err(outside)
    }
}

fn ram() -> Ram {
    Ram::new(16 << 20).expect("16 MiB of guest memory")
}

/// The addresses that are walked in turn: four entries of each of three levels, so that every walk takes another path
/// than the last. None begins before the last has ended, as the CPU that waits for the translation would have it.
struct Addresses {
    at: u64,
    shifts: [u32; 3],
}

impl Addresses {
    fn new(shifts: [u32; 3]) -> Self {
        Addresses { at: 0, shifts }
    }
    #[inline]
    fn next(&self) -> Vaddr {
        let [a, b, c] = self.shifts;
        Vaddr((self.at & 3) << a | (self.at >> 2 & 3) << b | (self.at >> 4 & 3) << c)
    }
    /// Takes a frame's address, which is below 16 MiB, though the compiler does not know; the next address depends on it.
    #[inline]
    fn took(&mut self, frame: u64) {
        self.at = self.at.wrapping_add(1 + (frame >> 40));
    }
}

#[path = "walk/ppc64.rs"]
mod ppc64;

mod s390x {
    use super::*;
    use racewalk_walk::s390x::entry::TableType;
    use racewalk_walk::s390x::{Asce, Controls, Rte, Ste, walk};

    const REGION: Paddr = Paddr(0x10_0000);

    /// Four entries used in each table: 64 pages.
    fn tables(ram: &Ram) -> (Controls, Addresses) {
        let set = |at: Paddr, v: u64| ram.store_u64(at, v).expect("inside memory");
        let mut next = 0x20_0000;
        let mut take = |bytes: u64| {
            next += bytes;
            Paddr(next - bytes)
        };
        let mut frame = 0x80_0000;
        for r in 0..4u64 {
            let segments = take(0x4000);
            set(REGION.offset(r * 8), Rte::new(TableType::Region3, segments).0);
            for s in 0..4u64 {
                let pages = take(0x800);
                set(segments.offset(s * 8), Ste::new(pages).0);
                for p in 0..4u64 {
                    set(pages.offset(p * 8), frame);
                    frame += 4096;
                }
            }
        }
        let asce = Asce::new(REGION, TableType::Region3, 3);
        (Controls { dat: true, asce, ..Controls::default() }, Addresses::new([31, 20, 12]))
    }

    #[divan::bench]
    fn walk_three_levels(b: Bencher) {
        let ram = ram();
        let (c, mut addresses) = tables(&ram);
        b.bench_local(|| {
            let t = walk(&Direct(&ram), black_box(&c), addresses.next(), Access::Load);
            addresses.took(t.map_or(u64::MAX, |t| t.paddr.0))
        });
    }

    #[divan::bench]
    fn chase_three_loads(b: Bencher) {
        let ram = ram();
        let (_, mut addresses) = tables(&ram);
        b.bench_local(|| {
            let va = addresses.next().0;
            let load = |at| ram.load_u64(Paddr(at)).unwrap_or(u64::MAX);
            let rte = load(black_box(REGION.0) + (va >> 31 & 2047) * 8);
            let ste = load((rte & !0xfff) + (va >> 20 & 2047) * 8);
            let pte = load((ste & !0x7ff) + (va >> 12 & 255) * 8);
            addresses.took(pte & !0xfff)
        });
    }
}
