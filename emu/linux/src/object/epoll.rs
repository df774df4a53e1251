//! epoll(7). Host files are left to a host epoll, which the stand-in is; objects of our own are looked at here.

use super::{Changes, Object, locked};
use crate::clock::Moment;
use crate::errno::Errno;
use crate::file::OpenFile;
use rustix::event::PollFlags;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};

/// Bits of `events` that are no events.
const EXCLUSIVE: u32 = 1 << 28;
const WAKEUP: u32 = 1 << 29;
const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;
const MODES: u32 = EXCLUSIVE | WAKEUP | ONESHOT | EDGE;
/// Always reported: POLLERR, POLLHUP.
const ALWAYS: u32 = 0x18;
/// How deep epolls may watch epolls.
const DEPTH: u32 = 5;

#[derive(Debug)]
struct Interest {
    file: Weak<OpenFile>,
    events: u32,
    data: u64,
    /// Edges when it was reported last.
    seen: Option<u64>,
    /// It was reported and is one-shot.
    spent: bool,
}

impl Interest {
    /// The events to report now, if there are any.
    fn ready(&self) -> Option<(u32, u64)> {
        let file = self.file.upgrade()?;
        let object = file.object()?;
        let edges = object.edges();
        if self.spent || self.events & EDGE != 0 && self.seen == Some(edges) {
            return None;
        }
        let hit = object.events().bits() as u32 & (self.events & !MODES | ALWAYS);
        (hit != 0).then_some((hit, edges))
    }
}

type Key = (i32, usize);

#[derive(Debug, Default)]
struct State {
    interests: BTreeMap<Key, Interest>,
    /// Where the next report begins: everyone has a turn.
    turn: Option<Key>,
    edges: u64,
}

/// The objects an epoll watches.
#[derive(Debug)]
pub(crate) struct Epoll {
    state: Mutex<State>,
    /// The stand-in watches something, too.
    host: AtomicBool,
    changes: Arc<Changes>,
}

/// One reported event: its bits, and the data given with it.
pub(crate) type Report = (u32, u64);

impl Epoll {
    /// An epoll that watches nothing.
    pub(crate) fn new(changes: Arc<Changes>) -> Self {
        Epoll { state: Mutex::default(), host: AtomicBool::new(false), changes }
    }

    /// Says that the stand-in watches something.
    pub(crate) fn note_host(&self) {
        self.host.store(true, SeqCst);
    }
    /// Whether it does.
    pub(crate) fn watches_host(&self) -> bool {
        self.host.load(SeqCst)
    }

    fn key(fd: i32, file: &Arc<OpenFile>) -> Key {
        (fd, Arc::as_ptr(file) as usize)
    }

    /// Watches a file; `EEXIST` if it does already.
    pub(crate) fn add(&self, fd: i32, file: &Arc<OpenFile>, events: u32, data: u64) -> Result<(), Errno> {
        if file.epoll().is_some_and(|e| e.depth(self) >= DEPTH) {
            return Err(Errno::ELOOP);
        }
        {
            let mut s = locked(&self.state);
            s.interests.retain(|_, i| i.file.strong_count() != 0);
            let i = Interest { file: Arc::downgrade(file), events, data, seen: None, spent: false };
            match s.interests.entry(Epoll::key(fd, file)) {
                std::collections::btree_map::Entry::Occupied(_) => return Err(Errno::EEXIST),
                std::collections::btree_map::Entry::Vacant(v) => v.insert(i),
            };
            s.edges += 1;
        }
        self.changes.announce();
        Ok(())
    }

    /// Changes what is wanted of a file.
    pub(crate) fn modify(&self, fd: i32, file: &Arc<OpenFile>, events: u32, data: u64) -> Result<(), Errno> {
        {
            let mut s = locked(&self.state);
            let i = s.interests.get_mut(&Epoll::key(fd, file)).ok_or(Errno::ENOENT)?;
            if (i.events | events) & EXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            (i.events, i.data, i.seen, i.spent) = (events, data, None, false);
            s.edges += 1;
        }
        self.changes.announce();
        Ok(())
    }

    /// Watches a file no more.
    pub(crate) fn delete(&self, fd: i32, file: &Arc<OpenFile>) -> Result<(), Errno> {
        locked(&self.state).interests.remove(&Epoll::key(fd, file)).map(drop).ok_or(Errno::ENOENT)
    }

    /// Takes at most `most` reports.
    pub(crate) fn take(&self, most: usize) -> Vec<Report> {
        let mut s = locked(&self.state);
        s.interests.retain(|_, i| i.file.strong_count() != 0);
        let from = s.turn.unwrap_or((i32::MIN, 0));
        let order: Vec<Key> =
            s.interests.range(from..).chain(s.interests.range(..from)).map(|(k, _)| *k).collect();
        let mut out = Vec::new();
        for k in order {
            if out.len() == most {
                s.turn = Some(k);
                break;
            }
            let Some(i) = s.interests.get_mut(&k) else { continue };
            if let Some((events, edges)) = i.ready() {
                i.seen = Some(edges);
                i.spent = i.events & ONESHOT != 0;
                out.push((events, i.data));
            }
        }
        out
    }

    /// How many epolls are below each other from here on; too many if `of` is among them.
    fn depth(&self, of: &Epoll) -> u32 {
        if std::ptr::eq(self, of) {
            return DEPTH;
        }
        let files: Vec<_> = locked(&self.state).interests.values().filter_map(|i| i.file.upgrade()).collect();
        files.iter().filter_map(|f| f.epoll()).map(|e| e.depth(of)).max().unwrap_or(0) + 1
    }
}

impl Object for Epoll {
    fn events(&self) -> PollFlags {
        match locked(&self.state).interests.values().any(|i| i.ready().is_some()) {
            true => PollFlags::IN | PollFlags::RDNORM,
            false => PollFlags::empty(),
        }
    }
    fn edges(&self) -> u64 {
        // Counts with what it watches, so that an epoll which watches this one edge-triggered sees the edges.
        let s = locked(&self.state);
        let below = s.interests.values().filter_map(|i| i.file.upgrade()?.object().map(Object::edges));
        below.fold(s.edges, u64::wrapping_add)
    }
    fn due(&self) -> Option<Moment> {
        locked(&self.state).interests.values().filter_map(|i| i.file.upgrade()?.object()?.due()).min()
    }
}
