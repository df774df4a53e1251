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
        let cpus = kernel.cpus().save();
        Ok(Checkpoint { kernel, mms, books, frames, cpus })
    }

    /// Puts memory and processors back, and makes the kernel and the spaces anew, in the order in which they were given.
    /// What was made before is used no more: the caller has [halted](Kernel::halt) it and let go of it.
    ///
    /// # Errors
    /// Guest memory cannot be written, which a checkpoint that was taken does not show.
    pub fn restore(&self) -> Result<(Arc<Kernel<A>>, Vec<Arc<Mm<A>>>)> {
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
