//! The caller's thread and those of a pool at one list of tasks. To move into a pool, and to wake its threads one after
//! the other as work is divided, takes as long as a pass over some thousand rows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use rayon::ThreadPool;

/// Looks at whether the others are done, before sleeping until they are.
const LOOKS: usize = 1 << 14;

/// The results of `count` tasks in their order. Whoever is free takes the next one, in `room` of its own: the caller from
/// the first on, and the pool's threads but one as they wake.
pub fn results<R, T: Send + Sync>(
    pool: &ThreadPool,
    count: usize,
    room: impl Fn() -> R + Sync,
    task: impl Fn(usize, &mut R) -> T + Sync,
) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Vec<OnceLock<T>> = (0..count).map(|_| OnceLock::new()).collect();
    let work = || {
        let mut own = None;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(result) = results.get(number) else { return };
            // The number has been taken by no one else.
            let _ = result.set(task(number, own.get_or_insert_with(&room)));
            done.fetch_add(1, Ordering::Release);
        }
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
    fn each_task_is_done_once_and_in_its_place() {
        for threads in 1..=3 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for count in [0, 1, 2, 3, 100] {
                let (rooms, tasks) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let room = || rooms.fetch_add(1, Ordering::Relaxed);
                let square = |number: usize, _: &mut usize| {
                    tasks.fetch_add(1, Ordering::Relaxed);
                    number * number
                };
                let squares = results(&pool, count, room, square);
                assert_eq!(squares, (0..count).map(|i| i * i).collect::<Vec<_>>());
                assert_eq!(tasks.into_inner(), count);
                assert!(rooms.into_inner() <= threads.min(count));
            }
        }
    }
}
