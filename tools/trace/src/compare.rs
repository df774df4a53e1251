//! Holds a run against a recording of it, record by record: what a replay is judged by.

use crate::error::FrameError;
use crate::event::Event;
use crate::frame::FrameKind;
use crate::reader::{FrameRef, Recording};
use crate::record::Record;
use crate::recorder::Output;
use crate::stream;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Records before a difference that it shows.
const BEFORE: usize = 4;

/// The first difference in a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// Which.
    pub stream: u32,
    /// Number of the record in the stream.
    pub number: u64,
    /// Instructions that the CPU had completed there, as far as its records say.
    pub instructions: u64,
    /// What the recording has; nothing if it ends before.
    pub expected: Option<Record>,
    /// What came; nothing if the run ended before.
    pub came: Option<Record>,
    /// What came before, on both sides.
    pub before: Vec<Record>,
    /// The recording cannot be read here.
    pub unreadable: Option<FrameError>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = stream::name(self.stream);
        write!(f, "record {} of {name}", self.number)?;
        if self.instructions > 0 {
            write!(f, ", after {} instructions", self.instructions)?
        }
        for r in &self.before {
            write!(f, "\n            {r}")?
        }
        let end = |r: &Option<Record>, none: &str| r.as_ref().map_or(none.to_string(), |r| r.to_string());
        match &self.unreadable {
            Some(e) => write!(f, "\n  expected  unknown, the recording cannot be read here: {e}")?,
            None => write!(f, "\n  expected  {}", end(&self.expected, "nothing more"))?,
        }
        write!(f, "\n  came      {}", end(&self.came, "nothing more"))
    }
}

struct Cursor {
    frames: VecDeque<FrameRef>,
    waiting: VecDeque<Record>,
    number: u64,
    clock: u64,
    before: VecDeque<Record>,
}

/// How much of a run is held against the recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// All of it.
    Whole,
    /// As far as each stream of the recording goes: one that was cut, or interrupted.
    Prefix,
    /// As far as the event of this number.
    Event(u64),
}

/// Takes the records of a run and holds them against a recording.
pub struct Compare {
    recording: Arc<Recording>,
    limit: Limit,
    streams: BTreeMap<u32, Cursor>,
    found: Option<Divergence>,
    stop: Arc<AtomicBool>,
    over: bool,
}

impl Compare {
    /// Against `recording`, so far; `stop` is set when something is different, or a prefix is through.
    pub fn new(recording: Arc<Recording>, limit: Limit, stop: Arc<AtomicBool>) -> Compare {
        Compare { recording, limit, streams: BTreeMap::new(), found: None, stop, over: false }
    }

    fn cursor<'a>(
        streams: &'a mut BTreeMap<u32, Cursor>,
        recording: &Recording,
        stream: u32,
    ) -> &'a mut Cursor {
        streams.entry(stream).or_insert_with(|| Cursor {
            frames: recording
                .frames
                .iter()
                .filter(|f| f.header.kind == FrameKind::Stream && f.header.stream == stream)
                .copied()
                .collect(),
            waiting: VecDeque::new(),
            number: 0,
            clock: 0,
            before: VecDeque::new(),
        })
    }

    fn next(c: &mut Cursor, recording: &Recording) -> Result<Option<Record>, FrameError> {
        loop {
            if let Some(r) = c.waiting.pop_front() {
                return Ok(Some(r));
            }
            let Some(f) = c.frames.pop_front() else { return Ok(None) };
            c.waiting = recording.frame_records(&f)?.into()
        }
    }

    fn hold(&mut self, stream: u32, came: Option<Record>) {
        if self.found.is_some() || self.over {
            return;
        }
        if let (Limit::Event(last), Some(Record::Event { seq, .. })) = (self.limit, &came)
            && *seq > last
        {
            self.over = true;
            return;
        }
        let c = Self::cursor(&mut self.streams, &self.recording, stream);
        let (expected, unreadable) = match Self::next(c, &self.recording) {
            Ok(r) => (r, None),
            Err(e) => (None, Some(e)),
        };
        if expected == came && unreadable.is_none() {
            let Some(r) = came else { return };
            c.number += 1;
            if let Record::Enter { instructions, .. } | Record::Event { instructions, .. } = &r {
                c.clock = *instructions
            }
            if c.before.len() == BEFORE {
                c.before.pop_front();
            }
            return c.before.push_back(r);
        }
        if self.limit == Limit::Prefix && expected.is_none() {
            // The others may have more, but what comes here is not to be judged.
            self.over = true;
            return self.stop.store(true, Ordering::SeqCst);
        }
        let at = |r: &Option<Record>| match r {
            Some(Record::Enter { instructions, .. } | Record::Event { instructions, .. }) => {
                Some(*instructions)
            }
            _ => None,
        };
        self.found = Some(Divergence {
            stream,
            number: c.number,
            instructions: at(&came).or(at(&expected)).unwrap_or(c.clock),
            expected,
            came,
            before: c.before.drain(..).collect(),
            unreadable,
        });
        self.stop.store(true, Ordering::SeqCst)
    }

    /// The first difference. Of a whole recording, records that the run has not are one, too.
    pub fn verdict(mut self) -> Option<Divergence> {
        if self.limit == Limit::Whole {
            for s in self.recording.streams() {
                self.hold(s, None)
            }
        }
        self.found
    }
}

impl Output for Compare {
    fn run(&mut self, stream: u32, page: u64, store_first: bool, loads: u32, stores: u32) {
        self.hold(stream, Some(Record::Run { page, store_first, loads, stores }))
    }
    fn enter(&mut self, stream: u32, page: u64, instructions: u64) {
        self.hold(stream, Some(Record::Enter { page, instructions }))
    }
    fn event(&mut self, stream: u32, seq: u64, instructions: u64, event: Event) {
        self.hold(stream, Some(Record::Event { seq, instructions, event }))
    }
    fn settle(&mut self, _: bool) {}
}
