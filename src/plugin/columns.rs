//! Input Series -> rows. The only code that sees what comes in: its names, dtypes and roles.

use std::ops::Range;

use polars::prelude::{DataType, Field, IdxSize, IntoSeries, Series, StructChunked};

use super::arrow::{is_number, Lane, Source};
use super::error::{Error, Place, Result, Role};
use super::options::{FitOptions, Init};
use crate::mixture::{Block, Responsibilities, Rows};

/// Names of the features a column of this name and dtype has; none for a List, whose width the data tell.
///
/// # Errors
/// If the dtype cannot hold features.
pub fn feature_names(name: &str, dtype: &DataType) -> Result<Option<Vec<String>>> {
    match dtype {
        DataType::Struct(fields) => {
            if fields.is_empty() {
                return Err(Error::NoFeatures { name: name.into() });
            }
            if let Some(f) = fields.iter().find(|f| !is_number(f.dtype())) {
                return Err(Error::FieldDtype { name: f.name().to_string(), dtype: f.dtype().clone() });
            }
            Ok(Some(fields.iter().map(|f| f.name().to_string()).collect()))
        }
        DataType::Array(inner, 0) if is_number(inner) => Err(Error::NoFeatures { name: name.into() }),
        DataType::Array(inner, width) if is_number(inner) => Ok(Some(positional(name, *width))),
        DataType::List(inner) if is_number(inner) => Ok(None),
        dtype if is_number(dtype) => Ok(Some(vec![name.into()])),
        dtype => Err(Error::FeatureDtype { name: name.into(), dtype: dtype.clone() }),
    }
}

/// Checks, from the schema alone, that a column can be scored by a model of these features.
///
/// # Errors
/// Wrong dtype, a missing or superfluous feature, a wrong width.
pub fn check_features(name: &str, dtype: &DataType, features: &[String]) -> Result<()> {
    let Some(given) = feature_names(name, dtype)? else {
        return Ok(());
    };
    if matches!(dtype, DataType::Struct(_)) {
        return field_order(&given, features).map(|_| ());
    }
    check_width("features", name, features.len(), given.len(), Place::Schema)
}

/// Names of features known by their position only.
fn positional(name: &str, width: usize) -> Vec<String> {
    (0..width).map(|j| format!("{name}[{j}]")).collect()
}

/// Where each of the model's features stands among the given fields.
///
/// # Errors
/// A feature that is missing, or fields the model does not have.
pub fn field_order(given: &[String], features: &[String]) -> Result<Vec<usize>> {
    let find = |name: &String| {
        given
            .iter()
            .position(|g| g == name)
            .ok_or_else(|| Error::MissingFeature { name: name.clone(), given: given.to_vec() })
    };
    let order = features.iter().map(find).collect::<Result<_>>()?;
    if given.len() > features.len() {
        return Err(Error::ExtraFeatures {
            d: features.len(),
            features: features.to_vec(),
            given: given.to_vec(),
            extra: given.iter().filter(|g| !features.contains(g)).cloned().collect(),
        });
    }
    Ok(order)
}

/// # Errors
/// If the widths differ.
pub fn check_width(what: &'static str, name: &str, expected: usize, got: usize, place: Place) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Width { what, name: column_name(name).into(), expected, got, place })
}

/// What a plugin call gets as its first input: features, and what is said about each row.
pub struct Table {
    /// Names of the features.
    pub features: Vec<String>,
    pub(super) n_rows: usize,
    pub(super) source: Source,
    pub(super) weight: Option<Column>,
    /// The component of each row, where it is known; empty where none is.
    pub label: Vec<Option<u32>>,
}

/// A number of each row.
pub struct Column {
    pub(super) role: Role,
    pub(super) lane: Lane,
}

/// Responsibilities given as a column.
pub struct Given {
    pub(super) role: Role,
    pub(super) source: Source,
}

/// A column that says where to start.
pub enum StartColumn {
    /// The component of each row.
    Labels(Column),
    /// Responsibilities of each row.
    Responsibilities(Given),
}

/// The first input taken apart: the feature column and the columns packed beside it.
pub struct Input {
    rows: Series,
    extras: Vec<(String, Series)>,
}

impl Input {
    /// `roles` names the fields 1.. of the packed struct; without any, the input is the feature column itself.
    ///
    /// # Errors
    /// If the struct does not have one field for the rows and then one for each role.
    pub fn new(series: &Series, roles: &[String]) -> Result<Self> {
        if roles.is_empty() {
            return Ok(Self { rows: series.clone(), extras: Vec::new() });
        }
        check_packed(&series.field(), roles)?;
        let mut fields = series.struct_()?.fields_as_series().into_iter();
        let rows = fields.next().unwrap_or_default();
        Ok(Self { rows, extras: roles.iter().cloned().zip(fields).collect() })
    }

    /// The columns of a frame: one that holds the features or one for each, and those beside them by their roles.
    ///
    /// # Errors
    /// Two features of the same name, or a column of a dtype that cannot play its role.
    pub fn of(features: Vec<Series>, extras: Vec<(String, Series)>) -> Result<Self> {
        for (role, series) in &extras {
            check_role(role, &series.field())?;
        }
        let rows = match features.as_slice() {
            [] => Series::default(),
            [only] => only.clone(),
            [first, ..] => {
                let fields = features.iter();
                StructChunked::from_series(first.name().clone(), first.len(), fields)?.into_series()
            }
        };
        Ok(Self { rows, extras })
    }

    /// With this name, if it has none: Polars takes it from the column of a group.
    pub fn named(mut self, name: Option<&str>) -> Self {
        if let Some(name) = name.filter(|_| self.rows.name().is_empty()) {
            self.rows.rename(name.into());
        }
        self
    }

    fn extra(&self, role: &str) -> Option<&Series> {
        self.extras.iter().find(|(r, _)| r == role).map(|(_, series)| series)
    }

    /// Whether features are known by their names, not by their position.
    pub fn has_names(&self) -> bool {
        matches!(self.rows.dtype(), DataType::Struct(_))
    }

    /// Name of the feature column.
    pub fn name(&self) -> &str {
        self.rows.name()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The same input with its single row repeated.
    pub fn broadcast(self, len: usize) -> Self {
        let repeat = |s: Series| s.new_from_index(0, len);
        Self {
            rows: repeat(self.rows),
            extras: self.extras.into_iter().map(|(role, s)| (role, repeat(s))).collect(),
        }
    }

    /// The rows from `start` on, `len` of them.
    pub fn slice(&self, start: usize, len: usize) -> Self {
        let cut = |s: &Series| s.slice(i64::try_from(start).unwrap_or(i64::MAX), len);
        Self {
            rows: cut(&self.rows),
            extras: self.extras.iter().map(|(role, s)| (role.clone(), cut(s))).collect(),
        }
    }

    /// These rows in this order.
    ///
    /// # Errors
    /// If a row is not there.
    pub fn gather(&self, order: &[IdxSize]) -> Result<Self> {
        let extra = |(role, s): &(String, Series)| Ok((role.clone(), s.take_slice(order)?));
        Ok(Self {
            rows: self.rows.take_slice(order)?,
            extras: self.extras.iter().map(extra).collect::<Result<_>>()?,
        })
    }

    /// The feature column as rows, in the model's order of features if there is one.
    ///
    /// # Errors
    /// Wrong dtype, width or names.
    pub fn table(&self, model: Option<&[String]>) -> Result<Table> {
        let (name, dtype) = (self.rows.name().as_str(), self.rows.dtype());
        if let Some(features) = model {
            check_features(name, dtype, features)?;
        }
        let given = feature_names(name, dtype)?;
        let wrong = || Error::FeatureDtype { name: name.into(), dtype: dtype.clone() };
        let source = match dtype {
            DataType::Struct(_) => {
                let fields = self.rows.struct_()?.fields_as_series();
                let given = given.unwrap_or_default();
                let order = field_order(&given, model.unwrap_or(&given))?;
                let lanes =
                    order.iter().map(|i| fields.get(*i).and_then(|f| Lane::new(f.chunks(), f.dtype())));
                Source::Lanes(lanes.collect::<Option<_>>().ok_or_else(wrong)?)
            }
            DataType::Array(inner, _) | DataType::List(inner) => {
                nested(&self.rows, inner, "features", model.map(<[String]>::len))?
            }
            _ => Source::Lanes(vec![Lane::new(self.rows.chunks(), dtype).ok_or_else(wrong)?]),
        };
        let features = match (dtype, model) {
            (_, Some(features)) => features.to_vec(),
            (DataType::Struct(fields), None) => fields.iter().map(|f| f.name().to_string()).collect(),
            (DataType::Array(..) | DataType::List(_), None) => positional(name, source.width()),
            _ => vec![name.to_string()],
        };
        let weight = self.extra("weight").map(|s| column("weights", s)).transpose()?;
        Ok(Table { features, n_rows: self.rows.len(), source, weight, label: Vec::new() })
    }

    /// The responsibilities packed beside the features.
    ///
    /// # Errors
    /// Wrong dtype or width.
    pub fn responsibilities(&self) -> Result<Given> {
        let series = self.extra("responsibility").ok_or_else(|| {
            Error::Option(
                "m_step needs responsibilities: a List or Array column, as responsibilities(model) makes"
                    .into(),
            )
        })?;
        given(series, None)
    }

    /// The column of known components packed beside the features, if there is one.
    ///
    /// # Errors
    /// Wrong dtype.
    pub fn label(&self) -> Result<Option<Column>> {
        self.extra("label").map(|series| column("labels", series)).transpose()
    }

    /// The column of labels or responsibilities to start from, if there is one.
    ///
    /// # Errors
    /// Wrong dtype or width.
    pub fn start(&self, k: usize) -> Result<Option<StartColumn>> {
        let Some(series) = self.extra("start") else {
            return Ok(None);
        };
        check_role("start", &series.field())?;
        if series.dtype().is_nested() {
            return given(series, Some(k)).map(StartColumn::Responsibilities).map(Some);
        }
        column("labels", series).map(StartColumn::Labels).map(Some)
    }
}

/// Name and dtype of the feature column of a packed input, whose other fields are checked for their roles.
///
/// # Errors
/// Another number of fields, or a field of a dtype that cannot play its role.
pub fn check_packed(field: &Field, roles: &[String]) -> Result<Field> {
    if roles.is_empty() {
        return Ok(field.clone());
    }
    let fields: &[Field] = if let DataType::Struct(fields) = field.dtype() { fields } else { &[] };
    if let Some(role) = roles.iter().find(|role| !fields.iter().any(|f| packed_role(f) == Some(role))) {
        let what = match role.as_str() {
            "weight" => "weights",
            "start" => "init",
            _ => "responsibilities",
        };
        return Err(Error::NoColumn { role: Role { what, column: None } });
    }
    match fields {
        [rows, extras @ ..] if extras.iter().map(packed_role).eq(roles.iter().map(|r| Some(r.as_str()))) => {
            for (role, extra) in roles.iter().zip(extras) {
                check_role(role, extra)?;
            }
            Ok(rows.clone())
        }
        _ => Err(Error::Packed { roles: roles.to_vec(), got: fields.len().saturating_sub(roles.len()) }),
    }
}

/// The role that the name of a column packed beside the features tells, and its own name if that is known.
fn packed_name(name: &str) -> Option<(&str, Option<&str>)> {
    let packed = name.strip_prefix("polars_gmm:")?;
    Some(packed.split_once(':').map_or((packed, None), |(role, column)| (role, Some(column))))
}

fn packed_role(field: &Field) -> Option<&str> {
    packed_name(field.name()).map(|(role, _)| role)
}

/// What the user calls a column.
pub fn column_name(name: &str) -> &str {
    packed_name(name).map_or(name, |(role, column)| column.unwrap_or(role))
}

fn role(what: &'static str, name: &str) -> Role {
    Role { what, column: packed_name(name).and_then(|(_, column)| column).map(String::from) }
}

fn check_role(as_role: &str, field: &Field) -> Result<()> {
    let named = |what| role(what, field.name());
    let dtype = field.dtype().clone();
    let numbers = match &dtype {
        DataType::Array(inner, width) => is_number(inner) && *width > 0,
        DataType::List(inner) => is_number(inner),
        _ => false,
    };
    match as_role {
        "label" if !is_number(&dtype) => Err(Error::RoleDtype { role: named("labels"), dtype }),
        "weight" if !is_number(&dtype) => Err(Error::RoleDtype { role: named("weights"), dtype }),
        "responsibility" if !numbers => {
            Err(Error::ResponsibilityDtype { role: named("responsibilities"), dtype })
        }
        "start" if !numbers && !is_number(&dtype) => Err(Error::StartDtype { role: named("init"), dtype }),
        _ => Ok(()),
    }
}

/// Checks, from the schema alone, what is given of a fit: the width of its responsibilities, the features of its
/// model, the shapes of its prior.
///
/// # Errors
/// Another width than k, or other features than those of the rows.
pub fn check_start(input: &Field, rows: &Field, options: &FitOptions) -> Result<()> {
    if let (Some(prior), Some(features)) = (&options.em.prior, feature_names(rows.name(), rows.dtype())?) {
        prior.check(features.len())?;
    }
    match &options.init {
        Init::Model(model) => check_features(rows.name(), rows.dtype(), model.features()),
        Init::Column => {
            let fields: &[Field] = if let DataType::Struct(fields) = input.dtype() { fields } else { &[] };
            match fields.iter().find(|f| packed_role(f) == Some("start")).map(|f| (f.name(), f.dtype())) {
                Some((name, DataType::Array(_, width))) => {
                    check_width("responsibilities", name, options.k, *width, Place::Schema)
                }
                _ => Ok(()),
            }
        }
        Init::Draw(_) => Ok(()),
    }
}

/// An Array or List column whose rows all have `width` numbers, or as many as the first.
fn nested(series: &Series, inner: &DataType, what: &'static str, width: Option<usize>) -> Result<Source> {
    let (name, dtype) = (series.name().as_str(), series.dtype());
    let width = match dtype {
        DataType::Array(_, got) => {
            check_width(what, name, width.unwrap_or(*got), *got, Place::Schema)?;
            Some(*got)
        }
        _ => width,
    };
    let nesting = Source::nested(series.chunks(), inner, width)
        .ok_or_else(|| Error::FeatureDtype { name: name.into(), dtype: dtype.clone() })?;
    if let (Some(width), Some((got, row))) = (nesting.width, nesting.other) {
        check_width(what, name, width, got, Place::Row(row))?;
    }
    if nesting.width == Some(0) {
        return Err(Error::NoFeatures { name: column_name(name).into() });
    }
    Ok(nesting.source)
}

fn column(what: &'static str, series: &Series) -> Result<Column> {
    let role = role(what, series.name());
    match Lane::new(series.chunks(), series.dtype()) {
        Some(lane) => Ok(Column { role, lane }),
        None => Err(Error::RoleDtype { role, dtype: series.dtype().clone() }),
    }
}

fn given(series: &Series, k: Option<usize>) -> Result<Given> {
    check_role("responsibility", &series.field())?;
    let inner = series.dtype().inner_dtype().cloned().unwrap_or(DataType::Null);
    let source = nested(series, &inner, "responsibilities", k)?;
    Ok(Given { role: role("responsibilities", series.name()), source })
}

impl Rows for Table {
    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn d(&self) -> usize {
        self.source.width()
    }

    fn read(&self, start: usize, block: &mut Block) {
        let rows = start..start + block.len();
        let stride = block.stride();
        let mut nulls = Vec::new();
        self.source.read(rows.clone(), block.features_mut(), stride, |row, _| nulls.push(row));
        for row in nulls {
            block.mark_null(row);
        }
        if let Some(weight) = &self.weight {
            weight.lane.read(rows.clone(), block.weight_mut(), |_| {});
        }
        if let Some(labels) = self.label.get(rows) {
            block.set_labels(labels);
        }
    }

    fn prefetch(&self, rows: Range<usize>) {
        self.source.prefetch(rows);
    }
}

impl Given {
    /// Number of components.
    pub fn width(&self) -> usize {
        self.source.width()
    }
}

impl Responsibilities for Given {
    fn k(&self) -> usize {
        self.source.width()
    }

    fn assign(&self, start: usize, block: &mut Block) {
        let (rows, stride) = (start..start + block.len(), block.stride());
        // Null responsibilities, which only rows that do not count may have, leave the zeros of the block.
        self.source.read(rows, block.components_mut(), stride, |_, _| {});
    }

    fn by_row(&self) -> bool {
        true
    }

    fn lying(&self, rows: Range<usize>) -> Option<&[f64]> {
        self.source.lying(rows)
    }
}
