//! The sources of gcc's execution tests, and their executables: extracted and compiled once, kept under `target/`.

use crate::{install, succeed};
use anyhow::{Context, bail, ensure};
use racewalk_tests::guests::COMPILER;
use racewalk_tests::run::run;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where Debian's package of the sources puts the tarball.
const SOURCES: &str = "/usr/src/gcc-12";
/// The part of it that is wanted.
const SUITE: &str = "gcc/testsuite/gcc.c-torture/execute";
/// For every test: static, since racewalk runs nothing else, and stripped, since there are many.
const FLAGS: [&str; 3] = ["-w", "-static", "-s"];
/// For the tests of IEEE arithmetic.
const IEEE_FLAGS: [&str; 1] = ["-fno-inline"];
/// For the tests of builtins, which bring their own versions of libc's functions and count the calls.
const BUILTIN_FLAGS: [&str; 6] = [
    "-fno-tree-dse",
    "-fno-tree-loop-distribute-patterns",
    "-fno-tracer",
    "-fno-ipa-ra",
    "-fno-inline-functions",
    "-Wl,--allow-multiple-definition",
];
const COMPILE_DEADLINE: Duration = Duration::from_secs(180);

/// One test.
#[derive(Clone, Debug)]
pub struct Test {
    /// The file's name, after `ieee_` or `builtins_` if it comes from there.
    pub name: String,
    sources: Vec<PathBuf>,
    flags: &'static [&'static str],
    /// What its exit status must be, where that is not what qemu-s390x says.
    pub status: Option<i32>,
}

/// FNV-1a.
pub fn hash(s: &str) -> u64 {
    s.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The first line of what a command prints as its version.
pub fn version(command: &str) -> anyhow::Result<String> {
    let out = Command::new(command).arg("--version").output().with_context(|| format!("start {command}"))?;
    Ok(String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_string())
}

/// Extracts the sources, unless they are there. Returns their directory.
pub fn extract(scratch: &Path) -> anyhow::Result<PathBuf> {
    let list = std::fs::read_dir(SOURCES)
        .with_context(|| format!("list {SOURCES}; type as root: apt-get install -y gcc-12-source"))?;
    let tarball = list
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("gcc-12") && name.ends_with(".tar.xz")
        })
        .with_context(|| format!("{SOURCES} has no gcc-12*.tar.xz"))?;
    let name = tarball.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let dir = scratch.join("src").join(name.trim_end_matches(".tar"));
    if !dir.is_dir() {
        println!("xtask: extracting {SUITE} of {}", tarball.display());
        let new = scratch.join("src").join(format!("new-{}", std::process::id()));
        std::fs::create_dir_all(&new).with_context(|| format!("create {}", new.display()))?;
        let mut c = Command::new("tar");
        c.arg("-xJf").arg(&tarball).arg("-C").arg(&new);
        c.args(["--strip-components=1", "--wildcards", &format!("*/{SUITE}/*")]);
        succeed(&mut c, "the sources were not extracted")?;
        std::fs::rename(&new, &dir).with_context(|| format!("rename {}", new.display()))?;
    }
    Ok(dir.join(SUITE))
}

/// The `.c` files of a directory, sorted.
fn sources(dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut v = Vec::new();
    for e in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = e.with_context(|| format!("list {}", dir.display()))?.path();
        if path.extension().is_some_and(|x| x == "c") {
            v.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
    }
    v.sort();
    Ok(v)
}

/// Every test of the suite.
pub fn tests(suite: &Path) -> anyhow::Result<Vec<Test>> {
    let mut all = Vec::new();
    for (name, path) in sources(suite)? {
        all.push(Test { name, sources: vec![path], flags: &[], status: None });
    }
    for (name, path) in sources(&suite.join("ieee"))? {
        let name = format!("ieee_{name}");
        all.push(Test { name, sources: vec![path], flags: &IEEE_FLAGS, status: None });
    }
    let builtins = suite.join("builtins");
    let main = builtins.join("lib/main.c");
    for (name, path) in sources(&builtins)? {
        let lib = builtins.join(format!("{name}-lib.c"));
        if lib.is_file() {
            let sources = vec![path, lib, main.clone()];
            all.push(Test { name: format!("builtins_{name}"), sources, flags: &BUILTIN_FLAGS, status: None });
        }
    }
    Ok(all)
}

/// Programs that do not end with 0: whoever calls everything a success is found out.
pub fn controls(dir: &Path) -> anyhow::Result<Vec<Test>> {
    let list = [
        ("control-exit", 3, "int main(void) { return 3; }\n"),
        ("control-abort", 134, "#include <stdlib.h>\nint main(void) { abort(); }\n"),
        ("control-null", 139, "int main(void) { *(volatile int *)8 = 1; return 0; }\n"),
    ];
    let make = |(name, status, text): (&str, i32, &str)| {
        let path = dir.join(format!("{name}.c"));
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(Test { name: name.into(), sources: vec![path], flags: &[], status: Some(status) })
    };
    list.into_iter().map(make).collect()
}

/// The options that a test's comments ask for on every target. Conditional ones are for others: none names s390.
fn options(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (at, _) in text.match_indices("{ dg-") {
        let Some((word, rest)) = text[at + 2..].split_once(' ') else { continue };
        if !matches!(word, "dg-options" | "dg-additional-options") {
            continue;
        }
        // Either "-a -b" } or { "-a" } }.
        let rest = rest.trim_start_matches(['{', ' ']);
        let Some((list, end)) = rest.strip_prefix('"').and_then(|r| r.split_once('"')) else { continue };
        if end.trim_start().starts_with('}') {
            all.extend(list.split_whitespace().map(String::from));
        }
    }
    all
}

/// Compiles tests with one set of options.
pub struct Builder {
    /// Where executables and verdicts are kept.
    pub dir: PathBuf,
    opt: String,
}

impl Builder {
    /// Executables are kept by the compiler's version, the options and the suite.
    pub fn new(scratch: &Path, suite: &Path, opt: &str) -> anyhow::Result<Builder> {
        ensure!(install::find(COMPILER).is_some(), "{COMPILER} is missing; type: cargo xtask install");
        let key =
            format!("{} {} {FLAGS:?} {IEEE_FLAGS:?} {BUILTIN_FLAGS:?}", version(COMPILER)?, suite.display());
        let dir = scratch.join(format!("s390x{opt}-{:016x}", hash(&key)));
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Builder { dir, opt: opt.into() })
    }

    /// The executable of a test, or why it has none; and whether it was compiled only now.
    pub fn build(&self, t: &Test) -> anyhow::Result<(Result<PathBuf, String>, bool)> {
        let exe = self.dir.join(&t.name);
        if exe.is_file() {
            return Ok((Ok(exe), false));
        }
        let failed = self.dir.join(format!("{}.nobuild", t.name));
        if let Ok(reason) = std::fs::read_to_string(&failed) {
            return Ok((Err(reason), false));
        }
        let mut own = Vec::new();
        if let Some(first) = t.sources.first() {
            let text = std::fs::read(first).with_context(|| format!("read {}", first.display()))?;
            own = options(&String::from_utf8_lossy(&text));
        }
        let new = self.dir.join(format!("{}.new-{}", t.name, std::process::id()));
        let mut c = Command::new(COMPILER);
        c.arg(&self.opt).args(FLAGS).args(t.flags).args(own).args(&t.sources);
        c.arg("-o").arg(&new).arg("-lm").current_dir(&self.dir);
        let r = run(&mut c, COMPILE_DEADLINE);
        if r.status == Some(0) {
            std::fs::rename(&new, &exe).with_context(|| format!("rename {}", new.display()))?;
            return Ok((Ok(exe), true));
        }
        let Some(status) = r.status else { bail!("the compiler hangs:\n{r}") };
        let line = r.stderr.lines().find(|l| l.contains("error") || l.contains("undefined"));
        let reason = match line.or(r.stderr.lines().next()) {
            Some(l) => l.trim().to_string(),
            None => format!("the compiler ends with {status}"),
        };
        std::fs::write(&failed, &reason).with_context(|| format!("write {}", failed.display()))?;
        Ok((Err(reason), true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_every_target() {
        let of = |s: &str| options(s).join(" ");
        assert_eq!(of("/* { dg-options \"-fwrapv -O1\" } */"), "-fwrapv -O1");
        assert_eq!(of("/* { dg-options { \"-fwrapv\" } } */"), "-fwrapv");
        assert_eq!(of("// { dg-additional-options \"-std=gnu89\" }\n{ dg-options \"-w\" }"), "-std=gnu89 -w");
        assert_eq!(of("/* { dg-options \"-mpc64\"  { target i?86-*-* } } */"), "");
        assert_eq!(of("/* { dg-skip-if \"io\" { freestanding } } { dg-do run } */"), "");
        assert_eq!(of("{ dg-options"), "");
    }
}
