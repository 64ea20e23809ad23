//! `Σ_c = σ_c² I` with `σ_c² = tr(S_c) / (d W_c)` (Celeux & Govaert 1995, model `[λ_k I]`).

use ndarray::Array3;

use super::super::statistics::{Scatter, Statistics};
use super::{each, shaped, Floor, PriorCounts, Structure};

pub struct Spherical;

impl Structure for Spherical {
    fn name(&self) -> &'static str {
        "spherical"
    }

    fn scatter(&self) -> Scatter {
        Scatter::Diagonal
    }

    fn shape(&self, k: usize, _d: usize) -> (usize, usize, usize) {
        (k, 1, 1)
    }

    fn n_parameters(&self, k: usize, _d: usize) -> usize {
        k
    }

    fn prior_counts(&self, d: usize, dof: f64) -> PriorCounts {
        let d = d as f64;
        PriorCounts { each: 1.0 + (dof + 2.0) / d, once: 0.0, scale: 1.0 / d, shared: false }
    }

    fn maximize(&self, statistics: &Statistics, floor: &Floor) -> Array3<f64> {
        let diagonals = each(statistics, Scatter::Diagonal, |_| {});
        let variance = |v: &[f64]| floor.clip_variance(v.iter().sum::<f64>() / v.len() as f64);
        let variances = diagonals.chunks_exact(statistics.d().max(1)).map(variance).collect();
        shaped(self, statistics, variances)
    }
}
