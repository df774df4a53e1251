use super::{Policy, TaskId};
use crate::Label;

/// Each task in turn, one scheduling point at a time.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    last: Option<TaskId>,
}

impl Policy for RoundRobin {
    fn choose(&mut self, runnable: &[TaskId], _current: Option<TaskId>, _label: Label) -> TaskId {
        let next = match self.last {
            Some(l) => *runnable.iter().find(|&&t| t > l).unwrap_or(&runnable[0]),
            None => runnable[0],
        };
        self.last = Some(next);
        next
    }
}
