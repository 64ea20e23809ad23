//! One pass over all rows: leaves of a fixed size, merged along a fixed tree.
//!
//! Leaf `i` holds rows `i·L .. (i+1)·L`, read in blocks that stay in a cache. A range of leaves is cut at the largest
//! power of two below its length, which is the tree a sequential run builds with a stack of partial sums. So the
//! result has the same bits for any number of threads, and rounding errors grow with the logarithm of the rows.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::ThreadPool;

use super::density::{Density, Nearby};
use super::error::{Error, Result};
use super::rows::{Block, Responsibilities, Rows};
use super::shapes::{block_rows, leaf_rows};
use super::statistics::{Accumulator, Guess, Scatter, Statistics};
use super::team;

/// Whether a pass may use the threads of the current rayon pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// One thread, the caller's.
    Sequential,
    /// The current rayon pool.
    Parallel,
}

/// How to run over the rows: threads, and a flag that stops between leaves.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// Threads.
    pub execution: Execution,
    /// Threads beside the caller's, for a pass that [is short](Pass::is_short): it would take longer to move to theirs.
    pub helpers: Option<&'a ThreadPool>,
    /// Set by somebody else to stop.
    pub cancelled: &'a AtomicBool,
}

static NEVER: AtomicBool = AtomicBool::new(false);

/// Leaves of a short pass, whose statistics may all be held at a time.
const SHORT: usize = 16;

/// Pieces for each thread, so many that all end at about the same time.
const PIECES: usize = 32;

/// Numbers of the next block that may come into a first-level cache beside those of this one.
const PREFETCHED: usize = 2048;

impl Pass<'_> {
    /// A pass on the caller's thread that nobody stops.
    pub const SEQUENTIAL: Pass<'static> =
        Pass { execution: Execution::Sequential, helpers: None, cancelled: &NEVER };

    /// Whether a pass is over in about the time it takes to wake threads.
    pub fn is_short(n_rows: usize, d: usize, k: usize) -> bool {
        n_rows <= SHORT * leaf_rows(d, k)
    }

    /// The fused E-step: statistics of the rows under a model.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn e_step(self, rows: &dyn Rows, density: &Density, form: Scatter) -> Result<Statistics> {
        let rooms = Rooms::new(density.k(), rows.d(), form);
        thoroughly(density, |summand| self.run(rows, form, summand, &rooms))
    }

    /// Statistics of the rows under given responsibilities.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn assigned(
        self,
        rows: &dyn Rows,
        given: &dyn Responsibilities,
        form: Scatter,
    ) -> Result<Statistics> {
        self.run(rows, form, &Summand::Assigned(given), &Rooms::new(given.k(), rows.d(), form))
    }

    fn run(self, rows: &dyn Rows, form: Scatter, summand: &Summand, rooms: &Rooms) -> Result<Statistics> {
        let leaf = leaf_rows(rows.d(), summand.k());
        let leaves = rows.n_rows().div_ceil(leaf);
        // To ask for the current pool where there is none would make one.
        let grain = match self.execution {
            Execution::Parallel if self.helpers.is_none() => {
                1 << (leaves / (PIECES * rayon::current_num_threads())).max(1).ilog2()
            }
            _ => usize::MAX,
        };
        let tree = Tree { cancelled: self.cancelled, rows, form, summand, rooms, leaf, grain };
        match self.helpers {
            Some(pool) => tree.sum_shared(leaves, pool),
            None => tree.sum(0, leaves),
        }
    }
}

/// Where a thread sums up rows.
pub(super) struct Room {
    /// Rows to be put in order.
    leaf: Block,
    pub(super) block: Block,
    accumulator: Accumulator,
}

impl Room {
    pub(super) fn new(k: usize, d: usize, form: Scatter) -> Self {
        let accumulator = Accumulator::new(k, d, form);
        Self { leaf: Block::default(), block: Block::default(), accumulator }
    }
}

/// Rooms for sums of one shape.
struct Rooms {
    k: usize,
    d: usize,
    form: Scatter,
    /// Those that no thread is in.
    empty: Mutex<Vec<Room>>,
}

impl Rooms {
    fn new(k: usize, d: usize, form: Scatter) -> Self {
        Self { k, d, form, empty: Mutex::default() }
    }

    /// Works in an empty one, or in a new one.
    fn work_in<T>(&self, work: impl FnOnce(&mut Room) -> T) -> T {
        let empty = self.empty().pop();
        let mut room = empty.unwrap_or_else(|| Room::new(self.k, self.d, self.form));
        let result = work(&mut room);
        self.empty().push(room);
        result
    }

    fn empty(&self) -> MutexGuard<'_, Vec<Room>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes over the same rows, one after the other. Room for their sums is made once, and rows that fit into a block are
/// read once: for few rows that is most of what a pass costs.
pub struct Passes<'a> {
    rows: &'a dyn Rows,
    pass: Pass<'a>,
    form: Scatter,
    /// For sums by as many components as the last model had.
    rooms: Rooms,
    /// The rows, all of them, and the sums.
    whole: Option<Room>,
}

impl<'a> Passes<'a> {
    /// Of these rows, for statistics of this form.
    pub fn new(rows: &'a dyn Rows, pass: Pass<'a>, form: Scatter) -> Self {
        Self { rows, pass, form, rooms: Rooms::new(0, rows.d(), form), whole: None }
    }

    /// [`Pass::e_step`].
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn e_step(&mut self, density: &Density) -> Result<Statistics> {
        thoroughly(density, |summand| self.sum(summand))
    }

    /// [`Pass::assigned`].
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn assigned(&mut self, given: &dyn Responsibilities) -> Result<Statistics> {
        self.sum(&Summand::Assigned(given))
    }

    fn sum(&mut self, summand: &Summand) -> Result<Statistics> {
        let (rows, form) = (self.rows, self.form);
        let (n, d, k) = (rows.n_rows(), rows.d(), summand.k());
        if k != self.rooms.k {
            (self.rooms, self.whole) = (Rooms::new(k, d, form), None);
        }
        let in_order = matches!(summand, Summand::Expected { nearby: Some(_), .. });
        if n == 0 || n > block_rows(d, k) || in_order {
            return self.pass.run(rows, form, summand, &self.rooms);
        }
        go_on(self.pass.cancelled)?;
        let Room { block, accumulator, .. } = self.whole.get_or_insert_with(|| {
            let mut room = Room::new(k, d, form);
            room.block.load(rows, 0, n, k);
            room
        });
        let mut filled = false;
        Statistics::of(accumulator, &summand.guess(block), |accumulator| {
            summand.add(0, block, &mut filled, accumulator);
            Ok(())
        })
    }
}

/// What rows are summed up by.
pub enum Summand<'a> {
    /// Responsibilities under a model.
    Expected {
        /// Of the model.
        density: &'a Density,
        /// Where rows are [worth](Nearby::worth) putting in order.
        nearby: Option<Box<Nearby<'a>>>,
    },
    /// Responsibilities that are given.
    Assigned(&'a dyn Responsibilities),
}

impl<'a> Summand<'a> {
    /// Responsibilities under a model.
    pub fn expected(density: &'a Density) -> Self {
        Self::Expected { density, nearby: Nearby::worth(density).map(Box::new) }
    }

    /// Number of components.
    pub fn k(&self) -> usize {
        match self {
            Self::Expected { density, .. } => density.k(),
            Self::Assigned(given) => given.k(),
        }
    }

    /// Leaves what times its scale are shares in the components of a block that starts at a row.
    pub(super) fn fill(&self, start: usize, block: &mut Block) {
        match self {
            Self::Expected { density, .. } => density.shares(block),
            Self::Assigned(given) => block.assign(*given, start),
        }
    }

    /// Adds the rows of a block that starts at a row, and fills it before unless it is filled or need not be.
    fn add(&self, start: usize, block: &mut Block, filled: &mut bool, accumulator: &mut Accumulator) {
        if let (Self::Assigned(given), Some(reach)) = (self, accumulator.reach(block)) {
            let lying = given.lying(start..start + block.len());
            if let Some(lying) = lying.filter(|lying| lying.len() >= reach) {
                block.clear_figures();
                return accumulator.absorb_given(block, lying);
            }
        }
        if !*filled {
            self.fill(start, block);
            *filled = true;
        }
        accumulator.absorb(block);
    }

    /// First guesses of the means of a leaf that begins with this block.
    fn guess(&self, block: &Block) -> Guess<'_> {
        match self {
            Self::Expected { density, .. } => density.guess(),
            Self::Assigned(given) => {
                let row = first_counted_row(block);
                Guess {
                    means: Cow::Owned(row.repeat(given.k())),
                    origin: Some(Cow::Owned(row)),
                    by_row: given.by_row(),
                }
            }
        }
    }

    /// The statistics of up to a leaf of rows, block by block.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(super) fn leaf(
        &self,
        rows: &dyn Rows,
        leaf: Range<usize>,
        cancelled: &AtomicBool,
        room: &mut Room,
    ) -> Result<Statistics> {
        let Range { start, end } = leaf;
        let Room { leaf, block, accumulator } = room;
        if let Self::Expected { nearby: Some(nearby), density } = self {
            leaf.load(rows, start, end - start, 0);
            return Statistics::of(accumulator, &density.guess(), |accumulator| {
                go_on(cancelled)?;
                nearby.for_each_block(leaf, block, |block, components| {
                    accumulator.absorb_in(block, components);
                });
                Ok(())
            });
        }
        let size = block_rows(rows.d(), self.k());
        let load = |start: usize, block: &mut Block| {
            let next = end.min(start + size);
            block.load(rows, start, next - start, self.k());
            if size * rows.d() <= PREFETCHED {
                rows.prefetch(next..end.min(next + size));
            }
        };
        load(start, block);
        let guess = self.guess(block);
        let (mut loaded, mut filled) = (start, false);
        Statistics::of(accumulator, &guess, |accumulator| {
            for start in (start..end).step_by(size) {
                go_on(cancelled)?;
                if loaded != start {
                    load(start, block);
                    (loaded, filled) = (start, false);
                }
                self.add(start, block, &mut filled, accumulator);
            }
            Ok(())
        })
    }
}

/// Sums under a density, and once more where those may [lack](Density::thorough) something of a component.
fn thoroughly(density: &Density, mut sum: impl FnMut(&Summand) -> Result<Statistics>) -> Result<Statistics> {
    let statistics = sum(&Summand::expected(density))?;
    match density.thorough(&statistics) {
        Some(thorough) => sum(&Summand::expected(&thorough)),
        None => Ok(statistics),
    }
}

fn go_on(cancelled: &AtomicBool) -> Result<()> {
    if cancelled.load(Ordering::Relaxed) {
        Err(Error::Interrupted)
    } else {
        Ok(())
    }
}

struct Tree<'a> {
    cancelled: &'a AtomicBool,
    rows: &'a dyn Rows,
    form: Scatter,
    summand: &'a Summand<'a>,
    rooms: &'a Rooms,
    leaf: usize,
    grain: usize,
}

impl Tree<'_> {
    fn sum(&self, first: usize, end: usize) -> Result<Statistics> {
        go_on(self.cancelled)?;
        if end - first <= self.grain {
            return self.sum_here(first, end);
        }
        let middle = first + (end - first).next_power_of_two() / 2;
        let (left, right) = rayon::join(|| self.sum(first, middle), || self.sum(middle, end));
        let mut total = left?;
        total.merge(&right?);
        Ok(total)
    }

    /// The same tree on one thread.
    fn sum_here(&self, first: usize, end: usize) -> Result<Statistics> {
        let fold = |room: &mut Room| self.folded((first..end).map(|leaf| self.leaf(leaf, room)));
        self.rooms.work_in(fold)
    }

    /// The same tree with helpers.
    fn sum_shared(&self, leaves: usize, pool: &ThreadPool) -> Result<Statistics> {
        let leaf = |leaf| self.rooms.work_in(|room| self.leaf(leaf, room));
        self.folded(team::results(pool, leaves, leaf))
    }

    fn leaf(&self, leaf: usize, room: &mut Room) -> Result<Statistics> {
        let rows = leaf * self.leaf..self.rows.n_rows().min((leaf + 1) * self.leaf);
        self.summand.leaf(self.rows, rows, self.cancelled, room)
    }

    /// The tree over leaves that come in their order: a stack of sums whose sizes are falling powers of two.
    fn folded(&self, leaves: impl IntoIterator<Item = Result<Statistics>>) -> Result<Statistics> {
        let mut stack: Vec<Statistics> = Vec::new();
        for (leaf, statistics) in leaves.into_iter().enumerate() {
            stack.push(statistics?);
            let mut done = leaf + 1;
            while done.is_multiple_of(2) {
                fold(&mut stack);
                done /= 2;
            }
        }
        while stack.len() > 1 {
            fold(&mut stack);
        }
        Ok(stack.pop().unwrap_or_else(|| Statistics::new(self.summand.k(), self.rows.d(), self.form)))
    }
}

/// Merges the last sum into the one before it.
pub(super) fn fold(stack: &mut Vec<Statistics>) {
    if let Some(right) = stack.pop() {
        if let Some(left) = stack.last_mut() {
            left.merge(&right);
        }
    }
}

fn first_counted_row(block: &Block) -> Vec<f64> {
    let row = (0..block.len()).find(|i| block.counts(*i)).unwrap_or(0);
    (0..block.d()).map(|j| block.feature(j).get(row).copied().unwrap_or(0.0)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use ndarray::{Array1, Array2, Array3};

    use super::*;
    use crate::mixture::covariance::CovarianceType;
    use crate::mixture::model::Model;
    use crate::mixture::rows::{Labelled, Labels, Sample};
    use crate::mixture::testing::{
        assert_all_close, assert_close, model, names, repeated, sample, spread_out, whole_weights,
    };

    fn bytes(statistics: &Statistics) -> Vec<u8> {
        postcard::to_stdvec(statistics).unwrap()
    }

    #[test]
    fn threads_change_no_bit() {
        let small = [0, 1, 63, 64, 65, 1023, 1024, 1025, 5000, 100_001].map(|n| (n, 2, Scatter::Full));
        let wide = [63, 64, 65, 129, 1023, 1024, 1025, 5000].map(|n| (n, 100, Scatter::Diagonal));
        for (n, d, form) in small.into_iter().chain(wide) {
            let rows = whole_weights(sample(n, d, 21));
            let density = model(CovarianceType::Diag, 2, d, 5).density().unwrap();
            let alone = Pass::SEQUENTIAL.e_step(&rows, &density, form).unwrap();
            assert_eq!(alone.total_weight, rows.weight.iter().sum::<f64>());
            for threads in 1..=3 {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let within = Pass { execution: Execution::Parallel, ..Pass::SEQUENTIAL };
                let beside = Pass { helpers: Some(&pool), ..within };
                let within = pool.install(|| within.e_step(&rows, &density, form)).unwrap();
                let beside = beside.e_step(&rows, &density, form).unwrap();
                assert_eq!(bytes(&alone), bytes(&within), "{n} rows, {threads} threads");
                assert_eq!(bytes(&alone), bytes(&beside), "{n} rows, {threads} threads");
            }
        }
    }

    #[test]
    fn passes_over_the_same_rows_are_passes() {
        for n in [0, 1, 20, 256, 257, 3000] {
            let rows = whole_weights(sample(n, 3, 9));
            let label: Vec<Option<u32>> = (0..n).map(|i| (i % 3 == 0).then_some((i % 2) as u32)).collect();
            for label in [&label[..], &[]] {
                let labelled = Labelled { rows: &rows, label };
                let mut passes = Passes::new(&labelled, Pass::SEQUENTIAL, Scatter::Full);
                for (k, seed, spread) in [(2, 1, 1.0), (2, 2, 1.0), (5, 3, 1.0), (2, 4, 1.0), (60, 5, 30.0)] {
                    let model = spread_out(&model(CovarianceType::Full, k, 3, seed), spread);
                    let density = model.density().unwrap();
                    assert_eq!(Nearby::worth(&density).is_some(), k == 60);
                    let alone = Pass::SEQUENTIAL.e_step(&labelled, &density, Scatter::Full).unwrap();
                    assert_eq!(bytes(&passes.e_step(&density).unwrap()), bytes(&alone), "{n} {k}");
                    let component: Vec<Option<u32>> =
                        (0..n).map(|i| Some((i * seed as usize % k) as u32)).collect();
                    let given = Labels { k, component: &component };
                    let alone = Pass::SEQUENTIAL.assigned(&labelled, &given, Scatter::Full).unwrap();
                    assert_eq!(bytes(&passes.assigned(&given).unwrap()), bytes(&alone), "{n} {k}");
                }
            }
        }
    }

    #[test]
    fn the_stack_and_the_recursion_are_one_tree() {
        let rows = sample(leaf_rows(3, 2) * 45 + 7, 3, 2);
        let density = model(CovarianceType::Full, 2, 3, 5).density().unwrap();
        let summand = &Summand::Expected { density: &density, nearby: None };
        for leaves in [0, 1, 2, 3, 5, 7, 8, 9, 31, 32, 33, 45, 46] {
            let sum = |grain| {
                let (form, leaf) = (Scatter::Full, leaf_rows(3, 2));
                let rooms = &Rooms::new(2, 3, form);
                let tree = Tree { cancelled: &NEVER, rows: &rows, form, summand, rooms, leaf, grain };
                bytes(&tree.sum(0, leaves).unwrap())
            };
            for grain in [1, 2, 4, 16] {
                assert_eq!(sum(grain), sum(usize::MAX), "{leaves} leaves, grain {grain}");
            }
        }
    }

    #[test]
    fn there_are_no_more_rooms_than_threads_or_leaves() {
        let density = model(CovarianceType::Full, 2, 3, 5).density().unwrap();
        let summand = &Summand::Expected { density: &density, nearby: None };
        for threads in 1..=3 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for leaves in [0, 1, 2, 3, 40] {
                let (form, rows) = (Scatter::Full, sample(leaves * leaf_rows(3, 2), 3, 2));
                let rooms = &Rooms::new(2, 3, form);
                let pass = Pass { execution: Execution::Parallel, helpers: Some(&pool), cancelled: &NEVER };
                for _ in 0..2 {
                    pass.run(&rows, form, summand, rooms).unwrap();
                    assert!(rooms.empty().len() <= threads.min(leaves));
                }
            }
        }
    }

    /// Rows close together, whether or not that is worth it.
    fn in_order(rows: &dyn Rows, density: &Density, form: Scatter) -> Statistics {
        let nearby = density.order().map(|by| Box::new(Nearby::new(density, by)));
        let summand = &Summand::Expected { density, nearby };
        Pass::SEQUENTIAL.run(rows, form, summand, &Rooms::new(density.k(), rows.d(), form)).unwrap()
    }

    /// Rows as they come.
    fn as_they_come(rows: &dyn Rows, density: &Density, form: Scatter) -> Statistics {
        let summand = &Summand::Expected { density, nearby: None };
        Pass::SEQUENTIAL.run(rows, form, summand, &Rooms::new(density.k(), rows.d(), form)).unwrap()
    }

    #[test]
    fn rows_are_put_in_order_where_components_lie_apart() {
        let many =
            [(48, 1), (60, 9), (32, 4), (8, 16), (4, 48)].map(|(k, d)| (CovarianceType::Full, k, d, true));
        let few = [(47, 2), (16, 7), (7, 47), (3, 48)].map(|(k, d)| (CovarianceType::Tied, k, d, false));
        let diagonal =
            [(48, 2, true), (47, 30, false)].map(|(k, d, many)| (CovarianceType::Diag, k, d, many));
        for (kind, k, d, many) in many.into_iter().chain(few).chain(diagonal) {
            for (spread, apart) in [(0.1, false), (30.0, true)] {
                let density = spread_out(&model(kind, k, d, 5), spread).density().unwrap();
                assert_eq!(Nearby::worth(&density).is_some(), many && apart, "{k} {d} {spread}");
            }
        }
    }

    #[test]
    fn rows_in_order_are_evaluated_as_others_are() {
        for kind in CovarianceType::ALL {
            let many = [(60, 1, 1.0), (60, 2, 30.0), (60, 4, 300.0), (60, 9, 5.0), (60, 30, 10.0)];
            let wide = [(4, 48, 0.1), (5, 50, 5.0), (16, 70, 50.0), (60, 50, 10.0)];
            for (k, d, spread) in many.into_iter().chain(wide) {
                let mut rows = whole_weights(sample(5000, d, 4));
                let model = model(kind, k, d, 5);
                for (j, column) in rows.columns.iter_mut().enumerate() {
                    for (i, x) in column.iter_mut().enumerate() {
                        *x = *x * 0.5 + spread * model.means()[[i % k, j]];
                    }
                }
                let density = spread_out(&model, spread).density().unwrap();
                let form = kind.structure().scatter();
                let near = in_order(&rows, &density, form);
                let all = as_they_come(&rows, &density, form);
                assert_eq!((near.n_rows, near.total_weight), (all.n_rows, all.total_weight));
                assert_close(near.log_likelihood, all.log_likelihood, 1e-13);
                assert_close(near.entropy / near.total_weight, all.entropy / all.total_weight, 1e-12);
                assert_all_close(near.weight(), all.weight(), 1e-12);
                for c in (0..k).filter(|c| all.weight()[*c] > 1e-3) {
                    for j in 0..d {
                        let scale = all.scatter_entry(c, j, j) + all.weight()[c] * 1e-9;
                        let deviation = (scale / all.weight()[c]).sqrt();
                        let shift = near.mean()[c * d + j] - all.mean()[c * d + j];
                        assert!(shift.abs() <= 1e-10 * deviation, "{kind:?} {d} {c}: {shift} {deviation}");
                        let change = near.scatter_entry(c, j, j) - all.scatter_entry(c, j, j);
                        assert!(change.abs() <= 1e-9 * scale, "{kind:?} {d} {c}: {change} {scale}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_far_from_many_components_belong_where_they_would_among_few() {
        let k = 60;
        let far = |unit: f64| (0..k).map(|c| unit * c as f64).collect::<Vec<f64>>();
        let two_alike = (0..k).map(|c| c.max(1) as f64).collect();
        let one_near = (0..k).map(|c| if c == 0 { 0.0 } else { 1e150 * (c + 1) as f64 }).collect();
        let symmetric = (0..k).map(|c| 100.0 * c as f64 - 2950.0).collect();
        let cases = [
            (far(1e148), 1e-12, None, -1e150),
            (far(100.0), 1e-12, Some(k - 1), -1e150),
            (one_near, 1e-12, Some(0), 1e-7),
            (two_alike, 1e-4, None, -1e9),
            (symmetric, 1.0, None, 1e13),
            (far(1.5e154), 1e308, None, 1e153),
        ];
        for (mean, variance, weightless, x) in cases {
            let weights = Array1::from_shape_fn(k, |c| f64::from(u8::from(Some(c) != weightless)));
            let means = Array2::from_shape_fn((k, 2), |(c, j)| if j == 0 { mean[c] } else { 0.0 });
            let covariances =
                Array3::from_shape_fn((k, 2, 2), |(_, i, j)| if i == j { variance } else { 0.0 });
            let weights = &weights / weights.sum();
            let model = Model::new(names(2), CovarianceType::Full, weights, means, covariances).unwrap();
            let density = model.density().unwrap();
            let rows = Sample { columns: vec![vec![x; 5], vec![0.0; 5]], weight: vec![1.0; 5] };
            let near = in_order(&rows, &density, Scatter::Full);
            let all = as_they_come(&rows, &density, Scatter::Full);
            assert_all_close(near.weight(), all.weight(), 1e-12);
            assert_close(near.entropy, all.entropy, 1e-12);
            assert_eq!(near.log_likelihood, all.log_likelihood);
        }
    }

    #[test]
    fn known_components_are_kept_among_many() {
        for (k, d) in [(50, 2), (50, 50), (7, 60)] {
            let mut rows = sample(3000, d, 4);
            rows.columns[0].iter_mut().enumerate().for_each(|(i, x)| *x += (i % 50) as f64 * 20.0);
            let labels: Vec<Option<u32>> = (0..3000).map(|i| (i % 3 == 0).then_some(i % 7)).collect();
            let labelled = Labelled { rows: &rows, label: &labels };
            let density = model(CovarianceType::Full, k, d, 5).density().unwrap();
            let near = in_order(&labelled, &density, Scatter::Full);
            let all = as_they_come(&labelled, &density, Scatter::Full);
            assert_all_close(near.weight(), all.weight(), 1e-12);
            assert_close(near.log_likelihood, all.log_likelihood, 1e-13);
        }
    }

    #[test]
    fn whole_weights_are_repeated_rows() {
        let rows = whole_weights(sample(3001, 3, 4));
        let copies = repeated(&rows);
        for form in [Scatter::Full, Scatter::Diagonal] {
            let density = model(CovarianceType::Full, 3, 3, 5).density().unwrap();
            let weighted = Pass::SEQUENTIAL.e_step(&rows, &density, form).unwrap();
            let plain = Pass::SEQUENTIAL.e_step(&copies, &density, form).unwrap();
            assert_all_close(weighted.weight(), plain.weight(), 1e-12);
            assert_all_close(weighted.mean(), plain.mean(), 1e-12);
            assert_all_close(weighted.scatter(), plain.scatter(), 1e-12);
            assert_close(weighted.log_likelihood, plain.log_likelihood, 1e-12);
            assert_close(weighted.entropy, plain.entropy, 1e-12);
            assert_eq!(weighted.total_weight, plain.n_rows as f64);
            assert_eq!(weighted.n_rows, rows.weight.iter().filter(|w| **w > 0.0).count() as u64);
        }
    }

    #[test]
    fn rows_of_no_weight_leave_nothing() {
        let mut rows = sample(2000, 2, 4);
        rows.weight.fill(0.0);
        let density = model(CovarianceType::Full, 3, 2, 5).density().unwrap();
        let nothing = Pass::SEQUENTIAL.e_step(&rows, &density, Scatter::Full).unwrap();
        assert_eq!(nothing, Statistics::new(3, 2, Scatter::Full));
        // A row that weighs nothing may hold anything finite.
        let mut some = sample(100, 2, 4);
        let before = Pass::SEQUENTIAL.e_step(&some, &density, Scatter::Full).unwrap();
        for (column, x) in some.columns.iter_mut().zip([1e300, -1e308]) {
            column.push(x);
        }
        some.weight.push(0.0);
        let after = Pass::SEQUENTIAL.e_step(&some, &density, Scatter::Full).unwrap();
        assert_eq!(bytes(&before), bytes(&after));
    }

    #[test]
    fn labels_give_the_moments_of_their_groups() {
        let rows =
            Sample { columns: vec![vec![1.0, 3.0, 10.0, 99.0, 14.0]], weight: vec![1.0, 3.0, 1.0, 5.0, 1.0] };
        let component = [Some(0), Some(0), Some(2), None, Some(2)];
        let labels = Labels { k: 3, component: &component };
        let statistics = Pass::SEQUENTIAL.assigned(&rows, &labels, Scatter::Full).unwrap();
        assert_eq!(statistics.weight(), [4.0, 0.0, 2.0]);
        assert_eq!(statistics.mean(), [2.5, 0.0, 12.0]);
        assert_eq!(statistics.scatter(), [3.0, 0.0, 8.0]);
        assert_eq!((statistics.log_likelihood, statistics.entropy), (0.0, 0.0));
    }

    #[test]
    fn labels_of_many_leaves_belong_to_their_rows() {
        let n = 3 * 1024 + 5;
        let x: Vec<f64> = (0..n).map(|i| (i / 1000) as f64).collect();
        let component: Vec<Option<u32>> = (0..n).map(|i| Some((i / 1000) as u32)).collect();
        let rows = Sample { columns: vec![x], weight: vec![1.0; n] };
        let labels = Labels { k: 4, component: &component };
        let statistics = Pass::SEQUENTIAL.assigned(&rows, &labels, Scatter::Full).unwrap();
        assert_eq!(statistics.weight(), [1000.0, 1000.0, 1000.0, 77.0]);
        assert_eq!(statistics.mean(), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(statistics.scatter(), [0.0; 4]);
    }

    #[test]
    fn a_first_row_of_no_weight_is_no_guess_of_the_mean() {
        let x = vec![1e300, 1e8 + 1.0, 1e8 + 2.0, 1e8 + 3.0];
        let rows = Sample { columns: vec![x], weight: vec![0.0, 1.0, 1.0, 1.0] };
        let labels = Labels { k: 1, component: &[Some(0); 4] };
        let statistics = Pass::SEQUENTIAL.assigned(&rows, &labels, Scatter::Full).unwrap();
        assert_eq!(statistics.mean(), [1e8 + 2.0]);
        assert_eq!(statistics.scatter(), [2.0]);
    }

    /// Rows that ask to stop when they are read past a point.
    struct Stopping<'a>(&'a Sample, &'a AtomicBool, AtomicUsize);

    impl Rows for Stopping<'_> {
        fn n_rows(&self) -> usize {
            self.0.n_rows()
        }

        fn d(&self) -> usize {
            self.0.d()
        }

        fn read(&self, start: usize, block: &mut Block) {
            self.0.read(start, block);
            if self.2.fetch_add(1, Ordering::Relaxed) == 2 {
                self.1.store(true, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn a_pass_stops_when_asked() {
        let (sample, few) = (sample(100_000, 2, 3), sample(50, 2, 3));
        let density = model(CovarianceType::Full, 2, 2, 5).density().unwrap();
        for execution in [Execution::Sequential, Execution::Parallel] {
            let cancelled = AtomicBool::new(false);
            let rows = Stopping(&sample, &cancelled, AtomicUsize::new(0));
            let pass = Pass { execution, helpers: None, cancelled: &cancelled };
            assert_eq!(pass.e_step(&rows, &density, Scatter::Full), Err(Error::Interrupted));
            let read = rows.2.load(Ordering::Relaxed);
            assert!((3..98).contains(&read), "{read} of 98 leaves");
            assert_eq!(Passes::new(&few, pass, Scatter::Full).e_step(&density), Err(Error::Interrupted));
            let none = Labels { k: 2, component: &vec![None; 100_000] };
            assert_eq!(pass.assigned(&sample, &none, Scatter::Full), Err(Error::Interrupted));
        }
    }
}
