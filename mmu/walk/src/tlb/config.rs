//! A machine's TLBs as data, from TOML.
//!
//! ```toml
//! about = "two levels, as an example"
//! kind = "finite"
//! hierarchy = "inclusive"
//!
//! [[level]]
//! [[level.array]]
//! name = "dtlb"
//! side = "data"
//! entries = 48
//! ways = 3
//! sizes = ["4K", "16G"]
//! replacement = "lru"
//! ```

use super::replace::Replacement;
use crate::event::PageSize;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, de};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Most entries of one array.
pub const MAX_ENTRIES: u32 = 1 << 20;

/// Most walk caches.
pub const MAX_WALK_CACHES: usize = 64;

/// A machine's TLBs and walk caches.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlbConfig {
    /// One line for people.
    #[serde(default)]
    pub about: String,
    /// Which kind of model.
    pub kind: Kind,
    /// How levels share entries.
    #[serde(default)]
    pub hierarchy: Hierarchy,
    /// The levels, the one that is asked first at the front. Empty unless the kind is finite.
    #[serde(default, rename = "level")]
    pub levels: Vec<LevelConfig>,
    /// Caches of upper parts of walks, for any kind.
    #[serde(default, rename = "walk-cache")]
    pub walk_cache: Vec<WalkCacheConfig>,
}

/// Which kind of model.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No TLB: every access walks.
    None,
    /// Entries go only when they are invalidated.
    Infinite,
    /// Levels of arrays.
    Finite,
}

/// How the levels of a finite model share entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hierarchy {
    /// A fill enters every level; each replaces for itself.
    #[default]
    Independent,
    /// A fill enters every level; what a level loses, the levels above it lose too.
    Inclusive,
    /// A fill enters the first level; what a level replaces enters the next, and a hit moves back to the first. Where
    /// the sides share a level, an entry that both use may be in the first level of one and in the shared one.
    Exclusive,
}

/// One level: arrays that are asked at once.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelConfig {
    /// The arrays. An entry goes to the first that takes it.
    #[serde(rename = "array")]
    pub arrays: Vec<ArrayConfig>,
}

/// One array of entries.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrayConfig {
    /// Unique in the file.
    pub name: String,
    /// Which accesses it serves.
    pub side: Serves,
    /// Entries, at most [`MAX_ENTRIES`].
    pub entries: u32,
    /// Ways of a set.
    #[serde(default)]
    pub ways: Ways,
    /// Sizes of the pages it holds.
    pub sizes: Vec<PageSize>,
    /// Which entry goes.
    #[serde(default = "lru")]
    pub replacement: Replacement,
    /// Where random replacement begins.
    #[serde(default)]
    pub seed: u64,
    /// Whether it takes locked entries.
    #[serde(default = "yes")]
    pub locks: bool,
    /// Where each number comes from, by key.
    #[serde(default)]
    pub source: BTreeMap<String, String>,
}

/// A cache of upper parts of walks.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalkCacheConfig {
    /// Unique in the file.
    pub name: String,
    /// How much the entries that it holds cover: 1M for a segment-table entry of s390x, say.
    pub covers: Vec<PageSize>,
    /// Entries, at most [`MAX_ENTRIES`].
    pub entries: u32,
    /// Ways of a set.
    #[serde(default)]
    pub ways: Ways,
    /// Which entry goes.
    #[serde(default = "lru")]
    pub replacement: Replacement,
    /// Where random replacement begins.
    #[serde(default)]
    pub seed: u64,
    /// Where each number comes from, by key.
    #[serde(default)]
    pub source: BTreeMap<String, String>,
}

fn lru() -> Replacement {
    Replacement::Lru
}

fn yes() -> bool {
    true
}

/// Which accesses an array serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serves {
    /// Instruction fetches.
    Instruction,
    /// Loads and stores.
    Data,
    /// Both.
    Unified,
}

impl fmt::Display for Serves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Serves::Instruction => "instruction",
            Serves::Data => "data",
            Serves::Unified => "unified",
        })
    }
}

/// Ways of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ways {
    /// One set: fully associative. Written `"full"`.
    #[default]
    Full,
    /// So many; they divide the entries, in whatever number of sets.
    Of(u32),
}

impl Ways {
    /// As a number, for an array of `entries`.
    pub fn of(self, entries: u32) -> u32 {
        match self {
            Ways::Full => entries,
            Ways::Of(n) => n,
        }
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ways::Full => f.write_str("full"),
            Ways::Of(n) => n.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Ways {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Ways;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of ways or \"full\"")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Ways, E> {
                u32::try_from(n).map(Ways::Of).map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Ways, E> {
                u32::try_from(n)
                    .map(Ways::Of)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Ways, E> {
                match s {
                    "full" => Ok(Ways::Full),
                    _ => Err(E::invalid_value(de::Unexpected::Str(s), &self)),
                }
            }
        }
        d.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or a key is missing, unknown or of the wrong type: says the line, what was found and what wanted.
    #[error("{}: {source}", file.display())]
    Toml {
        /// Which file.
        file: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// No preset has the name, and it does not look like a file.
    #[error("{name:?} is no TLB; wanted a preset ({presets}) or the path of a TOML file")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        presets: String,
    },
    /// A value makes no sense.
    #[error("{}: {key}: found {found}; wanted {wanted}", file.display())]
    Value {
        /// Which file.
        file: PathBuf,
        /// Which key: `level[0].array[1].ways`, say.
        key: String,
        /// Its value.
        found: String,
        /// What would do.
        wanted: String,
    },
}

/// What [`TlbConfig::check`] finds wrong: key, found, wanted.
type Wrong = (String, String, String);

fn wrong<T>(key: String, found: impl ToString, wanted: impl ToString) -> Result<T, Wrong> {
    Err((key, found.to_string(), wanted.to_string()))
}

impl TlbConfig {
    /// The infinite TLB without walk caches: the preset `infinite`, without reading it.
    pub fn infinite() -> TlbConfig {
        let (about, hierarchy) = (String::new(), Hierarchy::default());
        TlbConfig { about, kind: Kind::Infinite, hierarchy, levels: Vec::new(), walk_cache: Vec::new() }
    }

    /// A side that no array for pages of this size serves, so that it would always miss; `None` if there is none, and for
    /// the kinds that are not finite.
    pub fn lacks(&self, size: PageSize) -> Option<Serves> {
        let holds = |side: Serves| {
            let arrays = self.levels.iter().flat_map(|l| &l.arrays);
            arrays.filter(|a| a.side == side || a.side == Serves::Unified).any(|a| a.sizes.contains(&size))
        };
        let sides = [Serves::Instruction, Serves::Data];
        sides.into_iter().find(|s| self.kind == Kind::Finite && !holds(*s))
    }

    /// Reads a file.
    pub fn load(file: &Path) -> Result<TlbConfig, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.to_path_buf(), source })?;
        TlbConfig::parse(&text, file)
    }

    /// Reads text. `file` is named in errors.
    pub fn parse(text: &str, file: &Path) -> Result<TlbConfig, ConfigError> {
        let file = file.to_path_buf();
        let config: TlbConfig = match toml::from_str(text) {
            Ok(c) => c,
            Err(e) => return Err(ConfigError::Toml { file, source: Box::new(e) }),
        };
        match config.check() {
            Ok(()) => Ok(config),
            Err((key, found, wanted)) => Err(ConfigError::Value { file, key, found, wanted }),
        }
    }

    fn check(&self) -> Result<(), Wrong> {
        match self.kind {
            Kind::Finite if self.levels.is_empty() => {
                return wrong("level".into(), "none", "at least one, as the kind is finite");
            }
            Kind::None | Kind::Infinite if !self.levels.is_empty() => {
                return wrong("level".into(), self.levels.len(), "none, as the kind is not finite");
            }
            _ => {}
        }
        let mut names = Vec::new();
        for (i, level) in self.levels.iter().enumerate() {
            if level.arrays.is_empty() {
                return wrong(format!("level[{i}].array"), "none", "at least one");
            }
            for (j, a) in level.arrays.iter().enumerate() {
                let at = format!("level[{i}].array[{j}]");
                let keys = ["entries", "ways", "sizes", "replacement", "locks"];
                check_array(&at, (a.entries, a.ways), (&a.sizes, "sizes"), (&a.source, &keys))?;
                names.push((at, &a.name));
            }
        }
        if self.walk_cache.len() > MAX_WALK_CACHES {
            return wrong("walk-cache".into(), self.walk_cache.len(), format!("at most {MAX_WALK_CACHES}"));
        }
        for (i, a) in self.walk_cache.iter().enumerate() {
            let at = format!("walk-cache[{i}]");
            let keys = ["entries", "ways", "covers", "replacement"];
            check_array(&at, (a.entries, a.ways), (&a.covers, "covers"), (&a.source, &keys))?;
            names.push((at, &a.name));
        }
        for (i, (at, name)) in names.iter().enumerate() {
            if name.is_empty() || names[..i].iter().any(|(_, n)| n == name) {
                return wrong(format!("{at}.name"), format!("{name:?}"), "a name that nothing else has");
            }
        }
        Ok(())
    }
}

fn check_array(
    at: &str,
    (entries, ways): (u32, Ways),
    (sizes, sizes_key): (&[PageSize], &str),
    (source, keys): (&BTreeMap<String, String>, &[&str]),
) -> Result<(), Wrong> {
    if !(1..=MAX_ENTRIES).contains(&entries) {
        return wrong(format!("{at}.entries"), entries, format!("1 to {MAX_ENTRIES}"));
    }
    let n = ways.of(entries);
    if n == 0 || !entries.is_multiple_of(n) {
        let wanted = format!("a divisor of {entries}, the number of entries, or \"full\"");
        return wrong(format!("{at}.ways"), n, wanted);
    }
    if sizes.is_empty() {
        return wrong(format!("{at}.{sizes_key}"), "none", "at least one");
    }
    if let Some((_, s)) = sizes.iter().enumerate().find(|(i, s)| sizes[..*i].contains(s)) {
        return wrong(format!("{at}.{sizes_key}"), format!("{s} twice"), "each size once");
    }
    if let Some(k) = source.keys().find(|k| !keys.contains(&k.as_str())) {
        return wrong(format!("{at}.source"), format!("{k:?}"), format!("one of {}", keys.join(", ")));
    }
    Ok(())
}
