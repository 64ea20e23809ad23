//! The mathematics of Gaussian mixtures: rows in, numbers out, no table engine and no interpreter.
//!
//! A mixture of `k` components over `d` features has the density
//!
//! ```text
//! p(x) = Σ_c π_c N(x; μ_c, Σ_c)
//! ```
//!
//! and expectation-maximisation (Dempster, Laird & Rubin 1977; Bishop 2006, §9.2.2) alternates
//!
//! ```text
//! E   r_ic = π_c N(x_i; μ_c, Σ_c) / p(x_i)                              density
//!     W_c = Σ_i w_i r_ic,  m_c = Σ_i w_i r_ic x_i / W_c,
//!     S_c = Σ_i w_i r_ic (x_i − m_c)(x_i − m_c)ᵀ                        statistics
//! M   π_c = W_c / Σ W,  μ_c = m_c,  Σ_c = structure(W, m, S)            model, covariance
//! ```
//!
//! | file | owns |
//! |---|---|
//! | [`rows`] | a block of rows in lanes, and the traits of those who fill it |
//! | [`simd`] | run-time dispatch of vector code, the exponential |
//! | [`transpose`] | rows to lanes and lanes to rows |
//! | [`density`] | E-step on a block |
//! | [`statistics`] | sufficient statistics: of a block, and their sum |
//! | [`small`] | norms and moments compiled for each small number of features |
//! | [`shapes`] | what is computed how: all crossovers by components, features and registers |
//! | [`pass`] | one pass over all rows: fixed blocks, fixed tree |
//! | [`team`] | the caller's thread and others at one list of tasks |
//! | [`assembly`] | the same over rows that come in pieces, in any order |
//! | [`ranges`], [`witness`] | smallest and largest values, and other sums by which rows are known |
//! | [`survey`] | what the first pass over a stream takes: counts, moments, ranges, the start sample |
//! | [`covariance`] | the covariance structures, the only match on their kind |
//! | [`model`] | a validated mixture, and the M-step that makes one |
//! | [`criterion`] | BIC, AIC and ICL |
//! | [`codec`] | a model as versioned bytes and JSON |
//! | [`prior`] | a conjugate prior of means and covariances |
//! | [`regularisation`] | floor and prior, taken once by a fit |
//! | [`coordinates`] | mixtures as points of a flat space |
//! | [`acceleration`] | quasi-Newton steps, and the estimated limit |
//! | [`linalg`] | Cholesky factors and eigenvalues |
//! | [`start`] | where EM begins |
//! | [`expectation`] | whether statistics were made under a model |
//! | [`fit`] | the EM loop: ask for a model to evaluate, tell it the statistics |
//! | [`roofline`] | the rate of multiply-adds that bounds the kernels |
//! | [`error`] | every failure, as a sentence |

pub mod acceleration;
pub mod assembly;
pub mod codec;
pub mod coordinates;
pub mod covariance;
pub mod criterion;
pub mod density;
pub mod error;
pub mod expectation;
pub mod fit;
pub mod linalg;
pub mod model;
pub mod pass;
pub mod prior;
pub mod ranges;
pub mod regularisation;
pub mod roofline;
pub mod rows;
pub mod shapes;
pub mod simd;
pub mod small;
pub mod start;
pub mod statistics;
pub mod survey;
pub mod team;
#[cfg(test)]
mod testing;
pub mod transpose;
pub mod witness;

pub use covariance::CovarianceType;
pub use criterion::Criterion;
pub use density::Density;
pub use error::{Error, Result};
pub use fit::{Em, Options};
pub use model::{Model, Training};
pub use pass::{Execution, Pass};
pub use rows::{Block, Responsibilities, Rows};
pub use statistics::Statistics;
