//! What a walk costs when all tables are in the cache, beside a hand-written chase of the same loads:
//! `cargo bench -p racewalk-walk --bench walk`. Times are of one walk.

use divan::{Bencher, black_box};
use racewalk_ram::{Paddr, Ram, Vaddr};
use racewalk_walk::Access;

fn main() {
    divan::main();
}

fn ram() -> Ram {
    Ram::new(16 << 20).expect("16 MiB of guest memory")
}

/// The addresses that are walked in turn: four entries of each of three levels, so that every walk takes another path
/// than the last. None begins before the last has ended, as the CPU that waits for the translation would have it.
struct Addresses {
    at: u64,
    all: [u64; 64],
    /// By how many entries the indexes into the second and third level go on from one table to the next.
    spread: u64,
}

impl Addresses {
    fn new(shifts: [u32; 3]) -> Self {
        Self::with(shifts, 0)
    }
    /// Each table's entries in a line of their own: tables at multiples of 4 KiB do not all want the same set of the
    /// first-level cache.
    fn spread(shifts: [u32; 3]) -> Self {
        Self::with(shifts, 8)
    }
    fn with(shifts: [u32; 3], spread: u64) -> Self {
        let mut a = Addresses { at: 0, all: [0; 64], spread };
        for n in 0..64 {
            let indexes = a.indexes(n & 3, n >> 2 & 3, n >> 4 & 3);
            a.all[n as usize] = indexes.iter().zip(shifts).map(|(i, shift)| i << shift).sum();
        }
        a
    }
    /// The indexes of what [`next`](Self::next) visits, for entry `c` of table `b` of table `a`.
    fn indexes(&self, a: u64, b: u64, c: u64) -> [u64; 3] {
        [a, b + self.spread * (a + 1), c + self.spread * (4 * a + b + 6)]
    }
    #[inline]
    fn next(&self) -> Vaddr {
        Vaddr(self.all[(self.at & 63) as usize])
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

    const SHIFTS: [u32; 3] = [31, 20, 12];

    /// Four entries used in each table: 64 pages.
    fn tables(ram: &Ram, addresses: &Addresses) -> Controls {
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
                set(segments.offset(addresses.indexes(r, s, 0)[1] * 8), Ste::new(pages).0);
                for p in 0..4u64 {
                    set(pages.offset(addresses.indexes(r, s, p)[2] * 8), frame);
                    frame += 4096;
                }
            }
        }
        let asce = Asce::new(REGION, TableType::Region3, 3);
        Controls { dat: true, asce, ..Controls::default() }
    }

    #[divan::bench]
    fn walk_three_levels(b: Bencher) {
        walks(b, Addresses::new(SHIFTS));
    }

    #[divan::bench]
    fn walk_three_levels_spread(b: Bencher) {
        walks(b, Addresses::spread(SHIFTS));
    }

    fn walks(b: Bencher, mut addresses: Addresses) {
        let ram = ram();
        let c = tables(&ram, &addresses);
        b.bench_local(|| {
            let t = walk(&ram, black_box(&c), addresses.next(), Access::Load);
            addresses.took(t.map_or(u64::MAX, |t| t.paddr.0))
        });
    }

    #[divan::bench]
    fn chase_three_loads(b: Bencher) {
        chases(b, Addresses::new(SHIFTS));
    }

    #[divan::bench]
    fn chase_three_loads_spread(b: Bencher) {
        chases(b, Addresses::spread(SHIFTS));
    }

    fn chases(b: Bencher, mut addresses: Addresses) {
        let ram = ram();
        tables(&ram, &addresses);
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

mod sun4v {
    use super::*;
    use racewalk_walk::sparc64::Request;
    use racewalk_walk::sparc64::sun4v::{Config, Context, Tag, Tte, walk};

    const TSB: Paddr = Paddr(0x10_0000);

    /// 64 pages of 8K in one TSB of 512 entries.
    fn tables(ram: &Ram) -> (Context, Request, Addresses) {
        let mut c = Context::default();
        c.nonzero[0] = Config::new(TSB, 0, 0);
        for n in 0..64u64 {
            let va = Vaddr(n << 13);
            let at = c.nonzero[0].pointer(va);
            ram.store_u64(at, Tag::new(va, 5).0).expect("inside memory");
            let tte = Tte::V | (0x80_0000 + (n << 13)) | Tte::CP | Tte::CV | Tte::EP | Tte::W;
            ram.store_u64(at.offset(8), tte).expect("inside memory");
        }
        (c, Request::user(Access::Load, 5), Addresses::new([17, 15, 13]))
    }

    #[divan::bench]
    fn walk_tsb_hit(b: Bencher) {
        let ram = ram();
        let (c, r, mut addresses) = tables(&ram);
        b.bench_local(|| {
            let t = walk(&ram, black_box(&c), black_box(&r), addresses.next());
            addresses.took(t.map_or(u64::MAX, |t| t.paddr.0))
        });
    }

    #[divan::bench]
    fn chase_one_pair(b: Bencher) {
        let ram = ram();
        let (_, _, mut addresses) = tables(&ram);
        b.bench_local(|| {
            let va = addresses.next().0;
            let [tag, tte] =
                ram.load_pair(Paddr(black_box(TSB.0) + (va >> 13 & 511) * 16)).unwrap_or_default();
            let hit = tag == (5 << 48 | va >> 22);
            addresses.took(if hit { tte & 0x00ff_ffff_ffff_e000 } else { u64::MAX })
        });
    }
}

mod sun4u {
    use super::*;
    use racewalk_walk::sparc64::Request;
    use racewalk_walk::sparc64::sun4u::{Kernel, Tsb, Tte, refill};

    const TSB: Paddr = Paddr(0x10_0000);
    const PGD: Paddr = Paddr(0x20_0000);

    /// 64 pages in the TSB, at 0; and in the page tables 64 at 1 << 33, four of which share each TSB entry and 16 each
    /// page table's first four.
    fn tables(ram: &Ram) -> (Kernel, Request) {
        let set = |at: Paddr, v: u64| ram.store_u64(at, v).expect("inside memory");
        let tte = |n: u64| Tte::V | (0x80_0000 + (n << 13)) | Tte::CP | Tte::W | Tte::LINUX_EXEC;
        for n in 0..64u64 {
            set(TSB.offset(n * 16), n << 13 >> 22);
            set(TSB.offset(n * 16 + 8), tte(n));
        }
        let (pud, pmd) = (PGD.offset(0x2000), PGD.offset(0x4000));
        set(PGD, pud.0);
        set(pud.offset(8), pmd.0);
        for n in 0..64u64 {
            let table = PGD.offset(0x6000 + n / 4 * 0x2000);
            set(pmd.offset(n / 4 * 8), table.0);
            set(table.offset(n % 4 * 8), tte(n));
        }
        (Kernel { pgd: PGD, ..Kernel::default() }, Request::user(Access::Load, 5))
    }

    fn refills(b: Bencher, base: u64, shifts: [u32; 3]) {
        let ram = ram();
        let (kernel, r) = tables(&ram);
        let mut addresses = Addresses::new(shifts);
        b.bench_local(|| {
            let va = Vaddr(base | addresses.next().0);
            let found = refill(&ram, black_box(&kernel), Tsb(black_box(TSB.0)), black_box(&r), va);
            addresses.took(found.map_or(u64::MAX, |f| f.tte.0 & Tte::PA))
        });
    }

    #[divan::bench]
    fn handler_tsb_hit(b: Bencher) {
        refills(b, 0, [17, 15, 13]);
    }

    /// The page before took the TSB entry: two loads of it, four tables, and the entry is written.
    #[divan::bench]
    fn handler_four_levels_and_fill(b: Bencher) {
        refills(b, 1 << 33, [23, 25, 13]);
    }

    #[divan::bench]
    fn chase_four_levels_and_fill(b: Bencher) {
        let ram = ram();
        let _ = tables(&ram);
        let mut addresses = Addresses::new([23, 25, 13]);
        b.bench_local(|| {
            let va = 1 << 33 | addresses.next().0;
            let load = |at: u64| ram.load_u64(Paddr(at)).unwrap_or(u64::MAX);
            let at = Paddr(black_box(TSB.0) + (va >> 13 & 511) * 16);
            let [tag, mut tte] = ram.load_pair(at).unwrap_or_default();
            if tag != va >> 22 {
                let pud = load(black_box(PGD.0) + (va >> 43 & 1023) * 8);
                let pmd = load(pud + (va >> 33 & 1023) * 8);
                let table = load(pmd + (va >> 23 & 1023) * 8);
                tte = load(table + (va >> 13 & 1023) * 8);
                let old = load(at.0);
                let _ = black_box(ram.cas_u64(at, old, old | 1 << 47));
                let _ = black_box(ram.store_u64(at.offset(8), tte));
                let _ = black_box(ram.store_u64(at, va >> 22));
            }
            addresses.took(tte & Tte::PA)
        });
    }
}

mod pae {
    use super::*;
    use racewalk_walk::pae::entry::{A, D, P, RW};
    use racewalk_walk::pae::{Context, Order, Pdpte, walk};

    /// Four entries used in each of the registers, directories and tables: 64 pages. A and D are set.
    fn tables(ram: &Ram, order: Order) -> (Context, Addresses) {
        let set = |at: Paddr, v: u64| ram.store_u64(at, v.swap_bytes()).expect("inside memory");
        let mut c = Context { order, ..Context::default() };
        let mut next = 0x20_0000;
        let mut take = || {
            next += 0x1000;
            Paddr(next - 0x1000)
        };
        let mut frame = 0x80_0000;
        for r in 0..4usize {
            let directory = take();
            c.pdptes[r] = Pdpte(directory.0 | P);
            for d in 0..4u64 {
                let table = take();
                set(directory.offset(d * 8), table.0 | P | RW | A);
                for p in 0..4u64 {
                    set(table.offset(p * 8), frame | P | RW | A | D);
                    frame += 4096;
                }
            }
        }
        (c, Addresses::new([30, 21, 12]))
    }

    fn walks(b: Bencher, order: Order) {
        let ram = ram();
        let (c, mut addresses) = tables(&ram, order);
        b.bench_local(|| {
            let t = walk(&ram, black_box(&c), addresses.next(), Access::Load);
            addresses.took(t.map_or(u64::MAX, |t| t.paddr.0))
        });
    }

    #[divan::bench]
    fn walk_two_words(b: Bencher) {
        walks(b, Order::LowFirst);
    }

    #[divan::bench]
    fn walk_whole_entries(b: Bencher) {
        walks(b, Order::Whole);
    }

    #[divan::bench]
    fn chase_four_words(b: Bencher) {
        let ram = ram();
        let (c, mut addresses) = tables(&ram, Order::LowFirst);
        b.bench_local(|| {
            let va = addresses.next().0;
            let word = |at| ram.load_u32(Paddr(at)).unwrap_or(u32::MAX).swap_bytes() as u64;
            let load = |at| word(at) | word(at + 4) << 32;
            let directory = black_box(&c).pdptes[(va >> 30) as usize].0 & !0xfff;
            let pde = load(directory + (va >> 21 & 511) * 8);
            let pte = load((pde & !0xfff) + (va >> 12 & 511) * 8);
            addresses.took(pte & !0xfff)
        });
    }
}
