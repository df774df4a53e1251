//! The prebuilt freestanding guests are what their sources build.

use racewalk_tests::guests::{Comparison, Kind, compare, compiler, manifest};
use racewalk_tests::{paths, racewalk, run};
use std::process::Command;
use std::time::Duration;

#[test]
fn prebuilt_guests_are_what_their_sources_build() {
    let (root, scratch) = (paths::root(), paths::scratch("prebuilt"));
    let version = compiler().expect("the cross compiler");
    let mut seen = 0;
    for g in manifest(&root).expect("the manifest").iter().filter(|g| g.kind == Kind::Freestanding) {
        seen += 1;
        let (kept, new) = (root.join("guests/bin/s390x").join(&g.name), scratch.join(&g.name));
        g.build(&root, &new).expect("the guest builds");
        let read = |p| std::fs::read(p).unwrap_or_else(|e| panic!("read {}: {e}", g.name));
        match compare(&read(&kept), &read(&new), &version) {
            Comparison::Same => {}
            Comparison::Changed => panic!(
                "guests/bin/s390x/{} differs from what guests/{} builds; if the source was meant to change, type: \
                 cargo xtask guests --update",
                g.name, g.source
            ),
            // Another compiler makes other bytes; they must do the same.
            Comparison::OtherCompiler(_) => {
                let go = |p| run(Command::new(racewalk()).arg(p), Duration::from_secs(60)).expect(0).text();
                assert_eq!(go(&kept), go(&new), "output of the prebuilt (left) and the rebuilt {}", g.name);
            }
        }
    }
    assert!(seen > 0, "guests/manifest.toml has no freestanding guest");
}

#[test]
fn nothing_else_is_prebuilt() {
    let root = paths::root();
    let list = manifest(&root).expect("the manifest");
    let dir = root.join("guests/bin/s390x");
    for f in std::fs::read_dir(&dir).expect("guests/bin/s390x") {
        let name = f.expect("an entry").file_name();
        let known = list.iter().any(|g| g.kind == Kind::Freestanding && *g.name == *name);
        assert!(known, "guests/bin/s390x/{} is no freestanding guest of the manifest", name.display());
    }
}
