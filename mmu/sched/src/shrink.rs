//! Makes failing runs small: fewer preemptions, fewer operations.

use crate::controlled::{Outcome, Preemption};
use crate::schedule::{Choice, Schedule};

/// Finds a failing run that is 1-minimal in preemptions: with any one of them removed ([`without`]) the run no longer
/// fails, or has no fewer preemptions.
///
/// `fails` runs a schedule ([`Replay`](crate::controlled::Replay) followed by [`Stay`](crate::controlled::Stay)) and
/// returns what really ran if that failed in the way of interest. The answer is the last such run; `None` if
/// `schedule` does not fail. To stop early, let `fails` say no.
pub fn minimise_schedule(
    schedule: &Schedule,
    mut fails: impl FnMut(&Schedule) -> Option<Outcome>,
) -> Option<Outcome> {
    let mut best = fails(schedule)?;
    // Many at a time first: all but a few preemptions of a random schedule are noise.
    let mut size = best.preemptions.len();
    while size != 0 {
        let mut at = 0;
        while at < best.preemptions.len() {
            let end = (at + size).min(best.preemptions.len());
            let removed: Vec<usize> = (at..end).collect();
            match fails(&postponed(&best, &removed)) {
                Some(o) if o.preemptions.len() < best.preemptions.len() => best = o,
                _ => at = end,
            }
        }
        size /= 2;
    }
    'again: loop {
        for n in 0..best.preemptions.len() {
            for candidate in [without(&best, n), postponed(&best, &[n])] {
                if let Some(o) = fails(&candidate)
                    && o.preemptions.len() < best.preemptions.len()
                {
                    best = o;
                    continue 'again;
                }
            }
        }
        return Some(best);
    }
}

/// The schedule of `ran` without its preemption `n`: the task goes on until it waits or ends, and its later turns up
/// to there are left out.
///
/// # Panics
/// If there is no such preemption.
pub fn without(ran: &Outcome, n: usize) -> Schedule {
    let (mut turns, at) = turns(ran);
    let k = at[n];
    let task = turns[k].task;
    turns[k].choices.push(Choice::Until(task).code());
    for j in k + 1..turns.len() {
        if turns[j].task == task {
            let t = std::mem::take(&mut turns[j].choices);
            turns[k].choices.extend(t.into_iter().filter(|&c| matches!(Choice::of(c), Choice::Value(_))));
            if !turns[j].cut {
                break;
            }
        }
    }
    join(turns)
}

/// The schedule with each of the `removed` preemptions (ascending) put off to where the task stopped next.
fn postponed(ran: &Outcome, removed: &[usize]) -> Schedule {
    let (mut turns, at) = turns(ran);
    let removed: Vec<usize> = removed.iter().map(|&n| at[n]).collect();
    let mut gone = vec![false; turns.len()];
    for &k in removed.iter() {
        if gone[k] {
            continue;
        }
        let task = turns[k].task;
        let mut cut = true;
        for j in k + 1..turns.len() {
            if turns[j].task == task && !gone[j] {
                gone[j] = true;
                let t = std::mem::take(&mut turns[j].choices);
                turns[k].choices.extend(t);
                cut = turns[j].cut;
                if !(cut && removed.binary_search(&j).is_ok()) {
                    break;
                }
            }
        }
        let last = (k + 1..turns.len()).all(|j| turns[j].task != task || gone[j]);
        if !cut || last {
            turns[k].choices.push(Choice::Until(task).code());
        }
    }
    join(turns)
}

/// What a task did between two switches.
struct Turn {
    task: u32,
    choices: Vec<u32>,
    /// It ended in a preemption.
    cut: bool,
}

/// The turns of a run, and which of them each preemption ended.
fn turns(ran: &Outcome) -> (Vec<Turn>, Vec<usize>) {
    let new = |task| Turn { task, choices: Vec::new(), cut: false };
    let mut turns = vec![new(0)];
    let mut at = Vec::with_capacity(ran.preemptions.len());
    let mut cuts = ran.preemptions.iter().peekable();
    for (i, &c) in ran.schedule.choices.iter().enumerate() {
        if let Some(&Preemption { task, .. }) = cuts.next_if(|p| p.at == i) {
            // It may have come here as the only task that could run, which no choice shows.
            if turns[turns.len() - 1].task != task {
                turns.push(new(task));
            }
            let last = turns.len() - 1;
            turns[last].cut = true;
            at.push(last);
        }
        let last = &turns[turns.len() - 1];
        if let Choice::Task(t) | Choice::Until(t) = Choice::of(c)
            && (t != last.task || last.cut)
        {
            turns.push(new(t));
        }
        let last = turns.len() - 1;
        turns[last].choices.push(c);
    }
    (turns, at)
}

fn join(turns: Vec<Turn>) -> Schedule {
    Schedule { choices: turns.into_iter().flat_map(|t| t.choices).collect() }
}

/// Delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002): a part of `items`,
/// in order, that still `fails` and no longer does with any one item left out. If all of `items` do not fail, they are
/// returned as they are.
pub fn ddmin<T: Clone>(items: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    if !fails(&items) {
        return items;
    }
    let mut parts = 2;
    while !items.is_empty() {
        parts = parts.min(items.len());
        let size = items.len().div_ceil(parts);
        let smaller = (0..items.len()).step_by(size).find_map(|from| {
            let to = (from + size).min(items.len());
            let rest = [&items[..from], &items[to..]].concat();
            fails(&rest).then_some(rest)
        });
        match smaller {
            Some(rest) => {
                items = rest;
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => parts *= 2,
        }
    }
    items
}
