//! Sums with rows as lanes: a vector for each, of which lane `l` sums rows `l`, `l + 8`, … With `z = x − g_c` about a
//! guess `g_c` of the mean of component `c`,
//!
//! ```text
//! W_c = Σ w r_c,   Σ w r_c z_i,   S_cij = Σ w r_c z_i z_j,   j ≤ i
//! ```

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::accumulator::{scaled, Accumulator};
use super::Scatter;
use crate::mixture::linalg::triangle;
use crate::mixture::rows::{component_of, Block};
use crate::mixture::shapes::{MANY_REGISTERS, SUMS_IN_REGISTERS};
use crate::mixture::small;

/// Numbers kept for a vector: those of the widest instruction set.
pub const LANES: usize = 8;
/// Rows and columns of a tile of the scatter.
const TILE: usize = 4;

/// Vectors of a component: weight, mean and scatter.
pub fn entries(d: usize, form: Scatter) -> usize {
    let scatter = match form {
        Scatter::Full if d <= SUMS_IN_REGISTERS => triangle(d),
        Scatter::Full => tiles_before(d.div_ceil(TILE)),
        Scatter::Diagonal => d,
    };
    1 + d + scatter
}

/// Entries of all rows of tiles before row `t`: whole tiles left of the diagonal, a triangle on it.
const fn tiles_before(t: usize) -> usize {
    TILE * TILE * t * t.saturating_sub(1) / 2 + triangle(TILE) * t
}

/// Where entry `[i, j]`, `j ≤ i`, of the scatter is.
fn position(d: usize, i: usize, j: usize) -> usize {
    if d <= SUMS_IN_REGISTERS {
        return triangle(i) + j;
    }
    let (tile, column, r, c) = (i / TILE, j / TILE, i % TILE, j % TILE);
    let within = if tile == column { triangle(r) + c } else { TILE * r + c };
    tiles_before(tile) + TILE * TILE * column + within
}

/// Adds up the lanes of a component: its weight, `Σ w r z` and scatter.
pub fn totals(sums: &Accumulator, c: usize, shift: &mut [f64], scatter: &mut [f64]) -> f64 {
    let entries = entries(sums.d, sums.form);
    let vectors = &sums.sums[c * entries * LANES..][..entries * LANES];
    let total = |entry: usize| pairwise(&vectors[entry * LANES..][..LANES]);
    for (j, x) in shift.iter_mut().enumerate() {
        *x = total(1 + j);
    }
    let first = 1 + sums.d;
    match sums.form {
        Scatter::Full => {
            for i in 0..sums.d {
                for j in 0..=i {
                    scatter[triangle(i) + j] = total(first + position(sums.d, i, j));
                }
            }
        }
        Scatter::Diagonal => {
            for (i, s) in scatter.iter_mut().enumerate() {
                *s = total(first + i);
            }
        }
    }
    total(0)
}

fn pairwise(lanes: &[f64]) -> f64 {
    match lanes {
        [a, b, c, d, e, f, g, h] => ((a + b) + (c + d)) + ((e + f) + (g + h)),
        _ => lanes.iter().sum(),
    }
}

/// Adds the rows of a block.
pub struct ByRow<'a> {
    pub sums: &'a mut Accumulator,
    pub block: &'a Block,
    /// What the lanes of the block are; all components if none is named.
    pub components: &'a [u32],
}

impl WithSimd for ByRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, block, components } = self;
        match (sums.form, sums.d) {
            (Scatter::Diagonal, _) => each::<S, Diagonal>(simd, sums, block, components),
            (Scatter::Full, ..=SUMS_IN_REGISTERS) => each::<S, InRegisters>(simd, sums, block, components),
            (Scatter::Full, _) if S::REGISTER_COUNT >= MANY_REGISTERS => {
                each::<S, Tiles<TILE>>(simd, sums, block, components);
            }
            (Scatter::Full, _) => each::<S, Tiles<2>>(simd, sums, block, components),
        }
    }
}

/// Rows of a block, and of a component the shares `w r` they have in it: what they have been given, times a scale.
struct Rows<'a, S: Simd> {
    features: &'a [S::f64s],
    given: &'a [S::f64s],
    scale: &'a [S::f64s],
}

impl<'a, S: Simd> Rows<'a, S> {
    #[inline(always)]
    fn feature(&self, j: usize) -> &'a [S::f64s] {
        &self.features[j * self.given.len()..][..self.given.len()]
    }

    /// The sum of the shares.
    #[inline(always)]
    fn weight(&self, simd: S) -> S::f64s {
        let mut sums = [simd.splat_f64s(0.0); 4];
        for (given, scale) in self.given.as_chunks::<4>().0.iter().zip(self.scale.as_chunks::<4>().0) {
            for v in 0..4 {
                sums[v] = simd.mul_add_e_f64s(given[v], scale[v], sums[v]);
            }
        }
        let [a, b, c, d] = sums;
        simd.add_f64s(simd.add_f64s(a, b), simd.add_f64s(c, d))
    }
}

/// How the rows of a block are added to the sums of a component.
trait Sums {
    /// Scratch numbers needed for `d` features and rows of `stride`.
    fn scratch(d: usize, stride: usize) -> usize;

    /// `sums` are those of means and scatter.
    fn add<S: Simd>(simd: S, rows: Rows<S>, about: &[f64], scratch: &mut [S::f64s], sums: &mut [S::f64s]);
}

#[inline(always)]
fn each<S: Simd, T: Sums>(simd: S, sums: &mut Accumulator, block: &Block, components: &[u32]) {
    let (d, stride) = (sums.d, block.stride().max(1));
    let entries = entries(d, sums.form);
    sums.scratch.resize(T::scratch(d, stride));
    let (scratch, _) = S::as_mut_simd_f64s(&mut sums.scratch);
    let (scale, _) = S::as_simd_f64s(&block.scale);
    let (features, _) = S::as_simd_f64s(block.features());
    for (lane, given) in block.responsibilities.chunks_exact(stride).enumerate() {
        let c = component_of(components, lane);
        let (given, _) = S::as_simd_f64s(given);
        let rows = Rows::<S> { features, given, scale };
        let weight = rows.weight(simd);
        if simd.reduce_max_f64s(weight) == 0.0 {
            continue;
        }
        let own = &mut sums.sums[c * entries * LANES..][..entries * LANES];
        // Narrower vectors use the first of their lanes.
        let (own, _) = S::as_mut_simd_f64s(own);
        own[0] = simd.add_f64s(own[0], weight);
        let own = &mut own[LANES / S::F64_LANES..];
        T::add::<S>(simd, rows, &sums.about[c * d..][..d], scratch, own);
    }
}

/// A packed triangle of few features.
struct InRegisters;

impl Sums for InRegisters {
    fn scratch(_: usize, _: usize) -> usize {
        0
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, rows: Rows<S>, about: &[f64], _: &mut [S::f64s], sums: &mut [S::f64s]) {
        let Rows { features, given, scale } = rows;
        small::moments::<S>(simd, features, (given, scale), about, (sums, LANES / S::F64_LANES));
    }
}

/// Variances alone.
struct Diagonal;

impl Sums for Diagonal {
    fn scratch(_: usize, _: usize) -> usize {
        0
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, rows: Rows<S>, about: &[f64], _: &mut [S::f64s], sums: &mut [S::f64s]) {
        let zero = simd.splat_f64s(0.0);
        let step = LANES / S::F64_LANES;
        let d = about.len();
        for (j, about) in about.iter().enumerate() {
            let about = simd.splat_f64s(*about);
            let (mut mean, mut scatter) = ([zero; 2], [zero; 2]);
            let (x, _) = rows.feature(j).as_chunks::<2>();
            let (given, scale) = (rows.given.as_chunks::<2>().0, rows.scale.as_chunks::<2>().0);
            for ((given, scale), x) in given.iter().zip(scale).zip(x) {
                for v in 0..2 {
                    let z = simd.sub_f64s(x[v], about);
                    let product = simd.mul_f64s(simd.mul_f64s(given[v], scale[v]), z);
                    mean[v] = simd.add_f64s(mean[v], product);
                    scatter[v] = simd.mul_add_e_f64s(product, z, scatter[v]);
                }
            }
            for (entry, [a, b]) in [(j, mean), (d + j, scatter)] {
                sums[entry * step] = simd.add_f64s(sums[entry * step], simd.add_f64s(a, b));
            }
        }
    }
}

/// A triangle in tiles of `TILE` rows and columns, `C` columns at a time.
struct Tiles<const C: usize>;

impl<const C: usize> Sums for Tiles<C> {
    fn scratch(d: usize, stride: usize) -> usize {
        (2 + TILE + d.next_multiple_of(TILE)) * stride
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, rows: Rows<S>, about: &[f64], scratch: &mut [S::f64s], sums: &mut [S::f64s]) {
        let step = LANES / S::F64_LANES;
        let (d, vectors) = (about.len(), rows.given.len());
        let (zeros, scratch) = scratch.split_at_mut(vectors);
        let (share, scratch) = scratch.split_at_mut(vectors);
        scaled::<S>(simd, rows.given, rows.scale, share);
        let (tiles, _) = scratch.as_chunks_mut::<TILE>();
        let (products, differences) = tiles.split_at_mut(vectors);
        if !d.is_multiple_of(TILE) {
            zeros.fill(simd.splat_f64s(0.0));
        }
        let (means, scatter) = sums.split_at_mut(d * step);
        for t in 0..d.div_ceil(TILE) {
            let (left, z) = differences.split_at_mut(t * vectors);
            let mut x: [&[S::f64s]; TILE] = [zeros; TILE];
            let mut g = [simd.splat_f64s(0.0); TILE];
            for (r, about) in about[t * TILE..].iter().take(TILE).enumerate() {
                x[r] = rows.feature(t * TILE + r);
                g[r] = simd.splat_f64s(*about);
            }
            let means = &mut means[t * TILE * step..];
            let (squares, triangle) = scatter[tiles_before(t) * step..].split_at_mut(t * TILE * TILE * step);
            let tile = Tile { x, g, share };
            if t == 0 {
                corner::<S, false>(simd, tile, z, products, means, triangle);
                continue;
            }
            corner::<S, true>(simd, tile, z, products, means, triangle);
            let squares = squares.chunks_exact_mut(TILE * TILE * step);
            for (own, columns) in squares.zip(left.chunks_exact(vectors)) {
                for first in (0..TILE).step_by(C) {
                    square::<S, C>(simd, products, columns, first, own);
                }
            }
        }
    }
}

/// `C` columns of a tile, from `first`: `S_rc += Σ_v a_r b_c`.
#[inline(always)]
fn square<S: Simd, const C: usize>(
    simd: S,
    products: &[[S::f64s; TILE]],
    columns: &[[S::f64s; TILE]],
    first: usize,
    sums: &mut [S::f64s],
) {
    let step = LANES / S::F64_LANES;
    let mut own = [[simd.splat_f64s(0.0); C]; TILE];
    for (a, b) in products.iter().zip(columns) {
        let b = &b[first..][..C];
        for r in 0..TILE {
            for c in 0..C {
                own[r][c] = simd.mul_add_e_f64s(a[r], b[c], own[r][c]);
            }
        }
    }
    for r in 0..TILE {
        for c in 0..C {
            let at = (TILE * r + first + c) * step;
            sums[at] = simd.add_f64s(sums[at], own[r][c]);
        }
    }
}

/// Features `x` of a tile, guesses `g` of their means, and the shares of the rows.
struct Tile<'a, S: Simd> {
    x: [&'a [S::f64s]; TILE],
    g: [S::f64s; TILE],
    share: &'a [S::f64s],
}

/// The triangle of a tile on the diagonal and the means of its features; leaves `z = x − g` and, where tiles stand left of
/// it, the products of shares with it.
#[inline(always)]
fn corner<S: Simd, const LEFT: bool>(
    simd: S,
    Tile { x, g, share }: Tile<S>,
    z: &mut [[S::f64s; TILE]],
    products: &mut [[S::f64s; TILE]],
    means: &mut [S::f64s],
    sums: &mut [S::f64s],
) {
    let step = LANES / S::F64_LANES;
    let vectors = share.len();
    let (z, products) = (&mut z[..vectors], &mut products[..vectors]);
    let x = x.map(|lane| &lane[..vectors]);
    let zero = simd.splat_f64s(0.0);
    let (mut mean, mut own) = ([zero; TILE], [[zero; TILE]; TILE]);
    for v in 0..vectors {
        let (mut a, mut b) = ([zero; TILE], [zero; TILE]);
        for r in 0..TILE {
            b[r] = simd.sub_f64s(x[r][v], g[r]);
            a[r] = simd.mul_f64s(share[v], b[r]);
            mean[r] = simd.add_f64s(mean[r], a[r]);
            for c in 0..=r {
                own[r][c] = simd.mul_add_e_f64s(a[r], b[c], own[r][c]);
            }
        }
        z[v] = b;
        if LEFT {
            products[v] = a;
        }
    }
    // Means end where features do.
    for (r, total) in means.iter_mut().step_by(step).zip(mean) {
        *r = simd.add_f64s(*r, total);
    }
    for r in 0..TILE {
        for c in 0..=r {
            let at = (triangle(r) + c) * step;
            sums[at] = simd.add_f64s(sums[at], own[r][c]);
        }
    }
}
