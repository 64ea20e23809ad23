//! An origin `o` for all components, where their means lie close together: differences from it are taken once, and
//!
//! ```text
//! A_c (x − μ_c) = A_c (x − o) + z_c,   z_c = −A_c (μ_c − o)
//! ```

use super::log_joint::{panel_row, PANEL};
use super::{Factors, Form};
use crate::mixture::model::Model;
use crate::mixture::simd::Level;
use crate::mixture::statistics::products_are_worth;

/// Components from which an origin is worth its differences.
pub const SEVERAL: usize = 4;
/// Squared distance, in variances of a feature of a component: so many times grows the rounding error of a scatter that is
/// taken about a point so far from the mean, and as its root that of a norm.
const FAR: f64 = 16.0;

#[derive(Clone, Debug)]
pub struct Origin {
    /// The mean of the mixture.
    pub point: Vec<f64>,
    /// `z_c` of factors in panels, each padded as they are.
    offsets: Vec<f64>,
}

impl Origin {
    /// Unless a mean lies [`FAR`] from it, or nothing is gained by it.
    pub fn new(model: &Model, factors: &Factors) -> Option<Self> {
        let (k, d) = (model.k(), model.d());
        let gains = match factors.form {
            Form::Panels => k >= SEVERAL,
            Form::Triangular => products_are_worth(k, d, Level::chosen()),
            Form::Diagonal => false,
        };
        if !gains {
            return None;
        }
        let point = model.weights().dot(model.means()).to_vec();
        let near =
            |((c, j), mean): ((usize, usize), &f64)| (mean - point[j]).powi(2) <= FAR * model.variance(c, j);
        if !model.means().indexed_iter().all(near) {
            return None;
        }
        let mut offsets = Vec::new();
        if factors.form == Form::Panels {
            for (c, mean) in model.means().outer_iter().enumerate() {
                let difference: Vec<f64> = mean.iter().zip(&point).map(|(mean, o)| o - mean).collect();
                let row = |i| panel_row(factors.of(c), i).zip(&difference).map(|(a, x)| a * x).sum::<f64>();
                offsets.extend((0..d).map(row));
                offsets.resize(offsets.len().next_multiple_of(PANEL), 0.0);
            }
        }
        Some(Self { point, offsets })
    }

    /// `z_c` of a component of `k`, padded; empty where factors are not in panels.
    pub fn offset(&self, c: usize, k: usize) -> &[f64] {
        let len = self.offsets.len() / k.max(1);
        &self.offsets[c * len..][..len]
    }
}
