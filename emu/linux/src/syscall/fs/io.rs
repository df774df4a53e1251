//! Reading and writing.

use super::{Args, Handler};
use crate::errno::{Errno, SysResult};
use crate::file::{Kind, OpenFile};
use crate::host;
use crate::object::pipe::PIPE_BUF;
use crate::task::Task;
use rustix::fs::{FallocateFlags, SeekFrom};
use std::sync::Arc;

/// Bytes moved between guest and host at a time.
const CHUNK: usize = 64 << 10;
/// Most vectors of readv and writev (UIO_MAXIOV).
const MAX_IOV: u64 = 1024;
/// Linux moves at most this much in one call.
const MAX_RW: u64 = 0x7fff_f000;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "read" => |t, a| read(t, a[0] as i32, a[1], a[2]),
        "write" => |t, a| write(t, a[0] as i32, a[1], a[2]),
        "readv" => readv,
        "writev" => writev,
        "pread64" => |t, a| {
            let f = positioned(t, a[0], a[3])?;
            pread(t, &f, a[1], a[2], a[3])
        },
        "pwrite64" => |t, a| {
            let f = positioned(t, a[0], a[3])?;
            pwrite(t, &f, a[1], a[2], a[3])
        },
        "preadv" => |t, a| vectors_at(t, a, pread),
        "pwritev" => |t, a| vectors_at(t, a, pwrite),
        // Offset -1 is the file position. Flags are not looked at.
        "preadv2" => |t, a| match a[3] {
            u64::MAX => readv(t, a),
            _ => vectors_at(t, a, pread),
        },
        "pwritev2" => |t, a| match a[3] {
            u64::MAX => writev(t, a),
            _ => vectors_at(t, a, pwrite),
        },
        "lseek" => lseek,
        "ftruncate" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            truncate(t, &f, a[1])
        },
        "truncate" => |t, a| {
            let at = super::at(t, super::AT_FDCWD, a[0])?;
            let flags =
                rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
            let fd = host::ask("openat", &at, || {
                rustix::fs::openat(&at, &at.path, flags, rustix::fs::Mode::empty())
            })?;
            truncate(t, &OpenFile::owned(fd, at.path, false), a[1])
        },
        "fallocate" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            t.sys.before_read(&f);
            if (a[2] as i64) < 0 || (a[3] as i64) <= 0 {
                return Err(Errno::EINVAL);
            }
            host::ask("fallocate", format_args!("{} {:#x} {} {}", f.name(), a[1], a[2], a[3]), || {
                rustix::fs::fallocate(f.fd(), FallocateFlags::from_bits_retain(a[1] as u32), a[2], a[3])
            })?;
            Ok(0)
        },
        "fsync" | "fdatasync" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            t.sys.before_read(&f);
            host::ask("fsync", f.name(), || rustix::fs::fsync(f.fd()))?;
            Ok(0)
        },
        "sync" | "syncfs" => |t, _| {
            t.sys.sync_files();
            host::ask_simply("sync", "", rustix::fs::sync);
            Ok(0)
        },
        "readahead" | "fadvise64" | "sync_file_range" => |t, a| t.sys.files.get(a[0] as i32).map(|_| 0),
        "sendfile" => sendfile,
        "copy_file_range" => copy_file_range,
        _ => return None,
    })
}

/// The size of a read or write. s390x has no `access_ok`: a size that is negative is EINVAL.
fn size(n: u64) -> SysResult {
    if (n as i64) < 0 { Err(Errno::EINVAL) } else { Ok(n.min(MAX_RW)) }
}

/// An error behind something that was done already is not told.
fn partly(done: u64, e: Errno) -> SysResult {
    if done > 0 { Ok(done) } else { Err(e) }
}

/// Copies what a write to `f` takes from user memory, at most `n` bytes.
fn some(t: &Task, f: &OpenFile, addr: u64, n: usize) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0; n];
    let k = match t.copy_in_some(addr, &mut buf) {
        k if k < n => k / f.grain() * f.grain(),
        k => k,
    };
    buf.truncate(k);
    if k == 0 { Err(Errno::EFAULT) } else { Ok(buf) }
}

fn read(t: &mut Task, fd: i32, addr: u64, n: u64) -> SysResult {
    read_more(t, fd, addr, n, 0)
}

/// A read behind `before` bytes of the same call: with any, it does not wait.
fn read_more(t: &mut Task, fd: i32, addr: u64, n: u64, before: u64) -> SysResult {
    let f = t.sys.files.get(fd)?;
    t.sys.before_read(&f);
    let n = size(n)?;
    let mut done = 0;
    while done < n {
        let wanted = CHUNK.min((n - done) as usize);
        let at = addr.wrapping_add(done);
        // As in Linux, a counter that cannot be stored is lost.
        let room =
            if matches!(f.kind, Kind::Event(_) | Kind::Timer(_)) { wanted } else { t.room(at, wanted) };
        let mut buf = vec![0; room];
        match f.try_read(&mut buf, wanted) {
            Ok(Ok(k)) => {
                // Another task may have taken the memory away meanwhile.
                let stored = t.copy_out_some(at, &buf[..k]);
                if stored < k {
                    return partly(done + stored as u64, Errno::EFAULT);
                }
                done += k as u64;
                if k < wanted {
                    break;
                }
            }
            // Something was read already: that is the answer.
            Ok(Err(_)) | Err(_) if before + done > 0 => break,
            Ok(Err(w)) => t.wait_file(&f, w)?,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn write(t: &mut Task, fd: i32, addr: u64, n: u64) -> SysResult {
    let f = t.sys.files.get(fd)?;
    let n = size(n)?;
    let mut done = 0;
    while done < n {
        let wanted = CHUNK.min((n - done) as usize);
        let buf = match some(t, &f, addr.wrapping_add(done), wanted) {
            Ok(buf) => buf,
            Err(e) => return partly(done, e),
        };
        let mut at = 0;
        while at < buf.len() {
            match f.try_write(&buf[at..], n <= PIPE_BUF as u64) {
                Ok(Ok(0)) => return Ok(done),
                Ok(Ok(k)) => {
                    t.sys.after_write(&f, None, &buf[at..at + k]);
                    at += k;
                    done += k as u64;
                }
                Ok(Err(w)) => {
                    if let Err(e) = t.wait_file(&f, w) {
                        return partly(done, e);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(write_error(t, e)),
            }
        }
        if buf.len() < wanted {
            break;
        }
    }
    if n == 0 {
        f.try_write(&[], true)?.ok();
    }
    Ok(done)
}

/// The vectors that are not empty.
fn list(t: &Task, iov: u64, count: u64) -> Result<Vec<(u64, u64)>, Errno> {
    if count > MAX_IOV {
        return Err(Errno::EINVAL);
    }
    let mut list = Vec::new();
    for i in 0..count {
        let at = iov.wrapping_add(i * 16);
        let (base, len) = (t.get_u64(at)?, t.get_u64(at.wrapping_add(8))?);
        if len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        if len != 0 {
            list.push((base, len));
        }
    }
    Ok(list)
}

fn vectors(
    t: &mut Task,
    fd: i32,
    list: Vec<(u64, u64)>,
    f: fn(&mut Task, i32, u64, u64, u64) -> SysResult,
) -> SysResult {
    let mut done = 0;
    for (base, len) in list {
        match f(t, fd, base, len, done) {
            Ok(k) => {
                done += k;
                if k < len {
                    break;
                }
            }
            Err(e) => return partly(done, e),
        }
    }
    Ok(done)
}

fn readv(t: &mut Task, a: Args) -> SysResult {
    t.sys.files.get(a[0] as i32)?;
    let list = list(t, a[1], a[2])?;
    vectors(t, a[0] as i32, list, read_more)
}

fn writev(t: &mut Task, a: Args) -> SysResult {
    let f = t.sys.files.get(a[0] as i32)?;
    let list = list(t, a[1], a[2])?;
    let atomic = matches!(f.kind, Kind::Pipe(_))
        && list.iter().fold(0u64, |sum, l| sum.saturating_add(l.1)) <= PIPE_BUF as u64;
    if !atomic {
        return vectors(t, a[0] as i32, list, |t, fd, addr, n, _| write(t, fd, addr, n));
    }
    // Together they are one atomic write.
    let mut all = Vec::new();
    for (base, len) in list {
        let at = all.len();
        all.resize(at + len as usize, 0);
        t.copy_in(base, &mut all[at..])?;
    }
    loop {
        match f.try_write(&all, true) {
            Ok(Ok(n)) => return Ok(n as u64),
            Ok(Err(w)) => t.wait_file(&f, w)?,
            Err(e) => return Err(write_error(t, e)),
        }
    }
}

/// Nobody reads: the writer gets a signal as well.
fn write_error(t: &mut Task, e: Errno) -> Errno {
    if e == Errno::EPIPE
        && let Err(e) = crate::syscall::signal::send_self(t, crate::signal::SIGPIPE)
    {
        return e;
    }
    e
}

fn lseek(t: &mut Task, a: Args) -> SysResult {
    let f = t.sys.files.get(a[0] as i32)?;
    let off = a[1] as i64;
    let to = match a[2] {
        0 if off < 0 => return Err(Errno::EINVAL),
        0 => SeekFrom::Start(off as u64),
        1 => SeekFrom::Current(off),
        2 => SeekFrom::End(off),
        3 if off >= 0 => SeekFrom::Data(off as u64),
        4 if off >= 0 => SeekFrom::Hole(off as u64),
        _ => return Err(Errno::EINVAL),
    };
    Ok(host::ask("seek", format_args!("{} {to:?}", f.name()), || rustix::fs::seek(f.fd(), to))?)
}

/// The file of a call with an offset.
fn positioned(t: &Task, fd: u64, offset: u64) -> Result<Arc<OpenFile>, Errno> {
    let f = t.sys.files.get(fd as i32)?;
    if (offset as i64) < 0 { Err(Errno::EINVAL) } else { Ok(f) }
}

fn pread(t: &mut Task, f: &Arc<OpenFile>, addr: u64, n: u64, offset: u64) -> SysResult {
    t.sys.before_read(f);
    let mut done = 0;
    let n = size(n)?;
    while done < n {
        let mut buf = vec![0; CHUNK.min((n - done) as usize)];
        let k = host::fill("pread", f.from(offset + done), &mut buf, |b| {
            rustix::io::pread(f.fd(), b, offset + done)
        });
        let k = match k {
            Ok(k) => k,
            Err(e) => return partly(done, e.into()),
        };
        let stored = t.copy_out_some(addr.wrapping_add(done), &buf[..k]);
        if stored < k {
            return partly(done + stored as u64, Errno::EFAULT);
        }
        done += k as u64;
        if k < buf.len() {
            break;
        }
    }
    Ok(done)
}

fn pwrite(t: &mut Task, f: &Arc<OpenFile>, addr: u64, n: u64, offset: u64) -> SysResult {
    let mut done = 0;
    let n = size(n)?;
    while done < n {
        let wanted = CHUNK.min((n - done) as usize);
        let buf = match some(t, f, addr.wrapping_add(done), wanted) {
            Ok(buf) => buf,
            Err(e) => return partly(done, e),
        };
        let k = host::ask("pwrite", f.some(buf.len(), offset + done), || {
            rustix::io::pwrite(f.fd(), &buf, offset + done)
        });
        let k = match k {
            Ok(k) => k,
            Err(e) => return partly(done, e.into()),
        };
        t.sys.after_write(f, Some(offset + done), &buf[..k]);
        done += k as u64;
        if k < wanted {
            break;
        }
    }
    Ok(done)
}

fn vectors_at(
    t: &mut Task,
    a: Args,
    f: fn(&mut Task, &Arc<OpenFile>, u64, u64, u64) -> SysResult,
) -> SysResult {
    let file = positioned(t, a[0], a[3])?;
    let mut done = 0;
    for (base, len) in list(t, a[1], a[2])? {
        match f(t, &file, base, len, a[3] + done) {
            Ok(k) => {
                done += k;
                if k < len {
                    break;
                }
            }
            Err(e) => return partly(done, e),
        }
    }
    Ok(done)
}

fn truncate(t: &mut Task, f: &Arc<OpenFile>, size: u64) -> SysResult {
    if (size as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    t.sys.before_read(f);
    host::ask("ftruncate", format_args!("{} {size}", f.name()), || rustix::fs::ftruncate(f.fd(), size))?;
    t.sys.after_truncate(f, size)?;
    Ok(0)
}

/// Where to read, or write, in a file: at an offset of the caller's, at `addr`, or at the position, if it has one.
fn start(t: &Task, f: &OpenFile, addr: u64) -> Result<Option<u64>, Errno> {
    match addr {
        0 => Ok(host::ask("tell", f.name(), || rustix::fs::tell(f.fd())).ok()),
        _ => t.get_u64(addr).map(Some),
    }
}

/// Where that ended.
fn put_end(t: &Task, f: &OpenFile, addr: u64, at: Option<u64>) -> Result<(), Errno> {
    match (addr, at) {
        (_, None) => {}
        (0, Some(at)) => {
            let to = SeekFrom::Start(at);
            host::ask("seek", format_args!("{} {to:?}", f.name()), || rustix::fs::seek(f.fd(), to))?;
        }
        (_, Some(at)) => t.put_u64(addr, at)?,
    }
    Ok(())
}

fn sendfile(t: &mut Task, a: Args) -> SysResult {
    let (out, file) = (t.sys.files.get(a[0] as i32)?, t.sys.files.get(a[1] as i32)?);
    if file.object().is_some() {
        return Err(Errno::EINVAL);
    }
    if out.appends()? {
        return Err(Errno::EINVAL);
    }
    t.sys.before_read(&file);
    let mut at = start(t, &file, a[2])?;
    let mut done = 0;
    let n = a[3].min(MAX_RW);
    while done < n {
        let mut buf = vec![0; CHUNK.min((n - done) as usize)];
        let k = match at {
            Some(o) => host::fill("pread", file.from(o), &mut buf, |b| rustix::io::pread(file.fd(), b, o)),
            None => host::fill("read", file.name(), &mut buf, |b| rustix::io::read(file.fd(), b)),
        };
        let k = match k {
            Ok(k) => k,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        };
        let mut from = 0;
        let mut failed = None;
        while from < k && failed.is_none() {
            failed = match out.try_write(&buf[from..k], false) {
                Ok(Ok(m)) => {
                    t.sys.after_write(&out, None, &buf[from..from + m]);
                    from += m;
                    None
                }
                Ok(Err(w)) => t.wait_file(&out, w).err(),
                Err(e) => Some(write_error(t, e)),
            }
        }
        at = at.map(|o| o + from as u64);
        done += from as u64;
        match failed {
            Some(e) if done == 0 => return Err(e),
            None if k == buf.len() => {}
            _ => break,
        }
    }
    put_end(t, &file, a[2], at)?;
    Ok(done)
}

fn copy_file_range(t: &mut Task, a: Args) -> SysResult {
    let (from, to) = (t.sys.files.get(a[0] as i32)?, t.sys.files.get(a[2] as i32)?);
    if a[5] != 0 || from.object().is_some() || to.object().is_some() {
        return Err(Errno::EINVAL);
    }
    if to.appends()? {
        return Err(Errno::EBADF);
    }
    t.sys.before_read(&from);
    let (source, target) = (start(t, &from, a[1])?, start(t, &to, a[3])?);
    let mut buf = vec![0; CHUNK.min(a[4] as usize)];
    let k = match source {
        Some(o) => host::fill("pread", from.from(o), &mut buf, |b| rustix::io::pread(from.fd(), b, o))?,
        None => host::fill("read", from.name(), &mut buf, |b| rustix::io::read(from.fd(), b))?,
    };
    let k = match target {
        Some(o) => host::ask("pwrite", to.some(k, o), || rustix::io::pwrite(to.fd(), &buf[..k], o))?,
        None => host::write(&to, &buf[..k])?,
    };
    t.sys.after_write(&to, target, &buf[..k]);
    put_end(t, &from, a[1], source.map(|o| o + k as u64))?;
    put_end(t, &to, a[3], target.map(|o| o + k as u64))?;
    Ok(k as u64)
}
