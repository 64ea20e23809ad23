//! The exponential.
//!
//! eˣ = 2ⁿ eʳ with n = round(x / ln 2) and |r| ≤ ½ ln 2 (Cody & Waite 1980, ch. 6); eʳ = 1 + r + r² q(r), where q
//! of degree 9 interpolates at the Chebyshev nodes: it is 2·10⁻¹⁷ off, relative to eʳ. Its odd and its even powers are
//! summed up apart.

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::Simd;

use super::map_bits;

/// Below this an exponential is to be taken for zero: it would be subnormal.
pub const EXP_MIN: f64 = -708.0;
const LN2_HI: f64 = 6.931_471_803_691_238e-1;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// 1.5·2⁵² + 1023: adding it rounds to an integer and leaves the biased exponent in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0 + 1023.0;
/// q, from its highest power to its lowest.
const Q: [f64; 10] = [
    2.510_042_415_700_506_7e-8,
    2.762_013_871_973_399_4e-7,
    2.755_726_837_868_419_2e-6,
    2.480_152_119_021_773e-5,
    1.984_126_986_310_596_8e-4,
    1.388_888_891_728_179_4e-3,
    8.333_333_333_330_051e-3,
    4.166_666_666_662_399e-2,
    1.666_666_666_666_666_9e-1,
    0.5,
];

/// eˣ of several vectors, for −708 ≤ x ≤ 700, to 4·10⁻¹⁶ relative; anything else for other x. They take each step
/// together: one alone would wait for its own results.
#[inline(always)]
pub fn exp<S: Simd, const N: usize>(simd: S, x: [S::f64s; N]) -> [S::f64s; N] {
    let splat = |value| simd.splat_f64s(value);
    let shifted = x.map(|x| simd.mul_add_e_f64s(x, splat(std::f64::consts::LOG2_E), splat(ROUND)));
    let n = shifted.map(|shifted| simd.sub_f64s(shifted, splat(ROUND)));
    let mut r = x;
    for part in [LN2_HI, LN2_LO] {
        for v in 0..N {
            r[v] = simd.negate_mul_add_e_f64s(n[v], splat(part), r[v]);
        }
    }
    let square = r.map(|r| simd.mul_f64s(r, r));
    let (mut odd, mut even) = ([splat(Q[0]); N], [splat(Q[1]); N]);
    for [of_odd, of_even] in Q[2..].as_chunks::<2>().0 {
        for v in 0..N {
            odd[v] = simd.mul_add_e_f64s(odd[v], square[v], splat(*of_odd));
        }
        for v in 0..N {
            even[v] = simd.mul_add_e_f64s(even[v], square[v], splat(*of_even));
        }
    }
    let mut result = x;
    for v in 0..N {
        let q = simd.mul_add_e_f64s(odd[v], r[v], even[v]);
        let above_one = simd.mul_add_e_f64s(q, square[v], r[v]);
        let power = map_bits::<S>(shifted[v], |bits| bits << 52);
        result[v] = simd.mul_add_e_f64s(power, above_one, power);
    }
    result
}

/// eᵗ of several vectors, and zero where t is not above `least`, below which no t is, and which is [`EXP_MIN`] or more.
#[inline(always)]
pub fn exp_above<S: Simd, const N: usize>(simd: S, t: [S::f64s; N], least: S::f64s) -> [S::f64s; N] {
    let mut result = exp::<S, N>(simd, t);
    for v in 0..N {
        let counts = simd.greater_than_f64s(t[v], least);
        result[v] = simd.select_f64s(counts, result[v], simd.splat_f64s(0.0));
    }
    result
}
