//! The E-step on a block of rows.
//!
//! With `Σ_c⁻¹ = A_cᵀ A_c`, `A_c` lower triangular,
//!
//! ```text
//! ln π_c N(x; μ_c, Σ_c) = ln π_c − ½ d ln 2π + ln det A_c − ½ ‖A_c (x − μ_c)‖²
//! ln p(x)               = max_c + ln Σ_c exp(joint_c − max_c)                      (log-sum-exp)
//! r_c                   = exp(joint_c − ln p(x))
//! ```
//!
//! (Bishop 2006, eq. 2.43 and 9.23.)

use self::log_joint::{panel_row, panels_len, write_panels, LogJoint};
pub use self::nearby::Nearby;
use self::origin::Origin;
use self::scores::{LogSumExp, MostProbable};
use self::softmax::{Largest, LogSoftmax, Smallest, Softmax};
use std::borrow::Cow;
use std::sync::Arc;

use ndarray::Axis;
use smallvec::SmallVec;

use super::error::{Error, Result};
use super::linalg::{
    factor_work, precision_factor, triangle, write_precision_factor, LogDet, NotPositiveDefinite, Numbers,
};
use super::model::Model;
use super::rows::{component_of, Block, LOWEST};
use super::shapes::{self, By, TRIANGULAR};
use super::simd::{Level, EXP_MIN};
use super::statistics::{Guess, Statistics};
use super::team;

mod leading;
mod log_joint;
mod nearby;
mod origin;
mod scores;
mod softmax;

/// A model factorised for evaluation: a constant, a mean and a factor for each component.
#[derive(Clone, Debug)]
pub struct Density {
    level: Level,
    k: usize,
    d: usize,
    log_constant: Numbers,
    means: Numbers,
    origin: Option<Origin>,
    factors: Factors,
    /// What a component's log joint density must exceed, counted from the row's largest, to change statistics.
    negligible: Numbers,
    /// Reciprocals of the deviations, `k·d`; empty where no tree can put rows in order, as are the bounds below.
    reciprocals: Vec<f64>,
    /// Of each covariance `1 / max_i Σ_j |Σ_cij|`.
    row_bounds: Vec<f64>,
}

/// The precision factors of components.
#[derive(Clone, Debug)]
struct Factors {
    form: Form,
    /// Of each covariance the factor, and after it the logarithm of its determinant.
    values: Arc<Numbers>,
    stride: usize,
    /// The factor of each component.
    place: SmallVec<[u32; 8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A packed lower triangle: d(d+1)/2 entries.
    Triangular,
    /// The same in panels of rows.
    Panels,
    /// Reciprocal standard deviations: d entries.
    Diagonal,
}

/// `ln 2⁻⁵³`, and a little: a component whose log-density lies further below the row's largest than this and
/// `ln 1/π_c` adds to its moments, and to the likelihood, less than their rounding error, if `π_c` is about its share of
/// the rows.
const NEGLIGIBLE: f64 = -40.0;
/// Half an ulp of 1, the rounding error of a sum.
const ROUNDING: f64 = 0.5 * f64::EPSILON;
/// A share of all rows that is not lacking, whatever its model weighs it: `exp(NEGLIGIBLE) / ROUNDING`, and a little.
const AMPLE: f64 = 0.04;

/// What a component has where all others are nearer, though all are beyond [`LOWEST`].
const FARTHER: f64 = -f64::MAX;

impl Density {
    /// Factorises the covariances of a model.
    ///
    /// # Errors
    /// The component and feature at which a covariance is singular.
    pub fn new(model: &Model) -> Result<Self> {
        let (k, d) = (model.k(), model.d());
        let factors = Factors::new(model)?;
        let half_log_2pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        let log_weights: Numbers = model.weights().iter().map(|weight| weight.ln()).collect();
        let constant = |(c, log_weight)| log_weight - d as f64 * half_log_2pi + factors.log_det(c);
        let log_constant = log_weights.iter().enumerate().map(constant).collect();
        let means = model.means().iter().copied().collect();
        let negligible = log_weights.into_iter().map(negligible).collect();
        let (reciprocals, row_bounds) = match shapes::order(k, d, factors.form == Form::Diagonal) {
            Some(By::Tree) => reciprocals(model),
            _ => (Vec::new(), Vec::new()),
        };
        Ok(Self {
            level: Level::chosen(),
            k,
            d,
            log_constant,
            means,
            origin: Origin::new(model, &factors),
            factors,
            negligible,
            reciprocals,
            row_bounds,
        })
    }

    /// Number of components.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of features.
    pub fn d(&self) -> usize {
        self.d
    }

    /// The means, `k·d`.
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    /// Leaves out nothing of the components of whose weight these statistics, made under this density, may
    /// [lack](lacks_weight) something; none if there is no such component.
    pub fn thorough(&self, statistics: &Statistics) -> Option<Self> {
        let lacks = |c: usize| lacks(self.negligible[c], statistics.weight()[c], statistics.total_weight);
        if !(0..self.k).any(lacks) {
            return None;
        }
        let mut thorough = self.clone();
        for c in (0..self.k).filter(|c| lacks(*c)) {
            thorough.negligible[c] = EXP_MIN;
        }
        Some(thorough)
    }

    /// First guesses of the means of rows.
    pub fn guess(&self) -> Guess<'_> {
        let origin = self.origin.as_ref().map(|origin| Cow::Borrowed(&origin.point[..]));
        Guess { means: Cow::Borrowed(&self.means), origin, by_row: false }
    }

    /// `½ ln det Σ_c`.
    pub fn half_log_det(&self, c: usize) -> f64 {
        -self.factors.log_det(c)
    }

    /// Leaves the log joint densities of the block's rows in its components, `−∞` for components of weight zero
    /// and for those that a row is known not to belong to.
    pub fn log_joint(&self, block: &mut Block) {
        self.level.run(LogJoint::new(self, block));
        self.settle(block, &[]);
    }

    /// Heeds far rows and labels, where lanes are the components named.
    fn settle(&self, block: &mut Block, components: &[u32]) {
        if self.level.run(Smallest(&block.log_density)) <= LOWEST {
            self.judge_far_rows(block, components);
        }
        if block.keep_labels() {
            self.level.run(Largest { block });
        }
    }

    /// Rows so far from all components that no log joint density is above [`LOWEST`] go to the nearest one.
    fn judge_far_rows(&self, block: &mut Block, components: &[u32]) {
        for i in 0..block.len() {
            let joint = |lane| block.component(lane)[i];
            let candidates: Vec<usize> =
                (0..block.k()).filter(|lane| joint(*lane) > f64::NEG_INFINITY).collect();
            if candidates.iter().any(|lane| joint(*lane) > LOWEST) {
                continue;
            }
            let distance =
                |lane: &usize| self.scaled_distance(component_of(components, *lane), |j| block.feature(j)[i]);
            let distances: Vec<f64> = candidates.iter().map(distance).collect();
            let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
            for (lane, distance) in candidates.into_iter().zip(distances) {
                block.component_mut(lane)[i] = if distance > nearest { FARTHER } else { LOWEST };
            }
        }
    }

    /// `‖A_c (x − μ_c)‖` times a number that keeps it from overflowing.
    fn scaled_distance(&self, c: usize, x: impl Fn(usize) -> f64) -> f64 {
        let mean = &self.means[c * self.d..][..self.d];
        let difference: Vec<f64> =
            mean.iter().enumerate().map(|(j, m)| x(j) * SMALL_UNIT - m * SMALL_UNIT).collect();
        let factor = self.factors.of(c);
        let entry = |i: usize| match self.factors.form {
            Form::Triangular => factor[triangle(i)..].iter().zip(&difference[..=i]).map(|(a, x)| a * x).sum(),
            Form::Panels => panel_row(factor, self.d, i).zip(&difference[..=i]).map(|(a, x)| a * x).sum(),
            Form::Diagonal => factor[i] * difference[i],
        };
        let z: Vec<f64> = (0..self.d).map(entry).collect();
        let largest = z.iter().fold(0.0, |l: f64, z| l.max(z.abs()));
        if largest == 0.0 {
            return 0.0;
        }
        largest * z.iter().map(|z| (z / largest).powi(2)).sum::<f64>().sqrt()
    }

    /// The whole E-step: responsibilities in the block's components, log p and entropy of its rows.
    pub fn responsibilities(&self, block: &mut Block) {
        self.log_joint(block);
        let negligible = &vec![EXP_MIN; self.k];
        self.level.run(Softmax { block, negligible, sparse: false, normalised: true });
    }

    /// The E-step for statistics: what times [its scale](Block::scale) is the share `w r` of the block's rows in its
    /// components, zero where that is too small to change anything; and log p and entropy.
    pub fn shares(&self, block: &mut Block) {
        self.level.run(LogJoint::new(self, block));
        self.settle(block, &[]);
        self.level.run(Softmax { block, negligible: &self.negligible, sparse: false, normalised: false });
    }

    /// log p of the block's rows alone.
    pub fn log_density(&self, block: &mut Block) {
        self.log_joint(block);
        self.level.run(LogSumExp { block });
    }

    /// Writes the most probable component of each row of the block, of equal ones the first.
    pub fn most_probable(&self, block: &mut Block, labels: &mut [u32]) {
        self.log_joint(block);
        self.level.run(MostProbable { block, labels });
    }

    /// Log responsibilities in the block's components, and log p of its rows.
    pub fn log_responsibilities(&self, block: &mut Block) {
        self.log_joint(block);
        self.level.run(LogSoftmax { block });
    }
}

/// [`Density::negligible`] of a component of this log weight.
fn negligible(log_weight: f64) -> f64 {
    EXP_MIN.max(NEGLIGIBLE + log_weight)
}

/// Whether all shares of a component that were left out may be more than the rounding error of its weight: it has far
/// less of the rows than its model says.
fn lacks(negligible: f64, weight: f64, total: f64) -> bool {
    weight < AMPLE * total && negligible > EXP_MIN && weight * ROUNDING < total * negligible.exp()
}

/// Whether [`Density::thorough`] has something to add to statistics made under a model.
pub fn lacks_weight(model: &Model, statistics: &Statistics) -> bool {
    let mut weights = model.weights().iter().zip(statistics.weight());
    weights.any(|(given, found)| lacks(negligible(given.ln()), *found, statistics.total_weight))
}

impl Factors {
    fn new(model: &Model) -> Result<Self> {
        let covariances = model.covariances();
        let d = model.d();
        let form = match covariances.shape()[1] == d {
            true if d <= TRIANGULAR => Form::Triangular,
            true => Form::Panels,
            false => Form::Diagonal,
        };
        let (len, work) = match form {
            Form::Diagonal => (d, d),
            Form::Triangular => (triangle(d), factor_work(d)),
            Form::Panels => (panels_len(d), factor_work(d)),
        };
        let matrices = covariances.len_of(Axis(0));
        let stride = len + 1;
        let mut values = Numbers::from_elem(0.0, matrices * stride);
        team::each_chunk(&mut values, stride, work, |component, chunk| {
            let covariance = covariances.index_axis(Axis(0), component);
            let covariance = covariance.as_standard_layout();
            let entries = covariance.as_slice().unwrap_or_default();
            let (factor, log_det) = chunk.split_at_mut(len);
            let made = match form {
                Form::Triangular => write_precision_factor(entries, d, factor),
                Form::Panels => write_factor_in_panels(entries, d, factor),
                Form::Diagonal => write_reciprocal_deviations(entries, factor),
            };
            let feature = |j: usize| model.features()[j].clone();
            log_det[0] = made.map_err(|e| Error::NotPositiveDefinite { component, feature: feature(e.0) })?;
            Ok(())
        })?;
        let place = (0..model.k()).map(|c| (c % matrices) as u32).collect();
        Ok(Self { form, values: Arc::new(values), stride, place })
    }

    /// The factor of a component, and the logarithm of its determinant last.
    fn chunk(&self, c: usize) -> &[f64] {
        &self.values[self.place[c] as usize * self.stride..][..self.stride]
    }

    fn of(&self, c: usize) -> &[f64] {
        &self.chunk(c)[..self.stride - 1]
    }

    fn log_det(&self, c: usize) -> f64 {
        self.chunk(c)[self.stride - 1]
    }
}

/// `1/√Σ_cjj`, `k·d`, and `1 / max_i Σ_j |Σ_cij|` of the covariances a model has, which one or all components share.
fn reciprocals(model: &Model) -> (Vec<f64>, Vec<f64>) {
    let (k, d, covariances) = (model.k(), model.d(), model.covariances());
    let (mut reciprocals, mut bounds) = (Vec::with_capacity(k * d), Vec::with_capacity(k));
    for c in 0..k {
        let covariance = covariances.index_axis(Axis(0), c % covariances.len_of(Axis(0)));
        let (rows, columns) = covariance.dim();
        let whole = rows == d && columns == d;
        let variance = |j: usize| if whole { covariance[[j, j]] } else { covariance[[0, j % columns]] };
        let sum =
            |i: usize| if whole { covariance.row(i).iter().map(|s| s.abs()).sum() } else { variance(i) };
        reciprocals.extend((0..d).map(|j| 1.0 / variance(j).sqrt()));
        bounds.push(1.0 / (0..d).map(sum).fold(0.0, f64::max));
    }
    (reciprocals, bounds)
}

/// Leaves a precision factor in panels; gives the logarithm of its determinant.
fn write_factor_in_panels(covariance: &[f64], d: usize, factor: &mut [f64]) -> LogDet {
    let (packed, log_det) = precision_factor(covariance, d)?;
    write_panels(&packed, d, factor);
    Ok(log_det)
}

/// Leaves `1/σ_j` of a diagonal of variances, or of one variance for all features; gives the sum of their logs.
fn write_reciprocal_deviations(variances: &[f64], factor: &mut [f64]) -> LogDet {
    let mut log_det = 0.0;
    for (j, reciprocal) in factor.iter_mut().enumerate() {
        let deviation = variances[j % variances.len()].sqrt();
        if !(deviation > 0.0 && deviation.is_finite()) {
            return Err(NotPositiveDefinite(j));
        }
        *reciprocal = 1.0 / deviation;
        log_det -= deviation.ln();
    }
    Ok(log_det)
}

/// 2⁻⁶⁰⁰: a unit in which no feature and no reciprocal of a deviation overflows their product.
const SMALL_UNIT: f64 = f64::from_bits((1023 - 600) << 52);

/// Vectors of rows held in registers at a time.
const GROUP: usize = 4;

#[cfg(test)]
mod tests;
