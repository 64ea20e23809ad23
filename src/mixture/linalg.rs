//! Factors of covariance matrices. The factorisations are faer's.

use std::ops::RangeInclusive;

use faer::{MatRef, Side};
use smallvec::SmallVec;

use super::shapes::RECURRENCE;

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

/// The logarithm of the determinant of a factor, if there is one.
pub type LogDet = Result<f64, NotPositiveDefinite>;

/// Multiply-adds of about a Cholesky factor of order `d` and its inverse.
pub const fn factor_work(d: usize) -> usize {
    d.saturating_pow(3)
}

/// `A` with `Σ⁻¹ = AᵀA`, a packed lower triangle, and `ln det A = −½ ln det Σ`.
///
/// Σ is scaled to unit diagonal first, `Σ = D^½ C D^½`, `C = LLᵀ`, `A = L⁻¹ D^-½`, so that the verdict on
/// singularity does not depend on the units of the features: a pivot of `C` below `4 d ε` is none.
///
/// # Errors
/// The feature whose pivot is not positive.
pub fn precision_factor(covariance: &[f64], d: usize) -> Result<(Numbers, f64), NotPositiveDefinite> {
    let mut factor = Numbers::from_elem(0.0, triangle(d));
    let log_det = write_precision_factor(covariance, d, &mut factor)?;
    Ok((factor, log_det))
}

/// The same, left in `factor`.
///
/// # Errors
/// As [`precision_factor`].
pub fn write_precision_factor(covariance: &[f64], d: usize, factor: &mut [f64]) -> LogDet {
    with_room(d * (d + 1), |room| {
        let (scale, l) = room.split_at_mut(d);
        for (j, s) in scale.iter_mut().enumerate() {
            *s = covariance[j * d + j].sqrt();
            if !(*s > 0.0 && s.is_finite()) {
                return Err(NotPositiveDefinite(j));
            }
        }
        for i in 0..d {
            for j in 0..d {
                l[i * d + j] = covariance[i * d + j] / scale[i] / scale[j];
            }
        }
        cholesky(l, d)?;
        let smallest = 4.0 * d as f64 * f64::EPSILON;
        let pivots = || (0..d).map(|j| l[j * d + j]);
        if let Some(j) = pivots().position(|pivot| pivot * pivot <= smallest) {
            return Err(NotPositiveDefinite(j));
        }
        let log_det = -pivots().zip(&*scale).map(|(pivot, s)| (pivot * s).ln()).sum::<f64>();
        inverse_lower(l, scale, d, factor);
        Ok(log_det)
    })
}

/// Numbers that need no allocation where components and features are few, as in the thousands of fits of small groups.
pub type Numbers = SmallVec<[f64; 8]>;

/// Numbers written and read as a list.
pub mod as_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Numbers;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(numbers: &Numbers, serializer: S) -> Result<S::Ok, S::Error> {
        numbers.as_slice().serialize(serializer)
    }

    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Numbers, D::Error> {
        Vec::deserialize(deserializer).map(Numbers::from)
    }
}

/// Numbers for which there is room without an allocation, and a few, which are cleared sooner.
const ROOM: usize = 96;
const FEW: usize = 16;

/// Gives `work` room for `len` numbers, all zero.
pub fn with_room<R>(len: usize, work: impl FnOnce(&mut [f64]) -> R) -> R {
    if len <= FEW {
        work(&mut [0.0; FEW][..len])
    } else if len <= ROOM {
        work(&mut [0.0; ROOM][..len])
    } else {
        work(&mut vec![0.0; len])
    }
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor, `Σ = LLᵀ`.
///
/// # Errors
/// The first pivot that is not positive.
pub fn cholesky(matrix: &mut [f64], d: usize) -> Result<(), NotPositiveDefinite> {
    if d <= RECURRENCE {
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

fn cholesky_small(matrix: &mut [f64], d: usize) -> Result<(), NotPositiveDefinite> {
    // The same code, compiled for each order that is usual.
    match d {
        1 => recurrence(matrix, 1),
        2 => recurrence(matrix, 2),
        3 => recurrence(matrix, 3),
        4 => recurrence(matrix, 4),
        5 => recurrence(matrix, 5),
        6 => recurrence(matrix, 6),
        _ => recurrence(matrix, d),
    }
}

/// `L_ij = (Σ_ij − Σ_t<j L_it L_jt) / L_jj` (Golub & Van Loan 2013, §4.2).
#[inline(always)]
fn recurrence(matrix: &mut [f64], d: usize) -> Result<(), NotPositiveDefinite> {
    let matrix = &mut matrix[..d * d];
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

/// `L⁻¹ diag(1/scale)`, packed, by forward substitution.
pub fn inverse_lower(l: &[f64], scale: &[f64], d: usize, inverse: &mut [f64]) {
    match d {
        1 => by_column(l, scale, 1, inverse),
        2 => by_column(l, scale, 2, inverse),
        3 => by_column(l, scale, 3, inverse),
        4 => by_column(l, scale, 4, inverse),
        5 => by_column(l, scale, 5, inverse),
        6 => by_column(l, scale, 6, inverse),
        ..=RECURRENCE => by_column(l, scale, d, inverse),
        _ => by_row(l, scale, d, inverse),
    }
}

/// `X_ij = (I_ij − Σ_t<i L_it X_tj) / L_ii`, one entry after the other.
#[inline(always)]
fn by_column(l: &[f64], scale: &[f64], d: usize, inverse: &mut [f64]) {
    let (l, scale, inverse) = (&l[..d * d], &scale[..d], &mut inverse[..triangle(d)]);
    for j in 0..d {
        for i in j..d {
            let mut s = if i == j { 1.0 } else { 0.0 };
            for t in j..i {
                s -= l[i * d + t] * inverse[triangle(t) + j];
            }
            inverse[triangle(i) + j] = s / l[i * d + i];
        }
    }
    unscale(scale, d, inverse);
}

/// The same sums, a row of entries at a time.
fn by_row(l: &[f64], scale: &[f64], d: usize, inverse: &mut [f64]) {
    for (i, l) in l.chunks_exact(d).enumerate() {
        let (above, row) = inverse[..triangle(i + 1)].split_at_mut(triangle(i));
        row.fill(0.0);
        row[i] = 1.0;
        eliminate(row, &l[..i], above);
        for s in row {
            *s /= l[i];
        }
    }
    unscale(scale, d, inverse);
}

/// `row −= Σ_t factors_t above_t` over the rows above it in a packed triangle: a step of forward substitution.
pub fn eliminate(row: &mut [f64], factors: &[f64], above: &[f64]) {
    for (t, factor) in factors.iter().enumerate() {
        for (s, x) in row.iter_mut().zip(&above[triangle(t)..triangle(t + 1)]) {
            *s -= factor * x;
        }
    }
}

/// `X diag(1/scale)`.
#[inline(always)]
fn unscale(scale: &[f64], d: usize, inverse: &mut [f64]) {
    for i in 0..d {
        for (x, scale) in inverse[triangle(i)..triangle(i + 1)].iter_mut().zip(scale) {
            *x /= scale;
        }
    }
}

/// Whether no eigenvalue of a symmetric matrix is below `floor`.
pub fn is_above(matrix: &[f64], d: usize, floor: f64) -> bool {
    with_room(d * d, |shifted| {
        shifted.copy_from_slice(&matrix[..d * d]);
        (0..d).for_each(|j| shifted[j * d + j] -= floor);
        cholesky(shifted, d).is_ok()
    })
}

/// Raises the eigenvalues of a symmetric matrix to at least `floor`; leaves it alone where none is lower, or where it is
/// not finite.
pub fn clip_eigenvalues(matrix: &mut [f64], d: usize, floor: f64) {
    if is_above(matrix, d, floor) || !matrix[..d * d].iter().all(|x| x.is_finite()) {
        return;
    }
    let largest = matrix[..d * d].iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    if largest * d as f64 <= floor {
        // No eigenvalue is larger (Gershgorin 1931).
        matrix[..d * d].fill(0.0);
        (0..d).for_each(|j| matrix[j * d + j] = floor);
        return;
    }
    // In other units squares would overflow, or vanish.
    let unit = if SQUARED.contains(&largest) { 1.0 } else { largest };
    matrix[..d * d].iter_mut().for_each(|x| *x /= unit);
    clip_scaled(matrix, d, floor / unit);
    matrix[..d * d].iter_mut().for_each(|x| *x *= unit);
}

/// Numbers whose squares are accurate, and those of numbers much smaller.
const SQUARED: RangeInclusive<f64> = 1e-100..=1e100;

fn clip_scaled(matrix: &mut [f64], d: usize, floor: f64) {
    if d > RECURRENCE {
        let eigen = MatRef::from_row_major_slice(&*matrix, d, d).self_adjoint_eigen(Side::Lower);
        if let Ok(eigen) = eigen {
            let (values, vectors) = (eigen.S().column_vector(), eigen.U());
            return compose(matrix, d, |t| values[t].max(floor), |i, t| vectors[(i, t)]);
        }
    }
    with_room(d * d, |vectors| {
        jacobi(matrix, vectors, d);
        with_room(d, |values| {
            (0..d).for_each(|t| values[t] = matrix[t * d + t].max(floor));
            compose(matrix, d, |t| values[t], |i, t| vectors[i * d + t]);
        });
    });
}

/// `U diag(values) Uᵀ`.
fn compose(
    matrix: &mut [f64],
    d: usize,
    values: impl Fn(usize) -> f64,
    vectors: impl Fn(usize, usize) -> f64,
) {
    for i in 0..d {
        for j in 0..=i {
            let s = (0..d).map(|t| vectors(i, t) * values(t) * vectors(j, t)).sum();
            matrix[i * d + j] = s;
            matrix[j * d + i] = s;
        }
    }
}

/// `aᵀb`, summed in as many lanes as make it vector code.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, last_a), (b, last_b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut lanes = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = last_a.iter().zip(last_b).map(|(a, b)| a * b).sum();
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]) + rest
}

/// Eigenvalues, and as many vectors of `m` numbers, one after the other.
#[derive(Debug, Default)]
pub struct Eigen {
    /// The eigenvalues, in no order.
    pub values: Vec<f64>,
    /// The vectors.
    pub vectors: Vec<f64>,
}

/// A symmetric matrix `A` in the metric of another, `B`, over the directions in which `B` is not negligible: a basis
/// `W` with `Wᵀ B W = 1`, and `C = Wᵀ A W` (Golub & Van Loan 2013, §8.7.2).
#[derive(Clone, Debug)]
pub struct Pencil {
    m: usize,
    r: usize,
    /// `r` vectors of `m` numbers.
    basis: Vec<f64>,
    c: Vec<f64>,
}

impl Pencil {
    /// None for matrices that are not finite, or where `B` has a diagonal of zeros.
    pub fn new(a: &[f64], b: &[f64], m: usize) -> Option<Self> {
        let basis = with_room(m + m * m, |room| {
            let (scale, unit) = room.split_at_mut(m);
            for (i, s) in scale.iter_mut().enumerate() {
                *s = b[i * m + i].sqrt();
            }
            let finite = |e: usize| ((a[e] + b[e]) / scale[e / m] / scale[e % m]).is_finite();
            if m == 0 || !(0..m * m).all(finite) {
                return None;
            }
            for (e, x) in unit.iter_mut().enumerate() {
                *x = b[e] / scale[e / m] / scale[e % m];
            }
            let mut basis = triangular_basis(unit, m).unwrap_or_else(|| principal_basis(unit, m));
            for vector in basis.chunks_exact_mut(m) {
                vector.iter_mut().zip(&*scale).for_each(|(x, s)| *x /= s);
            }
            Some(basis)
        })?;
        let r = basis.len() / m;
        let mut c = vec![0.0; r * r];
        with_room(m, |image| {
            for (t, w) in basis.chunks_exact(m).enumerate() {
                image.iter_mut().enumerate().for_each(|(i, y)| *y = dot(&a[i * m..][..m], w));
                for (s, v) in basis.chunks_exact(m).enumerate().take(t + 1) {
                    let entry = dot(v, image);
                    (c[s * r + t], c[t * r + s]) = (entry, entry);
                }
            }
        });
        Some(Self { m, r, basis, c })
    }

    /// Eigenvalues and eigenvectors: `A w = h B w`, `wᵀ B w = 1`.
    pub fn eigen(&self) -> Eigen {
        let (m, r) = (self.m, self.r);
        let (mut c, mut q) = (self.c.clone(), vec![0.0; r * r]);
        jacobi(&mut c, &mut q, r);
        let mut vectors = vec![0.0; r * m];
        for (t, vector) in vectors.chunks_exact_mut(m).enumerate() {
            self.combine(|s| q[s * r + t], vector);
        }
        Eigen { values: (0..r).map(|t| c[t * r + t]).collect(), vectors }
    }

    /// Whether no eigenvalue is below `least`.
    pub fn is_above(&self, least: f64) -> bool {
        is_above(&self.c, self.r, least)
    }

    /// Leaves `A⁻¹ x` in the zeros of `y`; gives `xᵀ A⁻¹ x` and `xᵀ B⁻¹ x`. None unless all eigenvalues are above `least`.
    pub fn solve(&self, x: &[f64], least: f64, y: &mut [f64]) -> Option<(f64, f64)> {
        let (m, r) = (self.m, self.r);
        if !self.is_above(least) {
            return None;
        }
        with_room(r * r + r, |room| {
            let (l, z) = room.split_at_mut(r * r);
            l.copy_from_slice(&self.c);
            cholesky(l, r).ok()?;
            z.iter_mut().zip(self.basis.chunks_exact(m)).for_each(|(z, w)| *z = dot(w, x));
            let in_b = dot(z, z);
            for s in 0..r {
                z[s] = (z[s] - dot(&l[s * r..][..s], &z[..s])) / l[s * r + s];
            }
            let in_a = dot(z, z);
            for s in (0..r).rev() {
                let solved: f64 = (s + 1..r).map(|u| l[u * r + s] * z[u]).sum();
                z[s] = (z[s] - solved) / l[s * r + s];
            }
            self.combine(|s| z[s], y);
            Some((in_a, in_b))
        })
    }

    /// Adds up the basis.
    fn combine(&self, by: impl Fn(usize) -> f64, sum: &mut [f64]) {
        for (s, w) in self.basis.chunks_exact(self.m).enumerate() {
            let share = by(s);
            sum.iter_mut().zip(w).for_each(|(y, x)| *y += share * x);
        }
    }
}

/// The squared pivots of a Gram matrix of unit vectors that is far from singular are above this.
const REGULAR: f64 = 1e-3;
/// Eigenvalues of a Gram matrix below this, relative to the largest, are rounding.
const NEGLIGIBLE: f64 = 1e-8;

/// The rows of `L⁻¹`, `B = L Lᵀ`, if `B` is far from singular.
fn triangular_basis(b: &[f64], m: usize) -> Option<Vec<f64>> {
    with_room(m * m + m, |room| {
        let (l, ones) = room.split_at_mut(m * m);
        l.copy_from_slice(b);
        cholesky(l, m).ok()?;
        if (0..m).any(|i| l[i * m + i] * l[i * m + i] < REGULAR) {
            return None;
        }
        ones.fill(1.0);
        let mut basis = vec![0.0; m * m];
        with_room(triangle(m), |packed| {
            inverse_lower(l, ones, m, packed);
            for (i, row) in basis.chunks_exact_mut(m).enumerate() {
                row[..=i].copy_from_slice(&packed[triangle(i)..][..=i]);
            }
        });
        Some(basis)
    })
}

/// `u / √λ` of the eigenvalues and eigenvectors that are not negligible.
fn principal_basis(b: &mut [f64], m: usize) -> Vec<f64> {
    let mut vectors = vec![0.0; m * m];
    jacobi(b, &mut vectors, m);
    let values = || (0..m).map(|t| b[t * m + t]);
    let largest = values().fold(0.0, f64::max);
    let mut basis = Vec::with_capacity(m * m);
    for (t, value) in values().enumerate().filter(|(_, value)| *value > NEGLIGIBLE * largest) {
        basis.extend((0..m).map(|i| vectors[i * m + t] / value.sqrt()));
    }
    basis
}

/// Sweeps of rotations at most; they converge quadratically after the first few.
const SWEEPS: usize = 30;

/// Leaves the eigenvalues of a symmetric matrix on its diagonal and the eigenvectors in the columns of `q`: cyclic Jacobi
/// rotations (Golub & Van Loan 2013, §8.5), which for a handful of rows are faster than what blocked methods set up.
fn jacobi(a: &mut [f64], q: &mut [f64], n: usize) {
    // The same code, compiled for each order that is usual.
    match n {
        2 => sweeps(a, q, 2),
        3 => sweeps(a, q, 3),
        4 => sweeps(a, q, 4),
        5 => sweeps(a, q, 5),
        6 => sweeps(a, q, 6),
        _ => sweeps(a, q, n),
    }
}

/// Off the diagonal this much, relative to it and squared, is rounding: a sweep before, it was the root of it.
const DIAGONAL: f64 = 1e-28;

#[inline(always)]
fn sweeps(a: &mut [f64], q: &mut [f64], n: usize) {
    let (a, q) = (&mut a[..n * n], &mut q[..n * n]);
    (0..n).for_each(|i| q[i * n + i] = 1.0);
    for _ in 0..SWEEPS {
        let diagonal: f64 = (0..n).map(|i| a[i * n + i] * a[i * n + i]).sum();
        let beside = |i: usize| (0..i).map(|j| a[i * n + j] * a[i * n + j]).sum::<f64>();
        if (0..n).map(beside).sum::<f64>() <= DIAGONAL * diagonal {
            return;
        }
        for i in 1..n {
            for j in 0..i {
                rotate(a, q, n, (j, i));
            }
        }
    }
}

/// One rotation, in the plane of two axes, that makes their entry zero.
#[inline(always)]
fn rotate(a: &mut [f64], q: &mut [f64], n: usize, (i, j): (usize, usize)) {
    let entry = a[i * n + j];
    if entry == 0.0 {
        return;
    }
    let before = (a[i * n + i], a[j * n + j]);
    let tau = (before.1 - before.0) / (2.0 * entry);
    let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = t * c;
    let turn = |x: f64, y: f64| (c * x - s * y, s * x + c * y);
    for t in 0..n {
        let turned = turn(a[i * n + t], a[j * n + t]);
        (a[i * n + t], a[j * n + t]) = turned;
        (a[t * n + i], a[t * n + j]) = turned;
        (q[t * n + i], q[t * n + j]) = turn(q[t * n + i], q[t * n + j]);
    }
    (a[i * n + i], a[j * n + j]) = (before.0 - t * entry, before.1 + t * entry);
    (a[i * n + j], a[j * n + i]) = (0.0, 0.0);
}

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

    /// A definite matrix whose off-diagonal entries matter.
    fn definite(d: usize, columns: usize, diagonal: f64) -> Vec<f64> {
        let mut matrix = gram(d, columns);
        (0..d).for_each(|j| matrix[j * d + j] += diagonal + 0.3 * j as f64);
        matrix
    }

    #[test]
    fn pencils_are_diagonalised() {
        for m in [1, 2, 3, 6, 12] {
            let (a, b) = (definite(m, 4, -2.0), definite(m, 7, 1.0));
            let pencil = Pencil::new(&a, &b, m).unwrap();
            let Eigen { values, vectors } = pencil.eigen();
            assert_eq!((values.len(), vectors.len()), (m, m * m));
            let form = |x: &[f64], s: usize, t: usize| {
                let entry = |e: usize| vectors[s * m + e / m] * x[e] * vectors[t * m + e % m];
                (0..m * m).map(entry).sum::<f64>()
            };
            for (s, value) in values.iter().enumerate() {
                for t in 0..m {
                    let expected = if s == t { (1.0, *value) } else { (0.0, 0.0) };
                    assert!((form(&b, s, t) - expected.0).abs() < 1e-10, "{m}");
                    assert!((form(&a, s, t) - expected.1).abs() < 1e-9 * (1.0 + value.abs()), "{m}");
                }
            }
        }
    }

    #[test]
    fn directions_that_depend_on_others_are_left_out() {
        let rows = [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0], [1.0, 1.0, 3.0], [0.0, 2.0, 2.0], [5.0, 0.0, 0.0]];
        let b: Vec<f64> = (0..25).map(|e| dot(&rows[e / 5], &rows[e % 5])).collect();
        let eigen = Pencil::new(&definite(5, 3, 1.0), &b, 5).unwrap().eigen();
        assert_eq!((eigen.values.len(), eigen.vectors.len()), (3, 15));
        assert!(Pencil::new(&[1.0], &[f64::NAN], 1).is_none());
        assert!(Pencil::new(&[1.0], &[0.0], 1).is_none());
        assert!(Pencil::new(&[], &[], 0).is_none());
    }

    #[test]
    fn pencils_are_solved_where_they_are_definite() {
        let m = 4;
        let (a, b) = (definite(m, 3, 0.5), definite(m, 5, 1.0));
        let pencil = Pencil::new(&a, &b, m).unwrap();
        let eigen = pencil.eigen();
        let least = eigen.values.iter().copied().fold(f64::INFINITY, f64::min);
        let x = [1.0, -2.0, 0.5, 3.0];
        let mut y = [0.0; 4];
        assert!(pencil.solve(&x, least * 1.001, &mut y).is_none());
        let (in_a, in_b) = pencil.solve(&x, least * 0.999, &mut y).unwrap();
        for i in 0..m {
            assert!((dot(&a[i * m..][..m], &y) - x[i]).abs() < 1e-10);
        }
        let along: Vec<f64> = eigen.vectors.chunks_exact(m).map(|w| dot(w, &x)).collect();
        let over: f64 = along.iter().zip(&eigen.values).map(|(w, h)| w * w / h).sum();
        assert!((in_a - over).abs() < 1e-10 && (in_a - dot(&x, &y)).abs() < 1e-10);
        assert!((in_b - dot(&along, &along)).abs() < 1e-10);
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

    #[test]
    fn clipping_is_the_same_in_all_units() {
        for (d, rank) in [(3, 2), (8, 5), (9, 5), (20, 12)] {
            let clipped = |unit: f64, floor: f64| {
                let mut matrix: Vec<f64> = gram(d, rank).iter().map(|x| x * unit).collect();
                clip_eigenvalues(&mut matrix, d, floor);
                matrix
            };
            let expected = clipped(1.0, 1e-3);
            for exponent in [-306, -200, -160, -100, 100, 160, 300] {
                let unit = 10.0_f64.powi(exponent);
                for (x, y) in clipped(unit, 1e-3 * unit).iter().zip(&expected) {
                    assert!((x / unit - y).abs() < 1e-12, "{d}, 1e{exponent}: {} {y}", x / unit);
                }
            }
            for unit in [1e-310, 1e-160, 1e-9] {
                let expected: Vec<f64> =
                    (0..d * d).map(|e| if e % (d + 1) == 0 { 0.5 } else { 0.0 }).collect();
                assert_eq!(clipped(unit, 0.5), expected);
            }
        }
    }
}
