use super::{Policy, TaskId};
use crate::Label;
use crate::rng::Rng;

/// Any runnable task with equal chance.
#[derive(Clone, Debug)]
pub struct Random(Rng);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(Rng(seed))
    }
}

impl Policy for Random {
    fn choose(&mut self, runnable: &[TaskId], _current: Option<TaskId>, _label: Label) -> TaskId {
        runnable[self.0.below(runnable.len() as u64) as usize]
    }
    fn pick(&mut self, n: u32, _label: Label) -> u32 {
        self.0.below(u64::from(n)) as u32
    }
}
