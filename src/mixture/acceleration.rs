//! Acceleration of EM: a quasi-Newton step in the [`Coordinates`] in which the EM map is nearly symmetric, and what the
//! objective is still to rise.
//!
//! At the point `x_n` EM gives the residual `f_n = EM(x_n) − x_n`. With the derivative `J` of the EM map, the fixed point
//! lies near `x_n + (I − J)⁻¹ f_n`, and half of `fᵀ(I − J)⁻¹f` is what the objective is to rise until there (Aitken's
//! extrapolation in several dimensions: Louis 1982; `McLachlan` & Krishnan 2008, §4.8). The last steps `Δx_j` and
//! changes `Δf_j ≈ (J − I) Δx_j` give `H = I − J` on the space they span by its Rayleigh–Ritz pairs `(h_i, v_i)`,
//! `‖v_i‖ = 1`. Along `v_i` the step is lengthened, and outside of them it stays the one of EM:
//!
//! ```text
//! c_i = v_iᵀf / |h_i|,     x_{n+1} = x_n + f + Σ_i c_i (v_i − sign(h_i) H v_i)
//! ```
//!
//! For positive `h_i` this is Anderson's method (Walker & Ni 2011, type I); where `h_i` is negative, the objective is
//! convex along `v_i` and the step goes uphill instead of to the saddle (Dauphin et al. 2014). Steps stay within a
//! radius that follows how well the rise was predicted (Nocedal & Wright 2006, alg. 4.1).

use serde::{Deserialize, Serialize};

use super::coordinates::Coordinates;
use super::covariance::Floor;
use super::linalg::{dot, generalised_eigen};
use super::model::Model;

/// Steps remembered.
const MEMORY: usize = 6;
/// Curvatures are taken for at least this, upward and downward.
const LEAST: f64 = 1e-3;
const LEAST_NEGATIVE: f64 = 0.05;
/// A point farther from the reference than this, in standard deviations or powers of e, gets a new one.
const FAR: f64 = 2.0;
/// The first radius, as a distance in the coordinates.
const RADIUS: f64 = 1.0;
/// EM that shortens its residual to less than this each time needs no help.
const CONTRACTING: f64 = 0.5;

/// What is remembered of the path of a fit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Acceleration {
    coordinates: Option<Coordinates>,
    point: Vec<f64>,
    residual: Vec<f64>,
    /// Norm of the residual before.
    before: Option<f64>,
    steps: Vec<Vec<f64>>,
    changes: Vec<Vec<f64>>,
    radius: Option<f64>,
    /// The last extrapolation.
    trial: Trial,
    /// Whether steps have been extrapolated since the start or the last refusal.
    extrapolating: bool,
    /// Estimates of what is left to rise, at the last two points.
    left: [Option<f64>; 2],
    /// What lies ahead of the point, once it has been computed.
    #[serde(skip)]
    ahead: Option<Ahead>,
}

/// The smallest curvature known, the step, and the rise of the mean objective it promises.
#[derive(Clone, Debug)]
struct Ahead {
    slowest: f64,
    step: Vec<f64>,
    rise: f64,
}

/// Length and predicted rise of an extrapolated step, and whether the radius cut it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Trial {
    length: f64,
    rise: f64,
    cut: bool,
}

/// A Ritz pair of `H`: the curvature, a unit vector, and `H` times that vector.
#[derive(Clone, Debug)]
struct Pair {
    curvature: f64,
    vector: Vec<f64>,
    image: Vec<f64>,
}

impl Acceleration {
    /// Takes an accepted model and its EM image.
    pub fn observe(&mut self, model: &Model, image: &Model) {
        let Some((point, residual)) = self.place(model, image) else {
            *self = Self { radius: self.radius, ..Self::default() };
            return;
        };
        let step = difference(&point, &self.point);
        if step.iter().any(|x| *x != 0.0) {
            self.steps.push(step);
            self.changes.push(difference(&residual, &self.residual));
            if self.steps.len() > MEMORY.min(point.len()) {
                self.steps.remove(0);
                self.changes.remove(0);
            }
        }
        self.before = (!self.point.is_empty()).then(|| norm(&self.residual));
        (self.point, self.residual) = (point, residual);
        self.ahead = None;
    }

    /// Point and residual: about the old reference, or about a new one, with nothing remembered, where that is far.
    fn place(&mut self, model: &Model, image: &Model) -> Option<(Vec<f64>, Vec<f64>)> {
        let placed = |coordinates: &Coordinates| {
            let point = coordinates.of(model)?;
            let residual = difference(&coordinates.of(image)?, &point);
            Some((coordinates.farthest(&point), point, residual))
        };
        if let Some((distance, point, residual)) = self.coordinates.as_ref().and_then(placed) {
            if distance < FAR {
                return Some((point, residual));
            }
        }
        let coordinates = Coordinates::about(model)?;
        let (_, point, residual) = placed(&coordinates)?;
        *self = Self {
            coordinates: Some(coordinates),
            radius: self.radius,
            extrapolating: self.extrapolating,
            ..Self::default()
        };
        Some((point, residual))
    }

    /// The extrapolated model, at the floor where it would lie below; none where the EM step promises as much.
    pub fn propose(&mut self, floor: &Floor) -> Option<Model> {
        let plain = norm(&self.residual);
        let contracting = self.before.is_none_or(|before| plain < CONTRACTING * before);
        if self.steps.is_empty() || (contracting && !self.extrapolating) {
            return None;
        }
        self.extrapolating = true;
        let Ahead { step, rise, .. } = self.ahead.take().unwrap_or_else(|| self.look_ahead());
        let radius = self.radius.get_or_insert(RADIUS);
        if *radius < plain {
            *radius *= 2.0;
            return None;
        }
        let length = norm(&step);
        let share = (*radius / length).min(1.0);
        let moved = |((x, f), s): ((&f64, &f64), &f64)| x + f + share * (s - f);
        let next: Vec<f64> = self.point.iter().zip(&self.residual).zip(&step).map(moved).collect();
        self.trial =
            Trial { length: norm(&difference(&next, &self.point)), rise: share * rise, cut: share < 1.0 };
        self.coordinates.as_ref()?.model(&next, floor)
    }

    /// The proposed model did not raise the objective: what was remembered does not hold here.
    pub fn refused(&mut self) {
        self.radius = Some(0.5 * self.trial.length);
        self.steps.clear();
        self.changes.clear();
        self.extrapolating = false;
        self.ahead = None;
    }

    /// The proposed model raised the mean objective by this.
    pub fn accepted(&mut self, rise: f64) {
        if rise < 0.25 * self.trial.rise {
            self.radius = Some(0.5 * self.trial.length);
        } else if rise > 0.5 * self.trial.rise && self.trial.cut {
            self.radius = self.radius.map(|r| 2.0 * r);
        }
    }

    /// Whether the mean objective is estimated to rise by less than this until its limit, here and one point before.
    pub fn is_within(&mut self, tol: f64) -> bool {
        self.left = [self.left[1], self.remaining(tol)];
        self.left.iter().all(|left| left.is_some_and(|left| left < tol))
    }

    /// `½ fᵀH⁻¹f`, and no less than `½ ‖f‖² / min h`; unknown where some `h` is negative or there are too few steps, and
    /// where it is clear that it is not below `tol`.
    fn remaining(&mut self, tol: f64) -> Option<f64> {
        let square = dot(&self.residual, &self.residual);
        if self.steps.len() < 2 || 0.5 * square >= tol {
            return None;
        }
        let ahead = self.look_ahead();
        let ahead = self.ahead.insert(ahead);
        let newton = dot(&self.residual, &ahead.step);
        (ahead.slowest > 0.0).then(|| 0.5 * newton.max(square / ahead.slowest))
    }

    fn look_ahead(&self) -> Ahead {
        let (mut step, mut rest) = (self.residual.clone(), self.residual.clone());
        let (mut slowest, mut rise) = (1.0_f64, 0.0);
        for Pair { curvature, vector, image } in ritz(&self.steps, &self.changes) {
            slowest = slowest.min(curvature);
            let least = if curvature > 0.0 { LEAST } else { LEAST_NEGATIVE };
            let along = dot(&vector, &rest);
            let c = along / curvature.abs().max(least);
            rise += c * along - 0.5 * curvature * c * c;
            for (((s, r), v), h) in step.iter_mut().zip(&mut rest).zip(&vector).zip(&image) {
                *s += c * (v - curvature.signum() * h);
                *r -= along * v;
            }
        }
        rise += 0.5 * dot(&rest, &rest);
        Ahead { slowest, step, rise }
    }
}

/// The Ritz pairs of `H` on the span of the steps, where `H Δx_j = −Δf_j`.
fn ritz(steps: &[Vec<f64>], changes: &[Vec<f64>]) -> Vec<Pair> {
    let m = steps.len();
    let mut a = vec![0.0; m * m];
    let mut b = vec![0.0; m * m];
    for i in 0..m {
        for j in 0..=i {
            let h = -0.5 * (dot(&steps[i], &changes[j]) + dot(&steps[j], &changes[i]));
            let g = dot(&steps[i], &steps[j]);
            (a[i * m + j], a[j * m + i], b[i * m + j], b[j * m + i]) = (h, h, g, g);
        }
    }
    let combined = |vectors: &[Vec<f64>], by: &[f64]| {
        let mut sum = vec![0.0; vectors.first().map_or(0, Vec::len)];
        for (vector, w) in vectors.iter().zip(by) {
            sum.iter_mut().zip(vector).for_each(|(s, x)| *s += w * x);
        }
        sum
    };
    let pair = |(curvature, w): (f64, Vec<f64>)| Pair {
        curvature,
        vector: combined(steps, &w),
        image: combined(changes, &w.iter().map(|w| -w).collect::<Vec<f64>>()),
    };
    generalised_eigen(&a, &b, m).unwrap_or_default().into_iter().map(pair).collect()
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}
