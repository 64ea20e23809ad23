//! The same M-step by this crate.

use ndarray::{s, ArrayView2, Axis};
use polars_gmm::mixture::statistics::Scatter;
use polars_gmm::mixture::{Block, CovarianceType, Execution, Model, Pass, Responsibilities, Result, Rows};

/// Rows of a matrix (n × d).
struct Matrix<'a>(ArrayView2<'a, f64>);

impl Rows for Matrix<'_> {
    fn n_rows(&self) -> usize {
        self.0.nrows()
    }

    fn d(&self) -> usize {
        self.0.ncols()
    }

    fn read(&self, start: usize, block: &mut Block) {
        for (j, column) in self.0.axis_iter(Axis(1)).enumerate() {
            for (to, x) in block.feature_mut(j).iter_mut().zip(column.slice(s![start..])) {
                *to = *x;
            }
        }
    }
}

/// Responsibilities of a matrix (n × k).
struct Given<'a>(ArrayView2<'a, f64>);

impl Responsibilities for Given<'_> {
    fn k(&self) -> usize {
        self.0.ncols()
    }

    fn assign(&self, start: usize, block: &mut Block) {
        for (c, column) in self.0.axis_iter(Axis(1)).enumerate() {
            for (to, r) in block.component_mut(c).iter_mut().zip(column.slice(s![start..])) {
                *to = *r;
            }
        }
    }
}

/// An M-step from responsibilities (n × k) and rows (n × d).
///
/// # Errors
/// If the responsibilities weigh nothing.
pub fn m_step(
    execution: Execution,
    responsibilities: ArrayView2<f64>,
    rows: ArrayView2<f64>,
) -> Result<Model> {
    let features: Vec<String> = (0..rows.ncols()).map(|j| format!("x{j}")).collect();
    let pass = Pass { execution, ..Pass::SEQUENTIAL };
    let statistics = pass.assigned(&Matrix(rows), &Given(responsibilities), Scatter::Full)?;
    Model::maximize(&features, CovarianceType::Full, &statistics, 0.0, None)
}
