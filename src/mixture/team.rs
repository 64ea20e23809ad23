//! The caller's thread and those of a pool at one list of tasks. To move into a pool, and to wake its threads one after
//! the other as work is divided, takes as long as a pass over some thousand rows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use rayon::ThreadPool;

/// Looks at whether the others are done, before sleeping until they are.
const LOOKS: usize = 1 << 14;
/// Multiply-adds that pay the division of work.
const WORTH: usize = 1 << 18;

/// Whether `count` tasks of so many multiply-adds are worth more threads than one.
pub fn is_worth(count: usize, multiply_adds: usize) -> bool {
    count > 1 && count.saturating_mul(multiply_adds) >= WORTH
}

/// Fills each chunk of `len` numbers: by the threads of the pool that the caller is of, if any, where so many chunks of so
/// many multiply-adds [are worth it](is_worth).
///
/// # Errors
/// That of the first chunk that cannot be filled.
pub fn each_chunk<E: Send>(
    numbers: &mut [f64],
    len: usize,
    multiply_adds: usize,
    fill: impl Fn(usize, &mut [f64]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let len = len.max(1);
    if is_worth(numbers.len() / len, multiply_adds) && rayon::current_thread_index().is_some() {
        let chunks = numbers.par_chunks_exact_mut(len).enumerate();
        let filled: Vec<Result<(), E>> = chunks.map(|(i, chunk)| fill(i, chunk)).collect();
        filled.into_iter().collect()
    } else {
        numbers.chunks_exact_mut(len).enumerate().try_for_each(|(i, chunk)| fill(i, chunk))
    }
}

/// The results of `count` tasks in their order. Whoever is free takes the next one: the caller from the first on, and the
/// pool's threads but one as they wake.
pub fn results<T: Send + Sync>(pool: &ThreadPool, count: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Vec<OnceLock<T>> = (0..count).map(|_| OnceLock::new()).collect();
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(result) = results.get(number) else { return };
        // The number has been taken by no one else.
        let _ = result.set(task(number));
        done.fetch_add(1, Ordering::Release);
    };
    pool.in_place_scope(|scope| {
        for _ in 1..pool.current_num_threads().min(count) {
            scope.spawn(|_| work());
        }
        work();
        let mut looks = 0;
        while done.load(Ordering::Acquire) < count && looks < LOOKS {
            std::hint::spin_loop();
            looks += 1;
        }
    });
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_filled_once_and_in_their_place_with_and_without_a_pool() {
        let filled = |count: usize, len: usize, multiply_adds: usize| {
            let mut numbers = vec![0.0; count * len];
            let last = each_chunk(&mut numbers, len, multiply_adds, |i, chunk| {
                for x in chunk {
                    *x += i as f64;
                }
                if i < 7 {
                    Ok(())
                } else {
                    Err(i)
                }
            });
            assert_eq!(last, if count > 7 { Err(7) } else { Ok(()) });
            if last.is_err() {
                return;
            }
            assert!(numbers.chunks_exact(len).enumerate().all(|(i, c)| c.iter().all(|x| *x == i as f64)));
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for (count, len, multiply_adds) in [(0, 1, WORTH), (1, 9, WORTH), (5, 2, 1), (40, 20, WORTH)] {
            filled(count, len, multiply_adds);
            pool.install(|| filled(count, len, multiply_adds));
        }
        assert!(is_worth(2, WORTH) && !is_worth(1, WORTH) && !is_worth(5, 1));
    }

    #[test]
    fn each_task_is_done_once_and_in_its_place() {
        for threads in 1..=3 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for count in [0, 1, 2, 3, 100] {
                let tasks = AtomicUsize::new(0);
                let square = |number: usize| {
                    tasks.fetch_add(1, Ordering::Relaxed);
                    number * number
                };
                let squares = results(&pool, count, square);
                assert_eq!(squares, (0..count).map(|i| i * i).collect::<Vec<_>>());
                assert_eq!(tasks.into_inner(), count);
            }
        }
    }
}
