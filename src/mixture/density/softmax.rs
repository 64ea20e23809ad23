//! From log joint densities to responsibilities: for the rows of a block, with `t_c = joint_c − max`,
//!
//! ```text
//! s = Σ_c exp t_c,   ln p = max + ln s,   r_c = exp t_c / s,   −Σ_c r_c ln r_c = ln s − Σ_c exp(t_c) t_c / s
//! ```

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::GROUP;
use crate::mixture::rows::{Block, LOWEST};
use crate::mixture::simd::{exp_above, ln, EXP_MIN};

/// Leaves the largest log joint density of each row where its log density will be.
pub struct Largest<'a> {
    pub block: &'a mut Block,
}

impl WithSimd for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (largest, _) = S::as_mut_simd_f64s(&mut self.block.log_density);
        let (joint, _) = S::as_simd_f64s(&self.block.responsibilities);
        largest.fill(simd.splat_f64s(LOWEST));
        for lane in joint.chunks_exact(largest.len().max(1)) {
            for (max, x) in largest.iter_mut().zip(lane) {
                *max = simd.max_f64s(*max, *x);
            }
        }
    }
}

/// The smallest of some numbers, infinite if there is none.
pub struct Smallest<'a>(pub &'a [f64]);

impl WithSimd for Smallest<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let mut smallest = simd.splat_f64s(f64::INFINITY);
        for x in S::as_simd_f64s(self.0).0 {
            smallest = simd.min_f64s(smallest, *x);
        }
        simd.reduce_min_f64s(smallest)
    }
}

/// Leaves responsibilities, or `exp t_c` and `w / s` as their scale, in the place of log joint densities, and log p and
/// entropy of each row, whose largest log joint density is where its log density will be.
pub struct Softmax<'a> {
    pub block: &'a mut Block,
    /// For each component, what `t_c` must exceed for `exp t_c` not to be zero, [`EXP_MIN`] at least.
    pub negligible: &'a [f64],
    /// Whether most are expected to be negligible.
    pub sparse: bool,
    /// Whether responsibilities themselves are wanted.
    pub normalised: bool,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, negligible, sparse, normalised } = self;
        let (log_density, _) = S::as_mut_simd_f64s(&mut block.log_density);
        let (entropy, _) = S::as_mut_simd_f64s(&mut block.entropy);
        let (joint, _) = S::as_mut_simd_f64s(&mut block.responsibilities);
        let (weight, _) = S::as_simd_f64s(&block.weight);
        let (scale, _) = S::as_mut_simd_f64s(&mut block.scale);
        let vectors = log_density.len();
        let (zero, one) = (simd.splat_f64s(0.0), simd.splat_f64s(1.0));
        for first in (0..vectors).step_by(GROUP) {
            let max = &mut log_density[first..][..GROUP];
            let (mut sum, mut sum_t) = ([zero; GROUP], [zero; GROUP]);
            for (lane, negligible) in joint.chunks_exact_mut(vectors).zip(negligible) {
                let lane = &mut lane[first..][..GROUP];
                if sparse && largest::<S>(simd, lane, max) <= *negligible {
                    lane.fill(zero);
                    continue;
                }
                let negligible = simd.splat_f64s(*negligible);
                let mut t = [zero; GROUP];
                for v in 0..GROUP {
                    t[v] = simd.max_f64s(simd.sub_f64s(lane[v], max[v]), negligible);
                }
                let e = exp_above::<S, GROUP>(simd, t, negligible);
                for v in 0..GROUP {
                    sum[v] = simd.add_f64s(sum[v], e[v]);
                    sum_t[v] = simd.mul_add_e_f64s(e[v], t[v], sum_t[v]);
                    lane[v] = e[v];
                }
            }
            let mut reciprocal = [zero; GROUP];
            for v in 0..GROUP {
                let log_sum = ln::<S>(simd, sum[v]);
                reciprocal[v] = simd.div_f64s(one, sum[v]);
                max[v] = simd.add_f64s(max[v], log_sum);
                entropy[first + v] = simd.negate_mul_add_e_f64s(sum_t[v], reciprocal[v], log_sum);
            }
            let (scale, weight) = (&mut scale[first..][..GROUP], &weight[first..][..GROUP]);
            if !normalised {
                for v in 0..GROUP {
                    scale[v] = simd.mul_f64s(weight[v], reciprocal[v]);
                }
                continue;
            }
            scale.copy_from_slice(weight);
            for lane in joint.chunks_exact_mut(vectors) {
                let lane = &mut lane[first..][..GROUP];
                for v in 0..GROUP {
                    lane[v] = simd.mul_f64s(lane[v], reciprocal[v]);
                }
            }
        }
    }
}

/// The largest `t_c` of some rows.
#[inline(always)]
fn largest<S: Simd>(simd: S, joint: &[S::f64s], max: &[S::f64s]) -> f64 {
    let mut largest = simd.splat_f64s(f64::NEG_INFINITY);
    for v in 0..GROUP {
        largest = simd.max_f64s(largest, simd.sub_f64s(joint[v], max[v]));
    }
    simd.reduce_max_f64s(largest)
}

/// Leaves log responsibilities, `t_c − ln s`, in the place of log joint densities: the large terms cancel first.
pub struct LogSoftmax<'a> {
    pub block: &'a mut Block,
}

impl WithSimd for LogSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (log_density, _) = S::as_mut_simd_f64s(&mut self.block.log_density);
        let (joint, _) = S::as_mut_simd_f64s(&mut self.block.responsibilities);
        let vectors = log_density.len();
        let (zero, least) = (simd.splat_f64s(0.0), simd.splat_f64s(EXP_MIN));
        for (v, max) in log_density.iter_mut().enumerate() {
            let mut sum = zero;
            for lane in joint.chunks_exact_mut(vectors) {
                lane[v] = simd.sub_f64s(lane[v], *max);
                let [e] = exp_above::<S, 1>(simd, [simd.max_f64s(lane[v], least)], least);
                sum = simd.add_f64s(sum, e);
            }
            let log_sum = ln::<S>(simd, sum);
            *max = simd.add_f64s(*max, log_sum);
            for lane in joint.chunks_exact_mut(vectors) {
                lane[v] = simd.sub_f64s(lane[v], log_sum);
            }
        }
    }
}
