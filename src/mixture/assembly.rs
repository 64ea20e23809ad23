//! One pass over rows that come in pieces, cut anywhere and in any order: the leaves and the tree of [`pass`](super::pass).
//!
//! A piece says at which row number it begins. Leaves that lie wholly in it are computed there and then, on the thread
//! that brings it; rows of a leaf that is cut are kept until the others of that leaf have come. Sums of leaves go up the
//! tree as soon as their siblings are there, so that what waits are the edges of what has come. So the cuts, their
//! order and the number of threads change no bit, and the result is that of a pass over the same rows in memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::{Error, Result};
use super::pass::{fold, Room, Summand};
use super::rows::{Block, Responsibilities, Rows};
use super::shapes::{block_rows, leaf_rows};
use super::statistics::{Scatter, Statistics};

/// Statistics in the making.
pub struct Assembly {
    k: usize,
    d: usize,
    form: Scatter,
    /// Rows of a leaf.
    leaf: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sums of 2^level leaves, by level and place.
    sums: HashMap<Node, Statistics>,
    /// What has come of leaves that are cut, in order.
    parts: HashMap<u64, Vec<Part>>,
    rows: u64,
}

/// Level and place of a sum in the tree.
type Node = (u32, u64);

/// Rows of a leaf, from a place in it on: lanes of their features and of the responsibilities given with them.
struct Part {
    at: usize,
    features: Vec<Vec<f64>>,
    weight: Vec<f64>,
    label: Vec<Option<u32>>,
    responsibilities: Vec<Vec<f64>>,
    /// Whether those came row after row.
    by_row: bool,
}

/// Parts in order, which are the first rows of a leaf.
struct Joined<'a> {
    d: usize,
    k: usize,
    len: usize,
    parts: &'a [Part],
}

impl Assembly {
    /// Of no row yet.
    pub fn new(k: usize, d: usize, form: Scatter) -> Self {
        Self { k, d, form, leaf: leaf_rows(d, k), state: Mutex::default() }
    }

    /// Number of components.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How much of the scatter is kept.
    pub fn form(&self) -> Scatter {
        self.form
    }

    /// Adds rows, of which the first has the number `first`; from any thread.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once `cancelled` is set, after which the pass cannot be finished.
    pub fn absorb(
        &self,
        rows: &dyn Rows,
        first: u64,
        summand: &Summand,
        cancelled: &AtomicBool,
    ) -> Result<()> {
        let (size, n_rows) = (self.leaf as u64, rows.n_rows() as u64);
        let mut room = Room::new(self.k, self.d, self.form);
        let mut sums: Vec<(Node, Statistics)> = Vec::new();
        let mut at = 0;
        while at < n_rows {
            let (number, within) = ((first + at) / size, (first + at) % size);
            let len = (size - within).min(n_rows - at);
            let (start, end) = (at as usize, (at + len) as usize);
            if len == size {
                let sum = summand.leaf(rows, start..end, cancelled, &mut room)?;
                push(&mut sums, (0, number), sum);
            } else {
                let part = Part::read(rows, (start, end), within as usize, summand, &mut room.block);
                if let Some(parts) = self.keep(number, part) {
                    let sum = self.join(&parts, self.leaf, summand, cancelled, &mut room)?;
                    sums.push(((0, number), sum));
                }
            }
            at += len;
        }
        let mut state = self.state();
        state.rows += n_rows;
        for (node, sum) in sums {
            state.insert(node, sum);
        }
        Ok(())
    }

    /// Rows added so far.
    pub fn n_rows(&self) -> u64 {
        self.state().rows
    }

    /// The statistics of all rows, which are numbered from 0 on without gaps; to be asked for once.
    ///
    /// # Errors
    /// If rows are missing or came twice.
    pub fn finish(&self, summand: &Summand) -> Result<Statistics> {
        let mut state = {
            let mut held = self.state();
            let rows = held.rows;
            std::mem::replace(&mut *held, State { rows, ..State::default() })
        };
        let (rows, size) = (state.rows, self.leaf as u64);
        let last = (rows % size) as usize;
        if let Some(parts) = state.parts.remove(&(rows / size)).filter(|parts| is_whole(parts, last)) {
            let mut room = Room::new(self.k, self.d, self.form);
            let never = AtomicBool::new(false);
            let sum = self.join(&parts, last, summand, &never, &mut room)?;
            state.insert((0, rows / size), sum);
        }
        let mut sums: Vec<(Node, Statistics)> = state.sums.into_iter().collect();
        sums.sort_unstable_by_key(|((level, place), _)| place << level);
        let covered = sums
            .iter()
            .try_fold(0, |end, ((level, place), _)| (place << level == end).then_some(end + (1 << level)));
        if covered != Some(rows.div_ceil(size)) || !state.parts.is_empty() {
            return Err(Error::Torn { rows });
        }
        let mut stack: Vec<Statistics> = sums.into_iter().map(|(_, sum)| sum).collect();
        while stack.len() > 1 {
            fold(&mut stack);
        }
        Ok(stack.pop().unwrap_or_else(|| Statistics::new(self.k, self.d, self.form)))
    }

    /// The statistics of a leaf from its parts, with the responsibilities they came with if those are given.
    fn join(
        &self,
        parts: &[Part],
        len: usize,
        summand: &Summand,
        cancelled: &AtomicBool,
        room: &mut Room,
    ) -> Result<Statistics> {
        let joined = Joined { d: self.d, k: self.k, len, parts };
        let assigned = Summand::Assigned(&joined);
        let summand = if matches!(summand, Summand::Assigned(_)) { &assigned } else { summand };
        summand.leaf(&joined, 0..len, cancelled, room)
    }

    /// Keeps a part of a leaf; gives all of them back once the leaf is whole.
    fn keep(&self, leaf: u64, part: Part) -> Option<Vec<Part>> {
        let mut state = self.state();
        let parts = state.parts.entry(leaf).or_default();
        let i = parts.partition_point(|other| other.at < part.at);
        parts.insert(i, part);
        if is_whole(parts, self.leaf) {
            state.parts.remove(&leaf)
        } else {
            None
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds a sum, and merges it with its siblings as far up as they are there.
    fn insert(&mut self, (mut level, mut place): Node, mut sum: Statistics) {
        while let Some(other) = self.sums.remove(&(level, place ^ 1)) {
            let (mut left, right) = if place % 2 == 0 { (sum, other) } else { (other, sum) };
            left.merge(&right);
            (level, place, sum) = (level + 1, place / 2, left);
        }
        self.sums.insert((level, place), sum);
    }
}

impl Part {
    /// Reads rows `start .. end`, which stand `at` in their leaf. Rows that cannot count weigh nothing in it.
    fn read(
        rows: &dyn Rows,
        (start, end): (usize, usize),
        at: usize,
        summand: &Summand,
        block: &mut Block,
    ) -> Self {
        // Responsibilities under a model are computed once the leaf is whole.
        let (k, by_row) =
            if let Summand::Assigned(given) = summand { (given.k(), given.by_row()) } else { (0, false) };
        let room = |lanes: usize| vec![Vec::with_capacity(end - start); lanes];
        let (features, responsibilities) = (room(rows.d()), room(k));
        let mut part = Self { at, features, weight: Vec::new(), label: Vec::new(), responsibilities, by_row };
        let size = block_rows(rows.d(), k);
        for start in (start..end).step_by(size) {
            block.load(rows, start, size.min(end - start), k);
            if k > 0 {
                summand.fill(start, block);
            }
            for (j, lane) in part.features.iter_mut().enumerate() {
                lane.extend_from_slice(block.feature(j));
            }
            for (c, lane) in part.responsibilities.iter_mut().enumerate() {
                lane.extend_from_slice(block.component(c));
            }
            part.weight.extend_from_slice(&block.weight()[..block.len()]);
            part.label.extend((0..block.len()).map(|i| block.label(i)));
        }
        part
    }

    fn end(&self) -> usize {
        self.at + self.weight.len()
    }
}

impl Joined<'_> {
    /// Calls `visit(part, rows within it, where they stand within the range)` along a range.
    fn visit(&self, start: usize, len: usize, mut visit: impl FnMut(&Part, Range<usize>, Range<usize>)) {
        for part in self.parts {
            let (from, to) = (part.at.max(start), part.end().min(start + len));
            if from < to {
                visit(part, from - part.at..to - part.at, from - start..to - start);
            }
        }
    }
}

impl Rows for Joined<'_> {
    fn n_rows(&self) -> usize {
        self.len
    }

    fn d(&self) -> usize {
        self.d
    }

    fn read(&self, start: usize, block: &mut Block) {
        let mut labels = vec![None; block.len()];
        self.visit(start, block.len(), |part, within, place| {
            for (j, lane) in part.features.iter().enumerate() {
                block.feature_mut(j)[place.clone()].copy_from_slice(&lane[within.clone()]);
            }
            block.weight_mut()[place.clone()].copy_from_slice(&part.weight[within.clone()]);
            labels[place].copy_from_slice(&part.label[within]);
        });
        if labels.iter().any(Option::is_some) {
            block.set_labels(&labels);
        }
    }
}

impl Responsibilities for Joined<'_> {
    fn k(&self) -> usize {
        self.k
    }

    fn by_row(&self) -> bool {
        self.parts.iter().any(|part| part.by_row)
    }

    fn assign(&self, start: usize, block: &mut Block) {
        self.visit(start, block.len(), |part, within, place| {
            for (c, lane) in part.responsibilities.iter().enumerate() {
                block.component_mut(c)[place.clone()].copy_from_slice(&lane[within.clone()]);
            }
        });
    }
}

/// Whether parts in order are the first `len` rows of a leaf, each once.
fn is_whole(parts: &[Part], len: usize) -> bool {
    let end = parts.iter().try_fold(0, |end, part| (part.at == end).then(|| part.end()));
    end == Some(len)
}

/// Adds the sum of the leaf after the last one, and merges siblings.
fn push(sums: &mut Vec<(Node, Statistics)>, node: Node, sum: Statistics) {
    sums.push((node, sum));
    while let [.., ((a, left), _), ((b, right), _)] = sums.as_slice() {
        if a != b || left % 2 == 1 || left + 1 != *right {
            return;
        }
        let node = (a + 1, left / 2);
        if let (Some((_, right)), Some((at, left))) = (sums.pop(), sums.last_mut()) {
            left.merge(&right);
            *at = node;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::covariance::CovarianceType;
    use crate::mixture::density::Density;
    use crate::mixture::pass::Pass;
    use crate::mixture::rows::{Labelled, Labels, Sample};
    use crate::mixture::testing::{model, sample, spread_out, whole_weights};
    use rand::seq::SliceRandom;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    static NEVER: AtomicBool = AtomicBool::new(false);

    /// A piece of a sample, with its labels.
    struct Piece<'a> {
        rows: &'a Sample,
        label: &'a [Option<u32>],
        start: usize,
        len: usize,
    }

    impl Rows for Piece<'_> {
        fn n_rows(&self) -> usize {
            self.len
        }

        fn d(&self) -> usize {
            self.rows.d()
        }

        fn read(&self, start: usize, block: &mut Block) {
            Labelled { rows: self.rows, label: self.label }.read(self.start + start, block);
        }
    }

    fn cuts(n: usize, most: usize, seed: u64) -> Vec<(usize, usize)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < n {
            let len = rng.random_range(1..=most).min(n - at);
            pieces.push((at, len));
            at += len;
        }
        pieces.shuffle(&mut rng);
        pieces
    }

    #[test]
    fn cuts_and_their_order_change_no_bit() {
        for (n, most) in
            [(0, 1), (1, 1), (1023, 100), (1024, 1024), (5000, 90), (70_001, 20_000), (70_001, 1500)]
        {
            let mut rows = whole_weights(sample(n, 3, 4));
            if n > 900 {
                rows.columns[1][877] = f64::NAN;
            }
            let label: Vec<Option<u32>> = (0..n).map(|i| (i % 11 == 3).then_some((i % 2) as u32)).collect();
            let density = model(CovarianceType::Full, 2, 3, 5).density().unwrap();
            for label in [&label[..], &[]] {
                let whole = Labelled { rows: &rows, label };
                let expected = Pass::SEQUENTIAL.e_step(&whole, &density, Scatter::Full).unwrap();
                for seed in 0..3 {
                    let assembly = Assembly::new(2, 3, Scatter::Full);
                    let leaf = &Summand::expected(&density);
                    for (start, len) in cuts(n, most, seed) {
                        let piece = Piece { rows: &rows, label, start, len };
                        assembly.absorb(&piece, start as u64, leaf, &NEVER).unwrap();
                    }
                    assert_eq!(assembly.n_rows(), n as u64);
                    assert_eq!(assembly.finish(leaf).unwrap(), expected, "{n} rows in pieces up to {most}");
                    assert_eq!(assembly.n_rows(), n as u64);
                }
            }
        }
    }

    #[test]
    fn many_components_are_cut_as_few_are() {
        let n = 3 * leaf_rows(3, 60) + 1001;
        let mut rows = whole_weights(sample(n, 3, 4));
        rows.columns[0].iter_mut().enumerate().for_each(|(i, x)| *x += (i % 60) as f64 * 20.0);
        rows.columns[1][877] = f64::NAN;
        let label: Vec<Option<u32>> = (0..n).map(|i| (i % 11 == 3).then_some((i % 7) as u32)).collect();
        for (spread, in_order) in [(1.0, false), (30.0, true)] {
            let density = spread_out(&model(CovarianceType::Full, 60, 3, 5), spread).density().unwrap();
            let summand = &Summand::expected(&density);
            assert_eq!(matches!(summand, Summand::Expected { nearby: Some(_), .. }), in_order);
            for label in [&label[..], &[]] {
                let whole = Labelled { rows: &rows, label };
                let expected = Pass::SEQUENTIAL.e_step(&whole, &density, Scatter::Full).unwrap();
                for most in [700, 9000, n] {
                    let in_pieces = |density: &Density| {
                        let (assembly, summand) =
                            (Assembly::new(60, 3, Scatter::Full), &Summand::expected(density));
                        for (start, len) in cuts(n, most, 1) {
                            let piece = Piece { rows: &rows, label, start, len };
                            assembly.absorb(&piece, start as u64, summand, &NEVER).unwrap();
                        }
                        assembly.finish(summand).unwrap()
                    };
                    let thorough = density.thorough(&in_pieces(&density)).unwrap();
                    assert_eq!(in_pieces(&thorough), expected, "pieces up to {most}");
                }
            }
        }
    }

    #[test]
    fn given_responsibilities_are_cut_with_their_rows() {
        let n = 20_011;
        let rows = sample(n, 2, 8);
        let component: Vec<Option<u32>> = (0..n).map(|i| (i % 7 > 0).then_some((i % 3) as u32)).collect();
        let labels = Labels { k: 3, component: &component };
        let expected = Pass::SEQUENTIAL.assigned(&rows, &labels, Scatter::Full).unwrap();
        let assembly = Assembly::new(3, 2, Scatter::Full);
        for (start, len) in cuts(n, 3000, 1) {
            let labels = Labels { k: 3, component: &component[start..start + len] };
            let piece = Piece { rows: &rows, label: &[], start, len };
            assembly.absorb(&piece, start as u64, &Summand::Assigned(&labels), &NEVER).unwrap();
        }
        assert_eq!(assembly.finish(&Summand::Assigned(&labels)).unwrap(), expected);
    }

    /// Labels that come row after row.
    struct ByRow<'a>(Labels<'a>);

    impl Responsibilities for ByRow<'_> {
        fn k(&self) -> usize {
            self.0.k
        }

        fn assign(&self, start: usize, block: &mut Block) {
            self.0.assign(start, block);
        }

        fn by_row(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_comes_row_after_row_is_summed_so_in_the_last_leaf_too() {
        let (n, k) = (3001, 13);
        let rows = sample(n, 2, 8);
        let component: Vec<Option<u32>> = (0..n).map(|i| Some((i % k) as u32)).collect();
        let labels = |component| ByRow(Labels { k, component });
        let all = labels(&component);
        let expected = Pass::SEQUENTIAL.assigned(&rows, &all, Scatter::Full).unwrap();
        let assembly = Assembly::new(k, 2, Scatter::Full);
        for (start, len) in cuts(n, 700, 1) {
            let labels = labels(&component[start..start + len]);
            let piece = Piece { rows: &rows, label: &[], start, len };
            assembly.absorb(&piece, start as u64, &Summand::Assigned(&labels), &NEVER).unwrap();
        }
        let none = Labels { k, component: &[] };
        assert_eq!(assembly.finish(&Summand::Assigned(&none)).unwrap(), expected);
    }

    #[test]
    fn threads_change_no_bit() {
        let n = 100_003;
        let rows = sample(n, 2, 3);
        let density = model(CovarianceType::Full, 3, 2, 5).density().unwrap();
        let leaf = &Summand::expected(&density);
        let expected = Pass::SEQUENTIAL.e_step(&rows, &density, Scatter::Full).unwrap();
        let assembly = Assembly::new(3, 2, Scatter::Full);
        let pieces = cuts(n, 5000, 2);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (pieces, rows, leaf, assembly) = (&pieces, &rows, leaf, &assembly);
                scope.spawn(move || {
                    for (start, len) in pieces.iter().skip(thread).step_by(3) {
                        let piece = Piece { rows, label: &[], start: *start, len: *len };
                        assembly.absorb(&piece, *start as u64, leaf, &NEVER).unwrap();
                    }
                });
            }
        });
        assert_eq!(assembly.finish(leaf).unwrap(), expected);
    }

    #[test]
    fn missing_and_repeated_rows_are_errors() {
        let rows = sample(5000, 2, 3);
        let density = model(CovarianceType::Full, 3, 2, 5).density().unwrap();
        let leaf = &Summand::expected(&density);
        let pieces = [[(0, 2000), (3000, 2000)], [(1000, 2000), (3000, 2000)], [(0, 3000), (2000, 3000)]];
        for pieces in pieces.into_iter().chain([[(0, 2048), (0, 2048)], [(0, 100), (0, 100)]]) {
            let assembly = Assembly::new(3, 2, Scatter::Full);
            for (start, len) in pieces {
                let piece = Piece { rows: &rows, label: &[], start, len };
                assembly.absorb(&piece, start as u64, leaf, &NEVER).unwrap();
            }
            let rows = pieces.iter().map(|(_, len)| *len as u64).sum();
            assert_eq!(assembly.finish(leaf), Err(Error::Torn { rows }), "{pieces:?}");
        }
    }

    #[test]
    fn what_waits_is_the_edge_of_what_has_come() {
        let n = 200_000;
        let rows = sample(n, 2, 3);
        let density = model(CovarianceType::Full, 3, 2, 5).density().unwrap();
        let assembly = Assembly::new(3, 2, Scatter::Full);
        for start in (0..n).step_by(1000) {
            let piece = Piece { rows: &rows, label: &[], start, len: 1000 };
            assembly.absorb(&piece, start as u64, &Summand::expected(&density), &NEVER).unwrap();
            let state = assembly.state();
            assert!(state.sums.len() <= 8 && state.parts.len() <= 1);
        }
    }

    #[test]
    fn a_piece_stops_when_asked() {
        let rows = sample(5000, 2, 3);
        let density = model(CovarianceType::Full, 3, 2, 5).density().unwrap();
        let assembly = Assembly::new(3, 2, Scatter::Full);
        let stopped = assembly.absorb(&rows, 0, &Summand::expected(&density), &AtomicBool::new(true));
        assert_eq!(stopped, Err(Error::Interrupted));
    }
}
