//! The pair of C functions by which Polars calls an expression: its output field from the schema, and its values.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;

use polars::prelude::{Field, PolarsError, PolarsResult, Series};
use polars_arrow::ffi::ArrowSchema;
use pyo3_polars::derive::{_parse_kwargs, _set_panic, _update_last_error};
use pyo3_polars::export::polars_ffi::version_0::SeriesExport;
use serde::de::DeserializeOwned;

use super::export;
use super::import::{import, import_field};

/// Lets Polars call `$values(&[Series], $kwargs)`, whose output has the field `$field(&[Field], $kwargs)`.
macro_rules! expression {
    ($values:ident, $field:ident, $kwargs:ty) => {
        const _: () = {
            use polars_arrow::ffi::ArrowSchema;
            use pyo3_polars::derive::CallerContext;
            use pyo3_polars::export::polars_ffi::version_0::SeriesExport;

            #[export_name = concat!("_polars_plugin_field_", stringify!($values))]
            unsafe extern "C" fn field(
                fields: *const ArrowSchema,
                len: usize,
                out: *mut ArrowSchema,
                kwargs: *const u8,
                kwargs_len: usize,
            ) {
                let fields = std::slice::from_raw_parts(fields, len);
                let kwargs = std::slice::from_raw_parts(kwargs, kwargs_len);
                if let Some(field) = $crate::plugin::shell::field::<$kwargs>(fields, kwargs, $field) {
                    *out = field;
                }
            }

            #[export_name = concat!("_polars_plugin_", stringify!($values))]
            unsafe extern "C" fn values(
                inputs: *mut SeriesExport,
                len: usize,
                kwargs: *const u8,
                kwargs_len: usize,
                out: *mut SeriesExport,
                _: *const CallerContext,
            ) {
                let kwargs = std::slice::from_raw_parts(kwargs, kwargs_len);
                if let Some(series) = $crate::plugin::shell::values::<$kwargs>(inputs, len, kwargs, $values) {
                    *out = series;
                }
            }
        };
    };
}
pub(super) use expression;

/// The output field, exported; none after an error, which Polars asks for by another call.
///
/// # Safety
/// The fields are what Polars exported.
pub unsafe fn field<K: DeserializeOwned + 'static>(
    fields: &[ArrowSchema],
    kwargs: &[u8],
    of: fn(&[Field], &K) -> PolarsResult<Field>,
) -> Option<ArrowSchema> {
    guarded(|| {
        let fields = fields.iter().map(|field| import_field(field)).collect::<PolarsResult<Vec<_>>>()?;
        let field = of(&fields, &*parsed(kwargs)?)?;
        Ok(export::field(&field))
    })
}

/// The output values, exported; none after an error, which Polars asks for by another call.
///
/// # Safety
/// The inputs are what Polars exported, `len` of them.
pub unsafe fn values<K: DeserializeOwned + 'static>(
    inputs: *mut SeriesExport,
    len: usize,
    kwargs: &[u8],
    of: fn(&[Series], &K) -> PolarsResult<Series>,
) -> Option<SeriesExport> {
    guarded(|| {
        let inputs = import(inputs, len)?;
        Ok(export::series(&of(&inputs, &*parsed(kwargs)?)?))
    })
}

fn guarded<T>(work: impl FnOnce() -> PolarsResult<T>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => _update_last_error(without_nul(error)),
        Err(_) => _set_panic(),
    }
    None
}

/// Messages travel as C strings.
fn without_nul(error: PolarsError) -> PolarsError {
    let message = error.to_string();
    if message.contains('\0') {
        return PolarsError::ComputeError(message.replace('\0', "\\0").into());
    }
    error
}

/// What a thread parsed last: bytes, and what they say as the kwargs of some expression.
type Last = Option<(Vec<u8>, Rc<dyn Any>)>;

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(None) };
}

/// The kwargs of a call. Polars hands the same bytes to every group, so that a thread parses them once. An expression
/// without options is called without kwargs.
fn parsed<K: DeserializeOwned + 'static>(kwargs: &[u8]) -> PolarsResult<Rc<K>> {
    const NONE: &[u8] = b"N.";
    let known = LAST.with_borrow(|last| {
        let (bytes, value) = last.as_ref()?;
        (bytes == kwargs).then(|| value.clone().downcast::<K>().ok())?
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let made: Rc<K> = Rc::new(_parse_kwargs(if kwargs.is_empty() { NONE } else { kwargs })?);
    if kwargs.len() <= LARGEST {
        LAST.set(Some((kwargs.to_vec(), made.clone())));
    }
    Ok(made)
}

/// Longer kwargs are not kept.
const LARGEST: usize = 1 << 20;
