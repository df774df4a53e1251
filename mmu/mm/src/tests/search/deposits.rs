//! Deposited tables (hosted-mm B.5): all short sequences of segments made huge, split and unmapped. The list has the order that
//! the reference works out, and memory keeps what is in it.

use crate::arch::{Arch, Radix, S390x, Sparc64};
use crate::kernel::{Config, Kernel, PmdLocks};
use crate::mm::Mm;
use crate::pgtable::pmd_level;
use crate::vma::{MapFlags, Prot};
use racewalk_cpu::{Access, Cpus};
use racewalk_ram::{Paddr, Ram, Vaddr};
use racewalk_sched::set_this_cpu;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

fn boot<A: Arch>(scheme: &str, pmd_locks: PmdLocks) -> Arc<Kernel<A>> {
    let huge = A::LEVELS[pmd_level::<A>()].span();
    let bytes = ((128 << A::PAGE_SHIFT) + 6 * huge).next_multiple_of(1 << 20);
    let ram = Arc::new(Ram::new(bytes).unwrap());
    let config = Config {
        scheme: scheme.parse().unwrap(),
        reserved: (2 << A::PAGE_SHIFT).max(8192),
        max_mms: 4,
        sanitize: Some(Default::default()),
        pmd_locks,
        ..Config::default()
    };
    Kernel::<A>::new(ram.clone(), Cpus::new(ram, 1), config).unwrap()
}

fn segment<A: Arch>(n: usize) -> Vaddr {
    Vaddr((8 + n as u64) * A::LEVELS[pmd_level::<A>()].span())
}

fn map<A: Arch>(mm: &Mm<A>, n: usize) {
    let flags = MapFlags::FIXED | MapFlags::ANONYMOUS | MapFlags::PRIVATE;
    let span = A::LEVELS[pmd_level::<A>()].span();
    mm.mmap(segment::<A>(n).0, span, Prot::READ | Prot::WRITE, flags, None).unwrap();
}

/// The table that hangs from a segment's entry.
fn table<A: Arch>(mm: &Mm<A>, n: usize) -> Option<Paddr> {
    let k = mm.kernel();
    let pmd = k.pmd_offset(mm, segment::<A>(n)).unwrap()?;
    A::next_table(pmd_level::<A>(), k.load_entry(pmd).unwrap())
}

fn end<A: Arch>(k: &Kernel<A>, mm: &Mm<A>) {
    mm.exit().unwrap();
    k.rcu_barrier();
    k.check_leaks();
    let found = k.take_findings();
    assert!(found.is_empty(), "{}", found[0]);
    k.halt();
}

/// Each of `segments` in turn is made huge, or split if it is. Returns the orders in which the list was, as positions in
/// the order of first use.
fn run<A: Arch>(scheme: &str, segments: &[usize], locks: PmdLocks, orders: &mut BTreeSet<Vec<usize>>) {
    let k = boot::<A>(scheme, locks);
    let mm = k.mm_create().unwrap();
    for n in 0..=*segments.iter().max().unwrap() {
        map(&mm, n);
        mm.alloc_table(segment::<A>(n)).unwrap();
    }
    // What the arithmetic of B.5 comes to: a new table is in front, and the one that was there goes to the end.
    let mut list: VecDeque<Paddr> = VecDeque::new();
    let mut names: Vec<Paddr> = Vec::new();
    for &n in segments {
        match table(&mm, n) {
            Some(t) => {
                assert!(mm.huge_map(segment::<A>(n)).unwrap());
                assert!(!mm.huge_map(segment::<A>(n)).unwrap(), "it is one already");
                let old = list.pop_front();
                list.extend(old);
                list.push_front(t);
            }
            None => {
                assert!(mm.split_huge(segment::<A>(n)).unwrap());
                assert!(!mm.split_huge(segment::<A>(n)).unwrap(), "it is none any more");
                assert_eq!(table(&mm, n), list.pop_front(), "{segments:?}, at {n}");
            }
        }
        let order = list.iter().map(|t| {
            names.iter().position(|n| n == t).unwrap_or_else(|| {
                names.push(*t);
                names.len() - 1
            })
        });
        orders.insert(order.collect());
    }
    end(&k, &mm);
}

/// Every sequence of `len` steps over three segments, with either kind of PMD lock.
fn all<A: Arch>(scheme: &str, len: u32) -> BTreeSet<Vec<usize>> {
    let mut orders = BTreeSet::new();
    for i in 0..3usize.pow(len) {
        let steps: Vec<usize> = (0..len).map(|d| i / 3usize.pow(d) % 3).collect();
        for locks in [PmdLocks::Split, PmdLocks::Space] {
            run::<A>(scheme, &steps, locks, &mut orders);
        }
    }
    orders
}

#[test]
fn the_list_has_the_order_of_b5() {
    let s390x = all::<S390x>("s390-66", 5);
    assert!(s390x.contains(&vec![2, 0, 1]), "{s390x:?}");
    assert_eq!(s390x, all::<Radix<16>>("ppc-66-fixed", 5));
    let mut one = BTreeSet::new();
    // The reference's own example: a, b, c, d are withdrawn as d, a, b, c.
    run::<S390x>("s390-67", &[0, 1, 2, 3, 0, 1, 2, 3], PmdLocks::Split, &mut one);
    run::<Sparc64>("sparc-conv", &[0, 1, 0, 1], PmdLocks::Split, &mut one);
    run::<Radix<12>>("ppc-66-fixed", &[0, 1, 2, 1, 0, 2], PmdLocks::Space, &mut one);
    assert!(one.contains(&vec![3, 0, 1, 2]));
}

/// What is in memory stays there, through the huge page and its split, and a page that nobody touched is zero.
fn contents<A: Arch>(scheme: &str) {
    let k = boot::<A>(scheme, PmdLocks::Split);
    let mm = k.mm_create().unwrap();
    set_this_cpu(0);
    k.cpus().enter_kernel(0);
    map(&mm, 0);
    mm.switch_to(0).unwrap();
    let page = |n: u64| Vaddr(segment::<A>(0).0 + (n << A::PAGE_SHIFT));
    let word = |n: u64| {
        k.cpus().exit_kernel(0);
        let _ = k.cpus().unpark(0);
        let at = A::translate(&k, 0, page(n), Access::Store).map(|t| t.paddr);
        k.cpus().park(0);
        k.cpus().enter_kernel(0);
        at.unwrap_or_else(|_| panic!("page {n} is not there"))
    };
    for n in [0, 3] {
        mm.fault_in(page(n), Access::Store).unwrap();
        k.ram.store_u64(word(n), 0x1234_5678 + n).unwrap();
    }
    let (rss, tables) = (mm.counters().rss_anon, mm.counters().pte_tables);
    assert_eq!((rss, tables), (2, 1));
    let pages = A::LEVELS[A::LEVELS.len() - 1].entries();
    let check = || {
        assert_eq!(mm.counters().rss_anon, pages);
        assert_eq!(mm.counters().pte_tables, 1);
        for (n, value) in [(0, 0x1234_5678), (3, 0x1234_567b), (5, 0), (pages - 1, 0)] {
            assert_eq!(k.ram.load_u64(word(n)).unwrap(), value, "page {n}");
        }
    };
    assert!(mm.huge_map(page(1)).unwrap());
    check();
    assert!(mm.split_huge(page(1)).unwrap());
    check();
    assert!(mm.huge_map(page(1)).unwrap());
    check();
    // A part of it goes: it is split first. Then the rest as pages.
    mm.munmap(page(2).0, page(4).0 - page(2).0).unwrap();
    assert_eq!(mm.counters().rss_anon, pages - 2);
    assert_eq!(k.ram.load_u64(word(0)).unwrap(), 0x1234_5678);
    // A huge page of a first fault, unmapped as a whole.
    map(&mm, 1);
    assert!(mm.huge_map(segment::<A>(1)).unwrap());
    mm.munmap(segment::<A>(1).0, A::LEVELS[pmd_level::<A>()].span()).unwrap();
    k.cpus().exit_kernel(0);
    mm.detach(0).unwrap();
    end(&k, &mm);
}

#[test]
fn memory_survives_huge_pages() {
    contents::<S390x>("s390-66");
    contents::<Radix<12>>("ppc-66-fixed");
    contents::<Radix<16>>("ppc-66-fixed");
    contents::<Sparc64>("sparc-conv");
}
