//! Translations to be flushed before a table's lock is dropped: what ppc64 and sparc64 gather between
//! `arch_enter_lazy_mmu_mode` and `arch_leave_lazy_mmu_mode` (hosted-mm PPC-192, SPARC-batch13, F-18, F-19). A batch is the
//! caller's own, so that nobody else's addresses get into it.

use racewalk_ram::{Paddr, Vaddr};

/// Entries after which a batch is flushed (`PPC64_TLB_BATCH_NR`, sparc64's `TLB_BATCH_NR`).
pub const TLB_BATCH_NR: usize = 192;

/// An entry that was valid and has been changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stale {
    /// The address that it translated.
    pub va: Vaddr,
    /// Where the entry is.
    pub pte: Paddr,
    /// What it was.
    pub old: u64,
    /// Under a hashed page table: the slot of its HPTE.
    pub slot: u64,
}

/// Entries whose translations have not been flushed yet.
#[derive(Debug, Default)]
pub struct TlbBatch {
    entries: Vec<Stale>,
}

impl TlbBatch {
    /// Adds an entry. Whether the batch must be flushed now.
    #[must_use]
    pub fn add(&mut self, entry: Stale) -> bool {
        self.entries.push(entry);
        self.entries.len() >= TLB_BATCH_NR
    }
    /// Empties it.
    pub fn take(&mut self) -> Vec<Stale> {
        std::mem::take(&mut self.entries)
    }
}
