use super::{Policy, Situation, TaskId};
use crate::Label;
use crate::rng::Rng;

/// Turns of random length: a task goes on for so many scheduling points, or until it waits, then any that can run has
/// the next turn. For long runs, which need few switches.
#[derive(Clone, Debug)]
pub struct Turns {
    rng: Rng,
    left: u64,
}

/// Points in the longest turn.
const LONGEST: u64 = 400;

impl Turns {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Turns { rng: Rng(seed), left: 0 }
    }
}

impl Policy for Turns {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, _label: Label) -> TaskId {
        match current {
            Some(c) if self.left > 0 => {
                self.left -= 1;
                c
            }
            _ => {
                self.left = self.rng.below(LONGEST);
                runnable[self.rng.below(runnable.len() as u64) as usize]
            }
        }
    }

    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        // Tasks in the background get turns as the others do, but no longer ones than they need.
        let background = at.current.is_some_and(|c| at.is_background(c));
        if background {
            self.left = self.left.min(8)
        }
        Some(self.choose(at.runnable, at.current, at.label))
    }

    fn pick(&mut self, n: u32, _label: Label) -> u32 {
        self.rng.below(u64::from(n)) as u32
    }
}
