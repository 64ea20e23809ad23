use super::*;
use crate::mixture::fit::{Em, Options};
use crate::mixture::pass::Pass;
use crate::mixture::regularisation::Regularisation;
use crate::mixture::rows::{Labels, Sample};
use crate::mixture::testing::{assert_close, model, names, sample};

fn given() -> PriorOptions {
    PriorOptions { shrinkage: 0.01, dof: None, mean: None, scale: None }
}

fn options(kind: CovarianceType, prior: PriorOptions) -> Options {
    let prior = Some(prior);
    Options {
        covariance_type: kind,
        max_iter: 2000,
        tol: 1e-11,
        covariance_floor: 0.0,
        accelerate: false,
        prior,
    }
}

fn statistics(kind: CovarianceType, rows: &Sample, k: usize) -> Statistics {
    let component: Vec<Option<u32>> = (0..rows.weight.len()).map(|i| Some((i % k) as u32)).collect();
    let form = kind.structure().scatter();
    Pass::SEQUENTIAL.assigned(rows, &Labels { k, component: &component }, form).unwrap()
}

/// Fraley & Raftery 2007, eq. for one feature: `(ς² + κ n / (κ + n) (ȳ − μ_p)² + Σ (y − ȳ)²) / (ν + n + 3)`.
#[test]
fn one_feature_is_the_formula_of_the_paper() {
    let rows = Sample { columns: vec![vec![1.0, 8.0, 3.0, 9.0, 2.0, 12.0]], weight: vec![1.0; 6] };
    let (kappa, nu, mean, scale) = (0.5, 4.0, 5.0, 2.0);
    let prior =
        PriorOptions { shrinkage: kappa, dof: Some(nu), mean: Some(vec![mean]), scale: Some(vec![scale]) };
    for kind in [CovarianceType::Full, CovarianceType::Diag, CovarianceType::Spherical] {
        let s = statistics(kind, &rows, 2);
        let bounds = Regularisation::new(&options(kind, prior.clone()), &s);
        let fitted = Model::maximize_within(&names(1).into(), kind, &s, &bounds, None).unwrap();
        for (c, y) in [[1.0, 3.0, 2.0], [8.0, 9.0, 12.0]].iter().enumerate() {
            let n = 3.0;
            let bar = y.iter().sum::<f64>() / n;
            let squares: f64 = y.iter().map(|y| (y - bar).powi(2)).sum();
            let variance =
                (scale + kappa * n / (kappa + n) * (bar - mean).powi(2) + squares) / (nu + n + 3.0);
            assert_close(fitted.covariances()[[c, 0, 0]], variance, 1e-13);
            assert_close(fitted.means()[[c, 0]], (n * bar + kappa * mean) / (n + kappa), 1e-13);
        }
        assert_eq!(fitted.weights().to_vec(), [0.5, 0.5]);
    }
    let kind = CovarianceType::Tied;
    let s = statistics(kind, &rows, 2);
    let bounds = Regularisation::new(&options(kind, prior), &s);
    let fitted = Model::maximize_within(&names(1).into(), kind, &s, &bounds, None).unwrap();
    let own = |y: [f64; 3]| {
        let bar = y.iter().sum::<f64>() / 3.0;
        y.iter().map(|y| (y - bar).powi(2)).sum::<f64>() + kappa * 3.0 / (kappa + 3.0) * (bar - mean).powi(2)
    };
    // `(ς² + Σ_c …) / (ν + n + G + 2)`
    let variance = (scale + own([1.0, 3.0, 2.0]) + own([8.0, 9.0, 12.0])) / (nu + 6.0 + 2.0 + 2.0);
    assert_close(fitted.covariances()[[0, 0, 0]], variance, 1e-13);
}

#[test]
fn several_features_have_the_counts_of_the_paper() {
    let d = 3;
    let divisor = |kind: CovarianceType, n: f64, k: f64| {
        let PriorCounts { each, once, .. } = kind.structure().prior_counts(d, 5.0);
        match kind {
            CovarianceType::Tied => n + k * each + once,
            _ => n + each,
        }
    };
    assert_eq!(divisor(CovarianceType::Full, 10.0, 2.0), 5.0 + 10.0 + 3.0 + 2.0);
    assert_eq!(divisor(CovarianceType::Tied, 10.0, 2.0), 5.0 + 10.0 + 3.0 + 2.0 + 1.0);
    assert_eq!(divisor(CovarianceType::Diag, 10.0, 2.0), 5.0 + 10.0 + 3.0);
    // ν + (n + 1) d + 2, divided by d.
    assert_eq!(divisor(CovarianceType::Spherical, 10.0, 2.0), (5.0 + 11.0 * 3.0 + 2.0) / 3.0);
}

#[test]
fn the_m_step_maximises_the_posterior() {
    let rows = sample(120, 2, 3);
    for kind in CovarianceType::ALL {
        let s = statistics(kind, &rows, 3);
        let bounds = Regularisation::new(&options(kind, PriorOptions { shrinkage: 2.0, ..given() }), &s);
        let best = Model::maximize_within(&names(2).into(), kind, &s, &bounds, None).unwrap();
        let value = |model: &Model| {
            let prior = bounds.penalty(model);
            let full = model.full_covariances();
            let expected = |c: usize| {
                let entries: Vec<f64> = full.index_axis(ndarray::Axis(0), c).iter().copied().collect();
                let (a, log_det) = precision_factor(&entries, 2).unwrap();
                let (w, mean) = (s.weight()[c], &s.mean()[2 * c..]);
                let moved = |i: usize, j: usize| {
                    s.scatter_entry(c, i, j)
                        + w * (mean[i] - model.means()[[c, i]]) * (mean[j] - model.means()[[c, j]])
                };
                let mut trace = 0.0;
                for row in 0..2 {
                    for (i, j) in (0..=row).flat_map(|i| (0..=row).map(move |j| (i, j))) {
                        trace += a[triangle(row) + i] * moved(i, j) * a[triangle(row) + j];
                    }
                }
                w * log_det - 0.5 * trace
            };
            prior + (0..3).map(expected).sum::<f64>()
        };
        let top = value(&best);
        for (c, j) in [(0, 0), (1, 1), (2, 0)] {
            for step in [-1e-3, 1e-3] {
                let mut means = best.means().clone();
                means[[c, j]] += step;
                let (weights, covariances) = (best.weights().clone(), best.covariances().clone());
                let other = Model::new(names(2), kind, weights, means, covariances).unwrap();
                assert!(value(&other) < top, "{kind:?} mean {c} {j}");
            }
        }
        for at in ndarray::indices(best.covariances().dim()) {
            for step in [-1e-3, 1e-3] {
                let mut covariances = best.covariances().clone();
                covariances[at] += step;
                if covariances.dim().1 == 2 && at.1 != at.2 {
                    covariances[(at.0, at.2, at.1)] += step;
                }
                let (weights, means) = (best.weights().clone(), best.means().clone());
                let other = Model::new(names(2), kind, weights, means, covariances).unwrap();
                assert!(value(&other) < top, "{kind:?} covariance {at:?}");
            }
        }
    }
}

#[test]
fn the_posterior_never_falls() {
    for kind in CovarianceType::ALL {
        for accelerate in [false, true] {
            let rows = sample(60, 3, 5);
            let options = Options { accelerate, max_iter: 80, ..options(kind, given()) };
            let mut em = Em::new(model(kind, 4, 3, 2), options, false);
            em.run(&rows, Pass::SEQUENTIAL, None).unwrap();
            for record in em.history().iter().skip(2) {
                assert!(record.change.unwrap() > -1e-11, "{kind:?} {record:?}");
            }
            assert!(em.objective().unwrap() != em.log_likelihood().unwrap());
        }
    }
}

#[test]
fn a_prior_keeps_a_component_on_one_row_from_collapsing() {
    let mut rows = sample(50, 2, 5);
    rows.columns.iter_mut().for_each(|column| column[7] = 1e3);
    let start = |kind| {
        let component: Vec<Option<u32>> = (0..50).map(|i| Some(u32::from(i == 7))).collect();
        let form = CovarianceType::structure(kind).scatter();
        let s = Pass::SEQUENTIAL.assigned(&rows, &Labels { k: 2, component: &component }, form).unwrap();
        let bounds = Regularisation::new(&options(kind, given()), &s);
        Model::maximize_within(&names(2).into(), kind, &s, &bounds, None).unwrap()
    };
    let mut em = Em::new(start(CovarianceType::Full), options(CovarianceType::Full, given()), false);
    em.run(&rows, Pass::SEQUENTIAL, None).unwrap();
    assert!(em.model().unwrap().covariances().iter().all(|v| v.abs() > 1.0));
}

#[test]
fn hyperparameters_have_ranges_and_shapes() {
    assert_eq!(given().check(3), Ok(()));
    let message = |prior: PriorOptions| prior.check(2).unwrap_err().to_string();
    assert!(message(PriorOptions { shrinkage: -1.0, ..given() })
        .starts_with("prior.shrinkage must be a finite number >= 0"));
    assert!(message(PriorOptions { dof: Some(1.0), ..given() }).contains("above d - 1 = 1"));
    assert!(message(PriorOptions { mean: Some(vec![0.0]), ..given() }).contains("(2,) for 2 features"));
    assert!(message(PriorOptions { mean: Some(vec![0.0, f64::NAN]), ..given() })
        .contains("prior.mean must be finite"));
    let scale = Some(vec![1.0, 2.0, 2.0, 1.0]);
    assert!(
        message(PriorOptions { scale, ..given() }).contains("prior.scale must be a positive definite matrix")
    );
}
