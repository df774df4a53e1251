//! Fragment schemes of s390x: two 2 KiB tables to a 4 KiB page (hosted-mm A.1), and what replaced them.

mod halves;
mod hh;
mod rush;
mod v2g;
mod v61;
mod v66;

use super::{Frag, Scheme, whole};
use crate::arch::S390x;

/// The code of a scheme of this family.
pub(crate) fn of(scheme: Scheme) -> Option<Box<dyn Frag<S390x>>> {
    let v61 = |v| Some(Box::new(v61::V61(v)) as Box<dyn Frag<S390x>>);
    let hh = |v| Some(Box::new(hh::Hh::new(v)) as Box<dyn Frag<S390x>>);
    match scheme.name() {
        "s390-61" => v61(v61::Variant::Base),
        "s390-pre" => v61(v61::Variant::Pre),
        "s390-nop" => v61(v61::Variant::NoP),
        "s390-v1" => v61(v61::Variant::V1),
        "s390-gerald-final" => v61(v61::Variant::GeraldFinal),
        "s390-free-rcu" => v61(v61::Variant::FreeRcu),
        "s390-rush" => Some(Box::new(rush::Rush)),
        "s390-v2" => hh(hh::Variant::V2),
        "s390-v2g" => Some(Box::new(v2g::V2G)),
        "s390-v2-maskfixed" => hh(hh::Variant::MaskFixed),
        "s390-v2-mmlock" => hh(hh::Variant::MmLock),
        "s390-v2+1" => hh(hh::Variant::Plus1),
        "s390-hhtail" => hh(hh::Variant::HhTail),
        "s390-1bit" => hh(hh::Variant::OneBit),
        "s390-66" => Some(Box::new(v66::V66 { excludes: true })),
        "s390-thp" => Some(Box::new(v66::V66 { excludes: false })),
        // Not what other architectures call theirs.
        "s390-67" | "gen-defer" => whole::of(scheme),
        _ => None,
    }
}
