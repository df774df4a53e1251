use super::*;
use proptest::prelude::*;

const SMALL: &str = "title t\ngeometry s390x-2k\ncpus 2\n\nmm A\n  map seg0:0\nmm B\n";

fn error(rest: &str) -> String {
    match Scenario::parse("x", &format!("{SMALL}{rest}")) {
        Ok(s) => panic!("{rest:?} was taken as\n{s}"),
        Err(e) => e.to_string(),
    }
}

/// Each message says where, what was found and what was wanted. Seen to fail with the check of the loaded mm, that of
/// pages, and the suggestions left out.
#[test]
fn errors_say_where_and_what() {
    let cases = [
        ("cpu 0\n  A reteact seg0\n", "x.race:9:5: found \"reteact\"; wanted an operation: touch,"),
        ("cpu 0\n  A reteact seg0\n", "did you mean \"retract\"?"),
        ("cpu 0\n  C read seg0:0\n", "x.race:9:3: found \"C\"; wanted a known mm: A, B"),
        ("cpu 0\n  read seg0:0\n", "x.race:9:3: found \"read\"; wanted the mm before it"),
        ("cpu 0\n  A switch B\n", "x.race:9:5: found \"switch\"; wanted `switch` without"),
        ("cpu 0\n  A read seg0\n", "x.race:9:10: found \"seg0\"; wanted pages of a segment"),
        ("cpu 0\n  A read\n", "x.race:9:9: found the end of the line; wanted pages"),
        ("cpu 0\n  A retract seg0:1\n", "x.race:9:13: found \"seg0:1\"; wanted a segment"),
        ("cpu 0\n  A retract seg0 now\n", "x.race:9:18: found \"now\"; wanted the end of the line"),
        ("cpu 0\n  A touch seg0:0 stroe\n", "did you mean \"store\"?"),
        ("cpu 2\n  A read seg0:0\n", "x.race:8:1: found cpu 2; wanted a CPU below 2"),
        ("cpu 1\ncpu 1\n", "x.race:9:1: found a second block for cpu 1"),
        ("cpu 0\n  A read seg0:256\n", "x.race:9:3: found pages 256..257; wanted pages of 0..256"),
        ("cpu 0\n  A read seg4194304:0\n", "found seg4194304; wanted a segment below 4194304 for s390x-2k"),
        ("cpu 0\n  A exit\n  A read seg0:0\n", "x.race:10:3: found read on A after its exit"),
        ("cpu 0\n  B touch seg0:0\n", "found B touch; wanted `switch B` before it: cpu 0 has A loaded"),
        ("cpu 0\n  A put-page seg0\n", "wanted a get-page of the same segment"),
        ("walker hardware cpu 2 seg0:0\n", "x.race:8:1: found cpu 2"),
        ("walker software cpu 0 seg0:0\n", "x.race:8:8: found \"software\"; wanted `hardware`"),
        ("fail nowiat nth 1\n", "did you mean \"nowait\"?"),
        ("fail nowait nth 0\n", "x.race:8:1: found 0; wanted a number from 1"),
        ("mm A\n", "x.race:8:4: found \"A\"; wanted a new name"),
        ("mm c\n", "found \"c\"; wanted a new name"),
        ("cpus 3\n", "x.race:8:1: found \"cpus\"; wanted `cpus` only once"),
        ("mm C\n  map seg2..2:0\n", "x.race:9:3: found the empty range seg2..2"),
        ("mm C\n  unmap seg0 anon\n", "x.race:9:14: found \"anon\"; wanted the end of the line"),
        ("mm C\n  map seg0:0 anon\ncpu 0\n  C retract seg0\n", "found retract of anonymous memory"),
        ("cpu 99999999999\n", "found \"99999999999\"; wanted the number of a CPU"),
        ("cpu 0\n  A read seg4294967295:0\n", "found \"seg4294967295:0\"; wanted pages of a segment"),
        ("cpu 0\n  A map seg0:1\n", "x.race:9:9: found \"seg0:1\"; wanted a segment such as seg0"),
        ("mm C\n  unmap seg0:1\n", "x.race:9:3: found pages of a segment; wanted whole segments"),
        ("mm C\n  huge seg0..2:1\n", "x.race:9:3: found pages of a segment; wanted whole segments"),
        ("  bla\n", "x.race:8:3: found \"bla\"; wanted `map`, `unmap` or `huge`"),
    ];
    for (rest, want) in cases {
        let e = error(rest);
        assert!(e.contains(want), "{rest:?}: {e}");
    }
    let heads = [
        ("titel t\n", "x.race:1:1: found \"titel\""),
        ("titel t\n", "did you mean \"title\"?"),
        ("title t\ngeometry s390-2k\n", "did you mean \"s390x-2k\"?"),
        ("title t\ngeometry s390x-2k s390x-2k\n", "x.race:2:19: found \"s390x-2k\"; wanted a geometry"),
        ("title t\ngeometry sparc64\ncpus 1\n", "x.race: found no mm; wanted"),
        ("title t\ngeometry sparc64\ncpus 65\nmm A\n", "found 65 CPUs; wanted `cpus` 1 to 64"),
        (
            "title t\ngeometry sparc64\nforbid 29\ncpus 1\nmm A\n",
            "found invariant 29; wanted `forbid` any, or numbers 1 to 28",
        ),
        (
            "title t\ngeometry sparc64\nforbid two\n",
            "wanted `any` or numbers of invariants from 1 to 28, each once",
        ),
        (
            "title t\ngeometry ppc64-hash-4k\ncpus 1\nmm A\ncpu 0\n  A retract seg0\n",
            "ppc64-hash-4k has none",
        ),
    ];
    for (text, want) in heads {
        let e = Scenario::parse("x", text).map(|s| s.to_string()).unwrap_err().to_string();
        assert!(e.contains(want), "{text:?}: {e}");
    }
}

/// Seen to fail with every number taken for one that is checked.
#[test]
fn invariants_that_nothing_checks_are_known() {
    let s = |forbid: &str| {
        let text = format!("title t\ngeometry sparc64\ncpus 1\nforbid {forbid}\nmm A\n");
        Scenario::parse("x", &text).unwrap_or_else(|e| panic!("{e}")).unchecked()
    };
    assert_eq!((s("1 12 17 24 20 21 28"), s("any"), s("24")), (vec![12, 17, 20, 21], vec![], vec![]));
    for (name, text) in crate::library::TEXTS {
        let s = Scenario::parse(name, text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(s.unchecked(), [], "{name}");
    }
    let docs = include_str!("../../../../docs/not-modelled.md");
    for r in (1..=MAX_RULE).filter(|r| s(&r.to_string()) == [*r]) {
        assert!(
            docs.contains(&format!("Invariant {r} ")),
            "docs/not-modelled.md has nothing of invariant {r}"
        );
    }
}

/// Seen to fail with `without` leaving the walker, or the operation, where it is.
#[test]
fn example_of_the_documentation() {
    let text = "title    One rcu_head, two tables
ref      F-01
geometry s390x-2k ppc64-radix-64k   # each it makes sense for
cpus     2
forbid   4 10

mm A                                # done before the run
  map   seg0:0..2
  map   seg1..4:0 anon
  unmap seg3

cpu 0
  A retract seg0
cpu 1
  A read seg0:0
  switch A
  A touch seg0:0..2 store
  rcu-barrier

walker hardware cpu 1 seg0:0
fail   nowait nth 1
";
    let s = Scenario::parse("x", text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.mms[0].setup[1].segments, (1, 4));
    assert_eq!(s.programs[1].ops[2].place, Some(Place { segment: 0, pages: Some((0, 2)) }));
    assert_eq!(s.op_text(&s.programs[1].ops[1]), "switch A");
    assert_eq!(s.ops(), 5);
    assert_eq!(s.removable().len(), 7);
    let shorter = s.without(Location::Walker(0)).unwrap_or_else(|| panic!("the walker can go"));
    assert_eq!(shorter.walkers.len(), 0);
    assert_eq!(s.without(Location::Walker(1)), None);
    let shorter = s.without(Location::Op { program: 1, op: 0 }).unwrap_or_else(|| panic!("the read can go"));
    assert_eq!((shorter.ops(), shorter.op_text(&shorter.programs[1].ops[0])), (4, "switch A".into()));
    let pair = format!("{SMALL}cpu 0\n  A get-page seg0\n  A put-page seg0\n");
    let pair = Scenario::parse("x", &pair).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(pair.without(Location::Op { program: 0, op: 0 }), None, "the put has nothing to put then");
    assert!(pair.without(Location::Op { program: 0, op: 1 }).is_some());
}

/// Seen to fail with a reference changed in the table of operations only.
#[test]
fn table_has_every_operation_once() {
    let table = op::table();
    for v in Verb::ALL {
        let row = format!("{}`", [v.word(), &v.operand().syntax().replace('|', "\\|")].join(" ").trim());
        assert_eq!(
            table
                .lines()
                .filter(|l| l.contains(&format!("`{row}")) || l.contains(&format!(" {row}")))
                .count(),
            1
        );
        assert!(v.doc().ends_with('.') && !v.section().is_empty(), "{}", v.word());
        assert_eq!(Verb::from_word(v.word()), Some(*v));
    }
    assert!(table.contains("| `MM touch SEG:PAGES [load\\|store]` |"), "{table}");
    assert!(table.contains("| `switch MM` |"), "{table}");
    assert!(
        include_str!("../../../../docs/scenarios.md").contains(&table),
        "docs/scenarios.md is to have:\n{table}"
    );
}

fn pages() -> impl Strategy<Value = (u32, u32)> {
    (0u32..31).prop_flat_map(|a| (Just(a), a + 1..=32))
}

prop_compose! {
    fn any_op(mms: usize)(
        verb in proptest::sample::select(Verb::ALL),
        mm in 0..mms,
        segment in 0u32..1000,
        pages in pages(),
        whole: bool,
        store: bool,
    ) -> Op {
        let pages = match verb.operand() {
            Operand::Segment => None,
            Operand::SegmentOrPages if whole => None,
            _ => Some(pages),
        };
        let placed = !matches!(verb.operand(), Operand::None | Operand::Mm);
        Op {
            verb,
            mm: (verb.on_mm() || verb.operand() == Operand::Mm).then_some(mm),
            place: placed.then_some(Place { segment, pages }),
            store: store && verb.operand() == Operand::Access,
        }
    }
}

prop_compose! {
    fn any_setup()(kind in 0usize..4, first in 0u32..900, n in 1u32..90, pages in proptest::option::of(pages())) -> Setup {
        let kind = [SetupKind::MapFile, SetupKind::MapAnon, SetupKind::Unmap, SetupKind::Huge][kind];
        Setup { kind, segments: (first, first + n), pages }
    }
}

prop_compose! {
    fn any_scenario()(
        title in "[A-Za-z,.]{1,12}( [a-z]{1,9}){0,4}",
        refs in proptest::collection::vec("F-[0-9]{2}[ab]?", 0..3),
        memory in proptest::sample::select(&Memory::ALL[..]),
        geometries in proptest::sample::subsequence(&Geometry::ALL[..], 1..=7),
        refill_hidden in any::<bool>(),
        pmd_locks_space in any::<bool>(),
        forbid in proptest::sample::subsequence((1..=MAX_RULE).collect::<Vec<_>>(), 0..5),
        setups in proptest::collection::vec(proptest::collection::vec(any_setup(), 0..4), 2),
        programs in proptest::collection::vec((0usize..2, proptest::collection::vec(any_op(2), 0..6)), 0..5),
        walkers in proptest::collection::vec((0u32..5, 0u32..1000, pages(), 1u32..9), 0..3),
        failures in proptest::collection::vec((0usize..3, any::<bool>(), 1u32..9), 0..3),
    ) -> Scenario {
        Scenario {
            name: "x".into(),
            title,
            refs,
            geometries,
            cpus: 5,
            memory,
            forbid,
            machine: Options { refill_hidden, pmd_locks_space },
            mms: setups.into_iter().zip(["A", "Other_1"]).map(|(setup, n)| Mm { name: n.into(), setup }).collect(),
            programs: programs
                .into_iter()
                .zip(0..)
                .map(|((loaded, ops), cpu)| Program { cpu, loaded, ops })
                .collect(),
            walkers: walkers
                .into_iter()
                .map(|(cpu, segment, p, times)| Walker { cpu, place: Place { segment, pages: Some(p) }, times })
                .collect(),
            failures: failures
                .into_iter()
                .map(|(k, nth, n)| Failure {
                    kind: AllocKind::ALL[k],
                    which: if nth { Which::Nth(n) } else { Which::Every(n) },
                })
                .collect(),
        }
    }
}

proptest! {
    /// What makes sense is read back as printed; what does not is refused, and by the check's words. Seen to fail
    /// with `times` and with `store` left out of the printer.
    #[test]
    fn printed_scenarios_read_back(s in any_scenario()) {
        match (s.check(), Scenario::parse("x", &s.to_string())) {
            (Ok(()), Ok(back)) => prop_assert_eq!(back, s),
            (Err(p), Err(e)) => prop_assert_eq!((p.found, p.wanted), (e.found, e.wanted)),
            (check, parsed) => prop_assert!(false, "{check:?} but {parsed:?}\n{s}"),
        }
    }

    /// A file with one byte changed, or cut short, is an error or a scenario, never a panic.
    #[test]
    fn damaged_text_is_no_panic(s in any_scenario(), at: prop::sample::Index, byte in 0u8..128, cut: bool) {
        let mut text = s.to_string().into_bytes();
        let at = at.index(text.len());
        if cut { text.truncate(at) } else { text[at] = byte }
        if let Ok(s) = Scenario::parse("x", &String::from_utf8_lossy(&text)) {
            prop_assert_eq!(Scenario::parse("x", &s.to_string()), Ok(s));
        }
    }
}

/// Every operation of the library works on something that is mapped.
#[test]
fn the_library_has_no_idle_operations() {
    for s in crate::library::scenarios().unwrap() {
        assert_eq!(s.idle_ops(), [""; 0], "{}", s.name);
    }
}
