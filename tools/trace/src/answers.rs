//! The answers of the host in a recording, one after the other.

use crate::error::FrameError;
use crate::event::Event;
use crate::frame::FrameKind;
use crate::reader::{FrameRef, Recording};
use crate::record::Record;
use crate::stream;
use std::collections::VecDeque;
use std::sync::Arc;

/// What the host answered to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The question.
    pub call: Arc<str>,
    /// The answer, as `emu/linux` writes it.
    pub bytes: Arc<[u8]>,
}

/// What the host answered, in order.
#[derive(Debug)]
pub struct Answers {
    recording: Arc<Recording>,
    frames: VecDeque<FrameRef>,
    waiting: VecDeque<Answer>,
    given: u64,
}

impl Answers {
    /// From the first on.
    pub fn new(recording: Arc<Recording>) -> Answers {
        let mine = |f: &&FrameRef| f.header.kind == FrameKind::Stream && f.header.stream == stream::KERNEL;
        let frames = recording.frames.iter().filter(mine).copied().collect();
        Answers { recording, frames, waiting: VecDeque::new(), given: 0 }
    }

    /// How many were given.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// The next answer. Nothing behind the last.
    #[allow(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Answer>, FrameError> {
        loop {
            if let Some(a) = self.waiting.pop_front() {
                self.given += 1;
                return Ok(Some(a));
            }
            let Some(f) = self.frames.pop_front() else { return Ok(None) };
            let all = self.recording.frame(&f)?.into_iter();
            self.waiting.extend(all.filter_map(|r| match r {
                Record::Event { event: Event::Answer { call, bytes }, .. } => {
                    Some(Answer { call, bytes: bytes.0 })
                }
                _ => None,
            }))
        }
    }
}
