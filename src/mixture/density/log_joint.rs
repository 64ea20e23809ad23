//! `ln π_c − ½ d ln 2π + ln det A_c − ½ ‖A_c (x − μ_c)‖²` for the rows of a block. Lanes are rows.

#![allow(clippy::needless_range_loop)] // Loops over constant ranges become straight vector code.

use pulp::{Simd, WithSimd};

use super::{Density, Form, GROUP};
use crate::mixture::linalg::triangle;
use crate::mixture::rows::{component_of, Block, LOWEST};
use crate::mixture::shapes::{MANY_REGISTERS, SHARED_ORIGIN};
use crate::mixture::simd::raised;
use crate::mixture::small::{self, Norms};

/// Leaves the log joint densities in the lanes of a block from `first`, none below [`LOWEST`] but `−∞` where a component
/// weighs nothing, and the largest of each row, of lanes before `first` too, where its log density will be.
pub struct LogJoint<'a> {
    pub density: &'a Density,
    pub block: &'a mut Block,
    /// What the lanes of the block are; all components if none is named.
    pub components: &'a [u32],
    pub first: usize,
    /// Whether the largest of lanes before `first` are near those of all, so that a component of many features may be
    /// left, at a bound from above, as soon as that is negligible for some rows.
    pub leaving: bool,
}

/// Rows of a factor in a panel, which are multiplied together.
pub const PANEL: usize = 4;

impl<'a> LogJoint<'a> {
    /// In all components.
    pub fn new(density: &'a Density, block: &'a mut Block) -> Self {
        Self { density, block, components: &[], first: 0, leaving: false }
    }
}

impl WithSimd for LogJoint<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.density.factors.form {
            Form::Diagonal => components::<S, Diagonal>(simd, self),
            Form::Triangular => components::<S, Triangular>(simd, self),
            Form::Panels if S::REGISTER_COUNT >= MANY_REGISTERS => components::<S, Panels<4>>(simd, self),
            Form::Panels => components::<S, Panels<2>>(simd, self),
        }
    }
}

/// What a norm is taken by.
struct Component<'a> {
    mean: &'a [f64],
    factor: &'a [f64],
    /// What `A (x − o)` lacks, where differences from a shared origin have been [taken](Norm::subtract); else empty.
    offset: &'a [f64],
    /// A norm that has come to `enough − 2 largest` for rows counts no more; infinite if all norms count.
    enough: f64,
}

/// What a norm becomes, and the largest that there have been of each row.
struct Joint<'a, S: Simd> {
    constant: S::f64s,
    out: &'a mut [S::f64s],
    largest: &'a mut [S::f64s],
}

impl<S: Simd> Norms<S> for Joint<'_, S> {
    /// `constant − ½ norm`.
    #[inline(always)]
    fn set(&mut self, simd: S, v: usize, norm: S::f64s) {
        let joint = simd.mul_add_e_f64s(simd.splat_f64s(-0.5), norm, self.constant);
        let joint = raised(simd, joint, simd.splat_f64s(LOWEST));
        self.out[v] = joint;
        self.largest[v] = simd.max_f64s(self.largest[v], joint);
    }
}

/// How `‖A (x − μ)‖²` is computed for the rows of a lane.
trait Norm {
    /// Scratch vectors needed for `d` features, and differences of as many `vectors` of rows.
    fn scratch(_d: usize, _vectors: usize) -> usize {
        0
    }

    /// Leaves the differences of all rows from an origin in the scratch.
    #[inline(always)]
    fn subtract<S: Simd>(_: S, _features: &[S::f64s], _origin: &[f64], _scratch: &mut [S::f64s]) {}

    /// `features` are `d` lanes of as many vectors as `joint`.
    fn norm<S: Simd>(
        simd: S,
        features: &[S::f64s],
        component: Component,
        scratch: &mut [S::f64s],
        joint: Joint<S>,
    );
}

#[inline(always)]
fn components<S: Simd, N: Norm>(simd: S, of: LogJoint) {
    let LogJoint { density, block, components, first, leaving } = of;
    let d = density.d;
    let stride = block.stride().max(1);
    let several = block.responsibilities.len() >= (first + SHARED_ORIGIN) * stride;
    let origin = density.origin.as_ref().filter(|_| several);
    let shared = if origin.is_some() { stride / S::F64_LANES } else { 0 };
    block.scratch.resize(N::scratch(d, shared) * S::F64_LANES);
    let (features, _) = S::as_simd_f64s(&block.features[..d * block.stride()]);
    let (scratch, _) = S::as_mut_simd_f64s(&mut block.scratch);
    let (largest, _) = S::as_mut_simd_f64s(&mut block.log_density);
    if first == 0 {
        largest.fill(simd.splat_f64s(LOWEST));
    }
    if let Some(origin) = origin {
        N::subtract::<S>(simd, features, &origin.point, scratch);
    }
    for (lane, joint) in block.responsibilities.chunks_exact_mut(stride).enumerate().skip(first) {
        let c = component_of(components, lane);
        let constant = density.log_constant[c];
        if constant == f64::NEG_INFINITY {
            joint.fill(constant);
            continue;
        }
        let (out, _) = S::as_mut_simd_f64s(joint);
        let (mean, factor) = (&density.means[c * d..][..d], density.factors.of(c));
        let enough = if leaving { 2.0 * (constant - density.negligible[c]) } else { f64::INFINITY };
        let joint = Joint { constant: simd.splat_f64s(constant), out, largest };
        let offset = origin.map_or(&[][..], |origin| origin.offset(c, density.k));
        N::norm::<S>(simd, features, Component { mean, factor, offset, enough }, scratch, joint);
    }
}

/// A packed triangle of few features.
struct Triangular;

impl Norm for Triangular {
    #[inline(always)]
    fn norm<S: Simd>(
        simd: S,
        features: &[S::f64s],
        Component { mean, factor, .. }: Component,
        _: &mut [S::f64s],
        mut joint: Joint<S>,
    ) {
        let vectors = joint.out.len();
        joint.largest = &mut joint.largest[..vectors];
        small::norms::<S>(simd, (features, vectors), mean, factor, &mut joint);
    }
}

/// Reciprocal deviations.
struct Diagonal;

impl Norm for Diagonal {
    #[inline(always)]
    fn norm<S: Simd>(
        simd: S,
        features: &[S::f64s],
        Component { mean, factor, .. }: Component,
        _: &mut [S::f64s],
        mut joint: Joint<S>,
    ) {
        let vectors = joint.out.len();
        for g in 0..vectors / GROUP {
            let mut norm = [simd.splat_f64s(0.0); GROUP];
            for ((lane, mean), a) in features.chunks_exact(vectors).zip(mean).zip(factor) {
                let (mean, a) = (simd.splat_f64s(*mean), simd.splat_f64s(*a));
                let x = &lane[g * GROUP..][..GROUP];
                for v in 0..GROUP {
                    let z = simd.mul_f64s(a, simd.sub_f64s(x[v], mean));
                    norm[v] = simd.mul_add_e_f64s(z, z, norm[v]);
                }
            }
            for v in 0..GROUP {
                joint.set(simd, g * GROUP + v, norm[v]);
            }
        }
    }
}

/// Panels of [`PANEL`] rows of the triangle, for `V` vectors of rows at a time.
struct Panels<const V: usize>;

impl<const V: usize> Norm for Panels<V> {
    fn scratch(d: usize, vectors: usize) -> usize {
        padded(d) * vectors.max(V)
    }

    #[inline(always)]
    fn subtract<S: Simd>(simd: S, features: &[S::f64s], origin: &[f64], scratch: &mut [S::f64s]) {
        let groups = scratch.as_chunks_mut::<V>().0.chunks_exact_mut(padded(origin.len()));
        for (g, differences) in groups.enumerate() {
            subtract(simd, features, g, origin, differences);
        }
    }

    #[inline(always)]
    fn norm<S: Simd>(
        simd: S,
        features: &[S::f64s],
        Component { mean, factor, offset, enough }: Component,
        scratch: &mut [S::f64s],
        mut joint: Joint<S>,
    ) {
        let vectors = joint.out.len();
        let (zero, two) = (simd.splat_f64s(0.0), simd.splat_f64s(2.0));
        let (differences, _) = scratch.as_chunks_mut::<V>();
        let (width, padding) = (padded(mean.len()), padding(mean.len()));
        for g in 0..vectors / V {
            let differences = if offset.is_empty() {
                subtract(simd, features, g, mean, &mut differences[..width]);
                &differences[..width]
            } else {
                &differences[g * width..][..width]
            };
            let mut offset = offset.as_chunks::<PANEL>().0.iter();
            let (mut norm, mut entries) = ([zero; V], factor.as_chunks::<PANEL>().0);
            for panel in 1..=differences.len() / PANEL {
                let (own, rest) = entries.split_at(panel * PANEL);
                entries = rest;
                let (square, corner) = own.split_at((panel - 1) * PANEL);
                let (before, beside) = differences.split_at(square.len());
                let zeros = padding.min(square.len());
                let z = offset.next().copied().unwrap_or_default();
                let mut z = z.map(|z| [simd.splat_f64s(z); V]);
                for (a, x) in square[zeros..].iter().zip(&before[zeros..]) {
                    for i in 0..PANEL {
                        let a = simd.splat_f64s(a[i]);
                        for v in 0..V {
                            z[i][v] = simd.mul_add_e_f64s(a, x[v], z[i][v]);
                        }
                    }
                }
                let (corner, beside) = (&corner[..PANEL], &beside[..PANEL]);
                for j in 0..PANEL {
                    for i in j..PANEL {
                        let a = simd.splat_f64s(corner[j][i]);
                        for v in 0..V {
                            z[i][v] = simd.mul_add_e_f64s(a, beside[j][v], z[i][v]);
                        }
                    }
                }
                for z in z {
                    for v in 0..V {
                        norm[v] = simd.mul_add_e_f64s(z[v], z[v], norm[v]);
                    }
                }
                if panel.is_power_of_two() && enough < f64::INFINITY {
                    let largest = &joint.largest[g * V..][..V];
                    let mut least = simd.splat_f64s(f64::INFINITY);
                    for v in 0..V {
                        least = simd.min_f64s(least, simd.mul_add_e_f64s(two, largest[v], norm[v]));
                    }
                    if simd.reduce_min_f64s(least) > enough {
                        break;
                    }
                }
            }
            for v in 0..V {
                joint.set(simd, g * V + v, norm[v]);
            }
        }
    }
}

/// `x − origin` of group `g` of `V` vectors of rows, after zeros where the factor has some.
#[inline(always)]
fn subtract<S: Simd, const V: usize>(
    simd: S,
    features: &[S::f64s],
    g: usize,
    origin: &[f64],
    differences: &mut [[S::f64s; V]],
) {
    let vectors = features.len() / origin.len();
    let (zeros, differences) = differences.split_at_mut(padding(origin.len()));
    zeros.fill([simd.splat_f64s(0.0); V]);
    for ((lane, origin), difference) in features.chunks_exact(vectors).zip(origin).zip(differences) {
        let (x, origin) = (&lane[g * V..][..V], simd.splat_f64s(*origin));
        for v in 0..V {
            difference[v] = simd.sub_f64s(x[v], origin);
        }
    }
}

/// Rows of whole panels.
pub const fn padded(d: usize) -> usize {
    d.next_multiple_of(PANEL)
}

/// Rows and columns of zeros before those of a factor: its panels end where it does, and the longest are full.
pub const fn padding(d: usize) -> usize {
    padded(d) - d
}

/// Entries of a lower triangle in panels.
pub const fn panels_len(d: usize) -> usize {
    panel_start(padded(d) / PANEL)
}

/// Leaves a packed lower triangle in panels: for each panel of rows and each column up to its last row, one entry of each
/// row, zero above the diagonal and in the padding.
pub fn write_panels(packed: &[f64], d: usize, panels: &mut [f64]) {
    let padding = padding(d);
    let columns = (0..padded(d)).step_by(PANEL).flat_map(|first| (0..first + PANEL).map(move |j| (first, j)));
    for ((first, j), column) in columns.zip(panels.chunks_exact_mut(PANEL)) {
        for (i, entry) in (first..).zip(column) {
            let within = (padding..=i).contains(&j);
            *entry = if within { packed[triangle(i - padding) + j - padding] } else { 0.0 };
        }
    }
}

/// Where a panel begins: each has PANEL columns more than the one before.
pub const fn panel_start(panel: usize) -> usize {
    PANEL * PANEL * panel * (panel + 1) / 2
}

/// Row `i` of a lower triangle of order `d` in panels, up to its diagonal.
pub fn panel_row(panels: &[f64], d: usize, i: usize) -> impl Iterator<Item = &f64> {
    let (padding, row) = (padding(d), padding(d) + i);
    let columns = panels[panel_start(row / PANEL)..].iter().skip(row % PANEL).step_by(PANEL);
    columns.skip(padding).take(i + 1)
}
