//! Page records: one for each frame, eight words, with the overlays of hosted-mm A.2.
//!
//! | word | page table | other uses |
//! |---|---|---|
//! | 0 | flags | flags |
//! | 1 | `lru.next` / `pt_list.next` / `rcu_head.next` | `compound_head` |
//! | 2 | `lru.prev` / `rcu_head.func` / `pmd_huge_pte` | |
//! | 3 | | `mapping` |
//! | 4 | `pt_mm` | `index` |
//! | 5 | `ptl` | `private` |
//! | 6 | `_mapcount` (bits 63–32), `_refcount` (31–0; PP/AA byte in its bits 31–24) | |
//! | 7 | kind, order and generation: this emulator's own book-keeping | |

use crate::error::{MmError, Result, broken_at};
use crate::layout::{self, Place};
use crate::reached::Reached;
use racewalk_ram::{Kva, Paddr, Pfn, Words};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// Word numbers in a page record.
pub mod word {
    /// [`super::flag`] bits.
    pub const FLAGS: usize = 0;
    /// `lru.next`, `rcu_head.next`, `compound_head`.
    pub const LRU_NEXT: usize = 1;
    /// `lru.prev`, `rcu_head.func`, `pmd_huge_pte`.
    pub const LRU_PREV: usize = 2;
    /// `mapping`.
    pub const MAPPING: usize = 3;
    /// `pt_mm`, `index`.
    pub const PT_MM: usize = 4;
    /// `ptl`, `private`.
    pub const PTL: usize = 5;
    /// `_mapcount` and `_refcount`.
    pub const COUNTS: usize = 6;
    /// Kind, order, generation.
    pub const OWNER: usize = 7;
}

/// Bits of the flags word.
pub mod flag {
    /// The frame is a page table (its page type).
    pub const TABLE: u64 = 1 << 0;
    /// `PageActive`: a table half of this page was given to `pte_free_defer` (hosted-mm B.2, "T").
    pub const ACTIVE: u64 = 1 << 1;
    /// The frame holds anonymous memory.
    pub const ANON: u64 = 1 << 2;
    /// The frame is in the page cache.
    pub const CACHE: u64 = 1 << 3;
    /// The frame belongs to the machine or the kernel image.
    pub const RESERVED: u64 = 1 << 4;
}

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// In the buddy allocator.
    Free = 0,
    /// Lowcore, kernel image, the zero page.
    Reserved = 1,
    /// Anonymous user memory.
    Anon = 2,
    /// Page cache, shared anonymous memory included.
    Cache = 3,
    /// A page with PTE tables.
    PteTables = 4,
    /// A table above the PTE tables.
    UpperTable = 5,
    /// A batch of tables that wait for a grace period.
    TableBatch = 6,
    /// What software fills for the hardware to find translations in: a TSB.
    Tsb = 7,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 8;

impl FrameKind {
    pub(crate) const ALL: [FrameKind; KINDS] = [
        FrameKind::Free,
        FrameKind::Reserved,
        FrameKind::Anon,
        FrameKind::Cache,
        FrameKind::PteTables,
        FrameKind::UpperTable,
        FrameKind::TableBatch,
        FrameKind::Tsb,
    ];

    fn from_word(owner: u64) -> FrameKind {
        FrameKind::ALL.get((owner & 0xff) as usize).copied().unwrap_or(FrameKind::Reserved)
    }
}

/// All page records.
#[derive(Debug)]
pub struct Pages {
    words: Words,
    frames: u64,
    /// log2 of the frames of 4 KiB in a page. Only the first frame of a page has a record that is used.
    page_order: u32,
    /// Records reached since the last [`save`](Pages::save).
    reached: Reached,
}

impl Pages {
    pub(crate) fn new(frames: u64, page_order: u32) -> Result<Pages> {
        Ok(Pages { words: Words::new(frames as usize * 8)?, frames, page_order, reached: Reached::default() })
    }

    /// Number of frames.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// A word of a frame's record, to be changed or looked at past store buffers: what the CPU has stored before is in memory
    /// then. Words that lists run through are `Kmem`'s.
    #[inline]
    pub fn word(&self, pfn: Pfn, word: usize) -> Result<&AtomicU64> {
        racewalk_sched::tso::fence();
        self.bare_word(pfn, word)
    }

    /// The same, whatever waits in store buffers.
    #[inline]
    pub(crate) fn bare_word(&self, pfn: Pfn, word: usize) -> Result<&AtomicU64> {
        if pfn.0 >= self.frames {
            return Err(MmError::Wild { kva: layout::record(pfn), wanted: "a page record" });
        }
        self.reached.note(pfn.0 as usize);
        Ok(&self.words.as_slice()[pfn.0 as usize * 8 + word])
    }

    /// The frame whose record `kva` points to (`byte` bytes in).
    pub fn frame_of(&self, kva: Kva, byte: u64) -> Result<Pfn> {
        match layout::place(kva, self.frames, "a page record")? {
            Place::Record { pfn, byte: b } if b == byte => Ok(pfn),
            _ => Err(MmError::Wild { kva, wanted: "a page record" }),
        }
    }

    /// The address of `page->lru`, which is also that of `page->rcu_head`.
    pub fn lru(pfn: Pfn) -> Kva {
        Kva(layout::record(pfn).0 + 8)
    }

    /// What the frame is used for.
    pub fn kind(&self, pfn: Pfn) -> Result<FrameKind> {
        Ok(FrameKind::from_word(self.word(pfn, word::OWNER)?.load(SeqCst)))
    }

    /// How often the frame has been allocated.
    pub fn generation(&self, pfn: Pfn) -> Result<u64> {
        Ok(self.word(pfn, word::OWNER)?.load(SeqCst) >> 16)
    }

    /// Makes the record of a newly allocated block: `_refcount` 1, `_mapcount` −1.
    pub(crate) fn prepare(&self, pfn: Pfn, order: u32, kind: FrameKind) -> Result<()> {
        let owner = self.word(pfn, word::OWNER)?;
        let old = owner.load(SeqCst);
        if FrameKind::from_word(old) != FrameKind::Free {
            let was = FrameKind::from_word(old);
            return broken_at(
                1,
                layout::record(pfn),
                format!("frame {pfn:?} is handed out while it is {was:?}"),
            );
        }
        for w in [word::FLAGS, word::LRU_NEXT, word::LRU_PREV, word::MAPPING, word::PT_MM, word::PTL] {
            self.word(pfn, w)?.store(0, SeqCst);
        }
        self.word(pfn, word::COUNTS)?.store(0xffff_ffff_0000_0001, SeqCst);
        owner.store(((old >> 16) + 1) << 16 | (order as u64) << 8 | kind as u64, SeqCst);
        Ok(())
    }

    /// A block of 2^`order` pages in use becomes pages.
    pub(crate) fn split(&self, pfn: Pfn, order: u32) -> Result<()> {
        let owner = self.word(pfn, word::OWNER)?;
        let old = owner.load(SeqCst);
        let (kind, page) = (FrameKind::from_word(old), self.page_order as u64);
        if old >> 8 & 0xff != order as u64 + page {
            return broken_at(
                5,
                layout::record(pfn),
                format!("frame {pfn:?} ({kind:?}) is split as a block of order {order}"),
            );
        }
        owner.store(old & !0xff00 | page << 8, SeqCst);
        for i in 1..1 << order {
            self.prepare(Pfn(pfn.0 + (i << page)), self.page_order, kind)?;
        }
        Ok(())
    }

    /// Marks the block free; fails if it is free already (invariant 5). Returns what it was.
    pub(crate) fn retire(&self, pfn: Pfn, order: u32) -> Result<FrameKind> {
        let owner = self.word(pfn, word::OWNER)?;
        let old = owner.load(SeqCst);
        let kind = FrameKind::from_word(old);
        if matches!(kind, FrameKind::Free | FrameKind::Reserved) || (old >> 8 & 0xff) as u32 != order {
            return broken_at(
                5,
                layout::record(pfn),
                format!("frame {pfn:?} ({kind:?}) is freed as a block of order {order}"),
            );
        }
        if owner.compare_exchange(old, old & !0xffff, SeqCst, SeqCst).is_err() {
            return broken_at(5, layout::record(pfn), format!("frame {pfn:?} is freed twice at once"));
        }
        Ok(kind)
    }

    /// Sets flag bits; returns the old flags.
    pub fn set_flag(&self, pfn: Pfn, bits: u64) -> Result<u64> {
        Ok(self.word(pfn, word::FLAGS)?.fetch_or(bits, SeqCst))
    }

    /// Clears flag bits; returns the old flags.
    pub fn clear_flag(&self, pfn: Pfn, bits: u64) -> Result<u64> {
        Ok(self.word(pfn, word::FLAGS)?.fetch_and(!bits, SeqCst))
    }

    /// The flags.
    pub fn flags(&self, pfn: Pfn) -> Result<u64> {
        Ok(self.word(pfn, word::FLAGS)?.load(SeqCst))
    }

    /// `_refcount` without the PP/AA byte.
    pub fn refcount(&self, pfn: Pfn) -> Result<u32> {
        Ok(self.word(pfn, word::COUNTS)?.load(SeqCst) as u32 & 0xff_ffff)
    }

    /// `_mapcount`: page-table entries that map the frame, minus one.
    pub fn mapcount(&self, pfn: Pfn) -> Result<i32> {
        Ok((self.word(pfn, word::COUNTS)?.load(SeqCst) >> 32) as i32)
    }

    /// Takes a reference. Only for frames that somebody is known to hold (invariant 1 otherwise).
    pub fn get_page(&self, pfn: Pfn) -> Result<()> {
        let old = self.word(pfn, word::COUNTS)?.fetch_update(SeqCst, SeqCst, |v| {
            (v as u32 & 0xff_ffff != 0 && v as u32 & 0xff_ffff != 0xff_ffff).then(|| v + 1)
        });
        if old.is_err() {
            return broken_at(1, layout::record(pfn), format!("a reference is taken to free frame {pfn:?}"));
        }
        Ok(())
    }

    /// Takes a reference unless nobody has one: what `gup_fast` does with a frame that may be gone.
    pub(crate) fn try_get_page(&self, pfn: Pfn) -> Result<bool> {
        let counts = self.word(pfn, word::COUNTS)?;
        Ok(counts.fetch_update(SeqCst, SeqCst, |v| (v as u32 & 0xff_ffff != 0).then(|| v + 1)).is_ok())
    }

    /// Drops a reference; true if it was the last.
    pub(crate) fn put_testzero(&self, pfn: Pfn) -> Result<bool> {
        let old = self
            .word(pfn, word::COUNTS)?
            .fetch_update(SeqCst, SeqCst, |v| (v as u32 & 0xff_ffff != 0).then(|| v - 1));
        match old {
            Ok(v) => Ok(v as u32 & 0xff_ffff == 1),
            Err(_) => broken_at(
                7,
                layout::record(pfn),
                format!("the reference count of frame {pfn:?} drops below zero"),
            ),
        }
    }

    /// Adds to `_mapcount`.
    pub(crate) fn add_mapcount(&self, pfn: Pfn, n: i32) -> Result<()> {
        let old = self.word(pfn, word::COUNTS)?.fetch_update(SeqCst, SeqCst, |v| {
            let m = (v >> 32) as i32 + n;
            (m >= -1).then_some((m as u32 as u64) << 32 | v & 0xffff_ffff)
        });
        if old.is_err() {
            return broken_at(
                7,
                layout::record(pfn),
                format!("the map count of frame {pfn:?} drops below -1"),
            );
        }
        Ok(())
    }

    /// The PP/AA byte: bits 31–24 of `_refcount` (hosted-mm B.1).
    pub fn table_byte(&self, pfn: Pfn) -> Result<u8> {
        Ok((self.word(pfn, word::COUNTS)?.load(SeqCst) >> 24) as u8)
    }

    /// Atomically changes the PP/AA byte by exclusive or; returns the new byte.
    pub(crate) fn xor_table_byte(&self, pfn: Pfn, bits: u8) -> Result<u8> {
        let mask = (bits as u64) << 24;
        Ok(((self.word(pfn, word::COUNTS)?.fetch_xor(mask, SeqCst) ^ mask) >> 24) as u8)
    }

    /// The page at a physical address, by its first frame, if it is inside guest memory.
    pub fn at(&self, addr: Paddr) -> Result<Pfn> {
        let pfn = Pfn(addr.pfn().0 >> self.page_order << self.page_order);
        if pfn.0 == 0 || pfn.0 >= self.frames {
            return Err(MmError::Wild { kva: layout::direct(addr), wanted: "a frame" });
        }
        Ok(pfn)
    }
}

impl Pages {
    /// All records, as words. From here on it is noted which records are reached. Nobody else uses them meanwhile.
    pub(crate) fn save(&self) -> Vec<u64> {
        self.reached.begin(self.frames as usize);
        self.words.as_slice().iter().map(|w| w.load(Relaxed)).collect()
    }

    /// Puts them back as they were at the last [`save`](Self::save): those that were reached since.
    pub(crate) fn restore(&self, saved: &[u64]) {
        self.reached.take(|n| {
            let record = self.words.as_slice()[n * 8..][..8].iter();
            record.zip(&saved[n * 8..]).for_each(|(w, &v)| w.store(v, Relaxed));
        });
    }
}
