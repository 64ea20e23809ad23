//! Many models -> one column: structs, lists of components, or a criterion. Each field is built once for all rows.

use std::sync::LazyLock;

use ndarray::Array3;
use polars::prelude::{DataType, Field, PlSmallStr, Series};
use polars_arrow::array::{
    Array, BooleanArray, ListArray, MutableBinaryViewArray, PrimitiveArray, StructArray, Utf8ViewArray,
};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::ArrowDataType;
use polars_arrow::offset::Offsets;
use polars_core::datatypes::CompatLevel;

use super::error::Result;
use super::values::{model_dtype, nested};
use crate::mixture::codec::VERSION;
use crate::mixture::{Criterion, Model};

/// A column of models, null where there is none.
///
/// # Errors
/// If there are more numbers than an Arrow array can hold.
pub fn models_series(name: &PlSmallStr, models: &[Option<Model>]) -> Result<Series> {
    let each = || models.iter().map(Option::as_ref);
    let figure = |of: fn(&Model) -> Option<f64>| -> Box<dyn Array> {
        Box::new(each().map(|model| model.and_then(of)).collect::<PrimitiveArray<f64>>())
    };
    let covariances: Vec<Option<&Array3<f64>>> = each().map(|model| model.map(Model::covariances)).collect();
    let version: PrimitiveArray<u8> = each().map(|model| model.map(|_| VERSION as u8)).collect();
    let n_rows: PrimitiveArray<u64> = each().map(|model| model?.training.n_rows).collect();
    let n_iter: PrimitiveArray<u32> = each().map(|model| model?.training.n_iter).collect();
    let converged: BooleanArray = each().map(|model| model?.training.converged).collect();
    let fields: Vec<Box<dyn Array>> = vec![
        Box::new(version),
        features(models)?,
        covariance_types(models),
        lists::<1>(each().map(|m| m.map(|m| ([m.k()], m.weights().iter()))))?,
        lists::<2>(each().map(|m| m.map(|m| ([m.k(), m.d()], m.means().iter()))))?,
        lists::<3>(covariances.into_iter().map(|c| c.map(|c| (c.dim().into(), c.iter()))))?,
        figure(|model| model.training.log_likelihood),
        figure(|model| model.training.entropy),
        Box::new(n_rows),
        figure(|model| model.training.total_weight),
        Box::new(n_iter),
        Box::new(converged),
    ];
    structs(name, models.len(), fields, validity(models))
}

/// The dtype of [`components_series`].
pub fn components_dtype() -> DataType {
    let fields = [
        ("component", DataType::UInt32),
        ("weight", DataType::Float64),
        ("mean", nested(1)),
        ("covariance", nested(2)),
    ];
    let fields = fields.map(|(name, dtype)| Field::new(name.into(), dtype)).to_vec();
    DataType::List(Box::new(DataType::Struct(fields)))
}

/// A list of its components for each model.
///
/// # Errors
/// If there are more numbers than an Arrow array can hold.
pub fn components_series(name: &PlSmallStr, models: &[Option<Model>]) -> Result<Series> {
    let written: Vec<(&Model, Array3<f64>)> =
        models.iter().flatten().map(|model| (model, model.full_covariances())).collect();
    let components =
        || written.iter().flat_map(|(model, full)| (0..model.k()).map(move |c| (*model, full, c)));
    let number: Vec<u32> = components().map(|(_, _, c)| c as u32).collect();
    let weight: Vec<f64> = written.iter().flat_map(|(model, _)| model.weights().iter().copied()).collect();
    let means = written.iter().flat_map(|(model, _)| model.means().outer_iter());
    let matrices = written.iter().flat_map(|(_, full)| full.outer_iter());
    let count = number.len();
    let fields: Vec<Box<dyn Array>> = vec![
        Box::new(PrimitiveArray::from_vec(number)),
        Box::new(PrimitiveArray::from_vec(weight)),
        lists::<1>(means.map(|mean| Some(([mean.len()], mean.into_iter()))))?,
        lists::<2>(matrices.map(|matrix| Some((matrix.dim().into(), matrix.into_iter()))))?,
    ];
    let dtype = components_dtype();
    let inner =
        dtype.inner_dtype().map_or(ArrowDataType::Null, |inner| inner.to_arrow(CompatLevel::newest()));
    let values = StructArray::try_new(inner, count, fields, None)?;
    let lengths = models.iter().map(|model| model.as_ref().map_or(0, Model::k));
    let array = list(Box::new(values), lengths, validity(models))?;
    Ok(Series::from_arrow(name.clone(), array)?)
}

/// The value of a criterion for each model, null where it has none.
pub fn criterion_series(name: &PlSmallStr, models: &[Option<Model>], criterion: Criterion) -> Series {
    let values: PrimitiveArray<f64> = models.iter().map(|model| criterion.of(model.as_ref()?)).collect();
    Series::from_array(name.clone(), values)
}

fn validity(models: &[Option<Model>]) -> Option<Bitmap> {
    models.iter().any(Option::is_none).then(|| models.iter().map(Option::is_some).collect())
}

fn structs(
    name: &PlSmallStr,
    len: usize,
    fields: Vec<Box<dyn Array>>,
    validity: Option<Bitmap>,
) -> Result<Series> {
    static DTYPE: LazyLock<(DataType, ArrowDataType)> =
        LazyLock::new(|| (model_dtype(), model_dtype().to_arrow(CompatLevel::newest())));
    let (dtype, arrow) = &*DTYPE;
    let array = StructArray::try_new(arrow.clone(), len, fields, validity)?;
    // SAFETY: the array has been checked against the Arrow form of the dtype, and so have its lists when they were made.
    Ok(unsafe { Series::from_chunks_and_dtype_unchecked(name.clone(), vec![Box::new(array)], dtype) })
}

fn features(models: &[Option<Model>]) -> Result<Box<dyn Array>> {
    let names: Vec<&String> = models.iter().flatten().flat_map(Model::features).collect();
    let lengths = models.iter().map(|model| model.as_ref().map_or(0, Model::d));
    list(Box::new(Utf8ViewArray::from_slice_values(names)), lengths, validity(models))
}

fn covariance_types(models: &[Option<Model>]) -> Box<dyn Array> {
    let mut names = MutableBinaryViewArray::<str>::with_capacity(models.len());
    for model in models {
        names.push(model.as_ref().map(|model| model.covariance_type().structure().name()));
    }
    names.freeze().boxed()
}

/// Lists of lists around numbers: a shape and its values for each row, or null.
fn lists<'a, const N: usize>(
    rows: impl Iterator<Item = Option<([usize; N], impl Iterator<Item = &'a f64>)>>,
) -> Result<Box<dyn Array>> {
    let mut lengths: [Vec<usize>; N] = std::array::from_fn(|_| Vec::new());
    let mut values = Vec::new();
    let mut valid = Vec::new();
    for row in rows {
        valid.push(row.is_some());
        let (shape, row) = match row {
            Some((shape, row)) => (shape, Some(row)),
            None => ([0; N], None),
        };
        let mut count = 1;
        for (lengths, extent) in lengths.iter_mut().zip(shape) {
            lengths.extend(std::iter::repeat_n(extent, count));
            count *= extent;
        }
        values.extend(row.into_iter().flatten().copied());
    }
    let validity = valid.contains(&false).then(|| valid.iter().copied().collect::<Bitmap>());
    let mut array: Box<dyn Array> = Box::new(PrimitiveArray::from_vec(values));
    for (level, lengths) in lengths.into_iter().enumerate().rev() {
        array = list(array, lengths.into_iter(), validity.clone().filter(|_| level == 0))?;
    }
    Ok(array)
}

fn list(
    values: Box<dyn Array>,
    lengths: impl Iterator<Item = usize>,
    validity: Option<Bitmap>,
) -> Result<Box<dyn Array>> {
    let offsets = Offsets::try_from_lengths(lengths)?;
    let dtype = ListArray::<i64>::default_datatype(values.dtype().clone());
    Ok(Box::new(ListArray::<i64>::try_new(dtype, offsets.into(), values, validity)?))
}
