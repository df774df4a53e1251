use super::{Policy, Situation, TaskId};
use crate::Label;
use crate::schedule::{Choice, Schedule};

/// Repeats a schedule; when it is at its end, or names a task that cannot run, `then` decides.
pub struct Replay<P> {
    schedule: Schedule,
    at: usize,
    /// Decisions that the schedule did not fit: zero when the replay was exact.
    pub diverged: u64,
    then: P,
}

impl<P: Policy> Replay<P> {
    /// Repeats `schedule`, then asks `then`.
    pub fn new(schedule: Schedule, then: P) -> Self {
        Replay { schedule, at: 0, diverged: 0, then }
    }

    /// Choices that no decision has asked for. A turn until a task waits counts for nothing: it may have been done.
    pub fn left(&self) -> usize {
        let rest = self.schedule.choices.get(self.at..).unwrap_or_default();
        rest.iter().filter(|&&c| !matches!(Choice::of(c), Choice::Until(_))).count()
    }

    fn next(&mut self, runnable: &[TaskId]) -> Option<TaskId> {
        while let Some(&c) = self.schedule.choices.get(self.at) {
            match Choice::of(c) {
                Choice::Task(t) => {
                    self.at += 1;
                    if runnable.contains(&t) {
                        return Some(t);
                    }
                    self.diverged += 1;
                    return None;
                }
                Choice::Until(t) if runnable.contains(&t) => return Some(t),
                // It waits or has ended: the next choice is due.
                Choice::Until(_) => self.at += 1,
                Choice::Value(_) => {
                    self.at += 1;
                    self.diverged += 1;
                }
            }
        }
        None
    }
}

impl<P: Policy> Policy for Replay<P> {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, label: Label) -> TaskId {
        self.next(runnable).unwrap_or_else(|| self.then.choose(runnable, current, label))
    }
    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        self.next(at.runnable).or_else(|| self.then.decide(at))
    }
    fn pick(&mut self, n: u32, label: Label) -> u32 {
        // Values that a task takes while it goes on follow its `Until`.
        if let Some([until, value]) = self.schedule.choices.get_mut(self.at..self.at + 2)
            && let (Choice::Until(_), Choice::Value(_)) = (Choice::of(*until), Choice::of(*value))
        {
            std::mem::swap(until, value);
        }
        match self.schedule.choices.get(self.at).map(|&c| Choice::of(c)) {
            Some(Choice::Value(v)) if v < n => {
                self.at += 1;
                v
            }
            // A task's turn is left for the next decision between tasks.
            c => {
                self.at += matches!(c, Some(Choice::Value(_))) as usize;
                self.diverged += matches!(c, Some(Choice::Value(_) | Choice::Task(_))) as u64;
                self.then.pick(n, label)
            }
        }
    }
}
