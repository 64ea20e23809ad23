//! Whether numbers can be responsibilities.

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::Level;

/// Whether all are finite and none is negative.
pub fn all_shares(numbers: &[f64]) -> bool {
    Level::chosen().run(Shares(numbers))
}

struct Shares<'a>(&'a [f64]);

/// Vectors looked at together.
const TOGETHER: usize = 4;

impl WithSimd for Shares<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let (vectors, tail) = S::as_simd_f64s(self.0);
        let (groups, rest) = vectors.as_chunks::<TOGETHER>();
        let zero = simd.splat_f64s(0.0);
        // 0 x is NaN where x is not finite.
        let (mut finite, mut least) = ([zero; TOGETHER], [zero; TOGETHER]);
        for group in groups {
            for v in 0..TOGETHER {
                finite[v] = simd.mul_add_e_f64s(group[v], zero, finite[v]);
                least[v] = simd.min_f64s(group[v], least[v]);
            }
        }
        for x in rest {
            finite[0] = simd.mul_add_e_f64s(*x, zero, finite[0]);
            least[0] = simd.min_f64s(*x, least[0]);
        }
        let all = |own: [S::f64s; TOGETHER]| own.into_iter().all(|x| simd.reduce_sum_f64s(x) == 0.0);
        all(finite) && all(least) && tail.iter().all(|x| x.is_finite() && *x >= 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_of_another_kind_is_found_wherever_it_stands() {
        for level in Level::all() {
            for len in [0, 1, 7, 8, 31, 32, 40, 100] {
                let good: Vec<f64> = (0..len).map(|i| f64::from(i) * 1e-3).collect();
                assert!(level.run(Shares(&good)));
                for at in 0..good.len() {
                    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-300, -1.0] {
                        let mut numbers = good.clone();
                        numbers[at] = wrong;
                        assert!(!level.run(Shares(&numbers)), "{level:?}: {wrong} at {at} of {len}");
                    }
                    for right in [0.0, -0.0, 1e300, 1e-310] {
                        let mut numbers = good.clone();
                        numbers[at] = right;
                        assert!(level.run(Shares(&numbers)), "{level:?}: {right} at {at} of {len}");
                    }
                }
            }
        }
    }
}
