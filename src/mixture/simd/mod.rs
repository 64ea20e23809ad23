//! Run-time dispatch of vector code, the exponential, the logarithm, and a check of many numbers.

use pulp::{bytemuck, Simd};

mod exp;
mod lanes;
mod level;
mod log;
mod numbers;
mod prefetch;

pub use exp::{exp_above, EXP_MIN};
pub use lanes::Lanes;
pub use level::Level;
pub use log::ln;
pub use numbers::{all_finite, all_shares};
pub use prefetch::prefetch;

/// A vector with the bits of every lane changed: what is a loop over lanes here becomes a vector operation.
#[inline(always)]
fn map_bits<S: Simd>(mut x: S::f64s, change: impl Fn(u64) -> u64) -> S::f64s {
    for lane in lanes_mut::<S>(&mut x) {
        *lane = f64::from_bits(change(lane.to_bits()));
    }
    x
}

/// The larger of a number and a floor that is one: the floor where the number is NaN, as only some processors have it.
#[inline(always)]
pub fn raised<S: Simd>(simd: S, x: S::f64s, floor: S::f64s) -> S::f64s {
    if cfg!(target_arch = "x86_64") {
        simd.max_f64s(x, floor)
    } else {
        simd.select_f64s(simd.greater_than_f64s(x, floor), x, floor)
    }
}

/// The lanes of a vector.
#[inline(always)]
fn lanes_mut<S: Simd>(x: &mut S::f64s) -> &mut [f64] {
    bytemuck::cast_slice_mut(std::slice::from_mut(x))
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::exp::exp;
    use super::*;

    /// A function of vectors, of all values.
    struct Each<'a, F>(&'a mut [f64], F);

    /// A function of vectors.
    trait Function {
        fn of<S: Simd>(&self, simd: S, x: S::f64s) -> S::f64s;
    }

    struct Exp;

    impl Function for Exp {
        #[inline(always)]
        fn of<S: Simd>(&self, simd: S, x: S::f64s) -> S::f64s {
            exp::<S, 1>(simd, [x])[0]
        }
    }

    struct Ln;

    impl Function for Ln {
        #[inline(always)]
        fn of<S: Simd>(&self, simd: S, x: S::f64s) -> S::f64s {
            ln::<S>(simd, x)
        }
    }

    struct Raised;

    impl Function for Raised {
        #[inline(always)]
        fn of<S: Simd>(&self, simd: S, x: S::f64s) -> S::f64s {
            raised(simd, x, simd.splat_f64s(-2.0))
        }
    }

    impl<F: Function> WithSimd for Each<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, tail) = S::as_mut_simd_f64s(self.0);
            assert!(tail.is_empty());
            for x in vectors {
                *x = self.1.of::<S>(simd, *x);
            }
        }
    }

    fn largest_error(values: &[f64], level: Level, function: impl Function, exact: fn(f64) -> f64) -> f64 {
        let mut results = values.to_vec();
        level.run(Each(&mut results, function));
        let error = |(x, y): (&f64, &f64)| ((y - exact(*x)) / exact(*x)).abs();
        values.iter().zip(&results).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn exponential_is_accurate_over_its_range() {
        let values: Vec<f64> = (0..400_000).map(|i| -708.0 + 0.003_5 * f64::from(i)).collect();
        for level in Level::all() {
            let error = largest_error(&values, level, Exp, f64::exp);
            assert!(error < 5e-16, "{error}");
        }
    }

    #[test]
    fn logarithm_is_accurate_over_its_range() {
        let wide = (0..400_000).map(|i| (-708.0 + 0.003_54 * f64::from(i)).exp());
        let near_one = (1..200_000).map(|i| 1.0 + f64::from(i) * 1e-5);
        let just_above_one = (1..=1000).map(|i| 1.0 + f64::from(i) * f64::EPSILON);
        let edges = [f64::MIN_POSITIVE, f64::MAX, 0.5, 2.0, std::f64::consts::SQRT_2, 1.0 - 1e-16, 7.0, 9.0];
        let mut values: Vec<f64> = wide.chain(near_one).chain(just_above_one).chain(edges).collect();
        values.resize(values.len().next_multiple_of(8), 3.0);
        for level in Level::all() {
            let error = largest_error(&values, level, Ln, f64::ln);
            assert!(error < 5e-16, "{error}");
        }
    }

    #[test]
    fn what_is_no_number_comes_to_the_floor() {
        for level in Level::all() {
            let mut x = [f64::NAN, -f64::NAN, f64::NEG_INFINITY, -3.0, -2.0, -1.0, 0.0, f64::INFINITY];
            level.run(Each(&mut x, Raised));
            assert_eq!(x, [-2.0, -2.0, -2.0, -2.0, -2.0, -1.0, 0.0, f64::INFINITY], "{level:?}");
        }
    }

    #[test]
    fn functions_at_their_edges() {
        for level in Level::all() {
            let mut x = [0.0, -0.0, -1e-300, 1e-300, EXP_MIN, EXP_MIN, 700.0, 700.0];
            level.run(Each(&mut x, Exp));
            assert_eq!(&x[..4], [1.0; 4]);
            for (x, exact) in [(x[4], EXP_MIN.exp()), (x[6], 700_f64.exp())] {
                assert!((x / exact - 1.0).abs() < 1e-15, "{x}");
            }
            let mut x = [1.0; 8];
            level.run(Each(&mut x, Ln));
            assert_eq!(x, [0.0; 8]);
        }
    }
}
