//! Numbers brought near before they are read.

/// Asks for numbers to be brought into a first-level cache; nothing where the machine has no way to say so.
#[cfg(target_arch = "x86_64")]
pub fn prefetch(numbers: &[f64]) {
    use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};

    /// Numbers of a cache line.
    const LINE: usize = 8;
    for line in numbers.chunks(LINE) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
}

/// Asks for numbers to be brought into a first-level cache; nothing where the machine has no way to say so.
#[cfg(not(target_arch = "x86_64"))]
pub fn prefetch(_: &[f64]) {}
