//! All states of a program that runs on this crate: every scheduling point is a branch over the tasks that can run,
//! every [`choose`](crate::choose) one over its values. States that were seen before are not entered again, so
//! programs that run for ever have a finite search if they have finitely many states.
//!
//! The program is real code, which cannot be copied in the middle: a state is reached by running from the start. A
//! state is known by a 64-bit hash of the caller's fingerprint of what tasks share and of each task's local state:
//! where it is, how many points it has passed and what it [observed](crate::observe) since it last said
//! [`forget`](crate::forget). Whatever a task reads from what other tasks write must be observed, or states that
//! differ are taken for one; two states with one hash (of n states, about n²/2^65 pairs) are, too.

use crate::Label;
use crate::controlled::{Config, End, Policy, Situation, TaskId, run};
use crate::rng::mix;
use crate::schedule::{Choice, Schedule};
use std::collections::{HashSet, VecDeque};

/// In which order states are visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Runs on from each new state: less work for each.
    #[default]
    DepthFirst,
    /// Nearest states first: the first failure has the fewest scheduling points.
    BreadthFirst,
}

/// What a search may do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SearchConfig {
    /// In which order.
    pub order: Order,
    /// Ends with this many states.
    pub max_states: u64,
    /// Scheduling points of a run; states behind are not entered.
    pub max_depth: u32,
    /// Bytes of stack for each task.
    pub stack: usize,
    /// At which labels another task may go on, and states are told apart. Everywhere else the task that runs goes on, unless
    /// it waits: for points inside what nobody else can see or touch halfway. `None`: at all.
    pub branch: Option<fn(Label) -> bool>,
}

impl Default for SearchConfig {
    fn default() -> Self {
        SearchConfig {
            order: Order::DepthFirst,
            max_states: 10_000_000,
            max_depth: 10_000,
            stack: Config::default().stack,
            branch: None,
        }
    }
}

/// A state that was not seen before. Also given when the search is in the middle of a run: the caller can look at what
/// its tasks share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// The hash it is known by.
    pub key: u64,
    /// Scheduling points on the way to it.
    pub depth: u32,
    /// All tasks have ended.
    pub last: bool,
}

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    /// Different states, those in which all tasks have ended included.
    pub states: u64,
    /// Steps from a state to a state.
    pub transitions: u64,
    /// Runs that were needed.
    pub runs: u64,
    /// Every state was entered: no limit was met and nothing failed.
    pub complete: bool,
    /// The first run that ended otherwise than [`End::Finished`]; the search ends there.
    pub end: Option<(End, Schedule)>,
    /// The program did not repeat itself under the same choices, so nothing is shown.
    pub diverged: bool,
}

/// Enters all states of `main`, which is run again and again and must begin the same each time: it makes what its tasks
/// share anew and puts it where `fingerprint` finds it.
pub fn explore(
    config: SearchConfig,
    fingerprint: impl Fn() -> u64,
    main: impl Fn() + Clone + 'static,
) -> Search {
    explore_with(config, fingerprint, main, |_| {})
}

/// The same; `found` is told of each new state.
pub fn explore_with(
    config: SearchConfig,
    fingerprint: impl Fn() -> u64,
    main: impl Fn() + Clone + 'static,
    found: impl FnMut(State),
) -> Search {
    let key = move |at: Option<&Situation<'_>>| {
        let local = at.map_or(0, Situation::local_state);
        mix(mix(fingerprint()) ^ local.rotate_left(7) ^ u64::from(at.is_none()))
    };
    explore_by(config, key, main, found)
}

/// The same where the caller makes the hash a state is known by: of what tasks share and of each task's
/// [local state](Situation::local), in an order in which states that differ in names alone are one. There is no situation
/// when all tasks have ended.
pub fn explore_by(
    config: SearchConfig,
    key: impl Fn(Option<&Situation<'_>>) -> u64,
    main: impl Fn() + Clone + 'static,
    found: impl FnMut(State),
) -> Search {
    let mut s = Explorer {
        config,
        key,
        found,
        seen: HashSet::default(),
        nodes: Vec::new(),
        work: VecDeque::from([None]),
        prefix: Vec::new(),
        at: 0,
        here: None,
        depth: 0,
        left: false,
        limited: false,
        states: 0,
        transitions: 0,
        diverged: false,
    };
    let mut limits = Config { max_points: u64::MAX, ..Config::default() };
    (limits.livelock, limits.stack) = (0, config.stack);
    let (mut runs, mut end) = (0, None);
    while let Some(node) = s.work.pop_front() {
        s.begin(node);
        runs += 1;
        let out = run(limits, &mut s, main.clone());
        // It ended on a way that did not end before.
        s.diverged |= s.at < s.prefix.len();
        if s.diverged {
            break;
        }
        match out.end {
            End::Cancelled if s.left => {}
            End::Finished => _ = s.arrive(None),
            other => {
                end = Some((other, out.schedule));
                break;
            }
        }
        if s.states >= config.max_states {
            break;
        }
    }
    let complete = s.work.is_empty() && !s.limited && !s.diverged && end.is_none();
    Search { states: s.states, transitions: s.transitions, runs, complete, end, diverged: s.diverged }
}

/// A choice on the way from the start: the node before it, and the choice.
type Node = (Option<u32>, u32);

struct Explorer<K, C> {
    config: SearchConfig,
    key: K,
    found: C,
    seen: HashSet<u64>,
    nodes: Vec<Node>,
    /// Nodes to run from, the next one first.
    work: VecDeque<Option<u32>>,
    /// The choices that lead to where this run is new, and how many were made.
    prefix: Vec<u32>,
    at: usize,
    here: Option<u32>,
    depth: u32,
    /// The run was left because the rest is known.
    left: bool,
    limited: bool,
    states: u64,
    transitions: u64,
    diverged: bool,
}

impl<K: Fn(Option<&Situation<'_>>) -> u64, C: FnMut(State)> Explorer<K, C> {
    fn begin(&mut self, node: Option<u32>) {
        self.prefix.clear();
        let mut n = node;
        while let Some(i) = n {
            let (before, choice) = self.nodes[i as usize];
            self.prefix.push(choice);
            n = before;
        }
        self.prefix.reverse();
        (self.at, self.here, self.depth, self.left) = (0, node, 0, false);
    }

    fn node(&mut self, choice: Choice) -> u32 {
        self.nodes.push((self.here, choice.code()));
        self.nodes.len() as u32 - 1
    }

    /// Whether the state is new.
    fn arrive(&mut self, at: Option<&Situation<'_>>) -> bool {
        let key = (self.key)(at);
        self.transitions += self.here.is_some() as u64;
        let new = self.seen.insert(key);
        if new {
            self.states += 1;
            (self.found)(State { key, depth: self.depth, last: at.is_none() });
        }
        new
    }
}

impl<K: Fn(Option<&Situation<'_>>) -> u64, C: FnMut(State)> Policy for Explorer<K, C> {
    fn choose(&mut self, runnable: &[TaskId], _current: Option<TaskId>, _label: Label) -> TaskId {
        runnable[0]
    }

    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        if let (Some(t), Some(branch)) = (at.current, self.config.branch)
            && !branch(at.label)
        {
            return Some(t);
        }
        if let Some(&c) = self.prefix.get(self.at) {
            self.at += 1;
            self.depth += 1;
            return match Choice::of(c) {
                Choice::Task(t) if at.runnable.contains(&t) => Some(t),
                _ => {
                    self.diverged = true;
                    None
                }
            };
        }
        self.left = true;
        if !self.arrive(Some(at)) {
            return None;
        }
        if self.depth >= self.config.max_depth || self.states >= self.config.max_states {
            self.limited = true;
            return None;
        }
        let first = self.node(Choice::Task(at.runnable[0]));
        let deep = self.config.order == Order::DepthFirst;
        if !deep {
            self.work.push_back(Some(first));
        }
        // Depth first they go to the front, last first.
        let others = &at.runnable[1..];
        for i in 0..others.len() {
            let n = self.node(Choice::Task(others[if deep { others.len() - 1 - i } else { i }]));
            if deep { self.work.push_front(Some(n)) } else { self.work.push_back(Some(n)) }
        }
        if !deep {
            return None;
        }
        (self.here, self.depth, self.left) = (Some(first), self.depth + 1, false);
        Some(at.runnable[0])
    }

    fn pick(&mut self, n: u32, _label: Label) -> u32 {
        if let Some(&c) = self.prefix.get(self.at) {
            self.at += 1;
            return match Choice::of(c) {
                Choice::Value(v) if v < n => v,
                _ => {
                    self.diverged = true;
                    0
                }
            };
        }
        // No scheduling point lies between: the other values are as near as this one.
        for v in (1..n).rev() {
            let other = self.node(Choice::Value(v));
            self.work.push_front(Some(other));
        }
        self.here = Some(self.node(Choice::Value(0)));
        0
    }

    fn every_point(&self) -> bool {
        true
    }
}
