//! A hosted Linux process: ELF loading, system calls, futexes, signals, tasks.
#![forbid(unsafe_code)]

mod clock;
pub mod elf;
pub mod errno;
mod file;
mod futex;
pub mod host;
mod lab;
mod load;
mod object;
pub mod observe;
mod pagecache;
mod pool;
mod proc;
mod robust;
pub mod signal;
mod syscall;
pub mod system;
mod task;
mod timer;
