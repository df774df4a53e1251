//! What file mappings map, and the page cache in front of it.

use crate::arch::Arch;
use crate::buddy::Gfp;
use crate::error::{Errno, MmError, Result};
use crate::kernel::Kernel;
use crate::memory::Memory;
use crate::page::{FrameKind, flag};
use racewalk_ram::Pfn;
use racewalk_sched::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes that can be mapped: a file of whoever uses the mm.
pub trait Backing: Send + Sync {
    /// Fills `buf` (one page, zero before) with page `index`. An error becomes SIGBUS.
    fn read_page(&self, index: u64, buf: &mut [u8]) -> Result<(), Errno>;
    /// Writes the first bytes of page `index` back: as many as the file has there.
    fn write_page(&self, index: u64, bytes: &[u8]) -> Result<(), Errno> {
        let _ = (index, bytes);
        Err(Errno::EACCES)
    }
    /// Bytes; a page wholly beyond them is SIGBUS.
    fn size(&self) -> u64;
    /// The path, for `/proc/self/maps` and messages.
    fn name(&self) -> String;
    /// Device (major, minor) and inode number, for `/proc/self/maps`.
    fn id(&self) -> (u32, u32, u64) {
        (0, 0, 0)
    }
}

/// A file with its cached pages. Mappings of the same `FileObject` share clean pages.
pub struct FileObject {
    memory: Arc<Memory>,
    /// `None`: shared anonymous memory, zero at first.
    backing: Option<Arc<dyn Backing>>,
    cache: Mutex<BTreeMap<u64, Pfn>>,
    /// Pages that a program may have stored to since the file was first mapped. They are never called clean again:
    /// their entries stay writable, and writing back what has not changed is harmless.
    dirty: Mutex<BTreeSet<u64>>,
}

impl std::fmt::Debug for FileObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileObject({})", self.name())
    }
}

impl FileObject {
    /// A file to map.
    pub fn new<A: Arch>(kernel: &Kernel<A>, backing: Arc<dyn Backing>) -> Arc<FileObject> {
        Self::make(kernel.memory(), Some(backing))
    }

    /// Shared anonymous memory (`/dev/zero (deleted)`).
    pub(crate) fn shmem(memory: &Arc<Memory>) -> Arc<FileObject> {
        Self::make(memory, None)
    }

    fn make(memory: &Arc<Memory>, backing: Option<Arc<dyn Backing>>) -> Arc<FileObject> {
        Arc::new(FileObject {
            memory: memory.clone(),
            backing,
            cache: Mutex::default(),
            dirty: Mutex::default(),
        })
    }

    /// Another of the same contents, with the same pages in its cache. For a machine whose books are put back to a time
    /// when this one was there: page records count one of them.
    pub(crate) fn copy(&self) -> FileObject {
        FileObject {
            memory: self.memory.clone(),
            backing: self.backing.clone(),
            cache: Mutex::new(self.cache.lock("pagecache").clone()),
            dirty: Mutex::new(self.dirty.lock("pagecache.dirty").clone()),
        }
    }

    /// The name for `/proc/self/maps`.
    pub fn name(&self) -> String {
        self.backing.as_ref().map_or("/dev/zero (deleted)".into(), |b| b.name())
    }

    /// log2 of the bytes of a page.
    pub(crate) fn page_shift(&self) -> u32 {
        self.memory.page_shift()
    }

    /// Device and inode.
    pub fn id(&self) -> (u32, u32, u64) {
        self.backing.as_ref().map_or((0, 1, 0), |b| b.id())
    }

    /// Page `index` with a reference for the caller; `None` beyond the end, or if it cannot be read.
    pub(crate) fn page(&self, index: u64) -> Result<Option<Pfn>> {
        if self.backing.as_ref().is_some_and(|b| index >= b.size().div_ceil(self.memory.page_size())) {
            return Ok(None);
        }
        let k = &self.memory;
        {
            let cache = self.cache.lock("pagecache");
            if let Some(&p) = cache.get(&index) {
                k.kmem.pages.get_page(p)?;
                return Ok(Some(p));
            }
        }
        let new = k.alloc(0, Gfp::Kernel, FrameKind::Cache, "the page cache")?;
        k.kmem.pages.set_flag(new, flag::CACHE)?;
        match &self.backing {
            None => k.clear(new.paddr(), self.memory.page_size())?,
            Some(b) => {
                let mut buf = vec![0; self.memory.page_size() as usize];
                if b.read_page(index, &mut buf).is_err() {
                    k.put_page(new)?;
                    return Ok(None);
                }
                k.ram.write(new.paddr(), &buf)?;
            }
        }
        let mut cache = self.cache.lock("pagecache");
        if let Some(&p) = cache.get(&index) {
            k.kmem.pages.get_page(p)?;
            drop(cache);
            k.put_page(new)?;
            return Ok(Some(p));
        }
        k.kmem.pages.get_page(new)?;
        cache.insert(index, new);
        Ok(Some(new))
    }
}

impl FileObject {
    /// Notes that a program is about to be able to store to page `index`.
    pub(crate) fn mark_dirty(&self, index: u64) {
        if self.backing.is_some() {
            self.dirty.lock("pagecache.dirty").insert(index);
        }
    }

    /// Writes dirty pages from `first` up to but not including `end` back to the file. All are tried; the first
    /// error is the answer.
    pub fn write_back(&self, first: u64, end: u64) -> Result<()> {
        let Some(backing) = &self.backing else { return Ok(()) };
        let pages: Vec<u64> = self.dirty.lock("pagecache.dirty").range(first..end).copied().collect();
        let mut result = Ok(());
        for index in pages {
            let Some(page) = self.cached(index)? else { continue };
            let size =
                backing.size().saturating_sub(index * self.memory.page_size()).min(self.memory.page_size());
            let mut buf = vec![0; size as usize];
            let read = self.memory.ram.read(page.paddr(), &mut buf);
            self.memory.put_page(page)?;
            read?;
            if !buf.is_empty()
                && let Err(e) = backing.write_page(index, &buf)
                && result.is_ok()
            {
                result = Err(e.into());
            }
        }
        result
    }

    /// A page of the cache, with a reference.
    fn cached(&self, index: u64) -> Result<Option<Pfn>> {
        let cache = self.cache.lock("pagecache");
        let Some(&p) = cache.get(&index) else { return Ok(None) };
        self.memory.kmem.pages.get_page(p)?;
        Ok(Some(p))
    }

    /// `bytes` were written to the file at `offset`: cached pages take them over.
    pub fn update(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let pos = offset + at as u64;
            let within = pos % self.memory.page_size();
            let n = ((self.memory.page_size() - within) as usize).min(bytes.len() - at);
            if let Some(page) = self.cached(pos / self.memory.page_size())? {
                let written = self.memory.ram.write(page.paddr().offset(within), &bytes[at..at + n]);
                self.memory.put_page(page)?;
                written?;
            }
            at += n;
        }
        Ok(())
    }

    /// The file has `size` bytes now: drops cached pages beyond, and zeroes what is behind the end in the last one.
    /// Mappings keep theirs until [`Mm::truncate_object`](crate::Mm::truncate_object).
    pub fn truncate(&self, size: u64) -> Result<()> {
        let end = size.div_ceil(self.memory.page_size());
        let gone = self.cache.lock("pagecache").split_off(&end);
        drop(self.dirty.lock("pagecache.dirty").split_off(&end));
        for p in gone.into_values() {
            self.memory.put_page(p)?;
        }
        let within = size % self.memory.page_size();
        if within != 0
            && let Some(page) = self.cached(size / self.memory.page_size())?
        {
            let filled =
                self.memory.ram.fill(page.paddr().offset(within), 0, self.memory.page_size() - within);
            self.memory.put_page(page)?;
            filled?;
        }
        Ok(())
    }
}

impl Drop for FileObject {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure.
        let _ = self.write_back(0, u64::MAX);
        let cache = std::mem::take(self.cache.get_mut());
        for p in cache.into_values() {
            if let Err(e) = self.memory.put_page(p) {
                self.memory.report(e);
            }
        }
    }
}

/// Bytes in memory as a file.
#[derive(Debug, Clone)]
pub struct Bytes {
    /// The path.
    pub name: String,
    /// The contents.
    pub data: Vec<u8>,
}

impl Backing for Bytes {
    fn read_page(&self, index: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let from = usize::try_from(index).ok().and_then(|i| i.checked_mul(buf.len())).ok_or(Errno::EIO)?;
        let part = self.data.get(from..).ok_or(Errno::EIO)?;
        let n = part.len().min(buf.len());
        buf[..n].copy_from_slice(&part[..n]);
        Ok(())
    }
    fn size(&self) -> u64 {
        self.data.len() as u64
    }
    fn name(&self) -> String {
        self.name.clone()
    }
}

impl From<Errno> for MmError {
    fn from(errno: Errno) -> Self {
        MmError::Sys { op: "file", errno, why: "the file could not be read" }
    }
}
