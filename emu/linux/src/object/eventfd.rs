//! eventfd(2): a counter that reads take from and writes add to.

use super::{Changes, Object, locked};
use crate::errno::Errno;
use rustix::event::PollFlags;
use std::sync::{Arc, Mutex};

/// An eventfd.
#[derive(Debug)]
pub(crate) struct EventFd {
    // Value and edges, under a host lock.
    state: Mutex<(u64, u64)>,
    semaphore: bool,
    changes: Arc<Changes>,
}

/// The largest value.
const MOST: u64 = u64::MAX - 1;

impl EventFd {
    /// With a first value; as a semaphore, a read takes one.
    pub(crate) fn new(value: u32, semaphore: bool, changes: Arc<Changes>) -> Self {
        EventFd { state: Mutex::new((value as u64, 0)), semaphore, changes }
    }
    /// Takes the value, or one; `None` if it is zero.
    pub(crate) fn read(&self) -> Option<u64> {
        let v = {
            let mut s = locked(&self.state);
            let v = if self.semaphore { s.0.min(1) } else { s.0 };
            s.0 -= v;
            s.1 += 1;
            v
        };
        if v == 0 {
            return None;
        }
        self.changes.announce();
        Some(v)
    }
    /// Adds; `None` if that would be too much.
    pub(crate) fn write(&self, v: u64) -> Result<Option<()>, Errno> {
        if v > MOST {
            return Err(Errno::EINVAL);
        }
        {
            let mut s = locked(&self.state);
            if s.0 > MOST - v {
                return Ok(None);
            }
            s.0 += v;
            s.1 += 1;
        }
        self.changes.announce();
        Ok(Some(()))
    }
    /// Whether `v` can be added now.
    pub(crate) fn has_room(&self, v: u64) -> bool {
        locked(&self.state).0 <= MOST.saturating_sub(v)
    }
}

impl Object for EventFd {
    fn events(&self) -> PollFlags {
        let v = locked(&self.state).0;
        let mut e = PollFlags::empty();
        e.set(PollFlags::IN, v > 0);
        e.set(PollFlags::OUT, v < MOST);
        e
    }
    fn edges(&self) -> u64 {
        locked(&self.state).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let e = EventFd::new(2, false, Arc::default());
        assert_eq!(e.write(3), Ok(Some(())));
        assert_eq!(e.read(), Some(5));
        assert_eq!(e.read(), None);
        assert_eq!(e.write(u64::MAX), Err(Errno::EINVAL));
        assert_eq!(e.write(MOST), Ok(Some(())));
        assert_eq!(e.events(), PollFlags::IN);
        assert_eq!(e.write(1), Ok(None));
        let s = EventFd::new(2, true, Arc::default());
        assert_eq!([s.read(), s.read(), s.read()], [Some(1), Some(1), None]);
    }
}
