//! The covariance structures.
//!
//! Covariances of a mixture are one array whose shape tells their form: `k × d × d` matrices, `k × 1 × d`
//! diagonals, `k × 1 × 1` numbers, with `1` in place of `k` where all components share one. Nothing else in
//! the crate asks for the kind: it asks the shape, or the [`Structure`], found by the one match below.

mod diag;
mod floor;
mod full;
mod spherical;
mod tied;

use std::cell::OnceCell;

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::statistics::{Scatter, Statistics};

pub use floor::Floor;

/// Names of the covariance structures, in scikit-learn's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CovarianceType {
    /// A matrix for each component (mclust: VVV).
    Full,
    /// One matrix shared by all components (EEE).
    Tied,
    /// A diagonal for each component (VVI).
    Diag,
    /// One variance for each component (VII).
    Spherical,
}

/// What a covariance structure says of itself.
pub trait Structure: Sync {
    /// scikit-learn's name.
    fn name(&self) -> &'static str;

    /// The scatter it needs.
    fn scatter(&self) -> Scatter;

    /// Shape of its covariances.
    fn shape(&self, k: usize, d: usize) -> (usize, usize, usize);

    /// Free parameters of its covariances.
    fn n_parameters(&self, k: usize, d: usize) -> usize;

    /// The covariances that maximise the expected log-likelihood
    /// `−½ Σ_c W_c (ln det Σ_c + tr(Σ_c⁻¹ S_c / W_c))`
    /// among those of this structure above the floor. Components of weight zero get the pooled covariance.
    fn maximize(&self, statistics: &Statistics, floor: &Floor) -> Array3<f64>;
}

impl CovarianceType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Full, Self::Tied, Self::Diag, Self::Spherical];

    /// The structure of this name: the only match on the kind.
    pub fn structure(self) -> &'static dyn Structure {
        match self {
            Self::Full => &full::Full,
            Self::Tied => &tied::Tied,
            Self::Diag => &diag::Diag,
            Self::Spherical => &spherical::Spherical,
        }
    }

    /// The type of this name.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|t| t.structure().name() == name);
        found.ok_or_else(|| Error::Option {
            option: "covariance_type",
            expected: "one of \"full\", \"tied\", \"diag\", \"spherical\"".into(),
            got: format!("{name:?}"),
        })
    }

    /// The covariances of the next model: [`Structure::maximize`] under a floor in units of the data.
    ///
    /// # Errors
    /// If the statistics hold only the diagonal of the scatter and the structure needs all of it.
    pub fn maximize(self, statistics: &Statistics, covariance_floor: f64) -> Result<Array3<f64>> {
        let structure = self.structure();
        if structure.scatter() == Scatter::Full && statistics.scatter_form() == Scatter::Diagonal {
            return Err(Error::DiagonalScatter { covariance_type: structure.name() });
        }
        Ok(structure.maximize(statistics, &Floor::new(statistics, covariance_floor)))
    }
}

/// The pooled within-component covariance `Σ_c S_c / Σ_c W_c`, whole (`d·d`) or its diagonal (`d`).
fn pooled(statistics: &Statistics, form: Scatter) -> Vec<f64> {
    let total: f64 = statistics.weight().iter().sum();
    let mut sum = vec![0.0; form.covariance_len(statistics.d())];
    for c in 0..statistics.k() {
        for (s, x) in sum.iter_mut().zip(component(statistics, c, form, 1.0)) {
            *s += x;
        }
    }
    for s in &mut sum {
        *s /= total;
    }
    sum
}

/// The scatter of component `c` divided by `weight`, whole (`d·d`) or its diagonal (`d`).
fn component(statistics: &Statistics, c: usize, form: Scatter, weight: f64) -> Vec<f64> {
    let d = statistics.d();
    match form {
        Scatter::Full => {
            let entry = |e: usize| statistics.scatter_entry(c, e / d, e % d) / weight;
            (0..d * d).map(entry).collect()
        }
        Scatter::Diagonal => (0..d).map(|j| statistics.scatter_entry(c, j, j) / weight).collect(),
    }
}

/// A covariance for each component: its own, or the pooled one where the component weighs nothing.
fn each(statistics: &Statistics, form: Scatter, finish: impl Fn(&mut Vec<f64>)) -> Vec<f64> {
    let shared = OnceCell::new();
    let mut covariances = Vec::new();
    for (c, &weight) in statistics.weight().iter().enumerate() {
        let mut covariance = if weight > 0.0 {
            component(statistics, c, form, weight)
        } else {
            shared.get_or_init(|| pooled(statistics, form)).clone()
        };
        finish(&mut covariance);
        covariances.append(&mut covariance);
    }
    covariances
}

/// An array of the structure's shape; the vector has that many entries by construction.
fn shaped(structure: &dyn Structure, statistics: &Statistics, values: Vec<f64>) -> Array3<f64> {
    let shape = structure.shape(statistics.k(), statistics.d());
    let mut array = Array3::zeros(shape);
    for (a, v) in array.iter_mut().zip(values) {
        *a = v;
    }
    array
}
