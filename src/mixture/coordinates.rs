//! Mixtures as points of a flat space: log weights, means and log-Cholesky factors, relative to a reference.
//!
//! With the reference's weights `ρ_c`, means `ν_c` and Cholesky factors `R_c`, a mixture `(π, μ, Σ = L Lᵀ)` has for
//! each component the coordinates
//!
//! ```text
//! √ρ_c ln π_c,   √ρ_c R_c⁻¹ (μ_c − ν_c),   √ρ_c √2 ln T_jj,   √ρ_c T_ij  (i > j),   T = R_c⁻¹ L_c
//! ```
//!
//! Any vector is a mixture, the coordinates do not depend on the units of the features, and near the reference half a
//! squared distance is the loss of the expected complete log-likelihood per unit of weight (its second-order term:
//! `½ Σ_c ρ_c [(δ ln π_c)² + δμᵀΣ⁻¹δμ + ½ tr (Σ⁻¹δΣ)²]`). In this metric the derivative of the EM map is symmetric.

use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayViewMut2, Axis};

use serde::{Deserialize, Serialize};

use super::covariance::Floor;
use super::density::Density;
use super::linalg::{as_list, cholesky, dot, eliminate, triangle, with_room, Numbers};
use super::model::Model;

/// A reference, factorised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Coordinates {
    #[serde(with = "as_list")]
    weights: Numbers,
    /// `k·d`.
    #[serde(with = "as_list")]
    means: Numbers,
    factors: Vec<Factor>,
}

/// `R` of a covariance, by the form its shape tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Factor {
    /// Packed.
    Triangular(#[serde(with = "as_list")] Numbers),
    /// Deviations.
    Diagonal(#[serde(with = "as_list")] Numbers),
}

impl Coordinates {
    /// Coordinates about a reference; none if a covariance cannot be factorised. Components of weight zero have the
    /// coordinates zero.
    pub fn about(reference: &Model) -> Option<Self> {
        let factors = reference.covariances().outer_iter().map(|c| Factor::new(c, reference.d()));
        Some(Self {
            factors: factors.collect::<Option<_>>()?,
            weights: reference.weights().iter().copied().collect(),
            means: reference.means().iter().copied().collect(),
        })
    }

    /// Whether the reference has the shape of a model.
    fn is_of(&self, model: &Model) -> bool {
        let (k, d) = (model.k(), model.d());
        let (covariances, height, width) = model.covariances().dim();
        (self.weights.len(), self.means.len(), self.factors.len()) == (k, k * d, covariances)
            && self.factors.iter().all(|factor| factor.is_of((height, width), d))
    }

    /// The coordinates of a model of the same structure.
    pub fn of(&self, model: &Model) -> Option<Vec<f64>> {
        if !self.is_of(model) {
            return None;
        }
        let of_covariances: usize = self.factors.iter().map(Factor::len).sum();
        let mut point = Vec::with_capacity(self.weights.len() + self.means.len() + of_covariances);
        for (c, share, origin) in self.components() {
            let weight = model.weights()[c];
            if (weight == 0.0) != (share == 0.0) {
                return None;
            }
            point.push(if share == 0.0 { 0.0 } else { share * weight.ln() });
            let first = point.len();
            point.extend(model.means().row(c).iter().zip(origin).map(|(m, r)| m - r));
            let moved = &mut point[first..];
            self.factor(c).solve(moved);
            scale(moved, share);
        }
        for ((covariance, factor), share) in
            model.covariances().outer_iter().zip(&self.factors).zip(self.covariance_shares())
        {
            factor.relative(covariance, share, model.d(), &mut point)?;
        }
        point.iter().all(|x| x.is_finite()).then_some(point)
    }

    /// The model of these coordinates, above the floor, with its factors and the features and structure of another; none
    /// if it lies beyond double precision.
    pub fn model(&self, point: &[f64], floor: &Floor, like: &Model) -> Option<(Model, Density)> {
        if !self.is_of(like) {
            return None;
        }
        let (k, d) = (like.k(), like.d());
        let mut weights = Array1::zeros(k);
        let mut means = Array2::zeros((k, d));
        let mut rest = point;
        for (c, share, origin) in self.components() {
            let (own, others) = rest.split_at_checked(d + 1)?;
            rest = others;
            let mut mean = means.row_mut(c);
            mean.iter_mut().zip(origin).for_each(|(m, r)| *m = *r);
            if share == 0.0 {
                weights[c] = f64::NEG_INFINITY;
                continue;
            }
            weights[c] = own[0] / share;
            with_room(d, |moved| {
                moved.iter_mut().zip(&own[1..]).for_each(|(m, x)| *m = x / share);
                self.factor(c).multiply(moved);
                mean.iter_mut().zip(moved).for_each(|(m, x)| *m += *x);
            });
        }
        let largest = weights.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        weights.mapv_inplace(|w| (w - largest).exp());
        weights /= weights.sum();
        let mut covariances = Array3::zeros(like.covariances().dim());
        for ((mut covariance, factor), share) in
            covariances.outer_iter_mut().zip(&self.factors).zip(self.covariance_shares())
        {
            let (own, others) = rest.split_at_checked(factor.len())?;
            rest = others;
            factor.covariance(own, share, d, &mut covariance);
        }
        floor.clip(&mut covariances);
        let model = like.moved(weights, means, covariances).ok()?;
        let density = model.density().ok()?;
        Some((model, density))
    }

    /// How far a point is from the reference: in its farthest coordinate, the weight of the component left out.
    pub fn farthest(&self, point: &[f64]) -> f64 {
        let mut farthest = 0.0_f64;
        let mut rest = point;
        let mut look = |share: f64, origin: f64, len: usize| {
            let (own, others) = rest.split_at(len.min(rest.len()));
            rest = others;
            if share > 0.0 {
                farthest = own.iter().map(|x| (x - origin).abs() / share).fold(farthest, f64::max);
            }
        };
        for (c, share, origin) in self.components() {
            look(share, share * self.weights[c].ln(), 1);
            look(share, 0.0, origin.len());
        }
        for (factor, share) in self.factors.iter().zip(self.covariance_shares()) {
            look(share, 0.0, factor.len());
        }
        farthest
    }

    /// Each component, its `√ρ_c` and `ν_c`.
    fn components(&self) -> impl Iterator<Item = (usize, f64, &[f64])> {
        let means = self.means.chunks_exact(self.means.len() / self.weights.len());
        self.weights.iter().zip(means).enumerate().map(|(c, (weight, mean))| (c, weight.sqrt(), mean))
    }

    /// `√ρ_c` of each covariance, 1 for one that all components share.
    fn covariance_shares(&self) -> impl Iterator<Item = f64> + '_ {
        let shared = self.factors.len() == 1;
        self.weights
            .iter()
            .take(self.factors.len())
            .map(move |weight| if shared { 1.0 } else { weight.sqrt() })
    }

    fn factor(&self, c: usize) -> &Factor {
        &self.factors[c % self.factors.len()]
    }
}

impl Factor {
    fn new(covariance: ArrayView2<f64>, d: usize) -> Option<Self> {
        if covariance.len_of(Axis(0)) != d {
            let deviations: Numbers = covariance.iter().map(|v| v.sqrt()).collect();
            return deviations.iter().all(|s| *s > 0.0).then_some(Self::Diagonal(deviations));
        }
        let mut packed = Numbers::with_capacity(triangle(d));
        append_factor(&mut packed, covariance, d)?;
        Some(Self::Triangular(packed))
    }

    /// Whether it is of a covariance of this shape.
    fn is_of(&self, (height, width): (usize, usize), d: usize) -> bool {
        match self {
            Self::Triangular(factor) => height == d && factor.len() == triangle(d),
            Self::Diagonal(deviations) => height != d && deviations.len() == height * width,
        }
    }

    /// Coordinates of a covariance.
    fn len(&self) -> usize {
        match self {
            Self::Triangular(numbers) | Self::Diagonal(numbers) => numbers.len(),
        }
    }

    /// `x ← R⁻¹ x`.
    fn solve(&self, x: &mut [f64]) {
        match self {
            Self::Triangular(factor) => {
                for i in 0..x.len() {
                    let (row, pivot) = row_of(factor, i);
                    x[i] = (x[i] - dot(row, &x[..i])) / pivot;
                }
            }
            Self::Diagonal(deviations) => {
                for (j, x) in x.iter_mut().enumerate() {
                    *x /= deviations[j % deviations.len()];
                }
            }
        }
    }

    /// `x ← R x`.
    fn multiply(&self, x: &mut [f64]) {
        match self {
            Self::Triangular(factor) => {
                for i in (0..x.len()).rev() {
                    let (row, pivot) = row_of(factor, i);
                    x[i] = dot(row, &x[..i]) + pivot * x[i];
                }
            }
            Self::Diagonal(deviations) => {
                for (j, x) in x.iter_mut().enumerate() {
                    *x *= deviations[j % deviations.len()];
                }
            }
        }
    }

    /// Appends the coordinates of a covariance: of `T = R⁻¹ L`, or of the deviations over the reference's.
    fn relative(
        &self,
        covariance: ArrayView2<f64>,
        share: f64,
        d: usize,
        point: &mut Vec<f64>,
    ) -> Option<()> {
        match self {
            Self::Triangular(factor) => {
                let first = point.len();
                append_factor(point, covariance, d)?;
                let t = &mut point[first..];
                for i in 0..d {
                    let (row, pivot) = row_of(factor, i);
                    let (above, own) = t.split_at_mut(triangle(i));
                    let own = &mut own[..=i];
                    eliminate(own, row, above);
                    scale(own, pivot.recip());
                }
                for i in 0..d {
                    let on_diagonal = &mut t[triangle(i) + i];
                    *on_diagonal = std::f64::consts::SQRT_2 * on_diagonal.ln();
                }
                scale(t, share);
            }
            Self::Diagonal(deviations) => {
                let unit = unit_of_deviations(share, d, deviations.len());
                for (v, s) in covariance.iter().zip(deviations) {
                    point.push(unit * (v.sqrt() / s).ln());
                }
            }
        }
        Some(())
    }

    /// Writes the covariance `(R T)(R T)ᵀ` that has these coordinates.
    fn covariance(&self, own: &[f64], share: f64, d: usize, covariance: &mut ArrayViewMut2<f64>) {
        let share = if share == 0.0 { 1.0 } else { share };
        match self {
            Self::Triangular(factor) => with_room(2 * triangle(d), |room| {
                let (t, l) = room.split_at_mut(triangle(d));
                for (t, x) in t.iter_mut().zip(own) {
                    *t = x / share;
                }
                for i in 0..d {
                    let on_diagonal = &mut t[triangle(i) + i];
                    *on_diagonal = (*on_diagonal / std::f64::consts::SQRT_2).exp();
                }
                for i in 0..d {
                    let own = &mut l[triangle(i)..triangle(i + 1)];
                    for (s, r) in factor[triangle(i)..triangle(i + 1)].iter().enumerate() {
                        let row = &t[triangle(s)..triangle(s + 1)];
                        own.iter_mut().zip(row).for_each(|(l, t)| *l += r * t);
                    }
                }
                for i in 0..d {
                    for j in 0..=i {
                        let entry = dot(&l[triangle(i)..][..=j], &l[triangle(j)..][..=j]);
                        covariance[[i, j]] = entry;
                        covariance[[j, i]] = entry;
                    }
                }
            }),
            Self::Diagonal(deviations) => {
                let unit = unit_of_deviations(share, d, deviations.len());
                for (out, (x, s)) in covariance.iter_mut().zip(own.iter().zip(deviations)) {
                    *out = ((x / unit).exp() * s).powi(2);
                }
            }
        }
    }
}

/// What the logarithm of each of some deviations counts for, which stand for those of `d` features.
fn unit_of_deviations(share: f64, d: usize, count: usize) -> f64 {
    share * (2.0 * d as f64 / count as f64).sqrt()
}

/// Row `i` of a packed triangle, up to the diagonal and on it.
fn row_of(packed: &[f64], i: usize) -> (&[f64], f64) {
    (&packed[triangle(i)..][..i], packed[triangle(i) + i])
}

/// `a ← s a`.
fn scale(a: &mut [f64], s: f64) {
    for x in a {
        *x *= s;
    }
}

/// Appends the Cholesky factor of a covariance, packed.
fn append_factor(packed: &mut impl Extend<f64>, covariance: ArrayView2<f64>, d: usize) -> Option<()> {
    with_room(d * d, |l| {
        l.iter_mut().zip(covariance).for_each(|(l, x)| *l = *x);
        cholesky(l, d).ok()?;
        packed.extend((0..d).flat_map(|i| &l[i * d..][..=i]).copied());
        Some(())
    })
}

#[cfg(test)]
mod tests;
