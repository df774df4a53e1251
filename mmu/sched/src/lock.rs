//! Locks that both modes understand.

use crate::{Label, observe, point, tso, wait_while, wake};
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A lock without data: a kernel spinlock or mutex. Also works on a word that lives elsewhere, see
/// [`lock_word`].
#[derive(Debug, Default)]
pub struct Lock {
    word: AtomicU32,
}

/// Takes the lock in `word` (0 free).
pub fn lock_word(word: &AtomicU32, label: Label) {
    point(label);
    tso::fence();
    if word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        return;
    }
    let key = std::ptr::from_ref(word) as usize;
    wait_while(key, label, || word.swap(CONTENDED, Ordering::Acquire) != FREE);
}

/// Takes the lock in `word` if it is free.
pub fn try_lock_word(word: &AtomicU32, label: Label) -> bool {
    point(label);
    tso::fence();
    let taken = word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok();
    observe(taken.into());
    taken
}

/// Releases the lock in `word`.
pub fn unlock_word(word: &AtomicU32) {
    tso::fence();
    if word.swap(FREE, Ordering::Release) == CONTENDED {
        wake(std::ptr::from_ref(word) as usize);
    }
}

impl Lock {
    /// A free lock.
    pub const fn new() -> Self {
        Lock { word: AtomicU32::new(FREE) }
    }
    /// Takes it.
    pub fn lock(&self, label: Label) -> LockGuard<'_> {
        lock_word(&self.word, label);
        LockGuard(self)
    }
    /// Takes it if it is free.
    pub fn try_lock(&self, label: Label) -> Option<LockGuard<'_>> {
        try_lock_word(&self.word, label).then_some(LockGuard(self))
    }
    /// Whether somebody holds it.
    pub fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }
}

/// Holds a [`Lock`].
#[derive(Debug)]
pub struct LockGuard<'a>(&'a Lock);

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        unlock_word(&self.0.word)
    }
}

/// A lock around data of our own (not guest memory).
#[derive(Debug, Default)]
pub struct Mutex<T> {
    lock: Lock,
    // Uncontended by construction: taken only while `lock` is held.
    data: std::sync::Mutex<T>,
}

/// Holds a [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    // Field order matters: the data is released before the lock.
    data: std::sync::MutexGuard<'a, T>,
    _lock: LockGuard<'a>,
}

impl<T> Mutex<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Mutex { lock: Lock::new(), data: std::sync::Mutex::new(value) }
    }
    /// Takes the lock.
    pub fn lock(&self, label: Label) -> MutexGuard<'_, T> {
        let l = self.lock.lock(label);
        MutexGuard { data: self.data.lock().unwrap_or_else(PoisonError::into_inner), _lock: l }
    }
    /// The data, when nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

/// A readers-writer lock around data of our own; a waiting writer keeps new readers out (like `mmap_lock`).
#[derive(Debug, Default)]
pub struct RwLock<T> {
    // Readers in the low bits, WRITER when written; waiting writers counted apart.
    state: AtomicU32,
    writers: AtomicU32,
    data: std::sync::RwLock<T>,
}

const WRITER: u32 = 1 << 31;

/// Holds an [`RwLock`] for reading.
#[derive(Debug)]
pub struct ReadGuard<'a, T> {
    data: Option<std::sync::RwLockReadGuard<'a, T>>,
    of: &'a RwLock<T>,
}

/// Holds an [`RwLock`] for writing.
#[derive(Debug)]
pub struct WriteGuard<'a, T> {
    data: Option<std::sync::RwLockWriteGuard<'a, T>>,
    of: &'a RwLock<T>,
}

impl<T> RwLock<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        RwLock { state: AtomicU32::new(0), writers: AtomicU32::new(0), data: std::sync::RwLock::new(value) }
    }
    fn key(&self) -> usize {
        std::ptr::from_ref(&self.state) as usize
    }
    fn try_enter_read(&self) -> bool {
        self.writers.load(Ordering::SeqCst) == 0
            && self
                .state
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |s| (s & WRITER == 0).then_some(s + 1))
                .is_ok()
    }
    fn try_enter_write(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
    /// Takes it for reading.
    pub fn read(&self, label: Label) -> ReadGuard<'_, T> {
        point(label);
        tso::fence();
        wait_while(self.key(), label, || !self.try_enter_read());
        self.read_guard()
    }
    /// Takes it for writing.
    pub fn write(&self, label: Label) -> WriteGuard<'_, T> {
        point(label);
        tso::fence();
        self.writers.fetch_add(1, Ordering::SeqCst);
        wait_while(self.key(), label, || !self.try_enter_write());
        self.writers.fetch_sub(1, Ordering::SeqCst);
        self.write_guard()
    }
    /// Takes it for writing if that needs no waiting.
    pub fn try_write(&self, label: Label) -> Option<WriteGuard<'_, T>> {
        point(label);
        tso::fence();
        let taken = self.try_enter_write();
        observe(taken.into());
        taken.then(|| self.write_guard())
    }
    fn read_guard(&self) -> ReadGuard<'_, T> {
        ReadGuard { data: Some(self.data.read().unwrap_or_else(PoisonError::into_inner)), of: self }
    }
    fn write_guard(&self) -> WriteGuard<'_, T> {
        WriteGuard { data: Some(self.data.write().unwrap_or_else(PoisonError::into_inner)), of: self }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        self.data = None;
        tso::fence();
        if self.of.state.fetch_sub(1, Ordering::SeqCst) == 1 {
            wake(self.of.key());
        }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.data = None;
        tso::fence();
        self.of.state.store(0, Ordering::SeqCst);
        wake(self.of.key());
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.data.as_ref().expect("held until dropped")
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.data.as_ref().expect("held until dropped")
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.data.as_mut().expect("held until dropped")
    }
}
