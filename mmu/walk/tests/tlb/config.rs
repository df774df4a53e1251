//! Configurations: what a file may say, and what is said about one that may not.

use racewalk_walk::event::PageSize;
use racewalk_walk::tlb::config::{Hierarchy, Kind, Serves, TlbConfig, Ways};
use racewalk_walk::tlb::{Replacement, presets};
use std::path::Path;

const GOOD: &str = r#"
kind = "finite"
hierarchy = "inclusive"

[[level]]
[[level.array]]
name = "d"
side = "data"
entries = 48
ways = 3
sizes = ["4K", "16G"]
replacement = "tree-plru"

[[level]]
[[level.array]]
name = "u"
side = "unified"
entries = 7
sizes = ["4K", "4P"]
replacement = "random"
seed = 9
locks = false

[[walk-cache]]
name = "pwc"
covers = ["2M", "512G"]
entries = 20
ways = 5
source.entries = "measured"
"#;

#[test]
fn a_file_says_everything() {
    let c = crate::parse(GOOD);
    assert_eq!((c.kind, c.hierarchy, c.levels.len()), (Kind::Finite, Hierarchy::Inclusive, 2));
    let (d, u) = (&c.levels[0].arrays[0], &c.levels[1].arrays[0]);
    assert_eq!((d.side, d.entries, d.ways, d.locks), (Serves::Data, 48, Ways::Of(3), true));
    assert_eq!(
        (d.sizes.as_slice(), d.replacement),
        (&[PageSize(12), PageSize(34)][..], Replacement::TreePlru)
    );
    assert_eq!((u.side, u.ways, u.seed, u.locks), (Serves::Unified, Ways::Full, 9, false));
    assert_eq!(u.sizes[1], PageSize(52));
    let w = &c.walk_cache[0];
    assert_eq!((w.covers.as_slice(), w.ways), (&[PageSize(21), PageSize(39)][..], Ways::Of(5)));
    assert_eq!(w.source["entries"], "measured");
}

#[test]
fn errors_name_the_file_the_key_what_was_found_and_what_is_wanted() {
    for (from, to, says) in [
        ("entries = 48", "entries = 0", &["level[0].array[0].entries", "found 0", "wanted 1 to 1048576"][..]),
        ("entries = 48", "entries = 2000000", &["level[0].array[0].entries", "found 2000000"]),
        ("entries = 48", "entries = \"48\"", &["line", "entries = \"48\"", "string \"48\"", "expected u32"]),
        ("entries = 48", "entries = -1", &["entries = -1", "`-1`", "expected u32"]),
        ("entries = 48\n", "", &["missing field `entries`"]),
        ("ways = 3", "ways = 5", &["level[0].array[0].ways", "found 5", "wanted a divisor of 48"]),
        ("ways = 3", "ways = 0", &["level[0].array[0].ways", "found 0"]),
        ("ways = 3", "ways = \"all\"", &["ways = \"all\"", "string \"all\"", "a number of ways or \"full\""]),
        ("\"16G\"", "\"15G\"", &["\"15G\" is no page size", "wanted a power of two with K, M, G, T, P or E"]),
        ("\"16G\"", "\"16E\"", &["\"16E\" is no page size"]),
        ("[\"4K\", \"16G\"]", "[]", &["level[0].array[0].sizes", "found none"]),
        ("\"16G\"", "\"4K\"", &["level[0].array[0].sizes", "found 4K twice"]),
        ("\"tree-plru\"", "\"mru\"", &["unknown variant `mru`", "`tree-plru`"]),
        ("\"data\"", "\"both\"", &["unknown variant `both`", "`unified`"]),
        ("name = \"u\"", "name = \"d\"", &["level[1].array[0].name", "found \"d\""]),
        ("name = \"pwc\"", "name = \"\"", &["walk-cache[0].name", "found \"\""]),
        ("seed = 9", "sead = 9", &["sead", "unknown field", "`seed`"]),
        ("covers = [\"2M\", \"512G\"]", "covers = []", &["walk-cache[0].covers", "found none"]),
        ("source.entries", "source.entry", &["walk-cache[0].source", "found \"entry\"", "entries, ways"]),
        ("\"finite\"", "\"infinite\"", &["level: found 2", "wanted none"]),
        ("\"finite\"", "\"finite", &["line 2"]),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let e = TlbConfig::parse(&text, Path::new("some/file.toml")).expect_err(to).to_string();
        assert!(e.starts_with("some/file.toml: "), "{e}");
        for s in says {
            assert!(e.contains(s), "{s:?} is not in: {e}");
        }
    }
    let e = TlbConfig::parse("kind = \"finite\"", Path::new("f")).unwrap_err().to_string();
    assert_eq!(e, "f: level: found none; wanted at least one, as the kind is finite");
    let e =
        TlbConfig::parse("kind = \"finite\"\n[[level]]\narray = []", Path::new("f")).unwrap_err().to_string();
    assert_eq!(e, "f: level[0].array: found none; wanted at least one");
}

#[test]
fn names_are_presets_or_files() {
    let e = presets::find("power99").unwrap_err().to_string();
    assert!(e.contains("\"power99\"") && e.contains("power9-radix") && e.contains("TOML file"), "{e}");
    let e = presets::find("no/such.toml").unwrap_err().to_string();
    assert!(e.starts_with("no/such.toml: ") && e.contains("No such file"), "{e}");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mine.toml");
    std::fs::write(&file, GOOD).unwrap();
    assert_eq!(presets::find(file.to_str().unwrap()).unwrap(), crate::parse(GOOD));
    assert_eq!(presets::find("none").unwrap().kind, Kind::None);
}
