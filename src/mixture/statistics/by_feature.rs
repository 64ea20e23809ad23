//! Sums with features as lanes: an outer product for each row that has a share in a component, and none for others.

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::accumulator::{component_of, Accumulator};
use crate::mixture::linalg::triangle;
use crate::mixture::rows::Block;

/// Features are padded to a multiple of this.
const PAD: usize = 8;
/// Rows whose differences stay in a first-level cache.
const CHUNK: usize = 64;

fn padded(d: usize) -> usize {
    d.next_multiple_of(PAD)
}

/// Numbers of a component: weight (padded), mean, and `d` padded rows of the scatter, right as far as its diagonal.
pub fn entries(d: usize) -> usize {
    PAD + padded(d) + padded(d) * padded(d)
}

/// The sums of a component: its weight, `Σ w r z` and scatter.
pub fn totals(sums: &Accumulator, c: usize, shift: &mut [f64], scatter: &mut [f64]) -> f64 {
    let (d, width) = (sums.d, padded(sums.d));
    let own = &sums.sums[c * entries(d)..][..entries(d)];
    shift.copy_from_slice(&own[PAD..][..d]);
    for (i, row) in own[PAD + width..].chunks_exact(width).take(d).enumerate() {
        scatter[triangle(i)..triangle(i + 1)].copy_from_slice(&row[..=i]);
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
        let entries = entries(d);
        sums.scratch.refill(width * (stride + 1 + 2 * CHUNK) + stride, 0.0);
        let (rows, rest) = sums.scratch.split_at_mut(width * stride);
        let (about, rest) = rest.split_at_mut(width);
        let (share, rest) = rest.split_at_mut(stride);
        let (z, wz) = rest.split_at_mut(width * CHUNK);
        transpose(block, rows, width);
        let (rows, _) = S::as_simd_f64s(rows);
        for (lane, r) in block.responsibilities.chunks_exact(stride).enumerate() {
            let c = component_of(components, lane);
            active(r, block.weight(), &mut sums.active, share);
            about[..d].copy_from_slice(&sums.about[c * d..][..d]);
            let own = &mut sums.sums[c * entries..][..entries];
            let (head, own) = own.split_at_mut(PAD);
            let (own, _) = S::as_mut_simd_f64s(own);
            let (mean, scatter) = own.split_at_mut(width / S::F64_LANES);
            let (about, _) = S::as_simd_f64s(about);
            for (chunk, share) in sums.active.chunks(CHUNK).zip(share.chunks(CHUNK)) {
                let (z, _) = S::as_mut_simd_f64s(z);
                for (n, (row, w)) in chunk.iter().zip(share).enumerate() {
                    head[0] += w;
                    let w = simd.splat_f64s(*w);
                    let (wz, _) = S::as_mut_simd_f64s(wz);
                    let vectors = about.len();
                    let x = &rows[*row as usize * vectors..][..vectors];
                    let (z, wz) = (&mut z[n * vectors..][..vectors], &mut wz[n * vectors..][..vectors]);
                    for j in 0..vectors {
                        z[j] = simd.sub_f64s(x[j], about[j]);
                        wz[j] = simd.mul_f64s(w, z[j]);
                        mean[j] = simd.add_f64s(mean[j], wz[j]);
                    }
                }
                let wz = &wz[..chunk.len() * width];
                triangle_of_tiles::<S>(simd, d, wz, z, scatter);
            }
        }
    }
}

/// Rows after rows of `width` features.
fn transpose(block: &Block, rows: &mut [f64], width: usize) {
    let stride = block.stride().max(1);
    for (j, lane) in block.features().chunks_exact(stride).enumerate() {
        for (row, x) in rows.chunks_exact_mut(width).zip(lane) {
            row[j] = *x;
        }
    }
}

/// The rows that have a share `w r` in a component, and their shares.
fn active(r: &[f64], weight: &[f64], active: &mut Vec<u32>, share: &mut [f64]) {
    active.resize(r.len(), 0);
    let mut n = 0;
    for (i, (r, w)) in r.iter().zip(weight).enumerate() {
        active[n] = i as u32;
        share[n] = r * w;
        n += usize::from(*w > 0.0 && *r != 0.0);
    }
    active.truncate(n);
}

/// `S += Σ w z zᵀ`, up to the diagonal, in tiles as high and wide as the registers allow.
#[inline(always)]
fn triangle_of_tiles<S: Simd>(simd: S, d: usize, wz: &[f64], z: &[S::f64s], scatter: &mut [S::f64s]) {
    let width = padded(d);
    let (high, low) = if S::REGISTER_COUNT >= 32 { (8, 4) } else { (4, 4) };
    let mut first = 0;
    while first < d {
        let height = if d - first <= low { low } else { high };
        let mut left = (first + height).div_ceil(S::F64_LANES);
        let mut column = 0;
        while left > 0 {
            let columns = if left == 4 { 2 } else { left.min(3) };
            let at = (width, first, column);
            match (height, columns) {
                (8, 3) => tile::<S, 8, 3>(simd, at, wz, z, scatter),
                (8, 2) => tile::<S, 8, 2>(simd, at, wz, z, scatter),
                (8, _) => tile::<S, 8, 1>(simd, at, wz, z, scatter),
                (_, 3) => tile::<S, 4, 3>(simd, at, wz, z, scatter),
                (_, 2) => tile::<S, 4, 2>(simd, at, wz, z, scatter),
                (_, _) => tile::<S, 4, 1>(simd, at, wz, z, scatter),
            }
            column += columns;
            left -= columns;
        }
        first += height;
    }
}

/// Rows `first .. first + R` and vectors `column .. column + C` of the scatter.
#[inline(always)]
fn tile<S: Simd, const R: usize, const C: usize>(
    simd: S,
    (width, first, column): (usize, usize, usize),
    wz: &[f64],
    z: &[S::f64s],
    scatter: &mut [S::f64s],
) {
    let vectors = width / S::F64_LANES;
    let mut own = [[simd.splat_f64s(0.0); C]; R];
    for (wz, z) in wz.chunks_exact(width).zip(z.chunks_exact(vectors)) {
        let (wz, z) = (&wz[first..][..R], &z[column..][..C]);
        for i in 0..R {
            let w = simd.splat_f64s(wz[i]);
            for j in 0..C {
                own[i][j] = simd.mul_add_e_f64s(w, z[j], own[i][j]);
            }
        }
    }
    for i in 0..R {
        let row = &mut scatter[(first + i) * vectors + column..][..C];
        for j in 0..C {
            row[j] = simd.add_f64s(row[j], own[i][j]);
        }
    }
}
