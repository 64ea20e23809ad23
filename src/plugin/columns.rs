//! Input Series -> rows. The only code that knows dtypes, chunks, offsets and validity of what comes in.

use std::ops::Range;

use polars::polars_utils::float16::pf16;
use polars::prelude::{ArrayRef, DataType, Field, Series};
use polars_arrow::array::{Array, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::types::NativeType;

use super::error::{Error, Result};
use crate::mixture::{Block, Responsibilities, Rows};

/// Names of the features a column of this name and dtype has; none for a List, whose width the data tell.
///
/// # Errors
/// If the dtype cannot hold features.
pub fn feature_names(name: &str, dtype: &DataType) -> Result<Option<Vec<String>>> {
    match dtype {
        DataType::Struct(fields) => {
            if fields.is_empty() {
                return Err(Error::NoFeatures { name: name.into() });
            }
            if let Some(f) = fields.iter().find(|f| !is_number(f.dtype())) {
                return Err(Error::FieldDtype { name: f.name().to_string(), dtype: f.dtype().clone() });
            }
            Ok(Some(fields.iter().map(|f| f.name().to_string()).collect()))
        }
        DataType::Array(inner, 0) if is_number(inner) => Err(Error::NoFeatures { name: name.into() }),
        DataType::Array(inner, width) if is_number(inner) => Ok(Some(positional(name, *width))),
        DataType::List(inner) if is_number(inner) => Ok(None),
        dtype if is_number(dtype) => Ok(Some(vec![name.into()])),
        dtype => Err(Error::FeatureDtype { name: name.into(), dtype: dtype.clone() }),
    }
}

/// Checks, from the schema alone, that a column can be scored by a model of these features.
///
/// # Errors
/// Wrong dtype, a missing or superfluous feature, a wrong width.
pub fn check_features(name: &str, dtype: &DataType, features: &[String]) -> Result<()> {
    let Some(given) = feature_names(name, dtype)? else {
        return Ok(());
    };
    if matches!(dtype, DataType::Struct(_)) {
        return field_order(&given, features).map(|_| ());
    }
    check_width("features", name, features.len(), given.len(), String::new())
}

/// Names of features known by their position only.
fn positional(name: &str, width: usize) -> Vec<String> {
    (0..width).map(|j| format!("{name}[{j}]")).collect()
}

fn is_number(dtype: &DataType) -> bool {
    dtype.is_primitive_numeric() || matches!(dtype, DataType::Boolean | DataType::Decimal(..))
}

/// Where each of the model's features stands among the given fields.
///
/// # Errors
/// A feature that is missing, or fields the model does not have.
pub fn field_order(given: &[String], features: &[String]) -> Result<Vec<usize>> {
    let find = |name: &String| {
        given
            .iter()
            .position(|g| g == name)
            .ok_or_else(|| Error::MissingFeature { name: name.clone(), given: given.to_vec() })
    };
    let order = features.iter().map(find).collect::<Result<_>>()?;
    if given.len() > features.len() {
        return Err(Error::ExtraFeatures {
            d: features.len(),
            features: features.to_vec(),
            given: given.to_vec(),
            extra: given.iter().filter(|g| !features.contains(g)).cloned().collect(),
        });
    }
    Ok(order)
}

/// # Errors
/// If the widths differ.
pub fn check_width(what: &'static str, name: &str, expected: usize, got: usize, place: String) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Width { what, name: name.into(), expected, got, place })
}

/// A flat Arrow array of numbers, read as f64. The conversion rounds once, so that equal values give equal bits.
trait Flat: Send + Sync {
    fn write(&self, range: Range<usize>, out: &mut [f64]);
    fn validity(&self) -> Option<&Bitmap>;
}

trait AsF64: NativeType {
    fn as_f64(self) -> f64;
}

macro_rules! as_f64 {
    ($($native:ty),*) => {$(
        impl AsF64 for $native {
            fn as_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}

as_f64!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64);

impl AsF64 for pf16 {
    fn as_f64(self) -> f64 {
        self.into()
    }
}

impl<T: AsF64> Flat for PrimitiveArray<T> {
    fn write(&self, range: Range<usize>, out: &mut [f64]) {
        for (out, x) in out.iter_mut().zip(&self.values().as_slice()[range]) {
            *out = x.as_f64();
        }
    }

    fn validity(&self) -> Option<&Bitmap> {
        Array::validity(self)
    }
}

impl Flat for BooleanArray {
    fn write(&self, range: Range<usize>, out: &mut [f64]) {
        for (out, i) in out.iter_mut().zip(range) {
            *out = f64::from(u8::from(self.values().get_bit(i)));
        }
    }

    fn validity(&self) -> Option<&Bitmap> {
        Array::validity(self)
    }
}

/// Unscaled integers and the power of ten they are divided by.
struct Decimals {
    unscaled: PrimitiveArray<i128>,
    power: f64,
}

impl Flat for Decimals {
    fn write(&self, range: Range<usize>, out: &mut [f64]) {
        for (out, x) in out.iter_mut().zip(&self.unscaled.values().as_slice()[range]) {
            *out = *x as f64 / self.power;
        }
    }

    fn validity(&self) -> Option<&Bitmap> {
        Array::validity(&self.unscaled)
    }
}

fn flat(array: &dyn Array, dtype: &DataType) -> Option<Box<dyn Flat>> {
    fn primitive<T: AsF64>(array: &dyn Array) -> Option<Box<dyn Flat>> {
        let array = array.as_any().downcast_ref::<PrimitiveArray<T>>()?;
        Some(Box::new(array.clone()))
    }
    match dtype {
        DataType::Boolean => {
            let array = array.as_any().downcast_ref::<BooleanArray>()?;
            Some(Box::new(array.clone()))
        }
        DataType::UInt8 => primitive::<u8>(array),
        DataType::UInt16 => primitive::<u16>(array),
        DataType::UInt32 => primitive::<u32>(array),
        DataType::UInt64 => primitive::<u64>(array),
        DataType::UInt128 => primitive::<u128>(array),
        DataType::Int8 => primitive::<i8>(array),
        DataType::Int16 => primitive::<i16>(array),
        DataType::Int32 => primitive::<i32>(array),
        DataType::Int64 => primitive::<i64>(array),
        DataType::Int128 => primitive::<i128>(array),
        DataType::Float16 => primitive::<pf16>(array),
        DataType::Float32 => primitive::<f32>(array),
        DataType::Float64 => primitive::<f64>(array),
        DataType::Decimal(_, scale) => {
            let unscaled = array.as_any().downcast_ref::<PrimitiveArray<i128>>()?.clone();
            Some(Box::new(Decimals { unscaled, power: 10_f64.powi(i32::try_from(*scale).ok()?) }))
        }
        _ => None,
    }
}

/// The pieces of a chunked column that cover a range of rows.
struct Chunks<C> {
    chunks: Vec<C>,
    /// First row of each chunk, and the number of all rows.
    starts: Vec<usize>,
}

impl<C> Chunks<C> {
    fn new(arrays: &[ArrayRef], mut chunk: impl FnMut(&dyn Array) -> Option<C>) -> Option<Self> {
        let mut starts = vec![0];
        let mut chunks = Vec::with_capacity(arrays.len());
        for array in arrays {
            chunks.push(chunk(array.as_ref())?);
            starts.push(starts.last()? + array.len());
        }
        Some(Self { chunks, starts })
    }

    /// Calls `visit(chunk, rows within the chunk, rows within the range)` along the range.
    fn visit(&self, rows: Range<usize>, mut visit: impl FnMut(&C, Range<usize>, Range<usize>)) {
        let mut at = rows.start;
        let mut i = self.starts.partition_point(|s| *s <= at).saturating_sub(1);
        while at < rows.end && i < self.chunks.len() {
            let (first, end) = (self.starts[i], self.starts[i + 1].min(rows.end));
            if end > at {
                visit(&self.chunks[i], at - first..end - first, at - rows.start..end - rows.start);
                at = end;
            }
            i += 1;
        }
    }
}

/// One number a row.
struct Lane(Chunks<Box<dyn Flat>>);

impl Lane {
    fn new(series: &Series) -> Option<Self> {
        Chunks::new(series.chunks(), |array| flat(array, series.dtype())).map(Self)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f64], mut null: impl FnMut(usize)) {
        self.0.visit(rows, |chunk, within, place| {
            chunk.write(within.clone(), &mut out[place.clone()]);
            for_each_null(chunk.validity(), within, place.start, &mut null);
        });
    }
}

fn for_each_null(
    validity: Option<&Bitmap>,
    within: Range<usize>,
    place: usize,
    null: &mut impl FnMut(usize),
) {
    if let Some(bits) = validity.filter(|bits| bits.unset_bits() > 0) {
        for (i, row) in within.enumerate() {
            if !bits.get_bit(row) {
                null(place + i);
            }
        }
    }
}

/// A chunk of an Array or List column: where each row's numbers begin in the flat values.
struct Nested {
    values: Box<dyn Flat>,
    offsets: Offsets,
    validity: Option<Bitmap>,
}

enum Offsets {
    Fixed(usize),
    List(polars_arrow::offset::OffsetsBuffer<i64>),
}

impl Nested {
    fn new(array: &dyn Array, inner: &DataType) -> Option<Self> {
        if let Some(array) = array.as_any().downcast_ref::<FixedSizeListArray>() {
            return Some(Self {
                values: flat(array.values().as_ref(), inner)?,
                offsets: Offsets::Fixed(array.size()),
                validity: array.validity().cloned(),
            });
        }
        let array = array.as_any().downcast_ref::<ListArray<i64>>()?;
        Some(Self {
            values: flat(array.values().as_ref(), inner)?,
            offsets: Offsets::List(array.offsets().clone()),
            validity: array.validity().cloned(),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        self.validity.as_ref().is_some_and(|bits| !bits.get_bit(row))
    }

    fn range(&self, row: usize) -> Range<usize> {
        match &self.offsets {
            Offsets::Fixed(width) => row * width..(row + 1) * width,
            Offsets::List(offsets) => {
                let (start, end) = offsets.start_end(row);
                start..end
            }
        }
    }

    /// Where the first null among these values stands.
    fn first_null(&self, mut range: Range<usize>) -> Option<usize> {
        let bits = self.values.validity().filter(|bits| bits.unset_bits() > 0)?;
        range.position(|i| !bits.get_bit(i))
    }
}

/// Several numbers a row: fields of a struct, one plain column, or the elements of an Array or List.
enum Source {
    Lanes(Vec<Lane>),
    Nested { chunks: Chunks<Nested>, width: usize },
}

impl Source {
    /// Reads an Array or List column whose rows all have `width` numbers, or the width of the first.
    fn nested(series: &Series, inner: &DataType, what: &'static str, width: Option<usize>) -> Result<Self> {
        let name = series.name().as_str();
        let chunks = Chunks::new(series.chunks(), |array| Nested::new(array, inner))
            .ok_or_else(|| Error::FeatureDtype { name: name.into(), dtype: series.dtype().clone() })?;
        let mut width = match series.dtype() {
            DataType::Array(_, array) => Some(
                width
                    .map_or(Ok(*array), |w| check_width(what, name, w, *array, String::new()).map(|()| w))?,
            ),
            _ => width,
        };
        let mut wrong = None;
        chunks.visit(0..series.len(), |chunk, within, place| {
            for (i, row) in within.enumerate() {
                let len = chunk.range(row).len();
                if wrong.is_none() && !chunk.is_null(row) && len != *width.get_or_insert(len) {
                    wrong = Some((len, place.start + i));
                }
            }
        });
        let width = width.unwrap_or(0);
        if let Some((got, row)) = wrong {
            check_width(what, name, width, got, format!(" in row {row}"))?;
        }
        Ok(Self::Nested { chunks, width })
    }

    fn width(&self) -> usize {
        match self {
            Self::Lanes(lanes) => lanes.len(),
            Self::Nested { width, .. } => *width,
        }
    }

    /// Writes number `j` of the rows to `lanes[j·stride ..]` and names the rows in which one is null.
    fn read(&self, rows: Range<usize>, lanes: &mut [f64], stride: usize, mut null: impl FnMut(usize, usize)) {
        match self {
            Self::Lanes(columns) => {
                for (j, column) in columns.iter().enumerate() {
                    column.read(rows.clone(), &mut lanes[j * stride..], |row| null(row, j));
                }
            }
            Self::Nested { chunks, width } => {
                let mut numbers = vec![0.0; *width];
                chunks.visit(rows, |chunk, within, place| {
                    for (row, i) in within.zip(place) {
                        let range = chunk.range(row);
                        let missing =
                            if chunk.is_null(row) { Some(0) } else { chunk.first_null(range.clone()) };
                        if let Some(j) = missing {
                            null(i, j);
                            continue;
                        }
                        chunk.values.write(range, &mut numbers);
                        for (j, x) in numbers.iter().enumerate() {
                            lanes[j * stride + i] = *x;
                        }
                    }
                });
            }
        }
    }
}

/// What a plugin call gets as its first input: features, and what is said about each row.
pub struct Table {
    /// Names of the features.
    pub features: Vec<String>,
    n_rows: usize,
    source: Source,
    weight: Option<Lane>,
}

/// Responsibilities given as a column.
pub struct Given {
    source: Source,
}

/// A column that says where to start.
pub enum StartColumn {
    /// The component of each row.
    Labels(Vec<Option<u32>>),
    /// Responsibilities of each row.
    Responsibilities(Given),
}

/// The first input taken apart: the feature column and the columns packed beside it.
pub struct Input {
    rows: Series,
    extras: Vec<(String, Series)>,
}

impl Input {
    /// `roles` names the fields 1.. of the packed struct; without any, the input is the feature column itself.
    ///
    /// # Errors
    /// If the struct does not have one field for each role and one for the rows.
    pub fn new(series: &Series, roles: &[String]) -> Result<Self> {
        if roles.is_empty() {
            return Ok(Self { rows: series.clone(), extras: Vec::new() });
        }
        let mut fields = match series.struct_() {
            Ok(packed) if packed.struct_fields().len() == roles.len() + 1 => {
                packed.fields_as_series().into_iter()
            }
            Ok(packed) => {
                let got = packed.struct_fields().len() - roles.len();
                return Err(Error::Packed { roles: roles.to_vec(), got });
            }
            Err(_) => return Err(Error::Packed { roles: roles.to_vec(), got: 0 }),
        };
        let rows = fields.next().unwrap_or_default();
        Ok(Self { rows, extras: roles.iter().cloned().zip(fields).collect() })
    }

    fn extra(&self, role: &str) -> Option<&Series> {
        self.extras.iter().find(|(r, _)| r == role).map(|(_, series)| series)
    }

    /// Whether features are known by their names, not by their position.
    pub fn has_names(&self) -> bool {
        matches!(self.rows.dtype(), DataType::Struct(_))
    }

    /// Name of the feature column.
    pub fn name(&self) -> &str {
        self.rows.name()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The same input with its single row repeated.
    pub fn broadcast(self, len: usize) -> Self {
        let repeat = |s: Series| s.new_from_index(0, len);
        Self {
            rows: repeat(self.rows),
            extras: self.extras.into_iter().map(|(role, s)| (role, repeat(s))).collect(),
        }
    }

    /// The rows from `start` on, `len` of them.
    pub fn slice(&self, start: usize, len: usize) -> Self {
        let cut = |s: &Series| s.slice(i64::try_from(start).unwrap_or(i64::MAX), len);
        Self {
            rows: cut(&self.rows),
            extras: self.extras.iter().map(|(role, s)| (role.clone(), cut(s))).collect(),
        }
    }

    /// The feature column as rows, in the model's order of features if there is one.
    ///
    /// # Errors
    /// Wrong dtype, width or names.
    pub fn table(&self, model: Option<&[String]>) -> Result<Table> {
        let (name, dtype) = (self.rows.name().as_str(), self.rows.dtype());
        if let Some(features) = model {
            check_features(name, dtype, features)?;
        }
        let given = feature_names(name, dtype)?;
        let wrong = || Error::FeatureDtype { name: name.into(), dtype: dtype.clone() };
        let source = match dtype {
            DataType::Struct(_) => {
                let fields = self.rows.struct_()?.fields_as_series();
                let given = given.unwrap_or_default();
                let order = field_order(&given, model.unwrap_or(&given))?;
                let lanes = order.iter().map(|i| Lane::new(&fields[*i]));
                Source::Lanes(lanes.collect::<Option<_>>().ok_or_else(wrong)?)
            }
            DataType::Array(inner, _) | DataType::List(inner) => {
                Source::nested(&self.rows, inner, "features", model.map(<[String]>::len))?
            }
            _ => Source::Lanes(vec![Lane::new(&self.rows).ok_or_else(wrong)?]),
        };
        let features = match (dtype, model) {
            (_, Some(features)) => features.to_vec(),
            (DataType::Struct(fields), None) => fields.iter().map(|f| f.name().to_string()).collect(),
            (DataType::Array(..) | DataType::List(_), None) => positional(name, source.width()),
            _ => vec![name.to_string()],
        };
        let weight = self.extra("weight").map(weights).transpose()?;
        Ok(Table { features, n_rows: self.rows.len(), source, weight })
    }

    /// The responsibilities packed beside the features.
    ///
    /// # Errors
    /// Wrong dtype or width.
    pub fn responsibilities(&self) -> Result<Given> {
        let series = self.extra("responsibility").ok_or_else(|| {
            Error::Option(
                "m_step needs responsibilities: a List or Array column, as responsibilities(model) makes"
                    .into(),
            )
        })?;
        given(series, None)
    }

    /// The column of labels or responsibilities to start from, if there is one.
    ///
    /// # Errors
    /// Wrong dtype or width, or a label outside `0..k`.
    pub fn start(&self, k: usize) -> Result<Option<StartColumn>> {
        let Some(series) = self.extra("start") else {
            return Ok(None);
        };
        check_role("start", series.name(), series.dtype())?;
        if series.dtype().is_nested() {
            return given(series, Some(k)).map(StartColumn::Responsibilities).map(Some);
        }
        labels(series, k).map(StartColumn::Labels).map(Some)
    }
}

/// Name and dtype of the feature column of a packed input, whose other fields are checked for their roles.
///
/// # Errors
/// Another number of fields, or a field of a dtype that cannot play its role.
pub fn check_packed(field: &Field, roles: &[String]) -> Result<Field> {
    if roles.is_empty() {
        return Ok(field.clone());
    }
    let fields: &[Field] = if let DataType::Struct(fields) = field.dtype() { fields } else { &[] };
    if fields.len() != roles.len() + 1 {
        return Err(Error::Packed { roles: roles.to_vec(), got: fields.len().saturating_sub(roles.len()) });
    }
    for (role, field) in roles.iter().zip(&fields[1..]) {
        check_role(role, field.name(), field.dtype())?;
    }
    Ok(fields[0].clone())
}

fn check_role(role: &str, name: &str, dtype: &DataType) -> Result<()> {
    let name = name.to_string();
    let numbers = matches!(dtype, DataType::Array(inner, _) | DataType::List(inner) if is_number(inner));
    match role {
        "weight" if !is_number(dtype) => {
            Err(Error::RoleDtype { role: "weights", name, dtype: dtype.clone() })
        }
        "responsibility" if !numbers => Err(Error::ResponsibilityDtype { name, dtype: dtype.clone() }),
        "start" if !numbers && !dtype.is_integer() && !matches!(dtype, DataType::Boolean) => {
            Err(Error::StartDtype { name, dtype: dtype.clone() })
        }
        _ => Ok(()),
    }
}

fn weights(series: &Series) -> Result<Lane> {
    check_role("weight", series.name(), series.dtype())?;
    Lane::new(series).ok_or_else(|| role_dtype("weights", series))
}

fn given(series: &Series, k: Option<usize>) -> Result<Given> {
    check_role("responsibility", series.name(), series.dtype())?;
    let inner = series.dtype().inner_dtype().cloned().unwrap_or(DataType::Null);
    Ok(Given { source: Source::nested(series, &inner, "responsibilities", k)? })
}

fn role_dtype(role: &'static str, series: &Series) -> Error {
    Error::RoleDtype { role, name: series.name().to_string(), dtype: series.dtype().clone() }
}

fn labels(series: &Series, k: usize) -> Result<Vec<Option<u32>>> {
    let lane = Lane::new(series).ok_or_else(|| role_dtype("labels", series))?;
    let mut numbers = vec![0.0; series.len()];
    let mut known = vec![true; series.len()];
    lane.read(0..series.len(), &mut numbers, |row| known[row] = false);
    let label = |(row, (&got, known)): (usize, (&f64, &bool))| {
        if !known {
            Ok(None)
        } else if got >= 0.0 && got < k as f64 {
            Ok(Some(got as u32))
        } else {
            Err(Error::Label { k, last: k - 1, row, got })
        }
    };
    numbers.iter().zip(&known).enumerate().map(label).collect()
}

impl Rows for Table {
    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn d(&self) -> usize {
        self.source.width()
    }

    fn read(&self, start: usize, block: &mut Block) {
        let rows = start..start + block.len();
        let stride = block.stride();
        let mut nulls = Vec::new();
        self.source.read(rows.clone(), block.features_mut(), stride, |row, _| nulls.push(row));
        nulls.into_iter().for_each(|row| block.mark_null(row));
        if let Some(weight) = &self.weight {
            weight.read(rows, block.weight_mut(), |_| {});
        }
    }
}

impl Given {
    /// Number of components.
    pub fn width(&self) -> usize {
        self.source.width()
    }
}

impl Responsibilities for Given {
    fn k(&self) -> usize {
        self.source.width()
    }

    fn assign(&self, start: usize, block: &mut Block) {
        let (rows, stride, k) = (start..start + block.len(), block.stride(), self.k());
        let mut nulls = Vec::new();
        self.source.read(rows, block.components_mut(), stride, |row, _| nulls.push(row));
        for row in nulls {
            (0..k).for_each(|c| block.component_mut(c)[row] = 0.0);
        }
    }
}

/// Rows looked at together by the checks.
const CHECKED: usize = 2048;

/// The first of several rows at fault, and how many there are.
#[derive(Clone, Copy, Default)]
struct Fault {
    count: usize,
    first: usize,
}

impl Fault {
    fn add(&mut self, row: usize) {
        if self.count == 0 {
            self.first = row;
        }
        self.count += 1;
    }

    fn or(self, error: impl FnOnce(usize, usize) -> Error) -> Result<()> {
        if self.count == 0 {
            Ok(())
        } else {
            Err(error(self.count, self.first))
        }
    }
}

impl Table {
    /// Checks weights and features of all rows that weigh more than nothing; nulls are faults only with `nulls`.
    ///
    /// # Errors
    /// The first column at fault, with the number of faults and the first row.
    pub fn check(&self, nulls: bool) -> Result<()> {
        self.check_weights()?;
        let d = self.d();
        let mut null = vec![Fault::default(); d];
        let mut not_finite = vec![Fault::default(); d];
        self.for_each_chunk(|start, len, lanes, weight| {
            let mut is_null = vec![false; len];
            self.source.read(start..start + len, lanes, CHECKED, |row, j| {
                if weight[row] > 0.0 {
                    null[j].add(start + row);
                }
                is_null[row] = true;
            });
            for (lane, fault) in lanes.chunks_exact(CHECKED).zip(&mut not_finite) {
                let lane = &lane[..len];
                if lane.iter().map(|x| x * 0.0).sum::<f64>() == 0.0 {
                    continue;
                }
                for (row, x) in lane.iter().enumerate() {
                    if !x.is_finite() && !is_null[row] && weight[row] > 0.0 {
                        fault.add(start + row);
                    }
                }
            }
        });
        for (name, (null, not_finite)) in self.features.iter().zip(null.into_iter().zip(not_finite)) {
            if nulls {
                null.or(|count, row| Error::Nulls { name: name.clone(), count, row })?;
            }
            not_finite.or(|count, row| Error::NotFinite { name: name.clone(), count, row })?;
        }
        Ok(())
    }

    /// Checks given responsibilities beside the features: numbers >= 0, and null in the same rows.
    ///
    /// # Errors
    /// The number of rows at fault and the first of them.
    pub fn check_responsibilities(&self, given: &Given) -> Result<()> {
        let mut mismatch = Fault::default();
        let (mut negative, mut not_finite) = (Fault::default(), Fault::default());
        let mut given_lanes = vec![0.0; given.width() * CHECKED];
        self.for_each_chunk(|start, len, lanes, weight| {
            let (mut x_null, mut r_null) = (vec![false; len], vec![false; len]);
            self.source.read(start..start + len, lanes, CHECKED, |row, _| x_null[row] = true);
            given.source.read(start..start + len, &mut given_lanes, CHECKED, |row, _| r_null[row] = true);
            for row in (0..len).filter(|row| weight[*row] > 0.0) {
                let mut numbers = (0..given.width()).map(|c| given_lanes[c * CHECKED + row]);
                if x_null[row] != r_null[row] {
                    mismatch.add(start + row);
                } else if !r_null[row] && numbers.clone().any(|r| !r.is_finite()) {
                    not_finite.add(start + row);
                } else if !r_null[row] && numbers.any(|r| r < 0.0) {
                    negative.add(start + row);
                }
            }
        });
        let role = "responsibilities";
        mismatch.or(|count, row| Error::NullMismatch { role, count, row })?;
        not_finite.or(|count, row| Error::Responsibilities { kind: "NaN or infinite", count, row })?;
        negative.or(|count, row| Error::Responsibilities { kind: "negative", count, row })
    }

    /// Checks that labels are null in the rows in which a feature is, and in no others.
    ///
    /// # Errors
    /// The number of rows at fault and the first of them.
    pub fn check_labels(&self, labels: &[Option<u32>]) -> Result<()> {
        let mut mismatch = Fault::default();
        self.for_each_chunk(|start, len, lanes, weight| {
            let mut null = vec![false; len];
            self.source.read(start..start + len, lanes, CHECKED, |row, _| null[row] = true);
            for row in (0..len).filter(|row| weight[*row] > 0.0) {
                if null[row] != labels[start + row].is_none() {
                    mismatch.add(start + row);
                }
            }
        });
        mismatch.or(|count, row| Error::NullMismatch { role: "labels", count, row })
    }

    fn check_weights(&self) -> Result<()> {
        let Some(lane) = &self.weight else {
            return Ok(());
        };
        let kinds = ["null", "negative", "NaN or infinite"];
        let mut faults = [Fault::default(); 3];
        let mut weight = vec![0.0; CHECKED];
        for start in (0..self.n_rows).step_by(CHECKED) {
            let len = CHECKED.min(self.n_rows - start);
            let mut is_null = vec![false; len];
            lane.read(start..start + len, &mut weight, |row| is_null[row] = true);
            for (row, w) in weight[..len].iter().enumerate() {
                if is_null[row] {
                    faults[0].add(start + row);
                } else if *w < 0.0 {
                    faults[1].add(start + row);
                } else if !w.is_finite() {
                    faults[2].add(start + row);
                }
            }
        }
        for (kind, fault) in kinds.into_iter().zip(faults) {
            fault.or(|count, row| Error::Weights { kind, count, row })?;
        }
        Ok(())
    }

    /// Calls `visit(start, len, room for the features, weights)` along all rows.
    fn for_each_chunk(&self, mut visit: impl FnMut(usize, usize, &mut [f64], &[f64])) {
        let mut lanes = vec![0.0; self.d() * CHECKED];
        let mut weight = vec![1.0; CHECKED];
        for start in (0..self.n_rows).step_by(CHECKED) {
            let len = CHECKED.min(self.n_rows - start);
            if let Some(lane) = &self.weight {
                lane.read(start..start + len, &mut weight, |_| {});
            }
            visit(start, len, &mut lanes, &weight);
        }
    }
}
