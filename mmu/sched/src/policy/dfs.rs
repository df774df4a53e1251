use super::{Policy, Situation, TaskId};
use crate::Label;

/// One decision on the path of the current schedule.
#[derive(Clone, Debug)]
struct Node {
    /// Which of its options is taken, and how many there are. For tasks, option 0 is to go on without a preemption.
    taken: u32,
    options: u32,
    /// Preemptions on the path up to here.
    preemptions: u32,
    values: bool,
}

/// All schedules with at most so many preemptions, depth first. A switch away from a task that could go on is a
/// preemption; who follows a task that waits or ends is free. A turn of a background task costs as much as a
/// preemption.
///
/// ```
/// use racewalk_sched::controlled::{Config, Dfs, run, spawn};
/// let mut dfs = Dfs::new(1);
/// while dfs.start() {
///     run(Config::default(), &mut dfs, || {
///         spawn("a", || racewalk_sched::point("a"));
///         spawn("b", || racewalk_sched::point("b"));
///     });
/// }
/// assert!(dfs.complete() && dfs.schedules() > 2);
/// ```
#[derive(Clone, Debug)]
pub struct Dfs {
    bound: u32,
    path: Vec<Node>,
    at: usize,
    schedules: u64,
    complete: bool,
    diverged: u64,
}

impl Dfs {
    /// With at most `preemptions` in each schedule.
    pub fn new(preemptions: u32) -> Self {
        Dfs { bound: preemptions, path: Vec::new(), at: 0, schedules: 0, complete: false, diverged: 0 }
    }

    /// Prepares the next schedule: run once with `self` as the policy after each call. False when all are done.
    pub fn start(&mut self) -> bool {
        if self.complete {
            return false;
        }
        if self.schedules != 0 {
            // A run that stopped early has not decided the rest of its path.
            self.path.truncate(self.at);
            while self.path.last().is_some_and(|n| n.taken + 1 >= n.options) {
                self.path.pop();
            }
            match self.path.last_mut() {
                Some(n) => n.taken += 1,
                None => {
                    self.complete = true;
                    return false;
                }
            }
        }
        self.at = 0;
        self.schedules += 1;
        true
    }

    /// Schedules begun.
    pub fn schedules(&self) -> u64 {
        self.schedules
    }

    /// Whether all schedules within the bound have been run.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Decisions that had other options than on the run before: not zero means that the program does not depend on
    /// the schedule alone, and that nothing has been shown.
    pub fn diverged(&self) -> u64 {
        self.diverged
    }

    /// Preemptions on the path so far.
    fn spent(&self) -> u32 {
        self.at.checked_sub(1).map_or(0, |i| self.path[i].preemptions)
    }

    /// Which option is due among so many, counted from 0.
    fn due(&mut self, options: u32, values: bool) -> u32 {
        match self.path.get_mut(self.at) {
            Some(n) => {
                if (n.options, n.values) != (options, values) {
                    self.diverged += 1;
                    (n.options, n.values, n.taken) = (options, values, n.taken.min(options - 1));
                }
            }
            None => self.path.push(Node { taken: 0, options, preemptions: 0, values }),
        }
        self.at += 1;
        self.path[self.at - 1].taken
    }

    fn next(
        &mut self,
        runnable: &[TaskId],
        current: Option<TaskId>,
        stay: TaskId,
        is_background: impl Fn(TaskId) -> bool,
    ) -> TaskId {
        let (spent, bound) = (self.spent(), self.bound);
        let cost = |t: TaskId| (t != stay && (current == Some(stay) || is_background(t))) as u32;
        let others = || runnable.iter().copied().filter(|&t| t != stay && spent + cost(t) <= bound);
        let taken = self.due(1 + others().count() as u32, false);
        let t = match taken {
            0 => stay,
            k => others().nth(k as usize - 1).unwrap_or(stay),
        };
        self.path[self.at - 1].preemptions = spent + cost(t);
        t
    }
}

impl Policy for Dfs {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, _label: Label) -> TaskId {
        self.next(runnable, current, current.unwrap_or(runnable[0]), |_| false)
    }
    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        Some(self.next(at.runnable, at.current, at.unforced(), |t| at.is_background(t)))
    }
    fn pick(&mut self, n: u32, _label: Label) -> u32 {
        let spent = self.spent();
        let v = self.due(n, true);
        self.path[self.at - 1].preemptions = spent;
        v
    }
}
