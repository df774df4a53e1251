//! What the guest sees of itself under /proc: files written when they are opened, and links.

use crate::errno::Errno;
use crate::file::{Kind, OpenFile};
use crate::host;
use crate::syscall::host_path;
use crate::system::{FIRST_PID, System};
use crate::task::Task;
use rustix::fd::AsFd;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use std::ffi::OsString;
use std::fmt::{Display, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Who answers for a path.
pub(crate) enum Found {
    /// The host, for this very path.
    Host,
    /// The host, for another path.
    Path(PathBuf),
    /// racewalk.
    File(Arc<OpenFile>),
}

/// The name that the host gives an open file, which the question knows as `about`.
pub(crate) fn name_of(fd: impl AsFd, about: impl Display) -> Option<PathBuf> {
    Some(PathBuf::from(OsString::from_vec(host::name_of(fd, about).ok()?)))
}

/// A path below the guest's own /proc directory, without that directory and whatever means the same.
fn own(t: &Task, path: &Path) -> Option<String> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for p in path.as_os_str().as_bytes().split(|&b| b == b'/') {
        match p {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            p => parts.push(p),
        }
    }
    let text = |p: &[&[u8]]| String::from_utf8_lossy(&p.join(&b'/')).into_owned();
    match parts.as_slice() {
        [b"dev", b"stdin"] => return Some("fd/0".into()),
        [b"dev", b"stdout"] => return Some("fd/1".into()),
        [b"dev", b"stderr"] => return Some("fd/2".into()),
        [b"dev", b"fd", rest @ ..] => return Some(text(&[&[b"fd" as &[u8]], rest].concat())),
        _ => {}
    }
    let [b"proc", who, rest @ ..] = parts.as_slice() else { return None };
    let me = FIRST_PID.to_string();
    if !(*who == b"self" || *who == b"thread-self" || *who == me.as_bytes()) {
        return None;
    }
    match rest {
        // All tasks look alike.
        [b"task", tid, rest @ ..] => {
            let tid: u32 = std::str::from_utf8(tid).ok()?.parse().ok()?;
            t.sys.task(tid).map(|_| text(rest))
        }
        rest => Some(text(rest)),
    }
}

/// Where a link of the guest's own /proc directory leads.
pub(crate) fn link(t: &Task, path: &Path) -> Result<Option<PathBuf>, Errno> {
    if path == Path::new("/proc/self") {
        return Ok(Some(FIRST_PID.to_string().into()));
    }
    if path == Path::new("/proc/thread-self") {
        return Ok(Some(format!("{FIRST_PID}/task/{}", t.shared.tid).into()));
    }
    let Some(name) = own(t, path) else { return Ok(None) };
    Ok(match name.as_str() {
        "exe" => Some(t.sys.program.clone()),
        "cwd" => name_of(&*t.sys.cwd(), "the working directory"),
        "root" => Some("/".into()),
        _ => match name.strip_prefix("fd/").map(str::parse) {
            Some(Ok(n)) => {
                let f = t.sys.files.get(n).map_err(|_| Errno::ENOENT)?;
                Some(name_of(f.fd(), f.name()).filter(|p| p.is_absolute()).unwrap_or_else(|| f.path.clone()))
            }
            _ => None,
        },
    })
}

/// Looks a path up that begins with a slash.
pub(crate) fn find(t: &Task, path: &Path) -> Result<Found, Errno> {
    let Some(name) = own(t, path) else {
        let text = match path.as_os_str().as_bytes() {
            b"/proc/cpuinfo" => cpuinfo(&t.sys),
            b"/proc/meminfo" => meminfo(&t.sys),
            b"/proc/version" => "Linux version 6.6.0-racewalk (racewalk) #1 SMP\n".into(),
            _ => return Ok(Found::Host),
        };
        return file(path, text.into_bytes());
    };
    let s = &t.sys;
    let comm = || s.comm.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let strings = |list: &[OsString]| -> Vec<u8> {
        list.iter().flat_map(|s| s.as_bytes().iter().copied().chain([0])).collect()
    };
    let text = match name.as_str() {
        "exe" => return Ok(Found::Path(s.program.clone())),
        "cwd" => return Ok(Found::Path(host_path(s.cwd().as_fd()))),
        "root" => return Ok(Found::Path("/".into())),
        "mounts" | "mountinfo" | "cgroup" => return Ok(Found::Host),
        "" => {
            let names = ["auxv", "cmdline", "comm", "cwd", "environ", "exe", "fd", "maps", "root", "stat"];
            let more = ["statm", "status", "task"];
            return listing(path, names.into_iter().chain(more).map(String::from).collect());
        }
        "fd" => return listing(path, s.files.numbers().iter().map(usize::to_string).collect()),
        "task" => return listing(path, s.tids().iter().map(u32::to_string).collect()),
        "maps" => s.mm.maps().into_bytes(),
        "cmdline" => strings(&s.args),
        "environ" => strings(&s.env),
        "auxv" => s.auxv.get().cloned().unwrap_or_default(),
        "comm" => [&comm()[..], b"\n"].concat(),
        "stat" => stat(t, &String::from_utf8_lossy(&comm())).into_bytes(),
        "statm" => {
            let c = s.mm.counters();
            let (size, rss) = (size(s) >> 12, c.rss_anon + c.rss_file);
            format!("{size} {rss} {} 0 0 {} 0\n", c.rss_file, c.rss_anon).into_bytes()
        }
        "status" => status(t, &String::from_utf8_lossy(&comm())).into_bytes(),
        name => match name.strip_prefix("fd/").map(str::parse) {
            Some(Ok(n)) => {
                let f = s.files.get(n).map_err(|_| Errno::ENOENT)?;
                if f.object().is_some() {
                    return s.not_modelled("opening a pipe by its name in /proc/self/fd", Errno::ENXIO);
                }
                return Ok(Found::Path(host_path(f.fd())));
            }
            _ => return s.not_modelled(format!("/proc/self/{name}"), Errno::ENOENT),
        },
    };
    file(path, text)
}

fn memory_file(path: &Path, text: &[u8], kind: Kind) -> Result<Found, Errno> {
    let fd =
        host::ask("memfd_create", path.display(), || rustix::fs::memfd_create("proc", MemfdFlags::CLOEXEC))?;
    let mut at = 0;
    while at < text.len() {
        at += host::ask("pwrite", format_args!("{} {} at {at}", path.display(), text.len() - at), || {
            rustix::io::pwrite(&fd, &text[at..], at as u64)
        })?;
    }
    let fd = host::ask("open", path.display(), || {
        rustix::fs::open(host_path(fd.as_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    })?;
    Ok(Found::File(OpenFile::special(fd, path.into(), false, kind)))
}

fn file(path: &Path, text: Vec<u8>) -> Result<Found, Errno> {
    memory_file(path, &text, Kind::Proc)
}

fn listing(path: &Path, names: Vec<String>) -> Result<Found, Errno> {
    let all = [".", ".."].map(String::from).into_iter().chain(names).collect();
    memory_file(path, b"", Kind::Listing(std::sync::Mutex::new((all, 0))))
}

/// Bytes of address space.
fn size(s: &System) -> u64 {
    let range = |l: &str| -> Option<u64> {
        let (a, b) = l.split(' ').next()?.split_once('-')?;
        Some(u64::from_str_radix(b, 16).ok()? - u64::from_str_radix(a, 16).ok()?)
    };
    s.mm.maps().lines().filter_map(range).sum()
}

fn stat(t: &Task, comm: &str) -> String {
    let s = &t.sys;
    let ticks = crate::clock::now(rustix::time::ClockId::ProcessCPUTime).as_millis() / 10;
    let c = s.mm.counters();
    let mut o =
        format!("{FIRST_PID} ({comm}) R 1 {FIRST_PID} {FIRST_PID} 0 -1 4194304 0 0 0 0 {ticks} 0 0 0 20 0 ");
    let _ = write!(o, "{} 0 0 {} {} 18446744073709551615 ", s.live(), size(s), c.rss_anon + c.rss_file);
    let _ = write!(o, "0 0 {} {} {} ", s.stack_top.load(Ordering::SeqCst), t.gpr(15), t.pc());
    let _ = writeln!(o, "0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0");
    o
}

fn status(t: &Task, comm: &str) -> String {
    let s = &t.sys;
    let c = s.mm.counters();
    let mut ignored = 0;
    let mut caught = 0;
    for sig in 1..=64 {
        match s.actions.get(sig).handler {
            0 => {}
            1 => ignored |= crate::signal::bit(sig),
            _ => caught |= crate::signal::bit(sig),
        }
    }
    let (uid, gid) = (
        host::ask_simply("getuid", "", || rustix::process::getuid().as_raw()),
        host::ask_simply("getgid", "", || rustix::process::getgid().as_raw()),
    );
    let (euid, egid) = (
        host::ask_simply("geteuid", "", || rustix::process::geteuid().as_raw()),
        host::ask_simply("getegid", "", || rustix::process::getegid().as_raw()),
    );
    let rss = (c.rss_anon + c.rss_file) * 4;
    let mut o = String::new();
    let _ = writeln!(o, "Name:\t{comm}\nUmask:\t{:04o}", s.umask.load(Ordering::SeqCst));
    let _ =
        writeln!(o, "State:\tR (running)\nTgid:\t{FIRST_PID}\nNgid:\t0\nPid:\t{}\nPPid:\t1", t.shared.tid);
    let _ = writeln!(
        o,
        "TracerPid:\t0\nUid:\t{uid}\t{euid}\t{euid}\t{euid}\nGid:\t{gid}\t{egid}\t{egid}\t{egid}"
    );
    let _ = writeln!(o, "FDSize:\t64\nGroups:\t\nVmSize:\t{:8} kB\nVmRSS:\t{rss:8} kB", size(s) >> 10);
    let _ = writeln!(o, "RssAnon:\t{:8} kB\nRssFile:\t{:8} kB", c.rss_anon * 4, c.rss_file * 4);
    let _ = writeln!(o, "Threads:\t{}\nSigQ:\t0/32768\nSigPnd:\t{:016x}", s.live(), t.shared.pending.set());
    let _ = writeln!(o, "ShdPnd:\t{:016x}\nSigBlk:\t{:016x}", s.pending.set(), t.mask());
    let _ = writeln!(o, "SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}");
    let _ = writeln!(o, "NoNewPrivs:\t0\nCpus_allowed_list:\t0-{}", s.cpus.count() - 1);
    o
}

fn cpuinfo(s: &System) -> String {
    let n = s.cpus.count();
    let mut o = format!("vendor_id       : IBM/S390\n# processors    : {n}\nbogomips per cpu: 1000.00\n");
    o.push_str("max thread id   : 0\nfeatures\t: esan3 zarch stfle ldisp eimm etf3eh highgprs \n");
    for i in 0..n {
        let _ = writeln!(o, "processor {i}: version = FF,  identification = {i:06X},  machine = 2817");
    }
    o
}

fn meminfo(s: &System) -> String {
    let (total, free) = (s.cpus.ram().size() >> 10, s.kernel.free_frames() * 4);
    let mut o = String::new();
    for (name, kb) in
        [("MemTotal", total), ("MemFree", free), ("MemAvailable", free), ("Buffers", 0), ("Cached", 0)]
    {
        let _ = writeln!(o, "{:<16}{kb:8} kB", format!("{name}:"));
    }
    o.push_str("SwapTotal:             0 kB\nSwapFree:              0 kB\n");
    o
}
