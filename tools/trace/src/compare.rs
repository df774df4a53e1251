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
    /// Records before this number are lost.
    lost_to: u64,
    clock: u64,
    before: VecDeque<Record>,
}

/// What the recording has next.
enum Next {
    Record(Record),
    /// Something that is lost.
    Lost(Option<FrameError>),
    End,
}

/// How much of a run is held against the recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// All of it.
    Whole,
    /// What can be read of a recording that is damaged: what is lost was the same.
    Readable,
    /// The same of a recording that was cut: as far as each of its streams goes.
    Prefix,
    /// As far as the event of this number.
    Event(u64),
}

/// Takes the records of a run and holds them against a recording.
pub struct Compare {
    recording: Arc<Recording>,
    limit: Limit,
    /// The run went on behind what the recording has.
    cut: bool,
    streams: BTreeMap<u32, Cursor>,
    /// Streams of the recording that are not at their end.
    left: usize,
    /// Records that were the same.
    same: u64,
    found: Option<Divergence>,
    stop: Arc<AtomicBool>,
    over: bool,
}

impl Compare {
    /// Against `recording`, so far; `stop` is set when something is different, or a prefix is through.
    pub fn new(recording: Arc<Recording>, limit: Limit, stop: Arc<AtomicBool>) -> Compare {
        let left = recording.streams().len();
        let incomplete = recording.end.as_ref().is_none_or(|e| e.interrupted);
        let cut = match limit {
            Limit::Whole => false,
            Limit::Readable | Limit::Prefix => true,
            Limit::Event(_) => incomplete || !recording.damage.is_empty(),
        };
        Compare {
            recording,
            limit,
            cut,
            streams: BTreeMap::new(),
            left,
            same: 0,
            found: None,
            stop,
            over: false,
        }
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
            lost_to: 0,
            clock: 0,
            before: VecDeque::new(),
        })
    }

    fn next(c: &mut Cursor, recording: &Recording) -> Next {
        loop {
            if c.number < c.lost_to {
                return Next::Lost(None);
            }
            if let Some(r) = c.waiting.pop_front() {
                return Next::Record(r);
            }
            match c.frames.front() {
                None => return Next::End,
                Some(f) if f.header.first > c.number => {
                    c.lost_to = f.header.first;
                    continue;
                }
                Some(_) => {}
            }
            let Some(f) = c.frames.pop_front() else { return Next::End };
            match recording.frame_records(&f) {
                Ok(all) => c.waiting = all.into(),
                Err(e) if f.header.records == 0 => return Next::Lost(Some(e)),
                Err(e) => {
                    c.lost_to = c.number.saturating_add(f.header.records.into());
                    return Next::Lost(Some(e));
                }
            }
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
            Next::Record(r) => (Some(r), None),
            Next::Lost(Some(e)) if self.limit == Limit::Whole => (None, Some(e)),
            Next::Lost(_) => {
                c.number += came.is_some() as u64;
                return c.before.clear();
            }
            // What comes behind the end is not to be judged.
            Next::End if self.cut => return,
            Next::End => (None, None),
        };
        let last = c.waiting.is_empty() && c.frames.is_empty();
        let same = expected == came || (self.limit == Limit::Prefix && cut(c, &expected, &came));
        if same && unreadable.is_none() {
            let Some(r) = came else { return };
            c.number += 1;
            self.same += 1;
            if let Record::Enter { instructions, .. } | Record::Event { instructions, .. } = &r {
                c.clock = *instructions
            }
            if c.before.len() == BEFORE {
                c.before.pop_front();
            }
            c.before.push_back(r);
            self.left = self.left.saturating_sub(last as usize);
            let ends = self.cut && self.limit != Limit::Readable;
            if ends && self.left == 0 {
                self.over = true;
                self.stop.store(true, Ordering::SeqCst)
            }
            return;
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

    /// Records that are lost on the other side, up to number `to` of the stream.
    pub(crate) fn skip(&mut self, stream: u32, to: u64) {
        let c = Self::cursor(&mut self.streams, &self.recording, stream);
        while c.number < to {
            match Self::next(c, &self.recording) {
                Next::Record(_) => c.number += 1,
                Next::Lost(_) if c.number < c.lost_to => c.number = c.lost_to.min(to),
                Next::Lost(_) => {}
                Next::End => c.number = to,
            }
            c.before.clear()
        }
    }

    /// How many records were the same.
    pub fn same(&self) -> u64 {
        self.same
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

/// Whether a run of accesses is what came of one before the recording was cut: no other begins behind it.
fn cut(c: &Cursor, expected: &Option<Record>, came: &Option<Record>) -> bool {
    let (
        Some(Record::Run { page, store_first, loads, stores }),
        Some(Record::Run { page: p, store_first: s, loads: l, stores: n }),
    ) = (expected, came)
    else {
        return false;
    };
    let behind = c.waiting.iter().all(|r| matches!(r, Record::Enter { .. })) && c.frames.is_empty();
    behind && (page, store_first) == (p, s) && loads <= l && stores <= n
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
