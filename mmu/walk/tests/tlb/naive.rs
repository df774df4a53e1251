//! The slow TLB: lists of entries, searched from end to end, with each policy by its definition. It shares no code with
//! the models, only the configuration and the types of entries.

use racewalk_walk::tlb::config::{ArrayConfig, Hierarchy, Serves, TlbConfig};
use racewalk_walk::tlb::{
    Entry, Fill, Globals, Key, Lookup, Purge, Replacement, Side, Spaces, Stats, Tag, Target,
};
use std::collections::VecDeque;

pub type Leaf = u32;

/// A tree-PLRU tree by its definition: each node knows its halves and which of them was not used last.
pub enum Tree {
    Way(usize),
    Node { victim_is_right: bool, left: Box<Tree>, right: Box<Tree> },
}

impl Tree {
    pub fn new(ways: &[usize]) -> Tree {
        match ways {
            [one] => Tree::Way(*one),
            _ => {
                let (left, right) = ways.split_at(ways.len().div_ceil(2));
                let [left, right] = [left, right].map(|w| Box::new(Tree::new(w)));
                Tree::Node { victim_is_right: false, left, right }
            }
        }
    }
    fn ways(&self) -> Vec<usize> {
        match self {
            Tree::Way(w) => vec![*w],
            Tree::Node { left, right, .. } => [left.ways(), right.ways()].concat(),
        }
    }
    pub fn touch(&mut self, way: usize) {
        // Only the nodes above the way change.
        if self.ways().contains(&way)
            && let Tree::Node { victim_is_right, left, right } = self
        {
            *victim_is_right = left.ways().contains(&way);
            left.touch(way);
            right.touch(way);
        }
    }
    pub fn victim(&self, locked: &[bool]) -> Option<usize> {
        match self {
            Tree::Way(w) => (!locked[*w]).then_some(*w),
            Tree::Node { victim_is_right, left, right } => {
                let (first, second) = if *victim_is_right { (right, left) } else { (left, right) };
                first.victim(locked).or_else(|| second.victim(locked))
            }
        }
    }
}

struct Set {
    ways: Vec<Option<Entry<Leaf>>>,
    /// Ways by use, the latest at the back.
    uses: VecDeque<usize>,
    tree: Tree,
    used: Vec<bool>,
    next: usize,
}

pub struct List {
    pub config: ArrayConfig,
    sets: Vec<Set>,
    random: u64,
    pub stats: Stats,
}

impl List {
    fn new(config: &ArrayConfig) -> List {
        let ways = config.ways.of(config.entries) as usize;
        let set = |_| Set {
            ways: vec![None; ways],
            uses: VecDeque::new(),
            tree: Tree::new(&(0..ways).collect::<Vec<_>>()),
            used: vec![false; ways],
            next: 0,
        };
        List {
            config: config.clone(),
            sets: (0..config.entries as usize / ways).map(set).collect(),
            random: config.seed,
            stats: Stats::default(),
        }
    }

    fn serves(&self, side: Side) -> bool {
        match side {
            Side::Instruction => self.config.side != Serves::Data,
            Side::Data => self.config.side != Serves::Instruction,
        }
    }

    fn admits(&self, e: &Entry<Leaf>) -> bool {
        (!e.locked || self.config.locks) && self.config.sizes.iter().any(|s| s.0 == e.tag.shift)
    }

    pub fn entries(&self) -> Vec<Entry<Leaf>> {
        self.sets.iter().flat_map(|s| s.ways.iter().flatten().copied()).collect()
    }

    fn places(&self, wanted: impl Fn(&Entry<Leaf>) -> bool) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (i, s) in self.sets.iter().enumerate() {
            for (j, w) in s.ways.iter().enumerate() {
                if w.as_ref().is_some_and(&wanted) {
                    found.push((i, j));
                }
            }
        }
        found
    }

    fn place_of(&self, tag: &Tag) -> Option<(usize, usize)> {
        let all = self.places(|e| e.tag == *tag);
        assert!(all.len() <= 1, "a tag twice in one array");
        all.first().copied()
    }

    fn touch(&mut self, (set, way): (usize, usize)) {
        let s = &mut self.sets[set];
        s.uses.retain(|w| *w != way);
        s.uses.push_back(way);
        s.tree.touch(way);
        s.used[way] = true;
    }

    fn remove(&mut self, (set, way): (usize, usize)) -> Entry<Leaf> {
        self.sets[set].ways[way].take().expect("an entry")
    }

    /// `Err`: every way is locked.
    fn insert(&mut self, e: Entry<Leaf>) -> Result<Option<Entry<Leaf>>, ()> {
        let set = (u128::from(e.tag.page.0) / (1u128 << e.tag.shift) % self.sets.len() as u128) as usize;
        let s = &mut self.sets[set];
        let mut victim = None;
        let way = match s.ways.iter().position(Option::is_none) {
            Some(way) => way,
            None => {
                let locked: Vec<bool> = s.ways.iter().map(|w| w.as_ref().is_some_and(|e| e.locked)).collect();
                let open: Vec<usize> = (0..locked.len()).filter(|w| !locked[*w]).collect();
                if open.is_empty() {
                    self.stats.refused += 1;
                    return Err(());
                }
                let way = match self.config.replacement {
                    Replacement::Lru => *s.uses.iter().find(|w| !locked[**w]).expect("all were used"),
                    Replacement::TreePlru => s.tree.victim(&locked).expect("one is open"),
                    Replacement::Random => {
                        // SplitMix64, then a fraction of the number of open ways.
                        self.random = self.random.wrapping_add(0x9E3779B97F4A7C15);
                        let mut z = self.random;
                        z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
                        z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
                        z ^= z >> 31;
                        open[((z as u128 * open.len() as u128) / (1u128 << 64)) as usize]
                    }
                    Replacement::RoundRobin => {
                        while locked[s.next] {
                            s.next = (s.next + 1) % locked.len();
                        }
                        let way = s.next;
                        s.next = (s.next + 1) % locked.len();
                        way
                    }
                    Replacement::UsedBit => {
                        if open.iter().all(|w| s.used[*w]) {
                            s.used.iter_mut().for_each(|u| *u = false);
                        }
                        *open.iter().find(|w| !s.used[**w]).expect("one is unused")
                    }
                };
                victim = s.ways[way].take();
                self.stats.evictions += 1;
                way
            }
        };
        s.ways[way] = Some(e);
        self.stats.fills += 1;
        self.touch((set, way));
        Ok(victim)
    }
}

pub struct Naive {
    hierarchy: Hierarchy,
    pub levels: Vec<Vec<List>>,
    /// Lookups of each level only.
    pub stats: Vec<Stats>,
    pub evicted: Vec<Entry<Leaf>>,
}

fn serves(t: &Tag, k: &Key) -> bool {
    let (first, after) = (u128::from(t.page.0), u128::from(t.page.0) + (1u128 << t.shift));
    let inside = (first..after).contains(&u128::from(k.va.0));
    let space = t.space == k.space || Some(t.space) == k.other || (t.global && k.globals);
    inside && space
}

pub fn named(p: &Purge, e: &Entry<Leaf>) -> bool {
    let t = &e.tag;
    let of_space = match p.spaces {
        Spaces::Any => true,
        Spaces::Matching { value, mask } => t.space.0 & mask == value & mask,
    };
    let space = match p.globals {
        Globals::Always if t.global => true,
        Globals::Never if t.global => false,
        _ => of_space,
    };
    let last = u128::from(t.page.0) + (1u128 << t.shift) - 1;
    // The range where it is, or moved to where the page begins or ends.
    let moved = |by: u64| {
        p.range.is_none_or(|(a, b)| {
            u128::from(a.0) + u128::from(by) <= last
                && u128::from(t.page.0) <= u128::from(b.0) + u128::from(by)
        })
    };
    let range = match p.repeats {
        None => moved(0),
        Some(bits) => moved(t.page.0 >> bits << bits) || moved((last >> bits << bits) as u64),
    };
    let from = p.from.is_none_or(|(a, b)| a.0 <= e.from.0 && e.from.0 <= b.0);
    let size = p.shift.is_none_or(|s| s == t.shift);
    p.target != Target::WalkCache && space && range && from && size && !(p.spare_locked && e.locked)
}

impl Naive {
    pub fn new(c: &TlbConfig) -> Naive {
        let levels: Vec<Vec<List>> =
            c.levels.iter().map(|l| l.arrays.iter().map(List::new).collect()).collect();
        Naive {
            hierarchy: c.hierarchy,
            stats: vec![Stats::default(); levels.len()],
            levels,
            evicted: Vec::new(),
        }
    }

    pub fn lookup(&mut self, side: Side, key: &Key) -> Lookup<Leaf> {
        self.evicted.clear();
        for at in 0..self.levels.len() {
            let mut tags: Vec<Entry<Leaf>> = Vec::new();
            let mut asked = false;
            let mut many = false;
            for a in self.levels[at].iter_mut().filter(|a| a.serves(side)) {
                asked = true;
                a.stats.accesses += 1;
                let found = a.places(|e| serves(&e.tag, key));
                match found.len() {
                    0 => a.stats.misses += 1,
                    1 => {
                        a.stats.hits += 1;
                        a.touch(found[0]);
                    }
                    _ => {
                        a.stats.hits += 1;
                        a.stats.multiple += 1;
                        many = true;
                    }
                }
                for (set, way) in found {
                    let e = a.sets[set].ways[way].expect("found");
                    if tags.iter().all(|t| t.tag != e.tag) {
                        tags.push(e);
                    }
                }
            }
            if !asked {
                continue;
            }
            let s = &mut self.stats[at];
            s.accesses += 1;
            if tags.is_empty() {
                s.misses += 1;
                continue;
            }
            s.hits += 1;
            if many || tags.len() > 1 {
                s.multiple += 1;
                return Lookup::Multiple;
            }
            let e = tags[0];
            self.refill(at, side, e);
            return Lookup::Hit(e);
        }
        Lookup::Miss
    }

    fn admitted(&self, at: usize, side: Side, e: &Entry<Leaf>) -> bool {
        self.levels[at].iter().any(|a| a.serves(side) && a.admits(e))
    }

    fn refill(&mut self, at: usize, side: Side, e: Entry<Leaf>) {
        if !(0..at).any(|l| self.admitted(l, side, &e)) {
            return;
        }
        match self.hierarchy {
            Hierarchy::Exclusive => {
                self.leave(at, Some(side), &e.tag);
                for l in 0..=at {
                    if self.put(l, side, e) {
                        break;
                    }
                }
            }
            Hierarchy::Independent => (0..at).rev().for_each(|l| {
                self.put(l, side, e);
            }),
            Hierarchy::Inclusive => {
                for l in (0..at).rev() {
                    if !self.put(l, side, e) && self.admitted(l, side, &e) {
                        break;
                    }
                }
            }
        }
    }

    /// Removes copies from the levels from `first` on, for a side.
    fn leave(&mut self, first: usize, side: Option<Side>, tag: &Tag) {
        for a in self.levels[first..].iter_mut().flatten() {
            if side.is_none_or(|s| a.serves(s))
                && let Some(p) = a.place_of(tag)
            {
                a.remove(p);
                a.stats.moved += 1;
            }
        }
    }

    pub fn holds(&self, tag: &Tag) -> bool {
        self.levels.iter().flatten().any(|a| a.place_of(tag).is_some())
    }

    /// Whether the level has it afterwards.
    fn put(&mut self, at: usize, side: Side, e: Entry<Leaf>) -> bool {
        let level = &mut self.levels[at];
        for a in level.iter_mut().filter(|a| a.serves(side)) {
            if let Some(p) = a.place_of(&e.tag) {
                a.touch(p);
                return true;
            }
        }
        let mut victim = None;
        let taken = level.iter_mut().filter(|a| a.serves(side) && a.admits(&e)).any(|a| match a.insert(e) {
            Ok(v) => {
                victim = v;
                true
            }
            Err(()) => false,
        });
        if let Some(v) = victim {
            self.after_eviction(at, side, v);
        }
        taken
    }

    fn after_eviction(&mut self, at: usize, side: Side, v: Entry<Leaf>) {
        match self.hierarchy {
            Hierarchy::Independent => {}
            Hierarchy::Inclusive => {
                let has =
                    |s: Side| self.levels[at].iter().any(|a| a.serves(s) && a.place_of(&v.tag).is_some());
                let (i, d) = (has(Side::Instruction), has(Side::Data));
                for a in self.levels[..at].iter_mut().flatten() {
                    let backed = (i && a.serves(Side::Instruction)) || (d && a.serves(Side::Data));
                    if !backed && let Some(p) = a.place_of(&v.tag) {
                        a.remove(p);
                        a.stats.moved += 1;
                    }
                }
            }
            Hierarchy::Exclusive => {
                for l in at + 1..self.levels.len() {
                    if self.put(l, side, v) {
                        return;
                    }
                }
            }
        }
        if !self.holds(&v.tag) {
            self.evicted.push(v);
        }
    }

    pub fn fill(&mut self, side: Side, e: Entry<Leaf>) -> Fill {
        self.evicted.clear();
        let before = self.holds(&e.tag);
        let fill = self.enter(side, e);
        if before && !self.holds(&e.tag) {
            self.evicted.push(e);
        }
        fill
    }

    fn enter(&mut self, side: Side, e: Entry<Leaf>) -> Fill {
        for a in self.levels.iter_mut().flatten() {
            if let Some((set, way)) = a.place_of(&e.tag) {
                if a.admits(&e) {
                    a.sets[set].ways[way] = Some(e);
                    a.stats.updates += 1;
                } else {
                    a.remove((set, way));
                    a.stats.moved += 1;
                }
            }
        }
        let n = self.levels.len();
        if self.hierarchy == Hierarchy::Exclusive {
            self.leave(0, Some(side), &e.tag);
        }
        if !(0..n).any(|l| self.admitted(l, side, &e)) {
            return Fill::Unheld;
        }
        match self.hierarchy {
            Hierarchy::Exclusive => {
                (0..n).any(|l| self.put(l, side, e));
            }
            Hierarchy::Independent => (0..n).rev().for_each(|l| {
                self.put(l, side, e);
            }),
            Hierarchy::Inclusive => {
                for l in (0..n).rev() {
                    if !self.put(l, side, e) && self.admitted(l, side, &e) {
                        break;
                    }
                }
            }
        }
        let held = self.levels.iter().flatten().any(|a| a.serves(side) && a.place_of(&e.tag).is_some());
        if held { Fill::Entered } else { Fill::Refused }
    }

    pub fn purge(&mut self, p: &Purge) -> Vec<Entry<Leaf>> {
        let mut gone: Vec<Entry<Leaf>> = Vec::new();
        for a in self.levels.iter_mut().flatten() {
            for place in a.places(|e| named(p, e)) {
                let e = a.remove(place);
                a.stats.purged += 1;
                if gone.iter().all(|g| g.tag != e.tag) {
                    gone.push(e);
                }
            }
        }
        gone
    }
}
