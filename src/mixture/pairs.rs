//! Covariances of neighbouring features, where a pass keeps variances alone: by them rows are known whose features
//! stand beside others than before.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pulp::{Simd, WithSimd};

use super::pass::block_rows;
use super::rows::{Block, Rows};
use super::simd::Level;

/// `Σ w (x_j − m_j)(x_{j+1} − m_{j+1})` about given means, in the making. Rows are added in the order in which they
/// come, so that the sums are the same to rounding only.
pub struct Pairs {
    means: Vec<f64>,
    sums: Mutex<Vec<f64>>,
}

impl Pairs {
    /// Of no row yet.
    pub fn about(means: &[f64]) -> Self {
        let sums = Mutex::new(vec![0.0; means.len().saturating_sub(1)]);
        Self { means: means.to_vec(), sums }
    }

    /// Adds rows; from any thread.
    pub fn absorb(&self, rows: &dyn Rows) {
        let mut sums = vec![0.0; self.means.len().saturating_sub(1)];
        let mut block = Block::default();
        let size = block_rows(rows.d(), 0);
        for start in (0..rows.n_rows()).step_by(size) {
            block.load(rows, start, size.min(rows.n_rows() - start), 0);
            Level::chosen().run(Products { means: &self.means, block: &block, sums: &mut sums });
        }
        for (all, sum) in self.locked().iter_mut().zip(sums) {
            *all += sum;
        }
    }

    /// The sums over all rows so far.
    pub fn sums(&self) -> Vec<f64> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<f64>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Products<'a> {
    means: &'a [f64],
    block: &'a Block,
    sums: &'a mut [f64],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { means, block, sums } = self;
        let (weight, _) = S::as_simd_f64s(block.weight());
        let zero = simd.splat_f64s(0.0);
        let lane = |j: usize| S::as_simd_f64s(&block.features()[j * block.stride()..][..block.stride()]).0;
        for (j, (sum, pair)) in sums.iter_mut().zip(means.windows(2)).enumerate() {
            let (m, n) = (simd.splat_f64s(pair[0]), simd.splat_f64s(pair[1]));
            let mut total = zero;
            for ((x, y), w) in lane(j).iter().zip(lane(j + 1)).zip(weight) {
                let w = simd.select_f64s(simd.greater_than_f64s(*w, zero), *w, zero);
                let x = simd.mul_f64s(w, simd.sub_f64s(*x, m));
                total = simd.mul_add_e_f64s(x, simd.sub_f64s(*y, n), total);
            }
            *sum += simd.reduce_sum_f64s(total);
        }
    }
}
