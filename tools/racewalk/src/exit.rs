//! Exit codes. A guest's own status passes through; these are racewalk's.

/// `walk`: something else than a file says.
pub const DIFFERS: u8 = 1;
/// Wrong use of the command line.
pub const USAGE: u8 = 2;
/// A race, or a broken invariant, was found.
pub const FOUND: u8 = 3;
/// A replay was another run than the recorded one.
pub const DIVERGED: u8 = 4;
/// The emulator failed: something is not modelled, or a bug.
pub const FAILURE: u8 = 125;
/// The program is not an ELF file that racewalk runs.
pub const NOT_RUNNABLE: u8 = 126;
/// The program was not found.
pub const NOT_FOUND: u8 = 127;
/// A guest killed by signal n exits with this plus n.
pub const SIGNAL_BASE: u8 = 128;
