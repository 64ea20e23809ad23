//! One M-step, four ways to write it over ndarray: those of the talk this project starts from.
//!
//! ```text
//! W_c = Σ_i r_ic,   μ_c = Σ_i r_ic x_i / W_c,   Σ_c = Σ_i r_ic (x_i − μ_c)(x_i − μ_c)ᵀ / W_c,   π_c = W_c / Σ W
//! ```
//!
//! (S. Ulbrich, "The Rust and the Python", PyConDE & PyData Berlin 2024.)

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

/// What an M-step finds: weights k, means k × d, covariances k × d × d.
pub struct Mixture {
    /// π, which add up to 1.
    pub weights: Array1<f64>,
    /// μ.
    pub means: Array2<f64>,
    /// Σ.
    pub covariances: Array3<f64>,
}

/// An M-step from responsibilities (n × k) and rows (n × d).
pub type MStep = fn(ArrayView2<f64>, ArrayView2<f64>) -> Mixture;

/// The styles by name.
pub const STYLES: [(&str, MStep); 4] =
    [("indexed", indexed), ("iterators", iterators), ("functional", functional), ("parallel", parallel)];

/// As one would write it in C.
pub fn indexed(responsibilities: ArrayView2<f64>, rows: ArrayView2<f64>) -> Mixture {
    let ((n, k), d) = (responsibilities.dim(), rows.ncols());
    let mut weights = Array1::<f64>::zeros(k);
    let mut means = Array2::<f64>::zeros((k, d));
    let mut covariances = Array3::<f64>::zeros((k, d, d));
    for c in 0..k {
        for i in 0..n {
            weights[c] += responsibilities[[i, c]];
            for j in 0..d {
                means[[c, j]] += responsibilities[[i, c]] * rows[[i, j]];
            }
        }
        for j in 0..d {
            means[[c, j]] /= weights[c];
        }
        for i in 0..n {
            for j in 0..d {
                for l in 0..d {
                    let product = (rows[[i, j]] - means[[c, j]]) * (rows[[i, l]] - means[[c, l]]);
                    covariances[[c, j, l]] += responsibilities[[i, c]] * product / weights[c];
                }
            }
        }
    }
    let total = weights.sum();
    Mixture { weights: weights / total, means, covariances }
}

/// Rows and responsibilities zipped, so that no index is checked.
pub fn iterators(responsibilities: ArrayView2<f64>, rows: ArrayView2<f64>) -> Mixture {
    let (k, d) = (responsibilities.ncols(), rows.ncols());
    let weights = responsibilities.sum_axis(Axis(0));
    let mut means = responsibilities.t().dot(&rows);
    let mut covariances = Array3::zeros((k, d, d));
    for (mut mean, weight) in means.outer_iter_mut().zip(&weights) {
        mean /= *weight;
    }
    for (row, of_row) in rows.outer_iter().zip(responsibilities.outer_iter()) {
        let components = covariances.outer_iter_mut().zip(means.outer_iter()).zip(of_row).zip(&weights);
        for (((mut covariance, mean), r), weight) in components {
            let centred = &row - &mean;
            for (mut line, x) in covariance.outer_iter_mut().zip(&centred) {
                line.scaled_add(r * x / weight, &centred);
            }
        }
    }
    let total = weights.sum();
    Mixture { weights: weights / total, means, covariances }
}

/// Components mapped to their moments, each of two products with the rows.
pub fn functional(responsibilities: ArrayView2<f64>, rows: ArrayView2<f64>) -> Mixture {
    collect(responsibilities.axis_iter(Axis(1)).map(|r| moments(r, rows)).collect(), rows.ncols())
}

/// The same, components shared out among threads.
pub fn parallel(responsibilities: ArrayView2<f64>, rows: ArrayView2<f64>) -> Mixture {
    let components: Vec<_> = responsibilities.axis_iter(Axis(1)).collect();
    collect(components.into_par_iter().map(|r| moments(r, rows)).collect(), rows.ncols())
}

type Moments = (f64, Array1<f64>, Array2<f64>);

fn moments(responsibilities: ArrayView1<f64>, rows: ArrayView2<f64>) -> Moments {
    let weight = responsibilities.sum();
    let mean = responsibilities.dot(&rows) / weight;
    let centred = &rows - &mean;
    let weighted = &centred * &responsibilities.insert_axis(Axis(1));
    let covariance = weighted.t().dot(&centred) / weight;
    (weight, mean, covariance)
}

fn collect(components: Vec<Moments>, d: usize) -> Mixture {
    let k = components.len();
    let total: f64 = components.iter().map(|(weight, ..)| weight).sum();
    let mut mixture = Mixture {
        weights: Array1::zeros(k),
        means: Array2::zeros((k, d)),
        covariances: Array3::zeros((k, d, d)),
    };
    for (c, (weight, mean, covariance)) in components.into_iter().enumerate() {
        mixture.weights[c] = weight / total;
        mixture.means.row_mut(c).assign(&mean);
        mixture.covariances.index_axis_mut(Axis(0), c).assign(&covariance);
    }
    mixture
}
