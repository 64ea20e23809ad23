//! The covariance floor: no eigenvalue of `D^-½ Σ D^-½` may lie below it, `D` the variances of the features.
//!
//! A floor is a constraint, not a ridge: clipping the eigenvalues maximises the likelihood under it for every
//! structure of this folder (the objective separates along the eigenvectors of the scatter once it is in units
//! of `D`), so that EM never falls and covariances above the floor are untouched.

use super::super::linalg::clip_eigenvalues;
use super::super::statistics::Statistics;

/// A floor and the units it is in.
pub struct Floor {
    floor: f64,
    /// Variance of each feature over all rows; see [`Floor::new`] for constant features.
    unit: Vec<f64>,
}

impl Floor {
    /// The units are the variances of the features over all rows of the statistics. A feature that is constant,
    /// to rounding, has its squared value for a unit, and 1 where that is zero.
    pub fn new(statistics: &Statistics, floor: f64) -> Self {
        let unit = (0..statistics.d()).map(|j| unit(statistics, j)).collect();
        Self { floor, unit }
    }

    /// Clips a `d × d` covariance.
    pub fn clip_matrix(&self, covariance: &mut [f64]) {
        if self.floor == 0.0 {
            return;
        }
        let d = self.unit.len();
        let scale: Vec<f64> = self.unit.iter().map(|u| u.sqrt()).collect();
        let units = |e: usize| scale[e / d] * scale[e % d];
        let mut scaled: Vec<f64> = (0..d * d).map(|e| covariance[e] / units(e)).collect();
        let before = scaled.clone();
        clip_eigenvalues(&mut scaled, d, self.floor);
        if scaled != before {
            for (e, s) in scaled.iter().enumerate() {
                covariance[e] = s * units(e);
            }
        }
    }

    /// Clips the variances of a diagonal covariance.
    pub fn clip_diagonal(&self, variances: &mut [f64]) {
        for (v, u) in variances.iter_mut().zip(&self.unit) {
            *v = v.max(self.floor * u);
        }
    }

    /// Clips a variance shared by all features.
    pub fn clip_variance(&self, variance: f64) -> f64 {
        self.unit.iter().fold(variance, |v, u| v.max(self.floor * u))
    }
}

/// Total variance of feature `j`: within components and between their means.
fn unit(statistics: &Statistics, j: usize) -> f64 {
    let weights = statistics.weight();
    let total: f64 = weights.iter().sum();
    let means = |c: usize| statistics.mean()[c * statistics.d() + j];
    let weighted = |c: usize| weights[c] / total * means(c);
    let mean: f64 = (0..weights.len()).map(weighted).sum();
    let spread = |c: usize| statistics.scatter_entry(c, j, j) + weights[c] * (means(c) - mean).powi(2);
    let variance = (0..weights.len()).map(spread).sum::<f64>() / total;
    if variance.sqrt() > 8.0 * f64::EPSILON * mean.abs() {
        variance
    } else if mean * mean > 0.0 {
        mean * mean
    } else {
        1.0
    }
}
