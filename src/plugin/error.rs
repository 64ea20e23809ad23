//! Failures of data and kwargs, as sentences: what was expected, what came, what to do.

use std::fmt;

use polars::prelude::{DataType, PolarsError};

use crate::mixture;

pub type Result<T> = std::result::Result<T, Error>;

/// What a column is for and, where it is known, what it is called: `weights "w"`.
#[derive(Clone, Debug)]
pub struct Role {
    pub what: &'static str,
    pub column: Option<String>,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "{} {column:?}", self.what),
            None => f.write_str(self.what),
        }
    }
}

/// Where a fault stands: the schema tells no row, and a batch of a stream only its own rows.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Schema,
    Row(usize),
    Batch { row: usize, rows: usize },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema => Ok(()),
            Self::Row(row) => write!(f, " in row {row}"),
            Self::Batch { row, rows } => write!(f, " in row {row} of a batch of {rows} rows"),
        }
    }
}

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

    #[error(
        "column {name:?} has dtype Object, which no mixture can read; cast it to numbers or leave it out"
    )]
    Object { name: String },

    #[error("column {name:?} has the extension dtype {extension:?}, which no mixture can read; give what it stores, with .ext.storage(), or leave it out")]
    Extension { name: String, extension: String },

    #[error("{role} must be numeric, but their column has dtype {dtype}; cast it to a number")]
    RoleDtype { role: Role, dtype: DataType },

    #[error("{role} must be a List or Array column of numbers, as responsibilities(model) makes, but their column has dtype {dtype}; give such a column")]
    ResponsibilityDtype { role: Role, dtype: DataType },

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
    Width { what: &'static str, name: String, expected: usize, got: usize, place: Place },

    #[error("the first field of the packed input must be the feature column and the others {roles:?}, but the expression selects {got} columns; wrap the features in pl.struct(...)")]
    Packed { roles: Vec<String>, got: usize },

    #[error("{role} must be one column, but the expression selects none; name a column")]
    NoColumn { role: Role },

    #[error("feature {name:?} is null in {}, the first is row {row}; drop or fill them, or fit with nulls=\"drop\"", rows(*.count))]
    Nulls { name: String, count: usize, row: usize },

    #[error("feature {name:?} is NaN or infinite in {}, the first is row {row}; filter or fill them first", rows(*.count))]
    NotFinite { name: String, count: usize, row: usize },

    #[error("{role} must be finite numbers >= 0 and not null, but in {} they are {kind}, the first is row {row}; repair or filter these rows", rows(*.count))]
    Weights { role: Role, kind: &'static str, count: usize, row: usize },

    #[error("{role} must be finite numbers >= 0, but in {} some are {kind}, the first is row {row}; repair or filter these rows", rows(*.count))]
    Responsibilities { role: Role, kind: &'static str, count: usize, row: usize },

    #[error("features and {role} must be null in the same rows, but in {} only one of them is null, the first is row {row}; drop these rows or fill the nulls", rows(*.count))]
    NullMismatch { role: Role, count: usize, row: usize },

    #[error("{role} must not be null where the features are not, but in {} they are, the first is row {row}; drop these rows or fill the nulls", rows(*.count))]
    NullStart { role: Role, count: usize, row: usize },

    #[error("{role} must be integers from 0 to {last} (k={k}), but in {} they are not, the first is row {row} with {}; map the labels to 0 .. k-1, for example with rank(\"dense\") - 1", rows(*.count), number(*.got))]
    Labels { role: Role, k: usize, last: usize, count: usize, row: usize, got: f64 },

    #[error("{role} must be a column of integer labels or of responsibilities (List or Array of k numbers), but it has dtype {dtype}; map it to labels 0 .. k-1")]
    StartDtype { role: Role, dtype: DataType },

    #[error("a model must be a struct made by fit, m_step or maximize, or its packed Binary, but column {name:?} has dtype {dtype}; give a GaussianMixture, such a column, or its name")]
    ModelDtype { name: String, dtype: DataType },

    #[error("{what} must be a struct with field {field:?}, but column {name:?} has dtype {dtype}; it is made by {maker}")]
    Field { what: &'static str, field: &'static str, name: String, dtype: DataType, maker: &'static str },

    #[error("field {field:?} of {what} must have dtype {expected}, but in column {name:?} it has dtype {dtype}; it is made by {maker}")]
    FieldType {
        what: &'static str,
        field: &'static str,
        name: String,
        expected: Box<DataType>,
        dtype: Box<DataType>,
        maker: &'static str,
    },

    #[error("column {name:?}{place}: {source}")]
    InColumn { name: String, place: Place, source: Box<Error> },

    #[error("statistics must have d features, weight (k), mean (k, d) and scatter (k, d, d) or (k, 1, d), got {got}; give them as statistics or merge made them")]
    Statistics { got: String },

    #[error("a model and the rows it scores must have equal lengths, or one of them length 1, got {models} models and {rows} rows")]
    Lengths { models: usize, rows: usize },

    #[error("one model is needed here, but the model column holds several in this group; group by what separates them, or take one with .first()")]
    OneModel,

    #[error("a step needs rows that weigh something, but there is no row, or all are null or of weight or responsibility zero; give rows of weight > 0")]
    NothingWeighs,

    #[error("a model is needed here, but the model is null; fit it first or filter these rows")]
    NullModel,

    #[error(
        "n_init={n_init} has no effect when the start is given; leave out n_init or use init=\"k-means++\""
    )]
    NInitGiven { n_init: u32 },

    #[error("init must be the name of a method where k is a list, as a given start has one number of components; give one k")]
    SeveralK,

    #[error("{labels} must be integers from 0 to {} (k={k}), but the largest is {largest}; raise k", k - 1)]
    TooFewComponents { labels: String, k: usize, largest: u32 },

    #[error("{0}")]
    Option(String),
}

/// A number, with all digits if it is whole.
fn number(x: f64) -> String {
    if x.fract() == 0.0 {
        format!("{x:.0}")
    } else {
        x.to_string()
    }
}

fn rows(count: usize) -> String {
    format!("{count} {}", if count == 1 { "row" } else { "rows" })
}

impl Error {
    /// Whether there are fewer rows than components.
    pub fn is_too_few_rows(&self) -> bool {
        matches!(self, Self::Mixture(mixture::Error::TooFewRows { .. }))
    }

    /// Whether known components are more than the fit has.
    pub fn is_too_few_components(&self) -> bool {
        matches!(self, Self::TooFewComponents { .. })
    }

    /// Whether these data, as numbers, cannot be fitted: nulls, NaN, a label without rows, singular or overflowing
    /// moments. Negative weights and labels out of range are mistakes, not such data.
    pub fn is_unfit_data(&self) -> bool {
        use mixture::Error as M;
        match self {
            Self::Nulls { .. } | Self::NotFinite { .. } | Self::NullStart { .. } => true,
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

    /// The same error of what stands in a row of a column of models or statistics.
    #[must_use]
    pub fn in_column(self, name: &str, row: usize) -> Self {
        Self::InColumn { name: name.into(), place: Place::Row(row), source: Box::new(self) }
    }

    /// The same error of rows that are numbered from `first` on.
    #[must_use]
    pub fn numbered(mut self, first: usize) -> Self {
        if let Self::Width { place: Place::Row(row), .. } = &mut self {
            *row += first;
        }
        self
    }

    /// The same error of a batch of `rows` rows, whose rows are counted from `start` on.
    #[must_use]
    pub fn in_batch(mut self, start: usize, rows: usize) -> Self {
        if let Self::Width { place, .. } | Self::InColumn { place, .. } = &mut self {
            if let Place::Row(row) = *place {
                *place = Place::Batch { row: start + row, rows };
            }
        }
        self
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
