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
        use crate::mixture::testing::{model, sample};
        use crate::mixture::{rows::*, statistics::Scatter, *};
        struct Given(Vec<f64>);
        impl Responsibilities for Given {
            fn k(&self) -> usize {
                20
            }
            fn assign(&self, start: usize, block: &mut Block) {
                let (len, stride) = (block.len(), block.stride());
                transpose((len, 20), (&self.0[start * 20..], 20), (block.components_mut(), stride));
            }
        }
        struct Zero;
        impl Responsibilities for Zero {
            fn k(&self) -> usize {
                20
            }
            fn assign(&self, _: usize, block: &mut Block) {
                block.components_mut().fill(0.05);
            }
        }
        let rows = sample(10_000, 2, 1);
        let density = model(CovarianceType::Full, 20, 2, 3).density().unwrap();
        let given = Given(vec![0.05; 200_000]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let time = |name: &str, f: &dyn Fn()| {
            let mut best = f64::MAX;
            for _ in 0..300 {
                let t = std::time::Instant::now();
                f();
                best = best.min(t.elapsed().as_secs_f64());
            }
            println!("{name}: {:.1} us", best * 1e6);
        };
        let pass = Pass::SEQUENTIAL;
        let two = Pass { execution: Execution::Parallel, helpers: Some(&pool), ..pass };
        time("e_step", &|| {
            pass.e_step(&rows, &density, Scatter::Full).unwrap();
        });
        time("e_step two", &|| {
            two.e_step(&rows, &density, Scatter::Full).unwrap();
        });
        time("assigned", &|| {
            pass.assigned(&rows, &given, Scatter::Full).unwrap();
        });
        time("assigned two", &|| {
            two.assigned(&rows, &given, Scatter::Full).unwrap();
        });
        time("assigned no read", &|| {
            pass.assigned(&rows, &Zero, Scatter::Full).unwrap();
        });
        let mut block = Block::default();
        time("load", &|| {
            let mut block = Block::default();
            for s in (0..10_000).step_by(256) {
                block.load(&rows, s, 256.min(10_000 - s), 20);
            }
        });
        time("load+joint", &|| {
            let mut block = Block::default();
            for s in (0..10_000).step_by(256) {
                block.load(&rows, s, 256.min(10_000 - s), 20);
                density.log_joint(&mut block);
            }
        });
        time("load+eff", &|| {
            let mut block = Block::default();
            for s in (0..10_000).step_by(256) {
                block.load(&rows, s, 256.min(10_000 - s), 20);
                density.effective_responsibilities(&mut block);
            }
        });
        block.load(&rows, 0, 256, 20);
        time("tr", &|| {
            let mut to = crate::mixture::simd::Lanes::default();
            to.resize(20 * 256);
            for s in 0..39 {
                transpose((256, 20), (&given.0[s * 5120..], 20), (&mut to, 256));
                std::hint::black_box(&mut to);
            }
        });
    }
}
