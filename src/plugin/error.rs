//! Failures of data and kwargs, as sentences: what was expected, what came, what to do.

use polars::prelude::{DataType, PolarsError};

use crate::mixture;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Mixture(#[from] mixture::Error),

    #[error(transparent)]
    Polars(#[from] PolarsError),

    #[error("features must be a struct of numeric fields, an Array or List of numbers, or one numeric column, but column {name:?} has dtype {dtype}; select or cast the numeric columns first")]
    FeatureDtype { name: String, dtype: DataType },

    #[error(
        "feature {name:?} must be numeric, but it has dtype {dtype}; cast it to a number or leave it out"
    )]
    FieldDtype { name: String, dtype: DataType },

    #[error("{role} must be numeric, but their column has dtype {dtype}; cast it to a number")]
    RoleDtype { role: &'static str, dtype: DataType },

    #[error("responsibilities must be a List or Array column of numbers, as responsibilities(model) makes, but their column has dtype {dtype}; give such a column")]
    ResponsibilityDtype { dtype: DataType },

    #[error("column {name:?} has no features; give at least one numeric field")]
    NoFeatures { name: String },

    #[error(
        "the model needs feature {name:?}, but the columns given are {given:?}; add it or rename a column"
    )]
    MissingFeature { name: String, given: Vec<String> },

    #[error(
        "the model has {d} features ({features:?}), but the columns given are {given:?}; leave out {extra:?}"
    )]
    ExtraFeatures { d: usize, features: Vec<String>, given: Vec<String>, extra: Vec<String> },

    #[error("{what} must have width {expected}, but column {name:?} has width {got}{place}; give every row {expected} numbers")]
    Width { what: &'static str, name: String, expected: usize, got: usize, place: String },

    #[error("the first field of the packed input must be the feature column and the others {roles:?}, but the expression selects {got} columns; wrap the features in pl.struct(...)")]
    Packed { roles: Vec<String>, got: usize },

    #[error("feature {name:?} has {count} null values, the first in row {row}; drop or fill them, or fit with nulls=\"drop\"")]
    Nulls { name: String, count: usize, row: usize },

    #[error("feature {name:?} has {count} values that are NaN or infinite, the first in row {row}; filter or fill them first")]
    NotFinite { name: String, count: usize, row: usize },

    #[error("weights must be finite numbers >= 0 and not null, but {count} are {kind}, the first in row {row}; repair or filter these rows")]
    Weights { kind: &'static str, count: usize, row: usize },

    #[error("responsibilities must be finite numbers >= 0, but in {count} rows some are {kind}, the first is row {row}; repair or filter these rows")]
    Responsibilities { kind: &'static str, count: usize, row: usize },

    #[error("features and {role} must be null in the same rows, but in {count} rows only one of them is null, the first is row {row}; drop these rows or fill the nulls")]
    NullMismatch { role: &'static str, count: usize, row: usize },

    #[error("labels must be integers from 0 to {last} (k={k}), but row {row} has {got}; map the labels to 0 .. k-1, for example with rank(\"dense\") - 1")]
    Label { k: usize, last: usize, row: usize, got: f64 },

    #[error("init must be a column of integer labels or of responsibilities (List or Array of k numbers), but it has dtype {dtype}; map it to labels 0 .. k-1")]
    StartDtype { dtype: DataType },

    #[error("a model must be a struct made by fit, m_step or maximize, or its packed Binary, but column {name:?} has dtype {dtype}; give a GaussianMixture, such a column, or its name")]
    ModelDtype { name: String, dtype: DataType },

    #[error("{what} must be a struct with field {field:?}, but column {name:?} has dtype {dtype}; it is made by {maker}")]
    Field { what: &'static str, field: &'static str, name: String, dtype: DataType, maker: &'static str },

    #[error("{what} must have a field {field:?} of dtype {expected}, but in column {name:?} its dtype is {dtype}; it is made by {maker}")]
    PartDtype {
        what: &'static str,
        field: &'static str,
        expected: DataType,
        name: String,
        dtype: DataType,
        maker: &'static str,
    },

    #[error("statistics must have d features, weight (k), mean (k, d) and scatter (k, d, d) or (k, 1, d), got {got}; give them as statistics or merge made them")]
    Statistics { got: String },

    #[error("a model and the rows it scores must have equal lengths, or one of them length 1, got {models} models and {rows} rows")]
    Lengths { models: usize, rows: usize },

    #[error("one model is needed here, but the model column holds several in this group; group by what separates them, or take one with .first()")]
    OneModel,

    #[error("a model is needed here, but the model is null; fit it first or filter these rows")]
    NullModel,

    #[error(
        "n_init={n_init} has no effect when the start is given; leave out n_init or use init=\"k-means++\""
    )]
    NInitGiven { n_init: u32 },

    #[error("{0}")]
    Option(String),
}

impl Error {
    /// Whether these data, as numbers, cannot be fitted: nulls, NaN, a label without rows, singular or overflowing
    /// moments. Negative weights and labels out of range are mistakes, not such data.
    pub fn is_unfit_data(&self) -> bool {
        use mixture::Error as M;
        match self {
            Self::Nulls { .. } | Self::NotFinite { .. } | Self::NullMismatch { .. } => true,
            Self::Mixture(e) => matches!(
                e,
                M::NotPositiveDefinite { .. }
                    | M::NoWeight { .. }
                    | M::EmptyStart { .. }
                    | M::LikelihoodNotFinite { .. }
                    | M::Overflow
            ),
            _ => false,
        }
    }
}

impl From<Error> for PolarsError {
    fn from(error: Error) -> Self {
        match error {
            Error::Polars(e) => e,
            other => PolarsError::ComputeError(other.to_string().into()),
        }
    }
}
