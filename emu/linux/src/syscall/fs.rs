//! Files.

use super::{Args, Handler, Record};
use crate::errno::{Errno, SysResult};
use crate::file::OpenFile;
use crate::task::Task;
use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, Stat};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes moved between guest and host at a time.
const CHUNK: usize = 64 << 10;
/// Most vectors of readv and writev (UIO_MAXIOV).
const MAX_IOV: u64 = 1024;
/// Linux moves at most this much in one call.
const MAX_RW: u64 = 0x7fff_f000;
const AT_FDCWD: i32 = -100;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "read" => |t, a| read(t, a[0] as i32, a[1], a[2]),
        "write" => |t, a| write(t, a[0] as i32, a[1], a[2]),
        "readv" => |t, a| vectors(t, a[0] as i32, a[1], a[2], read),
        "writev" => |t, a| vectors(t, a[0] as i32, a[1], a[2], write),
        "pread64" => pread,
        "pwrite64" => pwrite,
        "open" => |t, a| open_at(t, AT_FDCWD, a[0], a[1], a[2]),
        "openat" => |t, a| open_at(t, a[0] as i32, a[1], a[2], a[3]),
        "creat" => |t, a| open_at(t, AT_FDCWD, a[0], 0o1101, a[1]),
        "close" => |t, a| t.sys.files.close(a[0] as i32).map(|()| 0),
        "lseek" => lseek,
        "fstat" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            put_stat(t, a[1], &rustix::fs::fstat(f.fd())?)
        },
        "stat" => |t, a| stat_at(t, AT_FDCWD, a[0], a[1], 0),
        "lstat" => |t, a| stat_at(t, AT_FDCWD, a[0], a[1], 0x100),
        "newfstatat" => |t, a| stat_at(t, a[0] as i32, a[1], a[2], a[3]),
        "ioctl" => ioctl,
        "fcntl" => fcntl,
        "dup" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            t.sys.files.insert(f, false, 0)
        },
        "dup2" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            if a[0] as i32 == a[1] as i32 { Ok(a[1]) } else { t.sys.files.replace(a[1] as i32, f, false) }
        },
        "dup3" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            if a[0] as i32 == a[1] as i32 || a[2] & !0x80000 != 0 {
                return Err(Errno::EINVAL);
            }
            t.sys.files.replace(a[1] as i32, f, a[2] & 0x80000 != 0)
        },
        "pipe" => |t, a| pipe(t, a[0], 0),
        "pipe2" => |t, a| pipe(t, a[0], a[1]),
        "access" => |t, a| access(t, AT_FDCWD, a[0], a[1]),
        "faccessat" | "faccessat2" => |t, a| access(t, a[0] as i32, a[1], a[2]),
        "readlink" => |t, a| readlink(t, AT_FDCWD, a[0], a[1], a[2]),
        "readlinkat" => |t, a| readlink(t, a[0] as i32, a[1], a[2], a[3]),
        "getcwd" => getcwd,
        "umask" => |t, a| Ok(t.sys.umask.swap(a[0] as u32 & 0o777, Ordering::SeqCst) as u64),
        _ => return None,
    })
}

fn read(t: &mut Task, fd: i32, addr: u64, n: u64) -> SysResult {
    let f = t.sys.files.get(fd)?;
    let n = n.min(MAX_RW);
    let mut done = 0;
    while done < n {
        let mut buf = vec![0; CHUNK.min((n - done) as usize)];
        match f.try_read(&mut buf) {
            Ok(Ok(k)) => {
                t.copy_out(addr.wrapping_add(done), &buf[..k])?;
                done += k as u64;
                if k < buf.len() {
                    break;
                }
            }
            // Something was read already: that is the answer.
            Ok(Err(_)) | Err(_) if done > 0 => break,
            Ok(Err(w)) => t.wait_file(&f, w)?,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn write(t: &mut Task, fd: i32, addr: u64, n: u64) -> SysResult {
    let f = t.sys.files.get(fd)?;
    let n = n.min(MAX_RW);
    let mut done = 0;
    while done < n {
        let mut buf = vec![0; CHUNK.min((n - done) as usize)];
        if let Err(e) = t.copy_in(addr.wrapping_add(done), &mut buf) {
            return if done > 0 { Ok(done) } else { Err(e) };
        }
        let mut at = 0;
        while at < buf.len() {
            match f.try_write(&buf[at..]) {
                Ok(Ok(0)) => return Ok(done),
                Ok(Ok(k)) => {
                    at += k;
                    done += k as u64;
                }
                Ok(Err(w)) => {
                    if let Err(e) = t.wait_file(&f, w) {
                        return if done > 0 { Ok(done) } else { Err(e) };
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(Errno::EPIPE) => {
                    super::signal::send_self(t, crate::signal::SIGPIPE)?;
                    return Err(Errno::EPIPE);
                }
                Err(e) => return Err(e),
            }
        }
    }
    if n == 0 {
        f.try_write(&[])?.ok();
    }
    Ok(done)
}

fn vectors(
    t: &mut Task,
    fd: i32,
    iov: u64,
    count: u64,
    f: fn(&mut Task, i32, u64, u64) -> SysResult,
) -> SysResult {
    if count > MAX_IOV {
        return Err(Errno::EINVAL);
    }
    t.sys.files.get(fd)?;
    let mut list = Vec::new();
    for i in 0..count {
        let at = iov.wrapping_add(i * 16);
        let (base, len) = (t.get_u64(at)?, t.get_u64(at.wrapping_add(8))?);
        if len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        list.push((base, len));
    }
    let mut done = 0;
    for (base, len) in list.into_iter().filter(|v| v.1 != 0) {
        match f(t, fd, base, len) {
            Ok(k) => {
                done += k;
                if k < len {
                    break;
                }
            }
            Err(e) => return if done > 0 { Ok(done) } else { Err(e) },
        }
    }
    Ok(done)
}

fn pread(t: &mut Task, a: Args) -> SysResult {
    let f = t.sys.files.get(a[0] as i32)?;
    if (a[3] as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    let n = a[2].min(MAX_RW);
    while done < n {
        let mut buf = vec![0; CHUNK.min((n - done) as usize)];
        let k = rustix::io::pread(f.fd(), &mut buf[..], a[3] + done)?;
        t.copy_out(a[1].wrapping_add(done), &buf[..k])?;
        done += k as u64;
        if k < buf.len() {
            break;
        }
    }
    Ok(done)
}

fn pwrite(t: &mut Task, a: Args) -> SysResult {
    let f = t.sys.files.get(a[0] as i32)?;
    if (a[3] as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    let n = a[2].min(MAX_RW);
    while done < n {
        let mut buf = vec![0; CHUNK.min((n - done) as usize)];
        t.copy_in(a[1].wrapping_add(done), &mut buf)?;
        let k = rustix::io::pwrite(f.fd(), &buf, a[3] + done)? as u64;
        done += k;
        if k < buf.len() as u64 {
            break;
        }
    }
    Ok(done)
}

/// A path argument; `/proc/self/exe` and its like are the guest's own.
fn path(t: &Task, addr: u64) -> Result<PathBuf, Errno> {
    let s = t.get_str(addr)?;
    Ok(PathBuf::from(OsString::from_vec(s)))
}

/// Paths under /proc tell about the emulator, not about the guest: only the ones that racewalk answers itself may
/// be used.
fn guest_path(t: &Task, p: PathBuf) -> Result<PathBuf, Errno> {
    let own = format!("/proc/{}/", crate::system::FIRST_PID);
    let s = p.as_os_str().as_bytes();
    let tail = s.strip_prefix(b"/proc/self/").or_else(|| s.strip_prefix(own.as_bytes()));
    match tail {
        Some(b"exe") => Ok(t.sys.program.clone()),
        Some(rest) => {
            let rest = String::from_utf8_lossy(rest).into_owned();
            t.sys.warn_once(format!("not modelled: /proc/self/{rest}: ENOENT"));
            Err(Errno::ENOENT)
        }
        None => Ok(p),
    }
}

fn directory(t: &Task, fd: i32) -> Result<Option<Arc<OpenFile>>, Errno> {
    if fd == AT_FDCWD { Ok(None) } else { t.sys.files.get(fd).map(Some) }
}

fn open_at(t: &mut Task, dir: i32, addr: u64, flags: u64, mode: u64) -> SysResult {
    let p = guest_path(t, path(t, addr)?)?;
    let dir = directory(t, dir)?;
    // The generic flag values are the host's too, except that O_LARGEFILE is always on.
    let host = OFlags::from_bits_retain(flags as u32) | OFlags::CLOEXEC;
    let mode = Mode::from_bits_truncate(mode as u32 & !t.sys.umask.load(Ordering::SeqCst));
    let fd = match &dir {
        Some(d) => rustix::fs::openat(d.fd(), &p, host, mode)?,
        None => rustix::fs::openat(rustix::fs::CWD, &p, host, mode)?,
    };
    let file = OpenFile::owned(fd, p, host.contains(OFlags::NONBLOCK));
    t.sys.files.insert(file, flags & 0x80000 != 0, 0)
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
    Ok(rustix::fs::seek(f.fd(), to)?)
}

fn stat_at(t: &mut Task, dir: i32, addr: u64, out: u64, flags: u64) -> SysResult {
    let p = path(t, addr)?;
    let s = if p.as_os_str().is_empty() && flags & 0x1000 != 0 {
        match directory(t, dir)? {
            Some(f) => rustix::fs::fstat(f.fd())?,
            None => rustix::fs::stat(".")?,
        }
    } else {
        let p = guest_path(t, p)?;
        let flags = AtFlags::from_bits_truncate(flags as u32);
        match directory(t, dir)? {
            Some(d) => rustix::fs::statat(d.fd(), &p, flags)?,
            None => rustix::fs::statat(rustix::fs::CWD, &p, flags)?,
        }
    };
    put_stat(t, out, &s)
}

/// `struct stat` of s390x: 144 bytes, st_blksize behind the times (reference: abi-measured).
fn put_stat(t: &Task, addr: u64, s: &Stat) -> SysResult {
    let mut r = Record::new(144);
    r.u64(0, s.st_dev).u64(8, s.st_ino).u64(16, s.st_nlink).u32(24, s.st_mode);
    r.u32(28, s.st_uid).u32(32, s.st_gid).u64(40, s.st_rdev).u64(48, s.st_size as u64);
    r.u64(56, s.st_atime as u64).u64(64, s.st_atime_nsec);
    r.u64(72, s.st_mtime as u64).u64(80, s.st_mtime_nsec);
    r.u64(88, s.st_ctime as u64).u64(96, s.st_ctime_nsec);
    r.u64(104, s.st_blksize as u64).u64(112, s.st_blocks as u64);
    r.put(t, addr)?;
    Ok(0)
}

const TCGETS: u64 = 0x5401;
const TIOCGWINSZ: u64 = 0x5413;
const FIONREAD: u64 = 0x541b;

fn ioctl(t: &mut Task, a: Args) -> SysResult {
    let f = t.sys.files.get(a[0] as i32)?;
    match a[1] {
        TCGETS => {
            let m = rustix::termios::tcgetattr(f.fd())?;
            // struct termios: four words of flags, the line discipline, 19 control characters.
            let mut r = Record::new(36);
            r.u32(0, m.input_modes.bits()).u32(4, m.output_modes.bits());
            r.u32(8, m.control_modes.bits()).u32(12, m.local_modes.bits());
            r.put(t, a[2])?;
            Ok(0)
        }
        TIOCGWINSZ => {
            let w = rustix::termios::tcgetwinsize(f.fd())?;
            let mut r = Record::new(8);
            r.u16(0, w.ws_row).u16(2, w.ws_col).u16(4, w.ws_xpixel).u16(6, w.ws_ypixel);
            r.put(t, a[2])?;
            Ok(0)
        }
        FIONREAD => {
            let n = rustix::io::ioctl_fionread(f.fd())?;
            t.put_u32(a[2], n as u32)?;
            Ok(0)
        }
        n => {
            t.sys.warn_once(format!("not modelled: ioctl {n:#x}: ENOTTY"));
            Err(Errno::ENOTTY)
        }
    }
}

fn fcntl(t: &mut Task, a: Args) -> SysResult {
    let fd = a[0] as i32;
    let f = t.sys.files.get(fd)?;
    const O_NONBLOCK: u64 = 0x800;
    match a[1] {
        0 => t.sys.files.insert(f, false, a[2] as usize),
        1030 => t.sys.files.insert(f, true, a[2] as usize),
        1 => Ok(t.sys.files.close_on_exec(fd)? as u64),
        2 => t.sys.files.set_close_on_exec(fd, a[2] & 1 != 0).map(|()| 0),
        3 => {
            let host = f.status_flags()?.bits() as u64 & !O_NONBLOCK;
            Ok(host | if f.nonblocking() { O_NONBLOCK } else { 0 })
        }
        4 => {
            f.set_nonblocking(a[2] & O_NONBLOCK != 0);
            Ok(0)
        }
        n => {
            t.sys.warn_once(format!("not modelled: fcntl {n}: EINVAL"));
            Err(Errno::EINVAL)
        }
    }
}

fn pipe(t: &mut Task, addr: u64, flags: u64) -> SysResult {
    if flags & !0x80800 != 0 {
        return Err(Errno::EINVAL);
    }
    let (r, w) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let nonblock = flags & 0x800 != 0;
    let cloexec = flags & 0x80000 != 0;
    let r = t.sys.files.insert(OpenFile::owned(r, "pipe:".into(), nonblock), cloexec, 0)?;
    let w = match t.sys.files.insert(OpenFile::owned(w, "pipe:".into(), nonblock), cloexec, 0) {
        Ok(w) => w,
        Err(e) => {
            t.sys.files.close(r as i32)?;
            return Err(e);
        }
    };
    let put = t.put_u32(addr, r as u32).and_then(|()| t.put_u32(addr.wrapping_add(4), w as u32));
    if let Err(e) = put {
        t.sys.files.close(r as i32)?;
        t.sys.files.close(w as i32)?;
        return Err(e);
    }
    Ok(0)
}

fn access(t: &mut Task, dir: i32, addr: u64, mode: u64) -> SysResult {
    let p = guest_path(t, path(t, addr)?)?;
    let mode = rustix::fs::Access::from_bits(mode as u32).ok_or(Errno::EINVAL)?;
    match directory(t, dir)? {
        Some(d) => rustix::fs::accessat(d.fd(), &p, mode, AtFlags::empty())?,
        None => rustix::fs::accessat(rustix::fs::CWD, &p, mode, AtFlags::empty())?,
    }
    Ok(0)
}

fn readlink(t: &mut Task, dir: i32, addr: u64, buf: u64, size: u64) -> SysResult {
    let p = path(t, addr)?;
    if (size as i64) <= 0 {
        return Err(Errno::EINVAL);
    }
    let own = format!("/proc/{}/exe", crate::system::FIRST_PID);
    let target = if p.as_os_str() == "/proc/self/exe" || p.as_os_str() == own.as_str() {
        t.sys.program.as_os_str().as_bytes().to_vec()
    } else {
        let p = guest_path(t, p)?;
        match directory(t, dir)? {
            Some(d) => rustix::fs::readlinkat(d.fd(), &p, Vec::new())?,
            None => rustix::fs::readlink(&p, Vec::new())?,
        }
        .into_bytes()
    };
    let n = target.len().min(size as usize);
    t.copy_out(buf, &target[..n])?;
    Ok(n as u64)
}

fn getcwd(t: &mut Task, a: Args) -> SysResult {
    let mut s = std::env::current_dir()?.into_os_string().into_vec();
    s.push(0);
    if s.len() as u64 > a[1] {
        return Err(Errno::ERANGE);
    }
    t.copy_out(a[0], &s)?;
    Ok(s.len() as u64)
}
