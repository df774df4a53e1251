//! Mappings of an address space: the tree behind `mmap_lock`, as plain data.

use crate::file::FileObject;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident: $ty:ty { $($(#[$d:meta])* $k:ident = $v:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
        pub struct $name(pub $ty);
        impl $name {
            $($(#[$d])* pub const $k: $name = $name($v);)*
            /// Whether all bits of `other` are set.
            pub const fn contains(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }
        }
        impl std::ops::BitOr for $name {
            type Output = $name;
            fn bitor(self, o: $name) -> $name {
                $name(self.0 | o.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

bits! {
    /// `PROT_*`, as programs pass them.
    Prot: u32 {
        /// No access.
        NONE = 0,
        /// `PROT_READ`.
        READ = 1,
        /// `PROT_WRITE`.
        WRITE = 2,
        /// `PROT_EXEC`.
        EXEC = 4,
    }
}

bits! {
    /// `MAP_*`, with the numbers of s390x.
    MapFlags: u32 {
        /// Shared with whoever maps the same object.
        SHARED = 0x01,
        /// Private, copied on write.
        PRIVATE = 0x02,
        /// Exactly at the address given.
        FIXED = 0x10,
        /// Not a file.
        ANONYMOUS = 0x20,
        /// Grows downward.
        GROWSDOWN = 0x100,
        /// Locked in memory (accepted: nothing is ever paged out).
        LOCKED = 0x2000,
        /// No reservation (accepted: nothing is ever reserved).
        NORESERVE = 0x4000,
        /// Fill the page tables at once.
        POPULATE = 0x8000,
        /// With `POPULATE`: do not.
        NONBLOCK = 0x1_0000,
        /// A stack (no effect).
        STACK = 0x2_0000,
        /// Huge pages.
        HUGETLB = 0x4_0000,
        /// Exactly at the address given, unless something is there.
        FIXED_NOREPLACE = 0x10_0000,
    }
}

bits! {
    /// Properties of a mapping.
    VmFlags: u32 {
        /// `MAP_SHARED`.
        SHARED = 1,
        /// A stack: grows downward.
        GROWSDOWN = 2,
        /// `PROT_WRITE` may never be given.
        NO_MAY_WRITE = 4,
    }
}

/// What a mapping shows.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Zeros, private.
    Anonymous,
    /// Pages of an object, from page `pgoff` on.
    Object {
        /// The object.
        file: Arc<FileObject>,
        /// The page that the mapping begins with.
        pgoff: u64,
    },
}

/// A mapping.
#[derive(Clone, Debug)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Protection.
    pub prot: Prot,
    /// Properties.
    pub flags: VmFlags,
    /// What it shows.
    pub contents: Contents,
    /// A name that is not a file's: `[stack]`, `[vdso]`. Named mappings do not merge.
    pub name: Option<&'static str>,
}

/// Bytes below a stack that nothing else may use (256 pages).
pub const STACK_GUARD_GAP: u64 = 256 << 12;

impl Vma {
    /// Whether it is `MAP_SHARED`.
    pub fn is_shared(&self) -> bool {
        self.flags.contains(VmFlags::SHARED)
    }
    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }
    /// The page of the object that is at `addr`.
    pub(crate) fn pgoff_of(&self, addr: u64) -> u64 {
        match &self.contents {
            Contents::Anonymous => 0,
            Contents::Object { file, pgoff } => pgoff + ((addr - self.start) >> file.page_shift()),
        }
    }
    /// A program is about to be able to store to the page at `addr`: if it is the file's, it has to be written back.
    pub(crate) fn mark_dirty(&self, addr: u64) {
        if let Contents::Object { file, .. } = &self.contents
            && self.is_shared()
        {
            file.mark_dirty(self.pgoff_of(addr));
        }
    }
    /// Where the room it needs begins: below a stack is its guard gap.
    fn gap_start(&self) -> u64 {
        if self.flags.contains(VmFlags::GROWSDOWN) {
            self.start.saturating_sub(STACK_GUARD_GAP)
        } else {
            self.start
        }
    }
    /// The part of it from `start` to `end`.
    fn part(&self, start: u64, end: u64) -> Vma {
        let mut v = self.clone();
        let first = self.pgoff_of(start);
        if let Contents::Object { pgoff, .. } = &mut v.contents {
            *pgoff = first;
        }
        v.start = start;
        v.end = end;
        v
    }
    fn joins(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.flags == next.flags
            && !self.flags.contains(VmFlags::GROWSDOWN)
            && self.name.is_none()
            && next.name.is_none()
            && match (&self.contents, &next.contents) {
                (Contents::Anonymous, Contents::Anonymous) => true,
                (Contents::Object { file: a, .. }, Contents::Object { file: b, pgoff }) => {
                    Arc::ptr_eq(a, b) && self.pgoff_of(self.end) == *pgoff
                }
                _ => false,
            }
    }
}

/// All mappings, by first address.
#[derive(Debug, Default)]
pub struct VmaTree {
    map: BTreeMap<u64, Vma>,
}

impl VmaTree {
    /// The same mappings, each object being what `object` makes of it.
    pub(crate) fn with_objects(
        &self,
        mut object: impl FnMut(&Arc<FileObject>) -> Arc<FileObject>,
    ) -> VmaTree {
        let mut map = self.map.clone();
        for v in map.values_mut() {
            if let Contents::Object { file, .. } = &mut v.contents {
                *file = object(file);
            }
        }
        VmaTree { map }
    }
    /// Number of mappings.
    pub fn len(&self) -> usize {
        self.map.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
    /// All of them, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.map.values()
    }
    /// The mapping that holds `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..=addr).next_back().map(|(_, v)| v).filter(|v| addr < v.end)
    }
    /// The mapping that holds `addr` or the next one above.
    pub fn find_or_next(&self, addr: u64) -> Option<&Vma> {
        self.find(addr).or_else(|| self.map.range(addr..).next().map(|(_, v)| v))
    }
    /// The mapping that ends at or below `addr`, nearest first.
    pub fn prev(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..addr).next_back().map(|(_, v)| v).filter(|v| v.end <= addr)
    }
    /// The mappings that have a part in `start..end`.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |v| v.start);
        self.map.range(first..end.max(first)).map(|(_, v)| v)
    }
    /// Whether a part of `start..end` is mapped.
    pub fn any(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_some()
    }
    /// Whether all of `start..end` is mapped.
    pub fn all(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for v in self.overlapping(start, end) {
            if v.start > at {
                return false;
            }
            at = v.end;
        }
        at >= end
    }
    /// How many more mappings there would be after cutting at `start` and `end`.
    pub fn cuts(&self, start: u64, end: u64) -> usize {
        let cut = |a: u64| self.find(a).is_some_and(|v| v.start != a) as usize;
        cut(start) + cut(end)
    }
    /// Makes `addr` a border between mappings.
    pub fn split(&mut self, addr: u64) {
        let Some(v) = self.find(addr).filter(|v| v.start != addr) else { return };
        let (low, high) = (v.part(v.start, addr), v.part(addr, v.end));
        self.map.insert(low.start, low);
        self.map.insert(high.start, high);
    }
    /// Takes `start..end` out.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Vma> {
        self.split(start);
        self.split(end);
        let keys: Vec<u64> = self.map.range(start..end).map(|(&k, _)| k).collect();
        keys.iter().filter_map(|k| self.map.remove(k)).collect()
    }
    /// Adds a mapping where there is none, and merges it with its neighbours if they agree.
    pub fn insert(&mut self, mut v: Vma) {
        debug_assert!(!self.any(v.start, v.end) && v.start < v.end);
        if let Some(next) = self.map.get(&v.end)
            && v.joins(next)
        {
            v.end = next.end;
            self.map.remove(&next.start.clone());
        }
        if let Some((_, prev)) = self.map.range_mut(..v.start).next_back()
            && prev.joins(&v)
        {
            prev.end = v.end;
            return;
        }
        self.map.insert(v.start, v);
    }
    /// Moves the first address of the stack that begins at `start` down to `new`.
    pub(crate) fn grow_down(&mut self, start: u64, new: u64) {
        if let Some(mut v) = self.map.remove(&start) {
            v.start = new;
            self.map.insert(new, v);
        }
    }
    /// The highest room for `len` bytes in `low..high`.
    pub fn top_down(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut top = high;
        for v in self.map.range(..high).rev().map(|(_, v)| v) {
            if v.end < top && top - v.end >= len && top - len >= low {
                return Some(top - len);
            }
            top = top.min(v.gap_start());
            if top < low {
                return None;
            }
        }
        (top >= len && top - len >= low).then(|| top - len)
    }
    /// The lowest room for `len` bytes in `low..high`.
    pub fn bottom_up(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut at = low;
        for v in self.overlapping(low, high) {
            if v.gap_start().checked_sub(at).is_some_and(|room| room >= len) {
                break;
            }
            at = at.max(v.end);
        }
        (at.checked_add(len)? <= high && !self.any(at, at + len)).then_some(at)
    }
    /// Whether `len` bytes at `addr` are free, guard gaps included.
    pub fn fits(&self, addr: u64, len: u64) -> bool {
        !self.any(addr, addr + len) && self.find_or_next(addr).is_none_or(|v| addr + len <= v.gap_start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_sched::controlled::Rng;

    fn anon(start: u64, end: u64, prot: Prot) -> Vma {
        Vma { start, end, prot, flags: VmFlags(0), contents: Contents::Anonymous, name: None }
    }

    #[test]
    fn agrees_with_an_array_of_pages() {
        for seed in 0..50 {
            let mut rng = Rng(seed);
            let mut t = VmaTree::default();
            let mut model = [None; 128];
            for _ in 0..300 {
                let a = rng.below(127) as usize;
                let b = a + 1 + rng.below(127 - a as u64) as usize;
                let (start, end) = ((a as u64) << 12, (b as u64) << 12);
                assert_eq!(t.any(start, end), model[a..b].iter().any(Option::is_some));
                assert_eq!(t.all(start, end), model[a..b].iter().all(Option::is_some));
                t.remove(start, end);
                model[a..b].fill(None);
                if rng.below(3) != 0 {
                    let prot = Prot(rng.below(4) as u32);
                    t.insert(anon(start, end, prot));
                    model[a..b].fill(Some(prot));
                }
                for (i, m) in model.iter().enumerate() {
                    assert_eq!(t.find((i as u64) << 12).map(|v| v.prot), *m);
                }
                let runs =
                    (0..128).filter(|&i| model[i].is_some() && (i == 0 || model[i - 1] != model[i])).count();
                assert_eq!(t.len(), runs, "neighbours that agree are one mapping");
                let len = (1 + rng.below(20)) << 12;
                let room = |i: usize| {
                    i + (len >> 12) as usize <= 128
                        && model[i..i + (len >> 12) as usize].iter().all(Option::is_none)
                };
                assert_eq!(
                    t.top_down(len, 0, 128 << 12),
                    (0..128).rev().find(|&i| room(i)).map(|i| (i as u64) << 12)
                );
                assert_eq!(
                    t.bottom_up(len, 0, 128 << 12),
                    (0..128).find(|&i| room(i)).map(|i| (i as u64) << 12)
                );
            }
        }
    }

    #[test]
    fn nothing_goes_into_the_guard_gap() {
        let mut t = VmaTree::default();
        let mut s = anon(0x50_0000, 0x60_0000, Prot::READ);
        s.flags = VmFlags::GROWSDOWN;
        t.insert(s);
        assert_eq!(t.top_down(0x1000, 0x1000, 0x60_0000), Some(0x50_0000 - STACK_GUARD_GAP - 0x1000));
        assert!(!t.fits(0x4f_0000, 0x1000));
        assert!(t.fits(0x3f_f000, 0x1000));
        assert_eq!(t.bottom_up(0x20_0000, 0x30_0000, 0x100_0000), Some(0x60_0000));
    }
}
