//! Sufficient statistics of a mixture, centred: for each component its weight, mean and scatter about that mean.
//!
//! ```text
//! W = Σ w r,   m = Σ w r x / W,   S = Σ w r (x − m)(x − m)ᵀ
//! ```
//!
//! Two of them are merged by the pairwise formula of Chan, Golub & LeVeque (1983, eq. 2.1):
//!
//! ```text
//! W = W_a + W_b,   δ = m_b − m_a,   m = m_a + δ W_b / W,   S = S_a + S_b + δδᵀ W_a W_b / W
//! ```

use pulp::{Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::linalg::triangle;
use super::rows::Block;
use super::simd::dispatch;

/// How much of the scatter matrix is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scatter {
    /// All of it, as a packed lower triangle.
    Full,
    /// Its diagonal.
    Diagonal,
}

impl Scatter {
    /// Numbers kept for each component.
    pub const fn len(self, d: usize) -> usize {
        match self {
            Self::Full => triangle(d),
            Self::Diagonal => d,
        }
    }

    /// Entries of a covariance made of it: a square matrix, or a diagonal.
    pub const fn covariance_len(self, d: usize) -> usize {
        match self {
            Self::Full => d * d,
            Self::Diagonal => d,
        }
    }

    /// Whether there is none.
    pub const fn is_empty(self, d: usize) -> bool {
        d == 0
    }
}

/// Sufficient statistics of `k` components over `d` features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    form: Scatter,
    k: usize,
    d: usize,
    weight: Vec<f64>,
    mean: Vec<f64>,
    scatter: Vec<f64>,
    /// `Σ w ln p(x)` under the model that gave the responsibilities.
    pub log_likelihood: f64,
    /// `−Σ w Σ_c r_c ln r_c`.
    pub entropy: f64,
    /// Rows of positive weight.
    pub n_rows: u64,
    /// `Σ w`.
    pub total_weight: f64,
}

impl Statistics {
    /// Statistics of no row.
    pub fn new(k: usize, d: usize, form: Scatter) -> Self {
        Self {
            form,
            k,
            d,
            weight: vec![0.0; k],
            mean: vec![0.0; k * d],
            scatter: vec![0.0; k * form.len(d)],
            log_likelihood: 0.0,
            entropy: 0.0,
            n_rows: 0,
            total_weight: 0.0,
        }
    }

    /// Statistics from their parts; `scatter` holds packed lower triangles, or diagonals.
    ///
    /// # Errors
    /// If a part has the wrong length, is not finite, or a weight or variance is negative.
    pub fn from_parts(
        (k, d, form): (usize, usize, Scatter),
        weight: Vec<f64>,
        mean: Vec<f64>,
        scatter: Vec<f64>,
    ) -> Result<Self> {
        let expected = [k, k.saturating_mul(d), k.saturating_mul(form.len(d))];
        let got = [weight.len(), mean.len(), scatter.len()];
        if expected != got {
            return Err(Error::Shape {
                name: "statistics (weight, mean, scatter)",
                expected: format!("of {expected:?} entries for k={k}, d={d}"),
                got: format!("{got:?} entries"),
            });
        }
        let parts = [("weight", &weight, 1), ("mean", &mean, d), ("scatter", &scatter, form.len(d))];
        for (name, values, width) in parts {
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                let component = i / width.max(1);
                return Err(Error::NotFinite { name, component, value: values[i] });
            }
        }
        if let Some(component) = weight.iter().position(|w| *w < 0.0) {
            return Err(Error::NegativeWeight { component, value: weight[component] });
        }
        let statistics = Self { weight, mean, scatter, ..Self::new(k, d, form) };
        for component in 0..k {
            let diagonal = (0..d).map(|j| statistics.scatter_entry(component, j, j));
            if let Some(value) = diagonal.into_iter().find(|v| *v < 0.0) {
                return Err(Error::NegativeScatter { component, value });
            }
        }
        Ok(statistics)
    }

    /// Statistics of a block whose components hold responsibilities, `about` a first guess of the means (`k·d`).
    pub fn of_block(block: &mut Block, about: &[f64], form: Scatter) -> Self {
        let mut statistics = Self::new(block.k(), block.d(), form);
        for (w, (l, h)) in block.weight().iter().zip(block.log_density.iter().zip(&block.entropy)) {
            if *w > 0.0 {
                statistics.n_rows += 1;
                statistics.total_weight += w;
                statistics.log_likelihood += w * l;
                statistics.entropy += w * h;
            }
        }
        dispatch(Moments { block, about, statistics: &mut statistics });
        statistics
    }

    /// The same with weight, mean and scatter of each component changed.
    #[must_use]
    pub fn with_each(mut self, mut change: impl FnMut(usize, &mut f64, &mut [f64], &mut [f64])) -> Self {
        let (d, width) = (self.d, self.form.len(self.d));
        for c in 0..self.k {
            let mean = &mut self.mean[c * d..][..d];
            let scatter = &mut self.scatter[c * width..][..width];
            change(c, &mut self.weight[c], mean, scatter);
        }
        self
    }

    /// Components taken one by one from statistics of the same features and form, as one; the figures of the rows are
    /// those of `self`.
    #[must_use]
    pub fn with_components(&self, parts: &[(&Self, usize)]) -> Self {
        let (d, width) = (self.d, self.form.len(self.d));
        let take = |lane: fn(&Self) -> &[f64], width: usize| {
            let parts = parts.iter().map(|(s, c)| &lane(s)[c * width..][..width]);
            parts.flatten().copied().collect::<Vec<f64>>()
        };
        Self {
            k: parts.len(),
            weight: take(Self::weight, 1),
            mean: take(Self::mean, d),
            scatter: take(Self::scatter, width),
            ..self.clone()
        }
    }

    /// Number of components.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of features.
    pub fn d(&self) -> usize {
        self.d
    }

    /// How much of the scatter is kept.
    pub fn scatter_form(&self) -> Scatter {
        self.form
    }

    /// `W`, one for each component.
    pub fn weight(&self) -> &[f64] {
        &self.weight
    }

    /// `m`, `k·d`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// `S`, packed.
    pub fn scatter(&self) -> &[f64] {
        &self.scatter
    }

    /// Entry `[i, j]` of the scatter of component `c`; zero off the diagonal where only that is kept.
    pub fn scatter_entry(&self, c: usize, i: usize, j: usize) -> f64 {
        let scatter = &self.scatter[c * self.form.len(self.d)..];
        match self.form {
            Scatter::Full => scatter[triangle(i.max(j)) + i.min(j)],
            Scatter::Diagonal if i == j => scatter[i],
            Scatter::Diagonal => 0.0,
        }
    }

    /// Whether `other` can be merged into these.
    ///
    /// # Errors
    /// A sentence with both shapes.
    pub fn check_mergeable(&self, other: &Self) -> Result<()> {
        let shape = |s: &Self| format!("k={}, d={}, {:?} scatter", s.k, s.d, s.form);
        if (self.k, self.d, self.form) == (other.k, other.d, other.form) {
            Ok(())
        } else {
            Err(Error::Merge { a: shape(self), b: shape(other) })
        }
    }

    /// Whether moments and figures are finite.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn check_finite(&self) -> Result<()> {
        let figures = [self.log_likelihood, self.entropy, self.total_weight];
        let moments = self.weight.iter().chain(&self.mean).chain(&self.scatter);
        if moments.chain(&figures).all(|v| v.is_finite()) {
            Ok(())
        } else {
            Err(Error::Overflow)
        }
    }

    /// Adds the rows of `other`, which has the same shape.
    pub fn merge(&mut self, other: &Self) {
        let (d, width) = (self.d, self.form.len(self.d));
        let mut delta = vec![0.0; d];
        for c in 0..self.k {
            let (a, b) = (self.weight[c], other.weight[c]);
            if b == 0.0 {
                continue;
            }
            let total = a + b;
            let share = b / total;
            let mean = &mut self.mean[c * d..][..d];
            for ((delta, m), n) in delta.iter_mut().zip(mean.iter_mut()).zip(&other.mean[c * d..]) {
                *delta = n - *m;
                *m = if a == 0.0 { *n } else { *m + *delta * share };
            }
            let between = if a == 0.0 { 0.0 } else { a * share };
            let scatter = &mut self.scatter[c * width..][..width];
            add_scatter(scatter, &other.scatter[c * width..][..width], &delta, between, self.form);
            self.weight[c] = total;
        }
        self.log_likelihood += other.log_likelihood;
        self.entropy += other.entropy;
        self.n_rows = self.n_rows.saturating_add(other.n_rows);
        self.total_weight += other.total_weight;
    }
}

/// `S_a += S_b + between · δδᵀ`.
fn add_scatter(a: &mut [f64], b: &[f64], delta: &[f64], between: f64, form: Scatter) {
    match form {
        Scatter::Full => {
            for (i, x) in delta.iter().enumerate() {
                let row = triangle(i)..triangle(i + 1);
                for ((s, t), y) in a[row.clone()].iter_mut().zip(&b[row]).zip(delta) {
                    *s += t + between * x * y;
                }
            }
        }
        Scatter::Diagonal => {
            for ((s, t), x) in a.iter_mut().zip(b).zip(delta) {
                *s += t + between * x * x;
            }
        }
    }
}

/// A guess `g` of a mean costs `W (m − g)²/ S` times the rounding error; past this the moments are taken again.
const CANCELLATION: f64 = 1e3;
/// Unless the mean has moved by no more than this, relative: no guess is nearer.
const SETTLED: f64 = 4.0 * f64::EPSILON;
/// Each round gains the sixteen digits of a double, of which its range has six hundred.
const ROUNDS: usize = 40;

struct Moments<'a> {
    block: &'a mut Block,
    about: &'a [f64],
    statistics: &'a mut Statistics,
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, about, statistics } = self;
        let (d, stride, form) = (block.d(), block.stride(), statistics.form);
        let width = form.len(d);
        let mut scratch = std::mem::take(&mut block.scratch);
        scratch.resize((1 + ROWS + d) * stride, 0.0);
        for c in 0..block.k() {
            let (weighted, rest) = scratch.split_at_mut(stride);
            let responsibilities = &block.responsibilities[c * stride..][..stride];
            for ((out, r), w) in weighted.iter_mut().zip(responsibilities).zip(block.weight()) {
                *out = if *w > 0.0 { r * w } else { 0.0 };
            }
            let weight = sum::<S>(simd, weighted);
            if weight == 0.0 {
                continue;
            }
            let mean = &mut statistics.mean[c * d..][..d];
            let scatter = &mut statistics.scatter[c * width..][..width];
            statistics.weight[c] = weight;
            mean.copy_from_slice(&about[c * d..][..d]);
            // A closure would not be compiled for the instruction set: hence a loop.
            for _ in 0..ROUNDS {
                let into = (&mut *mean, &mut *scatter);
                if centred::<S>(simd, block.features(), weighted, weight, form, into, rest) {
                    break;
                }
            }
        }
        block.scratch = scratch;
    }
}

/// Moves `mean` from a guess to the weighted mean and leaves the scatter about it; returns whether the guess was
/// near enough for the scatter to be accurate.
#[inline(always)]
fn centred<S: Simd>(
    simd: S,
    features: &[f64],
    weighted: &[f64],
    weight: f64,
    form: Scatter,
    (mean, scatter): (&mut [f64], &mut [f64]),
    scratch: &mut [f64],
) -> bool {
    let stride = weighted.len();
    let (products, differences) = scratch.split_at_mut(ROWS * stride);
    let lanes = features.chunks_exact(stride);
    for ((x, m), out) in lanes.zip(mean.iter()).zip(differences.chunks_exact_mut(stride)) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = x - m;
        }
    }
    let mut shift = Vec::with_capacity(mean.len());
    for (first, rows) in differences.chunks(ROWS * stride).enumerate() {
        let first = first * ROWS;
        let products = &mut products[..rows.len()];
        for (product, row) in products.chunks_exact_mut(stride).zip(rows.chunks_exact(stride)) {
            for ((p, w), x) in product.iter_mut().zip(weighted).zip(row) {
                *p = w * x;
            }
            shift.push(sum::<S>(simd, product) / weight);
        }
        if form == Scatter::Full && rows.len() == ROWS * stride {
            square_tiles::<S>(simd, products, differences, first, scatter);
            continue;
        }
        for (i, (product, row)) in products.chunks_exact(stride).zip(rows.chunks_exact(stride)).enumerate() {
            let i = first + i;
            match form {
                Scatter::Full => {
                    row_tiles::<S>(simd, product, differences, &mut scatter[triangle(i)..][..=i]);
                }
                Scatter::Diagonal => row_tiles::<S>(simd, product, row, &mut scatter[i..=i]),
            }
        }
    }
    recentre(mean, scatter, &shift, weight, form)
}

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

/// Rows of the scatter that are computed together.
const ROWS: usize = 4;

/// Rows `first .. first + ROWS` of the scatter, in tiles of as many columns: a lane loaded serves `ROWS` products.
#[inline(always)]
fn square_tiles<S: Simd>(simd: S, products: &[f64], differences: &[f64], first: usize, scatter: &mut [f64]) {
    let stride = products.len() / ROWS;
    for (tile, columns) in differences.chunks_exact(ROWS * stride).take(first / ROWS + 1).enumerate() {
        let sums = square_tile::<S>(simd, products, columns);
        for (r, sums) in sums.iter().enumerate() {
            let row = &mut scatter[triangle(first + r)..][..=first + r];
            for (s, sum) in row[tile * ROWS..].iter_mut().zip(sums) {
                *s = *sum;
            }
        }
    }
}

/// `Σ a_r · b_c` for `ROWS` lanes `a` and `ROWS` lanes `b`.
#[inline(always)]
fn square_tile<S: Simd>(simd: S, a: &[f64], b: &[f64]) -> [[f64; ROWS]; ROWS] {
    let stride = a.len() / ROWS;
    let a: [&[S::f64s]; ROWS] = std::array::from_fn(|r| S::as_simd_f64s(&a[r * stride..][..stride]).0);
    let b: [&[S::f64s]; ROWS] = std::array::from_fn(|c| S::as_simd_f64s(&b[c * stride..][..stride]).0);
    let vectors = a[0].len();
    let (a, b) = (a.map(|lane| &lane[..vectors]), b.map(|lane| &lane[..vectors]));
    let mut sums = [[simd.splat_f64s(0.0); ROWS]; ROWS];
    for v in 0..vectors {
        for r in 0..ROWS {
            for c in 0..ROWS {
                sums[r][c] = simd.mul_add_e_f64s(a[r][v], b[c][v], sums[r][c]);
            }
        }
    }
    let mut out = [[0.0; ROWS]; ROWS];
    for r in 0..ROWS {
        for c in 0..ROWS {
            out[r][c] = simd.reduce_sum_f64s(sums[r][c]);
        }
    }
    out
}

/// `out[j] = Σ_rows a · b_j` for the lanes `b_j`, up to four of them at a time.
#[inline(always)]
fn row_tiles<S: Simd>(simd: S, a: &[f64], b: &[f64], out: &mut [f64]) {
    let stride = a.len();
    let mut j = 0;
    while j + 4 <= out.len() {
        row_tile::<S, 4>(simd, a, &b[j * stride..], &mut out[j..]);
        j += 4;
    }
    match out.len() - j {
        3 => row_tile::<S, 3>(simd, a, &b[j * stride..], &mut out[j..]),
        2 => row_tile::<S, 2>(simd, a, &b[j * stride..], &mut out[j..]),
        1 => row_tile::<S, 1>(simd, a, &b[j * stride..], &mut out[j..]),
        _ => {}
    }
}

#[inline(always)]
fn row_tile<S: Simd, const C: usize>(simd: S, a: &[f64], b: &[f64], out: &mut [f64]) {
    let stride = a.len();
    let (a, _) = S::as_simd_f64s(a);
    let lanes: [&[S::f64s]; C] =
        std::array::from_fn(|c| &S::as_simd_f64s(&b[c * stride..][..stride]).0[..a.len()]);
    let zero = simd.splat_f64s(0.0);
    let (mut even, mut odd) = ([zero; C], [zero; C]);
    for v in (0..a.len()).step_by(2) {
        for c in 0..C {
            even[c] = simd.mul_add_e_f64s(a[v], lanes[c][v], even[c]);
            odd[c] = simd.mul_add_e_f64s(a[v + 1], lanes[c][v + 1], odd[c]);
        }
    }
    for (out, (e, o)) in out.iter_mut().zip(even.into_iter().zip(odd)) {
        *out = simd.reduce_sum_f64s(simd.add_f64s(e, o));
    }
}

/// The sum of a lane.
#[inline(always)]
fn sum<S: Simd>(simd: S, lane: &[f64]) -> f64 {
    let (vectors, _) = S::as_simd_f64s(lane);
    let mut sums = [simd.splat_f64s(0.0); 4];
    for group in vectors.chunks_exact(4) {
        for (s, v) in sums.iter_mut().zip(group) {
            *s = simd.add_f64s(*s, *v);
        }
    }
    let [a, b, c, d] = sums;
    simd.reduce_sum_f64s(simd.add_f64s(simd.add_f64s(a, b), simd.add_f64s(c, d)))
}

#[cfg(test)]
mod tests;
