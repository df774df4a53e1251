//! The one door to the host: every question whose answer a guest can come to see is asked here, so that a controlled run
//! can be recorded with its answers and repeated from them.
//!
//! Free runs just ask. In a controlled run that has a [`Tape`], all tasks are on one host thread, and answers are taken
//! down, or given, in the order in which they are asked for, each with what its question was about: words that are the same
//! in every run, so that a run under another schedule can find the answer. While a tape plays, the host is not asked at all:
//! descriptors stand for themselves, and only what the guest writes to standard output and error is written.

use crate::file::OpenFile;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, OFlags, Stat, StatFs, Statx};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

/// Answers of the host, in order.
pub trait Tape: Send + Sync {
    /// Whether answers are given rather than taken.
    fn plays(&self) -> bool;
    /// The answer to the next question, which is `call` with the arguments `about`. Nothing if the tape has another one, or
    /// none: the run is another than the recorded one, and ends.
    fn answer(&self, call: &'static str, about: &str) -> Option<Vec<u8>>;
    /// What the host answered.
    fn answered(&self, call: &'static str, about: &str, answer: &[u8]);
    /// Whether the run is to be cut short here: nobody waits for the host any more. See [`System::look_around`].
    ///
    /// [`System::look_around`]: crate::system::System::look_around
    fn ends(&self) -> bool;
}

/// A tape, if there is one.
#[derive(Clone, Default)]
pub struct Taped(pub Option<Arc<dyn Tape>>);

impl std::fmt::Debug for Taped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "on tape" } else { "not on tape" })
    }
}

thread_local! {
    static TAPE: RefCell<Option<Rc<Arc<dyn Tape>>>> = const { RefCell::new(None) };
}

/// While it lives, what this thread asks is on the tape.
pub(crate) struct Playing(());

impl Playing {
    pub fn new(tape: &Taped) -> Playing {
        TAPE.set(tape.0.clone().map(Rc::new));
        Playing(())
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        TAPE.set(None)
    }
}

fn tape() -> Option<Rc<Arc<dyn Tape>>> {
    TAPE.with_borrow(|t| t.clone())
}

/// Whether answers come from a tape: nothing outside is touched then.
pub(crate) fn replays() -> bool {
    tape().is_some_and(|t| t.plays())
}

/// Whether the run is to be cut short.
pub(crate) fn ends() -> bool {
    tape().is_some_and(|t| t.ends())
}

/// Something that the host answers with.
pub(crate) trait Answer: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(i: &mut &[u8]) -> Option<Self>;
}

fn take<'a>(i: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (a, b) = i.split_at_checked(n)?;
    *i = b;
    Some(a)
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl Answer for $t {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes())
            }
            fn get(i: &mut &[u8]) -> Option<Self> {
                Some(<$t>::from_le_bytes(take(i, size_of::<$t>())?.try_into().ok()?))
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i64, usize);

impl Answer for () {
    fn put(&self, _: &mut Vec<u8>) {}
    fn get(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

impl<T: Answer> Answer for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        self.iter().for_each(|x| x.put(out))
    }
    fn get(i: &mut &[u8]) -> Option<Self> {
        let n = usize::get(i)?;
        (0..n).map(|_| T::get(i)).collect()
    }
}

impl<A: Answer, B: Answer> Answer for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out)
    }
    fn get(i: &mut &[u8]) -> Option<Self> {
        Some((A::get(i)?, B::get(i)?))
    }
}

impl Answer for OwnedFd {
    fn put(&self, _: &mut Vec<u8>) {}
    /// A descriptor that stands for the recorded one: all that is asked of it is on the tape.
    fn get(_: &mut &[u8]) -> Option<Self> {
        rustix::fs::memfd_create("replayed", MemfdFlags::CLOEXEC).ok()
    }
}

impl Answer for OFlags {
    fn put(&self, out: &mut Vec<u8>) {
        self.bits().put(out)
    }
    fn get(i: &mut &[u8]) -> Option<Self> {
        Some(OFlags::from_bits_retain(u32::get(i)?))
    }
}

macro_rules! record {
    ($t:ty, $some:expr, $($f:ident: $as:ty),* $(,)?) => {
        impl Answer for $t {
            fn put(&self, out: &mut Vec<u8>) {
                $((self.$f as $as).put(out);)*
            }
            fn get(i: &mut &[u8]) -> Option<Self> {
                // One of the host's own, whose every field that a guest sees is then replaced.
                let mut s: $t = $some.ok()?;
                $(s.$f = <$as>::get(i)? as _;)*
                Some(s)
            }
        }
    };
}
record!(
    Stat, rustix::fs::stat("/"),
    st_dev: u64, st_ino: u64, st_nlink: u64, st_mode: u32, st_uid: u32, st_gid: u32, st_rdev: u64, st_size: i64,
    st_blksize: i64, st_blocks: i64, st_atime: i64, st_atime_nsec: u64, st_mtime: i64, st_mtime_nsec: u64,
    st_ctime: i64, st_ctime_nsec: u64,
);
record!(
    StatFs, rustix::fs::statfs("/"),
    f_type: i64, f_bsize: i64, f_blocks: u64, f_bfree: u64, f_bavail: u64, f_files: u64, f_ffree: u64, f_namelen: i64,
    f_frsize: i64, f_flags: i64,
);

impl Answer for Statx {
    fn put(&self, out: &mut Vec<u8>) {
        for v in [
            self.stx_mask,
            self.stx_blksize,
            self.stx_nlink,
            self.stx_uid,
            self.stx_gid,
            self.stx_mode as u32,
            self.stx_rdev_major,
            self.stx_rdev_minor,
            self.stx_dev_major,
            self.stx_dev_minor,
            self.stx_dio_mem_align,
            self.stx_dio_offset_align,
        ] {
            v.put(out)
        }
        let (attributes, mask) = (self.stx_attributes.bits(), self.stx_attributes_mask.bits());
        for v in [self.stx_ino, self.stx_size, self.stx_blocks, self.stx_mnt_id, attributes, mask] {
            v.put(out)
        }
        for t in [&self.stx_atime, &self.stx_btime, &self.stx_ctime, &self.stx_mtime] {
            t.tv_sec.put(out);
            t.tv_nsec.put(out)
        }
    }
    fn get(i: &mut &[u8]) -> Option<Self> {
        let root = c"/";
        let flags = rustix::fs::AtFlags::empty();
        let mut s = rustix::fs::statx(rustix::fs::CWD, root, flags, rustix::fs::StatxFlags::ALL).ok()?;
        s.stx_mask = u32::get(i)?;
        s.stx_blksize = u32::get(i)?;
        s.stx_nlink = u32::get(i)?;
        s.stx_uid = u32::get(i)?;
        s.stx_gid = u32::get(i)?;
        s.stx_mode = u32::get(i)? as u16;
        s.stx_rdev_major = u32::get(i)?;
        s.stx_rdev_minor = u32::get(i)?;
        s.stx_dev_major = u32::get(i)?;
        s.stx_dev_minor = u32::get(i)?;
        s.stx_dio_mem_align = u32::get(i)?;
        s.stx_dio_offset_align = u32::get(i)?;
        s.stx_ino = u64::get(i)?;
        s.stx_size = u64::get(i)?;
        s.stx_blocks = u64::get(i)?;
        s.stx_mnt_id = u64::get(i)?;
        s.stx_attributes = rustix::fs::StatxAttributes::from_bits_retain(u64::get(i)?);
        s.stx_attributes_mask = rustix::fs::StatxAttributes::from_bits_retain(u64::get(i)?);
        for t in [&mut s.stx_atime, &mut s.stx_btime, &mut s.stx_ctime, &mut s.stx_mtime] {
            t.tv_sec = i64::get(i)?;
            t.tv_nsec = u32::get(i)?
        }
        Some(s)
    }
}

/// Whether a question only looks: asked again, with nothing changed in between, the host answers the same.
pub fn looks(call: &str) -> bool {
    matches!(
        call,
        "pread"
            | "fstat"
            | "statat"
            | "statx"
            | "fstatfs"
            | "accessat"
            | "readlink"
            | "readlinkat"
            | "tell"
            | "getuid"
            | "geteuid"
            | "getgid"
            | "getegid"
            | "uname"
            | "fcntl_getfl"
            | "fcntl_getpipe_size"
            | "fcntl_get_seals"
            | "tcgetattr"
            | "tcgetwinsize"
    )
}

/// Asks the host, or the tape. `about` are the arguments, in words that do not depend on the host's descriptors, addresses or
/// times.
pub(crate) fn ask<T: Answer>(
    call: &'static str,
    about: impl Display,
    f: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let Some(t) = tape() else { return f() };
    let about = about.to_string();
    if t.plays() {
        let Some(bytes) = t.answer(call, &about) else { return Err(Errno::IO) };
        let mut i = &bytes[..];
        let given = match u8::get(&mut i) {
            Some(0) => T::get(&mut i).map(Ok),
            Some(1) => u32::get(&mut i).map(|e| Err(Errno::from_raw_os_error(e as i32))),
            _ => None,
        };
        return given.filter(|_| i.is_empty()).unwrap_or(Err(Errno::IO));
    }
    let r = f();
    let mut bytes = Vec::new();
    match &r {
        Ok(v) => {
            0u8.put(&mut bytes);
            v.put(&mut bytes)
        }
        Err(e) => {
            1u8.put(&mut bytes);
            (e.raw_os_error() as u32).put(&mut bytes)
        }
    }
    t.answered(call, &about, &bytes);
    r
}

/// Asks what cannot fail.
pub(crate) fn ask_simply<T: Answer + Default>(
    call: &'static str,
    about: impl Display,
    f: impl FnOnce() -> T,
) -> T {
    // A tape that has come to its end ends the run.
    ask(call, about, || Ok(f())).unwrap_or_default()
}

/// Asks the host to fill a part of `buf`. How much.
pub(crate) fn fill(
    call: &'static str,
    about: impl Display,
    buf: &mut [u8],
    f: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    if tape().is_none() {
        return f(buf);
    }
    let got = ask(call, format_args!("{about}, {} bytes", buf.len()), || {
        let n = f(buf)?;
        Ok(buf[..n].to_vec())
    })?;
    let n = got.len().min(buf.len());
    buf[..n].copy_from_slice(&got[..n]);
    Ok(n)
}

/// Writes to a file of the host. What goes to standard output or error is seen in a replay, too.
pub(crate) fn write(file: &OpenFile, bytes: &[u8]) -> Result<usize, Errno> {
    let fd = file.fd();
    let about = format_args!("{}, {} bytes", file.name(), bytes.len());
    let n = ask("write", about, || rustix::io::write(fd, bytes))?;
    if matches!(fd.as_raw_fd(), 1 | 2) && replays() {
        let mut left = &bytes[..n.min(bytes.len())];
        while let Ok(n @ 1..) = rustix::io::write(fd, left) {
            left = &left[n..]
        }
    }
    Ok(n)
}

/// Asks the host which of some files have which events, within a time.
pub(crate) fn poll(
    about: impl Display,
    files: &[(BorrowedFd<'_>, PollFlags)],
    limit: Option<&Timespec>,
) -> Result<Vec<PollFlags>, Errno> {
    let found: Vec<u16> = ask("poll", about, || {
        let mut list: Vec<_> = files.iter().map(|(f, e)| PollFd::from_borrowed_fd(*f, *e)).collect();
        rustix::event::poll(&mut list, limit)?;
        Ok(list.iter().map(|p| p.revents().bits()).collect())
    })?;
    Ok(found.into_iter().map(PollFlags::from_bits_retain).collect())
}

/// The name that the host gives an open file.
pub(crate) fn name_of(fd: impl AsFd, about: impl Display) -> Result<Vec<u8>, Errno> {
    ask("readlink", about, || {
        let path = crate::syscall::host_path(fd.as_fd());
        Ok(rustix::fs::readlink(path, Vec::new())?.into_bytes())
    })
}
