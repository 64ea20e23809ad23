//! The E-step for statistics where components or features are many: rows that lie close together are evaluated together,
//! under the components that can matter to one of them.
//!
//! Rows are put in order by a tree over the means, or by their leading features. Components near a block of rows come
//! first; others are left out once they are known to be negligible beside those. A norm only grows with its features,
//! and with `z = x − μ_c`, `‖A_c z‖²` is at least `max_j z_j² / Σ_cjj` (Cauchy & Schwarz) and
//! `‖z‖² / max_i Σ_j |Σ_cij|` (Gershgorin), for which the nearest point of a box around the rows stands.

use pulp::{Simd, WithSimd};

use super::leading::Leading;
use super::log_joint::LogJoint;
use super::softmax::{Smallest, Softmax};
use super::{Density, Form};
use crate::mixture::rows::{Block, LOWEST, PAD};
use crate::mixture::shapes::{self, By, MANY};
use crate::mixture::simd::{raised, Lanes};

/// Rows evaluated together, a multiple of those that a kernel takes at a time.
const TOGETHER: usize = 96;
/// Components of this squared distance from a box, in their own variances, are near it.
const NEAR: f64 = 12.0;
/// Means at which it is seen whether components lie apart.
const SEEN: usize = 32;
/// How far the log joint density of a component lies below the largest, for an order to find it negligible cheaply: rows
/// lie around the means, and those evaluated together around each other; closer where [`MANY`] components have long leaves.
const APART: f64 = 200.0;
const APART_OF_MANY: f64 = 100.0;

/// A density, and what puts rows in order.
pub struct Nearby<'a> {
    density: &'a Density,
    order: Order,
}

enum Order {
    Tree(Tree, Bounds),
    Leading(Box<Leading>),
}

/// What bounds need, in lanes of components: for each feature means and reciprocal deviations, and reciprocals of the
/// largest sums of a row of a covariance.
struct Bounds {
    stride: usize,
    means: Lanes,
    reciprocals: Lanes,
    rows: Lanes,
}

impl<'a> Nearby<'a> {
    /// None where an order is not worth its making: if components and features are few, or components do not lie apart.
    pub fn worth(density: &'a Density) -> Option<Self> {
        let by = density.order()?;
        let gap = if by == By::Tree && density.k >= MANY { APART_OF_MANY } else { APART };
        density.lie_apart(gap).then(|| Self::new(density, by))
    }

    /// By what is made for [such shapes](shapes::order).
    pub fn new(density: &'a Density, by: By) -> Self {
        let order = match by {
            By::Leading => Order::Leading(Box::new(Leading::new(density))),
            By::Tree => {
                let bounds = Bounds::new(density);
                Order::Tree(Tree::new(&bounds, density.k), bounds)
            }
        };
        Self { density, order }
    }

    /// Calls `visit(block, components)` with blocks of rows that lie close together, until all that count were there,
    /// after [`Density::shares`] in these components; all others are negligible. Puts the leaf in order.
    pub fn for_each_block(&self, leaf: &mut Block, block: &mut Block, mut visit: impl FnMut(&Block, &[u32])) {
        let cells = match &self.order {
            Order::Tree(tree, _) => tree.cells(leaf),
            Order::Leading(leading) => leading.likeliest(leaf),
        };
        let order = in_order(leaf, &cells);
        leaf.keep(&order);
        let mut chosen = Chosen::default();
        chosen.distances.refill(self.density.k, 0.0);
        for (i, rows) in order.chunks(TOGETHER).enumerate() {
            block.take(leaf, i * TOGETHER..i * TOGETHER + rows.len());
            match &self.order {
                Order::Tree(_, bounds) => self.choose_near_box(bounds, block, &mut chosen),
                Order::Leading(_) => {
                    chosen.components.clear();
                    chosen.components.extend(rows.iter().map(|row| cells[*row as usize]));
                }
            }
            self.shares(block, &mut chosen);
            visit(block, &chosen.components);
        }
    }

    /// Chooses the components near a box around the rows, at least one; leaves bounds of all distances.
    fn choose_near_box(&self, bounds: &Bounds, block: &Block, chosen: &mut Chosen) {
        let Chosen { components, distances, .. } = chosen;
        self.density.level.run(Distances { bounds, block, out: distances });
        pick(components, self.density.k, |c| distances[c] <= NEAR);
        if components.is_empty() {
            let bound = |c: &u32| self.bound(*c as usize, distances);
            components.extend((0..self.density.k as u32).max_by(|a, b| bound(a).total_cmp(&bound(b))));
        }
    }

    /// What a log joint density does not exceed.
    fn bound(&self, c: usize, distances: &[f64]) -> f64 {
        self.density.log_constant[c] - 0.5 * distances[c]
    }

    /// [`Density::shares`] in the components that matter to the block, which are chosen: those that are, and what bounds
    /// of distances leave of the others.
    fn shares(&self, block: &mut Block, chosen: &mut Chosen) {
        let Density { level, k, negligible, .. } = self.density;
        let Chosen { components, others, distances, negligible: of_chosen } = chosen;
        components.extend(block.labels());
        components.sort_unstable();
        components.dedup();
        self.log_joint(block, components, 0, false);
        let least = level.run(Smallest(&block.log_density));
        let known = least > LOWEST;
        pick(others, *k, |c| !known || self.bound(c, distances) - least > negligible[c]);
        others.retain(|c| components.binary_search(c).is_err());
        let first = components.len();
        components.append(others);
        self.log_joint(block, components, first, known);
        block.rename_labels(components);
        self.density.settle(block, components);
        of_chosen.clear();
        of_chosen.extend(components.iter().map(|c| negligible[*c as usize]));
        level.run(Softmax { block, negligible: of_chosen, sparse: true, normalised: false });
    }

    /// Leaves log joint densities of components in the lanes from `first`, which are the last.
    fn log_joint(&self, block: &mut Block, components: &[u32], first: usize, leaving: bool) {
        block.set_k(components.len());
        self.density.level.run(LogJoint { density: self.density, block, components, first, leaving });
    }
}

/// The components that matter to a block, and what they are chosen by.
#[derive(Default)]
struct Chosen {
    components: Vec<u32>,
    /// Those of them that are not near, while they are chosen.
    others: Vec<u32>,
    /// Bounds from below of squared distances, of all components.
    distances: Lanes,
    /// What those that are chosen must exceed, as [`Density::negligible`] says.
    negligible: Vec<f64>,
}

/// Leaves the components that are wanted, of `k`.
fn pick(components: &mut Vec<u32>, k: usize, wanted: impl Fn(usize) -> bool) {
    components.clear();
    components.resize(k, 0);
    let mut n = 0;
    for c in 0..k {
        components[n] = c as u32;
        n += usize::from(wanted(c));
    }
    components.truncate(n);
}

/// The rows that count, those of a cell after each other.
fn in_order(leaf: &Block, cells: &[u32]) -> Vec<u32> {
    let last = cells.iter().max().map_or(0, |cell| *cell as usize);
    let mut starts = vec![0; last + 2];
    for (_, cell) in cells.iter().enumerate().filter(|(i, _)| leaf.counts(*i)) {
        starts[*cell as usize + 1] += 1;
    }
    for cell in 1..starts.len() {
        starts[cell] += starts[cell - 1];
    }
    let mut order = vec![0; starts.last().copied().unwrap_or(0)];
    for (i, cell) in cells.iter().enumerate().filter(|(i, _)| leaf.counts(*i)) {
        order[starts[*cell as usize]] = i as u32;
        starts[*cell as usize] += 1;
    }
    order
}

impl Bounds {
    fn new(density: &Density) -> Self {
        let (k, d) = (density.k, density.d);
        let stride = k.next_multiple_of(PAD);
        let by_feature = |of: &[f64]| {
            let mut lanes = Lanes::default();
            lanes.refill(d * stride, 0.0);
            for (e, value) in of.iter().enumerate() {
                lanes[e % d * stride + e / d] = *value;
            }
            lanes
        };
        let mut rows = Lanes::default();
        rows.refill(stride, 0.0);
        rows[..k].copy_from_slice(&density.row_bounds);
        Self {
            stride,
            means: by_feature(&density.means),
            reciprocals: by_feature(&density.reciprocals),
            rows,
        }
    }
}

/// Of each component a bound from below of `‖A_c (x − μ_c)‖²` for the rows of a block.
struct Distances<'a> {
    bounds: &'a Bounds,
    block: &'a Block,
    out: &'a mut Lanes,
}

impl WithSimd for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { bounds, block, out } = self;
        let stride = bounds.stride;
        out.resize(stride);
        let ranges: Vec<(f64, f64)> = (0..block.d()).map(|j| range(block.feature(j))).collect();
        let (means, _) = S::as_simd_f64s(&bounds.means);
        let (reciprocals, _) = S::as_simd_f64s(&bounds.reciprocals);
        let (rows, _) = S::as_simd_f64s(&bounds.rows);
        let (zero, infinity) = (simd.splat_f64s(0.0), simd.splat_f64s(f64::INFINITY));
        for (v, (out, row)) in S::as_mut_simd_f64s(out).0.iter_mut().zip(rows).enumerate() {
            let (mut largest, mut square) = (zero, zero);
            let lanes = means.chunks_exact(rows.len()).zip(reciprocals.chunks_exact(rows.len()));
            for ((means, reciprocals), (low, high)) in lanes.zip(&ranges) {
                let below = simd.sub_f64s(simd.splat_f64s(*low), means[v]);
                let above = simd.sub_f64s(means[v], simd.splat_f64s(*high));
                let outside = simd.max_f64s(simd.max_f64s(below, above), zero);
                square = simd.mul_add_e_f64s(outside, outside, square);
                largest = raised(simd, simd.mul_f64s(outside, reciprocals[v]), largest);
            }
            // A square that overflows tells nothing.
            let finite = simd.less_than_f64s(square, infinity);
            let squared = simd.select_f64s(finite, simd.mul_f64s(square, *row), zero);
            *out = raised(simd, squared, simd.mul_f64s(largest, largest));
        }
    }
}

/// The least and the largest of some numbers.
#[inline(always)]
fn range(lane: &[f64]) -> (f64, f64) {
    let (mut low, mut high) = ([f64::INFINITY; 8], [f64::NEG_INFINITY; 8]);
    let (groups, rest) = lane.as_chunks::<8>();
    for group in groups {
        for i in 0..8 {
            low[i] = if group[i] < low[i] { group[i] } else { low[i] };
            high[i] = if group[i] > high[i] { group[i] } else { high[i] };
        }
    }
    let fold =
        |of: [f64; 8], pick: fn(f64, f64) -> f64| of.into_iter().chain(rest.iter().copied()).reduce(pick);
    (fold(low, f64::min).unwrap_or(0.0), fold(high, f64::max).unwrap_or(0.0))
}

/// A balanced tree of cuts between the means: node `i` has the children `2i + 1` and `2i + 2`.
struct Tree {
    cuts: Vec<(usize, f64)>,
    depth: u32,
}

impl Tree {
    fn new(bounds: &Bounds, k: usize) -> Self {
        let depth = k.ilog2();
        let mut tree = Self { cuts: vec![(0, 0.0); (1 << depth) - 1], depth };
        tree.cut(0, bounds, &mut (0..k).collect::<Vec<usize>>());
        tree
    }

    fn cut(&mut self, node: usize, bounds: &Bounds, components: &mut [usize]) {
        if node >= self.cuts.len() || components.len() < 2 {
            return;
        }
        let (means, stride) = (&bounds.means, bounds.stride);
        let spread = |j: usize| {
            let of = components.iter().map(|c| means[j * stride + c]);
            of.clone().fold(f64::NEG_INFINITY, f64::max) - of.fold(f64::INFINITY, f64::min)
        };
        let widest = (0..means.len() / stride).max_by(|a, b| spread(*a).total_cmp(&spread(*b))).unwrap_or(0);
        let at = |c: usize| means[widest * stride + c];
        components.sort_unstable_by(|a, b| at(*a).total_cmp(&at(*b)));
        let middle = components.len() / 2;
        self.cuts[node] = (widest, 0.5 * at(components[middle - 1]) + 0.5 * at(components[middle]));
        let (left, right) = components.split_at_mut(middle);
        self.cut(2 * node + 1, bounds, left);
        self.cut(2 * node + 2, bounds, right);
    }

    /// The cell of each row.
    fn cells(&self, leaf: &Block) -> Vec<u32> {
        let (features, stride) = (leaf.features(), leaf.stride());
        let mut cells = vec![0; leaf.len()];
        for (first, cells) in (0..leaf.len()).step_by(TOGETHER).zip(cells.chunks_mut(TOGETHER)) {
            for _ in 0..self.depth {
                for (i, cell) in cells.iter_mut().enumerate() {
                    let (j, cut) = self.cuts[*cell as usize];
                    *cell = 2 * *cell + 1 + u32::from(features[j * stride + first + i] > cut);
                }
            }
        }
        cells
    }
}

impl Density {
    /// What can put rows in order.
    pub fn order(&self) -> Option<By> {
        shapes::order(self.k, self.d, self.factors.form == Form::Diagonal)
    }

    /// Whether the log joint densities of at least half of the components, of those that weigh something, lie so far below
    /// the largest, at means that stand for all.
    fn lie_apart(&self, gap: f64) -> bool {
        let seen = self.k.min(SEEN);
        let mut block = Block::default();
        block.reset(seen, self.d, self.k);
        for i in 0..seen {
            let mean = &self.means[i * self.k / seen * self.d..][..self.d];
            mean.iter().enumerate().for_each(|(j, m)| block.feature_mut(j)[i] = *m);
        }
        self.log_joint(&mut block);
        let below = |c| block.component(c).iter().zip(&*block.log_density).filter(|(j, max)| *max - *j > gap);
        let live: Vec<usize> = (0..self.k).filter(|c| self.log_constant[*c] > f64::NEG_INFINITY).collect();
        2 * live.iter().map(|c| below(*c).count()).sum::<usize>() >= seen * live.len()
    }
}
