use std::sync::atomic::AtomicBool;

use ndarray::{Array1, Array2, Array3};

use super::*;
use crate::mixture::assembly::Assembly;
use crate::mixture::covariance::CovarianceType::{self, Full, Tied};
use crate::mixture::pass::{Pass, Summand};
use crate::mixture::rows::Sample;
use crate::mixture::statistics::Scatter;
use crate::mixture::testing::{assert_all_close, assert_close, loaded, model, names, sample, spread_out};

/// `ln w N(x; μ, Σ)` by Gaussian elimination on `[Σ | x − μ]`.
fn log_normal(weight: f64, mean: &[f64], covariance: &Array2<f64>, x: &[f64]) -> f64 {
    let d = x.len();
    let difference: Vec<f64> = x.iter().zip(mean).map(|(x, m)| x - m).collect();
    let (mut a, mut y) = (covariance.clone(), difference.clone());
    let mut log_det = 0.0;
    for i in 0..d {
        log_det += a[[i, i]].ln();
        for r in i + 1..d {
            let f = a[[r, i]] / a[[i, i]];
            y[r] -= f * y[i];
            for j in i..d {
                a[[r, j]] -= f * a[[i, j]];
            }
        }
    }
    for i in (0..d).rev() {
        let known: f64 = (i + 1..d).map(|j| a[[i, j]] * y[j]).sum();
        y[i] = (y[i] - known) / a[[i, i]];
    }
    let distance: f64 = y.iter().zip(&difference).map(|(y, x)| y * x).sum();
    weight.ln() - 0.5 * (d as f64 * (2.0 * std::f64::consts::PI).ln() + log_det + distance)
}

fn naive_joint(model: &Model, x: &[f64]) -> Vec<f64> {
    let covariances = model.full_covariances();
    let component = |(c, covariance): (usize, ndarray::ArrayView2<f64>)| {
        log_normal(model.weights()[c], &model.means().row(c).to_vec(), &covariance.to_owned(), x)
    };
    covariances.outer_iter().enumerate().map(component).collect()
}

fn row(sample: &Sample, i: usize) -> Vec<f64> {
    sample.columns.iter().map(|column| column[i]).collect()
}

fn lanes(block: &Block, i: usize) -> Vec<f64> {
    (0..block.k()).map(|c| block.component(c)[i]).collect()
}

/// The same with `common · 11ᵀ` added to the covariances: all features go with each other.
fn collinear(model: &Model, common: f64) -> Model {
    let covariances = model.covariances().mapv(|s| s + common);
    let (features, weights) = (model.features().to_vec(), model.weights().clone());
    Model::new(features, model.covariance_type(), weights, model.means().clone(), covariances).unwrap()
}

#[test]
fn differences_from_one_origin_do_as_well_as_those_from_each_mean() {
    let shapes = [(7, 8), (8, 20), (30, 9), (51, 16)];
    for (kind, (d, k)) in [Full, Tied].into_iter().flat_map(|kind| shapes.map(|shape| (kind, shape))) {
        let apart = model(kind, k, d, 3);
        assert!(spread_out(&apart, 10.0).density().unwrap().origin.is_none());
        // Means lie up to three deviations of a feature from the origin, and deviations are up to 1e4 times those of
        // what features do not have in common.
        for (spread, common, tolerance) in [(0.2, 0.0, 1e-13), (400.0, 1e6, 1e-11), (4e3, 1e8, 1e-10)] {
            let near = collinear(&spread_out(&apart, spread), common);
            let mut rows = sample(300, d, 5);
            for (i, j) in (0..300).flat_map(|i| (0..d).map(move |j| (i, j))) {
                rows.columns[j][i] += near.means()[[i % k, j]] + common.sqrt() * (i as f64).sin();
            }
            let density = near.density().unwrap();
            assert!(density.origin.is_some(), "{kind:?} {d} {k} {spread}");
            let each = Density { origin: None, ..density.clone() };
            let (mut one, mut other) = (loaded(&rows, k), loaded(&rows, k));
            density.log_joint(&mut one);
            each.log_joint(&mut other);
            assert_ne!(one.component(0), other.component(0));
            for c in 0..k {
                assert_all_close(one.component(c), other.component(c), tolerance);
            }
        }
    }
}

#[test]
fn whole_numbers_lie_as_far_from_an_origin_as_from_each_mean() {
    let (d, k) = (9, 11);
    let whole = |i: usize| ((i * i * 7 + i * 3) % 5) as f64 - 2.0;
    let means = Array2::from_shape_fn((k, d), |(c, j)| whole(c * d + j));
    let covariances = Array3::from_shape_fn((k, d, d), |(_, i, j)| f64::from(u8::from(i == j)));
    let weights = Array1::from_elem(k, 1.0 / k as f64);
    let model = Model::new(names(d), Full, weights, means, covariances).unwrap();
    let rows = Sample {
        columns: (0..d).map(|j| (j..j + 100).map(whole).collect()).collect(),
        weight: vec![1.0; 100],
    };
    let density = model.density().unwrap();
    assert!(density.origin.is_some());
    let (mut one, mut other) = (loaded(&rows, k), loaded(&rows, k));
    density.log_joint(&mut one);
    Density { origin: None, ..density }.log_joint(&mut other);
    for c in 0..k {
        assert_eq!(one.component(c), other.component(c));
    }
}

#[test]
fn means_whose_squares_overflow_have_no_origin() {
    let (d, k) = (8, 8);
    let means = Array2::from_shape_fn((k, d), |(c, _)| c as f64 * 1e200);
    let covariances = Array3::from_shape_fn((1, d, d), |(_, i, j)| if i == j { 1.5e307 } else { 0.0 });
    let model = Model::new(names(d), Tied, Array1::from_elem(k, 0.125), means, covariances).unwrap();
    assert!(model.density().unwrap().origin.is_none());
}

#[test]
fn the_e_step_is_the_formula() {
    for kind in CovarianceType::ALL {
        for (d, k) in [1, 2, 3, 7, 30].into_iter().flat_map(|d| [1, 2, 20].map(|k| (d, k))) {
            let (model, rows) = (model(kind, k, d, 3), sample(37, d, 5));
            let density = model.density().unwrap();
            let (mut joint, mut posterior, mut log_posterior) =
                (loaded(&rows, k), loaded(&rows, k), loaded(&rows, k));
            density.log_joint(&mut joint);
            density.responsibilities(&mut posterior);
            density.log_responsibilities(&mut log_posterior);
            for i in 0..37 {
                let expected = naive_joint(&model, &row(&rows, i));
                assert_all_close(&lanes(&joint, i), &expected, 1e-12);
                let largest = expected.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let log_density = largest + expected.iter().map(|j| (j - largest).exp()).sum::<f64>().ln();
                assert_close(posterior.log_density()[i], log_density, 1e-12);
                assert_close(log_posterior.log_density()[i], log_density, 1e-12);
                let logs: Vec<f64> = expected.iter().map(|j| j - log_density).collect();
                let r: Vec<f64> = logs.iter().map(|l| l.exp()).collect();
                assert_all_close(&lanes(&log_posterior, i), &logs, 1e-12);
                assert_all_close(&lanes(&posterior, i), &r, 1e-11);
                assert_close(lanes(&posterior, i).iter().sum(), 1.0, 1e-14);
                let entropy = -r.iter().zip(&logs).map(|(r, l)| r * l).sum::<f64>();
                assert_close(posterior.entropy[i], entropy, 1e-11);
            }
        }
    }
}

#[test]
fn far_points_keep_their_density_and_belong_to_one_component() {
    for kind in CovarianceType::ALL {
        let model = model(kind, 3, 4, 1);
        let rows = Sample { columns: vec![vec![1e6, -3e6]; 4], weight: vec![1.0; 2] };
        let mut block = loaded(&rows, 3);
        model.density().unwrap().responsibilities(&mut block);
        for i in 0..2 {
            let joint = naive_joint(&model, &row(&rows, i));
            let largest = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_close(block.log_density()[i], largest, 1e-12);
            let r: Vec<f64> = joint.iter().map(|j| f64::from(*j == largest)).collect();
            assert_eq!(lanes(&block, i), r);
            assert_eq!(block.entropy[i], 0.0);
        }
    }
}

fn weightless_second(kind: CovarianceType) -> Model {
    let model = model(kind, 3, 2, 2);
    let weights = Array1::from_vec(vec![0.25, 0.0, 0.75]);
    Model::new(names(2), kind, weights, model.means().clone(), model.covariances().clone()).unwrap()
}

#[test]
fn a_component_of_weight_zero_has_no_say_however_far_the_row() {
    let values = vec![0.0, 1.0, 1e10, 1e150, 1e200, -1e308, f64::MAX];
    let n = values.len();
    for kind in CovarianceType::ALL {
        let rows = Sample { columns: vec![values.clone(), values.clone()], weight: vec![1.0; n] };
        let mut density = weightless_second(kind).density().unwrap();
        for level in Level::all() {
            density.level = level;
            let mut block = loaded(&rows, 3);
            density.log_joint(&mut block);
            assert!(block.component(1).iter().all(|j| *j == f64::NEG_INFINITY));
            density.responsibilities(&mut block);
            for (i, x) in values.iter().enumerate() {
                let r = lanes(&block, i);
                assert_eq!(r[1], 0.0, "{kind:?} {x}");
                assert_close(r[0] + r[2], 1.0, 1e-15);
                assert!(block.log_density()[i].is_finite() && block.entropy[i].is_finite());
                assert!(block.entropy[i] >= -1e-15);
            }
        }
        let mut block = loaded(&rows, 3);
        density.log_responsibilities(&mut block);
        assert!(block.component(1).iter().all(|l| *l == f64::NEG_INFINITY));
        assert!(block.component(0).iter().chain(block.component(2)).all(|l| *l <= 0.0));
    }
}

#[test]
fn rows_beyond_every_density_go_to_the_nearest_component() {
    let values = [1e155, -1e200, 1e300, f64::MAX];
    for kind in CovarianceType::ALL {
        let d = 3;
        let rows = Sample { columns: vec![values.to_vec(); d], weight: vec![1.0; 4] };
        let model = model(kind, 4, d, 6);
        let density = model.density().unwrap();
        let (mut posterior, mut log_posterior) = (loaded(&rows, 4), loaded(&rows, 4));
        density.responsibilities(&mut posterior);
        density.log_responsibilities(&mut log_posterior);
        // Where covariances are shared, the rows are equally far from all components.
        let shared = kind == CovarianceType::Tied;
        let smallest = |c: &usize| -naive_joint(&model, &[1e10; 3])[*c];
        let nearest = (0..4).min_by(|a, b| smallest(a).total_cmp(&smallest(b))).unwrap();
        for i in 0..4 {
            let r = lanes(&posterior, i);
            if shared {
                assert_close(r.iter().sum(), 1.0, 1e-15);
                continue;
            }
            let alone: Vec<f64> = (0..4).map(|c| f64::from(c == nearest)).collect();
            assert_eq!(r, alone, "{kind:?} {i}");
            let logs = lanes(&log_posterior, i);
            assert_eq!(logs[nearest], 0.0);
            assert!((0..4).all(|c| c == nearest || (logs[c].is_finite() && logs[c] < LOWEST)));
            assert_eq!((posterior.log_density()[i], posterior.entropy[i]), (LOWEST, 0.0));
        }
    }
}

#[test]
fn opposite_overflows_are_no_nan() {
    let full = ndarray::array![[[1.0, -0.9], [-0.9, 1.0]]];
    let wide = Array3::from_elem((1, 1, 1), 1e-300);
    for (kind, covariances) in [(CovarianceType::Full, full), (CovarianceType::Spherical, wide)] {
        let means = Array2::from_elem((1, 2), -1e308);
        let model = Model::new(names(2), kind, Array1::ones(1), means, covariances).unwrap();
        let rows = Sample { columns: vec![vec![1e308], vec![1e308]], weight: vec![1.0] };
        for level in Level::all() {
            let (mut density, mut block) = (model.density().unwrap(), loaded(&rows, 1));
            density.level = level;
            density.responsibilities(&mut block);
            assert_eq!((block.log_density()[0], block.component(0)[0]), (LOWEST, 1.0));
        }
    }
}

#[test]
fn instruction_sets_agree() {
    let shapes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 30].map(|d| (CovarianceType::Full, d, 5));
    let others = CovarianceType::ALL.into_iter().zip([(7, 5), (30, 3), (5, 20), (2, 2)]);
    for (kind, d, k) in shapes.into_iter().chain(others.map(|(kind, (d, k))| (kind, d, k))) {
        let (mut density, rows) = (model(kind, k, d, 11).density().unwrap(), sample(65, d, 12));
        let mut run = |level: Level| {
            density.level = level;
            let (mut joint, mut block, mut log) = (loaded(&rows, k), loaded(&rows, k), loaded(&rows, k));
            density.log_joint(&mut joint);
            density.responsibilities(&mut block);
            density.log_responsibilities(&mut log);
            [
                &joint.responsibilities,
                &block.responsibilities,
                &log.responsibilities,
                &block.log_density,
                &block.entropy,
            ]
            .map(|lanes| lanes.to_vec())
        };
        let scalar = run(Level::all()[0]);
        for level in Level::all() {
            for (other, scalar) in run(level).iter().zip(&scalar) {
                assert_all_close(other, scalar, 1e-12);
            }
        }
    }
}

#[test]
fn negligible_responsibilities_change_no_moment() {
    for (d, k) in [(1, 3), (2, 20), (5, 4), (30, 6)] {
        let model = model(CovarianceType::Full, k, d, 3);
        let rows = sample(700, d, 5);
        let density = model.density().unwrap();
        let (mut all, mut effective) = (loaded(&rows, k), loaded(&rows, k));
        density.responsibilities(&mut all);
        density.shares(&mut effective);
        for i in 0..700 {
            assert_close(effective.log_density()[i], all.log_density()[i], 1e-15);
            assert_close(effective.entropy[i], all.entropy[i], 1e-14);
            for (c, (some, all)) in lanes(&effective, i).into_iter().zip(lanes(&all, i)).enumerate() {
                let (share, expected) = (some * effective.scale[i], all * rows.weight[i]);
                let negligible = share == 0.0 && all <= 1e-17 * model.weights()[c];
                assert!(
                    negligible || (share / expected - 1.0).abs() < 4.0 * f64::EPSILON,
                    "{share} {expected}"
                );
            }
        }
    }
}

/// Weight, mean and covariance of each component by the responsibilities of all rows.
fn naive_moments(density: &Density, rows: &Sample) -> Vec<(f64, Vec<f64>, Array2<f64>)> {
    let (n, d) = (rows.weight.len(), rows.columns.len());
    let mut block = loaded(rows, density.k());
    density.responsibilities(&mut block);
    let moments = |c: usize| {
        let shares: Vec<f64> = (0..n).map(|i| block.component(c)[i] * rows.weight[i]).collect();
        let weight: f64 = shares.iter().sum();
        let mean_of = |f: &dyn Fn(usize) -> f64| (0..n).map(|i| shares[i] / weight * f(i)).sum::<f64>();
        let mean: Vec<f64> = rows.columns.iter().map(|x| mean_of(&|i| x[i])).collect();
        let entry = |(a, b): (usize, usize)| {
            mean_of(&|i| (rows.columns[a][i] - mean[a]) * (rows.columns[b][i] - mean[b]))
        };
        let covariance = Array2::from_shape_fn((d, d), entry);
        (weight, mean, covariance)
    };
    (0..density.k()).map(moments).collect()
}

#[test]
fn components_far_from_all_rows_keep_what_little_they_have() {
    let mut gained = 0;
    for (d, k, far) in [(1, 2, 0), (3, 5, 1), (9, 4, 2), (30, 12, 3), (2, 60, 0)] {
        let near = model(CovarianceType::Full, k, d, 3);
        for away in [10.0, 14.0, 30.0] {
            let mut means = near.means().clone();
            means.row_mut(far).fill(away);
            let (features, weights, covariances) =
                (near.features().to_vec(), near.weights().clone(), near.covariances().clone());
            let model = Model::new(features, CovarianceType::Full, weights, means, covariances).unwrap();
            let density = model.density().unwrap();
            let rows = sample(500, d, 5);
            let statistics = Pass::SEQUENTIAL.e_step(&rows, &density, Scatter::Full).unwrap();
            let (assembly, never) = (Assembly::new(k, d, Scatter::Full), AtomicBool::new(false));
            assembly.absorb(&rows, 0, &Summand::expected(&density), &never).unwrap();
            let once = assembly.finish(&Summand::expected(&density)).unwrap();
            assert!(lacks_weight(&model, &once), "{d}, {k}, {away}");
            gained += usize::from(once != statistics);
            for (c, (weight, mean, covariance)) in naive_moments(&density, &rows).into_iter().enumerate() {
                // Below this, products of shares are no longer accurate.
                if weight < 1e-290 {
                    continue;
                }
                assert!((statistics.weight()[c] / weight - 1.0).abs() < 1e-11, "{d}, {k}, {away}: {c}");
                assert_all_close(&statistics.mean()[c * d..][..d], &mean, 1e-11);
                for ((a, b), expected) in covariance.indexed_iter() {
                    let scale = (covariance[[a, a]] * covariance[[b, b]]).sqrt();
                    let found = statistics.scatter_entry(c, a, b) / statistics.weight()[c];
                    assert!((found - expected).abs() <= 1e-9 * scale, "{d}, {k}, {away}: {found} {expected}");
                }
            }
        }
    }
    assert!(gained >= 10, "{gained} of 15");
}

#[test]
fn a_used_block_is_as_good_as_a_new_one() {
    let density = model(CovarianceType::Full, 4, 3, 7).density().unwrap();
    let (long, short) = (sample(100, 3, 1), sample(33, 3, 2));
    let mut fresh = loaded(&short, 4);
    density.responsibilities(&mut fresh);
    let mut used = loaded(&long, 4);
    density.responsibilities(&mut used);
    used.load(&short, 0, 33, 4);
    density.responsibilities(&mut used);
    for c in 0..4 {
        assert_eq!(used.component(c), fresh.component(c));
    }
    assert_eq!(used.log_density(), fresh.log_density());
    assert!(used.weight()[33..].iter().all(|w| *w == 0.0));
}

#[test]
fn a_singular_covariance_is_named() {
    let covariances = ndarray::array![[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]];
    let means = Array2::zeros((2, 2));
    let model = Model::new(names(2), CovarianceType::Full, Array1::from_elem(2, 0.5), means, covariances);
    let expected = Error::NotPositiveDefinite { component: 1, feature: "x1".into() };
    assert_eq!(model.unwrap().density().unwrap_err(), expected);
    let zero = Array3::from_shape_vec((1, 1, 2), vec![1.0, 0.0]).unwrap();
    let model = Model::new(names(2), CovarianceType::Diag, Array1::ones(1), Array2::zeros((1, 2)), zero);
    let expected = Error::NotPositiveDefinite { component: 0, feature: "x1".into() };
    assert_eq!(model.unwrap().density().unwrap_err(), expected);
}

#[test]
fn scores_alone_are_those_of_the_e_step() {
    let mut rows = sample(77, 3, 5);
    let far = [1e6, -1e155, f64::MAX];
    for column in &mut rows.columns {
        column[..3].copy_from_slice(&far);
    }
    for (kind, k) in CovarianceType::ALL.into_iter().flat_map(|kind| [1, 2, 20].map(|k| (kind, k))) {
        let mut density = model(kind, k, 3, 8).density().unwrap();
        for level in Level::all() {
            density.level = level;
            let (mut whole, mut alone, mut joint) = (loaded(&rows, k), loaded(&rows, k), loaded(&rows, k));
            density.responsibilities(&mut whole);
            density.log_density(&mut alone);
            assert_eq!(alone.log_density(), whole.log_density());
            density.log_joint(&mut joint);
            let mut labels = vec![u32::MAX; 77];
            density.most_probable(&mut loaded(&rows, k), &mut labels);
            for (i, label) in labels.into_iter().enumerate() {
                let lanes = lanes(&joint, i);
                let largest = lanes.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                assert_eq!(
                    lanes.iter().position(|l| *l == largest),
                    Some(label as usize),
                    "{level:?} row {i}"
                );
            }
        }
    }
}

#[test]
fn of_equal_components_the_first_is_the_most_probable() {
    let equal = |k| {
        let (weights, means) = (Array1::from_elem(k, 1.0 / k as f64), Array2::zeros((k, 1)));
        Model::new(names(1), CovarianceType::Full, weights, means, Array3::ones((k, 1, 1))).unwrap()
    };
    let mut labels = vec![u32::MAX; 37];
    equal(5).density().unwrap().most_probable(&mut loaded(&sample(37, 1, 2), 5), &mut labels);
    assert_eq!(labels, [0; 37]);
}

#[test]
fn a_component_may_weigh_next_to_nothing() {
    let rows = sample(700, 2, 5);
    let of = |weight: f64| {
        let start = model(CovarianceType::Full, 2, 2, 3);
        let (features, kind) = (start.features().to_vec(), CovarianceType::Full);
        let (means, covariances) = (start.means().clone(), start.covariances().clone());
        let weights = Array1::from_vec(vec![1.0 - weight, weight]);
        let model = Model::new(features, kind, weights, means, covariances).unwrap();
        Pass::SEQUENTIAL.e_step(&rows, &model.density().unwrap(), Scatter::Full).unwrap()
    };
    let without = of(0.0);
    for weight in [1e-250, 1e-290, 1e-295, 1e-300, 5e-324] {
        let with = of(weight);
        with.check_finite().unwrap();
        assert_close(with.log_likelihood, without.log_likelihood, 1e-13);
        assert_close(with.weight()[0], 700.0, 1e-13);
        assert!((0.0..=1e-200).contains(&with.weight()[1]), "{weight:e}: {}", with.weight()[1]);
    }
}

#[test]
fn what_pads_a_block_keeps_no_component() {
    let (k, n) = (60, 90);
    let means = Array2::from_shape_fn((k, 2), |(c, _)| 1e6 + 100.0 * c as f64);
    let covariances = Array3::from_shape_fn((k, 2, 2), |(_, i, j)| f64::from(u8::from(i == j)));
    let weights = Array1::from_elem(k, 1.0 / k as f64);
    let model = Model::new(names(2), CovarianceType::Full, weights, means, covariances).unwrap();
    let density = model.density().unwrap();
    let rows = Sample { columns: vec![vec![1e6 + 1.0; n]; 2], weight: vec![1.0; n] };
    let (mut leaf, mut block) = (loaded(&rows, 0), Block::default());
    assert!(leaf.stride() > n);
    let mut seen = Vec::new();
    let nearby = Nearby::new(&density, By::Tree);
    nearby.for_each_block(&mut leaf, &mut block, |_, components| seen.extend_from_slice(components));
    assert_eq!(seen, [0]);
}
