//! What the host answers during a run that can be repeated: into the recording, and out of it.

use racewalk_linux::host;
use racewalk_sched::controlled::{Policy, Situation, TaskId};
use racewalk_sched::{Label, NO_CPU};
use racewalk_trace::answers::{Answer, Answers, Found};
use racewalk_trace::event::{Bytes, Event};
use racewalk_trace::recorder::Recorder;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The answers of a run.
pub struct Tape {
    recorder: Arc<Recorder>,
    /// Where they come from, in a replay.
    answers: Option<Mutex<Answers>>,
    /// Set where the run leaves the order of the recording, if it is to.
    left: Option<Arc<AtomicBool>>,
    /// The last answers to questions that only look, until something is asked that may change what they look at.
    seen: Mutex<HashMap<(&'static str, String), Answer>>,
    /// The run is to end.
    stop: Arc<AtomicBool>,
    /// What was asked that the recording has no answer to.
    unanswered: Mutex<Option<String>>,
}

impl Tape {
    /// Into a recording.
    pub fn recording(recorder: Arc<Recorder>, stop: Arc<AtomicBool>) -> Arc<Tape> {
        Arc::new(Tape {
            recorder,
            answers: None,
            left: None,
            seen: Mutex::default(),
            stop,
            unanswered: Mutex::default(),
        })
    }

    /// Out of one; `recorder` takes them again. From `left` on, if that is given, the order of the recording holds no more:
    /// each question finds its own answers.
    pub fn playing(
        recorder: Arc<Recorder>,
        answers: Answers,
        stop: Arc<AtomicBool>,
        left: Option<Arc<AtomicBool>>,
    ) -> Arc<Tape> {
        let answers = Some(Mutex::new(answers));
        Arc::new(Tape { recorder, answers, left, seen: Mutex::default(), stop, unanswered: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<(&'static str, String), Answer>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was answered, and forgets what that may have changed.
    fn remember(&self, call: &'static str, about: &str, a: &Answer) {
        let mut seen = self.seen();
        if host::looks(call) {
            seen.insert((call, about.to_string()), a.clone());
        } else if let Some(file) = ["/dev/stdout", "/dev/stderr"].iter().find(|f| about.starts_with(**f)) {
            seen.retain(|k, _| !k.1.starts_with(file))
        } else {
            seen.clear()
        }
    }

    /// The answer to a question in the order of the recording; why there is none.
    fn in_order(answers: &mut Answers, call: &str) -> Result<Answer, String> {
        match answers.next() {
            Ok(Some(a)) if &*a.call == call => Ok(a),
            Ok(Some(a)) => Err(format!("the recording has {} there", a.call)),
            Ok(None) => Err("the recording has no more answers".into()),
            Err(e) => Err(format!("the answer cannot be read: {e}")),
        }
    }

    /// The next answer to this question, behind the order of the recording, or the last one again; why there is none.
    fn out_of_order(&self, answers: &mut Answers, call: &'static str, about: &str) -> Result<Answer, String> {
        let again = || self.seen().get(&(call, about.to_string())).cloned();
        match answers.to(call, about) {
            Ok(Found::Answer(a)) => Ok(a),
            Ok(Found::Never) => {
                again().ok_or_else(|| "which the recorded run did not ask behind --until".into())
            }
            Ok(Found::NoMore(n)) => again().ok_or_else(|| {
                format!("which the recorded run asked only {n} times behind --until, and now it may be answered otherwise")
            }),
            Ok(Found::Unnamed) => Self::in_order(answers, call).map_err(|why| {
                format!("{why}, and being of version 1.0 it does not say what its answers are about")
            }),
            Err(e) => Err(format!("the answers cannot be read: {e}")),
        }
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

    fn answer(&self, call: &'static str, about: &str) -> Option<Vec<u8>> {
        let mut answers = self.answers.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match &self.left {
            Some(left) if left.load(Ordering::SeqCst) => self.out_of_order(&mut answers, call, about),
            _ => Self::in_order(&mut answers, call),
        };
        let why = match found {
            Ok(a) => {
                self.recorder.event(NO_CPU, a.event());
                if self.left.is_some() {
                    self.remember(call, about, &a)
                }
                return Some(a.bytes.to_vec());
            }
            Err(why) => why,
        };
        let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
        let said =
            format!("the guest asks the host for {call}{about}, {why} (after {} answers)", answers.given());
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(said);
        self.stop.store(true, Ordering::SeqCst);
        None
    }

    fn answered(&self, call: &'static str, about: &str, answer: &[u8]) {
        let (call, about) = (call.into(), about.into());
        self.recorder.event(NO_CPU, Event::Reply { call, about, bytes: Bytes(answer.into()) })
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
