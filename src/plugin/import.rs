//! Fields and columns, imported from what Polars exported. Dtypes that the compiled Polars cannot hold are refused before.
//!
//! Polars before 1.43 exports a sliced Array column with nulls in a form that cannot be imported: its values are sliced
//! and its validity is not, with one offset for both. Such a validity is copied, taken off, and put back on after.

use std::collections::VecDeque;

use polars::prelude::{Field, PolarsResult, Series};
use polars_arrow::array::{Array, FixedSizeListArray, StructArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::{ArrowDataType, Field as ArrowField};
use polars_arrow::ffi::{import_array_from_c, import_field_from_c, ArrowArray, ArrowSchema};
use pyo3::prelude::*;
use pyo3_polars::export::polars_ffi::version_0::SeriesExport;

use super::columns::column_name;
use super::error::Error;
use super::export::Exported;

/// A column that Python hands over.
pub struct PyColumn(pub Series);

impl<'a, 'py> FromPyObject<'a, 'py> for PyColumn {
    type Error = PyErr;

    fn extract(series: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        // Polars forgets the objects of a column that it exports: they would never be freed.
        if series.getattr("dtype")?.get_type().name()? == "Object" {
            let name: String = series.getattr("name")?.extract()?;
            return Err(Error::Object { name: column_name(&name).into() }.into());
        }
        let mut export = SeriesExport::empty();
        series.getattr("_s")?.call_method1("_export", ((&raw mut export).addr(),))?;
        // SAFETY: Polars has written to it what it exports.
        Ok(Self(unsafe { import_series(export) }.map_err(Error::from)?))
    }
}

/// The first fields of an [`ArrowArray`], in the layout of the Arrow C data interface.
#[repr(C)]
struct Chunk {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const u8,
    children: *const *mut Chunk,
}

/// # Safety
/// The field is what Polars exported.
pub unsafe fn import_field(field: &ArrowSchema) -> PolarsResult<Field> {
    Ok(Field::from(&checked(field)?))
}

unsafe fn checked(field: &ArrowSchema) -> PolarsResult<ArrowField> {
    let field = import_field_from_c(field)?;
    check_dtype(field.name.as_str(), &field.dtype)?;
    Ok(field)
}

/// # Errors
/// A dtype that this library was compiled without, anywhere in the column.
fn check_dtype(name: &str, dtype: &ArrowDataType) -> Result<(), Error> {
    match dtype {
        // Python objects come as their addresses, and nothing else comes as such.
        ArrowDataType::FixedSizeBinary(_) => Err(Error::Object { name: column_name(name).into() }),
        ArrowDataType::Extension(extension) => {
            let (name, extension) = (column_name(name).into(), extension.name.to_string());
            Err(Error::Extension { name, extension })
        }
        ArrowDataType::Struct(fields) => {
            fields.iter().try_for_each(|ArrowField { name, dtype, .. }| check_dtype(name, dtype))
        }
        ArrowDataType::List(inner)
        | ArrowDataType::LargeList(inner)
        | ArrowDataType::FixedSizeList(inner, _) => check_dtype(name, &inner.dtype),
        _ => Ok(()),
    }
}

/// # Safety
/// The inputs are what Polars exported, `len` of them, and are not used again.
pub unsafe fn import(inputs: *mut SeriesExport, len: usize) -> PolarsResult<Vec<Series>> {
    (0..len).map(|i| import_series(std::ptr::read(inputs.add(i)))).collect()
}

unsafe fn import_series(export: SeriesExport) -> PolarsResult<Series> {
    // SAFETY: `Exported` has the layout of a `SeriesExport`, which is released by its owner.
    let Exported { field, arrays, len, .. } = std::ptr::from_ref(&export).cast::<Exported>().read();
    // Arrays are not released with it, so that they are taken out before anything can fail.
    let chunks: Vec<ArrowArray> = (0..len).map(|i| std::ptr::read(*arrays.add(i))).collect();
    let field = checked(&*field)?;
    if has_no_width(&field.dtype) {
        let rows = chunks.iter().map(|chunk| std::ptr::from_ref(chunk).cast::<Chunk>().read().length);
        let rows = usize::try_from(rows.sum::<i64>()).unwrap_or(0);
        return Ok(Series::full_null(field.name.clone(), rows, Field::from(&field).dtype()));
    }
    let import = |mut chunk: ArrowArray| -> PolarsResult<Box<dyn Array>> {
        let mut taken = VecDeque::new();
        // SAFETY: an exported array of that dtype, and `Chunk` has the layout of its first fields.
        take_off((&raw mut chunk).cast::<Chunk>(), &field.dtype, &mut taken)?;
        let array = import_array_from_c(chunk, field.dtype.clone())?;
        Ok(put_back(array, &mut taken))
    };
    let chunks = chunks.into_iter().map(import).collect::<PolarsResult<Vec<_>>>()?;
    Series::_try_from_arrow_unchecked_with_md(
        field.name.clone(),
        chunks,
        &field.dtype,
        field.metadata.as_deref(),
    )
}

/// Whether there are Arrays of no numbers in it, which cannot be imported, and hold nothing but their dtype.
fn has_no_width(dtype: &ArrowDataType) -> bool {
    match dtype {
        ArrowDataType::FixedSizeList(inner, width) => *width == 0 || has_no_width(&inner.dtype),
        ArrowDataType::LargeList(inner) => has_no_width(&inner.dtype),
        ArrowDataType::Struct(fields) => fields.iter().any(|field| has_no_width(&field.dtype)),
        _ => false,
    }
}

/// Takes the validity off every Array in a chunk that has an offset; a copy goes to `taken`, in the order in which
/// [`put_back`] meets the Arrays.
///
/// # Safety
/// The chunk is an exported array of that dtype.
unsafe fn take_off(
    chunk: *mut Chunk,
    dtype: &ArrowDataType,
    taken: &mut VecDeque<Option<Bitmap>>,
) -> PolarsResult<()> {
    match dtype {
        ArrowDataType::Struct(fields) => {
            for (i, field) in fields.iter().enumerate() {
                take_off(*(*chunk).children.add(i), &field.dtype, taken)?;
            }
        }
        ArrowDataType::FixedSizeList(..) => {
            let Chunk { length, offset, buffers, .. } = *chunk;
            let (length, offset) =
                (usize::try_from(length).unwrap_or(0), usize::try_from(offset).unwrap_or(0));
            if offset == 0 || (*buffers).is_null() {
                taken.push_back(None);
                return Ok(());
            }
            let bytes = std::slice::from_raw_parts(*buffers, (offset + length).div_ceil(8));
            taken.push_back(Some(Bitmap::try_new(bytes.to_vec(), offset + length)?.sliced(offset, length)));
            *buffers = std::ptr::null();
            ((*chunk).offset, (*chunk).null_count) = (0, 0);
        }
        _ => {}
    }
    Ok(())
}

fn put_back(array: Box<dyn Array>, taken: &mut VecDeque<Option<Bitmap>>) -> Box<dyn Array> {
    if let Some(list) = array.as_any().downcast_ref::<FixedSizeListArray>() {
        return match taken.pop_front().flatten() {
            Some(validity) => list.clone().with_validity(Some(validity)).boxed(),
            None => array,
        };
    }
    if taken.iter().any(Option::is_some) {
        if let Some(fields) = array.as_any().downcast_ref::<StructArray>() {
            let values = fields.values().iter().map(|field| put_back(field.clone(), taken)).collect();
            let (dtype, validity) = (fields.dtype().clone(), fields.validity().cloned());
            return StructArray::new(dtype, fields.len(), values, validity).boxed();
        }
    }
    array
}
