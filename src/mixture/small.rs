//! Norms and moments compiled for each small number `D` of features, whose triangle stays in registers if these suffice.
//! Rows are lanes: a slice of vectors has one number for each row.

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::Simd;

use super::linalg::triangle;
use super::shapes::{SUMS_IN_REGISTERS, TRIANGULAR};

// As far as the arms below reach.
const _: () = assert!(TRIANGULAR == 6 && SUMS_IN_REGISTERS == 5);

/// Where norms go.
pub trait Norms<S: Simd> {
    /// Takes the norms of the rows of vector `v`.
    fn set(&mut self, simd: S, v: usize, norm: S::f64s);
}

/// `‖A (x − μ)‖²` of some `vectors` of rows, for a packed triangle `A` of up to [`TRIANGULAR`] features.
#[inline(always)]
pub fn norms<S: Simd>(
    simd: S,
    (features, vectors): (&[S::f64s], usize),
    mean: &[f64],
    factor: &[f64],
    norms: &mut impl Norms<S>,
) {
    let rows = (features, vectors);
    match mean.len() {
        1 => norms_of::<S, 1>(simd, rows, mean, factor, norms),
        2 => norms_of::<S, 2>(simd, rows, mean, factor, norms),
        3 => norms_of::<S, 3>(simd, rows, mean, factor, norms),
        4 => norms_of::<S, 4>(simd, rows, mean, factor, norms),
        5 => norms_of::<S, 5>(simd, rows, mean, factor, norms),
        TRIANGULAR => norms_of::<S, TRIANGULAR>(simd, rows, mean, factor, norms),
        _ => {}
    }
}

#[inline(always)]
fn norms_of<S: Simd, const D: usize>(
    simd: S,
    (features, vectors): (&[S::f64s], usize),
    mean: &[f64],
    factor: &[f64],
    norms: &mut impl Norms<S>,
) {
    let x: [&[S::f64s]; D] = std::array::from_fn(|j| &features[j * vectors..][..vectors]);
    let mut m = [simd.splat_f64s(0.0); D];
    let mut a = [[simd.splat_f64s(0.0); D]; D];
    for i in 0..D {
        m[i] = simd.splat_f64s(mean[i]);
        for j in 0..=i {
            a[i][j] = simd.splat_f64s(factor[triangle(i) + j]);
        }
    }
    for v in 0..vectors {
        let mut difference = m;
        let mut norm = simd.splat_f64s(0.0);
        for i in 0..D {
            difference[i] = simd.sub_f64s(x[i][v], m[i]);
            let mut z = simd.mul_f64s(a[i][0], difference[0]);
            for j in 1..=i {
                z = simd.mul_add_e_f64s(a[i][j], difference[j], z);
            }
            norm = if i == 0 { simd.mul_f64s(z, z) } else { simd.mul_add_e_f64s(z, z, norm) };
        }
        norms.set(simd, v, norm);
    }
}

/// Adds `Σ r z`, and `Σ r z zᵀ` up to the diagonal, to vectors `step` apart, with `z = x − g`, where the share `r` of a row is
/// what is `given` times its `scale`, for up to [`SUMS_IN_REGISTERS`] features.
#[inline(always)]
pub fn moments<S: Simd>(
    simd: S,
    features: &[S::f64s],
    (given, scale): (&[S::f64s], &[S::f64s]),
    about: &[f64],
    (sums, step): (&mut [S::f64s], usize),
) {
    let (shares, sums) = ((given, scale), (sums, step));
    match about.len() {
        1 => moments_of::<S, 1>(simd, features, shares, about, sums),
        2 => moments_of::<S, 2>(simd, features, shares, about, sums),
        3 => moments_of::<S, 3>(simd, features, shares, about, sums),
        4 => moments_of::<S, 4>(simd, features, shares, about, sums),
        SUMS_IN_REGISTERS => moments_of::<S, SUMS_IN_REGISTERS>(simd, features, shares, about, sums),
        _ => {}
    }
}

#[inline(always)]
fn moments_of<S: Simd, const D: usize>(
    simd: S,
    features: &[S::f64s],
    (given, scale): (&[S::f64s], &[S::f64s]),
    about: &[f64],
    (sums, step): (&mut [S::f64s], usize),
) {
    let zero = simd.splat_f64s(0.0);
    let vectors = given.len();
    let x: [&[S::f64s]; D] = std::array::from_fn(|j| &features[j * vectors..][..vectors]);
    let (mut mean, mut scatter) = ([zero; D], [[zero; D]; D]);
    let mut g = [zero; D];
    for (g, about) in g.iter_mut().zip(about) {
        *g = simd.splat_f64s(*about);
    }
    for (v, (given, scale)) in given.iter().zip(scale).enumerate() {
        let mut z = [zero; D];
        let share = simd.mul_f64s(*given, *scale);
        for i in 0..D {
            z[i] = simd.sub_f64s(x[i][v], g[i]);
            let product = simd.mul_f64s(share, z[i]);
            mean[i] = simd.add_f64s(mean[i], product);
            for j in 0..=i {
                scatter[i][j] = simd.mul_add_e_f64s(product, z[j], scatter[i][j]);
            }
        }
    }
    for i in 0..D {
        let at = i * step;
        sums[at] = simd.add_f64s(sums[at], mean[i]);
        for j in 0..=i {
            let at = (D + triangle(i) + j) * step;
            sums[at] = simd.add_f64s(sums[at], scatter[i][j]);
        }
    }
}
