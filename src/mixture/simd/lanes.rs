//! Numbers that vector code reads and writes without crossing cache lines.

use std::fmt;
use std::ops::{Deref, DerefMut};

use aligned_vec::{AVec, ConstAlign};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A slice of numbers that begins at a cache line; it keeps its room when it shrinks.
pub struct Lanes(AVec<f64, ConstAlign<LINE>>);

impl Lanes {
    /// As many numbers, new ones zero, the others as they were.
    pub fn resize(&mut self, len: usize) {
        self.0.resize(len, 0.0);
    }

    /// As many numbers, all of one value.
    pub fn refill(&mut self, len: usize, value: f64) {
        self.0.clear();
        self.0.resize(len, value);
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self(AVec::new(LINE))
    }
}

impl Deref for Lanes {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.0
    }
}

impl DerefMut for Lanes {
    fn deref_mut(&mut self) -> &mut [f64] {
        &mut self.0
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
