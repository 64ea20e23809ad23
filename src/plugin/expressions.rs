//! The expressions: shells that take inputs and kwargs apart and call what does the work.

use polars::prelude::{DataType, Field, PlSmallStr, PolarsResult, Series};
use pyo3_polars::derive::polars_expr;

use super::columns::{check_features, check_packed, feature_names, Input};
use super::error::{Error, Result};
use super::options::{FitKwargs, MStepKwargs, ModelKwargs};
use super::score::{score, score_dtype, Score, Scorer};
use super::train;
use super::values::{
    check_model_dtype, check_statistics_dtype, for_each_statistics, model_dtype, model_series, null_series,
    packed_series, statistics_dtype, statistics_series, Models,
};
use crate::mixture::{Model, Statistics};

/// The first input, or the first field: Polars gives at least one.
fn first<T>(inputs: &[T]) -> Result<&T> {
    inputs.first().ok_or_else(|| Error::Option("an expression needs an input column".into()))
}

/// Checks features and model column from the schema; gives the model's k if it is known.
fn check_model_inputs(fields: &[Field], kwargs: &ModelKwargs) -> Result<(Field, Option<usize>)> {
    let rows = check_packed(first(fields)?, &kwargs.extras)?;
    let model = kwargs.model()?;
    match (&model, fields.get(1)) {
        (Some(model), _) => check_features(rows.name(), rows.dtype(), model.features())?,
        (None, Some(column)) => {
            check_model_dtype(column.name(), column.dtype())?;
            feature_names(rows.name(), rows.dtype())?;
        }
        (None, None) => return Err(Error::NullModel),
    }
    Ok((rows, model.map(|m| m.k())))
}

fn scored_field(fields: &[Field], kwargs: &ModelKwargs, what: Score) -> PolarsResult<Field> {
    let (rows, k) = check_model_inputs(fields, kwargs)?;
    Ok(Field::new(rows.name().clone(), score_dtype(what, k)))
}

fn scored(inputs: &[Series], kwargs: &ModelKwargs, what: Score) -> PolarsResult<Series> {
    let name = first(inputs)?.name().clone();
    let scorer = match kwargs.model()? {
        Some(model) => Scorer::One(model),
        None => Scorer::Column(Models::new(model_input(inputs)?)?),
    };
    Ok(score(&name, Input::new(first(inputs)?, &kwargs.extras)?, &scorer, what)?)
}

fn model_input(inputs: &[Series]) -> Result<&Series> {
    inputs.get(1).ok_or(Error::NullModel)
}

fn responsibilities_field(fields: &[Field], kwargs: ModelKwargs) -> PolarsResult<Field> {
    scored_field(fields, &kwargs, Score::Responsibilities { log: kwargs.log })
}

#[polars_expr(output_type_func_with_kwargs=responsibilities_field)]
fn responsibilities(inputs: &[Series], kwargs: ModelKwargs) -> PolarsResult<Series> {
    scored(inputs, &kwargs, Score::Responsibilities { log: kwargs.log })
}

fn predict_field(fields: &[Field], kwargs: ModelKwargs) -> PolarsResult<Field> {
    scored_field(fields, &kwargs, Score::Predict)
}

#[polars_expr(output_type_func_with_kwargs=predict_field)]
fn predict(inputs: &[Series], kwargs: ModelKwargs) -> PolarsResult<Series> {
    scored(inputs, &kwargs, Score::Predict)
}

fn log_density_field(fields: &[Field], kwargs: ModelKwargs) -> PolarsResult<Field> {
    scored_field(fields, &kwargs, Score::LogDensity)
}

#[polars_expr(output_type_func_with_kwargs=log_density_field)]
fn log_density(inputs: &[Series], kwargs: ModelKwargs) -> PolarsResult<Series> {
    scored(inputs, &kwargs, Score::LogDensity)
}

/// The one model of an aggregation: in the kwargs, or a column of equal values.
fn one_model(inputs: &[Series], kwargs: &ModelKwargs) -> Result<Option<Model>> {
    if let Some(model) = kwargs.model()? {
        return Ok(Some(model));
    }
    let models = Models::new(model_input(inputs)?)?;
    match models.changes().len() {
        0 => Ok(None),
        1 => models.get(0)?.ok_or(Error::NullModel).map(Some),
        _ => Err(Error::OneModel),
    }
}

fn statistics_field(fields: &[Field], kwargs: ModelKwargs) -> PolarsResult<Field> {
    let (rows, _) = check_model_inputs(fields, &kwargs)?;
    Ok(Field::new(rows.name().clone(), statistics_dtype()))
}

#[polars_expr(output_type_func_with_kwargs=statistics_field)]
fn statistics(inputs: &[Series], kwargs: ModelKwargs) -> PolarsResult<Series> {
    let input = Input::new(first(inputs)?, &kwargs.extras)?;
    let name = PlSmallStr::from_str(input.name());
    let Some(model) = one_model(inputs, &kwargs)? else {
        return Ok(null_series(&name, &statistics_dtype()));
    };
    let (table, statistics) = train::statistics(&input, &model)?;
    Ok(statistics_series(&name, &table.features, &statistics)?)
}

fn em_step_field(fields: &[Field], kwargs: ModelKwargs) -> PolarsResult<Field> {
    let (rows, _) = check_model_inputs(fields, &kwargs)?;
    Ok(Field::new(rows.name().clone(), model_dtype()))
}

#[polars_expr(output_type_func_with_kwargs=em_step_field)]
fn em_step(inputs: &[Series], kwargs: ModelKwargs) -> PolarsResult<Series> {
    let input = Input::new(first(inputs)?, &kwargs.extras)?;
    let name = PlSmallStr::from_str(input.name());
    let Some(model) = one_model(inputs, &kwargs)? else {
        return Ok(null_series(&name, &model_dtype()));
    };
    let (table, statistics) = train::statistics(&input, &model)?;
    let next = maximize_or_none(&table.features, &statistics, kwargs.covariance_floor, &model)?;
    model_or_null(&name, next.as_ref())
}

fn maximize_or_none(
    features: &[String],
    statistics: &Statistics,
    covariance_floor: f64,
    previous: &Model,
) -> Result<Option<Model>> {
    if statistics.total_weight == 0.0 {
        return Ok(None);
    }
    let kind = previous.covariance_type();
    Ok(Some(Model::maximize(features, kind, statistics, covariance_floor, Some(previous))?))
}

fn model_or_null(name: &PlSmallStr, model: Option<&Model>) -> PolarsResult<Series> {
    match model {
        Some(model) => Ok(model_series(name, model)?),
        None => Ok(null_series(name, &model_dtype())),
    }
}

fn m_step_field(fields: &[Field], kwargs: MStepKwargs) -> PolarsResult<Field> {
    kwargs.options()?;
    let rows = check_packed(first(fields)?, &kwargs.extras)?;
    feature_names(rows.name(), rows.dtype())?;
    Ok(Field::new(rows.name().clone(), model_dtype()))
}

#[polars_expr(output_type_func_with_kwargs=m_step_field)]
fn m_step(inputs: &[Series], kwargs: MStepKwargs) -> PolarsResult<Series> {
    let input = Input::new(first(inputs)?, &kwargs.extras)?;
    let name = PlSmallStr::from_str(input.name());
    model_or_null(&name, train::m_step(&input, kwargs.options()?)?.as_ref())
}

fn merge_field(fields: &[Field]) -> PolarsResult<Field> {
    check_statistics_dtype(first(fields)?.name(), first(fields)?.dtype())?;
    Ok(Field::new(first(fields)?.name().clone(), statistics_dtype()))
}

#[polars_expr(output_type_func=merge_field)]
fn merge(inputs: &[Series]) -> PolarsResult<Series> {
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

fn maximize_field(fields: &[Field], kwargs: MStepKwargs) -> PolarsResult<Field> {
    kwargs.options()?;
    check_statistics_dtype(first(fields)?.name(), first(fields)?.dtype())?;
    Ok(Field::new(first(fields)?.name().clone(), model_dtype()))
}

#[polars_expr(output_type_func_with_kwargs=maximize_field)]
fn maximize(inputs: &[Series], kwargs: MStepKwargs) -> PolarsResult<Series> {
    let options = kwargs.options()?;
    let name = first(inputs)?.name();
    let mut models = Series::new_empty(name.clone(), &model_dtype());
    for_each_statistics(first(inputs)?, |_, row| {
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
        models.append(&model_or_null(name, model.as_ref())?)?;
        Ok(())
    })?;
    Ok(models.rechunk())
}

fn fitted_field(fields: &[Field], kwargs: &FitKwargs, dtype: DataType) -> PolarsResult<Field> {
    kwargs.options.check()?;
    let rows = check_packed(first(fields)?, &kwargs.extras)?;
    feature_names(rows.name(), rows.dtype())?;
    Ok(Field::new(rows.name().clone(), dtype))
}

fn fit_field(fields: &[Field], kwargs: FitKwargs) -> PolarsResult<Field> {
    fitted_field(fields, &kwargs, model_dtype())
}

#[polars_expr(output_type_func_with_kwargs=fit_field)]
fn fit(inputs: &[Series], kwargs: FitKwargs) -> PolarsResult<Series> {
    let input = Input::new(first(inputs)?, &kwargs.extras)?;
    let name = PlSmallStr::from_str(input.name());
    let model = train::fit(&input, &kwargs.options.check()?, kwargs.on_failure)?;
    model_or_null(&name, model.as_ref())
}

fn fit_predict_field(fields: &[Field], kwargs: FitKwargs) -> PolarsResult<Field> {
    fitted_field(fields, &kwargs, DataType::UInt32)
}

#[polars_expr(output_type_func_with_kwargs=fit_predict_field)]
fn fit_predict(inputs: &[Series], kwargs: FitKwargs) -> PolarsResult<Series> {
    let input = Input::new(first(inputs)?, &kwargs.extras)?;
    let name = PlSmallStr::from_str(input.name());
    match train::fit(&input, &kwargs.options.check()?, kwargs.on_failure)? {
        Some(model) => Ok(score(&name, input, &Scorer::One(model), Score::Predict)?),
        None => Ok(Series::full_null(name, input.len(), &DataType::UInt32)),
    }
}

fn pack_field(fields: &[Field]) -> PolarsResult<Field> {
    check_model_dtype(first(fields)?.name(), first(fields)?.dtype())?;
    Ok(Field::new(first(fields)?.name().clone(), DataType::Binary))
}

#[polars_expr(output_type_func=pack_field)]
fn pack(inputs: &[Series]) -> PolarsResult<Series> {
    Ok(packed_series(first(inputs)?.name(), &Models::new(first(inputs)?)?)?)
}
