//! What files are: stat, statx, statfs, directories.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Args, Handler, Record, at, directory};
use crate::errno::{Errno, SysResult};
use crate::file::{Kind, OpenFile};
use crate::host;
use crate::task::Task;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Stat, StatFs, Statx, StatxFlags};
use std::mem::MaybeUninit;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "fstat" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            put_stat(t, a[1], &of_file(t, &f)?)
        },
        "stat" => |t, a| stat_at(t, AT_FDCWD, a[0], a[1], 0),
        "lstat" => |t, a| stat_at(t, AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW),
        "newfstatat" => |t, a| stat_at(t, a[0] as i32, a[1], a[2], a[3]),
        "statx" => statx,
        "statfs" => |t, a| statfs(t, a[0], a[1]),
        "fstatfs" => |t, a| fstatfs(t, a[0], a[1]),
        // The same record, whose size is an argument.
        "statfs64" => |t, a| if a[1] == STATFS as u64 { statfs(t, a[0], a[2]) } else { Err(Errno::EINVAL) },
        "fstatfs64" => |t, a| if a[1] == STATFS as u64 { fstatfs(t, a[0], a[2]) } else { Err(Errno::EINVAL) },
        "getdents64" => getdents64,
        _ => return None,
    })
}

const S_IFDIR: u32 = 0o040000;
const S_IFREG: u32 = 0o100000;

/// The mode that a file of /proc shows, if it is one.
fn proc_mode(f: &OpenFile) -> Option<u32> {
    match f.kind {
        Kind::Proc => Some(S_IFREG | 0o444),
        Kind::Listing(_) => Some(S_IFDIR | 0o555),
        _ => None,
    }
}

fn of_file(t: &Task, f: &OpenFile) -> Result<Stat, Errno> {
    t.sys.before_read(f);
    let mut s = host::ask("fstat", f.name(), || rustix::fs::fstat(f.fd()))?;
    if let Some(mode) = proc_mode(f) {
        s.st_mode = mode;
        s.st_size = 0;
        s.st_blocks = 0;
    }
    Ok(s)
}

fn stat_at(t: &mut Task, dir: i32, addr: u64, out: u64, flags: u64) -> SysResult {
    let s = if flags & AT_EMPTY_PATH != 0 && t.get_str(addr)?.is_empty() {
        match directory(t, dir)? {
            super::Dir::File(f) => of_file(t, &f)?,
            super::Dir::Cwd(d) => host::ask("fstat", ".", || rustix::fs::fstat(&*d))?,
        }
    } else {
        let p = at(t, dir, addr)?;
        match &p.own {
            Some(f) => of_file(t, f)?,
            None => host::ask("statat", format_args!("{p} {flags:#x}"), || {
                rustix::fs::statat(&p, &p.path, AtFlags::from_bits_retain(flags as u32))
            })?,
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

/// statx: `struct statx` is the same on all machines but for the byte order.
fn statx(t: &mut Task, a: Args) -> SysResult {
    let flags = AtFlags::from_bits_retain(a[2] as u32);
    let mask = StatxFlags::from_bits_retain(a[3] as u32);
    let (s, own) = if a[2] & AT_EMPTY_PATH != 0 && t.get_str(a[1])?.is_empty() {
        match directory(t, a[0] as i32)? {
            super::Dir::File(f) => {
                t.sys.before_read(&f);
                (
                    host::ask("statx", format_args!("{} {flags:?} {mask:?}", f.name()), || {
                        rustix::fs::statx(f.fd(), c"", flags, mask)
                    })?,
                    proc_mode(&f),
                )
            }
            super::Dir::Cwd(d) => (
                host::ask("statx", format_args!(". {flags:?} {mask:?}"), || {
                    rustix::fs::statx(&*d, c"", flags, mask)
                })?,
                None,
            ),
        }
    } else {
        let p = at(t, a[0] as i32, a[1])?;
        (
            host::ask("statx", format_args!("{p} {flags:?} {mask:?}"), || {
                rustix::fs::statx(&p, &p.path, flags, mask)
            })?,
            p.own.as_ref().and_then(|f| proc_mode(f)),
        )
    };
    put_statx(t, a[4], &s, own)
}

fn put_statx(t: &Task, addr: u64, s: &Statx, own: Option<u32>) -> SysResult {
    let mut r = Record::new(256);
    r.u32(0, s.stx_mask).u32(4, s.stx_blksize).u64(8, s.stx_attributes.bits());
    r.u32(16, s.stx_nlink).u32(20, s.stx_uid).u32(24, s.stx_gid);
    r.u16(28, own.map_or(s.stx_mode, |m| m as u16)).u64(32, s.stx_ino);
    r.u64(40, if own.is_some() { 0 } else { s.stx_size }).u64(48, s.stx_blocks);
    r.u64(56, s.stx_attributes_mask.bits());
    for (i, x) in [&s.stx_atime, &s.stx_btime, &s.stx_ctime, &s.stx_mtime].into_iter().enumerate() {
        r.u64(64 + i * 16, x.tv_sec as u64).u32(72 + i * 16, x.tv_nsec);
    }
    r.u32(128, s.stx_rdev_major).u32(132, s.stx_rdev_minor);
    r.u32(136, s.stx_dev_major).u32(140, s.stx_dev_minor).u64(144, s.stx_mnt_id);
    r.u32(152, s.stx_dio_mem_align).u32(156, s.stx_dio_offset_align);
    r.put(t, addr)?;
    Ok(0)
}

fn statfs(t: &mut Task, path: u64, out: u64) -> SysResult {
    let p = at(t, AT_FDCWD, path)?;
    let fd = host::ask("openat", &p, || {
        rustix::fs::openat(&p, &p.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    })?;
    put_statfs(t, out, &host::ask("fstatfs", &p, || rustix::fs::fstatfs(&fd))?)
}

fn fstatfs(t: &mut Task, fd: u64, out: u64) -> SysResult {
    let f = t.sys.files.get(fd as i32)?;
    put_statfs(t, out, &host::ask("fstatfs", f.name(), || rustix::fs::fstatfs(f.fd()))?)
}

/// Bytes of a `struct statfs`.
const STATFS: usize = 88;

/// `struct statfs` of s390x: 88 bytes, most fields 32 bits wide.
fn put_statfs(t: &Task, addr: u64, s: &StatFs) -> SysResult {
    let mut r = Record::new(STATFS);
    r.u32(0, s.f_type as u32).u32(4, s.f_bsize as u32);
    r.u64(8, s.f_blocks).u64(16, s.f_bfree).u64(24, s.f_bavail);
    r.u64(32, s.f_files).u64(40, s.f_ffree);
    r.u32(56, s.f_namelen as u32).u32(60, s.f_frsize as u32).u32(64, s.f_flags as u32);
    r.put(t, addr)?;
    Ok(0)
}

/// Bytes of a `struct linux_dirent64` before the name.
const DIRENT: usize = 19;

fn entry(ino: u64, off: u64, kind: u8, name: &[u8]) -> Vec<u8> {
    let len = (DIRENT + name.len() + 1).next_multiple_of(8);
    let mut b = vec![0; len];
    b[..8].copy_from_slice(&ino.to_be_bytes());
    b[8..16].copy_from_slice(&off.to_be_bytes());
    b[16..18].copy_from_slice(&(len as u16).to_be_bytes());
    b[18] = kind;
    b[DIRENT..DIRENT + name.len()].copy_from_slice(name);
    b
}

fn getdents64(t: &mut Task, a: Args) -> SysResult {
    /// Bytes asked of the host at a time.
    const MOST: usize = 32 << 10;
    let f = t.sys.files.get(a[0] as i32)?;
    let wanted = (a[2] as u32 as usize).min(MOST);
    let room = t.room(a[1], wanted);
    // No entry fits: is that for its size, or for the memory?
    let too_small = if room < wanted { Errno::EFAULT } else { Errno::EINVAL };
    let mut out = Vec::new();
    if let Kind::Listing(l) = &f.kind {
        let mut l = l.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while l.1 < l.0.len() {
            let e = entry(l.1 as u64 + 1, l.1 as u64 + 1, 0, l.0[l.1].as_bytes());
            if out.len() + e.len() > room {
                break;
            }
            out.extend(e);
            l.1 += 1;
        }
        if out.is_empty() && l.1 < l.0.len() {
            return Err(too_small);
        }
    } else {
        // Entries are as long for the host as for the guest: what fits its buffer fits the guest's.
        out = host::ask("getdents64", format_args!("{} {room}", f.name()), || {
            let mut out = Vec::new();
            let mut buf = vec![MaybeUninit::uninit(); room];
            let mut dir = RawDir::new(f.fd(), &mut buf);
            while let Some(e) = dir.next() {
                let e = e?;
                // d_type is the file type's bits of the mode.
                let kind = (e.file_type().as_raw_mode() >> 12) as u8;
                out.extend(entry(e.ino(), e.next_entry_cookie(), kind, e.file_name().to_bytes()));
                if dir.is_buffer_empty() {
                    break;
                }
            }
            Ok(out)
        })
        .map_err(|e| if e == rustix::io::Errno::INVAL { too_small } else { e.into() })?;
    }
    t.copy_out(a[1], &out)?;
    Ok(out.len() as u64)
}
