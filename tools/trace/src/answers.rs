//! The answers of the host in a recording, one after the other.

use crate::error::FrameError;
use crate::event::{Bytes, Event};
use crate::frame::FrameKind;
use crate::reader::{FrameRef, Recording};
use crate::record::Record;
use crate::stream;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What the host answered to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The question.
    pub call: Arc<str>,
    /// Its arguments. Recordings of version 1.0 do not say.
    pub about: Option<Arc<str>>,
    /// The answer, as `emu/linux` writes it.
    pub bytes: Arc<[u8]>,
}

impl Answer {
    /// As it is recorded.
    pub fn event(&self) -> Event {
        let (call, bytes) = (self.call.clone(), Bytes(self.bytes.clone()));
        match self.about.clone() {
            Some(about) => Event::Reply { call, about, bytes },
            None => Event::Answer { call, bytes },
        }
    }
}

/// What was asked, and its arguments.
type Question = (Arc<str>, Arc<str>);

/// Answers to one question with the same arguments.
#[derive(Debug, Default)]
struct Same {
    given: u64,
    left: VecDeque<Answer>,
}

/// What a question finds that may come in another order than it was recorded in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Its next answer.
    Answer(Answer),
    /// So many answers, all of which were given.
    NoMore(u64),
    /// No answer to this question with these arguments.
    Never,
    /// Only answers in their order: the recording does not say what was asked.
    Unnamed,
}

/// What the host answered, in order.
#[derive(Debug)]
pub struct Answers {
    recording: Arc<Recording>,
    frames: VecDeque<FrameRef>,
    waiting: VecDeque<Answer>,
    /// Records of the stream in the frames so far.
    number: u64,
    given: u64,
    /// What was left when the order was left, by question and arguments.
    by_question: Option<HashMap<Question, Same>>,
}

impl Answers {
    /// From the first on.
    pub fn new(recording: Arc<Recording>) -> Answers {
        let mine = |f: &&FrameRef| f.header.kind == FrameKind::Stream && f.header.stream == stream::KERNEL;
        let frames = recording.frames.iter().filter(mine).copied().collect();
        Answers { recording, frames, waiting: VecDeque::new(), number: 0, given: 0, by_question: None }
    }

    /// How many were given.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// The next answer. Nothing behind the last; an error, again and again, where any may be lost.
    #[allow(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Answer>, FrameError> {
        loop {
            if let Some(a) = self.waiting.pop_front() {
                self.given += 1;
                return Ok(Some(a));
            }
            let Some(f) = self.frames.front() else { return Ok(None) };
            if f.header.first > self.number {
                return Err(FrameError::Gap(f.header.first - self.number));
            }
            let all = self.recording.frame(f)?.into_iter();
            self.number += u64::from(f.header.records);
            self.frames.pop_front();
            self.waiting.extend(all.filter_map(|r| match r {
                Record::Event { event: Event::Answer { call, bytes }, .. } => {
                    Some(Answer { call, about: None, bytes: bytes.0 })
                }
                Record::Event { event: Event::Reply { call, about, bytes }, .. } => {
                    Some(Answer { call, about: Some(about), bytes: bytes.0 })
                }
                _ => None,
            }))
        }
    }

    /// The next answer to this question among those that are left, whatever the order of the others. Once it was asked for,
    /// [`next`](Self::next) gives nothing.
    pub fn to(&mut self, call: &str, about: &str) -> Result<Found, FrameError> {
        if self.by_question.is_none() {
            let mut all: HashMap<_, Same> = HashMap::new();
            while let Some(a) = self.next()? {
                self.given -= 1;
                let Some(about) = a.about.clone() else {
                    self.waiting.push_front(a);
                    return Ok(Found::Unnamed);
                };
                all.entry((a.call.clone(), about)).or_default().left.push_back(a)
            }
            self.by_question = Some(all)
        }
        let Some(all) = &mut self.by_question else { return Ok(Found::Never) };
        let Some(same) = all.get_mut(&(call.into(), about.into())) else { return Ok(Found::Never) };
        let Some(a) = same.left.pop_front() else { return Ok(Found::NoMore(same.given)) };
        same.given += 1;
        self.given += 1;
        Ok(Found::Answer(a))
    }
}
