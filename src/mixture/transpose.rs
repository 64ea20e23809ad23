//! Rows to lanes and lanes to rows.

use pulp::{Simd, WithSimd};

use super::simd::Level;

/// Rows and columns of a tile, which stays in registers.
const TILE: usize = 4;

type Tile = [[f64; TILE]; TILE];

/// Writes entry `[i, j]` of a matrix of `rows × columns`, which is `from[i · from_stride + j]`, to `to[j · to_stride + i]`.
pub fn transpose(shape: (usize, usize), from: (&[f64], usize), to: (&mut [f64], usize)) {
    transpose_at(Level::chosen(), shape, from, to);
}

fn transpose_at(level: Level, shape: (usize, usize), from: (&[f64], usize), to: (&mut [f64], usize)) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = level.avx2() {
        return Simd::vectorize(simd, Transpose { shape, from, to, tiles: simd });
    }
    level.run(Transpose { shape, from, to, tiles: Plain });
}

struct Transpose<'a, T> {
    shape: (usize, usize),
    from: (&'a [f64], usize),
    to: (&'a mut [f64], usize),
    tiles: T,
}

impl<T: Tiles> WithSimd for Transpose<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { shape: (rows, columns), from: (from, from_stride), to: (to, to_stride), tiles } = self;
        let (tiled_rows, tiled_columns) = (rows - rows % TILE, columns - columns % TILE);
        for i in (0..tiled_rows).step_by(TILE) {
            for j in (0..tiled_columns).step_by(TILE) {
                let mut tile = [[0.0; TILE]; TILE];
                for (r, row) in tile.iter_mut().enumerate() {
                    row.copy_from_slice(&from[(i + r) * from_stride + j..][..TILE]);
                }
                for (c, column) in tiles.transposed(tile).iter().enumerate() {
                    to[(j + c) * to_stride + i..][..TILE].copy_from_slice(column);
                }
            }
        }
        for j in 0..columns {
            let first = if j < tiled_columns { tiled_rows } else { 0 };
            for i in first..rows {
                to[j * to_stride + i] = from[i * from_stride + j];
            }
        }
    }
}

/// How a tile is transposed.
trait Tiles {
    fn transposed(&self, tile: Tile) -> Tile;
}

struct Plain;

impl Tiles for Plain {
    #[inline(always)]
    fn transposed(&self, tile: Tile) -> Tile {
        std::array::from_fn(|c| tile.map(|row| row[c]))
    }
}

#[cfg(target_arch = "x86_64")]
impl Tiles for pulp::x86::V3 {
    #[inline(always)]
    fn transposed(&self, tile: Tile) -> Tile {
        const LOW_HALVES: i32 = 0x20;
        const HIGH_HALVES: i32 = 0x31;
        let [a, b, c, d] = tile.map(pulp::bytemuck::cast);
        let avx = self.avx;
        let (ab_even, ab_odd) = (avx._mm256_unpacklo_pd(a, b), avx._mm256_unpackhi_pd(a, b));
        let (cd_even, cd_odd) = (avx._mm256_unpacklo_pd(c, d), avx._mm256_unpackhi_pd(c, d));
        let columns = [
            avx._mm256_permute2f128_pd::<LOW_HALVES>(ab_even, cd_even),
            avx._mm256_permute2f128_pd::<LOW_HALVES>(ab_odd, cd_odd),
            avx._mm256_permute2f128_pd::<HIGH_HALVES>(ab_even, cd_even),
            avx._mm256_permute2f128_pd::<HIGH_HALVES>(ab_odd, cd_odd),
        ];
        columns.map(pulp::bytemuck::cast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_goes_where_it_belongs() {
        for level in Level::all() {
            for (rows, columns) in [(0, 3), (3, 0), (1, 1), (7, 20), (8, 8), (9, 13), (33, 31), (40, 2)] {
                let (from_stride, to_stride) = (columns + 3, rows + 2);
                let from: Vec<f64> = (0..rows * from_stride).map(|i| i as f64).collect();
                let mut to = vec![-1.0; columns * to_stride];
                transpose_at(level, (rows, columns), (&from, from_stride), (&mut to, to_stride));
                for (at, x) in to.iter().enumerate() {
                    let (j, i) = (at / to_stride, at % to_stride);
                    let expected = if i < rows { (i * from_stride + j) as f64 } else { -1.0 };
                    assert_eq!(*x, expected, "{level:?}: {rows}x{columns} [{i}, {j}]");
                }
            }
        }
    }
}
