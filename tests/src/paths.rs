//! Where the sources, the programs under test and the guests are.

use anyhow::Context;
use std::path::{Path, PathBuf};

/// The root of the sources.
pub fn root() -> PathBuf {
    // Cargo sets the variable for programs that it runs; what was true when this was compiled serves the others.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = Path::new(&here);
    here.ancestors()
        .find(|d| d.join("guests/manifest.toml").is_file())
        .unwrap_or_else(|| panic!("no directory above {} has a guests/manifest.toml", here.display()))
        .to_path_buf()
}

/// Where cargo put this executable's profile, such as `target/release`.
pub fn profile_dir() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("find this executable")?;
    let mut dir = exe.parent().context("this executable has no directory")?;
    if dir.file_name().is_some_and(|n| n == "deps") {
        dir = dir.parent().context("deps has no parent")?;
    }
    Ok(dir.to_path_buf())
}

/// Where guests are built: `target/guests/s390x`.
pub fn guest_dir() -> anyhow::Result<PathBuf> {
    let profile = profile_dir()?;
    let target = profile.parent().context("the profile directory has no parent")?;
    Ok(target.join("guests/s390x"))
}

/// The racewalk command of this profile. Panics with what to type if it was not built.
pub fn racewalk() -> PathBuf {
    let path = profile_dir().expect("the profile directory").join("racewalk");
    assert!(
        path.is_file(),
        "{} is missing; build it: cargo build {}, or run everything: cargo xtask test",
        path.display(),
        if cfg!(debug_assertions) { "" } else { "--release" }
    );
    path
}

/// A guest program. Panics with what to type if it was not built.
pub fn guest(name: &str) -> PathBuf {
    let path = guest_dir().expect("the target directory").join(name);
    assert!(path.is_file(), "{} is missing; build the guests: cargo xtask guests", path.display());
    path
}

/// An empty directory for the files of a test.
pub fn scratch(test: &str) -> PathBuf {
    let dir = profile_dir().expect("the profile directory").join("test-files").join(test);
    if let Err(e) = std::fs::remove_dir_all(&dir) {
        assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "empty {}: {e}", dir.display());
    }
    std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("create {}: {e}", dir.display()));
    dir
}
