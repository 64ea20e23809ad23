//! What is summed up beside a pass, so that rows are known again where the statistics do not tell: covariances of
//! neighbouring features, where a pass keeps variances alone, and the rows of each label.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pulp::{Simd, WithSimd};

use super::rows::{Block, RowState, Rows};
use super::simd::Level;

/// Sums about given means, in the making. Rows are added in the order in which they come, so that the sums are the same
/// to rounding only.
pub struct Witness {
    means: Vec<f64>,
    with_pairs: bool,
    labels: usize,
    sums: Mutex<Sums>,
}

/// Sums over the rows that count.
struct Sums {
    /// `Σ w (x_j − m_j)(x_{j+1} − m_{j+1})`; empty where they are not wanted.
    pairs: Vec<f64>,
    /// `Σ w` and then `Σ w (x − m)` of the rows of each label.
    known: Vec<f64>,
}

/// Rows that are added as they are read, from the first to the last; those read again are not.
pub struct Watched<'a> {
    rows: &'a dyn Rows,
    means: &'a [f64],
    seen: Mutex<Seen>,
}

/// The row that comes next, and the sums of those before it.
struct Seen {
    next: usize,
    sums: Sums,
}

impl Sums {
    fn zero(d: usize, pairs: bool, labels: usize) -> Self {
        let pairs = if pairs { d.saturating_sub(1) } else { 0 };
        Self { pairs: vec![0.0; pairs], known: vec![0.0; labels * (1 + d)] }
    }
}

impl Witness {
    /// Of no row yet; with pairs of features, or without; of rows with labels of so many components.
    pub fn about(means: &[f64], pairs: bool, labels: usize) -> Self {
        let sums = Mutex::new(Sums::zero(means.len(), pairs, labels));
        Self { means: means.to_vec(), with_pairs: pairs, labels, sums }
    }

    /// Rows to be read once from the first to the last, after which they are to be added.
    pub fn watch<'a>(&'a self, rows: &'a dyn Rows) -> Watched<'a> {
        let sums = Sums::zero(self.means.len(), self.with_pairs, self.labels);
        Watched { rows, means: &self.means, seen: Mutex::new(Seen { next: 0, sums }) }
    }

    /// Adds rows that have been read; from any thread.
    pub fn add(&self, rows: Watched) {
        let Seen { sums, .. } = rows.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all = locked(&self.sums);
        let Sums { pairs, known } = &mut *all;
        for (all, sum) in pairs.iter_mut().chain(known).zip(sums.pairs.iter().chain(&sums.known)) {
            *all += sum;
        }
    }

    /// The sums of pairs over all rows so far.
    pub fn pairs(&self) -> Vec<f64> {
        locked(&self.sums).pairs.clone()
    }

    /// Weight and means of the rows of each label so far.
    pub fn known(&self) -> Vec<(f64, Vec<f64>)> {
        let sums = locked(&self.sums);
        let each = sums.known.chunks_exact(1 + self.means.len());
        let means = |weight: f64, away: &[f64]| -> Vec<f64> {
            self.means.iter().zip(away).map(|(m, a)| m + a / weight).collect()
        };
        each.filter_map(|label| label.split_first()).map(|(w, away)| (*w, means(*w, away))).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rows for Watched<'_> {
    fn n_rows(&self) -> usize {
        self.rows.n_rows()
    }

    fn d(&self) -> usize {
        self.rows.d()
    }

    fn read(&self, start: usize, block: &mut Block) {
        self.rows.read(start, block);
        let mut seen = locked(&self.seen);
        if start < seen.next {
            return;
        }
        seen.next = start + block.len();
        if block.len() < block.stride() || block.state().contains(&RowState::Null) {
            block.take_out();
        }
        let Sums { pairs, known } = &mut seen.sums;
        add_known(self.means, block, known);
        Level::chosen().run(Products { means: self.means, block, sums: pairs });
    }

    fn prefetch(&self, rows: Range<usize>) {
        self.rows.prefetch(rows);
    }
}

fn add_known(means: &[f64], block: &Block, known: &mut [f64]) {
    let labels = known.len() / (1 + means.len());
    if labels == 0 {
        return;
    }
    let (stride, weight) = (block.stride(), block.weight());
    for i in (0..block.len()).filter(|i| weight[*i] > 0.0) {
        let Some(label) = block.label(i).map(|c| c as usize).filter(|c| *c < labels) else { continue };
        let sums = &mut known[label * (1 + means.len())..][..=means.len()];
        sums[0] += weight[i];
        for (j, (sum, mean)) in sums[1..].iter_mut().zip(means).enumerate() {
            *sum += weight[i] * (block.features()[j * stride + i] - mean);
        }
    }
}

struct Products<'a> {
    means: &'a [f64],
    block: &'a Block,
    sums: &'a mut [f64],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { means, block, sums } = self;
        let zero = simd.splat_f64s(0.0);
        let stride = block.stride();
        let (weight, _) = S::as_simd_f64s(block.weight());
        let lane = |j: usize| S::as_simd_f64s(&block.features()[j * stride..][..stride]).0;
        for (j, (sum, pair)) in sums.iter_mut().zip(means.windows(2)).enumerate() {
            let (m, n) = (simd.splat_f64s(pair[0]), simd.splat_f64s(pair[1]));
            let mut total = zero;
            for ((x, y), w) in lane(j).iter().zip(lane(j + 1)).zip(weight) {
                let product = simd.mul_f64s(simd.sub_f64s(*x, m), simd.sub_f64s(*y, n));
                let counts = simd.greater_than_f64s(*w, zero);
                total = simd.add_f64s(total, simd.select_f64s(counts, simd.mul_f64s(*w, product), zero));
            }
            *sum += simd.reduce_sum_f64s(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::mixture::covariance::CovarianceType;
    use crate::mixture::pass::{Pass, Summand};
    use crate::mixture::rows::Sample;
    use crate::mixture::statistics::Scatter;
    use crate::mixture::survey::Survey;
    use crate::mixture::testing::{model, names, sample, whole_weights};

    static NEVER: AtomicBool = AtomicBool::new(false);

    fn surveyed(rows: &Sample) -> crate::mixture::survey::Fingerprint {
        let survey = Survey::new(rows.d(), None, None);
        survey.absorb(rows, 0, &NEVER).unwrap();
        survey.finish().unwrap().fingerprint
    }

    /// The pairs of rows that are read by a pass, piece by piece.
    fn paired(rows: &Sample, means: &[f64], step: usize) -> Witness {
        let pairs = Witness::about(means, true, 0);
        let density = model(CovarianceType::Diag, 2, rows.d(), 5).density().unwrap();
        for start in (0..rows.n_rows()).step_by(step) {
            let cut = |column: &Vec<f64>| column[start..rows.n_rows().min(start + step)].to_vec();
            let piece = Sample { columns: rows.columns.iter().map(cut).collect(), weight: cut(&rows.weight) };
            let watched = pairs.watch(&piece);
            let sums = crate::mixture::assembly::Assembly::new(2, rows.d(), Scatter::Diagonal);
            sums.absorb(&watched, start as u64, &Summand::expected(&density), &NEVER).unwrap();
            Pass::SEQUENTIAL.e_step(&watched, &density, Scatter::Diagonal).unwrap();
            pairs.add(watched);
        }
        pairs
    }

    #[test]
    fn features_that_stand_beside_others_are_seen() {
        let mut rows = whole_weights(sample(30_001, 3, 2));
        for x in &mut rows.columns[1] {
            *x = 1e6 + 1e-3 * *x;
        }
        rows.columns[0][17] = f64::NAN;
        rows.weight[17] = -1.0;
        rows.columns[0][19] = f64::NAN;
        rows.weight[19] = 0.0;
        let before = surveyed(&rows);
        for step in [1, 77, 1024, 30_001] {
            before.check_witness(&names(3), &paired(&rows, &before.means, step)).unwrap();
        }
        let mut other = rows.clone();
        other.columns[2].swap(5, 6);
        let error = before.check_witness(&names(3), &paired(&other, &before.means, 999)).unwrap_err();
        assert!(error.to_string().contains("the covariance of \"x1\" and \"x2\" was"), "{error}");
    }
}
