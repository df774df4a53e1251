//! The infinite TLB: entries go only when they are invalidated.

use super::{Entry, Key, Lookup, Purge, Spaces, Tag};
use racewalk_ram::{Asid, Vaddr};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A multiplicative hash: keys are page numbers and addresses, and nobody attacks these tables.
#[derive(Clone, Copy, Default)]
struct PageHasher(u64);

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

type Map<V> = HashMap<u64, V, BuildHasherDefault<PageHasher>>;

/// Entries of one space and one page size, by page number. Where several pages share a number the last one stands:
/// an infinite TLB replaces what it has for a page.
#[derive(Clone, Debug)]
struct Pages<L> {
    space: Asid,
    shift: u8,
    global: bool,
    pages: Map<Entry<L>>,
}

/// A translation's place: index into `groups` and page number.
type Place = (u16, u64);

/// The infinite TLB. Holds at most one entry for each space, page size and page.
#[derive(Clone, Debug)]
pub struct InfiniteTlb<L> {
    // A few spaces at most are ever loaded on one CPU, with one or two page sizes each.
    groups: Vec<Pages<L>>,
    /// By the address that the leaf was fetched from: IPTE names entries so. More than one place only where a page
    /// table is attached twice.
    by_entry: Map<(Place, Vec<Place>)>,
}

impl<L> Default for InfiniteTlb<L> {
    fn default() -> Self {
        InfiniteTlb { groups: Vec::new(), by_entry: Map::default() }
    }
}

impl<L: Copy> InfiniteTlb<L> {
    /// An empty TLB.
    pub fn new() -> Self {
        Self::default()
    }

    /// What serves `key`. Two entries of different sizes or spaces that serve it are a multiple hit.
    #[inline]
    pub fn lookup(&self, key: &Key) -> Lookup<L> {
        let mut found = Lookup::Miss;
        for g in &self.groups {
            let space = g.space == key.space || key.other == Some(g.space) || (g.global && key.globals);
            if !space {
                continue;
            }
            if let Some(e) = g.pages.get(&(key.va.0 >> g.shift)) {
                if !matches!(found, Lookup::Miss) {
                    return Lookup::Multiple;
                }
                found = Lookup::Hit(*e);
            }
        }
        found
    }

    /// Enters a translation, in place of the one for the same space, size and page.
    pub fn fill(&mut self, e: Entry<L>) {
        let t = e.tag;
        let same = |g: &Pages<L>| (g.space, g.shift, g.global) == (t.space, t.shift, t.global);
        let i = self.groups.iter().position(same).unwrap_or_else(|| self.new_group(&t));
        let number = t.page.0 >> t.shift;
        if let Some(old) = self.groups[i].pages.insert(number, e) {
            if old.from == e.from {
                return;
            }
            self.forget(&old, (i as u16, number));
        }
        let place = (i as u16, number);
        self.by_entry.entry(e.from.0).and_modify(|p| p.1.push(place)).or_insert((place, Vec::new()));
    }

    fn new_group(&mut self, t: &Tag) -> usize {
        let i = self.groups.iter().position(|g| g.pages.is_empty()).unwrap_or(self.groups.len());
        let g = Pages { space: t.space, shift: t.shift, global: t.global, pages: Map::default() };
        match self.groups.get_mut(i) {
            Some(empty) => *empty = g,
            None => self.groups.push(g),
        }
        i
    }

    fn forget(&mut self, e: &Entry<L>, place: Place) {
        let Some(p) = self.by_entry.get_mut(&e.from.0) else { return };
        if p.0 != place {
            p.1.retain(|q| *q != place);
        } else if let Some(q) = p.1.pop() {
            p.0 = q;
        } else {
            self.by_entry.remove(&e.from.0);
        }
    }

    /// Removes exactly what `purge` names; tells `gone` of each entry, and returns how many.
    pub fn purge(&mut self, purge: &Purge, mut gone: impl FnMut(&Entry<L>)) -> usize {
        let places = self.candidates(purge);
        let mut n = 0;
        let mut take = |this: &mut Self, place: Place, e: Entry<L>| {
            this.groups[place.0 as usize].pages.remove(&place.1);
            this.forget(&e, place);
            gone(&e);
            n += 1;
        };
        match places {
            Some(places) => {
                for place in places {
                    match self.groups[place.0 as usize].pages.get(&place.1) {
                        Some(&e) if purge.removes(&e) => take(self, place, e),
                        _ => {}
                    }
                }
            }
            None => {
                for i in 0..self.groups.len() {
                    let out: Vec<_> = self.groups[i].pages.extract_if(|_, e| purge.removes(e)).collect();
                    for (number, e) in out {
                        take(self, (i as u16, number), e);
                    }
                }
            }
        }
        n
    }

    /// The only places that the purge can concern, where they are fewer than all.
    fn candidates(&self, purge: &Purge) -> Option<Vec<Place>> {
        const FEW: u64 = 64;
        if let Some((first, last)) = purge.from
            && last.0 - first.0 < FEW * 8
        {
            // Entries are aligned to their eight bytes.
            let entries = (first.0 & !7..=last.0).step_by(8).filter_map(|a| self.by_entry.get(&a));
            return Some(entries.flat_map(|(p, more)| std::iter::once(p).chain(more).copied()).collect());
        }
        let (first, last) = purge.one_range()?;
        if (last.0 - first.0) >> 12 > FEW {
            return None;
        }
        let mut places = Vec::new();
        for (i, g) in self.groups.iter().enumerate() {
            if g.global || purge.spaces == Spaces::Any || purge.spaces.contains(g.space) {
                places.extend((first.0 >> g.shift..=last.0 >> g.shift).map(|n| (i as u16, n)));
            }
        }
        Some(places)
    }

    /// The entry for exactly this space, size and page, if there is one.
    pub fn get(&self, space: Asid, shift: u8, page: Vaddr) -> Option<&Entry<L>> {
        let g = self.groups.iter().find(|g| g.space == space && g.shift == shift)?;
        g.pages.get(&(page.0 >> shift))
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<L>> {
        self.groups.iter().flat_map(|g| g.pages.values())
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|g| g.pages.len()).sum()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlb::{Globals, Tag};
    use racewalk_ram::Paddr;

    const SPACES: [u64; 2] = [0x1000, 0x2000];

    /// Ten pages in each of two spaces, the leaf of page n of both fetched from 0x8000 + 8 n.
    fn filled() -> InfiniteTlb<()> {
        let mut t = InfiniteTlb::new();
        for space in SPACES {
            for n in 0..10 {
                t.fill(entry(space, n));
            }
        }
        t
    }

    fn entry(space: u64, n: u64) -> Entry<()> {
        Entry {
            tag: Tag { space: Asid(space), global: false, page: Vaddr(n << 12), shift: 12 },
            frame: Paddr(n << 12),
            from: Paddr(0x8000 + n * 8),
            locked: n == 9,
            leaf: (),
        }
    }

    fn left(p: Purge) -> (usize, usize) {
        let mut t = filled();
        let mut told = 0;
        let gone = t.purge(&p, |_| told += 1);
        assert_eq!(gone, told);
        assert_eq!(t.by_entry.values().map(|p| 1 + p.1.len()).sum::<usize>(), t.len());
        (gone, t.len())
    }

    #[test]
    fn purges_remove_exactly_what_they_name() {
        let any = Purge::default();
        let range = |first, last| Purge { range: Some((Vaddr(first), Vaddr(last))), ..any };
        assert_eq!(left(range(0x3000, 0x3fff)), (2, 18));
        assert_eq!(left(range(0x2fff, 0x4000)), (6, 14));
        assert_eq!(left(range(0, 0xff_ffff)), (20, 0));
        assert_eq!(left(Purge { spaces: Spaces::one(Asid(SPACES[0])), ..any }), (10, 10));
        assert_eq!(left(Purge { spaces: Spaces::one(Asid(SPACES[0])), ..range(0x3000, 0x3fff) }), (1, 19));
        assert_eq!(left(Purge { from: Some((Paddr(0x8010), Paddr(0x801f))), ..any }), (4, 16));
        assert_eq!(left(Purge { shift: Some(16), ..any }), (0, 20));
        assert_eq!(left(Purge { spare_locked: true, ..any }), (18, 2));
        assert_eq!(left(Purge::ALL), (20, 0));
    }

    #[test]
    fn a_page_is_replaced_and_sizes_may_overlap() {
        let mut t = filled();
        let mut e = entry(SPACES[0], 3);
        e.from = Paddr(0x9000);
        t.fill(e);
        assert_eq!(t.len(), 20);
        let of = |t: &mut InfiniteTlb<()>, a| {
            t.purge(&Purge { from: Some((Paddr(a), Paddr(a + 7))), ..Purge::default() }, |_| {})
        };
        assert_eq!((of(&mut t, 0x8018), of(&mut t, 0x9000)), (1, 1), "one place each now");
        let key = Key { va: Vaddr(0x2123), space: Asid(SPACES[0]), other: None, globals: false };
        assert!(matches!(t.lookup(&key), Lookup::Hit(e) if e.paddr(key.va) == Paddr(0x2123)));
        let mut big = entry(SPACES[0], 0);
        big.tag.shift = 16;
        t.fill(big);
        assert_eq!(t.lookup(&key), Lookup::Multiple);
    }

    #[test]
    fn global_entries_serve_keys_that_admit_them() {
        let mut t = InfiniteTlb::new();
        let mut e = entry(SPACES[0], 1);
        e.tag.global = true;
        t.fill(e);
        let key = Key { va: Vaddr(0x1000), space: Asid(SPACES[1]), other: None, globals: true };
        assert!(matches!(t.lookup(&key), Lookup::Hit(_)));
        assert_eq!(t.lookup(&Key { globals: false, ..key }), Lookup::Miss);
        assert!(matches!(
            t.lookup(&Key { globals: false, other: Some(Asid(SPACES[0])), ..key }),
            Lookup::Hit(_)
        ));
        let space = |globals| Purge { spaces: Spaces::one(Asid(SPACES[1])), globals, ..Purge::default() };
        assert_eq!(t.purge(&space(Globals::Like), |_| {}), 0);
        assert_eq!(t.purge(&space(Globals::Never), |_| {}), 0);
        assert_eq!(t.purge(&space(Globals::Always), |_| {}), 1);
        assert!(t.is_empty());
    }
}
