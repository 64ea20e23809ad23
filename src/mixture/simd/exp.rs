//! The exponential.
//!
//! eˣ = 2ⁿ eʳ with n = round(x / ln 2) and |r| ≤ ½ ln 2 (Cody & Waite 1980, ch. 6); eʳ = 1 + r + r² q(r), where q
//! of degree 9 interpolates at the Chebyshev nodes: it is 2·10⁻¹⁷ off, relative to eʳ.

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

/// eˣ for −708 ≤ x ≤ 700, to 4·10⁻¹⁶ relative; anything else for other x.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f64s) -> S::f64s {
    let splat = |value| simd.splat_f64s(value);
    let shifted = simd.mul_add_e_f64s(x, splat(std::f64::consts::LOG2_E), splat(ROUND));
    let n = simd.sub_f64s(shifted, splat(ROUND));
    let high = simd.negate_mul_add_e_f64s(n, splat(LN2_HI), x);
    let r = simd.negate_mul_add_e_f64s(n, splat(LN2_LO), high);
    let mut q = splat(Q[0]);
    for coefficient in &Q[1..] {
        q = simd.mul_add_e_f64s(q, r, splat(*coefficient));
    }
    let square = simd.mul_f64s(r, r);
    let above_one = simd.mul_add_e_f64s(q, square, r);
    let power = map_bits::<S>(shifted, |bits| bits << 52);
    simd.mul_add_e_f64s(power, above_one, power)
}
