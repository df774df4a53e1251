//! Storage keys and key-controlled protection (SA22-7832 chapter 3 "Key-Controlled Protection"; reference s390x-mmu
//! §1.4). Keys belong to absolute frames of 4 KiB, not to translations, so each access asks anew.

use super::context::Context;
use super::fault::Reason;
use super::walk::{Controls, Leaf};
use crate::Access;
use racewalk_ram::{Pfn, Vaddr};

/// One storage key: `ACC(4) F R C 0`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StorageKey(pub u8);

impl StorageKey {
    /// Access-control bits.
    pub const ACC: u8 = 0xf0;
    /// Fetch protection.
    pub const F: u8 = 0x08;
    /// Reference.
    pub const R: u8 = 0x04;
    /// Change.
    pub const C: u8 = 0x02;

    /// The access-control bits as a key number.
    pub fn acc(self) -> u8 {
        self.0 >> 4
    }
}

/// The storage keys of a machine, as accesses need them.
pub trait StorageKeys {
    /// The key of a frame.
    fn key(&self, frame: Pfn) -> StorageKey;
    /// Sets R, and with `change` C, of a frame's key; atomic with respect to other updates.
    fn refer(&self, frame: Pfn, change: bool);
}

/// Key-controlled protection of an access with the PSW key at `frame`: whether it is permitted, and if so R and C are
/// set. `va` is the address before translation.
pub fn check(
    keys: &impl StorageKeys,
    context: &Context,
    controls: &Controls,
    leaf: &Leaf,
    va: Vaddr,
    frame: Pfn,
    access: Access,
) -> Result<(), Reason> {
    let psw_key = context.key();
    let key = leaf.key.map_or_else(|| keys.key(frame), StorageKey);
    let store = access == Access::Store;
    let matches = psw_key == 0 || psw_key == key.acc();
    // Overrides: storage with access-control bits 9 is open to all; fetches from the first 2 KiB are, unless the space
    // is private.
    let storage_override = context.cr[0] & Context::CR0_STORAGE_OVERRIDE != 0 && key.acc() == 9;
    let fetch_override = !store
        && context.cr[0] & Context::CR0_FETCH_OVERRIDE != 0
        && va.0 < 0x800
        && !(controls.dat && controls.asce.private());
    let open = !store && key.0 & StorageKey::F == 0;
    if !(matches || open || storage_override || fetch_override) {
        return Err(Reason::KeyProtection);
    }
    keys.refer(frame, store);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct One(Cell<u8>);
    impl StorageKeys for One {
        fn key(&self, _: Pfn) -> StorageKey {
            StorageKey(self.0.get())
        }
        fn refer(&self, _: Pfn, change: bool) {
            self.0.set(self.0.get() | StorageKey::R | if change { StorageKey::C } else { 0 })
        }
    }

    fn allowed(psw_key: u8, cr0: u64, key: u8, leaf: Option<u8>, va: u64, access: Access) -> (bool, u8) {
        let mut c = Context { psw: (psw_key as u64) << 52, ..Context::default() };
        c.cr[0] = cr0;
        let k = One(Cell::new(key));
        let leaf = Leaf { key: leaf, ..Leaf::default() };
        let r = check(&k, &c, &Controls::default(), &leaf, Vaddr(va), Pfn(5), access);
        (r.is_ok(), k.0.get())
    }

    #[test]
    fn keys_match_or_storage_is_open_to_fetches() {
        use Access::{Load, Store};
        assert_eq!(allowed(0, 0, 0x38, None, 0x5000, Store), (true, 0x3e));
        assert_eq!(allowed(3, 0, 0x38, None, 0x5000, Store), (true, 0x3e));
        assert_eq!(allowed(4, 0, 0x38, None, 0x5000, Store), (false, 0x38));
        assert_eq!(allowed(4, 0, 0x38, None, 0x5000, Load), (false, 0x38));
        assert_eq!(allowed(4, 0, 0x30, None, 0x5000, Load), (true, 0x34));
        assert_eq!(allowed(4, 0, 0x30, None, 0x5000, Store), (false, 0x30));
    }

    #[test]
    fn overrides_and_the_key_of_a_large_frame() {
        use Access::{Load, Store};
        assert_eq!(allowed(4, Context::CR0_STORAGE_OVERRIDE, 0x98, None, 0x5000, Store), (true, 0x9e));
        assert_eq!(allowed(4, Context::CR0_STORAGE_OVERRIDE, 0x88, None, 0x5000, Store), (false, 0x88));
        assert_eq!(allowed(4, Context::CR0_FETCH_OVERRIDE, 0x38, None, 0x7ff, Load), (true, 0x3c));
        assert_eq!(allowed(4, Context::CR0_FETCH_OVERRIDE, 0x38, None, 0x800, Load), (false, 0x38));
        // R and C stay with the frame's own key.
        assert_eq!(allowed(4, 0, 0x38, Some(0x48), 0x5000, Store), (true, 0x3e));
    }
}
