//! Takes what a machine says, on the threads of its CPUs, and hands it over.
//!
//! Nothing on the hot path is shared between CPUs but the counter that numbers events: each CPU fills a buffer of runs
//! of its own, and a lock of its own guards its events, which only the CPU itself and the end of the run take. Full
//! buffers go through a bounded queue to one thread that merges, encodes and compresses. When the queue is full the CPU
//! waits, or what does not fit is dropped and counted, as the user chose.

use crate::convert;
use crate::error::TraceError;
use crate::event::{Event, Group};
use crate::select::Selection;
use crate::stream;
use racewalk_cpu::{CpuEvent, Sink};
use racewalk_engine::runs::{Position, Run, RunSink};
use racewalk_mm::sanitizer::{Watcher, What};
use racewalk_sched::{NO_CPU, this_cpu};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Buffers that may wait for the writer.
const QUEUE: usize = 16;
/// Events that a stream keeps before it hands them over without runs.
const EVENTS: usize = 1024;
/// How long records stay unwritten at most, once the writer has them.
const PATIENCE: Duration = Duration::from_millis(500);

/// What to do when the writer cannot follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenFull {
    /// The CPU waits: nothing is lost.
    #[default]
    Wait,
    /// What does not fit is dropped and counted.
    Drop,
}

/// Where records go, in the order of their stream.
pub trait Output: Send {
    /// A data run.
    fn run(&mut self, stream: u32, page: u64, store_first: bool, loads: u32, stores: u32);
    /// Execution enters a page.
    fn enter(&mut self, stream: u32, page: u64, instructions: u64);
    /// An event.
    fn event(&mut self, stream: u32, seq: u64, instructions: u64, event: Event);
    /// A good moment to write. `now`: what there is, even if it is little.
    fn settle(&mut self, now: bool);
}

struct Pending {
    /// Runs begun before it.
    at: u64,
    seq: u64,
    instructions: u64,
    event: Event,
}

enum Message {
    Batch {
        stream: u32,
        first: u64,
        runs: Vec<Run>,
        events: Vec<Pending>,
    },
    /// The CPU has no more.
    Done,
}

struct Stream {
    id: u32,
    position: Arc<Position>,
    events: Mutex<Vec<Pending>>,
}

#[derive(Debug, Default)]
struct Lost {
    runs: AtomicU64,
    events: AtomicU64,
}

/// The taking side.
pub struct Recorder {
    selection: Selection,
    when_full: WhenFull,
    cpus: u32,
    streams: Box<[Stream]>,
    seq: AtomicU64,
    queue: SyncSender<Message>,
    empty: Arc<Mutex<Vec<Vec<Run>>>>,
    lost: Lost,
    /// Sequence numbers and values of marks.
    marks: Arc<Mutex<Vec<(u64, u64)>>>,
    /// The host's time is wanted now and then.
    began: Option<Instant>,
    /// Nothing is taken any more.
    closed: AtomicBool,
    /// Where somebody wants to be told that an event of this number happened.
    until: Option<(u64, Arc<AtomicBool>)>,
}

/// The giving side: a thread that ends when the recorder says so.
pub struct Drain<O> {
    thread: std::thread::JoinHandle<O>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// A recorder for a machine of `cpus` CPUs, and the thread that gives its records to `output`. With `times`, the
    /// host's clock is among them. `until`: set as soon as an event of this number, or a later one, happens.
    pub fn start<O: Output + 'static>(
        cpus: u32,
        selection: Selection,
        when_full: WhenFull,
        times: bool,
        until: Option<(u64, Arc<AtomicBool>)>,
        output: O,
    ) -> std::io::Result<(Arc<Recorder>, Drain<O>)> {
        let (queue, receiver) = sync_channel(QUEUE);
        let stream = |id| Stream { id, position: Arc::default(), events: Mutex::default() };
        let ids = (0..cpus).chain((0..cpus).map(|n| stream::WALKERS + n)).chain([stream::KERNEL]);
        let recorder = Arc::new(Recorder {
            selection: selection.clone(),
            when_full,
            cpus,
            streams: ids.map(stream).collect(),
            seq: AtomicU64::new(1),
            queue,
            empty: Arc::default(),
            lost: Lost::default(),
            marks: Arc::default(),
            began: times.then(Instant::now),
            closed: AtomicBool::new(false),
            until,
        });
        let (empty, marks) = (recorder.empty.clone(), recorder.marks.clone());
        let everything = selection.everything();
        let merge = Merge { output, selection, everything, marks, empty, streams: BTreeMap::new() };
        let thread =
            std::thread::Builder::new().name("recording".into()).spawn(move || merge.run(receiver))?;
        Ok((recorder, Drain { thread }))
    }

    /// How far CPU `cpu` is: for [`racewalk_engine::Core::tell_position`].
    pub fn position(&self, cpu: u32) -> Arc<Position> {
        self.streams[cpu as usize].position.clone()
    }

    /// Takes the runs of CPU `cpu`.
    pub fn runs(self: &Arc<Self>, cpu: u32) -> Box<dyn RunSink> {
        Box::new(CpuRuns { recorder: self.clone(), cpu })
    }

    /// Whether runs of accesses are wanted at all.
    pub fn wants_runs(&self) -> bool {
        self.selection.kind(Group::Access)
    }

    /// From now on takes no events: what the end of a run that is cut short undoes has not happened.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst)
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.seq.load(Ordering::SeqCst) - 1
    }

    /// Runs and events lost so far.
    pub fn lost(&self) -> (u64, u64) {
        (self.lost.runs.load(Ordering::Relaxed), self.lost.events.load(Ordering::Relaxed))
    }

    /// The stream of what happens on `cpu`, said by this thread.
    fn stream(&self, cpu: u32) -> &Stream {
        let n = match cpu {
            NO_CPU => self.streams.len() - 1,
            // Said by another than the CPU's own thread: its speculative walker.
            cpu if this_cpu() != cpu => (self.cpus + cpu) as usize,
            cpu => cpu as usize,
        };
        &self.streams[n]
    }

    /// Something that the machine's parts do not say themselves: a mark, an answer from outside.
    pub fn event(&self, cpu: u32, event: Event) {
        // Where a mark is has to be known, also where it is not wanted itself.
        let mark = self.selection.marks.is_some() && matches!(event, Event::Mark { .. });
        if mark || self.selection.kind(event.kind().group) && (cpu == NO_CPU || self.selection.cpu(cpu)) {
            self.put(self.stream(cpu), event)
        }
    }

    fn put(&self, s: &Stream, event: Event) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut events = lock(&s.events);
        let seq = match event {
            Event::Mark { value } if self.selection.marks.is_some() => {
                // Known before any later event is.
                let mut marks = lock(&self.marks);
                let seq = self.seq.fetch_add(1, Ordering::SeqCst);
                marks.push((seq, value));
                seq
            }
            _ => self.seq.fetch_add(1, Ordering::SeqCst),
        };
        if let Some((last, told)) = &self.until
            && seq >= *last
        {
            told.store(true, Ordering::SeqCst)
        }
        s.position.told.store(true, Ordering::Relaxed);
        let at = s.position.begun.load(Ordering::Relaxed);
        let instructions = s.position.instructions.load(Ordering::Relaxed);
        // Without the host's answers nothing of what comes behind them can be repeated.
        let answer = s.id == stream::KERNEL && event.kind().group == Group::Input;
        events.push(Pending { at, seq, instructions, event });
        if answer || events.len() >= EVENTS {
            let full = std::mem::take(&mut *events);
            drop(events);
            self.send(s.id, u64::MAX, Vec::new(), full)
        }
    }

    fn send(&self, stream: u32, first: u64, runs: Vec<Run>, events: Vec<Pending>) {
        let m = Message::Batch { stream, first, runs, events };
        let refused = match self.when_full {
            // The drain ends only after the last message, or with a panic of its own.
            WhenFull::Wait => self.queue.send(m).err().map(|e| e.0),
            WhenFull::Drop => match self.queue.try_send(m) {
                Ok(()) => None,
                Err(TrySendError::Full(m) | TrySendError::Disconnected(m)) => Some(m),
            },
        };
        if let Some(Message::Batch { stream, runs, events, .. }) = refused {
            let mut lost = (runs.len() as u64, events.len() as u64);
            let mut before = (0, 0);
            // What was lost before, and said in what is lost now, is counted already, but said no more.
            for p in &events {
                if let Event::Lost { runs, events } = p.event {
                    lost.1 -= 1;
                    before = (before.0 + runs, before.1 + events)
                }
            }
            self.lost.runs.fetch_add(lost.0, Ordering::Relaxed);
            self.lost.events.fetch_add(lost.1, Ordering::Relaxed);
            if let Some(s) = self.streams.iter().find(|s| s.id == stream) {
                self.say_lost(s, lost.0 + before.0, lost.1 + before.1)
            }
            lock(&self.empty).push(runs)
        }
    }

    /// Says that something is lost where it happened, as soon as there is room again.
    fn say_lost(&self, s: &Stream, runs_lost: u64, events_lost: u64) {
        let mut waiting = lock(&s.events);
        for p in waiting.iter_mut() {
            if let Event::Lost { runs, events } = &mut p.event {
                *runs += runs_lost;
                *events += events_lost;
                return;
            }
        }
        let seq = self.seq.fetch_add(1, Ordering::SeqCst);
        let at = s.position.begun.load(Ordering::Relaxed);
        let instructions = s.position.instructions.load(Ordering::Relaxed);
        let event = Event::Lost { runs: runs_lost, events: events_lost };
        waiting.push(Pending { at, seq, instructions, event })
    }

    /// Hands over what is left, once every CPU has given its runs ([`racewalk_engine::Core::flush_runs`]), and ends the
    /// drain. What is said later is lost.
    pub fn finish(&self) {
        for s in &self.streams {
            let events = std::mem::take(&mut *lock(&s.events));
            if !events.is_empty() {
                let m = Message::Batch { stream: s.id, first: u64::MAX, runs: Vec::new(), events };
                let _ = self.queue.send(m);
            }
        }
        let _ = self.queue.send(Message::Done);
    }
}

impl<O> Drain<O> {
    /// Waits for the end. The output, with everything in it.
    pub fn wait(self) -> Result<O, TraceError> {
        self.thread.join().map_err(|_| TraceError::Io {
            what: "encode for",
            path: "the recording".into(),
            source: std::io::Error::other("the writing thread panicked"),
        })
    }
}

struct CpuRuns {
    recorder: Arc<Recorder>,
    cpu: u32,
}

impl RunSink for CpuRuns {
    fn take(&mut self, first: u64, runs: Vec<Run>) -> Vec<Run> {
        let r = &self.recorder;
        let s = &r.streams[self.cpu as usize];
        if let Some(began) = r.began
            && r.selection.kind(Group::Guest)
            && r.selection.cpu(self.cpu)
        {
            r.put(s, Event::Time { ns: began.elapsed().as_nanos() as u64 })
        }
        let events = std::mem::take(&mut *lock(&s.events));
        r.send(s.id, first, runs, events);
        lock(&r.empty).pop().unwrap_or_default()
    }

    fn lost(&mut self, n: u32) {
        let r = &self.recorder;
        r.lost.runs.fetch_add(n.into(), Ordering::Relaxed);
        r.say_lost(&r.streams[self.cpu as usize], n.into(), 0)
    }
}

impl Sink for Recorder {
    fn event(&self, cpu: u32, event: &CpuEvent) {
        let wanted = |g| self.selection.kind(g);
        let any = match event {
            CpuEvent::Walk(_) | CpuEvent::Overtaken => wanted(Group::Walk),
            CpuEvent::Lookup { .. } | CpuEvent::Fill { .. } | CpuEvent::Evict { .. } => wanted(Group::Tlb),
            _ => true,
        };
        if any {
            Recorder::event(self, cpu, convert::cpu(event))
        }
    }
}

impl Watcher for Recorder {
    fn happened(&self, cpu: u32, what: &What) {
        if let Some(e) = convert::mm(what) {
            Recorder::event(self, cpu, e)
        }
    }
}

/// What a stream is being merged from.
#[derive(Default)]
struct Merging {
    waiting: VecDeque<Pending>,
    /// Number of the next run.
    next: u64,
    /// Instructions completed, as far as is known.
    clock: u64,
    /// How many marks it has passed.
    marks: usize,
    /// It is between the two marks.
    inside: bool,
    walk_out: bool,
}

struct Merge<O> {
    output: O,
    selection: Selection,
    /// The selection leaves nothing out.
    everything: bool,
    marks: Arc<Mutex<Vec<(u64, u64)>>>,
    empty: Arc<Mutex<Vec<Vec<Run>>>>,
    streams: BTreeMap<u32, Merging>,
}

impl<O: Output> Merge<O> {
    fn run(mut self, receiver: Receiver<Message>) -> O {
        let mut settled = Instant::now();
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(Message::Batch { stream, first, mut runs, events }) => {
                    self.batch(stream, first, &runs, events);
                    if runs.capacity() > 0 {
                        runs.clear();
                        lock(&self.empty).push(runs)
                    }
                }
                Ok(Message::Done) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let late = settled.elapsed() >= PATIENCE;
            self.output.settle(late);
            if late {
                settled = Instant::now()
            }
        }
        let all: Vec<u32> = self.streams.keys().copied().collect();
        for s in all {
            // Events behind runs that were never handed over: a run that ended early.
            self.events(s, u64::MAX)
        }
        self.output.settle(true);
        self.output
    }

    fn batch(&mut self, stream: u32, first: u64, runs: &[Run], events: Vec<Pending>) {
        let m = self.streams.entry(stream).or_default();
        m.waiting.extend(events);
        if first != u64::MAX {
            m.next = first;
        }
        let mut k = 0;
        while k < runs.len() {
            let Some(m) = self.streams.get_mut(&stream) else { return };
            // Up to the next event without looking.
            let stop = m.waiting.front().map_or(runs.len(), |p| {
                usize::try_from(p.at.saturating_sub(m.next)).map_or(runs.len(), |n| runs.len().min(k + n))
            });
            let here = &runs[k..stop];
            if self.everything {
                for r in here {
                    if r.word & Run::FETCH != 0 {
                        self.output.enter(stream, r.page(), r.count)
                    } else {
                        self.output.run(stream, r.page(), r.word & Run::STORE != 0, r.loads(), r.stores())
                    }
                }
            } else {
                self.some(stream, here)
            }
            let n = stop - k;
            k = stop;
            if let Some(m) = self.streams.get_mut(&stream) {
                m.next += n as u64
            }
            self.due(stream)
        }
        self.due(stream)
    }

    fn due(&mut self, stream: u32) {
        let next = self.streams.get(&stream).map_or(0, |m| m.next);
        self.events(stream, next)
    }

    /// Runs of which only some are wanted.
    fn some(&mut self, stream: u32, runs: &[Run]) {
        let s = &self.selection;
        let Some(m) = self.streams.get_mut(&stream) else { return };
        for r in runs {
            let fetch = r.word & Run::FETCH != 0;
            if fetch {
                m.clock = r.count
            }
            let wanted = s.kind(Group::Access)
                && s.cpu(stream)
                && s.page(r.page())
                && s.clock(m.clock)
                && (s.marks.is_none() || m.inside);
            if wanted && fetch {
                self.output.enter(stream, r.page(), r.count)
            } else if wanted {
                self.output.run(stream, r.page(), r.word & Run::STORE != 0, r.loads(), r.stores())
            }
        }
    }

    /// Events before which all runs up to number `next` have begun.
    fn events(&mut self, stream: u32, next: u64) {
        loop {
            let Some(m) = self.streams.get_mut(&stream) else { return };
            if m.waiting.front().is_none_or(|p| p.at > next) {
                return;
            }
            let Some(p) = m.waiting.pop_front() else { return };
            if self.everything || wanted(&self.selection, &self.marks, stream, m, &p) {
                self.output.event(stream, p.seq, p.instructions, p.event)
            }
        }
    }
}

/// Whether an event is among what is selected by address, instruction and mark.
fn wanted(s: &Selection, marks: &Mutex<Vec<(u64, u64)>>, stream: u32, m: &mut Merging, p: &Pending) -> bool {
    m.clock = p.instructions;
    let mut within = true;
    if let Some((from, to)) = s.marks {
        let marks = lock(marks);
        while let Some(&(_, value)) = marks.get(m.marks).filter(|x| x.0 <= p.seq) {
            m.marks += 1;
            m.inside = if m.inside { value != to } else { value == from };
        }
        within = m.inside;
        if let Event::Mark { .. } = p.event {
            within = s.kind(Group::Guest) && s.cpu(stream)
        }
    }
    // The steps of a walk go with its beginning.
    let addressed = match &p.event {
        Event::WalkStart { vaddr, .. } => {
            m.walk_out = !s.address(vaddr.0);
            !m.walk_out
        }
        Event::WalkStep { .. }
        | Event::WalkDone { .. }
        | Event::WalkFault { .. }
        | Event::WalkOvertaken {} => !m.walk_out,
        Event::Fill { page } | Event::Evict { page, .. } | Event::Lookup { page, .. } => s.page(page.0),
        _ => true,
    };
    p.event.kind().group == Group::Input || (within && addressed && s.clock(p.instructions))
}
