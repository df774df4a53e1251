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
    unanswered: Mutex<Option<Unanswered>>,
}

/// A question without an answer.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// The question, and why there is no answer.
    pub said: String,
    /// The recording ends there, or cannot be read: the run may still be the recorded one.
    pub ends: bool,
}

/// Why there is no answer.
struct Missing {
    why: String,
    ends: bool,
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
    fn in_order(answers: &mut Answers, call: &str) -> Result<Answer, Missing> {
        let (why, ends) = match answers.next() {
            Ok(Some(a)) if &*a.call == call => return Ok(a),
            Ok(Some(a)) => (format!("the recording has {} there", a.call), false),
            Ok(None) => ("the recording has no more answers".into(), true),
            Err(e) => (format!("the answer cannot be read: {e}"), true),
        };
        Err(Missing { why, ends })
    }

    /// The next answer to this question, behind the order of the recording, or the last one again; why there is none.
    fn out_of_order(
        &self,
        answers: &mut Answers,
        call: &'static str,
        about: &str,
    ) -> Result<Answer, Missing> {
        let again = || self.seen().get(&(call, about.to_string())).cloned();
        let (found, why) = match answers.to(call, about) {
            Ok(Found::Answer(a)) => return Ok(a),
            Ok(Found::Never) => (again(), "which the recorded run did not ask behind --until".into()),
            Ok(Found::NoMore(n)) => (
                again(),
                format!(
                    "which the recorded run asked only {n} times behind --until, and now it may be answered otherwise"
                ),
            ),
            Ok(Found::Unnamed) => {
                return Self::in_order(answers, call).map_err(|m| Missing {
                    why: format!(
                        "{}, and being of version 1.0 it does not say what its answers are about",
                        m.why
                    ),
                    ..m
                });
            }
            Err(e) => (None, format!("the answers cannot be read: {e}")),
        };
        found.ok_or(Missing { why, ends: false })
    }

    /// What was asked that the recording has no answer to, if anything.
    pub fn unanswered(&self) -> Option<Unanswered> {
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
        let Missing { why, ends } = match found {
            Ok(a) => {
                self.recorder.event(NO_CPU, a.event());
                if self.left.is_some() {
                    self.remember(call, about, &a)
                }
                return Some(a.bytes.to_vec());
            }
            Err(missing) => missing,
        };
        let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
        let said =
            format!("the guest asks the host for {call}{about}, {why} (after {} answers)", answers.given());
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        unanswered.get_or_insert(Unanswered { said, ends });
        // What the guest does without an answer is not the run's.
        self.recorder.close();
        self.stop.store(true, Ordering::SeqCst);
        None
    }

    fn ends(&self) -> bool {
        let ends = self.stop.load(Ordering::SeqCst);
        if ends {
            self.recorder.close()
        }
        ends
    }

    fn answered(&self, call: &'static str, about: &str, answer: &[u8]) {
        // A poll may have been woken for the end: a replay ends before it.
        if call == "poll" && host::Tape::ends(self) {
            return;
        }
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
    /// Questions so far, and the one that ends the run.
    asked: u64,
    last: Option<u64>,
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
        Until { first, second, past, stop, recorder, asked: 0, last: None }
    }

    /// To the end with question number `last`, too.
    pub fn asked_until(mut self, last: Option<u64>) -> Until {
        self.last = last;
        self
    }

    /// How often it was asked: by a run that was cut short, up to where it was.
    pub fn asked(&self) -> u64 {
        self.asked
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
        let past = self.past.load(Ordering::SeqCst);
        self.asked += 1;
        let next = match &mut self.second {
            _ if self.stop.load(Ordering::SeqCst) || self.last == Some(self.asked) => None,
            None if past => None,
            // Where there is nothing to decide, a policy is not asked.
            _ if at.runnable.len() == 1 => Some(at.runnable[0]),
            Some(second) if past => second.decide(at),
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

    /// A run of one task ends where it is told to, too.
    fn every_point(&self) -> bool {
        true
    }
}
