//! Fields and values as Polars takes them. The dtypes of models and of statistics, which have twenty fields within each
//! other, are exported once and lent to every call.

use std::ffi::{c_char, c_void, CString};
use std::mem::{transmute, MaybeUninit};
use std::sync::LazyLock;

use polars::prelude::{DataType, Field, PlSmallStr, Series};
use polars_arrow::ffi::{export_array_to_c, export_field_to_c, ArrowArray, ArrowSchema};
use polars_core::datatypes::CompatLevel;
use pyo3_polars::export::polars_ffi::version_0::{export_series, SeriesExport};

use super::values::{model_dtype, statistics_dtype};

/// An [`ArrowSchema`], in the layout of the Arrow C data interface.
#[repr(C)]
struct Schema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut Schema,
    dictionary: *mut Schema,
    release: Option<unsafe extern "C" fn(*mut Schema)>,
    private_data: *mut c_void,
}

/// A [`SeriesExport`], in the layout of version 0, which every supported Polars speaks.
#[repr(C)]
pub(super) struct Exported {
    pub(super) field: *mut ArrowSchema,
    pub(super) arrays: *mut *mut ArrowArray,
    pub(super) len: usize,
    release: Option<unsafe extern "C" fn(*mut Exported)>,
    private_data: *mut c_void,
}

/// A dtype, and a field of it that is never released.
struct Lent {
    dtype: DataType,
    schema: ArrowSchema,
}

// SAFETY: nobody writes to it: Polars imports a field by reference, and releases the outer one alone; it takes no inner
// one out, which the Arrow C data interface would allow.
unsafe impl Sync for Lent {}

impl Lent {
    fn new(dtype: DataType) -> Self {
        let schema = export_field_to_c(&dtype.to_arrow_field(PlSmallStr::EMPTY, CompatLevel::newest()));
        Self { dtype, schema }
    }

    fn of(dtype: &DataType) -> Option<&'static Self> {
        static ALL: LazyLock<[Lent; 2]> =
            LazyLock::new(|| [model_dtype(), statistics_dtype()].map(Lent::new));
        ALL.iter().find(|lent| lent.dtype == *dtype)
    }

    /// The field under a name, which is all that it releases.
    fn named(&self, name: &str) -> Option<ArrowSchema> {
        let name = CString::new(name).ok()?.into_raw();
        // SAFETY: `Schema` has the layout of an `ArrowSchema`, and the original is never released.
        unsafe {
            let mut schema = std::ptr::from_ref(&self.schema).cast::<Schema>().read();
            (schema.name, schema.private_data) = (name, name.cast());
            schema.release = Some(release_name);
            Some(transmute::<Schema, ArrowSchema>(schema))
        }
    }
}

unsafe extern "C" fn release_name(schema: *mut Schema) {
    // SAFETY: it was made by `named`, and is released once.
    drop(CString::from_raw((*schema).private_data.cast()));
    (*schema).release = None;
}

/// A field, exported.
pub fn field(field: &Field) -> ArrowSchema {
    let lent = Lent::of(field.dtype()).and_then(|lent| lent.named(field.name()));
    lent.unwrap_or_else(|| export_field_to_c(&field.to_arrow(CompatLevel::newest())))
}

/// What belongs to an export until it is released: the field, and room for arrays, which Polars takes out.
struct Owned {
    _field: Box<ArrowSchema>,
    arrays: Box<[*mut ArrowArray]>,
}

/// A column, exported.
pub fn series(series: &Series) -> SeriesExport {
    let Some(schema) = Lent::of(series.dtype()).and_then(|lent| lent.named(series.name())) else {
        return export_series(series);
    };
    let mut field = Box::new(schema);
    // What lies in the fields of a lent dtype is what Arrow calls by that name.
    let arrays =
        series.chunks().iter().map(|chunk| Box::into_raw(Box::new(export_array_to_c(chunk.clone()))));
    let mut arrays: Box<[*mut ArrowArray]> = arrays.collect();
    let mut exported = Exported {
        field: &raw mut *field,
        arrays: arrays.as_mut_ptr(),
        len: arrays.len(),
        release: Some(release_series),
        private_data: std::ptr::null_mut(),
    };
    exported.private_data = Box::into_raw(Box::new(Owned { _field: field, arrays })).cast();
    // SAFETY: `Exported` has the layout of a `SeriesExport`.
    unsafe { transmute::<Exported, SeriesExport>(exported) }
}

unsafe extern "C" fn release_series(exported: *mut Exported) {
    // SAFETY: it was made by `series`, and is released once.
    let owned = Box::from_raw((*exported).private_data.cast::<Owned>());
    for array in &owned.arrays {
        drop(Box::from_raw(array.cast::<MaybeUninit<ArrowArray>>()));
    }
    (*exported).release = None;
}
