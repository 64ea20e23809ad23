//! An origin `o` for all components, where their means lie close together: differences from it are taken once, and
//!
//! ```text
//! A_c (x − μ_c) = A_c (x − o) + z_c,   z_c = −A_c (μ_c − o)
//! ```

use super::log_joint::{padded, padding, panel_row};
use super::{Factors, Form};
use crate::mixture::model::Model;
use crate::mixture::shapes::{products, SHARED_ORIGIN};
use crate::mixture::simd::Level;

/// Distance of a mean in deviations of a feature of its component: so many times grows the rounding error of a norm.
const FAR: f64 = 4.0;

#[derive(Clone, Debug)]
pub struct Origin {
    /// Near the mean of the mixture, and of few digits: what is as round lies as far from it as from each mean to the bit.
    pub point: Vec<f64>,
    /// `z_c` of factors in panels, each padded as they are.
    offsets: Vec<f64>,
}

impl Origin {
    /// Unless a mean lies [`FAR`] from it, or nothing is gained by it.
    pub fn new(model: &Model, factors: &Factors) -> Option<Self> {
        let gains = match factors.form {
            Form::Panels => model.k() >= SHARED_ORIGIN,
            Form::Triangular => products(model.k(), model.d(), Level::chosen()),
            Form::Diagonal => false,
        };
        let point = gains.then(|| middle(model)).filter(|point| is_near(model, point))?;
        let offsets = if factors.form == Form::Panels { offsets(model, factors, &point) } else { Vec::new() };
        Some(Self { point, offsets })
    }

    /// `z_c` of a component of `k`, padded; empty where factors are not in panels.
    pub fn offset(&self, c: usize, k: usize) -> &[f64] {
        let len = self.offsets.len() / k.max(1);
        &self.offsets[c * len..][..len]
    }
}

/// The mean of the mixture in whole numbers of a power of two below the least deviation of a feature.
fn middle(model: &Model) -> Vec<f64> {
    let rounded = |(j, mean): (usize, f64)| {
        let least = (0..model.k()).map(|c| model.variance(c, j)).fold(f64::INFINITY, f64::min);
        let unit = power_of_two(least.sqrt());
        (mean / unit).round() * unit
    };
    model.weights().dot(model.means()).into_iter().enumerate().map(rounded).collect()
}

fn is_near(model: &Model, point: &[f64]) -> bool {
    let near =
        |((c, j), mean): ((usize, usize), &f64)| (mean - point[j]).abs() <= FAR * model.variance(c, j).sqrt();
    model.means().indexed_iter().all(near)
}

fn offsets(model: &Model, factors: &Factors, point: &[f64]) -> Vec<f64> {
    let d = model.d();
    let mut offsets = Vec::with_capacity(model.k() * padded(d));
    for (c, mean) in model.means().outer_iter().enumerate() {
        let differences = || point.iter().zip(mean).map(|(o, mean)| o - mean);
        let row = |i| panel_row(factors.of(c), d, i).zip(differences()).map(|(a, x)| a * x).sum::<f64>();
        offsets.extend(std::iter::repeat_n(0.0, padding(d)).chain((0..d).map(row)));
    }
    offsets
}

/// The largest that is not above a positive number.
fn power_of_two(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & f64::INFINITY.to_bits())
}
