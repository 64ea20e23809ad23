//! Rows and options -> statistics, an M-step, a fit.

use std::ops::RangeInclusive;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use polars_core::runtime::{RAYON, THREAD_POOL};

use super::cache::Factorised;
use super::check::{Nulls, Watched};
use super::columns::{check_width, field_order, Given, Input, StartColumn, Table};
use super::error::{Error, Place, Result, Role};
use super::options::{Candidates, FitOptions, Init, OnFailure};
use crate::mixture::rows::Labels;
use crate::mixture::start::Drawn;
use crate::mixture::{
    self, start, Criterion, Density, Em, Execution, Model, Options, Pass, Rows, Statistics,
};

/// From about this many fused multiply-adds on, threads pay.
const WORTH_THREADS: usize = 1 << 21;
/// From this many on a start, whose candidates make hundreds of passes, gets them.
const WORTH_THREADS_TO_START: usize = 1 << 14;
/// What takes no more than about twenty milliseconds.
const SHORT: usize = 1 << 26;

/// Runs in the thread pool that obeys `POLARS_MAX_THREADS`.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    RAYON.install(work)
}

/// Calls `work` here; what it spawns runs in that pool.
pub fn beside_pool<'s, R>(work: impl FnOnce(&rayon::Scope<'s>) -> R) -> R {
    THREAD_POOL.in_place_scope(work)
}

/// Whether this is one of its threads.
pub fn is_in_pool() -> bool {
    THREAD_POOL.current_thread_index().is_some()
}

/// Sequential or parallel, by the work there is.
pub fn execution(rows: usize, density: &Density) -> Execution {
    execution_of(rows, density.k(), density.d())
}

fn execution_of(rows: usize, k: usize, d: usize) -> Execution {
    if work(rows, k, d) >= WORTH_THREADS {
        Execution::Parallel
    } else {
        Execution::Sequential
    }
}

/// Multiply-adds of a pass, and what a component costs a row besides.
fn work(rows: usize, k: usize, d: usize) -> usize {
    rows.saturating_mul(k).saturating_mul(d * (d + 1) + 32)
}

/// Whether so many passes end before anybody would want to stop them, on the caller's thread, which waits for nobody.
pub fn is_short(rows: usize, k: usize, d: usize, passes: u32) -> bool {
    let stays = execution_of(rows, k, d) == Execution::Sequential || Pass::is_short(rows, d, k);
    stays && work(rows, k, d).saturating_mul(passes as usize) <= SHORT
}

/// A pass over rows and what is made of its sums, by the caller's thread and helpers where it is short.
fn run_once<R: Send>(
    rows: usize,
    (k, d): (usize, usize),
    cancelled: &AtomicBool,
    work: impl FnOnce(Pass) -> R + Send,
) -> R {
    let pass = Pass { execution: execution_of(rows, k, d), helpers: None, cancelled };
    match pass.execution {
        Execution::Sequential => work(pass),
        Execution::Parallel if Pass::is_short(rows, d, k) => {
            work(Pass { helpers: Some(&THREAD_POOL), ..pass })
        }
        Execution::Parallel => in_pool(|| work(pass)),
    }
}

fn run<R: Send>(rows: usize, k: usize, d: usize, work: impl FnOnce(Pass<'static>) -> R + Send) -> R {
    match execution_of(rows, k, d) {
        Execution::Sequential => work(Pass::SEQUENTIAL),
        Execution::Parallel => in_pool(|| work(Pass { execution: Execution::Parallel, ..Pass::SEQUENTIAL })),
    }
}

/// Statistics of the rows under a model; rows with a null feature do not count.
///
/// # Errors
/// NaN, bad weights.
pub fn statistics(input: &Input, given: &Factorised, cancelled: &AtomicBool) -> Result<(Table, Statistics)> {
    let table = input.table(Some(given.model.features()))?;
    let statistics = run_once(table.n_rows(), shape(given), cancelled, |pass| expected(&table, given, pass))?;
    Ok((table, statistics))
}

fn shape(given: &Factorised) -> (usize, usize) {
    (given.density.k(), given.density.d())
}

fn expected(table: &Table, Factorised { model, density }: &Factorised, pass: Pass) -> Result<Statistics> {
    let weighing = table.weighing()?;
    let form = model.covariance_type().structure().scatter();
    let statistics = pass.e_step(table, density, form)?;
    // A pass leaves out the rows whose features are null or not finite.
    if statistics.n_rows != weighing as u64 {
        table.check(false)?;
    }
    statistics.check_finite()?;
    Ok(statistics)
}

/// The E-step, then the M-step; none if no row weighs anything.
///
/// # Errors
/// NaN, bad weights.
pub fn em_step(
    input: &Input,
    given: &Factorised,
    covariance_floor: f64,
    cancelled: &AtomicBool,
) -> Result<Option<Model>> {
    let table = input.table(Some(given.model.features()))?;
    run_once(table.n_rows(), shape(given), cancelled, |pass| {
        let statistics = expected(&table, given, pass)?;
        if statistics.total_weight == 0.0 {
            return Ok(None);
        }
        let (model, kind) = (&given.model, given.model.covariance_type());
        Ok(Some(Model::maximize(&table.features, kind, &statistics, covariance_floor, Some(model))?))
    })
}

/// Rows and their responsibilities.
pub struct AssignedRows {
    table: Table,
    given: Given,
}

impl AssignedRows {
    /// # Errors
    /// Wrong dtypes or widths.
    pub fn new(input: &Input) -> Result<Self> {
        Ok(Self { table: input.table(None)?, given: input.responsibilities()? })
    }

    /// Whether the M-step ends before anybody would want to stop it.
    pub fn is_short(&self) -> bool {
        is_short(self.table.n_rows(), self.given.width(), self.table.d(), 1)
    }

    /// The M-step; none if no row weighs anything.
    ///
    /// # Errors
    /// NaN, bad weights, nulls in features or responsibilities alone.
    pub fn m_step(&self, options: Options, cancelled: &AtomicBool) -> Result<Option<Model>> {
        let Self { table, given } = self;
        run_once(table.n_rows(), (given.width(), table.d()), cancelled, |pass| {
            let weighing = table.weighing()?;
            let watched = Watched::new(given);
            let statistics = pass.assigned(table, &watched, options.covariance_type.structure().scatter())?;
            if watched.suspects() || statistics.n_rows != weighing as u64 {
                table.check(false)?;
                table.check_responsibilities(given, Nulls::Agree)?;
            }
            if statistics.weight().iter().sum::<f64>() == 0.0 {
                return Ok(None);
            }
            let (kind, floor) = (options.covariance_type, options.covariance_floor);
            Ok(Some(Model::maximize(&table.features, kind, &statistics, floor, None)?))
        })
    }
}

/// Rows checked and ready, and the loop at its start.
pub struct Training {
    pub table: Arc<Table>,
    pub em: Em,
}

/// Rows that have been checked, and the start sample drawn last: what fits of several options share.
pub struct CheckedRows {
    table: Arc<Table>,
    /// Rows that count.
    n_rows: usize,
    drawn: Option<Drawn>,
}

impl CheckedRows {
    /// Checks the data: at least k rows that count, whose numbers are finite, and known components below k.
    ///
    /// # Errors
    /// Bad data, too few rows.
    pub fn new(input: &Input, table: Table, options: &FitOptions) -> Result<Self> {
        Self::of_several(input, table, options, options.k..=options.k)
    }

    /// The same for fits of several numbers of components: rows enough for the fewest, labels below the most.
    ///
    /// # Errors
    /// As [`CheckedRows::new`].
    fn of_several(
        input: &Input,
        mut table: Table,
        options: &FitOptions,
        k: RangeInclusive<usize>,
    ) -> Result<Self> {
        let n_rows = table.check(!options.drop_nulls)?;
        check_rows(n_rows, *k.start())?;
        if let Some(column) = input.label()? {
            let labels = table.labels(&column, *k.end(), true)?;
            if labels.iter().any(Option::is_some) {
                table.label = labels;
            }
        }
        Ok(Self { table: Arc::new(table), n_rows, drawn: None })
    }

    /// Number of features.
    pub fn d(&self) -> usize {
        self.table.d()
    }

    /// Finds the start of a fit of no more components than the rows were checked for, or goes on with a loop that began
    /// on such rows.
    ///
    /// # Errors
    /// Too few rows, a start of another shape, a known component that is none of the fit.
    pub fn begin(
        &mut self,
        input: &Input,
        options: &FitOptions,
        resumed: Option<Em>,
        pass: Pass,
    ) -> Result<Training> {
        let (table, em) = (&self.table, &options.em);
        if let Some(prior) = &em.prior {
            prior.check(table.d())?;
        }
        check_rows(self.n_rows, options.k)?;
        let largest = table.label.iter().flatten().max().copied();
        check_largest(largest, input.label()?.map(|column| column.role).as_ref(), options.k)?;
        if let Some(em) = resumed {
            return Ok(Training { em, table: Arc::clone(table) });
        }
        let features = &table.features;
        let start = match &options.init {
            Init::Draw(draw) => draw.start_sharing(&mut self.drawn, features, table.as_ref(), em, pass)?,
            Init::Model(model) => given_start(input.has_names(), input.name(), features, model)?,
            Init::Column => start_from_column(input, table, options, pass)?,
        };
        let canonical = matches!(options.init, Init::Draw(_)) && table.label.is_empty();
        Ok(Training { em: Em::new(start, em.clone(), canonical), table: Arc::clone(table) })
    }
}

/// Whether so many rows that count are enough.
fn check_rows(n_rows: usize, k: usize) -> Result<()> {
    if n_rows < k {
        return Err(mixture::Error::TooFewRows { k, n_rows: n_rows as u64 }.into());
    }
    Ok(())
}

/// Whether a fit of `k` components has the largest that labels name.
///
/// # Errors
/// The largest label.
pub fn check_largest(largest: Option<u32>, role: Option<&Role>, k: usize) -> Result<()> {
    match largest {
        Some(largest) if largest as usize >= k => {
            let labels = role.map_or_else(|| "labels".into(), Role::to_string);
            Err(Error::TooFewComponents { labels, k, largest })
        }
        _ => Ok(()),
    }
}

/// The given model with its features in the order of the data: by name in a struct, else by position.
///
/// # Errors
/// Other features, or another number of them.
pub fn given_start(has_names: bool, name: &str, features: &[String], model: &Model) -> Result<Model> {
    let order = if has_names {
        field_order(features, model.features())?;
        field_order(model.features(), features)?
    } else {
        check_width("features", name, model.d(), features.len(), Place::Schema)?;
        (0..model.d()).collect()
    };
    Ok(model.reordered(features, &order))
}

fn start_from_column(input: &Input, table: &Table, options: &FitOptions, pass: Pass) -> Result<Model> {
    match input.start(options.k)? {
        Some(StartColumn::Labels(column)) => {
            let component = table.labels(&column, options.k, false)?;
            let labels = Labels { k: options.k, component: &component };
            Ok(start::assigned(&table.features, table, &labels, &options.em, pass)?)
        }
        Some(StartColumn::Responsibilities(given)) => {
            table.check_responsibilities(&given, Nulls::LeaveOut)?;
            Ok(start::assigned(&table.features, table, &given, &options.em, pass)?)
        }
        None => Err(Error::Option("init=\"column\" needs a column to start from".into())),
    }
}

/// A whole fit, for a group: of several candidates the best; none for a group of too few rows, and for other groups
/// that cannot be fitted if that is asked for.
///
/// # Errors
/// Bad data, unless nulls are asked for; whatever is not the data's fault.
pub fn fit(input: &Input, candidates: &Candidates, on_failure: OnFailure) -> Result<Option<Model>> {
    let fitted = match candidates.options.as_slice() {
        [only] => fit_or_fail(input, only),
        several => best(input, several, candidates.criterion),
    };
    match fitted {
        Ok(model) => Ok(model),
        Err(error) if error.is_too_few_rows() => Ok(None),
        Err(error) if on_failure == OnFailure::Null && error.is_unfit_data() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The fit of lowest criterion, of equal ones that of fewest parameters. Those that the data do not allow are passed
/// over as long as one is left.
fn best(input: &Input, candidates: &[FitOptions], criterion: Criterion) -> Result<Option<Model>> {
    let counts = || candidates.iter().map(|options| options.k);
    let (Some(options), Some(fewest), Some(most)) = (candidates.first(), counts().min(), counts().max())
    else {
        return Ok(None);
    };
    let mut rows = CheckedRows::of_several(input, input.table(None)?, options, fewest..=most)?;
    let mut best: Option<(f64, Model)> = None;
    let mut failure: Option<Error> = None;
    for options in candidates {
        match fit_on(&mut rows, input, options) {
            Ok(fitted) => {
                let valued = fitted.and_then(|model| Some((criterion.of(&model)?, model)));
                best = match (best.take(), valued) {
                    (Some(a), Some(b)) => Some(if precedes(&b, &a) { b } else { a }),
                    (a, b) => a.or(b),
                };
            }
            Err(error) if error.is_too_few_rows() => failure = failure.or(Some(error)),
            Err(error) if error.is_unfit_data() || error.is_too_few_components() => {
                failure = failure.filter(|first| !first.is_too_few_rows()).or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    match (best, failure) {
        (Some((_, model)), _) => Ok(Some(model)),
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(None),
    }
}

fn precedes(a: &(f64, Model), b: &(f64, Model)) -> bool {
    a.0.total_cmp(&b.0).then(a.1.n_parameters().cmp(&b.1.n_parameters())).is_lt()
}

fn fit_or_fail(input: &Input, options: &FitOptions) -> Result<Option<Model>> {
    fit_on(&mut CheckedRows::new(input, input.table(None)?, options)?, input, options)
}

fn fit_on(rows: &mut CheckedRows, input: &Input, options: &FitOptions) -> Result<Option<Model>> {
    run(input.len(), options.k, rows.d(), |pass| {
        let Training { table, mut em } = rows.begin(input, options, None, pass)?;
        em.run(table.as_ref(), pass, None)?;
        Ok(em.model())
    })
}

/// The pass a start is found by, which somebody may stop.
pub fn starting(rows: usize, k: usize, d: usize, cancelled: &AtomicBool) -> Pass<'_> {
    let worth = work(rows, k, d) >= WORTH_THREADS_TO_START;
    Pass {
        execution: if worth { Execution::Parallel } else { Execution::Sequential },
        helpers: None,
        cancelled,
    }
}

/// A pass that somebody may stop, on the pool's threads where the caller is one of them, or [is short](is_short) and has
/// them for helpers.
pub fn cancellable(rows: usize, k: usize, d: usize, cancelled: &AtomicBool) -> Pass<'_> {
    let execution = execution_of(rows, k, d);
    let beside = execution == Execution::Parallel && !is_in_pool();
    Pass { execution, helpers: beside.then_some(&*THREAD_POOL), cancelled }
}
