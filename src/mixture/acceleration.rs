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
use super::density::Density;
use super::linalg::{dot, with_room, Eigen, Pencil};
use super::model::Model;

/// Steps remembered at most, and at least where there are few coordinates; of points of very many numbers fewer, which
/// serve as well there and would be most of what a fit holds.
const MEMORY: usize = 6;
const LEAST_MEMORY: usize = 3;
const MANY: usize = 1 << 15;
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
    /// Whether what is left to rise was estimated to be within the tolerance, at the last two points.
    within: [bool; 2],
    #[serde(skip)]
    pencil: Option<Pencil>,
    #[serde(skip)]
    step: Option<Step>,
}

/// A step, and the rise of the mean objective it promises.
#[derive(Clone, Debug)]
struct Step {
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

impl Acceleration {
    /// Takes an accepted model and its EM image.
    pub fn observe(&mut self, model: &Model, image: &Model) {
        let Some((point, residual)) = self.place(model, image) else {
            *self = Self { radius: self.radius, ..Self::default() };
            return;
        };
        if point.iter().zip(&self.point).any(|(x, before)| x != before) {
            // A third of the coordinates: more cost more than they save.
            let most = match point.len() {
                MANY.. => LEAST_MEMORY,
                len => (len / 3).clamp(LEAST_MEMORY, MEMORY).min(len),
            };
            remember(&mut self.steps, most, &point, &self.point);
            remember(&mut self.changes, most, &residual, &self.residual);
        }
        self.before = (!self.point.is_empty()).then(|| norm(&self.residual));
        (self.point, self.residual) = (point, residual);
        (self.pencil, self.step) = (None, None);
    }

    /// Point and residual: about the old reference, or about a new one, with nothing remembered, where that is far.
    fn place(&mut self, model: &Model, image: &Model) -> Option<(Vec<f64>, Vec<f64>)> {
        let placed = |coordinates: &Coordinates| {
            let point = coordinates.of(model)?;
            let mut residual = coordinates.of(image)?;
            residual.iter_mut().zip(&point).for_each(|(f, x)| *f -= x);
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

    /// The extrapolated model, at the floor where it would lie below, of the features and structure of the EM image; none
    /// where that promises as much.
    pub fn propose(&mut self, floor: &Floor, image: &Model) -> Option<(Model, Density)> {
        let plain = norm(&self.residual);
        let contracting = self.before.is_none_or(|before| plain < CONTRACTING * before);
        if self.steps.is_empty() || (contracting && !self.extrapolating) {
            return None;
        }
        self.extrapolating = true;
        let Step { step: mut next, rise } = self.step();
        let radius = self.radius.get_or_insert(RADIUS);
        if *radius < plain {
            *radius *= 2.0;
            return None;
        }
        let length = norm(&next);
        let share = (*radius / length).min(1.0);
        let mut square = 0.0;
        for ((next, x), f) in next.iter_mut().zip(&self.point).zip(&self.residual) {
            let moved = x + f + share * (*next - f);
            square += (moved - x) * (moved - x);
            *next = moved;
        }
        self.trial = Trial { length: square.sqrt(), rise: share * rise, cut: share < 1.0 };
        self.coordinates.as_ref()?.model(&next, floor, image)
    }

    /// Whether its points are of one length, as those of a state that was read must be.
    pub fn is_whole(&self) -> bool {
        let mut others = self.steps.iter().chain(&self.changes).chain([&self.residual]);
        self.steps.len() == self.changes.len() && others.all(|other| other.len() == self.point.len())
    }

    /// The proposed model did not raise the objective: what was remembered does not hold here.
    pub fn refused(&mut self) {
        self.radius = Some(0.5 * self.trial.length);
        self.steps.clear();
        self.changes.clear();
        self.extrapolating = false;
        (self.pencil, self.step) = (None, None);
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
        self.within = [self.within[1], self.remains_within(tol)];
        self.within == [true; 2]
    }

    /// Whether `½ fᵀH⁻¹f` and `½ ‖f‖² / min h` are below `tol`; not where some `h` is negative or there are too few steps.
    fn remains_within(&mut self, tol: f64) -> bool {
        let half_square = 0.5 * dot(&self.residual, &self.residual);
        if self.steps.len() < 2 || half_square >= tol {
            return false;
        }
        let step = self.step();
        let newton = 0.5 * dot(&self.residual, &step.step);
        self.step = Some(step);
        newton < tol && self.pencil.as_ref().is_none_or(|pencil| pencil.is_above(half_square / tol))
    }

    /// The step from here.
    fn step(&mut self) -> Step {
        if let Some(step) = self.step.take() {
            return step;
        }
        self.know_pencil();
        let Self { pencil, steps, changes, residual, .. } = self;
        match pencil {
            Some(pencil) => newton(pencil, steps, changes, residual)
                .unwrap_or_else(|| uphill(&pencil.eigen(), steps, changes, residual)),
            None => Step { rise: 0.5 * dot(residual, residual), step: residual.clone() },
        }
    }

    fn know_pencil(&mut self) {
        if self.pencil.is_none() {
            self.pencil = pencil(&self.steps, &self.changes);
        }
    }
}

/// `H` on the span of the steps, where `H Δx_j = −Δf_j`, in the metric of the coordinates.
fn pencil(steps: &[Vec<f64>], changes: &[Vec<f64>]) -> Option<Pencil> {
    let m = steps.len();
    with_room(2 * m * m, |room| {
        let (a, b) = room.split_at_mut(m * m);
        for i in 0..m {
            for j in 0..=i {
                let h = -0.5 * (dot(&steps[i], &changes[j]) + dot(&steps[j], &changes[i]));
                let g = dot(&steps[i], &steps[j]);
                (a[i * m + j], a[j * m + i], b[i * m + j], b[j * m + i]) = (h, h, g, g);
            }
        }
        Pencil::new(a, b, m)
    })
}

/// The step where no curvature is negative or small: with `X` the steps and `F` the changes as columns,
/// `f + (X + F) y`, `y = (Xᵀ H X)⁻¹ Xᵀ f`, which is the same sum over the Ritz pairs without them.
fn newton(pencil: &Pencil, steps: &[Vec<f64>], changes: &[Vec<f64>], residual: &[f64]) -> Option<Step> {
    with_room(2 * steps.len(), |room| {
        let (along, by) = room.split_at_mut(steps.len());
        along.iter_mut().zip(steps).for_each(|(a, step)| *a = dot(step, residual));
        let (longer, within) = pencil.solve(along, LEAST, by)?;
        let mut step = residual.to_vec();
        for ((w, x), f) in by.iter().zip(steps).zip(changes) {
            step.iter_mut().zip(x).zip(f).for_each(|((s, x), f)| *s += w * (x + f));
        }
        Some(Step { step, rise: 0.5 * (longer + dot(residual, residual) - within) })
    })
}

/// The step over the Ritz pairs, uphill where the curvature is negative.
fn uphill(eigen: &Eigen, steps: &[Vec<f64>], changes: &[Vec<f64>], residual: &[f64]) -> Step {
    let (mut step, mut rest) = (residual.to_vec(), residual.to_vec());
    let mut rise = 0.0;
    for (curvature, by) in eigen.values.iter().zip(eigen.vectors.chunks_exact(steps.len().max(1))) {
        let (vector, image) = (combined(steps, by, 1.0), combined(changes, by, -1.0));
        let least = if *curvature > 0.0 { LEAST } else { LEAST_NEGATIVE };
        let along = dot(&vector, &rest);
        let c = along / curvature.abs().max(least);
        rise += c * along - 0.5 * curvature * c * c;
        for (((s, r), v), h) in step.iter_mut().zip(&mut rest).zip(&vector).zip(&image) {
            *s += c * (v - curvature.signum() * h);
            *r -= along * v;
        }
    }
    rise += 0.5 * dot(&rest, &rest);
    Step { step, rise }
}

fn combined(vectors: &[Vec<f64>], by: &[f64], sign: f64) -> Vec<f64> {
    let mut sum = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for (vector, w) in vectors.iter().zip(by) {
        sum.iter_mut().zip(vector).for_each(|(s, x)| *s += sign * w * x);
    }
    sum
}

/// Keeps `a − b` as the last of so many differences, in the place of the oldest.
fn remember(differences: &mut Vec<Vec<f64>>, most: usize, a: &[f64], b: &[f64]) {
    let mut difference = if differences.len() < most { Vec::new() } else { differences.remove(0) };
    difference.clear();
    difference.extend(a.iter().zip(b).map(|(a, b)| a - b));
    differences.push(difference);
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}
