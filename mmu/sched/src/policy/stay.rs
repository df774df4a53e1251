use super::{Policy, Situation, TaskId};
use crate::Label;

/// Never preempts: a task runs until it waits or ends, then the first that can run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stay;

impl Policy for Stay {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, _label: Label) -> TaskId {
        current.unwrap_or(runnable[0])
    }
    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        Some(at.unforced())
    }
}
