//! Where EM begins: candidates drawn and tried on one sample of the rows.
//!
//! The sample holds at most `max(2048, 256 k, 8 k (d+1))` rows, those of smallest hash of seed and row number, so
//! that it does not depend on who reads the rows in which order. Candidates are drawn by distances in units of the
//! features' standard deviations and, in turn, in the axes in which the features are uncorrelated, as drawn and, for
//! `k > 2`, after some of Lloyd's iterations. They run side by side on the sample; after each leg those that meet a
//! better one leave, and so does the worse half. Then components of the best that differ are split and merged as long as
//! the objective rises, and of their ends the one with the fewest collapsed components is taken, which are seeded once
//! more. Random responsibilities, whose likelihood after a few iterations says nothing, are drawn once. Where `n_init`
//! is given, so many candidates run until each stops, and the best goes on as it is; a single one goes on as it was
//! drawn.

mod collapse;
mod kmeans;
mod sample;
mod split_merge;

use std::cell::RefCell;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp1;

use super::density::Density;
use super::error::{Error, Result};
use super::fit::{Em, Options};
use super::model::Model;
use super::pass::{block_rows, Pass, Passes};
use super::regularisation::Regularisation;
use super::rows::{Block, Labelled, Labels, Responsibilities, Rows, Sample};
use super::statistics::Statistics;

use kmeans::Scaled;
pub use sample::{candidates, sample_rows, Drawn, Sampler};
use sample::{hash, sample};

/// How a candidate is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Rows belong to the nearest of k rows drawn far apart (Arthur & Vassilvitskii 2007).
    KMeansPlusPlus,
    /// The same, after Lloyd's iterations (Lloyd 1982).
    KMeans,
    /// Responsibilities from a symmetric Dirichlet distribution of concentration 1.
    Random,
}

impl Method {
    /// The method of this name.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "k-means++" => Ok(Self::KMeansPlusPlus),
            "k-means" => Ok(Self::KMeans),
            "random" => Ok(Self::Random),
            _ => Err(Error::Option {
                option: "init",
                expected: "\"k-means++\", \"k-means\", \"random\", a GaussianMixture, or an expression such as pl.col(\"label\")".into(),
                got: format!("{name:?}"),
            }),
        }
    }
}

/// What a drawn start is made of.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Number of components.
    pub k: usize,
    /// How candidates are drawn.
    pub method: Method,
    /// Candidates tried, each until it stops; see the head of this file if not given.
    pub n_init: Option<u32>,
    /// Same seed, same start.
    pub seed: u64,
}

/// Lloyd's iterations at most: of the method that is named after them, and of every other run of candidates.
const LLOYD: usize = 100;
const SHORT_LLOYD: usize = 10;
/// EM iterations on the sample at most, for the last one left and for each where `n_init` is given.
const LONG: u32 = 1000;
/// Mean objectives of candidates that stopped and differ by no more belong to one optimum;
const SAME: f64 = 1e-5;
/// of candidates on their way, where they differ by no more than this and each component is near one of the other.
const CLOSE: f64 = 3e-2;
/// EM iterations the chosen one gets on the sample, when there are so many times more rows than in the sample.
const POLISH: u32 = 100;
const WORTH_POLISH: usize = 4;

/// How much is tried when `n_init` is not given.
#[derive(Clone, Copy)]
struct Effort {
    /// Candidates drawn.
    candidates: u32,
    /// EM steps each of them takes first, not accelerated: on few rows that costs half as much. Two fifths go then.
    warm_up: u32,
    /// Those that are left for the moves between optima.
    finalists: usize,
    /// EM iterations each candidate gets before half of them go.
    leg: u32,
}

/// More where there are more optima, less where each costs much.
const fn effort(k: usize) -> Effort {
    match k {
        0..=2 => Effort { candidates: 8, warm_up: 4, finalists: 2, leg: 4 },
        3..=32 => Effort { candidates: 16, warm_up: 0, finalists: 4, leg: 6 },
        _ => Effort { candidates: 4, warm_up: 0, finalists: 1, leg: 6 },
    }
}

/// The sample, and what is fitted to it how.
#[derive(Clone, Copy)]
struct Search<'a> {
    features: &'a Arc<[String]>,
    sample: &'a Sample,
    /// The component of each row, where it is known; empty where none is.
    label: &'a [Option<u32>],
    options: &'a Options,
    pass: Pass<'a>,
    /// Over the sample, with its labels.
    passes: &'a RefCell<Passes<'a>>,
}

impl Draw {
    /// Draws the start for rows that are known to be valid.
    ///
    /// # Errors
    /// If fewer than `k` rows count, if no candidate's covariances can be factorised, or if interrupted.
    pub fn start(self, features: &[String], rows: &dyn Rows, options: &Options, pass: Pass) -> Result<Model> {
        self.start_sharing(&mut None, features, rows, options, pass)
    }

    /// The same with the sample drawn for an earlier start on these rows, where it serves; else it is drawn anew.
    ///
    /// # Errors
    /// As those of [`Draw::start`].
    pub fn start_sharing(
        self,
        drawn: &mut Option<Drawn>,
        features: &[String],
        rows: &dyn Rows,
        options: &Options,
        pass: Pass,
    ) -> Result<Model> {
        let size = sample_rows(self.k, rows.d());
        let shared = drawn.take().filter(|drawn| drawn.is(size, self.seed));
        let drawn = drawn.insert(shared.unwrap_or_else(|| sample(rows, size, self.seed)));
        self.start_on(features, drawn, rows.n_rows() as u64, options, pass)
    }

    /// Draws the start on a sample of so many rows.
    ///
    /// # Errors
    /// As [`Draw::start`].
    pub fn start_on(
        self,
        features: &[String],
        Drawn { sample, label, complete, .. }: &Drawn,
        n_rows: u64,
        options: &Options,
        pass: Pass,
    ) -> Result<Model> {
        let complete = *complete;
        if sample.n_rows() < self.k {
            return Err(Error::TooFewRows { k: self.k, n_rows: sample.n_rows() as u64 });
        }
        let options = &Options { max_iter: LONG, ..options.clone() };
        let features = &features.into();
        let rows = Labelled { rows: sample, label };
        let passes = &passes(&rows, options, pass);
        let search = Search { features, sample, label, options, pass, passes };
        let scaled = Scaled::new(sample).cancellable(pass.cancelled);
        let mut metrics = vec![scaled.clone(), scaled.clone().whitened()];
        if options.covariance_type.structure().shape(self.k, sample.d()).2 < sample.d() {
            metrics.push(scaled.alike());
        }
        let drawn = |i: u32| {
            let turn = i as usize;
            let lloyd = match self.method {
                Method::KMeans => LLOYD,
                _ if self.k > 2 && turn / metrics.len() % 2 == 1 => SHORT_LLOYD,
                _ => 0,
            };
            self.candidate(search, &metrics[turn % metrics.len()], i, lloyd)
        };
        let model = match self.n_init {
            _ if self.k == 1 => drawn(0)?,
            Some(1) => drawn(0)?,
            None if self.method == Method::Random => drawn(0)?,
            Some(n_init) => best((0..n_init).map(|i| search.improve(drawn(i)?, LONG)))?.1,
            None if !label.is_empty() => {
                let effort = Effort { finalists: 1, ..effort(self.k) };
                best(search.race((0..effort.candidates).map(drawn), effort)?.into_iter().map(Ok))?.1
            }
            None => {
                let effort = effort(self.k);
                let winners = search.race((0..effort.candidates).map(drawn), effort)?;
                let moved = winners
                    .into_iter()
                    .map(|winner| split_merge::split_and_merge(search, winner, self.seed, complete));
                let moved = collapse::soundest(search, moved)?;
                collapse::reseed(search, moved)?.1
            }
        };
        if complete || n_rows < (WORTH_POLISH * sample.n_rows()) as u64 {
            return Ok(model);
        }
        Ok(search.improve(model, POLISH)?.1)
    }

    /// The candidate of this number, after so many of Lloyd's iterations at most.
    fn candidate(self, search: Search, scaled: &Scaled, i: u32, lloyd: usize) -> Result<Model> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(i));
        match self.method {
            Method::Random => search.assigned(&Dirichlet { k: self.k, seed: rng.random() }),
            Method::KMeansPlusPlus | Method::KMeans => {
                let mut centers = scaled.plus_plus_beside(search.label, self.k, &mut rng);
                if search.label.is_empty() {
                    scaled.lloyd(&mut centers, lloyd);
                }
                let mut component = scaled.nearest(&centers).0;
                component.iter_mut().zip(search.label).for_each(|(c, known)| *c = known.or(*c));
                search.assigned(&Labels { k: self.k, component: &component })
            }
        }
    }
}

/// A model and its objective on the sample.
type Scored = (f64, Model);

/// Room for the passes of loops over the same rows.
fn passes<'a>(rows: &'a dyn Rows, options: &Options, pass: Pass<'a>) -> RefCell<Passes<'a>> {
    RefCell::new(Passes::new(rows, pass, options.covariance_type.structure().scatter()))
}

impl Search<'_> {
    /// The M-step from given responsibilities.
    fn assigned(&self, given: &dyn Responsibilities) -> Result<Model> {
        let statistics = self.passes.borrow_mut().assigned(given)?;
        self.maximize(&statistics)
    }

    fn maximize(&self, statistics: &Statistics) -> Result<Model> {
        let bounds = Regularisation::new(self.options, statistics);
        Model::maximize_within(self.features, self.options.covariance_type, statistics, &bounds, None)
    }

    fn statistics(&self, model: &Model) -> Result<Statistics> {
        self.passes.borrow_mut().e_step(&model.density()?)
    }

    /// Calls `visit(start, block)` with the responsibilities of all rows of the sample, block by block.
    fn for_each_block(&self, density: &Density, mut visit: impl FnMut(usize, &Block)) {
        let mut block = Block::default();
        let size = block_rows(density.d(), density.k());
        for start in (0..self.sample.n_rows()).step_by(size) {
            block.load(self.sample, start, size.min(self.sample.n_rows() - start), density.k());
            density.responsibilities(&mut block);
            visit(start, &block);
        }
    }

    /// EM on the sample, for so many iterations at most.
    fn improve(&self, model: Model, max_iter: u32) -> Result<Scored> {
        let mut em = Em::new(model, Options { max_iter, ..self.options.clone() }, false);
        em.run_on(&mut self.passes.borrow_mut(), None)?;
        Ok(scored(&em))
    }

    /// Runs candidates side by side, those that are drawn twice once; after a warm-up and after each leg, which is twice
    /// as long as the one before, those that have met a better one leave, and of the others the better half goes on
    /// (successive halving: Jamieson & Talwalkar 2016). Those that are left run until each stops; where two meet, one
    /// that left in the last leg takes the place. Candidates that fail are passed over as long as one does not.
    fn race(&self, candidates: impl Iterator<Item = Result<Model>>, effort: Effort) -> Result<Vec<Scored>> {
        let mut failure = Error::Interrupted;
        let mut field: Vec<Em> = Vec::new();
        let plain = Options { accelerate: false, tol: 0.0, ..self.options.clone() };
        let first = if effort.warm_up > 0 { &plain } else { self.options };
        for candidate in candidates {
            match candidate {
                Ok(model) if field.iter().any(|em| em.ask().has_components_of(&model)) => {}
                Ok(model) => field.push(Em::new(model, first.clone(), false)),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => failure = error,
            }
        }
        if effort.warm_up > 0 {
            self.leg(&mut field, effort.warm_up, &mut failure)?;
            field.truncate((3 * field.len()).div_ceil(5));
            field = field.iter().map(|em| Em::new(em.ask().clone(), self.options.clone(), false)).collect();
        }
        let mut leg = effort.leg;
        let mut last_to_leave = Vec::new();
        while field.len() > effort.finalists {
            self.leg(&mut field, leg, &mut failure)?;
            last_to_leave = field.split_off(field.len().div_ceil(2));
            leg *= 2;
        }
        let mut found: Vec<Em> = Vec::new();
        for em in field.into_iter().chain(last_to_leave) {
            if found.len() == effort.finalists {
                break;
            }
            found.extend(self.finished(em, &found, effort.leg, &mut failure)?);
        }
        if found.is_empty() {
            return Err(failure);
        }
        Ok(found.iter().map(scored).collect())
    }

    /// Takes the candidates so many iterations further and puts the best first; those that fail, and those that have met
    /// a better one, leave.
    fn leg(&self, field: &mut Vec<Em>, iterations: u32, failure: &mut Error) -> Result<()> {
        let mut interrupted = false;
        field.retain_mut(|em| {
            let ran = if interrupted { Ok(false) } else { self.ran(em, iterations, failure) };
            interrupted |= ran.is_err();
            ran.unwrap_or(false)
        });
        if interrupted {
            return Err(Error::Interrupted);
        }
        field.sort_by(|a, b| objective(b).total_cmp(&objective(a)));
        let mut next = 1;
        while next < field.len() {
            let (better, others) = field.split_at(next);
            if better.iter().any(|better| self.have_met(better, &others[0])) {
                field.remove(next);
            } else {
                next += 1;
            }
        }
        Ok(())
    }

    /// Whether two candidates are on their way to one optimum, or have stopped there.
    fn have_met(&self, a: &Em, b: &Em) -> bool {
        let total: f64 = self.sample.weight.iter().sum();
        let difference = (objective(a) - objective(b)).abs() / total;
        let stopped = a.is_done() && b.is_done() && difference <= self.options.tol.max(SAME);
        stopped || (difference <= CLOSE && a.ask().is_near(b.ask()))
    }

    /// The candidate when it has stopped; none where it meets one of the others before, or fails.
    fn finished(&self, mut em: Em, others: &[Em], leg: u32, failure: &mut Error) -> Result<Option<Em>> {
        while !others.iter().any(|other| self.have_met(other, &em)) {
            if em.is_done() {
                return Ok(Some(em));
            }
            if !self.ran(&mut em, leg, failure)? {
                break;
            }
        }
        Ok(None)
    }

    /// Takes a candidate so many iterations further; false where it fails, for the reason left behind.
    fn ran(&self, em: &mut Em, iterations: u32, failure: &mut Error) -> Result<bool> {
        match em.run_on(&mut self.passes.borrow_mut(), Some(iterations)) {
            Ok(_) => Ok(true),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                *failure = error;
                Ok(false)
            }
        }
    }
}

/// The sample a start of `k` components is drawn on.
#[cfg(test)]
pub fn drawn(rows: &dyn Rows, k: usize, seed: u64) -> Drawn {
    sample(rows, sample_rows(k, rows.d()), seed)
}

fn objective(em: &Em) -> f64 {
    em.objective().unwrap_or(f64::NEG_INFINITY)
}

fn scored(em: &Em) -> Scored {
    (objective(em), em.model().unwrap_or_else(|| em.ask().clone()))
}

/// The candidate of highest objective; candidates that fail are passed over as long as one does not.
fn best(candidates: impl Iterator<Item = Result<Scored>>) -> Result<Scored> {
    best_of(candidates, |candidate, than| candidate.0 > than.0)
}

/// The first candidate that no other is better than, in the same way.
fn best_of<T>(candidates: impl Iterator<Item = Result<T>>, is_better: impl Fn(&T, &T) -> bool) -> Result<T> {
    let mut best: Option<T> = None;
    let mut failure = Error::Interrupted;
    for candidate in candidates {
        match candidate {
            Ok(found) if best.as_ref().is_none_or(|than| is_better(&found, than)) => best = Some(found),
            Ok(_) => {}
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => failure = error,
        }
    }
    best.ok_or(failure)
}

/// The start that given responsibilities, or labels, make by an M-step.
///
/// # Errors
/// If a component has no row, or if interrupted.
pub fn assigned(
    features: &[String],
    rows: &dyn Rows,
    given: &dyn Responsibilities,
    options: &Options,
    pass: Pass,
) -> Result<Model> {
    if rows.n_rows() < given.k() {
        return Err(Error::TooFewRows { k: given.k(), n_rows: rows.n_rows() as u64 });
    }
    let statistics = pass.assigned(rows, given, options.covariance_type.structure().scatter())?;
    maximized(features, &statistics, options)
}

/// The start that statistics of given responsibilities make by an M-step.
///
/// # Errors
/// If a component has no row.
pub fn maximized(features: &[String], statistics: &Statistics, options: &Options) -> Result<Model> {
    if let Some(component) = statistics.weight().iter().position(|w| *w == 0.0) {
        return Err(Error::EmptyStart { component });
    }
    let bounds = Regularisation::new(options, statistics);
    Model::maximize_within(&features.into(), options.covariance_type, statistics, &bounds, None)
}

/// Rows of responsibilities from Dirichlet(1, …, 1): exponentials divided by their sum, made anew for each row.
struct Dirichlet {
    k: usize,
    seed: u64,
}

impl Responsibilities for Dirichlet {
    fn k(&self) -> usize {
        self.k
    }

    fn assign(&self, start: usize, block: &mut Block) {
        let mut draw = vec![0.0; self.k];
        for i in 0..block.len() {
            let mut rng = ChaCha8Rng::seed_from_u64(hash(self.seed, (start + i) as u64));
            draw.fill_with(|| rng.sample::<f64, _>(Exp1));
            let sum: f64 = draw.iter().sum();
            for (c, e) in draw.iter().enumerate() {
                block.component_mut(c)[i] = e / sum;
            }
        }
    }
}

#[cfg(test)]
mod tests;
