//! Rows, models and comparisons for the tests of this folder.

use ndarray::{Array1, Array2, Array3};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::covariance::CovarianceType;
use super::model::Model;
use super::rows::{Block, Rows, Sample};

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn names(d: usize) -> Vec<String> {
    (0..d).map(|j| format!("x{j}")).collect()
}

/// `n` rows around three centers, all weights 1.
pub fn sample(n: usize, d: usize, seed: u64) -> Sample {
    let mut rng = rng(seed);
    let mut columns = vec![Vec::with_capacity(n); d];
    for i in 0..n {
        let common: f64 = rng.sample(StandardNormal);
        for (j, column) in columns.iter_mut().enumerate() {
            let center = 3.0 * ((i % 3 * (j + 1)) as f64).sin();
            column.push(center + 0.5 * common + rng.sample::<f64, _>(StandardNormal));
        }
    }
    Sample { columns, weight: vec![1.0; n] }
}

/// The same rows with small whole weights, among them zero.
pub fn whole_weights(mut sample: Sample) -> Sample {
    for (i, w) in sample.weight.iter_mut().enumerate() {
        *w = (i * i % 4) as f64;
    }
    sample
}

/// Every row as many times as it weighs.
pub fn repeated(sample: &Sample) -> Sample {
    let repeat = |column: &Vec<f64>| {
        let rows = column.iter().zip(&sample.weight);
        rows.flat_map(|(x, w)| std::iter::repeat_n(*x, *w as usize)).collect::<Vec<f64>>()
    };
    Sample {
        weight: vec![1.0; repeat(&sample.weight).len()],
        columns: sample.columns.iter().map(repeat).collect(),
    }
}

pub fn loaded(sample: &Sample, k: usize) -> Block {
    let mut block = Block::default();
    block.load(sample, 0, sample.n_rows(), k);
    block
}

/// A model of unequal weights and well-conditioned covariances that differ in every entry their type lets differ.
pub fn model(kind: CovarianceType, k: usize, d: usize, seed: u64) -> Model {
    let mut rng = rng(seed);
    let mut normal = || rng.sample::<f64, _>(StandardNormal);
    let mass = Array1::from_shape_fn(k, |c| 1.0 + c as f64);
    let means = Array2::from_shape_fn((k, d), |_| 2.0 * normal());
    let shape = kind.structure().shape(k, d);
    let mut covariances = Array3::from_shape_fn(shape, |_| 0.5 + normal().powi(2));
    if shape.1 == d {
        for mut matrix in covariances.outer_iter_mut() {
            let a = Array2::from_shape_fn((d, d), |_| normal());
            matrix.assign(&(a.dot(&a.t()) / d as f64 + Array2::<f64>::eye(d) * 0.3));
        }
    }
    Model::new(names(d), kind, &mass / mass.sum(), means, covariances).unwrap()
}

/// The same with means as many times farther from zero.
pub fn spread_out(model: &Model, times: f64) -> Model {
    let (features, weights) = (model.features().to_vec(), model.weights().clone());
    let (means, covariances) = (model.means() * times, model.covariances().clone());
    Model::new(features, model.covariance_type(), weights, means, covariances).unwrap()
}

/// Whether two numbers agree to `tol`, relative to the larger of them and 1.
#[track_caller]
pub fn assert_close(a: f64, b: f64, tol: f64) {
    let scale = a.abs().max(b.abs()).max(1.0);
    assert!((a - b).abs() <= tol * scale, "{a:e} and {b:e} differ by {:e}", (a - b).abs() / scale);
}

#[track_caller]
pub fn assert_all_close<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
    tol: f64,
) {
    let (a, b): (Vec<f64>, Vec<f64>) = (a.into_iter().copied().collect(), b.into_iter().copied().collect());
    assert_eq!(a.len(), b.len());
    for (a, b) in a.into_iter().zip(b) {
        assert_close(a, b, tol);
    }
}

pub fn bits<'a>(values: impl IntoIterator<Item = &'a f64>) -> Vec<u64> {
    values.into_iter().map(|v| v.to_bits()).collect()
}
