//! Numbers and text as they stand in a frame: variable-length numbers, and a table of the strings of the frame.

use crate::error::Malformed;
use std::collections::HashMap;
use std::sync::Arc;

/// Appends an unsigned number: seven bits a byte, the lowest first, the top bit set in all bytes but the last (LEB128).
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7
    }
    out.push(v as u8)
}

/// Folds a signed number into an unsigned one, small ones into small ones.
#[inline]
pub(crate) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub(crate) fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// Longest string in a frame.
const LONGEST: u64 = 1 << 20;

/// Bytes being read.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Input { bytes, at: 0 }
    }
    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let b = *self.bytes.get(self.at).ok_or(Malformed::Short)?;
        self.at += 1;
        Ok(b)
    }
    #[inline]
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut v = 0;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            if shift == 63 && b > 1 {
                break;
            }
            v |= ((b & 0x7f) as u64) << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(Malformed::Number)
    }
    pub fn take(&mut self, n: u64) -> Result<&'a [u8], Malformed> {
        let left = self.bytes.len() - self.at;
        if n > left as u64 {
            return Err(Malformed::Short);
        }
        let s = &self.bytes[self.at..self.at + n as usize];
        self.at += n as usize;
        Ok(s)
    }
}

/// Strings of a frame that is being written.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<Arc<str>, u64>,
}

impl Names {
    pub fn put(&mut self, out: &mut Vec<u8>, s: &Arc<str>) {
        if let Some(&n) = self.known.get(s) {
            return put(out, n);
        }
        put(out, 0);
        put(out, s.len() as u64);
        out.extend_from_slice(s.as_bytes());
        let n = self.known.len() as u64 + 1;
        self.known.insert(s.clone(), n);
    }
}

/// Strings of a frame that is being read.
#[derive(Debug, Default)]
pub(crate) struct NamesRead {
    known: Vec<Arc<str>>,
}

impl NamesRead {
    pub fn get(&mut self, i: &mut Input) -> Result<Arc<str>, Malformed> {
        match i.number()? {
            0 => {
                let n = i.number()?;
                if n > LONGEST {
                    return Err(Malformed::Text);
                }
                let s: Arc<str> = std::str::from_utf8(i.take(n)?).map_err(|_| Malformed::Text)?.into();
                self.known.push(s.clone());
                Ok(s)
            }
            n => self.known.get(n as usize - 1).cloned().ok_or(Malformed::Text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(all in proptest::collection::vec(any::<u64>(), 0..50), signed in any::<i64>()) {
            let mut out = Vec::new();
            all.iter().for_each(|&v| put(&mut out, v));
            let mut i = Input::new(&out);
            for &v in &all {
                prop_assert_eq!(i.number(), Ok(v));
            }
            prop_assert!(i.is_empty());
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert_eq!(Input::new(&[0x80]).number(), Err(Malformed::Short));
        assert_eq!(Input::new(&[0xff; 10]).number(), Err(Malformed::Number));
        let mut most = vec![0xff; 9];
        most.push(1);
        assert_eq!(Input::new(&most).number(), Ok(u64::MAX));
        assert_eq!(NamesRead::default().get(&mut Input::new(&[3])), Err(Malformed::Text));
        assert_eq!(NamesRead::default().get(&mut Input::new(&[0, 1, 0xff])), Err(Malformed::Text));
    }
}
