//! One pass over all rows: leaves of a fixed size, merged along a fixed tree.
//!
//! Leaf `i` holds rows `i·L .. (i+1)·L`, `L` fixed by `(d, k)`. A range of leaves is cut at the largest power of
//! two below its length, which is the tree a sequential run builds with a stack of partial sums. So the result
//! has the same bits for any number of threads, and rounding errors grow with the logarithm of the rows.

use std::sync::atomic::{AtomicBool, Ordering};

use super::density::Density;
use super::error::{Error, Result};
use super::rows::{Block, Responsibilities, Rows};
use super::statistics::{Scatter, Statistics};

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
    /// Set by somebody else to stop.
    pub cancelled: &'a AtomicBool,
}

static NEVER: AtomicBool = AtomicBool::new(false);

/// Rows of a leaf: a power of two, so that features and responsibilities stay near 256 kB.
pub fn leaf_rows(d: usize, k: usize) -> usize {
    let fitting = (32_768 / (d + k).max(1)).clamp(64, 1024);
    1 << fitting.ilog2()
}

impl Pass<'_> {
    /// A pass on the caller's thread that nobody stops.
    pub const SEQUENTIAL: Pass<'static> = Pass { execution: Execution::Sequential, cancelled: &NEVER };

    /// The fused E-step: statistics of the rows under a model.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn e_step(self, rows: &dyn Rows, density: &Density, form: Scatter) -> Result<Statistics> {
        self.run(rows, density.k(), form, &|_, block| {
            density.responsibilities(block);
            Statistics::of_block(block, density.means(), form)
        })
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
        let k = given.k();
        self.run(rows, k, form, &|start, block| {
            given.assign(start, block);
            let about = first_counted_row(block);
            Statistics::of_block(block, &about.repeat(k), form)
        })
    }

    fn run(self, rows: &dyn Rows, k: usize, form: Scatter, leaf: &Leaf) -> Result<Statistics> {
        let size = leaf_rows(rows.d(), k);
        let leaves = rows.n_rows().div_ceil(size);
        let grain = match self.execution {
            Execution::Sequential => usize::MAX,
            Execution::Parallel => 1 << (leaves / (8 * rayon::current_num_threads())).max(1).ilog2(),
        };
        let tree = Tree { pass: self, rows, k, form, leaf, size, grain };
        tree.sum(0, leaves)
    }
}

type Leaf<'a> = dyn Fn(usize, &mut Block) -> Statistics + Sync + 'a;

struct Tree<'a> {
    pass: Pass<'a>,
    rows: &'a dyn Rows,
    k: usize,
    form: Scatter,
    leaf: &'a Leaf<'a>,
    size: usize,
    grain: usize,
}

impl Tree<'_> {
    fn sum(&self, first: usize, end: usize) -> Result<Statistics> {
        if end - first <= self.grain {
            return self.sum_here(first, end);
        }
        let middle = first + (end - first).next_power_of_two() / 2;
        let (left, right) = rayon::join(|| self.sum(first, middle), || self.sum(middle, end));
        let mut total = left?;
        total.merge(&right?);
        Ok(total)
    }

    /// The same tree on one thread: a stack of sums whose sizes are falling powers of two.
    fn sum_here(&self, first: usize, end: usize) -> Result<Statistics> {
        let mut block = Block::default();
        let mut stack: Vec<Statistics> = Vec::new();
        for leaf in first..end {
            if self.pass.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let start = leaf * self.size;
            let len = self.size.min(self.rows.n_rows() - start);
            block.load(self.rows, start, len, self.k);
            stack.push((self.leaf)(start, &mut block));
            let mut done = leaf - first + 1;
            while done.is_multiple_of(2) {
                fold(&mut stack);
                done /= 2;
            }
        }
        while stack.len() > 1 {
            fold(&mut stack);
        }
        Ok(stack.pop().unwrap_or_else(|| Statistics::new(self.k, self.rows.d(), self.form)))
    }
}

/// Merges the last sum into the one before it.
fn fold(stack: &mut Vec<Statistics>) {
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
