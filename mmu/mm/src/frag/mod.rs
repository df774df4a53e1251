//! The axis "fragment and defer": how PTE tables share pages, and what must pass before one is used again.

pub(crate) mod s390x;

use crate::arch::Arch;
use crate::error::{Errno, MmError, Result};
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use racewalk_ram::{Kva, Paddr, Pfn};
use std::fmt;
use std::str::FromStr;

/// A scheme of the catalogue (hosted-mm A.1, A.3, A.4) by its id in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scheme(&'static str);

/// Ids of the catalogue, and whether this version models them.
const CATALOGUE: &[(&str, bool)] = &[
    ("s390-61", false),
    ("s390-pre", false),
    ("s390-nop", false),
    ("s390-v1", false),
    ("s390-rush", false),
    ("s390-thp", false),
    ("s390-v2", false),
    ("s390-v2+1", false),
    ("s390-v2g", false),
    ("s390-1bit", false),
    ("s390-hhtail", false),
    ("s390-66", true),
    ("s390-67", false),
    ("s390-gerald-final", false),
    ("s390-free-rcu", false),
    ("s390-cat", false),
    ("ppc-frag", false),
    ("ppc-pmdfrag", false),
    ("ppc-oldref", false),
    ("ppc-v1", false),
    ("ppc-v2", false),
    ("ppc-jason-side", false),
    ("ppc-nheads", false),
    ("ppc-jason-last-a", false),
    ("ppc-jason-last-b", false),
    ("ppc-jason-last-c", false),
    ("ppc-66", false),
    ("ppc-destroy", false),
    ("sparc-conv", false),
    ("sparc-quick", false),
    ("sparc-rcu", false),
];

impl Scheme {
    /// What landed in Linux 6.6 for s390 (hosted-mm B.2).
    pub const S390_66: Scheme = Scheme("s390-66");

    /// The id.
    pub fn name(self) -> &'static str {
        self.0
    }
    /// Ids of the whole catalogue.
    pub fn catalogue() -> impl Iterator<Item = Scheme> {
        CATALOGUE.iter().map(|&(n, _)| Scheme(n))
    }
    /// Whether this version models it.
    pub fn available(self) -> bool {
        CATALOGUE.contains(&(self.0, true))
    }
    fn list_available() -> String {
        let v: Vec<&str> = CATALOGUE.iter().filter(|c| c.1).map(|c| c.0).collect();
        v.join(", ")
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for Scheme {
    type Err = MmError;
    fn from_str(s: &str) -> Result<Scheme> {
        let found = CATALOGUE.iter().find(|c| c.0.eq_ignore_ascii_case(s));
        found.map(|c| Scheme(c.0)).ok_or_else(|| {
            MmError::Config(format!("unknown scheme {s:?} (available: {})", Scheme::list_available()))
        })
    }
}

/// What a scheme does. `mm` is the slab object of the address space.
pub trait Frag<A: Arch>: Send + Sync {
    /// A PTE table, all entries invalid (or as a former user left them, which is the same).
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr>;
    /// Gives a table back that no walker can reach: it may be used again at once.
    fn free(&self, k: &Kernel<A>, mm: Kva, table: Paddr) -> Result<()>;
    /// Gives an unhooked table back through the gather's batch.
    fn free_rcu(&self, k: &Kernel<A>, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, A>) -> Result<()>;
    /// `pte_free_defer`: as `free`, but readers under RCU may still be inside.
    fn free_defer(&self, k: &Kernel<A>, mm: Kva, table: Paddr) -> Result<()>;
    /// `__tlb_remove_table`: the batch that `tag` was put on is past its flush and grace period.
    fn remove_table(&self, k: &Kernel<A>, tag: u64) -> Result<()>;
    /// The callback behind `free_defer`: destructor and free of the page.
    fn release(&self, k: &Kernel<A>, page: Pfn) -> Result<()>;
}

/// The code of a scheme on an architecture.
pub(crate) fn of<A: Arch>(scheme: Scheme) -> Result<Box<dyn Frag<A>>> {
    A::frag(scheme).ok_or_else(|| MmError::NotModelled {
        what: format!("scheme {scheme} (available: {})", Scheme::list_available()),
        errno: Errno::EINVAL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_say_what_is_available() {
        assert_eq!("S390-66".parse::<Scheme>().unwrap(), Scheme::S390_66);
        for s in Scheme::catalogue() {
            assert_eq!(s.name().parse::<Scheme>().unwrap(), s);
            match of::<crate::arch::S390x>(s) {
                Ok(_) => assert!(s.available()),
                Err(e) => {
                    let want = format!("not modelled: scheme {s} (available: s390-66)");
                    assert_eq!(e.to_string(), want);
                }
            }
        }
        assert!("s390-99".parse::<Scheme>().unwrap_err().to_string().contains("s390-66"));
    }
}
