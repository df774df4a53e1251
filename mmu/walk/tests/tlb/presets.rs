//! The presets, and the table of them in `docs/tlb.md`, which this test makes: `RACEWALK_UPDATE=1` writes it.

use crate::entry;
use racewalk_walk::tlb::config::{Kind, TlbConfig};
use racewalk_walk::tlb::{Fill, Lookup, Side, Tlb, presets};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

fn all() -> Vec<(&'static str, TlbConfig)> {
    let get = |n| presets::preset(n).expect("a preset").unwrap_or_else(|e| panic!("{e}"));
    presets::names().map(|n| (n, get(n))).collect()
}

#[test]
fn every_number_has_a_source() {
    for (name, c) in all() {
        assert!(!c.about.is_empty(), "{name}");
        let arrays = c.levels.iter().flat_map(|l| &l.arrays).map(|a| (&a.name, &a.source, "sizes"));
        let walk = c.walk_cache.iter().map(|w| (&w.name, &w.source, "covers"));
        for (array, source, sizes) in arrays.chain(walk) {
            for key in ["entries", "ways", sizes, "replacement"] {
                assert!(
                    source.get(key).is_some_and(|s| !s.trim().is_empty()),
                    "{name}: {array}: {key} has no source"
                );
            }
        }
    }
}

#[test]
fn every_array_fills_to_its_last_entry() {
    for (name, c) in all() {
        if c.kind != Kind::Finite {
            continue;
        }
        for (l, level) in c.levels.iter().enumerate() {
            for (i, a) in level.arrays.iter().enumerate() {
                // Alone, with pages of each of its sizes in turn.
                let mut one = TlbConfig { levels: vec![level.clone()], ..c.clone() };
                one.levels[0].arrays = vec![a.clone()];
                for size in &a.sizes {
                    let mut t = Tlb::<u32>::new(&one);
                    let sides = [Side::Instruction, Side::Data];
                    let admits = |s: &Side| t.clone().fill(*s, entry(1, size.0)) == Fill::Entered;
                    let side = sides.into_iter().find(admits).unwrap_or_else(|| panic!("{name}: {l} {i}"));
                    let pages = u64::from(a.entries);
                    for n in 0..pages {
                        assert_eq!(t.fill(side, entry(n, size.0)), Fill::Entered);
                        assert!(t.evicted().is_empty(), "{name}: {}: page {n} of {pages}", a.name);
                    }
                    assert!((0..pages).all(|n| t.lookup(side, &crate::key(n << size.0)) != Lookup::Miss));
                    t.fill(side, entry(pages, size.0));
                    assert_eq!(t.evicted().len(), 1);
                }
            }
        }
    }
}

fn list<T: ToString>(v: &[T]) -> String {
    v.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// Keys with the same source together.
fn sources(source: &BTreeMap<String, String>) -> String {
    let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (k, s) in source {
        keys.entry(s).or_default().push(k);
    }
    let one = |(s, k): (&&str, &Vec<&str>)| format!("{}: {s}", k.join(", "));
    keys.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn tables() -> String {
    let mut out = String::new();
    for (name, c) in all() {
        let _ = writeln!(out, "### {name}\n\n{}.\n", c.about);
        if c.kind != Kind::Finite {
            continue;
        }
        out.push_str("| level | array | side | entries | ways | page sizes | replacement | sources |\n");
        out.push_str("|---|---|---|---|---|---|---|---|\n");
        for (i, level) in c.levels.iter().enumerate() {
            for a in &level.arrays {
                let (sizes, s) = (list(&a.sizes), sources(&a.source));
                let head = format!("| {} | {} | {} |", i + 1, a.name, a.side);
                let _ =
                    writeln!(out, "{head} {} | {} | {sizes} | {} | {s} |", a.entries, a.ways, a.replacement);
            }
        }
        for w in &c.walk_cache {
            let (covers, s) = (list(&w.covers), sources(&w.source));
            let head = format!("| walk | {} |  |", w.name);
            let _ = writeln!(out, "{head} {} | {} | {covers} | {} | {s} |", w.entries, w.ways, w.replacement);
        }
        out.push('\n');
    }
    out.trim_end().to_string() + "\n"
}

#[test]
fn the_page_is_true() {
    const MARK: &str =
        "<!-- The rest is made by a test from the presets: RACEWALK_UPDATE=1 writes it. -->\n\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tlb.md");
    let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    let (head, rest) = page.split_once(MARK).expect("docs/tlb.md has the mark");
    let made = tables();
    if std::env::var_os("RACEWALK_UPDATE").is_some() {
        std::fs::write(&path, format!("{head}{MARK}{made}")).expect("write docs/tlb.md");
    } else {
        assert_eq!(rest, made, "docs/tlb.md is not what the presets say; RACEWALK_UPDATE=1 writes it");
    }
}
