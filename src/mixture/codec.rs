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
    let (wire, rest): (Wire<Vec<f64>, Vec<f64>>, _) = postcard::take_from_bytes(body).map_err(decode)?;
    if !rest.is_empty() {
        return Err(decode(format!("{} bytes are left over at its end", rest.len())));
    }
    let (k, d) = (wire.weights.len(), wire.features.len());
    let shape = wire.covariance_type.structure().shape(k, d);
    let means = Array2::from_shape_vec((k, d), wire.means).map_err(decode)?;
    let covariances = Array3::from_shape_vec(shape, wire.covariances).map_err(decode)?;
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

/// Refuses formats of the future.
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
    let mut model = Model::new(features, covariance_type, Array1::from_vec(weights), means, covariances)?;
    let finite = [training.log_likelihood, training.entropy, training.total_weight];
    if finite.iter().flatten().any(|v| !v.is_finite()) {
        return Err(decode("its figures of the fit are not finite"));
    }
    model.training = training;
    Ok(model)
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
