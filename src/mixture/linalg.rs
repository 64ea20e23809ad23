//! Factors of covariance matrices. The factorisations are faer's.

use faer::{MatRef, Side};

/// Entries of a packed lower triangle of order `d`: row after row, `[0,0] [1,0] [1,1] …`.
pub const fn triangle(d: usize) -> usize {
    d * (d + 1) / 2
}

/// Entries across the diagonal agree to within this, relative to the standard deviations.
const SYMMETRY: f64 = 1e-8;

/// Row and column of the first entry above the diagonal that differs from the one across it by more than rounding.
pub fn asymmetry(d: usize, entry: impl Fn(usize, usize) -> f64) -> Option<(usize, usize)> {
    // Not the root of the product, which over- and underflows.
    let scale: Vec<f64> = (0..d).map(|j| entry(j, j).abs().sqrt()).collect();
    let differs = |&(row, column): &(usize, usize)| {
        (entry(row, column) - entry(column, row)).abs() > SYMMETRY * scale[row] * scale[column]
    };
    (0..d).flat_map(|row| (row + 1..d).map(move |column| (row, column))).find(differs)
}

/// The feature at which a matrix proved not to be positive definite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPositiveDefinite(pub usize);

/// `A` with `Σ⁻¹ = AᵀA`, a packed lower triangle, and `ln det A = −½ ln det Σ`.
///
/// Σ is scaled to unit diagonal first, `Σ = D^½ C D^½`, `C = LLᵀ`, `A = L⁻¹ D^-½`, so that the verdict on
/// singularity does not depend on the units of the features: a pivot of `C` below `4 d ε` is none.
///
/// # Errors
/// The feature whose pivot is not positive.
pub fn precision_factor(covariance: &[f64], d: usize) -> Result<(Vec<f64>, f64), NotPositiveDefinite> {
    let mut scale = Vec::with_capacity(d);
    for j in 0..d {
        let s = covariance[j * d + j].sqrt();
        if !(s > 0.0 && s.is_finite()) {
            return Err(NotPositiveDefinite(j));
        }
        scale.push(s);
    }
    let mut l: Vec<f64> = (0..d * d).map(|e| covariance[e] / scale[e / d] / scale[e % d]).collect();
    cholesky(&mut l, d)?;
    let smallest = 4.0 * d as f64 * f64::EPSILON;
    for j in 0..d {
        let pivot = l[j * d + j];
        if pivot * pivot <= smallest {
            return Err(NotPositiveDefinite(j));
        }
    }
    let log_det = -(0..d).map(|j| l[j * d + j].ln() + scale[j].ln()).sum::<f64>();
    Ok((inverse_lower(&l, &scale, d), log_det))
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor, `Σ = LLᵀ`.
///
/// # Errors
/// The first pivot that is not positive.
pub fn cholesky(matrix: &mut [f64], d: usize) -> Result<(), NotPositiveDefinite> {
    if d <= SMALL {
        return cholesky_small(matrix, d);
    }
    let factor = MatRef::from_row_major_slice(matrix, d, d).llt(Side::Lower);
    let factor =
        factor.map_err(|faer::linalg::cholesky::llt::factor::LltError::NonPositivePivot { index }| {
            NotPositiveDefinite(index)
        })?;
    let l = factor.L();
    for i in 0..d {
        for j in 0..=i {
            matrix[i * d + j] = l[(i, j)];
        }
    }
    Ok(())
}

/// Up to this order the textbook recurrence is faster than setting up a blocked one.
const SMALL: usize = 8;

/// `L_ij = (Σ_ij − Σ_t<j L_it L_jt) / L_jj` (Golub & Van Loan 2013, §4.2).
fn cholesky_small(matrix: &mut [f64], d: usize) -> Result<(), NotPositiveDefinite> {
    for i in 0..d {
        for j in 0..=i {
            let mut s = matrix[i * d + j];
            for t in 0..j {
                s -= matrix[i * d + t] * matrix[j * d + t];
            }
            if i > j {
                matrix[i * d + j] = s / matrix[j * d + j];
            } else if s > 0.0 && s.is_finite() {
                matrix[i * d + i] = s.sqrt();
            } else {
                return Err(NotPositiveDefinite(i));
            }
        }
    }
    Ok(())
}

/// `L⁻¹ diag(1/scale)`, packed, by forward substitution column by column.
pub fn inverse_lower(l: &[f64], scale: &[f64], d: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; triangle(d)];
    for j in 0..d {
        for i in j..d {
            let mut s = if i == j { 1.0 } else { 0.0 };
            for t in j..i {
                s -= l[i * d + t] * inverse[triangle(t) + j];
            }
            inverse[triangle(i) + j] = s / l[i * d + i];
        }
    }
    for i in 0..d {
        for j in 0..=i {
            inverse[triangle(i) + j] /= scale[j];
        }
    }
    inverse
}

/// Raises the eigenvalues of a symmetric matrix to at least `floor`; leaves it alone where none is lower.
pub fn clip_eigenvalues(matrix: &mut [f64], d: usize, floor: f64) {
    let mut shifted = matrix.to_vec();
    for j in 0..d {
        shifted[j * d + j] -= floor;
    }
    if cholesky(&mut shifted, d).is_ok() {
        return;
    }
    let Ok(eigen) = MatRef::from_row_major_slice(matrix, d, d).self_adjoint_eigen(Side::Lower) else {
        return;
    };
    let values: Vec<f64> = eigen.S().column_vector().iter().map(|v| v.max(floor)).collect();
    let vectors = eigen.U();
    for i in 0..d {
        for j in 0..=i {
            let s = (0..d).map(|t| vectors[(i, t)] * values[t] * vectors[(j, t)]).sum();
            matrix[i * d + j] = s;
            matrix[j * d + i] = s;
        }
    }
}

/// `aᵀb`.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Eigenvalues and eigenvectors of a symmetric matrix in the metric of another: `A w = h B w`, `wᵀ B w = 1`, over the
/// directions in which `B` is not negligible.
pub fn generalised_eigen(a: &[f64], b: &[f64], m: usize) -> Option<Vec<(f64, Vec<f64>)>> {
    let scale: Vec<f64> = (0..m).map(|i| b[i * m + i].sqrt()).collect();
    let scaled = |x: &[f64]| (0..m * m).map(|e| x[e] / scale[e / m] / scale[e % m]).collect::<Vec<f64>>();
    let (a, b) = (scaled(a), scaled(b));
    if m == 0 || a.iter().chain(&b).any(|x| !x.is_finite()) {
        return None;
    }
    let eigen = MatRef::from_row_major_slice(&b, m, m).self_adjoint_eigen(Side::Lower).ok()?;
    let (values, vectors) = (eigen.S().column_vector(), eigen.U());
    let kept: Vec<usize> = (0..m).filter(|i| values[*i] > NEGLIGIBLE * values[m - 1]).collect();
    let r = kept.len();
    let basis = |i: usize, t: usize| vectors[(i, kept[t])] / values[kept[t]].sqrt();
    let entry = |s: usize, t: usize| {
        let row = |i: usize| (0..m).map(|j| a[i * m + j] * basis(j, t)).sum::<f64>();
        (0..m).map(|i| basis(i, s) * row(i)).sum::<f64>()
    };
    let reduced: Vec<f64> = (0..r * r).map(|e| entry(e / r, e % r)).collect();
    let eigen = MatRef::from_row_major_slice(&reduced, r, r).self_adjoint_eigen(Side::Lower).ok()?;
    let (values, vectors) = (eigen.S().column_vector(), eigen.U());
    let vector = |t: usize| {
        let entry = |i: usize| (0..r).map(|s| basis(i, s) * vectors[(s, t)]).sum::<f64>() / scale[i];
        (0..m).map(entry).collect()
    };
    Some((0..r).map(|t| (values[t], vector(t))).collect())
}

/// Eigenvalues of a Gram matrix of unit vectors below this, relative to the largest, are rounding.
const NEGLIGIBLE: f64 = 1e-8;

#[cfg(test)]
mod tests {
    use super::*;

    fn gram(d: usize, columns: usize) -> Vec<f64> {
        let a = |i: usize, t: usize| ((i * 7 + t * 13) as f64).sin();
        let entry = |e: usize| (0..columns).map(|t| a(e / d, t) * a(e % d, t)).sum::<f64>();
        (0..d * d).map(entry).collect()
    }

    #[test]
    fn the_factor_inverts_the_covariance() {
        for d in [1, 2, 8, 9, 40] {
            let mut covariance = gram(d, 2 * d);
            for j in 0..d {
                covariance[j * d + j] += 1.0;
            }
            let (a, log_det) = precision_factor(&covariance, d).unwrap();
            for i in 0..d {
                for j in 0..=i {
                    // A Σ Aᵀ = I
                    let mut s = 0.0;
                    for p in 0..=i {
                        for q in 0..=j {
                            s += a[triangle(i) + p] * covariance[p * d + q] * a[triangle(j) + q];
                        }
                    }
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((s - expected).abs() < 1e-11, "{d}: {s}");
                }
            }
            let diagonal: f64 = (0..d).map(|j| a[triangle(j) + j].ln()).sum();
            assert!((diagonal - log_det).abs() < 1e-11 * (1.0 + log_det.abs()));
        }
    }

    #[test]
    fn symmetric_is_symmetric_in_any_unit() {
        for unit in [1e-200, 1e-150, 1.0, 1e100, 1e150] {
            let matrix = |off: f64| move |i: usize, j: usize| unit * unit * [1.0, 0.5, off, 1.0][2 * i + j];
            assert_eq!(asymmetry(2, matrix(0.5)), None);
            assert_eq!(asymmetry(2, matrix(0.5 * (1.0 + 1e-9))), None);
            let differs = (unit > 1e-200).then_some((0, 1));
            assert_eq!(asymmetry(2, matrix(0.5 * (1.0 + 1e-7))), differs, "{unit}");
        }
        // The units of one pair say nothing of another.
        let diagonal = [1e-300, 1e300, 1.0];
        let matrix =
            |i: usize, j: usize| if i == j { diagonal[i] } else { f64::from(u8::from((i, j) == (0, 2))) };
        assert_eq!(asymmetry(3, matrix), Some((0, 2)));
        assert_eq!(asymmetry(0, matrix), None);
    }

    #[test]
    fn singular_is_singular_in_any_unit() {
        for unit in [1e-140, 1e-8, 1.0, 1e8, 1e140] {
            let s = unit * unit;
            assert_eq!(precision_factor(&[s, s, s, s], 2), Err(NotPositiveDefinite(1)));
            assert!(precision_factor(&[s, 0.5 * s, 0.5 * s, s], 2).is_ok());
        }
        assert_eq!(precision_factor(&[1.0, 2.0, 2.0, 1.0], 2), Err(NotPositiveDefinite(1)));
        // A pivot of rounding errors is none.
        let nearly = |off: f64| precision_factor(&[1.0, off, off, 1.0], 2);
        assert_eq!(nearly(1.0 - 2.0 * f64::EPSILON), Err(NotPositiveDefinite(1)));
        assert!(nearly(1.0 - 8.0 * f64::EPSILON).is_ok());
        assert_eq!(precision_factor(&[f64::NAN], 1), Err(NotPositiveDefinite(0)));
    }

    #[test]
    fn clipping_raises_what_is_low_and_keeps_the_rest() {
        for (d, rank) in [(3, 2), (12, 5)] {
            let singular = gram(d, rank);
            let mut clipped = singular.clone();
            clip_eigenvalues(&mut clipped, d, 1e-3);
            let eigen = MatRef::from_row_major_slice(&clipped, d, d).self_adjoint_eigenvalues(Side::Lower);
            assert!((eigen.unwrap()[0] - 1e-3).abs() < 1e-12);
            let again = clipped.clone();
            clip_eigenvalues(&mut clipped, d, 0.9e-3);
            assert_eq!(again, clipped);
        }
    }
}
