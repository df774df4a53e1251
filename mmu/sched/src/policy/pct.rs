use super::{Policy, Situation, TaskId};
use crate::Label;
use crate::rng::Rng;

/// Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with
/// Probabilistic Guarantees of Finding Bugs, ASPLOS 2010): each task has a random priority and the highest runs; at
/// `depth - 1` random decisions the one that runs falls below all others. A bug that needs `depth` ordered events is
/// found by one run with a chance of at least 1/(tasks × decisions^(depth - 1)).
#[derive(Clone, Debug)]
pub struct Pct {
    rng: Rng,
    /// Decisions at which the priority changes, the next one last.
    changes: Vec<u64>,
    decisions: u64,
    /// By task; zero: not yet drawn.
    priorities: Vec<u64>,
}

/// Above every priority that a change gives.
const DRAWN: u64 = 1 << 63;

impl Pct {
    /// For bugs of `depth` (at least 1) in runs of about `decisions` decisions (the length of another run's schedule).
    pub fn new(seed: u64, depth: u32, decisions: u64) -> Self {
        let mut rng = Rng(seed);
        let mut changes: Vec<u64> = (1..depth).map(|_| rng.below(decisions.max(1))).collect();
        changes.sort_unstable_by(|a, b| b.cmp(a));
        Pct { rng, changes, decisions: 0, priorities: Vec::new() }
    }

    fn highest(&mut self, runnable: &[TaskId], is_background: impl Fn(TaskId) -> bool) -> TaskId {
        let top = runnable[runnable.len() - 1] as usize;
        while self.priorities.len() <= top {
            let p = self.rng.next_u64() | DRAWN;
            self.priorities.push(p);
        }
        let most = |&t: &TaskId| self.priorities[t as usize];
        let best = runnable.iter().copied().max_by_key(most).unwrap_or(runnable[0]);
        // A task in the background never waits: with a high priority it would keep the others out for ever.
        if is_background(best) {
            self.priorities[best as usize] = 1 + u64::from(best);
        }
        best
    }
}

impl Policy for Pct {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, _label: Label) -> TaskId {
        self.step(runnable, current, |_| false)
    }
    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        Some(self.step(at.runnable, at.current, |t| at.is_background(t)))
    }
    fn pick(&mut self, n: u32, _label: Label) -> u32 {
        self.rng.below(u64::from(n)) as u32
    }
}

impl Pct {
    fn step(
        &mut self,
        runnable: &[TaskId],
        current: Option<TaskId>,
        is_background: impl Fn(TaskId) -> bool,
    ) -> TaskId {
        while self.changes.last() == Some(&self.decisions) {
            self.changes.pop();
            if let Some(p) = current.and_then(|t| self.priorities.get_mut(t as usize)) {
                // Below all drawn ones, and below those given before; above tasks of the background.
                *p = (1 << 40) + self.changes.len() as u64 + 1;
            }
        }
        self.decisions += 1;
        self.highest(runnable, is_background)
    }
}
