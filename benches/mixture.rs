//! The mathematics alone, by features d and components k: `cargo bench --no-default-features --bench mixture`.
//!
//! Rows per second, one thread, unless it says otherwise. `k` is in the name, `d` is the argument.

#![allow(clippy::unwrap_used)] // a benchmark that cannot run should stop

use divan::counter::ItemsCount;
use divan::Bencher;
use ndarray::{Array1, Array2, Array3};
use polars_gmm::mixture::rows::Sample;
use polars_gmm::mixture::shapes::block_rows;
use polars_gmm::mixture::statistics::{Accumulator, Scatter};
use polars_gmm::mixture::{Block, CovarianceType, Execution, Model, Pass};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

const D: [usize; 6] = [1, 2, 4, 8, 32, 128];
const K: [usize; 3] = [2, 16, 64];

/// Leaves of a thousand rows in a whole step.
const LEAVES: usize = 16;

fn main() {
    divan::main();
}

/// Components that share all rows: unit variances, means 1/√d apart.
fn overlapping(k: usize, d: usize) -> Model {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let spread = 1.0 / (d as f64).sqrt();
    let means = Array2::from_shape_fn((k, d), |_| spread * rng.sample::<f64, _>(StandardNormal));
    let covariances = Array3::from_shape_fn((k, d, d), |(_, i, j)| f64::from(u8::from(i == j)));
    let features = (0..d).map(|j| format!("x{j}")).collect();
    let weights = Array1::from_elem(k, 1.0 / k as f64);
    Model::new(features, CovarianceType::Full, weights, means, covariances).unwrap()
}

fn rows(n: usize, d: usize) -> Sample {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let columns = (0..d).map(|_| (0..n).map(|_| rng.sample(StandardNormal)).collect()).collect();
    Sample { columns, weight: vec![1.0; n] }
}

/// A block of rows, as a pass loads it.
fn block(k: usize, d: usize) -> (usize, Block) {
    let n = block_rows(d, k);
    let mut block = Block::default();
    block.load(&rows(n, d), 0, n, k);
    (n, block)
}

#[divan::bench(args = D, consts = K)]
fn e_step<const K: usize>(bencher: Bencher, d: usize) {
    let density = overlapping(K, d).density().unwrap();
    let (n, mut block) = block(K, d);
    bencher.counter(ItemsCount::new(n)).bench_local(|| density.shares(&mut block));
}

#[divan::bench(args = D, consts = K)]
fn moments<const K: usize>(bencher: Bencher, d: usize) {
    let density = overlapping(K, d).density().unwrap();
    let (n, mut block) = block(K, d);
    density.shares(&mut block);
    let counted = bencher.counter(ItemsCount::new(n));
    let mut sums = Accumulator::new(K, d, Scatter::Full);
    sums.begin(&density.guess());
    counted.bench_local(|| sums.absorb(&block));
}

fn em_step(bencher: Bencher, execution: Execution, k: usize, d: usize) {
    let (n, model) = (LEAVES * 1024, overlapping(k, d));
    let rows = rows(n, d);
    let pass = Pass { execution, ..Pass::SEQUENTIAL };
    bencher.counter(ItemsCount::new(n)).bench_local(|| {
        let statistics = pass.e_step(&rows, &model.density().unwrap(), Scatter::Full).unwrap();
        let (features, kind) = (model.features(), model.covariance_type());
        Model::maximize(features, kind, &statistics, 1e-6, Some(&model)).unwrap()
    });
}

/// Factors, E-step, moments, M-step.
#[divan::bench(args = D, consts = K)]
fn whole_step<const K: usize>(bencher: Bencher, d: usize) {
    em_step(bencher, Execution::Sequential, K, d);
}

/// The same on all threads.
#[divan::bench(args = D, consts = K)]
fn whole_step_parallel<const K: usize>(bencher: Bencher, d: usize) {
    em_step(bencher, Execution::Parallel, K, d);
}
