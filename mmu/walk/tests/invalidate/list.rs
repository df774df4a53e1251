//! The list, and the comparison of every model with it.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use racewalk_ram::{Asid, Vaddr};
use racewalk_walk::Upper;
use racewalk_walk::event::Level;
use racewalk_walk::tlb::config::{Kind, TlbConfig};
use racewalk_walk::tlb::{Entry, Purge, Side, Tlb, WalkCache, presets};
use std::cell::Cell;
use std::path::Path;

/// What becomes of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The manual names it.
    Goes,
    /// The manual does not name it, the model may take it.
    May,
    /// Neither.
    Stays,
}

impl Fate {
    /// Goes if the manual names it, else stays.
    pub fn named(is: bool) -> Fate {
        if is { Fate::Goes } else { Fate::Stays }
    }
    /// Stays unless it may go.
    pub fn or_may(self, may: bool) -> Fate {
        if self == Fate::Stays && may { Fate::May } else { self }
    }
}

/// An upper part of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub space: Asid,
    pub va: Vaddr,
    /// log2 of what it covers.
    pub shift: u8,
}

impl Part {
    fn first(&self) -> u64 {
        self.va.0 >> self.shift << self.shift
    }
    fn same(&self, o: &Part) -> bool {
        (self.space, self.first(), self.shift) == (o.space, o.first(), o.shift)
    }
}

/// How many entries had each fate, over all cases: a property under which nothing goes, or nothing stays, shows nothing.
#[derive(Default)]
pub struct Tally([Cell<u64>; 3]);

impl Tally {
    fn count(&self, f: Fate) {
        let c = &self.0[f as usize];
        c.set(c.get() + 1);
    }
    /// At least a hundred entries went and at least a hundred stayed.
    pub fn shows_something(&self) {
        let [goes, may, stays] = [0, 1, 2].map(|i| self.0[i].get());
        assert!(goes >= 100 && stays >= 100, "{goes} went, {may} might have, {stays} stayed");
    }
}

fn parse(text: &str) -> TlbConfig {
    TlbConfig::parse(text, Path::new("test.toml")).unwrap_or_else(|e| panic!("{e}"))
}

/// The infinite model, presets, and small ones of each hierarchy whose arrays hold pages of all these sizes.
pub fn models(named: &[&str], sizes: &str) -> Vec<TlbConfig> {
    let array = |name, side, entries, ways| {
        format!(
            "[[level.array]]\nname = \"{name}\"\nside = \"{side}\"\nentries = {entries}\nways = {ways}\n\
             sizes = {sizes}\n"
        )
    };
    let small = |h| {
        format!(
            "kind = \"finite\"\nhierarchy = \"{h}\"\n[[level]]\n{}{}[[level]]\n{}",
            array("i", "instruction", 4, 2),
            array("d", "data", 6, 3),
            array("u", "unified", 20, 4)
        )
    };
    let small = ["independent", "inclusive", "exclusive"].map(|h| parse(&small(h)));
    let of = |n: &&str| presets::find(n).unwrap_or_else(|e| panic!("{e}"));
    std::iter::once(TlbConfig::infinite()).chain(small).chain(named.iter().map(of)).collect()
}

/// Everything that a TLB holds, each once, by the number in its leaf.
fn held(t: &Tlb<usize>) -> Vec<usize> {
    let mut all: Vec<usize> = match t {
        Tlb::None(_) => Vec::new(),
        Tlb::Infinite(t, _) => t.entries().map(|e| e.leaf).collect(),
        Tlb::Finite(t) => {
            t.levels().iter().flat_map(|l| l.arrays()).flat_map(|a| a.entries().map(|e| e.leaf)).collect()
        }
    };
    all.sort_unstable();
    all.dedup();
    all
}

/// Fills each model with `entries`, purges, and compares what went with the fates. Of entries with the same tag the last
/// counts, as in a TLB.
pub fn compare(
    models: &[TlbConfig],
    entries: &[Entry<()>],
    purges: &[Purge],
    fate: impl Fn(usize) -> Fate,
    tally: &Tally,
) -> Result<(), TestCaseError> {
    let last = |i: usize| entries[i + 1..].iter().all(|e| e.tag != entries[i].tag);
    let distinct: Vec<usize> = (0..entries.len()).filter(|&i| last(i)).collect();
    for config in models {
        let mut t = Tlb::<usize>::new(config);
        for &i in &distinct {
            let Entry { tag, frame, from, locked, .. } = entries[i];
            let side = if i % 3 == 0 { Side::Instruction } else { Side::Data };
            t.fill(side, Entry { tag, frame, from, locked, leaf: i });
        }
        let before = held(&t);
        if config.kind == Kind::Infinite {
            prop_assert_eq!(&before, &distinct, "an infinite TLB holds everything");
        }
        let (mut told, mut n) = (Vec::new(), 0);
        for p in purges {
            n += t.purge(p, |e| told.push(e.leaf));
        }
        told.sort_unstable();
        let after = held(&t);
        let went: Vec<usize> = before.iter().copied().filter(|i| !after.contains(i)).collect();
        prop_assert_eq!(&told, &went, "told of each that went, once: {}", config.about);
        prop_assert_eq!(n, went.len());
        for i in before {
            let f = fate(i);
            tally.count(f);
            let gone = went.contains(&i);
            let right = f == Fate::May || (f == Fate::Goes) == gone;
            prop_assert!(right, "{f:?}, but gone = {gone}: {:?}; {purges:?}; {}", entries[i], config.about);
        }
    }
    Ok(())
}

/// The same for walk caches. `parts` may repeat; the fate is asked of the first of each.
pub fn compare_parts(
    parts: &[Part],
    purges: &[Purge],
    fate: impl Fn(usize) -> Fate,
    tally: &Tally,
) -> Result<(), TestCaseError> {
    let mut sizes: Vec<u8> = parts.iter().map(|p| p.shift).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for shift in sizes {
        let covers = racewalk_walk::event::PageSize(shift);
        let mut c = WalkCache::new(&parse(&format!(
            "kind = \"none\"\n[[walk-cache]]\nname = \"c\"\ncovers = [\"{covers}\"]\nentries = 256\n"
        )));
        let first = |i: &usize| parts[*i].shift == shift && parts[..*i].iter().all(|p| !p.same(&parts[*i]));
        let mine: Vec<usize> = (0..parts.len()).filter(first).collect();
        let upper = |i: usize| Upper { next: Level(0), entry: i as u64, gathered: 0 };
        for &i in &mine {
            c.remember(parts[i].space, parts[i].va, shift, upper(i));
        }
        prop_assert_eq!(c.len(), mine.len());
        let n: usize = purges.iter().map(|p| c.purge(p)).sum();
        prop_assert_eq!(c.len() + n, mine.len());
        for i in mine {
            let f = fate(i);
            tally.count(f);
            let gone = c.resume(parts[i].space, parts[i].va).is_none();
            let right = f == Fate::May || (f == Fate::Goes) == gone;
            prop_assert!(right, "{f:?}, but gone = {gone}: {:?}; {purges:?}", parts[i]);
        }
    }
    Ok(())
}
