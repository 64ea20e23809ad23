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

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

pub use self::accumulator::Accumulator;
use super::error::{Error, Result};
use super::linalg::{as_list, triangle, Numbers};

mod accumulator;
mod by_component;
mod by_feature;
mod by_product;
mod by_row;

/// Each round gains the sixteen digits of a double, of which its range has six hundred.
const ROUNDS: usize = 40;

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
    #[serde(with = "as_list")]
    weight: Numbers,
    #[serde(with = "as_list")]
    mean: Numbers,
    #[serde(with = "as_list")]
    scatter: Numbers,
    /// `Σ w ln p(x)` under the model that gave the responsibilities.
    pub log_likelihood: f64,
    /// `−Σ w Σ_c r_c ln r_c`.
    pub entropy: f64,
    /// Rows of positive weight.
    pub n_rows: u64,
    /// `Σ w`.
    pub total_weight: f64,
}

/// First guesses of means.
pub struct Guess<'a> {
    /// Of each component, `k·d`.
    pub means: Cow<'a, [f64]>,
    /// Of all, where they lie close enough together for the scatter about one point to tell that about each mean.
    pub origin: Option<Cow<'a, [f64]>>,
    /// Whether responsibilities are given row after row.
    pub by_row: bool,
}

impl Statistics {
    /// Statistics of no row.
    pub fn new(k: usize, d: usize, form: Scatter) -> Self {
        Self {
            form,
            k,
            d,
            weight: smallvec![0.0; k],
            mean: smallvec![0.0; k * d],
            scatter: smallvec![0.0; k * form.len(d)],
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
        let (weight, mean, scatter) = (weight.into(), mean.into(), scatter.into());
        let statistics = Self { weight, mean, scatter, ..Self::new(k, d, form) };
        for component in 0..k {
            let diagonal = (0..d).map(|j| statistics.scatter_entry(component, j, j));
            if let Some(value) = diagonal.into_iter().find(|v| *v < 0.0) {
                return Err(Error::NegativeScatter { component, value });
            }
        }
        Ok(statistics)
    }

    /// Statistics of the rows that `feed` gives to an accumulator, as often as it is asked to.
    ///
    /// # Errors
    /// Whatever `feed` fails with.
    pub fn of<E>(
        accumulator: &mut Accumulator,
        guess: &Guess,
        mut feed: impl FnMut(&mut Accumulator) -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        accumulator.begin(guess);
        feed(accumulator)?;
        let (mut statistics, mut accurate) = accumulator.finish();
        for round in 1..ROUNDS {
            let finite = statistics.mean.iter().all(|m| m.is_finite());
            if accurate || round > 1 && !finite {
                break;
            }
            let means = Cow::Borrowed(if finite { &statistics.mean[..] } else { &guess.means[..] });
            accumulator.begin(&Guess { means, origin: None, by_row: false });
            feed(accumulator)?;
            (statistics, accurate) = accumulator.finish();
        }
        Ok(statistics)
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
            parts.flatten().copied().collect::<Numbers>()
        };
        Self {
            k: parts.len(),
            weight: take(Self::weight, 1),
            mean: take(Self::mean, d),
            scatter: take(Self::scatter, width),
            ..self.clone()
        }
    }

    /// The same without what lies off the diagonals of the scatter.
    #[must_use]
    pub fn diagonal(&self) -> Self {
        let entry = |i: usize| self.scatter_entry(i / self.d.max(1), i % self.d.max(1), i % self.d.max(1));
        let scatter = (0..self.k * self.d).map(entry).collect();
        Self { form: Scatter::Diagonal, scatter, ..self.clone() }
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
        let mut delta: Numbers = smallvec![0.0; d];
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

#[cfg(test)]
mod tests;
