//! Whether a recording is what it claims to be: every frame whole, every record well-formed, the sums right.

use crate::event::Event;
use crate::frame::FrameKind;
use crate::meta::CpuCounts;
use crate::reader::{Index, Recording};
use crate::record::Record;
use crate::stream;
use std::collections::BTreeMap;

/// What a check found. Damage comes first, then what contradicts itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// Whole frames.
    pub frames: usize,
    /// Records read.
    pub records: u64,
    /// What is wrong, in words.
    pub wrong: Vec<String>,
    /// What is missing without being wrong: an end, an index.
    pub missing: Vec<String>,
}

/// No more complaints of one kind than this.
const MOST: usize = 20;

/// Checks all of it.
pub fn check(r: &Recording) -> Checked {
    let (frames, damage) = r.examine();
    let mut c = Checked { frames: frames.len(), ..Checked::default() };
    c.wrong.extend(damage.iter().map(|d| d.to_string()));
    if r.index == Index::Good && frames != r.frames || r.index == Index::Wrong && damage.is_empty() {
        c.wrong.push("the index names other frames than the file has".into())
    }
    if r.index == Index::Missing {
        c.missing.push("the index: the recording was not completed, or its end is lost".into())
    }
    if r.end.is_none() {
        c.missing.push("how the run ended".into())
    }
    // Where a selection begins or ends within walks, their beginnings may be left out.
    let partly = r.meta.selection.instructions.is_some() || r.meta.selection.marks.is_some();
    let mut lost = (0u64, 0u64);
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let mut walks: BTreeMap<u32, Walk> = BTreeMap::new();
    let mut seqs: BTreeMap<u32, u64> = BTreeMap::new();
    let mut clocks: BTreeMap<u32, u64> = BTreeMap::new();
    // Of the CPUs whose own counts there are: how many CPUs the file speaks of is no reason to take memory.
    let mut counts = vec![CpuCounts::default(); r.end.as_ref().map_or(0, |e| e.cpus.len())];
    for f in frames.iter().filter(|f| f.header.kind == FrameKind::Stream) {
        let (s, h) = (f.header.stream, f.header);
        let name = stream::name(s);
        let mut say = |text: String| {
            if c.wrong.len() < MOST {
                c.wrong.push(text)
            }
        };
        let wanted = next.insert(s, h.first.wrapping_add(h.records as u64)).unwrap_or(0);
        let walk = walks.entry(s).or_insert(Walk { open: 0, lost: partly });
        walk.lost |= h.first != wanted;
        if h.first != wanted && damage.is_empty() {
            say(format!("{name}: the frame at {:#x} begins with record {}, wanted {wanted}", f.at, h.first))
        }
        let all = match r.frame_records(f) {
            Ok(all) => all,
            Err(e) => {
                say(format!("{name}: the frame at {:#x}: {e}", f.at));
                walk.lost = true;
                continue;
            }
        };
        c.records += all.len() as u64;
        for (i, x) in all.iter().enumerate() {
            let number = h.first.wrapping_add(i as u64);
            let Record::Event { seq, instructions, event } = x else {
                if let Record::Enter { instructions, .. } = x {
                    let last = clocks.insert(s, *instructions).unwrap_or(0);
                    if *instructions < last {
                        say(format!("{name}: record {number}: the instruction count goes back from {last}"))
                    }
                }
                continue;
            };
            let last = seqs.insert(s, *seq).unwrap_or(0);
            if *seq <= last {
                say(format!("{name}: record {number}: event #{seq} comes after #{last}"))
            }
            let _ = instructions;
            if let Event::Lost { runs, events } = event {
                lost = (lost.0.saturating_add(*runs), lost.1.saturating_add(*events))
            }
            if let Err(e) = walk.step(event) {
                say(format!("{name}: record {number}: {e}"))
            }
            if let Some(n) = counts.get_mut(cpu_of(s) as usize) {
                count(n, event)
            }
        }
    }
    if let Some(end) = r.end.as_ref().filter(|e| damage.is_empty() && lost != (e.lost_runs, e.lost_events)) {
        c.wrong.push(format!(
            "{} runs and {} events are said to be lost where they were, {} and {} at the end",
            lost.0, lost.1, end.lost_runs, end.lost_events
        ))
    }
    if c.wrong.is_empty() && r.meta.selection.everything() {
        sums(r, &counts, &mut c)
    }
    c
}

/// The CPU that a stream's events belong to.
fn cpu_of(s: u32) -> u32 {
    if (stream::WALKERS..stream::KERNEL).contains(&s) { s - stream::WALKERS } else { s }
}

fn count(n: &mut CpuCounts, e: &Event) {
    match e {
        Event::Lookup { hit, .. } => {
            n.lookups += 1;
            n.hits += *hit as u64
        }
        Event::WalkStart { .. } => n.walks += 1,
        Event::WalkStep { .. } => n.steps += 1,
        Event::Fill { .. } => n.fills += 1,
        Event::Purge { .. } => n.purges += 1,
        _ => {}
    }
}

/// The run's own counters, recomputed.
fn sums(r: &Recording, counts: &[CpuCounts], c: &mut Checked) {
    let Some(end) = &r.end else { return };
    if end.lost_runs != 0 || end.lost_events != 0 {
        return c
            .missing
            .push(format!("{} runs and {} events, which were dropped", end.lost_runs, end.lost_events));
    }
    for (cpu, (found, said)) in counts.iter().zip(&end.cpus).enumerate() {
        let mut differ = |what: &str, found: u64, said: u64| {
            if found != said {
                c.wrong.push(format!("cpu{cpu}: {found} {what} are recorded, the run counted {said}"))
            }
        };
        differ("walks", found.walks, said.walks);
        differ("steps of walks", found.steps, said.steps);
        differ("fills", found.fills, said.fills);
        differ("purges", found.purges, said.purges);
        // Only of models that replace entries are lookups recorded.
        if found.lookups != 0 {
            differ("lookups", found.lookups, said.lookups);
            differ("hits", found.hits, said.hits);
            if said.hits > said.lookups {
                let (hits, lookups) = (said.hits, said.lookups);
                c.wrong.push(format!("cpu{cpu}: the run counted {hits} hits in {lookups} lookups"))
            }
        }
    }
}

/// Where a stream is within walks. A walk by software inside another (a refill) nests.
struct Walk {
    open: u32,
    /// The beginning of any may be lost.
    lost: bool,
}

impl Walk {
    fn step(&mut self, e: &Event) -> Result<(), String> {
        match e {
            Event::Lost { .. } => *self = Walk { open: 0, lost: true },
            Event::WalkStart { .. } => self.open += 1,
            Event::WalkStep { .. } if self.open == 0 && !self.lost => {
                return Err("a step outside a walk".into());
            }
            Event::WalkDone { .. } | Event::WalkFault { .. } | Event::WalkOvertaken {} => {
                match self.open.checked_sub(1) {
                    Some(n) => self.open = n,
                    None if self.lost => {}
                    None => return Err("the end of a walk that has not begun".into()),
                }
            }
            _ => {}
        }
        Ok(())
    }
}
