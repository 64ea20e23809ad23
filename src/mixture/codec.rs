//! A model as versioned bytes and as versioned JSON. Both keep every bit.

use ndarray::{Array1, Array2, Array3};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::covariance::CovarianceType;
use super::error::{Error, Result};
use super::model::{Model, Training};

/// The format written; all versions up to it are read.
pub const VERSION: u32 = 1;
/// First bytes of a packed model; the version follows in one byte.
const MAGIC: &[u8] = b"pgmm";
const FORMAT: &str = "gaussian mixture";

/// Format 1, with the arrays' encoding left open: flat in bytes, nested lists in JSON.
#[derive(Serialize, Deserialize)]
struct Wire<M, C> {
    features: Vec<String>,
    covariance_type: CovarianceType,
    weights: Vec<f64>,
    means: M,
    covariances: C,
    training: Training,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: String,
    version: u32,
    #[serde(flatten)]
    model: Wire<Vec<Vec<f64>>, Vec<Vec<Vec<f64>>>>,
}

#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

/// A model as bytes.
pub fn pack(model: &Model) -> Vec<u8> {
    let means: Vec<f64> = model.means().iter().copied().collect();
    let covariances: Vec<f64> = model.covariances().iter().copied().collect();
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION as u8);
    // Serialising plain numbers and strings into a growing vector cannot fail.
    postcard::to_extend(&wire(model, means, covariances), bytes).unwrap_or_default()
}

/// A model from [`pack`]'s bytes.
///
/// # Errors
/// If the bytes are no model, of a later version, or its parameters are wrong.
pub fn unpack(bytes: &[u8]) -> Result<Model> {
    let Some((version, body)) = bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first) else {
        return Err(decode("the bytes do not begin as a packed model does"));
    };
    check_version(u32::from(*version))?;
    let (wire, rest): (Wire<Vec<f64>, Vec<f64>>, _) =
        postcard::take_from_bytes(body).map_err(|_| decode("its bytes are cut off or were changed"))?;
    if !rest.is_empty() {
        return Err(decode(format!("{} bytes are left over at its end", rest.len())));
    }
    let (k, d) = (wire.weights.len(), wire.features.len());
    let shape = wire.covariance_type.structure().shape(k, d);
    let (entries, of_means) = (wire.covariances.len(), wire.means.len());
    let means = Array2::from_shape_vec((k, d), wire.means);
    let covariances = Array3::from_shape_vec(shape, wire.covariances);
    let (Ok(means), Ok(covariances)) = (means, covariances) else {
        return Err(decode(format!(
            "its {k} weights and {d} features do not go with {of_means} entries of means and {entries} of covariances"
        )));
    };
    build(wire.features, wire.covariance_type, wire.weights, means, covariances, wire.training)
}

/// A model as a JSON object.
pub fn to_json(model: &Model) -> String {
    let means = model.means().outer_iter().map(|row| row.to_vec()).collect();
    let matrix = |m: ndarray::ArrayView2<f64>| m.outer_iter().map(|row| row.to_vec()).collect();
    let covariances = model.covariances().outer_iter().map(matrix).collect();
    let document =
        Document { format: FORMAT.into(), version: VERSION, model: wire(model, means, covariances) };
    // Every number of a model is finite and every key a string, so that JSON can hold it.
    serde_json::to_string(&document).unwrap_or_default()
}

/// A model from [`to_json`]'s text; keys it does not know are ignored.
///
/// # Errors
/// If the text is no model, of a later version, or its parameters are wrong.
pub fn from_json(text: &str) -> Result<Model> {
    let header: Header = serde_json::from_str(text).map_err(decode)?;
    if header.format != FORMAT {
        return Err(decode(format!("its format is {:?}", header.format)));
    }
    check_version(header.version)?;
    let wire = serde_json::from_str::<Document>(text).map_err(decode)?.model;
    let means = nested2(&wire.means)?;
    let (planes, rows) = (wire.covariances.len(), wire.covariances.first().map_or(0, Vec::len));
    if wire.covariances.iter().any(|plane| plane.len() != rows) {
        return Err(decode("its lists are ragged"));
    }
    let flat: Vec<Vec<f64>> = wire.covariances.into_iter().flatten().collect();
    let matrices = nested2(&flat)?;
    let columns = matrices.ncols();
    let covariances = matrices.into_shape_with_order((planes, rows, columns)).map_err(decode)?;
    build(wire.features, wire.covariance_type, wire.weights, means, covariances, wire.training)
}

/// Rows of equal length as a matrix.
///
/// # Errors
/// If the rows are ragged.
pub fn nested2(rows: &[Vec<f64>]) -> Result<Array2<f64>> {
    let columns = rows.first().map_or(0, Vec::len);
    let flat = rows.concat();
    if rows.iter().any(|row| row.len() != columns) {
        return Err(decode("its lists are ragged"));
    }
    Array2::from_shape_vec((rows.len(), columns), flat).map_err(decode)
}

/// A model inside another serde value is its JSON text.
impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        to_json(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        from_json(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Refuses formats that are not known.
///
/// # Errors
/// A sentence with both versions.
pub fn check_version(got: u32) -> Result<()> {
    if (1..=VERSION).contains(&got) {
        Ok(())
    } else {
        Err(Error::Version { got, supported: VERSION })
    }
}

fn build(
    features: Vec<String>,
    covariance_type: CovarianceType,
    weights: Vec<f64>,
    means: Array2<f64>,
    covariances: Array3<f64>,
    training: Training,
) -> Result<Model> {
    Model::new(features, covariance_type, Array1::from_vec(weights), means, covariances)?
        .with_training(training)
}

fn wire<M, C>(model: &Model, means: M, covariances: C) -> Wire<M, C> {
    Wire {
        features: model.features().to_vec(),
        covariance_type: model.covariance_type(),
        weights: model.weights().to_vec(),
        means,
        covariances,
        training: model.training,
    }
}

fn decode(reason: impl ToString) -> Error {
    Error::Decode { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use ndarray::Axis;

    use super::*;
    use crate::mixture::testing::{bits, model, names};

    /// Numbers that decimal or careless writing would change.
    const EDGES: [f64; 8] =
        [-0.0, 5e-324, 1e300, 1.1e-310, f64::MAX, -f64::MIN_POSITIVE, 0.1 + 0.2, -1.797_693_134_862_315e308];

    fn edges(kind: CovarianceType) -> Model {
        let shape = kind.structure().shape(2, 4);
        let means = Array2::from_shape_fn((2, 4), |(c, j)| EDGES[4 * c + j]);
        let covariances = Array3::from_shape_fn(shape, |(c, i, j)| EDGES[(c + i * j + i + j) % 8]);
        let features = ["", "ü\"\\\n", "x 🦀", "\u{0}"].map(String::from).to_vec();
        let weights = Array1::from_vec(vec![-0.0, 1.0 - 1e-16]);
        let mut model = Model::new(features, kind, weights, means, covariances).unwrap();
        model.training = Training {
            log_likelihood: Some(-1e300),
            entropy: Some(5e-324),
            n_rows: Some(u64::MAX),
            total_weight: Some(0.1 + 0.7),
            n_iter: Some(u32::MAX),
            converged: Some(false),
        };
        model
    }

    #[track_caller]
    fn assert_same(a: &Model, b: &Model) {
        assert_eq!(a, b);
        assert_eq!(bits(a.weights()), bits(b.weights()));
        assert_eq!(bits(a.means()), bits(b.means()));
        assert_eq!(bits(a.covariances()), bits(b.covariances()));
    }

    fn models() -> impl Iterator<Item = Model> {
        let plain = |kind| [(1, 1), (3, 2)].map(|(k, d)| model(kind, k, d, 5));
        CovarianceType::ALL.into_iter().flat_map(move |kind| plain(kind).into_iter().chain([edges(kind)]))
    }

    #[test]
    fn every_bit_survives() {
        for model in models() {
            assert_same(&unpack(&pack(&model)).unwrap(), &model);
            assert_same(&from_json(&to_json(&model)).unwrap(), &model);
            let nested = serde_json::to_string(&vec![&model]).unwrap();
            assert_same(&serde_json::from_str::<Vec<Model>>(&nested).unwrap()[0], &model);
        }
    }

    #[test]
    fn the_order_in_memory_is_not_the_order_in_the_bytes() {
        let plain = model(CovarianceType::Full, 3, 2, 7);
        let means = plain.means().t().as_standard_layout().into_owned().reversed_axes();
        let covariances = plain.covariances().clone().permuted_axes([2, 0, 1]);
        let covariances = covariances.as_standard_layout().into_owned().permuted_axes([1, 2, 0]);
        assert!(!means.is_standard_layout() && !covariances.is_standard_layout());
        let kind = CovarianceType::Full;
        let other = Model::new(names(2), kind, plain.weights().clone(), means, covariances).unwrap();
        assert_eq!(pack(&other), pack(&plain));
        assert_eq!(to_json(&other), to_json(&plain));
        let x = [0.3, -1.0];
        let log_density = |model: &Model| {
            let columns = x.map(|x| vec![x]).to_vec();
            let sample = crate::mixture::rows::Sample { columns, weight: vec![1.0] };
            let mut block = crate::mixture::testing::loaded(&sample, 3);
            model.density().unwrap().responsibilities(&mut block);
            block.log_density()[0]
        };
        assert_eq!(log_density(&other), log_density(&plain));
        for kind in CovarianceType::ALL {
            let turned = model(kind, 3, 3, 7).reordered(&names(3), &[2, 0, 1]).sorted();
            assert_same(&unpack(&pack(&turned)).unwrap(), &turned);
            assert_same(&from_json(&to_json(&turned)).unwrap(), &turned);
            let columns = turned.means().select(Axis(1), &[1, 2, 0]);
            let back = unpack(&pack(&turned.reordered(&names(3), &[1, 2, 0]))).unwrap();
            assert_eq!(back.means(), columns);
        }
    }

    #[test]
    fn truncated_models_are_refused_at_every_length() {
        for model in models() {
            let (bytes, text) = (pack(&model), to_json(&model));
            for len in 0..bytes.len() {
                assert!(matches!(unpack(&bytes[..len]), Err(Error::Decode { .. })), "{len}");
            }
            for len in (0..text.len()).filter(|len| text.is_char_boundary(*len)) {
                assert!(matches!(from_json(&text[..len]), Err(Error::Decode { .. })), "{len}");
            }
        }
    }

    #[test]
    fn damaged_models_are_refused_or_are_other_models() {
        let mut refused = 0;
        for model in models() {
            let bytes = pack(&model);
            for flip in 0..8 * bytes.len() {
                let mut damaged = bytes.clone();
                damaged[flip / 8] ^= 1 << (flip % 8);
                match unpack(&damaged) {
                    Ok(other) => assert_same(&unpack(&pack(&other)).unwrap(), &other),
                    Err(_) => refused += 1,
                }
            }
            let text = to_json(&model);
            for at in (0..text.len()).filter(|at| text.is_char_boundary(*at) && text.is_char_boundary(at + 1))
            {
                for with in ["", "9", "-", "[", "\"", "{}", "1e999", "null"] {
                    let mut damaged = text.clone();
                    damaged.replace_range(at..=at, with);
                    if let Ok(other) = from_json(&damaged) {
                        assert_same(&from_json(&to_json(&other)).unwrap(), &other);
                    }
                }
            }
        }
        assert!(refused > 1000, "{refused}");
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for length in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9], &[0xff; 12]] {
            let bytes = [MAGIC, &[1], length].concat();
            assert!(matches!(unpack(&bytes), Err(Error::Decode { .. })));
        }
    }

    #[test]
    fn other_versions_are_refused_as_such() {
        let model = model(CovarianceType::Diag, 2, 2, 5);
        let remedy = |got| check_version(got).unwrap_err().to_string();
        assert!(remedy(2).ends_with("upgrade this package"));
        assert!(remedy(0).ends_with("it was not written by this package"));
        for got in [0, 2, 3, 255] {
            let mut bytes = pack(&model);
            bytes[MAGIC.len()] = got;
            let got = u32::from(got);
            assert_eq!(unpack(&bytes), Err(Error::Version { got, supported: 1 }));
            let text = format!(r#"{{"format": "gaussian mixture", "version": {got}, "other": [1]}}"#);
            assert_eq!(from_json(&text), Err(Error::Version { got, supported: 1 }));
        }
        assert_eq!(check_version(VERSION), Ok(()));
    }

    #[track_caller]
    fn assert_reason(result: Result<Model>, part: &str) {
        match result {
            Err(Error::Decode { reason }) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let plain = model(CovarianceType::Full, 2, 2, 5);
        let (mut bytes, text) = (pack(&plain), to_json(&plain));
        assert_reason(from_json(&format!("{text} 1")), "trailing");
        assert_reason(from_json(&text.replace(FORMAT, "forest")), "its format is \"forest\"");
        assert_reason(unpack(b"pgm"), "do not begin");
        assert_reason(unpack(&bytes[1..]), "do not begin");
        bytes.extend([0, 0]);
        assert_reason(unpack(&bytes), "2 bytes are left over");
        let added = text.replacen('{', r#"{"comment": {"a": [1, null]}, "#, 1);
        assert_same(&from_json(&added).unwrap(), &plain);
    }

    #[test]
    fn ragged_lists_are_refused() {
        let text = |means: &str, covariances: &str| {
            let training = r#"{"log_likelihood":null,"entropy":null,"n_rows":null,"total_weight":null,"n_iter":null,"converged":null}"#;
            format!(
                r#"{{"format":"{FORMAT}","version":1,"features":["a","b"],"covariance_type":"full",
                "weights":[0.5,0.25,0.25],"means":{means},"covariances":{covariances},"training":{training}}}"#
            )
        };
        let (means, i) = ("[[1,2],[3,4],[5,6]]", "[[1,0],[0,1]]");
        assert!(from_json(&text(means, &format!("[{i},{i},{i}]"))).is_ok());
        assert_reason(from_json(&text("[[1,2],[3],[4,5,6]]", &format!("[{i},{i},{i}]"))), "ragged");
        assert_reason(from_json(&text(means, "[[[1,0],[0]],[[1,1,0],[0,1]],[[1,0],[0,1]]]")), "ragged");
        assert_reason(from_json(&text(means, "[[[1,0],[0,1]],[[1,0]],[[0,1],[1,0],[0,1]]]")), "ragged");
        for (means, covariances) in [(means, "[]"), (means, "[[]]"), ("[]", "[]"), (means, "[[[]]]")] {
            assert!(matches!(from_json(&text(means, covariances)), Err(Error::Shape { .. })));
        }
    }

    #[test]
    fn figures_that_are_no_numbers_are_refused() {
        let mut model = model(CovarianceType::Full, 2, 2, 5);
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            model.training = Training { total_weight: Some(wrong), ..Training::default() };
            assert_reason(unpack(&pack(&model)), "not finite");
        }
    }
}
