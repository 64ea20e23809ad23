//! `Σ_c = Σ = Σ_c S_c / Σ_c W_c` (Celeux & Govaert 1995, model `[λDAD']`).

use ndarray::Array3;

use super::super::statistics::{Scatter, Statistics};
use super::{pooled, shaped, Floor, PriorCounts, Structure};

pub struct Tied;

impl Structure for Tied {
    fn name(&self) -> &'static str {
        "tied"
    }

    fn scatter(&self) -> Scatter {
        Scatter::Full
    }

    fn shape(&self, _k: usize, d: usize) -> (usize, usize, usize) {
        (1, d, d)
    }

    fn n_parameters(&self, _k: usize, d: usize) -> usize {
        d * (d + 1) / 2
    }

    fn prior_counts(&self, d: usize, dof: f64) -> PriorCounts {
        PriorCounts { each: 1.0, once: dof + d as f64 + 1.0, scale: 1.0, shared: true }
    }

    fn maximize(&self, statistics: &Statistics, floor: &Floor) -> Array3<f64> {
        let mut matrix = pooled(statistics, Scatter::Full);
        floor.clip_matrix(&mut matrix);
        shaped(self, statistics, matrix)
    }
}
