//! Smallest and largest values of the features.

use pulp::{Simd, WithSimd};

use super::rows::Block;
use super::simd::Level;

/// Smallest and largest value of a feature.
pub type Range = (f64, f64);

/// The range of no value.
pub const NOWHERE: Range = (f64::INFINITY, f64::NEG_INFINITY);

/// Widens the range of each feature by the rows of a block that count.
pub fn widen(ranges: &mut [Range], block: &Block) {
    Level::chosen().run(Widen { ranges, block });
}

struct Widen<'a> {
    ranges: &'a mut [Range],
    block: &'a Block,
}

impl WithSimd for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { ranges, block } = self;
        let (weight, _) = S::as_simd_f64s(block.weight());
        let zero = simd.splat_f64s(0.0);
        let (far, near) = (simd.splat_f64s(f64::INFINITY), simd.splat_f64s(f64::NEG_INFINITY));
        for (range, lane) in ranges.iter_mut().zip(block.features().chunks_exact(block.stride().max(1))) {
            let (lane, _) = S::as_simd_f64s(lane);
            let (mut low, mut high) = (far, near);
            for (x, w) in lane.iter().zip(weight) {
                let counts = simd.greater_than_f64s(*w, zero);
                low = simd.min_f64s(low, simd.select_f64s(counts, *x, far));
                high = simd.max_f64s(high, simd.select_f64s(counts, *x, near));
            }
            *range = (range.0.min(simd.reduce_min_f64s(low)), range.1.max(simd.reduce_max_f64s(high)));
        }
    }
}
