//! The four smallest protocols of the emulator and of the mm that it hosts, each in every interleaving and in every
//! memory order that loom knows, with sisters that lack one step and that loom must find.
//!
//! | module | protocol | sisters |
//! |---|---|---|
//! | [`walk`] | a hardware walk against unhook, invalidate, free | no invalidate; an invalidate that leaves the walk cache |
//! | [`fill`] | a TLB fill against an invalidate | a fill that was overtaken is kept; the invalidate comes first |
//! | [`rcu`] | entry to hosted code against a grace period | no fence at entry; none in the grace period; no wait |
//! | [`release`] | two halves of an s390x page freed at once | no P bit in the direct free; P cleared before the list |
//!
//! The models restate the protocols in loom's types: they are not the code of `racewalk-cpu` and `racewalk-mm`, which
//! runs under its own controlled schedules, all of them sequentially consistent. What these models add is the
//! weaker orders: where an acquire, a release or a fence is needed, and that it is.
//!
//! Modelled: one walker or reader, one updater, one table; at most two walks or sections. Not modelled: more CPUs,
//! several invalidates under way, nested readers, preempted readers, lists of callbacks, interrupts; loom itself does
//! not model load buffering (a load that sees a store which depends on it), and it treats a sequentially consistent
//! access that is no fence as acquire and release.
//!
//! Freed memory is a [`loom::cell::UnsafeCell`]: a walk reads it, a free writes it, and loom objects when the two are
//! not ordered. The cells are never dereferenced, so there is no unsafe code.
#![forbid(unsafe_code)]

pub mod fill;
pub mod rcu;
pub mod release;
pub mod walk;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Memory that can be freed: what reads it must be ordered before the free.
#[derive(Debug, Default)]
pub struct Memory {
    cell: UnsafeCell<()>,
    freed: AtomicBool,
}

impl Memory {
    /// Reads it, as a walker does.
    ///
    /// # Panics
    /// If it has been freed. Loom panics if it may be freed meanwhile.
    pub fn read(&self) {
        self.cell.with(|_| assert!(!self.freed.load(Relaxed), "read after free"));
    }

    /// Writes it, as its owner does.
    ///
    /// # Panics
    /// If it has been freed. Loom panics if somebody else may use it meanwhile.
    pub fn write(&self) {
        self.cell.with_mut(|_| assert!(!self.freed.load(Relaxed), "written after free"));
    }

    /// Frees it.
    ///
    /// # Panics
    /// If it has been freed. Loom panics if somebody may use it meanwhile.
    pub fn free(&self) {
        self.cell.with_mut(|_| assert!(!self.freed.swap(true, Relaxed), "freed twice"));
    }

    /// Whether it has been freed.
    pub fn is_freed(&self) -> bool {
        self.freed.load(Relaxed)
    }
}

/// That loom, or a model, objects to `model`, and for a reason that is one: not a limit of loom's own.
#[cfg(test)]
fn objects(model: impl FnOnce() + std::panic::UnwindSafe) {
    let Err(panic) = std::panic::catch_unwind(model) else { panic!("nothing was found") };
    let message = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(s), _) => s.as_str(),
        (_, Some(s)) => s,
        _ => "",
    };
    let reasons = ["Causality violation", "after free", "freed twice", "outlives its invalidate", "leaks"];
    assert!(reasons.iter().any(|r| message.contains(r)), "{message:?}");
    println!("{message}");
}
