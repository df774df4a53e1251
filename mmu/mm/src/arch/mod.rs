//! What the hosted mm needs to know of an architecture: geometry of its page tables, entries, and how translations
//! are taken away. Everything else is written once, generic over [`Arch`].

pub(crate) mod pae;
pub(crate) mod ppc64;
pub(crate) mod s390x;
pub(crate) mod sparc64;

pub use pae::Pae;
pub use ppc64::{Hpt, Radix};
pub use s390x::S390x;
pub use sparc64::Sparc64;

use crate::error::Result;
use crate::frag::{Frag, Scheme};
use crate::kernel::Kernel;
use crate::memory::Memory;
use crate::mm::Mm;
use crate::sanitizer::Class;
use crate::tlb_batch::TlbBatch;
use crate::vma::Prot;
use racewalk_cpu::{Access, Cpus, Translated};
use racewalk_ram::{Kva, Paddr, Pfn, Vaddr};
use racewalk_walk::WalkStop;
use racewalk_walk::hardware::Hardware;
use std::fmt::Debug;
use std::sync::Arc;

/// One kind of table. The last level of an architecture is that of the PTE tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// What the architecture calls the table.
    pub name: &'static str,
    /// log2 of the bytes that one entry covers.
    pub shift: u32,
    /// log2 of the entries. Every entry is a doubleword.
    pub bits: u32,
}

impl Level {
    /// Entries of a table.
    pub const fn entries(&self) -> u64 {
        1 << self.bits
    }
    /// Bytes of a table.
    pub const fn bytes(&self) -> u64 {
        8 << self.bits
    }
    /// Bytes that one entry covers.
    pub const fn span(&self) -> u64 {
        1 << self.shift
    }
    /// Byte offset of the entry for `va`.
    pub const fn offset(&self, va: Vaddr) -> u64 {
        (va.0 >> self.shift & (self.entries() - 1)) * 8
    }
}

/// Software's view of bits that every format keeps somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Soft(u8);

impl Soft {
    /// None.
    pub const NONE: Soft = Soft(0);
    /// Accessed lately.
    pub const YOUNG: Soft = Soft(1);
    /// Written to.
    pub const DIRTY: Soft = Soft(2);
    /// May be written to.
    pub const WRITE: Soft = Soft(4);
    /// Maps a frame that is not counted (the zero page).
    pub const SPECIAL: Soft = Soft(8);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Soft) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Soft {
    type Output = Soft;
    fn bitor(self, o: Soft) -> Soft {
        Soft(self.0 | o.0)
    }
}

/// A page-table entry as software looks at it; the hardware's bits follow from the software's.
pub trait PteFormat: Copy + PartialEq + Eq + Debug {
    /// What an unused entry holds.
    const EMPTY: Self;
    /// From the doubleword in the table.
    fn from_raw(raw: u64) -> Self;
    /// The doubleword in the table.
    fn raw(self) -> u64;
    /// A frame with the protection that a mapping has before its first write: private mappings are read-only.
    fn new(frame: Pfn, prot: Prot, shared: bool) -> Self;
    /// With bits set.
    fn with(self, bits: Soft) -> Self;
    /// The same frame under another protection.
    fn modify(self, prot: Prot, shared: bool) -> Self;
    /// Software sees a frame.
    fn present(self) -> bool;
    /// Hardware, or a refill handler, may translate through it.
    fn valid(self) -> bool;
    /// Software may make it writable to hardware without a copy.
    fn writable(self) -> bool;
    /// Hardware lets stores through now.
    fn stores(self) -> bool;
    /// Maps a frame that is not counted.
    fn special(self) -> bool;
    /// The frame.
    fn frame(self) -> Pfn;
    /// Nothing.
    fn none(self) -> bool {
        self == Self::EMPTY
    }
}

/// What an access needs of the mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Any permission: a page that can be executed or written can be read.
    Any,
    /// Permission to write.
    Write,
    /// Permission to execute.
    Exec,
}

impl Need {
    /// What a fault's access would have needed; `no_execute`: it was a fetch, whatever it says.
    pub(crate) fn of(access: Access, no_execute: bool) -> Need {
        match access {
            Access::Fetch => Need::Exec,
            _ if no_execute => Need::Exec,
            access => access.into(),
        }
    }
}

impl From<Access> for Need {
    fn from(a: Access) -> Need {
        match a {
            Access::Store => Need::Write,
            _ => Need::Any,
        }
    }
}

/// What the mm asks of a hardware fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultInfo {
    /// Where.
    pub vaddr: Vaddr,
    /// What the access would have needed.
    pub need: Need,
    /// No correct table can cause this fault.
    pub corrupt: bool,
}

/// How an entry is changed.
#[derive(Debug)]
pub enum How<'b> {
    /// Translations through the old entry are gone on every CPU before this returns.
    Direct,
    /// The flush may be left to [`Arch::leave_lazy`] of this batch, before the table's lock is dropped, or to the gather's.
    Lazy(&'b mut TlbBatch),
}

/// What an access of a program comes to.
pub type Translation<A> =
    Result<Translated<<<A as Arch>::Hw as Hardware>::Leaf>, WalkStop<<<A as Arch>::Hw as Hardware>::Fault>>;

/// An architecture. Nothing of it is a value.
///
/// Implementations live in `arch/<name>`, with the same file names under each: `mod` (geometry, context), `pte`,
/// `tlb`, and `refill` where software fills translations.
pub trait Arch: Sized + Send + Sync + 'static {
    /// Its MMU.
    type Hw: Hardware;
    /// Its page-table entries.
    type Pte: PteFormat;
    /// What names an address space to the hardware.
    type Context: Clone + PartialEq + Debug + Send + Sync;

    /// The geometry's name, as scenarios call it.
    const NAME: &'static str;
    /// log2 of the bytes of a page.
    const PAGE_SHIFT: u32;
    /// Tables from the top; at least two.
    const LEVELS: &'static [Level];
    /// First address that a program cannot have.
    const TASK_SIZE: u64;
    /// Hardware walks these tables.
    const WALKED: bool;
    /// The class of the walks that the processors report.
    const WALKER: Class = Class::W1;
    /// A page may be freed as soon as its entry is gone, since that took the translations with it or they are flushed
    /// before anything else uses the space (`MMU_GATHER_NO_GATHER`).
    const NO_GATHER: bool;
    /// Bytes of a fragment of a page of PTE tables, where tables share pages: the table and what belongs to it.
    const FRAGMENT: u64 = Self::LEVELS[Self::LEVELS.len() - 1].bytes();
    /// Bytes of a fragment of a page of PMD tables, where a scheme cuts them.
    const PMD_FRAGMENT: u64 = Self::LEVELS[Self::LEVELS.len() - 2].bytes();
    /// There are huge pages, and tables deposited for their split (hosted-mm B.5).
    const DEPOSITS: bool = false;
    /// The kernel's own tables: what a CPU without a program has loaded, and what names spaces to the hardware.
    type Machine: Clone + Debug + Send + Sync;

    /// An entry of level `level` (not the last) that points to `table`.
    fn table_entry(level: usize, table: Paddr) -> u64;
    /// The table that such an entry points to.
    fn next_table(level: usize, entry: u64) -> Option<Paddr>;
    /// What an unused entry of level `level` holds.
    fn empty(level: usize) -> u64 {
        let _ = level;
        0
    }

    /// The PMD entry that maps a huge page as `pte`, young and dirty, maps its first page.
    fn huge_entry(pte: Self::Pte) -> u64 {
        pte.raw()
    }
    /// What such an entry is to its first page; none: it maps no huge page.
    fn huge_pte(entry: u64) -> Option<Self::Pte> {
        let _ = entry;
        None
    }
    /// `pmdp_huge_clear_flush`: clears such an entry; nobody translates through it afterwards.
    fn huge_flush(k: &Kernel<Self>, mm: &Mm<Self>, pmd: Paddr, va: Vaddr) -> Result<()> {
        Self::collapse_flush(k, mm, pmd, va)
    }

    /// Loads an entry that nobody else changes, or whole.
    fn peek_entry(k: &Kernel<Self>, at: Paddr) -> Result<u64> {
        k.load_u64(at)
    }
    /// Loads an entry that others may be changing.
    fn load_entry(k: &Kernel<Self>, at: Paddr) -> Result<u64> {
        Self::peek_entry(k, at)
    }
    /// Stores an entry of an upper table where there is none.
    fn store_entry(k: &Kernel<Self>, at: Paddr, entry: u64) -> Result<()> {
        k.store_u64(at, entry)
    }

    /// Makes the kernel's own tables, for at most `max_mms` spaces.
    fn boot(memory: &Memory, max_mms: u32) -> Result<Self::Machine>;
    /// Names the space `mm` whose top table is `pgd`. The slot of `mm` is unique among living spaces and below `max_mms`.
    fn context(k: &Kernel<Self>, mm: Kva, pgd: Paddr) -> Result<Self::Context>;
    /// The space is gone: nothing of it is cached any more.
    fn forget(k: &Kernel<Self>, context: &Self::Context) -> Result<()> {
        let _ = (k, context);
        Ok(())
    }
    /// Loads a context on a CPU; none: the CPU runs no program.
    fn load(cpus: &Cpus<Self::Hw>, machine: &Self::Machine, cpu: u32, context: Option<&Self::Context>);
    /// Whether this is what the CPU has loaded.
    fn is_loaded(cpus: &Cpus<Self::Hw>, cpu: u32, context: &Self::Context) -> bool;
    /// What the mm asks of a fault.
    fn fault(fault: &<Self::Hw as Hardware>::Fault) -> FaultInfo;

    /// Software refill before the mm is asked, with the CPU in hosted code and no translation in use: whether the access is to
    /// be tried again.
    fn refill(mm: &Mm<Self>, fault: &<Self::Hw as Hardware>::Fault) -> Result<bool> {
        let _ = (mm, fault);
        Ok(false)
    }

    /// Translates for a program on `cpu`, which is in guest mode; software refill included.
    fn translate(k: &Kernel<Self>, cpu: u32, va: Vaddr, access: Access) -> Translation<Self> {
        k.cpus.translate(cpu, va, access)
    }

    /// A hardware access to user memory on the CPU of the caller, software refill included.
    fn user_piece<R>(
        k: &Kernel<Self>,
        va: Vaddr,
        access: Access,
        f: impl FnOnce(Paddr) -> R,
    ) -> Result<R, WalkStop<<Self::Hw as Hardware>::Fault>> {
        k.cpus.user_piece(va, access, f)
    }

    /// The code of a scheme, if it is one of this geometry's.
    fn frag(scheme: Scheme) -> Option<Box<dyn Frag<Self>>>;

    // How translations are taken away.

    /// Changes an entry under its table's lock; returns the old one.
    fn ptep_xchg(
        k: &Kernel<Self>,
        mm: &Mm<Self>,
        va: Vaddr,
        pte: Paddr,
        new: u64,
        how: How<'_>,
    ) -> Result<u64>;
    /// `arch_leave_lazy_mmu_mode`: flushes what is in the batch, before the table's lock is dropped.
    fn leave_lazy(k: &Kernel<Self>, mm: &Mm<Self>, batch: &mut TlbBatch) -> Result<()> {
        let _ = (k, mm, batch);
        Ok(())
    }
    /// Stores an entry where there is none, or changes software bits only.
    fn set_pte(k: &Kernel<Self>, pte: Paddr, new: u64) -> Result<()> {
        racewalk_sched::point("pte.store");
        Self::store_entry(k, pte, new)
    }
    /// Notes that a table of this space was unhooked: the next flush covers what caches upper levels too.
    fn mark_freed_tables(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()>;
    /// What the end of a gather owes.
    fn flush_mm_lazy(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()>;
    /// Every translation of the space goes, on all CPUs.
    fn flush_mm(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()>;
    /// `tlb_table_invalidate`: what must be done before a batch of tables goes to RCU.
    fn table_invalidate(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()>;
    /// Takes away the entry of an upper table, for `free_pgtables`.
    fn unhook(k: &Kernel<Self>, mm: &Mm<Self>, entry: Paddr, level: usize, va: Vaddr) -> Result<()> {
        let _ = (mm, va);
        racewalk_sched::point("pmd.clear");
        Self::store_entry(k, entry, Self::empty(level))
    }
    /// `pmdp_collapse_flush`: clears the entry that points to a PTE table; nobody translates through it afterwards.
    fn collapse_flush(k: &Kernel<Self>, mm: &Mm<Self>, pmd: Paddr, va: Vaddr) -> Result<()>;
    /// Attaches `cpu`, which runs the caller, to `next`, or to no space.
    fn switch_mm(k: &Kernel<Self>, cpu: u32, next: Option<&Arc<Mm<Self>>>) -> Result<()> {
        crate::context::switch(k, cpu, next)
    }
}
