//! References that others take to pages of tables (hosted-mm F-22).

use crate::arch::Arch;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::page::{FrameKind, flag};
use crate::sanitizer::What;
use racewalk_ram::Pfn;
use racewalk_sched::point;
use std::sync::atomic::Ordering::SeqCst;

impl<A: Arch> Kernel<A> {
    /// Logs that the references to a page of tables have changed by `n`.
    pub(crate) fn note_references(&self, page: Pfn, n: i32, by: &'static str) -> Result<()> {
        if let Some(s) = self.sanitizer() {
            let new = u64::from(self.kmem.pages.refcount(page)?);
            s.state().note(What::Count { page, old: new.wrapping_add_signed(-i64::from(n)), new, by });
        }
        Ok(())
    }
}

impl<A: Arch> Mm<A> {
    /// A reference to the page that was last allocated for tables, as a walk over physical memory takes it: whether it is
    /// hooked already or not, unless the page has no reference.
    pub fn get_table_page(&self) -> Result<Option<Pfn>> {
        let k = self.kernel();
        point("page.get_unless_zero");
        let page = Pfn(k.last_table_page.load(SeqCst));
        if page.0 == 0 || k.kmem.pages.kind(page)? != FrameKind::PteTables {
            return Ok(None);
        }
        let got = k.note(k.kmem.pages.try_get_page(page))?;
        if got {
            k.note_references(page, 1, "get_page")?;
        }
        Ok(got.then_some(page))
    }

    /// Drops it. Whoever drops the last one frees the page.
    pub fn put_table_page(&self, page: Pfn) -> Result<()> {
        let k = self.kernel();
        k.note((|| {
            point("page.put");
            let last = k.kmem.pages.put_testzero(page)?;
            k.note_references(page, -1, "put_page")?;
            if last {
                if k.kmem.pages.flags(page)? & flag::TABLE == 0 {
                    // Its tables are gone: we were the last user.
                    return k.free(page, 0);
                }
                let found =
                    format!("the last reference to page {:#x} of tables is a stranger's", page.paddr().0);
                return k.broken_about(7, found, page.paddr());
            }
            Ok(())
        })())
    }
}
