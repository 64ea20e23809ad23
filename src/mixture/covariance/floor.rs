//! The covariance floor: no eigenvalue of `D^-½ Σ D^-½` may lie below it, `D` the variances of the features.
//!
//! A floor is a constraint, not a ridge: clipping the eigenvalues maximises the likelihood under it for every
//! structure of this folder (the objective separates along the eigenvectors of the scatter once it is in units
//! of `D`), so that EM never falls and covariances above the floor are untouched.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::super::linalg::{as_list, clip_eigenvalues, is_above, with_room, Numbers};
use super::super::statistics::Statistics;

/// A floor and the units it is in. A fit takes the units once: rounding must not move its constraint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// The smallest eigenvalue, in the units.
    least: f64,
    /// Variance of each feature over all rows; see [`Floor::new`] for constant features.
    #[serde(with = "as_list")]
    unit: Numbers,
    /// The largest of them among features that vary, among all where none does: the unit of a variance they share.
    shared: f64,
}

impl Floor {
    /// The units are the variances of the features over all rows of the statistics. A feature that is constant,
    /// to rounding, has its squared value for a unit, and 1 where that is zero.
    pub fn new(statistics: &Statistics, floor: f64) -> Self {
        let (mut units, mut largest, mut largest_varying) = (Numbers::new(), 0.0_f64, None);
        for j in 0..statistics.d() {
            let (unit, varies) = unit(statistics, j);
            units.push(unit);
            largest = largest.max(unit);
            if varies {
                largest_varying = Some(unit.max(largest_varying.unwrap_or(0.0)));
            }
        }
        Self { least: floor, unit: units, shared: largest_varying.unwrap_or(largest) }
    }

    /// Number of features.
    pub fn d(&self) -> usize {
        self.unit.len()
    }

    /// Clips a `d × d` covariance.
    pub fn clip_matrix(&self, covariance: &mut [f64]) {
        if self.least == 0.0 {
            return;
        }
        let d = self.d();
        with_room(d * d + d, |room| {
            let (scaled, scale) = room.split_at_mut(d * d);
            scale.iter_mut().zip(&self.unit).for_each(|(s, u)| *s = u.sqrt());
            for (e, s) in scaled.iter_mut().enumerate() {
                *s = covariance[e] / (scale[e / d] * scale[e % d]);
            }
            if is_above(scaled, d, self.least) {
                return;
            }
            clip_eigenvalues(scaled, d, self.least);
            for (e, s) in scaled.iter().enumerate() {
                covariance[e] = s * (scale[e / d] * scale[e % d]);
            }
        });
    }

    /// Clips covariances of any form.
    pub fn clip(&self, covariances: &mut Array3<f64>) {
        let d = self.d();
        for mut covariance in covariances.outer_iter_mut() {
            let (rows, columns) = covariance.dim();
            with_room(rows * columns, |entries| {
                entries.iter_mut().zip(&covariance).for_each(|(e, x)| *e = *x);
                if rows == d {
                    self.clip_matrix(entries);
                } else if columns == d {
                    self.clip_diagonal(entries);
                } else {
                    for v in &mut *entries {
                        *v = self.clip_variance(*v);
                    }
                }
                covariance.iter_mut().zip(entries).for_each(|(out, x)| *out = *x);
            });
        }
    }

    /// Clips the variances of a diagonal covariance.
    pub fn clip_diagonal(&self, variances: &mut [f64]) {
        for (v, u) in variances.iter_mut().zip(&self.unit) {
            *v = v.max(self.least * u);
        }
    }

    /// Clips a variance shared by all features.
    pub fn clip_variance(&self, variance: f64) -> f64 {
        variance.max(self.least * self.shared)
    }
}

/// Total variance of feature `j`, within components and between their means, and whether it is more than rounding.
fn unit(statistics: &Statistics, j: usize) -> (f64, bool) {
    let weights = statistics.weight();
    let total: f64 = weights.iter().sum();
    let means = |c: usize| statistics.mean()[c * statistics.d() + j];
    let weighted = |c: usize| weights[c] / total * means(c);
    let mean: f64 = (0..weights.len()).map(weighted).sum();
    let spread = |c: usize| statistics.scatter_entry(c, j, j) + weights[c] * (means(c) - mean).powi(2);
    let variance = (0..weights.len()).map(spread).sum::<f64>() / total;
    if variance.sqrt() > 8.0 * f64::EPSILON * mean.abs() {
        (variance, true)
    } else if mean * mean > 0.0 {
        (mean * mean, false)
    } else {
        (1.0, false)
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::mixture::covariance::CovarianceType;
    use crate::mixture::pass::Pass;
    use crate::mixture::rows::{Labels, Sample};
    use crate::mixture::statistics::Scatter;
    use crate::mixture::testing::{assert_close, sample};

    fn moments(rows: &Sample, k: usize) -> Statistics {
        let component: Vec<Option<u32>> = (0..rows.weight.len()).map(|i| Some((i % k) as u32)).collect();
        let labels = Labels { k, component: &component };
        Pass::SEQUENTIAL.assigned(rows, &labels, Scatter::Full).unwrap()
    }

    fn stretched(rows: &Sample, factors: &[f64]) -> Sample {
        let stretch = |(column, f): (&Vec<f64>, &f64)| column.iter().map(|x| x * f).collect();
        Sample { columns: rows.columns.iter().zip(factors).map(stretch).collect(), ..rows.clone() }
    }

    #[test]
    fn the_units_are_the_variances_of_all_rows() {
        let rows = sample(500, 2, 3);
        let floor = Floor::new(&moments(&rows, 3), 0.1);
        for (column, unit) in rows.columns.iter().zip(&floor.unit) {
            let mean = column.iter().sum::<f64>() / 500.0;
            let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 500.0;
            assert_close(*unit, variance, 1e-13);
        }
    }

    #[test]
    fn constant_features_have_a_unit_of_their_size() {
        for (x, expected) in [(0.0, 1.0), (3.0, 9.0), (-1e-8, 1e-16), (0.1 + 1e8, 1e16)] {
            let rows = Sample { columns: vec![vec![x; 300]], weight: vec![0.7; 300] };
            let unit = Floor::new(&moments(&rows, 3), 0.1).unit[0];
            assert!((unit / expected - 1.0).abs() < 1e-8, "{x}: {unit}");
        }
    }

    #[test]
    fn a_constant_feature_does_not_raise_the_variance_that_all_share() {
        for constant in [0.0, 3.0, 1e8] {
            let mut rows = sample(300, 3, 5);
            let plain = Floor::new(&moments(&rows, 2), 0.1).clip_variance(0.0);
            rows.columns.push(vec![constant; 300]);
            assert_close(Floor::new(&moments(&rows, 2), 0.1).clip_variance(0.0), plain, 1e-14);
        }
        let nothing = Sample { columns: vec![vec![2.0; 9], vec![3.0; 9]], weight: vec![1.0; 9] };
        assert_close(Floor::new(&moments(&nothing, 1), 0.1).clip_variance(0.0), 0.9, 1e-14);
    }

    #[test]
    fn every_form_is_clipped_by_its_shape() {
        let statistics = moments(&sample(300, 3, 5), 2);
        let floor = Floor::new(&statistics, 0.9);
        for kind in CovarianceType::ALL {
            let mut free = kind.maximize(&statistics, &Floor::new(&statistics, 0.0)).unwrap();
            floor.clip(&mut free);
            assert_eq!(free, kind.maximize(&statistics, &floor).unwrap());
        }
    }

    #[test]
    fn low_eigenvalues_are_raised_and_the_others_kept() {
        // In units of D the matrix is [1 r; r 1] · v, of eigenvalues v(1 + r) along (1, 1) and v(1 − r) along (1, −1).
        let (r, v, floor) = (0.999, 0.5, 0.01);
        let floor = Floor { least: floor, unit: smallvec![4.0, 1e-6], shared: 4.0 };
        let scale = [2.0, 1e-3];
        let mut covariance: Vec<f64> =
            (0..4).map(|e| scale[e / 2] * scale[e % 2] * v * if e % 3 == 0 { 1.0 } else { r }).collect();
        floor.clip_matrix(&mut covariance);
        let inside = |e: usize| covariance[e] / scale[e / 2] / scale[e % 2];
        assert_eq!(covariance[1], covariance[2]);
        assert_close(inside(0), inside(3), 1e-14);
        assert_close(inside(0) + inside(1), v * (1.0 + r), 1e-14);
        assert_close(inside(0) - inside(1), 0.01, 1e-14);
    }

    #[test]
    fn what_lies_above_is_untouched() {
        let statistics = moments(&sample(300, 3, 5), 2);
        for kind in CovarianceType::ALL {
            let free = kind.maximize(&statistics, &Floor::new(&statistics, 0.0)).unwrap();
            assert_eq!(free, kind.maximize(&statistics, &Floor::new(&statistics, 1e-6)).unwrap());
            assert_ne!(free, kind.maximize(&statistics, &Floor::new(&statistics, 0.9)).unwrap());
        }
    }

    #[test]
    fn diagonals_are_clipped_each_in_its_unit() {
        let floor = Floor { least: 0.25, unit: smallvec![4.0, 1.0, 0.125], shared: 4.0 };
        let mut variances = [0.5, 0.5, 0.03];
        floor.clip_diagonal(&mut variances);
        assert_eq!(variances, [1.0, 0.5, 0.031_25]);
        assert_eq!((floor.clip_variance(0.5), floor.clip_variance(2.0)), (1.0, 2.0));
    }

    #[test]
    fn the_floor_follows_the_units_of_the_features() {
        let mut rows = sample(240, 3, 5);
        // Collinear within components, and nearly constant there.
        rows.columns[1] = rows.columns[0].iter().map(|x| 2.0 * x + 1.0).collect();
        rows.columns[2] = (0..240).map(|i| f64::from(i % 2)).collect();
        let factors = [2f64.powi(27), 2f64.powi(-27), 2f64.powi(10)];
        let (plain, other) = (moments(&rows, 2), moments(&stretched(&rows, &factors), 2));
        for kind in [CovarianceType::Full, CovarianceType::Tied, CovarianceType::Diag] {
            let (a, b) = (
                kind.maximize(&plain, &Floor::new(&plain, 1e-3)).unwrap(),
                kind.maximize(&other, &Floor::new(&other, 1e-3)).unwrap(),
            );
            assert_ne!(a, kind.maximize(&plain, &Floor::new(&plain, 0.0)).unwrap());
            let square = a.dim().1 == 3;
            for ((c, i, j), x) in a.indexed_iter() {
                let row = if square { i } else { j };
                assert_close(*x, b[[c, i, j]] / factors[row] / factors[j], 1e-12);
            }
        }
    }

    #[test]
    fn without_a_floor_nothing_is_clipped() {
        let floor = Floor { least: 0.0, unit: smallvec![1.0, 1.0], shared: 1.0 };
        let (mut matrix, mut variances) = ([1.0, 1.0, 1.0, 1.0], [0.0, 2.0]);
        floor.clip_matrix(&mut matrix);
        floor.clip_diagonal(&mut variances);
        assert_eq!((matrix, variances), ([1.0; 4], [0.0, 2.0]));
        assert_eq!(floor.clip_variance(0.0), 0.0);
    }
}
