//! Counters of the hosted mm.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn bump(&self) {
        self.add(1);
    }
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What the mm of the whole machine did so far.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
            /// Most bytes of page tables at one time.
            pub table_bytes_peak: Counter,
        }
        impl Stats {
            /// Names and values of all counters.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)* ("table_bytes_peak", self.table_bytes_peak.get())]
            }
            /// Makes every counter what it is in `from`.
            pub(crate) fn set(&self, from: &Stats) {
                $(self.$name.0.store(from.$name.get(), Relaxed);)*
                self.table_bytes_peak.0.store(from.table_bytes_peak.get(), Relaxed);
            }
        }
    };
}

stats! {
    /// Bytes of page tables now: frames that hold any, whether or not all of each frame is in use.
    table_bytes,
    /// Entries put into the hashed page table.
    hpte_inserted,
    /// Entries taken out of it to make room.
    hpte_evicted,
    /// PTE tables handed out.
    tables_allocated,
    /// Of those, halves that had been used before in the same page.
    tables_reused,
    /// PTE tables given back.
    tables_freed,
    /// Of those, through `pte_free_defer`.
    tables_deferred,
    /// PTE tables allocated for a segment that another CPU filled first.
    tables_lost_race,
    /// Tables above the PTE tables handed out.
    upper_allocated,
    /// Tables above the PTE tables given back.
    upper_freed,
    /// Faults taken.
    faults,
    /// Zero page mapped on a read of fresh anonymous memory.
    faults_zero_page,
    /// Fresh anonymous page.
    faults_anonymous,
    /// Page of a private file mapping, read.
    faults_file_read,
    /// Page of a private file mapping, written at once.
    faults_file_cow,
    /// Page of a shared object.
    faults_shared,
    /// Write to a write-protected page.
    faults_write_protect,
    /// Young or dirty bit only.
    faults_access_flags,
    /// Somebody else had resolved it.
    faults_spurious,
    /// Stack grown.
    faults_stack_growth,
    /// Ended in a signal.
    faults_signal,
    /// Pages copied on write.
    cow_copies,
    /// Pages written in place because nobody shares them.
    cow_reused,
    /// IPTE, all CPUs.
    flush_ipte,
    /// IPTE, this CPU only.
    flush_ipte_local,
    /// Entries invalidated by a plain store, to be flushed later.
    flush_lazy,
    /// IDTE clearing by ASCE.
    flush_idte_asce,
    /// IDTE of one region or segment entry.
    flush_idte_entry,
    /// `tlbie` of a page.
    flush_page,
    /// `tlbie` of a process.
    flush_pid,
    /// Cross calls because no batch page was to be had.
    flush_ipi,
    /// `call_rcu` calls.
    rcu_calls,
    /// RCU callbacks run.
    rcu_callbacks,
    /// Grace periods ended.
    rcu_grace_periods,
    /// Frames handed out.
    frames_allocated,
    /// Frames given back.
    frames_freed,
    /// Allocations that failed.
    alloc_failures,
}

impl Stats {
    pub(crate) fn add_table_bytes(&self, n: u64) {
        self.table_bytes.add(n);
        self.table_bytes_peak.0.fetch_max(self.table_bytes.get(), Relaxed);
    }
}
