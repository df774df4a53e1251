//! Pipes (pipe(7)): a ring of bytes with a reading and a writing end. Writes of at most [`PIPE_BUF`] bytes are whole.

use super::{Changes, Object, locked};
use crate::errno::Errno;
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A pipe's capacity when it is made, in bytes.
const CAPACITY: usize = 64 << 10;
/// What F_SETPIPE_SZ gives at most to a process without privileges.
const MAX_CAPACITY: usize = 1 << 20;
/// Writes of at most this many bytes are atomic.
pub(crate) const PIPE_BUF: usize = 4096;

#[derive(Debug)]
struct State {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Whether the end is open: reading, writing.
    open: [bool; 2],
    /// Edges of each end.
    edges: [u64; 2],
}

impl State {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }
}

#[derive(Debug)]
struct Pipe {
    // A host lock: never held across a scheduling point.
    state: Mutex<State>,
    changes: Arc<Changes>,
}

const READING: usize = 0;
const WRITING: usize = 1;

/// One end of a pipe. Dropping it closes the end.
#[derive(Debug)]
pub(crate) struct End {
    pipe: Arc<Pipe>,
    side: usize,
}

/// A pipe: its reading and its writing end.
pub(crate) fn pipe(changes: Arc<Changes>) -> (End, End) {
    let state = State { bytes: VecDeque::new(), capacity: CAPACITY, open: [true; 2], edges: [0; 2] };
    let pipe = Arc::new(Pipe { state: Mutex::new(state), changes });
    (End { pipe: pipe.clone(), side: READING }, End { pipe, side: WRITING })
}

impl End {
    /// Takes what there is, at most `wanted` bytes; `None` if a writer may still bring something. Where `buf` has less
    /// room than that, whole pages come, as in Linux, or EFAULT.
    pub(crate) fn read(&self, buf: &mut [u8], wanted: usize) -> Result<Option<usize>, Errno> {
        if self.side != READING {
            return Err(Errno::EBADF);
        }
        let n = {
            let mut s = locked(&self.pipe.state);
            if s.bytes.is_empty() {
                return Ok(if s.open[WRITING] && wanted != 0 { None } else { Some(0) });
            }
            let n = match wanted.min(s.bytes.len()) {
                n if n <= buf.len() => n,
                _ if buf.len() < PIPE_BUF => return Err(Errno::EFAULT),
                _ => buf.len() / PIPE_BUF * PIPE_BUF,
            };
            let was_full = s.room() < PIPE_BUF;
            for (to, from) in buf.iter_mut().zip(s.bytes.drain(..n)) {
                *to = from;
            }
            s.edges[WRITING] += was_full as u64;
            n
        };
        self.pipe.changes.announce();
        Ok(Some(n))
    }

    /// Adds bytes: all of them if `whole`, else as many as there is room for. `None` if there is no room for that.
    pub(crate) fn write(&self, buf: &[u8], whole: bool) -> Result<Option<usize>, Errno> {
        if self.side != WRITING {
            return Err(Errno::EBADF);
        }
        let n = {
            let mut s = locked(&self.pipe.state);
            if !s.open[READING] {
                return Err(Errno::EPIPE);
            }
            let room = s.room();
            if buf.is_empty() {
                return Ok(Some(0));
            }
            if room == 0 || whole && room < buf.len() {
                return Ok(None);
            }
            let n = room.min(buf.len());
            s.bytes.extend(&buf[..n]);
            s.edges[READING] += 1;
            n
        };
        self.pipe.changes.announce();
        Ok(Some(n))
    }

    /// Whether a write of `n` bytes that is `whole` or not would not have to wait.
    pub(crate) fn has_room(&self, n: usize, whole: bool) -> bool {
        let s = locked(&self.pipe.state);
        let room = s.room();
        !s.open[READING] || if whole { room >= n } else { room != 0 }
    }

    /// The capacity in bytes.
    pub(crate) fn capacity(&self) -> usize {
        locked(&self.pipe.state).capacity
    }

    /// Changes the capacity to a power of two of pages that holds `n` bytes (F_SETPIPE_SZ); returns what it became.
    pub(crate) fn set_capacity(&self, n: u32) -> Result<usize, Errno> {
        if n > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let n = (n as usize).max(4096).next_power_of_two();
        {
            let mut s = locked(&self.pipe.state);
            if n > MAX_CAPACITY && n > s.capacity {
                return Err(Errno::EPERM);
            }
            if n < s.bytes.len() {
                return Err(Errno::EBUSY);
            }
            s.capacity = n;
        }
        self.pipe.changes.announce();
        Ok(n)
    }
}

impl Object for End {
    fn events(&self) -> PollFlags {
        let s = locked(&self.pipe.state);
        let other = s.open[1 - self.side];
        let mut e = PollFlags::empty();
        if self.side == READING {
            e.set(PollFlags::IN | PollFlags::RDNORM, !s.bytes.is_empty());
            e.set(PollFlags::HUP, !other);
        } else {
            e.set(PollFlags::OUT | PollFlags::WRNORM, s.room() >= PIPE_BUF);
            e.set(PollFlags::ERR, !other);
        }
        e
    }
    fn edges(&self) -> u64 {
        locked(&self.pipe.state).edges[self.side]
    }
    fn readable(&self) -> Option<usize> {
        Some(locked(&self.pipe.state).bytes.len())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        {
            let mut s = locked(&self.pipe.state);
            s.open[self.side] = false;
            s.edges[1 - self.side] += 1;
        }
        self.pipe.changes.announce();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_waiting() {
        let (r, w) = pipe(Arc::default());
        assert_eq!(w.set_capacity(5000), Ok(8192));
        assert_eq!(w.write(&[1; 8000], false), Ok(Some(8000)));
        assert_eq!(w.write(&[2; 300], true), Ok(None));
        assert_eq!(w.write(&[2; 300], false), Ok(Some(192)));
        assert!(!w.events().contains(PollFlags::OUT));
        assert_eq!(w.set_capacity(4096), Err(Errno::EBUSY));
        let mut buf = [0; 8001];
        assert_eq!(r.read(&mut buf[..4], 5), Err(Errno::EFAULT));
        assert_eq!(r.read(&mut buf, 8001), Ok(Some(8001)));
        assert_eq!((buf[7999], buf[8000]), (1, 2));
        assert_eq!(r.readable(), Some(191));
        assert_eq!((r.write(&[0], true), w.read(&mut buf, 1)), (Err(Errno::EBADF), Err(Errno::EBADF)));
        drop(w);
        assert_eq!(r.read(&mut buf[..4097], 8000), Ok(Some(191)));
        assert_eq!(r.read(&mut buf[..0], 1), Ok(Some(0)));
        assert_eq!(r.events(), PollFlags::HUP);
    }

    #[test]
    fn nobody_reads() {
        let (r, w) = pipe(Arc::default());
        let mut buf = [0; 1];
        assert_eq!(r.read(&mut buf, 1), Ok(None));
        drop(r);
        assert_eq!(w.write(&[0], true), Err(Errno::EPIPE));
        assert!(w.events().contains(PollFlags::ERR));
    }
}
