//! `cargo xtask guests`: builds the guest programs.

use crate::Dirs;
use anyhow::{Context, bail};
use racewalk_tests::guests::{Comparison, Kind, compare, compiler, manifest};

/// `cargo xtask guests`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write rebuilt freestanding guests to guests/bin instead of comparing them.
    #[arg(long)]
    pub update: bool,
}

/// Builds every guest; compares or updates the prebuilt ones.
pub fn guests(d: &Dirs, a: &Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&d.guests).with_context(|| format!("create {}", d.guests.display()))?;
    let version = compiler()?;
    let list = manifest(&d.root)?;
    let mut changed = Vec::new();
    for g in &list {
        let out = d.guests.join(&g.name);
        let new = d.guests.join(format!("{}.new", g.name));
        g.build(&d.root, &new).with_context(|| format!("build the guest {}", g.name))?;
        if g.kind == Kind::Freestanding {
            let kept = d.root.join("guests/bin/s390x").join(&g.name);
            let rebuilt = std::fs::read(&new).with_context(|| format!("read {}", new.display()))?;
            let old = match std::fs::read(&kept) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                r => r.with_context(|| format!("read {}", kept.display()))?,
            };
            match compare(&old, &rebuilt, &version) {
                Comparison::Same => {}
                _ if a.update => {
                    std::fs::copy(&new, &kept).with_context(|| format!("write {}", kept.display()))?;
                    println!("xtask: updated guests/bin/s390x/{}", g.name);
                }
                Comparison::Changed => changed.push(g.name.as_str()),
                Comparison::OtherCompiler(maker) => println!(
                    "xtask: guests/bin/s390x/{} was built by gcc {maker}; this is gcc {version}, so its bytes \
                     are not compared",
                    g.name
                ),
            }
        }
        std::fs::rename(&new, &out).with_context(|| format!("rename {}", new.display()))?;
    }
    println!("xtask: {} guests in {}", list.len(), d.guests.display());
    if !changed.is_empty() {
        bail!(
            "guests/bin/s390x: {} differs from what its source builds\nhint: if the source was meant to change, \
             type: cargo xtask guests --update",
            changed.join(", ")
        );
    }
    Ok(())
}
