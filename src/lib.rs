//! Gaussian mixture models as Polars expressions.
//!
//! [`mixture`] is the mathematics and stands alone; `plugin` is the boundary to Polars and Python.

pub mod mixture;
#[cfg(feature = "plugin")]
mod plugin;

#[cfg(feature = "plugin")]
#[global_allocator]
static ALLOCATOR: pyo3_polars::PolarsAllocator = pyo3_polars::PolarsAllocator::new();
