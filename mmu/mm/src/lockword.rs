//! Spinlocks that live in words of page records and slab objects.
//!
//! A lock can be *destroyed* (the split page-table lock by the table's destructor): taking or releasing it after
//! that is invariant 11 of hosted-mm D.

use crate::error::{Result, broken};
use racewalk_sched::{Label, atomic_enter, atomic_leave, point, tso, wait_while, wake};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const FREE: u64 = 0;
const HELD: u64 = 1;
const CONTENDED: u64 = 2;
/// What the word of a destroyed lock holds.
pub(crate) const DEAD: u64 = 0xdead_4ead_dead_4ead;

fn key(word: &AtomicU64) -> usize {
    std::ptr::from_ref(word) as usize
}

/// Takes the lock.
pub(crate) fn lock(word: &AtomicU64, label: Label) -> Result<()> {
    point(label);
    tso::fence();
    if word.compare_exchange(FREE, HELD, SeqCst, SeqCst).is_ok() {
        atomic_enter();
        return Ok(());
    }
    let mut bad = None;
    wait_while(key(word), label, || {
        loop {
            let v = word.load(SeqCst);
            let (new, wait) = match v {
                FREE => (CONTENDED, false),
                HELD => (CONTENDED, true),
                CONTENDED => return true,
                other => {
                    bad = Some(other);
                    return false;
                }
            };
            if word.compare_exchange(v, new, SeqCst, SeqCst).is_ok() {
                return wait;
            }
        }
    });
    match bad {
        None => {
            atomic_enter();
            Ok(())
        }
        Some(DEAD) => broken(11, format!("{label}: taking a lock that was destroyed")),
        Some(v) => broken(11, format!("{label}: the lock word holds {v:#x}")),
    }
}

/// Releases the lock.
pub(crate) fn unlock(word: &AtomicU64, label: Label) -> Result<()> {
    tso::fence();
    let old = word.fetch_update(SeqCst, SeqCst, |v| matches!(v, HELD | CONTENDED).then_some(FREE));
    match old {
        Ok(was) => {
            if was == CONTENDED {
                wake(key(word));
            }
            if !atomic_leave() {
                return broken(27, format!("{label}: released by somebody who holds no lock"));
            }
            Ok(())
        }
        Err(DEAD) => broken(11, format!("{label}: releasing a lock that was destroyed")),
        Err(v) => broken(11, format!("{label}: releasing a lock whose word holds {v:#x}")),
    }
}

/// Makes a fresh lock.
pub(crate) fn init(word: &AtomicU64) {
    tso::fence();
    word.store(FREE, SeqCst);
}

/// Destroys the lock. It must be free.
pub(crate) fn destroy(word: &AtomicU64, label: Label) -> Result<()> {
    tso::fence();
    let old = word.swap(DEAD, SeqCst);
    wake(key(word));
    if old == FREE {
        Ok(())
    } else {
        broken(11, format!("{label}: destroying a lock whose word holds {old:#x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_sched::controlled::{Config, End, Random, run, spawn};
    use std::sync::Arc;

    #[test]
    fn excludes_in_free_mode() {
        let w = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        std::thread::scope(|s| {
            for _ in 0..4 {
                let w = w.clone();
                s.spawn(move || {
                    for _ in 0..2000 {
                        lock(&w.0, "t").unwrap();
                        let v = w.1.load(SeqCst);
                        w.1.store(v + 1, SeqCst);
                        unlock(&w.0, "t").unwrap();
                    }
                });
            }
        });
        assert_eq!(w.1.load(SeqCst), 8000);
    }

    #[test]
    fn a_destroyed_lock_answers_waiters() {
        for seed in 0..20 {
            let out = run(Config::default(), &mut Random::new(seed), || {
                let w = Arc::new(AtomicU64::new(0));
                lock(&w, "t").unwrap();
                let v = w.clone();
                spawn("waiter", move || assert!(lock(&v, "t").is_err()));
                point("x");
                assert!(destroy(&w, "t").is_err(), "it was held");
                assert!(unlock(&w, "t").is_err());
            });
            assert_eq!(out.end, End::Finished);
        }
    }
}
