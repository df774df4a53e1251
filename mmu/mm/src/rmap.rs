//! How often frames are mapped, and what each space counts as resident.

use crate::arch::Arch;
use crate::error::{Result, broken_at};
use crate::kernel::Kernel;
use crate::layout;
use crate::mm::{Mm, mmw};
use crate::page::flag;
use racewalk_ram::Pfn;
use std::sync::atomic::Ordering::SeqCst;

impl<A: Arch> Kernel<A> {
    /// Counts a new entry that maps the frame.
    pub(crate) fn add_rmap(&self, mm: &Mm<A>, page: Pfn) -> Result<()> {
        self.kmem.pages.add_mapcount(page, 1)?;
        mm.words()?[self.rss_word(page)?].fetch_add(1, SeqCst);
        Ok(())
    }

    /// Counts that an entry that mapped the frame is gone.
    pub(crate) fn remove_rmap(&self, mm: &Mm<A>, page: Pfn) -> Result<()> {
        mm.words()?[self.rss_word(page)?].fetch_sub(1, SeqCst);
        self.kmem.pages.add_mapcount(page, -1)
    }

    fn rss_word(&self, page: Pfn) -> Result<usize> {
        let f = self.kmem.pages.flags(page)?;
        if f & flag::ANON != 0 {
            Ok(mmw::RSS_ANON)
        } else if f & flag::CACHE != 0 {
            Ok(mmw::RSS_FILE)
        } else {
            broken_at(
                19,
                layout::record(page),
                format!("frame {page:?} is mapped by a program: {:?}", self.kmem.pages.kind(page)?),
            )
        }
    }
}
