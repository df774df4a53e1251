//! Two halves of an s390x page of tables freed at once, one through RCU, one directly (reference B.1).
//!
//! Each free is two exclusive-ors of the state byte: under the lock A to P, with the list operation; later, without the
//! lock, P away. Whoever makes the byte zero frees the page, exactly once, after the other's list operation.

use crate::Memory;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::AcqRel;
use loom::sync::{Arc, Mutex};
use loom::thread;

/// What is wrong with the direct free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It clears A and sets no P (s390-pre).
    NoPending,
    /// It clears P before its list operation, not after it.
    ClearsPendingFirst,
}

#[derive(Debug)]
struct Page {
    byte: AtomicU32,
    /// The mm's lock, which covers the list.
    lock: Mutex<()>,
    /// The page record with its list words.
    record: Memory,
}

impl Page {
    /// Exclusive-or; the new value.
    fn xor(&self, bits: u32) -> u32 {
        self.byte.fetch_xor(bits, AcqRel) ^ bits
    }

    fn finish(&self, bits: u32) {
        if self.xor(bits) == 0 {
            self.record.free();
        }
    }

    /// `page_table_free_rcu`, and `__tlb_remove_table` later.
    fn free_rcu(&self, half: u32) {
        {
            let _lock = self.lock.lock();
            self.xor(0x11 << half);
            self.record.write();
        }
        self.finish(0x10 << half);
    }

    /// `page_table_free`.
    fn free(&self, half: u32, flaw: Option<Flaw>) {
        let lock = self.lock.lock();
        match flaw {
            Some(Flaw::NoPending) => {
                let left = self.xor(1 << half);
                self.record.write();
                drop(lock);
                if left == 0 {
                    self.record.free();
                }
            }
            Some(Flaw::ClearsPendingFirst) => {
                self.xor(0x11 << half);
                let left = self.xor(0x10 << half);
                self.record.write();
                drop(lock);
                if left == 0 {
                    self.record.free();
                }
            }
            None => {
                self.xor(0x11 << half);
                self.record.write();
                drop(lock);
                self.finish(0x10 << half);
            }
        }
    }
}

/// All interleavings of a free through RCU with a direct one.
///
/// # Panics
/// If the page is not freed.
pub fn model(flaw: Option<Flaw>) {
    loom::model(move || {
        let page =
            Arc::new(Page { byte: AtomicU32::new(3), lock: Mutex::new(()), record: Memory::default() });
        let other = thread::spawn({
            let page = page.clone();
            move || page.free(1, flaw)
        });
        page.free_rcu(0);
        // A panic of the other thread has ended the model already.
        let _ = other.join();
        assert!(page.record.is_freed(), "the page leaks");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound() {
        model(None);
    }

    #[test]
    fn without_the_pending_bit() {
        crate::objects(|| model(Some(Flaw::NoPending)));
    }

    #[test]
    fn with_the_pending_bit_cleared_first() {
        crate::objects(|| model(Some(Flaw::ClearsPendingFirst)));
    }
}
