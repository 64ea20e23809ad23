//! The talk's four M-steps over ndarray (benches/talk) and ours find the same mixture.

#[path = "../benches/talk/ours.rs"]
mod ours;
#[path = "../benches/talk/styles.rs"]
mod styles;

use ndarray::Array2;
use polars_gmm::mixture::Execution;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn largest_difference<'a>(a: impl IntoIterator<Item = &'a f64>, b: impl IntoIterator<Item = &'a f64>) -> f64 {
    a.into_iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

#[test]
fn styles_agree_with_ours() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (n, d, k) = (5000, 3, 4);
    let responsibilities = Array2::from_shape_fn((n, k), |_| rng.random::<f64>());
    let rows = Array2::from_shape_fn((n, d), |(_, j)| rng.random::<f64>() * (j + 1) as f64);
    for execution in [Execution::Sequential, Execution::Parallel] {
        let model = ours::m_step(execution, responsibilities.view(), rows.view()).unwrap();
        for (name, m_step) in styles::STYLES {
            let mixture = m_step(responsibilities.view(), rows.view());
            let covariances = model.full_covariances();
            assert_eq!(mixture.covariances.dim(), covariances.dim(), "{name}");
            assert!(largest_difference(&mixture.weights, model.weights()) < 1e-12, "{name}");
            assert!(largest_difference(&mixture.means, model.means()) < 1e-12, "{name}");
            assert!(largest_difference(&mixture.covariances, &covariances) < 1e-12, "{name}");
        }
    }
}
