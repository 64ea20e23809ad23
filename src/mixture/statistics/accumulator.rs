//! Sums over the rows of some blocks: of each component `Σ w r`, `Σ w r z` and `Σ w r z zᵀ` with `z = x − g` about a
//! guess `g` of its mean or of all means, and the figures of the rows. They become statistics once, at the end.

use pulp::{Simd, WithSimd};
use smallvec::smallvec;

use super::by_component::{self, ByComponent};
use super::by_feature::{self, ByFeature};
use super::by_product::{self, Held};
use super::by_row::{self, ByRow};
use super::{Guess, Scatter, Statistics};
use crate::mixture::linalg::{triangle, Numbers};
use crate::mixture::rows::Block;
use crate::mixture::shapes;
use crate::mixture::simd::{Lanes, Level};

/// Where sums are kept while rows come in.
pub struct Accumulator {
    pub(super) k: usize,
    pub(super) d: usize,
    pub(super) form: Scatter,
    pub(super) about: Vec<f64>,
    pub(super) level: Level,
    layout: Layout,
    /// An origin that may be shared; empty once that is decided.
    origin: Vec<f64>,
    /// Lanes of sums over every eighth row, or sums.
    pub(super) sums: Lanes,
    pub(super) held: Held,
    pub(super) scratch: Lanes,
    pub(super) active: Vec<u32>,
    /// Responsibilities row after row, as far as they are read; what follows those of the last row is read, not used.
    given: Vec<f64>,
    n_rows: u64,
    total_weight: f64,
    log_likelihood: f64,
    entropy: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Lanes are rows.
    Rows,
    /// Lanes are features.
    Features,
    /// About one origin, from products that components share.
    Products,
    /// The same, of rows that lie one after the other: lanes are components.
    Components,
}

impl Layout {
    fn new(k: usize, d: usize, form: Scatter) -> Self {
        if shapes::by_feature(d, form, k * by_row::entries(d, form) * by_row::LANES) {
            Self::Features
        } else {
            Self::Rows
        }
    }
}

impl Accumulator {
    /// Sums over no row.
    pub fn new(k: usize, d: usize, form: Scatter) -> Self {
        Self {
            k,
            d,
            form,
            about: Vec::new(),
            level: Level::chosen(),
            layout: Layout::new(k, d, form),
            origin: Vec::new(),
            sums: Lanes::default(),
            held: Held::default(),
            scratch: Lanes::default(),
            active: Vec::new(),
            given: Vec::new(),
            n_rows: 0,
            total_weight: 0.0,
            log_likelihood: 0.0,
            entropy: 0.0,
        }
    }

    /// Forgets all rows.
    pub fn begin(&mut self, guess: &Guess) {
        self.held.clear();
        self.about.clear();
        self.about.extend_from_slice(&guess.means);
        self.layout = Layout::new(self.k, self.d, self.form);
        (self.n_rows, self.total_weight, self.log_likelihood, self.entropy) = (0, 0.0, 0.0, 0.0);
        self.origin.clear();
        let origin = guess.origin.as_deref().unwrap_or_default();
        let products = by_component::products(self.d, self.form);
        if guess.by_row && !origin.is_empty() && shapes::by_component(self.k, products) {
            self.layout = Layout::Components;
            self.about.clear();
            self.about.extend_from_slice(origin);
        } else if self.form == Scatter::Full && shapes::products(self.k, self.d, self.level) {
            self.origin.extend_from_slice(origin);
        }
        if self.origin.is_empty() {
            self.clear_sums();
        }
    }

    fn clear_sums(&mut self) {
        let len = match self.layout {
            Layout::Rows => self.k * by_row::entries(self.d, self.form) * by_row::LANES,
            Layout::Features => self.k * by_feature::entries(self.d),
            Layout::Products => self.k * by_product::entries(self.d),
            Layout::Components => by_component::entries(self.k, self.d, self.form),
        };
        self.sums.refill(len, 0.0);
    }

    /// Takes the origin that may be shared where the first rows say that components overlap.
    fn decide(&mut self, block: Option<&Block>) {
        if self.origin.is_empty() {
            return;
        }
        if block.is_some_and(by_product::is_dense) {
            self.layout = Layout::Products;
            std::mem::swap(&mut self.about, &mut self.origin);
            self.held.reserve(self.k, self.d);
        }
        self.origin.clear();
        self.clear_sums();
    }

    /// Adds the rows of a block, whose lanes times their scale are shares in all components.
    pub fn absorb(&mut self, block: &Block) {
        self.absorb_in(block, &[]);
    }

    /// The same in some components; in all of them if none is named.
    pub fn absorb_in(&mut self, block: &Block, components: &[u32]) {
        self.decide(Some(block));
        let level = self.level;
        level.run(Figures { sums: self, block });
        match self.layout {
            Layout::Components => {
                let mut given = std::mem::take(&mut self.given);
                given.resize(by_component::reach(block.len(), self.k), 0.0);
                block.write_rows(&mut given);
                level.run(ByComponent { sums: self, block, given: &given });
                self.given = given;
            }
            Layout::Rows => level.run(ByRow { sums: self, block, components }),
            Layout::Features => level.run(ByFeature { sums: self, block, components }),
            Layout::Products => by_product::hold(self, block, components),
        }
    }

    /// How many numbers are read where responsibilities lie row after row, if a block can be added
    /// [so](Accumulator::absorb_given).
    pub fn reach(&self, block: &Block) -> Option<usize> {
        (self.layout == Layout::Components).then(|| by_component::reach(block.len(), self.k))
    }

    /// Adds the rows of a block by responsibilities that lie row after row.
    pub fn absorb_given(&mut self, block: &Block, given: &[f64]) {
        let level = self.level;
        level.run(Figures { sums: self, block });
        level.run(ByComponent { sums: self, block, given });
    }

    /// The statistics, and whether the guesses were near enough for their scatter to be accurate: else the rows are to
    /// be absorbed again, about the means found.
    pub fn finish(&mut self) -> (Statistics, bool) {
        self.decide(None);
        by_product::add_held(self);
        let mut statistics = Statistics::new(self.k, self.d, self.form);
        statistics.n_rows = self.n_rows;
        statistics.total_weight = self.total_weight;
        statistics.log_likelihood = self.log_likelihood;
        statistics.entropy = self.entropy;
        let (d, width) = (self.d, self.form.len(self.d));
        let mut shift: Numbers = smallvec![0.0; d];
        let mut accurate = true;
        let shared = matches!(self.layout, Layout::Products | Layout::Components);
        for c in 0..self.k {
            let mean = &mut statistics.mean[c * d..][..d];
            let scatter = &mut statistics.scatter[c * width..][..width];
            let weight = match self.layout {
                Layout::Rows => by_row::totals(self, c, &mut shift, scatter),
                Layout::Features => by_feature::totals(self, c, &mut shift, scatter),
                Layout::Products => by_product::totals(self, c, &mut shift, scatter),
                Layout::Components => by_component::totals(self, c, &mut shift, scatter),
            };
            if weight == 0.0 {
                scatter.fill(0.0);
                continue;
            }
            statistics.weight[c] = weight;
            let about = if shared { &self.about } else { &self.about[c * d..][..d] };
            mean.copy_from_slice(about);
            for x in &mut shift {
                *x /= weight;
            }
            // Products of rows overflow for all components where they do for one.
            accurate &= !shared || shift.iter().chain(&*scatter).all(|s| s.is_finite());
            accurate &= recentre(mean, scatter, &shift, weight, self.form);
        }
        (statistics, accurate)
    }
}

/// Writes the shares of rows in a component: what its lane holds, times their scale.
#[inline(always)]
pub fn scaled<S: Simd>(simd: S, given: &[S::f64s], scale: &[S::f64s], shares: &mut [S::f64s]) {
    for ((share, given), scale) in shares.iter_mut().zip(given).zip(scale) {
        *share = simd.mul_f64s(*given, *scale);
    }
}

/// Adds the figures of the rows.
struct Figures<'a> {
    sums: &'a mut Accumulator,
    block: &'a Block,
}

impl WithSimd for Figures<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, block } = self;
        let (weight, _) = S::as_simd_f64s(block.weight());
        let (log_density, _) = S::as_simd_f64s(&block.log_density);
        let (entropy, _) = S::as_simd_f64s(&block.entropy);
        let (zero, one) = (simd.splat_f64s(0.0), simd.splat_f64s(1.0));
        let (mut rows, mut total, mut l, mut h) = (zero, zero, zero, zero);
        for ((w, log_density), entropy) in weight.iter().zip(log_density).zip(entropy) {
            let counts = simd.greater_than_f64s(*w, zero);
            let w = simd.select_f64s(counts, *w, zero);
            rows = simd.add_f64s(rows, simd.select_f64s(counts, one, zero));
            total = simd.add_f64s(total, w);
            l = simd.mul_add_e_f64s(w, *log_density, l);
            h = simd.mul_add_e_f64s(w, *entropy, h);
        }
        sums.n_rows += simd.reduce_sum_f64s(rows) as u64;
        sums.total_weight += simd.reduce_sum_f64s(total);
        sums.log_likelihood += simd.reduce_sum_f64s(l);
        sums.entropy += simd.reduce_sum_f64s(h);
    }
}

/// A guess `g` of a mean costs `W (m − g)²/ S` times the rounding error; past this the moments are taken again.
const CANCELLATION: f64 = 1e3;
/// Unless the mean has moved by no more than this, relative: no guess is nearer.
const SETTLED: f64 = 4.0 * f64::EPSILON;

/// `m += δ`, `S −= W δδᵀ`; whether that took away less than [`CANCELLATION`] times what it left, or `m` is settled.
fn recentre(mean: &mut [f64], scatter: &mut [f64], shift: &[f64], weight: f64, form: Scatter) -> bool {
    let mut accurate = true;
    for (i, (m, x)) in mean.iter_mut().zip(shift).enumerate() {
        *m += x;
        let diagonal = match form {
            Scatter::Full => triangle(i) + i,
            Scatter::Diagonal => i,
        };
        if form == Scatter::Full {
            for (s, y) in scatter[triangle(i)..diagonal].iter_mut().zip(shift) {
                *s -= weight * x * y;
            }
        }
        let between = weight * x * x;
        scatter[diagonal] = (scatter[diagonal] - between).max(0.0);
        accurate &= between <= CANCELLATION * scatter[diagonal] || x.abs() <= SETTLED * m.abs();
    }
    accurate
}
