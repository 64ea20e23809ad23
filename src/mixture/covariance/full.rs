//! `Σ_c = S_c / W_c` (Bishop 2006, eq. 9.25).

use ndarray::Array3;

use super::super::statistics::{Scatter, Statistics};
use super::{each, shaped, Floor, PriorCounts, Structure};

pub struct Full;

impl Structure for Full {
    fn name(&self) -> &'static str {
        "full"
    }

    fn scatter(&self) -> Scatter {
        Scatter::Full
    }

    fn shape(&self, k: usize, d: usize) -> (usize, usize, usize) {
        (k, d, d)
    }

    fn n_parameters(&self, k: usize, d: usize) -> usize {
        k * d * (d + 1) / 2
    }

    fn prior_counts(&self, d: usize, dof: f64) -> PriorCounts {
        PriorCounts { each: dof + d as f64 + 2.0, once: 0.0, scale: 1.0, shared: false }
    }

    fn maximize(&self, statistics: &Statistics, floor: &Floor) -> Array3<f64> {
        let matrices = each(statistics, Scatter::Full, |m| floor.clip_matrix(m));
        shaped(self, statistics, matrices)
    }
}
