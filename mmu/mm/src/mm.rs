//! An address space.

use crate::arch::{Arch, S390x};
use crate::context;
use crate::error::Result;
use crate::file::FileObject;
use crate::gather::Gather;
use crate::hold::{Held, Timed};
use crate::kernel::Kernel;
use crate::retract::Linked;
use crate::sanitizer::Give;
use crate::vma::VmaTree;
use racewalk_ram::{Kva, Paddr};
use racewalk_sched::lock::{ReadGuard, WriteGuard};
use racewalk_sched::{RwLock, point, this_cpu};
use racewalk_walk::s390x::Asce;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Words of an address space's slab object (`mm->context` and counters).
pub(crate) mod mmw {
    /// List head of pages with a free PTE-table half: two words.
    pub(crate) const PGTABLE_LIST: usize = 1;
    /// `context.lock`.
    pub(crate) const LOCK: usize = 3;
    /// Direct flushes under way.
    pub(crate) const FLUSH_COUNT: usize = 4;
    /// A lazy flush is owed.
    pub(crate) const FLUSH_MM: usize = 5;
    /// `mm->page_table_lock`.
    pub(crate) const PAGE_TABLE_LOCK: usize = 6;
    /// CPUs that have the ASCE loaded, or are about to: four words.
    pub(crate) const ATTACH_MASK: usize = 8;
    /// CPUs whose TLB may hold entries of this space: four words.
    pub(crate) const CPU_MASK: usize = 12;
    /// PTE tables hooked.
    pub(crate) const NR_PTES: usize = 16;
    /// Anonymous pages mapped.
    pub(crate) const RSS_ANON: usize = 17;
    /// Page-cache pages mapped.
    pub(crate) const RSS_FILE: usize = 18;
    /// References to the object beyond the living space's own (`mm_count` less one).
    pub(crate) const EXTRA_REFS: usize = 19;
    /// The scheme's own.
    pub(crate) const SCHEME: usize = 20;
    /// The cursor of a fragment allocator (`context.pte_frag`).
    pub(crate) const FRAG_CURSOR: usize = 21;
    /// The same for PMD tables (`context.pmd_frag`).
    pub(crate) const PMD_FRAG_CURSOR: usize = 22;
    /// `mm->pmd_huge_pte`: deposited tables, where PMD locks are not split.
    pub(crate) const PMD_HUGE_PTE: usize = 23;
}

/// What `mmap_lock` guards.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) vmas: VmaTree,
    pub(crate) mmap_base: u64,
    pub(crate) start_brk: u64,
    pub(crate) brk: u64,
}

/// An address space. The handle keeps the object; what page records and lists point to is its slab slot, which
/// goes at the end of [`exit`](Mm::exit), whoever still holds a handle.
pub struct Mm<A: Arch = S390x> {
    kernel: Arc<Kernel<A>>,
    kva: Kva,
    pgd: Paddr,
    context: A::Context,
    pub(crate) space: RwLock<Space>,
    /// `i_mmap` locks of the mapped objects, as one, and what is linked to them.
    linked: RwLock<Linked>,
    /// `anon_vma` locks, as one, and what is linked to them.
    anon: RwLock<Linked>,
    exited: AtomicBool,
    dropped: AtomicBool,
}

impl<A: Arch> std::fmt::Debug for Mm<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mm({:#x})", self.kva)
    }
}

impl<A: Arch> Kernel<A> {
    /// An empty address space.
    pub fn mm_create(self: &Arc<Self>) -> Result<Arc<Mm<A>>> {
        let kva = self.kmem.slab.alloc("an address space")?;
        let made = self.mm_init(kva);
        if made.is_err() {
            self.note(self.kmem.slab.free(kva))?;
        }
        self.note(made)
    }

    fn mm_init(self: &Arc<Self>, kva: Kva) -> Result<Arc<Mm<A>>> {
        self.kmem.list_init(Kva(kva.0 + mmw::PGTABLE_LIST as u64 * 8))?;
        self.frag.mm_init(self, kva)?;
        let pgd = self.upper_alloc(0, kva)?;
        let context = match A::context(self, kva, pgd) {
            Ok(c) => c,
            Err(e) => {
                if let Some(s) = self.sanitizer() {
                    s.give(pgd, Give::Now)?;
                }
                self.upper_free(0, pgd)?;
                self.frag.mm_exit(self, kva)?;
                return Err(e);
            }
        };
        // Below the stack: room for its limit and the guard gap, at least 128 MiB.
        let gap = (self.config.stack_limit + crate::vma::STACK_GUARD_GAP).max(128 << 20);
        let in_page = self.page_size() - 1;
        let mmap_base =
            A::TASK_SIZE.saturating_sub((gap + in_page) & !in_page).max((A::TASK_SIZE / 6) & !in_page);
        let space = Space { vmas: VmaTree::default(), mmap_base, start_brk: 0, brk: 0 };
        Ok(Arc::new(Mm {
            kernel: self.clone(),
            kva,
            pgd,
            context,
            space: RwLock::new(space),
            linked: RwLock::new(Linked::default()),
            anon: RwLock::new(Linked::default()),
            exited: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
        }))
    }
}

impl<A: Arch> Kernel<A> {
    /// `mmgrab`: the object stays after the space has gone.
    pub(crate) fn mmgrab(&self, mm: Kva) -> Result<()> {
        self.kmem.slab.object(mm)?[mmw::EXTRA_REFS].fetch_add(1, SeqCst);
        Ok(())
    }

    /// `mmdrop`: the last one frees the object.
    pub(crate) fn mmdrop(&self, mm: Kva) -> Result<()> {
        point("mmdrop");
        let refs = &self.kmem.slab.object(mm)?[mmw::EXTRA_REFS];
        let left = refs.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
        if left.is_err() { self.kmem.slab.free(mm) } else { Ok(()) }
    }
}

/// Counters of one address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MmCounters {
    /// Anonymous pages mapped.
    pub rss_anon: u64,
    /// Page-cache pages mapped.
    pub rss_file: u64,
    /// PTE tables hooked.
    pub pte_tables: u64,
}

impl Mm<S390x> {
    /// What CR1 holds while it runs.
    pub fn asce(&self) -> Asce {
        self.context
    }
}

impl<A: Arch> Mm<A> {
    /// The kernel it belongs to.
    pub fn kernel(&self) -> &Arc<Kernel<A>> {
        &self.kernel
    }
    /// What the hardware has loaded while it runs.
    pub fn context(&self) -> &A::Context {
        &self.context
    }
    /// `mmap_read_lock`.
    pub(crate) fn mmap_read(&self) -> Timed<'_, ReadGuard<'_, Space>> {
        let guard = self.kernel.sleeping(|| self.space.read("mmap_lock"));
        Timed::new(&self.kernel.holds, Held::MmapLock, guard)
    }
    /// `mmap_write_lock`.
    pub(crate) fn mmap_write(&self) -> Timed<'_, WriteGuard<'_, Space>> {
        let guard = self.kernel.sleeping(|| self.space.write("mmap_lock"));
        Timed::new(&self.kernel.holds, Held::MmapLock, guard)
    }
    /// `i_mmap_lock_read`.
    pub(crate) fn i_mmap_read(&self) -> ReadGuard<'_, Linked> {
        self.kernel.sleeping(|| self.linked.read("i_mmap"))
    }
    /// `i_mmap_lock_write`.
    pub(crate) fn i_mmap_write(&self) -> WriteGuard<'_, Linked> {
        self.kernel.sleeping(|| self.linked.write("i_mmap"))
    }
    /// `anon_vma_lock_read`.
    pub(crate) fn anon_read(&self) -> ReadGuard<'_, Linked> {
        self.kernel.sleeping(|| self.anon.read("anon_vma"))
    }
    /// `anon_vma_lock_write`.
    pub(crate) fn anon_write(&self) -> WriteGuard<'_, Linked> {
        self.kernel.sleeping(|| self.anon.write("anon_vma"))
    }
    /// Its top table.
    pub(crate) fn pgd(&self) -> Paddr {
        self.pgd
    }
    /// The address of its slab object.
    pub(crate) fn kva(&self) -> Kva {
        self.kva
    }
    /// The words of its slab object; an error once it is gone.
    pub(crate) fn words(&self) -> Result<&[AtomicU64]> {
        self.kernel.kmem.slab.object(self.kva)
    }

    /// Its counters; zero once it is gone.
    pub fn counters(&self) -> MmCounters {
        self.words().map_or(MmCounters::default(), |w| MmCounters {
            rss_anon: w[mmw::RSS_ANON].load(SeqCst),
            rss_file: w[mmw::RSS_FILE].load(SeqCst),
            pte_tables: w[mmw::NR_PTES].load(SeqCst),
        })
    }

    /// `cpu`, which runs the caller (or is idle), leaves the space it had and runs this one.
    pub fn switch_to(self: &Arc<Self>, cpu: u32) -> Result<()> {
        self.kernel.note(A::switch_mm(&self.kernel, cpu, Some(self)))
    }

    /// `cpu` runs no address space from here on, if it ran this one.
    pub fn detach(&self, cpu: u32) -> Result<()> {
        let mine =
            self.kernel.active[cpu as usize].lock("active").as_ref().is_some_and(|m| m.kva == self.kva);
        if mine { self.kernel.note(A::switch_mm(&self.kernel, cpu, None)) } else { Ok(()) }
    }

    /// The process ends: all mappings and tables go. The current CPU is detached; the space itself goes when no
    /// CPU is attached any more. Harmless a second time.
    pub fn exit(&self) -> Result<()> {
        if self.exited.swap(true, SeqCst) {
            return Ok(());
        }
        point("mm.exit");
        let r = self.exit_mmap();
        self.kernel.note(r)?;
        let cpu = this_cpu();
        if cpu < self.kernel.cpus.count() {
            self.detach(cpu)?;
        }
        self.kernel.note(self.drop_if_last())
    }

    fn exit_mmap(&self) -> Result<()> {
        let mut space = self.mmap_write();
        let vmas = space.vmas.remove(0, A::TASK_SIZE);
        let mut g = Gather::new(&self.kernel, self);
        self.unmap_vmas(&mut g, &vmas, 0, A::TASK_SIZE, true)?;
        g.flush()
    }

    /// Frees the space if its process ended and no CPU is attached.
    pub(crate) fn drop_if_last(&self) -> Result<()> {
        if !self.exited.load(SeqCst) || self.dropped.load(SeqCst) {
            return Ok(());
        }
        let w = self.words()?;
        point("mm.drop");
        if context::attached(w) || self.dropped.swap(true, SeqCst) {
            return Ok(());
        }
        // CPUs that ran it before may still hold entries made from its tables.
        A::flush_mm(&self.kernel, self)?;
        if let Some(s) = self.kernel.sanitizer() {
            s.give(self.pgd, Give::Now)?;
        }
        self.kernel.upper_free(0, self.pgd)?;
        self.kernel.frag.mm_exit(&self.kernel, self.kva)?;
        A::forget(&self.kernel, &self.context)?;
        self.kernel.mmdrop(self.kva)
    }
}

impl<A: Arch> Mm<A> {
    /// The same space in the same state under another kernel, each object that it maps being what `object` makes of it.
    /// Nothing runs meanwhile.
    pub(crate) fn copy(
        &self,
        kernel: &Arc<Kernel<A>>,
        object: impl FnMut(&Arc<FileObject>) -> Arc<FileObject>,
    ) -> Mm<A> {
        let space = self.space.read("mmap_lock");
        let Space { vmas, mmap_base, start_brk, brk } = &*space;
        let (mmap_base, start_brk, brk) = (*mmap_base, *start_brk, *brk);
        Mm {
            kernel: kernel.clone(),
            kva: self.kva,
            pgd: self.pgd,
            context: self.context.clone(),
            space: RwLock::new(Space { vmas: vmas.with_objects(object), mmap_base, start_brk, brk }),
            linked: RwLock::new(self.linked.read("i_mmap").clone()),
            anon: RwLock::new(self.anon.read("anon_vma").clone()),
            exited: AtomicBool::new(self.exited.load(SeqCst)),
            dropped: AtomicBool::new(self.dropped.load(SeqCst)),
        }
    }
}

#[cfg(test)]
impl<A: Arch> Mm<A> {
    /// The same space, which maps nothing, under a kernel made [again](Kernel::again).
    pub(crate) fn again(&self, kernel: Arc<Kernel<A>>) -> Arc<Mm<A>> {
        Arc::new(Mm {
            kernel,
            kva: self.kva,
            pgd: self.pgd,
            context: self.context.clone(),
            space: RwLock::new(Space { vmas: VmaTree::default(), mmap_base: 0, start_brk: 0, brk: 0 }),
            linked: RwLock::new(Linked::default()),
            anon: RwLock::new(Linked::default()),
            exited: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
        })
    }
}

impl<A: Arch> Drop for Mm<A> {
    fn drop(&mut self) {
        // A run that was cancelled leaves things as they are.
        if !std::thread::panicking() && !self.kernel.is_halted() {
            // Findings have been noted.
            let _ = self.exit();
        }
    }
}
