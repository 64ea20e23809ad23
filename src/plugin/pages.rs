//! Room for the values of a column, in few pages where the system has large ones.

/// Memory from which a page of 2 MiB instead of 4 KiB pays; as in `NumPy`.
#[cfg(target_os = "linux")]
const LARGE: usize = 1 << 22;

/// As many zeros, not touched yet if they are many, so that each thread touches first what it writes.
pub fn zeros<T: Default + Clone>(len: usize) -> Vec<T> {
    let zeros = vec![T::default(); len];
    #[cfg(target_os = "linux")]
    if size_of_val(zeros.as_slice()) >= LARGE {
        ask_for_large_pages(&zeros);
    }
    zeros
}

/// Advice, which the kernel may ignore: whatever it answers, the memory holds the same.
#[cfg(target_os = "linux")]
fn ask_for_large_pages<T>(values: &[T]) {
    // The largest that pages are otherwise.
    const PAGE: usize = 1 << 16;
    let range = values.as_ptr_range();
    let start = range.start.addr().next_multiple_of(PAGE);
    let len = range.end.addr().saturating_sub(start);
    // SAFETY: the range lies within an allocation, and the advice changes nothing that is written there.
    unsafe { libc::madvise(range.start.with_addr(start).cast_mut().cast(), len, libc::MADV_HUGEPAGE) };
}
