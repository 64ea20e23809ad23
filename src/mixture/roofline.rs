//! What the machine can do: the rate of fused multiply-adds in registers.
//!
//! A row and a component cost d(d+1) of them in an iteration of EM: d(d+1)/2 for `A (x − μ)`, as many for the
//! scatter. So this rate bounds the speed of the kernels, and benchmarks measure them by it.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use pulp::{Simd, WithSimd};

use super::simd::Level;

/// Chains that do not wait for each other: enough to hide the latency of an addition, few enough for the
/// sixteen registers of AVX2.
const CHAINS: usize = 14;
/// Links of a chain between two looks at the clock: about a tenth of a millisecond.
const LINKS: usize = 1 << 16;

/// Fused multiply-adds a second of all threads together, and the lanes of a vector.
///
/// A thread's rate is that of its fastest stretch, so that what else runs on the machine counts little.
pub fn fma_peak(threads: usize, duration: Duration) -> (f64, usize) {
    let barrier = Barrier::new(threads);
    let fastest = || {
        barrier.wait();
        fastest_stretch(duration)
    };
    let runs: Vec<(f64, usize)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(fastest)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    (runs.iter().map(|(rate, _)| rate).sum(), runs.first().map_or(0, |(_, lanes)| *lanes))
}

fn fastest_stretch(duration: Duration) -> (f64, usize) {
    let begun = Instant::now();
    let (mut shortest, mut lanes) = (f64::INFINITY, 0);
    while lanes == 0 || begun.elapsed() < duration {
        let stretch = Instant::now();
        lanes = Level::chosen().run(Chains);
        shortest = shortest.min(stretch.elapsed().as_secs_f64());
    }
    ((LINKS * CHAINS * lanes) as f64 / shortest, lanes)
}

struct Chains;

impl WithSimd for Chains {
    type Output = usize;

    /// `x ← a x + b` again and again, which tends to `b / (1 − a)` = 1.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let a = simd.splat_f64s(black_box(0.5));
        let b = simd.splat_f64s(black_box(0.5));
        let mut chains = [simd.splat_f64s(black_box(2.0)); CHAINS];
        for _ in 0..LINKS {
            for x in &mut chains {
                *x = simd.mul_add_e_f64s(a, *x, b);
            }
        }
        black_box(chains);
        S::F64_LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_counts() {
        let (rate, lanes) = fma_peak(3, Duration::ZERO);
        assert!(rate > 1e6 && rate.is_finite(), "{rate}");
        assert!(lanes.is_power_of_two() && lanes <= 8, "{lanes}");
    }
}
