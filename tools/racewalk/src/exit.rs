//! Exit codes. A guest's own status passes through; these are racewalk's.

use racewalk_lab::scenario::ScenarioError;
use racewalk_lab::story::StoryError;
use racewalk_lab::target::LabError;
use racewalk_trace::TraceError;
use racewalk_walk::text::TextError;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// `walk`: something else than a file says.
pub const DIFFERS: u8 = 1;
/// Wrong use: of the command line, or in a file that people write.
pub const USAGE: u8 = 2;
/// A race, or a broken invariant, was found.
pub const FOUND: u8 = 3;
/// A replay was another run than the recorded one.
pub const DIVERGED: u8 = 4;
/// The emulator failed: something is not modelled, or a bug.
pub const FAILURE: u8 = 125;
/// The program is not an ELF file that racewalk runs.
pub const NOT_RUNNABLE: u8 = 126;
/// The program, or another file to be read, is not there.
pub const NOT_FOUND: u8 = 127;
/// A guest killed by signal n exits with this plus n.
pub const SIGNAL_BASE: u8 = 128;

/// What was asked for cannot be done.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// Wrong usage, in the words that follow "failed to".
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// A file that was named cannot be opened.
#[derive(Debug)]
struct Unopened {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.path.display())
    }
}

impl Error for Unopened {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// For `map_err`: a file that was named, and what could not be done with it, such as "read".
pub fn unopened(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> anyhow::Error + use<> {
    let path = path.to_path_buf();
    move |source| Unopened { what, path, source }.into()
}

/// The status that an error leads to.
pub fn of(e: &anyhow::Error) -> u8 {
    e.chain().find_map(one).unwrap_or(FAILURE)
}

fn one(e: &(dyn Error + 'static)) -> Option<u8> {
    let opened = |what: &str, e: &io::Error| match e.kind() {
        io::ErrorKind::NotFound if matches!(what, "read" | "open") => NOT_FOUND,
        _ => USAGE,
    };
    if let Some(Unopened { what, source, .. }) = e.downcast_ref() {
        return Some(opened(what, source));
    }
    if let Some(TraceError::Io { what: what @ ("open" | "create"), source, .. }) = e.downcast_ref() {
        return Some(opened(what, source));
    }
    let lab = matches!(
        e.downcast_ref(),
        Some(LabError::Scheme { .. } | LabError::Geometry { .. } | LabError::Plan { .. })
    );
    let story = matches!(e.downcast_ref(), Some(StoryError::Unknown { .. }));
    (lab || story || e.is::<Usage>() || e.is::<ScenarioError>() || e.is::<TextError>()).then_some(USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    /// Seen to fail with the first cause asked alone, and with a file that cannot be made taken for one that is not there.
    #[test]
    fn errors_have_statuses() {
        let of = |e: anyhow::Result<()>| of(&e.context("race").expect_err("an error"));
        let io = |kind| Err(io::Error::from(kind));
        let missing = io::ErrorKind::NotFound;
        assert_eq!(of(Err(usage("race: no scenario"))), USAGE);
        assert_eq!(of(io(missing).map_err(unopened("read", Path::new("x")))), NOT_FOUND);
        assert_eq!(of(io(missing).map_err(unopened("write", Path::new("x")))), USAGE);
        assert_eq!(of(io(io::ErrorKind::PermissionDenied).map_err(unopened("read", Path::new("x")))), USAGE);
        assert_eq!(of(io(missing).context("write to standard output")), FAILURE);
        assert_eq!(of(Err(anyhow::anyhow!("a bug"))), FAILURE);
        let scenario = racewalk_lab::scenario::Scenario::parse("x", "nonsense").map(drop);
        assert_eq!(of(scenario.map_err(Into::into)), USAGE);
    }
}
