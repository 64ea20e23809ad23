//! What the first pass over a stream takes: counts, moments and ranges of the features, and the start sample.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::assembly::Assembly;
use super::error::{Error, Result};
use super::linalg::triangle;
use super::pass::Summand;
use super::ranges::{widen, Range, NOWHERE};
use super::rows::{Block, Responsibilities, Rows};
use super::start::{candidates, sample_rows, Candidate, Drawn, Sampler};
use super::statistics::{Scatter, Statistics};
use super::witness::Witness;

/// A first pass in the making.
pub struct Survey {
    d: usize,
    moments: Assembly,
    /// Moments of the rows of each label, if labels are given.
    known: Option<Assembly>,
    ranges: Mutex<Vec<Range>>,
    sampler: Option<Mutex<Sampler>>,
}

/// Rows drawn from a piece before the sampler is asked which of them stay.
const MANY: usize = 4096;

/// What a survey has found.
pub struct Surveyed {
    /// By which the same rows are known again.
    pub fingerprint: Fingerprint,
    /// The rows that start samples are drawn from, if any are to be.
    pub sampler: Option<Sampler>,
}

impl Surveyed {
    /// The sample on which a start of `k` components is drawn, `k` no more than the survey was for.
    pub fn sample(&self, k: usize) -> Option<Drawn> {
        let d = self.fingerprint.means.len();
        self.sampler.as_ref().map(|sampler| sampler.draw(d, sample_rows(k, d)))
    }
}

/// By which a pass over the same rows is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// All rows.
    pub rows: u64,
    /// Rows that count.
    pub n_rows: u64,
    /// `Σ w`.
    pub total_weight: f64,
    /// Mean of each feature.
    pub means: Vec<f64>,
    /// Covariances of the features, a packed lower triangle.
    pub covariances: Vec<f64>,
    /// Smallest value of each feature.
    pub minima: Vec<f64>,
    /// Largest value of each feature.
    pub maxima: Vec<f64>,
    /// The rows of each label, if labels are given.
    pub known: Vec<Known>,
}

/// By which the rows of a label are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// `Σ w`.
    pub weight: f64,
    /// Mean of each feature.
    pub means: Vec<f64>,
}

impl Survey {
    /// Of `d` features; for starts that are drawn, with samples for at most so many components by this seed; with
    /// labels of so many components, if labels are given.
    pub fn new(d: usize, draw: Option<(usize, u64)>, labels: Option<usize>) -> Self {
        let sampler = |(k, seed)| Mutex::new(Sampler::new(sample_rows(k, d), seed));
        Self {
            d,
            moments: Assembly::new(1, d, Scatter::Full),
            known: labels.map(|k| Assembly::new(k, d, Scatter::Diagonal)),
            ranges: Mutex::new(vec![NOWHERE; d]),
            sampler: draw.map(sampler),
        }
    }

    /// Number of features.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Adds rows, of which the first has the number `first`; from any thread.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn absorb(&self, rows: &dyn Rows, first: u64, cancelled: &AtomicBool) -> Result<()> {
        let watched = Watched { survey: self, first, seen: Mutex::new(Seen::new(self)) };
        self.moments.absorb(rows, first, &Summand::Assigned(&watched), cancelled)?;
        if let Some(known) = &self.known {
            known.absorb(rows, first, &Summand::Assigned(&ByLabel { k: known.k() }), cancelled)?;
        }
        let Seen { drawn, ranges, .. } = watched.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(sampler) = &self.sampler {
            locked(sampler).extend(drawn);
        }
        for (all, (low, high)) in locked(&self.ranges).iter_mut().zip(ranges) {
            *all = (all.0.min(low), all.1.max(high));
        }
        Ok(())
    }

    /// Rows added so far.
    pub fn n_rows(&self) -> u64 {
        self.moments.n_rows()
    }

    /// What all rows told; the survey is empty afterwards.
    ///
    /// # Errors
    /// If rows are missing or came twice.
    pub fn finish(&self) -> Result<Surveyed> {
        let rows = self.n_rows();
        let moments = self.moments.finish(&Summand::Assigned(&ByLabel { k: 1 }))?;
        let Moments { means, covariances } = Moments::pooled(&moments);
        let known = match &self.known {
            Some(known) => rows_by_label(&known.finish(&Summand::Assigned(&ByLabel { k: known.k() }))?),
            None => Vec::new(),
        };
        let (minima, maxima) = std::mem::take(&mut *locked(&self.ranges)).into_iter().unzip();
        let (n_rows, total_weight) = (moments.n_rows, moments.total_weight);
        let fingerprint =
            Fingerprint { rows, n_rows, total_weight, means, covariances, minima, maxima, known };
        let sampler = self.sampler.as_ref().map(|sampler| std::mem::take(&mut *locked(sampler)));
        Ok(Surveyed { fingerprint, sampler })
    }
}

fn rows_by_label(statistics: &Statistics) -> Vec<Known> {
    let means = statistics.mean().chunks_exact(statistics.d().max(1));
    let each = statistics.weight().iter().zip(means);
    each.map(|(weight, means)| Known { weight: *weight, means: means.to_vec() }).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every row belongs to the one component, and is looked at as it is read.
struct Watched<'a> {
    survey: &'a Survey,
    first: u64,
    seen: Mutex<Seen>,
}

/// What the rows of a piece have shown so far.
struct Seen {
    /// The row that comes next; those before it may be read again.
    next: usize,
    ranges: Vec<Range>,
    /// Seed, and the hash that a row must be below to be drawn.
    threshold: Option<(u64, u64)>,
    drawn: Vec<Candidate>,
}

impl Seen {
    fn new(survey: &Survey) -> Self {
        let threshold = survey.sampler.as_ref().map(|sampler| locked(sampler).threshold());
        Self { next: 0, ranges: vec![NOWHERE; survey.d], threshold, drawn: Vec::new() }
    }
}

impl Responsibilities for Watched<'_> {
    fn k(&self) -> usize {
        1
    }

    fn assign(&self, start: usize, block: &mut Block) {
        block.component_mut(0).fill(1.0);
        let mut seen = locked(&self.seen);
        if start < seen.next {
            return;
        }
        seen.next = start + block.len();
        widen(&mut seen.ranges, block);
        if let (Some(sampler), Some(now)) = (&self.survey.sampler, seen.threshold) {
            seen.drawn.extend(candidates(now, self.first + start as u64, block));
            if seen.drawn.len() > MANY {
                let drawn = std::mem::take(&mut seen.drawn);
                let mut sampler = locked(sampler);
                sampler.extend(drawn);
                seen.threshold = Some(sampler.threshold());
            }
        }
    }
}

/// Rows belong to the component of their label, or to none.
struct ByLabel {
    k: usize,
}

impl Responsibilities for ByLabel {
    fn k(&self) -> usize {
        self.k
    }

    fn assign(&self, _: usize, block: &mut Block) {
        for i in 0..block.len() {
            if let Some(c) = block.label(i).filter(|c| (*c as usize) < self.k) {
                block.component_mut(c as usize)[i] = 1.0;
            }
        }
    }
}

/// Moments of the same rows differ by rounding: by less than this, of a standard deviation or variance,
const CLOSE: f64 = 1e-9;
/// or of the mean or weight themselves.
const ROUNDING: f64 = 1e-13;

impl Fingerprint {
    /// Whether all figures are there for `d` features.
    pub fn is_of(&self, d: usize) -> bool {
        let lanes = [&self.means, &self.minima, &self.maxima];
        let known = self.known.iter().all(|known| known.means.len() == d);
        known && self.covariances.len() == triangle(d) && lanes.iter().all(|lane| lane.len() == d)
    }

    /// Whether there are as many rows.
    ///
    /// # Errors
    /// Both numbers.
    pub fn check_rows(&self, rows: u64) -> Result<()> {
        same("the number of rows", self.rows, rows)
    }

    /// Whether statistics of all rows, `rows` of them, are of the same rows.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, features: &[String], rows: u64, statistics: &Statistics) -> Result<()> {
        self.check_rows(rows)?;
        if self.is_beyond_rounding() {
            return same("the number of rows that count", self.n_rows, statistics.n_rows);
        }
        self.check_weight(statistics.n_rows, statistics.total_weight)?;
        self.check_moments(features, &Moments::pooled(statistics))
    }

    /// Whether the covariances of neighbouring features, and the rows of each label, are the same.
    ///
    /// # Errors
    /// Both, of the first that are not.
    pub fn check_witness(&self, features: &[String], witness: &Witness) -> Result<()> {
        if self.is_beyond_rounding() {
            return Ok(());
        }
        for (j, sum) in witness.pairs().into_iter().enumerate() {
            self.check_covariance(features, (j + 1, j), sum / self.total_weight)?;
        }
        let known = witness.known().into_iter().map(|(weight, means)| Known { weight, means });
        self.check_known(features, &known.collect::<Vec<_>>())
    }

    /// Whether weights are so small that sums over them have lost digits.
    fn is_beyond_rounding(&self) -> bool {
        self.total_weight < f64::MIN_POSITIVE / f64::EPSILON
    }

    /// Whether a later survey is of the same rows.
    ///
    /// # Errors
    /// What differs.
    pub fn check_survey(&self, features: &[String], other: &Self) -> Result<()> {
        same("the number of features", self.means.len(), other.means.len())?;
        self.check_rows(other.rows)?;
        self.check_weight(other.n_rows, other.total_weight)?;
        for (j, name) in features.iter().enumerate().take(self.means.len()) {
            let tolerance = self.tolerance(j);
            close(|| format!("the smallest {name:?}"), self.minima[j], other.minima[j], tolerance)?;
            close(|| format!("the largest {name:?}"), self.maxima[j], other.maxima[j], tolerance)?;
        }
        let Self { means, covariances, .. } = other.clone();
        self.check_moments(features, &Moments { means, covariances })?;
        self.check_known(features, &other.known)
    }

    fn check_weight(&self, n_rows: u64, total_weight: f64) -> Result<()> {
        same("the number of rows that count", self.n_rows, n_rows)?;
        let tolerance = CLOSE * self.total_weight;
        close(|| "their total weight".into(), self.total_weight, total_weight, tolerance)
    }

    fn check_moments(&self, features: &[String], now: &Moments) -> Result<()> {
        for (j, (name, mean)) in features.iter().zip(&now.means).enumerate() {
            close(|| format!("the mean of {name:?}"), self.means[j], *mean, self.tolerance(j))?;
        }
        let d = self.means.len();
        let diagonal = now.covariances.len() == d;
        for i in 0..d {
            let value = now.covariances[if diagonal { i } else { triangle(i) + i }];
            self.check_covariance(features, (i, i), value)?;
        }
        for i in 0..if diagonal { 0 } else { d } {
            for j in 0..i {
                self.check_covariance(features, (i, j), now.covariances[triangle(i) + j])?;
            }
        }
        Ok(())
    }

    fn check_covariance(&self, features: &[String], (i, j): (usize, usize), now: f64) -> Result<()> {
        let (x, y, deviation) = (self.rounding(i), self.rounding(j), |j| self.deviation(j));
        let tolerance = CLOSE * deviation(i) * deviation(j) + x * deviation(j) + y * deviation(i) + x * y;
        let what = || match (features.get(j), features.get(i)) {
            (Some(a), Some(b)) if i != j => format!("the covariance of {a:?} and {b:?}"),
            (Some(a), _) => format!("the variance of {a:?}"),
            _ => "a covariance".into(),
        };
        close(what, self.covariances[triangle(i) + j], now, tolerance)
    }

    fn check_known(&self, features: &[String], now: &[Known]) -> Result<()> {
        same("the number of labels", self.known.len(), now.len())?;
        for (label, (before, now)) in self.known.iter().zip(now).enumerate() {
            let what = || format!("the weight of the rows labelled {label}");
            close(what, before.weight, now.weight, CLOSE * self.total_weight)?;
            if before.weight == 0.0 {
                continue;
            }
            for (j, name) in features.iter().enumerate().take(self.means.len()) {
                let what = || format!("the mean of {name:?} over the rows labelled {label}");
                close(what, before.means[j], now.means[j], self.tolerance(j))?;
            }
        }
        Ok(())
    }

    /// Standard deviation of feature `j`.
    fn deviation(&self, j: usize) -> f64 {
        self.covariances[triangle(j) + j].sqrt()
    }

    /// What rounding may do to a value of feature `j`.
    fn rounding(&self, j: usize) -> f64 {
        ROUNDING * self.maxima[j].abs().max(self.minima[j].abs())
    }

    /// What rounding may do to a mean of feature `j`.
    fn tolerance(&self, j: usize) -> f64 {
        CLOSE * self.deviation(j) + self.rounding(j)
    }
}

fn same<T: PartialEq + ToString>(what: &str, before: T, after: T) -> Result<()> {
    if before == after {
        return Ok(());
    }
    Err(Error::Changed { what: what.into(), before: before.to_string(), after: after.to_string() })
}

fn close(what: impl FnOnce() -> String, before: f64, after: f64, tolerance: f64) -> Result<()> {
    // Moments beyond double precision cannot tell, and are reported as such by the loop.
    if (before - after).abs() <= tolerance || before == after || !before.is_finite() || !tolerance.is_finite()
    {
        return Ok(());
    }
    Err(Error::Changed { what: what(), before: written(before), after: written(after) })
}

/// A number with an exponent where it would be long without.
fn written(x: f64) -> String {
    if x == 0.0 || (1e-5..1e16).contains(&x.abs()) {
        x.to_string()
    } else {
        format!("{x:e}")
    }
}

/// Means of all components together; their covariances as a packed lower triangle, or the variances where no more is known.
struct Moments {
    means: Vec<f64>,
    covariances: Vec<f64>,
}

impl Moments {
    fn pooled(statistics: &Statistics) -> Self {
        let (d, form, weights) = (statistics.d(), statistics.scatter_form(), statistics.weight());
        let total: f64 = weights.iter().sum();
        let mut pooled = Self { means: vec![0.0; d], covariances: vec![0.0; form.len(d)] };
        if total == 0.0 {
            return pooled;
        }
        for (weight, means) in weights.iter().zip(statistics.mean().chunks_exact(d.max(1))) {
            for (mean, m) in pooled.means.iter_mut().zip(means) {
                *mean += weight / total * m;
            }
        }
        for (c, weight) in weights.iter().enumerate() {
            let away = |j: usize| statistics.mean()[c * d + j] - pooled.means[j];
            let mut add = |place: usize, i: usize, j: usize| {
                let spread = statistics.scatter_entry(c, i, j) + weight * away(i) * away(j);
                pooled.covariances[place] += spread / total;
            };
            for i in 0..d {
                match form {
                    Scatter::Full => (0..=i).for_each(|j| add(triangle(i) + j, i, j)),
                    Scatter::Diagonal => add(i, i, i),
                }
            }
        }
        pooled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::covariance::CovarianceType;
    use crate::mixture::pass::Pass;
    use crate::mixture::rows::{Labelled, Sample};
    use crate::mixture::testing::{model, names, sample, whole_weights};

    static NEVER: AtomicBool = AtomicBool::new(false);

    fn piece(rows: &Sample, start: usize, len: usize) -> Sample {
        let cut = |column: &Vec<f64>| column[start..start + len].to_vec();
        Sample { columns: rows.columns.iter().map(cut).collect(), weight: cut(&rows.weight) }
    }

    fn surveyed(rows: &Sample, step: usize, backwards: bool) -> Surveyed {
        let survey = Survey::new(rows.d(), Some((30, 7)), None);
        let mut starts: Vec<usize> = (0..rows.n_rows()).step_by(step).collect();
        if backwards {
            starts.reverse();
        }
        for start in starts {
            let piece = piece(rows, start, step.min(rows.n_rows() - start));
            survey.absorb(&piece, start as u64, &NEVER).unwrap();
        }
        survey.finish().unwrap()
    }

    #[test]
    fn the_cuts_change_nothing_and_the_sample_is_that_of_memory() {
        let rows = whole_weights(sample(60_000, 3, 1));
        let expected = [3, 12, 30].map(|k| (k, super::super::start::drawn(&rows, k, 7)));
        let first = surveyed(&rows, 60_000, false);
        for (step, backwards) in [(1000, false), (77, true), (4096, true), (60_000, false)] {
            let found = surveyed(&rows, step, backwards);
            assert_eq!(found.fingerprint, first.fingerprint);
            for (k, expected) in &expected {
                let drawn = found.sample(*k).unwrap();
                assert_eq!(drawn.sample.columns, expected.sample.columns);
                assert_eq!(drawn.sample.weight, expected.sample.weight);
                assert_eq!((drawn.label.len(), drawn.complete), (0, false));
            }
        }
        let few = surveyed(&whole_weights(sample(9000, 2, 1)), 100, true);
        assert!(few.sample(30).unwrap().complete);
        assert!(!few.sample(3).unwrap().complete);
    }

    #[test]
    fn the_figures_are_those_of_the_rows_that_count() {
        let rows = Sample {
            columns: vec![vec![1.0, 100.0, 3.0, -2.0], vec![5.0, -100.0, 5.0, 5.0]],
            weight: vec![1.0, 0.0, 2.0, 1.0],
        };
        let found = surveyed(&rows, 3, false).fingerprint;
        let expected = Fingerprint {
            rows: 4,
            n_rows: 3,
            total_weight: 4.0,
            means: vec![1.25, 5.0],
            covariances: vec![4.1875, 0.0, 0.0],
            minima: vec![-2.0, 5.0],
            maxima: vec![3.0, 5.0],
            known: Vec::new(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn values_in_other_rows_and_other_labels_are_seen() {
        let rows = Sample { weight: vec![2.0; 15_000], ..sample(15_000, 3, 4) };
        let label = |shift: usize| {
            let known = |i: usize| (!i.is_multiple_of(3)).then_some(((i + shift) % 5) as u32);
            (0..rows.n_rows()).map(known).collect::<Vec<_>>()
        };
        let of = |rows: &Sample, label: &[Option<u32>]| {
            let survey = Survey::new(3, None, Some(5));
            survey.absorb(&Labelled { rows, label }, 0, &NEVER).unwrap();
            survey.finish().unwrap().fingerprint
        };
        let before = of(&rows, &label(0));
        assert_eq!(before.known.len(), 5);
        let mut other = rows.clone();
        other.columns[2].swap(3, 4);
        let error = before.check_survey(&names(3), &of(&other, &label(0))).unwrap_err().to_string();
        assert!(error.contains("the covariance of \"x0\" and \"x2\" was"), "{error}");
        let density = model(CovarianceType::Full, 3, 3, 5).density().unwrap();
        let statistics = Pass::SEQUENTIAL.e_step(&other, &density, Scatter::Full).unwrap();
        let error = before.check(&names(3), 15_000, &statistics).unwrap_err().to_string();
        assert!(error.contains("the covariance of \"x0\" and \"x2\" was"), "{error}");
        let error = before.check_survey(&names(3), &of(&rows, &label(1))).unwrap_err().to_string();
        assert!(error.contains("over the rows labelled 0 was"), "{error}");
        let mut fewer = label(0);
        fewer[1] = None;
        let error = before.check_survey(&names(3), &of(&rows, &fewer)).unwrap_err().to_string();
        assert!(error.contains("the weight of the rows labelled 1 was"), "{error}");
        let witnessed = |label: &[Option<u32>]| {
            let witness = Witness::about(&before.means, false, 5);
            let labelled = Labelled { rows: &rows, label };
            let watched = witness.watch(&labelled);
            Pass::SEQUENTIAL.e_step(&watched, &density, Scatter::Full).unwrap();
            witness.add(watched);
            before.check_witness(&names(3), &witness)
        };
        assert_eq!(witnessed(&label(0)), Ok(()));
        let error = witnessed(&label(1)).unwrap_err().to_string();
        assert!(error.contains("over the rows labelled 0 was"), "{error}");
        let error = witnessed(&fewer).unwrap_err().to_string();
        assert!(error.contains("the weight of the rows labelled 1 was"), "{error}");
        assert!(before.check_survey(&names(3), &of(&rows, &label(0))).is_ok());
    }

    #[test]
    fn a_change_in_one_row_is_seen_and_rounding_is_not() {
        for shift in [0.0, 1e6, -1e9] {
            let mut rows = sample(100_000, 2, 5);
            rows.columns[1].iter_mut().for_each(|x| *x += shift);
            let fingerprint = surveyed(&rows, 5000, false).fingerprint;
            let start = model(CovarianceType::Full, 3, 2, 5);
            let of = |rows: &Sample| {
                let mut means = start.means().clone();
                means.column_mut(1).iter_mut().for_each(|m| *m += shift);
                let weights = start.weights().clone();
                let covariances = start.covariances().clone();
                let features = start.features().to_vec();
                let model =
                    super::super::Model::new(features, CovarianceType::Full, weights, means, covariances)
                        .unwrap();
                Pass::SEQUENTIAL.e_step(rows, &model.density().unwrap(), Scatter::Full).unwrap()
            };
            fingerprint.check(&names(2), 100_000, &of(&rows)).unwrap();
            let mut other = rows.clone();
            other.columns[1][777] += if shift == 0.0 { 0.1 } else { 40.0 };
            let error = fingerprint.check(&names(2), 100_000, &of(&other)).unwrap_err().to_string();
            assert!(error.contains("of \"x1\" was"), "{error}");
            other.clone_from(&rows);
            other.weight[3] = 1.1;
            let error = fingerprint.check(&names(2), 100_000, &of(&other)).unwrap_err().to_string();
            assert!(error.contains("total weight"), "{error}");
            let fewer = piece(&rows, 0, 99_999);
            let error = fingerprint.check(&names(2), 99_999, &of(&fewer)).unwrap_err().to_string();
            assert!(error.contains("number of rows was 100000 and is 99999"), "{error}");
            other.clone_from(&rows);
            assert!(fingerprint.check_survey(&names(2), &surveyed(&other, 333, true).fingerprint).is_ok());
            other.columns[0][5] = 1e3;
            assert!(fingerprint.check_survey(&names(2), &surveyed(&other, 333, true).fingerprint).is_err());
        }
    }
}
