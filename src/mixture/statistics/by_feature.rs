//! Sums with features as lanes: an outer product for each row that has a share in a component, and none for others. With
//! a guess `g_c` of the mean of component `c`,
//!
//! ```text
//! y = √(w r_c) (x − g_c),   W_c = Σ w r_c,   Σ w r_c (x − g_c) = Σ √(w r_c) y,   S_c = Σ y yᵀ
//! ```

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::accumulator::Accumulator;
use crate::mixture::linalg::triangle;
use crate::mixture::rows::{component_of, Block};
use crate::mixture::shapes::MANY_REGISTERS;

/// Features are padded to a multiple of this.
const PAD: usize = 8;
/// Numbers that stay in a first-level cache.
const CACHED: usize = 4096;

fn padded(d: usize) -> usize {
    d.next_multiple_of(PAD)
}

/// Numbers from a row to the next. Those of 64 features would compete for the same places of a cache, which shows where
/// registers are few.
fn pitch<S: Simd>(d: usize) -> usize {
    let width = padded(d);
    if S::REGISTER_COUNT < MANY_REGISTERS && width.is_multiple_of(64) {
        width + PAD
    } else {
        width
    }
}

/// Rows whose differences are kept.
fn chunk_rows(width: usize) -> usize {
    (CACHED / width).clamp(16, 64)
}

/// Numbers of a component: weight (padded), mean, and the rows of the scatter as far as their diagonal, padded.
pub fn entries(d: usize) -> usize {
    PAD + padded(d) + row_of_scatter(padded(d))
}

/// Where row `i` of the scatter begins. Rows come in groups of [`PAD`], and those of a group are as long as its last.
fn row_of_scatter(i: usize) -> usize {
    let (group, within) = (i / PAD, i % PAD);
    PAD * PAD * triangle(group) + within * PAD * (group + 1)
}

/// The sums of a component: its weight, `Σ w r z` and scatter.
pub fn totals(sums: &Accumulator, c: usize, shift: &mut [f64], scatter: &mut [f64]) -> f64 {
    let (d, width) = (sums.d, padded(sums.d));
    let own = &sums.sums[c * entries(d)..][..entries(d)];
    shift.copy_from_slice(&own[PAD..][..d]);
    for i in 0..d {
        let row = &own[PAD + width + row_of_scatter(i)..][..=i];
        scatter[triangle(i)..triangle(i + 1)].copy_from_slice(row);
    }
    own[0]
}

/// Adds the rows of a block.
pub struct ByFeature<'a> {
    pub sums: &'a mut Accumulator,
    pub block: &'a Block,
    /// What the lanes of the block are; all components if none is named.
    pub components: &'a [u32],
}

impl WithSimd for ByFeature<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, block, components } = self;
        let (d, width, stride) = (sums.d, padded(sums.d), block.stride().max(1));
        let (entries, chunk, pitch) = (entries(d), chunk_rows(width), pitch::<S>(d));
        sums.scratch.refill(pitch * (stride + chunk) + width + stride, 0.0);
        let (rows, rest) = sums.scratch.split_at_mut(pitch * stride);
        let (about, rest) = rest.split_at_mut(width);
        let (roots, y) = rest.split_at_mut(stride);
        transpose(block, rows, pitch);
        let (rows, _) = S::as_simd_f64s(rows);
        for (lane, given) in block.responsibilities.chunks_exact(stride).enumerate() {
            let c = component_of(components, lane);
            let weight = active::<S>(simd, given, &block.scale, &mut sums.active, roots);
            about[..d].copy_from_slice(&sums.about[c * d..][..d]);
            let (head, own) = sums.sums[c * entries..][..entries].split_at_mut(PAD);
            head[0] += weight;
            let (own, _) = S::as_mut_simd_f64s(own);
            let (mean, scatter) = own.split_at_mut(width / S::F64_LANES);
            let (about, _) = S::as_simd_f64s(about);
            for (active, roots) in sums.active.chunks(chunk).zip(roots.chunks(chunk)) {
                let y = &mut y[..active.len() * pitch];
                let shares = Shares { active, roots, pitch };
                scaled_differences::<S>(simd, &shares, rows, about, y, mean);
                triangle_of_tiles::<S>(simd, (d, pitch), y, scatter);
            }
        }
    }
}

/// The rows that have a share in a component, and the roots of their shares.
struct Shares<'a> {
    active: &'a [u32],
    roots: &'a [f64],
    /// Numbers from one of all rows, or of these, to the next.
    pitch: usize,
}

/// Rows after rows of `width` features, eight of them at a time: one by one they would be scattered.
fn transpose(block: &Block, rows: &mut [f64], width: usize) {
    let stride = block.stride().max(1);
    for (group, lanes) in block.features().chunks(PAD * stride).enumerate() {
        let (first, lanes) = (group * PAD, lanes.chunks_exact(stride));
        if lanes.len() == PAD {
            let mut own: [&[f64]; PAD] = [&[]; PAD];
            own.iter_mut().zip(lanes).for_each(|(own, lane)| *own = lane);
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                row[first..][..PAD].copy_from_slice(&own.map(|lane| lane[i]));
            }
        } else {
            for (j, lane) in lanes.enumerate() {
                for (row, x) in rows.chunks_exact_mut(width).zip(lane) {
                    row[first + j] = *x;
                }
            }
        }
    }
}

/// The rows that have a share `w r` in a component, and the roots of their shares; gives the sum of the shares.
#[inline(always)]
fn active<S: Simd>(simd: S, given: &[f64], scale: &[f64], active: &mut Vec<u32>, roots: &mut [f64]) -> f64 {
    let (lanes, _) = S::as_mut_simd_f64s(roots);
    let shares = S::as_simd_f64s(given).0.iter().zip(S::as_simd_f64s(scale).0);
    let mut total = simd.splat_f64s(0.0);
    for (root, (given, scale)) in lanes.iter_mut().zip(shares) {
        let share = simd.mul_f64s(*given, *scale);
        total = simd.add_f64s(total, share);
        *root = simd.sqrt_f64s(share);
    }
    active.resize(given.len(), 0);
    let mut n = 0;
    for i in 0..roots.len() {
        let root = roots[i];
        active[n] = i as u32;
        roots[n] = root;
        n += usize::from(root != 0.0);
    }
    active.truncate(n);
    simd.reduce_sum_f64s(total)
}

/// Leaves `y = √w (x − g)`, row after row, and adds `√w y` to the mean.
#[inline(always)]
fn scaled_differences<S: Simd>(
    simd: S,
    shares: &Shares,
    rows: &[S::f64s],
    about: &[S::f64s],
    y: &mut [f64],
    mean: &mut [S::f64s],
) {
    let (y, _) = S::as_mut_simd_f64s(y);
    let mut first = 0;
    while first < about.len() {
        first += match about.len() - first {
            1 => columns::<S, 1>(simd, shares, first, rows, about, y, mean),
            2 => columns::<S, 2>(simd, shares, first, rows, about, y, mean),
            3 => columns::<S, 3>(simd, shares, first, rows, about, y, mean),
            _ => columns::<S, 4>(simd, shares, first, rows, about, y, mean),
        };
    }
}

/// The same for `C` vectors of columns from `first`; gives `C`.
#[inline(always)]
fn columns<S: Simd, const C: usize>(
    simd: S,
    shares: &Shares,
    first: usize,
    rows: &[S::f64s],
    about: &[S::f64s],
    y: &mut [S::f64s],
    mean: &mut [S::f64s],
) -> usize {
    let vectors = shares.pitch / S::F64_LANES;
    let mut g = [simd.splat_f64s(0.0); C];
    g.copy_from_slice(&about[first..][..C]);
    let mut own = [simd.splat_f64s(0.0); C];
    for ((row, root), y) in shares.active.iter().zip(shares.roots).zip(y.chunks_exact_mut(vectors)) {
        let (x, y) = (&rows[*row as usize * vectors + first..][..C], &mut y[first..][..C]);
        let root = simd.splat_f64s(*root);
        for v in 0..C {
            let scaled = simd.mul_f64s(root, simd.sub_f64s(x[v], g[v]));
            own[v] = simd.mul_add_e_f64s(root, scaled, own[v]);
            y[v] = scaled;
        }
    }
    for (mean, own) in mean[first..].iter_mut().zip(own) {
        *mean = simd.add_f64s(*mean, own);
    }
    C
}

/// `S += Σ y yᵀ`, up to the diagonal, in tiles as high and wide as the registers allow. They begin at multiples of their
/// height, so that their rows are of one group.
#[inline(always)]
fn triangle_of_tiles<S: Simd>(simd: S, (d, pitch): (usize, usize), y: &[f64], scatter: &mut [S::f64s]) {
    let (high, low) = if S::REGISTER_COUNT >= MANY_REGISTERS { (8, 4) } else { (4, 4) };
    let mut first = 0;
    while first < d {
        let height = if d - first <= low { low } else { high };
        let start = row_of_scatter(first) / S::F64_LANES;
        let length = PAD * (first / PAD + 1) / S::F64_LANES;
        let mut left = (first + height).div_ceil(S::F64_LANES);
        let mut column = 0;
        while left > 0 {
            let columns = if left == 4 { 2 } else { left.min(3) };
            let at = (first, column);
            let y = (y, pitch);
            let scatter = (&mut scatter[start..], length);
            match (height, columns) {
                (8, 3) => tile::<S, 8, 3>(simd, at, y, scatter),
                (8, 2) => tile::<S, 8, 2>(simd, at, y, scatter),
                (8, _) => tile::<S, 8, 1>(simd, at, y, scatter),
                (_, 3) => tile::<S, 4, 3>(simd, at, y, scatter),
                (_, 2) => tile::<S, 4, 2>(simd, at, y, scatter),
                (_, _) => tile::<S, 4, 1>(simd, at, y, scatter),
            }
            column += columns;
            left -= columns;
        }
        first += height;
    }
}

/// Rows `first .. first + R` of the scatter, of which the first lies at the front and each has `length` vectors, and of these
/// vectors `column .. column + C`.
#[inline(always)]
fn tile<S: Simd, const R: usize, const C: usize>(
    simd: S,
    (first, column): (usize, usize),
    (y, pitch): (&[f64], usize),
    (scatter, length): (&mut [S::f64s], usize),
) {
    let (columns, _) = S::as_simd_f64s(y);
    let mut own = [[simd.splat_f64s(0.0); C]; R];
    for (left, right) in y.chunks_exact(pitch).zip(columns.chunks_exact(pitch / S::F64_LANES)) {
        let (left, right) = (&left[first..][..R], &right[column..][..C]);
        for i in 0..R {
            let left = simd.splat_f64s(left[i]);
            for j in 0..C {
                own[i][j] = simd.mul_add_e_f64s(left, right[j], own[i][j]);
            }
        }
    }
    for i in 0..R {
        let row = &mut scatter[i * length + column..][..C];
        for j in 0..C {
            row[j] = simd.add_f64s(row[j], own[i][j]);
        }
    }
}
