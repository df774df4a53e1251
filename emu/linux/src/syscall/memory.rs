//! Address space.

use super::{Args, Handler};
use crate::errno::{Errno, SysResult};
use crate::task::Task;
use racewalk_mm::{MapFlags, MmError, Prot};
use rustix::fs::OFlags;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "brk" => |t, a| mm(t, t.sys.mm.brk(a[0])),
        // The six arguments lie in memory.
        "mmap" => |t, a| {
            let mut m = [0; 6];
            for (i, v) in m.iter_mut().enumerate() {
                *v = t.get_u64(a[0].wrapping_add(i as u64 * 8))?;
            }
            mmap(t, m)
        },
        "munmap" => |t, a| {
            let r = t.sys.mm.munmap(a[0], a[1]).map(|()| 0);
            t.sys.after_unmap();
            mm(t, r)
        },
        "mprotect" => |t, a| {
            const GROWS: u64 = 0x0300_0000;
            if a[2] & !(7 | GROWS) != 0 {
                return Err(Errno::EINVAL);
            }
            mm(t, t.sys.mm.mprotect(a[0], a[1], Prot(a[2] as u32)).map(|()| 0))
        },
        "madvise" => |t, a| mm(t, t.sys.mm.madvise(a[0], a[1], a[2] as u32).map(|()| 0)),
        "mremap" => |t, a| {
            let r = t.sys.mm.mremap(a[0], a[1], a[2], a[3] as u32, a[4]);
            t.sys.after_unmap();
            mm(t, r)
        },
        "mincore" => |t, a| {
            let pages = t.sys.mm.mincore(a[0], a[1]).map_err(|e| errno(t, e))?;
            let bytes: Vec<u8> = pages.into_iter().map(u8::from).collect();
            t.copy_out(a[2], &bytes)?;
            Ok(0)
        },
        "msync" => msync,
        // Nothing is ever paged out.
        "mlock" | "munlock" | "mlockall" | "munlockall" | "mlock2" => |_, _| Ok(0),
        _ => return None,
    })
}

fn errno(t: &Task, e: MmError) -> Errno {
    if let MmError::NotModelled { .. } = e {
        t.sys.warn_once(e.to_string());
    }
    e.errno()
}

fn mm(t: &Task, r: racewalk_mm::Result<u64>) -> SysResult {
    r.map_err(|e| errno(t, e))
}

fn mmap(t: &mut Task, a: Args) -> SysResult {
    let mut flags = MapFlags(a[3] as u32);
    let named = match flags.contains(MapFlags::ANONYMOUS) {
        true => None,
        false => Some(t.sys.files.get(a[4] as i32)?).filter(|f| !f.is_dev_zero()),
    };
    let (file, writable) = match named {
        None => {
            flags = flags | MapFlags::ANONYMOUS;
            (None, false)
        }
        Some(f) => {
            let mode = f.status_flags()? & OFlags::ACCMODE;
            if mode == OFlags::WRONLY {
                return Err(Errno::EACCES);
            }
            if !f.can_be_mapped() {
                return Err(Errno::ENODEV);
            }
            let writable = mode == OFlags::RDWR;
            (Some((t.sys.object(&f, writable)?, a[5])), writable)
        }
    };
    let r = t.sys.mm.mmap_file(a[0], a[1], Prot(a[2] as u32), flags, file, writable);
    if flags.contains(MapFlags::FIXED) {
        t.sys.after_unmap();
    }
    mm(t, r)
}

fn msync(t: &mut Task, a: Args) -> SysResult {
    const ASYNC: u64 = 1;
    const SYNC: u64 = 4;
    if a[2] & !7 != 0 || a[2] & (ASYNC | SYNC) == ASYNC | SYNC {
        return Err(Errno::EINVAL);
    }
    mm(t, t.sys.mm.msync(a[0], a[1], a[2] & SYNC != 0).map(|()| 0))
}
