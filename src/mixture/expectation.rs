//! Whether statistics were made under a model.
//!
//! With responsibilities `r` of the model itself, `ln p(x) = Σ_c r_c (ln π_c N(x; μ_c, Σ_c) − ln r_c)`, so that
//!
//! ```text
//! L = Σ_c [ W_c (ln π_c − ½ d ln 2π + ln det A_c) − ½ (tr(Σ_c⁻¹ S_c) + W_c ‖A_c (m_c − μ_c)‖²) ] + H
//! ```
//!
//! holds for their log-likelihood `L` and entropy `H` (Neal & Hinton 1998: the free energy is `L` at these `r` alone).
//! Statistics of another model miss it by what lies between the models.

use super::error::{Error, Result};
use super::linalg::precision_factor;
use super::linalg::triangle;
use super::model::Model;
use super::statistics::Statistics;

/// The identity holds to this, of the sum of its terms' sizes.
const CLOSE: f64 = 1e-9;

/// # Errors
/// [`Error::OtherModel`] if they were not; if that can be told.
pub fn check_made_under(model: &Model, statistics: &Statistics) -> Result<()> {
    let (mut expected, mut tolerance) = (statistics.entropy, CLOSE * statistics.entropy.abs());
    let covariances = model.full_covariances();
    for (c, weight) in statistics.weight().iter().enumerate().filter(|(_, w)| **w > 0.0) {
        let covariance: Vec<f64> = covariances.index_axis(ndarray::Axis(0), c).iter().copied().collect();
        let Ok((factor, log_det)) = precision_factor(&covariance, model.d()) else {
            return Ok(());
        };
        let term = Term::new(&factor, log_det, (model, c), (statistics, *weight));
        expected += term.value;
        tolerance += term.tolerance;
    }
    if statistics.weight().iter().all(|w| *w == 0.0) {
        return Ok(()); // There is nothing to maximise, which the M-step says.
    }
    let miss = (statistics.log_likelihood - expected).abs();
    if miss <= tolerance || !tolerance.is_finite() {
        return Ok(());
    }
    Err(Error::OtherModel { told: statistics.log_likelihood, expected })
}

/// What a component adds, and how far rounding may take it from there.
struct Term {
    value: f64,
    tolerance: f64,
}

impl Term {
    fn new(
        factor: &[f64],
        log_det: f64,
        (model, c): (&Model, usize),
        (statistics, weight): (&Statistics, f64),
    ) -> Self {
        let d = model.d();
        let (mut trace, mut size, mut square, mut rounding) = (0.0, 0.0, 0.0, 0.0);
        let mut away = vec![0.0; d];
        for (j, away) in away.iter_mut().enumerate() {
            *away = statistics.mean()[c * d + j] - model.means()[[c, j]];
        }
        for i in 0..d {
            // Row i of A adds (A S Aᵀ)_ii and (A (m − μ))_i².
            let row = &factor[triangle(i)..triangle(i + 1)];
            let mut z = 0.0;
            let mut reach = 0.0;
            for (j, a) in row.iter().enumerate() {
                z += a * away[j];
                reach += a.abs() * (model.means()[[c, j]].abs() + away[j].abs());
                for (l, b) in row.iter().enumerate() {
                    let product = a * b * statistics.scatter_entry(c, j, l);
                    trace += product;
                    size += product.abs();
                }
            }
            square += weight * z * z;
            rounding += reach * reach;
        }
        let log_weight = model.weights()[c].ln();
        let half_log_2pi = 0.5 * (2.0 * std::f64::consts::PI).ln() * d as f64;
        let value = weight * (log_weight - half_log_2pi + log_det) - 0.5 * (trace + square);
        // Means are rounded: by so many standard deviations of the component.
        let shift = 8.0 * f64::EPSILON * rounding.sqrt();
        let slope = (square / weight).sqrt() + (size / weight).sqrt() + shift;
        let sizes = weight * (log_weight.abs() + half_log_2pi + log_det.abs()) + size + square;
        Self { value, tolerance: CLOSE * sizes + weight * shift * slope }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::covariance::CovarianceType;
    use crate::mixture::pass::Pass;
    use crate::mixture::rows::Sample;
    use crate::mixture::statistics::Scatter;
    use crate::mixture::testing::{model, sample, whole_weights};

    fn moved(model: &Model, by: f64) -> Model {
        let mut means = model.means().clone();
        means.column_mut(0).iter_mut().for_each(|m| *m += by);
        let (weights, covariances) = (model.weights().clone(), model.covariances().clone());
        let kind = model.covariance_type();
        Model::new(model.features().to_vec(), kind, weights, means, covariances).unwrap()
    }

    #[test]
    fn statistics_are_of_one_model() {
        use CovarianceType::{Diag, Full, Spherical, Tied};
        for (kind, k, d) in [
            (Full, 1, 1),
            (Full, 3, 2),
            (Tied, 5, 4),
            (Diag, 4, 3),
            (Spherical, 2, 6),
            (Full, 60, 3),
            (Full, 4, 30),
        ] {
            for (shift, scale) in [(0.0, 1.0), (1e8, 1.0), (-3.0, 1e-8), (0.0, 1e8)] {
                let mut rows = whole_weights(sample(4000, d, 3));
                let start = model(kind, k, d, 7);
                let means = start.means() * scale + shift;
                let covariances = start.covariances() * (scale * scale);
                let model =
                    Model::new(start.features().to_vec(), kind, start.weights().clone(), means, covariances)
                        .unwrap();
                for column in &mut rows.columns {
                    for x in column {
                        *x = *x * scale + shift;
                    }
                }
                let of = |model: &Model, rows: &Sample| {
                    let form = kind.structure().scatter();
                    Pass::SEQUENTIAL.e_step(rows, &model.density().unwrap(), form).unwrap()
                };
                let statistics = of(&model, &rows);
                assert_eq!(check_made_under(&model, &statistics), Ok(()), "{kind:?} {k} {d} {shift} {scale}");
                let other = moved(&model, 1e-3 * scale);
                let error = check_made_under(&other, &statistics).unwrap_err().to_string();
                assert!(error.contains("not made under the model asked for"), "{error}");
            }
        }
    }

    #[test]
    fn nearly_singular_models_and_rows_far_away_are_no_other_model() {
        let mut rows = sample(3000, 2, 3);
        rows.columns[0][7] = 1e150;
        rows.columns[1] = rows.columns[0].iter().map(|x| 1e6 + x * 1e-3).collect();
        let mut start = Pass::SEQUENTIAL
            .e_step(&rows, &model(CovarianceType::Full, 2, 2, 7).density().unwrap(), Scatter::Full)
            .unwrap();
        for floor in [1e-12, 1e-6] {
            let features = ["x0".to_string(), "x1".to_string()];
            let Ok(model) = Model::maximize(&features, CovarianceType::Full, &start, floor, None) else {
                continue;
            };
            let Ok(density) = model.density() else { continue };
            start = Pass::SEQUENTIAL.e_step(&rows, &density, Scatter::Full).unwrap();
            assert_eq!(check_made_under(&model, &start), Ok(()));
        }
    }
}
