//! The talk's M-step, 10,000 × 2 and k = 20, in its four styles and in ours: `cargo bench --bench talk`.

#![allow(clippy::unwrap_used)] // a benchmark that cannot run should stop

mod ours;
mod styles;

use divan::Bencher;
use ndarray::Array2;
use polars_gmm::mixture::Execution;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const N: usize = 10_000;
const D: usize = 2;
const K: usize = 20;

fn main() {
    divan::main();
}

/// Responsibilities and rows of no structure: an M-step costs the same whatever they are.
fn data() -> (Array2<f64>, Array2<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut responsibilities = Array2::from_shape_fn((N, K), |_| rng.random::<f64>());
    for mut row in responsibilities.outer_iter_mut() {
        let total = row.sum();
        row /= total;
    }
    (responsibilities, Array2::from_shape_fn((N, D), |_| rng.random()))
}

#[divan::bench(args = styles::STYLES.map(|(name, _)| name))]
fn style(bencher: Bencher, name: &str) {
    let (_, m_step) = styles::STYLES.into_iter().find(|(n, _)| *n == name).unwrap();
    let (responsibilities, rows) = data();
    bencher.bench(|| m_step(responsibilities.view(), rows.view()));
}

#[divan::bench]
fn ours_sequential(bencher: Bencher) {
    let (responsibilities, rows) = data();
    bencher.bench(|| ours::m_step(Execution::Sequential, responsibilities.view(), rows.view()).unwrap());
}

#[divan::bench]
fn ours_parallel(bencher: Bencher) {
    let (responsibilities, rows) = data();
    bencher.bench(|| ours::m_step(Execution::Parallel, responsibilities.view(), rows.view()).unwrap());
}
