//! Where EM begins: candidates drawn and tried on one sample of the rows.
//!
//! The sample holds at most `max(2048, 256 k, 8 k (d+1))` rows, those of smallest hash of seed and row number, so
//! that it does not depend on who reads the rows in which order. Distances are in units of the features' standard
//! deviations. Each candidate is a draw, an M-step, and a few EM iterations on the sample; the one of highest
//! likelihood goes on (Biernacki, Celeux & Govaert 2003, "small EM").

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp1;

use super::error::{Error, Result};
use super::fit::{Em, Options};
use super::model::Model;
use super::pass::{leaf_rows, Pass};
use super::rows::{Block, Labels, Responsibilities, Rows, Sample};

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
    /// Candidates tried; [`Draw::DEFAULT_CANDIDATES`] if not given.
    pub n_init: Option<u32>,
    /// Same seed, same start.
    pub seed: u64,
}

/// EM iterations each candidate gets on the sample.
const SHORT: u32 = 10;
/// EM iterations the chosen one gets on the sample when the sample is not all rows.
const POLISH: u32 = 100;
/// Lloyd's iterations at most.
const LLOYD: usize = 100;

impl Draw {
    /// Candidates tried when `n_init` is not given.
    pub const DEFAULT_CANDIDATES: u32 = 8;

    /// Draws the start for rows that are known to be valid.
    ///
    /// # Errors
    /// If fewer than `k` rows count, if no candidate's covariances can be factorised, or if interrupted.
    pub fn start(
        self,
        features: &[String],
        rows: &dyn Rows,
        options: Options,
        pass: Pass,
    ) -> Result<Model> {
        let sample = sample(rows, sample_rows(self.k, rows.d()), self.seed);
        if sample.n_rows() < self.k {
            return Err(Error::TooFewRows {
                k: self.k,
                n_rows: sample.n_rows() as u64,
            });
        }
        let scaled = Scaled::new(&sample);
        let candidates = if self.k == 1 {
            1
        } else {
            self.n_init.unwrap_or(Self::DEFAULT_CANDIDATES)
        };
        let mut best: Option<(f64, Model)> = None;
        let mut failure = None;
        for i in 0..candidates {
            match self.candidate(features, &sample, &scaled, i, options, pass) {
                Ok((objective, model)) => {
                    if best.as_ref().is_none_or(|(b, _)| objective > *b) {
                        best = Some((objective, model));
                    }
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => failure = Some(error),
            }
        }
        let Some((_, model)) = best else {
            return Err(failure.unwrap_or(Error::TooFewRows {
                k: self.k,
                n_rows: 0,
            }));
        };
        if sample.n_rows() == rows.n_rows() {
            return Ok(model);
        }
        Ok(improve(
            model,
            &sample,
            Options {
                max_iter: POLISH,
                ..options
            },
            pass,
        )?
        .1)
    }

    fn candidate(
        self,
        features: &[String],
        sample: &Sample,
        scaled: &Scaled,
        i: u32,
        options: Options,
        pass: Pass,
    ) -> Result<(f64, Model)> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(i));
        let form = options.covariance_type.structure().scatter();
        let statistics = match self.method {
            Method::Random => pass.assigned(
                sample,
                &Dirichlet {
                    k: self.k,
                    seed: rng.random(),
                },
                form,
            )?,
            Method::KMeansPlusPlus | Method::KMeans => {
                let mut centers = scaled.plus_plus(self.k, &mut rng);
                if self.method == Method::KMeans {
                    scaled.lloyd(&mut centers);
                }
                let component = scaled.nearest(&centers).0;
                pass.assigned(
                    sample,
                    &Labels {
                        k: self.k,
                        component: &component,
                    },
                    form,
                )?
            }
        };
        let (kind, floor) = (options.covariance_type, options.covariance_floor);
        let model = Model::maximize(features, kind, &statistics, floor, None)?;
        improve(
            model,
            sample,
            Options {
                max_iter: SHORT.min(options.max_iter),
                ..options
            },
            pass,
        )
    }
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
    let statistics = pass.assigned(rows, given, options.covariance_type.structure().scatter())?;
    if statistics.n_rows < given.k() as u64 {
        return Err(Error::TooFewRows {
            k: given.k(),
            n_rows: statistics.n_rows,
        });
    }
    if let Some(component) = statistics.weight().iter().position(|w| *w == 0.0) {
        return Err(Error::EmptyStart { component });
    }
    Model::maximize(
        features,
        options.covariance_type,
        &statistics,
        options.covariance_floor,
        None,
    )
}

fn improve(model: Model, sample: &Sample, options: Options, pass: Pass) -> Result<(f64, Model)> {
    let mut em = Em::new(model, options, false);
    em.run(sample, pass, None)?;
    let objective = em.log_likelihood().unwrap_or(f64::NEG_INFINITY);
    let model = em.model().unwrap_or_else(|| em.ask().clone());
    Ok((objective, model))
}

/// Rows of the start sample: enough for every component to be seen and its covariance to have full rank.
pub fn sample_rows(k: usize, d: usize) -> usize {
    2048.max(256 * k).max(8 * k * (d + 1))
}

/// The `size` rows of smallest hash among those that count, in row order.
fn sample(rows: &dyn Rows, size: usize, seed: u64) -> Sample {
    let d = rows.d();
    let mut chosen: Vec<(u64, usize)> = Vec::new();
    let mut limit = u64::MAX;
    for_each_block(rows, |start, block| {
        for i in (0..block.len()).filter(|i| block.counts(*i)) {
            let hash = hash(seed, (start + i) as u64);
            if hash < limit {
                chosen.push((hash, start + i));
            }
        }
        if chosen.len() > 2 * size {
            chosen.select_nth_unstable(size);
            limit = chosen[size].0;
            chosen.truncate(size);
        }
    });
    if chosen.len() > size {
        chosen.select_nth_unstable(size);
        chosen.truncate(size);
    }
    chosen.sort_unstable_by_key(|(_, row)| *row);
    let mut sample = Sample {
        columns: vec![Vec::with_capacity(chosen.len()); d],
        weight: Vec::new(),
    };
    let mut next = chosen.iter().map(|(_, row)| *row).peekable();
    for_each_block(rows, |start, block| {
        while let Some(row) = next.next_if(|row| *row < start + block.len()) {
            for (j, column) in sample.columns.iter_mut().enumerate() {
                column.push(block.feature(j)[row - start]);
            }
            sample.weight.push(block.weight()[row - start]);
        }
    });
    sample
}

fn for_each_block(rows: &dyn Rows, mut visit: impl FnMut(usize, &Block)) {
    let mut block = Block::default();
    let size = leaf_rows(rows.d(), 1);
    for start in (0..rows.n_rows()).step_by(size) {
        block.load(rows, start, size.min(rows.n_rows() - start), 0);
        visit(start, &block);
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014) over seed and row.
fn hash(seed: u64, row: u64) -> u64 {
    let mut z = seed.wrapping_mul(0xd134_2543_de82_ef95) ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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

/// The sample in units of the features' standard deviations; constant features have no say.
struct Scaled {
    columns: Vec<Vec<f64>>,
    weight: Vec<f64>,
}

impl Scaled {
    fn new(sample: &Sample) -> Self {
        let total: f64 = sample.weight.iter().sum();
        let column = |values: &Vec<f64>| {
            let weighted = values.iter().zip(&sample.weight);
            let mean = weighted.clone().map(|(x, w)| x * (w / total)).sum::<f64>();
            let variance = weighted
                .map(|(x, w)| (x - mean).powi(2) * (w / total))
                .sum::<f64>();
            let unit = if variance > 0.0 {
                1.0 / variance.sqrt()
            } else {
                0.0
            };
            values.iter().map(|x| (x - mean) * unit).collect()
        };
        Self {
            columns: sample.columns.iter().map(column).collect(),
            weight: sample.weight.clone(),
        }
    }

    fn n_rows(&self) -> usize {
        self.weight.len()
    }

    fn row(&self, i: usize) -> Vec<f64> {
        self.columns.iter().map(|column| column[i]).collect()
    }

    /// Squared distances of all rows to a center.
    fn distances(&self, center: &[f64]) -> Vec<f64> {
        let mut distances = vec![0.0; self.n_rows()];
        for (column, c) in self.columns.iter().zip(center) {
            for (out, x) in distances.iter_mut().zip(column) {
                *out += (x - c) * (x - c);
            }
        }
        distances
    }

    /// Greedy k-means++: each next center is, of a few rows drawn with probability proportional to weight times
    /// squared distance to the nearest center, the one that leaves the smallest sum of them.
    fn plus_plus(&self, k: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
        let trials = 2 + (k as f64).ln() as usize;
        let mut centers = vec![self.row(draw(&self.weight, rng))];
        let mut nearest = self.distances(&centers[0]);
        while centers.len() < k {
            let masses: Vec<f64> = nearest
                .iter()
                .zip(&self.weight)
                .map(|(d, w)| d * w)
                .collect();
            let mut best: Option<(f64, usize, Vec<f64>)> = None;
            for _ in 0..trials {
                let row = draw(&masses, rng);
                let mut distances = self.distances(&self.row(row));
                distances
                    .iter_mut()
                    .zip(&nearest)
                    .for_each(|(d, n)| *d = d.min(*n));
                let inertia: f64 = distances.iter().zip(&self.weight).map(|(d, w)| d * w).sum();
                if best.as_ref().is_none_or(|(b, ..)| inertia < *b) {
                    best = Some((inertia, row, distances));
                }
            }
            if let Some((_, row, distances)) = best {
                centers.push(self.row(row));
                nearest = distances;
            }
        }
        centers
    }

    /// The nearest center of each row, and the weighted sum of squared distances to it.
    fn nearest(&self, centers: &[Vec<f64>]) -> (Vec<Option<u32>>, f64) {
        let mut nearest = vec![f64::INFINITY; self.n_rows()];
        let mut component = vec![Some(0); self.n_rows()];
        for (c, center) in centers.iter().enumerate() {
            for ((d, n), label) in self
                .distances(center)
                .iter()
                .zip(&mut nearest)
                .zip(&mut component)
            {
                if d < n {
                    *n = *d;
                    *label = Some(c as u32);
                }
            }
        }
        let inertia = nearest.iter().zip(&self.weight).map(|(d, w)| d * w).sum();
        (component, inertia)
    }

    fn lloyd(&self, centers: &mut [Vec<f64>]) {
        let mut before = f64::INFINITY;
        for _ in 0..LLOYD {
            let (component, inertia) = self.nearest(centers);
            if inertia >= before {
                return;
            }
            before = inertia;
            let mut weight = vec![0.0; centers.len()];
            let mut sums = vec![vec![0.0; self.columns.len()]; centers.len()];
            for (i, c) in component.iter().enumerate() {
                let c = c.unwrap_or(0) as usize;
                weight[c] += self.weight[i];
                for (s, column) in sums[c].iter_mut().zip(&self.columns) {
                    *s += column[i] * self.weight[i];
                }
            }
            for ((center, sum), w) in centers.iter_mut().zip(&sums).zip(&weight) {
                if *w > 0.0 {
                    center.iter_mut().zip(sum).for_each(|(c, s)| *c = s / w);
                }
            }
        }
    }
}

/// An index drawn with probability proportional to its mass; any index if all masses are zero.
fn draw(masses: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let total: f64 = masses.iter().sum();
    let u: f64 = rng.random();
    if !(total > 0.0 && total.is_finite()) {
        return ((u * masses.len() as f64) as usize).min(masses.len().saturating_sub(1));
    }
    let mut left = u * total;
    let mut last = 0;
    for (i, mass) in masses.iter().enumerate().filter(|(_, m)| **m > 0.0) {
        last = i;
        left -= mass;
        if left < 0.0 {
            break;
        }
    }
    last
}
