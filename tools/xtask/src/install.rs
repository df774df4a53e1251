//! `cargo xtask install`: Debian's cross compiler, its libc, qemu-user and gcc's sources.

use anyhow::bail;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGES: [&str; 5] =
    ["gcc-s390x-linux-gnu", "libc6-dev-s390x-cross", "qemu-user", "gcc-12-source", "xz-utils"];

/// The path of a command, if there is one.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(name)).find(|p| p.is_file())
}

/// What is missing, by what it is for.
fn missing() -> Vec<&'static str> {
    let mut m = Vec::new();
    let compiler = "s390x-linux-gnu-gcc";
    if find(compiler).is_none() {
        m.push("s390x-linux-gnu-gcc, which builds the guests");
        m.push("an s390x libc.a, which they are linked with");
    } else {
        // gcc prints the bare name of a file that it does not find.
        let libc = Command::new(compiler).arg("-print-file-name=libc.a").output();
        if !libc.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).is_absolute()) {
            m.push("an s390x libc.a, which the guests are linked with");
        }
    }
    if find("qemu-s390x").is_none() {
        m.push("qemu-s390x, which the guests' output is compared with");
    }
    if !Path::new("/usr/src/gcc-12").is_dir() {
        m.push("gcc's sources, whose execution tests are run");
    }
    if find("xz").is_none() {
        m.push("xz, which unpacks them");
    }
    m
}

/// Installs what is missing.
pub fn install() -> anyhow::Result<()> {
    packages(missing, &PACKAGES)
}

/// Installs `packages` if `missing` says that something is, and wants nothing missing then.
pub fn packages(missing: impl Fn() -> Vec<&'static str>, packages: &[&str]) -> anyhow::Result<()> {
    let m = missing();
    if m.is_empty() {
        return Ok(());
    }
    println!("xtask: missing: {}", m.join("; "));
    let typed =
        format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    if find("apt-get").is_none() {
        bail!("no apt-get here; install what Debian calls {}, then try again", packages.join(" "));
    }
    let root = rustix::process::geteuid().is_root();
    if !root && find("sudo").is_none() {
        bail!("installing needs root; type as root: {typed}");
    }
    println!("xtask: installing: {}{typed}", if root { "" } else { "sudo " });
    let apt = |args: &[&str]| -> anyhow::Result<()> {
        let mut c = Command::new(if root { "env" } else { "sudo" });
        if !root {
            c.arg("env");
        }
        c.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(args);
        crate::succeed(&mut c, &format!("install packages; type as root: {typed}"))
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"][..], packages].concat())?;
    let m = missing();
    if !m.is_empty() {
        bail!("still missing after {typed}: {}", m.join("; "));
    }
    Ok(())
}
