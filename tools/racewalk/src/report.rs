//! Counters of a run, for people and for programs.

use racewalk_linux::system::System;
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
