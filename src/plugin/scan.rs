//! Passes over streams, and what the first one finds, for Python.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use polars::prelude::{PlSmallStr, Series};
use polars_arrow::array::StructArray;
use polars_arrow::ffi::{ArrowArrayStream, ArrowArrayStreamReader};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::Table;
use super::error::{Error, Result};
use super::loops::Loop;
use super::options::{FitOptions, Init, RawFitOptions};
use super::python::{gmm_error, interruptible, unpickle};
use super::stream::{Layout, Overview, Stream};
use super::train::check_largest;
use crate::mixture::start::Drawn;
use crate::mixture::survey::{Fingerprint, Surveyed};
use crate::mixture::{self, Statistics};

/// A pass that rows come to from a query, through the expression `scan`, or from a stream of batches.
#[pyclass(frozen, module = "polars_gmm._lib")]
pub struct Scan(pub Arc<Stream>);

/// Rows of a batch that one thread takes at a time.
const SHARE: usize = 1 << 12;

#[pymethods]
impl Scan {
    /// The first pass of fits with these options, of which there is at least one.
    #[staticmethod]
    #[pyo3(signature = (extras, options, features=None))]
    fn survey(extras: Vec<String>, options: Vec<Vec<u8>>, features: Option<Vec<String>>) -> PyResult<Self> {
        let options = options.iter().map(|o| checked(o)).collect::<Result<Vec<_>>>()?;
        let k = options.iter().map(|o| o.k).max().unwrap_or(1);
        let draws = options.iter().filter_map(|o| match &o.init {
            Init::Draw(draw) => Some((draw.k, draw.seed)),
            _ => None,
        });
        Ok(Self(Stream::survey(extras, features, k, draws.max())))
    }

    /// The E-steps of the models that these loops ask for, of which there is at least one.
    #[staticmethod]
    fn expected(
        py: Python<'_>,
        extras: Vec<String>,
        survey: &Survey,
        loops: Vec<Py<Loop>>,
    ) -> PyResult<Self> {
        let loops: Vec<_> = loops.iter().map(|l| l.borrow(py)).collect();
        let loops: Vec<&Loop> = loops.iter().map(|l| &**l).collect();
        let densities = py.detach(|| loops.iter().map(|l| l.evaluation()).collect::<Result<Vec<_>>>())?;
        let Survey { layout, surveyed, .. } = survey;
        let columns = (layout.features.clone(), &surveyed.fingerprint.means[..]);
        Ok(Self(Stream::expected(extras, survey.labels(), columns, densities)))
    }

    /// The statistics of the column of labels or responsibilities that a fit starts from.
    #[staticmethod]
    fn assigned(extras: Vec<String>, survey: &Survey, options: &[u8]) -> PyResult<Self> {
        let options = checked(options)?;
        let form = options.em.covariance_type.structure().scatter();
        Ok(Self(Stream::assigned(extras, survey.layout.features.clone(), options.k, form)))
    }

    /// By which the expression finds the pass.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id
    }

    /// Rows taken so far.
    #[getter]
    fn n_rows(&self) -> u64 {
        self.0.n_rows()
    }

    /// Stops the pass: the query that feeds it fails at its next piece, or in the middle of the one at hand.
    fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Raises what made the pass fail, if something has.
    fn check(&self) -> PyResult<()> {
        self.0.failure().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Takes rows from batches in the order of the source, by the Arrow C stream interface; the first of them has the
    /// number `first`. Gives the number of the row after the last.
    fn read(&self, py: Python<'_>, batches: &Bound<'_, PyAny>, first: u64) -> PyResult<u64> {
        let capsule = batches.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
        let pointer = capsule.pointer_checked(Some(c"arrow_array_stream"))?.cast::<ArrowArrayStream>();
        // SAFETY: the capsule of this name holds a stream, which is moved out of it as the interface asks.
        let stream = unsafe { std::ptr::replace(pointer.as_ptr(), ArrowArrayStream::empty()) };
        let (stream, pass) = (Box::new(stream), &self.0);
        interruptible(py, |cancelled| {
            // SAFETY: the producer keeps to the interface.
            let mut reader = unsafe { ArrowArrayStreamReader::try_new(stream)? };
            let mut next = first;
            // SAFETY: as above.
            while let Some(batch) = unsafe { reader.next() } {
                let batch = column(batch?.as_any().downcast_ref())?;
                absorb(pass, &batch, next, cancelled)?;
                next += batch.len() as u64;
            }
            Ok(next)
        })
    }

    /// What the pass summed up for the loop of this place among its loops, once all rows are in.
    fn sums(&self, place: usize, survey: &Survey) -> PyResult<Sums> {
        let statistics = self.0.statistics(place)?;
        survey.check(&self.0, &statistics).map_err(gmm_error)?;
        Ok(Sums(statistics))
    }

    /// What the first pass found for a fit of `k` components, once all rows are in.
    fn overview(&self, k: usize, nulls: bool) -> PyResult<Survey> {
        let Overview { layout, labelled, surveyed } = self.0.overview(k, nulls)?;
        Ok(Survey { layout, labelled, surveyed })
    }
}

/// Statistics of all rows.
#[pyclass(frozen, module = "polars_gmm._lib")]
pub struct Sums(pub Statistics);

/// The one column of a batch.
fn column(batch: Option<&StructArray>) -> Result<Series> {
    let wrong = || Error::Option("a batch must have one column".into());
    let batch = batch.ok_or_else(wrong)?;
    let (field, values) = batch.fields().first().zip(batch.values().first()).ok_or_else(wrong)?;
    Ok(Series::from_arrow(PlSmallStr::from_str(&field.name), values.clone())?)
}

/// Shares the rows of a batch among the threads.
fn absorb(pass: &Stream, batch: &Series, first: u64, cancelled: &AtomicBool) -> Result<()> {
    let shares: Vec<usize> = (0..batch.len()).step_by(SHARE).collect();
    shares.into_par_iter().try_for_each(|start| {
        if cancelled.load(Ordering::Relaxed) {
            pass.cancelled.store(true, Ordering::Relaxed);
        }
        let share = batch.slice(i64::try_from(start).unwrap_or(i64::MAX), SHARE);
        pass.absorb(&share, first + start as u64)
    })
}

/// Options of a fit as they come, checked.
///
/// # Errors
/// The first option outside its range.
pub fn checked(options: &[u8]) -> Result<FitOptions> {
    unpickle::<RawFitOptions>(options)?.check()
}

/// What the first pass found: by what the rows are known again, and the rows that starts are drawn on.
#[pyclass(frozen, module = "polars_gmm._lib")]
pub struct Survey {
    pub layout: Layout,
    /// The largest component that a label names, if one does.
    labelled: Option<u32>,
    surveyed: Surveyed,
}

/// What a checkpoint keeps of it.
#[derive(Serialize, Deserialize)]
struct Kept {
    features: Vec<String>,
    labelled: Option<u32>,
    fingerprint: Fingerprint,
}

#[pymethods]
impl Survey {
    /// Names of the features.
    #[getter]
    fn features(&self) -> Vec<String> {
        self.layout.features.clone()
    }

    /// All rows, those that do not count included.
    #[getter]
    fn rows(&self) -> u64 {
        self.surveyed.fingerprint.rows
    }

    /// What a checkpoint keeps, as JSON.
    fn state(&self) -> PyResult<String> {
        let kept = Kept {
            features: self.layout.features.clone(),
            labelled: self.labelled,
            fingerprint: self.surveyed.fingerprint.clone(),
        };
        serde_json::to_string(&kept).map_err(|e| gmm_error(Error::Option(e.to_string())))
    }

    #[staticmethod]
    fn from_state(text: &str) -> PyResult<Self> {
        let Kept { features, labelled, fingerprint } =
            serde_json::from_str(text).map_err(|e| gmm_error(Error::Option(e.to_string())))?;
        if !fingerprint.is_of(features.len()) {
            return Err(gmm_error(Error::Option("its figures are not those of its features".into())));
        }
        Ok(Self { layout: Layout::of(features), labelled, surveyed: Surveyed { fingerprint, sampler: None } })
    }

    /// Raises what differs where a later survey is of other rows.
    fn check_same(&self, other: &Self) -> PyResult<()> {
        let (here, there) = (&self.surveyed.fingerprint, &other.surveyed.fingerprint);
        here.check_survey(&self.layout.features, there).map_err(gmm_error)
    }
}

impl Survey {
    /// A survey of rows in memory, of which no sample is needed.
    ///
    /// # Errors
    /// [`mixture::Error::Interrupted`].
    pub fn of(k: usize, table: &Table, labelled: bool, cancelled: &AtomicBool) -> Result<Self> {
        let survey = mixture::survey::Survey::new(mixture::Rows::d(table), None, labelled.then_some(k));
        survey.absorb(table, 0, cancelled)?;
        let labelled = table.label.iter().flatten().max().copied();
        let layout = Layout::of(table.features.clone());
        Ok(Self { layout, labelled, surveyed: survey.finish()? })
    }

    /// Components that labels may name, where labels are given.
    pub fn labels(&self) -> Option<usize> {
        let known = self.surveyed.fingerprint.known.len();
        (known > 0).then_some(known)
    }

    /// Whether the component of some row is known.
    pub fn is_labelled(&self) -> bool {
        self.labelled.is_some()
    }

    /// Whether statistics of a later pass are of the same rows; given responsibilities may leave some out.
    ///
    /// # Errors
    /// What differs.
    fn check(&self, pass: &Stream, statistics: &Statistics) -> mixture::Result<()> {
        let (fingerprint, features) = (&self.surveyed.fingerprint, &self.layout.features);
        if pass.is_assigned() {
            return fingerprint.check_rows(pass.n_rows());
        }
        fingerprint.check(features, pass.n_rows(), statistics)?;
        pass.witness().map_or(Ok(()), |witness| fingerprint.check_witness(features, witness))
    }

    /// Whether labels name no component beyond `k`.
    ///
    /// # Errors
    /// The largest label.
    pub fn check_labels(&self, k: usize) -> Result<()> {
        check_largest(self.labelled, self.layout.label.as_ref(), k)
    }

    /// The sample for a start of `k` components, and the number of all rows.
    pub fn sample(&self, k: usize) -> Option<(Drawn, u64)> {
        Some((self.surveyed.sample(k)?, self.surveyed.fingerprint.rows))
    }
}
