//! Scores of rows that need no responsibilities: `ln p` and the most probable component.

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::GROUP;
use crate::mixture::rows::Block;
use crate::mixture::simd::{exp_above, ln, EXP_MIN};

/// Leaves `ln p = max + ln Σ_c exp(joint_c − max)` in the place of the largest log joint density of each row.
pub struct LogSumExp<'a> {
    pub block: &'a mut Block,
}

impl WithSimd for LogSumExp<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (log_density, _) = S::as_mut_simd_f64s(&mut self.block.log_density);
        let (joint, _) = S::as_simd_f64s(&self.block.responsibilities);
        let vectors = log_density.len();
        let (zero, least) = (simd.splat_f64s(0.0), simd.splat_f64s(EXP_MIN));
        for first in (0..vectors).step_by(GROUP) {
            let max = &mut log_density[first..][..GROUP];
            let mut sum = [zero; GROUP];
            for lane in joint.chunks_exact(vectors) {
                let lane = &lane[first..][..GROUP];
                let mut t = [zero; GROUP];
                for v in 0..GROUP {
                    t[v] = simd.max_f64s(simd.sub_f64s(lane[v], max[v]), least);
                }
                let e = exp_above::<S, GROUP>(simd, t, least);
                for v in 0..GROUP {
                    sum[v] = simd.add_f64s(sum[v], e[v]);
                }
            }
            for v in 0..GROUP {
                max[v] = simd.add_f64s(max[v], ln::<S>(simd, sum[v]));
            }
        }
    }
}

/// Writes the first component of largest log joint density of each row.
pub struct MostProbable<'a> {
    /// Where the largest log joint densities are where log densities will be.
    pub block: &'a mut Block,
    pub labels: &'a mut [u32],
}

impl WithSimd for MostProbable<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, labels } = self;
        let (largest, _) = S::as_simd_f64s(&block.log_density);
        let (joint, _) = S::as_simd_f64s(&block.responsibilities);
        let (first, _) = S::as_mut_simd_f64s(&mut block.entropy);
        let vectors = largest.len().max(1);
        for (c, lane) in joint.chunks_exact(vectors).enumerate().rev() {
            let c = simd.splat_f64s(c as f64);
            for ((first, joint), largest) in first.iter_mut().zip(lane).zip(largest) {
                *first = simd.select_f64s(simd.greater_than_or_equal_f64s(*joint, *largest), c, *first);
            }
        }
        for (label, first) in labels.iter_mut().zip(&*block.entropy) {
            *label = *first as u32;
        }
    }
}
