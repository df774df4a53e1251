//! Calls that name files by path.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Args, At, Handler, O_CLOEXEC};
use super::{at, directory, path_at, resolve};
use crate::errno::{Errno, SysResult};
use crate::file::OpenFile;
use crate::host;
use crate::proc;
use crate::task::Task;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::Ordering;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "open" => |t, a| open(t, AT_FDCWD, a[0], a[1], a[2]),
        "openat" => |t, a| open(t, a[0] as i32, a[1], a[2], a[3]),
        "creat" => |t, a| open(t, AT_FDCWD, a[0], 0o1101, a[1]),
        "access" => |t, a| access(t, AT_FDCWD, a[0], a[1], 0),
        "faccessat" => |t, a| access(t, a[0] as i32, a[1], a[2], 0),
        "faccessat2" => |t, a| access(t, a[0] as i32, a[1], a[2], a[3]),
        "readlink" => |t, a| readlink(t, AT_FDCWD, a[0], a[1], a[2]),
        "readlinkat" => |t, a| readlink(t, a[0] as i32, a[1], a[2], a[3]),
        "mkdir" => |t, a| mkdir(t, AT_FDCWD, a[0], a[1]),
        "mkdirat" => |t, a| mkdir(t, a[0] as i32, a[1], a[2]),
        "mknod" => |t, a| mknod(t, AT_FDCWD, a[0], a[1], a[2]),
        "mknodat" => |t, a| mknod(t, a[0] as i32, a[1], a[2], a[3]),
        "rmdir" => |t, a| unlink(t, AT_FDCWD, a[0], AT_REMOVEDIR),
        "unlink" => |t, a| unlink(t, AT_FDCWD, a[0], 0),
        "unlinkat" => |t, a| unlink(t, a[0] as i32, a[1], a[2]),
        "rename" => |t, a| rename(t, [AT_FDCWD as u64, a[0], AT_FDCWD as u64, a[1], 0, 0]),
        "renameat" => |t, a| rename(t, [a[0], a[1], a[2], a[3], 0, 0]),
        "renameat2" => rename,
        "link" => |t, a| link(t, [AT_FDCWD as u64, a[0], AT_FDCWD as u64, a[1], 0, 0]),
        "linkat" => link,
        "symlink" => |t, a| symlink(t, a[0], AT_FDCWD, a[1]),
        "symlinkat" => |t, a| symlink(t, a[0], a[1] as i32, a[2]),
        "chmod" => |t, a| chmod(t, AT_FDCWD, a[0], a[1]),
        "fchmodat" => |t, a| chmod(t, a[0] as i32, a[1], a[2]),
        "fchmod" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            host::ask("fchmod", format_args!("{} {:#o}", f.name(), a[1]), || {
                rustix::fs::fchmod(f.fd(), Mode::from_bits_truncate(a[1] as u32))
            })?;
            Ok(0)
        },
        "chown" => |t, a| chown(t, [AT_FDCWD as u64, a[0], a[1], a[2], 0, 0]),
        "lchown" => |t, a| chown(t, [AT_FDCWD as u64, a[0], a[1], a[2], AT_SYMLINK_NOFOLLOW, 0]),
        "fchownat" => chown,
        "fchown" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            let (u, g) = owners(a[1], a[2]);
            host::ask("fchown", format_args!("{} {u:?} {g:?}", f.name()), || {
                rustix::fs::fchown(f.fd(), u, g)
            })?;
            Ok(0)
        },
        "utimensat" => utimensat,
        "utimes" => utimes,
        "chdir" => |t, a| {
            let p = at(t, AT_FDCWD, a[0])?;
            chdir(t, &p)
        },
        "fchdir" => |t, a| {
            let dir = directory(t, a[0] as i32)?;
            chdir(t, &At { dir, path: ".".into(), own: None })
        },
        "getcwd" => getcwd,
        "umask" => |t, a| Ok(t.sys.umask.swap(a[0] as u32 & 0o777, Ordering::SeqCst) as u64),
        _ => return None,
    })
}

const AT_REMOVEDIR: u64 = 0x200;

fn mode(t: &Task, bits: u64) -> Mode {
    Mode::from_bits_truncate(bits as u32 & !t.sys.umask.load(Ordering::SeqCst))
}

fn open(t: &mut Task, dir: i32, addr: u64, flags: u64, mode_bits: u64) -> SysResult {
    let given = path_at(t, addr)?;
    let p = resolve(t, dir, given.clone())?;
    let cloexec = flags & O_CLOEXEC != 0;
    // The generic flag values are the host's too, except that O_LARGEFILE is always on.
    let host = OFlags::from_bits_retain(flags as u32) | OFlags::CLOEXEC;
    if let Some(f) = p.own {
        return match flags & 3 {
            0 => t.sys.files.insert(f, cloexec, 0),
            _ => Err(Errno::EACCES),
        };
    }
    let fd = host::ask("openat", format_args!("{p} {flags:#x} {mode_bits:#o}"), || {
        rustix::fs::openat(&p, &p.path, host, mode(t, mode_bits))
    })?;
    let path = if given.is_absolute() { given } else { proc::name_of(&fd, p.to_string()).unwrap_or(given) };
    let file = OpenFile::owned(fd, path, host.contains(OFlags::NONBLOCK));
    if host.contains(OFlags::TRUNC) {
        t.sys.after_truncate(&file, 0)?;
    }
    t.sys.files.insert(file, cloexec, 0)
}

fn access(t: &mut Task, dir: i32, addr: u64, mode: u64, flags: u64) -> SysResult {
    let p = at(t, dir, addr)?;
    let mode = rustix::fs::Access::from_bits(mode as u32).ok_or(Errno::EINVAL)?;
    host::ask("accessat", format_args!("{p} {mode:?} {flags:#x}"), || {
        rustix::fs::accessat(&p, &p.path, mode, AtFlags::from_bits_retain(flags as u32))
    })?;
    Ok(0)
}

fn readlink(t: &mut Task, dir: i32, addr: u64, buf: u64, size: u64) -> SysResult {
    if (size as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    let given = path_at(t, addr)?;
    let target = match proc::link(t, &given)? {
        Some(target) => target.into_os_string().into_vec(),
        None => {
            let p = resolve(t, dir, given)?;
            if p.own.is_some() {
                return Err(Errno::EINVAL);
            }
            host::ask("readlinkat", &p, || Ok(rustix::fs::readlinkat(&p, &p.path, Vec::new())?.into_bytes()))?
        }
    };
    let n = target.len().min(size as usize);
    t.copy_out(buf, &target[..n])?;
    Ok(n as u64)
}

fn mkdir(t: &mut Task, dir: i32, addr: u64, bits: u64) -> SysResult {
    let p = at(t, dir, addr)?;
    host::ask("mkdirat", format_args!("{p} {bits:#o}"), || rustix::fs::mkdirat(&p, &p.path, mode(t, bits)))?;
    Ok(0)
}

fn mknod(t: &mut Task, dir: i32, addr: u64, bits: u64, dev: u64) -> SysResult {
    let p = at(t, dir, addr)?;
    let kind = match FileType::from_raw_mode(bits as u32) {
        FileType::Unknown if bits & 0o170000 == 0 => FileType::RegularFile,
        k => k,
    };
    host::ask("mknodat", format_args!("{p} {bits:#o} {dev:#x}"), || {
        rustix::fs::mknodat(&p, &p.path, kind, mode(t, bits), dev)
    })?;
    Ok(0)
}

fn unlink(t: &mut Task, dir: i32, addr: u64, flags: u64) -> SysResult {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let p = at(t, dir, addr)?;
    host::ask("unlinkat", format_args!("{p} {flags:#x}"), || {
        rustix::fs::unlinkat(&p, &p.path, AtFlags::from_bits_retain(flags as u32))
    })?;
    Ok(0)
}

fn rename(t: &mut Task, a: Args) -> SysResult {
    let (from, to) = (at(t, a[0] as i32, a[1])?, at(t, a[2] as i32, a[3])?);
    let flags = RenameFlags::from_bits_retain(a[4] as u32);
    host::ask("renameat_with", format_args!("{from} {to} {flags:?}"), || {
        rustix::fs::renameat_with(&from, &from.path, &to, &to.path, flags)
    })?;
    Ok(0)
}

fn link(t: &mut Task, a: Args) -> SysResult {
    let (from, to) = (at(t, a[0] as i32, a[1])?, at(t, a[2] as i32, a[3])?);
    host::ask("linkat", format_args!("{from} {to} {:#x}", a[4]), || {
        rustix::fs::linkat(&from, &from.path, &to, &to.path, AtFlags::from_bits_retain(a[4] as u32))
    })?;
    Ok(0)
}

fn symlink(t: &mut Task, target: u64, dir: i32, addr: u64) -> SysResult {
    let target = path_at(t, target)?;
    let p = at(t, dir, addr)?;
    host::ask("symlinkat", format_args!("{} {p}", target.display()), || {
        rustix::fs::symlinkat(&target, &p, &p.path)
    })?;
    Ok(0)
}

fn chmod(t: &mut Task, dir: i32, addr: u64, bits: u64) -> SysResult {
    let p = at(t, dir, addr)?;
    host::ask("chmodat", format_args!("{p} {bits:#o}"), || {
        rustix::fs::chmodat(&p, &p.path, Mode::from_bits_truncate(bits as u32), AtFlags::empty())
    })?;
    Ok(0)
}

/// -1 leaves an owner as it is.
fn owners(user: u64, group: u64) -> (Option<Uid>, Option<Gid>) {
    let given = |v: u64| Some(v as u32).filter(|&v| v != u32::MAX);
    (given(user).map(Uid::from_raw), given(group).map(Gid::from_raw))
}

fn chown(t: &mut Task, a: Args) -> SysResult {
    let p = at(t, a[0] as i32, a[1])?;
    let (u, g) = owners(a[2], a[3]);
    host::ask("chownat", format_args!("{p} {u:?} {g:?} {:#x}", a[4]), || {
        rustix::fs::chownat(&p, &p.path, u, g, AtFlags::from_bits_retain(a[4] as u32))
    })?;
    Ok(0)
}

const UTIME_NOW: i64 = 0x3fff_ffff;

fn utimensat(t: &mut Task, a: Args) -> SysResult {
    let read = |at: u64| -> Result<Timespec, Errno> {
        if a[2] == 0 {
            return Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW });
        }
        let at = a[2].wrapping_add(at);
        Ok(Timespec { tv_sec: t.get_u64(at)? as i64, tv_nsec: t.get_u64(at.wrapping_add(8))? as i64 })
    };
    let times = Timestamps { last_access: read(0)?, last_modification: read(16)? };
    if a[1] == 0 || a[3] & AT_EMPTY_PATH != 0 && t.get_str(a[1])?.is_empty() {
        let f = t.sys.files.get(a[0] as i32)?;
        host::ask("futimens", format_args!("{} {times:?}", f.name()), || {
            rustix::fs::futimens(f.fd(), &times)
        })?;
        return Ok(0);
    }
    let p = at(t, a[0] as i32, a[1])?;
    host::ask("utimensat", format_args!("{p} {times:?} {:#x}", a[3]), || {
        rustix::fs::utimensat(&p, &p.path, &times, AtFlags::from_bits_retain(a[3] as u32))
    })?;
    Ok(0)
}

fn utimes(t: &mut Task, a: Args) -> SysResult {
    let read = |at: u64| -> Result<Timespec, Errno> {
        if a[1] == 0 {
            return Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW });
        }
        let at = a[1].wrapping_add(at);
        let us = t.get_u64(at.wrapping_add(8))?;
        if us >= 1_000_000 {
            return Err(Errno::EINVAL);
        }
        Ok(Timespec { tv_sec: t.get_u64(at)? as i64, tv_nsec: us as i64 * 1000 })
    };
    let times = Timestamps { last_access: read(0)?, last_modification: read(16)? };
    let p = at(t, AT_FDCWD, a[0])?;
    host::ask("utimensat", format_args!("{p} {times:?}"), || {
        rustix::fs::utimensat(&p, &p.path, &times, AtFlags::empty())
    })?;
    Ok(0)
}

fn chdir(t: &mut Task, p: &At) -> SysResult {
    let fd = host::ask("openat", p, || {
        rustix::fs::openat(p, &p.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    })?;
    host::ask("accessat", p, || {
        rustix::fs::accessat(&fd, ".", rustix::fs::Access::EXEC_OK, AtFlags::empty())
    })?;
    t.sys.set_cwd(fd);
    Ok(0)
}

fn getcwd(t: &mut Task, a: Args) -> SysResult {
    let cwd = proc::name_of(&*t.sys.cwd(), "the working directory").ok_or(Errno::ENOENT)?;
    let mut s = cwd.as_os_str().as_bytes().to_vec();
    if s.ends_with(b" (deleted)") {
        return Err(Errno::ENOENT);
    }
    s.push(0);
    if s.len() as u64 > a[1] {
        return Err(Errno::ERANGE);
    }
    t.copy_out(a[0], &s)?;
    Ok(s.len() as u64)
}
