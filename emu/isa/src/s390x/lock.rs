//! PERFORM LOCKED OPERATION and COMPARE AND SWAP AND STORE (PoP chapter 7).

use super::helpers::on_registers;
use super::operand::{ea, ea2};
use super::state::{CC_FLAG, gpr};
use super::{Insn, SPECIFICATION};
use crate::backend::{Access, Backend, Env, Exc, FlagKind, Helper, MemOp, Sem};

/// How wide the operands of a PLO function are, and where they come from: the low two bits of the function code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// 32 bits in general registers.
    Word,
    /// 64 bits in the parameter list.
    ListDouble,
    /// 64 bits in general registers.
    Double,
    /// 128 bits in the parameter list.
    ListQuad,
}

impl Form {
    fn size(self) -> u64 {
        match self {
            Form::Word => 4,
            Form::ListDouble | Form::Double => 8,
            Form::ListQuad => 16,
        }
    }
    fn in_list(self) -> bool {
        matches!(self, Form::ListDouble | Form::ListQuad)
    }
}

/// One PERFORM LOCKED OPERATION: its operands' addresses and registers. What the parameter list holds, it holds at
/// the end of 16-byte slots.
struct Locked {
    form: Form,
    r1: u8,
    r3: u8,
    /// Address of the second operand.
    second: u64,
    /// Address of the fourth operand, or of the parameter list.
    fourth: u64,
}

/// Slots of the parameter list, by the offset of their first byte.
mod slot {
    pub(super) const COMPARE_1: u64 = 0;
    pub(super) const REPLACE_1: u64 = 16;
    pub(super) const COMPARE_3: u64 = 32;
    pub(super) const REPLACE_3: u64 = 48;
    pub(super) const OPERAND_5: u64 = 80;
    pub(super) const OPERAND_7: u64 = 112;
    pub(super) const ADDRESS_4: u64 = 72;
    pub(super) const ADDRESS_6: u64 = 104;
    pub(super) const ADDRESS_8: u64 = 136;
}

fn fetch(e: &mut dyn Env, addr: u64, size: u64) -> Result<u128, Exc> {
    let mut b = [0; 16];
    e.read(addr, &mut b[16 - size as usize..])?;
    Ok(u128::from_be_bytes(b))
}

fn store(e: &mut dyn Env, addr: u64, size: u64, v: u128) -> Result<(), Exc> {
    e.write(addr, &v.to_be_bytes()[16 - size as usize..])
}

impl Locked {
    fn register(&self, e: &dyn Env, r: u8) -> u128 {
        match self.form {
            Form::Word => e.get(gpr(r)) as u32 as u128,
            _ => e.get(gpr(r)) as u128,
        }
    }
    fn set_register(&self, e: &mut dyn Env, r: u8, v: u128) {
        let v = match self.form {
            Form::Word => e.get(gpr(r)) & !0xffff_ffff | v as u64,
            _ => v as u64,
        };
        e.set(gpr(r), v)
    }
    /// Address of what the slot at `offset` of the parameter list holds.
    fn item(&self, offset: u64) -> u64 {
        self.fourth.wrapping_add(offset + 16 - self.form.size())
    }
    /// A value that is in register `r` or in the parameter list.
    fn value(&self, e: &mut dyn Env, r: u8, offset: u64) -> Result<u128, Exc> {
        if self.form.in_list() { self.listed(e, offset) } else { Ok(self.register(e, r)) }
    }
    /// A value in the parameter list.
    fn listed(&self, e: &mut dyn Env, offset: u64) -> Result<u128, Exc> {
        fetch(e, self.item(offset), self.form.size())
    }
    fn deliver(&self, e: &mut dyn Env, r: u8, offset: u64, v: u128) -> Result<(), Exc> {
        if self.form.in_list() {
            return store(e, self.item(offset), self.form.size(), v);
        }
        self.set_register(e, r, v);
        Ok(())
    }
    /// An operand's address in the parameter list; the operand is as aligned as it is long.
    fn address(&self, e: &mut dyn Env, offset: u64) -> Result<u64, Exc> {
        let a = fetch(e, self.fourth.wrapping_add(offset), 8)? as u64;
        self.aligned(a)?;
        Ok(a)
    }
    fn aligned(&self, a: u64) -> Result<(), Exc> {
        if a.is_multiple_of(self.form.size()) { Ok(()) } else { Err(SPECIFICATION) }
    }
    /// Checks the second operand and, where there is one, the list, that the function has a use for.
    fn check(&self, list: bool) -> Result<(), Exc> {
        self.aligned(self.second)?;
        if list && !self.fourth.is_multiple_of(if self.form == Form::Word { 4 } else { 8 }) {
            return Err(SPECIFICATION);
        }
        Ok(())
    }
    fn pair(&self, r: u8) -> Result<(), Exc> {
        if !self.form.in_list() && r & 1 != 0 { Err(SPECIFICATION) } else { Ok(()) }
    }
    /// The fourth operand's address: the operand address itself where registers hold the rest.
    fn fourth_address(&self, e: &mut dyn Env) -> Result<u64, Exc> {
        if self.form.in_list() {
            return self.address(e, slot::ADDRESS_4);
        }
        self.aligned(self.fourth)?;
        Ok(self.fourth)
    }

    /// Compares the first operand with the second; unequal, the second replaces the first.
    fn compare(&self, e: &mut dyn Env) -> Result<bool, Exc> {
        let expected = self.value(e, self.r1, slot::COMPARE_1)?;
        let found = fetch(e, self.second, self.form.size())?;
        if expected == found {
            return Ok(true);
        }
        self.deliver(e, self.r1, slot::COMPARE_1, found)?;
        Ok(false)
    }

    fn compare_and_load(&self, e: &mut dyn Env) -> Result<u64, Exc> {
        self.check(self.form.in_list())?;
        if !self.compare(e)? {
            return Ok(1);
        }
        let at = self.fourth_address(e)?;
        let v = fetch(e, at, self.form.size())?;
        self.deliver(e, self.r3, slot::COMPARE_3, v)?;
        Ok(0)
    }

    fn compare_and_swap(&self, e: &mut dyn Env) -> Result<u64, Exc> {
        self.check(self.form.in_list())?;
        self.pair(self.r1)?;
        if !self.compare(e)? {
            return Ok(1);
        }
        let new = self.value(e, self.r1 | 1, slot::REPLACE_1)?;
        store(e, self.second, self.form.size(), new)?;
        Ok(0)
    }

    fn double_compare_and_swap(&self, e: &mut dyn Env) -> Result<u64, Exc> {
        self.check(self.form.in_list())?;
        self.pair(self.r1)?;
        self.pair(self.r3)?;
        if !self.compare(e)? {
            return Ok(1);
        }
        let size = self.form.size();
        let at = self.fourth_address(e)?;
        let expected = self.value(e, self.r3, slot::COMPARE_3)?;
        let found = fetch(e, at, size)?;
        if expected != found {
            self.deliver(e, self.r3, slot::COMPARE_3, found)?;
            return Ok(2);
        }
        let new = self.value(e, self.r1 | 1, slot::REPLACE_1)?;
        let other = self.value(e, self.r3 | 1, slot::REPLACE_3)?;
        e.probe(self.second, size, Access::Store)?;
        store(e, at, size, other)?;
        store(e, self.second, size, new)?;
        Ok(0)
    }

    /// COMPARE AND SWAP AND (DOUBLE, TRIPLE) STORE: `stores` values go to other operands before the swap.
    fn compare_swap_and_store(&self, e: &mut dyn Env, stores: usize) -> Result<u64, Exc> {
        // More than one store takes values and addresses from the list in every form.
        let listed = stores > 1 || self.form.in_list();
        self.check(listed)?;
        self.pair(self.r1)?;
        if !self.compare(e)? {
            return Ok(1);
        }
        let size = self.form.size();
        let new = self.value(e, self.r1 | 1, slot::REPLACE_1)?;
        let mut moves = [(0, 0); 3];
        if listed {
            let from = [slot::REPLACE_3, slot::OPERAND_5, slot::OPERAND_7];
            let to = [slot::ADDRESS_4, slot::ADDRESS_6, slot::ADDRESS_8];
            for (m, (from, to)) in moves[..stores].iter_mut().zip(from.into_iter().zip(to)) {
                *m = (self.address(e, to)?, self.listed(e, from)?);
            }
        } else {
            moves[0] = (self.fourth_address(e)?, self.register(e, self.r3));
        }
        e.probe(self.second, size, Access::Store)?;
        for &(at, _) in &moves[..stores] {
            e.probe(at, size, Access::Store)?;
        }
        for &(at, v) in &moves[..stores] {
            store(e, at, size, v)?;
        }
        store(e, self.second, size, new)?;
        Ok(0)
    }
}

/// Bits of general register 0: the function code, and the bit that only asks whether it is installed.
const FUNCTION: u64 = 0xff;
const TEST: u64 = 0x100;
/// Function codes 0 to 23.
const FUNCTIONS: u64 = 24;

fn perform(e: &mut dyn Env, [regs, second, fourth, _]: [u64; 4]) -> Result<u64, Exc> {
    let function = e.get(gpr(0)) & FUNCTION;
    let form = match function & 3 {
        0 => Form::Word,
        1 => Form::ListDouble,
        2 => Form::Double,
        _ => Form::ListQuad,
    };
    let l = Locked { form, r1: regs as u8, r3: (regs >> 8) as u8, second, fourth };
    match function >> 2 {
        0 => l.compare_and_load(e),
        1 => l.compare_and_swap(e),
        2 => l.double_compare_and_swap(e),
        n => l.compare_swap_and_store(e, n as usize - 2),
    }
}

/// PLO: (register numbers, second-operand address, fourth-operand address). Where a result goes to the parameter
/// list, a fault on it comes before anything else is stored.
static PLO: Helper = on_registers("plo", |e, a| {
    let code = e.get(gpr(0));
    if code & 0xffff_fe00 != 0 {
        return Err(SPECIFICATION);
    }
    let installed = code & FUNCTION < FUNCTIONS;
    if code & TEST != 0 {
        return Ok(if installed { 0 } else { 3 });
    }
    if !installed {
        return Err(SPECIFICATION);
    }
    e.exclusively(perform, a)
});

/// PERFORM LOCKED OPERATION.
#[inline]
pub fn perform_locked<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let second = ea(b, i);
    let fourth = ea2(b, i);
    let regs = b.k(i.r1 as u64 | (i.r3 as u64) << 8);
    b.fence();
    let cc = b.helper(&PLO, &[regs, second, fourth])?;
    b.fence();
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// CSST: (R3, first-operand address, second-operand address). General register 0 has the function code, which says
/// how wide the swap is, and the storage characteristic, which says how wide the store is; general register 1
/// points to the replacement and, 16 bytes on, the value to be stored.
static CSST: Helper = on_registers("csst", |e, [r3, first, second, _]| {
    let r0 = e.get(gpr(0));
    let (function, characteristic) = (r0 & 0xff, r0 >> 8 & 0xff);
    if function > 2 || characteristic > 4 || (function == 2 && r3 & 1 != 0) {
        return Err(SPECIFICATION);
    }
    let (size, stored) = (4u64 << function, 1u64 << characteristic);
    if !first.is_multiple_of(size) || !second.is_multiple_of(stored) {
        return Err(SPECIFICATION);
    }
    let r3 = r3 as u8;
    let list = e.get(gpr(1)) & !15;
    let expected = match function {
        0 => (0, e.get(gpr(r3)) & 0xffff_ffff),
        1 => (0, e.get(gpr(r3))),
        _ => (e.get(gpr(r3)), e.get(gpr(r3 | 1))),
    };
    let new = fetch(e, list, size)?;
    let value = fetch(e, list.wrapping_add(16), stored)?;
    e.probe(second, stored, Access::Store)?;
    let old = e.cas(MemOp::be(size as u8), first, expected, ((new >> 64) as u64, new as u64))?;
    if old == expected {
        store(e, second, stored, value)?;
        return Ok(0);
    }
    match function {
        0 => {
            let high = e.get(gpr(r3)) & !0xffff_ffff;
            e.set(gpr(r3), high | old.1);
        }
        1 => e.set(gpr(r3), old.1),
        _ => {
            e.set(gpr(r3), old.0);
            e.set(gpr(r3 | 1), old.1);
        }
    }
    Ok(1)
});

/// COMPARE AND SWAP AND STORE.
#[inline]
pub fn compare_swap_store<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let first = ea(b, i);
    let second = ea2(b, i);
    let r3 = b.k(i.r3 as u64);
    let cc = b.helper(&CSST, &[r3, first, second])?;
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}
