//! A block of rows. Lanes are rows: feature `j` of all rows of the block lies contiguously, padded
//! to a multiple of [`PAD`], so that vector code never meets a tail.

use std::ops::Range;

use super::simd::{all_finite, Lanes};
use super::transpose::transpose;

/// Rows are padded to a multiple of this: four vectors of the widest instruction set.
pub const PAD: usize = 32;

/// Log-densities are kept above this, so that differences between them are never `∞ − ∞`.
pub(super) const LOWEST: f64 = -1e307;

/// Why a row of a block takes no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    /// The row counts, by its weight.
    Valid,
    /// A feature is null.
    Null,
    /// A feature is NaN or infinite.
    NotFinite,
}

/// Rows that can be read block by block, in any order, from several threads.
pub trait Rows: Sync {
    /// Number of rows, those of weight zero included.
    fn n_rows(&self) -> usize;

    /// Number of features.
    fn d(&self) -> usize;

    /// Reads rows `start .. start + block.len()`: features, weights and null marks.
    /// The block comes in with weights 1 and no row marked.
    fn read(&self, start: usize, block: &mut Block);

    /// Told which rows will be read soon, to bring them near.
    fn prefetch(&self, _: Range<usize>) {}
}

/// Responsibilities that are given instead of computed: labels, a column, a random draw.
pub trait Responsibilities: Sync {
    /// Number of components.
    fn k(&self) -> usize;

    /// Writes the responsibilities of rows `start .. start + block.len()`, component by component.
    /// The block's rows come in with zeros.
    fn assign(&self, start: usize, block: &mut Block);

    /// Whether they come row after row: their sums are then made so, [where they lie](Responsibilities::lying) or not.
    fn by_row(&self) -> bool {
        false
    }

    /// Those of some rows where they lie, row after row, from the first of these to at least the end of the last, if none
    /// is missing.
    fn lying(&self, _: Range<usize>) -> Option<&[f64]> {
        None
    }
}

/// Up to a leaf of rows, with what the E-step says about each.
///
/// `features` is `d` lanes of `stride`, `responsibilities` is `k` lanes of `stride`.
/// Padding rows, null rows and rows that are not finite hold zeros and weigh nothing.
#[derive(Debug, Default)]
pub struct Block {
    len: usize,
    stride: usize,
    d: usize,
    k: usize,
    pub(super) features: Lanes,
    pub(super) weight: Lanes,
    state: Vec<RowState>,
    /// Whether all rows are valid.
    valid: bool,
    /// The components of rows that are known to belong to one; empty where none is.
    label: Vec<Option<u32>>,
    pub(super) responsibilities: Lanes,
    /// What responsibilities, as they lie in their lanes, are multiplied with for shares `w r` of the rows.
    pub(super) scale: Lanes,
    pub(super) log_density: Lanes,
    pub(super) entropy: Lanes,
    pub(super) scratch: Lanes,
}

impl Block {
    /// Makes room for `len` rows of `d` features and `k` components, all weights 1; features and responsibilities hold
    /// whatever they held.
    pub fn reset(&mut self, len: usize, d: usize, k: usize) {
        self.len = len;
        self.stride = len.next_multiple_of(PAD);
        self.d = d;
        self.k = k;
        self.features.resize(d * self.stride);
        for lane in self.features.chunks_exact_mut(self.stride.max(1)) {
            lane[len..].fill(0.0);
        }
        self.responsibilities.resize(k * self.stride);
        self.weight.refill(self.stride, 1.0);
        self.scale.resize(self.stride);
        self.log_density.refill(self.stride, 0.0);
        self.entropy.refill(self.stride, 0.0);
        self.label.clear();
        self.state.clear();
        self.state.resize(len, RowState::Valid);
        self.valid = true;
    }

    /// Resets the block, reads its rows from `rows`, and takes out those that cannot count.
    pub fn load(&mut self, rows: &dyn Rows, start: usize, len: usize, k: usize) {
        self.reset(len, rows.d(), k);
        rows.read(start, self);
        self.mark_not_finite();
        self.take_out();
    }

    /// Rows in the block.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the block holds no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of features.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Number of components.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Length of a lane, padding included.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All features, lane after lane.
    pub fn features(&self) -> &[f64] {
        &self.features
    }

    /// All features, lane after lane of [`Block::stride`], to be written by [`Rows::read`].
    pub fn features_mut(&mut self) -> &mut [f64] {
        &mut self.features
    }

    /// Feature `j` of the rows, to be written by [`Rows::read`].
    pub fn feature_mut(&mut self, j: usize) -> &mut [f64] {
        &mut self.features[j * self.stride..][..self.len]
    }

    /// Feature `j` of the rows.
    pub fn feature(&self, j: usize) -> &[f64] {
        &self.features[j * self.stride..][..self.len]
    }

    /// The weights, padding included.
    pub fn weight(&self) -> &[f64] {
        &self.weight
    }

    /// The weights of the rows, to be written by [`Rows::read`].
    pub fn weight_mut(&mut self) -> &mut [f64] {
        &mut self.weight[..self.len]
    }

    /// What each row is.
    pub fn state(&self) -> &[RowState] {
        &self.state
    }

    /// Marks row `i` as null.
    pub fn mark_null(&mut self, i: usize) {
        self.state[i] = RowState::Null;
        self.valid = false;
    }

    /// Says which components the rows belong to, as far as that is known; to be called by [`Rows::read`].
    pub fn set_labels(&mut self, labels: &[Option<u32>]) {
        self.label.clear();
        self.label.extend_from_slice(labels);
    }

    /// The component row `i` is known to belong to.
    pub fn label(&self, i: usize) -> Option<u32> {
        self.label.get(i).copied().flatten()
    }

    /// The components that rows are known to belong to.
    pub fn labels(&self) -> impl Iterator<Item = u32> + '_ {
        self.label.iter().copied().flatten()
    }

    /// Takes rows of known component out of all others, where the components hold log joint densities; whether there
    /// is such a row.
    pub(super) fn keep_labels(&mut self) -> bool {
        for (i, known) in self.label.iter().enumerate() {
            let Some(known) = known else { continue };
            for (c, lane) in self.responsibilities.chunks_exact_mut(self.stride.max(1)).enumerate() {
                lane[i] = if c == *known as usize { lane[i].max(LOWEST) } else { f64::NEG_INFINITY };
            }
        }
        !self.label.is_empty()
    }

    /// Component `c` of the rows: log joint density, responsibility, or what its scale makes a share, as the last step left
    /// it.
    pub fn component(&self, c: usize) -> &[f64] {
        &self.responsibilities[c * self.stride..][..self.len]
    }

    /// Writes the components of the rows, row after row: `len × k`.
    pub fn write_rows(&self, rows: &mut [f64]) {
        transpose((self.k, self.len), (&self.responsibilities, self.stride), (rows, self.k));
    }

    /// All components, lane after lane of [`Block::stride`], to be written by [`Responsibilities::assign`].
    pub fn components_mut(&mut self) -> &mut [f64] {
        &mut self.responsibilities
    }

    /// Component `c` of the rows, to be written by [`Responsibilities::assign`].
    pub fn component_mut(&mut self, c: usize) -> &mut [f64] {
        &mut self.responsibilities[c * self.stride..][..self.len]
    }

    /// As many lanes of components, the others as they were.
    pub(super) fn set_k(&mut self, k: usize) {
        self.k = k;
        self.responsibilities.resize(k * self.stride);
    }

    /// Keeps some of the rows, in the order named, without components.
    pub(super) fn keep(&mut self, rows: &[u32]) {
        self.set_k(0);
        let mut kept = vec![0.0; rows.len()];
        let lanes = self.features.chunks_exact_mut(self.stride.max(1));
        for lane in lanes.chain(std::iter::once(&mut *self.weight)) {
            kept.iter_mut().zip(rows).for_each(|(x, row)| *x = lane[*row as usize]);
            lane[..rows.len()].copy_from_slice(&kept);
            lane[rows.len()..].fill(0.0);
        }
        if !self.label.is_empty() {
            self.label = rows.iter().map(|row| self.label[*row as usize]).collect();
        }
        self.state.clear();
        self.state.resize(rows.len(), RowState::Valid);
        self.valid = true;
        self.len = rows.len();
    }

    /// Takes rows of another block that all count, without components. What pads them lies where the last one does, so that
    /// no component matters to it alone.
    pub(super) fn take(&mut self, from: &Self, rows: Range<usize>) {
        self.reset(rows.len(), from.d, 0);
        for (j, lane) in self.features.chunks_exact_mut(self.stride.max(1)).enumerate() {
            let (own, padding) = lane.split_at_mut(rows.len());
            own.copy_from_slice(&from.feature(j)[rows.clone()]);
            padding.fill(own.last().copied().unwrap_or(0.0));
        }
        self.weight[rows.len()..].fill(0.0);
        self.weight[..rows.len()].copy_from_slice(&from.weight[rows.clone()]);
        if !from.label.is_empty() {
            self.label.extend_from_slice(&from.label[rows]);
        }
    }

    /// Names the known components by their place among `components`.
    pub(super) fn rename_labels(&mut self, components: &[u32]) {
        for label in self.label.iter_mut().flatten() {
            if let Some(place) = components.iter().position(|c| c == label) {
                *label = place as u32;
            }
        }
    }

    /// Takes responsibilities of the rows from `start` that are given; those of rows that weigh nothing may be anything.
    pub(super) fn assign(&mut self, given: &dyn Responsibilities, start: usize) {
        self.responsibilities.fill(0.0);
        self.clear_figures();
        self.scale.copy_from_slice(&self.weight);
        given.assign(start, self);
        if self.weight[..self.len].contains(&0.0) {
            for lane in self.responsibilities.chunks_exact_mut(self.stride) {
                let rows = lane.iter_mut().zip(&*self.weight);
                rows.filter(|(_, w)| **w == 0.0).for_each(|(r, _)| *r = 0.0);
            }
        }
    }

    /// Forgets what an E-step said about the rows.
    pub(super) fn clear_figures(&mut self) {
        self.log_density.fill(0.0);
        self.entropy.fill(0.0);
    }

    /// log p(x) of the rows, after an E-step.
    pub fn log_density(&self) -> &[f64] {
        &self.log_density[..self.len]
    }

    /// A row counts if it is valid and weighs more than nothing.
    pub fn counts(&self, i: usize) -> bool {
        self.state[i] == RowState::Valid && self.weight[i] > 0.0
    }

    fn mark_not_finite(&mut self) {
        if all_finite(&self.features) {
            return;
        }
        for lane in self.features.chunks_exact(self.stride.max(1)) {
            for (x, state) in lane.iter().zip(&mut self.state) {
                if !x.is_finite() && *state == RowState::Valid {
                    (*state, self.valid) = (RowState::NotFinite, false);
                }
            }
        }
    }

    /// Leaves zeros, that weigh nothing, where rows cannot count.
    pub(super) fn take_out(&mut self) {
        self.weight[self.len..].fill(0.0);
        let states = if self.valid { &[][..] } else { &self.state[..] };
        for (i, _) in states.iter().enumerate().filter(|(_, state)| **state != RowState::Valid) {
            self.weight[i] = 0.0;
            for j in 0..self.d {
                self.features[j * self.stride + i] = 0.0;
            }
        }
    }
}

/// The component that a lane of a block stands for: where none is named, lanes are all components.
pub fn component_of(components: &[u32], lane: usize) -> usize {
    components.get(lane).map_or(lane, |c| *c as usize)
}

/// Rows held in memory by the mathematics itself: the start sample, and tests.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// `d` columns of equal length.
    pub columns: Vec<Vec<f64>>,
    /// A weight for each row.
    pub weight: Vec<f64>,
}

impl Rows for Sample {
    fn n_rows(&self) -> usize {
        self.weight.len()
    }

    fn d(&self) -> usize {
        self.columns.len()
    }

    fn read(&self, start: usize, block: &mut Block) {
        let rows = start..start + block.len();
        for (j, column) in self.columns.iter().enumerate() {
            block.feature_mut(j).copy_from_slice(&column[rows.clone()]);
        }
        block.weight_mut().copy_from_slice(&self.weight[rows]);
    }
}

/// Rows some of which are known to belong to a component.
pub struct Labelled<'a> {
    /// The rows.
    pub rows: &'a dyn Rows,
    /// The component of each row, where it is known; empty where none is.
    pub label: &'a [Option<u32>],
}

impl Rows for Labelled<'_> {
    fn n_rows(&self) -> usize {
        self.rows.n_rows()
    }

    fn d(&self) -> usize {
        self.rows.d()
    }

    fn read(&self, start: usize, block: &mut Block) {
        self.rows.read(start, block);
        if let Some(labels) = self.label.get(start..start + block.len()) {
            block.set_labels(labels);
        }
    }

    fn prefetch(&self, rows: Range<usize>) {
        self.rows.prefetch(rows);
    }
}

/// Hard assignments: row `i` belongs wholly to `component[i]`, or to none.
pub struct Labels<'a> {
    /// Number of components.
    pub k: usize,
    /// The component of each row.
    pub component: &'a [Option<u32>],
}

impl Responsibilities for Labels<'_> {
    fn k(&self) -> usize {
        self.k
    }

    fn assign(&self, start: usize, block: &mut Block) {
        for i in 0..block.len() {
            if let Some(c) = self.component[start + i] {
                block.component_mut(c as usize)[i] = 1.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of NaN, the first marked null.
    struct Nulls;

    impl Rows for Nulls {
        fn n_rows(&self) -> usize {
            2
        }

        fn d(&self) -> usize {
            1
        }

        fn read(&self, _: usize, block: &mut Block) {
            block.feature_mut(0).fill(f64::NAN);
            block.mark_null(0);
        }
    }

    #[test]
    fn what_a_null_row_holds_does_not_matter() {
        let mut block = Block::default();
        block.load(&Nulls, 0, 2, 1);
        assert_eq!(block.state(), [RowState::Null, RowState::NotFinite]);
    }

    #[test]
    fn rows_that_cannot_count_are_taken_out() {
        let sample = Sample {
            columns: vec![vec![1.0, f64::NAN, 3.0], vec![1.0, 2.0, f64::INFINITY]],
            weight: vec![1.0, 2.0, 3.0],
        };
        let mut block = Block::default();
        block.load(&sample, 0, 3, 1);
        assert_eq!(block.state(), [RowState::Valid, RowState::NotFinite, RowState::NotFinite]);
        assert_eq!(&block.weight()[..4], [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(block.feature(1), [1.0, 0.0, 0.0]);
        assert_eq!(block.stride() % PAD, 0);
    }
}
