//! Slab objects with generations.
//!
//! Objects that page records and tables point to live in numbered slots. The pointer carries the generation of
//! the object it was made for, so that a use after free is found whatever the slot holds by then.

use crate::error::{MmError, Result};
use crate::layout::{self, Place, SLOT};
use crate::reached::Reached;
use racewalk_ram::{Kva, Words};
use racewalk_sched::tso;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

const WORDS: usize = (SLOT / 8) as usize;

/// A cache of slots of 32 words. Word 0 is the header: generation << 1 | live.
#[derive(Debug)]
pub(crate) struct Slab {
    words: Words,
    slots: u32,
    /// Slots reached since the last [`save`](Slab::save).
    reached: Reached,
    free: Mutex<Vec<u32>>,
}

impl Slab {
    pub(crate) fn new(slots: u32) -> Result<Slab> {
        let words = Words::new(slots as usize * WORDS)?;
        Ok(Slab { words, slots, reached: Reached::default(), free: Mutex::new((0..slots).rev().collect()) })
    }

    // A host lock, held for one operation.
    fn list(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, slot: u32) -> &[AtomicU64] {
        self.reached.note(slot as usize);
        &self.words.as_slice()[slot as usize * WORDS..][..WORDS]
    }

    /// A zeroed object.
    pub(crate) fn alloc(&self, what: &'static str) -> Result<Kva> {
        let kva = self.take(what)?;
        tso::fence();
        for x in &self.slot(layout::slot(kva))[1..] {
            x.store(0, SeqCst);
        }
        Ok(kva)
    }

    /// An object as it was left.
    fn take(&self, what: &'static str) -> Result<Kva> {
        let slot = self.list().pop().ok_or(MmError::NoMemory { order: 0, what })?;
        let w = self.slot(slot);
        let generation = ((w[0].load(SeqCst) >> 1) as u16).wrapping_add(1).max(1);
        w[0].store((generation as u64) << 1 | 1, SeqCst);
        Ok(layout::slab(slot, generation))
    }

    /// Frees an object: its pointers are stale from here on.
    pub(crate) fn free(&self, kva: Kva) -> Result<()> {
        let header = &self.object(kva)?[0];
        tso::fence();
        let live = header.load(SeqCst);
        if live & 1 == 0 || header.compare_exchange(live, live & !1, SeqCst, SeqCst).is_err() {
            return Err(MmError::Stale { kva, now: live });
        }
        self.list().push(((kva.0 & 0xffff_ffff) / SLOT) as u32);
        Ok(())
    }

    /// The words of a live object, to be changed or looked at past store buffers: what the CPU has stored before is in
    /// memory then.
    pub(crate) fn object(&self, kva: Kva) -> Result<&[AtomicU64]> {
        tso::fence();
        self.bare_object(kva)
    }

    /// The same, whatever waits in store buffers.
    pub(crate) fn bare_object(&self, kva: Kva) -> Result<&[AtomicU64]> {
        match layout::place(kva, 0, "a slab object")? {
            Place::Slab { slot, generation, byte: _ } if slot < self.slots => {
                let w = self.slot(slot);
                let now = w[0].load(SeqCst);
                if now != (generation as u64) << 1 | 1 {
                    return Err(MmError::Stale { kva, now });
                }
                Ok(w)
            }
            _ => Err(MmError::Wild { kva, wanted: "a slab object" }),
        }
    }

    /// Objects in use.
    pub(crate) fn live(&self) -> u32 {
        self.slots - self.list().len() as u32
    }
}

/// A cache whose slots hold objects of one type for ever (`SLAB_TYPESAFE_BY_RCU`): a pointer to a freed object reaches
/// an object of the same type.
#[derive(Debug)]
pub(crate) struct TypeSafe(Slab);

impl TypeSafe {
    pub(crate) fn new(slots: u32) -> Result<TypeSafe> {
        Slab::new(slots).map(TypeSafe)
    }
    /// An object as it was left: somebody may hold its lock. A slot used for the first time is zero.
    pub(crate) fn alloc(&self, what: &'static str) -> Result<Kva> {
        Ok(layout::type_safe(layout::slot(self.0.take(what)?)))
    }
    pub(crate) fn free(&self, kva: Kva) -> Result<()> {
        let Place::TypeSafe { slot, .. } = layout::place(kva, 0, "a type-safe object")? else {
            return Err(MmError::Wild { kva, wanted: "a type-safe object" });
        };
        let generation = (self.0.slot(slot)[0].load(SeqCst) >> 1) as u16;
        self.0.free(layout::slab(slot, generation))
    }
    /// The words of an object, free or not, to be changed or looked at past store buffers.
    pub(crate) fn words(&self, kva: Kva) -> Result<&[AtomicU64]> {
        tso::fence();
        self.bare_words(kva)
    }
    /// The same, whatever waits in store buffers.
    pub(crate) fn bare_words(&self, kva: Kva) -> Result<&[AtomicU64]> {
        match layout::place(kva, 0, "a type-safe object")? {
            Place::TypeSafe { slot, .. } if slot < self.0.slots => Ok(self.0.slot(slot)),
            _ => Err(MmError::Wild { kva, wanted: "a type-safe object" }),
        }
    }
}

/// A cache as it was at some time.
#[derive(Debug)]
pub(crate) struct Saved {
    words: Vec<u64>,
    free: Vec<u32>,
}

impl Slab {
    pub(crate) fn save(&self) -> Saved {
        self.reached.begin(self.slots as usize);
        let words = self.words.as_slice().iter().map(|w| w.load(Relaxed)).collect();
        Saved { words, free: self.list().clone() }
    }

    pub(crate) fn restore(&self, saved: &Saved) {
        self.reached.take(|n| {
            let slot = self.words.as_slice()[n * WORDS..][..WORDS].iter();
            slot.zip(&saved.words[n * WORDS..]).for_each(|(w, &v)| w.store(v, Relaxed));
        });
        self.list().clone_from(&saved.free);
    }
}

impl TypeSafe {
    pub(crate) fn save(&self) -> Saved {
        self.0.save()
    }
    pub(crate) fn restore(&self, saved: &Saved) {
        self.0.restore(saved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_pointers_are_found_after_reuse() {
        let s = Slab::new(2).unwrap();
        let a = s.alloc("t").unwrap();
        s.object(a).unwrap()[3].store(9, SeqCst);
        s.free(a).unwrap();
        assert!(matches!(s.object(a), Err(MmError::Stale { .. })));
        let b = s.alloc("t").unwrap();
        assert_ne!(a, b);
        assert_eq!(s.object(b).unwrap()[3].load(SeqCst), 0);
        assert!(matches!(s.object(a), Err(MmError::Stale { .. })));
        assert!(matches!(s.free(a), Err(MmError::Stale { .. })));
        s.alloc("t").unwrap();
        assert!(matches!(s.alloc("t"), Err(MmError::NoMemory { .. })));
        assert!(matches!(s.object(Kva(64)), Err(MmError::Wild { .. })));
        assert_eq!(s.live(), 2);
    }
}
