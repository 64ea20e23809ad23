//! The classes and functions the Python drivers use.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::time::{Duration, Instant};

use ndarray::{Array, Array1, Array2, Array3, Dimension};
use pyo3::create_exception;
use pyo3::exceptions::{PyImportError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3_polars::PySeries;
use serde::de::DeserializeOwned;

use super::columns::Input;
use super::error::{Error, Result};
use super::import::PyColumn;
use super::loops::Loop;
use super::options::{FitKwargs, FitOptions, RawFitOptions};
use super::records::models_series;
use super::scan::{Scan, Sums, Survey};
use super::steps;
use super::train::{self, CheckedRows, Training};
use super::values::Models;
use crate::mixture::simd::Level;
use crate::mixture::{self, codec, CovarianceType, Em};

create_exception!(
    polars_gmm,
    GmmError,
    PyValueError,
    "Bad input: the message says what was expected, what came, and what to do."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        GmmError::new_err(error.to_string())
    }
}

pub(super) fn gmm_error(error: impl Into<Error>) -> PyErr {
    error.into().into()
}

pub(super) fn unpickle<T: DeserializeOwned>(kwargs: &[u8]) -> Result<T> {
    Ok(pyo3_polars::derive::_parse_kwargs(kwargs)?)
}

/// Checks the options of a fit without data.
#[pyfunction]
fn check_options(options: &[u8]) -> PyResult<()> {
    unpickle::<RawFitOptions>(options)?.check()?;
    Ok(())
}

/// An array as flat values and a shape.
type Shaped = (Vec<f64>, Vec<usize>);

/// A validated mixture.
#[pyclass(frozen, module = "polars_gmm._lib")]
pub(super) struct Model(pub(super) mixture::Model);

impl Model {
    /// A model whose covariances are proved positive definite, without the GIL.
    pub(super) fn definite(py: Python<'_>, model: mixture::Model) -> PyResult<Self> {
        py.detach(|| model.density().map(drop)).map_err(gmm_error)?;
        Ok(Self(model))
    }
}

#[pymethods]
impl Model {
    #[staticmethod]
    fn from_arrays(
        py: Python<'_>,
        features: Vec<String>,
        covariance_type: &str,
        weights: Shaped,
        means: Shaped,
        covariances: Shaped,
    ) -> PyResult<Self> {
        let kind = CovarianceType::parse(covariance_type).map_err(gmm_error)?;
        let (k, d) = (weights.0.len(), features.len());
        let weights = array(weights, &[k], "weights", "(k,)")?;
        let expected = format!("({k}, {d}) for {k} weights and {d} features");
        let means = array(means, &[k, d], "means", &expected)?;
        let covariances = covariances_from(kind, covariances, k, d)?;
        let weights = Array1::from_vec(weights);
        let means = Array2::from_shape_vec((k, d), means).map_err(shape_error)?;
        let model = mixture::Model::new(features, kind, weights, means, covariances);
        Self::definite(py, model.map_err(gmm_error)?)
    }

    #[staticmethod]
    fn unpack(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        Self::definite(py, py.detach(|| codec::unpack(data)).map_err(gmm_error)?)
    }

    fn pack<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &codec::pack(&self.0))
    }

    #[staticmethod]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        Self::definite(py, py.detach(|| codec::from_json(text)).map_err(gmm_error)?)
    }

    fn to_json(&self) -> String {
        codec::to_json(&self.0)
    }

    #[staticmethod]
    fn from_series(py: Python<'_>, series: PyColumn) -> PyResult<Self> {
        let models = Models::new(&series.0)?;
        if models.len() != 1 {
            let message =
                format!("one model is needed, but the series has {} rows; select one of them", models.len());
            return Err(gmm_error(Error::Option(message)));
        }
        Self::definite(py, models.get(0)?.ok_or(Error::NullModel)?)
    }

    fn to_series(&self) -> PyResult<PySeries> {
        Ok(PySeries(models_series(&"model".into(), &[Some(self.0.clone())])?))
    }

    #[getter]
    fn features(&self) -> Vec<String> {
        self.0.features().to_vec()
    }

    #[getter]
    fn covariance_type(&self) -> &'static str {
        self.0.covariance_type().structure().name()
    }

    #[getter]
    fn k(&self) -> usize {
        self.0.k()
    }

    #[getter]
    fn d(&self) -> usize {
        self.0.d()
    }

    #[getter]
    fn n_parameters(&self) -> usize {
        self.0.n_parameters()
    }

    /// The numbers of an array, as `NumPy` reads them where they lie.
    #[getter]
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        bytes(py, self.0.weights())
    }

    #[getter]
    fn means<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        bytes(py, self.0.means())
    }

    #[getter]
    fn covariances<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        bytes(py, &self.0.full_covariances())
    }

    #[getter]
    fn log_likelihood(&self) -> Option<f64> {
        self.0.training.log_likelihood
    }

    #[getter]
    fn entropy(&self) -> Option<f64> {
        self.0.training.entropy
    }

    #[getter]
    fn n_rows(&self) -> Option<u64> {
        self.0.training.n_rows
    }

    #[getter]
    fn total_weight(&self) -> Option<f64> {
        self.0.training.total_weight
    }

    #[getter]
    fn n_iter(&self) -> Option<u32> {
        self.0.training.n_iter
    }

    #[getter]
    fn converged(&self) -> Option<bool> {
        self.0.training.converged
    }
}

fn bytes<'py, D: Dimension>(py: Python<'py>, values: &Array<f64, D>) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, size_of::<f64>() * values.len(), |bytes| {
        for (bytes, value) in bytes.chunks_exact_mut(size_of::<f64>()).zip(values) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
        Ok(())
    })
}

fn array((values, shape): Shaped, expected: &[usize], name: &'static str, why: &str) -> PyResult<Vec<f64>> {
    if shape == expected && values.len() == shape.iter().product::<usize>() {
        return Ok(values);
    }
    Err(gmm_error(mixture::Error::Shape { name, expected: why.into(), got: format!("{shape:?}") }))
}

/// Covariances written out (k, d, d), or in the compact shape scikit-learn uses for the type.
fn covariances_from(
    kind: CovarianceType,
    (values, shape): Shaped,
    k: usize,
    d: usize,
) -> PyResult<Array3<f64>> {
    let compact = kind.structure().shape(k, d);
    let squeezed: Vec<usize> = match compact {
        (1, _, _) if k != 1 || kind == CovarianceType::Tied => vec![d, d],
        (_, 1, 1) if kind == CovarianceType::Spherical => vec![k],
        (_, 1, _) if kind == CovarianceType::Diag => vec![k, d],
        _ => vec![k, d, d],
    };
    if shape == squeezed && squeezed.len() < 3 {
        return Array3::from_shape_vec(compact, values).map_err(shape_error);
    }
    let mut why = format!("({k}, {d}, {d}) for {k} weights and {d} features");
    if squeezed.len() < 3 {
        why = format!("{why}, or {squeezed:?} for covariance_type {:?}", kind.structure().name());
    }
    let values = array((values, shape), &[k, d, d], "covariances", &why)?;
    let full = Array3::from_shape_vec((k, d, d), values).map_err(shape_error)?;
    mixture::Model::compact(kind, &full).map_err(gmm_error)
}

fn shape_error(error: ndarray::ShapeError) -> PyErr {
    gmm_error(Error::Option(error.to_string()))
}

/// Rows that are read and checked once for several fits.
#[pyclass(module = "polars_gmm._lib")]
struct SharedRows {
    input: Input,
    rows: CheckedRows,
}

#[pymethods]
impl SharedRows {
    /// Checks the rows as the fit of these options does, of which none that follows may have more components.
    #[new]
    fn new(py: Python<'_>, series: PyColumn, kwargs: &[u8]) -> PyResult<Self> {
        let FitKwargs { extras, options, .. } = unpickle(kwargs)?;
        let options = options.check()?;
        let input = Input::new(&series.0, &extras)?;
        let table = input.table(None)?;
        let rows = interruptible(py, |_| CheckedRows::new(&input, table, &options))?;
        Ok(Self { input, rows })
    }

    /// The loop at its start, for pickled options.
    fn fitter(&mut self, py: Python<'_>, options: &[u8]) -> PyResult<Fitter> {
        let options = unpickle::<RawFitOptions>(options)?.check()?;
        let Self { input, rows } = self;
        let training = interruptible(py, |cancelled| started(input, rows, &options, None, cancelled))?;
        Fitter::of(training, input, options.k, Vec::new())
    }
}

/// The EM loop over columns in memory, driven in bursts.
#[pyclass(module = "polars_gmm._lib")]
struct Fitter {
    training: Training,
    k: usize,
    /// Whether labels are given.
    labelled: bool,
    /// Seconds of each iteration of the history, and those spent since the last.
    seconds: Vec<f64>,
    pending: f64,
}

#[pymethods]
impl Fitter {
    #[new]
    #[pyo3(signature = (series, kwargs, resumed=None, seconds=Vec::new()))]
    fn new(
        py: Python<'_>,
        series: PyColumn,
        kwargs: &[u8],
        resumed: Option<&Loop>,
        seconds: Vec<f64>,
    ) -> PyResult<Self> {
        let kwargs: FitKwargs = unpickle(kwargs)?;
        let options = kwargs.options.check()?;
        let input = Input::new(&series.0, &kwargs.extras)?;
        let table = input.table(None)?;
        let resumed = resumed.map(|l| l.em.clone());
        let training = interruptible(py, |cancelled| {
            let mut rows = CheckedRows::new(&input, table, &options)?;
            started(&input, &mut rows, &options, resumed, cancelled)
        })?;
        Self::of(training, &input, options.k, seconds)
    }

    /// Evaluates up to that many further iterations, all without a number; true when the fit is done.
    #[pyo3(signature = (iterations=None))]
    fn run(&mut self, py: Python<'_>, iterations: Option<u32>) -> PyResult<bool> {
        let Self { training: Training { table, em }, k, seconds, pending, .. } = self;
        let table = table.as_ref();
        let (rows, d) = (mixture::Rows::n_rows(table), mixture::Rows::d(table));
        let mut left = iterations.unwrap_or(u32::MAX);
        let short = train::is_short(rows, *k, d, left.min(em.options().max_iter));
        let work = |cancelled: &AtomicBool| {
            let pass = train::cancellable(rows, *k, d, cancelled);
            let mut done = false;
            while !done && left > 0 {
                let begun = Instant::now();
                done = em.run(table, pass, Some(1))?;
                *pending += begun.elapsed().as_secs_f64();
                // An evaluation that is refused is part of the iteration that takes its place.
                if em.history().len() > seconds.len() {
                    seconds.push(std::mem::take(pending));
                }
                left -= 1;
            }
            Ok(done)
        };
        interruptible_if_long(py, short, work)
    }

    #[getter]
    fn iteration(&self) -> u32 {
        self.training.em.iteration()
    }

    #[getter]
    fn log_likelihood(&self) -> f64 {
        self.training.em.log_likelihood().unwrap_or(f64::NAN)
    }

    #[getter]
    fn change(&self) -> f64 {
        self.training.em.history().last().and_then(|r| r.change).unwrap_or(f64::NAN)
    }

    #[getter]
    fn n_rows(&self) -> usize {
        mixture::Rows::n_rows(self.training.table.as_ref())
    }

    /// The loop as it stands.
    fn as_loop(&self) -> Loop {
        Loop::of(self.training.em.clone())
    }

    /// By what the rows are known again.
    fn survey(&self, py: Python<'_>) -> PyResult<Survey> {
        interruptible(py, |cancelled| Survey::of(self.k, &self.training.table, self.labelled, cancelled))
    }

    /// The last model evaluated, with its own likelihood.
    fn model(&self) -> Option<Model> {
        self.training.em.model().map(Model)
    }

    /// Iteration, log-likelihood, change of its mean, and seconds, of each evaluation.
    fn history(&self) -> Vec<(u32, f64, f64, f64)> {
        let records = self.training.em.history().iter().zip(&self.seconds);
        records.map(|(r, s)| (r.iteration, r.log_likelihood, r.change.unwrap_or(f64::NAN), *s)).collect()
    }
}

/// The loop at its start.
fn started(
    input: &Input,
    rows: &mut CheckedRows,
    options: &FitOptions,
    resumed: Option<Em>,
    cancelled: &AtomicBool,
) -> Result<Training> {
    let pass = train::starting(input.len(), options.k, rows.d(), cancelled);
    rows.begin(input, options, resumed, pass)
}

impl Fitter {
    fn of(training: Training, input: &Input, k: usize, seconds: Vec<f64>) -> PyResult<Self> {
        let labelled = input.label()?.is_some();
        Ok(Self { training, k, labelled, seconds, pending: 0.0 })
    }
}

/// Fused multiply-adds a second of that many threads together, measured for so long; and lanes of a vector.
#[pyfunction]
fn fma_peak(py: Python<'_>, threads: usize, seconds: f64) -> PyResult<(f64, usize)> {
    let duration = Duration::try_from_secs_f64(seconds).map_err(|e| PyValueError::new_err(e.to_string()))?;
    Ok(py.detach(|| mixture::roofline::fma_peak(threads, duration)))
}

/// How often a running computation looks whether Python wants to interrupt it.
const SIGNALS: Duration = Duration::from_millis(20);

/// Runs without the GIL right here where it is short, or as [`interruptible`].
pub(super) fn interruptible_if_long<T: Send>(
    py: Python<'_>,
    short: bool,
    work: impl FnOnce(&AtomicBool) -> Result<T> + Send,
) -> PyResult<T> {
    if short {
        return Ok(py.detach(|| work(&AtomicBool::new(false)))?);
    }
    interruptible(py, work)
}

/// Runs without the GIL on Polars' threads; a signal such as Ctrl-C stops it between blocks of rows.
pub(super) fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&AtomicBool) -> Result<T> + Send,
) -> PyResult<T> {
    let cancelled = AtomicBool::new(false);
    if train::is_in_pool() {
        // Signals are the main thread's, and this one may be the only one there is.
        return Ok(py.detach(|| work(&cancelled))?);
    }
    let (sender, mut receiver) = channel();
    train::beside_pool(|scope| {
        let cancelled = &cancelled;
        scope.spawn(move |_| {
            let result = catch_unwind(AssertUnwindSafe(|| work(cancelled)));
            // The receiver outlives this work, so that sending cannot fail.
            let _ = sender.send(result.unwrap_or_else(|_| Err(panicked())));
        });
        let mut interrupt = None;
        loop {
            let results = &mut receiver;
            match py.detach(move || results.recv_timeout(SIGNALS)) {
                Ok(result) => return interrupt.map_or_else(|| Ok(result?), Err),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(signal) = py.check_signals() {
                        cancelled.store(true, Ordering::Relaxed);
                        interrupt.get_or_insert(signal);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(gmm_error(panicked())),
            }
        }
    })
}

fn panicked() -> Error {
    Error::Option("the fit panicked: please report this".into())
}

#[pymodule]
pub fn _lib(py: Python<'_>, module: &Bound<'_, PyModule>) -> PyResult<()> {
    Level::check_named().map_err(PyImportError::new_err)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("GmmError", py.get_type::<GmmError>())?;
    module.add_class::<Model>()?;
    module.add_class::<Fitter>()?;
    module.add_class::<SharedRows>()?;
    module.add_class::<Loop>()?;
    module.add_class::<Scan>()?;
    module.add_class::<Sums>()?;
    module.add_class::<Survey>()?;
    module.add_function(wrap_pyfunction!(check_options, module)?)?;
    module.add_function(wrap_pyfunction!(steps::em_step, module)?)?;
    module.add_function(wrap_pyfunction!(steps::m_step, module)?)?;
    module.add_function(wrap_pyfunction!(fma_peak, module)?)
}
