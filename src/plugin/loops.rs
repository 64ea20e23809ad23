//! The EM loop, for Python: ask it for the model to evaluate, tell it the statistics.

use polars::prelude::DataType;
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::import::PyColumn;
use super::options::Init;
use super::python::{gmm_error, interruptible, Model};
use super::scan::{checked, Sums, Survey};
use super::train::{given_start, starting};
use super::values::for_each_statistics;
use crate::mixture::density::{lacks_weight, Density};
use crate::mixture::expectation::check_made_under;
use crate::mixture::statistics::Scatter;
use crate::mixture::{self, start, Em, Statistics};

/// The EM loop as a state machine, and how its model is to be evaluated once more where sums lacked something.
#[pyclass(module = "polars_gmm._lib")]
pub struct Loop {
    pub(super) em: Em,
    thorough: Option<Density>,
}

const FORMAT: &str = "polars-gmm EM";
const VERSION: u32 = 1;

/// The state of a loop as JSON. The checksum is that of `em` as it is written.
#[derive(Serialize, Deserialize)]
struct State {
    format: String,
    version: u32,
    checksum: String,
    em: Em,
}

#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

#[pymethods]
impl Loop {
    /// A loop that begins at a model, whose components keep their order.
    #[new]
    fn new(start: &Model, options: &[u8]) -> PyResult<Self> {
        let options = checked(options)?;
        if let Some(prior) = &options.em.prior {
            prior.check(start.0.d()).map_err(gmm_error)?;
        }
        let mut start = start.0.clone();
        start.training = mixture::Training::default();
        Ok(Self::of(Em::new(start, options.em, false)))
    }

    /// A loop at the start that a fit with these options draws or is given; none where that is a column, whose pass
    /// has not been made.
    #[staticmethod]
    #[pyo3(signature = (survey, options, assigned=None))]
    fn begin(py: Python<'_>, survey: &Survey, options: &[u8], assigned: Option<&Sums>) -> PyResult<Self> {
        let options = checked(options)?;
        let layout = &survey.layout;
        let (features, em) = (&layout.features, &options.em);
        if let Some(prior) = &em.prior {
            prior.check(features.len()).map_err(gmm_error)?;
        }
        survey.check_labels(options.k)?;
        let start = match &options.init {
            Init::Draw(draw) => {
                let (drawn, rows) = survey.sample(draw.k).ok_or_else(no_sample)?;
                interruptible(py, |cancelled| {
                    let pass =
                        starting(mixture::Rows::n_rows(&drawn.sample), draw.k, features.len(), cancelled);
                    Ok(draw.start_on(features, &drawn, rows, em, pass)?)
                })?
            }
            Init::Model(model) => given_start(layout.has_names, &layout.name, features, model)?,
            Init::Column => {
                let sums = assigned.ok_or_else(no_sample)?;
                start::maximized(features, &sums.0, em).map_err(gmm_error)?
            }
        };
        let canonical = matches!(options.init, Init::Draw(_)) && !survey.is_labelled();
        Ok(Self::of(Em::new(start, em.clone(), canonical)))
    }

    /// The model to evaluate next, of a type whose statistics hold what the next M-step needs.
    fn ask(&self) -> PyResult<Model> {
        let (model, form) = self.question();
        if form == Scatter::Full && own_form(model) == Scatter::Diagonal {
            return Ok(Model(model.to_full().map_err(gmm_error)?));
        }
        Ok(Model(model.clone()))
    }

    /// Takes the statistics of all rows under that model; true when the loop is done.
    fn tell(&mut self, statistics: PyColumn) -> PyResult<bool> {
        let (features, whole) = one_statistics(&statistics)?;
        // A column does not tell a matrix of one feature from its diagonal.
        let wider = own_form(self.em.ask()) == Scatter::Full || whole.d() == 1;
        let narrows = self.question().1 == Scatter::Diagonal && wider;
        let statistics = if narrows { whole.diagonal() } else { whole.clone() };
        let (k, d, form) = (self.em.ask().k(), self.em.ask().d(), self.question().1);
        let expected = shape(k, d, form, self.em.ask().features());
        let got = shape(statistics.k(), statistics.d(), statistics.scatter_form(), &features);
        if got != expected {
            let message = format!(
                "statistics must be those of the model asked for, {expected}, but they have {got}; make them with \
                 statistics(em.ask())"
            );
            return Err(gmm_error(Error::Option(message)));
        }
        self.check_rows(&statistics)?;
        check_made_under(self.em.ask(), &whole).map_err(gmm_error)?;
        self.take(&statistics)
    }

    /// Takes them from a pass, unless another pass under the same model has to add what they may lack.
    fn tell_sums(&mut self, sums: &Sums) -> PyResult<bool> {
        if self.thorough.is_none() && lacks_weight(self.em.ask(), &sums.0) {
            self.thorough = self.em.ask().density().map_err(gmm_error)?.thorough(&sums.0);
            return Ok(false);
        }
        self.take(&sums.0)
    }

    /// Raises why the model asked for cannot be evaluated, if it cannot.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.em.ask().density().map(drop)).map_err(gmm_error)
    }

    /// Whether the loop has ended.
    #[getter]
    fn done(&self) -> bool {
        self.em.is_done()
    }

    #[getter]
    fn covariance_floor(&self) -> f64 {
        self.em.options().covariance_floor
    }

    #[getter]
    fn iteration(&self) -> u32 {
        self.em.iteration()
    }

    #[getter]
    fn log_likelihood(&self) -> f64 {
        self.em.log_likelihood().unwrap_or(f64::NAN)
    }

    #[getter]
    fn change(&self) -> f64 {
        self.em.history().last().and_then(|r| r.change).unwrap_or(f64::NAN)
    }

    /// The last model evaluated, with its own likelihood.
    fn model(&self) -> Option<Model> {
        self.em.model().map(Model)
    }

    /// Iteration, log-likelihood and change of its mean, of each evaluation.
    fn history(&self) -> Vec<(u32, f64, f64)> {
        let records = self.em.history().iter();
        records.map(|r| (r.iteration, r.log_likelihood, r.change.unwrap_or(f64::NAN))).collect()
    }

    /// The whole state, as JSON.
    fn state(&self) -> PyResult<String> {
        let em = self.em.clone();
        let state = State { format: FORMAT.into(), version: VERSION, checksum: checksum(&em)?, em };
        serde_json::to_string(&state).map_err(unreadable)
    }

    /// The loop that gave this state.
    #[staticmethod]
    fn from_state(text: &str) -> PyResult<Self> {
        let header: Header =
            serde_json::from_str(text).map_err(|_| unreadable("it is cut short, or something else"))?;
        if header.format != FORMAT {
            return Err(unreadable(format!("its format is {:?}", header.format)));
        }
        if header.version != VERSION {
            let message =
                format!("its version is {}, and this package reads version {VERSION}", header.version);
            return Err(unreadable(message));
        }
        let State { checksum: expected, em, .. } =
            serde_json::from_str(text).map_err(|_| unreadable("it was changed after it was written"))?;
        if checksum(&em)? != expected || !em.is_whole() {
            return Err(unreadable("it was changed after it was written"));
        }
        Ok(Self::of(em))
    }
}

impl Loop {
    /// A loop of which nothing is known but its state.
    pub(super) fn of(em: Em) -> Self {
        Self { em, thorough: None }
    }

    /// How the model is to be evaluated, and how much of the scatter is needed.
    ///
    /// # Errors
    /// If a covariance is singular.
    pub(super) fn evaluation(&self) -> Result<(Density, Scatter)> {
        let (model, form) = self.question();
        let density = self.thorough.clone().map_or_else(|| model.density(), Ok)?;
        Ok((density, form))
    }

    /// The model to evaluate next, and how much of the scatter is needed.
    fn question(&self) -> (&mixture::Model, Scatter) {
        (self.em.ask(), self.em.options().covariance_type.structure().scatter())
    }

    /// Whether statistics are of as many rows as those told before.
    fn check_rows(&self, statistics: &Statistics) -> Result<()> {
        let before = self.em.model().and_then(|model| model.training.n_rows);
        match before {
            Some(before) if before != statistics.n_rows => {
                let message = format!(
                    "statistics must be those of all rows each time, but those told before were of {before} rows, and \
                     these are of {}; merge the statistics of all parts",
                    statistics.n_rows
                );
                Err(Error::Option(message))
            }
            _ => Ok(()),
        }
    }

    /// After an error the loop is where it was.
    fn take(&mut self, statistics: &Statistics) -> PyResult<bool> {
        let mut next = self.em.clone();
        let done = next.tell(statistics).map_err(gmm_error)?;
        *self = Self::of(next);
        Ok(done)
    }
}

/// What statistics of a model hold.
fn own_form(model: &mixture::Model) -> Scatter {
    model.covariance_type().structure().scatter()
}

fn no_sample() -> PyErr {
    gmm_error(Error::Option("the start needs a pass over the rows that was not made".into()))
}

fn unreadable(reason: impl ToString) -> PyErr {
    let reason = reason.to_string();
    gmm_error(Error::Option(format!(
        "this is not the state of an EM loop: {reason}; give what to_json() made"
    )))
}

/// FNV-1a (Fowler, Noll & Vo) of the state as JSON.
fn checksum(em: &Em) -> PyResult<String> {
    let text = serde_json::to_string(em).map_err(unreadable)?;
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(format!("{hash:016x}"))
}

fn shape(k: usize, d: usize, form: Scatter, features: &[String]) -> String {
    let scatter = match form {
        Scatter::Full => "full",
        Scatter::Diagonal => "diagonal",
    };
    format!("k={k}, d={d}, {scatter} scatter and features {features:?}")
}

/// The statistics of a column of one row.
fn one_statistics(series: &PyColumn) -> Result<(Vec<String>, Statistics)> {
    let rows = series.0.len();
    let mut found = None;
    if series.0.dtype() != &DataType::Null {
        for_each_statistics(&series.0, |_, statistics| {
            found = statistics;
            Ok(())
        })?;
    }
    let message = match rows {
        1 => "statistics must not be null; give the struct that statistics(em.ask()) or merge made".into(),
        _ => format!("one row of statistics is needed, but the series has {rows} rows; merge them"),
    };
    found.filter(|_| rows == 1).ok_or(Error::Option(message))
}
