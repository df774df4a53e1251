//! Open files: objects of our own over host descriptors, and the descriptor table.
//!
//! Calls that could block are made in two halves: a *try* that never blocks, and a wait that the caller makes
//! without a CPU ([`Wait`]).

use crate::errno::Errno;
use crate::host;
use crate::object::epoll::Epoll;
use crate::object::eventfd::EventFd;
use crate::object::timerfd::TimerFd;
use crate::object::{Object, pipe};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a call waits for before it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The file can be read.
    Readable,
    /// The file can be written.
    Writable,
    /// The pipe has room for this many bytes.
    Room(usize),
    /// This can be added to the eventfd.
    Add(u64),
}

impl Wait {
    /// The events of `poll(2)`.
    pub fn events(self) -> PollFlags {
        match self {
            Wait::Readable => PollFlags::IN,
            _ => PollFlags::OUT,
        }
    }
}

/// A try: done, or what to wait for.
pub type Try<T> = Result<Result<T, Wait>, Errno>;

enum Handle {
    /// A descriptor that racewalk itself was started with.
    Inherited(BorrowedFd<'static>),
    /// A descriptor opened for the guest.
    Owned(OwnedFd),
}

/// What is special about a file.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing: the host descriptor does it all.
    Plain,
    /// One end of a pipe.
    Pipe(pipe::End),
    /// An eventfd.
    Event(EventFd),
    /// A timerfd.
    Timer(TimerFd),
    /// An epoll.
    Epoll(Epoll),
    /// A file of /proc, written when it was opened.
    Proc,
    /// A directory of /proc: names, and how many have been read.
    Listing(Mutex<(Vec<String>, usize)>),
}

/// An open file description, shared by all descriptors that were duplicated from one another.
pub struct OpenFile {
    handle: Handle,
    /// Path it was opened by, for `/proc/self/fd` and reports.
    pub path: PathBuf,
    /// Reads and writes can block: everything but regular files, directories and block devices.
    may_block: bool,
    nonblocking: Mutex<bool>,
    pub(crate) kind: Kind,
    /// Device and inode of a regular file: what the page cache knows it by.
    pub(crate) id: Option<(u64, u64)>,
}

/// A part of a file, as questions to the host call it.
pub(crate) struct Part<'a> {
    file: &'a OpenFile,
    len: Option<usize>,
    offset: u64,
}

impl std::fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.name().fmt(f)?;
        if let Some(n) = self.len {
            write!(f, " {n}")?
        }
        write!(f, " at {}", self.offset)
    }
}

/// Bytes that one try writes to a file that may block: a pipe that polls as writable takes this much at once.
const PIPE_CHUNK: usize = 4096;

impl OpenFile {
    fn new(handle: Handle, path: PathBuf) -> Self {
        let mut f = OpenFile {
            handle,
            path,
            may_block: true,
            nonblocking: Mutex::new(false),
            kind: Kind::Plain,
            id: None,
        };
        if let Ok(s) = host::ask("fstat", f.name(), || rustix::fs::fstat(f.fd())) {
            let regular = FileType::from_raw_mode(s.st_mode) == FileType::RegularFile;
            f.id = regular.then_some((s.st_dev, s.st_ino));
            f.may_block = !matches!(
                FileType::from_raw_mode(s.st_mode),
                FileType::RegularFile | FileType::Directory | FileType::BlockDevice
            );
        }
        f
    }

    /// What questions to the host call it.
    pub(crate) fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// The same, for a question about what is at `offset`.
    pub(crate) fn from(&self, offset: u64) -> Part<'_> {
        Part { file: self, len: None, offset }
    }

    /// The same, for a question about `len` bytes at `offset`.
    pub(crate) fn some(&self, len: usize, offset: u64) -> Part<'_> {
        Part { file: self, len: Some(len), offset }
    }

    /// A file opened for the guest.
    pub fn owned(fd: OwnedFd, path: PathBuf, nonblocking: bool) -> Arc<Self> {
        let f = OpenFile::new(Handle::Owned(fd), path);
        *f.nonblocking.lock().unwrap_or_else(PoisonError::into_inner) = nonblocking;
        Arc::new(f)
    }

    /// Like [`owned`](Self::owned), of a kind of its own.
    pub(crate) fn special(fd: OwnedFd, path: PathBuf, nonblocking: bool, kind: Kind) -> Arc<Self> {
        let mut f = OpenFile::new(Handle::Owned(fd), path);
        if matches!(kind, Kind::Proc | Kind::Listing(_)) {
            f.id = None;
        }
        f.kind = kind;
        *f.nonblocking.get_mut().unwrap_or_else(PoisonError::into_inner) = nonblocking;
        Arc::new(f)
    }

    /// Standard input, output and error of racewalk itself.
    pub fn standard() -> [Arc<Self>; 3] {
        let of = |fd, name: &str| Arc::new(OpenFile::new(Handle::Inherited(fd), name.into()));
        [
            of(rustix::stdio::stdin(), "/dev/stdin"),
            of(rustix::stdio::stdout(), "/dev/stdout"),
            of(rustix::stdio::stderr(), "/dev/stderr"),
        ]
    }

    /// The host descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.handle {
            Handle::Inherited(fd) => *fd,
            Handle::Owned(fd) => fd.as_fd(),
        }
    }

    /// The object of our own that it is, if it is one.
    pub(crate) fn object(&self) -> Option<&dyn Object> {
        match &self.kind {
            Kind::Pipe(o) => Some(o),
            Kind::Event(o) => Some(o),
            Kind::Timer(o) => Some(o),
            Kind::Epoll(o) => Some(o),
            Kind::Plain | Kind::Proc | Kind::Listing(_) => None,
        }
    }
    /// The epoll that it is, if it is one.
    pub(crate) fn epoll(&self) -> Option<&Epoll> {
        match &self.kind {
            Kind::Epoll(e) => Some(e),
            _ => None,
        }
    }
    /// Whether what a call waits for has happened to an object of our own.
    pub(crate) fn satisfies(&self, wait: Wait) -> bool {
        match (&self.kind, wait) {
            (Kind::Pipe(p), Wait::Room(n)) => p.has_room(n, true),
            (Kind::Pipe(p), Wait::Writable) => p.has_room(1, false),
            (Kind::Event(e), Wait::Add(v)) => e.has_room(v),
            _ => self
                .object()
                .is_none_or(|o| o.events().intersects(wait.events() | PollFlags::HUP | PollFlags::ERR)),
        }
    }

    /// What a try of an object of our own came to: it waits, or says EAGAIN.
    fn or_wait<T>(&self, done: Option<T>, wait: Wait) -> Try<T> {
        match done {
            Some(v) => Ok(Ok(v)),
            None if self.nonblocking() => Err(Errno::EAGAIN),
            None => Ok(Err(wait)),
        }
    }

    /// Whether O_NONBLOCK is set, as the guest sees it.
    pub fn nonblocking(&self) -> bool {
        *self.nonblocking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets O_NONBLOCK as the guest sees it; the host descriptor stays as it is.
    pub fn set_nonblocking(&self, on: bool) {
        *self.nonblocking.lock().unwrap_or_else(PoisonError::into_inner) = on;
    }

    /// Whether it is /dev/zero, which is mapped as anonymous memory.
    pub(crate) fn is_dev_zero(&self) -> bool {
        let zero = rustix::fs::makedev(1, 5);
        self.may_block
            && host::ask("fstat", self.name(), || rustix::fs::fstat(self.fd())).is_ok_and(|s| {
                s.st_rdev == zero && FileType::from_raw_mode(s.st_mode) == FileType::CharacterDevice
            })
    }

    /// Whether `mmap` accepts it.
    pub(crate) fn can_be_mapped(&self) -> bool {
        self.id.is_some() || !self.may_block && matches!(self.kind, Kind::Plain)
    }

    /// Status flags as fcntl(F_GETFL) gives them on the host.
    pub fn status_flags(&self) -> Result<OFlags, Errno> {
        Ok(host::ask("fcntl_getfl", self.name(), || rustix::fs::fcntl_getfl(self.fd()))?)
    }

    /// Sets status flags as fcntl(F_SETFL) does: O_NONBLOCK as the guest sees it, the others on the host.
    pub(crate) fn set_status_flags(&self, flags: OFlags) -> Result<(), Errno> {
        let settable = OFlags::APPEND | OFlags::NOATIME | OFlags::DIRECT;
        let old = self.status_flags()?;
        let new = (old - settable) | (flags & settable);
        if new != old {
            host::ask("fcntl_setfl", format_args!("{} {new:?}", self.name()), || {
                rustix::fs::fcntl_setfl(self.fd(), new)
            })?;
        }
        self.set_nonblocking(flags.contains(OFlags::NONBLOCK));
        Ok(())
    }

    /// Whether writes go to the end of the file.
    pub(crate) fn appends(&self) -> Result<bool, Errno> {
        Ok(self.object().is_none() && self.status_flags()?.contains(OFlags::APPEND))
    }

    /// The smallest part of a write that comes to be if the rest cannot be read from user memory.
    pub(crate) fn grain(&self) -> usize {
        match self.kind {
            Kind::Event(_) => 8,
            _ if self.may_block => pipe::PIPE_BUF,
            _ => 1,
        }
    }

    /// Waits at most `limit` for the file; returns whether it is ready (or has failed, which a try will tell).
    pub fn poll(&self, wait: Wait, limit: Duration) -> bool {
        let t =
            rustix::event::Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos() as i64 };
        !host::poll(
            format_args!("{} {:?}", self.name(), wait.events()),
            &[(self.fd(), wait.events())],
            Some(&t),
        )
        .is_ok_and(|e| e[0].is_empty())
    }

    fn ready(&self, wait: Wait) -> Try<()> {
        if !self.may_block || self.poll(wait, Duration::ZERO) {
            return Ok(Ok(()));
        }
        if self.nonblocking() {
            return Err(Errno::EAGAIN);
        }
        Ok(Err(wait))
    }

    /// What a read says that has no room for a single byte: nothing is taken.
    fn no_room(&self) -> Result<usize, Errno> {
        host::fill("read", self.name(), &mut [], |b| rustix::io::read(self.fd(), b))?;
        let at = host::ask("tell", self.name(), || rustix::fs::tell(self.fd())).unwrap_or(0);
        let more = match host::fill("pread", self.from(at), &mut [0], |b| rustix::io::pread(self.fd(), b, at))
        {
            Err(rustix::io::Errno::SPIPE) => {
                host::ask("ioctl_fionread", self.name(), || rustix::io::ioctl_fionread(self.fd()))
                    .unwrap_or(1)
            }
            r => r? as u64,
        };
        if more == 0 { Ok(0) } else { Err(Errno::EFAULT) }
    }

    /// Reads at the file position, at most `wanted` bytes, of which `buf` is what the reader has room for.
    pub fn try_read(&self, buf: &mut [u8], wanted: usize) -> Try<usize> {
        let counter = match &self.kind {
            Kind::Pipe(p) => return self.or_wait(p.read(buf, wanted)?, Wait::Readable),
            Kind::Epoll(_) => return Err(Errno::EINVAL),
            Kind::Event(_) | Kind::Timer(_) if buf.len() < 8 => return Err(Errno::EINVAL),
            Kind::Event(e) => e.read(),
            Kind::Timer(t) => t.read(),
            Kind::Plain | Kind::Proc | Kind::Listing(_) => {
                return Ok(match self.ready(Wait::Readable)? {
                    Ok(()) if buf.is_empty() && wanted != 0 => Ok(self.no_room()?),
                    Ok(()) => Ok(host::fill("read", self.name(), buf, |b| rustix::io::read(self.fd(), b))?),
                    Err(w) => Err(w),
                });
            }
        };
        if let Some(v) = counter {
            buf[..8].copy_from_slice(&v.to_be_bytes());
        }
        self.or_wait(counter.map(|_| 8), Wait::Readable)
    }

    /// Writes at the file position, perhaps only a part; to a pipe all or nothing if `whole`.
    pub fn try_write(&self, buf: &[u8], whole: bool) -> Try<usize> {
        match &self.kind {
            Kind::Pipe(p) => {
                let wait = if whole { Wait::Room(buf.len()) } else { Wait::Writable };
                self.or_wait(p.write(buf, whole)?, wait)
            }
            Kind::Event(e) => {
                let b = buf.get(..8).and_then(|b| b.try_into().ok()).ok_or(Errno::EINVAL)?;
                let v = u64::from_be_bytes(b);
                self.or_wait(e.write(v)?.map(|()| 8), Wait::Add(v))
            }
            Kind::Timer(_) | Kind::Epoll(_) => Err(Errno::EINVAL),
            Kind::Plain | Kind::Proc | Kind::Listing(_) => {
                let part = if self.may_block { &buf[..buf.len().min(PIPE_CHUNK)] } else { buf };
                Ok(match self.ready(Wait::Writable)? {
                    Ok(()) => Ok(host::write(self, part)?),
                    Err(w) => Err(w),
                })
            }
        }
    }
}

#[derive(Clone)]
struct Slot {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

/// The descriptor table of a process.
pub struct Files {
    // A host lock: never held across a scheduling point.
    table: Mutex<Vec<Option<Slot>>>,
    limit: usize,
}

impl Files {
    /// Standard input, output and error.
    pub fn standard(limit: usize) -> Self {
        let slots = OpenFile::standard().map(|file| Some(Slot { file, close_on_exec: false }));
        Files { table: Mutex::new(slots.to_vec()), limit }
    }

    /// Descriptors are below this.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn table(&self) -> MutexGuard<'_, Vec<Option<Slot>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a descriptor.
    pub fn get(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        let t = self.table();
        usize::try_from(fd)
            .ok()
            .and_then(|i| t.get(i))
            .and_then(|s| s.as_ref())
            .map(|s| s.file.clone())
            .ok_or(Errno::EBADF)
    }

    /// Enters a file at the lowest free descriptor from `from` on.
    pub fn insert(&self, file: Arc<OpenFile>, close_on_exec: bool, from: usize) -> Result<u64, Errno> {
        let mut t = self.table();
        let i = (from..).find(|&i| t.get(i).is_none_or(|s| s.is_none())).unwrap_or(self.limit);
        if i >= self.limit {
            return Err(Errno::EMFILE);
        }
        if t.len() <= i {
            t.resize(i + 1, None);
        }
        t[i] = Some(Slot { file, close_on_exec });
        Ok(i as u64)
    }

    /// Enters a file at exactly `fd`, closing what was there.
    pub fn replace(&self, fd: i32, file: Arc<OpenFile>, close_on_exec: bool) -> Result<u64, Errno> {
        let i = usize::try_from(fd).ok().filter(|&i| i < self.limit).ok_or(Errno::EBADF)?;
        let mut t = self.table();
        if t.len() <= i {
            t.resize(i + 1, None);
        }
        t[i] = Some(Slot { file, close_on_exec });
        Ok(i as u64)
    }

    /// Closes a descriptor.
    pub fn close(&self, fd: i32) -> Result<(), Errno> {
        let mut t = self.table();
        let slot = usize::try_from(fd).ok().and_then(|i| t.get_mut(i)).ok_or(Errno::EBADF)?;
        slot.take().map(drop).ok_or(Errno::EBADF)
    }

    /// All descriptors.
    pub fn numbers(&self) -> Vec<usize> {
        let t = self.table();
        (0..t.len()).filter(|&i| t[i].is_some()).collect()
    }

    /// Whether a descriptor is closed by execve.
    pub fn close_on_exec(&self, fd: i32) -> Result<bool, Errno> {
        let t = self.table();
        usize::try_from(fd)
            .ok()
            .and_then(|i| t.get(i))
            .and_then(|s| s.as_ref())
            .map(|s| s.close_on_exec)
            .ok_or(Errno::EBADF)
    }

    /// Says whether a descriptor is closed by execve.
    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<(), Errno> {
        let mut t = self.table();
        let slot = usize::try_from(fd).ok().and_then(|i| t.get_mut(i)).and_then(|s| s.as_mut());
        slot.map(|s| s.close_on_exec = on).ok_or(Errno::EBADF)
    }
}
