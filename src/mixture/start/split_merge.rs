//! Moves between optima: one component is split where two others are merged, if that raises the objective (Ueda, Nakano,
//! Ghahramani & Hinton 2000, "SMEM").
//!
//! What a split would gain is measured by a mixture of two on the component's own rows, what a merger would cost by the
//! moments of the pair and the entropy between its members. The moves that promise most are tried by EM on the sample.
//! A move that makes a component collapse is not made, however far the objective rises.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::density::Density;
use super::super::error::{Error, Result};
use super::super::model::Model;
use super::super::rows::{Labels, Rows, Sample};
use super::super::statistics::Statistics;
use super::collapse::{soundest, Judged};
use super::{best, objective, passes, scored, Metric, Scored, Search};

/// Moves that may succeed, for each component and in all.
const MOVES: usize = 2;
const MOST_MOVES: usize = 64;
/// Moves tried before it is said that none succeeds.
const TRIALS: usize = 8;
/// EM iterations of a trial, and of the mixture of two that measures a split.
const TRIAL: u32 = 40;
const LOCAL: u32 = 10;
/// A trial is given up that after so many evaluations is farther below what it is to reach than so many times what it rose
/// in the last few of them.
const LOOKS: [(u32, f64); 2] = [(10, 5.0), (20, 2.0)];
const LAST: u32 = 5;
/// Draws of that mixture.
const DRAWS: u64 = 2;
/// Rows of smaller responsibility are not a component's own.
const OWN: f64 = 1e-2;
/// The smallest rise of the mean objective that a move is made for.
const WORTH: f64 = 1e-6;

/// Splits and merges as long as the objective rises: where the sample is `complete`, by anything; else by more than the
/// parameters of a component would gain on rows of no structure, so that it rises on the other rows too.
pub fn split_and_merge(search: Search, start: Scored, seed: u64, complete: bool) -> Result<Scored> {
    if start.1.k() < 3 {
        return Ok(start);
    }
    let Judged { mut lost, candidate: mut current } = Judged::new(search, start)?;
    let mut first: Option<Scored> = None;
    let total: f64 = search.sample.weight.iter().sum();
    let parameters = current.1.n_parameters() as f64 / current.1.k() as f64;
    let worth = if complete { WORTH } else { parameters / search.sample.n_rows() as f64 };
    for round in 0..MOST_MOVES.min(MOVES * current.1.k()) {
        let better = current.0 + worth * total;
        let mut found = None;
        let moves = Moves::new(search, &current.1, seed.wrapping_add(round as u64))?;
        for n in 0..moves.promising.len() {
            match moves.model(search, n).and_then(|model| trial(search, model, better)) {
                Ok(trial) if trial.0 > better => {
                    found = Some(Judged::new(search, trial)?).filter(|trial| trial.lost.len() <= lost.len());
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Ok(_) | Err(_) => {}
            }
            if found.is_some() {
                break;
            }
        }
        match found {
            Some(trial) => {
                lost = trial.lost;
                let before = std::mem::replace(&mut current, trial.candidate);
                first.get_or_insert(before);
            }
            None => break,
        }
    }
    let first = first.unwrap_or_else(|| current.clone());
    let end = search.improve(current.1, search.options.max_iter)?;
    Ok(soundest(search, [first, end].into_iter().map(Ok))?.candidate)
}

/// A component in two, and what that gains.
struct Split {
    component: usize,
    gain: f64,
    halves: Statistics,
}

/// Two components as one, and what that costs.
struct Merger {
    pair: (usize, usize),
    loss: f64,
    whole: Statistics,
}

/// The moves from a model, the most promising first.
struct Moves {
    statistics: Statistics,
    splits: Vec<Split>,
    mergers: Vec<Merger>,
    /// Places of a split and a merger.
    promising: Vec<(usize, usize)>,
}

impl Moves {
    fn new(search: Search, model: &Model, seed: u64) -> Result<Self> {
        let density = model.density()?;
        let statistics = search.statistics(model)?;
        let splits = splits(search, &density, seed)?;
        let mergers = mergers(search, &density, &statistics)?;
        let mut moves: Vec<(f64, usize, usize)> = Vec::new();
        for (s, split) in splits.iter().enumerate() {
            for (m, merger) in mergers.iter().enumerate() {
                let apart = merger.pair.0 != split.component && merger.pair.1 != split.component;
                if apart && split.gain > 0.5 * merger.loss {
                    moves.push((split.gain - merger.loss, s, m));
                }
            }
        }
        moves.sort_by(|a, b| b.0.total_cmp(&a.0));
        let promising = moves.into_iter().take(TRIALS).map(|(_, s, m)| (s, m)).collect();
        Ok(Self { statistics, splits, mergers, promising })
    }

    /// The model after a move.
    fn model(&self, search: Search, n: usize) -> Result<Model> {
        let (split, merger) = (&self.splits[self.promising[n].0], &self.mergers[self.promising[n].1]);
        let moved = [merger.pair.0, merger.pair.1, split.component];
        let kept = (0..self.statistics.k()).filter(|c| !moved.contains(c));
        let mut parts: Vec<(&Statistics, usize)> = kept.map(|c| (&self.statistics, c)).collect();
        parts.extend([(&merger.whole, 0), (&split.halves, 0), (&split.halves, 1)]);
        search.maximize(&self.statistics.with_components(&parts))
    }
}

/// EM from a moved model, as long as its objective may come above a value.
pub fn trial(search: Search, model: Model, above: f64) -> Result<Scored> {
    let mut em = search.em(model, TRIAL);
    let mut before = 0;
    for (evaluations, times) in LOOKS {
        search.run(&mut em, Some(evaluations - LAST - before))?;
        let earlier = objective(&em);
        search.run(&mut em, Some(LAST))?;
        let now = objective(&em);
        if now + times * (now - earlier) < above {
            return Ok(scored(&em));
        }
        before = evaluations;
    }
    search.run(&mut em, None)?;
    Ok(scored(&em))
}

/// Rows of a component and their responsibilities, where these are not negligible.
#[derive(Clone, Default)]
struct Own {
    row: Vec<u32>,
    responsibility: Vec<f64>,
}

impl Own {
    /// Those of each component.
    fn of(search: Search, density: &Density) -> Vec<Self> {
        let mut own = vec![Self::default(); density.k()];
        search.for_each_block(density, |start, block| {
            for (c, own) in own.iter_mut().enumerate() {
                for (i, r) in block.component(c).iter().enumerate().filter(|(_, r)| **r > OWN) {
                    own.row.push((start + i) as u32);
                    own.responsibility.push(*r);
                }
            }
        });
        own
    }

    /// The rows, weighted by their responsibilities.
    fn rows(&self, sample: &Sample) -> Sample {
        let taken = |column: &Vec<f64>| self.row.iter().map(|i| column[*i as usize]).collect();
        let weights = self.row.iter().zip(&self.responsibility);
        Sample {
            columns: sample.columns.iter().map(taken).collect(),
            weight: weights.map(|(i, r)| r * sample.weight[*i as usize]).collect(),
        }
    }
}

fn splits(search: Search, density: &Density, seed: u64) -> Result<Vec<Split>> {
    let mut splits = Vec::new();
    for (component, own) in Own::of(search, density).iter().enumerate() {
        if own.row.len() < 2 * (density.d() + 1) {
            continue;
        }
        let own = own.rows(search.sample);
        let Search { features, options, pass, large, .. } = search;
        let passes = &passes(&own, options, pass);
        let own = Search { features, sample: &own, label: &[], options, pass, passes, large };
        match split(own, component, seed) {
            Ok(split) => splits.push(split),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(_) => {}
        }
    }
    Ok(splits)
}

/// The best of a few mixtures of two on the rows of one component.
fn split(search: Search, component: usize, seed: u64) -> Result<Split> {
    let one = search.assigned(&Labels { k: 1, component: &vec![Some(0); search.sample.n_rows()] })?;
    let before = search.statistics(&one)?.log_likelihood;
    let scaled = Metric::finest(search.options.covariance_type, search.sample).scaled(search.sample);
    let drawn = |draw: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(draw);
        let centers = scaled.plus_plus(2, &mut rng);
        let two = search.assigned(&Labels { k: 2, component: &scaled.nearest(&centers).0 })?;
        search.improve(two, LOCAL)
    };
    let (_, two) = best((0..DRAWS).map(drawn))?;
    let halves = search.statistics(&two)?;
    Ok(Split { component, gain: halves.log_likelihood - before, halves })
}

/// Each component and the one it overlaps most.
fn mergers(search: Search, density: &Density, statistics: &Statistics) -> Result<Vec<Merger>> {
    let k = density.k();
    let mut shared = vec![0.0; k * k];
    search.for_each_block(density, |start, block| {
        let mut shares: Vec<(usize, f64)> = Vec::new();
        for i in 0..block.len() {
            shares.clear();
            shares.extend((0..k).map(|c| (c, block.component(c)[i])).filter(|(_, r)| *r > OWN));
            let weight = search.sample.weight[start + i];
            for (n, (a, ra)) in shares.iter().enumerate() {
                for (b, rb) in &shares[..n] {
                    shared[b * k + a] += weight * mixed(*ra, *rb);
                }
            }
        }
    });
    let mut mergers = Vec::new();
    for a in 0..k {
        let between = |b: usize| shared[a.min(b) * k + a.max(b)];
        let nearest = (0..k).filter(|b| *b != a).max_by(|b, c| between(*b).total_cmp(&between(*c)));
        let Some(b) = nearest.filter(|b| between(*b) > 0.0) else { continue };
        let pair = (a.min(b), a.max(b));
        if !mergers.iter().any(|m: &Merger| m.pair == pair) {
            mergers.push(merger(search, density, statistics, pair, between(b))?);
        }
    }
    Ok(mergers)
}

/// Entropy between two responsibilities of a row.
fn mixed(a: f64, b: f64) -> f64 {
    let sum = a + b;
    -(a * (a / sum).ln() + b * (b / sum).ln())
}

/// Before: `Σ_c W_c (ln π_c − ½ ln det Σ_c)` of the pair and the entropy between its members; after: the same of the
/// whole, which has none.
fn merger(
    search: Search,
    density: &Density,
    statistics: &Statistics,
    pair: (usize, usize),
    entropy: f64,
) -> Result<Merger> {
    let mut whole = statistics.with_components(&[(statistics, pair.0)]);
    whole.merge(&statistics.with_components(&[(statistics, pair.1)]));
    let one = search.maximize(&whole)?.density()?;
    let total: f64 = statistics.weight().iter().sum();
    let term = |weight: f64, half_log_det: f64| weight * ((weight / total).ln() - half_log_det);
    let own = |c: usize| term(statistics.weight()[c], density.half_log_det(c));
    let loss = own(pair.0) + own(pair.1) + entropy - term(whole.weight()[0], one.half_log_det(0));
    Ok(Merger { pair, loss, whole })
}
