//! A conjugate prior on means and covariances, for maximum a posteriori fits (Fraley & Raftery 2007, *Bayesian
//! regularization for normal mixture estimation and model-based clustering*, §3 and table 3).
//!
//! ```text
//! μ_c | Σ_c ~ N(μ_p, Σ_c / κ),     Σ_c ~ inverse Wishart(ν, Λ)
//! ```
//!
//! Its M-step is that of maximum likelihood on statistics to which the prior has added its share:
//!
//! ```text
//! m ← (W m + κ μ_p) / (W + κ),     S ← S + Λ + κW / (κ + W) (m − μ_p)(m − μ_p)ᵀ,     W ← W + counts
//! ```
//!
//! with the counts of each covariance structure: `ν + d + 2` for each component of "full".

use serde::{Deserialize, Serialize};

use super::covariance::{CovarianceType, PriorCounts};
use super::error::{Error, Result};
use super::fit::option;
use super::linalg::{asymmetry, precision_factor, triangle};
use super::model::Model;
use super::statistics::{Scatter, Statistics};

/// Hyperparameters as they are given; those that are not come from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorOptions {
    /// `κ`: rows the prior mean counts for.
    pub shrinkage: f64,
    /// `ν`; d + 2 if not given.
    pub dof: Option<f64>,
    /// `μ_p`; the mean of all rows if not given.
    pub mean: Option<Vec<f64>>,
    /// `Λ`, d × d row by row; the covariance of all rows over `k^(2/d)` if not given.
    pub scale: Option<Vec<f64>>,
}

impl PriorOptions {
    /// The number of features that a given mean or scale is for.
    pub fn d(&self) -> Option<usize> {
        let of_scale = || self.scale.as_ref().map(|scale| scale.len().isqrt());
        self.mean.as_ref().map(Vec::len).or_else(of_scale)
    }

    /// Checks the ranges, and the shapes for `d` features.
    ///
    /// # Errors
    /// The first hyperparameter outside its range.
    pub fn check(&self, d: usize) -> Result<()> {
        if !(self.shrinkage >= 0.0 && self.shrinkage.is_finite()) {
            return Err(option("prior.shrinkage", "a finite number >= 0", self.shrinkage));
        }
        if let Some(dof) = self.dof.filter(|dof| !(*dof > d as f64 - 1.0 && dof.is_finite())) {
            let expected = format!("a finite number above d - 1 = {}", d.saturating_sub(1));
            return Err(option("prior.dof", &expected, dof));
        }
        let shapes = [
            ("prior.mean", &self.mean, d, format!("({d},)")),
            ("prior.scale", &self.scale, d * d, format!("({d}, {d})")),
        ];
        for (name, values, len, expected) in shapes {
            let Some(values) = values else { continue };
            if values.len() != len {
                let expected = format!("{expected} for {d} features");
                return Err(Error::Shape { name, expected, got: format!("{} numbers", values.len()) });
            }
            if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                return Err(option(name, "finite numbers", value));
            }
        }
        match &self.scale {
            Some(scale) if asymmetry(d, |i, j| scale[i * d + j]).is_some() => {
                Err(option("prior.scale", "a symmetric matrix", "one that is not"))
            }
            Some(scale) if precision_factor(scale, d).is_err() => {
                Err(option("prior.scale", "a positive definite matrix", "one that is not"))
            }
            _ => Ok(()),
        }
    }
}

/// The hyperparameters of a fit. It takes them once: what the data say must not move between iterations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prior {
    shrinkage: f64,
    dof: f64,
    mean: Vec<f64>,
    /// A matrix, or its diagonal where statistics hold no more.
    scale: Vec<f64>,
}

impl Prior {
    /// The given hyperparameters, and the others by the moments of all rows.
    pub fn new(options: &PriorOptions, statistics: &Statistics) -> Self {
        let (k, d) = (statistics.k(), statistics.d());
        let mut all = statistics.with_components(&[(statistics, 0)]);
        (1..k).for_each(|c| all.merge(&statistics.with_components(&[(statistics, c)])));
        let square = statistics.scatter_form() == Scatter::Full;
        let share = all.weight()[0] * (k as f64).powf(2.0 / d as f64);
        let scale = |e: usize| match &options.scale {
            Some(scale) => scale[e],
            None => all.scatter_entry(0, e / d, e % d) / share,
        };
        Self {
            shrinkage: options.shrinkage,
            dof: options.dof.unwrap_or(d as f64 + 2.0),
            mean: options.mean.clone().unwrap_or_else(|| all.mean().to_vec()),
            scale: if square {
                (0..d * d).map(scale).collect()
            } else {
                (0..d).map(|j| scale(j * d + j)).collect()
            },
        }
    }

    /// Whether it is of so many features.
    pub fn is_of(&self, d: usize) -> bool {
        self.mean.len() == d && (self.scale.len() == d || self.scale.len() == d * d)
    }

    fn scale_entry(&self, i: usize, j: usize) -> f64 {
        let d = self.mean.len();
        if self.scale.len() == d * d && (d > 1 || i == j) {
            self.scale[i * d + j]
        } else if i == j {
            self.scale[i]
        } else {
            0.0
        }
    }

    /// The statistics with the share of the prior added, for the means and covariances of a structure.
    #[must_use]
    pub fn posterior(&self, kind: CovarianceType, statistics: &Statistics) -> Statistics {
        let d = self.mean.len();
        let PriorCounts { each, once, scale, shared } = kind.structure().prior_counts(d, self.dof);
        let form = statistics.scatter_form();
        statistics.clone().with_each(|c, weight, mean, scatter| {
            let total = *weight + self.shrinkage;
            let between = if total > 0.0 { self.shrinkage * *weight / total } else { 0.0 };
            let first = c == 0 || !shared;
            let mut add = |at: usize, i: usize, j: usize| {
                let product = (mean[i] - self.mean[i]) * (mean[j] - self.mean[j]);
                scatter[at] += between * product + if first { scale * self.scale_entry(i, j) } else { 0.0 };
            };
            match form {
                Scatter::Full => {
                    (0..d).for_each(|i| (0..=i).for_each(|j| add(triangle(i) + j, i, j)));
                }
                Scatter::Diagonal => (0..d).for_each(|j| add(j, j, j)),
            }
            for (m, p) in mean.iter_mut().zip(&self.mean) {
                *m = if *weight > 0.0 { (*weight * *m + self.shrinkage * p) / total } else { *p };
            }
            *weight += each + if c == 0 { once } else { 0.0 };
        })
    }

    /// `ln` of the prior density of a model, up to a constant.
    pub fn log_density(&self, model: &Model) -> f64 {
        let d = model.d();
        let PriorCounts { each, once, scale, shared } =
            model.covariance_type().structure().prior_counts(d, self.dof);
        let covariances = model.full_covariances();
        let mut sum = 0.0;
        for (c, covariance) in covariances.outer_iter().enumerate() {
            let entries: Vec<f64> = covariance.iter().copied().collect();
            let Ok((a, log_det)) = precision_factor(&entries, d) else {
                return f64::NEG_INFINITY;
            };
            let first = c == 0 || !shared;
            let count = each + if c == 0 { once } else { 0.0 };
            let moved: Vec<f64> = model.means().row(c).iter().zip(&self.mean).map(|(m, p)| m - p).collect();
            let mut quadratic = 0.0;
            let mut trace = 0.0;
            for i in 0..d {
                let row = &a[triangle(i)..][..=i];
                quadratic += row.iter().zip(&moved).map(|(a, x)| a * x).sum::<f64>().powi(2);
                if first {
                    let inner = |s: usize| (0..=i).map(|t| row[t] * self.scale_entry(s, t)).sum::<f64>();
                    trace += (0..=i).map(|s| row[s] * inner(s)).sum::<f64>();
                }
            }
            sum += count * log_det - 0.5 * (scale * trace + self.shrinkage * quadratic);
        }
        sum
    }
}

#[cfg(test)]
mod tests;
