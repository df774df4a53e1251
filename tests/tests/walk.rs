//! Every `.walk` file gives what it says, and together they show every fault and every kind of entry.

use racewalk_tests::paths;
use racewalk_walk::event::WalkEvent;
use racewalk_walk::text::{WalkFile, formats};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn files() -> Vec<PathBuf> {
    let root = paths::root().join("tests/walk");
    let list = |d: &PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(d).unwrap_or_else(|e| panic!("read {}: {e}", d.display()));
        let mut v: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
        v.sort();
        v
    };
    list(&root).iter().flat_map(list).collect()
}

#[test]
fn walks_give_what_their_files_say() {
    let mut wrong = String::new();
    let mut accesses = 0;
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let file = WalkFile::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file.run(|w| {
            accesses += 1;
            if w.lines() != w.expected {
                let (got, want) = (w.lines().join("\n    "), w.expected.join("\n    "));
                wrong +=
                    &format!("{}:{}\n  wanted\n    {want}\n  found\n    {got}\n", path.display(), w.line);
            }
        })
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(accesses > 0);
}

#[test]
fn every_fault_and_every_kind_of_entry_has_a_file() {
    let mut faults = BTreeSet::new();
    let mut tables = BTreeSet::new();
    for path in files() {
        let file = WalkFile::parse(&std::fs::read_to_string(&path).expect("readable")).expect("well-formed");
        let format = file.format.clone();
        file.run(|w| {
            for e in &w.events {
                match *e {
                    WalkEvent::Fault { name, .. } => drop(faults.insert((format.clone(), name))),
                    WalkEvent::Step { table, .. } => drop(tables.insert((format.clone(), table))),
                    _ => {}
                }
            }
        })
        .expect("known registers");
    }
    let mut missing = Vec::new();
    for f in formats() {
        let name = f.name().to_string();
        for fault in f.faults() {
            if !faults.contains(&(name.clone(), fault)) {
                missing.push(format!("{name}: no walk ends with {fault:?}"));
            }
        }
        for table in f.tables().iter().filter(|t| !t.register) {
            if !tables.contains(&(name.clone(), table.name)) {
                missing.push(format!("{name}: no walk fetches from {:?}", table.name));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let known: BTreeSet<_> =
        formats().iter().flat_map(|f| f.tables().iter().map(|t| (f.name().to_string(), t.name))).collect();
    let unknown: Vec<_> = tables.difference(&known).collect();
    assert!(unknown.is_empty(), "entries that `racewalk walk --explain` does not know: {unknown:?}");
}
