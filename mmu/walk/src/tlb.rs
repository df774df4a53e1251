//! TLB models.

use crate::s390x::invalidate::Purge;
use racewalk_ram::{Asid, Paddr, Vaddr};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// One translation of a 4 KiB page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbEntry {
    /// First byte of the frame.
    pub frame: Paddr,
    /// Stores are forbidden.
    pub protected: bool,
    /// Instruction fetches are forbidden.
    pub no_execute: bool,
}

/// A multiplicative hash: keys are page numbers, and nobody attacks this table.
#[derive(Clone, Copy, Default)]
pub struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(b as u64)
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }
}

type Pages = HashMap<u64, TlbEntry, BuildHasherDefault<PageHasher>>;

/// The infinite TLB: entries go only when they are invalidated.
#[derive(Clone, Debug, Default)]
pub struct InfiniteTlb {
    // A few spaces at most are ever loaded on one CPU.
    spaces: Vec<(Asid, Pages)>,
}

impl InfiniteTlb {
    /// An empty TLB.
    pub fn new() -> Self {
        Self::default()
    }
    /// The entry for a page, if there is one.
    pub fn lookup(&self, space: Asid, va: Vaddr) -> Option<TlbEntry> {
        let (_, pages) = self.spaces.iter().find(|s| s.0 == space)?;
        pages.get(&(va.0 >> 12)).copied()
    }
    /// Enters a translation.
    pub fn insert(&mut self, space: Asid, va: Vaddr, e: TlbEntry) {
        let i = self.spaces.iter().position(|s| s.0 == space).unwrap_or_else(|| {
            self.spaces.push((space, Pages::default()));
            self.spaces.len() - 1
        });
        self.spaces[i].1.insert(va.0 >> 12, e);
    }
    /// Removes exactly what `purge` names; returns how many entries went.
    pub fn purge(&mut self, purge: Purge) -> usize {
        let before = self.len();
        match purge {
            Purge::Page(va) => {
                for (_, pages) in &mut self.spaces {
                    pages.remove(&(va.0 >> 12));
                }
            }
            Purge::Range { start, len } => {
                let (first, last) = (start.0 >> 12, start.0.saturating_add(len - 1) >> 12);
                for (_, pages) in &mut self.spaces {
                    pages.retain(|&vpn, _| vpn < first || vpn > last);
                }
            }
            Purge::Asce(a) => self.spaces.retain(|s| s.0 != Asid(a.0)),
            Purge::All => self.spaces.clear(),
        }
        before - self.len()
    }
    /// Entries held.
    pub fn len(&self) -> usize {
        self.spaces.iter().map(|s| s.1.len()).sum()
    }
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s390x::Asce;

    #[test]
    fn purges_remove_exactly_what_they_name() {
        let filled = || {
            let mut t = InfiniteTlb::new();
            for space in [0x1000, 0x2000] {
                for vpn in 0..10 {
                    let e = TlbEntry { frame: Paddr(vpn << 12), protected: false, no_execute: false };
                    t.insert(Asid(space), Vaddr(vpn << 12), e);
                }
            }
            t
        };
        let left = |p| {
            let mut t = filled();
            let gone = t.purge(p);
            (gone, t.len())
        };
        assert_eq!(left(Purge::Page(Vaddr(0x3fff))), (2, 18));
        assert_eq!(left(Purge::Range { start: Vaddr(0x2000), len: 0x3000 }), (6, 14));
        assert_eq!(left(Purge::Asce(Asce(0x1000))), (10, 10));
        assert_eq!(left(Purge::All), (20, 0));
    }
}
