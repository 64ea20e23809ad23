//! What keeps the M-step in bounds: the covariance floor, and a prior if there is one. A fit takes both once.

use serde::{Deserialize, Serialize};

use super::covariance::Floor;
use super::fit::Options;
use super::model::Model;
use super::prior::Prior;
use super::statistics::Statistics;

/// Floor and prior, in the units of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regularisation {
    /// The smallest covariances there may be.
    pub floor: Floor,
    /// The prior of means and covariances.
    pub prior: Option<Prior>,
}

impl Regularisation {
    /// Floor and prior of these options, by the moments of all rows.
    pub fn new(options: &Options, statistics: &Statistics) -> Self {
        Self {
            floor: Floor::new(statistics, options.covariance_floor),
            prior: options.prior.as_ref().map(|prior| Prior::new(prior, statistics)),
        }
    }

    /// Whether both are of so many features.
    pub fn is_of(&self, d: usize) -> bool {
        self.floor.d() == d && self.prior.as_ref().is_none_or(|prior| prior.is_of(d))
    }

    /// What the objective has besides the log-likelihood: the log-density of the prior, up to a constant.
    pub fn penalty(&self, model: &Model) -> f64 {
        self.prior.as_ref().map_or(0.0, |prior| prior.log_density(model))
    }
}
