//! Where EM begins: candidates drawn and tried on one sample of the rows.
//!
//! The sample holds at most `max(2048, 256 k, 8 k (d+1))` rows, those of smallest hash of seed and row number, so
//! that it does not depend on who reads the rows in which order. Distances are in units of the features' standard
//! deviations. Each candidate is a draw, an M-step, and EM iterations on the sample; the one of highest likelihood
//! goes on. By default 8 candidates get a few iterations each (Biernacki, Celeux & Govaert 2003, "small EM"), but
//! random responsibilities, whose likelihood after a few iterations says nothing, are drawn once. Where `n_init` is
//! given, each candidate runs until it stops. A single candidate goes on as it was drawn.

mod kmeans;
mod sample;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp1;

use super::error::{Error, Result};
use super::fit::{Em, Options};
use super::model::Model;
use super::pass::Pass;
use super::rows::{Block, Labels, Responsibilities, Rows, Sample};

use kmeans::Scaled;
pub use sample::sample_rows;
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

/// Candidates tried when `n_init` is not given, and the EM iterations each gets on the sample.
const CANDIDATES: u32 = 8;
const SHORT: u32 = 10;
/// EM iterations a candidate gets at most on the sample where `n_init` is given.
const LONG: u32 = 1000;
/// EM iterations the chosen one gets on the sample, when there are so many times more rows than in the sample.
const POLISH: u32 = 100;
const WORTH_POLISH: usize = 4;

impl Draw {
    /// Draws the start for rows that are known to be valid.
    ///
    /// # Errors
    /// If fewer than `k` rows count, if no candidate's covariances can be factorised, or if interrupted.
    pub fn start(self, features: &[String], rows: &dyn Rows, options: Options, pass: Pass) -> Result<Model> {
        let (sample, complete) = sample(rows, sample_rows(self.k, rows.d()), self.seed);
        if sample.n_rows() < self.k {
            return Err(Error::TooFewRows { k: self.k, n_rows: sample.n_rows() as u64 });
        }
        let scaled = Scaled::new(&sample).cancellable(pass.cancelled);
        let drawn = |i| self.candidate(features, &sample, &scaled, i, options, pass);
        let (candidates, max_iter) = match self.n_init {
            _ if self.k == 1 => (1, 0),
            Some(n_init) => (n_init, LONG),
            None if self.method == Method::Random => (1, 0),
            None => (CANDIDATES, SHORT),
        };
        let short = Options { max_iter, ..options };
        let model = match candidates {
            1 => drawn(0)?,
            _ => best((0..candidates).map(|i| improve(drawn(i)?, &sample, short, pass)))?,
        };
        if complete || rows.n_rows() < WORTH_POLISH * sample.n_rows() {
            return Ok(model);
        }
        Ok(improve(model, &sample, Options { max_iter: POLISH, ..options }, pass)?.1)
    }

    fn candidate(
        self,
        features: &[String],
        sample: &Sample,
        scaled: &Scaled,
        i: u32,
        options: Options,
        pass: Pass,
    ) -> Result<Model> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(i));
        let form = options.covariance_type.structure().scatter();
        let statistics = match self.method {
            Method::Random => pass.assigned(sample, &Dirichlet { k: self.k, seed: rng.random() }, form)?,
            Method::KMeansPlusPlus | Method::KMeans => {
                let mut centers = scaled.plus_plus(self.k, &mut rng);
                if self.method == Method::KMeans {
                    scaled.lloyd(&mut centers);
                }
                let component = scaled.nearest(&centers).0;
                pass.assigned(sample, &Labels { k: self.k, component: &component }, form)?
            }
        };
        let (kind, floor) = (options.covariance_type, options.covariance_floor);
        Model::maximize(features, kind, &statistics, floor, None)
    }
}

/// The candidate of highest objective; candidates that fail are passed over as long as one does not.
fn best(candidates: impl Iterator<Item = Result<(f64, Model)>>) -> Result<Model> {
    let mut best: Option<(f64, Model)> = None;
    let mut failure = Error::Interrupted;
    for candidate in candidates {
        match candidate {
            Ok(found) if best.as_ref().is_none_or(|(b, _)| found.0 > *b) => best = Some(found),
            Ok(_) => {}
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => failure = error,
        }
    }
    best.map(|(_, model)| model).ok_or(failure)
}

/// The start that given responsibilities, or labels, make by an M-step.
///
/// # Errors
/// If a component has no row, or if interrupted.
pub fn assigned(
    features: &[String],
    rows: &dyn Rows,
    given: &dyn Responsibilities,
    options: Options,
    pass: Pass,
) -> Result<Model> {
    if rows.n_rows() < given.k() {
        return Err(Error::TooFewRows { k: given.k(), n_rows: rows.n_rows() as u64 });
    }
    let statistics = pass.assigned(rows, given, options.covariance_type.structure().scatter())?;
    if let Some(component) = statistics.weight().iter().position(|w| *w == 0.0) {
        return Err(Error::EmptyStart { component });
    }
    Model::maximize(features, options.covariance_type, &statistics, options.covariance_floor, None)
}

fn improve(model: Model, sample: &Sample, options: Options, pass: Pass) -> Result<(f64, Model)> {
    let mut em = Em::new(model, options, false);
    em.run(sample, pass, None)?;
    let objective = em.log_likelihood().unwrap_or(f64::NEG_INFINITY);
    let model = em.model().unwrap_or_else(|| em.ask().clone());
    Ok((objective, model))
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
