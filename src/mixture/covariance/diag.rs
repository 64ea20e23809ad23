//! `Σ_c = diag(S_c) / W_c` (Celeux & Govaert 1995, model `[λ_k B_k]`).

use ndarray::Array3;

use super::super::statistics::{Scatter, Statistics};
use super::{each, shaped, Floor, PriorCounts, Structure};

pub struct Diag;

impl Structure for Diag {
    fn name(&self) -> &'static str {
        "diag"
    }

    fn scatter(&self) -> Scatter {
        Scatter::Diagonal
    }

    fn shape(&self, k: usize, d: usize) -> (usize, usize, usize) {
        (k, 1, d)
    }

    fn n_parameters(&self, k: usize, d: usize) -> usize {
        k * d
    }

    fn prior_counts(&self, _d: usize, dof: f64) -> PriorCounts {
        PriorCounts { each: dof + 3.0, once: 0.0, scale: 1.0, shared: false }
    }

    fn maximize(&self, statistics: &Statistics, floor: &Floor) -> Array3<f64> {
        let diagonals = each(statistics, Scatter::Diagonal, |v| floor.clip_diagonal(v));
        shaped(self, statistics, diagonals)
    }
}
