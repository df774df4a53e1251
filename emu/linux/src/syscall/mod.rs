//! System calls: the table, and how a call is printed.
//!
//! Numbers and names come from `s390x.txt` (the kernel's user headers). A call that racewalk does not have answers
//! ENOSYS, with one warning that names it.

mod fs;
mod info;
pub(crate) use fs::host_path;
pub(crate) use info::{STACK_LIMIT, first_limits};
pub(crate) use print::line;
mod memory;
mod print;
mod signal;
mod thread;
mod time;

use crate::errno::{Errno, SysResult};
use crate::task::Task;
use std::sync::OnceLock;

/// Names by number.
fn names() -> &'static [Option<&'static str>] {
    static NAMES: OnceLock<Vec<Option<&'static str>>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut v = Vec::new();
        for line in include_str!("s390x.txt").lines() {
            if let Some((n, name)) = line.split_once('\t')
                && let Ok(n) = n.parse::<usize>()
            {
                if v.len() <= n {
                    v.resize(n + 1, None);
                }
                v[n] = Some(name);
            }
        }
        v
    })
}

/// The name of a call.
pub fn name(nr: u64) -> Option<&'static str> {
    names().get(nr as usize).copied().flatten()
}

/// Implementations by number.
fn handlers() -> &'static [Option<Handler>] {
    static HANDLERS: OnceLock<Vec<Option<Handler>>> = OnceLock::new();
    let find = |name| {
        fs::find(name)
            .or_else(|| memory::find(name))
            .or_else(|| thread::find(name))
            .or_else(|| signal::find(name))
            .or_else(|| time::find(name))
            .or_else(|| info::find(name))
    };
    HANDLERS.get_or_init(|| names().iter().map(|n| n.and_then(find)).collect())
}

/// Arguments as they come: general registers 2 to 7.
pub type Args = [u64; 6];

/// Makes a call.
pub fn call(t: &mut Task, nr: u64, a: Args) -> SysResult {
    let Some(name) = name(nr) else {
        t.sys.warn_once(format!("system call {nr} does not exist on s390x: ENOSYS"));
        return Err(Errno::ENOSYS);
    };
    let handler = handlers().get(nr as usize).copied().flatten();
    match handler {
        Some(f) => f(t, a),
        None => {
            t.sys.warn_once(format!("not modelled: system call {name} ({nr}): ENOSYS"));
            Err(Errno::ENOSYS)
        }
    }
}

/// A call's implementation.
pub(crate) type Handler = fn(&mut Task, Args) -> SysResult;

/// A record in guest byte order, written field by field at the offsets of the ABI.
pub(crate) struct Record(Vec<u8>);

impl Record {
    pub(crate) fn new(len: usize) -> Self {
        Record(vec![0; len])
    }
    pub(crate) fn u16(&mut self, at: usize, v: u16) -> &mut Self {
        self.0[at..at + 2].copy_from_slice(&v.to_be_bytes());
        self
    }
    pub(crate) fn u32(&mut self, at: usize, v: u32) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&v.to_be_bytes());
        self
    }
    pub(crate) fn u64(&mut self, at: usize, v: u64) -> &mut Self {
        self.0[at..at + 8].copy_from_slice(&v.to_be_bytes());
        self
    }
    pub(crate) fn bytes(&mut self, at: usize, v: &[u8]) -> &mut Self {
        self.0[at..at + v.len()].copy_from_slice(v);
        self
    }
    pub(crate) fn put(&self, t: &Task, addr: u64) -> Result<(), Errno> {
        t.copy_out(addr, &self.0)
    }
}
