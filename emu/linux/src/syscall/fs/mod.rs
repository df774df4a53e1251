//! Files.

mod descriptor;
mod io;
mod path;
mod poll;
mod stat;

use super::{Args, Handler, Record};
use crate::errno::Errno;
use crate::file::OpenFile;
use crate::proc;
use crate::task::Task;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_EMPTY_PATH: u64 = 0x1000;
const O_NONBLOCK: u64 = 0x800;
const O_CLOEXEC: u64 = 0x80000;

pub(super) fn find(name: &str) -> Option<Handler> {
    io::find(name)
        .or_else(|| path::find(name))
        .or_else(|| stat::find(name))
        .or_else(|| descriptor::find(name))
        .or_else(|| poll::find(name))
}

enum Dir {
    Cwd(Arc<OwnedFd>),
    File(Arc<OpenFile>),
}

/// A path and the directory it counts from.
struct At {
    dir: Dir,
    path: PathBuf,
    /// A file of /proc that racewalk answers itself; `path` then leads to its host descriptor.
    own: Option<Arc<OpenFile>>,
}

impl AsFd for At {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.dir {
            Dir::Cwd(d) => d.as_fd(),
            Dir::File(f) => f.fd(),
        }
    }
}

/// What questions to the host call it.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.own, &self.dir) {
            (Some(own), _) => own.name().fmt(f),
            (None, Dir::File(d)) if self.path.is_relative() => {
                write!(f, "{}/{}", d.name(), self.path.display())
            }
            _ => self.path.display().fmt(f),
        }
    }
}

/// The directory of an *at call.
fn directory(t: &Task, fd: i32) -> Result<Dir, Errno> {
    if fd == AT_FDCWD { Ok(Dir::Cwd(t.sys.cwd())) } else { t.sys.files.get(fd).map(Dir::File) }
}

/// The path at `addr`, as the guest gave it.
fn path_at(t: &Task, addr: u64) -> Result<PathBuf, Errno> {
    Ok(PathBuf::from(OsString::from_vec(t.get_str(addr)?)))
}

/// The path at `addr`, counted from `dir`. What the guest sees of itself under /proc is the guest's, not racewalk's.
fn at(t: &Task, dir: i32, addr: u64) -> Result<At, Errno> {
    resolve(t, dir, path_at(t, addr)?)
}

fn resolve(t: &Task, dir: i32, path: PathBuf) -> Result<At, Errno> {
    if path.is_absolute() {
        // The descriptor is not looked at.
        let dir = Dir::Cwd(t.sys.cwd());
        return Ok(match proc::find(t, &path)? {
            proc::Found::Host => At { dir, path, own: None },
            proc::Found::Path(path) => At { dir, path, own: None },
            proc::Found::File(f) => At { dir, path: host_path(f.fd()), own: Some(f) },
        });
    }
    Ok(At { dir: directory(t, dir)?, path, own: None })
}

/// A host path that leads to an open host descriptor.
pub(crate) fn host_path(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
