//! What an invalidation removes, for all formats: each instruction becomes one [`Purge`].

use super::{Entry, Tag};
use racewalk_ram::{Asid, Paddr, Vaddr};
use std::fmt;

/// Which spaces a purge concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Spaces {
    /// Every space.
    #[default]
    Any,
    /// Spaces whose bits under `mask` are those of `value`.
    Matching {
        /// The bits.
        value: u64,
        /// Which bits count.
        mask: u64,
    },
}

impl Spaces {
    /// Exactly one space.
    pub fn one(space: Asid) -> Spaces {
        Spaces::Matching { value: space.0, mask: u64::MAX }
    }
    /// Whether `space` is meant.
    pub fn contains(&self, space: Asid) -> bool {
        match *self {
            Spaces::Any => true,
            Spaces::Matching { value, mask } => (space.0 ^ value) & mask == 0,
        }
    }
}

/// What becomes of global entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Globals {
    /// They go if the space matches, like any other entry.
    #[default]
    Like,
    /// They go whatever their space.
    Always,
    /// They stay.
    Never,
}

/// Which structures a purge reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Target {
    /// Translations and upper parts of walks.
    #[default]
    Both,
    /// Translations only: a walk cache keeps what it has (`tlbie` with RIC = 0).
    Translations,
    /// Upper parts of walks only (`tlbie` with RIC = 1).
    WalkCache,
}

/// A purge. An entry goes if it meets every criterion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Purge {
    /// Its space.
    pub spaces: Spaces,
    /// It shares a byte with this range, first and last address.
    pub range: Option<(Vaddr, Vaddr)>,
    /// The range is there again every `1 << n` bytes: an index into a table, at whatever addresses the table is attached.
    /// First and last address are in the first `1 << n`.
    pub repeats: Option<u8>,
    /// Its leaf was fetched from this range of absolute addresses, first and last byte.
    pub from: Option<(Paddr, Paddr)>,
    /// log2 of its page size.
    pub shift: Option<u8>,
    /// What becomes of global entries.
    pub globals: Globals,
    /// Locked entries stay.
    pub spare_locked: bool,
    /// Which structures are reached.
    pub target: Target,
}

impl Purge {
    /// Everything, locked or not.
    pub const ALL: Purge = Purge {
        spaces: Spaces::Any,
        range: None,
        repeats: None,
        from: None,
        shift: None,
        globals: Globals::Always,
        spare_locked: false,
        target: Target::Both,
    };

    /// Whether a translation goes.
    pub fn removes<L>(&self, e: &Entry<L>) -> bool {
        self.target != Target::WalkCache
            && self.names(&e.tag)
            && self.from.is_none_or(|(first, last)| (first..=last).contains(&e.from))
            && !(self.spare_locked && e.locked)
    }

    /// Whether an upper part of a walk goes that was learnt in `space` and covers the page of `tag`. Page size and lock
    /// are a translation's; an upper part does not know whether it leads to global entries, so it counts as one. What
    /// names leaves by where they were fetched (IPTE) says nothing about the entries above, which stay valid.
    pub fn removes_upper(&self, tag: &Tag) -> bool {
        self.target != Target::Translations
            && self.from.is_none()
            && (self.spaces.contains(tag.space) || self.globals == Globals::Always)
            && self.covers(tag)
    }

    /// Whether the criteria on the tag are met.
    pub fn names(&self, tag: &Tag) -> bool {
        let space = match (tag.global, self.globals) {
            (false, _) | (true, Globals::Like) => self.spaces.contains(tag.space),
            (true, Globals::Always) => true,
            (true, Globals::Never) => false,
        };
        space && self.shift.is_none_or(|s| s == tag.shift) && self.covers(tag)
    }

    /// Whether the page shares a byte with the range.
    fn covers(&self, tag: &Tag) -> bool {
        let Some((first, last)) = self.range else { return true };
        match self.repeats {
            Some(bits) if tag.shift >= bits => true,
            Some(bits) => {
                let place = |a: Vaddr| Vaddr(a.0 & ((1 << bits) - 1));
                first <= place(tag.last()) && place(tag.page) <= last
            }
            None => first <= tag.last() && tag.page <= last,
        }
    }

    /// The virtual range, first and last address, if there is one at one place only.
    pub fn one_range(&self) -> Option<(Vaddr, Vaddr)> {
        self.range.filter(|_| self.repeats.is_none())
    }

    /// The first byte and the number of bytes of the virtual range, if there is one at one place only.
    pub fn span(&self) -> Option<(Vaddr, u64)> {
        self.one_range().map(|(first, last)| (first, (last.0 - first.0).saturating_add(1)))
    }
}

impl fmt::Display for Purge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut any = false;
        if let Some((first, last)) = self.range {
            write!(f, "range {first:#x}..={last:#x}")?;
            if let Some(bits) = self.repeats {
                write!(f, " every {}", crate::event::PageSize(bits))?;
            }
            any = true;
        }
        if let Some((first, last)) = self.from {
            let gap = if any { " " } else { "" };
            write!(f, "{gap}entries [{first:#x}..={last:#x}]")?;
            any = true;
        }
        if let Spaces::Matching { value, mask } = self.spaces {
            let gap = if any { " " } else { "" };
            write!(f, "{gap}space {value:#x}")?;
            if mask != u64::MAX {
                write!(f, "/{mask:#x}")?;
            }
            any = true;
        }
        if let Some(s) = self.shift {
            write!(f, " size {}", crate::event::PageSize(s))?;
        }
        if !any {
            f.write_str("all")?;
        }
        match self.target {
            Target::Both => Ok(()),
            Target::Translations => f.write_str(" (not the walk cache)"),
            Target::WalkCache => f.write_str(" (walk cache only)"),
        }
    }
}
