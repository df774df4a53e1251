//! `racewalk demo`: the built-in guest, and what its MMU did.

use crate::cli::Demo;
use crate::report::Report;
use crate::run::{refuse, status};
use crate::talk::{Calls, Output, print};
use anyhow::Context;
use racewalk_linux::system::{Options, System};
use racewalk_walk::tlb::config::TlbConfig;
use std::io::Write;
use std::sync::Arc;

/// The guest: `guests/src/demo.c`.
const GUEST: &[u8] = include_bytes!("../../../guests/bin/s390x/demo");

/// Runs the demo.
pub fn demo(d: &Demo) -> anyhow::Result<u8> {
    let path = std::env::temp_dir().join(format!("racewalk-demo-{}", std::process::id()));
    let write = || std::fs::File::create_new(&path)?.write_all(GUEST);
    write().with_context(|| format!("write the guest to {}", path.display()))?;
    let o = Options {
        program: path.clone(),
        args: vec!["demo".into()],
        env: Vec::new(),
        cpus: d.cpus,
        memory: 256 << 20,
        mode: d.engine,
        scheme: racewalk_mm::Scheme::default().into(),
        sanitize: false,
        measure: false,
        speculate: false,
        tlb: TlbConfig::infinite(),
        code_bytes: 16 << 20,
        observer: Default::default(),
        tape: Default::default(),
        known_as: None,
    };
    let talk = Arc::new(Calls { output: Arc::new(Output::open(None)?), strace: false });
    let started = System::start(&o, talk);
    // The open file stays usable.
    let _ = std::fs::remove_file(&path);
    let (sys, first) = match started {
        Ok(x) => x,
        Err(e) => return refuse(e),
    };
    print(&format!(
        "A real s390x program on {} emulated CPUs; every access walks s390x page tables that a\nLinux-like mm keeps, frees and reuses in guest memory.\n\n",
        d.cpus
    ))?;
    let ending = sys.run_free(first);
    print(&format!("\n{}\n", Report::of(&sys).text()))?;
    Ok(status(&ending))
}
