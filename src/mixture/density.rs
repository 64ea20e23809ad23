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

use pulp::{Simd, WithSimd};

use super::error::{Error, Result};
use super::linalg::{precision_factor, triangle};
use super::model::Model;
use super::rows::{Block, LOWEST};
use super::simd::{dispatch, exp};

/// A model factorised for evaluation: a constant, a mean and a factor for each component.
#[derive(Clone, Debug)]
pub struct Density {
    k: usize,
    d: usize,
    log_constant: Vec<f64>,
    means: Vec<f64>,
    factors: Factors,
}

/// The precision factors, shared by all components if there is only one.
#[derive(Clone, Debug)]
struct Factors {
    form: Form,
    values: Vec<f64>,
    log_det: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A packed lower triangle: d(d+1)/2 entries.
    Triangular,
    /// Reciprocal standard deviations: d entries.
    Diagonal,
}

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
        let constant = |(c, weight): (usize, &f64)| {
            weight.ln() - d as f64 * half_log_2pi + factors.log_det[c % factors.log_det.len()]
        };
        let log_constant = model.weights().iter().enumerate().map(constant).collect();
        let means = model.means().iter().copied().collect();
        Ok(Self { k, d, log_constant, means, factors })
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

    /// `½ ln det Σ_c`.
    pub fn half_log_det(&self, c: usize) -> f64 {
        -self.factors.log_det[c % self.factors.log_det.len()]
    }

    /// Leaves the log joint densities of the block's rows in its components, `−∞` for components of weight zero
    /// and for those that a row is known not to belong to.
    pub fn log_joint(&self, block: &mut Block) {
        if dispatch(LogJoint { density: self, block }) {
            self.judge_far_rows(block);
        }
        block.keep_labels();
    }

    /// Rows so far from all components that no log joint density is above [`LOWEST`] go to the nearest one.
    fn judge_far_rows(&self, block: &mut Block) {
        for i in 0..block.len() {
            let joint = |c| block.component(c)[i];
            let candidates: Vec<usize> = (0..self.k).filter(|c| joint(*c) > f64::NEG_INFINITY).collect();
            if candidates.iter().any(|c| joint(*c) > LOWEST) {
                continue;
            }
            let distance = |c: &usize| self.scaled_distance(*c, |j| block.feature(j)[i]);
            let distances: Vec<f64> = candidates.iter().map(distance).collect();
            let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
            for (c, distance) in candidates.into_iter().zip(distances) {
                block.component_mut(c)[i] = if distance > nearest { FARTHER } else { LOWEST };
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
        dispatch(Normalise { block });
    }

    /// Log responsibilities in the block's components, and log p of its rows.
    pub fn log_responsibilities(&self, block: &mut Block) {
        self.log_joint(block);
        dispatch(LogNormalise { block });
    }
}

impl Factors {
    fn new(model: &Model) -> Result<Self> {
        let covariances = model.covariances();
        let d = model.d();
        let form = if covariances.shape()[1] == d { Form::Triangular } else { Form::Diagonal };
        let mut factors = Self { form, values: Vec::new(), log_det: Vec::new() };
        for (component, covariance) in covariances.outer_iter().enumerate() {
            let entries: Vec<f64> = covariance.iter().copied().collect();
            let singular =
                |j: usize| Error::NotPositiveDefinite { component, feature: model.features()[j].clone() };
            let (mut factor, log_det) = match form {
                Form::Triangular => precision_factor(&entries, d).map_err(|e| singular(e.0))?,
                Form::Diagonal => reciprocal_deviations(&entries, d).map_err(singular)?,
            };
            factors.values.append(&mut factor);
            factors.log_det.push(log_det);
        }
        Ok(factors)
    }

    fn of(&self, c: usize) -> &[f64] {
        let len = self.values.len() / self.log_det.len();
        &self.values[(c % self.log_det.len()) * len..][..len]
    }
}

/// `1/σ_j` of a diagonal of `d` variances, or of one variance for all features, and the sum of their logs.
fn reciprocal_deviations(variances: &[f64], d: usize) -> std::result::Result<(Vec<f64>, f64), usize> {
    let mut factor = Vec::with_capacity(d);
    let mut log_det = 0.0;
    for j in 0..d {
        let deviation = variances[j % variances.len()].sqrt();
        if !(deviation > 0.0 && deviation.is_finite()) {
            return Err(j);
        }
        factor.push(1.0 / deviation);
        log_det -= deviation.ln();
    }
    Ok((factor, log_det))
}

/// 2⁻⁶⁰⁰: a unit in which no feature and no reciprocal of a deviation overflows their product.
const SMALL_UNIT: f64 = f64::from_bits((1023 - 600) << 52);

/// Vectors of rows held in registers at a time.
const GROUP: usize = 4;

struct LogJoint<'a> {
    density: &'a Density,
    block: &'a mut Block,
}

impl WithSimd for LogJoint<'_> {
    type Output = bool;

    /// Whether some log joint density was at [`LOWEST`].
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { density, block } = self;
        let mut lowest = simd.splat_f64s(0.0);
        let stride = block.stride();
        let mut scratch = std::mem::take(&mut block.scratch);
        scratch.resize(GROUP * S::F64_LANES * density.d, 0.0);
        let (differences, _) = S::as_mut_simd_f64s(&mut scratch);
        let mut joint = std::mem::take(&mut block.responsibilities);
        for (c, joint) in joint.chunks_exact_mut(stride.max(1)).enumerate() {
            let constant = density.log_constant[c];
            if constant == f64::NEG_INFINITY {
                joint.fill(constant);
                continue;
            }
            let mean = &density.means[c * density.d..][..density.d];
            let factor = density.factors.of(c);
            let (out, _) = S::as_mut_simd_f64s(joint);
            for (g, out) in out.chunks_exact_mut(GROUP).enumerate() {
                subtract::<S>(simd, block.features(), stride, g, mean, differences);
                let distance = match density.factors.form {
                    Form::Triangular => triangular_norm::<S>(simd, factor, differences),
                    Form::Diagonal => diagonal_norm::<S>(simd, factor, differences),
                };
                for (out, distance) in out.iter_mut().zip(distance) {
                    let half = simd.splat_f64s(-0.5);
                    let value = simd.mul_add_e_f64s(half, distance, simd.splat_f64s(constant));
                    *out = simd.max_f64s(value, simd.splat_f64s(LOWEST));
                    lowest = simd.min_f64s(*out, lowest);
                }
            }
        }
        block.responsibilities = joint;
        block.scratch = scratch;
        simd.reduce_min_f64s(lowest) <= LOWEST
    }
}

/// `x − μ` for group `g` of the rows, feature after feature.
#[inline(always)]
fn subtract<S: Simd>(
    simd: S,
    features: &[f64],
    stride: usize,
    g: usize,
    mean: &[f64],
    differences: &mut [S::f64s],
) {
    let lanes = features.chunks_exact(stride);
    for ((lane, mean), out) in lanes.zip(mean).zip(differences.chunks_exact_mut(GROUP)) {
        let (x, _) = S::as_simd_f64s(lane);
        let mean = simd.splat_f64s(*mean);
        for (out, x) in out.iter_mut().zip(&x[g * GROUP..][..GROUP]) {
            *out = simd.sub_f64s(*x, mean);
        }
    }
}

/// `‖A (x − μ)‖²`, two rows of the packed triangle at a time.
#[inline(always)]
fn triangular_norm<S: Simd>(simd: S, factor: &[f64], differences: &[S::f64s]) -> [S::f64s; GROUP] {
    let zero = simd.splat_f64s(0.0);
    let mut norm = [zero; GROUP];
    let d = differences.len() / GROUP;
    let mut i = 0;
    while i + 1 < d {
        let upper = &factor[triangle(i)..][..=i];
        let lower = &factor[triangle(i + 1)..][..i + 2];
        let (mut z, mut y) = ([zero; GROUP], [zero; GROUP]);
        for ((a, b), x) in upper.iter().zip(lower).zip(differences.chunks_exact(GROUP)) {
            let (a, b) = (simd.splat_f64s(*a), simd.splat_f64s(*b));
            for v in 0..GROUP {
                z[v] = simd.mul_add_e_f64s(a, x[v], z[v]);
                y[v] = simd.mul_add_e_f64s(b, x[v], y[v]);
            }
        }
        let last = simd.splat_f64s(lower[i + 1]);
        let x = &differences[(i + 1) * GROUP..][..GROUP];
        for v in 0..GROUP {
            y[v] = simd.mul_add_e_f64s(last, x[v], y[v]);
            norm[v] = simd.mul_add_e_f64s(z[v], z[v], norm[v]);
            norm[v] = simd.mul_add_e_f64s(y[v], y[v], norm[v]);
        }
        i += 2;
    }
    if i < d {
        let mut z = [zero; GROUP];
        for (a, x) in factor[triangle(i)..].iter().zip(differences.chunks_exact(GROUP)) {
            let a = simd.splat_f64s(*a);
            for v in 0..GROUP {
                z[v] = simd.mul_add_e_f64s(a, x[v], z[v]);
            }
        }
        for v in 0..GROUP {
            norm[v] = simd.mul_add_e_f64s(z[v], z[v], norm[v]);
        }
    }
    norm
}

/// `Σ_j ((x_j − μ_j) / σ_j)²`.
#[inline(always)]
fn diagonal_norm<S: Simd>(simd: S, factor: &[f64], differences: &[S::f64s]) -> [S::f64s; GROUP] {
    let mut norm = [simd.splat_f64s(0.0); GROUP];
    for (a, x) in factor.iter().zip(differences.chunks_exact(GROUP)) {
        let a = simd.splat_f64s(*a);
        for v in 0..GROUP {
            let z = simd.mul_f64s(a, x[v]);
            norm[v] = simd.mul_add_e_f64s(z, z, norm[v]);
        }
    }
    norm
}

struct Normalise<'a> {
    block: &'a mut Block,
}

impl WithSimd for Normalise<'_> {
    type Output = ();

    /// With `t_c = joint_c − max` and `s = Σ_c exp t_c`: `ln p = max + ln s`, `r_c = exp(t_c) / s`, and the
    /// entropy `−Σ_c r_c ln r_c = ln s − Σ_c exp(t_c) t_c / s`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let block = self.block;
        let stride = block.stride().max(1);
        largest(block);
        let sum = cleared(&mut block.scratch, block.log_density.len());
        block.entropy.fill(0.0);
        for lane in block.responsibilities.chunks_exact_mut(stride) {
            let rows = lane.iter_mut().zip(&block.log_density).zip(sum.iter_mut()).zip(&mut block.entropy);
            for (((x, max), s), h) in rows {
                let t = *x - *max;
                let e = exp::<S>(t);
                *x = e;
                *s += e;
                *h += if e > 0.0 { e * t } else { 0.0 };
            }
        }
        for ((m, s), h) in block.log_density.iter_mut().zip(sum.iter_mut()).zip(&mut block.entropy) {
            let log_sum = s.ln();
            *m += log_sum;
            *h = log_sum - *h / *s;
            *s = 1.0 / *s;
        }
        for lane in block.responsibilities.chunks_exact_mut(stride) {
            for (x, s) in lane.iter_mut().zip(sum.iter()) {
                *x *= s;
            }
        }
    }
}

struct LogNormalise<'a> {
    block: &'a mut Block,
}

impl WithSimd for LogNormalise<'_> {
    type Output = ();

    /// `ln r_c = (joint_c − max) − ln s`: the large terms cancel first.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let block = self.block;
        let stride = block.stride().max(1);
        largest(block);
        let sum = cleared(&mut block.scratch, block.log_density.len());
        for lane in block.responsibilities.chunks_exact_mut(stride) {
            for ((x, max), s) in lane.iter_mut().zip(&block.log_density).zip(sum.iter_mut()) {
                *x -= max;
                *s += exp::<S>(*x);
            }
        }
        for (m, s) in block.log_density.iter_mut().zip(sum.iter_mut()) {
            *s = s.ln();
            *m += *s;
        }
        for lane in block.responsibilities.chunks_exact_mut(stride) {
            for (x, log_sum) in lane.iter_mut().zip(sum.iter()) {
                *x -= log_sum;
            }
        }
    }
}

/// Leaves the largest log joint density of each row in the place of its log density.
#[inline(always)]
fn largest(block: &mut Block) {
    block.log_density.fill(LOWEST);
    for lane in block.responsibilities.chunks_exact(block.log_density.len().max(1)) {
        for (m, x) in block.log_density.iter_mut().zip(lane) {
            *m = if *x > *m { *x } else { *m };
        }
    }
}

fn cleared(lane: &mut Vec<f64>, len: usize) -> &mut Vec<f64> {
    lane.clear();
    lane.resize(len, 0.0);
    lane
}

#[cfg(test)]
mod tests;
