//! Counters of a run, for people and for programs.

use racewalk_linux::system::System;
use racewalk_walk::tlb::{LevelStats, Stats};
use serde::Serialize;
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// Counters of one CPU's MMU.
#[derive(Debug, Default, Serialize)]
pub struct Cpu {
    /// Lookups of the model TLB (misses of the fast TLB).
    pub tlb_lookups: u64,
    /// Of those, hits.
    pub tlb_hits: u64,
    /// Walks.
    pub walks: u64,
    /// Table entries fetched.
    pub walk_steps: u64,
    /// Translation exceptions.
    pub faults: u64,
    /// Translations taken in.
    pub tlb_fills: u64,
    /// Translations lost to purges.
    pub tlb_purged: u64,
    /// Purges of all CPUs asked for.
    pub purges_sent: u64,
    /// Waits for another CPU to pass a boundary.
    pub purge_waits: u64,
    /// The levels of the TLB, the one that is asked first at the front.
    pub tlb: Vec<Level>,
    /// The walk caches, each asked at the beginning of every walk.
    pub walk_caches: Vec<Array>,
}

/// Counters of a level of a TLB: lookups of the level, whose arrays are asked at once.
#[derive(Debug, Default, Serialize)]
pub struct Level {
    /// The level as a whole.
    #[serde(flatten)]
    pub total: Counts,
    /// Its arrays; none unless the model is finite.
    pub arrays: Vec<Array>,
}

/// Counters of an array.
#[derive(Debug, Default, Serialize)]
pub struct Array {
    /// As in the configuration.
    pub name: String,
    /// The counters.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Counters of a TLB or walk cache; `hits + misses == accesses`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Lookups.
    pub accesses: u64,
    /// Of those, what found something.
    pub hits: u64,
    /// What found nothing.
    pub misses: u64,
    /// Entries taken in.
    pub fills: u64,
    /// Entries replaced by others.
    pub evictions: u64,
    /// Entries removed by purges.
    pub purged: u64,
}

impl From<Stats> for Counts {
    fn from(s: Stats) -> Counts {
        let Stats { accesses, hits, misses, fills, evictions, purged, .. } = s;
        Counts { accesses, hits, misses, fills, evictions, purged }
    }
}

fn array((name, s): (String, Stats)) -> Array {
    Array { name, counts: s.into() }
}

/// Counters of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this record's fields.
    pub version: u32,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Guest instructions.
    pub instructions: u64,
    /// Per CPU.
    pub cpus: Vec<Cpu>,
    /// The hosted mm.
    pub mm: Vec<(&'static str, u64)>,
    /// Code: blocks decoded, blocks translated, instructions translated, host bytes, blocks dropped.
    pub code: [u64; 5],
}

impl Report {
    /// The counters of `sys` now.
    pub fn of(sys: &System) -> Report {
        let cpu = |n| {
            let s = sys.cpus.stats(n);
            let t = sys.cpus.tlb_stats(n);
            let level = |l: LevelStats| Level {
                total: l.total.into(),
                arrays: l.arrays.into_iter().map(array).collect(),
            };
            Cpu {
                tlb_lookups: s.lookups.get(),
                tlb_hits: s.hits.get(),
                walks: s.walks.get(),
                walk_steps: s.steps.get(),
                faults: s.faults.get(),
                tlb_fills: s.fills.get(),
                tlb_purged: s.purged.get(),
                purges_sent: s.purges_sent.get(),
                purge_waits: s.waits.get(),
                tlb: t.levels.into_iter().map(level).collect(),
                walk_caches: t.walk_caches.into_iter().map(array).collect(),
            }
        };
        let c = &sys.cache.stats;
        let code = [&c.blocks, &c.translated, &c.insns, &c.bytes, &c.dropped];
        Report {
            version: 1,
            seconds: sys.started.elapsed().as_secs_f64(),
            instructions: sys.instructions.load(Ordering::Relaxed),
            cpus: (0..sys.cpus.count()).map(cpu).collect(),
            mm: sys.kernel.stats().list(),
            code: code.map(|c| c.load(Ordering::Relaxed)),
        }
    }

    /// One JSON object and a newline.
    pub fn json(&self) -> String {
        let mut v = serde_json::json!(self);
        v["mm"] =
            self.mm.iter().map(|&(k, n)| (k.to_string(), n.into())).collect::<serde_json::Map<_, _>>().into();
        let names =
            ["blocks", "translated_blocks", "translated_instructions", "host_bytes", "dropped_blocks"];
        v["code"] = names
            .iter()
            .zip(self.code)
            .map(|(k, n)| (k.to_string(), n.into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        format!("{v}\n")
    }

    /// Levels, arrays and walk caches, summed over the CPUs; nothing of TLBs that only keep what they are given.
    fn tlb_text(&self) -> String {
        let mut rows: Vec<(String, Counts)> = Vec::new();
        let mut add = |name: String, c: Counts| match rows.iter_mut().find(|r| r.0 == name) {
            Some((_, sum)) => {
                sum.accesses += c.accesses;
                sum.hits += c.hits;
                sum.misses += c.misses;
                sum.fills += c.fills;
                sum.evictions += c.evictions;
                sum.purged += c.purged;
            }
            None => rows.push((name, c)),
        };
        for c in &self.cpus {
            for (n, l) in c.tlb.iter().enumerate().filter(|(_, l)| !l.arrays.is_empty()) {
                add(format!("level {}", n + 1), l.total);
                l.arrays.iter().for_each(|a| add(format!("  {}", a.name), a.counts));
            }
            c.walk_caches.iter().for_each(|a| add(format!("walk {}", a.name), a.counts));
        }
        let mut s = String::new();
        if !rows.is_empty() {
            let head =
                ["accesses", "hits", "misses", "fills", "evictions", "purged"].map(|h| format!("{h:>14}"));
            let _ = writeln!(s, "\n{:<16}{}", "TLB", head.concat());
        }
        for (name, c) in rows {
            let numbers = [c.accesses, c.hits, c.misses, c.fills, c.evictions, c.purged];
            let _ = writeln!(s, "{name:<16}{}", numbers.map(|n| format!("{:>14}", group(n))).concat());
        }
        s
    }

    /// A summary for people.
    pub fn text(&self) -> String {
        let mut s = String::new();
        let rate = self.instructions as f64 / self.seconds.max(1e-9) / 1e6;
        let _ = writeln!(
            s,
            "{} instructions in {:.3} s ({rate:.0} million a second)",
            group(self.instructions),
            self.seconds
        );
        let _ = writeln!(
            s,
            "\n{:<10}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "MMU", "lookups", "walks", "steps", "faults", "fills", "purged", "waits"
        );
        for (i, c) in self.cpus.iter().enumerate() {
            let _ = writeln!(
                s,
                "{:<10}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
                format!("cpu{i}"),
                group(c.tlb_lookups),
                group(c.walks),
                group(c.walk_steps),
                group(c.faults),
                group(c.tlb_fills),
                group(c.tlb_purged),
                group(c.purge_waits)
            );
        }
        s.push_str(&self.tlb_text());
        s.push_str("\nhosted mm\n");
        for &(k, n) in self.mm.iter().filter(|m| m.1 != 0) {
            let _ = writeln!(s, "  {k:<28}{:>14}", group(n));
        }
        let [blocks, translated, insns, bytes, dropped] = self.code;
        let _ = writeln!(
            s,
            "\ncode: {} blocks, {} translated ({} instructions, {} host bytes), {} dropped",
            group(blocks),
            group(translated),
            group(insns),
            group(bytes),
            group(dropped)
        );
        s
    }
}

/// A number with its digits in groups of three.
fn group(n: u64) -> String {
    let d = n.to_string();
    let mut s = String::new();
    for (i, c) in d.chars().enumerate() {
        if i > 0 && (d.len() - i).is_multiple_of(3) {
            s.push(' ');
        }
        s.push(c);
    }
    s
}

#[cfg(test)]
mod tests {
    #[test]
    fn groups() {
        assert_eq!(super::group(0), "0");
        assert_eq!(super::group(1234567), "1 234 567");
        assert_eq!(super::group(999), "999");
    }
}
