//! The covariance structures.
//!
//! Covariances of a mixture are one array whose shape tells their form: `k × d × d` matrices, `k × 1 × d`
//! diagonals, `k × 1 × 1` numbers, with `1` in place of `k` where all components share one. Nothing else in
//! the crate asks for the kind: it asks the shape, or the [`Structure`], found by the one match below.

mod diag;
mod floor;
mod full;
mod spherical;
mod tied;

use std::convert::Infallible;
use std::sync::OnceLock;

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::linalg::factor_work;
use super::statistics::{Scatter, Statistics};
use super::team;

pub use floor::Floor;

/// Names of the covariance structures, in scikit-learn's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CovarianceType {
    /// A matrix for each component (mclust: VVV).
    Full,
    /// One matrix shared by all components (EEE).
    Tied,
    /// A diagonal for each component (VVI).
    Diag,
    /// One variance for each component (VII).
    Spherical,
}

/// What a normal–inverse-Wishart prior adds to the statistics a structure is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriorCounts {
    /// To the weight of each component.
    pub each: f64,
    /// To the weight of the first, besides.
    pub once: f64,
    /// Multiple of the scale that is added to the scatter,
    pub scale: f64,
    /// of the first component only, where all share one covariance.
    pub shared: bool,
}

/// What a covariance structure says of itself.
pub trait Structure: Sync {
    /// scikit-learn's name.
    fn name(&self) -> &'static str;

    /// The scatter it needs.
    fn scatter(&self) -> Scatter;

    /// Shape of its covariances.
    fn shape(&self, k: usize, d: usize) -> (usize, usize, usize);

    /// Free parameters of its covariances.
    fn n_parameters(&self, k: usize, d: usize) -> usize;

    /// What a prior of `dof` degrees of freedom adds for it (Fraley & Raftery 2007, table 3).
    fn prior_counts(&self, d: usize, dof: f64) -> PriorCounts;

    /// The covariances that maximise the expected log-likelihood
    /// `−½ Σ_c W_c (ln det Σ_c + tr(Σ_c⁻¹ S_c / W_c))`
    /// among those of this structure above the floor. Components of weight zero get the pooled covariance.
    fn maximize(&self, statistics: &Statistics, floor: &Floor) -> Array3<f64>;
}

impl CovarianceType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Full, Self::Tied, Self::Diag, Self::Spherical];

    /// The structure of this name: the only match on the kind.
    pub fn structure(self) -> &'static dyn Structure {
        match self {
            Self::Full => &full::Full,
            Self::Tied => &tied::Tied,
            Self::Diag => &diag::Diag,
            Self::Spherical => &spherical::Spherical,
        }
    }

    /// The type of this name.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|t| t.structure().name() == name);
        found.ok_or_else(|| Error::Option {
            option: "covariance_type",
            expected: format!(
                "one of {}",
                Self::ALL.map(|t| format!("{:?}", t.structure().name())).join(", ")
            ),
            got: format!("{name:?}"),
        })
    }

    /// The covariances of the next model: [`Structure::maximize`] under a floor.
    ///
    /// # Errors
    /// If the statistics hold only the diagonal of the scatter and the structure needs all of it.
    pub fn maximize(self, statistics: &Statistics, floor: &Floor) -> Result<Array3<f64>> {
        let structure = self.structure();
        if structure.scatter() == Scatter::Full && statistics.scatter_form() == Scatter::Diagonal {
            return Err(Error::DiagonalScatter { covariance_type: structure.name() });
        }
        Ok(structure.maximize(statistics, floor))
    }
}

/// The pooled within-component covariance `Σ_c S_c / Σ_c W_c`, whole (`d·d`) or its diagonal (`d`).
fn pooled(statistics: &Statistics, form: Scatter) -> Vec<f64> {
    let total: f64 = statistics.weight().iter().sum();
    let mut sum = vec![0.0; form.covariance_len(statistics.d())];
    let mut own = sum.clone();
    for c in 0..statistics.k() {
        write_component(statistics, c, form, 1.0, &mut own);
        for (s, x) in sum.iter_mut().zip(&own) {
            *s += x;
        }
    }
    for s in &mut sum {
        *s /= total;
    }
    sum
}

/// Leaves the scatter of component `c` divided by `weight`, whole (`d·d`) or its diagonal (`d`).
fn write_component(statistics: &Statistics, c: usize, form: Scatter, weight: f64, covariance: &mut [f64]) {
    let d = statistics.d();
    for i in 0..d {
        match form {
            Scatter::Diagonal => covariance[i] = statistics.scatter_entry(c, i, i) / weight,
            Scatter::Full => {
                for j in 0..=i {
                    let entry = statistics.scatter_entry(c, i, j) / weight;
                    (covariance[i * d + j], covariance[j * d + i]) = (entry, entry);
                }
            }
        }
    }
}

/// A covariance for each component: its own, or the pooled one where the component weighs nothing.
fn each(statistics: &Statistics, form: Scatter, finish: impl Fn(&mut [f64]) + Sync) -> Vec<f64> {
    let (d, shared) = (statistics.d(), OnceLock::new());
    let len = form.covariance_len(d);
    let work = if form == Scatter::Full { factor_work(d) } else { d };
    let mut covariances = vec![0.0; statistics.k() * len];
    let Ok(()) = team::each_chunk::<Infallible>(&mut covariances, len, work, |c, covariance| {
        let weight = statistics.weight()[c];
        if weight > 0.0 {
            write_component(statistics, c, form, weight, covariance);
        } else {
            covariance.copy_from_slice(shared.get_or_init(|| pooled(statistics, form)));
        }
        finish(covariance);
        Ok(())
    });
    covariances
}

/// An array of the structure's shape; the vector has that many entries by construction.
fn shaped(structure: &dyn Structure, statistics: &Statistics, values: Vec<f64>) -> Array3<f64> {
    let shape = structure.shape(statistics.k(), statistics.d());
    Array3::from_shape_vec(shape, values).unwrap_or_else(|_| Array3::zeros(shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::linalg::{precision_factor, triangle};
    use crate::mixture::model::Model;
    use crate::mixture::pass::Pass;
    use crate::mixture::testing::{assert_close, model, names, sample, whole_weights};

    const D: usize = 3;

    fn statistics(form: Scatter) -> Statistics {
        let density = model(CovarianceType::Full, 3, D, 8).density().unwrap();
        Pass::SEQUENTIAL.e_step(&whole_weights(sample(300, D, 7)), &density, form).unwrap()
    }

    /// The same statistics, component 1 without a row.
    fn without_second(s: &Statistics) -> Statistics {
        let (mut weight, mut mean, mut scatter) =
            (s.weight().to_vec(), s.mean().to_vec(), s.scatter().to_vec());
        weight[1] = 0.0;
        mean[D..2 * D].fill(0.0);
        let width = s.scatter_form().len(D);
        scatter[width..2 * width].fill(0.0);
        Statistics::from_parts((3, D, s.scatter_form()), weight, mean, scatter).unwrap()
    }

    #[test]
    fn each_structure_is_its_formula() {
        let whole = statistics(Scatter::Full);
        for s in [&whole, &without_second(&whole)] {
            let total: f64 = s.weight().iter().sum();
            let pooled = |i, j| (0..3).map(|c| s.scatter_entry(c, i, j)).sum::<f64>() / total;
            let own = |c: usize, i, j| match s.weight()[c] {
                0.0 => pooled(i, j),
                w => s.scatter_entry(c, i, j) / w,
            };
            let [full, tied, diag, spherical] =
                CovarianceType::ALL.map(|t| t.maximize(s, &Floor::new(s, 0.0)).unwrap());
            assert_eq!((full.dim(), tied.dim()), ((3, D, D), (1, D, D)));
            assert_eq!((diag.dim(), spherical.dim()), ((3, 1, D), (3, 1, 1)));
            for c in 0..3 {
                let trace: f64 = (0..D).map(|j| own(c, j, j)).sum();
                assert_close(spherical[[c, 0, 0]], trace / D as f64, 1e-14);
                for i in 0..D {
                    assert_close(diag[[c, 0, i]], own(c, i, i), 1e-14);
                    for j in 0..D {
                        assert_close(full[[c, i, j]], own(c, i, j), 1e-14);
                        assert_close(tied[[0, i, j]], pooled(i, j), 1e-14);
                    }
                }
            }
        }
    }

    /// `−½ Σ_c W_c (ln det Σ_c + tr(Σ_c⁻¹ S_c / W_c))`.
    fn objective(kind: CovarianceType, covariances: &Array3<f64>, s: &Statistics) -> f64 {
        let means = ndarray::Array2::zeros((3, D));
        let weights = ndarray::Array1::from_elem(3, 1.0 / 3.0);
        let model = Model::new(names(D), kind, weights, means, covariances.clone()).unwrap();
        let full = model.full_covariances();
        let component = |c: usize| {
            let entries: Vec<f64> = full.index_axis(ndarray::Axis(0), c).iter().copied().collect();
            let (a, log_det) = precision_factor(&entries, D).unwrap();
            let mut trace = 0.0;
            for row in 0..D {
                for (i, j) in (0..=row).flat_map(|i| (0..=row).map(move |j| (i, j))) {
                    trace += a[triangle(row) + i] * s.scatter_entry(c, i, j) * a[triangle(row) + j];
                }
            }
            s.weight()[c] * log_det - 0.5 * trace
        };
        (0..3).map(component).sum()
    }

    #[test]
    fn no_neighbour_of_the_same_structure_is_better() {
        let s = statistics(Scatter::Full);
        for kind in CovarianceType::ALL {
            let best = kind.maximize(&s, &Floor::new(&s, 0.0)).unwrap();
            let value = objective(kind, &best, &s);
            for (c, i, j) in ndarray::indices(best.dim()) {
                for step in [-1e-4, 1e-4] {
                    let mut other = best.clone();
                    other[[c, i, j]] += step;
                    if best.dim().1 == D && i != j {
                        other[[c, j, i]] += step;
                    }
                    assert!(objective(kind, &other, &s) < value, "{kind:?} {c} {i} {j} {step}");
                }
            }
        }
    }

    #[test]
    fn diagonal_statistics_serve_diagonal_structures_only() {
        let (whole, diagonal) = (statistics(Scatter::Full), statistics(Scatter::Diagonal));
        for kind in CovarianceType::ALL {
            let result = kind.maximize(&diagonal, &Floor::new(&diagonal, 1e-6));
            match kind.structure().scatter() {
                Scatter::Diagonal => {
                    for (a, b) in
                        result.unwrap().iter().zip(&kind.maximize(&whole, &Floor::new(&whole, 1e-6)).unwrap())
                    {
                        assert_close(*a, *b, 1e-13);
                    }
                }
                Scatter::Full => {
                    let covariance_type = kind.structure().name();
                    assert_eq!(result, Err(Error::DiagonalScatter { covariance_type }));
                }
            }
        }
    }

    #[test]
    fn parameters_are_counted() {
        let count = |kind| model(kind, 2, 5, 1).n_parameters();
        assert_eq!(CovarianceType::ALL.map(count), [41, 26, 21, 13]);
        let count = |kind| model(kind, 1, 1, 1).n_parameters();
        assert_eq!(CovarianceType::ALL.map(count), [2; 4]);
    }

    #[test]
    fn names_are_parsed() {
        for kind in CovarianceType::ALL {
            assert_eq!(CovarianceType::parse(kind.structure().name()), Ok(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("{:?}", kind.structure().name()));
        }
        for wrong in ["", "Full", "vvv", "full "] {
            let message = CovarianceType::parse(wrong).unwrap_err().to_string();
            assert!(message.contains("\"full\", \"tied\", \"diag\", \"spherical\""), "{message}");
            assert!(message.ends_with(&format!("got {wrong:?}")), "{message}");
        }
    }
}
