//! Sums of components that overlap, as one matrix product. With `z = (1, x − o)` about an origin `o` that they share, the
//! products `z_i z_j`, `j ≤ i`, of a row are the same for all components, and their sums are
//!
//! ```text
//! S_cij = Σ w r_c z_i z_j,   the weight S_c00, Σ w r_c (x − o)_j = S_c(j+1)0, and the scatter about o
//! ```
//!
//! Rows are lanes, and are held until there are enough for the sums of lanes to cost little.

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::accumulator::{scaled, Accumulator};
use crate::mixture::linalg::triangle;
use crate::mixture::rows::{component_of, Block, PAD};
use crate::mixture::shapes::{rows_held, HELD, MANY_REGISTERS};
use crate::mixture::simd::Lanes;

/// Length of a lane: not a power of two, whose lanes would compete for the same places of a cache.
const STRIDE: usize = HELD + 4 * PAD;
/// Products in a panel, at most.
const PANEL: usize = 6;
/// Numbers that are whole panels, whatever their width.
const PADDED: usize = 12;

/// Whether rows that weigh something have shares in at least half of the components of a block: where they have fewer, sums
/// over the rows of a component alone take less.
pub fn is_dense(block: &Block) -> bool {
    let count = |lane: &[f64]| lane.iter().zip(&*block.scale).filter(|(r, w)| **r > 0.0 && **w > 0.0).count();
    let shares: usize = block.responsibilities.chunks_exact(block.stride().max(1)).map(count).sum();
    let rows = block.scale.iter().filter(|w| **w > 0.0).count();
    2 * shares >= block.k() * rows
}

/// Numbers of a component: the products of a row, padded.
pub fn entries(d: usize) -> usize {
    triangle(d + 1).next_multiple_of(PADDED)
}

/// Rows that have come in and are not yet in the sums.
#[derive(Default)]
pub struct Held {
    rows: usize,
    /// Lanes of [`HELD`] rows: 1 and the features, less the origin.
    features: Lanes,
    /// The shares in each component.
    shares: Lanes,
    panel: Lanes,
}

impl Held {
    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.rows = 0;
    }

    /// Makes room.
    pub fn reserve(&mut self, k: usize, d: usize) {
        self.features.resize((1 + d) * STRIDE);
        self.shares.resize(k * STRIDE);
        self.panel.resize(PANEL * HELD);
    }
}

/// The sums of a component: its weight, `Σ w r z` and scatter.
pub fn totals(sums: &Accumulator, c: usize, shift: &mut [f64], scatter: &mut [f64]) -> f64 {
    let own = &sums.sums[c * entries(sums.d)..][..entries(sums.d)];
    for i in 0..sums.d {
        let row = &own[triangle(i + 1)..][..i + 2];
        shift[i] = row[0];
        scatter[triangle(i)..triangle(i + 1)].copy_from_slice(&row[1..]);
    }
    own[0]
}

/// Holds the rows of a block.
pub fn hold(sums: &mut Accumulator, block: &Block, components: &[u32]) {
    let stride = block.stride();
    if sums.held.rows + stride > rows_held(sums.k, sums.d, sums.level) {
        add_held(sums);
    }
    let level = sums.level;
    level.run(Hold { sums, block, components });
    sums.held.rows += stride;
}

/// Adds the rows that are held.
pub fn add_held(sums: &mut Accumulator) {
    if sums.held.rows > 0 {
        let level = sums.level;
        level.run(AddHeld(sums));
        sums.held.clear();
    }
}

struct Hold<'a> {
    sums: &'a mut Accumulator,
    block: &'a Block,
    components: &'a [u32],
}

impl WithSimd for Hold<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, block, components } = self;
        let Held { rows, features, shares, .. } = &mut sums.held;
        let rows = *rows..*rows + block.stride();
        let mut lanes = features.chunks_exact_mut(STRIDE).map(|lane| &mut lane[rows.clone()]);
        if let Some(ones) = lanes.next() {
            ones.fill(1.0);
        }
        let (scale, _) = S::as_simd_f64s(&block.scale);
        let zero = simd.splat_f64s(0.0);
        let of_block = block.features().chunks_exact(block.stride().max(1));
        for ((lane, x), origin) in lanes.zip(of_block).zip(&sums.about) {
            let origin = simd.splat_f64s(*origin);
            let rows = S::as_simd_f64s(x).0.iter().zip(scale);
            for (z, (x, scale)) in S::as_mut_simd_f64s(lane).0.iter_mut().zip(rows) {
                // Whatever rows are that weigh nothing, no product of theirs overflows.
                let counts = simd.greater_than_f64s(*scale, zero);
                *z = simd.select_f64s(counts, simd.sub_f64s(*x, origin), zero);
            }
        }
        if !components.is_empty() {
            shares.chunks_exact_mut(STRIDE).for_each(|lane| lane[rows.clone()].fill(0.0));
        }
        for (lane, given) in block.responsibilities.chunks_exact(block.stride().max(1)).enumerate() {
            let own = &mut shares[component_of(components, lane) * STRIDE..][rows.clone()];
            scaled::<S>(simd, S::as_simd_f64s(given).0, scale, S::as_mut_simd_f64s(own).0);
        }
    }
}

struct AddHeld<'a>(&'a mut Accumulator);

impl WithSimd for AddHeld<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= MANY_REGISTERS {
            panels::<S, 4, 4>(simd, self.0);
        } else {
            panels::<S, 6, 2>(simd, self.0);
        }
    }
}

/// Adds panels of `P` products to `C` components at a time.
#[inline(always)]
fn panels<S: Simd, const P: usize, const C: usize>(simd: S, sums: &mut Accumulator) {
    let (k, width) = (sums.k, entries(sums.d));
    let Held { rows, features, shares, panel } = &mut sums.held;
    let vectors = *rows / S::F64_LANES;
    let lane = |i: usize| &S::as_simd_f64s(&features[i * STRIDE..][..STRIDE]).0[..vectors];
    let mut pairs = (0..=sums.d).flat_map(|i| (0..=i).map(move |j| (i, j)));
    let (panel, _) = S::as_mut_simd_f64s(panel);
    let panel = &mut panel.as_chunks_mut::<P>().0[..vectors];
    for first in (0..triangle(sums.d + 1)).step_by(P) {
        let (mut a, mut b) = ([lane(0); P], [lane(0); P]);
        for q in 0..P {
            // What pads the last panel is summed up, and not read.
            let (i, j) = pairs.next().unwrap_or_default();
            (a[q], b[q]) = (lane(i), lane(j));
        }
        for (v, products) in panel.iter_mut().enumerate() {
            for q in 0..P {
                products[q] = simd.mul_f64s(a[q][v], b[q][v]);
            }
        }
        let mut panel = Panel { products: panel, shares, sums: &mut sums.sums[first..], width };
        let mut c = 0;
        while c < k {
            c += match (k - c).min(C) {
                1 => panel.add::<1>(simd, c),
                2 => panel.add::<2>(simd, c),
                3 => panel.add::<3>(simd, c),
                _ => panel.add::<C>(simd, c),
            };
        }
    }
}

/// Products of the rows, their shares, and the sums of all components from the panel's first on.
struct Panel<'a, S: Simd, const P: usize> {
    products: &'a [[S::f64s; P]],
    shares: &'a [f64],
    sums: &'a mut [f64],
    width: usize,
}

impl<S: Simd, const P: usize> Panel<'_, S, P> {
    /// Adds the products to the sums of `C` components from `c`; gives `C`.
    #[inline(always)]
    fn add<const C: usize>(&mut self, simd: S, c: usize) -> usize {
        let rows = self.products.len();
        let lanes: [&[S::f64s]; C] =
            std::array::from_fn(|i| &S::as_simd_f64s(&self.shares[(c + i) * STRIDE..][..STRIDE]).0[..rows]);
        let mut own = [[simd.splat_f64s(0.0); P]; C];
        for (v, products) in self.products.iter().enumerate() {
            let mut shares = [simd.splat_f64s(0.0); C];
            for i in 0..C {
                shares[i] = lanes[i][v];
            }
            for q in 0..P {
                for i in 0..C {
                    own[i][q] = simd.mul_add_e_f64s(shares[i], products[q], own[i][q]);
                }
            }
        }
        for (i, own) in own.into_iter().enumerate() {
            let sums = &mut self.sums[(c + i) * self.width..][..P];
            for q in 0..P {
                sums[q] += simd.reduce_sum_f64s(own[q]);
            }
        }
        C
    }
}

const _: () = assert!(HELD.is_multiple_of(PAD));
