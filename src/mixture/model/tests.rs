use ndarray::{array, Array1, Array2, Array3, Axis};

use super::*;
use crate::mixture::linalg::factor_work;
use crate::mixture::pass::Pass;
use crate::mixture::rows::Labels;
use crate::mixture::statistics::Scatter;
use crate::mixture::team;
use crate::mixture::testing::{assert_all_close, bits, model, names, sample, whole_weights};

fn made(
    features: &[&str],
    kind: CovarianceType,
    weights: &[f64],
    means: Array2<f64>,
    covariances: Array3<f64>,
) -> Result<Model> {
    let features = features.iter().map(ToString::to_string).collect();
    Model::new(features, kind, Array1::from_vec(weights.to_vec()), means, covariances)
}

fn two(weights: &[f64], means: Array2<f64>, covariances: Array3<f64>) -> Result<Model> {
    made(&["a", "b"], CovarianceType::Full, weights, means, covariances)
}

fn identities(k: usize) -> Array3<f64> {
    Array3::from_shape_fn((k, 2, 2), |(_, i, j)| f64::from(i == j))
}

#[test]
fn every_wrong_shape_is_refused() {
    let half = [0.5, 0.5];
    let shape_of = |result: Result<Model>| match result {
        Err(Error::Shape { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    assert!(two(&half, Array2::zeros((2, 2)), identities(2)).is_ok());
    assert_eq!(shape_of(two(&[], Array2::zeros((0, 2)), identities(0))), "weights and features");
    let none = made(&[], CovarianceType::Full, &half, Array2::zeros((2, 0)), Array3::zeros((2, 0, 0)));
    assert_eq!(shape_of(none), "weights and features");
    for means in [(2, 1), (1, 2), (3, 2), (2, 3)] {
        assert_eq!(shape_of(two(&half, Array2::zeros(means), identities(2))), "means");
    }
    for kind in CovarianceType::ALL {
        let right = kind.structure().shape(2, 3);
        for shape in [(2, 3, 3), (1, 3, 3), (2, 1, 3), (2, 1, 1), (2, 3, 1), (3, 3, 3), (2, 3, 2)] {
            let covariances = Array3::from_shape_fn(shape, |(_, i, j)| f64::from(i == j));
            let result = made(&["a", "b", "c"], kind, &half, Array2::zeros((2, 3)), covariances);
            if shape == right {
                assert!(result.is_ok());
            } else {
                assert_eq!(shape_of(result), "covariances");
            }
        }
    }
}

#[test]
fn every_wrong_number_is_refused() {
    let (half, zeros) = ([0.5, 0.5], Array2::<f64>::zeros((2, 2)));
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let not_finite = |result: Result<Model>, expected: &str| match result {
            Err(Error::NotFinite { name, component: 1, value }) => {
                assert_eq!((name, value.to_bits()), (expected, wrong.to_bits()));
            }
            other => panic!("{other:?}"),
        };
        not_finite(two(&[0.5, wrong], zeros.clone(), identities(2)), "weights");
        not_finite(two(&half, array![[0.0, 0.0], [0.0, wrong]], identities(2)), "means");
        let mut covariances = identities(2);
        covariances[[1, 1, 0]] = wrong;
        not_finite(two(&half, zeros.clone(), covariances), "covariances");
    }
    let negative = two(&[1.5, -0.5], zeros.clone(), identities(2));
    assert_eq!(negative.unwrap_err(), Error::NegativeWeight { component: 1, value: -0.5 });
    for weights in [[0.5, 0.4], [0.0, 0.0], [0.5, 0.500_002]] {
        let error = two(&weights, zeros.clone(), identities(2)).unwrap_err();
        assert_eq!(error, Error::WeightSum { sum: weights[0] + weights[1] });
    }
    assert!(two(&[0.0, 1.0], zeros.clone(), identities(2)).is_ok());
    assert!(two(&[0.5, 0.500_000_9], zeros, identities(2)).is_ok());
}

#[test]
fn asymmetry_is_measured_in_units_of_the_deviations() {
    let zeros = Array2::<f64>::zeros((2, 2));
    for unit in [1e-12, 1.0, 1e12] {
        let with = |b: f64| {
            let mut covariances = identities(2) * unit;
            covariances[[1, 0, 1]] = 0.5 * unit;
            covariances[[1, 1, 0]] = b * unit;
            two(&[0.5, 0.5], zeros.clone(), covariances)
        };
        assert!(with(0.5).is_ok() && with(0.5 + 0.9e-8).is_ok());
        let expected =
            Error::NotSymmetric { component: 1, row: 0, column: 1, a: 0.5 * unit, b: (0.5 + 1e-7) * unit };
        assert_eq!(with(0.5 + 1e-7).unwrap_err(), expected);
    }
}

#[test]
fn names_must_differ() {
    let result = made(
        &["a", "b", "a"],
        CovarianceType::Spherical,
        &[1.0],
        Array2::zeros((1, 3)),
        Array3::ones((1, 1, 1)),
    );
    assert_eq!(result.unwrap_err(), Error::DuplicateFeature { name: "a".into() });
}

#[test]
fn written_out_and_compacted_again() {
    for kind in CovarianceType::ALL {
        for (k, d) in [(1, 1), (1, 3), (3, 1), (3, 4)] {
            let model = model(kind, k, d, 2);
            let full = model.full_covariances();
            assert_eq!(full.dim(), (k, d, d));
            assert_eq!(&Model::compact(kind, &full).unwrap(), model.covariances());
        }
    }
    let diag = model(CovarianceType::Diag, 2, 3, 2);
    let full = diag.full_covariances();
    for ((c, i, j), x) in full.indexed_iter() {
        assert_eq!(*x, if i == j { diag.covariances()[[c, 0, j]] } else { 0.0 });
    }
    let tied = model(CovarianceType::Tied, 2, 3, 2);
    let full = tied.full_covariances();
    assert_eq!(full.index_axis(Axis(0), 1), tied.covariances().index_axis(Axis(0), 0));
}

#[test]
fn what_lacks_the_structure_is_not_compacted() {
    let full = model(CovarianceType::Full, 3, 2, 2).full_covariances();
    let wrong = |kind, full: &Array3<f64>| match Model::compact(kind, full) {
        Err(Error::Structure { covariance_type, component, .. }) => (covariance_type, component),
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong(CovarianceType::Tied, &full), ("tied", 1));
    assert_eq!(wrong(CovarianceType::Diag, &full), ("diag", 0));
    let diag = model(CovarianceType::Diag, 3, 2, 2).full_covariances();
    assert_eq!(wrong(CovarianceType::Spherical, &diag), ("spherical", 0));
    let mut last = model(CovarianceType::Spherical, 3, 2, 2).full_covariances();
    last[[2, 1, 1]] += 1e-9;
    assert_eq!(wrong(CovarianceType::Spherical, &last), ("spherical", 2));
    for kind in CovarianceType::ALL {
        for shape in [(0, 2, 2), (2, 0, 0), (2, 3, 2), (2, 2, 3)] {
            assert!(matches!(Model::compact(kind, &Array3::zeros(shape)), Err(Error::Shape { .. })));
        }
    }
}

#[test]
fn sorted_by_mean_with_everything_that_belongs_to_it() {
    let means = array![[2.0, 0.0], [1.0, 5.0], [1.0, -5.0]];
    for kind in CovarianceType::ALL {
        let covariances = model(kind, 3, 2, 9).covariances().clone();
        let model = made(&["a", "b"], kind, &[0.2, 0.3, 0.5], means.clone(), covariances).unwrap();
        let sorted = model.sorted();
        assert_eq!(sorted.means(), array![[1.0, -5.0], [1.0, 5.0], [2.0, 0.0]]);
        assert_eq!(sorted.weights(), array![0.5, 0.3, 0.2]);
        let (before, after) = (model.full_covariances(), sorted.full_covariances());
        for (new, old) in [2, 1, 0].into_iter().enumerate() {
            assert_eq!(after.index_axis(Axis(0), new), before.index_axis(Axis(0), old));
        }
        assert_eq!(sorted.sorted(), sorted);
    }
}

#[test]
fn features_are_reordered_with_everything_that_belongs_to_them() {
    for kind in CovarianceType::ALL {
        for d in [1, 3] {
            let model = model(kind, 2, d, 6);
            let order = &[2, 0, 1][3 - d..].iter().map(|j| j % d).collect::<Vec<usize>>();
            let features: Vec<String> = order.iter().map(|j| format!("x{j}")).collect();
            let other = model.reordered(&features, order);
            assert_eq!(other.features(), features);
            assert_eq!(other.covariances().dim(), model.covariances().dim());
            let (before, after) = (model.full_covariances(), other.full_covariances());
            for c in 0..2 {
                for i in 0..d {
                    assert_eq!(other.means()[[c, i]], model.means()[[c, order[i]]]);
                    for j in 0..d {
                        assert_eq!(after[[c, i, j]], before[[c, order[i], order[j]]]);
                    }
                }
            }
        }
    }
}

fn statistics(weight: [f64; 3]) -> Statistics {
    let mean = vec![1.0, 2.0, 3.0, 4.0, 7.0, 8.0];
    let scatter = vec![4.0, 1.0, 3.0, 2.0, 0.5, 2.0, 6.0, 0.0, 5.0];
    Statistics::from_parts((3, 2, Scatter::Full), weight.to_vec(), mean, scatter).unwrap()
}

#[test]
fn the_m_step_takes_weights_and_means_from_the_statistics() {
    let mut statistics = statistics([1.0, 2.0, 5.0]);
    (statistics.n_rows, statistics.total_weight, statistics.log_likelihood) = (7, 8.0, -3.0);
    let model = Model::maximize(&names(2), CovarianceType::Full, &statistics, 0.0, None).unwrap();
    assert_eq!(model.weights(), array![0.125, 0.25, 0.625]);
    assert_eq!(model.means(), array![[1.0, 2.0], [3.0, 4.0], [7.0, 8.0]]);
    assert_eq!(model.covariances().index_axis(Axis(0), 0), array![[4.0, 1.0], [1.0, 3.0]]);
    let expected = Training { n_rows: Some(7), total_weight: Some(8.0), ..Training::default() };
    assert_eq!(model.training, expected);
    for kind in CovarianceType::ALL {
        let m = Model::maximize(&names(2), kind, &statistics, 1e-6, None).unwrap();
        let again = Model::new(names(2), kind, m.weights.clone(), m.means.clone(), m.covariances.clone());
        assert_eq!(bits(again.unwrap().covariances()), bits(m.covariances()));
    }
}

#[test]
fn a_component_without_rows_stays_where_it_was() {
    let mut mean = vec![1.0, 2.0, 0.0, 0.0, 7.0, 8.0];
    let scatter = vec![4.0, 1.0, 3.0, 0.0, 0.0, 0.0, 6.0, 0.0, 5.0];
    let parts = (vec![1.0, 0.0, 3.0], mean.clone(), scatter);
    let statistics = Statistics::from_parts((3, 2, Scatter::Full), parts.0, parts.1, parts.2).unwrap();
    let pooled = array![[2.5, 0.25], [0.25, 2.0]];
    let before = model(CovarianceType::Full, 3, 2, 3);
    let stays: Vec<f64> = before.means().row(1).to_vec();
    let fewer = model(CovarianceType::Full, 2, 2, 3);
    let of_all_rows = vec![5.5, 6.5];
    for (previous, expected) in [(Some(&before), &stays), (None, &of_all_rows), (Some(&fewer), &of_all_rows)]
    {
        let made = Model::maximize(&names(2), CovarianceType::Full, &statistics, 0.0, previous).unwrap();
        mean[2..4].copy_from_slice(expected);
        assert_all_close(made.means(), &mean, 1e-15);
        assert_eq!(made.covariances().index_axis(Axis(0), 1), pooled);
        assert_eq!(made.weights(), array![0.25, 0.0, 0.75]);
        assert!(made.density().is_ok());
    }
}

#[test]
fn statistics_that_weigh_nothing_make_no_model() {
    let error = Model::maximize(&names(2), CovarianceType::Full, &statistics([0.0; 3]), 0.0, None);
    assert_eq!(error.unwrap_err(), Error::NoWeight { total_weight: 0.0 });
    let huge = Model::maximize(&names(2), CovarianceType::Full, &statistics([f64::MAX; 3]), 0.0, None);
    assert_eq!(huge.unwrap_err(), Error::Overflow);
}

#[test]
fn components_are_the_same_in_any_order() {
    for kind in CovarianceType::ALL {
        let (a, b) = (model(kind, 3, 2, 5), model(kind, 3, 2, 6));
        assert!(
            a.has_components_of(&a) && a.has_components_of(&a.sorted()) && a.sorted().has_components_of(&a)
        );
        assert!(!a.has_components_of(&b) && !a.has_components_of(&model(kind, 2, 2, 5)));
        let mut means = a.means().clone();
        means[[2, 1]] += 1e-9;
        let moved = Model::new(names(2), kind, a.weights().clone(), means, a.covariances().clone()).unwrap();
        assert!(!a.has_components_of(&moved));
    }
}

#[test]
fn models_are_near_whatever_the_order_of_their_components() {
    for kind in CovarianceType::ALL {
        let a = model(kind, 3, 2, 5);
        let with = |shift: f64, factor: f64| {
            let mut means = a.means().clone();
            let deviation = a.full_covariances()[[1, 0, 0]].sqrt();
            means[[1, 0]] += shift * deviation;
            let covariances = a.covariances() * factor;
            Model::new(names(2), kind, a.weights().clone(), means, covariances).unwrap().sorted()
        };
        assert!(a.is_near(&a) && a.is_near(&with(0.19, 1.0)) && a.is_near(&with(0.0, 1.3)));
        assert!(!a.is_near(&with(-0.21, 1.0)) && !a.is_near(&with(0.0, 1.5)) && !a.is_near(&with(0.0, 0.5)));
        assert!(!a.is_near(&model(kind, 2, 2, 5)) && !a.is_near(&model(kind, 3, 2, 6)));
    }
}

#[test]
fn the_threads_of_a_pool_make_the_same_bits_of_large_covariances() {
    // Ten rows a component: all its covariances are singular and clipped.
    let (k, d) = (4, 45);
    assert!(team::is_worth(k, factor_work(d)));
    let rows = whole_weights(sample(10 * k, d, 3));
    let component: Vec<Option<u32>> = (0..10 * k).map(|i| Some((i % k) as u32)).collect();
    let statistics =
        Pass::SEQUENTIAL.assigned(&rows, &Labels { k, component: &component }, Scatter::Full).unwrap();
    let made = || {
        let model = Model::maximize(&names(d), CovarianceType::Full, &statistics, 1e-3, None).unwrap();
        let density = model.density().unwrap();
        let log_dets: Vec<f64> = (0..k).map(|c| density.half_log_det(c)).collect();
        let again = Pass::SEQUENTIAL.e_step(&rows, &density, Scatter::Full).unwrap();
        (model, bits(&log_dets), again)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(made), made());
}

#[test]
fn the_first_of_several_singular_components_is_named_by_all_threads() {
    let (k, d) = (8, 33);
    let mut covariances = Array3::from_shape_fn((k, d, d), |(_, i, j)| f64::from(i == j));
    for c in [3, 5, 7] {
        covariances[[c, c, c]] = 0.0;
    }
    let (weights, means) = (Array1::from_elem(k, 1.0 / k as f64), Array2::zeros((k, d)));
    let model = Model::new(names(d), CovarianceType::Full, weights, means, covariances).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let error = || model.density().unwrap_err();
    let expected = Error::NotPositiveDefinite { component: 3, feature: names(d)[3].clone() };
    assert_eq!((error(), pool.install(error)), (expected.clone(), expected));
}
