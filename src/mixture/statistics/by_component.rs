//! Sums of responsibilities that are given row after row, as they lie: lanes are components. With `z = (1, x − o)`
//! about an origin `o` that components share, the products `w z_i z_j` of a row are numbers, and
//!
//! ```text
//! S_cij = Σ r_c (w z_i z_j),   the weight S_c00, Σ w r_c (x − o)_j = S_cj0, and the scatter about o
//! ```

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::accumulator::Accumulator;
use super::by_row::LANES;
use super::Scatter;
use crate::mixture::linalg::triangle;
use crate::mixture::rows::Block;
use crate::mixture::shapes::MANY_REGISTERS;

/// Products summed up together, and as many as remain.
const PANEL: usize = 6;
const REST: usize = 3;

/// Products of a row.
pub fn products(d: usize, form: Scatter) -> usize {
    1 + d + form.len(d)
}

/// Lanes of components; those from `k` on hold what is never used.
fn lanes(k: usize) -> usize {
    k.next_multiple_of(LANES)
}

/// Numbers of all components: lanes of them for each product.
pub fn entries(k: usize, d: usize, form: Scatter) -> usize {
    products(d, form).next_multiple_of(REST) * lanes(k)
}

/// Numbers that are read for `len` rows: whole vectors of the last one too.
pub fn reach(len: usize, k: usize) -> usize {
    len.saturating_sub(1) * k + lanes(k)
}

/// The sums of a component: its weight, `Σ w r z` and scatter.
pub fn totals(sums: &Accumulator, c: usize, shift: &mut [f64], scatter: &mut [f64]) -> f64 {
    let mut own = sums.sums.chunks_exact(lanes(sums.k)).map(|lane| lane[c]);
    let mut next = || own.next().unwrap_or_default();
    let weight = next();
    for i in 0..sums.d {
        shift[i] = next();
        match sums.form {
            Scatter::Full => scatter[triangle(i)..triangle(i + 1)].fill_with(&mut next),
            Scatter::Diagonal => scatter[i] = next(),
        }
    }
    weight
}

/// Adds the rows of a block, whose responsibilities lie row after row, [as far as they are read](reach).
pub struct ByComponent<'a> {
    pub sums: &'a mut Accumulator,
    pub block: &'a Block,
    pub given: &'a [f64],
}

impl WithSimd for ByComponent<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, block, given } = self;
        let (k, stride) = (sums.k, block.stride());
        let count = products(sums.d, sums.form).next_multiple_of(REST);
        sums.scratch.resize((sums.d + count) * stride);
        let (differences, products) = sums.scratch.split_at_mut(sums.d * stride);
        multiply::<S>(simd, block, &sums.about, sums.form, differences, products);
        let width = lanes(k);
        let vectors = width / S::F64_LANES;
        for (first, sums) in (0..count).step_by(PANEL).zip(sums.sums.chunks_mut(PANEL * width)) {
            let panel = Panel { block, given, products: &products[first * stride..], k };
            let mut v = 0;
            while v < vectors {
                let at = v * S::F64_LANES;
                v += match (sums.len() / width, vectors - v) {
                    (PANEL, 1) => panel.add::<S, PANEL, 1>(simd, at, width, sums),
                    (PANEL, 3..) if S::REGISTER_COUNT >= MANY_REGISTERS => {
                        panel.add::<S, PANEL, 3>(simd, at, width, sums)
                    }
                    (PANEL, _) => panel.add::<S, PANEL, 2>(simd, at, width, sums),
                    (_, 1) => panel.add::<S, REST, 1>(simd, at, width, sums),
                    (_, 2) => panel.add::<S, REST, 2>(simd, at, width, sums),
                    (_, _) => panel.add::<S, REST, 3>(simd, at, width, sums),
                };
            }
        }
    }
}

/// Leaves the products of the rows, a lane for each.
#[inline(always)]
fn multiply<S: Simd>(
    simd: S,
    block: &Block,
    origin: &[f64],
    form: Scatter,
    differences: &mut [f64],
    products: &mut [f64],
) {
    let stride = block.stride().max(1);
    let (weight, _) = S::as_simd_f64s(block.weight());
    let lanes = differences.chunks_exact_mut(stride).zip(block.features().chunks_exact(stride));
    for ((z, x), origin) in lanes.zip(origin) {
        let origin = simd.splat_f64s(*origin);
        for (z, x) in S::as_mut_simd_f64s(z).0.iter_mut().zip(S::as_simd_f64s(x).0) {
            *z = simd.sub_f64s(*x, origin);
        }
    }
    let mut lanes = products.chunks_exact_mut(stride).map(|lane| S::as_mut_simd_f64s(lane).0);
    if let Some(lane) = lanes.next() {
        lane.copy_from_slice(weight);
    }
    let difference = |i: usize| S::as_simd_f64s(&differences[i * stride..][..stride]).0;
    for i in 0..origin.len() {
        let z = difference(i);
        let Some(linear) = lanes.next() else { return };
        for ((product, w), z) in linear.iter_mut().zip(weight).zip(z) {
            *product = simd.mul_f64s(*w, *z);
        }
        let first = if form == Scatter::Full { 0 } else { i };
        for j in first..=i {
            let Some(lane) = lanes.next() else { return };
            for ((product, a), b) in lane.iter_mut().zip(&*linear).zip(difference(j)) {
                *product = simd.mul_f64s(*a, *b);
            }
        }
    }
    // What pads the last panel is summed up, and not read.
    lanes.for_each(|lane| lane.fill(simd.splat_f64s(0.0)));
}

/// Some products of the rows of a block, and what they are multiplied with.
struct Panel<'a> {
    block: &'a Block,
    given: &'a [f64],
    products: &'a [f64],
    k: usize,
}

impl Panel<'_> {
    /// Adds `P` products to the sums of `V` vectors of components from `at`; gives `V`.
    #[inline(always)]
    fn add<S: Simd, const P: usize, const V: usize>(
        &self,
        simd: S,
        at: usize,
        width: usize,
        sums: &mut [f64],
    ) -> usize {
        let mut own = [[simd.splat_f64s(0.0); V]; P];
        for run in runs(self.block) {
            let products: [&[f64]; P] =
                std::array::from_fn(|p| &self.products[p * self.block.stride()..][run.clone()]);
            let given = &self.given[run.start * self.k + at..];
            for i in 0..run.len() {
                let (shares, _) = S::as_simd_f64s(&given[i * self.k..][..V * S::F64_LANES]);
                for p in 0..P {
                    let product = simd.splat_f64s(products[p][i]);
                    for v in 0..V {
                        own[p][v] = simd.mul_add_e_f64s(shares[v], product, own[p][v]);
                    }
                }
            }
        }
        for p in 0..P {
            let (sums, _) = S::as_mut_simd_f64s(&mut sums[p * width + at..][..V * S::F64_LANES]);
            for v in 0..V {
                sums[v] = simd.add_f64s(sums[v], own[p][v]);
            }
        }
        V
    }
}

/// Rows that weigh something, as far as they follow each other: those between may have any responsibility.
#[inline(always)]
fn runs(block: &Block) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut end = 0;
    block.weight()[..block.len()].chunk_by(|a, b| (*a > 0.0) == (*b > 0.0)).filter_map(move |run| {
        let start = end;
        end += run.len();
        (run[0] > 0.0).then_some(start..end)
    })
}
