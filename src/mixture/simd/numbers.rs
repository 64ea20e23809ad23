//! Whether numbers can be features, or responsibilities.

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::Level;

/// Whether all are finite.
pub fn all_finite(numbers: &[f64]) -> bool {
    Level::chosen().run(Numbers { numbers, signed: true })
}

/// Whether all are finite and none is negative.
pub fn all_shares(numbers: &[f64]) -> bool {
    Level::chosen().run(Numbers { numbers, signed: false })
}

struct Numbers<'a> {
    numbers: &'a [f64],
    signed: bool,
}

/// Vectors looked at together.
const TOGETHER: usize = 4;

impl WithSimd for Numbers<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let (vectors, tail) = S::as_simd_f64s(self.numbers);
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
        let signed = self.signed;
        all(finite) && (signed || all(least)) && tail.iter().all(|x| x.is_finite() && (signed || *x >= 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_of_another_kind_is_found_wherever_it_stands() {
        for level in Level::all() {
            let run = |numbers: &[f64], signed| level.run(Numbers { numbers, signed });
            for len in [0, 1, 7, 8, 31, 32, 40, 100] {
                let good: Vec<f64> = (0..len).map(|i| f64::from(i) * 1e-3).collect();
                assert!(run(&good, false) && run(&good, true));
                for at in 0..good.len() {
                    let with = |number: f64| {
                        let mut numbers = good.clone();
                        numbers[at] = number;
                        numbers
                    };
                    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                        let numbers = with(wrong);
                        assert!(!run(&numbers, false) && !run(&numbers, true), "{level:?}: {wrong} at {at}");
                    }
                    for negative in [-1e-300, -1.0] {
                        let numbers = with(negative);
                        assert!(
                            !run(&numbers, false) && run(&numbers, true),
                            "{level:?}: {negative} at {at}"
                        );
                    }
                    for right in [0.0, -0.0, 1e300, 1e-310] {
                        let numbers = with(right);
                        assert!(run(&numbers, false) && run(&numbers, true), "{level:?}: {right} at {at}");
                    }
                }
            }
        }
    }
}
