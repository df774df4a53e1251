//! A machine as it was at one time, to go back to as often as wanted: what a boot and a set-up cost is paid once.
//!
//! Guest memory, page records and slabs are put back in place, only what was written to since. The kernel's own objects are
//! small: each return makes new ones, so that no lock, list or reference of a run that was cut short gets into the next.

use crate::arch::Arch;
use crate::error::{MmError, Result};
use crate::file::FileObject;
use crate::frames::Frames;
use crate::kernel::Kernel;
use crate::memory;
use crate::mm::Mm;
use racewalk_ram::Ram;
use racewalk_sched::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// A kernel and the address spaces that it has.
pub type Ready<A> = (Arc<Kernel<A>>, Vec<Arc<Mm<A>>>);

/// A machine and address spaces on it, in the state in which they were [taken](Checkpoint::take) down.
///
/// The machine's memory is [blank](crate::frames::blank) memory.
#[derive(Debug)]
pub struct Checkpoint<A: Arch> {
    /// Never run again: the copies are made from these.
    kernel: Arc<Kernel<A>>,
    mms: Vec<Arc<Mm<A>>>,
    books: memory::Saved,
    frames: Frames,
    cpus: racewalk_cpu::Saved<A::Hw>,
}

impl<A: Arch> Checkpoint<A> {
    /// Takes down the state of `kernel`, of its memory and processors, and of the spaces `mms`, which are all that there
    /// are. Nothing runs meanwhile; the handles given are used up.
    ///
    /// # Errors
    /// There is a finding, which no return could bring back; there are other spaces; or memory was not blank when the
    /// kernel was booted on it.
    pub fn take(kernel: Arc<Kernel<A>>, mms: Vec<Arc<Mm<A>>>) -> Result<Checkpoint<A>> {
        let living = kernel.ledger().mms;
        if kernel.has_findings() || living != mms.len() as u64 {
            let found = if kernel.has_findings() { "findings" } else { "other spaces" };
            return Err(MmError::Config(format!("a checkpoint of a machine with {found}")));
        }
        let books = kernel.memory().save();
        let frames = Frames::take(kernel.ram())?;
        kernel.memory().set_blank(frames.zero());
        let cpus = kernel.cpus().save();
        Ok(Checkpoint { kernel, mms, books, frames, cpus })
    }

    /// Puts memory and processors back, and makes the kernel and the spaces anew, in the order in which they were given.
    /// What was made before is used no more: the caller has [halted](Kernel::halt) it and let go of it.
    ///
    /// # Errors
    /// Guest memory cannot be written, which a checkpoint that was taken does not show.
    pub fn restore(&mut self) -> Result<Ready<A>> {
        self.frames.restore(self.kernel.ram())?;
        self.kernel.memory().restore(&self.books);
        self.kernel.cpus().restore(&self.cpus);
        let kernel = Arc::new(self.kernel.copy());
        // Mappings of one object go on sharing it.
        let mut objects: Vec<(*const FileObject, Arc<FileObject>)> = Vec::new();
        let mms: Vec<Arc<Mm<A>>> = self
            .mms
            .iter()
            .map(|m| {
                Arc::new(m.copy(&kernel, |old| {
                    let known = objects.iter().find(|o| o.0 == Arc::as_ptr(old));
                    known.map(|o| o.1.clone()).unwrap_or_else(|| {
                        let new = Arc::new(old.copy());
                        objects.push((Arc::as_ptr(old), new.clone()));
                        new
                    })
                }))
            })
            .collect();
        for (new, old) in kernel.active.iter().zip(&self.kernel.active) {
            let old = old.lock("active");
            let runs = old.as_ref().and_then(|m| self.mms.iter().position(|x| Arc::ptr_eq(x, m)));
            *new.lock("active") = runs.map(|i| mms[i].clone());
        }
        Ok((kernel, mms))
    }

    /// Makes the machine's memory blank again, and says good-bye to it.
    ///
    /// # Errors
    /// As of [`restore`](Self::restore).
    pub fn wipe(self) -> Result<Arc<Ram>> {
        let ram = self.kernel.ram().clone();
        self.frames.wipe(&ram)?;
        Ok(ram)
    }
}

impl<A: Arch> Drop for Checkpoint<A> {
    fn drop(&mut self) {
        self.kernel.halt();
    }
}

impl<A: Arch> Kernel<A> {
    /// Another kernel in the same state over the same memory and processors; no CPU runs a space.
    fn copy(&self) -> Kernel<A> {
        Kernel {
            memory: self.memory.clone(),
            cpus: self.cpus.clone(),
            config: self.config.clone(),
            rcu: self.rcu.copy(),
            frag: self.frag.copy(),
            holds: self.holds.copy(),
            zero_page: self.zero_page,
            machine: self.machine.clone(),
            active: self.active.iter().map(|_| Mutex::new(None)).collect(),
            halted: AtomicBool::new(self.halted.load(SeqCst)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::S390x;
    use crate::kernel::{Config, Ledger};
    use crate::{MapFlags, Prot, frames, sanitizer};
    use racewalk_cpu::{Access, Cpus};
    use racewalk_ram::Vaddr;

    const SEGMENT: u64 = 2 << 20;

    fn machine(ram: Arc<Ram>) -> (Arc<Kernel<S390x>>, Arc<Mm<S390x>>) {
        let mut config = Config { reserved: 1 << 17, max_mms: 4, ..Config::default() };
        config.sanitize = Some(sanitizer::Options { log: 16, states: true });
        let kernel = Kernel::<S390x>::new(ram.clone(), Cpus::new(ram, 1), config).unwrap();
        let mm = kernel.mm_create().unwrap();
        let flags = MapFlags::FIXED | MapFlags::ANONYMOUS | MapFlags::SHARED;
        for n in 1..4 {
            mm.mmap(n * SEGMENT, SEGMENT, Prot::READ | Prot::WRITE, flags, None).unwrap();
            mm.fault_in(Vaddr(n * SEGMENT), Access::Store).unwrap();
        }
        (kernel, mm)
    }

    /// Tables wait for a grace period when it is taken.
    #[test]
    fn callbacks_that_wait_come_back() {
        let (kernel, mm) = machine(frames::blank(16 << 20).unwrap());
        mm.munmap(SEGMENT, 3 * SEGMENT).unwrap();
        assert_eq!(kernel.stats().rcu_callbacks.get(), 0);
        let before = kernel.ledger();
        let mut c = Checkpoint::take(kernel, vec![mm]).unwrap();
        for _ in 0..3 {
            let (kernel, mms) = c.restore().unwrap();
            assert_eq!(kernel.ledger(), before);
            kernel.rcu_barrier();
            assert_ne!(kernel.stats().rcu_callbacks.get(), 0);
            mms[0].exit().unwrap();
            kernel.rcu_barrier();
            kernel.shutdown().unwrap();
            assert_eq!(kernel.take_findings().len(), 0);
            assert_eq!(Ledger { cache: 0, ..kernel.ledger() }, Ledger::default());
            kernel.halt();
        }
        let ram = c.wipe().unwrap();
        assert!((0..ram.size() / 8).all(|i| ram.load_u64(racewalk_ram::Paddr(i * 8)).unwrap() == 0));
    }

    /// Frames that were written to before it was taken, and after. Seen to fail where either counts as zero.
    #[test]
    fn new_memory_is_zero() {
        let (kernel, mm) = machine(frames::blank(16 << 20).unwrap());
        let used = |k: &Kernel<S390x>| {
            let m = k.memory();
            let p = m.alloc_zeroed("a test").unwrap();
            let mut page = vec![1; m.page_size() as usize];
            m.ram().read(p.paddr(), &mut page).unwrap();
            assert!(page.iter().all(|&b| b == 0), "{p:?}");
            m.ram().store_u64(p.paddr().offset(0x800), 1).unwrap();
            m.put_page(p).unwrap();
            p
        };
        let first = used(&kernel);
        let mut c = Checkpoint::take(kernel, vec![mm]).unwrap();
        for _ in 0..3 {
            let (kernel, mms) = c.restore().unwrap();
            assert_eq!([used(&kernel), used(&kernel)], [first; 2]);
            let held = kernel.memory().alloc_zeroed("a test").unwrap();
            let second = used(&kernel);
            assert!(held == first && second != first && used(&kernel) == second);
            kernel.halt();
            drop(mms);
        }
    }

    #[test]
    fn what_cannot_come_back_is_an_error() {
        let take = |ram| {
            let (kernel, mm) = machine(ram);
            (Checkpoint::take(kernel.clone(), vec![mm]).map(drop), kernel)
        };
        assert!(take(frames::blank(16 << 20).unwrap()).0.is_ok());
        let (unwatched, kernel) = take(Arc::new(Ram::new(16 << 20).unwrap()));
        assert!(unwatched.unwrap_err().to_string().contains("not watched"));
        kernel.halt();
        let (kernel, mm) = machine(frames::blank(16 << 20).unwrap());
        let other = kernel.mm_create().unwrap();
        assert!(Checkpoint::take(kernel.clone(), vec![mm.clone()]).is_err(), "another space");
        kernel.halt();
        drop((mm, other));
    }
}
