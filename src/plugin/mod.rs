//! The boundary: columns in, columns out. All that Polars and Python are asked or told is in here.
//!
//! | file | owns |
//! |---|---|
//! | `columns` | input Series -> rows: names, dtypes, roles |
//! | `arrow` | Arrow arrays -> lanes of f64: chunks, offsets, validity |
//! | `check` | the checks of data |
//! | `cache` | models with their factors, the last ones kept |
//! | `records` | many models -> structs, components, criteria |
//! | `distinct` | which rows of a column hold the same model |
//! | `values` | models and statistics <-> Polars structs and Binary |
//! | `options` | kwargs -> checked options |
//! | `pages` | room for the values of a column |
//! | `score` | rows and a model -> one output column |
//! | `train` | rows and options -> a fit |
//! | `expressions` | the expressions: inputs and kwargs taken apart |
//! | `import` | fields and columns as Polars exported them -> Field and Series |
//! | `export` | fields and values as Polars takes them |
//! | `shell` | the C functions by which Polars calls them |
//! | `stream` | a pass over rows that come in pieces from a query |
//! | `scan` | such passes and what the first one finds, for Python |
//! | `loops` | the EM loop, for Python |
//! | `steps` | one step of it on the columns of a frame, for Python |
//! | `python` | the classes and functions the Python drivers use |
//! | `error` | failures of data and kwargs, as sentences |

#![deny(clippy::indexing_slicing)]

mod arrow;
mod cache;
mod check;
mod columns;
mod distinct;
mod error;
mod export;
mod expressions;
mod import;
mod loops;
mod options;
mod pages;
pub mod python;
mod records;
mod scan;
mod score;
mod shell;
mod steps;
mod stream;
mod train;
mod values;
