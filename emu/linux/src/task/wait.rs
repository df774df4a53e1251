//! A task that waits, without a CPU: for other tasks, for files, for time.

use super::{Task, Woken};
use crate::clock::Moment;
use crate::errno::Errno;
use crate::file::{OpenFile, Wait};
use crate::host;
use rustix::event::{EventfdFlags, PollFlags};
use rustix::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Task {
    /// Sleeps without a CPU while `blocked()` holds, no signal comes and the process is not ending.
    pub fn sleep(
        &mut self,
        key: usize,
        timeout: Option<Duration>,
        mut blocked: impl FnMut() -> bool,
    ) -> Woken {
        self.drop_cpu();
        self.shared.sleep.store(key, Ordering::SeqCst);
        let (sys, shared) = (self.sys.clone(), self.shared.clone());
        let mut happened = false;
        let pred = || {
            happened = !blocked();
            !happened && !sys.ending() && !shared.noticed()
        };
        let in_time = match timeout {
            None => {
                racewalk_sched::wait_while(key, "task.sleep", pred);
                true
            }
            Some(t) => racewalk_sched::wait_while_timeout(key, "task.sleep", t, pred),
        };
        self.shared.sleep.store(0, Ordering::SeqCst);
        self.take_cpu();
        match (happened, in_time) {
            (true, _) => Woken::Done,
            (_, true) => Woken::Interrupted,
            (_, false) => Woken::TimedOut,
        }
    }

    /// Waits without a CPU until one of some files is ready. `files` come with the events wanted; the answer has the
    /// events of each.
    pub(crate) fn poll_files(
        &mut self,
        files: &[(Arc<OpenFile>, PollFlags)],
        timeout: Option<Duration>,
    ) -> Result<(Woken, Vec<PollFlags>), Errno> {
        /// How often host files are looked at in a controlled run in which others go on.
        const LOOK: Duration = Duration::from_millis(1);
        let end = timeout.map(Moment::after);
        let changes = self.sys.changes.clone();
        let mut host = Vec::new();
        let mut host_of = Vec::new();
        let mut own = false;
        for (i, (f, e)) in files.iter().enumerate() {
            own |= f.object().is_some();
            let e = match (f.object(), f.epoll()) {
                (None, _) => *e,
                (_, Some(p)) if p.watches_host() => PollFlags::IN,
                _ => continue,
            };
            host.push((f.clone(), e));
            host_of.push(i);
        }
        if !own && !racewalk_sched::controlled::active() {
            return self.host_poll(&host, timeout, None);
        }
        let always = PollFlags::HUP | PollFlags::ERR;
        let mut waited = false;
        loop {
            let seen = changes.count();
            let object = |(f, e): &(Arc<OpenFile>, PollFlags)| match f.object() {
                Some(o) => o.events() & (*e | always),
                None => PollFlags::empty(),
            };
            let mut events: Vec<PollFlags> = files.iter().map(object).collect();
            let ready = events.iter().any(|e| !e.is_empty());
            let over = end.is_some_and(|e| Moment::now() >= e);
            let due = files.iter().filter_map(|(f, _)| f.object()?.due()).min();
            let until = end.into_iter().chain(due).min().map(Moment::left);
            let simply = host.is_empty() || racewalk_sched::controlled::active();
            let limit = match (simply, until) {
                _ if ready || over => Some(Duration::ZERO),
                // When this is reached all tasks wait, time being virtual: the host gets some of its own.
                (true, until) if waited && !host.is_empty() => Some(until.unwrap_or(LOOK).min(LOOK)),
                (true, _) => Some(Duration::ZERO),
                (false, until) => until,
            };
            let mut woken = Woken::TimedOut;
            if !host.is_empty() {
                let found;
                (woken, found) = self.host_poll(&host, limit, Some(seen))?;
                for (&i, e) in host_of.iter().zip(found) {
                    events[i] |= e;
                }
            }
            if events.iter().any(|e| !e.is_empty()) {
                return Ok((Woken::Done, events));
            }
            if over || woken == Woken::Interrupted {
                return Ok((if over { Woken::TimedOut } else { woken }, events));
            }
            if simply {
                let until = if host.is_empty() { until } else { until.into_iter().chain([LOOK]).min() };
                let same = changes.clone();
                if self.sleep(changes.key(), until, move || same.count() == seen) == Woken::Interrupted {
                    return Ok((Woken::Interrupted, events));
                }
                waited = true
            }
        }
    }

    /// [`poll_files`](Self::poll_files) of host files only; also ends when there are other than `seen` changes of
    /// objects.
    fn host_poll(
        &mut self,
        fds: &[(Arc<OpenFile>, PollFlags)],
        timeout: Option<Duration>,
        seen: Option<u64>,
    ) -> Result<(Woken, Vec<PollFlags>), Errno> {
        let shared = self.shared.clone();
        let bell = shared
            .bell
            .get_or_init(|| rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok());
        let bell = bell.as_ref().ok_or(Errno::EMFILE)?;
        let mut list = vec![(bell.as_fd(), PollFlags::IN)];
        list.extend(fds.iter().map(|(f, e)| (f.fd(), *e)));
        let about: String = fds.iter().map(|(f, e)| format!("{} {e:?} ", f.name())).collect();
        let mut found = vec![PollFlags::empty(); list.len()];
        let end = timeout.map(Moment::after);
        let block = timeout != Some(Duration::ZERO);
        if block {
            self.drop_cpu();
        }
        shared.polling.store(true, Ordering::SeqCst);
        if seen.is_some() {
            self.sys.changes.enter_poll(&shared);
        }
        let woken: Result<Woken, Errno> = loop {
            let stop = block && (self.sys.ending() || shared.noticed() || host::ends());
            let changed = seen.is_some_and(|n| self.sys.changes.count() != n);
            let left = match end {
                _ if stop || changed => Some(Duration::ZERO),
                None => None,
                Some(e) => Some(e.left()),
            };
            let t = left.map(|l| rustix::event::Timespec {
                tv_sec: i64::try_from(l.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: l.subsec_nanos() as i64,
            });
            let r = host::poll(&about, &list, t.as_ref()).map(|f| found = f);
            if r.is_ok() && found[1..].iter().any(|e| !e.is_empty()) {
                break Ok(Woken::Done);
            }
            match r {
                Err(e) if e != rustix::io::Errno::INTR => break Err(e.into()),
                _ if stop => break Ok(Woken::Interrupted),
                _ if changed => break Ok(Woken::Done),
                _ if end.is_some_and(|e| Moment::now() >= e) || !block => break Ok(Woken::TimedOut),
                _ => {}
            }
        };
        if seen.is_some() {
            self.sys.changes.leave_poll(&shared);
        }
        shared.polling.store(false, Ordering::SeqCst);
        let _ = rustix::io::read(bell, &mut [0u8; 8]);
        let events = found.split_off(1);
        if block {
            self.take_cpu();
        }
        Ok((woken?, events))
    }

    /// Waits without a CPU until a file is ready. A signal cuts it short.
    pub fn wait_file(&mut self, file: &Arc<OpenFile>, wait: Wait) -> Result<(), Errno> {
        if file.object().is_none() {
            return match self.host_poll(&[(file.clone(), wait.events())], None, None)?.0 {
                Woken::Interrupted => Err(Errno::ERESTARTSYS),
                _ => Ok(()),
            };
        }
        let changes = self.sys.changes.clone();
        loop {
            let seen = changes.count();
            if file.satisfies(wait) {
                return Ok(());
            }
            let due = file.object().and_then(|o| o.due()).map(Moment::left);
            let same = changes.clone();
            if self.sleep(changes.key(), due, move || same.count() == seen) == Woken::Interrupted {
                return Err(Errno::ERESTARTSYS);
            }
        }
    }
}
