//! `cargo xtask bare-metal`: the walkers against another machine's MMU.

use crate::{Dirs, cargo, install, succeed};

/// `cargo xtask bare-metal`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which architecture.
    #[arg(long, value_enum)]
    pub arch: Arch,
    /// Cases.
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub cases: u32,
    /// What the cases come from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Architectures with a bare-metal guest under `guests/bare`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Arch {
    /// Dynamic address translation of z/Architecture.
    S390x,
    /// Radix trees of Power, nested ones included.
    Ppc64,
    /// The data MMU of sun4u.
    Sparc64,
}

/// What an architecture's comparison needs: the test's name, programs, and the packages that hold them.
struct Needs {
    test: &'static str,
    programs: &'static [&'static str],
    packages: &'static [&'static str],
}

impl Arch {
    fn needs(self) -> Needs {
        match self {
            Arch::S390x => Needs {
                test: "bare_metal_s390x",
                programs: &["s390x-linux-gnu-gcc", "qemu-system-s390x"],
                packages: &["gcc-s390x-linux-gnu", "qemu-system-misc"],
            },
            Arch::Ppc64 => Needs {
                test: "bare_metal_ppc64",
                programs: &["powerpc64-linux-gnu-gcc", "qemu-system-ppc64"],
                packages: &["gcc-powerpc64-linux-gnu", "qemu-system-ppc"],
            },
            Arch::Sparc64 => Needs {
                test: "bare_metal_sparc64",
                programs: &["sparc64-linux-gnu-gcc", "qemu-system-sparc64"],
                packages: &["gcc-sparc64-linux-gnu", "qemu-system-sparc"],
            },
        }
    }
}

/// Makes the cases on a bare machine and compares.
pub fn bare(d: &Dirs, a: &Args) -> anyhow::Result<()> {
    let n = a.arch.needs();
    let missing = || n.programs.iter().copied().filter(|p| install::find(p).is_none()).collect();
    install::packages(missing, n.packages)?;
    let mut c = cargo(d, &["test", "--release", "--package", "racewalk-walk", "--test", "oracle"]);
    c.args([n.test, "--", "--ignored", "--nocapture"]);
    c.env("RACEWALK_BARE_CASES", a.cases.to_string()).env("RACEWALK_BARE_SEED", a.seed.to_string());
    succeed(&mut c, "the machines differ")
}
