//! Scenarios on the real mm: its CPUs, walkers and the RCU thread are tasks of one schedule.

/// `$f::<A>($arg, …)`, where `A` is the architecture of a geometry.
macro_rules! on_geometry {
    ($geometry:expr, $f:ident($($arg:expr),*)) => {{
        use racewalk_mm::arch::{Hpt, Pae, Radix, S390x, Sparc64};
        match $geometry {
            Geometry::S390x2k => $f::<S390x>($($arg),*),
            Geometry::Ppc64Radix64k => $f::<Radix<16>>($($arg),*),
            Geometry::Ppc64Radix4k => $f::<Radix<12>>($($arg),*),
            Geometry::Ppc64Hash64k => $f::<Hpt<16>>($($arg),*),
            Geometry::Ppc64Hash4k => $f::<Hpt<12>>($($arg),*),
            Geometry::Sparc64 => $f::<Sparc64>($($arg),*),
            Geometry::Pae => $f::<Pae>($($arg),*),
        }
    }};
}

mod events;
mod free;
mod observe;
mod ops;
mod prepared;
mod race;
mod setup;
#[cfg(test)]
mod tests;
mod world;

pub use free::{Free, Freed};
pub use observe::{Counted, Listener, Observed};

use crate::scenario::{Geometry, Scenario};
use crate::target::{LabError, RunOptions, RunResult, Runner, Target};
use prepared::Prepared;
use racewalk_mm::arch::Arch;
use racewalk_mm::{Scheme, Variant};
use racewalk_sched::controlled::Policy;

/// The mm as a target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

/// Geometries that a scheme has code for.
pub fn geometries(scheme: Scheme) -> Vec<Geometry> {
    Geometry::ALL.into_iter().filter(|&g| knows(g, scheme)).collect()
}

fn knows(geometry: Geometry, scheme: Scheme) -> bool {
    fn runs_on<A: Arch>(scheme: Scheme) -> bool {
        scheme.runs_on::<A>()
    }
    on_geometry!(geometry, runs_on(scheme))
}

impl Machine {
    /// The variant of that name, and the first geometry wanted that it has code for.
    fn choose(
        &self,
        scenario: &Scenario,
        scheme: &str,
        options: &RunOptions,
    ) -> Result<(Variant, Geometry), LabError> {
        let found = scheme.parse::<Variant>().ok().filter(|v| v.scheme.available());
        let Some(variant) = found else {
            return Err(LabError::Scheme { scheme: scheme.into(), known: self.schemes() });
        };
        let scheme = variant.scheme;
        let wanted = options.geometry.as_ref().map_or(&*scenario.geometries, std::slice::from_ref);
        match wanted.iter().find(|&&g| knows(g, scheme)) {
            Some(&geometry) => Ok((variant, geometry)),
            None => {
                let (scenario, scheme) = (scenario.name.clone(), scheme.name().into());
                Err(LabError::Geometry { scenario, scheme, wanted: wanted.into() })
            }
        }
    }
}

fn prepare<A: Arch>(scenario: &Scenario, variant: Variant, options: &RunOptions) -> Box<dyn Runner> {
    Box::new(Prepared::<A>::new(scenario, variant, options))
}

fn once<A: Arch>(
    scenario: &Scenario,
    variant: Variant,
    options: &RunOptions,
    policy: &mut dyn Policy,
) -> Result<RunResult, LabError> {
    Prepared::<A>::new(scenario, variant, options).once(policy)
}

impl Target for Machine {
    fn schemes(&self) -> Vec<String> {
        Scheme::catalogue().filter(|s| s.available()).map(|s| s.name().into()).collect()
    }

    fn prepare(
        &self,
        scenario: &Scenario,
        scheme: &str,
        options: &RunOptions,
    ) -> Result<Box<dyn Runner>, LabError> {
        let (variant, geometry) = self.choose(scenario, scheme, options)?;
        Ok(on_geometry!(geometry, prepare(scenario, variant, options)))
    }

    /// Without a checkpoint, which a single run does not repay.
    fn run(
        &self,
        scenario: &Scenario,
        scheme: &str,
        policy: &mut dyn Policy,
        options: &RunOptions,
    ) -> Result<RunResult, LabError> {
        let (variant, geometry) = self.choose(scenario, scheme, options)?;
        on_geometry!(geometry, once(scenario, variant, options, policy))
    }
}
