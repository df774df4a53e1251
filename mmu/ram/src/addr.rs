//! Addresses and ids that must not be mixed up.

use std::fmt;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

newtype! {
    /// A virtual address as a program uses it.
    Vaddr
}
newtype! {
    /// A real address: before prefixing on s390x, the guest real address elsewhere.
    Raddr
}
newtype! {
    /// An absolute (s390x) or physical address: a byte offset into [`Ram`](crate::Ram).
    Paddr
}
newtype! {
    /// A page frame number: a [`Paddr`] divided by 4 KiB, whatever the guest's page size.
    Pfn
}
newtype! {
    /// A kernel virtual address as the hosted mm stores it in tables, lists and page records.
    Kva
}
newtype! {
    /// What tags translations of one address space: an ASCE origin, a PID, an LPID, a context number.
    Asid
}

impl Vaddr {
    /// The address `n` bytes further on, wrapping at 2^64.
    pub fn offset(self, n: u64) -> Self {
        Vaddr(self.0.wrapping_add(n))
    }
    /// The address rounded down to a 4 KiB page.
    pub fn page(self) -> Self {
        Vaddr(self.0 & !0xfff)
    }
}

impl Paddr {
    /// The frame that holds this byte.
    pub fn pfn(self) -> Pfn {
        Pfn(self.0 >> 12)
    }
    /// The address `n` bytes further on.
    pub fn offset(self, n: u64) -> Self {
        Paddr(self.0.wrapping_add(n))
    }
}

impl Pfn {
    /// The first byte of the frame.
    pub fn paddr(self) -> Paddr {
        Paddr(self.0 << 12)
    }
}
