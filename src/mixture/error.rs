//! Every failure of the mathematics, as a sentence: what was expected, what came, what to do.

/// The result of a computation on mixtures.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// An option outside its range.
    #[error("{option} must be {expected}, got {got}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        got: String,
    },

    /// An array of the wrong shape.
    #[error("{name} must have shape {expected}, got {got}")]
    Shape {
        /// Name of the array.
        name: &'static str,
        /// The shape it must have, and why.
        expected: String,
        /// The shape it has.
        got: String,
    },

    /// NaN or infinity in a parameter.
    #[error("{name} must be finite, got {value} for component {component}; remove it or fit the model anew")]
    NotFinite {
        /// Name of the array.
        name: &'static str,
        /// The component it stands in.
        component: usize,
        /// The value.
        value: f64,
    },

    /// A weight below zero.
    #[error("weights must not be negative, got {value:?} for component {component}")]
    NegativeWeight {
        /// The component.
        component: usize,
        /// Its weight.
        value: f64,
    },

    /// A sum of squares below zero.
    #[error("the diagonal of a scatter matrix must not be negative, got {value:?} for component {component}; give statistics as they were made")]
    NegativeScatter {
        /// The component.
        component: usize,
        /// The entry.
        value: f64,
    },

    /// Weights that are no distribution.
    #[error("weights must sum to 1 (to 1e-6), they sum to {sum:?}; divide them by their sum")]
    WeightSum {
        /// Their sum.
        sum: f64,
    },

    /// A covariance that is not symmetric.
    #[error("the covariance of component {component} must be symmetric, but its entries [{row}, {column}] and [{column}, {row}] are {a:?} and {b:?}; average it with its transpose")]
    NotSymmetric {
        /// The component.
        component: usize,
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The entry.
        a: f64,
        /// The entry across the diagonal.
        b: f64,
    },

    /// A covariance that is singular or indefinite.
    #[error("the covariance of component {component} must be positive definite, but it is singular or indefinite at feature {feature:?}; fit with a covariance_floor above 0, or drop constant and collinear features")]
    NotPositiveDefinite {
        /// The component.
        component: usize,
        /// The feature at which the factorisation failed.
        feature: String,
    },

    /// A covariance that does not have its type's structure.
    #[error("covariances of type {covariance_type:?} must be {expected}, but component {component} is not; use covariance_type=\"full\" for them")]
    Structure {
        /// The type.
        covariance_type: &'static str,
        /// What the type asks for.
        expected: &'static str,
        /// The first component that differs.
        component: usize,
    },

    /// Two features of one name.
    #[error("feature names must differ, but {name:?} stands twice; rename one of them")]
    DuplicateFeature {
        /// The name.
        name: String,
    },

    /// No row to estimate from.
    #[error("a mixture of k={k} component{} needs at least as many rows of positive weight, got {n_rows}; lower k or add rows", if *.k == 1 { "" } else { "s" })]
    TooFewRows {
        /// Components asked for.
        k: usize,
        /// Rows that count.
        n_rows: u64,
    },

    /// Nothing to maximise.
    #[error("the M-step needs statistics of positive total weight, got a total weight of {total_weight}; give it a row of positive weight")]
    NoWeight {
        /// Their total weight.
        total_weight: f64,
    },

    /// Diagonal statistics where the whole scatter is needed.
    #[error("covariance_type {covariance_type:?} needs the whole scatter matrix, but these statistics hold its diagonal only; make them with a model of type \"full\" or \"tied\"")]
    DiagonalScatter {
        /// The type asked for.
        covariance_type: &'static str,
    },

    /// Statistics that do not belong together.
    #[error("statistics can be merged only if they have the same components and features, got {a} and {b}")]
    Merge {
        /// The first.
        a: String,
        /// The second.
        b: String,
    },

    /// A start of other shape than the data or options.
    #[error("the start has {what}={got}, but {expected} was asked for; give a start of the same shape")]
    StartShape {
        /// Which dimension.
        what: &'static str,
        /// The start's.
        got: String,
        /// The one asked for.
        expected: String,
    },

    /// A start that says nothing about a component.
    #[error("the given start leaves component {component} without any row; give every component at least one row of positive weight")]
    EmptyStart {
        /// The component.
        component: usize,
    },

    /// Bytes or text that are no model.
    #[error(
        "this is not a Gaussian mixture: {reason}; give what GaussianMixture.pack, to_json or to_struct made"
    )]
    Decode {
        /// What was wrong.
        reason: String,
    },

    /// A model of a format that is not known.
    #[error(
        "this model has format version {got}, but versions 1 to {supported} can be read; {}",
        if got > supported { "upgrade this package" } else { "it was not written by this package" }
    )]
    Version {
        /// Its version.
        got: u32,
        /// The latest version read.
        supported: u32,
    },

    /// The likelihood is no number.
    #[error("the log-likelihood became {value} at iteration {iteration}; the features are too large or too small for double precision; rescale them")]
    LikelihoodNotFinite {
        /// The iteration.
        iteration: u32,
        /// The value.
        value: f64,
    },

    /// Moments or weights beyond double precision.
    #[error("the moments of the rows overflow double precision; rescale the features or weights, for example divide them by their largest value")]
    Overflow,

    /// Rows of a stream that are not numbered as they were counted.
    #[error("the {rows} rows of a pass are not numbered from 0 on without gaps: the engine that read them lost or repeated some; collect the columns and fit them in memory")]
    Torn {
        /// Rows that came.
        rows: u64,
    },

    /// Statistics of another model than the one asked for.
    #[error("these statistics were not made under the model asked for: under that model they would have a log-likelihood of {expected}, but they have {told}; tell each statistics once, those that statistics(em.ask()) makes now")]
    OtherModel {
        /// Their log-likelihood.
        told: f64,
        /// What it would be.
        expected: f64,
    },

    /// Rows that are not those of the first pass.
    #[error("the rows are not those this fit began with: {what} was {before} and is {after}; give the same rows for the whole fit, or begin anew")]
    Changed {
        /// What differs.
        what: String,
        /// As it was.
        before: String,
        /// As it is.
        after: String,
    },

    /// Somebody asked to stop.
    #[error("the fit was interrupted")]
    Interrupted,
}
