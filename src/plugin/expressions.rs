//! The expressions: shells that take inputs and kwargs apart and call what does the work.

use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use polars::prelude::{DataType, Field, NamedFrom, PlSmallStr, PolarsResult, Series};

use super::cache::Factorised;
use super::columns::{check_features, check_packed, check_start, feature_names, Input};
use super::error::{Error, Result};
use super::options::{CriterionKwargs, FitKwargs, MStepKwargs, ModelKwargs, NoKwargs, ScanKwargs};
use super::records::{components_dtype, components_series, criterion_series, models_series};
use super::score::{score, score_dtype, Score, Scorer};
use super::shell::expression;
use super::stream::{numbered, Stream};
use super::train::{self, AssignedRows};
use super::values::{
    check_model_dtype, check_statistics_dtype, for_each_statistics, model_dtype, null_series, packed_series,
    statistics_dtype, statistics_series, Models,
};
use crate::mixture::{Model, Statistics};

expression!(responsibilities, responsibilities_field, ModelKwargs);
expression!(predict, predict_field, ModelKwargs);
expression!(log_density, log_density_field, ModelKwargs);
expression!(statistics, statistics_field, ModelKwargs);
expression!(em_step, em_step_field, ModelKwargs);
expression!(m_step, m_step_field, MStepKwargs);
expression!(merge, merge_field, NoKwargs);
expression!(maximize, maximize_field, MStepKwargs);
expression!(fit, fit_field, FitKwargs);
expression!(fit_predict, fit_predict_field, FitKwargs);
expression!(pack, pack_field, NoKwargs);
expression!(unpack, unpack_field, NoKwargs);
expression!(components, components_field, NoKwargs);
expression!(criterion, criterion_field, CriterionKwargs);
expression!(scan, scan_field, ScanKwargs);

/// Polars calls an expression to its end.
static NEVER: AtomicBool = AtomicBool::new(false);

/// The first input, or the first field: Polars gives at least one.
fn first<T>(inputs: &[T]) -> Result<&T> {
    inputs.first().ok_or_else(|| Error::Option("an expression needs an input column".into()))
}

/// Checks features and model column from the schema; gives the model's k if it is known.
fn check_model_inputs(fields: &[Field], kwargs: &ModelKwargs) -> Result<(Field, Option<usize>)> {
    let rows = check_packed(first(fields)?, &kwargs.extras)?;
    let given = kwargs.model()?;
    match (&given, fields.get(1)) {
        (Some(given), _) => check_features(rows.name(), rows.dtype(), given.model.features())?,
        (None, Some(column)) => {
            check_model_dtype(column.name(), column.dtype())?;
            feature_names(rows.name(), rows.dtype())?;
        }
        (None, None) => return Err(Error::NullModel),
    }
    Ok((rows, given.map(|given| given.model.k())))
}

fn scored_field(fields: &[Field], kwargs: &ModelKwargs, what: Score) -> PolarsResult<Field> {
    let (rows, k) = check_model_inputs(fields, kwargs)?;
    Ok(Field::new(rows.name().clone(), score_dtype(what, k)))
}

fn scored(inputs: &[Series], kwargs: &ModelKwargs, what: Score) -> PolarsResult<Series> {
    let name = first(inputs)?.name().clone();
    let scorer = if let Some(given) = kwargs.model()? {
        Scorer::One(given)
    } else {
        let column = model_input(inputs)?;
        Scorer::Column(column.name().clone(), Models::new(column)?)
    };
    Ok(score(&name, Input::new(first(inputs)?, &kwargs.extras)?, &scorer, what)?)
}

fn model_input(inputs: &[Series]) -> Result<&Series> {
    inputs.get(1).ok_or(Error::NullModel)
}

fn responsibilities_field(fields: &[Field], kwargs: &ModelKwargs) -> PolarsResult<Field> {
    scored_field(fields, kwargs, Score::Responsibilities { log: kwargs.log })
}

fn responsibilities(inputs: &[Series], kwargs: &ModelKwargs) -> PolarsResult<Series> {
    scored(inputs, kwargs, Score::Responsibilities { log: kwargs.log })
}

fn predict_field(fields: &[Field], kwargs: &ModelKwargs) -> PolarsResult<Field> {
    scored_field(fields, kwargs, Score::Predict)
}

fn predict(inputs: &[Series], kwargs: &ModelKwargs) -> PolarsResult<Series> {
    scored(inputs, kwargs, Score::Predict)
}

fn log_density_field(fields: &[Field], kwargs: &ModelKwargs) -> PolarsResult<Field> {
    scored_field(fields, kwargs, Score::LogDensity)
}

fn log_density(inputs: &[Series], kwargs: &ModelKwargs) -> PolarsResult<Series> {
    scored(inputs, kwargs, Score::LogDensity)
}

/// The one model of an aggregation: in the kwargs, or a column of equal values; none if that is null or empty.
fn one_model(inputs: &[Series], kwargs: &ModelKwargs) -> Result<Option<Arc<Factorised>>> {
    if let Some(given) = kwargs.model()? {
        return Ok(Some(given));
    }
    let column = model_input(inputs)?;
    let models = Models::new(column)?;
    match models.distinct().first.len() {
        0 => Ok(None),
        1 => models.factorised(0).map_err(|e| e.in_column(column.name(), 0)),
        _ => Err(Error::OneModel),
    }
}

fn statistics_field(fields: &[Field], kwargs: &ModelKwargs) -> PolarsResult<Field> {
    let (rows, _) = check_model_inputs(fields, kwargs)?;
    Ok(Field::new(rows.name().clone(), statistics_dtype()))
}

fn statistics(inputs: &[Series], kwargs: &ModelKwargs) -> PolarsResult<Series> {
    let input = Input::new(first(inputs)?, &kwargs.extras)?;
    let name = PlSmallStr::from_str(input.name());
    let Some(given) = one_model(inputs, kwargs)? else {
        return Ok(null_series(&name, &statistics_dtype()));
    };
    let (table, statistics) = train::statistics(&input, &given, &NEVER)?;
    Ok(statistics_series(&name, &table.features, &statistics)?)
}

fn em_step_field(fields: &[Field], kwargs: &ModelKwargs) -> PolarsResult<Field> {
    let (rows, _) = check_model_inputs(fields, kwargs)?;
    Ok(Field::new(rows.name().clone(), model_dtype()))
}

fn em_step(inputs: &[Series], kwargs: &ModelKwargs) -> PolarsResult<Series> {
    let input = Input::new(first(inputs)?, &kwargs.extras)?;
    let name = PlSmallStr::from_str(input.name());
    let Some(given) = one_model(inputs, kwargs)? else {
        return Ok(null_series(&name, &model_dtype()));
    };
    model_or_null(&name, train::em_step(&input, &given, kwargs.covariance_floor, &NEVER)?)
}

fn model_or_null(name: &PlSmallStr, model: Option<Model>) -> PolarsResult<Series> {
    Ok(models_series(name, &[model])?)
}

fn m_step_field(fields: &[Field], kwargs: &MStepKwargs) -> PolarsResult<Field> {
    kwargs.options()?;
    let rows = check_packed(first(fields)?, &kwargs.extras)?;
    feature_names(rows.name(), rows.dtype())?;
    Ok(Field::new(rows.name().clone(), model_dtype()))
}

fn m_step(inputs: &[Series], kwargs: &MStepKwargs) -> PolarsResult<Series> {
    let input = Input::new(first(inputs)?, &kwargs.extras)?;
    let name = PlSmallStr::from_str(input.name());
    model_or_null(&name, AssignedRows::new(&input)?.m_step(kwargs.options()?, &NEVER)?)
}

fn merge_field(fields: &[Field], _: &NoKwargs) -> PolarsResult<Field> {
    check_statistics_dtype(first(fields)?.name(), first(fields)?.dtype())?;
    Ok(Field::new(first(fields)?.name().clone(), statistics_dtype()))
}

fn merge(inputs: &[Series], _: &NoKwargs) -> PolarsResult<Series> {
    let mut sum: Option<(Vec<String>, Statistics)> = None;
    for_each_statistics(first(inputs)?, |_, row| {
        let Some((features, statistics)) = row else {
            return Ok(());
        };
        match &mut sum {
            None => sum = Some((features, statistics)),
            Some((names, total)) => {
                if *names != features {
                    let (a, b) = (format!("features {names:?}"), format!("features {features:?}"));
                    return Err(crate::mixture::Error::Merge { a, b }.into());
                }
                total.check_mergeable(&statistics)?;
                total.merge(&statistics);
            }
        }
        Ok(())
    })?;
    let name = first(inputs)?.name();
    match sum {
        Some((features, statistics)) => {
            statistics.check_finite().map_err(Error::from)?;
            Ok(statistics_series(name, &features, &statistics)?)
        }
        None => Ok(null_series(name, &statistics_dtype())),
    }
}

fn maximize_field(fields: &[Field], kwargs: &MStepKwargs) -> PolarsResult<Field> {
    kwargs.options()?;
    check_statistics_dtype(first(fields)?.name(), first(fields)?.dtype())?;
    Ok(Field::new(first(fields)?.name().clone(), model_dtype()))
}

fn maximize(inputs: &[Series], kwargs: &MStepKwargs) -> PolarsResult<Series> {
    let options = kwargs.options()?;
    let input = first(inputs)?;
    let name = input.name();
    let mut models = Vec::with_capacity(input.len());
    for_each_statistics(input, |_, row| {
        let model = match row {
            Some((features, statistics)) if statistics.total_weight > 0.0 => Some(Model::maximize(
                &features,
                options.covariance_type,
                &statistics,
                options.covariance_floor,
                None,
            )?),
            _ => None,
        };
        models.push(model);
        Ok(())
    })
    .map_err(|e| e.in_batch(0, input.len()))?;
    Ok(models_series(name, &models)?)
}

fn fitted_field(fields: &[Field], kwargs: &FitKwargs, dtype: DataType) -> PolarsResult<Field> {
    let rows = check_packed(first(fields)?, &kwargs.extras)?;
    feature_names(rows.name(), rows.dtype())?;
    for options in kwargs.candidates()?.options {
        check_start(first(fields)?, &rows, &options)?;
    }
    Ok(Field::new(rows.name().clone(), dtype))
}

/// Packed, because Polars takes bytes from each group for a tenth of what a struct costs; `unpack` makes structs of
/// those of all groups at once.
fn fit_field(fields: &[Field], kwargs: &FitKwargs) -> PolarsResult<Field> {
    fitted_field(fields, kwargs, DataType::Binary)
}

/// The rows to fit, by the name of their column.
fn fit_input(inputs: &[Series], kwargs: &FitKwargs) -> Result<Input> {
    Ok(Input::new(first(inputs)?, &kwargs.extras)?.named(kwargs.name.as_deref()))
}

fn fit(inputs: &[Series], kwargs: &FitKwargs) -> PolarsResult<Series> {
    let input = fit_input(inputs, kwargs)?;
    let model = train::fit(&input, &kwargs.candidates()?, kwargs.on_failure)?;
    Ok(packed_series(&PlSmallStr::from_str(input.name()), &[model])?)
}

fn fit_predict_field(fields: &[Field], kwargs: &FitKwargs) -> PolarsResult<Field> {
    fitted_field(fields, kwargs, DataType::UInt32)
}

fn fit_predict(inputs: &[Series], kwargs: &FitKwargs) -> PolarsResult<Series> {
    let input = fit_input(inputs, kwargs)?;
    let name = PlSmallStr::from_str(input.name());
    match train::fit(&input, &kwargs.candidates()?, kwargs.on_failure)? {
        Some(model) => {
            let scorer = Scorer::One(Arc::new(Factorised::new(model)?));
            Ok(score(&name, input, &scorer, Score::Predict)?)
        }
        None => Ok(Series::full_null(name, input.len(), &DataType::UInt32)),
    }
}

/// The field of what is made of each model of a column.
fn of_models(fields: &[Field], dtype: DataType) -> PolarsResult<Field> {
    check_model_dtype(first(fields)?.name(), first(fields)?.dtype())?;
    Ok(Field::new(first(fields)?.name().clone(), dtype))
}

fn all_models(inputs: &[Series]) -> Result<(&PlSmallStr, Vec<Option<Model>>)> {
    let name = first(inputs)?.name();
    Ok((name, Models::new(first(inputs)?)?.all(name)?))
}

fn pack_field(fields: &[Field], _: &NoKwargs) -> PolarsResult<Field> {
    of_models(fields, DataType::Binary)
}

fn pack(inputs: &[Series], _: &NoKwargs) -> PolarsResult<Series> {
    let (name, models) = all_models(inputs)?;
    Ok(packed_series(name, &models)?)
}

fn unpack_field(fields: &[Field], _: &NoKwargs) -> PolarsResult<Field> {
    of_models(fields, model_dtype())
}

fn unpack(inputs: &[Series], _: &NoKwargs) -> PolarsResult<Series> {
    let (name, models) = all_models(inputs)?;
    Ok(models_series(name, &models)?)
}

fn components_field(fields: &[Field], _: &NoKwargs) -> PolarsResult<Field> {
    of_models(fields, components_dtype())
}

fn components(inputs: &[Series], _: &NoKwargs) -> PolarsResult<Series> {
    let (name, models) = all_models(inputs)?;
    Ok(components_series(name, &models)?)
}

fn criterion_field(fields: &[Field], kwargs: &CriterionKwargs) -> PolarsResult<Field> {
    kwargs.criterion()?;
    of_models(fields, DataType::Float64)
}

fn criterion(inputs: &[Series], kwargs: &CriterionKwargs) -> PolarsResult<Series> {
    let (name, models) = all_models(inputs)?;
    Ok(criterion_series(name, &models, kwargs.criterion()?))
}

fn scan_field(fields: &[Field], kwargs: &ScanKwargs) -> PolarsResult<Field> {
    Stream::find(kwargs.scan)?;
    Ok(Field::new(first(fields)?.name().clone(), DataType::UInt64))
}

/// Hands the rows over to the pass they are for, which is in this process; gives their number.
fn scan(inputs: &[Series], kwargs: &ScanKwargs) -> PolarsResult<Series> {
    let input = first(inputs)?;
    let stream = Stream::find(kwargs.scan)?;
    if !input.is_empty() {
        let (rows, first) = numbered(input)?;
        stream.absorb(&rows, first)?;
    }
    Ok(Series::new(input.name().clone(), [input.len() as u64]))
}
