//! `siginfo_t`: 128 bytes in guest order, as handlers and `rt_sigtimedwait` see them.

/// `si_code` values.
pub(crate) mod code {
    /// Sent by `kill`.
    pub(crate) const SI_USER: i32 = 0;
    /// Sent by the kernel.
    pub(crate) const SI_KERNEL: i32 = 0x80;
    /// Sent by a POSIX timer.
    pub(crate) const SI_TIMER: i32 = -2;
    /// Sent by `tkill` or `tgkill`.
    pub(crate) const SI_TKILL: i32 = -6;
}

/// What a signal says of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Info([u8; 128]);

impl std::fmt::Debug for Info {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (si_code {})", super::name(self.signal()), self.code())
    }
}

impl Info {
    fn new(sig: u32, code: i32) -> Info {
        let mut i = Info([0; 128]);
        i.put(0, &sig.to_be_bytes());
        i.put(8, &code.to_be_bytes());
        i
    }
    fn put(&mut self, at: usize, b: &[u8]) {
        self.0[at..at + b.len()].copy_from_slice(b);
    }
    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// From a process: si_pid and si_uid.
    pub fn sent(sig: u32, code: i32, pid: u32, uid: u32) -> Info {
        let mut i = Info::new(sig, code);
        i.put(16, &pid.to_be_bytes());
        i.put(20, &uid.to_be_bytes());
        i
    }
    /// From another process than the guest's, which has no number there.
    pub fn outside(sig: u32) -> Info {
        Info::sent(sig, code::SI_USER, 0, 0)
    }
    /// Whether it is one of [`Info::outside`].
    pub fn is_from_outside(&self) -> bool {
        self.word(8) as i32 == code::SI_USER && self.word(16) == 0
    }
    /// From the kernel.
    pub fn kernel(sig: u32) -> Info {
        Info::new(sig, code::SI_KERNEL)
    }
    /// About an instruction: si_addr.
    pub fn fault(sig: u32, code: i32, addr: u64) -> Info {
        let mut i = Info::new(sig, code);
        i.put(16, &addr.to_be_bytes());
        i
    }
    /// From a POSIX timer: si_timerid and si_value.
    pub fn timer(sig: u32, id: u32, value: u64) -> Info {
        let mut i = Info::new(sig, code::SI_TIMER);
        i.put(16, &id.to_be_bytes());
        i.put(24, &value.to_be_bytes());
        i
    }
    /// As a program gave it (`rt_sigqueueinfo`), for signal `sig`.
    pub fn given(bytes: [u8; 128], sig: u32) -> Info {
        let mut i = Info(bytes);
        i.put(0, &sig.to_be_bytes());
        i
    }

    /// si_signo.
    pub fn signal(&self) -> u32 {
        self.word(0)
    }
    /// si_code.
    pub fn code(&self) -> i32 {
        self.word(8) as i32
    }
    /// si_timerid, if a POSIX timer sent it.
    pub fn timer_id(&self) -> Option<u32> {
        (self.code() == code::SI_TIMER).then(|| self.word(16))
    }
    /// si_overrun.
    pub fn set_overrun(&mut self, n: u32) {
        self.put(20, &n.to_be_bytes());
    }
    /// The bytes.
    pub fn bytes(&self) -> &[u8; 128] {
        &self.0
    }
}
