//! `Σ_c = S_c / W_c` (Bishop 2006, eq. 9.25).

use ndarray::Array3;

use super::super::statistics::{Scatter, Statistics};
use super::{each, shaped, Floor, Structure};

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

    fn maximize(&self, statistics: &Statistics, floor: &Floor) -> Array3<f64> {
        let matrices = each(statistics, Scatter::Full, |m| floor.clip_matrix(m));
        shaped(self, statistics, matrices)
    }
}
