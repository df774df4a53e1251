//! Configurations by name: machines as `docs/reference` has them, each number with its source or "unverified".

use super::config::{ConfigError, TlbConfig};
use std::path::{Path, PathBuf};

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        /// Names and texts, in the order in which people should see them.
        const PRESETS: &[(&str, &str)] = &[$(($name, include_str!(concat!("presets/", $name, ".toml")))),*];
    };
}

presets![
    "infinite",
    "none",
    "zec12",
    "z13",
    "z14",
    "power8-hash",
    "power9-hash",
    "power9-radix",
    "power10-hash",
    "power10-radix",
    "us2",
    "us3",
    "t1",
    "t2",
    "t4",
    "m7",
];

/// Names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|p| p.0)
}

/// The TOML text of a preset, to begin a file of one's own with.
pub fn text(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|p| p.0 == name).map(|p| p.1)
}

/// A preset. `None`: there is none of that name.
pub fn preset(name: &str) -> Option<Result<TlbConfig, ConfigError>> {
    text(name).map(|t| TlbConfig::parse(t, &PathBuf::from(format!("{name} (preset)"))))
}

/// What a user names: a preset, else a file.
pub fn find(name: &str) -> Result<TlbConfig, ConfigError> {
    match preset(name) {
        Some(c) => c,
        None if name.contains(['/', '.']) => TlbConfig::load(Path::new(name)),
        None => Err(ConfigError::Unknown {
            name: name.to_string(),
            presets: names().collect::<Vec<_>>().join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_preset_infinite() {
        let preset = find("infinite").unwrap();
        assert_eq!(TlbConfig { about: preset.about.clone(), ..TlbConfig::infinite() }, preset);
    }
}
