//! Criteria by which models of the same rows are compared; the lowest is the best.

use super::error::{Error, Result};
use super::model::Model;

/// With log-likelihood `L`, `p` parameters, `n` the total weight and `E` the entropy of the responsibilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// `−2 L + p ln n` (Schwarz 1978).
    Bic,
    /// `−2 L + 2 p` (Akaike 1974).
    Aic,
    /// `BIC + 2 E` (Biernacki, Celeux & Govaert 2000).
    Icl,
}

impl Criterion {
    /// The criterion of this name.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "bic" => Ok(Self::Bic),
            "aic" => Ok(Self::Aic),
            "icl" => Ok(Self::Icl),
            _ => Err(Error::Option {
                option: "criterion",
                expected: "one of \"bic\", \"aic\", \"icl\"".into(),
                got: format!("{name:?}"),
            }),
        }
    }

    /// Its value; none where the model does not know the figures of its fit.
    pub fn of(self, model: &Model) -> Option<f64> {
        let fit = model.training;
        let deviance = -2.0 * fit.log_likelihood?;
        let parameters = model.n_parameters() as f64;
        let bic = || Some(deviance + parameters * fit.total_weight.filter(|n| *n > 0.0)?.ln());
        match self {
            Self::Bic => bic(),
            Self::Aic => Some(deviance + 2.0 * parameters),
            Self::Icl => Some(bic()? + 2.0 * fit.entropy?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::model::Training;
    use crate::mixture::testing::model;
    use crate::mixture::CovarianceType;

    #[test]
    fn each_criterion_is_its_formula() {
        let mut model = model(CovarianceType::Full, 3, 2, 5);
        let none = [Criterion::Bic, Criterion::Aic, Criterion::Icl].map(|c| c.of(&model));
        assert_eq!(none, [None; 3]);
        let figures = (Some(-100.0), Some(7.0), Some(50.0));
        model.training = Training {
            log_likelihood: figures.0,
            entropy: figures.1,
            total_weight: figures.2,
            ..Training::default()
        };
        let bic = 200.0 + 17.0 * 50.0_f64.ln();
        assert_eq!(Criterion::Bic.of(&model), Some(bic));
        assert_eq!(Criterion::Aic.of(&model), Some(234.0));
        assert_eq!(Criterion::Icl.of(&model), Some(bic + 14.0));
        model.training.total_weight = Some(0.0);
        assert_eq!((Criterion::Bic.of(&model), Criterion::Aic.of(&model)), (None, Some(234.0)));
    }

    #[test]
    fn names_are_parsed_or_listed() {
        assert_eq!(Criterion::parse("icl"), Ok(Criterion::Icl));
        let message = Criterion::parse("BIC").unwrap_err().to_string();
        assert_eq!(message, "criterion must be one of \"bic\", \"aic\", \"icl\", got \"BIC\"");
    }
}
