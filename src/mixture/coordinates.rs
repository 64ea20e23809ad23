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
use smallvec::smallvec;

use super::covariance::Floor;
use super::density::Density;
use super::linalg::{cholesky, inverse_lower, triangle, with_room, Numbers};
use super::model::Model;

/// A reference, factorised.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Model", into = "Model")]
pub struct Coordinates {
    reference: Model,
    factors: Vec<Factor>,
    /// `√ρ_c` of each component.
    shares: Numbers,
}

/// `R` and `R⁻¹` of a covariance, packed, by the form its shape tells.
#[derive(Clone, Debug)]
enum Factor {
    Triangular { factor: Numbers, inverse: Numbers },
    Diagonal { deviations: Numbers },
}

impl Coordinates {
    /// Coordinates about a reference; none if a covariance cannot be factorised. Components of weight zero have the
    /// coordinates zero.
    pub fn about(reference: &Model) -> Option<Self> {
        let factors = reference.covariances().outer_iter().map(|c| Factor::new(c, reference.d()));
        Some(Self {
            factors: factors.collect::<Option<_>>()?,
            shares: reference.weights().iter().map(|w| w.sqrt()).collect(),
            reference: reference.clone(),
        })
    }

    /// The coordinates of a model of the same structure.
    pub fn of(&self, model: &Model) -> Option<Vec<f64>> {
        if model.covariances().dim() != self.reference.covariances().dim() {
            return None;
        }
        let entries = model.covariances().len() / self.factors.len();
        let of_covariances: usize = self.factors.iter().map(|factor| factor.len(entries)).sum();
        let mut point = Vec::with_capacity(model.weights().len() + model.means().len() + of_covariances);
        for (c, share) in self.shares() {
            point.push(if share == 0.0 { 0.0 } else { share * model.weights()[c].ln() });
            let first = point.len();
            point.extend(model.means().row(c).iter().zip(self.reference.means().row(c)).map(|(m, r)| m - r));
            let moved = &mut point[first..];
            self.factor(c).solve(moved);
            for x in moved {
                *x *= share;
            }
        }
        for ((covariance, factor), share) in
            model.covariances().outer_iter().zip(&self.factors).zip(self.covariance_shares())
        {
            factor.relative(covariance, share, model.d(), &mut point)?;
        }
        point.iter().all(|x| x.is_finite()).then_some(point)
    }

    /// The model of these coordinates, above the floor; none if it lies beyond double precision.
    pub fn model(&self, point: &[f64], floor: &Floor) -> Option<Model> {
        self.evaluable(point, floor).map(|(model, _)| model)
    }

    /// The same model, with its factors.
    pub fn evaluable(&self, point: &[f64], floor: &Floor) -> Option<(Model, Density)> {
        let (k, d) = (self.reference.k(), self.reference.d());
        let mut weights = Array1::zeros(k);
        let mut means = Array2::zeros((k, d));
        let mut rest = point;
        for (c, share) in self.shares() {
            let (own, others) = rest.split_at_checked(d + 1)?;
            rest = others;
            if share == 0.0 {
                weights[c] = f64::NEG_INFINITY;
                means.row_mut(c).assign(&self.reference.means().row(c));
                continue;
            }
            weights[c] = own[0] / share;
            with_room(d, |moved| {
                moved.iter_mut().zip(&own[1..]).for_each(|(m, x)| *m = x / share);
                self.factor(c).multiply(moved);
                let origin = self.reference.means().row(c);
                for (m, (r, x)) in means.row_mut(c).iter_mut().zip(origin.iter().zip(moved)) {
                    *m = r + *x;
                }
            });
        }
        let largest = weights.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        weights.mapv_inplace(|w| (w - largest).exp());
        weights /= weights.sum();
        let mut covariances = Array3::zeros(self.reference.covariances().dim());
        for ((mut covariance, factor), share) in
            covariances.outer_iter_mut().zip(&self.factors).zip(self.covariance_shares())
        {
            let len = factor.len(covariance.len());
            let (own, others) = rest.split_at_checked(len)?;
            rest = others;
            factor.covariance(own, share, d, &mut covariance);
        }
        floor.clip(&mut covariances);
        let model = self.reference.moved(weights, means, covariances).ok()?;
        let density = model.density().ok()?;
        Some((model, density))
    }

    /// How far a point is from the reference: in its farthest coordinate, the weight of the component left out.
    pub fn farthest(&self, point: &[f64]) -> f64 {
        let d = self.reference.d();
        let mut farthest = 0.0_f64;
        let mut rest = point;
        let mut look = |share: f64, origin: f64, len: usize| {
            let (own, others) = rest.split_at(len.min(rest.len()));
            rest = others;
            if share > 0.0 {
                farthest = own.iter().map(|x| (x - origin).abs() / share).fold(farthest, f64::max);
            }
        };
        for (c, share) in self.shares() {
            look(share, share * self.reference.weights()[c].ln(), 1);
            look(share, 0.0, d);
        }
        let entries = self.reference.covariances().len() / self.factors.len();
        for (factor, share) in self.factors.iter().zip(self.covariance_shares()) {
            look(share, 0.0, factor.len(entries));
        }
        farthest
    }

    /// `√ρ_c` of each component.
    fn shares(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.shares.iter().copied().enumerate()
    }

    /// `√ρ_c` of each covariance, 1 for one that all components share.
    fn covariance_shares(&self) -> impl Iterator<Item = f64> + '_ {
        let shared = self.factors.len() == 1;
        self.shares.iter().take(self.factors.len()).map(move |share| if shared { 1.0 } else { *share })
    }

    fn factor(&self, c: usize) -> &Factor {
        &self.factors[c % self.factors.len()]
    }
}

impl TryFrom<Model> for Coordinates {
    type Error = &'static str;

    fn try_from(reference: Model) -> Result<Self, Self::Error> {
        Self::about(&reference).ok_or("a reference must have positive weights and definite covariances")
    }
}

impl From<Coordinates> for Model {
    fn from(coordinates: Coordinates) -> Self {
        coordinates.reference
    }
}

impl Factor {
    fn new(covariance: ArrayView2<f64>, d: usize) -> Option<Self> {
        let entries: Numbers = covariance.iter().copied().collect();
        if covariance.len_of(Axis(0)) != d {
            let deviations: Numbers = entries.iter().map(|v| v.sqrt()).collect();
            return deviations.iter().all(|s| *s > 0.0).then_some(Self::Diagonal { deviations });
        }
        let mut factor = entries;
        cholesky(&mut factor, d).ok()?;
        let mut inverse: Numbers = smallvec![0.0; triangle(d)];
        with_room(d, |ones| {
            ones.fill(1.0);
            inverse_lower(&factor, ones, d, &mut inverse);
        });
        let factor = (0..d).flat_map(|i| &factor[i * d..][..=i]).copied().collect();
        Some(Self::Triangular { factor, inverse })
    }

    /// Coordinates of a covariance that is stored in so many numbers.
    fn len(&self, entries: usize) -> usize {
        match self {
            Self::Triangular { factor, .. } => factor.len(),
            Self::Diagonal { .. } => entries,
        }
    }

    /// `x ← R⁻¹ x`.
    fn solve(&self, x: &mut [f64]) {
        match self {
            Self::Triangular { inverse, .. } => {
                for i in (0..x.len()).rev() {
                    x[i] = inverse[triangle(i)..].iter().zip(&x[..=i]).map(|(a, x)| a * x).sum();
                }
            }
            Self::Diagonal { deviations } => {
                for (j, x) in x.iter_mut().enumerate() {
                    *x /= deviations[j % deviations.len()];
                }
            }
        }
    }

    /// `x ← R x`.
    fn multiply(&self, x: &mut [f64]) {
        match self {
            Self::Triangular { factor, .. } => {
                for i in (0..x.len()).rev() {
                    x[i] = factor[triangle(i)..][..=i].iter().zip(&x[..=i]).map(|(a, x)| a * x).sum();
                }
            }
            Self::Diagonal { deviations } => {
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
            Self::Triangular { inverse, .. } => {
                with_room(d * d, |l| {
                    l.iter_mut().zip(covariance).for_each(|(l, x)| *l = *x);
                    cholesky(l, d).ok()?;
                    for i in 0..d {
                        let row = &inverse[triangle(i)..][..=i];
                        for j in 0..=i {
                            let t: f64 = (j..=i).map(|s| row[s] * l[s * d + j]).sum();
                            let value = if i == j { std::f64::consts::SQRT_2 * t.ln() } else { t };
                            point.push(share * value);
                        }
                    }
                    Some(())
                })?;
            }
            Self::Diagonal { deviations } => {
                let scale = share * (2.0 * d as f64 / deviations.len() as f64).sqrt();
                for (v, s) in covariance.iter().zip(deviations) {
                    point.push(scale * (v.sqrt() / s).ln());
                }
            }
        }
        Some(())
    }

    /// Writes the covariance that has these coordinates.
    fn covariance(&self, own: &[f64], share: f64, d: usize, covariance: &mut ArrayViewMut2<f64>) {
        let share = if share == 0.0 { 1.0 } else { share };
        match self {
            Self::Triangular { factor, .. } => with_room(2 * d * d, |room| {
                let (t, l) = room.split_at_mut(d * d);
                for i in 0..d {
                    for j in 0..=i {
                        let value = own[triangle(i) + j] / share;
                        let on_diagonal = || (value / std::f64::consts::SQRT_2).exp();
                        t[i * d + j] = if i == j { on_diagonal() } else { value };
                    }
                }
                for i in 0..d {
                    for j in 0..=i {
                        l[i * d + j] = (j..=i).map(|s| factor[triangle(i) + s] * t[s * d + j]).sum();
                    }
                }
                for i in 0..d {
                    for j in 0..=i {
                        let entry: f64 = (0..=j).map(|s| l[i * d + s] * l[j * d + s]).sum();
                        covariance[[i, j]] = entry;
                        covariance[[j, i]] = entry;
                    }
                }
            }),
            Self::Diagonal { deviations } => {
                let scale = share * (2.0 * d as f64 / deviations.len() as f64).sqrt();
                for (out, (x, s)) in covariance.iter_mut().zip(own.iter().zip(deviations)) {
                    *out = ((x / scale).exp() * s).powi(2);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
