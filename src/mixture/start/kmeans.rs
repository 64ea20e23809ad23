//! k-means++ and Lloyd's iterations on the start sample.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::super::rows::Sample;

/// Lloyd's iterations at most.
const LLOYD: usize = 100;

/// The sample in units of the features' standard deviations; constant features have no say.
pub struct Scaled {
    columns: Vec<Vec<f64>>,
    weight: Vec<f64>,
}

impl Scaled {
    pub fn new(sample: &Sample) -> Self {
        let total: f64 = sample.weight.iter().sum();
        let column = |values: &Vec<f64>| {
            let weighted = values.iter().zip(&sample.weight);
            let mean = weighted.clone().map(|(x, w)| x * (w / total)).sum::<f64>();
            let variance = weighted.map(|(x, w)| (x - mean).powi(2) * (w / total)).sum::<f64>();
            let unit = if variance > 0.0 { 1.0 / variance.sqrt() } else { 0.0 };
            values.iter().map(|x| (x - mean) * unit).collect()
        };
        Self { columns: sample.columns.iter().map(column).collect(), weight: sample.weight.clone() }
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
        let trials = 2 + (k as f64).ln() as usize;
        let mut centers = vec![self.row(draw(&self.weight, rng))];
        let mut nearest = self.distances(&centers[0]);
        while centers.len() < k {
            let masses: Vec<f64> = nearest.iter().zip(&self.weight).map(|(d, w)| d * w).collect();
            let mut best: Option<(f64, usize, Vec<f64>)> = None;
            for _ in 0..trials {
                let row = draw(&masses, rng);
                let mut distances = self.distances(&self.row(row));
                distances.iter_mut().zip(&nearest).for_each(|(d, n)| *d = d.min(*n));
                let inertia: f64 = distances.iter().zip(&self.weight).map(|(d, w)| d * w).sum();
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

    /// The nearest center of each row, and the weighted sum of squared distances to it.
    pub fn nearest(&self, centers: &[Vec<f64>]) -> (Vec<Option<u32>>, f64) {
        let mut nearest = vec![f64::INFINITY; self.n_rows()];
        let mut component = vec![Some(0); self.n_rows()];
        for (c, center) in centers.iter().enumerate() {
            for ((d, n), label) in self.distances(center).iter().zip(&mut nearest).zip(&mut component) {
                if d < n {
                    *n = *d;
                    *label = Some(c as u32);
                }
            }
        }
        let inertia = nearest.iter().zip(&self.weight).map(|(d, w)| d * w).sum();
        (component, inertia)
    }

    pub fn lloyd(&self, centers: &mut [Vec<f64>]) {
        let mut before = f64::INFINITY;
        for _ in 0..LLOYD {
            let (component, inertia) = self.nearest(centers);
            if inertia >= before {
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

/// An index drawn with probability proportional to its mass; any index if all masses are zero.
fn draw(masses: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let total: f64 = masses.iter().sum();
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
