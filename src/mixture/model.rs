//! A mixture: weights, means, covariances; validated when made, never changed.

use std::sync::Arc;

use ndarray::{s, Array1, Array2, Array3, Axis};
use serde::{Deserialize, Serialize};

use super::covariance::{CovarianceType, Floor};
use super::density::Density;
use super::error::{Error, Result};
use super::linalg::asymmetry;
use super::regularisation::Regularisation;
use super::statistics::Statistics;

/// A Gaussian mixture and what its fit says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    features: Arc<[String]>,
    covariance_type: CovarianceType,
    weights: Array1<f64>,
    means: Array2<f64>,
    covariances: Array3<f64>,
    /// What the data it was estimated from say.
    pub training: Training,
}

/// Figures of the data a model was estimated from, evaluated under that very model; absent where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// `Σ w ln p(x)`.
    pub log_likelihood: Option<f64>,
    /// `−Σ w Σ_c r_c ln r_c`.
    pub entropy: Option<f64>,
    /// Rows of positive weight.
    pub n_rows: Option<u64>,
    /// `Σ w`.
    pub total_weight: Option<f64>,
    /// M-steps since the start.
    pub n_iter: Option<u32>,
    /// Whether the fit met its stop rule.
    pub converged: Option<bool>,
}

/// Weights sum to 1 to within this.
const WEIGHT_SUM: f64 = 1e-6;

impl Model {
    /// A model of checked parameters; `covariances` in the compact shape of their type.
    ///
    /// Positive definiteness is checked by [`Density::new`], whose factors prove it.
    ///
    /// # Errors
    /// One sentence for each way to be wrong: shapes, NaN, weights, symmetry, names.
    pub fn new(
        features: Vec<String>,
        covariance_type: CovarianceType,
        weights: Array1<f64>,
        means: Array2<f64>,
        covariances: Array3<f64>,
    ) -> Result<Self> {
        let (features, training) = (features.into(), Training::default());
        let model = Self { features, covariance_type, weights, means, covariances, training };
        model.check_shapes()?;
        model.check_finite()?;
        model.check_weights()?;
        model.check_symmetry()?;
        model.check_names()?;
        Ok(model)
    }

    /// The M-step (Bishop 2006, eq. 9.24–9.26): the model that maximises the expected log-likelihood of the
    /// statistics under a covariance structure, with a floor in units of the variances these statistics have.
    ///
    /// # Errors
    /// If the statistics weigh nothing, lack the scatter the structure needs, or overflow.
    pub fn maximize(
        features: &[String],
        covariance_type: CovarianceType,
        statistics: &Statistics,
        covariance_floor: f64,
        previous: Option<&Model>,
    ) -> Result<Self> {
        let floor = Floor::new(statistics, covariance_floor);
        let bounds = Regularisation { floor, prior: None };
        Self::maximize_within(&features.into(), covariance_type, statistics, &bounds, previous)
    }

    /// The M-step under a given floor and prior. Without a prior, a component of weight zero keeps the mean of `previous`, or takes the mean of
    /// all rows, and has the pooled covariance.
    ///
    /// # Errors
    /// As [`Model::maximize`].
    pub fn maximize_within(
        features: &Arc<[String]>,
        covariance_type: CovarianceType,
        statistics: &Statistics,
        bounds: &Regularisation,
        previous: Option<&Model>,
    ) -> Result<Self> {
        let total: f64 = statistics.weight().iter().sum();
        if total.is_nan() || total <= 0.0 {
            return Err(Error::NoWeight { total_weight: total });
        }
        let posterior = bounds.prior.as_ref().map(|prior| prior.posterior(covariance_type, statistics));
        let moments = posterior.as_ref().unwrap_or(statistics);
        let model = Self {
            features: features.clone(),
            covariance_type,
            weights: statistics.weight().iter().map(|w| w / total).collect(),
            means: means(moments, previous),
            covariances: covariance_type.maximize(moments, &bounds.floor)?,
            training: Training {
                n_rows: Some(statistics.n_rows),
                total_weight: Some(statistics.total_weight),
                ..Training::default()
            },
        };
        match model.check_finite() {
            Ok(()) if total.is_finite() => Ok(model),
            _ => Err(Error::Overflow),
        }
    }

    /// The same model with these figures.
    ///
    /// # Errors
    /// If one of them is not finite, or the total weight is negative.
    pub fn with_training(mut self, training: Training) -> Result<Self> {
        let finite = [training.log_likelihood, training.entropy, training.total_weight];
        if finite.iter().flatten().any(|v| !v.is_finite()) || training.total_weight.is_some_and(|w| w < 0.0) {
            let reason = "its figures of the fit are not finite, or its total weight is negative".into();
            return Err(Error::Decode { reason });
        }
        self.training = training;
        Ok(self)
    }

    /// Number of components.
    pub fn k(&self) -> usize {
        self.weights.len()
    }

    /// Number of features.
    pub fn d(&self) -> usize {
        self.features.len()
    }

    /// Names of the features, in the order of the means.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// The same, to be shared.
    pub fn shared_features(&self) -> &Arc<[String]> {
        &self.features
    }

    /// A model of the same features and structure, whose covariances are symmetric and whose weights sum to 1.
    ///
    /// # Errors
    /// If a parameter is not finite.
    pub fn moved(&self, weights: Array1<f64>, means: Array2<f64>, covariances: Array3<f64>) -> Result<Self> {
        let (features, training) = (self.features.clone(), Training::default());
        let covariance_type = self.covariance_type;
        let model = Self { features, covariance_type, weights, means, covariances, training };
        model.check_finite()?;
        Ok(model)
    }

    /// The covariance structure.
    pub fn covariance_type(&self) -> CovarianceType {
        self.covariance_type
    }

    /// Mixing weights, `k`.
    pub fn weights(&self) -> &Array1<f64> {
        &self.weights
    }

    /// Means, `k × d`.
    pub fn means(&self) -> &Array2<f64> {
        &self.means
    }

    /// Covariances in the compact shape of their structure.
    pub fn covariances(&self) -> &Array3<f64> {
        &self.covariances
    }

    /// The same model of type full.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn to_full(&self) -> Result<Self> {
        let (weights, means) = (self.weights.clone(), self.means.clone());
        let model =
            Self::new(self.features.to_vec(), CovarianceType::Full, weights, means, self.full_covariances())?;
        Ok(Self { training: self.training, ..model })
    }

    /// Covariances written out, `k × d × d`.
    pub fn full_covariances(&self) -> Array3<f64> {
        let (k, d) = (self.k(), self.d());
        let (kept, rows, columns) = self.covariances.dim();
        Array3::from_shape_fn((k, d, d), |(c, i, j)| {
            if rows == d {
                self.covariances[[c % kept, i, j]]
            } else if i == j {
                self.covariances[[c % kept, 0, i % columns]]
            } else {
                0.0
            }
        })
    }

    /// Variance of feature `j` in component `c`.
    pub fn variance(&self, c: usize, j: usize) -> f64 {
        let (kept, rows, columns) = self.covariances.dim();
        self.covariances[[c % kept, j % rows, j % columns]]
    }

    /// The compact form of covariances written out as `k × d × d`.
    ///
    /// # Errors
    /// If they are no square matrices, or do not have the structure of the type.
    pub fn compact(covariance_type: CovarianceType, full: &Array3<f64>) -> Result<Array3<f64>> {
        let structure = covariance_type.structure();
        let (k, d, columns) = full.dim();
        if k == 0 || d == 0 || d != columns {
            return Err(Error::Shape {
                name: "covariances",
                expected: "(k, d, d) with at least one component and one feature".into(),
                got: format!("{:?}", full.dim()),
            });
        }
        let shape = structure.shape(k, d);
        let compact =
            Array3::from_shape_fn(
                shape,
                |(c, i, j)| {
                    if shape.1 == d {
                        full[[c, i, j]]
                    } else {
                        full[[c, j, j]]
                    }
                },
            );
        let restored = Self {
            features: vec![String::new(); d].into(),
            covariance_type,
            weights: Array1::zeros(k),
            means: Array2::zeros((k, d)),
            covariances: compact,
            training: Training::default(),
        };
        let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        for (component, (a, b)) in full.outer_iter().zip(restored.full_covariances().outer_iter()).enumerate()
        {
            if !a.iter().zip(b).all(same) {
                let expected = match shape {
                    (_, 1, 1) => "multiples of the identity",
                    (_, 1, _) => "diagonal",
                    _ => "equal for all components",
                };
                let covariance_type = structure.name();
                return Err(Error::Structure { covariance_type, expected, component });
            }
        }
        Ok(restored.covariances)
    }

    /// Free parameters: weights, means and covariances.
    pub fn n_parameters(&self) -> usize {
        let (k, d) = (self.k(), self.d());
        k - 1 + k * d + self.covariance_type.structure().n_parameters(k, d)
    }

    /// The model factorised for evaluation.
    ///
    /// # Errors
    /// If a covariance is not positive definite.
    pub fn density(&self) -> Result<Density> {
        Density::new(self)
    }

    /// The same model with its components in lexicographic order of their means.
    #[must_use]
    pub fn sorted(&self) -> Self {
        let mut order: Vec<usize> = (0..self.k()).collect();
        order.sort_by(|a, b| {
            let pairs = self.means.row(*a).into_iter().zip(self.means.row(*b));
            pairs.map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne()).unwrap_or(a.cmp(b))
        });
        let shared = self.covariances.len_of(Axis(0)) == 1;
        Self {
            weights: self.weights.select(Axis(0), &order),
            means: self.means.select(Axis(0), &order),
            covariances: if shared {
                self.covariances.clone()
            } else {
                self.covariances.select(Axis(0), &order)
            },
            ..self.clone()
        }
    }

    /// Whether another model has the same components, to the bit, in any order.
    pub fn has_components_of(&self, other: &Self) -> bool {
        let shared = self.covariances.len_of(Axis(0)) != self.k();
        let same = |a: usize, b: usize| {
            self.weights[a] == other.weights[b]
                && self.means.row(a) == other.means.row(b)
                && (shared
                    || self.covariances.index_axis(Axis(0), a) == other.covariances.index_axis(Axis(0), b))
        };
        self.means.dim() == other.means.dim()
            && self.covariances.dim() == other.covariances.dim()
            && (!shared || self.covariances == other.covariances)
            && (0..self.k()).all(|a| (0..self.k()).any(|b| same(a, b)))
    }

    /// Whether each component is near one of another model: means within a fifth of its deviations, variances within
    /// two fifths of its own.
    pub fn is_near(&self, other: &Self) -> bool {
        let near = |a: usize, b: usize| {
            (0..self.d()).all(|j| {
                let (own, others) = (self.variance(a, j), other.variance(b, j));
                (self.means[[a, j]] - other.means[[b, j]]).abs() <= 0.2 * own.sqrt()
                    && (own - others).abs() <= 0.4 * own
            })
        };
        self.means.dim() == other.means.dim() && (0..self.k()).all(|a| (0..self.k()).any(|b| near(a, b)))
    }

    /// The same model with its features in another order: feature `j` becomes what `order[j]` was, named `features[j]`.
    #[must_use]
    pub fn reordered(&self, features: &[String], order: &[usize]) -> Self {
        let mut covariances = self.covariances.clone();
        for axis in [Axis(1), Axis(2)] {
            if covariances.len_of(axis) == order.len() {
                covariances = covariances.select(axis, order);
            }
        }
        Self {
            features: features.into(),
            means: self.means.select(Axis(1), order),
            covariances,
            ..self.clone()
        }
    }

    fn check_shapes(&self) -> Result<()> {
        let (k, d) = (self.k(), self.d());
        if k == 0 || d == 0 {
            return Err(Error::Shape {
                name: "weights and features",
                expected: "(k,) and (d,) with at least one component and one feature".into(),
                got: format!("({k},) and ({d},)"),
            });
        }
        if self.means.dim() != (k, d) {
            return Err(Error::Shape {
                name: "means",
                expected: format!("({k}, {d}) for {k} weights and {d} features"),
                got: format!("{:?}", self.means.dim()),
            });
        }
        let structure = self.covariance_type.structure();
        if self.covariances.dim() != structure.shape(k, d) {
            return Err(Error::Shape {
                name: "covariances",
                expected: format!("{:?} for covariance_type {:?}", structure.shape(k, d), structure.name()),
                got: format!("{:?}", self.covariances.dim()),
            });
        }
        Ok(())
    }

    fn check_finite(&self) -> Result<()> {
        if self.weights.iter().chain(&self.means).chain(&self.covariances).all(|v| v.is_finite()) {
            return Ok(());
        }
        let arrays = [
            ("weights", self.weights.view().into_dyn()),
            ("means", self.means.view().into_dyn()),
            ("covariances", self.covariances.view().into_dyn()),
        ];
        for (name, array) in arrays {
            for (component, values) in array.outer_iter().enumerate() {
                if let Some(&value) = values.iter().find(|v| !v.is_finite()) {
                    return Err(Error::NotFinite { name, component, value });
                }
            }
        }
        Ok(())
    }

    fn check_weights(&self) -> Result<()> {
        if let Some(component) = self.weights.iter().position(|w| *w < 0.0) {
            return Err(Error::NegativeWeight { component, value: self.weights[component] });
        }
        let sum = self.weights.sum();
        if (sum - 1.0).abs() > WEIGHT_SUM {
            return Err(Error::WeightSum { sum });
        }
        Ok(())
    }

    fn check_symmetry(&self) -> Result<()> {
        if self.covariances.len_of(Axis(1)) != self.d() {
            return Ok(());
        }
        for (component, matrix) in self.covariances.outer_iter().enumerate() {
            if let Some((row, column)) = asymmetry(self.d(), |i, j| matrix[[i, j]]) {
                let (a, b) = (matrix[[row, column]], matrix[[column, row]]);
                return Err(Error::NotSymmetric { component, row, column, a, b });
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let mut sorted: Vec<&String> = self.features.iter().collect();
        sorted.sort();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::DuplicateFeature { name: pair[0].clone() }),
            None => Ok(()),
        }
    }
}

/// The components' means; of components of weight zero, the previous ones, or the mean of all rows.
fn means(statistics: &Statistics, previous: Option<&Model>) -> Array2<f64> {
    let (k, d) = (statistics.k(), statistics.d());
    let mut means = Array2::zeros((k, d));
    for (m, value) in means.iter_mut().zip(statistics.mean()) {
        *m = *value;
    }
    if statistics.weight().iter().all(|w| *w > 0.0) {
        return means;
    }
    let total: f64 = statistics.weight().iter().sum();
    let mut overall = Array1::<f64>::zeros(d);
    for (mean, w) in means.outer_iter().zip(statistics.weight()) {
        overall.scaled_add(w / total, &mean);
    }
    for (c, w) in statistics.weight().iter().enumerate() {
        if *w == 0.0 {
            let stand_in = previous.filter(|p| p.k() == k).map_or(overall.view(), |p| p.means.row(c));
            means.slice_mut(s![c, ..]).assign(&stand_in);
        }
    }
    means
}

#[cfg(test)]
mod tests;
