//! Any bytes as a recording: opened or refused, and all that is in it read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use racewalk_trace::{Recording, check, stats};

fuzz_target!(|data: &[u8]| {
    let path = std::env::temp_dir().join(format!("racewalk-fuzz-{}.rwt", std::process::id()));
    std::fs::write(&path, data).expect("a file");
    if let Ok(r) = Recording::open(&path) {
        check::check(&r);
        let _ = stats::TraceStats::of(&r).text();
        let _ = (r.image(), r.merged().count());
    }
});
