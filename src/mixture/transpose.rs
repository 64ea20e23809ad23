//! Rows to lanes and lanes to rows.

/// Rows and columns of a tile, which stays in registers.
const TILE: usize = 4;

/// Writes entry `[i, j]` of a matrix of `rows × columns`, which is `from[i · from_stride + j]`, to `to[j · to_stride + i]`.
pub fn transpose(
    (rows, columns): (usize, usize),
    (from, from_stride): (&[f64], usize),
    (to, to_stride): (&mut [f64], usize),
) {
    for i in (0..rows).step_by(TILE) {
        for j in (0..columns).step_by(TILE) {
            let (height, width) = (TILE.min(rows - i), TILE.min(columns - j));
            let (from, to) = (&from[i * from_stride + j..], &mut to[j * to_stride + i..]);
            if (height, width) == (TILE, TILE) {
                tile((from, from_stride), (to, to_stride));
            } else {
                for c in 0..width {
                    for r in 0..height {
                        to[c * to_stride + r] = from[r * from_stride + c];
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn tile((from, from_stride): (&[f64], usize), (to, to_stride): (&mut [f64], usize)) {
    let mut rows = [[0.0; TILE]; TILE];
    for (i, row) in rows.iter_mut().enumerate() {
        row.copy_from_slice(&from[i * from_stride..][..TILE]);
    }
    for j in 0..TILE {
        to[j * to_stride..][..TILE].copy_from_slice(&rows.map(|row| row[j]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_goes_where_it_belongs() {
        for (rows, columns) in [(0, 3), (3, 0), (1, 1), (7, 20), (8, 8), (9, 13), (33, 31), (40, 2)] {
            let (from_stride, to_stride) = (columns + 3, rows + 2);
            let from: Vec<f64> = (0..rows * from_stride).map(|i| i as f64).collect();
            let mut to = vec![-1.0; columns * to_stride];
            transpose((rows, columns), (&from, from_stride), (&mut to, to_stride));
            for (at, x) in to.iter().enumerate() {
                let (j, i) = (at / to_stride, at % to_stride);
                let expected = if i < rows { (i * from_stride + j) as f64 } else { -1.0 };
                assert_eq!(*x, expected, "{rows}x{columns} [{i}, {j}]");
            }
        }
    }
    #[test]
    fn timing() {
            for (rows, columns) in [(256, 20), (256, 16), (16, 256), (20,256), (6, 256), (256,6), (256,2)] {
                let mut from = crate::mixture::simd::Lanes::default(); from.resize(rows * columns);
                let mut to = crate::mixture::simd::Lanes::default(); to.resize(rows * columns);
                let t = std::time::Instant::now();
                for _ in 0..4000 { transpose((rows, columns), (std::hint::black_box(&from), columns), (&mut to, rows)); std::hint::black_box(&mut to); }
                println!("{rows}x{columns}: {:.3} ns/entry", t.elapsed().as_nanos() as f64 / 4000.0 / (rows*columns) as f64);
            }
    }
}
