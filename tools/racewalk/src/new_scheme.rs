//! `racewalk new-scheme`: the skeleton of a scheme, in a checkout of the source.

use crate::cli::NewScheme;
use crate::exit::{unopened, usage};
use crate::talk;
use anyhow::Context;
use racewalk_mm::Scheme;
use std::path::Path;

/// Compiled with the mm's tests.
const TEMPLATE: &str = include_str!("../../../mmu/mm/src/frag/template.rs");

/// Where schemes live.
const FRAG: &str = "mmu/mm/src/frag";

/// `s390-mine` as `S390Mine`.
fn type_name(name: &str) -> String {
    let part = |p: &str| p[..1].to_uppercase() + &p[1..];
    name.split('-').filter(|p| !p.is_empty()).map(part).collect()
}

/// The skeleton's text.
fn skeleton(name: &str) -> String {
    TEMPLATE
        .replace("`NAME`", &format!("`{name}`"))
        .replace("pub(crate) struct", "pub(super) struct")
        .replace("Template", &type_name(name))
        .replace("template.", &format!("{}.", name.replace('-', "_")))
}

/// The verb.
pub fn new_scheme(args: &NewScheme) -> anyhow::Result<u8> {
    let name = &args.name;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(fits) || name.ends_with('-') {
        return Err(usage(format!(
            "new-scheme: name {name:?}; wanted lower-case letters, digits and -, such as s390-mine"
        )));
    }
    if let Ok(s) = name.parse::<Scheme>() {
        return Err(usage(format!(
            "new-scheme: there is a scheme {name}: {}\nhint: racewalk explain {name}",
            s.row().what
        )));
    }
    let family = match name.split_once('-').map(|n| n.0) {
        Some("s390") => "s390x",
        Some("ppc") => "ppc64",
        Some("sparc") => "sparc64",
        _ => {
            return Err(usage(format!(
                "new-scheme: name {name:?}; wanted one that begins with s390-, ppc- or sparc-, the architecture, such as \
                 s390-{name}"
            )));
        }
    };
    let dir = Path::new(&args.dir).join(FRAG).join(family);
    if !dir.is_dir() {
        return Err(usage(format!(
            "new-scheme: {} is not there; wanted a checkout of racewalk's source\n\
             hint: change to its top directory, or add --dir PATH",
            dir.display()
        )));
    }
    let module = name.split_once('-').map_or(name.as_str(), |n| n.1).replace('-', "_");
    let module = if module.starts_with(|c: char| c.is_ascii_digit()) { format!("v{module}") } else { module };
    let path = dir.join(format!("{module}.rs"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(unopened("create", &path))
        .context("new-scheme")?;
    std::io::Write::write_all(&mut file, skeleton(name).as_bytes())
        .with_context(|| format!("new-scheme: write {}", path.display()))?;
    let ty = type_name(name);
    talk::print(&format!(
        "{} is written. Then:\n  \
         in {FRAG}/{family}/mod.rs       mod {module};\n  \
         {:<36}\"{name}\" => Some(Box::new({module}::{ty})),\n  \
         in {FRAG}/catalogue.rs     sound(\"{name}\", \"ROW\", \"what it does\", Selectable),\n  \
         in tests/race/matrix.toml         [scheme.{name}] and its cells\n  \
         cargo run --release -p racewalk -- race --random --scheme {name}\n\
         docs/schemes.md goes through it step by step.\n",
        path.display(),
        ""
    ))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skeleton_has_the_names() {
        let s = skeleton("s390-mine-2");
        assert!(s.contains("pub(super) struct S390Mine2;") && s.contains("//! `s390-mine-2`:"));
        assert!(s.contains("point(\"s390_mine_2.release\")"));
        assert!(!s.contains("Template") && !s.contains("template") && !s.contains("NAME"));
    }
}
