//! Models and statistics <-> Polars values: a struct with flat nested lists, or packed Binary.

#![allow(clippy::indexing_slicing)] // Offsets come from Arrow arrays, whose constructors have checked them.

use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array1, Array2, Array3};
use polars::prelude::{
    DataType, Field, IntoSeries, NamedFrom, PlSmallStr, PolarsResult, Series, StructChunked,
};
use polars_arrow::array::{Array, BinaryViewArray, ListArray, PrimitiveArray, Utf8ViewArray, View};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::ArrowDataType;
use polars_arrow::offset::{Offsets, OffsetsBuffer};

use super::cache::Factorised;
use super::distinct::{Distinct, Words};
use super::error::{Error, Result};
use crate::mixture::codec::{self, VERSION};
use crate::mixture::linalg::{asymmetry, triangle};
use crate::mixture::statistics::Scatter;
use crate::mixture::{CovarianceType, Model, Statistics, Training};

const MODEL_MAKER: &str = "fit, m_step, em_step or maximize";
const STATISTICS_MAKER: &str = "statistics or merge";

/// Lists of lists of numbers.
pub fn nested(depth: usize) -> DataType {
    (0..depth).fold(DataType::Float64, |inner, _| DataType::List(Box::new(inner)))
}

fn fields(named: &[(&'static str, DataType)]) -> DataType {
    DataType::Struct(named.iter().map(|(name, dtype)| Field::new((*name).into(), dtype.clone())).collect())
}

fn model_fields() -> [(&'static str, DataType); 12] {
    [
        ("version", DataType::UInt8),
        ("features", DataType::List(Box::new(DataType::String))),
        ("covariance_type", DataType::String),
        ("weights", nested(1)),
        ("means", nested(2)),
        ("covariances", nested(3)),
        ("log_likelihood", DataType::Float64),
        ("entropy", DataType::Float64),
        ("n_rows", DataType::UInt64),
        ("total_weight", DataType::Float64),
        ("n_iter", DataType::UInt32),
        ("converged", DataType::Boolean),
    ]
}

fn statistics_fields() -> [(&'static str, DataType); 9] {
    [
        ("version", DataType::UInt8),
        ("features", DataType::List(Box::new(DataType::String))),
        ("weight", nested(1)),
        ("mean", nested(2)),
        ("scatter", nested(3)),
        ("log_likelihood", DataType::Float64),
        ("entropy", DataType::Float64),
        ("n_rows", DataType::UInt64),
        ("total_weight", DataType::Float64),
    ]
}

/// The dtype of a model.
pub fn model_dtype() -> DataType {
    fields(&model_fields())
}

/// The dtype of statistics.
pub fn statistics_dtype() -> DataType {
    fields(&statistics_fields())
}

/// Checks from the schema that a column holds models.
///
/// # Errors
/// A sentence with its dtype.
pub fn check_model_dtype(name: &str, dtype: &DataType) -> Result<()> {
    match dtype {
        DataType::Binary | DataType::Null => Ok(()),
        DataType::Struct(_) => check_fields("a model", name, dtype, &model_fields(), MODEL_MAKER),
        _ => Err(Error::ModelDtype { name: name.into(), dtype: dtype.clone() }),
    }
}

/// Checks from the schema that a column holds statistics.
///
/// # Errors
/// A sentence with its dtype.
pub fn check_statistics_dtype(name: &str, dtype: &DataType) -> Result<()> {
    check_fields("statistics", name, dtype, &statistics_fields(), STATISTICS_MAKER)
}

fn check_fields(
    what: &'static str,
    name: &str,
    dtype: &DataType,
    expected: &[(&'static str, DataType)],
    maker: &'static str,
) -> Result<()> {
    let given: &[Field] = if let DataType::Struct(given) = dtype { given } else { &[] };
    for (field, expected) in expected {
        let name = || name.to_string();
        match given.iter().find(|g| g.name() == field).map(Field::dtype) {
            None => return Err(Error::Field { what, field, name: name(), dtype: dtype.clone(), maker }),
            Some(given) if is_readable(given, expected) => {}
            Some(given) => {
                let (expected, dtype) = (Box::new(expected.clone()), Box::new(given.clone()));
                return Err(Error::FieldType { what, field, name: name(), expected, dtype, maker });
            }
        }
    }
    Ok(())
}

/// Whether a field can be read as `expected`: the same nesting, and numbers, integers or strings of any width.
fn is_readable(dtype: &DataType, expected: &DataType) -> bool {
    match (dtype, expected) {
        (DataType::Null, _) => true,
        (DataType::List(inner) | DataType::Array(inner, _), DataType::List(expected)) => {
            is_readable(inner, expected)
        }
        (_, DataType::List(_)) => false,
        (_, DataType::String) => {
            matches!(dtype, DataType::String | DataType::Categorical(..) | DataType::Enum(..))
        }
        (_, DataType::Boolean) => matches!(dtype, DataType::Boolean),
        (_, DataType::Float64) => dtype.is_primitive_numeric() || matches!(dtype, DataType::Decimal(..)),
        _ => dtype.is_integer(),
    }
}

/// Lists of lists around flat values: one row, of `lengths[0]` lists of `lengths[1]` lists of …
fn lists(values: Box<dyn Array>, lengths: &[usize]) -> PolarsResult<Box<dyn Array>> {
    let mut array = values;
    for (level, length) in lengths.iter().enumerate().rev() {
        let lists: usize = lengths.iter().take(level).product();
        let offsets = Offsets::try_from_lengths(std::iter::repeat_n(*length, lists))?;
        let dtype = ListArray::<i64>::default_datatype(array.dtype().clone());
        array = Box::new(ListArray::<i64>::try_new(dtype, offsets.into(), array, None)?);
    }
    Ok(array)
}

/// One row of nested lists of the given lengths.
fn numbers(name: &str, values: Vec<f64>, lengths: &[usize]) -> PolarsResult<Series> {
    let array = lists(Box::new(PrimitiveArray::from_vec(values)), lengths)?;
    Series::from_arrow(name.into(), array)
}

fn strings(name: &str, values: &[String]) -> PolarsResult<Series> {
    let array = lists(Box::new(Utf8ViewArray::from_slice_values(values)), &[values.len()])?;
    Series::from_arrow(name.into(), array)
}

/// One row, null.
pub fn null_series(name: &PlSmallStr, dtype: &DataType) -> Series {
    Series::full_null(name.clone(), 1, dtype)
}

/// Statistics as one row; the log-likelihood is null where no model gave the responsibilities.
pub fn statistics_series(name: &PlSmallStr, features: &[String], statistics: &Statistics) -> Result<Series> {
    let (k, d) = (statistics.k(), statistics.d());
    let rows = match statistics.scatter_form() {
        Scatter::Full => d,
        Scatter::Diagonal => 1,
    };
    let mut scatter = Vec::with_capacity(k * rows * d);
    for c in 0..k {
        for i in 0..rows {
            let entry = |j| statistics.scatter_entry(c, if rows == d { i } else { j }, j);
            scatter.extend((0..d).map(entry));
        }
    }
    let series = [
        Series::new("version".into(), [VERSION as u8]),
        strings("features", features)?,
        numbers("weight", statistics.weight().to_vec(), &[k])?,
        numbers("mean", statistics.mean().to_vec(), &[k, d])?,
        numbers("scatter", scatter, &[k, rows, d])?,
        Series::new("log_likelihood".into(), [statistics.log_likelihood]),
        Series::new("entropy".into(), [statistics.entropy]),
        Series::new("n_rows".into(), [statistics.n_rows]),
        Series::new("total_weight".into(), [statistics.total_weight]),
    ];
    Ok(StructChunked::from_series(name.clone(), 1, series.iter())?.into_series())
}

/// Packed models. One of them, which is what each of many groups gives, takes no more room than its bytes.
///
/// # Errors
/// If the bytes are more than an Arrow array can hold.
pub fn packed_series(name: &PlSmallStr, models: &[Option<Model>]) -> Result<Series> {
    let [Some(model)] = models else {
        let packed = models.iter().map(|model| model.as_ref().map(codec::pack));
        return Ok(Series::new(name.clone(), packed.collect::<Vec<Option<Vec<u8>>>>()));
    };
    let bytes = codec::pack(model);
    let views = vec![View::new_from_bytes(&bytes, 0, 0)];
    let array =
        BinaryViewArray::try_new(ArrowDataType::BinaryView, views.into(), vec![bytes.into()].into(), None)?;
    Ok(Series::from_array(name.clone(), array))
}

/// A column of nested lists of numbers, one chunk, for random access.
struct Numbers {
    levels: Vec<OffsetsBuffer<i64>>,
    /// Which lists are null, level by level.
    validity: Vec<Option<Bitmap>>,
    values: PrimitiveArray<f64>,
}

impl Numbers {
    fn new(series: &Series, depth: usize) -> Result<Self> {
        let series = series.strict_cast(&nested(depth))?.rechunk();
        let wrong = || Error::Option(format!("column {:?} must hold lists of numbers", series.name()));
        let mut array = series.chunks().first().cloned().ok_or_else(wrong)?;
        let mut levels = Vec::with_capacity(depth);
        let mut validity = Vec::with_capacity(depth);
        for _ in 0..depth {
            let list = array.as_any().downcast_ref::<ListArray<i64>>().ok_or_else(wrong)?.clone();
            levels.push(list.offsets().clone());
            validity.push(list.validity().cloned());
            array = list.values().clone();
        }
        let values = array.as_any().downcast_ref::<PrimitiveArray<f64>>().ok_or_else(wrong)?.clone();
        Ok(Self { levels, validity, values })
    }

    /// The numbers of a row, and their number at each level.
    fn get(&self, row: usize) -> (Vec<usize>, &[f64]) {
        let (mut start, mut end) = (row, row + 1);
        let mut counts = Vec::with_capacity(self.levels.len());
        for offsets in &self.levels {
            let offsets = offsets.as_slice();
            (start, end) = (offsets[start] as usize, offsets[end] as usize);
            counts.push(end - start);
        }
        (counts, &self.values.values().as_slice()[start..end])
    }

    /// Feeds the bits of a row.
    fn hash(&self, row: usize, hasher: &mut impl Hasher) {
        for x in self.get(row).1 {
            hasher.write_u64(x.to_bits());
        }
    }

    /// Whether two rows are the same lists of the same bits, without nulls.
    fn equal(&self, a: usize, b: usize) -> bool {
        if self.has_null(a) || self.has_null(b) {
            return false;
        }
        let (mut a, mut b) = (a..a + 1, b..b + 1);
        for offsets in &self.levels {
            let offsets = offsets.as_slice();
            let lengths = |r: &Range<usize>| offsets[r.start..=r.end].windows(2).map(|o| o[1] - o[0]);
            if !lengths(&a).eq(lengths(&b)) {
                return false;
            }
            let inner = |r: &Range<usize>| offsets[r.start] as usize..offsets[r.end] as usize;
            (a, b) = (inner(&a), inner(&b));
        }
        let values = self.values.values().as_slice();
        values[a].iter().zip(&values[b]).all(|(x, y)| x.to_bits() == y.to_bits())
    }

    /// Whether the row, a list in it, or a number is null.
    fn has_null(&self, row: usize) -> bool {
        let null = |bits: Option<&Bitmap>, range: Range<usize>| {
            bits.is_some_and(|bits| range.into_iter().any(|i| !bits.get_bit(i)))
        };
        let (mut start, mut end) = (row, row + 1);
        for (offsets, bits) in self.levels.iter().zip(&self.validity) {
            if null(bits.as_ref(), start..end) {
                return true;
            }
            let offsets = offsets.as_slice();
            (start, end) = (offsets[start] as usize, offsets[end] as usize);
        }
        null(self.values.validity(), start..end)
    }
}

/// A column of lists of strings, one chunk.
struct Strings {
    offsets: OffsetsBuffer<i64>,
    validity: Option<Bitmap>,
    values: Utf8ViewArray,
}

impl Strings {
    fn new(series: &Series) -> Result<Self> {
        let series = series.strict_cast(&DataType::List(Box::new(DataType::String)))?.rechunk();
        let wrong = || Error::Option(format!("column {:?} must hold lists of strings", series.name()));
        let array = series.chunks().first().ok_or_else(wrong)?;
        let list = array.as_any().downcast_ref::<ListArray<i64>>().ok_or_else(wrong)?;
        let values = list.values().as_any().downcast_ref::<Utf8ViewArray>().ok_or_else(wrong)?.clone();
        Ok(Self { offsets: list.offsets().clone(), validity: list.validity().cloned(), values })
    }

    /// The strings of a row, none for those that are null; none at all where the list is.
    fn row(&self, row: usize) -> Option<impl Iterator<Item = Option<&str>>> {
        let (start, end) = self.offsets.start_end(row);
        let valid = self.validity.as_ref().is_none_or(|bits| bits.get_bit(row));
        valid.then(|| (start..end).map(|i| self.values.get(i)))
    }

    fn get(&self, row: usize) -> Result<Vec<String>> {
        let null = || decode("its features have nulls");
        self.row(row).ok_or_else(null)?.map(|name| Ok(name.ok_or_else(null)?.to_string())).collect()
    }

    /// Whether two rows hold the same strings, without nulls.
    fn equal(&self, a: usize, b: usize) -> bool {
        match (self.row(a), self.row(b)) {
            (Some(a), Some(mut b)) => {
                a.into_iter().all(|a| a.is_some() && b.next() == Some(a)) && b.next().is_none()
            }
            _ => false,
        }
    }
}

/// The fields of a struct column, found by name.
struct Columns<'a> {
    what: &'static str,
    maker: &'static str,
    series: &'a Series,
    fields: Vec<Series>,
}

impl<'a> Columns<'a> {
    fn new(what: &'static str, maker: &'static str, series: &'a Series) -> Result<Self> {
        Ok(Self { what, maker, series, fields: series.struct_()?.fields_as_series() })
    }

    fn get(&self, field: &'static str) -> Result<&Series> {
        self.fields.iter().find(|s| s.name() == field).ok_or_else(|| Error::Field {
            what: self.what,
            field,
            name: self.series.name().to_string(),
            dtype: self.series.dtype().clone(),
            maker: self.maker,
        })
    }

    fn cast(&self, field: &'static str, dtype: &DataType) -> Result<Series> {
        Ok(self.get(field)?.strict_cast(dtype)?.rechunk())
    }
}

/// A column of models, whatever its form.
pub enum Models {
    /// Struct values.
    Struct(Box<StructModels>),
    /// Packed values.
    Packed(BinaryViewArray),
    /// Nulls, as many as rows.
    Null(usize),
}

/// The fields of a struct column of models, taken apart.
pub struct StructModels {
    len: usize,
    null: Vec<bool>,
    version: Series,
    features: Strings,
    covariance_type: Series,
    weights: Numbers,
    means: Numbers,
    covariances: Numbers,
    log_likelihood: Series,
    entropy: Series,
    n_rows: Series,
    total_weight: Series,
    n_iter: Series,
    converged: Series,
}

impl Models {
    /// # Errors
    /// If the column has another dtype.
    pub fn new(series: &Series) -> Result<Self> {
        match series.dtype() {
            DataType::Null => Ok(Self::Null(series.len())),
            DataType::Struct(_) => {
                check_model_dtype(series.name(), series.dtype())?;
                Ok(Self::Struct(Box::new(StructModels::new(series)?)))
            }
            DataType::Binary => {
                let series = series.rechunk();
                let chunk = series.binary()?.downcast_iter().next();
                Ok(Self::Packed(
                    chunk.cloned().unwrap_or_else(|| BinaryViewArray::from_slice([None::<&[u8]>; 0])),
                ))
            }
            dtype => Err(Error::ModelDtype { name: series.name().to_string(), dtype: dtype.clone() }),
        }
    }

    /// Rows of the column.
    pub fn len(&self) -> usize {
        match self {
            Self::Struct(models) => models.len,
            Self::Packed(bytes) => bytes.len(),
            Self::Null(len) => *len,
        }
    }

    /// The model in a row.
    ///
    /// # Errors
    /// If what stands there is no valid model.
    pub fn get(&self, row: usize) -> Result<Option<Model>> {
        match self {
            Self::Struct(models) => models.get(row),
            Self::Packed(bytes) => Ok(bytes.get(row).map(codec::unpack).transpose()?),
            Self::Null(_) => Ok(None),
        }
    }

    /// The model in a row, with its factors.
    ///
    /// # Errors
    /// If what stands there is no valid model, or a covariance is singular.
    pub fn factorised(&self, row: usize) -> Result<Option<Arc<Factorised>>> {
        match self {
            Self::Packed(bytes) => bytes.get(row).map(Factorised::recall).transpose(),
            _ => Ok(self.get(row)?.map(Factorised::new).transpose()?.map(Arc::new)),
        }
    }

    /// The models of all rows.
    ///
    /// # Errors
    /// If what stands in some row is no valid model.
    pub fn all(&self, name: &str) -> Result<Vec<Option<Model>>> {
        let model = |row| self.get(row).map_err(|e| e.in_column(name, row).in_batch(0, self.len()));
        (0..self.len()).map(model).collect()
    }

    /// Which rows hold the same model.
    pub fn distinct(&self) -> Distinct {
        match self {
            Self::Struct(models) => {
                Distinct::by(models.len, |row| models.hash(row), |a, b| models.equal(a, b))
            }
            Self::Packed(bytes) => Distinct::of_bytes(bytes),
            Self::Null(len) => Distinct::by(*len, |_| 0, |_, _| true),
        }
    }
}

impl StructModels {
    fn new(series: &Series) -> Result<Self> {
        let columns = Columns::new("a model", MODEL_MAKER, series)?;
        let version = columns.cast("version", &DataType::UInt32)?;
        Ok(Self {
            len: series.len(),
            null: version.is_null().iter().map(|b| b.unwrap_or(true)).collect(),
            version,
            features: Strings::new(columns.get("features")?)?,
            covariance_type: columns.cast("covariance_type", &DataType::String)?,
            weights: Numbers::new(columns.get("weights")?, 1)?,
            means: Numbers::new(columns.get("means")?, 2)?,
            covariances: Numbers::new(columns.get("covariances")?, 3)?,
            log_likelihood: columns.cast("log_likelihood", &DataType::Float64)?,
            entropy: columns.cast("entropy", &DataType::Float64)?,
            n_rows: columns.cast("n_rows", &DataType::UInt64)?,
            total_weight: columns.cast("total_weight", &DataType::Float64)?,
            n_iter: columns.cast("n_iter", &DataType::UInt32)?,
            converged: columns.cast("converged", &DataType::Boolean)?,
        })
    }

    fn get(&self, row: usize) -> Result<Option<Model>> {
        if self.null[row] {
            let filled = self.covariance_type.str()?.get(row).is_some() || !self.weights.has_null(row);
            return if filled { Err(decode("its version is null")) } else { Ok(None) };
        }
        codec::check_version(self.version.u32()?.get(row).unwrap_or(0))?;
        let features = self.features.get(row)?;
        let covariance_type = self.covariance_type.str()?.get(row);
        let covariance_type =
            CovarianceType::parse(covariance_type.ok_or_else(|| decode("its covariance_type is null"))?)?;
        let weights = Array1::from_vec(rectangular::<1>(&self.weights, row, "weights")?.1);
        let (shape, values) = rectangular::<2>(&self.means, row, "means")?;
        let means = Array2::from_shape_vec(shape, values).map_err(decode)?;
        let (shape, values) = rectangular::<3>(&self.covariances, row, "covariances")?;
        let covariances = Array3::from_shape_vec(shape, values).map_err(decode)?;
        let training = Training {
            log_likelihood: self.log_likelihood.f64()?.get(row),
            entropy: self.entropy.f64()?.get(row),
            n_rows: self.n_rows.u64()?.get(row),
            total_weight: self.total_weight.f64()?.get(row),
            n_iter: self.n_iter.u32()?.get(row),
            converged: self.converged.bool()?.get(row),
        };
        let model = Model::new(features, covariance_type, weights, means, covariances)?;
        Ok(Some(model.with_training(training)?))
    }

    /// A number that equal rows share.
    fn hash(&self, row: usize) -> u64 {
        let mut hasher = Words::default();
        if !self.null[row] {
            for numbers in [&self.weights, &self.means, &self.covariances] {
                numbers.hash(row, &mut hasher);
            }
            if !self.equal(row, row) {
                hasher.write_usize(row); // With nulls inside it equals no row: none need be compared.
            }
        }
        hasher.finish()
    }

    fn equal(&self, a: usize, b: usize) -> bool {
        if self.null[a] || self.null[b] {
            return self.null[a] && self.null[b];
        }
        let numbers = [&self.weights, &self.means, &self.covariances];
        let types = self.covariance_type.str().is_ok_and(|t| t.get(a) == t.get(b));
        let versions = self.version.u32().is_ok_and(|v| v.get(a) == v.get(b));
        numbers.iter().all(|n| n.equal(a, b)) && types && versions && self.features.equal(a, b)
    }
}

/// The numbers of a row and their shape.
fn rectangular<const N: usize>(numbers: &Numbers, row: usize, name: &str) -> Result<([usize; N], Vec<f64>)> {
    let (counts, values) = numbers.get(row);
    let mut shape = [0; N];
    let mut lists = 1;
    for (extent, count) in shape.iter_mut().zip(&counts) {
        *extent = count.checked_div(lists).unwrap_or(0);
        lists = *count;
    }
    if shape.iter().product::<usize>() != values.len()
        || numbers.has_null(row)
        || numbers.is_ragged(row, &shape)
    {
        return Err(decode(format!("its {name} are ragged or have nulls")));
    }
    Ok((shape, values.to_vec()))
}

impl Numbers {
    /// Whether some list of the row has another length than its level's.
    fn is_ragged(&self, row: usize, shape: &[usize]) -> bool {
        let (mut start, mut end) = (row, row + 1);
        for (offsets, extent) in self.levels.iter().zip(shape) {
            let offsets = offsets.as_slice();
            if offsets[start..=end].windows(2).any(|o| (o[1] - o[0]) as usize != *extent) {
                return true;
            }
            (start, end) = (offsets[start] as usize, offsets[end] as usize);
        }
        false
    }
}

fn decode(reason: impl ToString) -> Error {
    crate::mixture::Error::Decode { reason: reason.to_string() }.into()
}

/// Calls `visit` with the statistics of each row, none for a null.
///
/// # Errors
/// If a row holds no statistics, or what `visit` returns.
pub fn for_each_statistics(
    series: &Series,
    mut visit: impl FnMut(usize, Option<(Vec<String>, Statistics)>) -> Result<()>,
) -> Result<()> {
    check_statistics_dtype(series.name(), series.dtype())?;
    let columns = Columns::new("statistics", STATISTICS_MAKER, series)?;
    let version = columns.cast("version", &DataType::UInt32)?;
    let features = Strings::new(columns.get("features")?)?;
    let weight = Numbers::new(columns.get("weight")?, 1)?;
    let mean = Numbers::new(columns.get("mean")?, 2)?;
    let scatter = Numbers::new(columns.get("scatter")?, 3)?;
    let log_likelihood = columns.cast("log_likelihood", &DataType::Float64)?;
    let entropy = columns.cast("entropy", &DataType::Float64)?;
    let n_rows = columns.cast("n_rows", &DataType::UInt64)?;
    let total_weight = columns.cast("total_weight", &DataType::Float64)?;
    let statistics = |row| -> Result<Option<(Vec<String>, Statistics)>> {
        let Some(version) = version.u32()?.get(row) else {
            if !weight.has_null(row) {
                return Err(Error::Statistics { got: "a version that is null".into() });
            }
            return Ok(None);
        };
        codec::check_version(version)?;
        let names = features.get(row)?;
        let (_, weight) = rectangular::<1>(&weight, row, "weight")?;
        let ([k, d], mean) = rectangular::<2>(&mean, row, "mean")?;
        let (shape, scatter) = rectangular::<3>(&scatter, row, "scatter")?;
        if names.len() != d || (shape != [k, d, d] && shape != [k, 1, d]) {
            let got = format!("{} features, mean {:?} and scatter {shape:?}", names.len(), [k, d]);
            return Err(Error::Statistics { got });
        }
        let (form, packed) = pack_scatter(shape, &scatter)?;
        let mut statistics = Statistics::from_parts((k, d, form), weight, mean, packed)?;
        statistics.log_likelihood = figure(&log_likelihood, row)?;
        statistics.entropy = figure(&entropy, row)?;
        let missing = || Error::Statistics { got: "an n_rows that is null".into() };
        statistics.n_rows = n_rows.u64()?.get(row).ok_or_else(missing)?;
        statistics.total_weight = figure(&total_weight, row)?;
        if statistics.total_weight < 0.0 {
            return Err(Error::Statistics { got: "a total_weight that is negative".into() });
        }
        Ok(Some((names, statistics)))
    };
    for row in 0..series.len() {
        statistics(row).and_then(|s| visit(row, s)).map_err(|e| e.in_column(series.name(), row))?;
    }
    Ok(())
}

/// A number of the statistics, named as its column.
fn figure(column: &Series, row: usize) -> Result<f64> {
    let value = column.f64()?.get(row).filter(|v| v.is_finite());
    value.ok_or_else(|| Error::Statistics { got: format!("a {} that is null or not finite", column.name()) })
}

/// Lower triangles of matrices, or diagonals as they are.
///
/// # Errors
/// If a matrix is not symmetric.
fn pack_scatter([k, rows, d]: [usize; 3], scatter: &[f64]) -> Result<(Scatter, Vec<f64>)> {
    if rows != d {
        return Ok((Scatter::Diagonal, scatter.to_vec()));
    }
    let mut packed = Vec::with_capacity(k * triangle(d));
    for c in 0..k {
        let entry = |i: usize, j: usize| scatter[(c * d + i) * d + j];
        if let Some((row, column)) = asymmetry(d, entry) {
            let (a, b) = (entry(row, column), entry(column, row));
            let got =
                format!("a scatter of component {c} with {a:?} at [{row}, {column}] and {b:?} across it");
            return Err(Error::Statistics { got });
        }
        for i in 0..d {
            packed.extend((0..=i).map(|j| entry(i, j)));
        }
    }
    Ok((Scatter::Full, packed))
}
