//! What of a run goes into a recording.

use crate::event::Group;
use serde::{Deserialize, Serialize};

/// A selection. The default is everything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Only these groups of kinds; none: all.
    #[serde(default)]
    pub kinds: Vec<Group>,
    /// Only these CPUs; none: all. What no CPU does is there always.
    #[serde(default)]
    pub cpus: Vec<u32>,
    /// Only runs, entries, walks and fills of virtual addresses from the first to before the second.
    #[serde(default)]
    pub addresses: Option<(u64, u64)>,
    /// Only from so many completed instructions of the CPU, to before so many.
    #[serde(default)]
    pub instructions: Option<(u64, u64)>,
    /// Only from the guest's mark of the first value to that of the second. On other CPUs than the one that makes the
    /// mark: from their first event after it.
    #[serde(default)]
    pub marks: Option<(u64, u64)>,
}

impl Selection {
    /// Whether everything is selected.
    pub fn everything(&self) -> bool {
        *self == Selection::default()
    }

    /// Whether a group is.
    pub fn kind(&self, g: Group) -> bool {
        self.kinds.is_empty() || g == Group::Input || self.kinds.contains(&g)
    }

    /// Whether a CPU is.
    pub fn cpu(&self, cpu: u32) -> bool {
        self.cpus.is_empty() || self.cpus.contains(&cpu)
    }

    pub(crate) fn address(&self, a: u64) -> bool {
        self.addresses.is_none_or(|(from, to)| (from..to).contains(&a))
    }

    /// Whether any byte of a 4 KiB page is selected.
    pub(crate) fn page(&self, p: u64) -> bool {
        self.addresses.is_none_or(|(from, to)| p < to && from.saturating_sub(p) < 4096)
    }

    pub(crate) fn clock(&self, n: u64) -> bool {
        self.instructions.is_none_or(|(from, to)| (from..to).contains(&n))
    }
}

impl Serialize for Group {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Group, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_addresses() {
        let s = Selection { addresses: Some((0x1800, 0x3000)), ..Selection::default() };
        assert!([0x1000, 0x2000].iter().all(|&p| s.page(p)));
        assert!(![0, 0x3000, !0xfff].iter().any(|&p| s.page(p)));
        assert!(s.address(0x1800) && !s.address(0x17ff) && !s.address(0x3000));
        assert!(Selection::default().everything() && !s.everything());
        let text = serde_json::to_string(&Selection { kinds: vec![Group::Walk], ..s.clone() }).unwrap();
        assert!(serde_json::from_str::<Selection>(&text).unwrap().kinds == [Group::Walk]);
        assert!("accesses".parse::<Group>().unwrap_err().contains("walk"));
    }
}
