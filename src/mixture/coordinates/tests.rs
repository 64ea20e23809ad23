use super::*;
use crate::mixture::covariance::CovarianceType;
use crate::mixture::statistics::{Scatter, Statistics};
use crate::mixture::testing::{assert_all_close, assert_close, model, names};

fn no_floor(d: usize) -> Floor {
    Floor::new(&Statistics::new(1, d, Scatter::Diagonal), 0.0)
}

fn moved(coordinates: &Coordinates, point: &[f64], like: &Model) -> Option<Model> {
    coordinates.model(point, &no_floor(like.d()), like).map(|(model, _)| model)
}

#[test]
fn coordinates_and_models_are_each_others_inverse() {
    for kind in CovarianceType::ALL {
        for d in [1, 2, 5] {
            let (reference, other) = (model(kind, 3, d, 1), model(kind, 3, d, 2));
            let coordinates = Coordinates::about(&reference).unwrap();
            let point = coordinates.of(&other).unwrap();
            assert_eq!(point.len(), 3 + 3 * d + kind.structure().n_parameters(3, d));
            let back = moved(&coordinates, &point, &reference).unwrap();
            assert_all_close(back.weights(), other.weights(), 1e-12);
            assert_all_close(back.means(), other.means(), 1e-12);
            assert_all_close(back.covariances(), other.covariances(), 1e-11);
            assert!(coordinates.farthest(&coordinates.of(&reference).unwrap()) < 1e-12);
            assert!(coordinates.farthest(&point) > 0.1);
        }
    }
}

#[test]
fn any_point_is_a_model() {
    for kind in CovarianceType::ALL {
        let reference = model(kind, 2, 3, 1);
        let coordinates = Coordinates::about(&reference).unwrap();
        let len = coordinates.of(&reference).unwrap().len();
        let point: Vec<f64> = (0..len).map(|i| 3.0 * ((i * i) as f64).sin()).collect();
        let found = moved(&coordinates, &point, &reference).unwrap();
        assert_close(found.weights().sum(), 1.0, 1e-14);
        assert_eq!(moved(&coordinates, &vec![1e6; len], &reference), None);
        assert_eq!(moved(&coordinates, &point[1..], &reference), None);
    }
}

#[test]
fn a_model_of_another_shape_has_no_coordinates() {
    for kind in CovarianceType::ALL {
        let reference = model(kind, 3, 4, 1);
        let coordinates = Coordinates::about(&reference).unwrap();
        let point = coordinates.of(&reference).unwrap();
        let others = CovarianceType::ALL.into_iter().filter(|other| *other != kind);
        let others = others.map(|other| model(other, 3, 4, 1));
        for other in others.chain([model(kind, 2, 4, 1), model(kind, 3, 3, 1), model(kind, 4, 3, 1)]) {
            assert_eq!(coordinates.of(&other), None, "{kind:?}");
            assert_eq!(moved(&coordinates, &point, &other), None, "{kind:?}");
        }
    }
}

#[test]
fn units_of_the_features_do_not_show() {
    let scaled = |model: &Model, factors: [f64; 2]| {
        let mut covariances = model.covariances().clone();
        for ((_, i, j), value) in covariances.indexed_iter_mut() {
            *value *= factors[i] * factors[j];
        }
        let means = model.means() * &ndarray::arr1(&factors);
        let kind = model.covariance_type();
        Model::new(names(2), kind, model.weights().clone(), means, covariances).unwrap()
    };
    let (a, b) = (model(CovarianceType::Full, 3, 2, 1), model(CovarianceType::Full, 3, 2, 2));
    let factors = [1e9, 1e-7];
    let plain = Coordinates::about(&a).unwrap().of(&b).unwrap();
    let other = Coordinates::about(&scaled(&a, factors)).unwrap().of(&scaled(&b, factors)).unwrap();
    assert_all_close(&plain, &other, 1e-12);
}

#[test]
fn a_distance_is_the_loss_of_the_complete_log_likelihood() {
    // Of one component over two features: KL(N(0, I) ‖ N(μ, Σ)) to second order.
    let reference = Model::new(
        names(2),
        CovarianceType::Full,
        ndarray::arr1(&[1.0]),
        ndarray::arr2(&[[0.0, 0.0]]),
        ndarray::arr3(&[[[1.0, 0.0], [0.0, 1.0]]]),
    );
    let reference = reference.unwrap();
    let coordinates = Coordinates::about(&reference).unwrap();
    let point = [0.0, 1e-3, -2e-3, 3e-3, 1e-3, -2e-3];
    let other = moved(&coordinates, &point, &reference).unwrap();
    let s = other.covariances();
    let det = s[[0, 0, 0]] * s[[0, 1, 1]] - s[[0, 0, 1]].powi(2);
    let (m, n) = (other.means()[[0, 0]], other.means()[[0, 1]]);
    let quadratic =
        (s[[0, 1, 1]] * (1.0 + m * m) + s[[0, 0, 0]] * (1.0 + n * n) - 2.0 * s[[0, 0, 1]] * m * n) / det;
    let divergence = 0.5 * (quadratic - 2.0 + det.ln());
    let half = 0.5 * point.iter().map(|x| x * x).sum::<f64>();
    assert!((divergence / half - 1.0).abs() < 0.01, "{divergence} {half}");
}

#[test]
fn components_of_weight_zero_have_no_say() {
    let plain = model(CovarianceType::Diag, 2, 2, 1);
    let weights = ndarray::arr1(&[1.0, 0.0]);
    let dead = Model::new(
        names(2),
        CovarianceType::Diag,
        weights,
        plain.means().clone(),
        plain.covariances().clone(),
    );
    let dead = dead.unwrap();
    let coordinates = Coordinates::about(&dead).unwrap();
    let point = coordinates.of(&dead).unwrap();
    assert_eq!(moved(&coordinates, &point, &dead).unwrap().weights().to_vec(), [1.0, 0.0]);
    // But a component that lost its weight has left the chart of one that had some.
    assert_eq!(Coordinates::about(&plain).unwrap().of(&dead), None);
}
