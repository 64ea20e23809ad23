//! Run-time dispatch of vector code, and the exponential.

use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};

/// Runs `op` with the widest instruction set of this machine, found once.
pub fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    ARCH.get_or_init(Arch::new).dispatch(op)
}

/// `a·b + c`, fused where the instruction set fuses.
#[inline(always)]
pub fn mul_add<S: Simd>(a: f64, b: f64, c: f64) -> f64 {
    if S::IS_SCALAR {
        a * b + c
    } else {
        a.mul_add(b, c)
    }
}

/// Below this the exponential is zero: the results would be subnormal.
const EXP_MIN: f64 = -708.0;
const LN2_HI: f64 = 6.931_471_803_691_238e-1;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// 1.5·2⁵² + 1023: adding it rounds to an integer and leaves the biased exponent in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0 + 1023.0;

/// eˣ for x ≤ 700, to 4·10⁻¹⁶ relative; 0 below −708.
///
/// eˣ = 2ⁿ eʳ with n = round(x / ln 2) and |r| ≤ ½ ln 2 (Cody & Waite 1980, ch. 6), eʳ by its Taylor
/// polynomial of degree 13. Written without branches, so that loops over it become vector code.
#[inline(always)]
pub fn exp<S: Simd>(x: f64) -> f64 {
    let clipped = if x > EXP_MIN { x } else { EXP_MIN };
    let shifted = mul_add::<S>(clipped, std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<S>(-n, LN2_LO, mul_add::<S>(-n, LN2_HI, clipped));
    let mut p = INVERSE_FACTORIALS[0];
    for &c in &INVERSE_FACTORIALS[1..] {
        p = mul_add::<S>(p, r, c);
    }
    let scaled = p * f64::from_bits(shifted.to_bits() << 52);
    if x > EXP_MIN {
        scaled
    } else {
        0.0
    }
}

/// 1/13!, 1/12!, …, 1/1!, 1/0!
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut table = [1.0; 14];
    let mut factorial = 1.0;
    let mut n = 1;
    while n < 14 {
        factorial *= n as f64;
        table[13 - n] = 1.0 / factorial;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a mut [f64]);

    impl WithSimd for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for x in self.0 {
                *x = exp::<S>(*x);
            }
        }
    }

    fn largest_error(values: &[f64], run: impl Fn(&mut [f64])) -> f64 {
        let mut results = values.to_vec();
        run(&mut results);
        let error = |(x, y): (&f64, &f64)| ((y - x.exp()) / x.exp()).abs();
        values.iter().zip(&results).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn exponential_is_accurate_over_its_range() {
        let values: Vec<f64> = (0..400_000).map(|i| -707.99 + 0.003_5 * f64::from(i)).collect();
        let values: Vec<f64> = values.into_iter().filter(|x| *x <= 700.0).collect();
        assert!(largest_error(&values, |x| dispatch(Exp(x))) < 4e-16);
        let scalar = largest_error(&values, |x| Exp(x).with_simd(pulp::Scalar::new()));
        assert!(scalar < 1e-15, "{scalar}");
    }

    #[test]
    fn exponential_at_its_edges() {
        let mut x = [0.0, -708.0, -1e300, f64::NEG_INFINITY, -1e-300];
        dispatch(Exp(&mut x));
        assert_eq!(x, [1.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
