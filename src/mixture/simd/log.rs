//! The natural logarithm.
//!
//! x = 2ⁿ (1 + f) with √½ ≤ 1 + f < √2. With s = f / (2 + f),
//! ln(1 + f) = 2 artanh s = f − (½f² − s(½f² + R(s²))), R the polynomial of Sun
//! Microsystems' fdlibm (1993, `e_log.c`): less than one unit in the last place off.

use pulp::Simd;

use super::map_bits;

const LN2_HI: f64 = 6.931_471_803_691_238e-1;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// R, from its highest power of s² to its lowest.
const R: [f64; 7] = [
    1.479_819_860_511_658_6e-1,
    1.531_383_769_920_937_3e-1,
    1.818_357_216_161_805e-1,
    2.222_219_843_214_978_4e-1,
    2.857_142_874_366_239e-1,
    3.999_999_999_940_942e-1,
    6.666_666_666_666_735e-1,
];
const ONE: u64 = 1.0_f64.to_bits();
/// The bits of √½, of which the exponent is to become that of 1.
const ROOT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
/// 2⁵²: a number below it, put in the place of its mantissa, is it plus that number.
const MANTISSA: u64 = 4_503_599_627_370_496.0_f64.to_bits();
/// Added to exponents, so that none is negative.
const BIAS: u64 = 1 << 11;

/// ln x for positive normal x, to 2·10⁻¹⁶ relative.
#[inline(always)]
pub fn ln<S: Simd>(simd: S, x: S::f64s) -> S::f64s {
    let splat = |value| simd.splat_f64s(value);
    // As a difference of bits, the exponent is that of 1 + f in [√½, √2), and never negative once biased.
    let exponent = |bits: u64| (bits.wrapping_sub(ROOT_HALF).wrapping_add(BIAS << 52)) >> 52;
    let biased = map_bits::<S>(x, |bits| MANTISSA | exponent(bits));
    let n = simd.sub_f64s(biased, splat(4_503_599_627_370_496.0 + BIAS as f64));
    let mantissa = map_bits::<S>(x, |bits| bits.wrapping_sub(exponent(bits) << 52).wrapping_add(BIAS << 52));
    let f = simd.sub_f64s(mantissa, splat(f64::from_bits(ONE)));
    let s = simd.div_f64s(f, simd.add_f64s(splat(2.0), f));
    let z = simd.mul_f64s(s, s);
    let mut r = splat(R[0]);
    for coefficient in &R[1..] {
        r = simd.mul_add_e_f64s(r, z, splat(*coefficient));
    }
    let half_square = simd.mul_f64s(splat(0.5), simd.mul_f64s(f, f));
    let correction = simd.mul_add_e_f64s(r, z, half_square);
    let tail = simd.mul_add_e_f64s(s, correction, simd.mul_f64s(n, splat(LN2_LO)));
    let below_f = simd.sub_f64s(half_square, tail);
    simd.mul_add_e_f64s(n, splat(LN2_HI), simd.sub_f64s(f, below_f))
}
