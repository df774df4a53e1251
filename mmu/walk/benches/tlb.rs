//! What a lookup costs that hits: `cargo bench -p racewalk-walk --bench tlb`. Times are of one lookup. The pages are
//! asked for in an order that hits other ways and sets each time; no lookup begins before the last has ended.

use divan::{Bencher, black_box};
use racewalk_ram::{Asid, Paddr, Vaddr};
use racewalk_walk::tlb::config::TlbConfig;
use racewalk_walk::tlb::{Entry, Key, Lookup, Side, Tag, Tlb, presets};
use std::path::Path;

fn main() {
    divan::main();
}

fn array(entries: u32, ways: &str, sizes: &str, replacement: &str) -> TlbConfig {
    let text = format!(
        "kind = \"finite\"\n[[level]]\n[[level.array]]\nname = \"a\"\nside = \"data\"\nentries = {entries}\n\
         ways = {ways}\nsizes = {sizes}\nreplacement = \"{replacement}\"\n"
    );
    TlbConfig::parse(&text, Path::new("bench")).unwrap_or_else(|e| panic!("{e}"))
}

/// `pages` base pages in the TLB, and a lookup of one of them after the other, 37 further each time: the leaf says which.
fn hits(b: Bencher, config: &TlbConfig, pages: u64) {
    let mut t: Tlb<u64> = Tlb::new(config);
    for n in 0..pages {
        let tag = Tag { space: Asid(0x1000), global: false, page: Vaddr(n << 12), shift: 12 };
        let leaf = (n + 37) % pages;
        t.fill(Side::Data, Entry { tag, frame: Paddr(n << 12), from: Paddr(n * 8), locked: false, leaf });
    }
    let mut page = 0;
    b.bench_local(|| {
        let va = Vaddr(black_box(page) << 12);
        let key = Key { va, space: Asid(0x1000), other: None, globals: true };
        match t.lookup(Side::Data, &key) {
            Lookup::Hit(e) => page = e.leaf,
            _ => unreachable!("every page is there"),
        }
    });
    let s = t.stats();
    assert_eq!(s.iter().map(|l| l.total.hits).sum::<u64>(), s[0].total.accesses);
}

#[divan::bench(args = ["lru", "tree-plru", "random", "used-bit"])]
fn full_64(b: Bencher, replacement: &str) {
    hits(b, &array(64, "\"full\"", "[\"4K\"]", replacement), 64);
}

#[divan::bench(args = ["lru", "tree-plru", "random", "used-bit"])]
fn four_way_1024(b: Bencher, replacement: &str) {
    hits(b, &array(1024, "4", "[\"4K\"]", replacement), 1024);
}

/// Seven sets more than a power of two would have, and room for four sizes, of which one is there.
#[divan::bench]
fn three_way_405_four_sizes(b: Bencher) {
    hits(b, &array(405, "3", "[\"4K\", \"64K\", \"2M\", \"1G\"]", "lru"), 405);
}

#[divan::bench]
fn infinite(b: Bencher) {
    let infinite = presets::find("infinite").unwrap_or_else(|e| panic!("{e}"));
    hits(b, &infinite, 1024);
}
