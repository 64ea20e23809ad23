//! A pass over rows that come in pieces from a query. The query's expression `scan` finds the pass by its number, in this
//! process, and hands each piece over; so nothing but the number of rows goes through the query, and statistics are
//! merged as they arrive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use polars::prelude::{DataType, Series};

use super::check::{Faults, LabelFaults, Nulls, StartFaults};
use super::columns::{check_width, Input, StartColumn, Table};
use super::error::{Error, Place, Result, Role};
use crate::mixture::assembly::Assembly;
use crate::mixture::pass::Summand;
use crate::mixture::rows::Labels;
use crate::mixture::statistics::Scatter;
use crate::mixture::survey::{Survey, Surveyed};
use crate::mixture::witness::Witness;
use crate::mixture::{self, Density, Rows, Statistics};

/// A pass that rows come to.
pub struct Stream {
    pub id: u64,
    /// Roles of the columns packed beside the features.
    extras: Vec<String>,
    /// The features where they are known before the first row.
    features: Option<Vec<String>>,
    /// Whether the components of some rows are known, and of how many components.
    labels: Option<usize>,
    work: Work,
    pub cancelled: AtomicBool,
    failure: Mutex<Option<Error>>,
}

/// What a pass takes of the rows.
enum Work {
    Survey(Box<Surveying>),
    Expected(Vec<Job>, Option<Witness>),
    Assigned(Box<Assigning>),
}

/// The first pass: it learns the features from the first piece.
struct Surveying {
    /// Components and seed of the samples that starts are drawn on.
    draw: Option<(usize, u64)>,
    found: OnceLock<Found>,
    faults: Mutex<(Faults, LabelFaults)>,
    /// One more than the largest component that a label names; 0 where none does.
    labelled: AtomicU32,
}

struct Found {
    layout: Layout,
    survey: Survey,
}

impl Layout {
    /// Of features of which no more than their names is known.
    pub fn of(features: Vec<String>) -> Self {
        Self { features, ..Self::default() }
    }
}

/// What a piece tells of all others.
#[derive(Clone, Default)]
pub struct Layout {
    /// Name of the feature column, and whether its features have names.
    pub name: String,
    pub has_names: bool,
    pub features: Vec<String>,
    weight: Option<Role>,
    pub label: Option<Role>,
}

/// The E-step of one model.
struct Job {
    density: Density,
    sums: Assembly,
}

/// A pass over given responsibilities or labels.
struct Assigning {
    k: usize,
    sums: Assembly,
    faults: Mutex<(LabelFaults, StartFaults, Option<Role>)>,
}

/// What the first pass found.
pub struct Overview {
    pub layout: Layout,
    /// The largest component that a label names, if one does.
    pub labelled: Option<u32>,
    pub surveyed: Surveyed,
}

static STREAMS: LazyLock<Mutex<HashMap<u64, Weak<Stream>>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Stream {
    /// A first pass. `k` is the number of components that labels may name.
    pub fn survey(
        extras: Vec<String>,
        features: Option<Vec<String>>,
        k: usize,
        draw: Option<(usize, u64)>,
    ) -> Arc<Self> {
        let labels = extras.iter().any(|role| role == "label").then_some(k);
        let (found, faults, labelled) = (OnceLock::new(), Mutex::default(), AtomicU32::new(0));
        let work = Work::Survey(Box::new(Surveying { draw, found, faults, labelled }));
        Self::register(extras, features, labels, work)
    }

    /// The E-steps under several densities over the same features, whose means are those of all rows.
    pub fn expected(
        extras: Vec<String>,
        labels: Option<usize>,
        (features, means): (Vec<String>, &[f64]),
        densities: impl IntoIterator<Item = (Density, Scatter)>,
    ) -> Arc<Self> {
        let job = |(density, form): (Density, Scatter)| Job {
            sums: Assembly::new(density.k(), density.d(), form),
            density,
        };
        let jobs: Vec<Job> = densities.into_iter().map(job).collect();
        // The whole scatter tells of pairs itself.
        let diagonal = jobs.iter().all(|job| job.sums.form() == Scatter::Diagonal);
        let wanted = diagonal || labels.is_some();
        let witness = wanted.then(|| Witness::about(means, diagonal, labels.unwrap_or(0)));
        Self::register(extras, Some(features), labels, Work::Expected(jobs, witness))
    }

    /// The statistics of given responsibilities or labels.
    pub fn assigned(extras: Vec<String>, features: Vec<String>, k: usize, form: Scatter) -> Arc<Self> {
        let sums = Assembly::new(k, features.len(), form);
        let work = Work::Assigned(Box::new(Assigning { k, sums, faults: Mutex::default() }));
        Self::register(extras, Some(features), None, work)
    }

    fn register(
        extras: Vec<String>,
        features: Option<Vec<String>>,
        labels: Option<usize>,
        work: Work,
    ) -> Arc<Self> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let cancelled = AtomicBool::new(false);
        let stream =
            Arc::new(Self { id, extras, features, labels, work, cancelled, failure: Mutex::default() });
        locked(&STREAMS).insert(id, Arc::downgrade(&stream));
        stream
    }

    /// The pass of this number.
    ///
    /// # Errors
    /// If it is over, or of another process.
    pub fn find(id: u64) -> Result<Arc<Self>> {
        let found = locked(&STREAMS).get(&id).and_then(Weak::upgrade);
        found.ok_or_else(|| {
            let message =
                "the query of a fit must run in the process of that fit, while it lasts; run the fit where \
                           the query runs";
            Error::Option(message.into())
        })
    }

    /// Takes the rows of a piece, numbered from `first` on; from any thread.
    ///
    /// # Errors
    /// Rows of another shape, or [`mixture::Error::Interrupted`]; the first error is kept as the failure of the pass.
    pub fn absorb(&self, rows: &Series, first: u64) -> Result<()> {
        let absorbed = self.try_absorb(rows, first);
        absorbed.map_err(|error| {
            // Once a piece has failed, the others need not be read.
            self.cancelled.store(true, Ordering::Relaxed);
            let sentence = Error::Option(error.to_string());
            locked(&self.failure).get_or_insert(error);
            sentence
        })
    }

    fn try_absorb(&self, rows: &Series, first: u64) -> Result<()> {
        let input = Input::new(rows, &self.extras)?;
        let number = first as usize;
        let mut table = input.table(self.features.as_deref()).map_err(|e| e.numbered(number))?;
        match &self.work {
            Work::Survey(work) => self.survey_piece(work, &input, table, first),
            Work::Expected(jobs, witness) => {
                if let (Some(k), Some(column)) = (self.labels, input.label()?) {
                    table.label = table.label_faults(&column, k, true, number).0;
                }
                let absorb = |Job { density, sums }: &Job, rows: &dyn Rows| {
                    sums.absorb(rows, first, &Summand::expected(density), &self.cancelled)
                };
                let (Some(witness), Some((watching, others))) = (witness, jobs.split_first()) else {
                    return Ok(jobs.iter().try_for_each(|job| absorb(job, &table))?);
                };
                let watched = witness.watch(&table);
                absorb(watching, &watched)?;
                witness.add(watched);
                others.iter().try_for_each(|job| absorb(job, &table))?;
                Ok(())
            }
            Work::Assigned(work) => self.assign_piece(work, &input, &table, first),
        }
    }

    fn survey_piece(&self, work: &Surveying, input: &Input, mut table: Table, first: u64) -> Result<()> {
        let number = first as usize;
        let found = work.found.get_or_init(|| {
            let label = input.label().ok().flatten().map(|column| column.role);
            let layout = Layout {
                name: input.name().into(),
                has_names: input.has_names(),
                features: table.features.clone(),
                weight: table.weight_role().cloned(),
                label,
            };
            Found { survey: Survey::new(table.d(), work.draw, self.labels), layout }
        });
        check_width("features", input.name(), found.survey.d(), table.d(), Place::Row(number))?;
        let faults = table.faults(number);
        if let (Some(k), Some(column)) = (self.labels, input.label()?) {
            let (labels, faults) = table.label_faults(&column, k, true, number);
            let largest = labels.iter().flatten().max().map_or(0, |label| label + 1);
            work.labelled.fetch_max(largest, Ordering::Relaxed);
            table.label = labels;
            locked(&work.faults).1.merge(&faults);
        }
        locked(&work.faults).0.merge(faults);
        Ok(found.survey.absorb(&table, first, &self.cancelled)?)
    }

    fn assign_piece(&self, work: &Assigning, input: &Input, table: &Table, first: u64) -> Result<()> {
        let number = first as usize;
        match input.start(work.k)? {
            Some(StartColumn::Labels(column)) => {
                let (component, faults) = table.label_faults(&column, work.k, false, number);
                let mut all = locked(&work.faults);
                all.0.merge(&faults);
                all.2.get_or_insert(column.role);
                drop(all);
                let labels = Labels { k: work.k, component: &component };
                Ok(work.sums.absorb(table, first, &Summand::Assigned(&labels), &self.cancelled)?)
            }
            Some(StartColumn::Responsibilities(given)) => {
                check_width("responsibilities", input.name(), work.k, given.width(), Place::Row(number))?;
                let faults = table.start_faults(&given, Nulls::LeaveOut, number);
                let mut all = locked(&work.faults);
                all.1.merge(&faults);
                all.2.get_or_insert(given.role.clone());
                drop(all);
                Ok(work.sums.absorb(table, first, &Summand::Assigned(&given), &self.cancelled)?)
            }
            None => Err(Error::Option("init=\"column\" needs a column to start from".into())),
        }
    }

    /// Whether the pass takes given responsibilities.
    pub fn is_assigned(&self) -> bool {
        matches!(self.work, Work::Assigned(_))
    }

    /// What the statistics of the pass do not tell of its rows.
    pub fn witness(&self) -> Option<&Witness> {
        if let Work::Expected(_, witness) = &self.work {
            witness.as_ref()
        } else {
            None
        }
    }

    /// Rows taken so far.
    pub fn n_rows(&self) -> u64 {
        match &self.work {
            Work::Survey(work) => work.found.get().map_or(0, |found| found.survey.n_rows()),
            Work::Expected(jobs, _) => jobs.last().map_or(0, |job| job.sums.n_rows()),
            Work::Assigned(work) => work.sums.n_rows(),
        }
    }

    /// What made the pass fail, if it was not stopped.
    pub fn failure(&self) -> Option<Error> {
        locked(&self.failure).take().filter(|e| !matches!(e, Error::Mixture(mixture::Error::Interrupted)))
    }

    /// What a first pass found, once all rows are in; a mixture of `k` components is to be fitted to them, and nulls
    /// are faults only with `nulls`.
    ///
    /// # Errors
    /// Rows at fault, too few, missing or repeated.
    pub fn overview(&self, k: usize, nulls: bool) -> Result<Overview> {
        let Work::Survey(work) = &self.work else {
            return Err(Error::Option("only a first pass has an overview".into()));
        };
        let few = |n_rows: usize| mixture::Error::TooFewRows { k, n_rows: n_rows as u64 };
        let Found { layout, survey } = work.found.get().ok_or_else(|| few(0))?;
        let (faults, labels) = std::mem::take(&mut *locked(&work.faults));
        let n_rows = faults.check(&layout.features, layout.weight.as_ref(), nulls)?;
        if n_rows < k {
            return Err(few(n_rows).into());
        }
        if let Some(role) = &layout.label {
            labels.check(role, k)?;
        }
        let labelled = work.labelled.load(Ordering::Relaxed).checked_sub(1);
        Ok(Overview { layout: layout.clone(), labelled, surveyed: survey.finish()? })
    }

    /// The statistics of the model of this place among those of the pass, once all rows are in.
    ///
    /// # Errors
    /// Rows at fault, missing or repeated.
    pub fn statistics(&self, place: usize) -> Result<Statistics> {
        match &self.work {
            Work::Expected(jobs, _) => {
                let job = jobs.get(place).ok_or_else(|| Error::Option("the pass has fewer models".into()))?;
                Ok(job.sums.finish(&Summand::expected(&job.density))?)
            }
            Work::Assigned(work) => {
                let (labels, start, role) = std::mem::take(&mut *locked(&work.faults));
                if let Some(role) = role {
                    labels.check(&role, work.k)?;
                    start.check(&role, Nulls::LeaveOut)?;
                }
                let none = Labels { k: work.k, component: &[] };
                Ok(work.sums.finish(&Summand::Assigned(&none))?)
            }
            Work::Survey(_) => Err(Error::Option("a first pass has no model".into())),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        locked(&STREAMS).remove(&self.id);
    }
}

/// The two fields of what `scan` gets: the rows, and their numbers, which go up by one.
///
/// # Errors
/// If the numbers do anything else.
pub fn numbered(input: &Series) -> Result<(Series, u64)> {
    let mut fields = input.struct_()?.fields_as_series().into_iter();
    let (rows, numbers) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let numbers = numbers.cast(&DataType::UInt64)?;
    let numbers = numbers.u64()?;
    let (first, last) = (numbers.first().unwrap_or(0), numbers.last().unwrap_or(0));
    if last + 1 == first + numbers.len() as u64 && numbers.null_count() == 0 {
        return Ok((rows, first));
    }
    Err(mixture::Error::Torn { rows: numbers.len() as u64 }.into())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
