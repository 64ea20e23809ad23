//! Where EM begins: candidates drawn and tried on one sample of the rows.
//!
//! The sample holds `max(2048, 256 k, 8 k (d+1))` rows, those of smallest hash of seed and row number, or all rows
//! where that would be half of them or more; so that it does not depend on who reads the rows in which order.
//! Candidates are drawn by distances in units of the features' standard deviations and, in turn, in the axes in which
//! the features are uncorrelated, as drawn and, for `k > 2`, after some of Lloyd's iterations. They run side by side on
//! the sample; after each leg those that meet a better one leave, and so does the worse half. Then components of the
//! best that differ are split and merged as long as the objective rises, and of their ends the one with the fewest
//! collapsed components is taken, which are seeded once more. Random responsibilities, whose likelihood after a few
//! iterations says nothing, are drawn once. Where `n_init` is given, so many candidates run until each stops, and the
//! best goes on as it is; a single one goes on as it was drawn.

mod collapse;
mod kmeans;
mod race;
mod sample;
mod split_merge;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp1;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::covariance::CovarianceType;
use super::density::Density;
use super::error::{Error, Result};
use super::fit::{Em, Options};
use super::model::Model;
use super::pass::{Execution, Pass, Passes};
use super::regularisation::Regularisation;
use super::rows::{Block, Labelled, Labels, Responsibilities, Rows, Sample};
use super::shapes::block_rows;
use super::statistics::{Scatter, Statistics};

use kmeans::Scaled;
pub use sample::{candidates, sample_rows, Candidate, Drawn, Sampler};
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
/// Where the sample holds but some of the rows, EM on it stops where what is left to rise is this share of what the
/// likelihood of other rows loses by the sampling error of the parameters, `½ p/n` (Akaike 1974).
const SAMPLING: f64 = 0.01;
/// EM iterations the chosen one gets on the sample, when there are so many times more rows than in the sample.
const POLISH: u32 = 100;
const WORTH_POLISH: usize = 4;

/// Numbers of the covariances from which on candidates are few and run one after the other, each on all threads: they
/// would take more memory than the rest of the fit, and more time.
const LARGE: usize = 1 << 14;
/// Candidates that are drawn at once where `n_init` is given.
const BATCH: usize = 16;

/// How much is tried when `n_init` is not given.
#[derive(Clone, Copy)]
struct Effort {
    /// Candidates drawn.
    candidates: u32,
    /// EM steps each of them takes first, not accelerated: on few rows that costs half as much.
    warm_up: u32,
    /// Those that go on then.
    warm: usize,
    /// Those that are left for the moves between optima; one more where all of them have collapsed.
    finalists: usize,
    /// EM iterations each candidate gets before half of them go.
    leg: u32,
}

/// More where there are more optima, less where each costs much.
const fn effort(k: usize, large: bool) -> Effort {
    match k {
        0..=2 if !large => Effort { candidates: 8, warm_up: 1, warm: 3, finalists: 1, leg: 4 },
        0..=2 => Effort { candidates: 8, warm_up: 0, warm: 8, finalists: 1, leg: 6 },
        3..=32 if !large => Effort { candidates: 16, warm_up: 0, warm: 16, finalists: 4, leg: 6 },
        _ => Effort { candidates: 4, warm_up: 0, warm: 4, finalists: 1, leg: 6 },
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
    /// Whether models are large: see [`LARGE`].
    large: bool,
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
        let (k, d, kind) = (self.k, sample.d(), options.covariance_type);
        let tol = if complete { options.tol } else { options.tol.max(sampling_error(kind, k, sample)) };
        let options = &Options { max_iter: LONG, tol, ..options.clone() };
        let features = &features.into();
        let large = k * kind.structure().scatter().covariance_len(d) > LARGE;
        let rows = Labelled { rows: sample, label };
        let passes = &passes(&rows, options, pass);
        let search = Search { features, sample, label, options, pass, passes, large };
        let effort = effort(k, large);
        let model = match self.n_init {
            _ if self.k == 1 => self.only(search)?,
            Some(1) => self.only(search)?,
            None if self.method == Method::Random => self.only(search)?,
            Some(n_init) => self.best_of(search, n_init)?,
            None if !label.is_empty() => {
                let effort = Effort { finalists: 1, ..effort };
                let drawn = self.drawn(search, 0..effort.candidates);
                best(race::race(search, drawn, effort)?.into_iter().map(Ok))?.1
            }
            None => {
                let winners = race::race(search, self.drawn(search, 0..effort.candidates), effort)?;
                let moved = search.each(winners, |search, winner| {
                    split_merge::split_and_merge(search, winner, self.seed, complete)
                });
                let moved = collapse::soundest(search, moved.into_iter())?;
                collapse::reseed(search, moved)?.1
            }
        };
        if complete || n_rows < (WORTH_POLISH * sample.n_rows()) as u64 {
            return Ok(model);
        }
        Ok(search.improve(model, POLISH)?.1)
    }

    /// The first candidate.
    fn only(self, search: Search) -> Result<Model> {
        self.drawn(search, 0..1).pop().unwrap_or(Err(Error::Interrupted))
    }

    /// The best of so many candidates, each after it stopped.
    fn best_of(self, search: Search, n_init: u32) -> Result<Model> {
        let batch = if search.large { 1 } else { BATCH };
        let batches = (0..n_init).step_by(batch).flat_map(|first| {
            let drawn = self.drawn(search, first..n_init.min(first + batch as u32));
            search.each(drawn, |search, model| search.improve(model?, LONG))
        });
        Ok(best(batches)?.1)
    }

    /// The candidates of these numbers, those of one metric after those of the other: a metric is as large as the sample.
    fn drawn(self, search: Search, numbers: Range<u32>) -> Vec<Result<Model>> {
        let metrics = Metric::of(search.options.covariance_type, self.k, search.sample);
        let mut drawn = Vec::new();
        for (turn, metric) in metrics.iter().enumerate() {
            let own: Vec<u32> = numbers.clone().filter(|i| *i as usize % metrics.len() == turn).collect();
            if own.is_empty() {
                continue;
            }
            let scaled = metric.scaled(search.sample).cancellable(search.pass.cancelled);
            let lloyd = |i: u32| match self.method {
                Method::KMeans => LLOYD,
                _ if self.k > 2 && i as usize / metrics.len() % 2 == 1 => SHORT_LLOYD,
                _ => 0,
            };
            let models = search.each(own.clone(), |search, i| self.candidate(search, &scaled, i, lloyd(i)));
            drawn.extend(own.into_iter().zip(models));
        }
        drawn.sort_by_key(|(i, _)| *i);
        drawn.into_iter().map(|(_, model)| model).collect()
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

/// [`SAMPLING`] of `½ p/n`, for each unit of weight.
fn sampling_error(kind: CovarianceType, k: usize, sample: &Sample) -> f64 {
    let d = sample.d();
    let parameters = k - 1 + k * d + kind.structure().n_parameters(k, d);
    SAMPLING * 0.5 * parameters as f64 / sample.n_rows() as f64
}

/// The units of distances between rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Metric {
    /// The deviation of each feature.
    Deviations,
    /// The axes in which the features are uncorrelated.
    Whitened,
    /// One unit for all features.
    Alike,
}

impl Metric {
    /// Those that candidates are drawn in, in turn.
    fn of(kind: CovarianceType, k: usize, sample: &Sample) -> Vec<Self> {
        let mut metrics = vec![Self::Deviations];
        if Self::finest(kind, sample) == Self::Whitened {
            metrics.push(Self::Whitened);
        }
        if kind.structure().shape(k, sample.d()).2 < sample.d() {
            metrics.push(Self::Alike);
        }
        metrics
    }

    /// Uncorrelated axes, but not where rows are no more than features, whose correlations tell no row from another, nor
    /// where a large matrix of them would take longer than a fit that has no such matrix.
    fn finest(kind: CovarianceType, sample: &Sample) -> Self {
        let (d, matrices) = (sample.d(), kind.structure().scatter() == Scatter::Full);
        if sample.n_rows() > d && (matrices || d * d <= LARGE) {
            Self::Whitened
        } else {
            Self::Deviations
        }
    }

    fn scaled(self, sample: &Sample) -> Scaled<'static> {
        let scaled = Scaled::new(sample);
        match self {
            Self::Deviations => scaled,
            Self::Whitened => scaled.whitened(),
            Self::Alike => scaled.alike(),
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

    /// The EM loop from a model, for so many iterations at most.
    fn em(&self, model: Model, max_iter: u32) -> Em {
        Em::new(model, Options { max_iter, ..self.options.clone() }, false)
    }

    /// EM on the sample, for so many iterations at most.
    fn improve(&self, model: Model, max_iter: u32) -> Result<Scored> {
        let mut em = self.em(model, max_iter);
        self.run(&mut em, None)?;
        Ok(scored(&em))
    }

    /// Runs a loop over the sample, for so many evaluations at most.
    fn run(&self, em: &mut Em, evaluations: Option<u32>) -> Result<bool> {
        em.run_on(&mut self.passes.borrow_mut(), evaluations)
    }

    /// What is made of each item: side by side on the threads of the pass where models are small, one after the other with
    /// all threads where they are large. The results are the same.
    fn each<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(Search, T) -> R + Sync) -> Vec<R> {
        if self.pass.execution == Execution::Sequential || items.len() < 2 || self.large {
            return items.into_iter().map(|item| work(*self, item)).collect();
        }
        let Search { features, sample, label, options, large, .. } = *self;
        let pass = Pass { execution: Execution::Sequential, ..self.pass };
        let alone = |item| {
            let rows = Labelled { rows: sample, label };
            let passes = &passes(&rows, options, pass);
            work(Search { features, sample, label, options, pass, passes, large }, item)
        };
        items.into_par_iter().map(alone).collect()
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
