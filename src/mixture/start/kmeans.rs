//! k-means++ and Lloyd's iterations on the start sample.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::super::linalg::{cholesky, clip_eigenvalues, dot};
use super::super::rows::Sample;

/// Directions of less variance than this, relative to the features', are as good as none.
const LEAST_CORRELATION: f64 = 1e-6;

/// The sample in units of the features' standard deviations; constant features have no say.
#[derive(Clone)]
pub struct Scaled<'a> {
    columns: Vec<Vec<f64>>,
    /// Standard deviation of each feature.
    units: Vec<f64>,
    weight: Vec<f64>,
    cancelled: Option<&'a AtomicBool>,
}

impl Scaled<'_> {
    pub fn new(sample: &Sample) -> Self {
        let total: f64 = sample.weight.iter().sum();
        let mut units = Vec::new();
        let column = |values: &Vec<f64>| {
            let weighted = values.iter().zip(&sample.weight);
            let mean = weighted.clone().map(|(x, w)| x * (w / total)).sum::<f64>();
            let variance = weighted.map(|(x, w)| (x - mean).powi(2) * (w / total)).sum::<f64>();
            let unit = if variance > 0.0 { 1.0 / variance.sqrt() } else { 0.0 };
            units.push(variance.sqrt());
            values.iter().map(|x| (x - mean) * unit).collect()
        };
        let columns = sample.columns.iter().map(column).collect();
        Self { columns, units, weight: sample.weight.clone(), cancelled: None }
    }

    /// The same sample with one unit for all features, the largest of their deviations.
    #[must_use]
    pub fn alike(mut self) -> Self {
        let largest = self.units.iter().copied().fold(0.0, f64::max);
        for (column, unit) in self.columns.iter_mut().zip(&self.units).filter(|_| largest > 0.0) {
            for x in column {
                *x *= unit / largest;
            }
        }
        self
    }

    /// The same sample in the axes in which its features are uncorrelated: `L⁻¹ x` with their correlations `L Lᵀ`.
    #[must_use]
    pub fn whitened(mut self) -> Self {
        let d = self.columns.len();
        let total: f64 = self.weight.iter().sum();
        let product = |e: usize| {
            let pairs = self.columns[e / d].iter().zip(&self.columns[e % d]).zip(&self.weight);
            pairs.map(|((x, y), w)| x * y * (w / total)).sum::<f64>()
        };
        let mut correlations: Vec<f64> = (0..d * d).map(product).collect();
        clip_eigenvalues(&mut correlations, d, LEAST_CORRELATION);
        if cholesky(&mut correlations, d).is_err() {
            return self;
        }
        for i in 0..d {
            let (before, rest) = self.columns.split_at_mut(i);
            for (row, x) in rest[0].iter_mut().enumerate() {
                let s: f64 = before.iter().enumerate().map(|(j, y)| correlations[i * d + j] * y[row]).sum();
                *x = (*x - s) / correlations[i * d + i];
            }
        }
        self
    }

    /// The same, whose searches end early, with what they have, once somebody sets the flag.
    pub fn cancellable(self, cancelled: &AtomicBool) -> Scaled<'_> {
        Scaled { cancelled: Some(cancelled), columns: self.columns, units: self.units, weight: self.weight }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    fn n_rows(&self) -> usize {
        self.weight.len()
    }

    fn row(&self, i: usize) -> Vec<f64> {
        self.columns.iter().map(|column| column[i]).collect()
    }

    /// Squared distances of all rows to a center.
    fn distances(&self, center: &[f64]) -> Vec<f64> {
        let mut distances = vec![0.0; self.n_rows()];
        for (column, c) in self.columns.iter().zip(center) {
            for (out, x) in distances.iter_mut().zip(column) {
                *out += (x - c) * (x - c);
            }
        }
        distances
    }

    /// Greedy k-means++: each next center is, of a few rows drawn with probability proportional to weight times
    /// squared distance to the nearest center, the one that leaves the smallest sum of them.
    pub fn plus_plus(&self, k: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
        let first = self.row(draw(&self.weight, self.weight.iter().sum(), rng));
        self.plus_plus_from(vec![first], k, rng)
    }

    /// The same after some centers that are given.
    pub fn plus_plus_from(
        &self,
        mut centers: Vec<Vec<f64>>,
        k: usize,
        rng: &mut ChaCha8Rng,
    ) -> Vec<Vec<f64>> {
        let trials = 2 + (k as f64).ln() as usize;
        let mut nearest = vec![f64::INFINITY; self.n_rows()];
        for center in &centers {
            self.distances(center).iter().zip(&mut nearest).for_each(|(d, n)| *n = n.min(*d));
        }
        while centers.len() < k && !self.is_cancelled() {
            let masses: Vec<f64> = nearest.iter().zip(&self.weight).map(|(d, w)| d * w).collect();
            let total = dot(&nearest, &self.weight);
            let mut best: Option<(f64, usize, Vec<f64>)> = None;
            for _ in 0..trials {
                let row = draw(&masses, total, rng);
                let mut distances = self.distances(&self.row(row));
                distances.iter_mut().zip(&nearest).for_each(|(d, n)| *d = d.min(*n));
                let inertia = dot(&distances, &self.weight);
                if best.as_ref().is_none_or(|(b, ..)| inertia < *b) {
                    best = Some((inertia, row, distances));
                }
            }
            if let Some((_, row, distances)) = best {
                centers.push(self.row(row));
                nearest = distances;
            }
        }
        centers
    }

    /// A center for each of `k` components: the mean of the rows that are known to belong to it, and for those of which
    /// no row is known, one drawn by k-means++.
    pub fn plus_plus_beside(&self, label: &[Option<u32>], k: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
        let mut sums = vec![(0.0, vec![0.0; self.columns.len()]); k];
        for (row, known) in label.iter().enumerate() {
            if let Some((weight, sum)) = known.and_then(|c| sums.get_mut(c as usize)) {
                *weight += self.weight[row];
                sum.iter_mut().zip(&self.columns).for_each(|(s, x)| *s += self.weight[row] * x[row]);
            }
        }
        let means = sums.into_iter().map(|(w, s)| (w > 0.0).then(|| s.iter().map(|x| x / w).collect()));
        let means: Vec<Option<Vec<f64>>> = means.collect();
        let known: Vec<Vec<f64>> = means.iter().flatten().cloned().collect();
        let mut drawn = if known.is_empty() {
            self.plus_plus(k, rng).into_iter()
        } else {
            let given = known.len();
            self.plus_plus_from(known, k, rng).split_off(given).into_iter()
        };
        means.into_iter().filter_map(|mean| mean.or_else(|| drawn.next())).collect()
    }

    /// The nearest center of each row, and the weighted sum of squared distances to it.
    pub fn nearest(&self, centers: &[Vec<f64>]) -> (Vec<Option<u32>>, f64) {
        let mut nearest = vec![f64::INFINITY; self.n_rows()];
        let mut component = vec![Some(0); self.n_rows()];
        for (c, center) in centers.iter().enumerate().take_while(|_| !self.is_cancelled()) {
            for ((d, n), label) in self.distances(center).iter().zip(&mut nearest).zip(&mut component) {
                if d < n {
                    *n = *d;
                    *label = Some(c as u32);
                }
            }
        }
        (component, dot(&nearest, &self.weight))
    }

    /// Moves the centers to the means of their rows, so many times at most.
    pub fn lloyd(&self, centers: &mut [Vec<f64>], iterations: usize) {
        let mut before = f64::INFINITY;
        for _ in 0..iterations {
            let (component, inertia) = self.nearest(centers);
            if inertia >= before || self.is_cancelled() {
                return;
            }
            before = inertia;
            let mut weight = vec![0.0; centers.len()];
            let mut sums = vec![vec![0.0; self.columns.len()]; centers.len()];
            for (i, c) in component.iter().enumerate() {
                let c = c.unwrap_or(0) as usize;
                weight[c] += self.weight[i];
                for (s, column) in sums[c].iter_mut().zip(&self.columns) {
                    *s += column[i] * self.weight[i];
                }
            }
            for ((center, sum), w) in centers.iter_mut().zip(&sums).zip(&weight) {
                if *w > 0.0 {
                    center.iter_mut().zip(sum).for_each(|(c, s)| *c = s / w);
                }
            }
        }
    }
}

/// An index drawn with probability proportional to its mass, a share of their total; any index if all masses are zero.
fn draw(masses: &[f64], total: f64, rng: &mut ChaCha8Rng) -> usize {
    let u: f64 = rng.random();
    if !(total > 0.0 && total.is_finite()) {
        return ((u * masses.len() as f64) as usize).min(masses.len().saturating_sub(1));
    }
    let mut left = u * total;
    let mut last = 0;
    for (i, mass) in masses.iter().enumerate().filter(|(_, m)| **m > 0.0) {
        last = i;
        left -= mass;
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::testing::{rng, sample};

    fn rows(columns: &[&[f64]]) -> Sample {
        let weight = vec![1.0; columns[0].len()];
        Sample { columns: columns.iter().map(|c| c.to_vec()).collect(), weight }
    }

    fn corners() -> Sample {
        let (x, y) = ((0..100).map(|i| f64::from(i % 2)), (0..100).map(|i| f64::from(i / 2 % 2)));
        Sample { columns: vec![x.collect(), y.collect()], weight: vec![1.0; 100] }
    }

    fn distinct(mut centers: Vec<Vec<f64>>) -> usize {
        centers.sort_by(|a, b| a.partial_cmp(b).unwrap());
        centers.dedup();
        centers.len()
    }

    #[test]
    fn columns_are_in_units_of_their_deviations() {
        let mut data = sample(500, 2, 1);
        data.weight.iter_mut().enumerate().for_each(|(i, w)| *w = 1.0 + (i % 3) as f64);
        let scaled = Scaled::new(&data);
        let total: f64 = data.weight.iter().sum();
        for column in &scaled.columns {
            let moment = |p| column.iter().zip(&data.weight).map(|(x, w)| w * x.powi(p)).sum::<f64>() / total;
            assert!(moment(1).abs() < 1e-13 && (moment(2) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn distinct_rows_are_found_before_any_is_taken_twice() {
        let scaled = Scaled::new(&corners());
        for seed in 0..50 {
            for k in 1..=4 {
                assert_eq!(distinct(scaled.plus_plus(k, &mut rng(seed))), k);
            }
            let centers = scaled.plus_plus(7, &mut rng(seed));
            assert_eq!((centers.len(), distinct(centers.clone())), (7, 4));
            let (labels, inertia) = scaled.nearest(&centers);
            let used: std::collections::HashSet<_> = labels.into_iter().collect();
            assert_eq!((used.len(), inertia), (4, 0.0));
        }
    }

    #[test]
    fn far_groups_get_a_center_each() {
        let x: Vec<f64> = (0..300).map(|i| f64::from(i % 3) * 1e4 + f64::from(i) * 1e-3).collect();
        let scaled = Scaled::new(&rows(&[&x]));
        for seed in 0..50 {
            let (labels, _) = scaled.nearest(&scaled.plus_plus(3, &mut rng(seed)));
            assert!((3..300).all(|i| labels[i] == labels[i % 3]) && labels[0] != labels[1]);
            assert!(labels[0] != labels[2] && labels[1] != labels[2]);
        }
    }

    #[test]
    fn constant_columns_have_no_say() {
        let x = [0.0, 1.0, 5.0, 6.0];
        let with = Scaled::new(&rows(&[&x, &[0.1; 4], &[1e300; 4]]));
        let alone = Scaled::new(&rows(&[&x]));
        let (a, b) = (with.plus_plus(2, &mut rng(3)), alone.plus_plus(2, &mut rng(3)));
        assert_eq!(with.nearest(&a), alone.nearest(&b));
        let nothing = Scaled::new(&rows(&[&[2.0; 5]]));
        let centers = nothing.plus_plus(3, &mut rng(3));
        assert_eq!((centers.len(), nothing.nearest(&centers)), (3, (vec![Some(0); 5], 0.0)));
    }

    #[test]
    fn lloyd_ends_where_centers_are_means_of_their_rows() {
        let data = sample(400, 3, 9);
        let scaled = Scaled::new(&data);
        let mut centers = scaled.plus_plus(5, &mut rng(1));
        let before = scaled.nearest(&centers).1;
        scaled.lloyd(&mut centers, 100);
        let (labels, after) = scaled.nearest(&centers);
        assert!(after < before);
        for (c, center) in centers.iter().enumerate() {
            let own: Vec<usize> = (0..400).filter(|i| labels[*i] == Some(c as u32)).collect();
            for (column, x) in scaled.columns.iter().zip(center) {
                let mean = own.iter().map(|i| column[*i]).sum::<f64>() / own.len() as f64;
                assert!((mean - x).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn draws_follow_the_masses() {
        let masses = [0.0, 1.0, 0.0, 3.0, 0.0];
        let mut rng = rng(5);
        let mut counts = [0_i32; 5];
        for _ in 0..4000 {
            counts[draw(&masses, masses.iter().sum(), &mut rng)] += 1;
        }
        assert_eq!((counts[0], counts[2], counts[4]), (0, 0, 0));
        assert!((counts[3] - 3000).abs() < 140, "{counts:?}");
        for masses in [[0.0; 3], [f64::INFINITY, 1.0, 1.0], [f64::NAN; 3]] {
            assert!((0..100).all(|_| draw(&masses, masses.iter().sum(), &mut rng) < 3));
        }
    }
}
