//! What the host answers during a run that can be repeated: into the recording, and out of it.

use racewalk_linux::host;
use racewalk_sched::controlled::{Policy, Situation, TaskId};
use racewalk_sched::{Label, NO_CPU};
use racewalk_trace::answers::Answers;
use racewalk_trace::event::{Bytes, Event};
use racewalk_trace::recorder::Recorder;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The answers of a run.
pub struct Tape {
    recorder: Arc<Recorder>,
    /// Where they come from, in a replay.
    answers: Option<Mutex<Answers>>,
    /// The run is to end.
    stop: Arc<AtomicBool>,
    /// What was asked that the recording has no answer to.
    unanswered: Mutex<Option<String>>,
}

impl Tape {
    /// Into a recording.
    pub fn recording(recorder: Arc<Recorder>, stop: Arc<AtomicBool>) -> Arc<Tape> {
        Arc::new(Tape { recorder, answers: None, stop, unanswered: Mutex::default() })
    }

    /// Out of one; `recorder` takes them again.
    pub fn playing(recorder: Arc<Recorder>, answers: Answers, stop: Arc<AtomicBool>) -> Arc<Tape> {
        let answers = Some(Mutex::new(answers));
        Arc::new(Tape { recorder, answers, stop, unanswered: Mutex::default() })
    }

    /// What was asked that the recording has no answer to, if anything.
    pub fn unanswered(&self) -> Option<String> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl host::Tape for Tape {
    fn plays(&self) -> bool {
        self.answers.is_some()
    }

    fn answer(&self, call: &'static str) -> Option<Vec<u8>> {
        let mut answers = self.answers.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = match answers.next() {
            Ok(Some(a)) if &*a.call == call => return Some(a.bytes.to_vec()),
            Ok(Some(a)) => format!("the guest asks the host for {call}, the recording has {} there", a.call),
            Ok(None) => format!("the guest asks the host for {call}, the recording has no more answers"),
            Err(e) => format!("the guest asks the host for {call}, the answer cannot be read: {e}"),
        };
        let said = format!("{problem} (after {} answers)", answers.given());
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(said);
        self.stop.store(true, Ordering::SeqCst);
        None
    }

    fn answered(&self, call: &'static str, answer: &[u8]) {
        self.recorder.event(NO_CPU, Event::Answer { call: call.into(), bytes: Bytes(answer.into()) })
    }
}

/// A policy until a flag is set; then another one, or the end of the run.
pub struct Until {
    first: Box<dyn Policy>,
    second: Option<Box<dyn Policy>>,
    past: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    recorder: Arc<Recorder>,
}

impl Until {
    /// `first` until `past`, then `second` if there is one; to the end with `stop`. `recorder` takes nothing of what an
    /// end before the end undoes.
    pub fn new(
        first: Box<dyn Policy>,
        second: Option<Box<dyn Policy>>,
        past: Arc<AtomicBool>,
        stop: Arc<AtomicBool>,
        recorder: Arc<Recorder>,
    ) -> Until {
        Until { first, second, past, stop, recorder }
    }
}

impl Policy for Until {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, label: Label) -> TaskId {
        match &mut self.second {
            Some(p) if self.past.load(Ordering::SeqCst) => p.choose(runnable, current, label),
            _ => self.first.choose(runnable, current, label),
        }
    }

    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        let next = match &mut self.second {
            _ if self.stop.load(Ordering::SeqCst) => None,
            second if self.past.load(Ordering::SeqCst) => second.as_mut().and_then(|p| p.decide(at)),
            _ => self.first.decide(at),
        };
        if next.is_none() {
            self.recorder.close()
        }
        next
    }

    fn pick(&mut self, n: u32, label: Label) -> u32 {
        match &mut self.second {
            Some(p) if self.past.load(Ordering::SeqCst) => p.pick(n, label),
            _ => self.first.pick(n, label),
        }
    }

    fn every_point(&self) -> bool {
        self.first.every_point()
    }
}
