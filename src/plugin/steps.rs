//! One step of EM on the columns of a frame, for Python: what the expressions of these names do, without a query.

use pyo3::prelude::*;

use super::cache::Factorised;
use super::columns::Input;
use super::error::{Error, Result};
use super::import::PyColumn;
use super::options::m_step_options;
use super::python::{gmm_error, interruptible_if_long, Model};
use super::train::{self, AssignedRows};
use crate::mixture::{self, CovarianceType};

/// Columns by their roles.
type Extras = Vec<(String, PyColumn)>;

/// The model after an E-step and an M-step.
#[pyfunction]
pub(super) fn em_step(
    py: Python<'_>,
    features: Vec<PyColumn>,
    extras: Extras,
    model: &Model,
    covariance_floor: f64,
) -> PyResult<Model> {
    m_step_options(model.0.covariance_type(), covariance_floor)?;
    let (input, model) = (input(features, extras)?, model.0.clone());
    let short = train::is_short(input.len(), model.k(), model.d(), 1);
    let work = |cancelled: &_| train::em_step(&input, &Factorised::new(model)?, covariance_floor, cancelled);
    some(py, interruptible_if_long(py, short, work)?)
}

/// The model after an M-step from given responsibilities.
#[pyfunction]
pub(super) fn m_step(
    py: Python<'_>,
    features: Vec<PyColumn>,
    extras: Extras,
    covariance_type: &str,
    covariance_floor: f64,
) -> PyResult<Model> {
    let kind = CovarianceType::parse(covariance_type).map_err(gmm_error)?;
    let options = m_step_options(kind, covariance_floor)?;
    let rows = AssignedRows::new(&input(features, extras)?)?;
    some(py, interruptible_if_long(py, rows.is_short(), |cancelled| rows.m_step(options, cancelled))?)
}

fn input(features: Vec<PyColumn>, extras: Extras) -> Result<Input> {
    let extras = extras.into_iter().map(|(role, series)| (role, series.0)).collect();
    Input::of(features.into_iter().map(|series| series.0).collect(), extras)
}

fn some(py: Python<'_>, model: Option<mixture::Model>) -> PyResult<Model> {
    Model::definite(py, model.ok_or(Error::NothingWeighs)?)
}
