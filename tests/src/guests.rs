//! The guest programs: their manifest and how each is compiled.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// Debian's cross compiler.
pub const COMPILER: &str = "s390x-linux-gnu-gcc";
const STRIP: &str = "s390x-linux-gnu-strip";

/// How a guest is linked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Without libc, the same bytes wherever it is built; kept prebuilt in `guests/bin`.
    Freestanding,
    /// Against static glibc.
    Libc,
}

/// One guest program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// Name of the executable.
    pub name: String,
    /// Source, from `guests/`.
    pub source: String,
    /// How it is linked.
    pub kind: Kind,
    /// What it does.
    pub about: String,
    /// More flags for the compiler.
    #[serde(default)]
    pub flags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    guest: Vec<Guest>,
}

/// Reads `guests/manifest.toml`.
pub fn manifest(root: &Path) -> anyhow::Result<Vec<Guest>> {
    let path = root.join("guests/manifest.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let m: Manifest = toml::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
    Ok(m.guest)
}

impl Guest {
    /// Compiles the guest to `out`. Warnings are errors.
    pub fn build(&self, root: &Path, out: &Path) -> anyhow::Result<()> {
        let mut c = Command::new(COMPILER);
        c.args(["-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-static"]);
        match self.kind {
            Kind::Freestanding => c.args([
                "-ffreestanding",
                "-nostdlib",
                "-no-pie",
                "-fno-stack-protector",
                "-fno-asynchronous-unwind-tables",
                "-Wl,--build-id=none",
                "-Wl,-z,noexecstack",
            ]),
            Kind::Libc => c.arg("-pthread"),
        };
        c.args(&self.flags).arg("-o").arg(out).arg(&self.source).current_dir(root.join("guests"));
        if self.kind == Kind::Libc {
            c.arg("-lm");
        }
        succeed(&mut c)?;
        if self.kind == Kind::Freestanding {
            succeed(Command::new(STRIP).arg(out))?;
        }
        Ok(())
    }
}

fn succeed(c: &mut Command) -> anyhow::Result<()> {
    match c.status() {
        Ok(s) if s.success() => Ok(()),
        Ok(s) => bail!("{c:?} ended with {s}"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("{} is not installed; type: cargo xtask install", c.get_program().display())
        }
        Err(e) => bail!("start {c:?}: {e}"),
    }
}

/// The compiler's own name and version, as it writes it into what it builds.
pub fn compiler() -> anyhow::Result<String> {
    let out = Command::new(COMPILER)
        .arg("--version")
        .output()
        .with_context(|| format!("start {COMPILER}; if it is missing, type: cargo xtask install"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let first = text.lines().next().unwrap_or_default();
    // "s390x-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0" stands in a file as "GCC: (Debian 12.2.0-14) 12.2.0".
    let (_, version) = first.split_once(' ').unwrap_or(("", first));
    ensure!(!version.is_empty(), "{COMPILER} --version says {first:?}; wanted a name and a version");
    Ok(version.to_string())
}

/// How a rebuilt freestanding guest compares with the prebuilt one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// The same bytes.
    Same,
    /// Other bytes from the same compiler, or nothing is prebuilt: the source or the flags changed.
    Changed,
    /// Other bytes, but from another compiler; this is the one that made the prebuilt file.
    OtherCompiler(String),
}

/// Compares the bytes of a prebuilt guest with those that `compiler` built.
pub fn compare(prebuilt: &[u8], rebuilt: &[u8], compiler: &str) -> Comparison {
    if prebuilt == rebuilt {
        return Comparison::Same;
    }
    let mark = b"GCC: ";
    let maker = prebuilt.windows(mark.len()).position(|w| w == mark).map(|at| {
        let rest = &prebuilt[at + mark.len()..];
        let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    });
    match maker {
        Some(m) if m != compiler => Comparison::OtherCompiler(m),
        _ => Comparison::Changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_names_the_other_compiler() {
        let old = b"\x7fELF...GCC: (Debian 1) 1.0\0.shstrtab";
        assert_eq!(compare(old, old, "(Debian 2) 2.0"), Comparison::Same);
        assert_eq!(compare(old, b"x", "(Debian 1) 1.0"), Comparison::Changed);
        assert_eq!(compare(old, b"x", "(Debian 2) 2.0"), Comparison::OtherCompiler("(Debian 1) 1.0".into()));
        assert_eq!(compare(b"", b"x", "(Debian 2) 2.0"), Comparison::Changed);
    }
}
