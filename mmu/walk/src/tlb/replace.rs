//! Replacement policies: which way of a full set goes. Locked entries never go.
//!
//! Invalid ways are filled first, lowest first; that is the array's business and the same under every policy.

use serde::Deserialize;
use std::fmt;

/// A replacement policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replacement {
    /// Least recently filled or hit.
    Lru,
    /// A binary tree of bits over the ways, each of which points away from the half that was used last. A set whose ways
    /// are no power of two has the larger half on the left.
    TreePlru,
    /// Any unlocked way with the same probability, by a generator with a seed.
    Random,
    /// First in, first out: a pointer for each set, which passes the way that it last replaced.
    RoundRobin,
    /// One used bit an entry: the first unused way goes; when all unlocked ones are used, all used bits of the set are
    /// reset first (UltraSPARC I and II user's manual 6.11.2, "1-bit LRU").
    UsedBit,
}

impl fmt::Display for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Replacement::Lru => "lru",
            Replacement::TreePlru => "tree-plru",
            Replacement::Random => "random",
            Replacement::RoundRobin => "round-robin",
            Replacement::UsedBit => "used-bit",
        })
    }
}

/// What a policy remembers of all sets of an array.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    ways: u32,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Lru(Recency),
    /// `ways - 1` bits a set, in the order of [`tree_touch`]; set: the victim is on the right.
    TreePlru(Vec<bool>),
    Random(u64),
    /// The next way to go, for each set.
    RoundRobin(Vec<u32>),
    UsedBit(Vec<bool>),
}

impl Policy {
    pub(super) fn new(kind: Replacement, sets: u32, ways: u32, seed: u64) -> Policy {
        let slots = (sets * ways) as usize;
        let state = match kind {
            Replacement::Lru => State::Lru(Recency::new(sets, ways)),
            Replacement::TreePlru => State::TreePlru(vec![false; slots - sets as usize]),
            Replacement::Random => State::Random(seed),
            Replacement::RoundRobin => State::RoundRobin(vec![0; sets as usize]),
            Replacement::UsedBit => State::UsedBit(vec![false; slots]),
        };
        Policy { ways, state }
    }

    /// The entry in `slot` was filled or hit.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        match &mut self.state {
            State::Lru(order) => order.touch(slot, self.ways),
            State::TreePlru(bits) => {
                let (set, way) = (slot / self.ways, slot % self.ways);
                let first = (set * (self.ways - 1)) as usize;
                tree_touch(&mut bits[first..first + self.ways as usize - 1], way);
            }
            State::UsedBit(used) => used[slot as usize] = true,
            State::Random(_) | State::RoundRobin(_) => {}
        }
    }

    /// Chooses the way of `set`, whose ways are all valid, that goes. `None`: all are locked.
    pub(super) fn victim(&mut self, set: u32, locked: impl Fn(u32) -> bool) -> Option<u32> {
        let ways = self.ways;
        match &mut self.state {
            State::Lru(order) => order.oldest(set, ways, locked),
            State::TreePlru(bits) => {
                let first = (set * (ways - 1)) as usize;
                tree_victim(&bits[first..first + ways as usize - 1], ways, locked)
            }
            State::Random(state) => {
                let free = (0..ways).filter(|&w| !locked(w)).count() as u64;
                if free == 0 {
                    return None;
                }
                let n = (u128::from(random(state)) * u128::from(free)) >> 64;
                (0..ways).filter(|&w| !locked(w)).nth(n as usize)
            }
            State::RoundRobin(next) => {
                let at = &mut next[set as usize];
                let way = (*at..ways).chain(0..*at).find(|&w| !locked(w))?;
                *at = (way + 1) % ways;
                Some(way)
            }
            State::UsedBit(used) => {
                let used = &mut used[(set * ways) as usize..((set + 1) * ways) as usize];
                if let Some(way) = (0..ways).find(|&w| !locked(w) && !used[w as usize]) {
                    return Some(way);
                }
                let way = (0..ways).find(|&w| !locked(w))?;
                used.fill(false);
                Some(way)
            }
        }
    }
}

/// splitmix64: every seed gives a full period.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Points every node on the path to `way` away from it. The bits are in preorder: a node, its left half, its right half.
fn tree_touch(bits: &mut [bool], mut way: u32) {
    let (mut node, mut ways) = (0, bits.len() as u32 + 1);
    while ways > 1 {
        let left = ways - ways / 2;
        let right = way >= left;
        bits[node as usize] = !right;
        if right {
            (node, way, ways) = (node + left, way - left, ways - left);
        } else {
            (node, ways) = (node + 1, left);
        }
    }
}

/// Follows the bits; where the half that they point to is all locked, the other one.
fn tree_victim(bits: &[bool], mut ways: u32, locked: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut node, mut first) = (0, 0);
    while ways > 1 {
        let left = ways - ways / 2;
        let all_locked = |right: bool| {
            let (from, to) = if right { (first + left, first + ways) } else { (first, first + left) };
            (from..to).all(&locked)
        };
        let right = bits[node as usize] != all_locked(bits[node as usize]);
        if right {
            (node, first, ways) = (node + left, first + left, ways - left);
        } else {
            (node, ways) = (node + 1, left);
        }
    }
    (!locked(first)).then_some(first)
}

/// The ways of each set in the order of their last use: rings of slots, one a set, each with a node that is no slot.
#[derive(Clone, Debug)]
struct Recency {
    slots: u32,
    older: Vec<u32>,
    newer: Vec<u32>,
}

impl Recency {
    fn new(sets: u32, ways: u32) -> Recency {
        let slots = sets * ways;
        let nodes = (slots + sets) as usize;
        let mut r = Recency { slots, older: vec![0; nodes], newer: vec![0; nodes] };
        for set in 0..sets {
            r.older[(slots + set) as usize] = slots + set;
            r.newer[(slots + set) as usize] = slots + set;
            for way in 0..ways {
                r.make_newest(set * ways + way, slots + set);
            }
        }
        r
    }

    /// `end.older` is the newest slot of the ring, `end.newer` the oldest.
    fn make_newest(&mut self, slot: u32, end: u32) {
        let newest = self.older[end as usize];
        self.older[slot as usize] = newest;
        self.newer[slot as usize] = end;
        self.newer[newest as usize] = slot;
        self.older[end as usize] = slot;
    }

    #[inline]
    fn touch(&mut self, slot: u32, ways: u32) {
        let (older, newer) = (self.older[slot as usize], self.newer[slot as usize]);
        if newer >= self.slots {
            return;
        }
        self.newer[older as usize] = newer;
        self.older[newer as usize] = older;
        self.make_newest(slot, self.slots + slot / ways);
    }

    fn oldest(&self, set: u32, ways: u32, locked: impl Fn(u32) -> bool) -> Option<u32> {
        let end = self.slots + set;
        let mut slot = self.newer[end as usize];
        while slot != end {
            let way = slot - set * ways;
            if !locked(way) {
                return Some(way);
            }
            slot = self.newer[slot as usize];
        }
        None
    }
}
