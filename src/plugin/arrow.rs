//! Arrow arrays -> lanes of f64: dtypes, chunks, offsets, validity.

#![allow(clippy::indexing_slicing)] // Rows and offsets come from Arrow arrays, whose constructors have checked them.

use std::ops::Range;

use polars::polars_utils::float16::pf16;
use polars::prelude::{ArrayRef, DataType};
use polars_arrow::array::{Array, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::types::NativeType;

use crate::mixture::simd::prefetch;
use crate::mixture::transpose::transpose;

/// Whether a column of this dtype holds numbers.
pub fn is_number(dtype: &DataType) -> bool {
    dtype.is_primitive_numeric() || matches!(dtype, DataType::Boolean | DataType::Decimal(..))
}

/// A flat Arrow array of numbers, read as f64. The conversion rounds once, so that equal values give equal bits.
trait Flat: Send + Sync {
    fn write(&self, range: Range<usize>, out: &mut [f64]);
    fn validity(&self) -> Option<&Bitmap>;

    /// All numbers where they lie, if they are f64.
    fn lying(&self) -> Option<&[f64]> {
        None
    }
}

trait AsF64: NativeType {
    fn as_f64(self) -> f64;

    fn all_f64(_: &[Self]) -> Option<&[f64]> {
        None
    }
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

as_f64!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32);

impl AsF64 for f64 {
    fn as_f64(self) -> f64 {
        self
    }

    fn all_f64(numbers: &[f64]) -> Option<&[f64]> {
        Some(numbers)
    }
}

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

    fn lying(&self) -> Option<&[f64]> {
        T::all_f64(self.values().as_slice())
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
    power: u128,
}

impl Flat for Decimals {
    fn write(&self, range: Range<usize>, out: &mut [f64]) {
        for (out, x) in out.iter_mut().zip(&self.unscaled.values().as_slice()[range]) {
            *out = quotient(*x, self.power);
        }
    }

    fn validity(&self) -> Option<&Bitmap> {
        Array::validity(&self.unscaled)
    }
}

/// Every integer up to this is a float.
const EXACT: u128 = 1 << f64::MANTISSA_DIGITS;
/// Every power of ten up to this is a float.
const EXACT_POWER: u128 = 10_u128.pow(22);

/// x / power, rounded once: to the nearest float, ties to even.
fn quotient(x: i128, power: u128) -> f64 {
    let magnitude = x.unsigned_abs();
    if power == 1 || (magnitude <= EXACT && power <= EXACT_POWER) {
        return x as f64 / power as f64;
    }
    let rounded = long_division(magnitude, power);
    if x < 0 {
        -rounded
    } else {
        rounded
    }
}

/// Bit by bit, until the bits of a float and one more are known; whatever remains then only breaks ties.
fn long_division(x: u128, power: u128) -> f64 {
    if x == 0 {
        return 0.0;
    }
    let (mut bits, mut rest, mut exponent) = (x / power, x % power, 0);
    while bits < 2 * EXACT {
        rest *= 2;
        bits *= 2;
        if rest >= power {
            rest -= power;
            bits += 1;
        }
        exponent -= 1;
    }
    let sticky = u128::from(rest != 0);
    (2 * bits + sticky) as f64 * 2_f64.powi(exponent - 1)
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
            let power = 10_u128.checked_pow(u32::try_from(*scale).ok()?)?;
            Some(Box::new(Decimals { unscaled, power }))
        }
        _ => None,
    }
}

/// The pieces of a chunked column that cover a range of rows.
pub struct Chunks<C> {
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

    fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The chunk that holds all of the range, and where in it.
    fn one(&self, rows: Range<usize>) -> Option<(&C, Range<usize>)> {
        let i = self.starts.partition_point(|s| *s <= rows.start).checked_sub(1)?;
        let (chunk, first, end) = (self.chunks.get(i)?, self.starts[i], self.starts[i + 1]);
        (rows.end <= end).then(|| (chunk, rows.start - first..rows.end - first))
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
pub struct Lane(Chunks<Box<dyn Flat>>);

impl Lane {
    pub fn new(arrays: &[ArrayRef], dtype: &DataType) -> Option<Self> {
        Chunks::new(arrays, |array| flat(array, dtype)).map(Self)
    }

    /// Writes the rows to `out` and names those that are null.
    pub fn read(&self, rows: Range<usize>, out: &mut [f64], mut null: impl FnMut(usize)) {
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

/// Rows of an Array or List column that are transposed together.
const ROWS: usize = 32;

/// A chunk of an Array or List column: where each row's numbers begin in the flat values.
pub struct Nested {
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

    /// Whether all rows have as many numbers, as far as the offsets tell: nulls count as rows here.
    fn all_have(&self, width: usize) -> bool {
        match &self.offsets {
            Offsets::Fixed(fixed) => *fixed == width,
            Offsets::List(offsets) => offsets.lengths().all(|length| length == width),
        }
    }

    /// The values of rows that follow each other without a null, each of `width` numbers.
    fn dense(&self, rows: Range<usize>, width: usize) -> Option<Range<usize>> {
        let has_nulls = |bits: Option<&Bitmap>| bits.is_some_and(|bits| bits.unset_bits() > 0);
        if rows.is_empty() || has_nulls(self.validity.as_ref()) || has_nulls(self.values.validity()) {
            return None;
        }
        let values = self.range(rows.start).start..self.range(rows.end - 1).end;
        let regular = match &self.offsets {
            Offsets::Fixed(_) => true,
            Offsets::List(_) => rows.clone().all(|row| self.range(row).len() == width),
        };
        (regular && values.len() == rows.len() * width).then_some(values)
    }

    /// Writes number `j` of the rows to `lanes[j·stride ..]`, from where they lie or some rows at a time.
    fn transpose(&self, values: Range<usize>, width: usize, lanes: &mut [f64], stride: usize) {
        let mut copied = Vec::new();
        for (n, start) in values.clone().step_by((width * ROWS).max(1)).enumerate() {
            let some = start..values.end.min(start + width * ROWS);
            let rows = some.len() / width;
            let numbers = if let Some(all) = self.values.lying() {
                &all[some]
            } else {
                copied.resize(some.len(), 0.0);
                self.values.write(some, &mut copied);
                &copied
            };
            transpose((rows, width), (numbers, width), (&mut lanes[n * ROWS..], stride));
        }
    }

    /// Where the first null among these values stands.
    fn first_null(&self, mut range: Range<usize>) -> Option<usize> {
        let bits = self.values.validity().filter(|bits| bits.unset_bits() > 0)?;
        range.position(|i| !bits.get_bit(i))
    }
}

/// A nested column; its width, unknown where all rows are null, which is then read as one number a row; and the
/// first row of another width if there is one: that width and the row.
pub struct Nesting {
    pub source: Source,
    pub width: Option<usize>,
    pub other: Option<(usize, usize)>,
}

/// Several numbers a row: fields of a struct, one plain column, or the elements of an Array or List.
pub enum Source {
    Lanes(Vec<Lane>),
    Nested { chunks: Chunks<Nested>, width: usize },
}

impl Source {
    /// An Array or List column whose rows should all have `width` numbers, or as many as the first.
    pub fn nested(arrays: &[ArrayRef], inner: &DataType, width: Option<usize>) -> Option<Nesting> {
        let chunks = Chunks::new(arrays, |array| Nested::new(array, inner))?;
        let mut width = width;
        let mut other = None;
        chunks.visit(0..chunks.len(), |chunk, within, place| {
            if width.is_some_and(|width| chunk.all_have(width)) {
                return;
            }
            for (i, row) in within.enumerate() {
                let got = chunk.range(row).len();
                if other.is_none() && !chunk.is_null(row) && got != *width.get_or_insert(got) {
                    other = Some((got, place.start + i));
                }
            }
        });
        Some(Nesting { source: Self::Nested { chunks, width: width.unwrap_or(1) }, width, other })
    }

    pub fn width(&self) -> usize {
        match self {
            Self::Lanes(lanes) => lanes.len(),
            Self::Nested { width, .. } => *width,
        }
    }

    /// The numbers of rows where they lie one after the other, and what follows, if they are f64, of one chunk, and none
    /// is null.
    pub fn lying(&self, rows: Range<usize>) -> Option<&[f64]> {
        let Self::Nested { chunks, width } = self else { return None };
        let (chunk, within) = chunks.one(rows)?;
        let values = chunk.dense(within, *width)?;
        chunk.values.lying()?.get(values.start..)
    }

    /// Brings rows near that will be read soon, where columns lie as f64; those of an Array lie one after the other, which
    /// the machine foresees.
    pub fn prefetch(&self, rows: Range<usize>) {
        let Self::Lanes(columns) = self else { return };
        for Lane(chunks) in columns {
            chunks.visit(rows.clone(), |chunk, within, _| {
                prefetch(chunk.lying().map(|all| &all[within]).unwrap_or_default());
            });
        }
    }

    /// Writes number `j` of the rows to `lanes[j·stride ..]` and names the rows in which one is null.
    pub fn read(
        &self,
        rows: Range<usize>,
        lanes: &mut [f64],
        stride: usize,
        mut null: impl FnMut(usize, usize),
    ) {
        match self {
            Self::Lanes(columns) => {
                for (j, column) in columns.iter().enumerate() {
                    column.read(rows.clone(), &mut lanes[j * stride..], |row| null(row, j));
                }
            }
            Self::Nested { chunks, width } => {
                chunks.visit(rows, |chunk, within, place| {
                    if let Some(values) = chunk.dense(within.clone(), *width) {
                        return chunk.transpose(values, *width, &mut lanes[place.start..], stride);
                    }
                    let mut numbers = vec![0.0; *width];
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
