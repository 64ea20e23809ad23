//! Rows put in order by their leading features, where features are many.
//!
//! `A_c` is lower triangular, so that its first rows are the factor of the leading features alone: their densities cost
//! little of those of all, and where components lie apart they mostly name the one that a row belongs to.

use std::sync::Arc;

use super::log_joint::{padding, panel_row, panels_len, LogJoint, PANEL};
use super::{Density, Factors, Form};
use crate::mixture::linalg::Numbers;
use crate::mixture::rows::Block;

/// How many features decide: they cost a 64th of the norms of all, and fill panels of their factor.
fn leading(d: usize) -> usize {
    (d / 8).next_multiple_of(PANEL).max(2 * PANEL) - padding(d)
}

/// The density of the leading features.
pub struct Leading(Density);

impl Leading {
    /// Of a density whose factors are in panels.
    pub fn new(density: &Density) -> Self {
        let Density { level, k, d, .. } = *density;
        let leading = leading(d);
        let factors = density.factors.leading(leading);
        let constant = |c: usize| density.log_constant[c] - density.factors.log_det(c) + factors.log_det(c);
        let mean = |c: usize| density.means[c * d..][..leading].iter().copied();
        Self(Density {
            level,
            k,
            d: leading,
            log_constant: (0..k).map(constant).collect(),
            means: (0..k).flat_map(mean).collect(),
            negligible: density.negligible.clone(),
            factors,
            origin: None,
            reciprocals: Vec::new(),
            row_bounds: Vec::new(),
        })
    }

    /// The component each row most likely belongs to by its leading features.
    pub fn likeliest(&self, leaf: &mut Block) -> Vec<u32> {
        leaf.set_k(self.0.k);
        self.0.level.run(LogJoint::new(&self.0, leaf));
        let mut likeliest = vec![0; leaf.len()];
        let mut largest = vec![f64::NEG_INFINITY; leaf.len()];
        for c in 0..self.0.k {
            for ((best, max), joint) in likeliest.iter_mut().zip(&mut largest).zip(leaf.component(c)) {
                let better = joint > max;
                *best = if better { c as u32 } else { *best };
                *max = if better { *joint } else { *max };
            }
        }
        likeliest
    }
}

impl Factors {
    /// The leading rows of triangles in panels, which are whole panels with the padding before them.
    fn leading(&self, rows: usize) -> Self {
        let (mut values, len) = (Numbers::new(), panels_len(rows));
        for panels in self.values.chunks_exact(self.stride) {
            let diagonal = (0..rows).filter_map(|i| panel_row(panels, rows, i).last());
            let log_det = diagonal.map(|a| a.ln()).sum();
            values.extend_from_slice(&panels[..len]);
            values.push(log_det);
        }
        Self { form: Form::Panels, values: Arc::new(values), stride: len + 1, place: self.place.clone() }
    }
}
