//! What there is under the sanitizer only.

mod findings;
mod hypercall;
