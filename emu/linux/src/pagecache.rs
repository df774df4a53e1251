//! Files that are mapped: one object per device and inode, which reads and writes agree with.

use crate::errno::Errno;
use crate::file::OpenFile;
use crate::host;
use crate::load::HostFile;
use crate::system::System;
use racewalk_mm::FileObject;
use racewalk_sched::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A mapped file and what it is read from. Held here, so that whoever reads the file finds it until it has been
/// written back.
type Mapped = (Arc<FileObject>, Arc<HostFile>);

/// The files that are or were mapped.
#[derive(Default)]
pub(crate) struct PageCache {
    // In an order that is the same in every run.
    objects: Mutex<BTreeMap<(u64, u64), Mapped>>,
    /// Some file was mapped: reads and writes have to look.
    used: AtomicBool,
}

impl PageCache {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Mapped>> {
        self.objects.lock("pagecache.files")
    }

    fn of(&self, f: &OpenFile) -> Option<Arc<FileObject>> {
        if !self.used.load(Ordering::SeqCst) {
            return None;
        }
        self.objects().get(&f.id?).map(|m| m.0.clone())
    }
}

impl System {
    /// The object to map for a file.
    pub(crate) fn object(&self, f: &OpenFile, writable: bool) -> Result<Arc<FileObject>, Errno> {
        let host = Arc::new(std::fs::File::from(host::ask("dup", f.name(), || rustix::io::dup(f.fd()))?));
        let name = f.path.to_string_lossy().into_owned();
        let Some(id) = f.id else {
            return Ok(FileObject::new(&self.kernel, HostFile::new(host, name, writable)));
        };
        self.page_cache.used.store(true, Ordering::SeqCst);
        let mut objects = self.page_cache.objects();
        if let Some((o, h)) = objects.get(&id) {
            if writable {
                h.make_writable(host);
            }
            return Ok(o.clone());
        }
        let h = HostFile::new(host, name, writable);
        let o = FileObject::new(&self.kernel, h.clone());
        objects.insert(id, (o.clone(), h));
        Ok(o)
    }

    /// What was stored through mappings is in the file before it is read.
    pub(crate) fn before_read(&self, f: &OpenFile) {
        if let Some(o) = self.page_cache.of(f) {
            self.write_back(&o);
        }
    }

    /// Some mapping went: writes files back that are mapped no more, and forgets them. Whoever looks for one of them
    /// waits meanwhile.
    pub(crate) fn after_unmap(&self) {
        if !self.page_cache.used.load(Ordering::SeqCst) {
            return;
        }
        let mut objects = self.page_cache.objects();
        let unmapped = |m: &Mapped| Arc::strong_count(&m.0) == 1;
        let ids: Vec<_> = objects.iter().filter(|(_, m)| unmapped(m)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some((o, _)) = objects.remove(&id) {
                self.write_back(&o);
            }
        }
    }

    fn write_back(&self, o: &FileObject) {
        if let Err(e) = o.write_back(0, u64::MAX) {
            self.warn_once(format!("write mapped pages of {} back: {e}", o.name()));
        }
    }

    /// What was written to the file at `offset`, or before its position now, is in the mapped pages.
    pub(crate) fn after_write(&self, f: &OpenFile, offset: Option<u64>, bytes: &[u8]) {
        let Some(o) = self.page_cache.of(f) else { return };
        let at = match offset {
            // Then the offset did not count.
            Some(_) if f.appends().unwrap_or(false) => {
                host::ask("fstat", f.name(), || rustix::fs::fstat(f.fd()))
                    .map(|s| (s.st_size as u64).saturating_sub(bytes.len() as u64))
            }
            Some(a) => Ok(a),
            None => host::ask("tell", f.name(), || rustix::fs::tell(f.fd()))
                .map(|end| end.saturating_sub(bytes.len() as u64)),
        };
        let done = at.map(|a| o.update(a, bytes));
        if !matches!(done, Ok(Ok(()))) {
            self.warn_once(format!("bring mapped pages of {} up to date: {done:?}", o.name()));
        }
    }

    /// The file has another size: pages beyond it are mapped no more.
    pub(crate) fn after_truncate(&self, f: &OpenFile, size: u64) -> Result<(), Errno> {
        let Some(o) = self.page_cache.of(f) else { return Ok(()) };
        o.truncate(size)?;
        self.mm.truncate_object(&o, size).map_err(|e| e.errno())
    }

    /// Writes all mapped files back.
    pub(crate) fn sync_files(&self) {
        let all: Vec<_> = self.page_cache.objects().values().map(|m| m.0.clone()).collect();
        for o in all {
            self.write_back(&o);
        }
    }
}
