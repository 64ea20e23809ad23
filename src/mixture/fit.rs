//! The EM loop as a state machine: [`Em::ask`] gives the model to evaluate, [`Em::tell`] takes its statistics.
//!
//! Whoever reads the rows drives it: threads over memory, a group of a query, a stream. It watches the objective
//! (the log-likelihood), and what it returns is always a model that was evaluated, with that model's own figures.

use serde::{Deserialize, Serialize};

use super::acceleration::Acceleration;
use super::covariance::CovarianceType;
use super::density::Density;
use super::error::{Error, Result};
use super::model::{Model, Training};
use super::pass::{Pass, Passes};
use super::prior::PriorOptions;
use super::regularisation::Regularisation;
use super::rows::Rows;
use super::statistics::Statistics;

/// Options of the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// The structure of the models after the start.
    pub covariance_type: CovarianceType,
    /// M-steps at most.
    pub max_iter: u32,
    /// Stop when the mean log-likelihood rises by less; 0 runs to `max_iter`.
    pub tol: f64,
    /// Smallest eigenvalue of a covariance, in units of the features' variances.
    pub covariance_floor: f64,
    /// Whether steps are extrapolated.
    pub accelerate: bool,
    /// A prior of means and covariances.
    pub prior: Option<PriorOptions>,
}

impl Options {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first option outside its range.
    pub fn check(self) -> Result<Self> {
        if !(self.tol >= 0.0 && self.tol.is_finite()) {
            return Err(option("tol", "a finite number >= 0 (change of the mean log-likelihood)", self.tol));
        }
        if !(self.covariance_floor >= 0.0 && self.covariance_floor < 1.0) {
            let expected = "at least 0 and below 1 (in units of the features' variances)";
            return Err(option("covariance_floor", expected, self.covariance_floor));
        }
        Ok(self)
    }
}

/// The error of an option outside its range.
pub fn option(option: &'static str, expected: &str, got: impl ToString) -> Error {
    Error::Option { option, expected: expected.into(), got: got.to_string() }
}

/// One evaluated iteration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// M-steps since the start.
    pub iteration: u32,
    /// Log-likelihood of the model of that iteration.
    pub log_likelihood: f64,
    /// Rise of the mean objective, the log-likelihood if there is no prior; none for the start.
    pub change: Option<f64>,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The change fell below `tol`.
    Converged,
    /// `max_iter` was reached.
    MaxIter,
    /// The objective fell by more than rounding explains; the model before is returned.
    Stalled,
}

/// The state of the loop, whole: serialised, it goes on elsewhere from where it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Em {
    options: Options,
    canonical: bool,
    iteration: u32,
    asked: Model,
    /// The factors of the asked model, where they are known.
    #[serde(skip)]
    density: Option<Density>,
    /// The EM step to fall back to, where the asked model is an extrapolation.
    plain: Option<Model>,
    accepted: Option<Model>,
    history: Vec<Record>,
    outcome: Option<Outcome>,
    bounds: Option<Regularisation>,
    /// Objective of the accepted model.
    objective: Option<f64>,
    path: Acceleration,
}

/// A fall of the mean objective up to this for each feature is rounding. The measure is the number of features and not
/// the objective itself, which depends on their units.
const ROUNDING: f64 = 1e-12;
/// A fall beyond this is not.
const FALL: f64 = 1e-9;
/// A rise up to this says that nothing moves any more,
const STILL: f64 = 1e-14;
/// and so do rises over this many iterations that together are less than this share of `tol`.
const LULL: (usize, f64) = (10, 1e-3);

impl Em {
    /// A loop that begins at `start`. With `canonical`, components come out in lexicographic order of their means;
    /// without, they keep the order of the start.
    pub fn new(start: Model, options: Options, canonical: bool) -> Self {
        Self {
            options,
            canonical,
            iteration: 0,
            asked: start,
            density: None,
            plain: None,
            accepted: None,
            history: Vec::new(),
            outcome: None,
            bounds: None,
            objective: None,
            path: Acceleration::default(),
        }
    }

    /// The options of the loop.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether options, models, bounds and path belong together, as those of a state that was read must.
    pub fn is_whole(&self) -> bool {
        let (k, d) = (self.asked.k(), self.asked.d());
        let mut models = self.plain.iter().chain(&self.accepted);
        self.options.prior.as_ref().is_none_or(|prior| prior.check(d).is_ok())
            && models.all(|model| (model.k(), model.d()) == (k, d))
            && self.bounds.as_ref().is_none_or(|bounds| bounds.is_of(d))
            && self.path.is_whole()
    }

    /// Whether the loop has ended.
    pub fn is_done(&self) -> bool {
        self.outcome.is_some()
    }

    /// The model to evaluate next.
    pub fn ask(&self) -> &Model {
        &self.asked
    }

    /// Takes the statistics of all rows under the asked model; returns whether the loop is done.
    ///
    /// # Errors
    /// If the log-likelihood is no number, or the M-step fails.
    pub fn tell(&mut self, statistics: &Statistics) -> Result<bool> {
        if self.outcome.is_some() {
            return Ok(true);
        }
        let value = statistics.log_likelihood;
        let bounds = self.bounds.get_or_insert_with(|| Regularisation::new(&self.options, statistics));
        let objective = value + bounds.penalty(&self.asked);
        let change = self.objective.map(|before| (objective - before) / statistics.total_weight);
        let scale = statistics.d() as f64;
        if let Some(plain) = self.plain.take() {
            let risen = change.is_none_or(|rise| rise >= -scale * ROUNDING);
            if !risen {
                self.refuse(plain);
                return Ok(self.outcome.is_some());
            }
            self.path.accepted(change.unwrap_or(0.0));
        }
        if !value.is_finite() {
            return Err(Error::LikelihoodNotFinite { iteration: self.iteration, value });
        }
        // A start may lie outside the structure and floor asked for: climbing begins at the first M-step. And without the
        // model before there is none to return where the objective fell.
        let rise = change.filter(|_| self.iteration > 1 && self.accepted.is_some());
        if let Some(outcome) = self.fallen(rise, scale) {
            self.outcome = Some(outcome);
            return Ok(true);
        }
        let (features, kind) = (self.asked.shared_features(), self.options.covariance_type);
        let bounds = self.bounds.get_or_insert_with(|| Regularisation::new(&self.options, statistics));
        let next = Model::maximize_within(features, kind, statistics, bounds, Some(&self.asked))?;
        self.history.push(Record { iteration: self.iteration, log_likelihood: value, change });
        self.objective = Some(objective);
        if self.options.accelerate || self.options.tol > 0.0 {
            self.path.observe(&self.asked, &next);
        }
        self.outcome = self.risen(rise, scale);
        let evaluated = match self.outcome {
            None => self.advance(next),
            Some(_) => self.asked.clone(),
        };
        self.accepted = Some(with_figures(evaluated, statistics));
        Ok(self.outcome.is_some())
    }

    /// Goes back from a refused extrapolation to the EM step.
    fn refuse(&mut self, plain: Model) {
        self.path.refused();
        (self.asked, self.density) = (plain, None);
        if self.iteration >= self.options.max_iter {
            self.outcome = Some(Outcome::MaxIter);
        } else {
            self.iteration += 1;
        }
    }

    /// Asks for the EM step, or for an extrapolation of it; gives what was asked for before.
    fn advance(&mut self, next: Model) -> Model {
        self.iteration += 1;
        let proposed = match &self.bounds {
            Some(bounds) if self.options.accelerate => self.path.propose(&bounds.floor, &next),
            _ => None,
        };
        let asked = if let Some((model, density)) = proposed {
            (self.density, self.plain) = (Some(density), Some(next));
            model
        } else {
            self.density = None;
            next
        };
        std::mem::replace(&mut self.asked, asked)
    }

    /// Evaluates and maximises over rows in memory until done or for a number of evaluations.
    ///
    /// # Errors
    /// What [`Em::tell`], the factorisation of a model, or the pass returns; the state stays at the last complete step.
    pub fn run(&mut self, rows: &dyn Rows, pass: Pass, evaluations: Option<u32>) -> Result<bool> {
        let form = self.options.covariance_type.structure().scatter();
        self.run_on(&mut Passes::new(rows, pass, form), evaluations)
    }

    /// The same with room for passes that other loops over the same rows and structure have used.
    ///
    /// # Errors
    /// As [`Em::run`].
    pub fn run_on(&mut self, passes: &mut Passes, evaluations: Option<u32>) -> Result<bool> {
        let mut left = evaluations.unwrap_or(u32::MAX);
        while self.outcome.is_none() && left > 0 {
            let density = self.density.take().map_or_else(|| self.asked.density(), Ok)?;
            let statistics = passes.e_step(&density)?;
            self.tell(&statistics)?;
            left -= 1;
        }
        Ok(self.outcome.is_some())
    }

    /// The last model accepted, complete with its figures; none before the first evaluation, and none after the loop
    /// [forgot](Em::forget) it.
    pub fn model(&self) -> Option<Model> {
        let accepted = self.accepted.as_ref()?;
        let mut model = if self.canonical { accepted.sorted() } else { accepted.clone() };
        model.training.n_iter = Some(self.iteration());
        model.training.converged = Some(self.outcome == Some(Outcome::Converged));
        Some(model)
    }

    /// The last model accepted, as it is.
    pub fn accepted(&self) -> Option<&Model> {
        self.accepted.as_ref()
    }

    /// Goes on with the EM step, and forgets the path to it and, unless the loop has ended, the model before: most of what
    /// a loop holds.
    pub fn forget(&mut self) {
        if let Some(plain) = self.plain.take() {
            self.asked = plain;
        }
        (self.density, self.path) = (None, Acceleration::default());
        if !self.is_done() {
            self.accepted = None;
        }
    }

    /// Log-likelihood of that model.
    pub fn log_likelihood(&self) -> Option<f64> {
        self.accepted.as_ref().and_then(|m| m.training.log_likelihood)
    }

    /// What the loop raises: that log-likelihood, and the log-density of the prior.
    pub fn objective(&self) -> Option<f64> {
        self.objective
    }

    /// M-steps taken since the start.
    pub fn iteration(&self) -> u32 {
        self.history.last().map_or(0, |r| r.iteration)
    }

    /// All evaluations.
    pub fn history(&self) -> &[Record] {
        &self.history
    }

    /// How the loop ends where the objective fell. A fall is rounding up to [`ROUNDING`], and may be rounding
    /// magnified by covariances near the floor up to [`FALL`]; then the model before is the better one.
    fn fallen(&self, rise: Option<f64>, scale: f64) -> Option<Outcome> {
        let rise = rise?;
        let tol = self.options.tol;
        if rise < -tol.max(scale * FALL) {
            Some(Outcome::Stalled)
        } else if tol > 0.0 && rise < -scale * ROUNDING {
            Some(Outcome::Converged)
        } else {
            None
        }
    }

    /// Whether the last iterations together rose by next to nothing.
    fn lull(&self) -> bool {
        let (iterations, share) = LULL;
        let last = self.history.iter().rev().take(iterations);
        last.len() == iterations && last.map_while(|r| r.change).sum::<f64>() < share * self.options.tol
    }

    /// How the loop ends where the objective rose: when what is left to rise is estimated to be less than `tol`.
    fn risen(&mut self, rise: Option<f64>, scale: f64) -> Option<Outcome> {
        let tol = self.options.tol;
        let within = tol > 0.0 && self.path.is_within(tol);
        let still = rise.is_some_and(|rise| rise <= scale * STILL) || self.lull();
        if tol > 0.0 && self.iteration > 0 && (within || still) {
            Some(Outcome::Converged)
        } else if self.iteration >= self.options.max_iter {
            Some(Outcome::MaxIter)
        } else {
            None
        }
    }
}

/// An evaluated model, with what its statistics say of it.
fn with_figures(mut model: Model, statistics: &Statistics) -> Model {
    model.training = Training {
        log_likelihood: Some(statistics.log_likelihood),
        entropy: Some(statistics.entropy),
        n_rows: Some(statistics.n_rows),
        total_weight: Some(statistics.total_weight),
        ..Training::default()
    };
    model
}

#[cfg(test)]
mod tests;
