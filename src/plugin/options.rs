//! kwargs -> checked options. Unknown keys and values are errors, never defaults.

use std::sync::Arc;

use serde::Deserialize;
use serde_bytes::ByteBuf;

use super::cache::Factorised;
use super::error::{Error, Result};
use crate::mixture::fit::option;
use crate::mixture::prior::PriorOptions;
use crate::mixture::start::{Draw, Method};
use crate::mixture::{codec, CovarianceType, Criterion, Model, Options};

/// kwargs of the scoring functions, of `statistics` and of `em_step`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelKwargs {
    pub extras: Vec<String>,
    pub model: Option<ByteBuf>,
    #[serde(default)]
    pub log: bool,
    #[serde(default)]
    pub covariance_floor: f64,
}

impl ModelKwargs {
    /// The model in the kwargs, if it is not an input.
    ///
    /// # Errors
    /// If the bytes are no model.
    pub fn model(&self) -> Result<Option<Arc<Factorised>>> {
        self.model.as_ref().map(|bytes| Factorised::unpack(bytes)).transpose()
    }
}

/// kwargs of `m_step` and `maximize`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MStepKwargs {
    #[serde(default)]
    pub extras: Vec<String>,
    pub covariance_type: String,
    pub covariance_floor: f64,
}

impl MStepKwargs {
    /// The options of an M-step.
    ///
    /// # Errors
    /// The first option outside its range.
    pub fn options(&self) -> Result<Options> {
        m_step_options(CovarianceType::parse(&self.covariance_type)?, self.covariance_floor)
    }
}

/// The options of an M-step.
///
/// # Errors
/// The first option outside its range.
pub fn m_step_options(covariance_type: CovarianceType, covariance_floor: f64) -> Result<Options> {
    let (max_iter, tol, accelerate, prior) = (0, 0.0, false, None);
    let options = Options { covariance_type, max_iter, tol, covariance_floor, accelerate, prior };
    Ok(options.check()?)
}

/// kwargs of expressions without options.
#[derive(Deserialize)]
pub struct NoKwargs;

/// kwargs of `criterion`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CriterionKwargs {
    criterion: String,
}

impl CriterionKwargs {
    /// The criterion of this name.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn criterion(&self) -> Result<Criterion> {
        Ok(Criterion::parse(&self.criterion)?)
    }
}

/// kwargs of `fit` and `fit_predict`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitKwargs {
    pub extras: Vec<String>,
    pub options: RawFitOptions,
    #[serde(default)]
    pub on_failure: OnFailure,
    #[serde(default)]
    among: Option<Among>,
    /// Name of the feature column, if it is known: that of a group has none.
    #[serde(default)]
    pub name: Option<String>,
}

/// Several numbers of components, and how the best is chosen.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Among {
    k: Vec<i64>,
    criterion: String,
}

/// The fits a group is given, of which the best is kept.
pub struct Candidates {
    pub options: Vec<FitOptions>,
    pub criterion: Criterion,
}

impl FitKwargs {
    /// # Errors
    /// The first option outside its range.
    pub fn candidates(&self) -> Result<Candidates> {
        let options = self.options.check()?;
        let Some(Among { k, criterion }) = &self.among else {
            return Ok(Candidates { options: vec![options], criterion: Criterion::Bic });
        };
        let criterion = Criterion::parse(criterion)?;
        let options = k.iter().map(|k| options.with_k(components(*k)?)).collect::<Result<Vec<_>>>()?;
        if options.is_empty() {
            return Err(option("k", "an integer >= 1, or a list of them", "an empty list").into());
        }
        Ok(Candidates { options, criterion })
    }
}

/// kwargs of `scan`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanKwargs {
    pub scan: u64,
}

/// What a group that cannot be fitted becomes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    #[default]
    Raise,
    Null,
}

/// Fit options as they come.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFitOptions {
    k: i64,
    covariance_type: String,
    init: String,
    start: Option<ByteBuf>,
    n_init: Option<i64>,
    max_iter: i64,
    tol: f64,
    covariance_floor: f64,
    nulls: String,
    seed: u64,
    acceleration: Option<String>,
    prior: Option<PriorOptions>,
}

/// Fit options, checked.
#[derive(Clone)]
pub struct FitOptions {
    pub k: usize,
    pub em: Options,
    pub init: Init,
    /// Rows with a null feature do not count.
    pub drop_nulls: bool,
}

/// Where the fit begins.
#[derive(Clone)]
pub enum Init {
    Draw(Draw),
    Model(Box<Model>),
    Column,
}

fn components(k: i64) -> Result<usize> {
    let checked = usize::try_from(k).ok().filter(|k| *k >= 1);
    Ok(checked.ok_or_else(|| option("k", "an integer >= 1", k))?)
}

impl FitOptions {
    /// The same with another number of components.
    fn with_k(&self, k: usize) -> Result<Self> {
        let init = match &self.init {
            Init::Draw(draw) => Init::Draw(Draw { k, ..*draw }),
            given if k == self.k => given.clone(),
            _ => return Err(Error::SeveralK),
        };
        Ok(Self { k, init, ..self.clone() })
    }
}

impl RawFitOptions {
    /// # Errors
    /// The first option outside its range.
    pub fn check(&self) -> Result<FitOptions> {
        let k = components(self.k)?;
        let max_iter = u32::try_from(self.max_iter).ok().filter(|n| *n < u32::MAX);
        let accelerate = match self.acceleration.as_deref() {
            None => false,
            Some("quasi-newton") => true,
            Some(other) => {
                return Err(option("acceleration", "\"quasi-newton\" or None", format!("{other:?}")).into())
            }
        };
        if let Some(prior) = &self.prior {
            prior.check(prior.d().unwrap_or(1))?;
        }
        let em = Options {
            covariance_type: CovarianceType::parse(&self.covariance_type)?,
            max_iter: max_iter
                .ok_or_else(|| option("max_iter", "an integer from 0 to 4294967294", self.max_iter))?,
            tol: self.tol,
            covariance_floor: self.covariance_floor,
            accelerate,
            prior: self.prior.clone(),
        }
        .check()?;
        let drop_nulls = match self.nulls.as_str() {
            "raise" => false,
            "drop" => true,
            other => return Err(option("nulls", "\"raise\" or \"drop\"", format!("{other:?}")).into()),
        };
        Ok(FitOptions { k, em, init: self.init(k)?, drop_nulls })
    }

    fn init(&self, k: usize) -> Result<Init> {
        let n_init = self.n_init.map(|n| {
            let n_init = u32::try_from(n).ok().filter(|n| *n >= 1);
            n_init.ok_or_else(|| option("n_init", "an integer from 1 to 4294967295", n))
        });
        let n_init = n_init.transpose()?;
        let given = match self.init.as_str() {
            "model" => {
                let bytes = self.start.as_ref().map_or(&[][..], |b| b.as_slice());
                let model = codec::unpack(bytes)?;
                if model.k() != k {
                    let (got, expected) = (model.k().to_string(), k.to_string());
                    return Err(crate::mixture::Error::StartShape { what: "k", got, expected }.into());
                }
                Init::Model(Box::new(model))
            }
            "column" => Init::Column,
            name => {
                let method = Method::parse(name)?;
                return Ok(Init::Draw(Draw { k, method, n_init, seed: self.seed }));
            }
        };
        match n_init {
            Some(n_init) => Err(Error::NInitGiven { n_init }),
            None => Ok(given),
        }
    }
}
