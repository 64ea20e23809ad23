//! Components that collapsed on fewer than `d + 1` distinct rows, lost their weight, or repeat another: the likelihood
//! they add grows without bound and says nothing, or is none, so they are avoided before it counts, and seeded once more.

use super::super::error::{Error, Result};
use super::super::model::Model;
use super::super::rows::{Labels, Rows};
use super::super::statistics::Statistics;
use super::{best_of, Scored, Search};

/// A responsibility below this does not make a row a component's own.
const OWN: f64 = 1e-3;

/// A candidate, and which of its components have collapsed.
pub struct Judged {
    pub lost: Vec<usize>,
    pub candidate: Scored,
}

impl Judged {
    pub fn new(search: Search, candidate: Scored) -> Result<Self> {
        Ok(Self { lost: collapsed(search, &candidate.1)?, candidate })
    }

    /// Fewer components have collapsed, or as many and the objective is higher.
    fn is_sounder(&self, than: &Self) -> bool {
        let (lost, others) = (self.lost.len(), than.lost.len());
        lost < others || (lost == others && self.candidate.0 > than.candidate.0)
    }
}

/// The soundest candidate; candidates that fail are passed over as long as one does not.
pub fn soundest(search: Search, candidates: impl Iterator<Item = Result<Scored>>) -> Result<Judged> {
    best_of(candidates.map(|candidate| Judged::new(search, candidate?)), Judged::is_sounder)
}

/// Seeds collapsed components at the rows that are explained worst and runs EM once more; keeps the result if fewer
/// have collapsed then.
pub fn reseed(search: Search, start: Judged) -> Result<Scored> {
    let Judged { lost, candidate: start } = start;
    if lost.is_empty() || lost.len() == start.1.k() {
        return Ok(start);
    }
    match reseeded(search, &start.1, &lost).and_then(|model| search.improve(model, search.options.max_iter)) {
        Ok(trial) if collapsed(search, &trial.1)?.len() < lost.len() => Ok(trial),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        _ => Ok(start),
    }
}

/// Components are the same if their means and variances differ by no more than this, in units of the deviations.
const SAME: f64 = 1e-3;

/// Whether component `c` is the same as one before it.
fn repeats(model: &Model, c: usize) -> bool {
    let means = model.means();
    let same = |b: usize| {
        (0..model.d()).all(|j| {
            let (own, other) = (model.variance(c, j), model.variance(b, j));
            (means[[c, j]] - means[[b, j]]).abs() <= SAME * own.sqrt() && (own - other).abs() <= SAME * own
        })
    };
    (0..c).any(same)
}

/// The components that weigh nothing, whose own rows are fewer than `d + 1` distinct ones, or that repeat another.
fn collapsed(search: Search, model: &Model) -> Result<Vec<usize>> {
    let mut own: Vec<Vec<Vec<u64>>> = vec![Vec::new(); model.k()];
    let enough = model.d() + 1;
    search.for_each_block(&model.density()?, |start, block| {
        for (c, own) in own.iter_mut().enumerate().filter(|(_, own)| own.len() < enough) {
            for (i, _) in block.component(c).iter().enumerate().filter(|(_, r)| **r > OWN) {
                let row = || search.sample.columns.iter().map(|x| (x[start + i] + 0.0).to_bits());
                if !own.iter().any(|known| row().eq(known.iter().copied())) {
                    own.push(row().collect());
                }
                if own.len() >= enough {
                    break;
                }
            }
        }
    });
    let lost = |c: &usize| own[*c].len() < enough || repeats(model, *c);
    Ok((0..model.k()).filter(lost).collect())
}

/// The model whose lost components hold the worst explained rows, `d + 1` or a share of all rows each.
fn reseeded(search: Search, model: &Model, lost: &[usize]) -> Result<Model> {
    let sample = search.sample;
    let mut density = vec![f64::INFINITY; sample.n_rows()];
    search.for_each_block(&model.density()?, |start, block| {
        for (i, value) in block.log_density().iter().enumerate() {
            let of_lost: f64 = lost.iter().map(|c| block.component(*c)[i]).sum();
            if of_lost <= OWN {
                density[start + i] = *value;
            }
        }
    });
    let mut order: Vec<usize> = (0..sample.n_rows()).filter(|i| density[*i] < f64::INFINITY).collect();
    order.sort_by(|a, b| density[*a].total_cmp(&density[*b]));
    let each = (model.d() + 2).max(sample.n_rows() / (4 * model.k()));
    let mut component = vec![None; sample.n_rows()];
    for (n, row) in order.iter().take(each * lost.len()).enumerate() {
        component[*row] = Some((n / each) as u32);
    }
    let statistics = search.statistics(model)?;
    let seeds = search.pass.assigned(
        sample,
        &Labels { k: lost.len(), component: &component },
        statistics.scatter_form(),
    )?;
    let part = |c: usize| match lost.iter().position(|l| *l == c) {
        Some(n) => (&seeds, n),
        None => (&statistics, c),
    };
    let parts: Vec<(&Statistics, usize)> = (0..model.k()).map(part).collect();
    search.maximize(&statistics.with_components(&parts))
}
