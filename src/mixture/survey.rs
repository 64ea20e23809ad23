//! What the first pass over a stream takes: counts, moments and ranges of the features, and the start sample.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::assembly::Assembly;
use super::error::{Error, Result};
use super::pass::{block_rows, Summand};
use super::rows::{Block, Responsibilities, Rows};
use super::start::{candidates, sample_rows, Drawn, Sampler};
use super::statistics::{Scatter, Statistics};

/// A first pass in the making.
pub struct Survey {
    d: usize,
    moments: Assembly,
    ranges: Mutex<Vec<Range>>,
    sampler: Option<Mutex<Sampler>>,
}

/// Rows drawn from a piece before the sampler is asked which of them stay.
const MANY: usize = 4096;

/// Smallest and largest value of a feature.
type Range = (f64, f64);

fn widened((low, high): Range, x: f64) -> Range {
    (if x < low { x } else { low }, if x > high { x } else { high })
}

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
    /// Variance of each feature.
    pub variances: Vec<f64>,
    /// Smallest value of each feature.
    pub minima: Vec<f64>,
    /// Largest value of each feature.
    pub maxima: Vec<f64>,
}

impl Survey {
    /// Of `d` features; for starts that are drawn, with samples for at most so many components by this seed.
    pub fn new(d: usize, draw: Option<(usize, u64)>) -> Self {
        let sampler = |(k, seed)| Mutex::new(Sampler::new(sample_rows(k, d), seed));
        Self {
            d,
            moments: Assembly::new(1, d, Scatter::Diagonal),
            ranges: Mutex::new(vec![(f64::INFINITY, f64::NEG_INFINITY); d]),
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
        self.moments.absorb(rows, first, &Summand::Assigned(&Whole), cancelled)?;
        let mut ranges = vec![(f64::INFINITY, f64::NEG_INFINITY); self.d];
        let mut block = Block::default();
        let mut threshold = self.sampler.as_ref().map(|sampler| locked(sampler).threshold());
        let mut drawn = Vec::new();
        let size = block_rows(self.d, 1);
        for start in (0..rows.n_rows()).step_by(size) {
            block.load(rows, start, size.min(rows.n_rows() - start), 0);
            let all =
                block.weight()[..block.len()].iter().fold(f64::INFINITY, |least, w| least.min(*w)) > 0.0;
            for (j, range) in ranges.iter_mut().enumerate() {
                let values = block.feature(j).iter().copied();
                *range = if all {
                    values.fold(*range, widened)
                } else {
                    values
                        .zip(block.weight())
                        .filter(|(_, w)| **w > 0.0)
                        .map(|(x, _)| x)
                        .fold(*range, widened)
                };
            }
            if let (Some(sampler), Some(now)) = (&self.sampler, threshold) {
                drawn.extend(candidates(now, first + start as u64, &block));
                if drawn.len() > MANY {
                    locked(sampler).extend(std::mem::take(&mut drawn));
                    threshold = Some(locked(sampler).threshold());
                }
            }
        }
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
        let moments = self.moments.finish(&Summand::Assigned(&Whole))?;
        let (means, variances) = (0..self.d).map(|j| pooled(&moments, j)).unzip();
        let (minima, maxima) = std::mem::take(&mut *locked(&self.ranges)).into_iter().unzip();
        let (n_rows, total_weight) = (moments.n_rows, moments.total_weight);
        let fingerprint = Fingerprint { rows, n_rows, total_weight, means, variances, minima, maxima };
        let sampler = self.sampler.as_ref().map(|sampler| std::mem::take(&mut *locked(sampler)));
        Ok(Surveyed { fingerprint, sampler })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every row belongs to the one component.
struct Whole;

impl Responsibilities for Whole {
    fn k(&self) -> usize {
        1
    }

    fn assign(&self, _: usize, block: &mut Block) {
        block.component_mut(0).fill(1.0);
    }
}

/// Moments of the same rows differ by rounding: by less than this, of a standard deviation or variance,
const CLOSE: f64 = 1e-9;
/// or of the mean or weight themselves.
const ROUNDING: f64 = 1e-13;

impl Fingerprint {
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
        same("the number of rows that count", self.n_rows, statistics.n_rows)?;
        let tolerance = CLOSE * self.total_weight;
        close(|| "their total weight".into(), self.total_weight, statistics.total_weight, tolerance)?;
        for (j, name) in features.iter().enumerate().take(self.means.len()) {
            self.check_moments(name, j, pooled(statistics, j))?;
        }
        Ok(())
    }

    /// Whether a later survey is of the same rows.
    ///
    /// # Errors
    /// What differs.
    pub fn check_survey(&self, features: &[String], other: &Self) -> Result<()> {
        same("the number of features", self.means.len(), other.means.len())?;
        same("the number of rows", self.rows, other.rows)?;
        same("the number of rows that count", self.n_rows, other.n_rows)?;
        let tolerance = CLOSE * self.total_weight;
        close(|| "their total weight".into(), self.total_weight, other.total_weight, tolerance)?;
        for (j, name) in features.iter().enumerate().take(self.means.len()) {
            self.check_moments(name, j, (other.means[j], other.variances[j]))?;
            close(|| format!("the smallest {name:?}"), self.minima[j], other.minima[j], 0.0)?;
            close(|| format!("the largest {name:?}"), self.maxima[j], other.maxima[j], 0.0)?;
        }
        Ok(())
    }

    fn check_moments(&self, name: &str, j: usize, now: (f64, f64)) -> Result<()> {
        let (mean, variance) = (self.means[j], self.variances[j]);
        let size = self.maxima[j].abs().max(self.minima[j].abs());
        let tolerance = CLOSE * variance.sqrt() + ROUNDING * size;
        close(|| format!("the mean of {name:?}"), mean, now.0, tolerance)?;
        let tolerance = CLOSE * variance + ROUNDING * size * variance.sqrt() + (ROUNDING * size).powi(2);
        close(|| format!("the variance of {name:?}"), variance, now.1, tolerance)
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
    Err(Error::Changed { what: what(), before: before.to_string(), after: after.to_string() })
}

/// Mean and variance of feature `j` over all components.
fn pooled(statistics: &Statistics, j: usize) -> (f64, f64) {
    let weights = statistics.weight();
    let total: f64 = weights.iter().sum();
    if total == 0.0 {
        return (0.0, 0.0);
    }
    let means = |c: usize| statistics.mean()[c * statistics.d() + j];
    let mean: f64 = (0..weights.len()).map(|c| weights[c] / total * means(c)).sum();
    let spread = |c: usize| statistics.scatter_entry(c, j, j) + weights[c] * (means(c) - mean).powi(2);
    (mean, (0..weights.len()).map(spread).sum::<f64>() / total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::covariance::CovarianceType;
    use crate::mixture::pass::Pass;
    use crate::mixture::rows::Sample;
    use crate::mixture::testing::{model, names, sample, whole_weights};

    static NEVER: AtomicBool = AtomicBool::new(false);

    fn piece(rows: &Sample, start: usize, len: usize) -> Sample {
        let cut = |column: &Vec<f64>| column[start..start + len].to_vec();
        Sample { columns: rows.columns.iter().map(cut).collect(), weight: cut(&rows.weight) }
    }

    fn surveyed(rows: &Sample, step: usize, backwards: bool) -> Surveyed {
        let survey = Survey::new(rows.d(), Some((30, 7)));
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
        let rows = whole_weights(sample(30_000, 3, 1));
        let expected = [3, 12, 30].map(|k| (k, super::super::start::drawn(&rows, k, 7)));
        let first = surveyed(&rows, 30_000, false);
        for (step, backwards) in [(1000, false), (77, true), (4096, true), (30_000, false)] {
            let found = surveyed(&rows, step, backwards);
            assert_eq!(found.fingerprint, first.fingerprint);
            for (k, expected) in &expected {
                let drawn = found.sample(*k).unwrap();
                assert_eq!(drawn.sample.columns, expected.sample.columns);
                assert_eq!(drawn.sample.weight, expected.sample.weight);
                assert_eq!((drawn.label.len(), drawn.complete), (0, false));
            }
        }
        let few = surveyed(&whole_weights(sample(5000, 2, 1)), 100, true);
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
            variances: vec![4.1875, 0.0],
            minima: vec![-2.0, 5.0],
            maxima: vec![3.0, 5.0],
        };
        assert_eq!(found, expected);
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
